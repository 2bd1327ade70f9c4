//! The commands of docs/RECIPES.md, run as they stand there.

use std::process::Command;

use super::{Cli, Done};
use crate::support::fake_registry::FakeRegistry;

const PAGE: &str = include_str!("../../../../docs/RECIPES.md");

/// The shell blocks below a heading, one after the other.
fn commands(heading: &str) -> String {
    let (_, section) = PAGE.split_once(heading).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap());
    blocks.collect()
}

/// Runs them in an empty directory, with this program as `stratafs`.
fn run(cli: &Cli, script: &str) -> Done {
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_stratafs"));
    let path = std::env::join_paths(
        std::iter::once(bin.parent().unwrap().to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let mut command = Command::new("sh");
    command
        .args(["-euc", script])
        .current_dir(cli.dir.path())
        .env("PATH", path.unwrap())
        .env("STRATAFS_CACHE", cli.path("cache"))
        .env("STRATAFS_STORE", cli.path("store"))
        .env("DOCKER_CONFIG", cli.path("docker"))
        .stdin(std::process::Stdio::null());
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        command.env_remove(name);
    }
    Done::of(&mut command)
}

#[test]
fn the_first_walk_of_the_page_works() {
    let cli = Cli::new();
    let done = run(&cli, &commands("## From nothing to an image"));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let text = done.text();
    assert!(text.contains("\nhello\n"), "{text}");
    assert!(text.contains("RUN [\"/bin/hello.wasm\"]"), "{text}");
    assert!(
        done.stderr.contains("changed since it was built last"),
        "{}",
        done.stderr
    );
    assert!(cli.path("hello/hello.tar").is_file());
}

#[test]
fn the_walk_to_a_pushed_image_works() {
    let cli = Cli::new();
    let fake = FakeRegistry::start();
    let script = commands("## From a recipe to a slim, prepared, pushed image");
    let done = run(&cli, &script.replace("localhost:5000", &fake.host));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let text = done.text();
    // As built, prepared, and from the registry; the traced run as well.
    let greetings = text.lines().zip(text.lines().skip(1));
    let greetings = greetings.filter(|both| *both == ("Hello, ", "Ada")).count();
    assert_eq!(greetings, 4, "{text}");
    assert!(text.contains("D /share/manual"), "{text}");
    assert!(text.contains("0 errors"), "{text}");
    // The last build ran nothing.
    let (_, last) = done.stderr.rsplit_once("#1 of ").unwrap();
    assert!(!last.contains("done in"), "{last}");
}
