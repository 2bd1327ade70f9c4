#!/usr/bin/env bash
# Runs two Rust programs of crates.io as guests, each built for this host, for
# wasm32-wasip1 and for wasm32-wasip2: ripgrep over the project's own files, and
# redb with its own tests. What each prints has to be what it prints here and
# under plain wasmtime, and the tests have to leave nothing behind.
#
#   tests/programs/rust.sh
#
# Builds them once, into target/programs. Without a registry it says so and
# skips; with CI=true that is an error.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=target/programs
built=${CARGO_TARGET_DIR:-target}/tests
ripgrep=ripgrep@15.2.0
targets=(wasm32-wasip1 wasm32-wasip2)

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
strata() { "$built/stratafs" run --bare "$@"; }
host() { "$built/examples/host_dir_run" --cache "$work/compiled" "$@"; }

# quiet COMMAND...: shows what it said only if it failed.
quiet() {
    "$@" > "$work/said" 2>&1 || { cat "$work/said" >&2; return 1; }
}

# search TARGET: builds ripgrep for a target, or for this host.
search() {
    [ -e "$work/ripgrep/$1/bin" ] || CARGO_TARGET_DIR=$work/rust quiet cargo install --locked --no-track \
        --force --root "$work/ripgrep/$1" ${2:+--target "$2"} "$ripgrep"
}

# database [TARGET]: builds redb's tests; prints their files.
database() {
    CARGO_TARGET_DIR=$work/rust cargo test --manifest-path tests/programs/redb/Cargo.toml --locked \
        --release --no-run --message-format json ${1:+--target "$1"} 2> "$work/said" |
        grep -o '"executable":"[^"]*"' | cut -d'"' -f4 || { cat "$work/said" >&2; return 1; }
}

# The sources of the redb that the store is built with, and its tests.
redb=$(cargo metadata --locked --format-version 1 | grep -oE '"manifest_path":"[^"]*/redb-[0-9.]+/Cargo.toml"' | cut -d'"' -f4)
mkdir -p "$work"
ln -sfn "$(dirname "$redb")" "$work/redb"

# searches_built: builds ripgrep for all.
searches_built() {
    local target
    search host || return
    for target in "${targets[@]}"; do search "$target" "$target" || return; done
}

say "building ripgrep and redb's tests"
if ! searches_built; then
    [ "${CI:-}" = true ] && fail "cannot build $ripgrep, and CI asks for it"
    echo "skipped: this test needs a registry to fetch $ripgrep"
    exit 0
fi
cargo build --quiet --profile tests --locked --bin stratafs --example host_dir_run

say "ripgrep over the project's files"
rm -rf "$work/corpus" "$work/out-rust"
mkdir -p "$work/corpus" "$work/out-rust"
mkdir "$work/corpus/tests"
cp -R src docs .gitignore "$work/corpus"
cp -R tests/it "$work/corpus/tests"
printf 'docs/\n' > "$work/corpus/tests/.ignore"
ln -s src "$work/corpus/link"
searches=(
    '--files --hidden --sort path .'
    '--line-number --sort path fn|struct src'
    '--count --sort path unwrap link/vfs'
    '--only-matching --replace <$1> --sort path case_(\d+)_ tests'
    '--multiline --sort path --type rust impl[^{]*\{\s+fn src'
    '--files-without-match --sort path use src'
    '--context 2 --heading --sort path --max-count 1 Errno::Busy src/vfs'
    'thesewordsarenowhere .'
)
rg=$PWD/$work/ripgrep
lines=0
for search in "${searches[@]}"; do
    read -ra words <<< "$search"
    out=$work/out-rust
    (cd "$work/corpus" && "$rg/host/bin/rg" "${words[@]}") > "$out/here" || echo "exit $?" >> "$out/here"
    for target in "${targets[@]}"; do
        guest=$rg/$target/bin/rg.wasm
        host "$work/corpus" "$guest" "${words[@]}" > "$out/host" || echo "exit $?" >> "$out/host"
        strata --layer "$work/corpus" "$guest" "${words[@]}" > "$out/strata" || echo "exit $?" >> "$out/strata"
        cmp "$out/host" "$out/strata" || fail "$target: rg $search prints something else"
        cmp "$out/here" "$out/strata" || fail "$target: rg $search prints something else than on this host"
    done
    lines=$((lines + $(wc -l < "$out/here")))
done
[ "$lines" -gt 2000 ] || fail "ripgrep found $lines lines alone"
echo "${#searches[@]} searches, $lines lines, as here and under plain wasmtime, for ${targets[*]}"

say "redb's own tests"
# results FILE: one line a test, without times.
results() { grep -E '^test ' "$1" | grep -v '^test result' | sort; }
passed=0
database > "$work/redb.here"
for target in "${targets[@]}"; do
    database "$target" > "$work/redb.$target"
    while read -r guest; do
        name=$(basename "$guest" .wasm)
        name=${name%-*}
        out=$work/out-rust/$name
        here=$(grep "/$name-" "$work/redb.here")
        rm -rf "$work/redb-dir" && mkdir -p "$work/redb-dir/tmp" "$work/redb-base/tmp"
        "$here" > "$out.here" 2>&1 || fail "$name fails on this host"
        host "$work/redb-dir" "$guest" > "$out.host" 2>&1 || echo "exit $?" >> "$out.host"
        strata --layer "$work/redb-base" --diff "$out.tar" "$guest" > "$out.strata" 2>&1 || echo "exit $?" >> "$out.strata"
        grep -q '^test result: ok' "$out.strata" || { cat "$out.strata"; fail "$target: $name fails"; }
        cmp <(results "$out.host") <(results "$out.strata") || fail "$target: $name goes otherwise"
        # Tests that wait for a panic need threads or unwinding, which a guest has not.
        lost=$(results "$out.strata" | grep ' \.\.\. ok$' | comm -23 - <(results "$out.here") | wc -l)
        [ "$lost" = 0 ] || fail "$target: $name passes tests that do not pass here"
        left=$(tar -tf "$out.tar" | grep -c '^tmp/.' || true)
        [ "$left" = 0 ] || fail "$target: $name left $left files"
        passed=$((passed + $(results "$out.strata" | grep -c ' \.\.\. ok$')))
    done < "$work/redb.$target"
done
[ "$passed" -gt 200 ] || fail "$passed tests of redb passed alone"
echo "$passed tests passed as here and under plain wasmtime, for ${targets[*]}"
