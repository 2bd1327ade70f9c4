#!/usr/bin/env bash
# Images of other tools in and out: skopeo, umoci and buildah make them, stratafs takes them in and writes them out, and the same tools
# read what it wrote, with the same tree. Where the tools are missing it installs them from Debian's packages if it may, and
# says why it does nothing otherwise.
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() {
    printf 'skipped: %s\n' "$*"
    exit 0
}

have() { command -v "$1" >/dev/null; }
if ! have skopeo || ! have umoci || ! have buildah || ! have setfattr; then
    [ "$(id -u)" = 0 ] && have apt-get || skip "skopeo, umoci, buildah and attr are not installed, and cannot be installed here"
    { apt-get update && apt-get install -y --no-install-recommends skopeo umoci buildah attr; } >/dev/null 2>&1 ||
        skip "Debian's packages of skopeo, umoci, buildah and attr cannot be had"
fi
[ "$(id -u)" = 0 ] || skip "umoci unpacks owners only for root"

# STRATAFS names a program that is built already.
binary=${STRATAFS:-target/tests/stratafs}
[ -n "${STRATAFS:-}" ] || cargo build --profile tests --locked --quiet --bin stratafs --example host_dir_run
# buildah makes a name of the path, in which capitals may not be.
work=${TMPDIR:-/tmp}/stratafs-interop-$$
mkdir -m 700 "$work"
trap 'rm -rf "$work"' EXIT
export STRATAFS_STORE=$work/store
stratafs() { "$binary" "$@"; }

