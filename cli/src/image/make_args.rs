//! Commands that make an image of another, without running it, as typed.

use std::path::PathBuf;

use clap::Args;
use stratafs::image::Reference;

use super::args::{Form, One};
use super::glob::Glob;
use crate::parse;

/// Makes an image of what traced runs opened; the rest of its files leaves.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  stratafs run --image app:1 --trace app.jsonl
  stratafs image slim app:1 --trace app.jsonl --tag app:slim --keep '/etc/*.conf'
  stratafs image slim app:1 --trace app.jsonl --tag app:slim --check serve --once

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
    /// Run the image's program with these arguments first; must come last
    #[arg(long, value_name = "CMD", num_args = 0.., allow_hyphen_values = true)]
    pub(crate) check: Option<Vec<String>>,
    /// List what was removed
    #[arg(long)]
    pub(crate) list: bool,
    #[command(flatten)]
    pub(crate) form: Form,
}
