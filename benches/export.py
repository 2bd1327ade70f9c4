#!/usr/bin/env python3
"""Times OCI exports of an image made here beside `tar -c`, and beside gzip alone on the same bytes.

Usage: benches/export.py [ROUNDS]. Builds what it needs; STRATAFS names a program that is there. The image is one layer
of 2,000 files, 64 MiB that compress to about half; all of it lies on tmpfs. The sides take turns. Processor time is
that of all threads.
"""

import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def make_tree(top):
    """Writes the files."""
    chance = random.Random(1)
    words = [chance.randbytes(4).hex().encode() for _ in range(4000)]
    for number in range(2000):
        path = top / f"{number % 40:02}" / f"{number:04}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = chance.choice([4 << 10, 16 << 10, 32 << 10, 64 << 10])
        path.write_bytes(b" ".join(chance.choice(words) for _ in range(size // 9)))


def run(command):
    """Runs a command. Returns its seconds by the wall and by processors."""
    before = os.times()
    subprocess.run(command, check=True, shell=isinstance(command, str), stdout=subprocess.DEVNULL)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return after.elapsed - before.elapsed, used


def main():
    """Prints one table: seconds as median [least..most]."""
    words = sys.argv[1:] or ["5"]
    if len(words) != 1 or not words[0].isdecimal() or int(words[0]) == 0:
        sys.exit(f"benches/export.py: unknown arguments {words}: expected a number of rounds above 0")
    strata = os.environ.get("STRATAFS")
    if not strata:
        subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], check=True, cwd=ROOT)
        strata = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/stratafs"
    work = pathlib.Path(tempfile.mkdtemp(dir="/dev/shm"))
    make_tree(work / "tree")
    store = ["--store", str(work / "store")]
    subprocess.run([str(strata), "image", "import", str(work / "tree"), "--tag", "x:1", *store], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["tar", "-c", "-f", str(work / "same.tar"), "-C", str(work / "tree"), "."], check=True)
    sides = {"`tar -c`": ["tar", "-c", "-f", str(work / "a.tar"), "-C", str(work / "tree"), "."],
             "`image export`, not compressed": [str(strata), "image", "export", "x:1", str(work / "b.tar"), *store],
             "`gzip -6` of that tar, alone": f"gzip -6 -c {work}/same.tar >{work}/c.gz",
             "`image export --compress gzip`": [str(strata), "image", "export", "x:1", str(work / "d.tar"), "--compress", "gzip", *store],
             "`image export --compress zstd`": [str(strata), "image", "export", "x:1", str(work / "e.tar"), "--compress", "zstd", *store]}
    taken = {side: [] for side in sides}
    for _ in range(int(words[0])):
        for side, command in sides.items():
            taken[side].append(run(command))
            for made in work.glob("[a-e].*"):
                made.unlink()
    print("| seconds: median [least..most] | by the wall | by processors |")
    print("|---|---|---|")
    for side, turns in taken.items():
        kinds = [sorted(turn[kind] for turn in turns) for kind in (0, 1)]
        print(f"| {side} | " + " | ".join(f"{statistics.median(t):.2f} [{t[0]:.2f}..{t[-1]:.2f}]" for t in kinds) + " |")
    shutil.rmtree(work)


main()
