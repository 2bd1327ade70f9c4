#!/usr/bin/env bash
# Images at rest beside what people use, in turns of one run. Usage:
#
#     benches/images.sh DIR BIG VERSION... >runs.json
#
# DIR is the tree that goes in and out, BIG one of 100,000 files that is opened, VERSION... consecutive versions of one tree.
# ROUNDS (7) turns of each. Works in a directory under $TMPDIR, which should be a tmpfs. Needs restic, casync, borg, mkfs.erofs,
# zstd and python3, and root for the mounts. Prints a line of JSON for each measurement; benches/images.py makes the table.
set -euo pipefail
tree=$(realpath "$1")
big=$(realpath "$2")
shift 2
versions=()
for version in "$@"; do versions+=("$(realpath "$version")"); done
rounds=${ROUNDS:-7}
cd "$(dirname "$0")/.."
stratafs=${STRATAFS:-$PWD/target/release/stratafs}
within=${IMAGES:?the bench images, as cargo bench --bench images --no-run names it}
work=$(mktemp -d)
mount=$work/mount
trap 'umount "$mount" 2>/dev/null || true; rm -rf "$work"' EXIT
export STRATAFS_STORE=$work/store RESTIC_PASSWORD=x RESTIC_CACHE_DIR=$work/cache BORG_BASE_DIR=$work/borg-base
export BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes
mkdir "$mount"

# Prints one line of JSON: what was done, in which round, how long it took.
measure() { # NAME ROUND COMMAND...
    local name=$1 round=$2 start end
    shift 2
    start=$(date +%s%N)
    "$@" >/dev/null
    end=$(date +%s%N)
    printf '{"case":"%s","round":%d,"ns":%d}\n' "$name" "$round" "$((end - start))"
}

into() { STRATAFS_STORE=$work/fresh "$stratafs" image import "$1" --tag fresh; }
restic_in() { restic init -q -r "$work/fresh" --repository-version 2 && restic backup -q --compression off -r "$work/fresh" "$tree"; }
casync_in() { casync make --store="$work/fresh.castr" "$work/fresh.caidx" "$tree"; }
borg_in() { borg init -e none "$work/fresh" && borg create --compression none "$work/fresh::a" "$tree"; }
erofs_in() { mkfs.erofs --quiet "$work/fresh" "$tree"; }
tar_in() { mkdir "$work/fresh" && tar -C "$work/fresh" -xf "$work/in.tar" && sha256sum "$work/in.tar"; }
tar_out() { tar --format=posix -C "$tree" -cf "$work/out" .; }
out() { STRATAFS_STORE=$1 "$stratafs" image export whole "$work/out" --format "$2"; }

# Each case by name, the tree's own size in front.
moving() {
    printf '{"case":"tree","files":%d,"tar_bytes":%d}\n' "$(find "$tree" -type f | wc -l)" "$(stat -c %s "$work/in.tar")"
    local round
    for ((round = 0; round < rounds; round++)); do
        turn "import tree: stratafs" into "$tree"
        turn "import tree: restic" restic_in
        turn "import tree: casync" casync_in
        turn "import tree: borg" borg_in
        turn "import tree: mkfs.erofs" erofs_in
        turn "import tar: stratafs" into "$work/in.tar"
        turn "import tar: tar -x and sha256sum" tar_in
        turn "import OCI archive: stratafs" into "$work/in.oci.tar"
        turn "export: tar -c" tar_out
        turn "export tar: stratafs" out "$work/store" tar
        turn "export OCI archive, layers made: stratafs" out "$work/store" oci-archive
        turn "export OCI archive, blobs kept: stratafs" out "$work/blobs" oci-archive
    done
}
turn() {
    rm -rf "$work"/fresh* "$work/out" "$work/cache" "$work/borg-base"
    measure "$1" "$round" "${@:2}"
}

# Opening the image of many files, each in a process of its own, beside mounts of the same tree.
opening() {
    local round
    for ((round = 0; round < rounds * 5; round++)); do
        "$within" open "$work/store" big | sed "s/^{/{\"round\":$round,/"
        measure "open: whole process, stratafs" "$round" "$within" open "$work/store" big
        measure "open: mount of erofs" "$round" mount -t erofs -o loop,ro "$work/big.erofs" "$mount"
        umount "$mount"
        measure "open: mount of overlayfs over the unpacked tree" "$round" \
            mount -t overlay -o "lowerdir=$big,upperdir=$work/upper,workdir=$work/workdir" overlay "$mount"
        umount "$mount"
    done
    "$within" memory "$work/store" big
}

size() { # NAME FILES-OR-DIRS...
    local name=$1
    shift
    printf '{"case":"at rest: %s","bytes":%d}\n' "$name" "$(find "$@" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum + 0 }')"
}

# All versions, one after the other, in each tool's store; nothing is compressed but where a tool cannot do without.
resting() {
    local version name
    restic init -q -r "$work/v.restic" --repository-version 2
    borg init -e none "$work/v.borg"
    mkdir "$work/all"
    for version in "${versions[@]}"; do
        name=${version##*/}
        STRATAFS_STORE=$work/v.stratafs "$stratafs" image import "$version" --tag "$name" >/dev/null
        (cd "$version" && restic backup -q --compression off -r "$work/v.restic" .)
        casync make --store="$work/v.castr" "$work/v.$name.caidx" "$version" >/dev/null
        (cd "$version" && borg create --compression none "$work/v.borg::$name" .)
        cp -a "$version" "$work/all/$name"
    done
    # Blocks that are alike are kept once; one file system of all versions.
    mkfs.erofs --quiet --chunksize=4096 --blobdev="$work/v.erofs.data" "$work/v.erofs" "$work/all"
    mkfs.erofs --quiet -zlz4 -Ededupe "$work/v.erofs.lz4" "$work/all"
    size "the versions as they are" "${versions[@]}"
    size stratafs "$work/v.stratafs"
    size restic "$work/v.restic"
    size borg "$work/v.borg"
    size "mkfs.erofs, equal blocks of 4 KiB once" "$work/v.erofs" "$work/v.erofs.data"
    size "mkfs.erofs -Ededupe, as it compresses" "$work/v.erofs.lz4"
    # casync only writes compressed chunks; counted as they are once that is undone.
    printf '{"case":"at rest: casync, chunks decompressed","bytes":%d}\n' \
        "$(($(find "$work/v.castr" -name '*.cacnk' -exec cat {} + | zstd -dc | wc -c) + $(cat "$work"/v.*.caidx | wc -c)))"
    size "casync, as it compresses" "$work/v.castr"
    "$within" chunks "${versions[@]}"
}

tar --format=posix -C "$tree" -cf "$work/in.tar" .
"$stratafs" image import "$tree" --tag whole >/dev/null
"$stratafs" image export whole "$work/in.oci.tar" --format oci-archive
STRATAFS_STORE=$work/blobs "$stratafs" image import "$work/in.oci.tar" --tag whole >/dev/null
"$stratafs" image import "$big" --tag big >/dev/null
mkfs.erofs --quiet "$work/big.erofs" "$big"
mkdir "$work/upper" "$work/workdir"
printf '{"case":"big","files":%d}\n' "$(find "$big" -type f | wc -l)"

# The parts that are timed wait for a machine that is quiet, where somebody keeps a lock for that.
quiet() {
    if [ -n "${QUIET_LOCK:-}" ]; then
        exec 9>"$QUIET_LOCK"
        flock 9
        "$@"
        exec 9>&-
    else
        "$@"
    fi
}
quiet moving
quiet opening
resting
