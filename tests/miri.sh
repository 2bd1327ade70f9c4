#!/usr/bin/env bash
# Runs the core's own tests under miri, which finds undefined behaviour in what
# they run. Needs a nightly toolchain with it:
#
#   rustup toolchain install nightly --component miri,rust-src
#   tests/miri.sh [TEST FILTER...]
#
# Limited to what miri can run: no engine, no C (zstd), no host directories, and
# only tests that end in minutes when each step takes hundreds of times as long.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! cargo +nightly miri --version > /dev/null 2>&1; then
    echo "skipped: there is no miri: rustup toolchain install nightly --component miri,rust-src"
    exit 0
fi
[ $# -gt 0 ] || set -- chunk:: name:: meta:: errno:: digest:: tree:: layer:: image:: overlay:: vfs::
MIRIFLAGS="-Zmiri-disable-isolation" cargo +nightly miri test --locked --package stratafs --no-default-features --lib -- "$@"