say() { printf '== %s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# What a tool unpacked: names, kinds, modes, owners, times to the nanosecond, link targets, contents, hard links, xattrs. The links
# of a directory are left out: a kernel's overlay counts one for those that it merged.
tree() {
    (
        cd "$1"
        find . -mindepth 1 \( -type d -printf '%P %y %m %U:%G %T@\n' -o -printf '%P %y %m %U:%G %T@ %l %n\n' \) | LC_ALL=C sort
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum
        find . -type f -links +1 -printf '%i %P\n' | LC_ALL=C sort -k2 | awk '{ if (!($1 in n)) n[$1] = ++c; print n[$1], $2 }'
        getfattr -R -h -d -m - . 2>/dev/null || true
    )
}

say "umoci makes an image of three layers"
umoci init --layout "$work/layout"
umoci new --image "$work/layout:one"
umoci unpack --image "$work/layout:one" "$work/bundle" >/dev/null
root=$work/bundle/rootfs
mkdir -p "$root/etc/opt" "$root/usr/bin" "$root/var/empty" "$root/gone/deep"
printf 'hello\n' >"$root/etc/motd"
printf 'tool\n' >"$root/usr/bin/tool"
chmod 4755 "$root/usr/bin/tool"
chown 12:34 "$root/usr/bin/tool"
ln "$root/usr/bin/tool" "$root/usr/bin/tool2"
ln -s /usr/bin "$root/bin"
ln -s ../nowhere "$root/dangling"
chmod 1777 "$root/var/empty"
printf 'x' >"$root/gone/deep/file"
printf 'long' >"$root/etc/$(printf 'n%.0s' $(seq 1 200))"
truncate -s 3M "$root/var/sparse"
printf 'middle' | dd of="$root/var/sparse" bs=1 seek=1000000 conv=notrunc status=none
touch -d '2001-02-03 04:05:06.789012345 UTC' "$root/etc/motd"
touch -h -d '1999-12-31 23:59:59 UTC' "$root/dangling"
setfattr -n user.note -v 'a value' "$root/etc/motd"
umoci repack --image "$work/layout:one" "$work/bundle" >/dev/null
rm -rf "$work/bundle"
umoci unpack --image "$work/layout:one" "$work/bundle" >/dev/null
rm -rf "$root/gone/deep" "$root/etc/opt"
printf 'changed\n' >"$root/etc/motd"
mkdir "$root/new"
umoci repack --image "$work/layout:two" "$work/bundle" >/dev/null
rm -rf "$work/bundle"
umoci unpack --image "$work/layout:two" "$work/bundle" >/dev/null
rm -rf "$root/gone"
mkdir "$root/gone"
printf 'again' >"$root/gone/fresh"
umoci repack --image "$work/layout:three" "$work/bundle" >/dev/null
rm -rf "$work/bundle"
umoci config --image "$work/layout:three" --config.entrypoint /usr/bin/tool --config.env A=1 --config.workingdir /var \
    --config.label k=v
umoci unpack --image "$work/layout:three" "$work/want" >/dev/null
tree "$work/want/rootfs" >"$work/want.txt"

same_tree() { # LAYOUT:TAG, name
    rm -rf "$work/got"
    umoci unpack --image "$1" "$work/got" >/dev/null
    tree "$work/got/rootfs" >"$work/got.txt"
    diff -u "$work/want.txt" "$work/got.txt" || die "$2: another tree"
    rm -rf "$work/got"
}

layers_of() { skopeo inspect --raw "$1" | python3 -c 'import json, sys; print([l["digest"] for l in json.load(sys.stdin)["layers"]])'; }

say "in from the layout, out as a layout and as an archive"
stratafs image import "$work/layout" --name three --tag app:three >/dev/null
stratafs image export app:three "$work/out"
same_tree "$work/out:three" "layout"
[ "$(layers_of "oci:$work/layout:three")" = "$(layers_of "oci:$work/out:three")" ] || die "layers have other digests"
[ "$(skopeo inspect --format '{{.Digest}}' "oci:$work/layout:three")" = "$(skopeo inspect --format '{{.Digest}}' "oci:$work/out:three")" ] ||
    die "the image has another digest"
stratafs image export app:three "$work/out.tar" --format oci-archive
skopeo copy --quiet "oci-archive:$work/out.tar:three" "oci:$work/from-archive:three"
same_tree "$work/from-archive:three" "archive"

say "in from what skopeo writes: an archive, zstd layers, docker save"
skopeo copy --quiet "oci:$work/layout:three" "oci-archive:$work/skopeo.tar:three"
skopeo copy --quiet --dest-compress-format zstd --dest-compress "oci:$work/layout:three" "oci:$work/zstd:three"
skopeo copy --quiet "oci:$work/layout:three" "docker-archive:$work/docker.tar:app:three"
for source in skopeo.tar zstd docker.tar; do
    tag=from-${source%%.*}
    stratafs image import "$work/$source" --tag "$tag" >/dev/null
    [ -z "$(stratafs image diff app:three "$tag")" ] || die "$source: another tree than the layout's"
done
gzip -k "$work/skopeo.tar"
stratafs image import "$work/skopeo.tar.gz" --tag from-gz >/dev/null
[ -z "$(stratafs image diff app:three from-gz)" ] || die "a compressed archive: another tree"
stratafs image export from-docker "$work/out-docker" --compress gzip
same_tree "$work/out-docker:latest" "docker save"

say "buildah makes an image of two layers with a whiteout, and starts from what we write"
builder() { STORAGE_DRIVER=vfs buildah --root "$work/buildah" --runroot "$work/buildah-run" "$@"; }
container=$(builder from scratch)
mounted=$(builder mount "$container")
mkdir -p "$mounted/etc/sub" "$mounted/gone"
printf 'hi\n' >"$mounted/etc/motd"
chown 5:6 "$mounted/etc/motd"
ln "$mounted/etc/motd" "$mounted/etc/sub/motd"
touch -d '2011-12-13 14:15:16 UTC' "$mounted/etc/motd"
builder umount "$container" >/dev/null
builder commit --quiet "$container" "oci:$work/built:one" >/dev/null
container=$(builder from --quiet "oci:$work/built:one")
mounted=$(builder mount "$container")
rmdir "$mounted/gone"
printf 'two\n' >"$mounted/etc/two"
builder commit --quiet "$container" "oci:$work/built:two" >/dev/null
builder umount "$container" >/dev/null
built_tree() { # LAYOUT:TAG
    container=$(builder from --quiet "oci:$work/$1")
    tree "$(builder mount "$container")"
    builder umount "$container" >/dev/null
}
# Read back, since buildah cuts times to seconds when it writes a layer.
built_tree built:two >"$work/want-built.txt"
grep -q 'etc/two' "$work/want-built.txt" && ! grep -q 'gone' "$work/want-built.txt" || die "buildah made another tree than was asked for"
stratafs image import "$work/built" --name two --tag built:two >/dev/null
stratafs image export built:two "$work/out-built"
[ "$(layers_of "oci:$work/built:two")" = "$(layers_of "oci:$work/out-built:two")" ] || die "buildah: layers have other digests"
[ "$(skopeo inspect --format '{{.Digest}}' "oci:$work/built:two")" = "$(skopeo inspect --format '{{.Digest}}' "oci:$work/out-built:two")" ] ||
    die "buildah: the image has another digest"
stratafs image squash built:two --tag built:flat >/dev/null
stratafs image export built:flat "$work/out-flat"
for image in out-built:two out-flat:flat; do
    built_tree "$image" >"$work/got.txt"
    diff -u "$work/want-built.txt" "$work/got.txt" || die "buildah, $image: another tree"
done
builder rm --all >/dev/null

say "layers made here: squashed, and compressed in each way"
stratafs image squash app:three --tag flat >/dev/null
for how in none gzip; do
    stratafs image export flat "$work/flat-$how" --compress "$how"
    same_tree "$work/flat-$how:latest" "squashed, $how"
done
stratafs image export flat "$work/flat-zstd" --compress zstd
skopeo copy --quiet --dest-compress-format gzip --dest-compress "oci:$work/flat-zstd:latest" "oci:$work/flat-again:latest"
same_tree "$work/flat-again:latest" "squashed, zstd"

say "the merged tree as tar, for GNU tar"
stratafs image export app:three "$work/tree.tar" --format tar
mkdir "$work/untarred"
tar --numeric-owner --xattrs --xattrs-include='*' -p -C "$work/untarred" -xf "$work/tree.tar"
tree "$work/untarred" >"$work/got.txt"
diff -u "$work/want.txt" "$work/got.txt" || die "GNU tar unpacks another tree"

say "all of it is as it should be"
stratafs store verify >/dev/null
