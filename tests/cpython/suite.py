"""Runs modules of CPython's own test suite in this process.

    suite.py [--utf-8] MODULE...      names without `test.`

With --utf-8 no name is other bytes: a component's strings cannot carry such,
and end it with a trap in any host.

Prints a line for each test: what became of it, its name, and why, without what
differs from run to run. What the tests themselves print goes to stderr.
"""

import os
import re
import sys
import tempfile
import traceback
import unittest

import test.support
from test.support import os_helper


# Not run, on either host: what becomes of them is not the file system's doing.
OMITTED = {
    "RecursiveRepr": "ends this Python: it has a small stack",
    "recursive_repr": "ends this Python: it has a small stack",
    "test_main_recursion_error": "ends this Python: it has a small stack",
    "recursion": "ends this Python: it has a small stack",
    "test_recursive": "ends this Python: it has a small stack",
    "test_malformed_paths": "is for a later zipfile: never ends in this one",
}

# Not run as a component.
BYTES = {
    name: "names a file with bytes that are no UTF-8"
    for name in ("Pep383Tests", "test_nonascii_abspath", "GenericTest.test_exists", "GenericTest.test_isdir",
                 "GenericTest.test_isfile", "PosixCommonTest.test_exists", "PosixCommonTest.test_isdir",
                 "PosixCommonTest.test_isfile",
                 "test_islink", "test_ismount", "test_invalid_paths", "test_lexists")
}


class Log(unittest.TestResult):
    """Keeps the worst of what happened to each test."""

    ORDER = {"ok": 0, "omit": 1, "skip": 1, "FAIL": 2}

    def __init__(self):
        super().__init__()
        self.became = {}

    def say(self, test, what, why=""):
        # A subtest counts for its test; set-up that fails, for its class.
        test = getattr(test, "test_case", test)
        name = test.id() if hasattr(test, "id") else repr(test)
        why = re.sub(r"@test_\d+_tmp\w*|0x[0-9a-f]+|\d{5,}|/tmp\w+|/tmp/\S+", "_", why)
        old = self.became.get(name, ("ok", ""))
        if self.ORDER[what] >= self.ORDER[old[0]]:
            self.became[name] = (what, why)

    def startTest(self, test):
        print(test.id(), file=sys.stderr, flush=True)

    def addSuccess(self, test):
        self.say(test, "ok")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.say(test, "skip", reason)

    def addExpectedFailure(self, test, err):
        self.say(test, "ok")

    def addUnexpectedSuccess(self, test):
        self.say(test, "FAIL", "expected to fail")

    def addError(self, test, err):
        lines = str(err[1]).strip().splitlines() or [""]
        self.say(test, "FAIL", f"{err[0].__name__}: {lines[0][:120]}")
        traceback.print_exception(*err)

    addFailure = addError

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.addError(test, err)


def kept(suite, log):
    """Gives a suite without the tests that are omitted."""
    left = unittest.TestSuite()
    for part in suite:
        if isinstance(part, unittest.TestSuite):
            left.addTest(kept(part, log))
            continue
        why = [why for name, why in OMITTED.items() if name in part.id()]
        if why:
            log.say(part, "omit", why[0])
        else:
            left.addTest(part)
    return left


def lend():
    """Gives what this Python is without and whole modules are skipped for."""
    import socket
    import test.support.socket_helper

    test.support.socket_helper.has_gethostname = True
    socket.gethostname = lambda: "guest"


def main(modules):
    if modules[0] == "--utf-8":
        modules.pop(0)
        os_helper.TESTFN_UNDECODABLE = None
        OMITTED.update(BYTES)
    os.chdir("/tests")
    tempfile.tempdir = "/tmp"
    test.support.use_resources = []
    test.support.verbose = 0
    lend()
    log = Log()
    out, sys.stdout = sys.stdout, sys.stderr
    for module in modules:
        try:
            suite = unittest.defaultTestLoader.loadTestsFromName("test." + module)
        except unittest.SkipTest as skip:
            log.became[module] = ("skip", str(skip))
        else:
            kept(suite, log).run(log)
    sys.stdout = out
    for name, (what, why) in sorted(log.became.items()):
        print(f"{what:4} {name.removeprefix('test.')}" + (f"  # {why}" if why else ""))
    print(f"== {' '.join(modules)}: {len(log.became)} tests")


main(sys.argv[1:])
