#!/usr/bin/env bash
# Runs the tests that a change must pass; with --long all there are, at full length. Installs what it needs beside Rust: the
# two WASI targets and cargo-nextest. Says at the end what it left out.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
    '') long= ;;
    --long) long=yes ;;
    *)
        echo "tests/all.sh: unknown argument '$1': expected --long or nothing" >&2
        exit 2
        ;;
esac

# What the command line does not need of the library, and the tests do; and what STRATAFS_TEST_FEATURES names of other
# packages, such as stratafs-shim/otel.
of_library=(--features merge-lines,serde,tokio)
also=(--features "merge-lines,serde,tokio${STRATAFS_TEST_FEATURES:+,$STRATAFS_TEST_FEATURES}")

skipped=$(mktemp) said=$(mktemp)
trap 'rm -f "$skipped" "$said"' EXIT

say() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }

# script COMMAND...: runs one, and remembers what it says that it skips.
script() {
    "$@" | tee "$said"
    sed -n 's/^skipped: /  /p' "$said" >>"$skipped"
}

# left_out WHAT: something that --long runs.
left_out() { printf '  %s (--long)\n' "$*" >>"$skipped"; }

say "tools"
rustup target add wasm32-wasip1 wasm32-wasip2
cargo nextest --version >/dev/null 2>&1 || cargo install --locked cargo-nextest

say "build"
cargo nextest run --workspace --cargo-profile tests --locked "${also[@]}" --no-run
SECONDS=0

say "unit, integration and guest tests"
if [ -n "$long" ]; then
    STRATAFS_TEST_LONG=1 cargo nextest run --workspace --cargo-profile tests --locked "${also[@]}"
else
    cargo nextest run --workspace --cargo-profile tests --locked "${also[@]}"
    left_out "three quarters of the runs with random input"
fi

say "examples in the documentation"
cargo test --profile tests --locked "${of_library[@]}" --doc

if [ -n "$long" ]; then
    say "the examples"
    tests/examples.sh
    say "a real CPython, a thousand times"
    script tests/cpython/run.sh
    say "CPython's own file tests"
    script tests/cpython/suite.sh
    say "images of other tools"
    script tests/interop/run.sh
    say "a real registry"
    script tests/registry/run.sh
    say "an object store"
    script tests/object/run.sh
    say "the package, built from its own archive"
    .ci/package --build
    say "containers under containerd, as ctr and kubelet ask for them"
    script tests/containerd/run.sh
    say "the same under other versions of containerd, and its suite for snapshotters"
    script tests/containerd/versions.sh
    script tests/containerd/suite.sh
    say "nodes from nothing, by the commands of the pages"
    script tests/containerd/node.sh
    say "Kubernetes itself"
    script tests/containerd/kubernetes.sh
    say "Ruby, PHP, SQLite, QuickJS, clang"
    script tests/programs/run.sh
    say "ripgrep, and redb with its own tests"
    script tests/programs/rust.sh
    say "CPython, Ruby, PHP and QuickJS frozen in the middle, twice"
    script tests/programs/frozen.sh
    say "Go's own file tests, and its goroutines frozen"
    script tests/programs/go.sh
    say "yosys, nextpnr and icepack"
    script tests/programs/yowasp.sh
    say "the simulated fleet beside ten stores"
    script sim/check.sh
    say "recipes of real projects, and the same tree as buildah's"
    script tests/recipes/run.sh
    script tests/recipes/buildah.sh
    say "instructions of common calls"
    script tests/counts/run.sh
else
    say "a real CPython, sixty times"
    script tests/cpython/run.sh 60
    say "a part of CPython's own file tests"
    script tests/cpython/suite.sh test_os test_posix test_shutil test_fileio test_file
    left_out "CPython a thousand times, and 36 more modules of its tests"
    left_out "the examples"
    left_out "images in and out of skopeo, umoci and buildah, of a real registry and of an object store"
    left_out "the package, built from its own archive"
    left_out "containers under containerd"
    left_out "Ruby, PHP, SQLite, QuickJS, clang, ripgrep, redb, Go and the tools of a chip as guests"
    left_out "CPython, Ruby, PHP and QuickJS frozen in the middle"
    left_out "recipes of real projects, and of recipes without RUN what buildah makes"
    left_out "instructions of common calls, and the simulated fleet beside ten stores"
fi

say "passed"
if [ -s "$skipped" ]; then
    echo "left out:"
    cat "$skipped"
fi
