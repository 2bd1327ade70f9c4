"""Prints a tree: kind, links, size, and what it holds, without times."""
import hashlib
import os
import stat
import sys

for root, dirs, files in os.walk(sys.argv[1]):
    for name in sorted(dirs + files):
        path = os.path.join(root, name)
        st = os.lstat(path)
        if stat.S_ISLNK(st.st_mode):
            print("link", path, os.readlink(path))
        elif stat.S_ISDIR(st.st_mode):
            print("dir", path)
        else:
            with open(path, "rb") as file:
                print("file", path, st.st_nlink, st.st_size, hashlib.file_digest(file, "sha256").hexdigest())
    dirs.sort()
