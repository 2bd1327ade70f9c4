#!/usr/bin/env python3
"""Times builds of recipes: 20 steps that are all kept, COPY of 100,000 files, and the same after one of them changed.

Usage: benches/recipes.py [FILES [BYTES [ROUNDS]]], 100000 1000000000 5 unless said. Builds what it needs; STRATAFS names a
program that is there. The files are of equal length, hold random bytes, and lie on tmpfs with the store. Beside COPY stands
what reads the same bytes and hashes them once: `tar -c` into `b3sum`, or `sha256sum` where that is missing. The sides take
turns. The build of 20 steps copies a file of 1 MiB in each; what it takes beyond hashing is what is left of it without the
time of that hash. Where strace is installed, the system calls of one build of each kind are counted after the rounds.
"""

import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

STEPS = 20
STEP_BYTES = 1 << 20


def run(command):
    """Runs a command. Returns its seconds by the wall and by processors."""
    before = os.times()
    subprocess.run(command, check=True, shell=isinstance(command, str), stdout=subprocess.DEVNULL)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return after.elapsed - before.elapsed, used


def numbers(words):
    """Reads the arguments: files, bytes, rounds."""
    usual = ["100000", "1000000000", "5"]
    words = words + usual[len(words):]
    if len(words) != 3 or any(not word.isdecimal() or int(word) == 0 for word in words):
        sys.exit(f"benches/recipes.py: expected [FILES [BYTES [ROUNDS]]], each above 0, found {words}")
    return [int(word) for word in words]


def program():
    """Finds the program, or builds it."""
    named = os.environ.get("STRATAFS")
    if named:
        return named
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], check=True, cwd=ROOT)
    return str(pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/stratafs")


def make_files(top, files, size):
    """Writes files of one length in directories of a thousand."""
    chance = random.Random(1)
    for number in range(files):
        path = top / f"{number // 1000:03}" / f"{number:06}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(size))


def make_steps(top):
    """Writes a context whose recipe has a step for each of its files."""
    chance = random.Random(2)
    top.mkdir()
    lines = ["FROM scratch"]
    for number in range(STEPS):
        (top / f"f{number}").write_bytes(chance.randbytes(STEP_BYTES))
        lines.append(f"COPY f{number} /in/f{number}")
    (top / "Dockerfile").write_text("\n".join(lines) + "\n")


def calls(command):
    """Counts the system calls of a command, or returns None where nobody can."""
    if not shutil.which("strace"):
        return None
    with tempfile.NamedTemporaryFile("r") as told:
        done = subprocess.run(["strace", "-f", "-c", "-o", told.name, *command], stdout=subprocess.DEVNULL, check=False)
        total = re.search(r"^\s*100\.00\s+\S+\s+(?:\d+\s+)?(\d+)", told.read(), re.MULTILINE)
    return int(total.group(1)) if done.returncode == 0 and total else None


def row(name, taken, size=None):
    """Prints one line of the table."""
    wall = [seconds for seconds, _ in taken]
    used = statistics.median(seconds for _, seconds in taken)
    median = statistics.median(wall)
    rate = f"{size / median / 1e9:.2f}" if size else ""
    print(f"| {name} | {median:.3f} [{min(wall):.3f}..{max(wall):.3f}] | {used:.3f} | {rate} |")


def main():
    """Prints one table: seconds as median [least..most]."""
    files, size, rounds = numbers(sys.argv[1:])
    strata = program()
    work = pathlib.Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        measure(strata, work, files, size, rounds)
    finally:
        shutil.rmtree(work)


def measure(strata, work, files, size, rounds):
    """Makes the contexts, and lets the sides take turns."""
    hasher = "b3sum" if shutil.which("b3sum") else "sha256sum"
    each = max(size // files, 1)
    make_files(work / "ctx/src", files, each)
    (work / "ctx/Dockerfile").write_text("FROM scratch\nCOPY src /src\n")
    make_steps(work / "steps")
    store = ["--store", str(work / "store")]

    def build(context, *more):
        return [strata, "image", "build", "-q", *more, str(work / context), "--tag", context, *store]

    changed = work / "ctx/src/000/000000"
    kept = f"COPY of {files} files, kept"
    steps = f"{STEPS} steps of 1 MiB, all kept"
    sides = {f"`tar -c` into `{hasher}`": f"tar -c -C {work}/ctx src | {hasher}",
             f"COPY of {files} files, first": build("ctx"),
             kept: build("ctx"),
             "COPY, one file changed": build("ctx"),
             f"`{hasher}` of the files of the steps": f"cat {work}/steps/f* | {hasher}",
             steps: build("steps")}
    subprocess.run(sides[steps], check=True, stdout=subprocess.DEVNULL)
    taken = {side: [] for side in sides}
    for turn in range(rounds):
        for side, command in sides.items():
            if side.endswith("first"):
                shutil.rmtree(work / "store")
                subprocess.run(sides[steps], check=True, stdout=subprocess.DEVNULL)
            if side.endswith("changed"):
                changed.write_bytes(f"{turn}".encode().ljust(each, b"."))
            taken[side].append(run(command))
    total = files * each
    print(f"{files} files of {each} bytes, {rounds} rounds; seconds as median [least..most]\n")
    print("| what | s | processors, s | GB/s |")
    print("|---|---|---|---|")
    for side, all_of in taken.items():
        few = STEPS * STEP_BYTES
        row(side, all_of, few if "steps" in side else total)
    whole = statistics.median(seconds for seconds, _ in taken[steps])
    alone = statistics.median(seconds for seconds, _ in taken[f"`{hasher}` of the files of the steps"])
    print(f"\n{STEPS} kept steps beyond hashing: {(whole - alone) * 1000:.1f} ms")
    for side in (kept, steps):
        count = calls(sides[side])
        if count is not None:
            print(f"system calls, {side}: {count}")


if __name__ == "__main__":
    main()
