//! What a name in `FROM`, `COPY --from` and mounts leads to: contexts that were given, stages,
//! images of the store, images of registries.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::{Display, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stratafs::digest::Digest;
use stratafs::image::Reference;
use stratafs::registry::RegistryRef;
use stratafs::source::{Platform, SourceOptions};
use stratafs::store::{ImageInfo, InUse, Store, StoreError};
use stratafs::transfer::{self, ImportOptions};

use crate::build_args::BuildArgs;
use crate::cached;
use crate::checkpoint;
use crate::failure::Failure;
use crate::image::remote;
use crate::reach::{PullWhen, ReachArgs, RemoteName};
use crate::recipe::{Recipe, StageSource};

/// An image of the store that a build takes something from.
pub(super) struct BaseImage {
    /// Its own digest: a tag may move meanwhile.
    pub(super) id: Reference,
    pub(super) info: ImageInfo,
    /// Keeps it from being dropped while the build runs.
    _in_use: InUse,
}

/// What a name leads to.
#[derive(Clone)]
pub(super) enum Origin {
    /// Nothing at all.
    Scratch,
    /// The context.
    Context,
    /// A directory of the host.
    Dir(Arc<PathBuf>),
    Stage(usize),
    Image(Arc<BaseImage>),
}

/// Looks names up, each once.
pub(super) struct Origins<'a> {
    store: &'a Store,
    contexts: HashMap<String, String>,
    reach: ReachArgs,
    pull: PullWhen,
    platform: Option<Platform>,
    known: RefCell<HashMap<String, Arc<BaseImage>>>,
}

impl<'a> Origins<'a> {
    pub(super) fn new(store: &'a Store, args: &BuildArgs) -> Self {
        Self {
            store,
            contexts: args.contexts.iter().cloned().collect(),
            reach: args.reach.clone(),
            pull: args.pull.unwrap_or_default(),
            platform: args.platform.clone(),
            known: RefCell::default(),
        }
    }

    /// Finds what `FROM` names: the platform is the line's own, or that of the build.
    pub(super) fn base(
        &self,
        recipe: &Recipe,
        (name, before): (&str, usize),
        platform: Option<Platform>,
    ) -> Result<Origin, Failure> {
        let platform = platform.or_else(|| self.platform.clone());
        match self.find_for(recipe, (name, before, false), platform)? {
            Origin::Dir(_) => Err(Failure::new(format_args!(
                "{name}: it is a directory, and FROM takes an image: write FROM scratch and COPY --from={name} / /"
            ))),
            origin => Ok(origin),
        }
    }

    /// Finds what `COPY --from` and mounts name.
    pub(super) fn find(
        &self,
        recipe: &Recipe,
        name: &str,
        before: usize,
    ) -> Result<Origin, Failure> {
        self.find_for(recipe, (name, before, true), self.platform.clone())
    }

    fn find_for(
        &self,
        recipe: &Recipe,
        (name, before, numbers): (&str, usize, bool),
        platform: Option<Platform>,
    ) -> Result<Origin, Failure> {
        if let Some(given) = self.contexts.get(name) {
            return self.context(name, given, platform);
        }
        match recipe.find(name, before, numbers) {
            StageSource::Stage(stage) => Ok(Origin::Stage(stage)),
            StageSource::Other(name) if name == "scratch" => Ok(Origin::Scratch),
            StageSource::Other(name) => self.image(&name, platform).map(Origin::Image),
        }
    }

    /// Opens a context that was given by name.
    fn context(
        &self,
        name: &str,
        given: &str,
        platform: Option<Platform>,
    ) -> Result<Origin, Failure> {
        if let Some(image) = given.strip_prefix("docker-image://") {
            return self.image(image, platform).map(Origin::Image);
        }
        let (path, inner) = match given.strip_prefix("oci-layout://") {
            Some(layout) => match layout.rsplit_once(':') {
                Some((path, tag)) if !tag.contains('/') => (path, Some(tag.to_owned())),
                _ => (layout, None),
            },
            None if given.contains("://") => {
                return Err(Failure::new(format_args!(
                    "--build-context {name}={given}: fetched at each build, it may differ each time: fetch it before and name the directory"
                )));
            }
            None => (given, None),
        };
        let path = Path::new(path);
        let is_image = !path.is_dir() || path.join("index.json").is_file();
        if !is_image && path.is_dir() {
            return Ok(Origin::Dir(Arc::new(path.to_owned())));
        }
        self.imported(path, inner, platform).map(Origin::Image)
    }

