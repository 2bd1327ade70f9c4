#!/usr/bin/env bash
# Recipes without RUN, built by stratafs and by buildah: the same tree comes out, times aside, and the same configuration.
# Where buildah is missing it installs Debian's package if it may, and says why it does nothing otherwise.
#
#   tests/recipes/buildah.sh
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() {
    printf 'skipped: %s\n' "$*"
    exit 0
}

have() { command -v "$1" >/dev/null; }
if ! have buildah || ! have setfattr; then
    [ "$(id -u)" = 0 ] && have apt-get || skip "buildah and attr are not installed, and cannot be installed here"
    { apt-get update && apt-get install -y --no-install-recommends buildah attr; } >/dev/null 2>&1 ||
        skip "Debian's packages of buildah and attr cannot be had"
fi
[ "$(id -u)" = 0 ] || skip "buildah keeps owners only for root"

# STRATAFS names a program that is built already.
binary=${STRATAFS:-$PWD/target/tests/stratafs}
[ -n "${STRATAFS:-}" ] || cargo build --profile tests --locked --quiet --bin stratafs
# buildah makes a name of the path, in which capitals may not be.
work=${TMPDIR:-/tmp}/stratafs-recipes-$$
mkdir -m 700 "$work"
export STRATAFS_STORE=$work/store
builder() { STORAGE_DRIVER=vfs timeout 120 buildah --root "$work/buildah" --runroot "$work/buildah-run" "$@"; }
trap 'builder rm --all >/dev/null 2>&1 || true; rm -rf "$work"' EXIT

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# What a tree holds: names, kinds, modes, owners, link targets, contents, hard links, attributes of users.
tree() {
    (
        cd "$1"
        find . -mindepth 1 -printf '%P %y %m %U:%G %l\n' | LC_ALL=C sort
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum
        find . -type f -links +1 -printf '%i %P\n' | LC_ALL=C sort -k2 | awk '{ if (!($1 in n)) n[$1] = ++c; print n[$1], $2 }'
        getfattr -R -h -d -m '^user\.' . 2>/dev/null || true
    )
}

# The context: files, directories, links of both kinds, odd names and modes, archives.
context() {
    mkdir -p "$1/dir/sub/deep" "$1/empty" "$1/src/lib" "$1/logs"
    printf 'a\n' >"$1/a.txt"
    printf 'b\n' >"$1/b.txt"
    printf 'c\n' >"$1/c.md"
    printf 'one\n' >"$1/dir/one"
    printf 'two\n' >"$1/dir/sub/two"
    printf 'three\n' >"$1/dir/sub/deep/three"
    printf 'blank\n' >"$1/with blank"
    printf 'x\n' >"$1/[odd]"
    printf 'log\n' >"$1/logs/a.log"
    printf 'keep\n' >"$1/logs/keep.log"
    printf 'lib\n' >"$1/src/lib/l.c"
    printf 'main\n' >"$1/src/main.c"
    ln "$1/dir/one" "$1/dir/uno"
    ln -s one "$1/dir/link"
    ln -s sub "$1/dir/way"
    ln -s ../a.txt "$1/dir/up"
    chmod 600 "$1/a.txt"
    chmod 755 "$1/b.txt"
    # A directory that is named itself becomes 755, one below it keeps its mode.
    chmod 770 "$1/src/lib"
    chmod 700 "$1/empty"
    chown 12:34 "$1/dir/one"
    setfattr -n user.kind -v text "$1/b.txt" 2>/dev/null || true
    (cd "$1" && tar -cf pack.tar dir/sub && tar -czf pack.tgz a.txt dir/sub/two && gzip -kc c.md >c.md.gz)
    printf '*.log\n!logs/keep.log\n**/deep\nDockerfile*\n' >"$1/.dockerignore"
}

