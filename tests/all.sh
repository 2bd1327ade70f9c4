#!/usr/bin/env bash
# Runs all tests; with --long also those that take a build of their own. Installs what it needs beside Rust:
# the two WASI targets and cargo-nextest.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
    '' | --long) ;;
    *)
        echo "tests/all.sh: unknown argument '$1': expected --long or nothing" >&2
        exit 2
        ;;
esac

say() { printf '\n== %s\n' "$*"; }

say "tools"
rustup target add wasm32-wasip1 wasm32-wasip2
cargo nextest --version >/dev/null 2>&1 || cargo install --locked cargo-nextest

say "unit, integration and guest tests"
cargo nextest run --cargo-profile tests --locked

say "examples in the documentation"
cargo test --profile tests --locked --doc

say "a real CPython, a thousand times"
tests/cpython/run.sh

say "images of other tools"
tests/interop/run.sh

say "CPython's own file tests"
# shellcheck disable=SC2086
tests/cpython/suite.sh ${STRATAFS_SUITE:-}   # all modules, or those named

say "Ruby, PHP, SQLite, QuickJS, clang"
tests/programs/run.sh

say "ripgrep, and redb with its own tests"
tests/programs/rust.sh

if [ "${1:-}" = --long ]; then
    say "instructions of common calls"
    tests/counts/run.sh
else
    say "left out: instructions of common calls (--long)"
fi
