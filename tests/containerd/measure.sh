# Part of run.sh where STRATAFS_MEASURE is set: what the process of the shim takes, with containers of a small guest, and of a large
# program where STRATAFS_MEASURE_PYTHON names a directory with CPython as tests/cpython fetches it: `python-3.11.3.wasm` and
# `python-3.11.3.tar.gz`. It prints figures and holds nothing against them.
# What it has written to, which nobody shares. The pages of its own program are not counted: they are those of the file.
private() { awk '/^Private_Dirty/ { sum += $2 } END { print sum }' "/proc/$(shims)/smaps_rollup"; }
# Input of a pod's container does not end by itself: who reads it waits.
waiting="--annotation io.kubernetes.cri.sandbox-id=pod"
# started COUNT NAME ARGS...: starts so many, and says what one more took in the end.
started() {
    local count=$1 name=$2 first begin took number
    run -d $waiting "${@:3:1}" "$name"0 "${@:4}"
    sleep "${settles:-2}"
    first=$(private) begin=$(date +%s%N)
    for number in $(seq "$count"); do run -d $waiting "${@:3:1}" "$name$number" "${@:4}"; done
    took=$((($(date +%s%N) - begin) / 1000000))
    sleep 2
    printf '   %s: the first at %d KiB private; %d more in %d ms, %d KiB each; %d threads and %d descriptors in all\n' "$name" "$first" \
        "$count" "$took" $((($(private) - first) / count)) "$(ls "/proc/$(shims)/task" | wc -l)" "$(ls "/proc/$(shims)/fd" | wc -l)"
    for number in $(seq 0 "$count"); do ctr task kill -s SIGKILL "$name$number"; done
    until_running "${left:-1}"
    for number in $(seq 0 "$count"); do remove "$name$number"; done
}
run -d --annotation io.kubernetes.cri.container-type=sandbox "$image" pod /wait.wasm
sleep 1
printf '   a pod in which nothing runs: %d KiB private\n' "$(private)"
left=1
started 100 small "$image" /wait.wasm
if [ -n "${STRATAFS_MEASURE_PYTHON:-}" ]; then
    mkdir python
    cp "$STRATAFS_MEASURE_PYTHON/python-3.11.3.wasm" python/python.wasm
    "$binary" image import "$STRATAFS_MEASURE_PYTHON/python-3.11.3.tar.gz" --layer python --tag py:0 >/dev/null
    "$binary" image mutate py:0 --tag py:1 --entrypoint /python.wasm --set-platform linux/amd64 >/dev/null
    "$binary" image export py:1 py.tar --format oci-archive
    ctr images import --base-name tests/py py.tar >/dev/null
    waits='import sys, json; sys.stdin.read()'
    started 1 compiled tests/py:1 /python.wasm -c "$waits"
    ctr task kill -s SIGKILL pod && until_stopped pod && remove pod
    # A process that finds the program compiled.
    run -d --annotation io.kubernetes.cri.container-type=sandbox "$image" pod /wait.wasm
    started 20 bare tests/py:1 /python.wasm -c 'import sys; sys.stdin.read()'
    started 20 python tests/py:1 /python.wasm -c "$waits"
    "$binary" image prepare --at stdin --quiet --tag py:2 --image py:1 -- -c "$waits"
    "$binary" image mutate py:2 --tag py:3 --set-platform linux/amd64 >/dev/null
    "$binary" image export py:3 py2.tar --format oci-archive
    ctr images import --base-name tests/py py2.tar >/dev/null
    started 20 prepared tests/py:3 /python.wasm -c "$waits"
fi
ctr task kill -s SIGKILL pod
until_stopped pod
remove pod
