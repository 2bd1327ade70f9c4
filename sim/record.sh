#!/usr/bin/env bash
# Records the programs of the simulation, sim/programs/*.json, from real starts: what the image's frames weigh, which of them a start
# reads, what compiling takes, and what live guests hold.
#
#   sim/record.sh
#
# Takes the programs from one npm package, once, into target/programs. STRATAFS names a release build that is there.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/package.sh
programs=target/programs
langs=$PWD/$programs/package/dist/langs
mkdir -p "$programs"
fetch "$programs" LICENSE dist/langs/{ruby-3.2.0,php-cgi-8.2.0,wasmedge_quickjs,python-3.11.3}.wasm dist/langs/python-3.11.3.tar.gz
command -v zstd >/dev/null || fail "zstd is needed, which reads the tables of layers"
if [ -z "${STRATAFS:-}" ]; then
    cargo build --release --locked --quiet --bin stratafs
    STRATAFS=$PWD/${CARGO_TARGET_DIR:-target}/release/stratafs
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export STRATAFS_STORE=$work/store

# CPython reads its modules one by one, from where it has none of its own packed in.
mkdir -p "$work/cpython/opt/python/lib" "$work/php" "$work/ruby" "$work/quickjs"
tar -xzf "$langs/python-3.11.3.tar.gz" -C "$work"
python3 -m zipfile -e "$work/usr/local/lib/python311.zip" "$work/cpython/opt/python/lib/python3.11"
echo 'import asyncio, decimal, email, json, logging, sqlite3, unittest; print(json.dumps({"ready": True}))' >"$work/cpython/app.py"
echo '<?php echo json_encode(["ready" => true]), "\n";' >"$work/php/app.php"
echo 'puts({ready: true}.inspect)' >"$work/ruby/app.rb"
echo 'print(JSON.stringify({ready: true}));' >"$work/quickjs/app.js"

# record NAME TITLE WASM ENV ARGS...: the guest of a directory with its program.
record() {
    local name=$1 title=$2 wasm=$3 env=$4
    shift 4
    say "$title"
    mkdir -p "$work/$name-bin/bin"
    cp "$wasm" "$work/$name-bin/bin/$name.wasm"
    "$STRATAFS" image import "$work/$name" --layer "$work/$name-bin" --tag "$name:1" >/dev/null
    python3 sim/record.py "$STRATAFS" "$name:1" "$title" "/bin/$name.wasm" "$wasm" "$work/$name.record" "$env" "$@" >sim/programs/"$name".json
    cat sim/programs/"$name".json
}
record cpython "CPython 3.11.3 with asyncio, sqlite3 and five more modules" "$langs/python-3.11.3.wasm" "PYTHONHOME=/opt/python PYTHONPATH=/opt/python/lib/python3.11" /app.py
record php "PHP 8.2.0" "$langs/php-cgi-8.2.0.wasm" "" -f /app.php
record ruby "Ruby 3.2.0" "$langs/ruby-3.2.0.wasm" "" /app.rb
# Made for a runtime with sockets of its own; what is called there is never reached here.
LC_ALL=C perl -pe 's/sock_accept/sock_accepT/g' "$langs/wasmedge_quickjs.wasm" >"$work/quickjs.wasm"
record quickjs "QuickJS" "$work/quickjs.wasm" "" /app.js
