//! What `COPY` and `ADD` copy: names found, wildcards matched, files read.

use std::collections::{HashMap, HashSet};

use stratafs::chunk::{ChunkPool, Content, ContentBuilder};
use stratafs::digest::Digest;
use stratafs::layer::{EntryBody, Layer};
use stratafs::meta::{Kind, Meta, Time};
use stratafs::name::show;

use super::archive;
use super::tree::{FileTree, TreeEntry, joined, names};
use crate::failure::Failure;
use crate::recipe::ModeChange;
use crate::recipe::dockerignore::{Ignore, Ignored};
use crate::recipe::wildcard::Wildcard;

/// The mode of directories that have to be made.
pub(super) const NEW_DIR: u32 = 0o755;

/// Something to be put into a stage.
#[derive(Debug)]
pub(super) struct Item {
    /// Where, from what was named on: empty for that itself.
    pub(super) path: Vec<u8>,
    pub(super) body: ItemBody,
}

/// What an [`Item`] is.
#[derive(Debug)]
pub(super) enum ItemBody {
    Dir(Meta),
    /// A directory that is left out unless something in it is not; never in what was gathered.
    LeftOut(Meta),
    /// With the number that all names of one file share.
    File(Meta, Content, Option<u64>),
    Symlink(Meta, Vec<u8>),
}

/// One thing that was named, with all below it.
#[derive(Debug)]
pub(super) struct Gathered {
    /// Its last name, which it keeps in a directory.
    pub(super) name: Vec<u8>,
    /// Whether it is a directory, of which the content is copied.
    pub(super) is_dir: bool,
    /// Whether it is a directory of which something is copied.
    brings_something: bool,
    pub(super) items: Vec<Item>,
}

/// How things are gathered.
pub(super) struct Gatherer<'a> {
    pub(super) tree: &'a FileTree,
    pub(super) ignore: &'a Ignore,
    pub(super) excludes: &'a Ignore,
    pub(super) pool: &'a ChunkPool,
    /// The time of what is read from the host.
    pub(super) epoch: Time,
    pub(super) owner: Option<(u32, u32)>,
    pub(super) mode: Option<&'a ModeChange>,
    /// Whether names keep the directories above them.
    pub(super) parents: bool,
    /// Whether archives are unpacked, if that was said; `ADD` does it otherwise.
    pub(super) unpack: Option<bool>,
    pub(super) is_add: bool,
}

