"""Prints what `stratafs run --stats FILE` wrote, for people."""

import json
import sys


def nanos(value):
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value} ns"


def size(value):
    for unit, bytes in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= bytes:
            return f"{value / bytes:.1f} {unit}"
    return f"{value} B"


with open(sys.argv[1], encoding="utf-8") as file:
    stats = json.load(file)
base, overlay, rss = stats["base"], stats["overlay"], stats["rss_bytes"]
print(f"{stats['instances']} instances, {stats['threads']} threads, {stats['failed']} failed")
print(f"base: {base['layers']} layers, {base['files']} files, {size(base['logical_bytes'])}")
print(f"{'':24}{'min':>12}{'median':>12}{'p99':>12}")
for name, key in (("create a file system", "fs_create_ns"), ("start the guest", "start_ns"), ("run the guest", "run_ns")):
    print(f"{name:24}" + "".join(f"{nanos(stats[key][part]):>12}" for part in ("min", "median", "p99")))
private = overlay["private_bytes"]
print(f"private bytes: median {size(private['median'])}, max {size(private['max'])} an instance")
print(f"overlays without sharing: {size(overlay['logical_bytes'])}, held once for several: {size(overlay['shared_bytes'])}")
print("resident: " + ", ".join(f"{key.replace('_', ' ')} {size(value)}" for key, value in rss.items()))
