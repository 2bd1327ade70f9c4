//! Where a build takes its recipe and files from, and what its outputs refuse.

use std::fs;
use std::process::Stdio;

use super::{Cli, Done, build, id, tree, with};
use crate::support::archive::Archive;

/// Runs the program with a file as its standard input.
fn fed(cli: &Cli, words: &str, input: &str) -> Done {
    let file = fs::File::open(cli.path(input)).unwrap();
    Done::of(cli.command(words).stdin(Stdio::from(file)))
}

#[test]
fn invalid_contexts_are_named() {
    let cli = with("FROM scratch\n");
    for (context, parts) in [
        (
            "none",
            &["none: no context there", "No such file"] as &[&str],
        ),
        ("/none/at/all", &["/none/at/all: no context there"]),
        (
            "https://example.org/x.git",
            &["https://example.org/x.git: ", "git clone"],
        ),
        ("git@example.org:x/y.git", &["git clone"]),
        (
            "other",
            &["other: no recipe there", "Dockerfile", "-f RECIPE"],
        ),
        ("file", &["file"]),
    ] {
        cli.file("other/a", "a").file("file", "no archive");
        cli.run(&format!("image build -q {context} --tag made"))
            .failed(1, parts);
        if !matches!(context, "other" | "file") {
            let named = format!("image build -q -f ctx/Dockerfile {context} --tag made");
            cli.run(&named).failed(1, parts);
        }
    }
    assert!(!cli.path("store").exists());
}

#[test]
fn stdin_is_a_recipe_or_an_archive_with_one() {
    let cli = Cli::new();
    cli.file("recipe", "FROM scratch\nCOPY <<f /\ntext\nf\n");
    id(&fed(&cli, "image build -q - --tag made", "recipe"));
    assert_eq!(tree(&cli), ["/f"]);
    // It has no files to copy.
    cli.file("needs", "FROM scratch\nCOPY needs /\n");
    fed(&cli, "image build -q - --tag made", "needs")
        .failed(1, &["stdin: line 2, column 1", "needs: nothing there"]);
    let archive = Archive::new()
        .file("Dockerfile", "FROM scratch\nCOPY dir /d\n")
        .file("dir/one", "1");
    cli.file("ctx.tar", archive.end());
    id(&fed(&cli, "image build -q - --tag made", "ctx.tar"));
    assert_eq!(tree(&cli), ["/d", "/d/one"]);
    // The same by name, and with a recipe of the host.
    id(&cli.run("image build -q ctx.tar --tag made"));
    assert_eq!(tree(&cli), ["/d", "/d/one"]);
    cli.file("own", "FROM scratch\nCOPY dir/one /o\n");
    id(&cli.run("image build -q -f own ctx.tar --tag made"));
    assert_eq!(tree(&cli), ["/o"]);
    id(&fed(&cli, "image build -q -f own - --tag made", "ctx.tar"));
    assert_eq!(tree(&cli), ["/o"]);
    fed(&cli, "image build -q -f - - --tag made", "recipe").refused(&["stdin is asked for twice"]);
    cli.file("bare.tar", Archive::new().file("a", "a").end());
    cli.run("image build -q bare.tar --tag made")
        .failed(1, &["bare.tar: no recipe there"]);
    // Errors in a recipe name the archive.
    let wrong = Archive::new().file("Dockerfile", "FROM scratch\nNONE\n");
    cli.file("wrong.tar", wrong.end());
    cli.run("image build -q wrong.tar --tag made")
        .failed(1, &["wrong.tar/Dockerfile: line 2"]);
}

#[cfg(target_os = "linux")]
#[test]
fn an_output_that_takes_no_more_is_named() {
    let cli = with("FROM scratch\nCOPY <<f /\ntext\nf\n");
    for options in [
        "--iidfile /dev/full",
        "-o type=tar,dest=/dev/full",
        "-o type=oci-archive,dest=/dev/full",
    ] {
        build(&cli, options).failed(1, &["/dev/full: No space left on device"]);
        cli.run("image inspect made").failed(1, &["made"]);
    }
    id(&build(&cli, ""));
    for words in [
        "image export made /dev/full --format tar",
        "image export made /dev/full --format oci-archive",
        "image lint made --sarif /dev/full",
        "image analyze made --html /dev/full",
        "run --stats /dev/full --image made /f",
    ] {
        cli.file("guest.wat", "(module (func (export \"_start\")))");
        let words = words.replace("--image made /f", "guest.wat");
        let done = cli.run(&words);
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(
            done.stderr.contains("/dev/full: No space left"),
            "{words}: {}",
            done.stderr
        );
    }
}
