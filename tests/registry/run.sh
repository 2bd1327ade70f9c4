#!/usr/bin/env bash
# Images in and out of a real registry, Debian's docker-registry: plain, with TLS and htpasswd, with a token server, over a bad line, and
# passed between stratafs, skopeo and umoci. Where the tools are missing it installs them from Debian's packages if it may, and says
# why it does nothing otherwise.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD/tests/registry

skip() {
    printf 'skipped: %s\n' "$*"
    exit 0
}

have() { command -v "$1" >/dev/null; }
tools="docker-registry skopeo umoci htpasswd"
missing=
for tool in $tools; do have "$tool" || missing=yes; done
if [ -n "$missing" ]; then
    [ "$(id -u)" = 0 ] && have apt-get || skip "docker-registry, skopeo, umoci and htpasswd are not installed, and cannot be installed here"
    { apt-get update && apt-get install -y --no-install-recommends docker-registry skopeo umoci apache2-utils; } >/dev/null 2>&1 ||
        skip "Debian's packages of docker-registry, skopeo, umoci and apache2-utils cannot be had"
fi
[ "$(id -u)" = 0 ] || skip "umoci unpacks owners only for root"
have openssl && have python3 || skip "openssl and python3 are needed"

# STRATAFS names a program that is built already.
binary=${STRATAFS:-target/tests/stratafs}
[ -n "${STRATAFS:-}" ] || cargo build --profile tests --locked --quiet --bin stratafs
binary=$(realpath "$binary")
work=$(mktemp -d)
pids=()
stop() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    umount "$work/mounted" 2>/dev/null || true
    rm -rf "$work"
}
trap stop EXIT
cd "$work"
mkdir -p run/containers docker
export STRATAFS_STORE=$work/store DOCKER_CONFIG=$work/docker XDG_RUNTIME_DIR=$work/run HOME=$work
unset REGISTRY_AUTH_FILE HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy || true
stratafs() { "$binary" "$@"; }

