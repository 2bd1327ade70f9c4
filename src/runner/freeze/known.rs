//! What a frozen guest knows of its files: see [`KnownFiles`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::saved::{hex, unhex};
use crate::errno::Errno;
use crate::error::Error;
use crate::image::Image;
use crate::layer::{EntryBody, Layer};
use crate::limits::{MAX_KNOWN_ORDER_BYTES, MAX_KNOWN_RUNS, MAX_KNOWN_TIMES};
use crate::meta::{FileId, Kind, Stat, Time};
use crate::path::FsPath;
use crate::vfs::{Access, Descriptor, Follow, Fs, OpenFlags, SetTime};
use crate::wasi::p1::{Ctx, KnownDir, KnownFiles, KnownOrder, KnownTimes, NumberRun};

/// The directory that is the checkpoint's own.
const OWN: &[u8] = b"/.stratafs";

/// What the host shows a guest besides its files, where the base lacks it.
const SHOWN: [&str; 13] = [
    "/.stratafs",
    "/.stratafs/checkpoint",
    "/.stratafs/fork",
    "/dev",
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/stdin",
    "/dev/stdout",
    "/dev/stderr",
    "/tmp",
];

/// What a guest knows of its files, as data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedKnown {
    /// How many objects the image has besides the checkpoint's own.
    objects: u64,
    /// The number that the guest is told for what it makes next.
    next: u64,
    /// For objects in the order of the image: the place of the first, its number, how many.
    runs: Vec<(u64, u64, u64)>,
    /// Numbers by path, in hex.
    named: Vec<(String, u64)>,
    orders: Vec<SavedOrder>,
    /// By path, in hex: the times of access and of change, in nanoseconds since 1970, where
    /// they are not those that the image has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    times: Vec<(String, u64, u64)>,
    /// The paths, in hex, of links that the guest made or renamed and that lead above a directory or to
    /// an absolute path: in a layer they would end at the root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    links: Vec<String>,
    /// By descriptor: the cookie past which the list of a directory ends that the guest is in
    /// the middle of, and the number of the directory above, if it was removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dirs: Vec<(u32, u64, Option<u64>)>,
    /// When a `/tmp` was made that is in no layer, in nanoseconds since 1970.
    tmp_ns: Option<u64>,
    /// Whether the guest removed its `/tmp`.
    lacks_tmp: bool,
}

/// The order of a directory that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedOrder {
    path_hex: String,
    /// Cookies, and names in hex.
    entries: Vec<(u64, String)>,
}

/// What a checkpoint is made of, for who finds out what its guest knows.
pub(super) struct Frozen<'f> {
    pub(super) p1: &'f Ctx,
    /// The file system of the guest.
    pub(super) fs: &'f Fs,
    /// What goes on from it.
    pub(super) image: &'f Image,
    pub(super) changes: &'f Layer,
    /// The objects that have a name in the image alone.
    pub(super) hidden: &'f [(FileId, String)],
}

impl SavedKnown {
    /// Finds out what a guest knows. O(files) if it made, removed or moved something.
    ///
    /// Numbers or orders that would take more than a bound are left out.
    pub(super) fn of(frozen: &Frozen<'_>) -> Result<Self, Error> {
        let (is_same_tree, mut changed) = frozen.changed_dirs();
        // What is the checkpoint's own comes to be there.
        changed.insert(b"/".to_vec());
        let objects = u64::from(frozen.image.nodes());
        let own = own_objects(frozen.image)?;
        let objects = objects.saturating_sub(own.len() as u64);
        let known = frozen.p1.ordered();
        let runs = match is_same_tree && frozen.p1.knows_plainly() {
            true => vec![(1, 1, objects)],
            false => frozen.runs(&known, &mut changed)?,
        };
        let shown = SHOWN.iter().filter_map(|path| {
            let stat = frozen.fs.symlink_metadata(*path).ok()?;
            Some((path.as_bytes(), frozen.number(stat.id)))
        });
        let hidden = frozen.hidden.iter();
        let hidden = hidden.map(|(id, path)| (path.as_bytes(), frozen.number(*id)));
        let named: Vec<(String, u64)> = shown
            .chain(hidden)
            .map(|(path, number)| (hex(path), number))
            .collect();
        let next = frozen.p1.next_number();
        let touched = frozen.touched()?;
        Ok(Self {
            objects,
            next: next.unwrap_or_else(|| frozen.fs.next_number()),
            runs: match runs.len() > MAX_KNOWN_RUNS {
                true => Vec::new(),
                false => runs,
            },
            named,
            orders: frozen.orders(&changed),
            times: frozen.times(&touched)?,
            links: frozen.links(&touched)?,
            dirs: frozen.dirs(),
            tmp_ns: frozen.tmp_ns(),
            lacks_tmp: frozen.fs.symlink_metadata("/tmp").is_err(),
        })
    }

