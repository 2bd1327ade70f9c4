//! What a build takes its recipe and its files from.

use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use stratafs::chunk::ChunkPool;
use stratafs::image::Image;
use stratafs::meta::Kind;
use stratafs::name::show_path;
use stratafs::source::{Source, SourceOptions};

use super::tree::{FileTree, StoredTree};
use crate::build_args::BuildArgs;
use crate::failure::Failure;
use crate::limits::MAX_RECIPE_BYTES;
use crate::recipe_file::{self, USUAL_NAMES};

/// The recipe of a build, and its context if that had to be opened to find it.
pub(super) struct FoundRecipe {
    /// What messages call the recipe.
    pub(super) name: String,
    pub(super) text: String,
    /// The ignore file that goes with the recipe: its name and text.
    pub(super) own_ignore: Option<(String, String)>,
    pub(super) opened: Option<Arc<FileTree>>,
}

/// Finds the recipe.
pub(super) fn find(args: &BuildArgs) -> Result<FoundRecipe, Failure> {
    let context = args.context.as_path();
    let is_stdin = context.as_os_str() == "-";
    if !is_stdin {
        look(context)?;
    }
    match &args.file {
        Some(file) if is_stdin && file.as_os_str() == "-" => Err(Failure::usage(
            "stdin is asked for twice: for the recipe alone write `image build -`",
        )),
        Some(file) => of_file(file),
        None if is_stdin => of_stdin(),
        None if context.is_dir() => of_file(&recipe_file::usual(context)?),
        None => {
            let tree = tree_of(crate::sources::open(context, &SourceOptions::default())?)?;
            of_tree(&show_path(context), tree)
        }
    }
}

/// Refuses what cannot be a context before anything else is looked for.
fn look(context: &Path) -> Result<(), Failure> {
    let text = context.to_string_lossy();
    if text.contains("://") || text.starts_with("git@") {
        return Err(Failure::at(
            context,
            "a context is a directory or an archive of this machine: fetch it first, with git clone or curl, and name what was fetched",
        ));
    }
    context
        .metadata()
        .map(drop)
        .map_err(|error| Failure::at(context, format_args!("no context there: {error}")))
}

fn of_file(file: &Path) -> Result<FoundRecipe, Failure> {
    let (name, text) = recipe_file::read(file)?;
    Ok(FoundRecipe {
        name,
        text,
        own_ignore: recipe_file::ignore_of(file)?,
        opened: None,
    })
}

/// Reads stdin: a recipe that has no context, or an archive with a recipe in it.
fn of_stdin() -> Result<FoundRecipe, Failure> {
    let mut first = Vec::new();
    let mut stdin = io::stdin().lock();
    let read = (&mut stdin)
        .take(MAX_RECIPE_BYTES as u64 + 1)
        .read_to_end(&mut first);
    read.map_err(|error| Failure::new(format_args!("stdin: {error}")))?;
    // No recipe has a zero byte, and all archives do.
    if first.contains(&0) {
        let all = Cursor::new(first).chain(stdin);
        let options = SourceOptions::default();
        let tree = tree_of(Source::from_reader(Path::new("-"), all, &options)?)?;
        return of_tree("stdin", tree);
    }
    Ok(FoundRecipe {
        name: "stdin".to_owned(),
        text: recipe_file::text_of("stdin", bounded("stdin", first)?)?,
        own_ignore: None,
        opened: Some(tree_of_image(&Image::empty())?),
    })
}

/// Reads an archive as the tree that files are copied from.
pub(super) fn tree_of(source: Source) -> Result<Arc<FileTree>, Failure> {
    let layers = source.layers(&ChunkPool::new(), &SourceOptions::default())?;
    tree_of_image(&Image::new(&layers)?)
}

fn tree_of_image(image: &Image) -> Result<Arc<FileTree>, Failure> {
    Ok(Arc::new(FileTree::Stored(StoredTree::of(image)?)))
}

/// Finds the recipe in the tree of an archive.
fn of_tree(archive: &str, tree: Arc<FileTree>) -> Result<FoundRecipe, Failure> {
    let pool = ChunkPool::new();
    for usual in USUAL_NAMES {
        let path = usual.as_bytes();
        if tree
            .look(path)?
            .is_none_or(|entry| entry.kind != Kind::File)
        {
            continue;
        }
        let name = format!("{archive}/{usual}");
        let (content, _) = tree.content(path, &pool)?;
        let mut bytes = Vec::new();
        for piece in content.pieces() {
            bytes.extend_from_slice(&piece?.1);
            bytes = bounded(&name, bytes)?;
        }
        return Ok(FoundRecipe {
            text: recipe_file::text_of(&name, bytes)?,
            name,
            own_ignore: None,
            opened: Some(tree),
        });
    }
    Err(recipe_file::no_recipe(archive))
}

fn bounded(name: &str, bytes: Vec<u8>) -> Result<Vec<u8>, Failure> {
    match bytes.len() > MAX_RECIPE_BYTES {
        true => Err(Failure::new(format_args!(
            "{name}: a recipe may have {MAX_RECIPE_BYTES} bytes"
        ))),
        false => Ok(bytes),
    }
}
