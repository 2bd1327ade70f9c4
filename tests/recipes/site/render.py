"""Renders each page of a directory, and an index of them."""

import html
import pathlib
import sys

source, out = map(pathlib.Path, sys.argv[1:])
out.mkdir(parents=True, exist_ok=True)
names = sorted(page.stem for page in source.glob("*.txt"))
for name in names:
    title, _, body = (source / f"{name}.txt").read_text().partition("\n")
    text = f"<!doctype html><title>{html.escape(title)}</title><p>{html.escape(body.strip())}</p>\n"
    (out / f"{name}.html").write_text(text)
links = "".join(f"<li><a href={name}.html>{name}</a>" for name in names)
(out / "index.html").write_text(f"<!doctype html><ul>{links}</ul>\n")
print(f"{len(names)} pages")
