//! What is looked at: an image of the store, or a recipe.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use stratafs::image::Reference;
use stratafs::store::Store;

use crate::failure::Failure;
use crate::recipe_file;
use crate::store_dir::{self, Use};

/// An image or a recipe.
pub(super) enum Subject {
    Image(Box<Store>, Reference),
    Recipe(RecipeText),
}

/// A recipe that was read.
pub(super) struct RecipeText {
    /// What messages call it.
    name: String,
    pub(super) text: String,
    /// Whether an ignore file stands beside it; not known of stdin.
    pub(super) has_ignore_file: Option<bool>,
}

impl Subject {
    /// Finds what a word means: an image that the store has goes before a file of that name.
    pub(super) fn find(word: &OsString, store: Option<&Path>) -> Result<Self, Failure> {
        let path = PathBuf::from(word);
        if path.as_os_str() == "-" {
            return RecipeText::read(&path).map(Self::Recipe);
        }
        let has_file = path.symlink_metadata().is_ok();
        let reference = word.to_string_lossy().parse::<Reference>();
        let reference = match (reference, has_file) {
            (Ok(reference), _) => reference,
            (Err(_), true) => return RecipeText::read(&path).map(Self::Recipe),
            // It may be a path all the same: what is not there is no wrong argument.
            (Err(error), false) => {
                return Err(Failure::at(
                    &path,
                    format_args!("no recipe is there, and no image can be called so: {error}"),
                ));
            }
        };
        if !has_file {
            let store = store_dir::open(store, Use::Look)?;
            return Ok(Self::Image(Box::new(store), reference));
        }
        if let Ok(store) = store_dir::open(store, Use::Look)
            && store.info(reference.as_str()).is_ok()
        {
            return Ok(Self::Image(Box::new(store), reference));
        }
        RecipeText::read(&path).map(Self::Recipe)
    }

    /// Returns the name of the image, if it is one.
    pub(super) fn image(&self) -> Option<&str> {
        match self {
            Self::Image(_, reference) => Some(reference.as_str()),
            Self::Recipe(_) => None,
        }
    }

    /// Returns what messages call the recipe, if it is one.
    pub(super) fn recipe(&self) -> Option<&str> {
        match self {
            Self::Image(..) => None,
            Self::Recipe(recipe) => Some(&recipe.name),
        }
    }
}

impl RecipeText {
    /// Reads a recipe, or that of a directory.
    fn read(path: &Path) -> Result<Self, Failure> {
        let file = match path.is_dir() {
            true => recipe_file::usual(path)?,
            false => path.to_owned(),
        };
        let (name, text) = recipe_file::read(&file)?;
        let mut own = file.clone().into_os_string();
        own.push(".dockerignore");
        let has_ignore_file = (file.as_os_str() != "-").then(|| {
            file.with_file_name(".dockerignore").is_file() || PathBuf::from(own).is_file()
        });
        Ok(Self {
            name,
            text,
            has_ignore_file,
        })
    }
}
