#!/usr/bin/env bash
# Runs each fuzz target under libFuzzer for some seconds (60, or the first argument), from the seeds in
# fuzz/seeds, with every invariant checked after each call. With "wasi" as second argument the guests' targets too, with
# "freeze" those of frozen programs.
# Coverage instrumentation is an unstable option of rustc; nothing else here is.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
features=${2:-}

host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
RUSTFLAGS=$(echo $RUSTFLAGS)
targets="instance merge sealing walk archive"
if [ "$features" = wasi ]; then targets="$targets preview1 filesystem2"; fi
if [ "$features" = freeze ]; then targets="freeze checkpoint"; fi
cargo build --manifest-path fuzz/Cargo.toml --release --locked --target "$host" --features "$features"

found=$(mktemp -d)
for target in $targets; do
    printf '\n== %s, %d s\n' "$target" "$seconds"
    mkdir -p "$found/$target" "fuzz/seeds/$target"
    "fuzz/target/$host/release/$target" "$found/$target" "fuzz/seeds/$target" -max_total_time="$seconds" \
        -max_len=4096 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0
done
