#!/usr/bin/env python3
"""What going on from a checkpoint costs, beside starting anew: time to the first output against the number of
instances, memory of instances that are alive, and how fast code runs that goes on.

Usage: benches/frozen.py CPYTHON.wasm LIBRARY.tar.gz [ROUNDS [PLOT.svg]]. The program and the archive of its library
are those that README.md names. STRATAFS names a program that is there, so that none is built.

The guest imports many modules, opens two files, and is frozen at `/.stratafs/checkpoint`; behind it, it prints a
line. Fresh instances and those that go on take turns. All that is printed says which program was measured and how busy
the machine was.
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
COUNTS = [1, 10, 100, 1000]
# Fresh ones take minutes past that.
MOST_FRESH = 100
ALIVE = 100

PREPARED = """
import argparse, ast, base64, bisect, calendar, codecs, collections, colorsys, configparser, contextlib, copy, csv
import dataclasses, datetime, decimal, difflib, dis, email, enum, fnmatch, fractions, functools, glob, hashlib, heapq
import html, inspect, io, itertools, json, keyword, locale, logging, math, operator, pathlib, pickle, pprint, random
import re, shlex, sqlite3, statistics, string, struct, tempfile, textwrap, threading, time, tokenize, traceback
import typing, unittest, uuid, zipfile
one, two = open('/app/data.txt'), open('/tmp/log', 'a+')
one.readline()
db = sqlite3.connect(':memory:')
db.execute('create table t (a, b)')
try:
    open('/.stratafs/checkpoint').close()
except OSError:
    pass
"""
SAYS = PREPARED + "print(one.readline().strip(), db.execute('select count(*) from t').fetchone(), flush=True)\n"
# What an interpreter tidies up at its end is left out, of both.
FIRST = SAYS + "import os\nos._exit(0)\n"
# This CPython cannot sleep.
WAITS = SAYS + "end = time.monotonic() + 12\nwhile time.monotonic() < end:\n    pass\n"
# The same work in frames that are new, as a function of C calls it, and in those that stood at the checkpoint.
SPEED = PREPARED + """
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)
def work():
    total = 0
    for n in range(60000):
        total += n * n % 7
    fib(17)
    sorted(range(40000), key=lambda n: n * 7919 % 40009)
    return total
def best(call):
    times = []
    for _ in range(9):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)
new = list(map(best, [work]))[0]
times = []
for _ in range(9):
    start = time.perf_counter()
    total = 0
    for n in range(60000):
        total += n * n % 7
    fib(17)
    sorted(range(40000), key=lambda n: n * 7919 % 40009)
    times.append(time.perf_counter() - start)
