//! Root file systems: the directories that a snapshotter would have mounted, read as layers, over an
//! image of a store where it names one.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use stratafs::chunk::ChunkPool;
use stratafs::digest::Digest;
use stratafs::image::Image;
use stratafs::layer::Layer;
use stratafs::limits::MAX_LAYERS;
use stratafs::runner::Runner;
use stratafs::source::{LeftOut, SourceOptions, dir_ambient};
use stratafs::store::InUse;
use stratafs::vfs::Fs;

use crate::limits::{MAX_PROGRAMS, MAX_ROOTS};
use crate::messages::MountMessage;
use crate::reach::RegistryConfig;
use crate::ready::ReadyProgram;
use crate::spec::climbs;
use crate::status::{Code, Status};
use crate::stored::{StoredBase, Stores};

/// The directories of a root, the lowest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RootDirs {
    /// The image that lies below them.
    pub base: Option<StoredBase>,
    /// Those that do not change any more.
    pub lower: Vec<PathBuf>,
    /// The one that may have been written to.
    pub upper: Option<PathBuf>,
}

impl RootDirs {
    /// Reads what a snapshotter asks to be mounted, or takes `rootfs` if it asks for nothing.
    ///
    /// # Errors
    /// A mount that is not made of directories.
    pub fn of(mounts: &[MountMessage], rootfs: &Path) -> Result<Self, Status> {
        let said = |what: String| Status::invalid(format_args!("rootfs: {what}"));
        let mount = match mounts {
            [] => {
                return Ok(Self {
                    upper: Some(rootfs.to_owned()),
                    ..Self::default()
                });
            }
            [mount] => mount,
            _ => return Err(said(format!("{} mounts: expected one", mounts.len()))),
        };
        let dirs = match mount.kind.as_str() {
            "overlay" => overlay(&mount.options).map_err(said)?,
            "bind" if let Some(dirs) = over_image(mount).map_err(said)? => dirs,
            "bind" => {
                let source = Some(absolute(&mount.source).map_err(said)?);
                match mount.options.iter().any(|option| option == "ro") {
                    true => Self {
                        lower: source.into_iter().collect(),
                        ..Self::default()
                    },
                    false => Self {
                        upper: source,
                        ..Self::default()
                    },
                }
            }
            kind => {
                return Err(said(format!(
                    "a mount of type {kind:?}: expected \"overlay\" or \"bind\", as the snapshotters \
                     overlayfs and native have them"
                )));
            }
        };
        if dirs.lower.len() >= MAX_LAYERS {
            return Err(said(format!(
                "{} layers: the limit is {MAX_LAYERS}",
                dirs.lower.len()
            )));
        }
        Ok(dirs)
    }

    /// Refuses directories: what is in them nobody has held against a signature.
    ///
    /// # Errors
    /// The root is not an image of a store alone.
    pub fn check_stored(&self) -> Result<(), Status> {
        let Some(dir) = self.all().next() else {
            return Ok(());
        };
        Err(Status::new(
            Code::PermissionDenied,
            format_args!(
                "rootfs: {}: a directory that containerd unpacked, where only-stored asks for an image of \
                 the snapshotter's store alone: see its log for why it has not taken the image",
                dir.display()
            ),
        ))
    }

    /// Returns all of them.
    pub fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.lower.iter().chain(&self.upper)
    }
}

/// Reads the mount of a container over an image of a store. Nothing is in the directory itself.
fn over_image(mount: &MountMessage) -> Result<Option<RootDirs>, String> {
    let Some((base, lower)) = StoredBase::of(&mount.options)? else {
        return Ok(None);
    };
    let lower = lower.map(|lower| layered(&lower)).transpose()?;
    Ok(Some(RootDirs {
        base: Some(base),
        lower: lower.unwrap_or_default(),
        upper: None,
    }))
}

fn overlay(options: &[String]) -> Result<RootDirs, String> {
    let value = |name: &str| options.iter().find_map(|option| option.strip_prefix(name));
    let lower = layered(value("lowerdir=").ok_or("an overlay without lowerdir")?)?;
    let upper = value("upperdir=").map(absolute).transpose()?;
    Ok(RootDirs {
        base: None,
        lower,
        upper,
    })
}

/// Reads directories as an overlay lists them, the topmost first.
fn layered(lower: &str) -> Result<Vec<PathBuf>, String> {
    if lower.contains('\\') {
        return Err(format!(
            "lowerdir {lower:?}: names with `:` or `\\` are not read"
        ));
    }
    let mut lower = lower
        .split(':')
        .map(absolute)
        .collect::<Result<Vec<_>, _>>()?;
    lower.reverse();
    Ok(lower)
}

