"""What a whole pull costs in CPU time, beside containerd's of the same image: cost.py PROGRAM [ROUNDS].

PROGRAM is `stratafs`. Needs root, and Debian's docker-registry and containerd. The image is Python's library, as this machine has it, and 40 MB of noise, in two layers. Prints
user and system time of each round: of `stratafs image pull`; of `ctr image pull` together with the daemon, which fetches and unpacks. Wall-clock time is not told: other work changes it."""

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time

program = os.path.realpath(sys.argv[1])
rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
work = tempfile.mkdtemp()
started = []


def free():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def begin(*words, ready):
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    started.append(child)
    for _ in range(100):
        if ready():
            return child
        time.sleep(0.1)
    sys.exit(f"{words[0]} does not start")


def answers(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def spent_by(pid):
    """User and system time of a process, all its threads, in seconds."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / ticks, int(fields[12]) / ticks


def run(*words, store):
    """Runs a command. Returns its user and system time."""
    env = dict(os.environ, STRATAFS_STORE=f"{work}/{store}", DOCKER_CONFIG=work)
    child = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        sys.exit(f"{words}: status {status}")
    return usage.ru_utime, usage.ru_stime


def show(label, times):
    times = sorted(times, key=sum)
    middle = times[len(times) // 2]
    print(f"{label:32} {sum(middle):6.2f} s: user {middle[0]:.2f}, system {middle[1]:.2f}; least {sum(times[0]):.2f}, most {sum(times[-1]):.2f}")


port = free()
with open(f"{work}/config.yml", "w") as config:
    config.write(f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {work}/data}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n")
address = f"{work}/ctr.sock"
with open(f"{work}/containerd.toml", "w") as config:
    config.write(f'version = 2\nroot = "{work}/root"\nstate = "{work}/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{address}"\n')
try:
    begin("docker-registry", "serve", f"{work}/config.yml", ready=lambda: answers(port))
    library = sysconfig.get_paths()["stdlib"]
    shutil.copytree(library, f"{work}/library", symlinks=True, ignore=shutil.ignore_patterns("dist-packages", "site-packages"), ignore_dangling_symlinks=True)
    os.mkdir(f"{work}/noise")
    with open(f"{work}/noise/noise", "wb") as noise:
        noise.write(os.urandom(40_000_000))
    files = [os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(work) for name in names if at.startswith((f"{work}/library", f"{work}/noise")) and not os.path.islink(os.path.join(at, name))]
    print(f"{len(files)} files, {sum(files) / 1e6:.1f} MB")
    run(program, "image", "import", f"{work}/library", "--layer", f"{work}/noise", "--tag", "app:1", store="made")
    layers, packs = f"127.0.0.1:{port}/app:1", f"127.0.0.1:{port}/packs:1"
    run(program, "image", "push", "app:1", layers, store="made")
    run(program, "image", "push", "app:1", packs, "--packs", store="made")
    own, of_packs, theirs = [], [], []
    for number in range(rounds):
        own.append(run(program, "image", "pull", layers, store=f"layers-{number}"))
        of_packs.append(run(program, "image", "pull", packs, store=f"packs-{number}"))
        for left in (f"{work}/layers-{number}", f"{work}/packs-{number}", f"{work}/root", f"{work}/state"):
            shutil.rmtree(left, ignore_errors=True)
        daemon = begin("containerd", "-c", f"{work}/containerd.toml", ready=lambda: os.path.exists(address))
        before = spent_by(daemon.pid)
        words = ("ctr", "-a", address, "images", "pull", "--plain-http", "--platform", "linux/amd64", "--snapshotter", "native", layers)
        client = run(*words, store="none")
        after = spent_by(daemon.pid)
        theirs.append(tuple(client[at] + after[at] - before[at] for at in (0, 1)))
        daemon.terminate()
        daemon.wait()
        if os.path.exists(address):
            os.remove(address)
    show("stratafs image pull", own)
    show("the same, in packs", of_packs)
    show("ctr image pull and containerd", theirs)
finally:
    for child in started:
        child.terminate()
        child.wait()
    shutil.rmtree(work, ignore_errors=True)
