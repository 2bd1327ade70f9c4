//! Wrong input to every option of `run` and `demo`: one clear line, the right
//! exit code, and nothing half made.

use super::{Cli, names};
use crate::support::script::Script;

/// What is typed, with `guest.wat` or nothing after it; the exit code; what
/// the line names.
type Wrong = (&'static str, i32, &'static str);

/// The arguments themselves are wrong.
const ARGUMENTS: &[Wrong] = &[
    ("run --layer", 2, "--layer"),
    ("run --skip-special=yes guest.wat", 2, "--skip-special"),
    ("run --platform linux guest.wat", 2, "--platform"),
    ("run --image-name", 2, "--image-name"),
    ("run --pull sometimes --image x", 2, "--pull"),
    ("run --pull always guest.wat", 2, "--image"),
    ("run --lazy sometimes --image x", 2, "--lazy"),
    ("run --lazy only guest.wat", 2, "--image"),
    ("run --verify-key cosign.pub guest.wat", 2, "--verify-key"),
    ("run --rule rw:/a guest.wat", 2, "--rule"),
    ("run --plain-http=yes guest.wat", 2, "--plain-http"),
    ("run --ca", 2, "--ca"),
    ("run --hosts-dir", 2, "--hosts-dir"),
    (
        "run --commit x --set-platform linux guest.wat",
        2,
        "--set-platform",
    ),
    ("run --set-platform linux/amd64 guest.wat", 2, "--commit"),
    ("run --layer - --layer - guest.wat", 2, "`-` is given twice"),
    ("run --preopen / guest.wat", 2, "--preopen"),
    ("run --preopen /::/::rw guest.wat", 2, "--preopen"),
    ("run --dir", 2, "--dir"),
    ("run --dir host::/x::rw guest.wat", 2, "--dir"),
    ("run --env =x guest.wat", 2, "--env"),
    (
        "run --no-preopen --preopen /::/ guest.wat",
        2,
        "--no-preopen",
    ),
    ("run --save-volume v guest.wat", 2, "--save-volume"),
    ("run --save-volume v=x:1 guest.wat", 2, "--volume v::"),
    ("run --workdir here guest.wat", 2, "--workdir"),
    ("run --bare=yes guest.wat", 2, "--bare"),
    ("run --argv0", 2, "--argv0"),
    ("run --entrypoint x guest.wat", 2, "--image"),
    ("run --guest guest.wat guest.wat", 2, "--image"),
    ("run --invoke", 2, "--invoke"),
    ("run --allow-net http://x guest.wat", 2, "--allow-net"),
    (
        "run --inherit-network=yes guest.wat",
        2,
        "--inherit-network",
    ),
    ("run --wasm telepathy guest.wat", 2, "--wasm"),
    ("run --wasi http guest.wat", 2, "--wasi"),
    ("run --codegen compiler=winch guest.wat", 2, "--codegen"),
    ("run --rm=yes guest.wat", 2, "--rm"),
    ("run --interactive=yes guest.wat", 2, "--interactive"),
    ("run --tty=yes guest.wat", 2, "--tty"),
    ("run --stats-instances", 2, "--stats-instances"),
    ("run --verbose=yes guest.wat", 2, "--verbose"),
    ("run --read-only=yes guest.wat", 2, "--read-only"),
    ("run --max-bytes 1T guest.wat", 2, "--max-bytes"),
    ("run --max-bytes= guest.wat", 2, "--max-bytes"),
    ("run --max-inodes many guest.wat", 2, "--max-inodes"),
    ("run --max-changed 1x guest.wat", 2, "--max-changed"),
    ("run --max-open 5G guest.wat", 2, "--max-open"),
    ("run --max-memory=-1 guest.wat", 2, "--max-memory"),
    ("run --budget 1T guest.wat", 2, "--budget"),
    ("run --spill", 2, "--spill"),
    ("run --spill-max 1G guest.wat", 2, "--spill"),
    ("run --spill . --spill-max 1T guest.wat", 2, "--spill-max"),
    ("run --share all guest.wat", 2, "--share"),
    ("run --instances 0 guest.wat", 2, "--instances"),
    ("run --instances 1.5 guest.wat", 2, "--instances"),
    ("run --threads 0 guest.wat", 2, "--threads"),
    ("run --timeout 0 guest.wat", 2, "--timeout"),
    ("run --timeout 1s guest.wat", 2, "--timeout"),
    ("run --timeout 1e400 guest.wat", 2, "--timeout"),
    ("run --stats", 2, "--stats"),
    ("run --diff", 2, "--diff"),
    ("run --commit", 2, "--commit"),
    ("run --image", 2, "--image"),
    ("run --volume", 2, "--volume"),
    ("run --trace", 2, "--trace"),
    ("run --strace", 2, "--strace"),
    ("run --strace-counts", 2, "--strace-counts"),
    ("run --strace-json guest.wat", 2, "--strace-json"),
    ("run --store", 2, "--store"),
    ("run --deterministic=yes guest.wat", 2, "--deterministic"),
    (
        "run --trap-unknown-imports=yes guest.wat",
        2,
        "--trap-unknown-imports",
    ),
    ("run --diff x.tar --instances 2 guest.wat", 2, "--diff"),
    (
        "run --instances 2 --instances 3 guest.wat",
        2,
        "--instances",
    ),
    ("run --cache a --no-cache guest.wat", 2, "--no-cache"),
    ("run --no-such-option guest.wat", 2, "--no-such-option"),
    ("run", 2, "GUEST"),
    ("--no-such-option", 2, "--no-such-option"),
    ("no-such-command", 2, "no-such-command"),
    ("demo extra", 2, "extra"),
    ("demo --instances 0", 2, "--instances"),
    ("demo --instances x", 2, "--instances"),
    ("demo --threads 0", 2, "--threads"),
    ("demo --json=yes", 2, "--json"),
    ("demo --base", 2, "--base"),
    ("demo --skip-special=yes", 2, "--skip-special"),
    ("demo --platform linux", 2, "--platform"),
    ("demo --image-name", 2, "--image-name"),
    ("demo --store", 2, "--store"),
    ("demo --guest", 2, "--guest"),
    ("demo --cache a --no-cache", 2, "--no-cache"),
];

