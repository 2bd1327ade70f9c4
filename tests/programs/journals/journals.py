"""SQLite inside CPython: each kind of journal, rollbacks, a vacuum, a copy of a
database in mid-transaction.

The cache keeps its size: this build traps when a transaction spills."""
import os
import sqlite3

os.chdir("/work")
for mode in ("delete", "truncate", "persist", "memory", "wal", "off"):
    name = f"{mode}.db"
    db = sqlite3.connect(name, isolation_level=None)
    kind = db.execute(f"PRAGMA journal_mode = {mode}").fetchone()[0]
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB, word TEXT UNIQUE)")
    for batch in range(5):
        db.execute("BEGIN")
        rows = ((bytes([i % 251]) * (i % 900), f"{batch}/{i}") for i in range(400))
        db.executemany("INSERT INTO t (body, word) VALUES (?, ?)", rows)
        db.execute("COMMIT")
    while_open = []
    if mode != "off":
        db.execute("BEGIN")
        db.execute("UPDATE t SET body = zeroblob(1500)")
        while_open = sorted(entry for entry in os.listdir(".") if entry.startswith(mode))
        db.execute("ROLLBACK")
    before = db.execute("SELECT count(*), sum(length(body)), max(word) FROM t").fetchone()
    db.execute("DELETE FROM t WHERE id % 3")
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute("VACUUM")
    after = db.execute("PRAGMA page_count").fetchone()[0]
    check = db.execute("PRAGMA integrity_check").fetchone()[0]
    db.close()
    print(mode, kind, before, pages, after, check, os.path.getsize(name), while_open)

# What a crash would leave.
db = sqlite3.connect("crash.db", isolation_level=None)
db.execute("PRAGMA journal_mode = persist")
db.execute("CREATE TABLE t (x)")
db.execute("INSERT INTO t VALUES (1)")
db.execute("BEGIN")
db.executemany("INSERT INTO t VALUES (zeroblob(2000))", [()] * 200)
for name in ("crash.db", "crash.db-journal"):
    with open(name, "rb") as source, open("left" + name[5:], "wb") as copy:
        copy.write(source.read())
db.execute("ROLLBACK")
db.close()
db = sqlite3.connect("left.db")
print("a copy", db.execute("SELECT count(*), max(x) FROM t").fetchone(),
      db.execute("PRAGMA integrity_check").fetchone(), sorted(os.listdir(".")))

# A journal begins with a random number, so it is not for comparing.
for name in os.listdir("."):
    if name.endswith("-journal"):
        os.remove(name)
