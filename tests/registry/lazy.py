"""What a start from a registry costs, with 30 ms for each request: lazy.py PROGRAM LANGS [DELAY].

PROGRAM is `stratafs`, LANGS a directory with `python-3.11.3.wasm` and `python-3.11.3.tar.gz` (tests/cpython/run.sh fetches them).
Needs Debian's docker-registry. Prints a line for each run: seconds to the first output, seconds to the end, requests and bytes until the
first output. Fails where an output is not what it should be."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time

program, langs = os.path.realpath(sys.argv[1]), os.path.realpath(sys.argv[2])
delay = float(sys.argv[3]) if len(sys.argv) > 3 else 0.03
work = tempfile.mkdtemp()
requests, passed, began = [], 0, time.time()


def free():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def pump(source, sink, of_client):
    global passed
    try:
        while data := source.recv(65536):
            if of_client and data.split(b" ", 1)[0] in (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH"):
                head = data.split(b"\r\n\r\n", 1)[0].decode("latin-1").split("\r\n")
                span = [line for line in head if line.lower().startswith("range:")]
                asked = " ".join([head[0].rsplit(" ", 1)[0], *span])
                requests.append(f"  {time.time() - began:5.2f} s {asked}")
                time.sleep(delay)
            if not of_client:
                passed += len(data)
            sink.sendall(data)
    except OSError:
        pass
    for one in (source, sink):
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(server, target):
    while True:
        client, _ = server.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        upstream = socket.create_connection(("127.0.0.1", target))
        for args in ((client, upstream, True), (upstream, client, False)):
            threading.Thread(target=pump, args=args, daemon=True).start()


def run(label, store, *words, want=None, quiet=False):
    """Runs, and tells of it: what the output begins with is `want`."""
    global passed, began
    requests.clear()
    passed = 0
    env = dict(os.environ, STRATAFS_STORE=f"{work}/{store}", DOCKER_CONFIG=work, XDG_CACHE_HOME=f"{work}/cache")
    began = time.time()
    child = subprocess.Popen([program, *words], env=env, stdout=subprocess.PIPE)
    first = child.stdout.readline()
    at, asked, came = time.time() - began, len(requests), passed
    if os.environ.get("LAZY_SHOW"):
        print("\n".join(requests))
    rest = child.stdout.read()
    code = child.wait()
    if code != 0 or want is not None and first + rest != want:
        sys.exit(f"{label}: exit code {code}, {first + rest!r} in place of {want!r}")
    if not quiet:
        print(f"{label:58} {at:6.2f} s {time.time() - began:6.2f} s {asked:4} requests {came / 1e6:7.2f} MB", flush=True)
    return at


port, target = free(), free()
with open(f"{work}/config.yml", "w") as config:
    config.write(f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {work}/data}}}}\nhttp: {{addr: 127.0.0.1:{target}}}\n")
registry = subprocess.Popen(["docker-registry", "serve", f"{work}/config.yml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", target)).close()
            break
        except OSError:
            time.sleep(0.1)
    threading.Thread(target=serve, args=(socket.create_server(("127.0.0.1", port)), target), daemon=True).start()
    os.mkdir(f"{work}/app")
    subprocess.run(["cp", f"{langs}/python-3.11.3.wasm", f"{work}/app/python.wasm"], check=True)
    subprocess.run(["tar", "-xzf", f"{langs}/python-3.11.3.tar.gz", "-C", f"{work}/app"], check=True)
    library = f"{work}/app/usr/local/lib"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", f"{library}/python311.zip", f"{library}/python3.11"], check=True)
    # The module carries a /usr of its own.
    os.symlink("usr/local", f"{work}/app/python")
    name = f"127.0.0.1:{port}/py:1"
    start = ("--entrypoint", "/python.wasm", "--env", "PYTHONHOME=/python", "--env", "PYTHONPATH=/python/lib/python3.11", "--env", "PYTHONHASHSEED=0")
    print1 = ("--", "-c", "print(1)")
    imports = ("--", "-c", "import json, decimal, email.message, http.client, logging, unittest, csv, zipfile; print(2)")
    run("import", "made", "image", "import", f"{work}/app", "--tag", "py:1", quiet=True)
    run("compile", "made", "run", "--image", "py:1", *start, *print1, want=b"1\n")
    local = run("local start, code of the program compiled before", "made", "run", "--image", "py:1", *start, *print1, want=b"1\n")
    run("trace", "made", "run", "--image", "py:1", "--trace", f"{work}/trace", *start, *print1, want=b"1\n", quiet=True)
    run("push", "made", "image", "push", "py:1", name, "--start-set", f"{work}/trace")
    for how in sys.argv[4:] or ("only", "auto", "off"):
        run(f"first start, --lazy {how}", how, "run", "--image", name, "--lazy", how, *start, *print1, want=b"1\n")
        run(f"second process, --lazy {how}", how, "run", "--image", name, "--lazy", how, *start, *print1, want=b"1\n")
    run("first start, code not compiled, --lazy auto", "auto2", "run", "--image", name, "--cache", f"{work}/cache2", *start, *print1, want=b"1\n")
    run("imports of nine packages, --lazy only", "only", "run", "--image", name, "--lazy", "only", *start, *imports, want=b"2\n")
    run("the same again", "only", "run", "--image", name, "--lazy", "only", *start, *imports, want=b"2\n")
    run("store fill", "only", "store", "fill", name)
    run("store verify", "only", "store", "verify")
    print(f"local start {local:.2f} s")
finally:
    registry.terminate()
    registry.wait()
    subprocess.run(["rm", "-rf", work], check=False)
