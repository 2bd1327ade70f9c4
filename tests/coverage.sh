#!/usr/bin/env bash
# Measures which lines the tests run, in docs/TESTING.md's terms.
#
#   tests/coverage.sh [CARGO NEXTEST ARGS...]
#
# Needs llvm-profdata and llvm-cov, 19 or newer: rustup's llvm-tools, or a
# system's (Debian: apt-get install llvm-19). Only the two packages are instrumented, so
# what it depends on is not built again.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$PWD/target/coverage

find_tools() {
    local dir
    for dir in "$(rustc --print sysroot)"/lib/rustlib/*/bin /usr/lib/llvm-{22,21,20,19}/bin; do
        if [ -x "$dir/llvm-cov" ]; then
            echo "$dir"
            return
        fi
    done
    return 1
}
tools=$(find_tools) || { echo "error: no llvm-cov of LLVM 19 or newer: rustup component add llvm-tools" >&2; exit 1; }

rm -rf "$work"
mkdir -p "$work/raw"
# Guests are compiled for WASI, which has no run time for profiles.
cat > "$work/wrapper" << 'SH'
#!/bin/sh
case " $* " in
    *" wasm32-"* | *" build_script_build "*) exec "$@" ;;
    *) exec "$@" -C instrument-coverage ;;
esac
SH
chmod +x "$work/wrapper"
export RUSTC_WORKSPACE_WRAPPER=$work/wrapper LLVM_PROFILE_FILE=$work/raw/%p-%4m.profraw
cargo nextest run --cargo-profile tests --locked --no-fail-fast "$@"

"$tools/llvm-profdata" merge -sparse "$work"/raw/*.profraw -o "$work/merged"
objects=()
while read -r binary; do objects+=(--object "$binary"); done < <(
    cargo nextest list --cargo-profile tests --locked --list-type binaries-only --message-format json 2> /dev/null |
        grep -o '"binary-path":"[^"]*"' | cut -d'"' -f4)
objects+=(--object "${CARGO_TARGET_DIR:-target}/tests/stratafs")
"$tools/llvm-cov" report "${objects[@]}" --instr-profile "$work/merged" \
    --ignore-filename-regex '(/registry/|/rustc/|/tests/|/benches/|/examples/|/guest-examples/|/target/|/build.rs)' \
    > "$work/report.txt"
awk '/^Filename/ || /^TOTAL/ || /\.rs / { printf "%-40s %8s %8s %8s\n", $1, $8, $9, $10 }' "$work/report.txt"
