//! What guests expect to find: `/dev/null` and its kin, and a `/tmp`.

use std::sync::Arc;

use super::Fs;
use super::descriptor::Rights;
use super::fs::find_dir;
use super::preopen::Preopen;
use super::virtual_file::{Filled, VirtualFile};
use crate::errno::Errno;
use crate::error::Error;
use crate::image::Image;
#[cfg(feature = "freeze")]
use crate::meta::Time;
use crate::meta::{FileId, Kind};
use crate::overlay::Rule;

/// Where the devices are.
const DEV: &[u8] = b"/dev";

/// What guests find in `/dev` and `/tmp`. See [`Fs::furnish`].
#[derive(Clone)]
pub struct World {
    random: Arc<dyn VirtualFile>,
    streams: [Arc<dyn VirtualFile>; 3],
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

impl World {
    /// Makes a world whose `/dev/random` and `/dev/urandom` read from `random`. Standard
    /// input is at its end, the other two streams take all and keep nothing.
    #[must_use]
    pub fn new(random: Arc<dyn VirtualFile>) -> Self {
        Self {
            random,
            streams: [Arc::new(Null), Arc::new(Null), Arc::new(Null)],
        }
    }

    /// Sets what `/dev/stdin`, `/dev/stdout` and `/dev/stderr` are.
    #[must_use]
    pub fn streams(
        mut self,
        stdin: Arc<dyn VirtualFile>,
        stdout: Arc<dyn VirtualFile>,
        stderr: Arc<dyn VirtualFile>,
    ) -> Self {
        self.streams = [stdin, stdout, stderr];
        self
    }

    /// The devices by name.
    fn devices(&self) -> [(&'static str, Arc<dyn VirtualFile>); 8] {
        let [stdin, stdout, stderr] = self.streams.clone();
        [
            ("null", Arc::new(Null)),
            ("zero", Arc::new(Zero)),
            ("full", Arc::new(Full)),
            ("random", Arc::clone(&self.random)),
            ("urandom", Arc::clone(&self.random)),
            ("stdin", stdin),
            ("stdout", stdout),
            ("stderr", stderr),
        ]
    }
}

/// Devices that have a file system of their own, for all forks of one instance: made once.
#[cfg_attr(
    not(feature = "runner"),
    allow(dead_code, reason = "what runs guests makes them")
)]
pub(crate) struct DeviceDir {
    fs: Fs,
    dir: &'static [u8],
}

impl Fs {
    /// Makes what guests of this instance expect to find: a `/tmp` of mode 1777
    /// if the base has no `/tmp`, and the devices `null`, `zero`, `full`, `random`, `urandom`,
    /// `stdin`, `stdout` and `stderr`. Where the base has a directory `/dev`, those whose
    /// names are missing are shown in it. Where it has none, or this instance is
    /// read-only, a file system of their own is made, whose directory is returned: it is to
    /// be a preopen `/dev`, and no listing of the root shows it.
    ///
    /// None of it counts against the quotas of this instance, but its devices'
    /// descriptors do where they are shown in it. It is in no [`diff`](Self::diff) unless the
    /// guest makes something in `/tmp`, which is then told with it; directories that
    /// were put into keep their times.
    ///
    /// Done once more, or in a fork, it shows the devices of this world in place of the other.
    ///
    /// O(1): nothing of the image is looked at but the two names.
    ///
    /// # Errors
    ///
    /// Those of [`Self::mount_file`]; what was made until then stays.
    pub fn furnish(&self, world: &World) -> Result<Option<Preopen>, Error> {
        self.furnish_as(world, None)
    }

