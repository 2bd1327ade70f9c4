#!/usr/bin/env bash
# Containers under a real containerd, Debian's, with a root, a state and a socket of its own: made, run, killed, a hundred at once, with
# shims and containerd killed at any moment, hostile specs refused, images pulled through the snapshotter, and nothing left behind. Where containerd is missing it installs it
# from Debian's packages if it may, and says why it does nothing otherwise.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD/tests/containerd

skip() {
    printf 'skipped: %s\n' "$*"
    exit 0
}

have() { command -v "$1" >/dev/null; }
if ! { have containerd && have ctr; }; then
    [ "$(id -u)" = 0 ] && have apt-get || skip "containerd is not installed, and cannot be installed here"
    { apt-get update && apt-get install -y --no-install-recommends containerd; } >/dev/null 2>&1 || skip "Debian's package of containerd cannot be had"
fi
[ "$(id -u)" = 0 ] || skip "containerd needs root"

# The version, without the `v` of upstream's builds.
version_of_containerd=$(containerd --version | cut -d' ' -f3 | tr -d v)
major=${version_of_containerd%%.*}
# Only 1.6 has one snapshotter for all runtimes.
snapshotter_for=runtime
case $version_of_containerd in 1.6.*) snapshotter_for=node ;; esac
# STRATAFS_MEASURE prints figures instead (measure.sh). STRATAFS and STRATAFS_SHIM name programs that are built already.
binary=${STRATAFS:-target/tests/stratafs} shim=${STRATAFS_SHIM:-target/tests/containerd-shim-stratafs-v1}
[ -n "${STRATAFS:-}" ] && [ -n "${STRATAFS_SHIM:-}" ] ||
    cargo build --profile tests --locked --quiet --workspace --bin stratafs --bin containerd-shim-stratafs-v1
binary=$(realpath "$binary") shim=$(realpath "$shim")
work=$(mktemp -d)
mkdir -p "$work/bin" "$work/src"
ln -s "$shim" "$work/bin/containerd-shim-stratafs-v1"

containerd_pid= snapshotter_pid= registry_pid=
# The processes of the shim are those whose arguments name this directory.
shims() {
    local dir
    for dir in /proc/[0-9]*; do
        tr '\0' ' ' 2>/dev/null <"$dir/cmdline" | grep -q -- "-address $work/sock .*serve" && basename "$dir"
    done || true
}
stop() {
    local pid
    for pid in $(shims) $containerd_pid $snapshotter_pid $registry_pid; do kill -9 "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    umount "$work/small" 2>/dev/null || true
    rm -rf "$work"
}
trap stop EXIT
cd "$work"
export STRATAFS_STORE=$work/store
# What is looked for in the output of a command is looked for in all of it: `grep -q` behind a pipe ends early, and the command with it.
say() { printf '== %s (%d s)\n' "$*" "$SECONDS"; }
die() {
    printf 'error: %s\n' "$*" >&2
    tail -5 containerd.log >&2
    exit 1
}

config() {
    printf 'isolation = "%s"\nsocket-dir = "%s"\ncache-dir = "%s"\nmax-file-bytes = 8388608\n' "$1" "$work/sockets" "$2" >shim.toml
}
config node "$work/cache"
printf 'version = 2\nroot = "%s"\nstate = "%s"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "%s"\n' \
    "$work/root" "$work/state" "$work/sock" >containerd.toml