    /// Brings a layout or an archive into the store, under a name of builds.
    fn imported(
        &self,
        path: &Path,
        inner: Option<String>,
        platform: Option<Platform>,
    ) -> Result<Arc<BaseImage>, Failure> {
        let what = described(&path.display(), (inner.as_deref(), platform.as_ref()));
        if let Some(known) = self.known.borrow().get(&what) {
            return Ok(Arc::clone(known));
        }
        let place = std::path::absolute(path).map_err(|error| Failure::at(path, error))?;
        let key = Digest::of(format!("{} {what}", place.display()).as_bytes());
        let tag = Reference::Tag(cached::tag("context", key));
        let options = ImportOptions {
            source: options(platform, inner),
            ..ImportOptions::default()
        };
        let info = transfer::import(self.store, &[path.to_owned()], &tag, &options)?;
        self.keep(what, info)
    }

    /// Finds an image of the store, or pulls one that is named after a registry.
    fn image(&self, name: &str, platform: Option<Platform>) -> Result<Arc<BaseImage>, Failure> {
        let what = described(&name, (None, platform.as_ref()));
        if let Some(known) = self.known.borrow().get(&what) {
            return Ok(Arc::clone(known));
        }
        let reference: Reference = name.parse()?;
        let of_registry = matches!(reference, Reference::Tag(_))
            && RegistryRef::names_registry(reference.as_str());
        let info = match of_registry {
            true => self.of_registry(reference.as_str(), platform)?,
            false => match self.store.info(reference.as_str()) {
                Ok(info) => {
                    check_platform(name, &info, platform.as_ref())?;
                    info
                }
                Err(StoreError::NoImage(_)) => {
                    return Err(Failure::new(format_args!(
                        "{name}: no image of the store, no earlier stage and no --build-context has that name: import it, or name its registry as in docker.io/library/{name}"
                    )));
                }
                Err(error) => return Err(error.into()),
            },
        };
        self.keep(what, info)
    }

    fn of_registry(&self, text: &str, platform: Option<Platform>) -> Result<ImageInfo, Failure> {
        let name: RegistryRef = text.parse()?;
        let own = name.store_name();
        let known = self.store.info(own.as_str());
        match (known, self.pull) {
            (Ok(info), PullWhen::Missing | PullWhen::Never) => {
                check_platform(text, &info, platform.as_ref())?;
                return Ok(info);
            }
            (Err(error), PullWhen::Never) => return Err(error.into()),
            _ => {}
        }
        let options = options(platform, None);
        let named = (&RemoteName::Registry(name), None);
        let wanted = (options, Vec::new());
        let pulled = remote::pull_named(self.store, &self.reach, named, wanted, false)?;
        Ok(pulled.image)
    }

    fn keep(&self, what: String, info: ImageInfo) -> Result<Arc<BaseImage>, Failure> {
        let id = Reference::Digest(info.id.to_string());
        if checkpoint::inspect(&self.store.image(id.as_str())?, &what)?.is_some() {
            return Err(Failure::new(format_args!(
                "{what}: the image is prepared, and its guest has seen its files: build on the image that it was made of"
            )));
        }
        if !self.store.absent(id.as_str())?.is_whole() {
            match self.pull {
                // Whoever has pulled it in part has named where the rest is.
                PullWhen::Missing | PullWhen::Always => {
                    remote::fill_named(self.store, &self.reach, &id).map(drop)?;
                }
                PullWhen::Never => {
                    return Err(Failure::new(format_args!(
                        "{what}: parts of it are not here, and --pull never keeps them from being fetched: `stratafs store fill` fetches them"
                    )));
                }
            }
        }
        let base = Arc::new(BaseImage {
            _in_use: self.store.mark_used(id.as_str())?,
            id,
            info,
        });
        self.known.borrow_mut().insert(what, Arc::clone(&base));
        Ok(base)
    }
}

/// Says which image is meant, of those that a place has.
fn described(place: &dyn Display, (name, platform): (Option<&str>, Option<&Platform>)) -> String {
    let mut text = place.to_string();
    // Writing into a text cannot fail.
    if let Some(name) = name {
        let _always = write!(text, ", image {name}");
    }
    if let Some(platform) = platform {
        let _always = write!(text, " for {platform}");
    }
    text
}

fn options(platform: Option<Platform>, name: Option<String>) -> SourceOptions {
    SourceOptions {
        platform,
        name,
        ..SourceOptions::default()
    }
}

/// Refuses an image of the store that says it is for another platform.
fn check_platform(name: &str, info: &ImageInfo, wanted: Option<&Platform>) -> Result<(), Failure> {
    let (Some(wanted), Some(os), Some(arch)) = (wanted, &info.config.os, &info.config.architecture)
    else {
        return Ok(());
    };
    let have = format!("{os}/{arch}");
    let wanted = wanted.to_string();
    match wanted == have || wanted.starts_with(&format!("{have}/")) {
        true => Ok(()),
        false => Err(Failure::new(format_args!(
            "{name}: the store has it for {have}, and {wanted} is asked for: pull or import that one"
        ))),
    }
}