    /// Does what can be done once for all forks, and returns the devices if they are to
    /// have a file system of their own.
    #[cfg_attr(
        not(feature = "runner"),
        allow(dead_code, reason = "who runs guests calls it")
    )]
    pub(crate) fn furnish_forks(&self, world: &World) -> Result<Option<DeviceDir>, Error> {
        let dev = self.furnish(world)?;
        Ok(dev.map(|dev| DeviceDir {
            fs: dev.fs().clone(),
            dir: match self.exists("/dev").is_ok_and(|exists| exists) {
                true => DEV,
                false => b"/",
            },
        }))
    }

    /// As [`Self::furnish`], with devices that an instance has which this is a fork of.
    pub(crate) fn furnish_as(
        &self,
        world: &World,
        made: Option<&DeviceDir>,
    ) -> Result<Option<Preopen>, Error> {
        let at = |path: &'static [u8]| move |errno| Error::new("furnish", path, errno);
        let now = self.now();
        let mut state = self.lock();
        let is_read_only = self.is_read_only();
        if state.find(FileId::ROOT, b"tmp").is_none() {
            let made = state.furnish(FileId::ROOT, b"tmp", (Kind::Dir, 0o1777), now);
            made.map_err(at(b"/tmp"))?;
        }
        let dev = state.find(FileId::ROOT, b"dev");
        let dir = match dev.map(|found| found.kind) {
            None => None,
            Some(_) => match find_dir(&state, DEV) {
                Ok(dir) => Some(dir),
                // A file, or a link to nowhere: it stays what it is.
                Err(_) => return Ok(None),
            },
        };
        drop(state);
        let is_apart = dir.is_none() || is_read_only;
        if let (true, Some(made)) = (is_apart, made) {
            return made.fork(world).map(Some);
        }
        match dir {
            None => apart(self, &Image::empty(), b"/", world).map(Some),
            Some(_) if is_read_only => apart(self, self.image(), DEV, world).map(Some),
            Some(dir) => {
                self.show_devices(dir, world, Rule::ReadOnly)
                    .map_err(at(DEV))?;
                Ok(None)
            }
        }
    }

    /// Makes a `/tmp` as [`furnish`](Self::furnish) does, with the time that it had before.
    #[cfg(feature = "freeze")]
    pub(crate) fn furnish_tmp(&self, made: Time) -> Result<(), Errno> {
        let mut state = self.lock();
        if state.find(FileId::ROOT, b"tmp").is_none() {
            state.furnish(FileId::ROOT, b"tmp", (Kind::Dir, 0o1777), made)?;
        }
        Ok(())
    }

    /// Shows virtual files provided by the host in a directory of the root, which is made if
    /// there is none. Neither is in a diff, and no guest that lists the root sees the directory.
    #[cfg(feature = "freeze")]
    pub(crate) fn furnish_dir(
        &self,
        dir: &'static str,
        files: Vec<(&'static str, Arc<dyn VirtualFile>)>,
    ) -> Result<(), Errno> {
        let mut state = self.lock();
        // As old as the base, so that a clock that counts is not read.
        let now = state.stat(FileId::ROOT)?.mtime;
        let id = match state.find(FileId::ROOT, dir.as_bytes()) {
            Some(found) => found.id,
            None => state.furnish(FileId::ROOT, dir.as_bytes(), (Kind::Dir, 0o755), now)?,
        };
        state.unlist(id);
        drop(state);
        for (name, file) in files {
            let mut state = self.lock();
            let id = match state.find(id, name.as_bytes()) {
                Some(found) => found.id,
                None => state.furnish(id, name.as_bytes(), (Kind::File, 0o444), now)?,
            };
            self.show_file(state, id, file, Rule::ReadOnly)?;
        }
        Ok(())
    }

    /// Leaves a directory of the root, if it is there, out of what guests list.
    #[cfg(feature = "freeze")]
    pub(crate) fn unlist_dir(&self, dir: &str) {
        let mut state = self.lock();
        if let Some(found) = state.find(FileId::ROOT, dir.as_bytes()) {
            state.unlist(found.id);
        }
    }

    /// Shows the devices in a directory, but where it has something of the name that is
    /// none of these.
    fn show_devices(&self, dir: FileId, world: &World, rule: Rule) -> Result<(), Errno> {
        let now = self.now();
        for (name, device) in world.devices() {
            let mut state = self.lock();
            let id = match state.find(dir, name.as_bytes()) {
                Some(found) if state.is_furnished(found.id) => found.id,
                Some(_) => continue,
                None => state.furnish(dir, name.as_bytes(), (Kind::File, 0o666), now)?,
            };
            self.show_file(state, id, device, rule)?;
        }
        Ok(())
    }
}

