# Stands in a generator with an open transaction, under two handlers, with half a line written.
import sqlite3
import sys


def mark():
    try:
        open("/.stratafs/checkpoint").close()
    except OSError:
        pass


def rows(db):
    db.execute("begin")
    try:
        for number in range(4):
            db.execute("insert into t values (?)", (number,))
            yield number
    finally:
        db.execute("commit")
        print("committed")


def averages():
    total = count = 0
    got = yield
    while True:
        total, count = total + got, count + 1
        got = yield total / count


def first(db, average):
    for number in rows(db):
        print("average", average.send(number))
        if number == 2:
            sys.stdout.write("half a line, ")
            mark()
            raise KeyError(number)


def second(db):
    try:
        first(db, started)
    except KeyError as error:
        print("and the rest:", repr(error))
        with open("/work/log", "a+") as log:
            log.write("before\n")
            print("asked", sys.stdin.readline().strip())
            log.write("after\n")
            log.seek(0)
            print(log.read().split())
        raise ValueError("second") from error


started = averages()
next(started)
base = sqlite3.connect("/work/base.db", isolation_level=None)
base.execute("create table t (n)")
try:
    second(base)
except ValueError as error:
    print(error, "after", repr(error.__cause__))
finally:
    base.execute("begin")
    base.execute("delete from t where n = 0")
    print(sys.stdin.readline().strip(), base.execute("select count(*) from t").fetchone())
    base.execute("rollback")
print(sorted({"b": 2, "a": 1}), base.execute("select sum(n) from t").fetchone())
sys.exit(3)
