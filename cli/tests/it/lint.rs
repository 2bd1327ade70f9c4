//! `image lint`: an image for each rule, and one on which all are silent.

use serde_json::{Value, json};

use super::Cli;
use crate::support::archive::{Archive, Head};
use crate::support::script::Script;

const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMIIEvQ\n";

impl Cli {
    /// An image `app:1` of these layers that starts `/app.wat`.
    fn with_image(layers: &[Archive]) -> Self {
        let cli = Self::new();
        let app = Archive::new().file("app.wat", &Script::new().wat());
        cli.file("app.tar", app.end());
        let mut words = "image import app.tar --tag raw:1".to_owned();
        for (number, layer) in layers.iter().enumerate() {
            cli.file(&format!("{number}.tar"), layer.clone().end());
            words.push_str(&format!(" --layer {number}.tar"));
        }
        cli.run(&words).fine();
        cli.run("image mutate raw:1 --tag app:1 --entrypoint /app.wat")
            .fine();
        cli
    }

    /// The rules that fire, with the paths.
    #[track_caller]
    fn fired(&self, words: &str) -> Vec<(String, String)> {
        let done = self.run(&format!("image lint {words} --json"));
        assert!(matches!(done.code, Some(0 | 4)), "{done:?}");
        let told: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(told["failed"], done.code == Some(4));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let all = told["findings"].as_array().unwrap().iter();
        all.map(|finding| (text(&finding["rule"]), text(&finding["path"])))
            .collect()
    }
}

#[track_caller]
fn fires(layers: &[Archive], rule: &str, path: &str) {
    let cli = Cli::with_image(layers);
    assert_eq!(cli.fired("app:1"), [(rule.to_owned(), path.to_owned())]);
    assert_eq!(cli.fired(&format!("app:1 --allow {rule}")), []);
}

fn mode(name: &str, kind: u8, mode: u64) -> Archive {
    Archive::new().with(Head::new(kind, name).octal(100, 8, mode), b"")
}

#[test]
fn rules_are_silent_on_a_clean_image() {
    let cli = Cli::with_image(&[
        mode("tmp/", b'5', 0o1777),
        Archive::new()
            .file("etc/motd", "hello")
            .file("lib/small", "MZ is text")
            .file("lib/token.py", "ghp_ is how tokens begin"),
    ]);
    assert_eq!(cli.fired("app:1"), []);
    let done = cli.run("image lint app:1 --fail-on note");
    assert_eq!(done.fine().text(), "0 errors, 0 warnings, 0 notes\n");
}

#[test]
fn what_is_not_there_is_no_wrong_argument() {
    let cli = Cli::with_image(&[]);
    for word in [
        "/nope/Dockerfile",
        "nope/Dockerfile",
        "../x",
        "no:such",
        "Nope",
    ] {
        let done = cli.run(&format!("image lint {word}"));
        done.failed(1, &[word.trim_start_matches("../")]);
    }
}

#[test]
fn a_program_of_another_kind_is_called_what_it_is() {
    let cli = Cli::new();
    cli.file(
        "app.tar",
        Archive::new().file("bin/sh", "\x7fELF\x02\x01\x01").end(),
    );
    cli.run("image import app.tar --tag raw:1").fine();
    cli.run("image mutate raw:1 --tag app:1 --entrypoint /bin/sh")
        .fine();
    let done = cli.run("image lint app:1");
    assert_eq!(done.code, Some(4));
    let text = done.text();
    assert!(
        text.contains("/bin/sh is an ELF program for Linux"),
        "{text}"
    );
    assert!(text.contains("build it for wasm32-wasip1"), "{text}");
}

