//! `image analyze` and `image lint` as typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::args::{Form, One};
use super::lint::rules::{RuleName, Severity};

/// Reports layer by layer what an image adds, overwrites, removes, wastes and shares.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  stratafs image analyze app:1
  stratafs image analyze app:1 --html app.html
  stratafs run --image app:1 --trace app.jsonl && stratafs image analyze app:1 --trace app.jsonl

Wasted are bytes of files that upper layers overwrite or remove; shared are bytes of chunks that other images of the store have
as well. How well a layer compresses is measured on its files, or on pieces spread evenly over them where the image has more
than 32 MiB. FILE of --html is one page that needs nothing else: a map of the tree, the layers, and a search.")]
pub(crate) struct AnalyzeArgs {
    #[command(flatten)]
    pub(crate) image: One,
    /// Write a page to look at into FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// What `run --trace` wrote: tell what was never opened; repeat for several
    #[arg(long = "trace", value_name = "FILE")]
    pub(crate) traces: Vec<PathBuf>,
    /// Entries in each list of the largest
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) top: usize,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Holds an image or a recipe against practices of the field: secrets, bytes carried for
/// nothing, programs that do not run.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  stratafs image lint app:1
  stratafs image lint ./Dockerfile --sarif -
  stratafs image lint app:1 --fail-on warning --allow leftover
  stratafs image lint app:1 --sarif app.sarif

Exit code 4 if there are findings of --fail-on or worse. docs/LINT.md has the rules. Secrets are looked for in the first MiB of
each file, of hidden files too. An image that the store has goes before a file of its name: write ./NAME for the file. In a recipe
the comment `# stratafs: ignore=RULE` above an instruction leaves a rule out for it, `# stratafs: ignore-all=RULE` for all.")]
pub(crate) struct LintArgs {
    /// The image, NAME[:TAG] or blake3:HEX; or the recipe, a file, a directory that has one, or `-` for stdin
    #[arg(value_name = "REF|RECIPE")]
    pub(crate) subject: OsString,
    /// Write the findings as SARIF 2.1.0 into FILE (`-`: stdout)
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(crate) sarif: Option<PathBuf>,
    /// The lowest severity of findings that makes the command fail
    #[arg(long, value_enum, default_value = "error", value_name = "SEVERITY")]
    pub(crate) fail_on: Severity,
    /// Leave a rule out; repeat for several
    #[arg(long = "allow", value_name = "RULE")]
    pub(crate) allow: Vec<RuleName>,
    #[command(flatten)]
    pub(crate) form: Form,
}
