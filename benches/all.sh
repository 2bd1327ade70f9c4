#!/usr/bin/env bash
# Builds and runs every bench that docs/PERFORMANCE.md quotes, one after the other, and keeps what each prints in a
# file of DIR (default: target/bench-runs). The builds come first, so that none runs beside a bench.
#
#     benches/all.sh [DIR [NAME...]]
#
# With names (ops, ops-0.2, streams, writes, ...) only those run.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
out=${1:-$target/bench-runs}
mkdir -p "$out"
out=$(realpath "$out")
# Nothing that is measured is built in pieces.
export RUST_BACKTRACE=0 CARGO_INCREMENTAL=0 CARGO_TARGET_DIR=$target
rustup target add wasm32-wasip1 wasm32-wasip2

cargo build --release --locked
cargo build --release --locked --example host_dir_run
cargo bench --no-run --locked --bench ops --bench streams --bench sealing --bench start --bench instance --bench live --bench lookup
cargo build --release --locked --manifest-path benches/peers/Cargo.toml --target-dir "$target/peers"
export STRATAFS=$target/release/stratafs HOST=$target/release/examples/host_dir_run

names=("${@:2}")

run() { # NAME COMMAND...
    local name=$1
    shift
    if ((${#names[@]})) && [[ " ${names[*]} " != *" $name "* ]]; then return; fi
    echo "$name: $*"
    "$@" >"$out/$name.txt" 2>"$out/$name.err" || { cat "$out/$name.err" >&2; exit 1; }
}

run ops cargo bench --quiet --locked --bench ops -- 9
run ops-0.2 cargo bench --quiet --locked --bench ops -- 9 0.2
run streams cargo bench --quiet --locked --bench streams -- 9
run writes benches/writes.py 7
run sealing cargo bench --quiet --locked --bench sealing
run peers "$target/peers/release/stratafs-peers" 5
run spill benches/spill.py 5
run export benches/export.py 5
run recipes benches/recipes.py 100000 1000000000 5
run growth "$STRATAFS" bench --growth --out "$out/growth-report"
run counts tests/counts/run.sh
run start cargo bench --quiet --locked --bench start
run instance cargo bench --quiet --locked --bench instance
run live cargo bench --quiet --locked --bench live
run lookup cargo bench --quiet --locked --bench lookup
cpython=${CPYTHON:-target/cpython/package/dist/langs/python-3.11.3}
if [ -e "$cpython.wasm" ] && [ -e "$cpython.tar.gz" ]; then
    run process benches/process.py "$cpython.wasm" "$cpython.tar.gz"
    run frozen benches/frozen.py "$cpython.wasm" "$cpython.tar.gz" 5 "$out/frozen.svg"
else
    echo "process, frozen: left out, since they need $cpython.wasm and .tar.gz (tests/cpython/run.sh fetches them)"
fi
if [ -n "$(command -v wrk)" ] && [ -n "${WASMTIME:-$(command -v wasmtime)}" ]; then
    run serve benches/serve.py
else
    echo "serve: left out, since it needs wrk and wasmtime (benches/serve.py says how to get them)"
fi
echo "done: $out"
