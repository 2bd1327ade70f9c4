//! Each option, good and bad.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;

use stratafs::limits::{MAX_INSTANCES, MAX_THREADS};

use super::{Cli, names};
use crate::support::script::{MFILE, NOENT, NOSPC, OK, PERM, ROFS, ROOT, Script};

#[test]
fn layers_stack_up() {
    let cli = Cli::new();
    cli.file("low/a", "low a\n")
        .file("low/b", "low b\n")
        .file("high/b", "high b\n");
    let script = Script::new().cat("a").cat("b");
    let done = cli.script("--layer low --layer high", &script);
    assert_eq!(done.fine().text(), "low a\nhigh b\n");
    let done = cli.run("run --layer high --layer low guest.wat");
    assert_eq!(done.fine().text(), "low a\nlow b\n");
}

#[test]
fn invalid_layers_are_refused_by_name() {
    let cli = Cli::new();
    cli.guest(&Script::new().print("ran\n"))
        .file("text", "neither a directory nor an archive");
    cli.run("run --layer missing guest.wat")
        .failed(1, &["missing"]);
    let done = cli.run("run --layer text guest.wat");
    assert_eq!(done.failed(1, &["text"]).text(), "");
    cli.run("run --layer").refused(&["--layer"]);
}

#[test]
fn case_77_a_host_link_out_of_a_layer_stays_in_the_layer() {
    #[cfg(unix)]
    {
        let cli = Cli::new();
        cli.file("secret/passwd", "the host's")
            .file("base/file", "x");
        let outside = cli.path("secret");
        std::os::unix::fs::symlink(&outside, cli.path("base/out")).unwrap();
        std::os::unix::fs::symlink("../secret/passwd", cli.path("base/up")).unwrap();
        std::os::unix::fs::symlink("/file", cli.path("base/in")).unwrap();
        let script = Script::new()
            .cat_in(ROOT, "out/passwd", NOENT)
            .cat_in(ROOT, "up", NOENT)
            .cat("in");
        let done = cli.script("--layer base", &script);
        assert_eq!(done.fine().text(), "x");
    }
}

#[test]
fn case_79_the_layers_directory_stays_as_it_was() {
    let cli = Cli::new();
    cli.file("base/a", "a")
        .file("base/dir/b", "b")
        .file("base/c", "c");
    let before = snapshot(&cli);
    let script = Script::new()
        .write("a", b"changed")
        .unlink("c", OK)
        .rename("dir", "moved")
        .write("new", b"new")
        .cat("moved/b");
    assert_eq!(cli.script("--layer base", &script).fine().text(), "b");
    assert_eq!(snapshot(&cli), before);
}

fn snapshot(cli: &Cli) -> Vec<(String, Vec<u8>, std::time::SystemTime)> {
    let of = |name: &str| {
        let path = cli.path(name);
        let bytes = fs::read(&path).unwrap_or_default();
        (
            name.to_owned(),
            bytes,
            path.metadata().unwrap().modified().unwrap(),
        )
    };
    let all = ["base", "base/a", "base/c", "base/dir", "base/dir/b"].map(of);
    assert_eq!(names(&cli.path("base")), ["a", "c", "dir"]);
    all.into()
}

#[test]
fn preopens_show_what_they_name() {
    let cli = Cli::new();
    cli.file("base/app/conf", "conf").file("base/data/x", "x");
    // The second of two is the next descriptor.
    let script = Script::new()
        .cat_in(ROOT, "conf", OK)
        .cat_in(ROOT + 1, "x", OK)
        .write_in(ROOT, "y", b"", PERM, OK)
        .write_in(ROOT + 1, "y", b"yes", OK, OK)
        .cat_in(ROOT, "../data/x", PERM);
    let done = cli.script(
        "--layer base --preopen /app::/etc::ro --preopen data::/data",
        &script,
    );
    assert_eq!(done.fine().text(), "confx");
}

#[test]
fn invalid_preopens_are_refused() {
    let cli = Cli::new();
    cli.guest(&Script::new()).file("base/file", "");
    cli.run("run --preopen /nope::/ guest.wat")
        .failed(1, &["/nope", "no such file"]);
    cli.run("run --layer base --preopen /file::/ guest.wat")
        .failed(1, &["/file", "not a directory"]);
    cli.run("run --preopen /::/a --preopen /::/a/ guest.wat")
        .failed(1, &["/a/", "twice"]);
    for bad in ["/", "::", "/::", "::/", "/::/::rw", "/::/::ro::ro"] {
        cli.run(&format!("run --preopen {bad} guest.wat"))
            .refused(&["--preopen", "::ro"]);
    }
}