    /// Puts it together for an image; `None` if it is about another one.
    pub(super) fn about(&self, image: &Image) -> Option<Arc<KnownFiles>> {
        let own = own_objects(image).ok()?;
        let nodes = image.nodes();
        let is_meant = u64::from(nodes).checked_sub(own.len() as u64) == Some(self.objects);
        if !is_meant || self.runs.is_empty() {
            return None;
        }
        let runs = self.runs.iter();
        let runs = runs.map(|(now, known, count)| NumberRun {
            now: *now,
            known: *known,
            count: *count,
        });
        let mut known = KnownFiles::new(u64::from(nodes), own, runs.collect());
        let here = Fs::new(image);
        for saved in &self.orders {
            let stat = here.symlink_metadata(unhex(&saved.path_hex)?.as_slice());
            let Ok(stat) = stat else { continue };
            let Some(dir) = stat.id.node_below(nodes) else {
                continue;
            };
            known.order(stat.id, image.slots(dir).len() as u64, saved.order()?);
        }
        for (path, atime, ctime) in &self.times {
            let Ok(stat) = here.symlink_metadata(unhex(path)?.as_slice()) else {
                continue;
            };
            let (atime, ctime) = (Time::from_nanos(*atime), Time::from_nanos(*ctime));
            known.times(&stat, KnownTimes { atime, ctime });
        }
        Some(Arc::new(known))
    }

    /// Makes the `/tmp` that the guest had, if it is in no layer.
    pub(super) fn furnish(&self, fs: &Fs) -> Result<(), Errno> {
        match self.tmp_ns {
            Some(made) => fs.furnish_tmp(Time::from_nanos(made)),
            None => Ok(()),
        }
    }

    /// Finds the links in an image that the guest made.
    pub(super) fn links_in(&self, image: &Image) -> BTreeSet<FileId> {
        let here = Fs::new(image);
        let paths = self.links.iter().filter_map(|path| unhex(path));
        let found = paths.filter_map(|path| here.symlink_metadata(path.as_slice()).ok());
        let links = found.filter(|stat| stat.kind == Kind::Symlink);
        links.map(|stat| stat.id).collect()
    }

    /// Takes away the `/tmp` that an instance is furnished with, if the guest had none.
    pub(super) fn unfurnish(&self, fs: &Fs) -> Result<(), Error> {
        if !self.lacks_tmp || fs.is_read_only() || !fs.exists("/tmp")? {
            return Ok(());
        }
        let root = fs.metadata("/")?;
        fs.remove_dir("/tmp")?;
        fs.set_times("/", SetTime::Keep, SetTime::To(root.mtime))
    }

    /// Returns the number that the guest is told for what it makes next.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Returns the numbers of what the image does not number.
    pub(super) fn named(&self) -> impl Iterator<Item = (Vec<u8>, u64)> {
        let named = self.named.iter();
        named.filter_map(|(path, number)| Some((unhex(path)?, *number)))
    }

