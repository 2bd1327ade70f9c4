#!/usr/bin/env bash
# Images in an object store: moto's S3, which checks signatures and conditions, and a folder. Pushes that are killed, two who push one
# tag, a collection, wrong keys, a full disk. Installs moto from the Python registry into a directory of its own; where that cannot be
# had it says so, and tries the folder alone.
set -euo pipefail
cd "$(dirname "$0")/../.."

have() { command -v "$1" >/dev/null; }
have python3 || {
    echo "skipped: python3 is needed"
    exit 0
}

# STRATAFS names a program that is built already.
binary=${STRATAFS:-target/tests/stratafs}
[ -n "${STRATAFS:-}" ] || cargo build --profile tests --locked --quiet --bin stratafs
binary=$(realpath "$binary")
venv=$PWD/target/moto
work=$(mktemp -d)
pids=()
stop() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    umount "$work/small" 2>/dev/null || true
    rm -rf "$work"
}
trap stop EXIT

moto=
if { [ -x "$venv/bin/moto_server" ] || { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check 'moto[server]==5.2.5'; }; } >/dev/null 2>&1; then
    moto=yes
else
    echo "skipped: moto cannot be had from the Python registry; the folder alone is tried"
fi
cd "$work"
export STRATAFS_STORE=$work/store HOME=$work
unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy || true
stratafs() { "$binary" "$@"; }

