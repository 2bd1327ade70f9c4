#!/usr/bin/env python3
"""What a process with a large program takes: memory of the first instance and of one more, and the time from the
start of a process that knows the program to the guest's first instruction.

Usage: benches/process.py CPYTHON.wasm LIBRARY.tar.gz [ROUNDS]. The program and the archive of its library are those
that README.md names. STRATAFS names a program that is there, so that none is built.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# This CPython cannot sleep.
WAITS = "import time\nend = time.monotonic() + 6\nwhile time.monotonic() < end:\n    pass\n"
MORE = 4


def private_bytes(pid):
    """Adds up what a process has written to and shares with nobody."""
    lines = pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_Dirty:"))


def held(run, guest, instances):
    """Returns the private memory of a process with so many instances, all of which wait by then."""
    command = [*run, "--instances", str(instances), "--threads", str(instances), *guest, "-c", WAITS]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        time.sleep(4)
        found = private_bytes(process.pid)
    return found


def spread(figures, unit=1e-6):
    """Writes a median with the least and the most."""
    figures = sorted(figure * unit for figure in figures)
    return f"{statistics.median(figures):.1f} [{figures[0]:.1f}..{figures[-1]:.1f}]"


def started(run, guest, stats):
    """Runs a guest to its end. Returns the nanoseconds to its first instruction and of the whole process."""
    began = time.perf_counter_ns()
    subprocess.run([*run, "--stats", stats, *guest], check=True, stdout=subprocess.DEVNULL)
    whole = time.perf_counter_ns() - began
    ran = json.loads(pathlib.Path(stats).read_text())["run_ns"]["median"]
    return whole - ran, whole


def main():
    """Prints one table."""
    words = sys.argv[1:]
    if len(words) not in (2, 3) or (len(words) == 3 and not words[2].isdecimal()):
        sys.exit(f"benches/process.py: unknown arguments {words}: expected CPYTHON.wasm LIBRARY.tar.gz [ROUNDS]")
    wasm, library = words[:2]
    rounds = int(words[2]) if len(words) == 3 else 9
    strata = os.environ.get("STRATAFS")
    if not strata:
        subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "--bin", "stratafs"], check=True, cwd=ROOT)
        strata = str(pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/stratafs")
    with tempfile.TemporaryDirectory() as work:
        stats = os.path.join(work, "stats.json")
        empty = os.path.join(work, "empty.wat")
        pathlib.Path(empty).write_text('(module (memory (export "memory") 1) (func (export "_start")))')
        run = [strata, "run", "--cache", os.path.join(work, "cache")]
        guest = ["--layer", library, wasm]
        python = [*guest, "-c", "pass"]
        unknown = started(run, python, stats)
        started(run, [empty], stats)
        known, nothing = [], []
        for _ in range(rounds):
            known.append(started(run, python, stats))
            nothing.append(started(run, [empty], stats))
        # Pages of a file that was just written count as its mapper's until they are on the disk.
        os.sync()
        one = [held(run, guest, 1) for _ in range(3)]
        several = [held(run, guest, 1 + MORE) for _ in range(3)]
        more = (statistics.median(several) - statistics.median(one)) / MORE
        rows = [
            ("CPython, to its first instruction, ms", spread(first for first, _ in known)),
            ("CPython, `pass`, the whole process, ms", spread(whole for _, whole in known)),
            ("the same, its program compiled by this process, ms", f"{unknown[1] / 1e6:.0f}"),
            ("an empty module, to its first instruction, ms", spread(first for first, _ in nothing)),
            ("private memory of a process with a CPython, MiB", spread(one, 1 / (1 << 20))),
            (f"one more CPython in it, of {MORE}, MiB", f"{more / (1 << 20):.1f}"),
        ]
        print("| a process with a CPython, program known: median [least..most] | |")
        print("|---|---|")
        for name, figure in rows:
            print(f"| {name} | {figure} |")


main()