mkdir -m 700 cache
ctr() { command ctr -a "$work/sock" "$@"; }
start_containerd() {
    PATH=$work/bin:$PATH STRATAFS_SHIM_CONFIG=$work/shim.toml containerd -c containerd.toml >>containerd.log 2>&1 &
    containerd_pid=$!
    for _ in $(seq 100); do ctr version >/dev/null 2>&1 && return || sleep 0.1; done
    die "containerd does not start"
}
# stop_containerd SIGNAL
stop_containerd() {
    kill "$1" "$containerd_pid"
    wait "$containerd_pid" 2>/dev/null || true
    containerd_pid=
}
run() { ctr run --runtime io.containerd.stratafs.v1 --fifo-dir "$work/fifo" "$@"; }
# gone WHAT COMMAND...: waits until a command prints nothing.
gone() {
    for _ in $(seq 300); do [ -z "$("${@:2}")" ] && return || sleep 0.05; done
    die "$1: $("${@:2}")"
}
containers() { ctr task ls -q && ctr container ls -q && ctr snapshot ls | tail -n +2 | grep -v Committed || true; }
# clean [KILLED]: nothing is left. Of a task whose shim was killed the FIFOs are: ctr, which made them, forgets them.
clean() {
    [ -z "${1:-}" ] || rm -rf fifo && mkdir -p fifo
    gone "containers or snapshots are left" containers
    gone "a process stays" shims
    gone "a socket or a lock stays" find sockets -mindepth 1
    gone "a bundle stays" find state/io.containerd.runtime.v2.task -name config.json
    gone "a FIFO stays" find fifo -type p
}
running() { ctr task ls | grep -c RUNNING || true; }
# until_running COUNT
until_running() {
    for _ in $(seq 600); do [ "$(running)" = "$1" ] && return || sleep 0.1; done
    die "running: $(running), not $1: $(ctr task ls)"
}
# until_stopped NAME
until_stopped() {
    for _ in $(seq 200); do grep -q "^$1 .*STOPPED" <<<"$(ctr task ls)" && return || sleep 0.05; done
    die "$1 goes on: $(ctr task ls)"
}
remove() {
    local name
    for name in "$@"; do
        ctr task delete -f "$name" >/dev/null 2>&1 || true
        ctr container delete "$name" >/dev/null 2>&1 || true
    done
}

. "$here/guests.sh"
guests
# Guests with sockets are components: those of guest-examples, where they can be built.
sockets= examples=$here/../../guest-examples
if (cd "$examples" && cargo build --release --locked --quiet --target wasm32-wasip2 --bin connect --bin listen) 2>/dev/null; then
    cp "$examples"/target/wasm32-wasip2/release/{connect,listen}.wasm src/
    sockets=--sockets
else
    printf 'skipped: guests with sockets, since guest-examples cannot be built for wasm32-wasip2\n'
fi
# code WANTED ARGS...: runs a container and holds its code against one.
code() {
    local got=0
    run "${@:2}" >out 2>err </dev/null || got=$?
    [ "$got" = "$1" ] || die "code $got, not $1: ${*:2}: $(cat err)"
}
# refused WORDS ARGS...: runs a container that is refused, with these words in what is said.
refused() {
    local said
    if said=$(run --rm "${@:2}" 2>&1 </dev/null); then die "not refused: ${*:2}"; fi
    grep -q -- "$1" <<<"$said" || die "${*:2} is refused without '$1': $said"
}
# events NAME: those of a container, in order.
events() { grep -o "/tasks/[a-z]* {\"container_id\":\"$1\"" events.log | cut -d' ' -f1 | tr '\n' ' '; }

say "an image of stratafs in containerd"
start_containerd
"$binary" image import src --tag files:1 >/dev/null
"$binary" image mutate files:1 --tag app:1 --entrypoint /hello.wasm --set-platform linux/amd64 >/dev/null
"$binary" image export app:1 app.tar --format oci-archive
ctr images import --base-name tests/app app.tar >/dev/null || die "containerd does not import the image"
image=tests/app:1
ctr events >events.log 2>/dev/null &
events_pid=$!
# Until it listens: what comes before that it does not hear.
for number in $(seq 100); do
    ctr images label "$image" "tests=$number" >/dev/null
    [ ! -s events.log ] || break
    sleep 0.05
done

if [ -n "${STRATAFS_MEASURE:-}" ]; then
    say "figures, and nothing else"
    . "$here/measure.sh"
    clean
    exit 0
fi

say "output, arguments, environment, exit codes"
code 7 --rm "$image" hello /hello.wasm
[ "$(cat out)" = hello ] || die "it said: $(cat out)"
code 7 --rm --net-host "$image" net /hello.wasm
if [ -n "$sockets" ]; then
    code 0 --rm "$image" net /connect.wasm 127.0.0.1:1
    [ "$(cat out)" = PermissionDenied ] || die "a guest that has no network hears: $(cat out)"
    code 0 --rm --net-host "$image" net /connect.wasm 127.0.0.1:1
    [ "$(cat out)" = ConnectionRefused ] || die "a guest on the network of the host hears: $(cat out)"