say() { printf '== %s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

# refused TEXT COMMAND...: it fails with code 1, on one line that has TEXT in it.
refused() {
    local text=$1 code=0
    shift
    "$@" >out 2>err || code=$?
    [ "$code" = 1 ] || die "exit code $code, and not 1: $*"
    [ "$(wc -l <err)" = 1 ] && grep -q "^error: .*$text" err || die "$text was expected: $(cat err)"
}

say "two images"
for number in 1 2; do
    mkdir -p "src$number"
    head -c 20000000 /dev/urandom >"src$number/noise"
    seq 100000 >"src$number/text"
    stratafs image import "src$number" --tag "app:$number" >/dev/null
done

# try PLACE: pushes, pulls, runs and collects there.
try() {
    local place=$1 first second known _
    say "$place: push, pull, by digest"
    first=$(stratafs image push app:1 "$place/app:1" --json | field manifest)
    [ "$(stratafs image push app:1 "$place/app:again" --json | field sent_blobs)" = 0 ] || die "what was there was sent"
    stratafs image pull "$place/app:1" --store "$work/other" --json >pulled
    [ "$(field manifest <pulled)" = "$first" ] || die "another image was pulled"
    [ "$(stratafs image pull "$place/app:1" --store "$work/other" --json | field fetched_layers)" = 0 ] || die "it was fetched twice"
    stratafs image pull "$place/app@$first" --store "$work/other" >/dev/null
    stratafs image export "$place/app:1" back --format dir --store "$work/other" >/dev/null
    cmp back/noise src1/noise
    rm -rf back other
    refused "it is not there" stratafs image pull "$place/none:1"

    say "$place: pushes that are killed"
    for _ in 1 2 3 4 5 6; do
        stratafs image push app:2 "$place/app:1" >/dev/null 2>&1 &
        known=$!
        sleep "0.$((RANDOM % 6))$((RANDOM % 10))"
        kill -9 "$known" 2>/dev/null || true
        wait "$known" 2>/dev/null || true
        stratafs image pull "$place/app:1" --store "$work/other" --json >pulled
        field manifest <pulled >>seen
        rm -rf other
    done
    second=$(stratafs image push app:2 "$place/app:1" --json | field manifest)
    [ "$second" != "$first" ] || die "the tag was not moved"
    ! grep -vq "$first\|$second" seen || die "the tag led to something else: $(cat seen)"
    rm seen

    say "$place: two who push one tag"
    stratafs image push app:1 "$place/app:both" >one 2>&1 &
    known=$!
    stratafs image push app:2 "$place/app:both" >two 2>&1 || grep -q "meanwhile" two || die "$(cat two)"
    wait "$known" || grep -q "meanwhile" one || die "$(cat one)"
    stratafs image pull "$place/app:both" --store "$work/other" >/dev/null
    rm -rf other
}

# collect PLACE: with leases of the killed out of the way, what nobody names goes.
collect() {
    local place=$1
    say "$place: collection"
    refused "somebody pushes or collects" stratafs store gc --bucket "$place" --grace 0s
    "${@:2}"
    sleep 2
    [ "$(stratafs store gc --bucket "$place" --grace 1h --json | field removed_blobs)" = 0 ] || die "what is young was removed"
    stratafs store gc --bucket "$place" --grace 0s --dry-run --json >dry
    stratafs store gc --bucket "$place" --grace 0s --json >wet
    [ "$(field removed_blobs <dry)" = "$(field removed_blobs <wet)" ] || die "it removed another number than it said"
    stratafs image pull "$place/app:1" --store "$work/other" >/dev/null
    stratafs image pull "$place/app:again" --store "$work/other" >/dev/null
    rm -rf other
}

try "file://$work/place"
touch "$work/place/leases/push-0000000000000000"
collect "file://$work/place" find "$work/place/leases" -type f -delete

if [ "$(id -u)" = 0 ] && mkdir small && mount -t tmpfs -o size=8m tmpfs small 2>/dev/null; then
    say "a full disk"
    refused "No space left" stratafs image push app:1 "$work/small/app:1"
    [ -z "$(find small -path '*tags*' -type f)" ] || die "a tag leads to half an image"
    [ -z "$(find small -name '.stratafs-*')" ] || die "something half written stays"
    umount small
else
    echo "skipped: a full disk needs a mount"
fi
[ -n "$moto" ] || exit 0

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$venv/bin/moto_server" -H 127.0.0.1 -p "$port" >moto.log 2>&1 &
pids+=($!)
for _ in $(seq 100); do
    python3 -c "import socket; socket.create_connection(('127.0.0.1', $port))" 2>/dev/null && break
    sleep 0.2
done
export AWS_ENDPOINT=http://127.0.0.1:$port AWS_ACCESS_KEY_ID=key AWS_SECRET_ACCESS_KEY=secret AWS_REGION=us-east-1
python3 - "$AWS_ENDPOINT" <<'P'
import sys, urllib.request
urllib.request.urlopen(urllib.request.Request(sys.argv[1] + "/images", method="PUT"))
P
# S3 lists nothing by itself: what moto has is asked for by its own client, with or without a command on each key.
keys() { "$venv/bin/python3" - "$AWS_ENDPOINT" "$@" <<'P'; }
import sys, boto3
s3 = boto3.client("s3", endpoint_url=sys.argv[1])
for one in s3.list_objects_v2(Bucket="images", Prefix=sys.argv[2]).get("Contents", []):
    if len(sys.argv) > 3:
        s3.delete_object(Bucket="images", Key=one["Key"])
    else:
        print(one["Key"])
P
lease() {
    "$venv/bin/python3" -c 'import sys, boto3; boto3.client("s3", endpoint_url=sys.argv[1]).put_object(Bucket="images", Key="team/leases/push-0000000000000000", Body=b"{}")' "$AWS_ENDPOINT"
}
try "s3://images/team"
lease
collect "s3://images/team" keys team/leases delete
refused "it is not there\|NoSuchBucket" stratafs image pull s3://none/app:1

say "a web server in front of the bucket"
"$venv/bin/python3" - "$AWS_ENDPOINT" <<'P'
import sys, boto3
s3 = boto3.client("s3", endpoint_url=sys.argv[1])
for one in s3.list_objects_v2(Bucket="images").get("Contents", []):
    s3.put_object_acl(Bucket="images", Key=one["Key"], ACL="public-read")
P
stratafs image pull "$AWS_ENDPOINT/images/team/app:1" --store "$work/other" >/dev/null
refused "can only be read" stratafs image push app:1 "$AWS_ENDPOINT/images/team/app:1"
say "ok"