say() { printf '== %s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# registry NAME PORT MORE-CONFIG: starts one, and waits until it answers.
registry() {
    printf 'version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\n%s\n' \
        "$work/data-$1" "$3" >"$1.yml"
    docker-registry serve "$1.yml" >"$1.log" 2>&1 &
    pids+=($!)
    for _ in $(seq 100); do
        python3 -c "import socket; socket.create_connection(('127.0.0.1', $2))" 2>/dev/null && return
        sleep 0.1
    done
    die "docker-registry does not start: $(cat "$1.log")"
}

field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

# What a tree holds: names, kinds, modes, link targets and contents.
tree() {
    (cd "$1" && find . -printf '%P %y %m %l\n' | LC_ALL=C sort && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
}

say "an image of four layers"
for number in 1 2 3 4; do
    mkdir -p "src$number/dir$number"
    head -c 1500000 /dev/urandom >"src$number/dir$number/noise"
    seq 100000 >"src$number/dir$number/text"
    ln -s "dir$number/text" "src$number/link$number"
done
stratafs image import src1 --layer src2 --layer src3 --tag app:1 >/dev/null
stratafs image import src1 --layer src2 --layer src3 --layer src4 --tag app:2 >/dev/null

plain=$(free)
registry plain "$plain" "http: {addr: \"127.0.0.1:$plain\"}"
reg=127.0.0.1:$plain

say "push, pull, and nothing twice"
pushed=$(stratafs image push app:1 "$reg/team/app:1" --json)
[ "$(field known_blobs <<<"$pushed")" = 0 ] || die "an empty registry had something: $pushed"
again=$(stratafs image push app:1 "$reg/team/app:1" --json)
[ "$(field sent_blobs <<<"$again")" = 0 ] || die "sent again: $again"
second=$(stratafs image push app:2 "$reg/team/app:2" --json)
# One layer, and three configurations.
[ "$(field sent_blobs <<<"$second")" = 4 ] || die "the second image sent $second"
stratafs image pull "$reg/team/app:2" --store other >/dev/null
stratafs store verify --store other >/dev/null
stratafs image export app:2 want --format dir
stratafs image export "$reg/team/app:2" got --format dir --store other
diff <(tree want) <(tree got) >/dev/null || die "the tree is another one"
mounted=$(stratafs image push "$reg/team/app:2" "$reg/elsewhere/app:2" --store other --json)
[ "$(field mounted_blobs <<<"$mounted")" = 4 ] || die "nothing was mounted: $mounted"
[ "$(stratafs image ls-remote "$reg/team/app" | sort | tr "\n" " ")" = "1 2 " ] || die "other tags"

say "skopeo and umoci read what was pushed"
skopeo copy -q --src-tls-verify=false "docker://$reg/team/app:2" oci:skopeo:2
umoci unpack --image skopeo:2 bundle >/dev/null
diff <(tree want) <(tree bundle/rootfs) >/dev/null || die "umoci unpacks another tree"
skopeo copy -q --all --src-tls-verify=false "docker://$reg/team/app:2" oci:all:2
for platform in "wasip1 wasm" "linux arm64"; do
    read -r os arch <<<"$platform"
    skopeo --override-os "$os" --override-arch "$arch" inspect --tls-verify=false "docker://$reg/team/app:2" >/dev/null ||
        die "no image for $platform"
done

say "what skopeo pushed comes back under its digests"
skopeo copy -q --dest-tls-verify=false oci:skopeo:2 "docker://$reg/skopeo/app:2"
want=$(skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://$reg/skopeo/app:2")
pulled=$(stratafs image pull "$reg/skopeo/app:2" --store third --json)
[ "$(field manifest <<<"$pulled")" = "$want" ] || die "another digest: $pulled, and not $want"
stratafs image push "$reg/skopeo/app:2" "$reg/back/app:2" --store third >/dev/null
[ "$(skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://$reg/back/app:2")" = "$want" ] || die "the digest did not survive"
stratafs image pull "$reg/skopeo/app@$want" --store third >/dev/null
skopeo copy -q --format v2s2 --dest-tls-verify=false oci:skopeo:2 "docker://$reg/docker/app:2"
stratafs image pull "$reg/docker/app:2" --store third >/dev/null
stratafs image copy "$reg/docker/app:2" "$reg/docker/copy:2" >/dev/null
for pair in "docker/app:2 docker/copy:2"; do
    read -r one two <<<"$pair"
    cmp <(skopeo inspect --raw --tls-verify=false "docker://$reg/$one") <(skopeo inspect --raw --tls-verify=false "docker://$reg/$two") || die "the copy is another"
done
stratafs image copy "$reg/team/app:2" ./layout:2 >/dev/null
skopeo inspect --raw oci:layout:2 >/dev/null || die "skopeo does not read the layout"

say "an image in packs, passed on by skopeo"
mkdir plain
# preview1: writes `hello` and a line's end.
python3 - >program.wasm <<'EOF'
import sys
name = lambda text: bytes([len(text)]) + text.encode()
section = lambda number, body: bytes([number, len(body)]) + body
words = b"\x08\0\0\0\6\0\0\0hello\n"
sys.stdout.buffer.write(
    b"\0asm\1\0\0\0"
    + section(1, b"\2\x60\4\x7f\x7f\x7f\x7f\1\x7f\x60\0\0")
    + section(2, b"\1" + name("wasi_snapshot_preview1") + name("fd_write") + b"\0\0")
    + section(3, b"\1\1")
    + section(5, b"\1\0\1")
    + section(7, b"\2" + name("memory") + b"\2\0" + name("_start") + b"\0\1")
    + section(10, b"\1\x0d\0\x41\1\x41\0\x41\1\x41\x14\x10\0\x1a\x0b")
    + section(11, b"\1\0\x41\0\x0b" + bytes([len(words)]) + words)
)
EOF
cp program.wasm plain/app.wasm
for number in 1 2 3 4; do
    # Small changes, each a pack: from the third version on their tables come together.
    seq "$number" $((number + 3000)) >"plain/list$number"
    stratafs image import src1 --layer plain --tag "packs:$number" >/dev/null
    stratafs image push "packs:$number" "$reg/packs/app:$number" --packs --json >packed.json
done
[ "$(field known_packs <packed.json)" = 3 ] || die "the last version sent $(cat packed.json)"
second=$(free)
registry second "$second" "http: {addr: \"127.0.0.1:$second\"}"
other=127.0.0.1:$second
raw() { skopeo inspect --raw --tls-verify=false "docker://$1" | sha256sum; }
want=$(raw "$reg/packs/app:4")
skopeo copy -q --src-tls-verify=false --dest-tls-verify=false "docker://$reg/packs/app:4" "docker://$other/packs/app:4"
skopeo copy -q --src-tls-verify=false "docker://$reg/packs/app:4" oci:packs:4
skopeo copy -q --dest-tls-verify=false oci:packs:4 "docker://$other/packs/layout:4"
stratafs image export packs:4 packs-want --format dir
for name in packs/app:4 packs/layout:4; do
    [ "$(raw "$other/$name")" = "$want" ] || die "$name is another image"
    store=${name//[:\/]/-}
    pulled=$(stratafs image pull "$other/$name" --store "$store" --json)
    [ "$(field manifest <<<"$pulled")" = "sha256:${want%% *}" ] || die "another digest: $pulled, and not $want"
    stratafs image export "$other/$name" "$store-got" --format dir --store "$store"
    diff <(tree packs-want) <(tree "$store-got") >/dev/null || die "the tree of $name is another one"
    stratafs store verify --store "$store" >/dev/null
    for lazy in only off; do
        said=$(stratafs run --store "$store-$lazy" --image "$other/$name" --lazy "$lazy" --entrypoint /app.wasm)
        [ "$said" = hello ] || die "the guest of $name says $said"
    done
done

if have containerd && have ctr; then
    say "containerd pulls and mounts what was pushed"
    printf 'version = 2\nroot = "%s"\nstate = "%s"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "%s"\n' \
        "$work/ctr/root" "$work/ctr/state" "$work/ctr/sock" >containerd.toml
    mkdir -p ctr mounted
    containerd -c containerd.toml >containerd.log 2>&1 &
    pids+=($!)
    for _ in $(seq 100); do [ -S ctr/sock ] && break || sleep 0.1; done
    ctr -a ctr/sock images pull --plain-http --snapshotter native "$reg/team/app:2" >/dev/null || die "containerd does not pull: $(tail -3 containerd.log)"
    ctr -a ctr/sock images mount --snapshotter native "$reg/team/app:2" mounted >/dev/null
    diff <(tree want) <(tree mounted) >/dev/null || die "containerd mounts another tree"
    umount mounted
else
    printf 'skipped: containerd and ctr are not installed\n'
fi

say "a program of WebAssembly, as an artifact"
mkdir program
printf '\0asm\1\0\0\0' >program/app.wasm
stratafs image import program --tag program:1 >/dev/null
stratafs image push program:1 "$reg/program:1" --artifact >/dev/null
stratafs image pull "$reg/program:1" --store other >/dev/null

say "TLS with an authority of its own, and htpasswd"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=tests -keyout ca.key -out ca.pem 2>/dev/null
openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout srv.key -out srv.csr 2>/dev/null
openssl x509 -req -in srv.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out srv.pem \
    -extfile <(printf 'subjectAltName=DNS:localhost,IP:127.0.0.1') 2>/dev/null
htpasswd -Bbn me secret >htpasswd
tls=$(free)
registry tls "$tls" "http: {addr: \"127.0.0.1:$tls\", tls: {certificate: $work/srv.pem, key: $work/srv.key}}
auth: {htpasswd: {realm: tests, path: $work/htpasswd}}"
said=$(stratafs image push app:1 "localhost:$tls/app:1" 2>&1) && die "an unknown authority was trusted"
grep -q 'UnknownIssuer' <<<"$said" || die "it says: $said"
said=$(stratafs image push app:1 "localhost:$tls/app:1" --ca ca.pem 2>&1) && die "nobody was asked for a password"
grep -q '401 Unauthorized: UNAUTHORIZED: authentication required' <<<"$said" || die "it says: $said"
said=$(stratafs image login "localhost:$tls" -u me --password-stdin --ca ca.pem <<<wrong 2>&1) && die "any password will do"
stratafs image login "localhost:$tls" -u me --password-stdin --ca ca.pem <<<secret >/dev/null
stratafs image push app:1 "localhost:$tls/app:1" --ca ca.pem >/dev/null
SSL_CERT_FILE=$work/ca.pem stratafs image pull "localhost:$tls/app:1" --store fourth >/dev/null
skopeo inspect --authfile docker/config.json --tls-verify=false "docker://localhost:$tls/app:1" >/dev/null || die "skopeo does not read what login kept"
stratafs image logout "localhost:$tls" >/dev/null
skopeo login --tls-verify=false --authfile run/containers/auth.json -u me -p secret "localhost:$tls" >/dev/null
stratafs image pull "localhost:$tls/app:1" --ca ca.pem --store fifth >/dev/null

say "a token server"
tokens=$(free) bearer=$(free)
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=tokens -keyout token.key -out token.pem 2>/dev/null
mkfifo token.in
python3 "$here/token.py" "$tokens" token.key token.pem me:secret <token.in >token.out &
pids+=($!)
exec 8>token.in
registry bearer "$bearer" "http: {addr: \"127.0.0.1:$bearer\"}
auth: {token: {realm: \"http://127.0.0.1:$tokens/token\", service: tests, issuer: tests, rootcertbundle: $work/token.pem}}"
said=$(stratafs image push app:1 "127.0.0.1:$bearer/team/app:1" 2>&1) && die "nobody was asked for a token"
stratafs image login "127.0.0.1:$bearer" -u me --password-stdin <<<secret >/dev/null
stratafs image push app:1 "127.0.0.1:$bearer/team/app:1" >/dev/null
stratafs image copy "127.0.0.1:$bearer/team/app:1" "127.0.0.1:$bearer/other/app:1" --json >mounted.json
[ "$(field mounted_blobs <mounted.json)" -gt 0 ] || die "a token for two repositories was not had: $(cat mounted.json)"
stratafs image pull "127.0.0.1:$bearer/other/app:1" --store sixth >/dev/null

for kind in cut flip slow; do
    say "a bad line: $kind"
    bad=$(free)
    mkfifo "$kind.in"
    python3 "$here/proxy.py" "$bad" "$plain" "$kind" <"$kind.in" >"$kind.out" &
    proxy=$!
    exec 9>"$kind.in"
    until [ -s "$kind.out" ]; do sleep 0.05; done
    for round in 1 2 3; do
        stratafs image pull "127.0.0.1:$bad/team/app:2" --store "bad-$kind-$round" >/dev/null
        stratafs store verify --store "bad-$kind-$round" >/dev/null
        stratafs image push app:2 "127.0.0.1:$bad/$kind/app:$round" >/dev/null
    done
    exec 9>&-
    wait "$proxy"
    [ "$kind" = slow ] || [ "$(tail -1 "$kind.out")" != 0 ] || die "the line was not bad"
    stratafs image pull "$reg/$kind/app:3" --store "good-$kind" >/dev/null
done

# killed SECONDS COMMAND...: runs one, and kills it after so long.
killed() { (timeout -s KILL "$1" "$binary" "${@:2}" || true) >/dev/null 2>&1; }

say "killed, and gone on with"
for after in 0.02 0.05 0.1 0.2 0.4 0.8; do
    killed "$after" image push app:2 "$reg/killed/app:$after"
    stratafs image push app:2 "$reg/killed/app:$after" >/dev/null
    killed "$after" image pull "$reg/killed/app:$after" --store "killed-$after"
    stratafs image pull "$reg/killed/app:$after" --store "killed-$after" >/dev/null
    stratafs store verify --store "killed-$after" >/dev/null
done

say "two pulls at once"
stratafs image pull "$reg/team/app:2" --store both >/dev/null &
one=$!
stratafs image pull "$reg/team/app:2" --store both --tag second:1 >/dev/null
wait "$one"
stratafs store verify --store both >/dev/null
say "passed"
