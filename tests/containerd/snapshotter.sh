# Part of run.sh: images that containerd's CRI pulls through `stratafs snapshotter` out of a registry, Debian's. containerd fetches manifests
# and configurations alone; containers run off the store; the snapshotter is killed at any moment; what is removed frees the store.
have docker-registry || { apt-get update && apt-get install -y --no-install-recommends docker-registry; } >/dev/null 2>&1 || true
if ! have docker-registry; then
    printf 'skipped: pulls through the snapshotter, since docker-registry is missing and cannot be installed\n'
else
    stop_containerd -TERM
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:%s"}\n' "$work/registry" "$port" >registry.yml
    remote=127.0.0.1:$port/tests/app:1
    start_registry() {
        docker-registry serve registry.yml >>registry.log 2>&1 &
        registry_pid=$!
        for _ in $(seq 100); do python3 -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$port/v2/')" 2>/dev/null && return || sleep 0.1; done
        die "the registry does not start: $(tail -3 registry.log)"
    }
    start_registry
    # Content that no container reads, so that it is seen whether it is fetched.
    mkdir -p noise/etc && head -c 8000000 /dev/urandom >noise/noise
    printf 'root:x:0:0::/root:\napp:x:7:8::/srv/app:\n' >noise/etc/passwd
    "$binary" image append app:1 noise --tag large:1 >/dev/null
    "$binary" image push large:1 "$remote" >/dev/null
    snapshotter_pid= snapshots=$work/snapshotter node_store=$work/node-store
    start_snapshotter() {
        # It has a store of its own, which it alone collects.
        "$binary" snapshotter --root "$snapshots" --address "$work/snapshotter.sock" --store "$node_store" --lazy only >>snapshotter.log 2>&1 &
        snapshotter_pid=$!
        for _ in $(seq 100); do [ -S snapshotter.sock ] && return || sleep 0.05; done
        die "the snapshotter does not start: $(tail -3 snapshotter.log)"
    }
    kill_snapshotter() {
        kill -9 "$snapshotter_pid" && wait "$snapshotter_pid" 2>/dev/null || true
        rm -f snapshotter.sock
    }
    start_snapshotter
    # containerd hears at the pull which runtime it is for, if that has a snapshotter of its own.
    handler=
    configure_cri "$remote" $snapshotter_for
    [ $snapshotter_for = node ] || handler=--handler=stratafs
    start_containerd
    cri() { PYTHONPATH=$here "$python" "$here/snapshotter.py" "$work/sock" "$remote" "$work" "$1" $handler || die "through the snapshotter: $1 fails: $(tail -3 snapshotter.log)"; }
    figure() { "$binary" store stat --store "$node_store" --json | python3 -c "import json, sys; print(json.load(sys.stdin)['$1'])"; }
    before=$(du -sk root | cut -f1)
    cri pulled
    large=$(ctr -n k8s.io content ls -q | while read -r digest; do ctr -n k8s.io content get "$digest" | wc -c; done | sort -n | tail -1)
    grown=$(($(du -sk root | cut -f1) - before))
    printf '   containerd keeps %s KB more, its largest blob has %s bytes; %s bytes are not on the node yet\n' "$grown" "$large" "$(figure absent_bytes)"
    [ "$grown" -lt 1000 ] || die "containerd keeps $grown KB more after the pull: $(ctr -n k8s.io content ls)"
    [ "$(figure absent_bytes)" -gt 7000000 ] || die "all of the image was fetched: $(figure absent_bytes) bytes are absent"
    # Nothing but the names of users, for containerd.
    unpacked=$(find snapshotter/snapshots -type f -not -path '*/fs/etc/passwd')
    [ -z "$unpacked" ] || die "something was unpacked: $unpacked"
    grep -q 'is left to containerd' snapshotter.log && die "a layer was left to containerd: $(cat snapshotter.log)"
    cri users
    if [ -n "$handler" ]; then
        say "artifacts, as they are"
        # artifact NAME [HANDLER]: pulls a program without an image, for this runtime's snapshotter or for the node's, and runs it.
        artifact() {
            local name=127.0.0.1:$port/tests/$1:1
            "$binary" image push "$1:1" "$name" --artifact >/dev/null
            PYTHONPATH=$here "$python" "$here/snapshotter.py" "$work/sock" "$name" "$work" "$1" ${2:+"$2"} || die "the artifact $1 does not run as kubelet asks for it"
        }
        artifact lone "$handler"
        artifact lone
        if [ -n "$sockets" ]; then
            mkdir connects && cp src/connect.wasm connects
            "$binary" image import connects --tag connects:0 >/dev/null
            "$binary" image mutate connects:0 --tag connects:1 --entrypoint /connect.wasm >/dev/null
            artifact connects "$handler"
        fi
    fi
    # off NAME WANTED ARGS...: runs a container off the store, by ctr, and holds its code against one.
    off() {
        local got=0
        ctr -n k8s.io run --rm --runtime io.containerd.stratafs.v1 --fifo-dir "$work/fifo" --snapshotter stratafs "${@:3}" >out 2>err </dev/null || got=$?
        [ "$got" = "$2" ] || die "$1: code $got, not $2: $(cat err)"
    }
    kill "$registry_pid" && wait "$registry_pid" 2>/dev/null || true
    off "content that is away, of a registry that is gone" 29 "$remote" far1 /far.wasm
    off "another container, meanwhile" 7 "$remote" near /hello.wasm
    start_registry
    sleep 2
    off "content of a registry that is back" 7 "$remote" far2 /far.wasm
    cri removed
    freed() { local images; images=$(figure images); [ "$images" = 0 ] || printf '%s images' "$images"; }
    # containerd collects by itself some time after something was removed.
    gone "the store keeps what nobody needs" freed
    [ -z "$(ls snapshotter/snapshots)" ] || die "directories are left: $(ls snapshotter/snapshots)"

    say "without annotations, the layers are unpacked into directories"
    ctr images pull --plain-http --snapshotter stratafs "$remote" >/dev/null || die "a pull without annotations fails: $(tail -3 snapshotter.log)"
    code 7 --rm --snapshotter stratafs "$remote" unpacked /hello.wasm
    [ "$(cat out)" = hello ] || die "off directories it said: $(cat out)"
    code 0 --rm --snapshotter stratafs "$remote" unpacked2 /mark.wasm
    ctr images rm --sync "$remote" >/dev/null
    gone "directories are left" ls snapshotter/snapshots

    say "the snapshotter is killed at any moment"
    cri killed &
    killed_pid=$!
    kills=0
    while kill -0 "$killed_pid" 2>/dev/null; do
        sleep "0.$((RANDOM % 9))$((RANDOM % 10))"
        kill_snapshotter
        start_snapshotter
        kills=$((kills + 1))
    done
    wait "$killed_pid" || die "pods beside kills of the snapshotter fail"
    printf '   %d kills\n' "$kills"
    rm -rf pulled-logs
    cri pulled
    cri removed
    gone "the store keeps what nobody needs" freed
    "$binary" store verify --store "$node_store" >/dev/null || die "the store is damaged"

    say "a disk that is full"
    kill_snapshotter
    mount -t tmpfs -o size=6m,mode=700 tmpfs small
    snapshots=$work/small/snapshotter node_store=$work/small/store
    start_snapshotter
    rm -rf pulled-logs
    cri pulled
    off "content that there is no room for" 29 "$remote" full1 /far.wasm
    # The code of this program is at hand, so that it takes no room; the directory of a container may find none.
    got=0
    said=$(ctr -n k8s.io run --rm --runtime io.containerd.stratafs.v1 --fifo-dir "$work/fifo" --snapshotter stratafs "$remote" full2 /hello.wasm 2>&1 </dev/null) || got=$?
    [ "$got" = 7 ] || grep -q 'No space left on device' <<<"$said" || die "of a container on a disk that is full it says: $said"
    mount -o remount,size=64m small
    sleep 2
    off "that content, once there is room" 7 "$remote" full3 /far.wasm
    off "that container, once there is room" 7 "$remote" full4 /hello.wasm
    cri removed
    gone "the store keeps what nobody needs" freed
    "$binary" store verify --store "$node_store" >/dev/null || die "the store on a disk that was full is damaged"
    stop_containerd -TERM
    kill -TERM "$snapshotter_pid" && wait "$snapshotter_pid" || die "the snapshotter does not end well"
    kill "$registry_pid" 2>/dev/null || true
    umount small
    start_containerd
fi
