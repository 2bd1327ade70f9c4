//! `image build`: recipes from line to layer, what is kept, and what is refused.

mod cache;
mod contexts;
mod copy;
mod docker;
mod hostile;
mod keys;
mod lines;
mod prepared;
mod run;
mod sharing;
mod stages;
#[cfg(unix)]
mod tutorial;

use serde_json::Value;

use super::{Cli, Done};
use crate::support::script::Script;

/// A directory with a recipe in `ctx`, and a guest that writes `/out` there.
fn with(recipe: &str) -> Cli {
    let cli = Cli::new();
    cli.file("ctx/Dockerfile", recipe);
    cli
}

/// Builds the recipe as `made`.
fn build(cli: &Cli, options: &str) -> Done {
    cli.run(&format!("image build -q {options} ctx --tag made"))
}

/// The digest of an image that was built.
#[track_caller]
fn id(done: &Done) -> String {
    let text = done.fine().text();
    let id = text.split_whitespace().last().unwrap().to_owned();
    assert!(id.starts_with("blake3:"), "{text}");
    id
}

/// The names in the image `made`, with what files hold.
fn tree(cli: &Cli) -> Vec<String> {
    let told: Value = serde_json::from_str(&cli.run("image tree made --json").text()).unwrap();
    let entries = told["entries"].as_array().unwrap();
    let paths = entries.iter().map(|entry| entry["path"].as_str().unwrap());
    paths
        .filter(|path| *path != "/")
        .map(str::to_owned)
        .collect()
}

fn cat(cli: &Cli, path: &str) -> String {
    cli.run(&format!("image cat made {path}")).fine().text()
}

fn inspect(cli: &Cli) -> Value {
    serde_json::from_str(&cli.run("image inspect made --json").fine().text()).unwrap()
}

/// What each step of a build says in its document: cached, and why.
fn steps(cli: &Cli, options: &str) -> Vec<(bool, String)> {
    let done = build(cli, &format!("--json --explain {options}"));
    let told: Value = serde_json::from_str(&done.fine().text()).unwrap();
    let steps = told["steps"].as_array().unwrap().iter();
    let steps = steps.map(|step| {
        let why = step["why"].as_str().unwrap_or_default();
        (step["cached"].as_bool().unwrap(), why.to_owned())
    });
    steps.collect()
}

/// The names in a directory of the host.
fn left_in(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// A guest as text.
fn guest(cli: &Cli, name: &str, script: &Script) {
    cli.file(&format!("ctx/{name}"), script.wat());
}