fi
code 0 --rm "$image" args /args.wasm one 'two three' ''
[ "$(tr '\0' '|' <out)" = '/args.wasm|one|two three||' ] || die "arguments: $(tr '\0' '|' <out)"
code 0 --rm --env A=1 --env 'B=x=y z' --cwd /sub "$image" env /env.wasm
tr '\0' '\n' <out >lines
for line in A=1 'B=x=y z' PWD=/sub; do grep -qxF -- "$line" lines || die "no $line in $(cat lines)"; done
code 134 --rm "$image" trap /trap.wasm
grep -q 'the guest trapped' err || die "of a trap it says: $(cat err)"
code 0 --rm "$image" mark1 /mark.wasm
code 0 --rm "$image" mark2 /mark.wasm
code 69 --rm --read-only "$image" mark3 /mark.wasm
grep -q "$work" <<<"$(mount)" && die "something is mounted: $(mount | grep "$work")"
clean

say "components, prepared images, artifacts made images"
# imported NAME REF ENTRY: hands an image of the store to containerd as tests/NAME:1.
imported() {
    "$binary" image mutate "$2" --tag "$1:out" --set-platform linux/amd64 ${3:+--entrypoint "$3"} >/dev/null
    "$binary" image export "$1:out" "$1.tar" --format oci-archive
    ctr images import --base-name "tests/$1" "$1.tar" >/dev/null || die "containerd does not import $1"
}
mkdir components
for part in p1 p2 p3; do cp "$here/../../examples/embed_$part.wat" "components/$part.wasm"; done
"$binary" image import components --tag components:0 >/dev/null
imported components components:0 /p2.wasm
for part in p1 p2 p3; do
    code 0 --rm tests/components:out "$part" "/$part.wasm"
    # It writes a file, and fails where it may not.
    if run --rm --read-only tests/components:out "$part" "/$part.wasm" >/dev/null 2>&1 </dev/null; then die "$part wrote to what is read-only"; fi
done
"$binary" image prepare --at stdin --quiet --tag warm:0 --image app:1 --entrypoint /copy.wasm >/dev/null
imported warm warm:0
printf 'typed' | timeout 60 ctr -a "$work/sock" run --runtime io.containerd.stratafs.v1 --fifo-dir "$work/fifo" --rm tests/warm:out warm /copy.wasm >out
[ "$(cat out)" = typed ] || die "a prepared guest said: $(cat out)"
refused 'the image is prepared' tests/warm:out other /hello.wasm
# The smallest command there is, as an artifact.
mkdir lone app
printf '\0asm\1\0\0\0\1\4\1\140\0\0\3\2\1\0\7\12\1\6_start\0\0\12\4\1\2\0\13' >lone/lone.wasm
"$binary" image import lone --tag lone:0 >/dev/null
"$binary" image mutate lone:0 --tag lone:1 --entrypoint /lone.wasm >/dev/null
"$binary" image export lone:1 artifact --format artifact
"$binary" image import artifact --tag artifact:1 >/dev/null
"$binary" image export artifact:1 app/app.wasm --format wasm
"$binary" image import app --tag artifact:2 >/dev/null
imported artifact artifact:2 /app.wasm
code 0 --rm tests/artifact:out artifact /app.wasm
clean

say "input that ends, and none"
[ "$(printf 'typed\n' | timeout 60 ctr -a "$work/sock" run --runtime io.containerd.stratafs.v1 --fifo-dir "$work/fifo" --rm "$image" copy /copy.wasm)" = typed ] ||
    die "input did not come back"
