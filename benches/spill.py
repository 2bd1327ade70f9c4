#!/usr/bin/env python3
"""Times a guest that writes 256 MiB with a budget that holds it, and with one of 64 MiB and a file for the rest.

Usage: benches/spill.py [ROUNDS]. Builds what it needs; STRATAFS names a program that is there. Each run is a process
of its own; the sides take turns. The files lie on tmpfs and on the disk of the system's directory for temporary files.
"""

import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROWS = ["new file", "new file and close", "rewritten in place", "cut, rewritten and closed"]


def programs():
    """Builds the program and the guest. Returns their paths."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    strata = os.environ.get("STRATAFS")
    if not strata:
        subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], check=True, cwd=ROOT)
        strata = target / "release/stratafs"
    guests = target / "bench-guests"
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "--target", "wasm32-wasip1", "--features", "raw",
                    "--bin", "bench_writes", "--manifest-path", "guest-examples/Cargo.toml", "--target-dir", str(guests)],
                   check=True, cwd=ROOT)
    return str(strata), str(guests / "wasm32-wasip1/release/bench_writes.wasm")


def run(command):
    """Runs a guest. Returns its milliseconds, and the MiB that its process had of its own and of files at most."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        told = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"benches/spill.py: {command} ended with {child.returncode}")
    return [int(word) / 1000 for word in told.split()], usage.ru_maxrss / 1024


def main():
    """Prints one table: milliseconds as median [least..most]."""
    words = sys.argv[1:] or ["5"]
    if len(words) != 1 or not words[0].isdecimal() or int(words[0]) == 0:
        sys.exit(f"benches/spill.py: unknown arguments {words}: expected a number of rounds above 0")
    strata, guest = programs()
    disk, memory = pathlib.Path(tempfile.mkdtemp()), pathlib.Path(tempfile.mkdtemp(dir="/dev/shm"))
    common = [strata, "run", "--share", "none", "--max-bytes", "1G", "--cache", str(memory)]
    sides = {"in memory": [*common, "--budget", "2G"],
             "past 48 MiB in a file on tmpfs": [*common, "--budget", "64M", "--spill", str(memory)],
             "past 48 MiB in a file on the disk": [*common, "--budget", "64M", "--spill", str(disk)]}
    taken = {side: [] for side in sides}
    for _ in range(int(words[0])):
        for side, command in sides.items():
            taken[side].append(run([*command, guest, "/", str(64 << 10), "256"]))
    print("| 256 MiB by 64 KiB, milliseconds: median [least..most] | " + " | ".join(sides) + " |")
    print("|---|" + "---|" * len(sides))
    for row, what in enumerate(ROWS):
        of = [sorted(times[row] for times, _ in turns) for turns in taken.values()]
        print(f"| {what} | " + " | ".join(f"{statistics.median(t):.0f} [{t[0]:.0f}..{t[-1]:.0f}]" for t in of) + " |")
    most = [statistics.median(peak for _, peak in turns) for turns in taken.values()]
    print("| MiB resident at most, pages of the file included | " + " | ".join(f"{peak:.0f}" for peak in most) + " |")
    shutil.rmtree(disk)
    shutil.rmtree(memory)


main()
