#!/usr/bin/env python3
"""Makes tables of what benches/images.sh printed. Usage: benches/images.py runs.json"""

import json
import statistics
import sys


def main():
    """Prints times as median, least and most, then sizes and memory."""
    with open(sys.argv[1], encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    times = {}
    for row in rows:
        if "ns" in row:
            times.setdefault(row["case"], []).append(row["ns"])
    print("| milliseconds | median | least | most | turns |")
    print("|---|---|---|---|---|")
    for case, ns in times.items():
        shown = [f"{value / 1e6:.3g}" for value in (statistics.median(ns), min(ns), max(ns))]
        print(f"| {case} | {' | '.join(shown)} | {len(ns)} |")
    print("\n| bytes | MB |")
    print("|---|---|")
    for row in rows:
        if row["case"].startswith("at rest"):
            print(f"| {row['case'][9:]} | {row['bytes'] / 1e6:.1f} |")
    print("\n| average of a chunk | unique MB | chunks | with 36 bytes for each, MB |")
    print("|---|---|---|---|")
    for row in rows:
        if row["case"] == "chunks":
            sizes = (row["unique_bytes"] / 1e6, row["chunks"], row["at_rest"] / 1e6)
            print(f"| {row['average_kib']} KiB | {sizes[0]:.1f} | {sizes[1]} | {sizes[2]:.1f} |")
    print("\n| one file read of | process, KiB: before, opened, read | bytes read | index: resident | its share with two processes |")
    print("|---|---|---|---|---|")
    for row in rows:
        if row["case"] == "memory":
            first, both = row["first_alone"], row["first_beside_second"]
            rss = [str(first[when]["rss"]) for when in ("before", "opened", "touched")]
            index = (first["touched"]["index_rss"], both["touched"]["index_pss"])
            print(f"| {row['one_file_of']} | {', '.join(rss)} | {first['bytes_read']} | {index[0]} | {index[1]} |")
    for row in rows:
        if row["case"] in ("tree", "big"):
            print(f"\n{json.dumps(row)}")


main()