/// The arguments say something, and it cannot be done.
const WORK: &[Wrong] = &[
    ("run --layer missing guest.wat", 1, "missing"),
    ("run --layer text guest.wat", 1, "text"),
    ("run --layer empty guest.wat", 1, "empty"),
    ("run --layer host --layer missing guest.wat", 1, "missing"),
    ("run --preopen /missing::/ guest.wat", 1, "/missing"),
    ("run --layer host --preopen /f::/ guest.wat", 1, "/f"),
    ("run --preopen /::/a --preopen /::/a guest.wat", 1, "twice"),
    ("run --dir missing::/x guest.wat", 1, "missing"),
    ("run --dir text::/x guest.wat", 1, "text"),
    ("run --dir host::/ guest.wat", 1, "twice"),
    ("run --max-memory 1 guest.wat", 1, "memory"),
    ("run --layer host --budget 0 guest.wat", 1, "--budget"),
    ("run --spill missing guest.wat", 1, "missing"),
    ("run --spill text guest.wat", 1, "text"),
    ("run --stats missing/s.json guest.wat", 1, "missing/s.json"),
    ("run --stats host guest.wat", 1, "host"),
    ("run --diff missing/d.tar guest.wat", 1, "missing/d.tar"),
    ("run --diff host guest.wat", 1, "host"),
    (
        "run --stats s.json --diff d.tar missing.wasm",
        1,
        "missing.wasm",
    ),
    (
        "run --stats s.json --diff d.tar --layer missing guest.wat",
        1,
        "missing",
    ),
    ("run host", 1, "host"),
    ("run text", 1, "text"),
    ("run empty", 1, "empty"),
    ("demo --base missing --guest guest.wat", 1, "missing"),
    ("demo --base empty --guest guest.wat", 1, "empty"),
    ("demo --guest missing.wasm", 1, "missing.wasm"),
    ("demo --guest text", 1, "text"),
];

