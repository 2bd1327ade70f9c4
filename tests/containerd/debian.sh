# Packages of other releases of Debian than this machine's, for versions.sh and suite.sh: unpacked, and not installed. Everything lies in
# target/containerd, and is fetched once.
packages=$PWD/target/containerd

# skip WHY: ends the script; with CI=true that is an error.
skip() {
    [ "${CI:-}" != true ] || {
        printf 'error: %s, and CI asks for it\n' "$*" >&2
        exit 1
    }
    printf 'skipped: %s\n' "$*"
    exit 0
}

# debian ARGS...: apt-get or apt-cache with lists of its own, of Debian's releases `trixie` and `sid`.
debian() {
    "$1" -o Dir::Etc::SourceList="$packages/sources.list" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$packages/lists" \
        -o Dir::Cache="$packages/cache" -o APT::Sandbox::User=root "${@:2}"
}

# debian_lists: reads what those releases have; fails where they cannot be had.
debian_lists() {
    command -v apt-get >/dev/null || return 1
    # A release that moves soon has other packages than its lists say.
    [ -z "$(find "$packages/listed" -mtime -1 2>/dev/null)" ] || return 0
    mkdir -p "$packages"/{lists/partial,cache/archives/partial}
    local site release
    # Where this machine has its own packages from.
    site=$(apt-get indextargets --format '$(SITE) $(ORIGIN)' 2>/dev/null | awk '$2 == "Debian" { print $1; exit }')
    for release in trixie sid; do
        printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "${site:-http://deb.debian.org/debian}" "$release"
    done >"$packages/sources.list"
    debian apt-get update --error-on=any >"$packages/said" 2>&1 && : >"$packages/listed"
}

# unpacked DIR PACKAGE...: unpacks packages, each NAME or NAME/RELEASE, into target/containerd/DIR. What is there is kept: remove the
# directory for newer ones.
unpacked() {
    local dir=$packages/$1 package
    [ ! -e "$dir/whole" ] || return 0
    rm -rf "$dir" && mkdir -p "$dir/debs"
    (cd "$dir/debs" && debian apt-get download "${@:2}" >"$packages/said" 2>&1) || return 1
    for package in "$dir"/debs/*.deb; do dpkg-deb -x "$package" "$dir" || return 1; done
    rm -r "$dir/debs"
    : >"$dir/whole"
}