fn absolute(path: &str) -> Result<PathBuf, String> {
    if !path.starts_with('/') || climbs(path) || path.contains('\0') {
        return Err(format!("{path:?} is no absolute path without `..`"));
    }
    Ok(path.into())
}

/// A root file system that is ready for containers.
pub struct Root {
    /// Its layers, merged.
    pub image: Image,
    /// Its frozen guest, once that is ready.
    pub frozen: Mutex<Option<ReadyProgram>>,
    programs: Mutex<HashMap<String, FoundProgram>>,
    /// Keeps the image of a store that it is made of.
    in_use: Option<Arc<InUse>>,
}

/// A program that was found at a path: what it is known by, and its code as long as somebody keeps it.
type FoundProgram = (Digest, Weak<Runner>);

impl Root {
    fn new(image: Image, in_use: Option<Arc<InUse>>) -> Self {
        Self {
            image,
            frozen: Mutex::default(),
            programs: Mutex::default(),
            in_use,
        }
    }

    /// Returns the program at a path, if it was found before and its code is kept.
    #[must_use]
    pub fn program(&self, path: &str) -> Option<(Digest, Arc<Runner>)> {
        let programs = self.programs.lock();
        let (digest, runner) = programs.get(path)?;
        Some((*digest, runner.upgrade()?))
    }

    /// Notes which program lies at a path, up to [`MAX_PROGRAMS`] of them.
    pub fn found(&self, path: String, digest: Digest, runner: &Arc<Runner>) {
        let mut programs = self.programs.lock();
        if programs.len() >= MAX_PROGRAMS {
            programs.retain(|_, (_, runner)| runner.strong_count() > 0);
        }
        if programs.len() >= MAX_PROGRAMS {
            programs.clear();
        }
        programs.insert(path, (digest, Arc::downgrade(runner)));
    }

    /// Returns whether containers may still be made of it. An image of a store that was removed has to be
    /// opened anew if it comes again.
    fn is_current(&self) -> bool {
        let in_use = self.in_use.as_ref();
        in_use.is_none_or(|in_use| in_use.is_current())
    }

    /// Returns whether there is nothing in it, as containerd makes the root of what is no image.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        Fs::new(&self.image)
            .read_dir("/")
            .is_ok_and(|entries| entries.is_empty())
    }
}

/// What a root is known by.
type RootKey = (Option<StoredBase>, Vec<DirIdentity>);

/// Which directory it was: a name that is given anew is another directory.
#[derive(Clone, PartialEq, Eq)]
struct DirIdentity {
    path: PathBuf,
    numbers: (u64, u64),
    changed: (i64, i64),
}

