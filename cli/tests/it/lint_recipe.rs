//! `image lint` of a recipe: each rule at its line, comments that leave rules out, and the word
//! that may be an image or a file.

use serde_json::{Value, json};

use super::Cli;
use crate::support::script::Script;

const PIN: &str = "@sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// What fires on a recipe: rule, line, column.
#[track_caller]
fn fired(recipe: &str) -> Vec<(String, u64, u64)> {
    let cli = Cli::new();
    cli.file("Dockerfile", recipe);
    let done = cli.run("image lint ./Dockerfile --json");
    assert!(matches!(done.code, Some(0 | 4)), "{done:?}");
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(told["failed"], done.code == Some(4));
    assert_eq!(
        (&told["image"], &told["recipe"]),
        (&Value::Null, &json!("./Dockerfile"))
    );
    let all = told["findings"].as_array().unwrap().iter();
    all.map(|finding| {
        let number = |key: &str| finding[key].as_u64().unwrap();
        let rule = finding["rule"].as_str().unwrap().to_owned();
        (rule, number("line"), number("column"))
    })
    .collect()
}

/// A recipe whose lines from the second on are these, and nothing else to say of it.
fn of_scratch(lines: &str) -> String {
    format!("FROM scratch\n{lines}\nENTRYPOINT [\"/a.wasm\"]\n")
}

#[track_caller]
fn fires(recipe: &str, rule: &str, line: u64, column: u64) {
    assert_eq!(fired(recipe), [(rule.to_owned(), line, column)], "{recipe}");
    let off = format!("# stratafs: ignore-all={rule}\n{recipe}");
    // A recipe that cannot be read says nothing of rules.
    if rule != "unbuildable" {
        assert_eq!(fired(&off), [], "{off}");
    }
}

#[test]
fn rules_are_silent_on_a_clean_recipe() {
    let recipe = format!(
        "ARG TAG=1\nFROM a:$TAG{PIN} AS build\nWORKDIR /src\nCOPY src .\nADD lib.tar.gz /lib\nSHELL [\"/sh.wasm\", \"-c\"]\nRUN make\nFROM build AS more\nCMD run\nFROM scratch\nCOPY --from=build --chmod=755 /src/a.wasm /\nENV TOKEN_FILE=/run/secrets/t\nENTRYPOINT [\"/a.wasm\"]\nCMD [\"-v\"]\n"
    );
    assert_eq!(fired(&recipe), []);
}

#[test]
fn each_rule_fires_at_its_line() {
    for (lines, rule, line, column) in [
        ("ENV A=1 DB_PASSWORD=x", "secret", 2, 1),
        ("ARG NPM_TOKEN", "secret", 2, 1),
        ("LABEL a=b \\\n  k=AKIAABCDEFGHIJKLMN01", "secret", 2, 1),
        ("COPY <<k /\n-----BEGIN PRIVATE KEY-----\nk", "secret", 2, 1),
        ("RUN make", "unbuildable", 2, 5),
        ("COPY a", "unbuildable", 2, 1),
        ("COPY --chmod=4755 a /", "setuid", 2, 6),
        ("COPY --chown=1:1 --chmod=777 a /", "world-writable", 2, 18),
        ("COPY --chmod=u+s a /", "setuid", 2, 6),
        ("COPY --chmod=go=rw a /", "world-writable", 2, 6),
        ("CMD [\"a\"]\nCMD [\"b\"]", "overwritten", 2, 1),
        ("HEALTHCHECK NONE", "odd-line", 2, 1),
        ("COPY a \\\n\n  /b", "odd-line", 3, 1),
        ("# stratafs: ignore=none\nCOPY a /", "odd-line", 2, 1),
        ("# stratafs: nothing\nCOPY a /", "odd-line", 2, 1),
        ("COPY . /srv", "leftover", 2, 6),
        ("ADD file /srv/", "add-for-copy", 2, 5),
    ] {
        fires(&of_scratch(lines), rule, line, column);
    }
    let many = "COPY a /\n".repeat(33);
    fires(&of_scratch(many.trim_end()), "many-layers", 1, 1);
    fires("FROM scratch\nCOPY a /\n", "no-entry", 1, 1);
    fires("ARG V=1\nFROM a:$V\n", "unpinned-base", 2, 6);
    fires(
        &format!("FROM a:1{PIN}\nWORKDIR x\nWORKDIR y\n"),
        "relative-workdir",
        2,
        9,
    );
    let both = [
        ("latest".to_owned(), 1, 6),
        ("unpinned-base".to_owned(), 1, 6),
    ];
    assert_eq!(fired("FROM host:5000/a\n"), both);
    assert_eq!(fired("FROM a:latest\n"), both);
    let names = format!("FROM a:1{PIN} AS x\nFROM a:1{PIN} AS X\n");
    fires(&names, "odd-line", 2, 1);
    // The parser stops at the first line that it cannot read.
    fires("FROM scratch\nBAKE it\nSLICE it\n", "unbuildable", 2, 1);
}

