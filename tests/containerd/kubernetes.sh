#!/usr/bin/env bash
# A Kubernetes of one node around a real kubelet, on the Debian with systemd and containerd 1.7 that node.sh boots: the DaemonSet, the
# RuntimeClass and the Deployment of docs/KUBERNETES.md, as they stand there. Kubernetes 1.20.2 is built from Debian's source package,
# the last that has all of it, which takes half an hour the first time. Says why it does nothing where the parts cannot be had.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/containerd/debian.sh

[ $# = 0 ] || { echo "tests/containerd/kubernetes.sh: unknown argument '$1': expected none" >&2; exit 2; }

# built_kubernetes: builds its programs, once.
kubernetes=$packages/kubernetes
programs='kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl'
built_kubernetes() {
    [ ! -e "$kubernetes/whole" ] || return 0
    local apt gopath=$kubernetes/gopath program
    mkdir -p "$kubernetes"/{lists/partial,cache/archives/partial,bin} "$gopath/src/k8s.io"
    apt=(-o Dir::Etc::SourceList="$kubernetes/sources.list" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$kubernetes/lists"
        -o Dir::Cache="$kubernetes/cache" -o APT::Sandbox::User=root)
    printf 'deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s bookworm main\n' \
        "$(apt-get indextargets --format '$(SITE) $(ORIGIN)' | awk '$2 == "Debian" { print $1; exit }')" >"$kubernetes/sources.list"
    apt-get "${apt[@]}" update --error-on=any >"$packages/said" 2>&1 || return 1
    (cd "$kubernetes" && apt-get "${apt[@]}" source --download-only kubernetes) >"$packages/said" 2>&1 || return 1
    tar -xzf "$kubernetes"/kubernetes_*.orig.tar.gz -C "$gopath/src/k8s.io"
    mv "$gopath"/src/k8s.io/kubernetes-* "$gopath/src/k8s.io/kubernetes"
    (
        cd "$gopath/src/k8s.io/kubernetes"
        export GOPATH=$gopath GO111MODULE=off CGO_ENABLED=0 GOCACHE=$packages/gocache GOFLAGS= GOTOOLCHAIN=local
        # The one generated file that the source comes without.
        tagged=$(grep -rl '+k8s:openapi-gen=' --include=*.go pkg staging/src | xargs -n 1 dirname | sort -u |
            sed -e 's,^staging/src/,k8s.io/kubernetes/vendor/,' -e 's,^pkg/,k8s.io/kubernetes/pkg/,' | paste -sd,)
        /usr/bin/go run ./vendor/k8s.io/kube-openapi/cmd/openapi-gen --logtostderr -i "$tagged" -p k8s.io/kubernetes/pkg/generated/openapi \
            -O zz_generated.openapi -h hack/boilerplate/boilerplate.generatego.txt -r "$kubernetes/violations" || exit 1
        version=k8s.io/kubernetes/vendor/k8s.io/component-base/version
        for program in $programs; do
            /usr/bin/go build -trimpath -o "$kubernetes/bin/$program" \
                -ldflags "-s -w -X $version.gitVersion=v1.20.2 -X $version.gitMajor=1 -X $version.gitMinor=20" "./cmd/$program" || exit 1
        done
    ) >"$packages/said" 2>&1 || return 1
    : >"$kubernetes/whole"
}
[ "$(id -u)" = 0 ] || skip "a node needs root"
command -v apt-get >/dev/null || skip "a node is made of Debian's packages"
for program in /usr/bin/go:golang-go /usr/bin/etcd:etcd-server /usr/bin/busybox:busybox-static /usr/bin/openssl:openssl; do
    [ -x "${program%%:*}" ] || { apt-get update && apt-get install -y --no-install-recommends "${program##*:}"; } >/dev/null 2>&1 || true
    [ -x "${program%%:*}" ] || skip "${program##*:} is missing, and cannot be installed"
done
built_kubernetes || skip "Kubernetes cannot be built: $(tail -n 1 "$packages/said")"
. tests/containerd/machine.sh
debian_lists && unpacked containerd-trixie containerd/trixie || skip "containerd of Debian's trixie cannot be had: $(tail -n 1 "$packages/said")"

. "$here/guests.sh"
(cd "$work" && mkdir src && guests && cp src/serve.wasm src/app.wasm)
export STRATAFS_STORE=$work/store
"$binary" image import "$work/src" --tag app:1 >/dev/null
# Another, of which no layer is known.
cp -R "$work/src" "$work/other" && printf other >"$work/other/other"
"$binary" image import "$work/other" --tag other:1 >/dev/null

# The image of pods: of those of other runtimes its program runs. And that of the DaemonSet, as the page says what it holds.
mkdir -p "$work/daemon/bin" "$work/daemon/tmp"
cp /usr/bin/busybox "$work/daemon/bin/"
for name in sh awk sed cmp mktemp nsenter cp mv mkdir chmod cat cut dirname echo grep head ln rm tail tr; do ln -s busybox "$work/daemon/bin/$name"; done
cp "$work"/clone/target/release/* shim/install.sh "$work/daemon/"
"$binary" image import "$work/daemon" --tag daemon:0 >/dev/null
"$binary" image mutate daemon:0 --tag daemon:1 --env PATH=/bin --set-platform linux/amd64 >/dev/null
"$binary" image mutate daemon:0 --tag pause:1 --entrypoint /bin/busybox,sleep,1000000 --set-platform linux/amd64 >/dev/null

# The settings of the kernel that kubelet asks for are the machine's: the node sees them as they are to be.
settings='vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000'
# service NAME PROGRAM ARGS...: runs a program on the node, as a service.
service() { on_node systemd-run --quiet --unit="$1" --property=KillMode=process "/srv/kubernetes/${@:2}"; }
kubectl() { on_node /srv/kubernetes/kubectl --kubeconfig /etc/kubernetes/config "$@"; }
# until_said WHAT WANTED COMMAND...: waits until a command says something.
until_said() {
    local said
    for _ in $(seq 300); do
        said=$("${@:3}" 2>&1) || true
        [ "$said" != "$2" ] || return 0
        sleep 0.2
    done
    die "$1: expected $2, found $said: $(kubectl get pods -A -o wide; kubectl describe pods | tail -n 40)"
}

start_cluster() {
    local setting name
    for setting in $settings; do
        name=${setting%%=*}
        printf '%s\n' "${setting##*=}" >"$work/node/root/${name//\//.}"
        on_node mount --bind "/root/${name//\//.}" "/proc/sys/$name"
    done
    on_node sh -ec '
        for dir in /sys/fs/cgroup/*; do mountpoint -q "$dir" && mount -o remount,bind,rw "$dir"; done
        ln -sf /dev/console /dev/kmsg
        ip link add name uplink type veth peer name network && ip link set network up && ip address add 10.99.0.1/24 dev uplink && ip link set uplink up && ip route add default dev uplink
        mount --make-rshared /'
    mkdir -p "$work/node/etc/kubernetes" "$work/node/etc/cni/net.d"
    printf '{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "ptp", "ipam": {"type": "host-local",
  "ranges": [[{"subnet": "10.213.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}\n' >"$work/node/etc/cni/net.d/10-pods.conflist"
    openssl genrsa -out "$work/node/etc/kubernetes/accounts.key" 2048 2>/dev/null
    printf 'secret,admin,admin,system:masters\n' >"$work/node/etc/kubernetes/tokens"
    printf '{"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
  "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443", "insecure-skip-tls-verify": true}}],
  "users": [{"name": "u", "user": {"token": "secret"}}]}\n' >"$work/node/etc/kubernetes/config"
    on_node systemd-run --quiet --unit=etcd /srv/etcd --data-dir /var/lib/etcd
    service apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --cert-dir=/etc/kubernetes --secure-port=6443 --bind-address=127.0.0.1 \
        --advertise-address=10.99.0.1 --service-cluster-ip-range=10.96.0.0/16 --token-auth-file=/etc/kubernetes/tokens --allow-privileged \
        --authorization-mode=RBAC --service-account-issuer=https://kubernetes --service-account-key-file=/etc/kubernetes/accounts.key \
        --service-account-signing-key-file=/etc/kubernetes/accounts.key --kubelet-preferred-address-types=InternalIP
    until_said "the API server" ok kubectl get --raw /readyz
    service controllers kube-controller-manager --kubeconfig=/etc/kubernetes/config --leader-elect=false \
        --service-account-private-key-file=/etc/kubernetes/accounts.key --root-ca-file=/etc/kubernetes/apiserver.crt
    service scheduler kube-scheduler --kubeconfig=/etc/kubernetes/config --leader-elect=false
    service kubelet kubelet --kubeconfig=/etc/kubernetes/config --container-runtime=remote --hostname-override=node --cgroups-per-qos=false \
        --container-runtime-endpoint=unix:///run/containerd/containerd.sock --enforce-node-allocatable= --fail-swap-on=false \
        --eviction-hard= --cluster-dns=10.96.0.10 --node-status-update-frequency=1s
    until_said "the node" True kubectl get node node -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
}

# paged HEADING NUMBER: a block of YAML of the page, with the images that are here.
paged() { block docs/KUBERNETES.md "$1" yaml "$2" | sed "s,registry.example/,$registry/tests/,; s,registry.k8s.io/pause:3.9,$pause,"; }
applied() { kubectl apply -f - >/dev/null || die "not taken: $*"; }
# pod NAME IMAGE PROGRAM LIMIT: makes a pod that is run once, pulled for the runtime of its annotation.
pod() {
    printf '{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "%s", "annotations": {"io.containerd.cri.runtime-handler": "stratafs"}},
  "spec": {"runtimeClassName": "stratafs", "restartPolicy": "Never",
  "containers": [{"name": "app", "image": "%s", "command": ["%s"], "resources": {"limits": {"memory": "%s"}}}]}}' "$1" "$2" "$3" "$4" | applied "$1"
}
# stored: how many images the store of the snapshotter has.
stored() {
    on_node /usr/local/bin/stratafs store stat --store /var/lib/stratafs/store --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["images"])'
}
end_of() { kubectl get pod "$1" -o 'jsonpath={.status.containerStatuses[0].state.terminated.exitCode} {.status.containerStatuses[0].state.terminated.reason}'; }

boot_directories=(--bind-ro="$kubernetes/bin:/srv/kubernetes" --bind-ro=/usr/bin/etcd:/srv/etcd)
fresh "$packages/containerd-trixie" "${boot_directories[@]}"
# Where processes may not be kept from being killed first, those of containers are not either.
sed -i 's/^\( *\)\[plugins."io.containerd.grpc.v1.cri"\]$/&\n\1  restrict_oom_score_adj = true/' "$work/node/etc/containerd/config.toml"
on_node systemctl restart containerd
start_registry
push app:1 tests/app:1
push other:1 tests/other:1
push daemon:1 tests/stratafs-runtime:1
pause_image pause:1
say "$(on_node /srv/kubernetes/kubelet --version)"
start_cluster

say "the runtime, by the DaemonSet of the page"
kubectl label node node stratafs.dev/runtime=true >/dev/null
paged '### As a DaemonSet' 1 | applied "the DaemonSet"
until_said "the DaemonSet" 1 kubectl -n kube-system get daemonset stratafs-runtime -o 'jsonpath={.status.numberReady}'
until_said "the snapshotter" active on_node systemctl is-active stratafs-snapshotter

say "the Deployment of the page"
paged '## Kubernetes' 1 | applied "the RuntimeClass and the Deployment"
kubectl create configmap app --from-literal=greeting=hello >/dev/null
until_said "the Deployment" 3 kubectl get deployment app -o 'jsonpath={.status.readyReplicas}'
for pod in $(kubectl get pods -l app=app -o name); do
    until_said "the log of $pod" ready kubectl logs "$pod"
done
addresses=$(kubectl get pods -l app=app -o 'jsonpath={.items[*].status.podIP}')
[ "$(tr ' ' '\n' <<<"$addresses" | grep -c '^10\.213\.')" = 3 ] || die "the addresses of the pods: $addresses"
first=$(kubectl get pods -l app=app -o 'jsonpath={.items[0].metadata.name}')
said=$(kubectl exec "$first" -- ls 2>&1 || true)
grep -q 'a guest is one program' <<<"$said" || die "kubectl exec says: $said"
# Nobody has said at the pull which runtime it was for.
until_said "images in the store of the snapshotter" 0 stored

say "ends, as Kubernetes tells them"
pod hello "$registry/tests/other:1" /hello.wasm 64Mi
pod grows "$registry/tests/other:1" /grow.wasm 1Mi
pod none "$registry/tests/other:1" /none.wasm 64Mi
until_said "the end of hello" "7 Error" end_of hello
until_said "the log of hello" hello kubectl logs hello
until_said "the end past its memory" "137 OOMKilled" end_of grows
grep -q '/none.wasm.*no such file' <<<"$(kubectl describe pod none)" || die "of a program that is missing it says: $(kubectl describe pod none | tail -n 4)"
until_said "images in the store of the snapshotter" 1 stored

say "nothing is left"
kubectl delete deployment app >/dev/null
kubectl delete pod hello grows none >/dev/null
guests_left() { on_node ctr -n k8s.io containers ls 2>/dev/null | grep -c io.containerd.stratafs.v1 || true; }
until_said "guests" 0 guests_left
say "passed"
