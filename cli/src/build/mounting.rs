//! What a `RUN` is shown beside its stage.

use std::collections::BTreeSet;
use std::fs::{self, File};

use stratafs::chunk::ChunkPool;
use stratafs::digest::Digest;
use stratafs::image::{Image, ImageConfig};
use stratafs::layer::{Layer, LayerBuilder};
use stratafs::meta::{Kind, Meta};
use stratafs::name::LayerPath;
use stratafs::runner::{GivenFile, RunPlan, Volume};
use stratafs::store::{LayerOrigin, StoreError};
use stratafs::vfs::{Fs, Quota};

use super::Builder;
use super::gather::Gatherer;
use super::lay::{self, Destination};
use super::origins::Origin;
use super::secrets::search;
use super::steps::{GuestPlan, MountPlan, MountWhat};
use crate::cached;
use crate::failure::Failure;
use crate::recipe::dockerignore::Ignore;

/// Mounts that are ready.
#[derive(Default)]
pub(super) struct Mounted {
    /// What goes into the key: no byte of a secret, and nothing of a cache.
    pub(super) key: Vec<String>,
    volumes: Vec<(Volume, Image, bool)>,
    files: Vec<GivenFile>,
    pub(super) variables: Vec<(String, String)>,
    /// Secrets by id, to keep them out of output and layer.
    pub(super) secrets: Vec<(String, Vec<u8>)>,
    /// What volumes may hold, by name, where that was said.
    quotas: Vec<(String, Quota)>,
    /// Caches: the volume's name, and the name that the store has for it.
    caches: Vec<(String, String)>,
    /// Where something is shown.
    pub(super) targets: Vec<LayerPath>,
    /// Files that are locked as long as nobody else may have a cache.
    _locks: Vec<File>,
}

impl Mounted {
    /// Shows them to a run.
    pub(super) fn apply(&self, run: &mut RunPlan) {
        for (volume, base, read_only) in &self.volumes {
            run.volumes.push(volume.clone());
            run.volume_bases.push((volume.name.clone(), base.clone()));
            if *read_only {
                run.read_only_volumes.push(volume.name.clone());
            }
        }
        run.volume_quotas.extend(self.quotas.iter().cloned());
        run.files.extend(self.files.iter().cloned());
    }

    fn volume(&mut self, mount: &MountPlan, base: Image) -> String {
        let name = format!("mount {}", self.volumes.len());
        let volume = Volume {
            name: name.clone(),
            guest: mount.target.clone(),
        };
        self.volumes.push((volume, base, mount.read_only));
        name
    }
}

