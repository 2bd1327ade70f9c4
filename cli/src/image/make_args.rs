//! Commands that make an image of another, without running it, as typed.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use stratafs::image::Reference;

use super::args::{Form, One};
use super::glob::Glob;
use crate::parse;
use crate::sources::{SourceArgs, StampArgs};

/// Makes an image of what traced runs opened; the rest of its files leaves.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  stratafs run --image app:1 --trace app.jsonl
  stratafs image slim app:1 --trace app.jsonl --tag app:slim --keep '/etc/*.conf'
  stratafs image slim app:1 --trace app.jsonl --tag app:slim --start-set app.start --check serve --once

Kept are files that a trace names, what --keep names, the program that the image starts and its directory, links that lead to
any of these, the directories above, and directories that were empty. A trace tells what was opened: what a guest only lists
or asks for by stat is not in it. --check runs the image's program over what is left, with the words after it as its arguments,
and makes nothing if the guest asks for a file that has gone, or fails; what the guest prints goes to stderr.")]
pub(crate) struct SlimArgs {
    #[command(flatten)]
    pub(crate) image: One,
    /// What `run --trace` wrote; several files, or the option several times
    #[arg(long = "trace", value_name = "FILE", num_args = 1.., required_unless_present = "keep")]
    pub(crate) traces: Vec<PathBuf>,
    /// What to call the new image
    #[arg(long, value_name = "REF2", value_parser = parse::tag)]
    pub(crate) tag: Reference,
    /// Keep what matches, and all below it: `*`, `?` and `[a-z]` within a name, `**` across
    /// directories; without a slash the name at any depth
    #[arg(long = "keep", value_name = "GLOB")]
    pub(crate) keep: Vec<Glob>,
    /// Write what the traces read and the image keeps into FILE, in the order of the traces: for
    /// --start-set of `image push` and `image export`
    #[arg(long, value_name = "FILE", requires = "traces")]
    pub(crate) start_set: Option<PathBuf>,
    /// Run the image's program with these arguments first; must come last
    #[arg(long, value_name = "CMD", num_args = 0.., allow_hyphen_values = true)]
    pub(crate) check: Option<Vec<String>>,
    /// List what was removed
    #[arg(long)]
    pub(crate) list: bool,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Puts more layers on top of an image; those that are there keep their digests.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  stratafs image append app:1 ./config extra.tar.gz --tag app:2

SRC is what `image import` takes; each is a layer, the last on top. Of an image all layers are taken. The configuration stays,
and the history has a step for each new layer.")]
pub(crate) struct AppendArgs {
    #[command(flatten)]
    pub(crate) image: One,
    /// What to put on top, bottom first
    #[arg(value_name = "SRC", required = true)]
    pub(crate) layers: Vec<PathBuf>,
    /// What to call the new image
    #[arg(long, value_name = "REF2", value_parser = parse::tag)]
    pub(crate) tag: Reference,
    #[command(flatten)]
    pub(crate) sources: SourceArgs,
    #[command(flatten)]
    pub(crate) stamp: StampArgs,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Changes the configuration of an image; its layers stay as they are.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  stratafs image mutate app:1 --tag app:2 --entrypoint /bin/app.wasm --env MODE=fast --label team=web
  stratafs image mutate app:1 --tag app:2 --cmd '[\"serve\", \"a,b\"]' --workdir /srv

WORDS are words with commas between them, or a JSON list where a word has a comma; the option may be given several times, and
an empty one takes the words away. --env and --label replace what has the same name and keep the others. The history names the
options, not their values.")]
pub(crate) struct MutateArgs {
    #[command(flatten)]
    pub(crate) image: One,
    /// What to call the new image
    #[arg(long, value_name = "REF2", value_parser = parse::tag)]
    pub(crate) tag: Reference,
    /// The program, and its first arguments
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub(crate) entrypoint: Vec<Words>,
    /// The default arguments, which those of a caller replace
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub(crate) cmd: Vec<Words>,
    /// An environment variable; repeat for several
    #[arg(short, long, value_name = "K=V", value_parser = pair)]
    pub(crate) env: Vec<(String, String)>,
    /// A label; repeat for several
    #[arg(short, long = "label", value_name = "K=V", value_parser = pair)]
    pub(crate) labels: Vec<(String, String)>,
    /// The user to run as, and a group after a colon; empty for none
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// The directory to start in, from the root on; empty for none
    #[arg(short, long, value_name = "DIR", value_parser = rooted)]
    pub(crate) workdir: Option<String>,
    #[command(flatten)]
    pub(crate) stamp: StampArgs,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Words as `--entrypoint` and `--cmd` take them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words(pub(super) Vec<String>);

impl FromStr for Words {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        if text.starts_with('[') {
            return serde_json::from_str(text)
                .map(Self)
                .map_err(|error| format!("expected a JSON list of strings: {error}"));
        }
        Ok(Self(text.split(',').map(str::to_owned).collect()))
    }
}

/// Reads a path from the root on, or none.
fn rooted(text: &str) -> Result<String, String> {
    match text.is_empty() || (text.starts_with('/') && !text.contains('\0')) {
        true => Ok(text.to_owned()),
        false => Err(format!("expected a path from the root on, such as /{text}")),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lists() {
        let words = |text: &str| text.parse::<Words>().map(|words| words.0);
        assert_eq!(words("/bin/sh,-c"), Ok(vec!["/bin/sh".into(), "-c".into()]));
        assert_eq!(words("[\"a,b\"]"), Ok(vec!["a,b".into()]));
        assert_eq!(words(""), Ok(Vec::new()));
        assert!(words("[1]").is_err() && words("[").is_err());
        assert!(pair("=x").is_err() && pair("x").is_err());
    }
}
