"""The calls that a kubelet makes, against containerd's CRI: pods on the host's network with two containers each, their logs, figures and
ends. Messages are written by hand, from the numbers that cri-api's protocol gives their fields: run.sh needs no compiler of protocols."""

import argparse
import concurrent.futures
import os
import socket
import sys
import threading
import time
import urllib.request

import grpc

SERVICE = "/runtime.v1.RuntimeService/"
POD, HOST = 0, 2  # NamespaceMode POD and NODE


def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def message(*fields):
    """Fields as (number, value): a number, a text, bytes of another message, or a dict of texts."""
    out = bytearray()
    for number, value in fields:
        if isinstance(value, dict):
            for pair in value.items():
                out += message((number, message((1, pair[0]), (2, pair[1]))))
        elif isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return bytes(out)


def read(data):
    """Returns the fields of a message: lists of numbers and bytes by field number."""
    found, at = {}, 0

    def number():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while at < len(data):
        key = number()
        if key & 7 == 0:
            value = number()
        elif key & 7 == 2:
            size = number()
            value = data[at : at + size]
            at += size
        else:
            size = 8 if key & 7 == 1 else 4
            value = data[at : at + size]
            at += size
        found.setdefault(key >> 3, []).append(value)
    return found


def one(data, *path, default=b""):
    """The value at a path of field numbers."""
    for number in path:
        values = read(data).get(number)
        if not values:
            return default
        data = values[-1]
    return data


class Kubelet:
    def __init__(self, socket, image, logs, root=""):
        self.channel = grpc.insecure_channel("unix://" + socket)
        self.image = image
        self.logs = logs
        # Where the files of the node lie.
        self.root = root
        self.socket = socket

    def shim(self):
        """The process of the shim: the one whose arguments name containerd's socket."""
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/cmdline" % pid, "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            if self.socket.encode() in words and b"serve" in words:
                return pid
        sys.exit("error: there is no process of the shim")

    def call(self, method, request, timeout=60):
        made = self.channel.unary_unary(SERVICE + method, request_serializer=bytes, response_deserializer=bytes)
        return made(request, timeout=timeout)

    def sandbox_config(self, name, network, sysctls=()):
        namespaces = message((1, network), (2, 1), (3, HOST))  # network, pid of a container, ipc
        security = message((1, namespaces))
        settings = [(3, message((1, key), (2, value))) for key, value in sysctls]
        linux = message((2, security), *settings)
        return message(
            (1, message((1, name), (2, "uid-" + name), (3, "tests"), (4, 0))),
            (3, os.path.join(self.logs, name)),
            (6, {"app": name}),
            (8, linux),
        )

    def run_sandbox(self, name, network=HOST, sysctls=()):
        os.makedirs(self.root + os.path.join(self.logs, name))
        config = self.sandbox_config(name, network, sysctls)
        return one(self.call("RunPodSandbox", message((1, config), (2, "stratafs"))), 1).decode(), config

    def create(self, pod, config, name, command, env=(), memory=0, mounts=(), stdin=False, user="", uid=0, groups=()):
        envs = [(6, message((1, key), (2, value))) for key, value in env]
        binds = [(7, message((1, inside), (2, outside), (3, int(only)))) for inside, outside, only in mounts]
        resources = message((4, memory)) if memory else b""
        security = [(6, user)] if user else []
        if uid:
            packed = b"".join(varint(group) for group in groups)
            security += [(5, message((1, uid))), (12, message((1, uid)))] + ([(8, packed)] if groups else [])
        container = message(
            (1, message((1, name), (2, 0))),
            (2, message((1, self.image))),
            *[(3, word) for word in command],
            *envs,
            *binds,
            (11, name + ".log"),
            (12, int(stdin)),
            (13, int(stdin)),
            (15, message((1, resources), *([(2, message(*security))] if security else []))),
        )
        request = message((1, pod), (2, container), (3, config))
        return one(self.call("CreateContainer", request), 1).decode()

    def start(self, container):
        self.call("StartContainer", message((1, container)))

    def status(self, container):
        """State (1 running, 2 exited), exit code and reason."""
        status = one(self.call("ContainerStatus", message((1, container))), 1)
        return one(status, 3, default=0), one(status, 7, default=0), one(status, 10).decode()

    def until_exited(self, container, patience=60):
        end = time.monotonic() + patience
        while True:
            state, code, reason = self.status(container)
            if state == 2:
                return code, reason
            assert time.monotonic() < end, "container %s goes on: state %s" % (container, state)
            time.sleep(0.02)

    def log(self, pod, name):
        """The lines of a log in CRI's form: time, stream, tag, text."""
        with open(self.root + os.path.join(self.logs, pod, name + ".log")) as file:
            lines = [line.rstrip("\n").split(" ", 3) for line in file]
        for line in lines:
            assert len(line) == 4 and "T" in line[0] and line[1] in ("stdout", "stderr") and line[2] in "FP", line
        return [(line[1], line[3]) for line in lines]

    def list(self):
        pods = read(self.call("ListPodSandbox", b"")).get(1, [])
        containers = read(self.call("ListContainers", b"")).get(1, [])
        return len(pods), len(containers)

    def remove(self, pod):
        self.call("StopPodSandbox", message((1, pod)))
        self.call("RemovePodSandbox", message((1, pod)))


