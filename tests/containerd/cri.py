"""The calls that a kubelet makes, against containerd's CRI: pods on the host's network with two containers each, their logs, figures and
ends. Messages are written by hand, from the numbers that cri-api's protocol gives their fields: run.sh needs no compiler of protocols."""

import argparse
import os
import sys
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
    def __init__(self, socket, image, logs):
        self.channel = grpc.insecure_channel("unix://" + socket)
        self.image = image
        self.logs = logs

    def call(self, method, request, timeout=60):
        made = self.channel.unary_unary(SERVICE + method, request_serializer=bytes, response_deserializer=bytes)
        return made(request, timeout=timeout)

    def sandbox_config(self, name, network):
        namespaces = message((1, network), (2, 1), (3, HOST))  # network, pid of a container, ipc
        security = message((1, namespaces))
        linux = message((2, security))
        return message(
            (1, message((1, name), (2, "uid-" + name), (3, "tests"), (4, 0))),
            (3, os.path.join(self.logs, name)),
            (6, {"app": name}),
            (8, linux),
        )

    def run_sandbox(self, name, network=HOST):
        os.makedirs(os.path.join(self.logs, name))
        config = self.sandbox_config(name, network)
        return one(self.call("RunPodSandbox", message((1, config), (2, "stratafs"))), 1).decode(), config

    def create(self, pod, config, name, command, env=(), memory=0, mounts=(), stdin=False, user=""):
        envs = [(6, message((1, key), (2, value))) for key, value in env]
        binds = [(7, message((1, inside), (2, outside), (3, int(only)))) for inside, outside, only in mounts]
        resources = message((4, memory)) if memory else b""
        container = message(
            (1, message((1, name), (2, 0))),
            (2, message((1, self.image))),
            *[(3, word) for word in command],
            *envs,
            *binds,
            (11, name + ".log"),
            (12, int(stdin)),
            (13, int(stdin)),
            (15, message((1, resources), *([(2, message((6, user)))] if user else []))),
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
        with open(os.path.join(self.logs, pod, name + ".log")) as file:
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


def networked_pod(kubelet):
    """A pod with an address of its own: containerd makes its network, in which guests have no sockets."""
    pod, config = kubelet.run_sandbox("networked", POD)
    status = one(kubelet.call("PodSandboxStatus", message((1, pod))), 1)
    expect(one(status, 5, 1).decode().startswith("10.213."), True, "the address of a pod: %r" % one(status, 5, 1))
    hello = kubelet.create(pod, config, "hello", ["/hello.wasm"])
    kubelet.start(hello)
    expect(kubelet.until_exited(hello)[0], 7, "the end of hello")
    kubelet.remove(pod)
    expect(kubelet.list(), (0, 0), "pods and containers that are left")
    print("   a pod with the address %s" % one(status, 5, 1).decode())


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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("socket")
    parser.add_argument("image")
    parser.add_argument("work")
    parser.add_argument("--metrics", required=True)
    parser.add_argument("--networked", action="store_true")
    parser.add_argument("--pods", type=int, default=100)
    given = parser.parse_args()
    kubelet = Kubelet(given.socket, given.image, os.path.join(given.work, "logs"))
    shown = os.path.join(given.work, "configmap")
    os.makedirs(shown)
    one_pod(kubelet, shown, given.metrics)
    if given.networked:
        networked_pod(kubelet)
    many_pods(kubelet, given.pods)


if __name__ == "__main__":
    main()
