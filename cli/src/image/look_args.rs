//! `image analyze` as typed.

use std::path::PathBuf;

use clap::Args;

use super::args::{Form, One};

/// Tells layer by layer what an image adds, overwrites, removes, wastes and shares.
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