#[test]
fn a_host_directory_is_reached_only_if_it_is_given() {
    let cli = Cli::new();
    cli.file("host/in", "from the host").file("base/x", "x");
    let script = Script::new()
        .write_in(ROOT, "y", b"layered", OK, OK)
        .write_in(ROOT + 1, "out", b"to the host", OK, OK)
        .cat_in(ROOT + 1, "in", OK);
    // Which of the two descriptors comes first is read off the names.
    let done = cli.script("--layer base --dir host::/host", &script);
    assert_eq!(done.fine().text(), "from the host");
    assert_eq!(fs::read(cli.path("host/out")).unwrap(), b"to the host");
    assert_eq!(names(&cli.path("host")), ["in", "out"]);
    let script = Script::new()
        .write_in(ROOT + 1, "no", b"", PERM, OK)
        .cat_in(ROOT + 1, "in", OK);
    cli.script("--dir host::/host::ro", &script).fine();
    assert_eq!(names(&cli.path("host")), ["in", "out"]);
    cli.run("run --dir missing::/x guest.wat")
        .failed(1, &["missing"]);
    cli.run("run --dir guest.wat::/x guest.wat")
        .failed(1, &["guest.wat"]);
    cli.run("run --dir host::/ guest.wat").failed(1, &["twice"]);
    cli.run("run --dir host::/ guest.wat")
        .failed(1, &["--preopen /::/layers", "--no-preopen"]);
    cli.run("run --dir host::/h::rw guest.wat")
        .refused(&["--dir"]);
}

#[test]
fn invalid_variables_are_refused() {
    let cli = Cli::new();
    cli.guest(&Script::new());
    for bad in ["=b", "="] {
        cli.run(&format!("run --env {bad} guest.wat"))
            .refused(&["--env", "NAME=VALUE"]);
    }
}

#[test]
fn read_only_refuses_every_write() {
    let cli = Cli::new();
    cli.file("base/a", "a");
    let script = Script::new()
        .cat("a")
        .write_in(ROOT, "a", b"", ROFS, OK)
        .write_in(ROOT, "b", b"", ROFS, OK)
        .unlink("a", ROFS)
        .mkdir("d", ROFS);
    assert_eq!(
        cli.script("--layer base --read-only", &script)
            .fine()
            .text(),
        "a"
    );
}

#[test]
fn quotas_are_what_was_given() {
    let cli = Cli::new();
    let bytes = [7; 8192];
    let script = Script::new()
        .write("a", &bytes)
        .write_in(ROOT, "b", b"x", OK, NOSPC);
    cli.script("--max-bytes 8K", &script).fine();
    let script = Script::new()
        .mkdir("a", OK)
        .mkdir("b", OK)
        .mkdir("c", NOSPC);
    cli.script("--max-inodes 2", &script).fine();
    cli.file("base/a", "a");
    cli.file("base/d/a", "a");
    // The root of the base is the one that may change.
    let script = Script::new().mkdir("n", OK).mkdir("d/n", NOSPC);
    cli.script("--layer base --max-changed 1", &script).fine();
    // The preopen takes one.
    let script = Script::new()
        .keep_open("a", OK)
        .keep_open("a", OK)
        .keep_open("a", MFILE);
    cli.script("--layer base --max-open 3", &script).fine();
    for option in [
        "--max-bytes",
        "--max-inodes",
        "--max-changed",
        "--max-open",
        "--max-memory",
    ] {
        for bad in ["x", "-1", "1.5", "1KB", "99999999999G"] {
            cli.run(&format!("run {option}={bad} guest.wat"))
                .refused(&[option]);
        }
    }
    cli.run("run --max-open 4G guest.wat")
        .refused(&["--max-open", "too large"]);
}

#[test]
fn invalid_numbers_and_times_are_refused() {
    let cli = Cli::new();
    cli.guest(&Script::new());
    let bounds = [("--instances", MAX_INSTANCES), ("--threads", MAX_THREADS)];
    for (option, most) in bounds {
        let past = (most + 1).to_string();
        for bad in ["0", "-1", "x", "4294967296", &past] {
            cli.run(&format!("run {option}={bad} guest.wat"))
                .refused(&[option]);
        }
    }
    for bad in ["0", "-1", "x", "nan", "inf"] {
        cli.run(&format!("run --timeout={bad} guest.wat"))
            .refused(&["--timeout"]);
    }
}

#[test]
fn what_does_not_exist_is_refused() {
    let cli = Cli::new();
    cli.guest(&Script::new());
    cli.run("run").refused(&["GUEST"]);
    cli.run("walk").refused(&["walk"]);
    cli.run("run --cache a --no-cache guest.wat")
        .refused(&["--no-cache"]);
    assert_eq!(cli.run("").code, Some(2));
    assert_eq!(cli.names(), ["guest.wat"]);
}