impl DeviceDir {
    /// Makes one of the same for a fork.
    fn fork(&self, world: &World) -> Result<Preopen, Error> {
        let fs = self.fs.fork();
        let shown = find_dir(&fs.lock(), self.dir);
        let shown = shown.and_then(|id| fs.show_devices(id, world, Rule::Free));
        shown.map_err(|errno| Error::new("furnish", DEV, errno))?;
        fs.preopen(self.dir, Rights::ReadWrite)
    }
}

/// Makes a file system for the devices, in which nothing can be made.
fn apart(of: &Fs, image: &Image, dir: &'static [u8], world: &World) -> Result<Preopen, Error> {
    let fs = of.beside(image);
    let at = |errno| Error::new("furnish", DEV, errno);
    let id = find_dir(&fs.lock(), dir).map_err(at)?;
    // One rule for all of them: making one looks at what the others are for.
    fs.show_devices(id, world, Rule::Free).map_err(at)?;
    fs.set_rule(dir, Rule::ReadOnly)?;
    fs.preopen(dir, Rights::ReadWrite)
}

/// `/dev/null`.
struct Null;

/// `/dev/zero`.
struct Zero;

/// `/dev/full`.
struct Full;

impl VirtualFile for Null {
    fn is_device(&self) -> bool {
        true
    }

    fn is_writable(&self) -> bool {
        true
    }

    fn write(&self, _: Option<u64>, bytes: &[u8]) -> Result<usize, Errno> {
        Ok(bytes.len())
    }
}

impl VirtualFile for Zero {
    fn is_device(&self) -> bool {
        true
    }

    fn fill(&self, buf: &mut [u8]) -> Result<Filled, Errno> {
        buf.fill(0);
        Ok(Filled::Bytes(buf.len()))
    }

    fn is_writable(&self) -> bool {
        true
    }

    fn write(&self, _: Option<u64>, bytes: &[u8]) -> Result<usize, Errno> {
        Ok(bytes.len())
    }
}

impl VirtualFile for Full {
    fn is_device(&self) -> bool {
        true
    }

    fn fill(&self, buf: &mut [u8]) -> Result<Filled, Errno> {
        Zero.fill(buf)
    }

    fn is_writable(&self) -> bool {
        true
    }

