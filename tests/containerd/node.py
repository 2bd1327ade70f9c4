"""What a kubelet asks of a node that node.sh has set up, in steps: between them services are started anew, and the power fails."""

import argparse
import itertools
import time

import grpc

from cri import expect, message, one, read
from snapshotter import Node


def ready(node):
    """How many pods are ready, and how many containers run."""
    pods = read(node.call("ListPodSandbox", b"")).get(1, [])
    containers = read(node.call("ListContainers", b"")).get(1, [])
    running = [data for data in containers if one(data, 6, default=0) == 1]
    return sum(one(data, 3, default=0) == 0 for data in pods), len(running)


def hello(node, name):
    """A pod comes, says hello and goes. containerd takes a while to connect to a snapshotter that was started anew."""
    end = time.monotonic() + 30
    for attempt in itertools.count():
        try:
            log = "%s-%d" % (name, attempt)
            pod, container = node.run(log, ["/hello.wasm"])
            break
        except grpc.RpcError as error:
            if "snapshotter.sock" not in error.details() or time.monotonic() > end:
                raise
            time.sleep(0.5)
    expect(node.until_exited(container)[0], 7, "the end of hello")
    expect(node.log(log, "app"), [("stdout", "hello")], "the log of hello")
    node.remove(pod)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("socket")
    parser.add_argument("root", help="where the files of the node lie")
    parser.add_argument("image")
    parser.add_argument("step", choices=["begin", "beside", "lost", "end"])
    parser.add_argument("name", help="of the pods of this step")
    parser.add_argument("--handler", help="the runtime that images are pulled for")
    given = parser.parse_args()
    node = Node(given.socket, given.image, "/var/log/pods", given.root)
    node.handler = given.handler
    if given.step == "begin":
        node.pull(given.image, patience=130)
        node.run("serving", ["/serve.wasm"])
    elif given.step == "lost":
        # kubelet finds its pods ended, takes them away, and makes others of the image that is there.
        expect(ready(node), (0, 0), "pods that are ready and containers that run after a loss of power")
        for data in read(node.call("ListPodSandbox", b"")).get(1, []):
            node.remove(one(data, 1).decode())
        expect(node.list(), (0, 0), "pods and containers that are left")
        node.run("serving-" + given.name, ["/serve.wasm"])
    hello(node, given.name)
    expect(ready(node), (1, 1), "pods that are ready and containers that run")
    if given.step == "end":
        for data in read(node.call("ListPodSandbox", b"")).get(1, []):
            node.remove(one(data, 1).decode())
        expect(node.list(), (0, 0), "pods and containers that are left")
        node.remove_image(given.image)


if __name__ == "__main__":
    main()