impl Gatherer<'_> {
    /// Gathers what one word names.
    pub(super) fn gather(&self, word: &str) -> Result<Vec<Gathered>, Failure> {
        let pivot = match self.parents {
            true => names(word.split("/./").next().unwrap_or_default().as_bytes())
                .filter(|name| *name != b".")
                .count(),
            false => 0,
        };
        let pivot = if word.contains("/./") { pivot } else { 0 };
        let mut all = Vec::new();
        for path in self.named(word)? {
            let gathered = self.one(&path, pivot)?;
            // A directory that is left out is there if something in it is brought back.
            if gathered.brings_something || !self.is_left_out(&path) {
                all.push(gathered);
            }
        }
        // What a pattern matches may be nothing, as long as something is copied.
        match all.is_empty() && !is_pattern(word) {
            true => Err(self.nothing(word)),
            false => Ok(all),
        }
    }

    /// Says that there is nothing of a name.
    pub(super) fn nothing(&self, word: &str) -> Failure {
        Failure::new(format_args!(
            "{}: nothing there has such a name{}",
            show(word.as_bytes()),
            match self.ignore.is_empty() {
                true => "",
                false => ", or .dockerignore leaves it out",
            }
        ))
    }

    /// Finds the paths that a word names; those that are left out are not there, but for
    /// directories in which something may be brought back.
    fn named(&self, word: &str) -> Result<Vec<Vec<u8>>, Failure> {
        let mut found: Vec<Vec<u8>> = vec![Vec::new()];
        for name in word.split('/').filter(|name| !matches!(*name, "" | ".")) {
            if name == ".." {
                found = found
                    .iter()
                    .map(|path| self.above(path, word))
                    .collect::<Result<_, _>>()?;
                continue;
            }
            let bad = |why: String| Failure::new(format_args!("{}: {why}", show(word.as_bytes())));
            let globstar = self.parents && name == "**";
            let wildcard = Wildcard::new(name, globstar).map_err(bad)?;
            let mut next = Vec::new();
            for dir in &found {
                match wildcard.literal() {
                    Some(name) => next.push(joined(dir, name.as_bytes())),
                    None if globstar => self.all_dirs(dir, &mut next)?,
                    None => self.matching(dir, &wildcard, &mut next)?,
                }
            }
            found = next;
        }
        let mut there = Vec::new();
        for path in found {
            let Some(real) = self.tree.resolve(&path, true)? else {
                continue;
            };
            let Some(entry) = self.tree.look(&real)? else {
                continue;
            };
            let may_have = entry.kind == Kind::Dir && self.ignore.brings_back();
            if may_have || !self.is_left_out(&path) {
                there.push(path);
            }
        }
        there.sort();
        there.dedup();
        Ok(there)
    }

    fn above(&self, path: &[u8], word: &str) -> Result<Vec<u8>, Failure> {
        let mut all: Vec<&[u8]> = names(path).collect();
        match all.pop() {
            Some(_) => Ok(all.join(&b'/')),
            None => Err(Failure::new(format_args!(
                "{}: it leaves the context: copy from inside it, or give another with --build-context NAME=DIR and write --from=NAME",
                show(word.as_bytes())
            ))),
        }
    }

    /// Lists a directory, through links on the way to it.
    fn listed(&self, dir: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        let Some(real) = self.tree.resolve(dir, true)? else {
            return Ok(Vec::new());
        };
        match self.tree.look(&real)? {
            Some(entry) if entry.kind == Kind::Dir => self.tree.list(&real),
            _ => Ok(Vec::new()),
        }
    }

    fn matching(
        &self,
        dir: &[u8],
        wildcard: &Wildcard,
        into: &mut Vec<Vec<u8>>,
    ) -> Result<(), Failure> {
        let listed = self.listed(dir)?.into_iter();
        let matching = listed.filter(|name| wildcard.matches(&String::from_utf8_lossy(name)));
        into.extend(matching.map(|name| joined(dir, &name)));
        Ok(())
    }

    /// A directory and all below it, links not followed.
    fn all_dirs(&self, dir: &[u8], into: &mut Vec<Vec<u8>>) -> Result<(), Failure> {
        let mut todo = vec![dir.to_vec()];
        while let Some(dir) = todo.pop() {
            for name in self.listed(&dir)? {
                let path = joined(&dir, &name);
                if self
                    .tree
                    .look(&path)?
                    .is_some_and(|entry| entry.kind == Kind::Dir)
                {
                    todo.push(path);
                }
            }
            into.push(dir);
        }
        Ok(())
    }

    /// Asks `.dockerignore` from the root down.
    fn is_left_out(&self, path: &[u8]) -> bool {
        self.said_of(path).0
    }

    fn said_of(&self, path: &[u8]) -> (bool, Ignored) {
        let (mut out, mut said, mut at) = (false, Ignored::default(), Vec::new());
        for name in names(path) {
            at = joined(&at, name);
            (out, said) = self.ignore.look(&String::from_utf8_lossy(&at), &said);
        }
        (out, said)
    }

    /// Reads one thing that was named.
    fn one(&self, path: &[u8], pivot: usize) -> Result<Gathered, Failure> {
        let gone = || Failure::new(format_args!("{}: it is gone", show(path)));
        let real = self.tree.resolve(path, true)?.ok_or_else(gone)?;
        let entry = self.tree.look(&real)?.ok_or_else(gone)?;
        let name = names(path).next_back().unwrap_or_default().to_vec();
        let mut gathered = Gathered {
            name: name.clone(),
            is_dir: entry.kind == Kind::Dir || self.parents,
            brings_something: false,
            items: Vec::new(),
        };
        let mut below = Vec::new();
        if self.parents {
            let all: Vec<&[u8]> = names(path).collect();
            let kept = all.get(pivot.min(all.len())..).unwrap_or_default();
            self.keep_parents(&all, pivot, &mut gathered.items)?;
            below = kept.join(&b'/');
        }
        match entry.kind {
            Kind::Dir => {
                let before = gathered.items.len();
                self.dir(path, &real, (entry, below), &mut gathered.items)?;
                gathered.brings_something = gathered.items.len() > before + 1;
            }
            Kind::File => {
                let (out, _) = self
                    .excludes
                    .look(&String::from_utf8_lossy(&name), &Ignored::default());
                if out {
                    return Ok(gathered);
                }
                if let Some(layer) = self.archive(&real)? {
                    gathered.is_dir = true;
                    gathered.items = self.unpacked(&layer)?;
                    return Ok(gathered);
                }
                let body = self.file(&real, &entry)?;
                gathered.items.push(Item { path: below, body });
            }
            Kind::Symlink => return Err(gone()),
        }
        Ok(gathered)
    }

    /// The directories above a name that keeps them.
    fn keep_parents(
        &self,
        all: &[&[u8]],
        pivot: usize,
        into: &mut Vec<Item>,
    ) -> Result<(), Failure> {
        for len in pivot + 1..all.len() {
            let path = all.get(..len).unwrap_or_default().join(&b'/');
            let real = self.tree.resolve(&path, true)?.unwrap_or(path);
            let Some(entry) = self.tree.look(&real)? else {
                continue;
            };
            into.push(Item {
                path: all.get(pivot..len).unwrap_or_default().join(&b'/'),
                body: ItemBody::Dir(self.dir_meta(&real, &entry)?),
            });
        }
        Ok(())
    }

    /// Reads a directory with all below it, without recursion.
    fn dir(
        &self,
        path: &[u8],
        real: &[u8],
        (entry, below): (TreeEntry, Vec<u8>),
        into: &mut Vec<Item>,
    ) -> Result<(), Failure> {
        // Of one that is named itself nothing but the content is copied.
        let meta = match below.is_empty() {
            true => self.named_dir(),
            false => self.dir_meta(real, &entry)?,
        };
        into.push(Item {
            path: below.clone(),
            body: ItemBody::Dir(meta),
        });
        let first = into.len();
        let mut todo = vec![DirLeft {
            real: real.to_vec(),
            seen: path.to_vec(),
            own: Vec::new(),
            said: self.said_of(path).1,
            excluded: Ignored::default(),
        }];
        while let Some(dir) = todo.pop() {
            for name in self.tree.list(&dir.real)? {
                let next = DirLeft {
                    real: joined(&dir.real, &name),
                    seen: joined(&dir.seen, &name),
                    own: joined(&dir.own, &name),
                    said: Ignored::default(),
                    excluded: Ignored::default(),
                };
                self.take(next, &dir, &below, (&mut todo, into))?;
            }
        }
        keep_needed_dirs(into, first);
        Ok(())
    }

    /// Takes one name of a directory.
    fn take(
        &self,
        mut next: DirLeft,
        dir: &DirLeft,
        below: &[u8],
        (todo, into): (&mut Vec<DirLeft>, &mut Vec<Item>),
    ) -> Result<(), Failure> {
        let ask = |ignore: &Ignore, path: &[u8], above: &Ignored| match ignore.is_empty() {
            true => (false, Ignored::default()),
            false => ignore.look(&String::from_utf8_lossy(path), above),
        };
        let (out, said) = ask(self.ignore, &next.seen, &dir.said);
        let (excluded, ignored) = ask(self.excludes, &next.own, &dir.excluded);
        (next.said, next.excluded) = (said, ignored);
        let left_out = out || excluded;
        let comes_back =
            (!out || self.ignore.brings_back()) && (!excluded || self.excludes.brings_back());
        if left_out && !comes_back {
            return Ok(());
        }
        let Some(entry) = self.tree.look(&next.real)? else {
            return Ok(());
        };
        let path = joined(below, &next.own);
        let body = match entry.kind {
            Kind::Dir => {
                let real = next.real.clone();
                todo.push(next);
                let meta = self.dir_meta(&real, &entry)?;
                match left_out {
                    true => ItemBody::LeftOut(meta),
                    false => ItemBody::Dir(meta),
                }
            }
            _ if left_out => return Ok(()),
            Kind::File => self.file(&next.real, &entry)?,
            Kind::Symlink => {
                let target = entry.target.clone().unwrap_or_default();
                ItemBody::Symlink(self.meta(&entry), target)
            }
        };
        into.push(Item { path, body });
        Ok(())
    }

    fn file(&self, real: &[u8], entry: &TreeEntry) -> Result<ItemBody, Failure> {
        let (content, xattrs) = self.tree.content(real, self.pool)?;
        let mut meta = self.meta(entry);
        meta.xattrs = xattrs.or(meta.xattrs);
        Ok(ItemBody::File(meta, content, entry.object))
    }

    /// The metadata that a directory gets.
    fn dir_meta(&self, real: &[u8], entry: &TreeEntry) -> Result<Meta, Failure> {
        let mut meta = self.meta(entry);
        meta.xattrs = self.tree.dir_xattrs(real)?.or(meta.xattrs);
        Ok(meta)
    }

    /// The metadata of the directory that takes the content of one that was named, if it has to
    /// be made.
    fn named_dir(&self) -> Meta {
        let mut meta = Meta::with_mode(NEW_DIR).at(self.epoch);
        (meta.uid, meta.gid) = (0, 0);
        self.owned(meta, Kind::Dir)
    }

    /// The metadata that an entry gets.
    fn meta(&self, entry: &TreeEntry) -> Meta {
        let mut meta = self.owned(entry.meta.clone(), entry.kind);
        if matches!(self.tree, FileTree::Host(_)) {
            meta.mtime = self.epoch;
        }
        meta
    }

    fn owned(&self, mut meta: Meta, kind: Kind) -> Meta {
        if let Some((uid, gid)) = self.owner {
            (meta.uid, meta.gid) = (uid, gid);
        }
        if let Some(change) = self.mode.filter(|_| kind != Kind::Symlink) {
            meta.mode = change.of(meta.mode, kind == Kind::Dir);
        }
        meta
    }

    /// Reads a file as an archive, where `ADD` does so.
    fn archive(&self, real: &[u8]) -> Result<Option<Layer>, Failure> {
        let FileTree::Host(tree) = self.tree else {
            return Ok(None);
        };
        match self.is_add && self.unpack != Some(false) {
            true => archive::read(
                &tree.file(real)?,
                real,
                self.pool,
                self.unpack == Some(true),
            ),
            false => Ok(None),
        }
    }

    fn unpacked(&self, layer: &Layer) -> Result<Vec<Item>, Failure> {
        let mut items = Vec::new();
        for entry in layer.entries() {
            let path = entry.path.to_bytes();
            let body = match entry.body {
                EntryBody::Dir { meta: None, .. } => continue,
                EntryBody::Dir { .. } if path.is_empty() => continue,
                EntryBody::Dir {
                    meta: Some(meta), ..
                } => ItemBody::Dir(self.owned(meta.clone(), Kind::Dir)),
                EntryBody::File {
                    meta,
                    content,
                    object,
                    links,
                } => {
                    let object = (links > 1).then_some(u64::from(object));
                    ItemBody::File(
                        self.owned(meta.clone(), Kind::File),
                        content.clone(),
                        object,
                    )
                }
                EntryBody::Symlink { meta, target, .. } => {
                    ItemBody::Symlink(self.owned(meta.clone(), Kind::Symlink), target.to_vec())
                }
                EntryBody::Whiteout | EntryBody::LowerLink { .. } => {
                    return Err(Failure::new(format_args!(
                        "{}: the archive has an entry there that only a layer of an image can have: import it with `stratafs image import`, and write FROM",
                        show(&path)
                    )));
                }
            };
            items.push(Item { path, body });
        }
        Ok(items)
    }
}