    fn write(&self, _: Option<u64>, bytes: &[u8]) -> Result<usize, Errno> {
        match bytes.is_empty() {
            true => Ok(0),
            false => Err(Errno::NoSpace),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{ChunkPool, ContentBuilder};
    use crate::layer::LayerBuilder;
    use crate::limits::MAX_DEVICE_STEP_BYTES;
    use crate::meta::Meta;
    use crate::name::LayerPath;
    use crate::vfs::{Access, Descriptor, Follow, OpenFlags};

    fn world() -> World {
        World::new(Arc::new(Zero))
    }

    fn base(paths: &[&str]) -> Image {
        let mut layer = LayerBuilder::new();
        for path in paths {
            let content = ContentBuilder::of(&ChunkPool::new(), b"base");
            let path = LayerPath::parse(path.as_bytes()).unwrap();
            layer.file(&path, Meta::with_mode(0o644), content).unwrap();
        }
        Image::new(&[layer.finish().unwrap()]).unwrap()
    }

    fn open(dir: &Descriptor, path: &str) -> Descriptor {
        let access = Access::READ | Access::WRITE;
        let flags = OpenFlags::CREATE | OpenFlags::TRUNCATE;
        dir.open_at(Follow::Yes, path.as_bytes(), flags, access)
            .unwrap()
    }

    fn names(fs: &Fs) -> Vec<String> {
        let layer = fs.diff(&ChunkPool::new()).unwrap();
        let entries = layer.entries().filter(|entry| !entry.path.is_root());
        let mut names: Vec<_> = entries.map(|entry| entry.path.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn devices_do_what_they_are_for() {
        let fs = Fs::new(&Image::empty());
        let dev = fs.furnish(&world()).unwrap().unwrap();
        assert!(
            !fs.exists("/dev").unwrap(),
            "no listing of the root shows it"
        );
        let mut buf = vec![7; 3 << 20];
        let null = open(&dev, "null");
        assert_eq!(
            (null.write_at(b"gone", 5), null.append(b"gone")),
            (Ok(4), Ok(4))
        );
        assert_eq!(null.read_at(&mut buf, 0), Ok(0));
        let full = open(&dev, "full");
        assert_eq!(full.write_at(b"x", 0), Err(Errno::NoSpace));
        for name in ["zero", "full"] {
            let zero = open(&dev, name);
            // As much as one asks for, a bounded piece a call.
            assert_eq!(zero.read_at(&mut buf, u64::MAX), Ok(MAX_DEVICE_STEP_BYTES));
            assert!(buf[..MAX_DEVICE_STEP_BYTES].iter().all(|byte| *byte == 0));
            assert_eq!(zero.read_full(0, 9).unwrap(), [0; 9][..]);
            assert_eq!(zero.hole_at(0), Ok(0));
            assert_eq!(zero.stat().unwrap().size, 0);
            assert!(zero.stat().unwrap().is_device && zero.is_device());
        }
        let listed = dev.read_dir(0, 100).unwrap();
        assert_eq!(listed.len(), 8);
        for entry in &listed {
            let stat = dev.stat_at(Follow::No, &entry.name).unwrap();
            assert!(entry.is_device && stat.is_device, "{entry:?}");
        }
        assert!(!dev.stat().unwrap().is_device);
        assert_eq!(open(&dev, "stdin").read_at(&mut buf, 0), Ok(0));
        assert_eq!(open(&dev, "stdout").write_at(b"x", 0), Ok(1));
        assert_eq!(fs.usage().logical_bytes, 0);
        // Nothing is made beside them, nothing goes.
        assert_eq!(dev.create_dir_at(b"x"), Err(Errno::NotPermitted));
        assert_eq!(dev.unlink_at(b"null"), Err(Errno::NotPermitted));
        assert_eq!(dev.rename_at(b"null", &dev, b"x"), Err(Errno::NotPermitted));
        assert_eq!(null.set_size(9), Err(Errno::NotPermitted));
    }

    #[test]
    fn the_temporary_directory_is_in_a_diff_only_with_something_in_it() {
        let fs = Fs::builder(&Image::empty()).max_inodes(1).build();
        fs.furnish(&world()).unwrap();
        let stat = fs.metadata("/tmp").unwrap();
        assert_eq!((stat.kind, stat.mode), (Kind::Dir, 0o1777));
        assert_eq!(names(&fs), [""; 0]);
        fs.write("/tmp/x", "1").unwrap();
        assert_eq!(names(&fs), ["tmp", "tmp/x"], "the quota has room for one");
        assert!(fs.write("/y", "1").is_err());
        fs.remove_file("/tmp/x").unwrap();
        let other = Fs::new(&Image::empty());
        other.furnish(&world()).unwrap();
        other.rename("/tmp", "/moved").unwrap();
        assert_eq!(names(&other), ["moved"], "the guest made something of it");
        assert_eq!(names(&fs), [""; 0]);
        // One of the base stays as it is.
        let image = base(&["tmp/kept"]);
        let fs = Fs::new(&image);
        fs.furnish(&world()).unwrap();
        assert_eq!(fs.metadata("/tmp").unwrap().mode, 0o755);
        assert_eq!(names(&fs), [""; 0]);
        assert_eq!(fs.check(), Ok(()));
    }

    #[test]
    fn devices_come_into_a_directory_of_the_base_where_names_are_missing() {
        let image = base(&["dev/null", "dev/other", "tmp/x"]);
        let fs = Fs::builder(&image).max_inodes(0).max_changed(0).build();
        assert!(fs.furnish(&world()).unwrap().is_none());
        let root = fs.root().unwrap();
        assert_eq!(fs.read("/dev/null").unwrap(), b"base", "the base's own");
        assert_eq!(
            open(&root, "dev/full").write_at(b"x", 0),
            Err(Errno::NoSpace)
        );
        assert_eq!(names(&fs), [""; 0]);
        assert_eq!(fs.check(), Ok(()));
        let fs = Fs::new(&image);
        fs.furnish(&world()).unwrap();
        fs.write("/dev/mine", "x").unwrap();
        assert_eq!(names(&fs), ["dev", "dev/mine"]);
    }

    #[test]
    fn a_read_only_instance_has_devices_too() {
        let image = base(&["dev/other"]);
        let fs = Fs::builder(&image).read_only().build();
        let dev = fs.furnish(&world()).unwrap().unwrap();
        assert_eq!(open(&dev, "null").write_at(b"x", 0), Ok(1));
        assert!(dev.stat_at(Follow::Yes, b"other").is_ok());
        let root = fs.root().unwrap();
        assert_eq!(root.create_dir_at(b"tmp/x"), Err(Errno::ReadOnly));
        assert_eq!(fs.metadata("/tmp").unwrap().mode, 0o1777);
    }

    #[test]
    fn forks_have_devices_of_their_own() {
        let told = |text: &'static str| -> Arc<dyn VirtualFile> {
            Arc::new(move || text.as_bytes().to_vec())
        };
        let world = |text| World::new(told(text)).streams(told(text), told(text), told(text));
        let read = |dev: &Descriptor, name: &str| {
            let read = Access::READ;
            let file = dev.open_at(Follow::Yes, name.as_bytes(), OpenFlags::empty(), read);
            file.unwrap().read_full(0, 9).unwrap()
        };
        for (image, apart) in [(base(&["x"]), true), (base(&["dev/null"]), false)] {
            let fs = Fs::new(&image);
            let made = fs.furnish_forks(&world("all")).unwrap();
            assert_eq!(made.is_some(), apart);
            let forks = ["one", "two"].map(|text| {
                let fork = fs.fork();
                let dev = fork.furnish_as(&world(text), made.as_ref()).unwrap();
                let dev = dev.unwrap_or_else(|| fork.preopen("/dev", Rights::ReadWrite).unwrap());
                (text, fork, dev)
            });
            for (text, fork, dev) in &forks {
                for name in ["random", "stdin", "stdout", "stderr"] {
                    assert_eq!(read(dev, name), text.as_bytes(), "{name}");
                }
                assert_eq!(dev.create_dir_at(b"x").is_err(), apart);
                assert_eq!(dev.unlink_at(b"stdout"), Err(Errno::NotPermitted));
                let expected: &[&str] = if apart { &[] } else { &["dev", "dev/x"] };
                assert_eq!(names(fork), expected);
                assert_eq!(fork.check(), Ok(()));
            }
            assert_eq!(names(&fs), [""; 0]);
        }
    }

    #[test]
    fn what_is_no_directory_stays() {
        let fs = Fs::new(&base(&["dev", "tmp"]));
        assert!(fs.furnish(&world()).unwrap().is_none());
        assert_eq!(fs.read("/dev").unwrap(), b"base");
        assert_eq!(fs.read("/tmp").unwrap(), b"base");
    }
}
