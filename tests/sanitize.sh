#!/usr/bin/env bash
# Runs the core's tests with a sanitizer compiled in.
#
#   tests/sanitize.sh [address|leak|thread] [TEST FILTER]
#
# `address` and `leak` run on a stable toolchain for x86-64 and arm64 Linux, with
# the standard library as it is shipped. `thread` would see races in a library
# that is not instrumented where there are none, so it builds the library as
# well, for which the toolchain must have its source: rustup component add
# rust-src. The front ends are left out: generated code is not instrumented.
set -euo pipefail
cd "$(dirname "$0")/.."
kind=${1:-address}
filter=${2:-}
target=$(rustc -vV | sed -n 's/^host: //p')
build_std=()
if [ "$kind" = thread ]; then
    if [ ! -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" ]; then
        echo "skipped: thread needs the standard library's source: rustup component add rust-src"
        exit 0
    fi
    build_std=(-Zbuild-std)
fi

# Lets a stable compiler take the option.
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Zsanitizer=$kind" CARGO_TARGET_DIR=${SANITIZE_TARGET_DIR:-target/sanitize/$kind}
cargo test "${build_std[@]}" --package stratafs --release --locked --target "$target" --no-default-features \
    --features dir,tar,gzip --lib --test it -- $filter