/// Returns whether a word is a pattern, or names what it spells.
fn is_pattern(word: &str) -> bool {
    let names = word.split('/').map(|name| Wildcard::new(name, false));
    names.flatten().any(|name| name.literal().is_none())
}

/// A directory that is still to be read.
struct DirLeft {
    /// Where it is.
    real: Vec<u8>,
    /// What it was named by, for `.dockerignore`.
    seen: Vec<u8>,
    /// From the directory that is copied on, for `--exclude`.
    own: Vec<u8>,
    said: Ignored,
    excluded: Ignored,
}

/// A here-document as a file.
pub(super) fn of_text(name: &str, text: &str, meta: Meta, pool: &ChunkPool) -> Gathered {
    let mut builder = ContentBuilder::new(pool);
    builder.write(text.as_bytes());
    Gathered {
        name: name.as_bytes().to_vec(),
        is_dir: false,
        brings_something: false,
        items: vec![Item {
            path: Vec::new(),
            body: ItemBody::File(meta, builder.finish(), None),
        }],
    }
}

/// Returns the digest of all that was gathered: names, kinds, modes, owners, content, and which
/// names are of one file.
pub(super) fn digest(all: &[Gathered]) -> Digest {
    let mut bytes = Vec::new();
    let mut put = |part: &[u8]| {
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend(part);
    };
    for gathered in all {
        put(&gathered.name);
        put(&[u8::from(gathered.is_dir)]);
        put(&(gathered.items.len() as u64).to_le_bytes());
        // The numbers themselves are another on each machine.
        let mut first: HashMap<u64, u64> = HashMap::new();
        for (at, item) in gathered.items.iter().enumerate() {
            put(&item.path);
            let (kind, meta, more) = match &item.body {
                ItemBody::Dir(meta) | ItemBody::LeftOut(meta) => (b"d", meta, Vec::new()),
                ItemBody::File(meta, content, object) => {
                    let mut more = content.digest().as_bytes().to_vec();
                    let at = at as u64;
                    let of = object.map_or(at, |object| *first.entry(object).or_insert(at));
                    // How far back the first name of the file is.
                    more.extend((at - of).to_le_bytes());
                    (b"f", meta, more)
                }
                ItemBody::Symlink(meta, target) => (b"l", meta, target.clone()),
            };
            put(kind);
            put(&more);
            put(format!(
                "{} {} {} {} {} {:?}",
                meta.mode,
                meta.uid,
                meta.gid,
                meta.mtime.secs(),
                meta.mtime.nanos(),
                meta.xattrs
            )
            .as_bytes());
        }
    }
    Digest::of(&bytes)
}

/// Of the items from `first` on keeps those directories that were left out and have something in
/// them, as directories, and drops the others.
fn keep_needed_dirs(items: &mut Vec<Item>, first: usize) {
    let is_left_out = |item: &Item| matches!(item.body, ItemBody::LeftOut(_));
    let mut walked = items.split_off(first);
    if walked.iter().any(is_left_out) {
        let mut needed: HashSet<Vec<u8>> = HashSet::new();
        for item in walked.iter().filter(|item| !is_left_out(item)) {
            let mut path = item.path.as_slice();
            while let Some(at) = path.iter().rposition(|byte| *byte == b'/') {
                path = path.get(..at).unwrap_or_default();
                if !needed.insert(path.to_vec()) {
                    break;
                }
            }
        }
        walked.retain(|item| !is_left_out(item) || needed.contains(&item.path));
    }
    items.extend(walked.into_iter().map(|item| match item.body {
        ItemBody::LeftOut(meta) => Item {
            body: ItemBody::Dir(meta),
            ..item
        },
        _ => item,
    }));
}
