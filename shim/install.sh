#!/bin/sh
# Puts the runtime on a node of containerd: the program, a directory for compiled programs, its configuration; with --snapshotter the
# snapshotter beside it, as a service; and with --configure what containerd's own configuration has to say of both. Says what is left to
# do. --uninstall takes all of it away again. Run twice it changes nothing.
set -eu

usage() {
    echo "usage: install.sh [--from DIR] [--root DIR] [--config FILE] [--snapshotter HOW] [--configure] [--uninstall]
  --from DIR         where containerd-shim-stratafs-v1 lies, and stratafs for the snapshotter (else beside this script)
  --root DIR         the root of the node's files (else /), as a DaemonSet has them mounted
  --config FILE      containerd's configuration (else /etc/containerd/config.toml), below --root
  --snapshotter HOW  install the snapshotter as a service of systemd: 'runtime' for this runtime alone (containerd 1.7 and 2.x), 'node' for
                     all that the node runs (containerd 1.6, which has no other way: on nodes that run nothing else);
                     'none' to take it away. Else it stays as the node has it
  --configure        add the runtime handler to containerd's configuration, and the snapshotter
  --uninstall        remove all that this script added (also: --remove)"
}

fail() {
    echo "error: $*" >&2
    exit 1
}

# wrong WORDS: a word of the command line is not as it should be.
wrong() {
    echo "error: $*" >&2
    exit 2
}

from=$(cd "$(dirname "$0")" && pwd) root='' config=/etc/containerd/config.toml snapshotter='' configure='' remove=''
while [ $# -gt 0 ]; do
    case $1 in
        --from | --root | --config | --snapshotter)
            [ $# -ge 2 ] || wrong "$1: its value is missing"
            case $1 in
                --from) from=$2 ;;
                --root) root=${2%/} ;;
                --snapshotter)
                    case $2 in
                        runtime | node | none) snapshotter=$2 ;;
                        *) wrong "--snapshotter $2: expected runtime, node or none" ;;
                    esac
                    ;;
                *) config=$2 ;;
            esac
            shift
            ;;
        --configure) configure=yes ;;
        --remove | --uninstall) remove=yes ;;
        --help | -h)
            usage
            exit 0
            ;;
        *) wrong "$1: unknown; install.sh --help lists what there is" ;;
    esac
    shift
done

name=containerd-shim-stratafs-v1
program=$root/usr/local/bin/$name
cache=$root/var/cache/stratafs/shim
settings=$root/etc/stratafs/shim.toml
file=$root$config
unit=$root/etc/systemd/system/stratafs-snapshotter.service
wanted=$root/etc/systemd/system/multi-user.target.wants/stratafs-snapshotter.service
socket=/run/stratafs/snapshotter.sock
begin='# begin of the runtime stratafs'
end='# end of the runtime stratafs'
# What a line ends with that is not in a block of our own, and what it was before.
added='# stratafs: added'
was='# stratafs: was:'

# replaced: puts what it reads in the place of containerd's configuration, if that changes it; the file stays the same one.
replaced() {
    cat >"$file.stratafs"
    if cmp -s "$file.stratafs" "$file"; then
        rm "$file.stratafs"
        return 1
    fi
    cat "$file.stratafs" >"$file"
    rm "$file.stratafs"
}

# without_ours: containerd's configuration as it was before.
without_ours() {
    awk -v begin="$begin" -v end="$end" -v added="$added" -v was="$was" '
        $0 == begin { ours = 1 }
        !ours && substr($0, length($0) - length(added) + 1) == added { next }
        !ours && (at = index($0, was)) { print substr($0, at + length(was)); next }
        !ours { print }
        $0 == end { ours = 0 }' "$file"
}

# ours: what this script added to containerd's configuration as blocks.
ours() {
    awk -v begin="$begin" -v end="$end" '$0 == begin { ours = 1 } ours { print } $0 == end { ours = 0 }' "$file"
}

# without_snapshotter: takes the service away. What runs of it runs on until it is stopped.
without_snapshotter() {
    [ -e "$unit" ] || return 0
    rm -f "$unit" "$wanted" "$root/usr/local/bin/stratafs"
    echo "$unit is removed: once containerd is restarted, systemctl stop stratafs-snapshotter && systemctl daemon-reload"
    echo "$root/var/lib/stratafs stays, with the images that containerd may still name"
}

