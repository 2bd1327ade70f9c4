#!/usr/bin/env bash
# Writes the upper layer as a tar with OCI whiteouts: names that start with
# `.wh.` are awkward to keep in a work tree.
set -euo pipefail
out=$PWD/$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/fn/opaque"
echo 'VALUE = "upper"' > "$dir/fn/settings.py"
echo "upper: added" > "$dir/fn/added.txt"
echo "upper: new" > "$dir/fn/opaque/new.txt"
: > "$dir/fn/.wh.deleted.txt"
: > "$dir/fn/.wh.tree"
: > "$dir/fn/opaque/.wh..wh..opq"
tar -cf "$out" -C "$dir" fn