#[test]
fn rules_are_silent_on_what_is_nearly_theirs() {
    for lines in [
        "ENV TOKEN_FILE=/run/secrets/t",
        "ENV PASSWORD=",
        "ARG TOKENS_PER_SECOND=5",
        "RUN --mount=type=secret,id=t,env=TOKEN [\"/a.wasm\"]",
        "COPY <<k /\n-----BEGIN PUBLIC KEY-----\nk",
        "COPY --chmod=0755 a /",
        "COPY --chmod=u=rwX,go=rX a /",
        "COPY --chmod=775 a /",
        "COPY --chmod=$MODE a /",
        "CMD [\"a\"]",
        "WORKDIR /x\nWORKDIR y",
        "COPY ./a /srv",
        "COPY a/. /srv",
        "ADD x.tgz /srv/",
        "ADD --unpack=false x /srv/",
        "ADD x* /srv/",
        "# another comment\nCOPY a /",
        "COPY a \\\n# between\n  /b",
    ] {
        assert_eq!(fired(&of_scratch(lines)), [], "{lines}");
    }
    let few = "COPY a /\n".repeat(32);
    assert_eq!(fired(&of_scratch(few.trim_end())), []);
    for recipe in [
        // Each stage has a command of its own, and one that nobody starts needs none.
        &format!("FROM a:1{PIN} AS x\nCMD [\"a\"]\nFROM x\nCMD [\"b\"]\n") as &str,
        &format!("FROM a:1{PIN} AS x\nCOPY a /\nFROM scratch\nCOPY --from=x /a /\nCMD [\"b\"]\n"),
        &format!("FROM a:latest{PIN}\nCMD [\"b\"]\n"),
    ] {
        assert_eq!(fired(recipe), [], "{recipe}");
    }
    // What an ignore file leaves out cannot be told, so it is believed.
    let cli = Cli::new();
    cli.file("Dockerfile", of_scratch("COPY . /srv"))
        .file(".dockerignore", ".git\n");
    let told = cli.json("image lint ./Dockerfile");
    assert_eq!(told["findings"], json!([]));
}

