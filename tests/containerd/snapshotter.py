"""The calls of a kubelet that pulls and removes images, against a containerd whose CRI has `stratafs snapshotter`."""

import argparse
import os
import sys
import threading
import time

import grpc

from cri import Kubelet, expect, message, one, read

IMAGES = "/runtime.v1.ImageService/"


class Node(Kubelet):
    handler = None

    def asked(self, name):
        """A request to pull, which says for which runtime: to containerd 1.7 by an annotation of the pod, to 2.x by a field."""
        if self.handler is None:
            return message((1, message((1, name))))
        annotations = {"io.containerd.cri.runtime-handler": self.handler}
        return message((1, message((1, name), (19, self.handler))), (3, message((7, annotations))))

    def images(self, method, request, timeout=120):
        made = self.channel.unary_unary(IMAGES + method, request_serializer=bytes, response_deserializer=bytes)
        return made(request, timeout=timeout)

    def pull(self, name, patience=0):
        """Pulls; containerd takes a while to connect to a snapshotter that was started anew."""
        end = time.monotonic() + patience
        while True:
            try:
                return one(self.images("PullImage", self.asked(name)), 1).decode()
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def remove_image(self, name):
        self.images("RemoveImage", message((1, message((1, name)))))

    def run(self, name, command):
        pod, config = self.run_sandbox(name)
        container = self.create(pod, config, "app", command)
        self.start(container)
        return pod, container


def pulled(node, name):
    """An image is pulled, containers of it run, and it is removed under one."""
    node.pull(name, patience=130)
    pod, container = node.run("pulled", ["/hello.wasm"])
    expect(node.until_exited(container)[0], 7, "the end of hello")
    expect(node.log("pulled", "app"), [("stdout", "hello")], "the log of hello")
    serving, serve = node.run("serving", ["/serve.wasm"])
    # It reads what was written nowhere but in the store, and writes to its own.
    mark = node.create(serving, node.sandbox_config("serving", 2), "mark", ["/mark.wasm"])
    node.start(mark)
    expect(node.until_exited(mark)[0], 0, "the end of mark")
    node.remove(pod)


def users(node):
    """containerd finds users of the image by name, in the root that it has of it, and the guest hears of the home."""
    pod, config = node.run_sandbox("users")
    container = node.create(pod, config, "app", ["/env.wasm"], user="app")
    node.start(container)
    expect(node.until_exited(container)[0], 0, "the end of env")
    told = "".join(text for _, text in node.log("users", "app")).split("\0")
    expect("HOME=/srv/app" in told, True, "the home of app in %s" % told)
    try:
        node.create(pod, config, "nobody", ["/env.wasm"], user="nobody-knows")
        raise AssertionError("a user that nobody knows was taken")
    except grpc.RpcError as error:
        expect("no users found" in error.details(), True, "of a user that nobody knows: %s" % error.details())
    node.remove(pod)


def artifact(node, name, words, said):
    """A program without an image is pulled, runs in a pod whatever its command is called, and is removed."""
    node.pull(name, patience=130)
    log = "%s-for-%s" % (name.rsplit("/", 1)[1].replace(":", "-"), node.handler or "node")
    pod, container = node.run(log, ["anything"] + words)
    expect(node.until_exited(container)[0], 0, "the end of an artifact")
    expect("\n".join(text for _, text in node.log(log, "app")), said, "what an artifact says")
    node.remove(pod)
    node.remove_image(name)


def removed(node, name):
    """The image goes while a container of it runs, and the container stays."""
    node.remove_image(name)
    containers = read(node.call("ListContainers", b"")).get(1, [])
    running = [one(data, 1).decode() for data in containers if one(data, 6, default=0) == 1]
    expect(len(running), 1, "containers that run")
    expect(node.status(running[0])[0], 1, "the state of a container whose image is removed")
    pods = read(node.call("ListPodSandbox", b"")).get(1, [])
    for data in pods:
        node.remove(one(data, 1).decode())
    expect(node.list(), (0, 0), "pods and containers that are left")


def until_killed(node, name, seconds):
    """Pulls, runs and removes, whatever fails, while somebody else kills the snapshotter."""
    end = time.monotonic() + seconds
    done = 0
    number = 0
    while time.monotonic() < end:
        number += 1
        try:
            node.pull(name)
            pod, container = node.run("killed%d-%d" % (os.getpid(), number), ["/hello.wasm"])
            expect(node.until_exited(container)[0], 7, "the end of hello")
            node.remove(pod)
            done += 1
            if number % 3 == 0:
                node.remove_image(name)
        except grpc.RpcError:
            time.sleep(0.1)
    print("   %d pods of %d ran beside the kills" % (done, number))
    for data in read(node.call("ListPodSandbox", b"")).get(1, []):
        node.remove(one(data, 1).decode())
    expect(node.list(), (0, 0), "pods and containers that are left")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("socket")
    parser.add_argument("image")
    parser.add_argument("work")
    parser.add_argument("step", choices=["pulled", "users", "lone", "connects", "removed", "killed"])
    parser.add_argument("--handler", help="the runtime that images are pulled for")
    given = parser.parse_args()
    node = Node(given.socket, given.image, os.path.join(given.work, "pulled-logs"))
    node.handler = given.handler
    if given.step == "pulled":
        pulled(node, given.image)
    elif given.step == "users":
        users(node)
    elif given.step == "lone":
        artifact(node, given.image, [], "")
    elif given.step == "connects":
        # Nobody listens there.
        artifact(node, given.image, ["127.0.0.1:1"], "ConnectionRefused")
    elif given.step == "removed":
        removed(node, given.image)
    else:
        until_killed(node, given.image, 30)


if __name__ == "__main__":
    main()