#[test]
fn every_option_with_wrong_input_gives_one_line_and_makes_nothing() {
    let cli = Cli::new();
    cli.guest(&Script::new())
        .file("text", "neither a directory nor an archive nor a guest")
        .file("empty", "")
        .file("host/f", "x");
    let before = (names(cli.dir.path()), names(&cli.path("host")));
    for (words, code, part) in ARGUMENTS.iter().chain(WORK) {
        let done = cli.run(words);
        let said = format!("{words}: {done:?}");
        assert_eq!(done.code, Some(*code), "{said}");
        let first = done.stderr.lines().next().unwrap_or_default();
        assert!(first.starts_with("error: "), "{said}");
        assert_eq!(done.stderr.matches("error: ").count(), 1, "{said}");
        let lines = done.stderr.lines().count();
        assert!(lines == 1 || *code == 2, "one line: {said}");
        assert!(done.stderr.contains(part), "names {part}: {said}");
        assert_eq!(done.text(), "", "{said}");
        let mut left = names(cli.dir.path());
        left.retain(|name| name != "cache");
        assert_eq!((left, names(&cli.path("host"))), before, "{said}");
    }
}

#[test]
fn wrong_values_say_what_was_found_and_what_is_expected() {
    let cli = Cli::new();
    cli.guest(&Script::new());
    for (words, parts) in [
        ("--budget 1T", ["'1T'", "--budget", "512M"]),
        ("--budget=-1", ["'-1'", "--budget", "a whole number"]),
        ("--budget 1.5G", ["'1.5G'", "--budget", "powers of 1024"]),
        (
            "--budget 99999999999G",
            ["'99999999999G'", "--budget", "at most 18446744073709551615"],
        ),
        ("--share all", ["'all'", "--share", "none, own or run"]),
        ("--share OWN", ["'OWN'", "--share", "none, own or run"]),
    ] {
        cli.run(&format!("run {words} guest.wat")).refused(&parts);
    }
    // The near misses.
    for words in ["--budget 512M", "--budget 0", "--share none", "--share run"] {
        cli.run(&format!("run {words} guest.wat")).fine();
    }
}

#[test]
fn a_wrong_place_for_a_store_says_what_is_there_and_what_to_name() {
    let cli = Cli::new();
    cli.file("text", "no store")
        .file("full/x", "no store either");
    #[cfg(unix)]
    std::os::unix::fs::symlink("nothing", cli.path("link")).unwrap();
    let name = "name a store, or an empty directory for a new one";
    for command in ["store init", "store repair", "store stat", "store gc"] {
        let run = |place: &str| cli.run(&format!("{command} --store {place}"));
        run("text").failed(1, &["text: not a store: it is a file", name]);
        run("full").failed(1, &["full: not a store: ", "other files in it: x", name]);
        if cfg!(unix) {
            run("link").failed(1, &["link: not a store: ", "leads nowhere", name]);
        }
        run("text/below").failed(1, &["text/below: "]);
        cli.run(&format!("{command} extra")).refused(&["'extra'"]);
        cli.run(&format!("{command} --store"))
            .refused(&["--store", "a value is required"]);
    }
    // What is not there is made by the one, and named by the others.
    std::fs::create_dir(cli.path("empty")).unwrap();
    for place in ["missing", "empty"] {
        let what = format!("store init --store {place}");
        for command in ["store repair", "store stat", "store gc"] {
            cli.run(&format!("{command} --store {place}"))
                .failed(1, &[&format!("{place}: no store there"), &what]);
        }
        assert_eq!(cli.run(&what).fine().text(), format!("{place} made\n"));
        let text = cli.run(&what).fine().text();
        assert_eq!(text, format!("{place} there already\n"));
        let text = cli
            .run(&format!("store repair --store {place}"))
            .fine()
            .text();
        assert!(text.starts_with("nothing to repair\n"), "{text}");
    }
    assert_eq!(names(&cli.path("full")), ["x"]);
}

/// Each option of the help is in the table above, so that a new one is tried.
#[test]
fn the_table_of_wrong_input_has_every_option() {
    let cli = Cli::new();
    for command in ["run", "demo"] {
        let help = cli.run(&format!("{command} --help")).fine().text();
        let words = help.split(|c: char| c.is_whitespace() || c == ',' || c == '[');
        let mut options: Vec<_> = words.filter(|word| word.starts_with("--")).collect();
        options.retain(|word| {
            let named = |c: char| c == '-' || c.is_ascii_lowercase();
            word.len() > 2 && word.chars().all(named) && *word != "--help"
        });
        assert!(options.len() > 5, "{help}");
        for option in options {
            let tried = ARGUMENTS.iter().chain(WORK).any(|(words, ..)| {
                let mut words = words.split([' ', '=']);
                words.next() == Some(command) && words.any(|word| word == option)
            });
            let guests = option == "--an-option-of-the-guest";
            assert!(tried || guests, "{command} {option}");
        }
    }
}
