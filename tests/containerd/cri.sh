# Part of run.sh: containerd with its CRI, on a state of its own, called as a kubelet calls it. `grpcio` comes from PyPI into the work
# directory; without it this part says why it is left out.
# configure_cri IMAGE [SNAPSHOTTER]: writes containerd's configuration with its CRI, in the layout of its version. The pause image is any: nothing
# runs in a pod itself. The snapshotter is `node` for all runtimes, `runtime` for this one alone.
configure_cri() {
    local for_all= for_one= proxy=
    [ "${2:-}" != node ] || for_all='snapshotter = "stratafs"'
    [ "${2:-}" != runtime ] || for_one='snapshotter = "stratafs"'
    [ -z "${2:-}" ] || proxy="$(printf '[proxy_plugins.stratafs]\n  type = "snapshot"\n  address = "%s"' "$work/snapshotter.sock")"
    if [ "$major" -lt 2 ]; then
        cat >containerd.toml <<EOF
version = 2
root = "$work/root"
state = "$work/state"
[grpc]
  address = "$work/sock"
$proxy
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$1"
  disable_apparmor = true
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "stratafs"
  disable_snapshot_annotations = false
  $for_all
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.stratafs]
  runtime_type = "io.containerd.stratafs.v1"
  $for_one
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "$cni"
  conf_dir = "$work/net"
EOF
    else
        # What ctr of 2.x asks to pull is unpacked for the snapshotters that the transfer service names.
        cat >containerd.toml <<EOF
version = 3
root = "$work/root"
state = "$work/state"
[grpc]
  address = "$work/sock"
$proxy
[plugins."io.containerd.cri.v1.images"]
  disable_snapshot_annotations = false
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "$1"
[plugins."io.containerd.cri.v1.images".runtime_platforms.stratafs]
  $for_one
[plugins."io.containerd.cri.v1.runtime"]
  disable_apparmor = true
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".containerd]
  default_runtime_name = "stratafs"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.stratafs]
  runtime_type = "io.containerd.stratafs.v1"
  $for_one
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["$cni"]
  conf_dir = "$work/net"
EOF
        [ -z "${2:-}" ] || printf '[[plugins."io.containerd.transfer.v1.local".unpack_config]]\n  platform = "linux"\n  snapshotter = "%s"\n' overlayfs stratafs >>containerd.toml
    fi
}
if ! python3 -c 'import grpc' 2>/dev/null; then
    python3 -m venv py >/dev/null 2>&1 && py/bin/pip install --quiet 'grpcio>=1.60,<2' >/dev/null 2>&1 || true
fi
python=python3
[ ! -x py/bin/python ] || python=$work/py/bin/python
if ! "$python" -c 'import grpc' 2>/dev/null; then
    printf 'skipped: the calls of kubelet, since grpcio cannot be had from PyPI\n'
else
    stop_containerd -TERM
    # Pods with addresses need the plugins that Debian's containerd brings along, and the right to make network namespaces.
    cni=/usr/lib/cni networked=
    mkdir -p net
    if [ -x $cni/ptp ] && [ -x $cni/host-local ] && have ip && ip netns add "stratafs-try-$$" 2>/dev/null; then
        ip netns del "stratafs-try-$$"
        networked=--networked
        printf '{"cniVersion": "0.4.0", "name": "tests", "plugins": [{"type": "ptp", "ipam": {"type": "host-local", "dataDir": "%s",
  "ranges": [[{"subnet": "10.213.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}\n' "$work/net-data" >net/10-tests.conflist
    else
        printf 'skipped: pods with addresses, since the plugins ptp and host-local or the right to make network namespaces is missing\n'
    fi
    configure_cri docker.io/tests/app:1
    metrics=127.0.0.1:$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    printf 'metrics-address = "%s"\nlog-format = "json"\nlog-level = "info"\n' "$metrics" >>shim.toml
    low_ports=
    [ "$major" -lt 2 ] || low_ports=--low-ports
    start_containerd
    ctr -n k8s.io images import --base-name docker.io/tests/app app.tar >/dev/null || die "containerd does not import the image for CRI"
    "$python" "$here/cri.py" "$work/sock" docker.io/tests/app:1 "$work" $networked $sockets $low_ports --metrics "$metrics" || die "as kubelet calls: it fails"
    [ "$(ctr -n k8s.io container ls -q | wc -l)" = 0 ] || die "containers are left: $(ctr -n k8s.io container ls)"
    grep -q '"level":"info","container":"[0-9a-f]*","msg":"ended with 7"' containerd.log || die "the log has no line of an end"
    mounted=$(mount | grep "$work" | grep -v "/sandboxes/.*/shm" || true)
    [ -z "$mounted" ] || die "something is mounted: $mounted"
fi
