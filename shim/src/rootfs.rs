//! Root file systems: the directories that a snapshotter would have mounted, read as layers.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use stratafs::chunk::ChunkPool;
use stratafs::image::Image;
use stratafs::layer::Layer;
use stratafs::limits::MAX_LAYERS;
use stratafs::source::{LeftOut, SourceOptions, dir_ambient};

use crate::limits::MAX_ROOTS;
use crate::messages::MountMessage;
use crate::ready::ReadyProgram;
use crate::spec::climbs;
use crate::status::Status;

/// The directories of a root, the lowest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RootDirs {
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
                    lower: Vec::new(),
                    upper: Some(rootfs.to_owned()),
                });
            }
            [mount] => mount,
            _ => return Err(said(format!("{} mounts: expected one", mounts.len()))),
        };
        let dirs = match mount.kind.as_str() {
            "overlay" => overlay(&mount.options).map_err(said)?,
            "bind" => {
                let source = Some(absolute(&mount.source).map_err(said)?);
                match mount.options.iter().any(|option| option == "ro") {
                    true => Self {
                        lower: source.into_iter().collect(),
                        upper: None,
                    },
                    false => Self {
                        lower: Vec::new(),
                        upper: source,
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

    /// Returns all of them.
    pub fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.lower.iter().chain(&self.upper)
    }
}

fn overlay(options: &[String]) -> Result<RootDirs, String> {
    let value = |name: &str| options.iter().find_map(|option| option.strip_prefix(name));
    let lower = value("lowerdir=").ok_or("an overlay without lowerdir")?;
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
    let upper = value("upperdir=").map(absolute).transpose()?;
    Ok(RootDirs { lower, upper })
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
    /// Programs of it that are ready, by path.
    pub programs: Mutex<HashMap<String, ReadyProgram>>,
}

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
    kept: Mutex<KeptRoots>,
}

#[derive(Default)]
struct KeptRoots {
    /// The one that was used last comes last.
    roots: Vec<(Vec<DirIdentity>, Arc<Root>)>,
    layers: Vec<(DirIdentity, Layer)>,
}

impl Roots {
    /// Begins without any. No layer may have more than `max_bytes` of content.
    #[must_use]
    pub fn new(max_bytes: u64) -> Self {
        Self {
            pool: ChunkPool::new(),
            max_bytes,
            kept: Mutex::default(),
        }
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
        if upper.is_none()
            && let Some(root) = self.known(&lower)
        {
            return Ok(root);
        }
        let mut layers = Vec::with_capacity(lower.len() + 1);
        for identity in &lower {
            layers.push(self.layer(identity)?);
        }
        let changes = upper.is_some();
        layers.extend(upper);
        let image = Image::new(&layers)
            .map_err(|error| Status::invalid(format_args!("rootfs: {error}")))?;
        let root = Arc::new(Root {
            image,
            programs: Mutex::default(),
        });
        if !changes && !lower.is_empty() {
            self.keep(lower, &root);
        }
        Ok(root)
    }

    fn known(&self, lower: &[DirIdentity]) -> Option<Arc<Root>> {
        let mut kept = self.kept.lock();
        let at = kept.roots.iter().position(|(dirs, _)| dirs == lower)?;
        let found = kept.roots.remove(at);
        let root = Arc::clone(&found.1);
        kept.roots.push(found);
        Some(root)
    }

    /// Keeps a root for the next container, and the layers of those that are kept.
    fn keep(&self, lower: Vec<DirIdentity>, root: &Arc<Root>) {
        let mut kept = self.kept.lock();
        if kept.roots.len() >= MAX_ROOTS {
            kept.roots.remove(0);
        }
        kept.roots.push((lower, Arc::clone(root)));
        let KeptRoots { roots, layers } = &mut *kept;
        layers.retain(|(dir, _)| roots.iter().any(|(dirs, _)| dirs.contains(dir)));
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
                lower,
                upper: Some("/u".into())
            }
        );
        let view = mount("bind", "/a", &["ro", "rbind"]);
        assert_eq!(
            dirs(view),
            RootDirs {
                lower: vec!["/a".into()],
                upper: None
            }
        );
        let active = mount("bind", "/a", &["rw", "rbind"]);
        assert_eq!(
            dirs(active),
            RootDirs {
                lower: vec![],
                upper: Some("/a".into())
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
        let roots = Roots::new(1 << 20);
        let both = RootDirs {
            lower: vec![one.clone(), two],
            upper: None,
        };
        let (first, again) = (roots.open(&both).unwrap(), roots.open(&both).unwrap());
        assert!(Arc::ptr_eq(&first, &again));
        let fs = stratafs::vfs::Fs::new(&first.image);
        assert_eq!(fs.read("/file").unwrap(), b"upper");
        // A layer of two roots is one; a directory of the same name is another.
        let alone = RootDirs {
            lower: vec![one.clone()],
            upper: None,
        };
        let root = roots.open(&alone).unwrap();
        assert_eq!(roots.kept.lock().layers.len(), 2);
        fs::remove_dir_all(&one).unwrap();
        fs::create_dir(&one).unwrap();
        assert!(!Arc::ptr_eq(&root, &roots.open(&alone).unwrap()));
        // What is written to is read anew.
        let upper = RootDirs {
            lower: vec![],
            upper: Some(one.clone()),
        };
        assert!(!Arc::ptr_eq(
            &roots.open(&upper).unwrap(),
            &roots.open(&upper).unwrap()
        ));
        let small = Roots::new(3).open(&both).err().unwrap();
        assert!(small.message.contains("more than 3 bytes"), "{small}");
    }

    #[test]
    fn roots_are_kept_up_to_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::new(1 << 20);
        for at in 0..MAX_ROOTS + 2 {
            let path = dir.path().join(at.to_string());
            fs::create_dir(&path).unwrap();
            let lower = vec![path];
            roots.open(&RootDirs { lower, upper: None }).unwrap();
        }
        let kept = roots.kept.lock();
        assert_eq!(
            (kept.roots.len(), kept.layers.len()),
            (MAX_ROOTS, MAX_ROOTS)
        );
        assert_eq!(kept.roots[0].0[0].path, dir.path().join("2"));
    }
}
