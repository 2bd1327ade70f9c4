#!/usr/bin/env bash
# Counts the instructions that common preview1 calls take in a release build, and holds them
# against the table in instructions.txt: 5 % more is an error, as is 5 % less (write the new
# figures down then). `tests/counts/run.sh update` writes the table.
#
# The counts are valgrind's, of the whole process, as the difference of two runs of different
# length, so that they do not depend on the machine's load. They do on its instruction set,
# the compiler and wasmtime: the table names what it was made with.
#
# STRATAFS names a program that is there, so that none is built.
set -euo pipefail
cd "$(dirname "$0")"
table=instructions.txt
names=(fd_filestat_get fd_seek 'fd_pread 4 KiB' 'fd_pwrite 4 KiB, own block'
    'path_filestat_get, depth 1' 'path_filestat_get, depth 8' 'path_filestat_get, missing, depth 8'
    'path_open + fd_close, depth 1' 'path_open + fd_close, depth 8' 'fd_readdir, 64 entries'
    'create, fd_write 1 KiB, fd_close, path_unlink_file' 'path_rename, there and back'
    'path_create_directory + path_remove_directory')

case "${1:-}" in
    '' | update) ;;
    *)
        echo "tests/counts/run.sh: unknown argument '$1': expected update or nothing" >&2
        exit 2
        ;;
esac

if ! command -v valgrind >/dev/null; then
    echo "skipped: valgrind is not installed, so no instructions are counted"
    exit 0
fi
if [ -z "${STRATAFS:-}" ]; then
    cargo build --release --locked --quiet --bin stratafs
    STRATAFS=$(cargo metadata --locked --no-deps --format-version 1 |
        sed -E 's/.*"target_directory":"([^"]*)".*/\1/')/release/stratafs
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
deep=$work/base/usr/lib/python3.11/site-packages/pkgname/sub/deep
mkdir -p "$deep" "$work/base/rw" "$work/base/many"
head -c 4096 /dev/zero | tr '\0' x | tee "$work/base/module.py" >"$deep/module.py"
for number in {10..73}; do echo "$number" >"$work/base/many/entry$number"; done

# The instructions of a run in which a call is made so many times.
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$STRATAFS" run --bare --layer "$work/base" \
        --cache "$work/cache" calls.wat "$1" "$2" 2>&1 >/dev/null | sed -nE 's/.*Collected : ([0-9]+).*/\1/p'
}

# Compiles the guest, so that no run that counts does: under valgrind too, whose processor has other features.
"$STRATAFS" run --bare --layer "$work/base" --cache "$work/cache" calls.wat a 1
count a 1 >/dev/null

now=$work/now
none=$(count a 0)
for at in "${!names[@]}"; do
    letter=$(printf "\\x$(printf %x $((97 + at)))")
    times=20000
    many=$(count "$letter" $times)
    printf '%7d  %s\n' $(((many - none) / times)) "${names[at]}"
done >"$now"

if [ "${1:-}" = update ]; then
    {
        echo "# Instructions a call, by tests/counts/run.sh update ($(uname -m), $(rustc --version | cut -d' ' -f1,2))."
        cat "$now"
    } >$table
    cat $table
    exit 0
fi
awk '/^#/ { next }
    NR == FNR { was[++rows] = $1; next }
    { at++; off = ($1 - was[at]) / was[at] * 100; printf "%7d %+6.1f %%", $1, off; $1 = ""; print $0
      if (off > 5 || off < -5) bad = 1 }
    END { exit bad || at != rows }' $table "$now" || {
    echo "more than 5 % off: see what became slower, or write down what became faster (update)"
    exit 1
}
