#!/usr/bin/env bash
# Images in and out beside what people use, interleaved: `image export` beside `tar -c`, `image import` of a tar beside `tar -x`
# to the same file system with `sha256sum` of the archive. Usage: benches/images.sh DIR [ROUNDS] >runs.json
# DIR is the tree to take; work is done in a directory under $TMPDIR, which should be a tmpfs.
set -euo pipefail
tree=$(realpath "$1")
rounds=${2:-7}
cd "$(dirname "$0")/.."
stratafs=$PWD/target/release/stratafs
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export STRATAFS_STORE=$work/store

tar --format=posix -C "$tree" -cf "$work/in.tar" .
"$stratafs" image import "$work/in.tar" --tag whole >/dev/null
"$stratafs" image export whole "$work/blob.oci.tar" --format oci-archive
STRATAFS_STORE=$work/blobs "$stratafs" image import "$work/blob.oci.tar" --tag whole >/dev/null
files=$(find "$tree" -type f | wc -l)
bytes=$(stat -c %s "$work/in.tar")

# Prints one line of JSON: which, round, nanoseconds.
measure() { # NAME ROUND COMMAND...
    local name=$1 round=$2 start end
    shift 2
    start=$(date +%s%N)
    "$@"
    end=$(date +%s%N)
    printf '{"case":"%s","round":%d,"ns":%d,"files":%d,"tar_bytes":%d}\n' "$name" "$round" "$((end - start))" "$files" "$bytes"
}

tar_out() { tar --format=posix -C "$tree" -cf "$work/out.tar" .; }
export_tar() { "$stratafs" image export whole "$work/out.tar" --format tar; }
export_archive() { "$stratafs" image export whole "$work/out.tar" --format oci-archive; }
export_blobs() { STRATAFS_STORE=$work/blobs "$stratafs" image export whole "$work/out.tar" --format oci-archive; }
tar_in() {
    mkdir "$work/x"
    tar -C "$work/x" -xf "$work/in.tar"
    sha256sum "$work/in.tar" >/dev/null
}
import_tar() { STRATAFS_STORE=$work/fresh "$stratafs" image import "$work/in.tar" --tag fresh >/dev/null; }
import_oci() { STRATAFS_STORE=$work/fresh "$stratafs" image import "$work/blob.oci.tar" --tag fresh >/dev/null; }
import_dir() { STRATAFS_STORE=$work/fresh "$stratafs" image import "$tree" --tag fresh >/dev/null; }

for ((round = 0; round < rounds; round++)); do
    for case in tar_out export_tar export_archive export_blobs tar_in import_tar import_oci import_dir; do
        rm -rf "$work/out.tar" "$work/x" "$work/fresh"
        measure "$case" "$round" "$case"
    done
done