print(json.dumps([new, min(times)]))
"""


class Bench:
    def __init__(self, strata, python, library, home):
        self.strata, self.python, self.library = strata, python, library
        self.home = pathlib.Path(home)
        app = self.home / "base/app"
        app.mkdir(parents=True)
        (app / "data.txt").write_text("line one\nline two\nline three\n")
        for name, text in [("first.py", FIRST), ("waits.py", WAITS), ("speed.py", SPEED)]:
            (app / name).write_text(text)
        self.environment = dict(os.environ, STRATAFS_STORE=str(self.home / "store"))

    def command(self, *words):
        return [self.strata, *map(str, words)]

    def run(self, *words):
        return subprocess.run(self.command(*words), env=self.environment, check=True, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL)

    def guest(self, script):
        return ["--layer", self.library, "--layer", self.home / "base", self.python, f"/app/{script}.py"]

    def prepare(self, script):
        start = time.perf_counter()
        self.run("image", "prepare", "--at", "path:/.stratafs/checkpoint", "--tag", f"{script}:warm", *self.guest(script))
        return time.perf_counter() - start

    def words(self, kind, script):
        return ["--image", f"{script}:warm"] if kind == "thawed" else self.guest(script)

    def many(self, kind, script, count):
        """Runs instances one after the other. Returns seconds, and the statistics of the program."""
        stats = self.home / "stats.json"
        start = time.perf_counter()
        self.run("run", "--instances", count, "--stats", stats, *self.words(kind, script))
        return time.perf_counter() - start, json.loads(stats.read_text())

    def alive(self, count):
        """Returns the memory of a process with so many instances that go on and are alive, in KiB."""
        words = self.command("run", "--instances", count, "--threads", count, *self.words("thawed", "waits"))
        process = subprocess.Popen(words, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        time.sleep(8)
        rollup = pathlib.Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        process.communicate()
        return {line.split()[0]: int(line.split()[1]) for line in rollup.splitlines()[1:]}["Pss:"]


def programs(arguments):
    if len(arguments) < 2:
        sys.exit(__doc__)
    strata = os.environ.get("STRATAFS")
    if not strata:
        subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], check=True, cwd=ROOT)
        strata = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/stratafs"
    return str(strata), arguments[0], arguments[1]


def plot(path, times):
    """Draws seconds to the first output of the last of N instances, both axes logarithmic."""
    from math import log10
    marks = {"fresh": "#c0392b", "thawed": "#2471a3"}
    points = [value for series in times.values() for value in series.values()]
    low, high = log10(min(points)), log10(max(points))
    across = lambda n: 70 + 480 * log10(n) / log10(COUNTS[-1])
    up = lambda t: 330 - 280 * (log10(t) - low) / (high - low)
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="640" height="400" font-family="sans-serif" font-size="13">',
           '<rect width="640" height="400" fill="white"/>',
           '<text x="70" y="25">Seconds until the last of N instances has printed, one thread (CPython 3.11)</text>']
    for n in COUNTS:
        out.append(f'<text x="{across(n):.0f}" y="355" text-anchor="middle">{n}</text>')
    for kind, series in times.items():
        line = " ".join(f"{across(n):.1f},{up(t):.1f}" for n, t in series.items())
        out.append(f'<polyline points="{line}" fill="none" stroke="{marks[kind]}" stroke-width="2"/>')
        for n, t in series.items():
            out.append(f'<circle cx="{across(n):.1f}" cy="{up(t):.1f}" r="3" fill="{marks[kind]}"/>'
                       f'<text x="{across(n) + 6:.1f}" y="{up(t) - 6:.1f}">{t:.3g}</text>')
        last = max(series)
        out.append(f'<text x="{across(last) + 6:.1f}" y="{up(series[last]) + 14:.1f}" fill="{marks[kind]}">{kind}</text>')
    pathlib.Path(path).write_text("\n".join(out + ["</svg>", ""]))


def main():
    strata, python, library = programs(sys.argv[1:])
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    with tempfile.TemporaryDirectory() as home:
        bench = Bench(strata, python, library, home)
        print(f"{strata}, load {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors")
        bench.run("run", *bench.guest("first"))
        for script in ["first", "waits", "speed"]:
            print(f"prepare {script}: {bench.prepare(script):.2f} s")
        bench.run("run", "--image", "first:warm")
        times = {"fresh": {}, "thawed": {}}
        print("| instances | fresh, s | thawed, s | ratio | thawed: start, us | start and first output, us |")
        print("|---|---|---|---|---|---|")
        for count in COUNTS:
            took = {"fresh": [], "thawed": []}
            for _ in range(rounds if count < 1000 else 1):
                for kind in took:
                    if kind == "thawed" or count <= MOST_FRESH:
                        seconds, stats = bench.many(kind, "first", count)
                        took[kind].append(seconds)
            medians = {kind: statistics.median(all) for kind, all in took.items() if all}
            for kind, median in medians.items():
                times[kind][count] = median
            fresh = f"{medians['fresh']:.2f}" if "fresh" in medians else "-"
            ratio = f"{medians['fresh'] / medians['thawed']:.0f}x" if "fresh" in medians else "-"
            start, run = stats["start_ns"]["median"] / 1000, stats["run_ns"]["median"] / 1000
            print(f"| {count} | {fresh} | {medians['thawed']:.3f} | {ratio} | {start:.0f} | {start + run:.0f} |")
        one, many = bench.alive(1), bench.alive(ALIVE)
        print(f"memory of each of {ALIVE} that are alive: {(many - one) / (ALIVE - 1):.0f} KiB")
        speeds = {kind: [] for kind in times}
        for _ in range(rounds):
            for kind in speeds:
                words = bench.words(kind, "speed")
                speeds[kind].append(json.loads(bench.run("run", *words).stdout))
        for at, what in enumerate(["new", "cloned"]):
            ratio = min(one[at] for one in speeds["thawed"]) / min(one[at] for one in speeds["fresh"])
            print(f"code in {what} frames, thawed against fresh: {ratio:.2f}")
        if len(sys.argv) > 4:
            plot(sys.argv[4], times)


main()