if [ -n "$remove" ]; then
    if [ -f "$file" ] && without_ours | replaced; then
        echo "$file: what this script added is removed; restart containerd"
    fi
    without_snapshotter
    rm -rf "$program" "$cache"
    echo "$settings stays"
    exit 0
fi

# has TABLE: whether what is read has a table, however it is indented and quoted.
has() {
    tr -d "[:blank:]" | tr "'" '"' | grep -qxF "[$1]"
}

# has_below TABLE: whether what is read has a table below one.
has_below() {
    tr -d "[:blank:]" | tr "'" '"' | awk -v head="[$1." 'index($0, head) == 1 { found = 1 } END { exit !found }'
}

# What the node has already, where nothing else is said.
without=
if [ "$snapshotter" = none ]; then
    snapshotter='' without=yes
elif [ -z "$snapshotter" ] && [ -f "$file" ] && ours | has proxy_plugins.stratafs; then
    snapshotter=node
    ! ours | has 'plugins."io.containerd.cri.v1.images".runtime_platforms.stratafs' || snapshotter=runtime
fi

# Everything that can be refused is, before anything is changed.
[ -f "$from/$name" ] || fail "$from/$name: there is no such file: build it, or say --from"
[ -z "$snapshotter" ] || [ -f "$from/stratafs" ] ||
    fail "$from/stratafs: there is no such file: the snapshotter is that program: build it, say --from, or --snapshotter none"

# Which of the two layouts the configuration has. Without a file containerd has its defaults, and takes the older layout as well.
version=2
if [ -f "$file" ]; then
    version=$(sed -n 's/^[[:blank:]]*version[[:blank:]]*=[[:blank:]]*\([0-9]*\).*/\1/p' "$file" | head -n 1)
    case $version in
        2 | 3) ;;
        *) fail "$file: expected version = 2 or version = 3, found '$version': containerd config migrate makes one" ;;
    esac
fi
case $version in
    3) runtimes='plugins."io.containerd.cri.v1.runtime".containerd.runtimes.stratafs' pulls='plugins."io.containerd.cri.v1.images"' ;;
    *) runtimes='plugins."io.containerd.grpc.v1.cri".containerd.runtimes.stratafs' pulls='plugins."io.containerd.grpc.v1.cri".containerd' ;;
esac
[ "$version$snapshotter" != 3node ] || fail "--snapshotter node: containerd 2.x, which $file is for, has a snapshotter for one runtime: expected --snapshotter runtime"