#[test]
fn help_has_an_example() {
    let cli = Cli::new();
    for words in ["--help", "run --help", "demo --help"] {
        let text = cli.run(words).fine().text();
        assert!(
            text.contains("Example") && text.contains("\n  stratafs "),
            "{text}"
        );
        assert!(text.lines().all(|line| line.len() <= 110), "{text}");
    }
    assert!(cli.run("--version").fine().text().starts_with("stratafs "));
}

#[test]
fn stats_have_the_keys_of_the_contract() {
    let cli = Cli::new();
    cli.file("low/a", [1; 5000]).file("high/b/c", [1; 5000]);
    let script = Script::new().write("new", &[9; 4096]).exit(3);
    let done = cli.script("--layer low --layer high --stats stats.json", &script);
    assert_eq!(done.code, Some(3));
    let stats = json(&fs::read(cli.path("stats.json")).unwrap());
    assert_eq!(
        (&stats["instances"], &stats["threads"]),
        (&1.into(), &1.into())
    );
    assert_eq!(stats["failed"], 1);
    let base = &stats["base"];
    assert_eq!(
        (&base["layers"], &base["files"], &base["dirs"]),
        (&2.into(), &2.into(), &2.into())
    );
    assert_eq!(
        (&base["logical_bytes"], &base["stored_bytes"]),
        (&10_000.into(), &5_000.into())
    );
    for times in ["fs_create_ns", "start_ns", "run_ns"] {
        let time = |key: &str| stats[times][key].as_u64().unwrap();
        assert!(0 < time("min") && time("min") <= time("median") && time("median") <= time("p99"));
    }
    assert!(stats["start_ns"]["min"].as_u64() >= stats["fs_create_ns"]["min"].as_u64());
    let overlay = &stats["overlay"];
    assert_eq!(overlay["private_bytes"]["median"], 4096);
    assert_eq!(overlay["private_bytes"]["max"], 4096);
    assert_eq!(
        (&overlay["shared_bytes"], &overlay["logical_bytes"]),
        (&0.into(), &4096.into())
    );
    if cfg!(target_os = "linux") {
        let rss = |key: &str| stats["rss_bytes"][key].as_u64().unwrap();
        assert!(rss("before") > 0 && rss("peak") >= rss("after_create") && rss("after_create") > 0);
    }
}

#[test]
fn stats_go_where_they_are_sent() {
    let cli = Cli::new();
    let done = cli.script("--stats -", &Script::new().print("out\n"));
    assert_eq!((done.code, done.text().as_str()), (Some(0), "out\n"));
    assert_eq!(json(done.stderr.as_bytes())["instances"], 1);
    #[cfg(unix)]
    {
        cli.run("run --stats /dev/null guest.wat").fine();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
    for bad in ["missing/stats.json", "cache", ".."] {
        let done = cli.run(&format!("run --stats {bad} guest.wat"));
        assert_eq!(done.failed(1, &[bad]).text(), "");
    }
    assert_eq!(cli.names(), ["cache", "guest.wat"]);
}

fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn a_diff_is_a_layer_of_the_changes() {
    let cli = Cli::new();
    cli.file("base/kept", "kept")
        .file("base/gone", "gone")
        .file("base/dir/x", "x");
    cli.file("base/changed", "before");
    let script = Script::new()
        .unlink("gone", OK)
        .write("changed", b"after")
        .write("new", b"new")
        .rename("dir", "moved")
        .exit(5);
    let done = cli.script("--layer base --diff changes.tar", &script);
    assert_eq!((done.code, done.stderr.as_str()), (Some(5), ""));
    let entries = entries(&cli, "changes.tar");
    assert_eq!(entries["changed"], b"after");
    assert_eq!(entries["new"], b"new");
    assert_eq!(entries["moved/x"], b"x");
    assert_eq!(
        (entries[".wh.gone"].len(), entries[".wh.dir"].len()),
        (0, 0)
    );
    assert!(!entries.contains_key("kept"));
    // It is a layer: on the base again, it gives what the guest left.
    let script = Script::new()
        .cat("kept")
        .cat("changed")
        .cat("new")
        .cat("moved/x")
        .cat_in(ROOT, "gone", NOENT)
        .cat_in(ROOT, "dir/x", NOENT);
    let done = cli.script("--layer base --layer changes.tar", &script);
    assert_eq!(done.fine().text(), "keptafternewx");
}

fn entries(cli: &Cli, name: &str) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(fs::File::open(cli.path(name)).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let path = entry
            .path()
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches('/')
            .to_owned();
        (path, bytes)
    });
    entries.collect()
}

