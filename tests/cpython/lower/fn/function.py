"""A function whose files come from two layers: prints what it sees of them."""

import os

for path, dirs, files in os.walk("/fn"):
    dirs.sort()
    for name in sorted(name for name in files if name.endswith(".txt")):
        full = os.path.join(path, name)
        with open(full, encoding="utf-8") as file:
            print(f"{full}: {file.read().strip()}")
    if not dirs and not files:
        print(f"{path}: empty")

import sys

sys.path.insert(0, "/fn")
import settings

print(f"settings: {settings.VALUE}")
for gone in ("deleted.txt", "tree/inside.txt", "opaque/old.txt"):
    assert not os.path.exists("/fn/" + gone), gone
with open("/fn/deleted.txt", "x", encoding="utf-8") as file:
    file.write("made anew")
os.makedirs("/fn/tree")
print(f"made anew: {sorted(os.listdir('/fn'))}, {os.listdir('/fn/tree')}")
