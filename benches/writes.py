#!/usr/bin/env python3
"""Times how guests write a file of 32 MiB: under stratafs and under wasmtime-wasi on tmpfs.

Usage: benches/writes.py [ROUNDS]. Builds what it needs. Each run is a process of its own, so "new file" is a first
touch of all memory; the sides take turns. STRATAFS and HOST name programs that are there, so that none is built;
BEFORE names another stratafs to compare with.
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
PIECES = [4 << 10, 64 << 10, 1 << 20]


def cargo(*words):
    """Runs cargo in the project."""
    subprocess.run(["cargo", *words], check=True, cwd=ROOT)


def programs():
    """Builds the two hosts and the guest. Returns their paths."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    strata, host = os.environ.get("STRATAFS"), os.environ.get("HOST")
    if not (strata and host):
        cargo("build", "--release", "--locked", "--quiet", "--bin", "stratafs", "--example", "host_dir_run")
        strata, host = target / "release/stratafs", target / "release/examples/host_dir_run"
    guests = target / "bench-guests"
    cargo("build", "--release", "--locked", "--quiet", "--target", "wasm32-wasip1", "--features", "raw",
          "--bin", "bench_writes", "--manifest-path", "guest-examples/Cargo.toml", "--target-dir", str(guests))
    return str(strata), str(host), str(guests / "wasm32-wasip1/release/bench_writes.wasm")


def main():
    """Prints one table: milliseconds as median [least..most], and ratios to wasmtime-wasi."""
    words = sys.argv[1:] or ["7"]
    if len(words) != 1 or not words[0].isdecimal() or int(words[0]) == 0:
        sys.exit(f"benches/writes.py: unknown arguments {words}: expected a number of rounds above 0")
    rounds = int(words[0])
    strata, host, guest = programs()
    work = pathlib.Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    sides = {"stratafs": [strata, "run", "--cache", work / "c1"],
             "stratafs --share run": [strata, "run", "--share", "run", "--cache", work / "c1"],
             "stratafs --share none": [strata, "run", "--share", "none", "--cache", work / "c1"]}
    if os.environ.get("BEFORE"):
        sides["before"] = [os.environ["BEFORE"], "run", "--cache", work / "c0"]
    print("| milliseconds: median [least..most] | wasmtime-wasi | " + " | ".join(f"{side} | ratio" for side in sides) + " |")
    print("|---|---|" + "---|---|" * len(sides))
    for piece in PIECES:
        taken = {side: [] for side in ["wasmtime-wasi", *sides]}
        for _ in range(rounds):
            for side in taken:
                if side == "wasmtime-wasi":
                    shutil.rmtree(work / "dir", ignore_errors=True)
                    (work / "dir").mkdir()
                    command = [host, "--cache", work / "c2", work / "dir", guest, "/", str(piece)]
                else:
                    command = [*sides[side], guest, "/", str(piece)]
                told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                taken[side].append([int(word) / 1000 for word in told.split()])
        for row, what in enumerate(ROWS):
            of = {side: sorted(turn[row] for turn in turns) for side, turns in taken.items()}
            middle = {side: statistics.median(times) for side, times in of.items()}
            shown = {side: f"{middle[side]:.1f} [{times[0]:.1f}..{times[-1]:.1f}]" for side, times in of.items()}
            cells = [f"{shown[side]} | {middle['wasmtime-wasi'] / middle[side]:.1f}" for side in sides]
            print(f"| {what}, by {piece >> 10} KiB | {shown['wasmtime-wasi']} | " + " | ".join(cells) + " |")
    shutil.rmtree(work)


main()