impl Builder<'_> {
    /// Prepares the mounts of a `RUN`.
    pub(super) fn mounted(&self, plan: &GuestPlan) -> Result<Mounted, Failure> {
        let mut ready = Mounted {
            _locks: self.locks(plan)?,
            ..Mounted::default()
        };
        for mount in &plan.mounts {
            if !mount.target.is_empty() {
                ready
                    .targets
                    .push(LayerPath::parse(mount.target.as_bytes())?);
            }
            let target = format!("{} {}", mount.target, mount.read_only);
            match &mount.what {
                MountWhat::Tmpfs { size } => {
                    ready.key.push(format!("tmpfs {target} {size:?}"));
                    let name = ready.volume(mount, Image::empty());
                    if let Some(max_bytes) = *size {
                        let quota = Quota {
                            max_bytes,
                            ..Quota::default()
                        };
                        ready.quotas.push((name, quota));
                    }
                }
                MountWhat::Bind { from, source } => self.bind(&mut ready, mount, from, source)?,
                MountWhat::Cache { id, from, .. } => {
                    ready.key.push(format!("cache {id} {target}"));
                    let tag = cached::tag("cache", Digest::of(id.as_bytes()));
                    let base = match self.store.image(&tag) {
                        Ok(image) => image,
                        Err(StoreError::NoImage(_)) => match from {
                            Some((origin, source)) => Image::new(&[self.shown(origin, source)?])?,
                            None => Image::empty(),
                        },
                        Err(error) => return Err(error.into()),
                    };
                    let name = ready.volume(mount, base);
                    ready.caches.push((name, tag));
                }
                MountWhat::Secret { id, variable } => {
                    ready
                        .key
                        .push(format!("secret {id} {} {variable:?}", mount.target));
                    self.secret(&mut ready, mount, (id, variable.as_ref()))?;
                }
            }
        }
        Ok(ready)
    }

    /// Waits until nobody else has the caches that one `RUN` at a time may have. They are taken
    /// in one order, so that two never wait for each other.
    fn locks(&self, plan: &GuestPlan) -> Result<Vec<File>, Failure> {
        let locked = plan.mounts.iter().filter_map(|mount| match &mount.what {
            MountWhat::Cache {
                id, locked: true, ..
            } => Some(id.as_str()),
            _ => None,
        });
        let locked: BTreeSet<&str> = locked.collect();
        let files = locked.into_iter().map(|id| {
            let name = format!("{} {id}", self.store_place.display());
            let name = Digest::of(name.as_bytes()).to_string();
            let path = self
                .lock_dir
                .join(name.replace("blake3:", ""))
                .with_extension("lock");
            let locked = fs::create_dir_all(&self.lock_dir).and_then(|()| {
                let mut options = File::options();
                let file = options.create(true).truncate(false).write(true);
                let file = file.open(&path)?;
                file.lock()?;
                Ok(file)
            });
            locked.map_err(|error| Failure::at(&path, error))
        });
        files.collect()
    }

    fn bind(
        &self,
        ready: &mut Mounted,
        mount: &MountPlan,
        from: &Origin,
        source: &str,
    ) -> Result<(), Failure> {
        let layer = self.shown(from, source)?;
        ready.key.push(format!(
            "bind {} {} {}",
            mount.target,
            mount.read_only,
            layer.digest()
        ));
        let image = Image::new(&[layer])?;
        let file = LayerPath::parse(FILE.as_bytes())?;
        let is_file = image
            .locate(&file)
            .is_some_and(|found| found.stat.kind == Kind::File);
        if !is_file {
            let dir = LayerPath::parse(DIR.as_bytes())?;
            let shown = match image.locate(&dir) {
                Some(_) => {
                    Image::new(&[Fs::new(&image).tree(format!("/{DIR}"), &ChunkPool::new())?])?
                }
                None => Image::empty(),
            };
            ready.volume(mount, shown);
            return Ok(());
        }
        if !mount.read_only {
            return Err(Failure::new(format_args!(
                "--mount: {source}: a file is mounted to be read alone: leave rw out"
            )));
        }
        let most = stratafs::limits::MAX_VIRTUAL_BYTES as u64;
        ready.files.push(GivenFile {
            path: mount.target.clone(),
            bytes: Fs::new(&image).read_up_to(format!("/{FILE}"), most)?,
        });
        Ok(())
    }

    /// Reads what a mount shows: below [`DIR`] if it is a directory, else as [`FILE`].
    fn shown(&self, from: &Origin, source: &str) -> Result<Layer, Failure> {
        let (tree, ignore) = self.tree(from)?;
        let pool = ChunkPool::new();
        let gatherer = Gatherer {
            tree: &tree,
            ignore: &ignore,
            excludes: &Ignore::default(),
            pool: &pool,
            epoch: self.settings.epoch,
            owner: None,
            mode: None,
            parents: false,
            unpack: None,
            is_add: false,
        };
        let word = match source.trim_matches('/') {
            "" => "/".to_owned(),
            _ => spelled(source),
        };
        let all = gatherer.gather(&word)?;
        let is_dir = all.first().is_some_and(|one| one.is_dir);
        let to = Destination {
            path: if is_dir { "/dir" } else { "/file" },
            is_dir: false,
            dir_meta: Meta::with_mode(0o755).at(self.settings.epoch),
            link: false,
        };
        match all.len() {
            1 => lay::lay(&Image::empty(), all, &to),
            _ => Ok(LayerBuilder::new().finish()?),
        }
    }

    fn secret(
        &self,
        ready: &mut Mounted,
        mount: &MountPlan,
        (id, variable): (&str, Option<&String>),
    ) -> Result<(), Failure> {
        // One that is required and not there was refused before anything ran.
        let Some(bytes) = self.settings.secrets.get(id) else {
            return Ok(());
        };
        ready.secrets.push((id.to_owned(), bytes.clone()));
        if !mount.target.is_empty() {
            ready.files.push(GivenFile {
                path: mount.target.clone(),
                bytes: bytes.clone(),
            });
        }
        if let Some(name) = variable {
            let value = String::from_utf8(bytes.clone());
            let value = value.map_err(|_| {
                Failure::new(format_args!(
                    "the secret {id:?} is not UTF-8, and a variable is: leave env out"
                ))
            })?;
            ready.variables.push((name.clone(), value));
        }
        Ok(())
    }

    /// Keeps what caches hold now: all of them, or none if the guest wrote a secret into one.
    pub(super) fn keep_caches(
        &self,
        mounted: &Mounted,
        volumes: &[(String, Fs)],
    ) -> Result<(), Failure> {
        let mut imports = Vec::new();
        for (name, tag) in &mounted.caches {
            let Some((_, fs)) = volumes.iter().find(|(known, _)| known == name) else {
                continue;
            };
            let mut import = self.store.import()?;
            if !mounted.secrets.is_empty() {
                let shown = mounted
                    .volumes
                    .iter()
                    .find(|(known, ..)| known.name == *name);
                let target = shown.map_or("", |(volume, ..)| volume.guest.as_str());
                let diff = fs.diff(import.pool())?;
                search(&diff, &mounted.secrets).map_err(|found| found.in_cache(target))?;
            }
            let tree = fs.tree("/", import.pool())?;
            import.layer(tree, LayerOrigin::new());
            imports.push((import, tag));
        }
        for (import, tag) in imports {
            import.commit(ImageConfig::new(), Some(tag))?;
        }
        Ok(())
    }
}

/// A pattern that matches what is written alone: a mount has one source.
fn spelled(source: &str) -> String {
    let mut pattern = String::with_capacity(source.len());
    for c in source.chars() {
        if "*?[\\".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// Where a directory is put on its way to a mount.
const DIR: &str = "dir";

/// Where a file is put.
const FILE: &str = "file";
