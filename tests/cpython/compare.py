"""Compares what became of each test on the two hosts.

    compare.py WANT GOT KNOWN

Exits with 1 when a test that passes or skips in WANT does neither in GOT, when
one is missing, or when a module did not come to its end. KNOWN has reasons for
what fails in WANT: lines of a test's name, a tab, and the reason.
"""

import sys


def read(path):
    became, ends = {}, []
    with open(path) as lines:
        for line in lines:
            what, name = line.split("  #")[0].split(None, 1)
            if what == "END":
                ends.append(line.strip())
            elif what != "==":
                became[name.strip()] = what
    return became, ends


def main(want, got, known):
    (want, want_ends), (got, got_ends) = read(want), read(got)
    with open(known) as lines:
        known = dict(line.rstrip("\n").split("\t") for line in lines if not line.startswith("#"))
    wrong = [] if got else ["no test was run"]
    wrong += [f"did not come to its end: {end}" for end in want_ends + got_ends]
    better, both = [], []
    for name in sorted(want.keys() | got.keys()):
        there, here = want.get(name, "missing"), got.get(name, "missing")
        if here in ("FAIL", "missing") and there != "FAIL":
            wrong.append(f"{name}: {there} under plain wasmtime, {here} here")
        elif here == "FAIL":
            both.append(name)
        elif there in ("FAIL", "missing"):
            better.append(name)
    counts = {kind: list(got.values()).count(kind) for kind in ("ok", "skip", "omit", "FAIL")}
    print(f"{len(got)} tests: {counts['ok']} passed, {counts['skip']} skipped, {counts['omit']} omitted, "
          f"{counts['FAIL']} failed on both hosts")
    for name in both:
        print(f"fails on both hosts: {name}: {known.get(name, 'no reason is listed')}")
    for name in better:
        print(f"passes here only: {name}: {known.get(name, 'no reason is listed')}")
    for line in wrong:
        print(f"error: {line}")
    if wrong:
        print("error: see target/cpython/suite/out")
    sys.exit(bool(wrong))


main(*sys.argv[1:])
