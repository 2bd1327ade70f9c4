#!/bin/sh
# Puts the runtime on a node of containerd: the program, a directory for compiled programs, its configuration, and with --configure the
# runtime handler in containerd's own. Says what is left to do. --remove takes all of it away again. Run twice it changes nothing.
set -eu

usage() {
    echo "usage: install.sh [--from DIR] [--root DIR] [--config FILE] [--configure] [--remove]
  --from DIR     where containerd-shim-stratafs-v1 lies (else beside this script)
  --root DIR     the root of the node's files (else /), as a DaemonSet has them mounted
  --config FILE  containerd's configuration (else /etc/containerd/config.toml), below --root
  --configure    add the runtime handler to it, if it is not there"
}

fail() {
    echo "error: $*" >&2
    exit 1
}

from=$(cd "$(dirname "$0")" && pwd) root='' config=/etc/containerd/config.toml configure='' remove=''
while [ $# -gt 0 ]; do
    case $1 in
        --from | --root | --config)
            [ $# -ge 2 ] || fail "$1: its value is missing"
            case $1 in
                --from) from=$2 ;;
                --root) root=${2%/} ;;
                *) config=$2 ;;
            esac
            shift
            ;;
        --configure) configure=yes ;;
        --remove) remove=yes ;;
        --help | -h)
            usage
            exit 0
            ;;
        *)
            usage >&2
            exit 2
            ;;
    esac
    shift
done

name=containerd-shim-stratafs-v1
program=$root/usr/local/bin/$name
cache=$root/var/cache/stratafs/shim
settings=$root/etc/stratafs/shim.toml
begin='# begin of the runtime stratafs'
end='# end of the runtime stratafs'

if [ -n "$remove" ]; then
    if [ -f "$root$config" ] && grep -qxF "$begin" "$root$config"; then
        sed "/^$begin\$/,/^$end\$/d" "$root$config" >"$root$config.new"
        cat "$root$config.new" >"$root$config"
        rm "$root$config.new"
        echo "$root$config: the runtime handler is removed; restart containerd"
    fi
    rm -rf "$program" "$cache"
    echo "$settings stays"
    exit 0
fi

[ -f "$from/$name" ] || fail "$from/$name: there is no such file: build it, or say --from"
mkdir -p "$root/usr/local/bin" "$root/etc/stratafs" "$cache"
# Whoever writes there runs code in the process of all guests.
chmod 700 "$cache"
# A name that is put in the place of the old one: containers that run keep their program.
cp "$from/$name" "$program.new"
chmod 755 "$program.new"
mv "$program.new" "$program"
[ -e "$settings" ] || printf '# docs/CONTAINERD.md has what may stand here.\nisolation = "node"\n' >"$settings"
echo "$program is there"

# Which of the two layouts the configuration has. Without a file containerd has its defaults, and takes the older layout as well.
version=2
if [ -f "$root$config" ] && grep -Eq '^version *= *3' "$root$config"; then version=3; fi
case $version in
    3) table='[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.stratafs]' ;;
    *) table='[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.stratafs]' ;;
esac
block="$begin
$table
  runtime_type = \"io.containerd.stratafs.v1\"
$end"
if [ -f "$root$config" ] && grep -qF '.containerd.runtimes.stratafs]' "$root$config"; then
    echo "$root$config has the runtime handler"
elif [ -z "$configure" ]; then
    printf 'To do: add to %s, and restart containerd:\n%s\n' "$root$config" "$block"
else
    mkdir -p "$(dirname "$root$config")"
    [ -f "$root$config" ] || echo 'version = 2' >"$root$config"
    # The last line may lack its end.
    [ -z "$(tail -c 1 "$root$config")" ] || echo >>"$root$config"
    printf '%s\n' "$block" >>"$root$config"
    echo "$root$config: the runtime handler is added; restart containerd"
fi
