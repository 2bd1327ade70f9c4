"""What each of a thousand CPython instances does over one shared base.

Imports the better part of the standard library, compiles a package, fills and
asks an SQLite database, makes, renames and removes a tree, and changes files of
the base. Prints digests of what it sees: the same in every instance, if none
sees another's work.
"""

import hashlib
import os
import sys

MODULES = """
abc argparse array ast base64 bisect calendar cmath codecs collections colorsys
configparser contextlib copy csv dataclasses datetime decimal difflib dis enum
fnmatch fractions functools gettext glob graphlib hashlib heapq html imaplib
inspect io ipaddress itertools json keyword linecache locale logging math
mimetypes numbers operator pathlib pickle pprint random re sched secrets
shelve shlex shutil sqlite3 stat statistics string struct tempfile textwrap
timeit token tokenize traceback types typing unicodedata unittest uuid
xml.etree.ElementTree zipfile zlib
""".split()

INSTANCE = os.environ.get("STRATAFS_INSTANCE", "0")
MARK = "mark-of-instance-"


def tree_digest(root):
    """Names, sizes and bytes of all files below a directory."""
    digest = hashlib.sha256()
    count = 0
    for path, dirs, files in os.walk(root):
        dirs.sort()
        for name in sorted(files):
            full = os.path.join(path, name)
            with open(full, "rb") as file:
                data = file.read()
            digest.update(f"{full}\0{len(data)}\0".encode())
            digest.update(data)
            count += 1
    return f"{count} files {digest.hexdigest()[:16]}"


def import_many():
    import importlib

    for name in MODULES:
        importlib.import_module(name)
    loaded = [name for name in MODULES if name in sys.modules]
    print(f"imported: {len(loaded)} of {len(MODULES)}, {len(sys.modules)} in all")


def compile_package():
    import compileall
    import py_compile

    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    fine = compileall.compile_dir("/app/pkg", quiet=1, workers=1, invalidation_mode=mode)
    made = sorted(os.listdir("/app/pkg/__pycache__"))
    print(f"compiled: {bool(fine)}, {made}, {tree_digest('/app/pkg/__pycache__')}")
    sys.path.insert(0, "/app")
    import pkg

    print(f"package says: {pkg.greet('base')}, from {os.path.basename(pkg.__cached__)}")


def database():
    import sqlite3

    os.makedirs("/var/db", exist_ok=True)
    # WASI has no file locks.
    base = sqlite3.connect("file:/var/db/words.sqlite?nolock=1", uri=True)
    base.execute("create table words (word text primary key, count integer)")
    with open("/app/main.py", encoding="utf-8") as file:
        words = file.read().split()
    with base:
        for word in words:
            base.execute(
                "insert into words values (?, 1) on conflict(word) do update set count = count + 1",
                (word,),
            )
        base.execute("insert into words values (?, -1)", (MARK + INSTANCE,))
    with base:
        base.execute("delete from words where length(word) = 1")
    base.execute("create index by_count on words (count)")
    top = base.execute("select word, count from words order by count desc, word limit 3").fetchall()
    marks = base.execute("select count(*) from words where word like ?", (MARK + "%",)).fetchone()
    check = base.execute("pragma integrity_check").fetchone()[0]
    base.close()
    size = os.path.getsize("/var/db/words.sqlite")
    print(f"database: {top}, marks {marks[0]}, {check}, {size} bytes")


def trees():
    import shutil

    for number in range(20):
        os.makedirs(f"/var/tree/{number % 4}/{number}")
        with open(f"/var/tree/{number % 4}/{number}/file.txt", "w") as file:
            file.write(f"line {number}\n" * 100)
    os.rename("/var/tree/1", "/var/renamed")
    os.rename("/var/renamed/5/file.txt", "/var/renamed/moved.txt")
    print(f"tree: {tree_digest('/var/tree')}, renamed: {tree_digest('/var/renamed')}")
    shutil.rmtree("/var/tree")
    print(f"removed: {sorted(os.listdir('/var'))}")


def change_the_base():
    with open("/app/shared.txt", encoding="utf-8") as file:
        text = file.read()
    assert MARK not in text, "another's mark"
    with open("/app/shared.txt", "a", encoding="utf-8") as file:
        file.write(MARK + INSTANCE + "\n")
    with open("/app/shared.txt", encoding="utf-8") as file:
        assert file.read() == text + MARK + INSTANCE + "\n"
    library = os.path.dirname(os.__file__)
    os.rename(f"{library}/json", f"{library}/json-renamed")
    os.remove(f"{library}/os.py")
    marks = [name for name in os.listdir("/") if name.startswith(MARK)]
    assert not marks, marks
    with open(f"/{MARK}{INSTANCE}", "w", encoding="utf-8") as file:
        file.write(INSTANCE)
    os.remove("/app/shared.txt")
    print(f"library: {len(os.listdir(library))} entries, json gone: {not os.path.exists(library + '/json')}")


print(f"Python {sys.version.split()[0]}")
print(f"base: {tree_digest('/app')}")
import_many()
compile_package()
database()
trees()
change_the_base()
