#!/usr/bin/env bash
# Runs the examples that need nothing from elsewhere, and looks for what each has to print.
#
#   tests/examples.sh
#
# The others are run by the scripts that fetch what they need: `componentize` and `host_dir_run` by tests/cpython and
# tests/programs, `fork_session` by tests/programs/frozen.sh; a browser or curl is needed for `http_host`.
set -euo pipefail
cd "$(dirname "$0")/.."
built=${CARGO_TARGET_DIR:-target}/tests/examples
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cargo build --quiet --profile tests --locked --examples --features merge-lines,serde,tokio

# prints EXAMPLE PATTERN [ARGS...]: runs it, and fails unless a line of what it prints matches.
prints() {
    local example=$1 pattern=$2
    shift 2
    "$built/$example" "$@" > "$work/out" || { cat "$work/out"; echo "error: $example failed" >&2; exit 1; }
    grep -qE "$pattern" "$work/out" || {
        cat "$work/out"
        echo "error: expected a line like /$pattern/ of $example" >&2
        exit 1
    }
    echo "$example: $(grep -m 1 -E "$pattern" "$work/out")"
}

prints agent_sandbox '^  greeting \(5 bytes\)$'
prints agent_sandbox '^  TimedOut\(2s\)$'
prints branch_live '^branch 4: 100000 places, the same way up to the point: true'
prints embed_p1 '^guest 2: greeting \(5 bytes\)$'
prints embed_p2 '^guest 2, Ok\(\(\)\), holds .*logical_bytes: 5,'
prints embed_p2_async '^tenant 2, Ok\(\(\)\): \[Added \{ path: greeting, kind: File, size: 5 \}\]$'
prints embed_p3 '^guest 2, Ok\(\(\)\), holds .* changed: 1,'
prints fork_four '^kept try 2: "brief"$'
prints freeze_own_linker '^from 20: cards \[1, 2, 21, 22, 23\], sum 69$'
prints from_store '^app:2 has 2 layers$' "$work/store"
prints host_files '^out/2: token 2$'
prints many_guests '^0 of 100 failed$'
prints thaw_alive '^100 alive after ' 100
prints thaw_alive '^all answered after ' 100
prints thaw_pool '^100 sessions, ' 100