    /// Returns what the guest was told of its open directories.
    pub(super) fn dirs(&self) -> impl Iterator<Item = KnownDir> {
        let dirs = self.dirs.iter();
        dirs.map(|(fd, until, parent)| KnownDir {
            fd: *fd,
            until: *until,
            parent: *parent,
        })
    }

    /// Returns whether a guest that has so many descriptors can know this, if it came from
    /// elsewhere.
    pub(super) fn is_sound(&self, descriptors: usize) -> bool {
        let mut next = 1;
        let are_runs_sound = self.runs.iter().all(|(now, known, count)| {
            let is_sound = *now >= next && *known > 0 && *count > 0;
            let ends = now.checked_add(*count).zip(known.checked_add(*count));
            next = ends.map_or(u64::MAX, |(end, _)| end);
            is_sound && ends.is_some()
        });
        let are_cookies_sorted = |order: &SavedOrder| {
            let entries = order.entries.iter();
            let cookies = entries.map(|(cookie, _)| *cookie);
            cookies.is_sorted_by(|one, other| one < other)
        };
        // Each of them is looked for in each instance.
        let most_named = descriptors.saturating_add(SHOWN.len());
        are_runs_sound
            && self.named.len() <= most_named
            && self.dirs.len() <= descriptors
            && self.runs.len() <= MAX_KNOWN_RUNS
            && self.times.len() <= MAX_KNOWN_TIMES
            && self.times.iter().all(|(path, ..)| unhex(path).is_some())
            && self.links.len() <= MAX_KNOWN_TIMES
            && self.links.iter().all(|path| unhex(path).is_some())
            && self.orders.iter().all(are_cookies_sorted)
            && self.orders.iter().all(|order| order.order().is_some())
    }
}

impl SavedOrder {
    fn order(&self) -> Option<KnownOrder> {
        let entries = self.entries.iter();
        let entries = entries.map(|(next, name)| Some((*next, unhex(name)?.into_boxed_slice())));
        Some(KnownOrder {
            entries: entries.collect::<Option<_>>()?,
        })
    }
}

fn saved_times(path: &[u8], known: KnownTimes) -> (String, u64, u64) {
    let (atime, ctime) = (known.atime, known.ctime);
    let (atime, ctime) = (atime.as_nanos_clamped(), ctime.as_nanos_clamped());
    (hex(path), atime, ctime)
}

fn is_own(path: &[u8]) -> bool {
    let below = path.strip_prefix(OWN);
    below.is_some_and(|below| below.is_empty() || below.starts_with(b"/"))
}

/// Has a guest that starts know its files as they are, but for what is the checkpoint's own.
pub(super) fn start(p1: &mut Ctx, fs: &Fs, next: u64) {
    let shown = SHOWN.iter().filter(|path| !is_own(path.as_bytes()));
    let named = shown.filter_map(|path| {
        let stat = fs.symlink_metadata(*path).ok()?;
        Some((path.as_bytes().to_vec(), stat.id.get()))
    });
    let named: Vec<(Vec<u8>, u64)> = named.collect();
    let files = KnownFiles::plain(u64::from(fs.image().nodes()));
    p1.know(fs, Arc::new(files), named, next);
}

/// Returns the numbers of the objects that are the checkpoint's own.
fn own_objects(image: &Image) -> Result<Vec<u64>, Error> {
    let fs = Fs::new(image);
    let Ok(dir) = fs.symlink_metadata(OWN) else {
        return Ok(Vec::new());
    };
    let mut own = BTreeSet::from([dir.id.get()]);
    if dir.kind == Kind::Dir {
        for entry in fs.walk(OWN)? {
            own.insert(entry?.id().get());
        }
    }
    Ok(own.into_iter().collect())
}