passed=0
# case_of NAME: the recipe on stdin, built both ways.
case_of() {
    local name=$1 dir=$work/$1
    mkdir "$dir"
    context "$dir/ctx"
    cat >"$dir/ctx/Dockerfile"
    "$binary" image build -q "$dir/ctx" --tag "$name" -o "type=tar,dest=$dir/ours.tar" >/dev/null || die "$name: stratafs does not build it"
    mkdir "$dir/ours"
    tar -xpf "$dir/ours.tar" -C "$dir/ours" --same-owner --xattrs --xattrs-include='user.*'
    builder bud --quiet --layers=false --isolation chroot -t "$name" "$dir/ctx" >/dev/null 2>"$dir/err" ||
        die "$name: buildah does not build it: $(tail -n 1 "$dir/err")"
    local container mounted
    container=$(builder from --quiet --pull-never "localhost/$name")
    mounted=$(builder mount "$container")
    tree "$mounted" >"$dir/want"
    tree "$dir/ours" >"$dir/got"
    diff -u "$dir/want" "$dir/got" || die "$name: buildah has another tree (-) than stratafs (+)"
    builder inspect --type image "localhost/$name" | config >"$dir/want.json"
    "$binary" image inspect "$name" --json | ours >"$dir/got.json"
    diff -u "$dir/want.json" "$dir/got.json" || die "$name: buildah has another configuration (-) than stratafs (+)"
    passed=$((passed + 1))
}

# The configuration in one spelling: what is empty is left out, and what buildah adds of itself, a label and PATH.
config() {
    python3 -c '
import json, sys
c = json.load(sys.stdin)["OCIv1"]["config"]
(c.get("Labels") or {}).pop("io.buildah.version", None)
c["Env"] = [v for v in c.get("Env") or [] if not v.startswith("PATH=")]
c["ExposedPorts"] = sorted(c.get("ExposedPorts") or {})
c["Volumes"] = sorted(c.get("Volumes") or {})
print(json.dumps({k: v for k, v in sorted(c.items()) if v}, indent=1, sort_keys=True))'
}
ours() {
    python3 -c '
import json, sys
c = json.load(sys.stdin)["config"]
names = {"User": "user", "Env": "env", "Entrypoint": "entrypoint", "Cmd": "cmd", "WorkingDir": "working_dir", "Labels": "labels", "StopSignal": "stop_signal"}
out = {k: c.get(v) for k, v in names.items()}
out["ExposedPorts"] = sorted(c.get("exposed_ports") or [])
out["Volumes"] = sorted(c.get("volumes") or [])
print(json.dumps({k: v for k, v in sorted(out.items()) if v}, indent=1, sort_keys=True))'
}

case_of whole <<'R'
FROM scratch
COPY . /
R
case_of files <<'R'
FROM scratch
COPY a.txt /a
COPY a.txt b.txt /into/
COPY a.txt /deep/er/than/that
COPY *.txt /wild/
COPY ?.md /wild/one.md
COPY [ab].txt /class/
COPY ["with blank", "/blank name"]
R
case_of directories <<'R'
FROM scratch
COPY dir /d
COPY dir/ /e/
COPY dir /e/f
COPY dir/sub src /both/
COPY empty /empty
COPY dir/way /through
R
case_of over <<'R'
FROM scratch
COPY a.txt /x
COPY b.txt /x
COPY dir /d
COPY src /d
COPY c.md /d/one
R
case_of owners <<'R'
FROM scratch
COPY --chown=1:2 a.txt /a
COPY --chown=3 dir /d
COPY --chmod=0711 b.txt /b
COPY --chown=7:8 --chmod=600 src/main.c /new/dir/m
R
case_of archives <<'R'
FROM scratch
ADD pack.tar /p
ADD pack.tgz /q/
ADD c.md.gz /plain/
ADD a.txt /a
COPY pack.tar /copied/
R
case_of stages <<'R'
ARG BASE=scratch
FROM $BASE AS one
ARG V=1
WORKDIR /w
COPY dir/sub two/
WORKDIR rel
COPY a.txt .
FROM scratch AS unused
COPY c.md /never
FROM scratch
COPY --from=one /w /w
COPY --from=0 /w/two/two /t
R
case_of configuration <<'R'
FROM scratch
ENV A=1 B="two words"
ENV C ${A:-x}-${D:-y}
LABEL k=v "long key"="a value"
WORKDIR /srv
WORKDIR app
USER 5:6
EXPOSE 80 53/udp
VOLUME /data
STOPSIGNAL SIGTERM
COPY a.txt ${A}.txt
ENTRYPOINT ["/x.wasm", "-a"]
CMD ["b"]
R
echo "as buildah builds it: $passed recipes"
