//! Recipes as files: which one is meant, and its text.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use stratafs::name::show_path;

use super::failure::Failure;
use super::limits::MAX_RECIPE_BYTES;

/// What a recipe is called where nobody says it.
pub(super) const USUAL_NAMES: [&str; 3] = ["Dockerfile", "Containerfile", "Recipe"];

/// Reads a recipe (`-`: stdin), and says what messages call it.
pub(super) fn read(file: &Path) -> Result<(String, String), Failure> {
    if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        let mut bounded = io::stdin().lock().take(MAX_RECIPE_BYTES as u64 + 1);
        let read = bounded.read_to_end(&mut bytes);
        read.map_err(|error| Failure::new(format_args!("stdin: {error}")))?;
        return Ok(("stdin".to_owned(), text_of("stdin", bytes)?));
    }
    let name = show_path(file);
    let bytes = read_bounded(file, MAX_RECIPE_BYTES as u64)?;
    let text = text_of(&name, bytes)?;
    Ok((name, text))
}

/// Reads the ignore file that goes with a recipe: it is called as the recipe, with
/// `.dockerignore` behind, and stands beside it, in the context or elsewhere. Returns what
/// messages call it, and its text; `None` if there is none.
pub(super) fn ignore_of(recipe: &Path) -> Result<Option<(String, String)>, Failure> {
    let mut file = recipe.as_os_str().to_owned();
    file.push(".dockerignore");
    let file = PathBuf::from(file);
    if recipe.as_os_str() == "-" || !file.is_file() {
        return Ok(None);
    }
    let name = show_path(&file);
    let text = text_of(&name, read_bounded(&file, MAX_RECIPE_BYTES as u64)?)?;
    Ok(Some((name, text)))
}

/// Finds the recipe of a context where nobody names one.
pub(super) fn usual(context: &Path) -> Result<PathBuf, Failure> {
    let files = USUAL_NAMES.map(|name| context.join(name));
    let found = files.iter().find(|file| file.is_file());
    found.cloned().ok_or_else(|| no_recipe(&show_path(context)))
}

/// Says that a context has no recipe.
pub(super) fn no_recipe(context: &str) -> Failure {
    Failure::new(format_args!(
        "{context}: no recipe there: it has none of {}: name one with -f RECIPE",
        USUAL_NAMES.join(", ")
    ))
}

/// Reads a recipe's bytes as text.
pub(super) fn text_of(name: &str, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(format_args!("{name}: not UTF-8 at byte {at}"))
    })
}

/// Reads a file of at most `most` bytes.
pub(super) fn read_bounded(file: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    let opened = File::open(file).map_err(|error| Failure::at(file, error))?;
    let mut bytes = Vec::new();
    let read = opened.take(most + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::at(file, error))?;
    match bytes.len() as u64 > most {
        true => Err(Failure::at(file, format_args!("it may have {most} bytes"))),
        false => Ok(bytes),
    }
}