impl Frozen<'_> {
    fn tmp_ns(&self) -> Option<u64> {
        let is_kept = Fs::new(self.image).symlink_metadata("/tmp").is_ok();
        let stat = self.fs.symlink_metadata("/tmp").ok();
        let stat = stat.filter(|stat| !is_kept && stat.kind == Kind::Dir)?;
        Some(stat.mtime.as_nanos_clamped())
    }

    fn dirs(&self) -> Vec<(u32, u64, Option<u64>)> {
        let dirs = self.p1.told_dirs().into_iter();
        dirs.map(|dir| (dir.fd, dir.until, dir.parent)).collect()
    }

    fn number(&self, id: FileId) -> u64 {
        self.p1.number(self.fs, self.fs.device(), id)
    }

    /// Returns what is known of the guest's own object at a path, if the path leads to one: not into
    /// what is mounted, whose objects have numbers of their own.
    fn own(&self, path: &[u8]) -> Option<Stat> {
        let below = path.strip_prefix(b"/").filter(|below| !below.is_empty());
        let root = Descriptor::host_root(self.fs);
        root.own_stat_at(below.unwrap_or(b".")).ok().flatten()
    }

    /// Returns whether the guest's tree has the names that its base has, and the
    /// directories in which names came or went.
    fn changed_dirs(&self) -> (bool, BTreeSet<Vec<u8>>) {
        let base = Fs::new(self.fs.image());
        let mut changed = BTreeSet::new();
        for entry in self.changes.entries() {
            let path = entry.path.fs_path().into_owned();
            if is_own(&path) {
                continue;
            }
            let was = base.symlink_metadata(path.as_slice()).ok();
            let is = self.own(&path);
            // Another object may have taken the name.
            let is_same = was.as_ref().map(|stat| stat.id) == is.map(|stat| stat.id);
            let was = was.filter(|_| is_same).map(|stat| stat.kind);
            let is_kept = match entry.body {
                EntryBody::Whiteout | EntryBody::LowerLink { .. } => false,
                EntryBody::Dir { opaque, .. } => !opaque && was == Some(Kind::Dir),
                EntryBody::File { .. } => was == Some(Kind::File),
                EntryBody::Symlink { .. } => was == Some(Kind::Symlink),
            };
            if !is_kept {
                let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                let above = path.get(..end.max(1)).unwrap_or_default();
                changed.insert(above.to_vec());
                if matches!(entry.body, EntryBody::Dir { .. }) {
                    changed.insert(path);
                }
            }
        }
        (changed.is_empty(), changed)
    }

    /// Compares the numbers of the image with those that the guest knows, object by object.
    /// Directories that the guest knows in an order already are changed ones as well.
    fn runs(
        &self,
        ordered: &[FileId],
        changed: &mut BTreeSet<Vec<u8>>,
    ) -> Result<Vec<(u64, u64, u64)>, Error> {
        // In the order of the image, each by a name that the guest finds it by, if there is one.
        let mut objects = BTreeMap::from([(FileId::ROOT.get(), None)]);
        let mut meet = |id: FileId, path: Vec<u8>| {
            let object = objects.entry(id.get()).or_insert(None);
            if object.is_none() {
                *object = self.own(&path).map(|stat| (path, stat.id));
            }
        };
        meet(FileId::ROOT, b"/".to_vec());
        for entry in Fs::new(self.image).walk("/")? {
            let entry = entry?;
            let path = entry.path();
            let path = match path.starts_with(b"/") {
                true => path,
                false => [b"/", path.as_slice()].concat(),
            };
            if !is_own(&path) {
                meet(entry.id(), path);
            }
        }
        let mut runs: Vec<(u64, u64, u64)> = Vec::new();
        for (place, object) in (1_u64..).zip(objects.into_values()) {
            let Some((path, id)) = object else { continue };
            let known = self.number(id);
            match runs.last_mut() {
                Some((now, first, count)) if *now + *count == place && *first + *count == known => {
                    *count += 1;
                }
                Some(_) | None => runs.push((place, known, 1)),
            }
            if ordered.contains(&id) {
                changed.insert(path);
            }
        }
        Ok(runs)
    }

    /// Returns the paths of the image at which the guest may have changed something: those of its
    /// changes, and all of them if it changed something that is as it was, such as a file that it
    /// moved away and back, or goes on from a point before.
    fn touched(&self) -> Result<BTreeSet<Vec<u8>>, Error> {
        let changed = self.changes.entries();
        let mut paths: BTreeSet<Vec<u8>> = changed
            .map(|entry| entry.path.fs_path().into_owned())
            .collect();
        let mut others = self.fs.copied_up();
        for path in &paths {
            if let Some(stat) = self.own(path) {
                others.remove(&stat.id);
            }
        }
        if !others.is_empty() || self.p1.knows_times() || self.fs.has_claimed_links() {
            let all = Fs::new(self.image).walk("/")?;
            let all = all.map(|entry| entry.map(|entry| entry.path()));
            paths.extend(all.collect::<Result<Vec<_>, _>>()?);
        }
        Ok(paths)
    }

    /// Finds the links that would lead elsewhere as those of a layer. There are none if they would be
    /// too many.
    fn links(&self, touched: &BTreeSet<Vec<u8>>) -> Result<Vec<String>, Error> {
        let mut links = Vec::new();
        for path in touched {
            let Some(stat) = self.own(path) else {
                continue;
            };
            if stat.kind != Kind::Symlink || is_own(path) || !self.fs.is_own_link(stat.id) {
                continue;
            }
            let target = self.fs.read_link(path.as_slice())?;
            let climbs = target.split(|byte| *byte == b'/').any(|part| part == b"..");
            if climbs || target.starts_with(b"/") {
                links.push(hex(path));
            }
            if links.len() > MAX_KNOWN_TIMES {
                return Ok(Vec::new());
            }
        }
        Ok(links)
    }

    /// Finds the times of changed objects that the image does not have. There are none if
    /// they would be too many.
    fn times(&self, touched: &BTreeSet<Vec<u8>>) -> Result<Vec<(String, u64, u64)>, Error> {
        let image = Fs::new(self.image);
        let mut times = self.hidden_times()?;
        for path in touched {
            let there = image.symlink_metadata(path.as_slice());
            let (Ok(there), Some(is)) = (there, self.own(path)) else {
                continue;
            };
            let known = self.p1.told_times(self.fs, is);
            if is_own(path) || known == KnownTimes::of(&there) {
                continue;
            }
            times.push(saved_times(path, known));
            if times.len() > MAX_KNOWN_TIMES {
                return Ok(Vec::new());
            }
        }
        Ok(times)
    }

    /// Finds the times of what is open and has no name but in the image.
    fn hidden_times(&self) -> Result<Vec<(String, u64, u64)>, Error> {
        let mut times = Vec::new();
        for (id, path) in self.hidden {
            let open = self.p1.open_descriptors().map(|open| open.descriptor);
            let mut open = open.filter(|one| one.fs().is_same(self.fs));
            let Some(is) = open.find(|one| one.id() == *id) else {
                continue;
            };
            let failed = |errno| Error::new("stat", path.as_bytes(), errno);
            let known = self.p1.told_times(self.fs, is.stat().map_err(failed)?);
            // Also where they are those of the image: that it loses its name moves one.
            times.push(saved_times(path.as_bytes(), known));
        }
        Ok(times)
    }

    /// Lists directories as the guest does. What cannot be listed has no order.
    fn orders(&self, dirs: &BTreeSet<Vec<u8>>) -> Vec<SavedOrder> {
        let root = Descriptor::host_root(self.fs);
        let mut bytes = 0;
        let mut orders = Vec::new();
        for path in dirs {
            let below = path.strip_prefix(b"/").filter(|below| !below.is_empty());
            let flags = OpenFlags::DIRECTORY;
            let dir = root.open_at(Follow::No, below.unwrap_or(b"."), flags, Access::READ);
            let Ok(dir) = dir else { continue };
            let mut entries = Vec::new();
            let listed = self.p1.list(&dir, (0, u64::MAX), &mut |entry| {
                // A guest does not see the checkpoint's own.
                if below.is_some() || entry.name != OWN.get(1..).unwrap_or_default() {
                    bytes += 2 * entry.name.len() + 32;
                    entries.push((entry.next, hex(entry.name)));
                }
                match bytes > MAX_KNOWN_ORDER_BYTES {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
            if bytes > MAX_KNOWN_ORDER_BYTES {
                return Vec::new();
            }
            if listed.is_ok() {
                orders.push(SavedOrder {
                    path_hex: hex(path),
                    entries,
                });
            }
        }
        orders
    }
}

#[cfg(test)]
mod tests {
    use wasmtime_wasi::WasiCtxBuilder;

    use super::*;
    use crate::chunk::ChunkPool;

    #[test]
    fn what_no_guest_can_know_is_found() {
        let with = |runs: &[(u64, u64, u64)], cookies: &[u64]| SavedKnown {
            runs: runs.to_vec(),
            orders: vec![SavedOrder {
                path_hex: "2f".into(),
                entries: cookies
                    .iter()
                    .map(|cookie| (*cookie, "61".into()))
                    .collect(),
            }],
            ..SavedKnown::default()
        };
        assert!(with(&[(1, 1, 3), (4, 9, 2)], &[1, 2, 9]).is_sound(1));
        for runs in [
            &[(0, 1, 1)][..],
            &[(1, 0, 1)],
            &[(1, 1, 0)],
            &[(1, 1, 3), (3, 9, 1)],
            &[(1, u64::MAX, 1)],
            &[(2, 1, u64::MAX)],
        ] {
            assert!(!with(runs, &[]).is_sound(1), "{runs:?}");
        }
        assert!(!with(&[], &[2, 2]).is_sound(1));
        let mut odd = with(&[], &[1]);
        odd.orders[0].entries[0].1 = "6".into();
        assert!(!odd.is_sound(1));
        let many = vec![(1, 1, 1); MAX_KNOWN_RUNS + 1];
        assert!(!with(&many, &[]).is_sound(1));
        let mut times = with(&[], &[]);
        times.times = vec![("2f61".into(), 1, 1); MAX_KNOWN_TIMES];
        assert!(times.is_sound(0));
        times.times.push(("2f61".into(), 1, 1));
        assert!(!times.is_sound(0));
        times.times = vec![("2f6".into(), 1, 1)];
        assert!(!times.is_sound(0));
        let mut dirs = with(&[], &[]);
        dirs.dirs = vec![(3, 1, None)];
        assert!(dirs.is_sound(1) && !dirs.is_sound(0));
        let mut named = with(&[], &[]);
        named.named = vec![("2f61".into(), 1); SHOWN.len() + 1];
        assert!(named.is_sound(1) && !named.is_sound(0));
    }

    #[test]
    fn orders_that_take_too_much_are_left_out() {
        let known = |files: usize| {
            let fs = Fs::new(&Image::empty());
            fs.create_dir("/d").unwrap();
            for number in 0..files {
                fs.write(format!("/d/{number:0250}"), "").unwrap();
            }
            let changes = fs.diff(&ChunkPool::new()).unwrap();
            let image = Image::new(std::slice::from_ref(&changes)).unwrap();
            let p1 = Ctx::new(WasiCtxBuilder::new().build_p1());
            let known = SavedKnown::of(&Frozen {
                p1: &p1,
                fs: &fs,
                image: &image,
                changes: &changes,
                hidden: &[],
            });
            known.unwrap()
        };
        let most = (MAX_KNOWN_ORDER_BYTES - 34) / (2 * 250 + 32);
        let entries = |known: &SavedKnown| -> usize {
            known.orders.iter().map(|one| one.entries.len()).sum()
        };
        assert_eq!(entries(&known(most)), most + 1);
        assert_eq!(entries(&known(most + 1)), 0);
    }
}
