#!/usr/bin/env bash
# The containers of run.sh under other versions of containerd than the one that is installed: those of Debian's later releases, 1.7 and 2.x,
# whose packages are unpacked and not installed. Says why it does nothing where they cannot be had.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/containerd/debian.sh

[ "$(id -u)" = 0 ] || skip "containerd needs root"
debian_lists || skip "the packages of Debian's later releases cannot be had, for containerd 1.7 and 2.x"
for release in trixie sid; do
    unpacked "containerd-$release" "containerd/$release" || skip "containerd of Debian's $release cannot be had: $(tail -n 1 "$packages/said")"
    bin=$packages/containerd-$release/usr/bin
    "$bin/containerd" --version >/dev/null 2>&1 || skip "containerd of Debian's $release does not run on this system"
    printf '\n== %s\n' "$("$bin/containerd" --version)"
    PATH=$bin:$PATH tests/containerd/run.sh
done