impl DirIdentity {
    fn of(path: &Path) -> Result<Self, Status> {
        let meta = fs::metadata(path);
        let meta = meta.map_err(|error| {
            Status::invalid(format_args!("rootfs: {}: {error}", path.display()))
        })?;
        Ok(Self {
            path: path.to_owned(),
            numbers: (meta.dev(), meta.ino()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

/// Root file systems that were read, for all containers of this process.
pub struct Roots {
    pool: ChunkPool,
    max_bytes: u64,
    stores: Stores,
    kept: Mutex<KeptRoots>,
}

#[derive(Default)]
struct KeptRoots {
    /// The one that was used last comes last.
    roots: Vec<(RootKey, Arc<Root>)>,
    layers: Vec<(DirIdentity, Layer)>,
}

impl KeptRoots {
    /// Lets go of the layers of roots that are not kept.
    fn let_go(&mut self) {
        let Self { roots, layers } = self;
        layers.retain(|(dir, _)| roots.iter().any(|((_, dirs), _)| dirs.contains(dir)));
    }
}

impl Roots {
    /// Begins without any. No layer may have more than `max_bytes` of content; what stores lack
    /// comes by way of `registry`.
    #[must_use]
    pub fn new(max_bytes: u64, registry: RegistryConfig) -> Self {
        Self {
            pool: ChunkPool::new(),
            max_bytes,
            stores: Stores::new(registry),
            kept: Mutex::default(),
        }
    }

    /// Returns the digest of the manifest of the image that a root is, if it is one of a store and came
    /// with one.
    #[must_use]
    pub fn manifest_of(&self, dirs: &RootDirs) -> Option<String> {
        let base = dirs.base.as_ref().filter(|_| dirs.all().next().is_none());
        base.and_then(|base| self.stores.manifest(base))
    }

    /// Reads a root, or takes it as it was read before.
    ///
    /// # Errors
    /// A directory that cannot be a layer.
    pub fn open(&self, dirs: &RootDirs) -> Result<Arc<Root>, Status> {
        let lower: Vec<_> = dirs
            .lower
            .iter()
            .map(|dir| DirIdentity::of(dir))
            .collect::<Result<_, _>>()?;
        let upper = match &dirs.upper {
            Some(dir) => {
                let layer = self.read(dir)?;
                // The root itself comes first.
                let changes = layer.entries().nth(1).is_some();
                changes.then_some(layer)
            }
            None => None,
        };
        let key = (dirs.base.clone(), lower);
        if upper.is_none()
            && let Some(root) = self.known(&key)
        {
            return Ok(root);
        }
        let changes = upper.is_some();
        let (image, in_use) = self.image(&key, upper)?;
        let root = Arc::new(Root::new(image, in_use));
        if !changes && key != (None, Vec::new()) {
            self.keep(key, &root);
        }
        Ok(root)
    }

    /// Merges the layers of a root. An image of a store without any over it is taken as it lies there.
    fn image(
        &self,
        (base, lower): &RootKey,
        upper: Option<Layer>,
    ) -> Result<(Image, Option<Arc<InUse>>), Status> {
        let mut layers = Vec::with_capacity(lower.len() + 1);
        let mut in_use = None;
        if let Some(base) = base {
            let (image, used) = self.stores.image(base)?;
            if lower.is_empty() && upper.is_none() {
                return Ok((image, Some(used)));
            }
            in_use = Some(used);
            layers = self.stores.layers(base)?;
        }
        for identity in lower {
            layers.push(self.layer(identity)?);
        }
        layers.extend(upper);
        let image = Image::new(&layers)
            .map_err(|error| Status::invalid(format_args!("rootfs: {error}")))?;
        Ok((image, in_use))
    }

    fn known(&self, wanted: &RootKey) -> Option<Arc<Root>> {
        let mut kept = self.kept.lock();
        let at = kept.roots.iter().position(|(key, _)| key == wanted)?;
        let found = kept.roots.remove(at);
        if !found.1.is_current() {
            return None;
        }
        let root = Arc::clone(&found.1);
        kept.roots.push(found);
        Some(root)
    }

    /// Lets go of images that their stores have removed, so that their space is free.
    pub fn forget_removed(&self) {
        let mut kept = self.kept.lock();
        kept.roots.retain(|(_, root)| root.is_current());
        kept.let_go();
    }

    /// Keeps a root for the next container, and the layers of those that are kept.
    fn keep(&self, key: RootKey, root: &Arc<Root>) {
        let mut kept = self.kept.lock();
        // Another may have read the same meanwhile.
        kept.roots.retain(|(known, _)| *known != key);
        if kept.roots.len() >= MAX_ROOTS {
            kept.roots.remove(0);
        }
        kept.roots.push((key, Arc::clone(root)));
        kept.let_go();
    }

    fn layer(&self, identity: &DirIdentity) -> Result<Layer, Status> {
        let known = |kept: &KeptRoots| {
            let known = kept.layers.iter().find(|(dir, _)| dir == identity);
            known.map(|(_, layer)| layer.clone())
        };
        if let Some(layer) = known(&self.kept.lock()) {
            return Ok(layer);
        }
        let layer = self.read(&identity.path)?;
        self.kept
            .lock()
            .layers
            .push((identity.clone(), layer.clone()));
        Ok(layer)
    }

    fn read(&self, dir: &Path) -> Result<Layer, Status> {
        let options = SourceOptions {
            max_bytes: self.max_bytes,
            // A layer may bring device nodes, which no guest could use.
            skip_special: Some(LeftOut::new()),
            ..SourceOptions::default()
        };
        dir_ambient(&self.pool, dir, &options)
            .map_err(|error| Status::invalid(format_args!("rootfs: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, source: &str, options: &[&str]) -> MountMessage {
        MountMessage {
            kind: kind.into(),
            source: source.into(),
            options: options.iter().map(|&option| option.into()).collect(),
            ..MountMessage::default()
        }
    }

    fn refused(mounts: &[MountMessage]) -> String {
        RootDirs::of(mounts, Path::new("/b")).unwrap_err().message
    }

    #[test]
    fn mounts_of_snapshotters_are_read_as_directories() {
        let dirs = |mount| RootDirs::of(&[mount], Path::new("/b")).unwrap();
        let overlay = mount(
            "overlay",
            "overlay",
            &[
                "index=off",
                "workdir=/w",
                "upperdir=/u",
                "lowerdir=/c:/b:/a",
            ],
        );
        let lower = ["/a", "/b", "/c"].map(PathBuf::from).to_vec();
        assert_eq!(
            dirs(overlay),
            RootDirs {
                base: None,
                lower,
                upper: Some("/u".into())
            }
        );
        let view = mount("bind", "/a", &["ro", "rbind"]);
        assert_eq!(
            dirs(view),
            RootDirs {
                lower: vec!["/a".into()],
                ..RootDirs::default()
            }
        );
        let active = mount("bind", "/a", &["rw", "rbind"]);
        assert_eq!(
            dirs(active),
            RootDirs {
                upper: Some("/a".into()),
                ..RootDirs::default()
            }
        );
        let none = RootDirs::of(&[], Path::new("/b/rootfs")).unwrap();
        assert_eq!(none.upper, Some("/b/rootfs".into()));
    }

    #[test]
    fn other_mounts_are_refused_by_name() {
        assert!(refused(&[mount("erofs", "/a", &[])]).contains("\"erofs\""));
        assert!(refused(&[mount("bind", "a", &[])]).contains("\"a\""));
        assert!(refused(&[mount("bind", "/a/../b", &[])]).contains("`..`"));
        assert!(refused(&[mount("overlay", "", &[])]).contains("without lowerdir"));
        assert!(refused(&[mount("overlay", "", &["lowerdir=/a:b"])]).contains("\"b\""));
        assert!(refused(&[mount("overlay", "", &["lowerdir=/a\\:b"])]).contains("not read"));
        let two = vec![mount("bind", "/a", &[]); 2];
        assert_eq!(refused(&two), "rootfs: 2 mounts: expected one");
        let many = format!("lowerdir={}", vec!["/a"; MAX_LAYERS].join(":"));
        assert!(refused(&[mount("overlay", "", &[&many])]).contains("the limit is"));
    }

    #[test]
    fn roots_are_read_once_as_long_as_their_directories_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("1"), dir.path().join("2"));
        for (path, text) in [(&one, "lower"), (&two, "upper")] {
            fs::create_dir(path).unwrap();
            fs::write(path.join("file"), text).unwrap();
        }
        let roots = Roots::new(1 << 20, RegistryConfig::default());
        let both = RootDirs {
            lower: vec![one.clone(), two],
            ..RootDirs::default()
        };
        let (first, again) = (roots.open(&both).unwrap(), roots.open(&both).unwrap());
        assert!(Arc::ptr_eq(&first, &again));
        let fs = stratafs::vfs::Fs::new(&first.image);
        assert_eq!(fs.read("/file").unwrap(), b"upper");
        // A layer of two roots is one; a directory of the same name is another.
        let alone = RootDirs {
            lower: vec![one.clone()],
            ..RootDirs::default()
        };
        let root = roots.open(&alone).unwrap();
        assert_eq!(roots.kept.lock().layers.len(), 2);
        fs::remove_dir_all(&one).unwrap();
        fs::create_dir(&one).unwrap();
        assert!(!Arc::ptr_eq(&root, &roots.open(&alone).unwrap()));
        // What is written to is read anew.
        let upper = RootDirs {
            upper: Some(one.clone()),
            ..RootDirs::default()
        };
        assert!(!Arc::ptr_eq(
            &roots.open(&upper).unwrap(),
            &roots.open(&upper).unwrap()
        ));
        let small = Roots::new(3, RegistryConfig::default())
            .open(&both)
            .err()
            .unwrap();
        assert!(small.message.contains("more than 3 bytes"), "{small}");
    }

    #[test]
    fn roots_are_kept_up_to_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::new(1 << 20, RegistryConfig::default());
        for at in 0..MAX_ROOTS + 2 {
            let path = dir.path().join(at.to_string());
            fs::create_dir(&path).unwrap();
            let lower = vec![path];
            let dirs = RootDirs {
                lower,
                ..RootDirs::default()
            };
            roots.open(&dirs).unwrap();
        }
        let kept = roots.kept.lock();
        assert_eq!(
            (kept.roots.len(), kept.layers.len()),
            (MAX_ROOTS, MAX_ROOTS)
        );
        assert_eq!(kept.roots[0].0.1[0].path, dir.path().join("2"));
    }

    #[test]
    fn programs_of_a_root_are_known_up_to_a_bound_and_as_long_as_somebody_keeps_them() {
        let root = Root::new(Image::new(&[]).unwrap(), None);
        let guest = stratafs::runner::Guest::from_bytes("g", "(module (func (export \"_start\")))")
            .unwrap();
        let runner =
            Arc::new(Runner::new(&guest, stratafs::runner::RunnerConfig::default()).unwrap());
        for at in 0..3 * MAX_PROGRAMS {
            root.found(format!("/{at}"), guest.identity(), &runner);
            assert!(root.programs.lock().len() <= MAX_PROGRAMS);
        }
        let last = format!("/{}", 3 * MAX_PROGRAMS - 1);
        let (digest, found) = root.program(&last).unwrap();
        assert!(digest == guest.identity() && Arc::ptr_eq(&found, &runner));
        drop((found, runner));
        assert!(root.program(&last).is_none());
    }
}