# keyed TABLE KEY VALUE: gives a key of a table a value, and notes what it was.
keyed() {
    awk -v table="[$1]" -v key="$2" -v value="$3" -v added="$added" -v was="$was" '
        function plain(line) { gsub(/[ \t]/, "", line); gsub(/\047/, "\"", line); sub(/#.*/, "", line); return line }
        # Where the table ends without the key, the key comes right after its head.
        function flush() { if (head != "") { print head; if (!done) print "  " key " = " value " " added; printf "%s", rest; head = rest = "" } }
        /^[ \t]*\[/ {
            flush(); inside = (plain($0) == table)
            if (inside) { head = $0; done = 0; next }
        }
        inside {
            line = plain($0)
            if (index(line, key "=") == 1) { done = 1; if (line != key "=" value) $0 = "  " key " = " value " " was $0 }
            rest = rest $0 "\n"; next
        }
        { print }
        END { flush() }'
}

# configured: containerd's configuration as it is to be.
configured() {
    block=$begin
    before=$(mktemp) && after=$(mktemp)
    if [ -f "$file" ]; then without_ours; else echo 'version = 2'; fi >"$before"
    if [ -n "$snapshotter" ]; then
        block="$block
[proxy_plugins.stratafs]
  type = \"snapshot\"
  address = \"$socket\"
"
        if has "$pulls" <"$before"; then
            keyed "$pulls" disable_snapshot_annotations false <"$before" >"$after"
            [ "$snapshotter" != node ] || { keyed "$pulls" snapshotter '"stratafs"' <"$after" >"$before" && cp "$before" "$after"; }
        else
            cp "$before" "$after"
            block="$block
[$pulls]
  disable_snapshot_annotations = false"
            [ "$snapshotter" != node ] || block="$block
  snapshotter = \"stratafs\""
            block="$block
"
        fi
    else
        cp "$before" "$after"
    fi
    # What a pull for one runtime goes by, since containerd 2.x; others pass over it.
    [ "$snapshotter" != runtime ] || block="$block
[plugins.\"io.containerd.cri.v1.images\".runtime_platforms.stratafs]
  snapshotter = \"stratafs\"
"
    # In this layout a table of runtimes takes the place of the one that containerd has by itself, and with it of its default.
    if [ "$version" = 2 ] && ! has_below "${runtimes%.stratafs}" <"$before"; then
        block="$block
[${runtimes%.stratafs}.runc]
  runtime_type = \"io.containerd.runc.v2\"
"
    fi
    block="$block
[$runtimes]
  runtime_type = \"io.containerd.stratafs.v1\""
    [ "$snapshotter" != runtime ] || block="$block
  snapshotter = \"stratafs\""
    cat "$after"
    # The last line may lack its end.
    [ -z "$(tail -c 1 "$after")" ] || echo
    printf '%s\n%s\n' "$block" "$end"
    rm "$before" "$after"
}

foreign=
if [ -f "$file" ] && without_ours | has "$runtimes"; then foreign=yes; fi
[ -z "$foreign" ] || [ -z "$snapshotter" ] ||
    fail "$file: it has a runtime handler stratafs that this script did not add: remove it, or add the snapshotter by hand (docs/CONTAINERD.md)"
if [ -n "$snapshotter" ] && [ -f "$file" ] && without_ours | has proxy_plugins.stratafs; then
    fail "$file: it has a proxy plugin stratafs that this script did not add: remove it, or add the rest by hand (docs/CONTAINERD.md)"
fi

# put FROM TO: a name that is put in the place of the old one: what runs keeps its program.
put() {
    cp "$1" "$2.new"
    chmod 755 "$2.new"
    mv "$2.new" "$2"
}

mkdir -p "$root/usr/local/bin" "$root/etc/stratafs" "$cache"
# Whoever writes there runs code in the process of all guests.
chmod 700 "$cache"
put "$from/$name" "$program"
[ -e "$settings" ] || printf '# docs/CONTAINERD.md has what may stand here.\nisolation = "node"\n' >"$settings"
echo "$program is there"

if [ -n "$snapshotter" ]; then
    put "$from/stratafs" "$root/usr/local/bin/stratafs"
    for dir in "$root/var/lib/stratafs/snapshotter" "$root/var/lib/stratafs/store"; do
        mkdir -p "$dir"
        chmod 700 "$dir"
    done
    mkdir -p "$(dirname "$wanted")"
    # What a node adds to it belongs into stratafs-snapshotter.service.d/.
    cat >"$unit" <<UNIT
[Unit]
Description=Layers of containerd's images in a store of stratafs
Before=containerd.service

[Service]
ExecStart=/usr/local/bin/stratafs snapshotter --root /var/lib/stratafs/snapshotter --address $socket --store /var/lib/stratafs/store
Restart=always

[Install]
WantedBy=multi-user.target
UNIT
    ln -sf ../stratafs-snapshotter.service "$wanted"
    echo "$unit is there: systemctl daemon-reload && systemctl restart stratafs-snapshotter, before containerd is restarted"
elif [ -n "$without" ]; then
    without_snapshotter
fi

if [ -n "$foreign" ]; then
    echo "$file has the runtime handler"
elif [ -z "$configure" ]; then
    if [ -f "$file" ] && configured | cmp -s - "$file"; then
        echo "$file has the runtime handler"
    else
        printf 'To do: add to %s, and restart containerd; a line with a mark takes the place of the one that it names:\n' "$file"
        configured | sed -n "/^$begin\$/,\$p; /$added\$/p; /$was/p"
    fi
else
    mkdir -p "$(dirname "$file")"
    fresh=$(mktemp)
    configured >"$fresh"
    [ -f "$file" ] || : >"$file"
    if replaced <"$fresh"; then
        echo "$file: the runtime handler${snapshotter:+ and the snapshotter} is added; restart containerd"
    else
        echo "$file has the runtime handler"
    fi
    rm "$fresh"
fi