head -c 3000000 /dev/urandom >much
timeout 60 ctr -a "$work/sock" run --runtime io.containerd.stratafs.v1 --fifo-dir "$work/fifo" --rm "$image" copy /copy.wasm <much >out || die "much input does not end"
cmp -s much out || die "much input came back changed"
run -d "$image" silent /copy.wasm </dev/null
ticks() { cut -d' ' -f14,15 "/proc/$(shims)/stat" | tr ' ' '+'; }
before=$(($(ticks)))
sleep 1
[ $(($(ticks) - before)) -le 20 ] || die "a guest without input takes $(($(ticks) - before)) hundredths of a second in one"
ctr task kill -s SIGKILL silent && until_stopped silent && remove silent
clean

say "guests that loop, fill their memory, fill their files"
run -d "$image" spin /spin.wasm
code 137 --rm --memory-limit 1048576 "$image" grow /grow.wasm
grep -q '1048576 bytes' err || die "of too much memory it says: $(cat err)"
code 51 --rm "$image" fill /fill.wasm
code 51 --rm --memory-limit 1048576 "$image" fill2 /fill.wasm
code 7 --rm "$image" beside /hello.wasm
ctr task kill -s SIGTERM spin
until_stopped spin
remove spin
clean

say "events in order"
sleep 0.3
kill "$events_pid" && wait "$events_pid" 2>/dev/null || true
[ "$(events hello)" = "/tasks/create /tasks/start /tasks/exit /tasks/delete " ] || die "events of a container: $(events hello)"
[ "$(events grow)" = "/tasks/create /tasks/start /tasks/oom /tasks/exit /tasks/delete " ] || die "events past a bound: $(events grow)"

say "mounts, and what is refused by name"
mkdir shown cache/below
code 63 --rm --mount "type=bind,src=$work/shown,dst=/shown,options=rbind:ro" "$image" shown1 /shown.wasm
[ ! -e shown/mark ] || die "a mount that is read-only was written to"
code 0 --rm --mount "type=bind,src=$work/shown,dst=/shown,options=rbind:rw" "$image" shown2 /shown.wasm
[ -e shown/mark ] || die "what a guest wrote to a mount is not there"
code 0 --rm --mount "type=tmpfs,src=tmpfs,dst=/shown" "$image" shown3 /shown.wasm
bind() { printf 'type=bind,src=%s,dst=%s,options=rbind:rw' "$1" "$2"; }
for own in "$work/cache" "$work/cache/below" "$work/sockets" "$work/state/io.containerd.runtime.v2.task" "$work/shown/../cache" \
    "$work/root/io.containerd.snapshotter.v1.overlayfs"; do
    refused "the runtime's own\|without .\.\." --mount "$(bind "$own" /c)" "$image" own /hello.wasm
done
refused "the runtime's own" --mount "$(bind / /c)" "$image" own /hello.wasm
refused 'without .\.\.' --mount "$(bind "$work/shown" /a/../../b)" "$image" up /hello.wasm
refused '"nfs"' --mount "type=nfs,src=x,dst=/c" "$image" nfs /hello.wasm
refused 'neither a directory nor a file' --mount "$(bind /dev/null /c)" "$image" dev /hello.wasm
refused 'process.cwd' --cwd /a/../b "$image" cwd /hello.wasm
refused 'network: /run/netns/none' --with-ns network:/run/netns/none "$image" netns /hello.wasm
refused 'not a network namespace' --with-ns network:/proc/self/ns/mnt "$image" netns /hello.wasm
refused 'the network of the host' --with-ns network:/proc/self/ns/net "$image" netns /hello.wasm
refused 'memory.limit' --memory-limit 4096 "$image" small /hello.wasm
refused '/none.wasm' "$image" none /none.wasm
refused '/etc/passwd' "$image" climb /../../../../../etc/passwd
refused 'no other kind of log' --log-uri "file://$work/log" "$image" log /hello.wasm
clean

