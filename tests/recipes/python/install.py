"""Unpacks the wheels or zips of a directory into another."""

import pathlib
import sys
import zipfile

source, out = map(pathlib.Path, sys.argv[1:])
for path in sorted([*source.glob("*.whl"), *source.glob("*.zip")]):
    with zipfile.ZipFile(path) as archive:
        archive.extractall(out)
    print("installed", path.name)
