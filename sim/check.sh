#!/usr/bin/env bash
# Holds the simulation against a real run: ten stores pull one image at once from Debian's docker-registry, over a line of 100 Mbit/s that they share
# and with a round trip of 20 ms. The last one has to be done within 20 % of what the simulation says, and as many bytes have to go over the line.
#
#   sim/check.sh
#
# Where docker-registry cannot be had it says so and skips. STRATAFS names a program that is there.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD/sim
mbit=100 round_trip=20 stores=10

skip() {
    printf 'skipped: %s\n' "$*"
    exit 0
}
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}
command -v python3 >/dev/null || skip "python3 is needed"
if ! command -v docker-registry >/dev/null; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || skip "docker-registry is not installed, and cannot be installed here"
    { apt-get update && apt-get install -y --no-install-recommends docker-registry; } >/dev/null 2>&1 || skip "Debian's package of docker-registry cannot be had"
fi
if [ -z "${STRATAFS:-}" ]; then
    cargo build --profile tests --locked --quiet --bin stratafs
    STRATAFS=$PWD/${CARGO_TARGET_DIR:-target}/tests/stratafs
fi
cargo build --profile tests --locked --quiet --package stratafs-sim
sim=$PWD/${CARGO_TARGET_DIR:-target}/tests/stratafs-sim

work=$(mktemp -d)
pids=()
stop() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap stop EXIT
cd "$work"
free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# An image of one layer of 10 MB that does not compress, and a small one.
mkdir -p one two
head -c 10000000 /dev/urandom >one/noise
head -c 200000 /dev/urandom >two/noise
"$STRATAFS" image import one --layer two --tag app:1 --store "$work/origin" >/dev/null
port=$(free)
printf 'version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:%s"}\n' "$work/data" "$port" >registry.yml
docker-registry serve registry.yml >registry.log 2>&1 &
pids+=($!)
for _ in $(seq 100); do
    python3 -c "import socket; socket.create_connection(('127.0.0.1', $port))" 2>/dev/null && break
    sleep 0.1
done
"$STRATAFS" image push app:1 "127.0.0.1:$port/app:1" --store "$work/origin" >/dev/null
layers=$(python3 - "$port" <<'PY'
import json, sys, urllib.request
base = f"http://127.0.0.1:{sys.argv[1]}/v2/app/manifests/"
kinds = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
get = lambda name: json.load(urllib.request.urlopen(urllib.request.Request(base + name, headers={"Accept": kinds})))
found = get("1")
if "manifests" in found:
    found = get(found["manifests"][0]["digest"])
print(json.dumps([layer["size"] for layer in found["layers"]]))
PY
)

slow=$(free)
mkfifo hold
python3 "$here/line.py" "$slow" "$port" "$mbit" "$round_trip" <hold >line.out 2>line.err &
pids+=($!)
exec 9>hold
until [ -s line.out ]; do sleep 0.05; done

began=$(date +%s.%N)
pulls=()
for store in $(seq "$stores"); do
    "$STRATAFS" image pull "127.0.0.1:$slow/app:1" --tag app:1 --store "$work/store-$store" >"pull-$store" 2>&1 &
    pulls+=($!)
done
for pull in "${pulls[@]}"; do wait "$pull" || die "a pull failed: $(cat pull-*)"; done
ended=$(date +%s.%N)
exec 9>&-
until [ "$(wc -l <line.out)" -ge 2 ]; do sleep 0.05; done

cat >program.json <<JSON
{"name": "ten stores", "layers": $layers, "table_bytes": 0, "program_bytes": 0, "reads": [], "compiled_bytes": 0, "compile_seconds": 0,
 "guest_seconds": 0, "create_microseconds": 0, "process_mib": 0, "guest_mib": 0, "update": {"layer_bytes": 0, "file_bytes": 0, "chunk_bytes": 0}}
JSON
"$sim" --program program.json --hosts "$stores" --guests 1 --registry-mbit "$mbit" --host-mbit 10000 --rtt-ms "$round_trip" \
    --way "whole image for each host" --json >simulated.json
python3 - "$began" "$ended" "$(tail -1 line.out)" <<'PY'
import json, sys
real = float(sys.argv[2]) - float(sys.argv[1])
real_bytes, requests = map(int, sys.argv[3].split())
[way] = json.load(open("simulated.json"))["ways"]
simulated, simulated_bytes = way["last_start_seconds"], way["registry_gigabytes"] * 1e9
print(f"last store done: {real:.2f} s, simulated {simulated:.2f} s ({simulated / real - 1:+.1%})")
print(f"bytes sent: {real_bytes}, simulated {simulated_bytes:.0f} ({simulated_bytes / real_bytes - 1:+.1%}); requests: {requests}, simulated {way['requests']}")
if abs(simulated / real - 1) > 0.2 or abs(simulated_bytes / real_bytes - 1) > 0.05:
    sys.exit("error: the simulation and the real run differ by more than 20 % in time or 5 % in bytes")
PY