#[test]
fn each_rule_about_files_fires() {
    let file = |name: &str, text: &str| Archive::new().file(name, text);
    let large = "0123456789abcdef".repeat(5 << 10);
    fires(&[file("etc/key.pem", KEY)], "secret", "/etc/key.pem");
    fires(&[file("root/.netrc", "machine")], "secret", "/root/.netrc");
    fires(&[mode("bin/su", b'0', 0o4755)], "setuid", "/bin/su");
    fires(&[mode("open", b'0', 0o666)], "world-writable", "/open");
    fires(&[mode("open/", b'5', 0o777)], "world-writable", "/open");
    fires(
        &[file("bin/sh", "\x7fELF\x02\x01\x01")],
        "native-program",
        "/bin/sh",
    );
    fires(&[file("var/cache/x", "x")], "leftover", "/var/cache/x");
    fires(&[file("src/a.c~", "x")], "leftover", "/src/a.c~");
    fires(&[file("a", &large).file("b", &large)], "duplicate", "/b");
    // A file that is removed still weighs: a little of the image, or most of it.
    let keep = (0..300_000_u32)
        .map(|number| char::from(b'a' + (number.wrapping_mul(2_654_435_769) >> 28) as u8));
    let keep: String = keep.collect();
    let small = &large[..8 << 10];
    let both = [
        file("keep", &keep).file("gone", small),
        file(".wh.gone", ""),
    ];
    fires(&both, "hidden-bytes", "/gone");
    let most = Cli::with_image(&[file("gone", &large), file(".wh.gone", "")]);
    let want = [("hidden-bytes", "/gone"), ("many-layers", "")];
    assert_eq!(
        most.fired("app:1"),
        want.map(|(rule, path)| (rule.to_owned(), path.to_owned()))
    );
    // A secret that is removed can still be read.
    let hidden = [file("key", KEY), file(".wh.key", "")];
    fires(&hidden, "secret", "/key");
    let many: Vec<Archive> = (0..33)
        .map(|number| file(&format!("f{number}"), "x"))
        .collect();
    fires(&many, "many-layers", "");
}

#[test]
fn each_rule_about_the_configuration_fires() {
    let cli = Cli::with_image(&[Archive::new().file("text", "no program").file(
        "odd.wat",
        "(module (import \"a\" \"b\" (func)) (func (export \"_start\")))",
    )]);
    let fires = |mutation: &str, tag: &str, rule: &str| {
        cli.run(&format!("image mutate app:1 --tag {tag} {mutation}"))
            .fine();
        assert_eq!(
            cli.fired(tag),
            [(rule.to_owned(), String::new())],
            "{mutation}"
        );
        assert_eq!(cli.fired(&format!("{tag} --allow {rule}")), []);
    };
    fires("--env DB_PASSWORD=x", "a:1", "secret");
    fires("--entrypoint /none.wasm", "a:2", "entry-missing");
    fires("--entrypoint /text", "a:3", "entry-not-wasm");
    fires("--entrypoint /odd.wat", "a:4", "unknown-import");
    fires("--entrypoint=", "a:5", "no-entry");
    fires(
        "--label org.opencontainers.image.base.name=debian:12",
        "a:6",
        "unpinned-base",
    );
    fires("--label a=b", "b:latest", "latest");
    cli.run("image mutate a:6 --tag a:7 --label org.opencontainers.image.base.digest=sha256:00")
        .fine();
    assert_eq!(cli.fired("a:7"), []);
}

#[test]
fn the_exit_code_goes_by_the_worst_that_counts() {
    let cli = Cli::with_image(&[mode("open", b'0', 0o666), Archive::new().file("a~", "x")]);
    let code = |words: &str| cli.run(&format!("image lint app:1 {words}")).code;
    assert_eq!(code(""), Some(0));
    assert_eq!(code("--fail-on warning"), Some(4));
    assert_eq!(code("--fail-on warning --allow world-writable"), Some(0));
    assert_eq!(code("--fail-on note --allow world-writable"), Some(4));
    let text = cli.run("image lint app:1").text();
    assert!(
        text.contains("warning world-writable") && text.contains("/open: mode 0666 (layer 1)"),
        "{text}"
    );
    assert!(text.ends_with("0 errors, 1 warnings, 1 notes\n"), "{text}");
    cli.run("image lint app:1 --allow none")
        .refused(&["--allow", "setuid"]);
    cli.run("image lint app:1 --fail-on bad")
        .refused(&["--fail-on"]);
    cli.run("image lint app:1 --sarif x --json")
        .refused(&["--sarif"]);
    cli.run("image lint none").failed(1, &["none:latest"]);
}

#[test]
fn findings_are_written_as_sarif() {
    let cli = Cli::with_image(&[Archive::new().file("a b/<key>", KEY)]);
    let done = cli.run("image lint app:1 --sarif out.sarif");
    assert_eq!(done.code, Some(4));
    let written = std::fs::read(cli.path("out.sarif")).unwrap();
    let sarif: Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    assert_eq!(run["tool"]["driver"]["rules"].as_array().unwrap().len(), 20);
    let result = &run["results"][0];
    assert_eq!(
        (&result["ruleId"], &result["level"]),
        (&json!("secret"), &json!("error"))
    );
    let place = &result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
    assert_eq!(place, "a%20b/%3Ckey%3E");
    let done = cli.run("image lint app:1 --sarif -");
    assert_eq!(
        serde_json::from_slice::<Value>(&done.stdout).unwrap(),
        sarif
    );
}