#[test]
fn the_document_has_what_sarif_requires() {
    let cli = Cli::new();
    cli.file(
        "Dockerfile",
        of_scratch("ADD a /\nENV API_KEY=x\nHEALTHCHECK NONE"),
    );
    // A note and a warning count only where they are asked for.
    for (words, code) in [
        ("--fail-on error", 4),
        ("--fail-on error --allow secret", 0),
        ("--fail-on warning --allow secret", 4),
        ("--fail-on warning --allow secret --allow odd-line", 0),
        ("--fail-on note --allow secret --allow odd-line", 4),
        (
            "--fail-on note --allow secret --allow odd-line --allow add-for-copy",
            0,
        ),
    ] {
        let done = cli.run(&format!("image lint ./Dockerfile {words}"));
        assert_eq!(done.code, Some(code), "{words}: {done:?}");
    }
    cli.run("image lint ./Dockerfile --fail-on never")
        .refused(&["never"]);
    cli.run("image lint ./Dockerfile --allow nothing")
        .refused(&["nothing"]);
    let done = cli.run("image lint ./Dockerfile --sarif out.sarif");
    assert_eq!(done.code, Some(4));
    let bytes = std::fs::read(cli.path("out.sarif")).unwrap();
    let told: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(told["version"], "2.1.0");
    assert!(told["$schema"].as_str().unwrap().starts_with("https://"));
    assert_eq!(told["runs"].as_array().unwrap().len(), 1);
    let run = &told["runs"][0];
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "stratafs");
    let rules = driver["rules"].as_array().unwrap();
    for rule in rules {
        assert!(rule["id"].is_string() && rule["shortDescription"]["text"].is_string());
        let level = rule["defaultConfiguration"]["level"].as_str().unwrap();
        assert!(["error", "warning", "note"].contains(&level), "{level}");
    }
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    for result in results {
        let at = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[at]["id"], result["ruleId"]);
        assert!(result["message"]["text"].is_string());
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "./Dockerfile");
        let region = &place["region"];
        assert!(region["startLine"].as_u64().unwrap() >= 2);
        assert!(region["startColumn"].as_u64().unwrap() >= 1);
    }
}

#[test]
fn comments_leave_rules_out_where_they_stand() {
    let recipe = "FROM scratch\n# stratafs: ignore=add-for-copy, setuid\nADD --chmod=4755 a /\nADD b /\nCOPY c \\\n# stratafs: ignore=leftover\n  . /d/\nCMD [\"a\"]\n";
    assert_eq!(fired(recipe), [("add-for-copy".to_owned(), 4, 5)]);
}

#[test]
fn no_finding_repeats_the_secret() {
    let cli = Cli::new();
    cli.file(
        "r",
        of_scratch("ENV API_KEY=hunter2 B=AKIAABCDEFGHIJKLMN01"),
    );
    let done = cli.run("image lint ./r");
    assert_eq!(done.code, Some(4));
    let text = done.text();
    assert!(
        text.contains("error secret")
            && text.contains("line 2, column 1: the variable \"API_KEY\""),
        "{text}"
    );
    assert!(
        !text.contains("hunter2") && !text.contains("AKIAA"),
        "{text}"
    );
}

#[test]
fn a_recipe_is_named_in_sarif_with_its_line() {
    let cli = Cli::new();
    cli.file("a b/Dockerfile", of_scratch("RUN \\\n  make"));
    let mut command = cli.command("image lint --sarif -");
    let done = super::Done::of(command.arg("a b"));
    assert_eq!(done.code, Some(4));
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    let result = &told["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], "unbuildable");
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "a%20b/Dockerfile");
    assert_eq!(place["region"], json!({"startLine": 3, "startColumn": 3}));
}

#[test]
fn an_image_goes_before_a_file_of_its_name() {
    let cli = Cli::new();
    cli.file("app", of_scratch("ADD a /"));
    // Without a store the word is the file, and none is made.
    let text = cli.run("image lint app").fine().text();
    assert!(text.contains("note add-for-copy"), "{text}");
    assert!(!cli.path("store").exists());
    cli.file("tree/a.wat", Script::new().wat());
    cli.run("image import tree --tag app").fine();
    let told = cli.json("image lint app");
    assert_eq!(
        (&told["image"], &told["recipe"]),
        (&json!("app:latest"), &Value::Null)
    );
    assert_eq!(cli.json("image lint ./app")["recipe"], "./app");
    cli.run("image lint none").failed(1, &["none:latest"]);
    cli.run("image lint ./none")
        .failed(1, &["./none", "no recipe"]);
    cli.run("image lint tree/")
        .failed(1, &["tree/", "Dockerfile"]);
    let mut command = cli.command("image lint -");
    command.stdin(std::fs::File::open(cli.path("app")).unwrap());
    assert!(
        super::Done::of(&mut command)
            .fine()
            .text()
            .contains("add-for-copy")
    );
}