def expect(found, wanted, what):
    if found != wanted:
        sys.exit("error: %s: %r, not %r" % (what, found, wanted))


def refused(words, call, *arguments, **more):
    try:
        call(*arguments, **more)
    except grpc.RpcError as error:
        if words not in error.details():
            sys.exit("error: refused without %r: %s" % (words, error.details()))
        return
    sys.exit("error: not refused: %r" % (arguments,))


def page(address, path):
    with urllib.request.urlopen("http://%s%s" % (address, path), timeout=10) as answer:
        return answer.read().decode()


def one_pod(kubelet, shown, metrics):
    pod, config = kubelet.run_sandbox("pod")
    state = one(one(kubelet.call("PodSandboxStatus", message((1, pod))), 1), 3, default=0)
    expect(state, 0, "a pod that is ready")
    hello = kubelet.create(pod, config, "hello", ["/hello.wasm"])
    serve = kubelet.create(
        pod, config, "serve", ["/serve.wasm"], memory=64 << 20, mounts=[("/shown", shown, True), ("/data", shown, False)]
    )
    kubelet.start(hello)
    kubelet.start(serve)
    expect(kubelet.until_exited(hello), (7, "Error"), "the end of hello")
    expect(kubelet.log("pod", "hello"), [("stdout", "hello")], "the log of hello")
    env = kubelet.create(pod, config, "env", ["/env.wasm"], env=[("A", "of the pod")])
    kubelet.start(env)
    expect(kubelet.until_exited(env), (0, "Completed"), "the end of env")
    said = kubelet.log("pod", "env")[0][1]
    expect("A=of the pod\0" in said and "HOSTNAME=" in said, True, "the environment %r" % said)
    only = kubelet.create(pod, config, "only", ["/shown.wasm"], mounts=[("/shown", shown, True)])
    kubelet.start(only)
    expect(kubelet.until_exited(only)[0] != 0 and os.listdir(shown), [], "what was written to a mount that is read-only")
    large = kubelet.create(pod, config, "large", ["/grow.wasm"], memory=1 << 20)
    kubelet.start(large)
    expect(kubelet.until_exited(large), (137, "OOMKilled"), "the end past its memory")
    stats = one(kubelet.call("ContainerStats", message((1, serve))), 1)
    expect(one(stats, 3, 2, 1, default=0) >= 131072, True, "bytes of memory in the figures")
    expect(one(stats, 2, 2, 1, default=0) > 0, True, "time of processors in the figures")
    figures = page(metrics, "/metrics")
    # The pod itself and one container.
    for line in ('stratafs_shim_containers{state="running"} 2', "stratafs_shim_refused_total 0"):
        expect(line in figures.splitlines(), True, "%s in %s" % (line, figures))
    expect(page(metrics, "/healthz"), "ok\n", "health")
    refused("run another container", kubelet.call, "ExecSync", message((1, serve), (2, "/hello.wasm"), (3, 5)))
    refused("/none.wasm", kubelet.start_of, pod, config, "none", ["/none.wasm"])
    refused("the runtime's own", kubelet.start_of, pod, config, "own", ["/hello.wasm"], mounts=[("/m", "/", False)])
    while kubelet.log("pod", "serve") != [("stdout", "ready")]:
        time.sleep(0.02)
    kubelet.call("StopContainer", message((1, serve), (2, 5)))
    expect(kubelet.until_exited(serve)[0], 143, "the end of serve")
    kubelet.call("RemoveContainer", message((1, serve)))
    kubelet.remove(pod)
    expect(kubelet.list(), (0, 0), "pods and containers that are left")


