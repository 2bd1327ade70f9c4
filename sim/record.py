"""Records a program of the simulation from a real start, and prints it as JSON.

record.py STRATAFS REF TITLE PROGRAM WASM WORK ENV ARGS...: PROGRAM is the guest's path in the image REF, WASM the same file here.
The layers are exported in frames, their tables are read as docs/FORMAT.md has them, and each read of the trace is looked up in them."""

import gzip
import io
import json
import os
import pathlib
import resource
import subprocess
import sys
import tarfile
import time
import zlib

stratafs, ref, title, program, wasm, work, env, *args = sys.argv[1:]
work = pathlib.Path(work)
work.mkdir()
run = [stratafs, "run", "--bare", "--trap-unknown-imports", "--image", ref, "--guest", wasm] + [f"--env={one}" for one in env.split()]


def timed(*options):
    """Runs the guest, and returns the seconds of processor and of the clock that it took."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = run + [str(option) for option in options] + ["--"] + args
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)} ended with {done.returncode}: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.monotonic() - began


def stats(instances, threads):
    """Returns what --stats says of so many guests."""
    out = work / f"stats-{instances}"
    timed("--cache", work / "cache", "--instances", instances, "--threads", threads, "--stats", out)
    return json.loads(out.read_text())


# Compiling: the first run of a program that no cache has, less a run of one that it has.
cold, _ = timed("--cache", work / "cache", "--trace", work / "trace")
warm = min(timed("--cache", work / "cache")[0] for _ in range(3))
code = b"".join(path.read_bytes() for path in sorted((work / "cache").rglob("*")) if path.is_file())
one, many = stats(1, 1), stats(8, 8)

# The image in frames.
layout = work / "layout"
subprocess.run([stratafs, "image", "export", ref, str(layout), "--compress", "gzip"], check=True, stdout=subprocess.DEVNULL)
blob = lambda digest: (layout / "blobs" / digest.replace(":", "/")).read_bytes()
index = json.loads((layout / "index.json").read_text())
manifest = json.loads(blob(index["manifests"][0]["digest"]))


def table(layer, data):
    """Returns the frames of a layer as (bytes in the blob, bytes of the tar), and the table's own bytes."""
    place, size, _ = layer["annotations"]["dev.stratafs.table.v1"].split(":", 2)
    hidden = data[int(place):]
    assert len(hidden) == int(size)
    packed, at = b"", 0
    while at < len(hidden):
        extra = int.from_bytes(hidden[at + 10:at + 12], "little")
        packed += hidden[at + 16:at + 12 + extra]
        at += 12 + extra + 10
    plain = subprocess.run(["zstd", "-dc"], input=packed, capture_output=True, check=True).stdout
    assert plain[:8] == b"stratfrm", plain[:8]
    number = int.from_bytes(plain[12:16], "little")
    word = lambda at: int.from_bytes(plain[at:at + 4], "little")
    return [(word(56 + 8 * n), word(60 + 8 * n)) for n in range(number)], len(hidden)


# Which frames each file lies in: (layer, frame) by the place of its bytes in the tar.
layers, frames, files, table_bytes = [], [], {}, 0
for number, layer in enumerate(manifest["layers"]):
    data = blob(layer["digest"])
    layers.append(len(data))
    parts, own = table(layer, data)
    frames.append(parts)
    table_bytes += own
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as tar:
        for entry in tar:
            if entry.isreg():
                files["/" + entry.name.strip("./")] = (number, entry.offset_data, entry.size)


def frames_of(path, start, length):
    """Returns the frames that hold a range of a file."""
    number, place, size = files[path]
    found, at = [], 0
    for frame, (_, plain) in enumerate(frames[number]):
        if at < place + min(start + length, size) and at + plain > place + start:
            found.append((number, frame))
        at += plain
    return found


weight = lambda frame: frames[frame[0]][frame[1]][0]
own = dict.fromkeys(frames_of(program, 0, 1 << 62))
reads = {}
for line in (work / "trace").read_text().splitlines():
    entry = json.loads(line)
    for start, end in entry["ranges"]:
        for frame in frames_of(entry["path"], start, end - start):
            if frame not in own:
                reads.setdefault(frame)

# The next version: a byte in the largest file beside the program, and a file of 1 KiB more.
others = [(size, path) for path, (_, _, size) in files.items() if path != program]
size, largest = max(others)
changed = frames_of(largest, 0, size)
halfway = frames_of(largest, size // 2, 1)
print(json.dumps({
    "name": title,
    "layers": layers,
    "table_bytes": table_bytes,
    "program_bytes": sum(map(weight, own)),
    "reads": [weight(frame) for frame in reads],
    "compiled_bytes": len(zlib.compress(code, 6)),
    "compile_seconds": round(cold - warm, 3),
    "guest_seconds": round(one["run_ns"]["median"] / 1e9, 4),
    "create_microseconds": round(many["start_ns"]["min"] / 1e3, 1),
    "process_mib": round(max(0, one["rss_bytes"]["peak"] - (many["rss_bytes"]["peak"] - one["rss_bytes"]["peak"]) / 7) / 2**20, 1),
    "guest_mib": round((many["rss_bytes"]["peak"] - one["rss_bytes"]["peak"]) / 7 / 2**20, 2),
    "update": {
        "layer_bytes": layers[files[largest][0]],
        "file_bytes": sum(map(weight, changed)) + 2048,
        "chunk_bytes": sum(map(weight, halfway)) + 2048,
    },
}, indent=1))
