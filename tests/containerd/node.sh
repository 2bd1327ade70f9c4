#!/usr/bin/env bash
# A node from nothing: a Debian with systemd and containerd, booted by systemd-nspawn, on which the commands of docs/KUBERNETES.md are
# run as they stand there. Then pods as kubelet asks for them, services that are started anew, a loss of power, an upgrade, and the way
# back. One node for each of containerd 1.6, 1.7 and 2.x. Says why it does nothing where the parts cannot be had.
set -euo pipefail
cd "$(dirname "$0")/../.."
for version in "$@"; do
    case $version in
        1.6 | 1.7 | 2.1) ;;
        *) echo "tests/containerd/node.sh: unknown version '$version': expected 1.6, 1.7 or 2.1" >&2; exit 2 ;;
    esac
done
. tests/containerd/debian.sh
. tests/containerd/machine.sh

. "$here/guests.sh"
(cd "$work" && mkdir src && guests)
export STRATAFS_STORE=$work/store
"$binary" image import "$work/src" --tag app:1 >/dev/null
"$binary" image mutate app:1 --tag service:1 --entrypoint /hello.wasm >/dev/null
remote=$registry/tests/app:1

# node VERSION [BIN]: one node, whose containerd is the one of Debian 12 or that of a directory.
node() {
    local version=$1 handler=--handler=stratafs for=runtime
    # The page: `--snapshotter node` is for containerd 1.6.
    [ "$version" != 1.6 ] || handler='' for=node
    fresh "${2:-}"
    start_registry
    push app:1 tests/app:1
    push service:1 tests/service:1
    pause_image service:1

    say "the commands of the page"
    local commands
    commands=$(block docs/KUBERNETES.md '## A node' sh 2 | grep -v '^cargo build ' | sed "s/--snapshotter runtime/--snapshotter $for/")
    on_node sh -ec "cd /srv/stratafs; $commands" || die "the commands of the page fail"
    services
    as_kubelet begin first

    say "services that are started anew"
    on_node systemctl restart containerd
    as_kubelet beside second
    on_node systemctl restart stratafs-snapshotter
    as_kubelet beside third
    on_node systemctl kill -s KILL stratafs-snapshotter
    sleep 1
    services
    as_kubelet beside fourth

    say "a loss of power"
    lose_power
    boot
    start_registry
    services
    as_kubelet lost fifth

    say "an upgrade beside a pod that runs"
    cp "$built/containerd-shim-stratafs-v1" "$work/new" && printf x >>"$work/new" && mv "$work/new" "$work/clone/target/release/containerd-shim-stratafs-v1"
    on_node sh -ec "cd /srv/stratafs; $commands" || die "the commands of the page fail the second time"
    as_kubelet end sixth

    say "the way back"
    on_node sh -ec 'cd /srv/stratafs; shim/install.sh --uninstall; systemctl restart containerd; systemctl stop stratafs-snapshotter; systemctl daemon-reload'
    on_node ctr version >/dev/null || die "containerd does not run without the runtime"
    [ -z "$(on_node ctr plugins ls | grep stratafs || true)" ] || die "a plugin is left"
    [ -z "$(on_node pgrep -f stratafs || true)" ] || die "a process is left: $(on_node pgrep -af stratafs)"
    cmp "$work/node/etc/containerd/config.toml" "${2:-$machine}/etc/containerd/config.toml" || die "the configuration is not as before"
    as_service
    kill "$registry_pid" && wait "$registry_pid" 2>/dev/null || true
    lose_power
}

services() {
    for _ in $(seq 100); do
        on_node systemctl -q is-active containerd stratafs-snapshotter && on_node ctr version >/dev/null 2>&1 && return || sleep 0.1
    done
    die "a service does not run: $(on_node systemctl status --no-pager containerd stratafs-snapshotter | head -n 40)"
}
as_kubelet() {
    PYTHONPATH=$here "$python" "$here/node.py" "/proc/$init/root/run/containerd/containerd.sock" "$work/node" "$remote" "$@" ${handler:+"$handler"} ||
        die "as kubelet asks: $* fails"
}
# as_service: a guest as a service, by the unit and the commands of the page.
as_service() {
    say "a guest as a service"
    local commands
    block docs/KUBERNETES.md '## systemd' ini 1 >"$work/node/etc/systemd/system/app.service"
    commands=$(block docs/KUBERNETES.md '## systemd' sh 1 | sed "s,registry.example/app:1,$registry/tests/service:1,")
    on_node sh -ec "cd /srv/stratafs; $commands" || die "the commands of the page fail for a service"
    for _ in $(seq 100); do
        grep -q 'hello$' <<<"$(on_node journalctl --no-pager -u app)" && return || sleep 0.1
    done
    die "the service does not say hello: $(on_node systemctl status --no-pager app; on_node journalctl --no-pager -u app)"
}

for version in ${*:-1.6 1.7 2.1}; do
    case $version in
        1.6) node 1.6 ;;
        1.7) release=trixie ;;
        2.1) release=sid ;;
    esac
    [ "$version" != 1.6 ] || continue
    unpacked "containerd-$release" "containerd/$release" || skip "containerd of Debian's $release cannot be had: $(tail -n 1 "$packages/said")"
    node "$version" "$packages/containerd-$release"
done
say "passed"