def of_user(kubelet, work):
    """What a container makes in a volume is its user's, and what is not for that user it does not reach."""
    pod, config = kubelet.run_sandbox("user")
    for name, mode, gid, code, owner in [
        ("open", 0o777, 0, 0, (1000, 1000)),
        ("ours", 0o2770, 3000, 0, (1000, 3000)),
        ("closed", 0o755, 0, 2, None),
    ]:
        volume = os.path.join(work, "volume-" + name)
        os.mkdir(volume)
        os.chown(volume, 0, gid)
        os.chmod(volume, mode)
        mounts = [("/shown", volume, False)]
        container = kubelet.create(pod, config, name, ["/shown.wasm"], mounts=mounts, uid=1000, groups=[3000])
        kubelet.start(container)
        expect(kubelet.until_exited(container)[0], code, "the end of a guest that writes to the volume " + name)
        made = os.path.join(volume, "mark")
        found = os.stat(made) if os.path.exists(made) else None
        expect(found and (found.st_uid, found.st_gid), owner, "the owner of what is in the volume " + name)
    secret = os.path.join(work, "secret")
    with open(secret, "w") as file:
        file.write("secret")
    os.chmod(secret, 0o600)
    words = "may not read it: it is 0:0's with mode 0600"
    refused(words, kubelet.start_of, pod, config, "secret", ["/hello.wasm"], mounts=[("/s", secret, True)], uid=1000)
    kubelet.remove(pod)


def serve(word):
    """Answers at a port of this machine's loopback."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        while True:
            client, _ = listener.accept()
            with client:
                client.sendall(word.encode())

    threading.Thread(target=answer, daemon=True).start()
    return listener.getsockname()[1]


def heard(address, port, patience=30):
    """What is said at a port, once somebody listens there."""
    end = time.monotonic() + patience
    while True:
        try:
            with socket.create_connection((address, port), timeout=5) as client:
                return client.makefile().read()
        except OSError as error:
            if time.monotonic() > end:
                sys.exit("error: nobody listens at %s:%d: %s" % (address, port, error))
            time.sleep(0.02)


def says(kubelet, pod, config, pod_name, name, places):
    container = kubelet.create(pod, config, name, ["/connect.wasm"] + places)
    kubelet.start(container)
    expect(kubelet.until_exited(container), (0, "Completed"), "the end of " + name)
    return [text for _, text in kubelet.log(pod_name, name)]


def networked_pods(kubelet, has_sockets, low_ports):
    """Pods with addresses of their own, in one process: each has its network, and none has the host's."""
    pods = []
    for number in range(2):
        name = "networked%d" % number
        pod, config = kubelet.run_sandbox(name, POD)
        status = one(kubelet.call("PodSandboxStatus", message((1, pod))), 1)
        address = one(status, 5, 1).decode()
        expect(address.startswith("10.213."), True, "the address of a pod: %r" % address)
        hello = kubelet.create(pod, config, "hello", ["/hello.wasm"])
        kubelet.start(hello)
        expect(kubelet.until_exited(hello)[0], 7, "the end of hello")
        pods.append((pod, config, name, address))
    if has_sockets:
        on_host = serve("host")
        for pod, config, name, address in pods:
            listens = kubelet.create(pod, config, "listen", ["/listen.wasm", "0.0.0.0:8080", name])
            kubelet.start(listens)
        # As a probe of kubelet does, and a Service.
        for _, _, name, address in pods:
            expect(heard(address, 8080), name, "what is said at the address of " + name)
        for (pod, config, name, address), (_, _, other, at) in zip(pods, reversed(pods)):
            places = ["127.0.0.1:8080", "localhost:8080", at + ":8080", "127.0.0.1:%d" % on_host]
            found = says(kubelet, pod, config, name, "connect", places)
            wanted = ['heard "%s"' % name] * 2 + ['heard "%s"' % other, "ConnectionRefused"]
            expect(found, wanted, "what a guest of %s hears" % name)
        pod, config = kubelet.run_sandbox("host")
        found = says(kubelet, pod, config, "host", "connect", ["127.0.0.1:%d" % on_host])
        expect(found, ['heard "host"'], "what a guest on the network of the host hears")
        kubelet.remove(pod)
        held = [os.readlink(entry.path) for entry in os.scandir("/proc/%s/fd" % kubelet.shim())]
        # Its own, and one for each guest that listens.
        expect(sum(link.startswith(("net:", "/run/netns/", "/var/run/netns/")) for link in held), 3, "networks that the process holds")
    if has_sockets:
        low_port(kubelet, low_ports)
    for pod, _, _, _ in pods:
        kubelet.remove(pod)
    expect(kubelet.list(), (0, 0), "pods and containers that are left")
    print("   pods with the addresses %s" % " and ".join(pod[3] for pod in pods))