say "exec is refused, signals end, pausing stops"
run -d "$image" one /wait.wasm
run -d "$image" two /spin.wasm
[ "$(shims | wc -l)" = 1 ] || die "processes: $(shims)"
said=$(ctr task exec --exec-id e one /hello.wasm 2>&1) && die "exec was done"
grep -q 'run another container' <<<"$said" || die "of exec it says: $said"
grep -q 'memory.usage_in_bytes *13[1-9][0-9]\{3\} ' <<<"$(ctr task metrics one)" || die "figures: $(ctr task metrics one)"
ctr task pause two
before=$(($(ticks)))
sleep 1
[ $(($(ticks) - before)) -le 20 ] || die "a paused guest takes $(($(ticks) - before)) hundredths of a second in one"
ctr task resume two
ctr task kill -s SIGTERM one && ctr task kill -s SIGKILL two
for pair in one:143 two:137; do
    until_stopped "${pair%:*}"
    # ctr says the code as a warning.
    said=$(ctr task delete "${pair%:*}" 2>&1) || true
    grep -q "exit code ${pair#*:}" <<<"$said" || die "${pair%:*} did not end with ${pair#*:}: $said"
    ctr container delete "${pair%:*}"
done
clean

say "containers of a pod share a process, where pods have their own"
config pod "$work/cache"
for pair in a1:a a2:a b1:b; do
    run -d --annotation "io.kubernetes.cri.sandbox-id=${pair#*:}" "$image" "${pair%:*}" /wait.wasm
done
[ "$(shims | wc -l)" = 2 ] || die "processes of two pods: $(shims)"
kill -9 "$(shims | head -1)"
for _ in $(seq 200); do [ "$(running)" != 3 ] && break || sleep 0.05; done
[ "$(running)" = 1 ] || [ "$(running)" = 2 ] || die "running beside a dead pod: $(ctr task ls)"
for name in a1 a2 b1; do ctr task kill -s SIGKILL "$name" 2>/dev/null || true; done
until_running 0
remove a1 a2 b1
config node "$work/cache"
clean killed

say "twenty pods with a process each beside one for a node, of which every second is killed, again and again"
run -d "$image" node1 /wait.wasm && run -d "$image" node2 /wait.wasm
node_pid=$(shims)
config pod "$work/cache"
pod_numbers=$(seq 20)
for round in 1 2 3; do
    for number in $pod_numbers; do
        run -d --annotation "io.kubernetes.cri.sandbox-id=p$number" "$image" "pod$number" /wait.wasm
    done
    until_running 22
    pids=$(shims | grep -vx "$node_pid")
    [ "$(wc -l <<<"$pids")" = 20 ] || die "processes of 20 pods: $(wc -l <<<"$pids")"
    for pid in $(awk 'NR % 2' <<<"$pids"); do kill -9 "$pid"; done
    until_running 12
    # Those that are gone are exactly as many as were killed, and their names are free again.
    pod_numbers= alive=$(ctr task ls)
    for number in $(seq 20); do grep -q "^pod$number .*RUNNING" <<<"$alive" || pod_numbers="$pod_numbers $number"; done
    [ "$(wc -w <<<"$pod_numbers")" = 10 ] || die "gone: $pod_numbers"
    for number in $pod_numbers; do remove "pod$number"; done
done
[ "$(shims | grep -cx "$node_pid")" = 1 ] || die "the process of the node ended with those of pods"
config node "$work/cache"
for name in $(ctr task ls -q); do ctr task kill -s SIGKILL "$name"; done
until_running 0
remove $(ctr task ls -q)
clean killed

say "a hundred at once"
begin=$(date +%s%N)
for number in $(seq 100); do run -d "$image" "many$number" /wait.wasm & done
until_running 100
printf '   %d ms, of which a ctr each\n' $((($(date +%s%N) - begin) / 1000000))
[ "$(shims | wc -l)" = 1 ] || die "processes: $(shims)"

say "the image is removed under them, and containerd killed and started anew beside them"
ctr images rm --sync "$image" >/dev/null
stop_containerd -9
start_containerd
until_running 100
grep -q 'memory.usage_in_bytes' <<<"$(ctr task metrics many1)" || die "no figures after that"
stop_containerd -TERM
start_containerd
until_running 100
ctr task kill -s SIGTERM many100 && until_stopped many100

say "the process is killed"
kill -9 "$(shims)"
until_running 0
jobs=()
for number in $(seq 100); do
    remove "many$number" &
    jobs+=($!)
    [ $((number % 10)) != 0 ] || { wait "${jobs[@]}" && jobs=(); }
done
clean killed
ctr images import --base-name tests/app app.tar >/dev/null
code 7 --rm "$image" after /hello.wasm

