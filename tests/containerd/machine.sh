# For node.sh and kubernetes.sh: a Debian with systemd and containerd, booted by systemd-nspawn, and a registry that it reaches. Sourced in
# the project's directory, after debian.sh.
here=$PWD/tests/containerd

[ "$(id -u)" = 0 ] || skip "a node needs root"
command -v apt-get >/dev/null || skip "a node is made of Debian's packages"
debian_lists || skip "the packages of Debian's later releases cannot be had, for containerd 1.7 and 2.x"
for program in systemd-nspawn:systemd-container debootstrap:debootstrap docker-registry:docker-registry; do
    command -v "${program%%:*}" >/dev/null || { apt-get update && apt-get install -y --no-install-recommends "${program##*:}"; } >/dev/null 2>&1 || true
    command -v "${program%%:*}" >/dev/null || skip "${program##*:} is missing, and cannot be installed"
done
python=python3
if ! python3 -c 'import grpc' 2>/dev/null; then
    [ -x "$packages/py/bin/python" ] || { python3 -m venv "$packages/py" && "$packages/py/bin/pip" install --quiet 'grpcio>=1.60,<2'; } >/dev/null 2>&1 || true
    python=$packages/py/bin/python
    "$python" -c 'import grpc' 2>/dev/null || skip "grpcio cannot be had from PyPI"
fi

# The programs that the page builds: named, or those of the profile of the tests.
built=$PWD/target/tests
if [ -n "${STRATAFS:-}" ] && [ -n "${STRATAFS_SHIM:-}" ]; then
    built=$packages/built
    mkdir -p "$built"
    cp "$STRATAFS" "$built/stratafs"
    cp "$STRATAFS_SHIM" "$built/containerd-shim-stratafs-v1"
else
    cargo build --profile tests --locked --quiet --workspace --bin stratafs --bin containerd-shim-stratafs-v1
fi
binary=$built/stratafs

# A machine as it comes: what debootstrap makes, once.
machine=$packages/machine
if [ ! -e "$machine.whole" ]; then
    rm -rf "$machine"
    site=$(apt-get indextargets --format '$(SITE) $(ORIGIN)' | awk '$2 == "Debian" { print $1; exit }')
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,ca-certificates,containerd,containernetworking-plugins,iproute2,procps \
        bookworm "$machine" "${site:-http://deb.debian.org/debian}" >"$packages/said" 2>&1 || skip "a Debian cannot be made: $(tail -n 1 "$packages/said")"
    : >"$machine.whole"
fi

work=$(mktemp -d) nspawn= init= registry_pid=
stop() {
    [ -z "$registry_pid" ] || kill "$registry_pid" 2>/dev/null || true
    lose_power
    rm -rf "$work"
}
trap stop EXIT
say() { printf '== %s (%d s)\n' "$*" "$SECONDS"; }
die() {
    printf 'error: %s\n' "$*" >&2
    [ -z "$init" ] || on_node journalctl --no-pager -n 30 >&2 || true
    exit 1
}

# fresh [DIR]: begins a node anew, with the machine's containerd or with the one that is unpacked in a directory, and boots it.
fresh() {
    boot_options=()
    rm -rf "$work/node"
    cp -a "$machine" "$work/node"
    if [ -n "${1:-}" ]; then
        boot_options=(--bind-ro="$1/usr/bin/containerd:/usr/bin/containerd" --bind-ro="$1/usr/bin/ctr:/usr/bin/ctr")
        cp "$1/etc/containerd/config.toml" "$work/node/etc/containerd/config.toml"
    fi
    boot "${@:2}"
    say "$(on_node containerd --version | cut -d' ' -f3), $(on_node systemctl --version | head -n 1)"
}
# boot [OPTIONS...]: starts the node, and waits until its services run.
boot() {
    systemd-nspawn -q -D "$work/node" --boot --machine="stratafs-$$" --register=no --keep-unit --private-network --kill-signal=SIGRTMIN+3 --system-call-filter=@keyring \
        --bind-ro="$work/clone:/srv/stratafs" "${boot_options[@]}" "$@" </dev/null >"$work/console" 2>&1 &
    nspawn=$!
    for _ in $(seq 300); do
        init=$(pgrep -P "$nspawn" | head -n 1) || true
        case $([ -z "$init" ] || on_node systemctl is-system-running 2>/dev/null || true) in
            running) return ;;
            degraded) die "services of the node fail: $(on_node systemctl --failed --no-legend)" ;;
        esac
        sleep 0.1
    done
    die "the node does not boot: $(tail -n 5 "$work/console")"
}
on_node() { nsenter -t "$init" -m -u -i -n -p -r -w "$@"; }
lose_power() {
    [ -z "$nspawn" ] || kill -9 "$init" "$nspawn" 2>/dev/null || true
    wait "$nspawn" 2>/dev/null || true
    nspawn= init=
}

# block FILE HEADING LANGUAGE NUMBER: a block of a page below a heading, which has to be there.
block() {
    awk -v head="$2" -v open="\`\`\`$3" -v number="$4" '
        /^```/ { fenced = !fenced; shown = fenced && inside && $0 == open && ++seen == number; next }
        !fenced && /^#+ / { inside = ($0 == head) }
        shown { print; found = 1 }
        END { exit !found }' "$1"
}

# What the node has of the project: a clone, and in it what the first command of the page builds.
mkdir -p "$work/clone/target/release" "$work/clone/shim"
cp shim/install.sh "$work/clone/shim/"
ln "$built/stratafs" "$built/containerd-shim-stratafs-v1" "$work/clone/target/release/" 2>/dev/null ||
    cp "$built/stratafs" "$built/containerd-shim-stratafs-v1" "$work/clone/target/release/"

# Outside of the tests it is a registry of the network.
registry=127.0.0.1:5000
printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "%s"}\n' "$work/registry" "$registry" >"$work/registry.yml"
start_registry() {
    [ -z "$registry_pid" ] || kill "$registry_pid" 2>/dev/null || true
    nsenter -t "$init" -n docker-registry serve "$work/registry.yml" >>"$work/registry.log" 2>&1 &
    registry_pid=$!
}
# push IMAGE NAME: brings an image to the registry, which may be about to start.
push() {
    local said
    for _ in $(seq 100); do
        said=$(nsenter -t "$init" -n "$binary" image push "$1" "$registry/$2" 2>&1 >/dev/null) && return || sleep 0.1
    done
    die "the image $1 is not pushed: $said"
}
# pause_image IMAGE: gives the node an image that containerd makes pods of, in the place of one of a registry that is not reached here. Its
# name is in `pause`.
pause_image() {
    pause=$(on_node containerd config dump | sed -n "s/^ *sandbox\(_image\)\{0,1\} = ['\"]\(.*\)['\"]$/\2/p" | head -n 1)
    [ -n "$pause" ] || die "containerd names no pause image"
    "$binary" image tag "$1" "pause:${pause##*:}" >/dev/null
    "$binary" image export "pause:${pause##*:}" "$work/node/root/pause.tar" --format oci-archive >/dev/null
    on_node ctr -n k8s.io images import --base-name "${pause%:*}" /root/pause.tar >/dev/null || die "the pause image $pause is not imported"
}
