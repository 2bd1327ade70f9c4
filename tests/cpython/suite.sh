#!/usr/bin/env bash
# Runs the file tests of CPython 3.11's own test suite as guests, as a preview1
# module and as a 0.2 component, and compares each test with the same one under
# plain wasmtime on a directory.
#
#   tests/cpython/suite.sh [MODULE...]
#
# A test that passes or skips there must pass or skip here. Needs what
# tests/cpython/run.sh needs, and Debian's apt-get, which fetches the tests;
# without them it says so and skips, with CI=true that is an error.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tests/cpython
work=target/cpython
built=${CARGO_TARGET_DIR:-target}/tests
wasm=$work/package/dist/langs/python-3.11.3.wasm
library=$work/package/dist/langs/python-3.11.3.tar.gz

# What is about files, links, directories, and their bytes.
modules=(test_os test_posix test_posixpath test_genericpath test_stat test_shutil test_tempfile test_pathlib test_glob
    test_fnmatch test_filecmp test_fileinput test_fileio test_file test_io test_bufio test_memoryio test_univnewlines
    test_largefile test_linecache test_zipfile test_tarfile test_gzip test_bz2 test_dbm test_dbm_dumb test_shelve
    test_mailbox test_compileall test_py_compile test_zipapp test_zipimport test_pkg test_pkgutil test_import test_runpy
    test_netrc test_configparser test_csv test_unicode_file test_unicode_file_functions)
# Mostly computing: as a component they would take long and ask nothing new.
computing=" test_zipfile test_bz2 test_compileall test_configparser "

. tests/package.sh
mkdir -p "$work/debian"
fetch "$work" LICENSE dist/langs/python-3.11.3.wasm dist/langs/python-3.11.3.tar.gz
sha256 -c --quiet "$here/package.sha256" || fail "$work/package is not the package this test is made for: remove it"

# Debian has the tests in two packages: helpers beside the library, and the rest.
packages=(libpython3.11-testsuite libpython3.11-stdlib)
download_tests() {
    (cd "$work/debian" && apt-get download -q "${packages[@]}" > /dev/null 2>&1 ||
        { apt-get update -q > /dev/null 2>&1 && apt-get download -q "${packages[@]}" > /dev/null 2>&1; })
}
if [ ! -e "$work/debian/unpacked" ]; then
    if ! { command -v apt-get > /dev/null && command -v dpkg-deb > /dev/null && download_tests; }; then
        [ "${CI:-}" = true ] && fail "cannot fetch ${packages[*]} with apt-get, and CI asks for them"
        echo "skipped: CPython's own tests need apt-get and a registry to fetch ${packages[*]}"
        exit 0
    fi
    for package in "$work"/debian/*.deb; do dpkg-deb -x "$package" "$work/debian/root"; done
    touch "$work/debian/unpacked"
fi

# With the features that tests/all.sh builds with, so that nothing is built again there.
cargo build --quiet --workspace --profile tests --locked \
    --features "merge-lines,serde,tokio${STRATAFS_TEST_FEATURES:+,$STRATAFS_TEST_FEATURES}" --bin stratafs --example host_dir_run --example componentize
strata() { "$built/stratafs" run --bare "$@"; }
host() { "$built/examples/host_dir_run" --cache "$work/compiled" "$@"; }

# The layers: the library, its zip expanded (by a guest, as in run.sh), the tests.
if [ ! -e "$work/expanded.tar" ]; then
    strata --layer "$library" --preopen /::/layered --diff "$work/expanded.tar.part" "$wasm" -c "
import zipfile
lib = '/layered/usr/local/lib'
zipfile.ZipFile(lib + '/python311.zip').extractall(lib + '/python3.11')"
    mv "$work/expanded.tar.part" "$work/expanded.tar"
fi
rm -rf "$work/suite"
layer=$work/suite/layer
lib=$layer/usr/local/lib/python3.11
mkdir -p "$layer/app" "$layer/tests" "$layer/tmp" "$lib" "$work/suite/out"
cp "$here/suite.py" "$layer/app"
ln -s ../usr/local "$layer/app/python"
cp -R "$work"/debian/root/usr/lib/python3.11/{test,distutils,lib2to3,_pyio.py} "$lib"
"$built/examples/componentize" "$wasm" "$work/component.wasm"
env=(--env PYTHONHASHSEED=0 --env PYTHONHOME=/app/python --env PYTHONPATH=/app/python/lib/python3.11
    --env PYTHONDONTWRITEBYTECODE=1)

# on_host KIND GUEST: every module on one directory, which they leave clean.
on_host() {
    local module dir=$work/suite/host.$1
    mkdir "$dir"
    tar -xzf "$library" -C "$dir"
    tar -xf "$work/expanded.tar" -C "$dir"
    cp -R "$layer/." "$dir"
    for module in "${modules[@]}"; do
        host "${env[@]}" "$dir" "$2" /app/suite.py "${names[@]}" "$module" 2>> "$work/suite/out/$1.want.err" < /dev/null ||
            echo "END  $module: exit $?"
    done > "$work/suite/out/$1.want"
}

on_stratafs() {
    local module
    for module in "${modules[@]}"; do
        strata --layer "$library" --layer "$work/expanded.tar" --layer "$layer" "${env[@]}" \
            "$2" /app/suite.py "${names[@]}" "$module" 2>> "$work/suite/out/$1.got.err" < /dev/null ||
            echo "END  $module: exit $?"
    done > "$work/suite/out/$1.got"
}

[ $# -eq 0 ] || modules=("$@")
all=("${modules[@]}")
for kind in preview1 component; do
    modules=("${all[@]}")
    case $kind in
        preview1) guest=$wasm names=() ;;
        component)
            guest=$work/component.wasm names=(--utf-8) modules=()
            for module in "${all[@]}"; do [[ $computing == *" $module "* ]] || modules+=("$module"); done
            ;;
    esac
    say "CPython's own file tests: ${#modules[@]} modules, $kind"
    SECONDS=0
    on_host "$kind" "$guest" &
    on_stratafs "$kind" "$guest"
    wait $! || fail "the run under plain wasmtime failed"
    echo "took $SECONDS s on both sides"
    strata --layer "$here" --layer "$library" --dir "$work/suite/out::/out::ro" "$wasm" \
        /compare.py "/out/$kind.want" "/out/$kind.got" /suite.known
done