say "installed on a node, configured, removed"
install=$here/../../shim/install.sh
# Since 2.x it reads the third version of its configuration beside the second, and a snapshotter is one runtime's.
runtime_platforms=
[ "$major" -lt 2 ] || runtime_platforms='[plugins."io.containerd.cri.v1.images".runtime_platforms.stratafs]'
# dumped CONFIG: what containerd reads there, whatever quotes it writes.
dumped() { containerd -c "$1" config dump | tr "'" '"'; }
for version in 2 3; do
    node=$work/node$version
    mkdir -p "$node/etc/containerd"
    printf 'version = %s\n[grpc]\n  address = "%s"\n' "$version" "$node/sock" >"$node/etc/containerd/config.toml"
    cp "$node/etc/containerd/config.toml" before.toml
    "$install" --from "$work/bin" --root "$node" >said
    grep -q 'To do: add to' said || die "install.sh says nothing of what is left"
    for _ in 1 2; do "$install" --from "$work/bin" --root "$node" --configure >said; done
    grep -q 'has the runtime handler' said || die "install.sh adds the handler twice: $(cat said)"
    "$node/usr/local/bin/containerd-shim-stratafs-v1" -v >/dev/null || die "the program that was installed does not run"
    { [ "$version" = 3 ] && [ "$major" -lt 2 ]; } || dumped "$node/etc/containerd/config.toml" | grep -A1 'runtimes.stratafs\]' >said ||
        die "containerd does not know the handler"
    "$install" --root "$node" --remove >/dev/null
    cmp -s before.toml "$node/etc/containerd/config.toml" || die "removed, the configuration is not as before"
    # The whole of its defaults, with the snapshotter, is read as well.
    if [ "$version" = 2 ]; then
        containerd config default >"$node/etc/containerd/config.toml"
        cp "$node/etc/containerd/config.toml" before.toml
        cp "$binary" "$work/bin/stratafs"
        "$install" --from "$work/bin" --root "$node" --snapshotter $snapshotter_for --configure >/dev/null
        dumped "$node/etc/containerd/config.toml" >said || die "containerd does not read its configuration with the snapshotter"
        for line in 'disable_snapshot_annotations = false' 'snapshotter = "stratafs"' 'address = "/run/stratafs/snapshotter.sock"' ${runtime_platforms:+"$runtime_platforms"}; do
            grep -qF "$line" said || die "containerd does not know $line"
        done
        "$install" --root "$node" --uninstall >/dev/null
        cmp -s before.toml "$node/etc/containerd/config.toml" || die "uninstalled, the defaults are not as before"
    fi
    [ ! -e "$node/usr/local/bin/containerd-shim-stratafs-v1" ] || die "the program stays"
done

say "killed at any moment"
for round in $(seq 10); do
    jobs=()
    for number in $(seq 8); do
        { run -d "$image" "any$number" /serve.wasm >/dev/null 2>&1 || true; } &
        jobs+=($!)
    done
    sleep "0.$((RANDOM % 9))$((RANDOM % 10))"
    for pid in $(shims); do kill -9 "$pid" || true; done
    [ $((round % 5)) != 0 ] || { stop_containerd -9 && start_containerd; }
    wait "${jobs[@]}"
    for number in $(seq 8); do ctr task kill -s SIGKILL "any$number" 2>/dev/null || true; done
    for _ in $(seq 200); do [ "$(running)" = 0 ] && break || sleep 0.05; done
    remove any1 any2 any3 any4 any5 any6 any7 any8
    gone "containers or snapshots are left" containers
done
clean killed

say "no room for compiled programs"
mkdir small
mount -t tmpfs -o size=16k,mode=700 tmpfs small
config node "$work/small"
code 7 --rm "$image" full /hello.wasm
umount small
config node "$work/cache"
clean

if have python3; then
    say "as kubelet calls"
    . "$here/cri.sh"
    clean
    if "$python" -c 'import grpc' 2>/dev/null; then
        say "pulled through the snapshotter"
        . "$here/snapshotter.sh"
        clean
    fi
fi
say "passed"