#[test]
fn a_diff_is_whole_or_not_there() {
    let cli = Cli::new();
    cli.file("changes.tar", "from before");
    // No layer can hold a name that stands for a whiteout.
    let script = Script::new().write(".wh.x", b"").print("ran\n");
    let done = cli.script("--diff changes.tar", &script);
    assert_eq!(done.failed(1, &[".wh.x"]).text(), "ran\n");
    assert_eq!(fs::read(cli.path("changes.tar")).unwrap(), b"from before");
    cli.run("run --diff missing/x.tar guest.wat")
        .failed(1, &["missing"]);
    cli.run("run --diff x.tar missing.wasm")
        .failed(1, &["missing.wasm"]);
    cli.run("run --diff x.tar --instances 2 guest.wat")
        .failed(2, &["--diff", "one instance"]);
    assert_eq!(cli.names(), ["cache", "changes.tar", "guest.wat"]);
    let script = Script::new().write("x", b"").trap();
    assert_eq!(cli.script("--diff trapped.tar", &script).code, Some(134));
    assert_eq!(entries(&cli, "trapped.tar")["x"], b"");
}

#[test]
#[cfg(unix)]
fn case_80_arguments_that_are_no_text_are_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let cli = Cli::new();
    let mut command = cli.guest(&Script::new()).command("run guest.wat a");
    let done = super::Done::of(command.arg(OsStr::from_bytes(b"\xff")));
    done.failed(2, &["argument 2", "UTF-8"]);
}

#[test]
fn rules_hold_for_paths_and_all_below() {
    let cli = Cli::new();
    cli.file("base/etc/passwd", "root\n")
        .file("base/etc/own/x", "old\n")
        .file("base/key", "secret\n");
    let script = Script::new()
        .cat("etc/passwd")
        .write_in(ROOT, "etc/passwd", b"changed", PERM, OK)
        .write_in(ROOT, "etc/own/x", b"new\n", OK, OK)
        .cat_in(ROOT, "key", NOENT)
        .mkdir("key", PERM)
        .write("free", b"kept\n");
    let rules = "--rule ro:/etc --rule free:/etc/own --rule hidden:/key";
    for instances in ["", "--instances 3"] {
        let done = cli.script(&format!("--layer base {rules} {instances}"), &script);
        let times = if instances.is_empty() { 1 } else { 3 };
        assert_eq!(done.fine().text(), "root\n".repeat(times), "{instances}");
    }
}

#[test]
fn a_dash_is_standard_output_where_a_file_is_written() {
    let cli = Cli::new();
    cli.file("base/a", "a");
    let done = cli.script("--layer base --diff -", &Script::new().write("new", b"x"));
    let out = &done.fine().stdout;
    assert!(
        out.len() >= 1536 && out.len().is_multiple_of(512),
        "{}",
        out.len()
    );
    assert!(out.windows(3).any(|name| name == b"new"));
    cli.run("image import base --tag a:1").fine();
    let page = cli.run("image analyze a:1 --html -");
    let text = page.fine().text();
    assert!(text.starts_with("<!doctype html>") && text.ends_with("</html>\n"));
    let is_tar = |out: &[u8]| &out[257..262] == b"ustar";
    for format in ["", " --format tar", " --format oci-archive"] {
        let done = cli.run(&format!("image export a:1 -{format}"));
        assert!(is_tar(&done.fine().stdout), "{format}");
    }
    let mut command = cli.command("image export a:1 -");
    let file = std::fs::File::create(cli.path("out.tar")).unwrap();
    assert!(command.stdout(file).status().unwrap().success());
    assert!(is_tar(&std::fs::read(cli.path("out.tar")).unwrap()));
    cli.run("image export a:1 - --format dir")
        .refused(&["--format tar"]);
    cli.run("image export a:1 - --json")
        .refused(&["stdout is asked for twice"]);
    assert!(!names(&cli.path(".")).contains(&"-".to_owned()));
}

#[test]
fn invalid_rules_are_refused() {
    let cli = Cli::new();
    cli.file("base/a", "a").guest(&Script::new().print("ran\n"));
    let missing = cli.run("run --layer base --rule ro:/missing guest.wat");
    missing.failed(1, &["/missing", "no such file"]);
    for (rule, why) in [
        ("ro", "MODE:PATH"),
        ("rw:/a", "expected ro, append, hidden or free"),
        ("ro:a", "absolute path"),
    ] {
        cli.run(&format!("run --layer base --rule {rule} guest.wat"))
            .refused(&["--rule", why]);
    }
}