def low_port(kubelet, usual):
    """A user who is not root listens below 1024 in a pod whose network allows it, and in no other. Since 2.x containerd allows it if
    nothing is said."""
    for name, start in [("allowed", 0), ("refused", 1024), ("usual", None)]:
        sysctls = [] if start is None else [("net.ipv4.ip_unprivileged_port_start", str(start))]
        pod, config = kubelet.run_sandbox(name, POD, sysctls)
        listens = kubelet.create(pod, config, "listen", ["/listen.wasm", "0.0.0.0:80", name], uid=1000)
        kubelet.start(listens)
        if start == 0 or start is None and usual:
            address = one(one(kubelet.call("PodSandboxStatus", message((1, pod))), 1), 5, 1).decode()
            expect(heard(address, 80), name, "what is said at port 80 of " + name)
        else:
            kubelet.until_exited(listens)
            said = " ".join(text for _, text in kubelet.log(name, "listen"))
            expect("PermissionDenied" in said, True, "the refusal to listen at port 80: %r" % said)
        kubelet.remove(pod)


def start_of(self, pod, config, name, command, **more):
    container = self.create(pod, config, name, command, **more)
    try:
        self.start(container)
    finally:
        self.call("RemoveContainer", message((1, container)))


Kubelet.start_of = start_of


def many_pods(kubelet, count):
    """Pods one after the other, as one connection makes them: what a pod takes, and create + start of its container."""
    began = time.monotonic()
    pods, pure = [], 0.0
    for number in range(count):
        pod, config = kubelet.run_sandbox("many%d" % number)
        before = time.monotonic()
        container = kubelet.create(pod, config, "serve", ["/serve.wasm"])
        kubelet.start(container)
        pure += time.monotonic() - before
        pods.append((pod, container))
    took = time.monotonic() - began
    for _, container in pods:
        expect(kubelet.status(container)[0], 1, "a container of many")
    print("   %d pods in %.1f s; create and start of a container %.1f ms" % (count, took, 1000 * pure / count))
    for pod, _ in pods:
        kubelet.remove(pod)
    expect(kubelet.list(), (0, 0), "pods and containers that are left")


def pods_at_once(kubelet, count, command):
    """Pods on the host's network that are all asked for at once: each with a container that runs, and then removed at once."""
    began = time.monotonic()

    def make(number):
        pod, config = kubelet.run_sandbox("once%d-%s" % (number, os.path.basename(command[0])))
        container = kubelet.create(pod, config, "app", command)
        kubelet.start(container)
        return pod, container

    with concurrent.futures.ThreadPoolExecutor(count) as workers:
        pods = list(workers.map(make, range(count)))
        took = time.monotonic() - began
        for _, container in pods:
            expect(kubelet.status(container)[0], 1, "a container of many at once")
        list(workers.map(kubelet.remove, [pod for pod, _ in pods]))
    print("   %d pods of %s at once in %.1f s" % (count, command[0], took))
    expect(kubelet.list(), (0, 0), "pods and containers that are left")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("socket")
    parser.add_argument("image")
    parser.add_argument("work")
    parser.add_argument("--metrics", required=True)
    parser.add_argument("--networked", action="store_true")
    parser.add_argument("--sockets", action="store_true")
    parser.add_argument("--low-ports", action="store_true", help="pods may listen below 1024 unless something else is said")
    parser.add_argument("--pods", type=int, default=100)
    given = parser.parse_args()
    kubelet = Kubelet(given.socket, given.image, os.path.join(given.work, "logs"))
    shown = os.path.join(given.work, "configmap")
    os.makedirs(shown)
    try:
        one_pod(kubelet, shown, given.metrics)
        of_user(kubelet, given.work)
        if given.networked:
            networked_pods(kubelet, given.sockets, given.low_ports)
        many_pods(kubelet, given.pods)
        pods_at_once(kubelet, given.pods, ["/serve.wasm"])
        if given.sockets:
            # A guest in Rust, each at a port of its own.
            pods_at_once(kubelet, given.pods, ["/listen.wasm", "127.0.0.1:0", "here"])
    except BaseException:
        # The networks of pods would stay, and be in the way of the next run.
        for pod in read(kubelet.call("ListPodSandbox", b"")).get(1, []):
            kubelet.remove(one(pod, 1).decode())
        raise


if __name__ == "__main__":
    main()
