//! From what was gathered to a layer over a stage.

use std::collections::{HashMap, HashSet};

use stratafs::image::Image;
use stratafs::layer::{Layer, LayerBuilder};
use stratafs::meta::{Kind, Meta};
use stratafs::name::{LayerPath, show};
use stratafs::vfs::Fs;

use super::gather::{Gathered, Item, ItemBody};
use super::tree::{joined, names};
use crate::failure::Failure;

/// Where a copy goes, and how.
pub(super) struct Destination<'a> {
    /// An absolute path.
    pub(super) path: &'a str,
    /// Whether it was written as a directory's: with a slash or a dot at its end.
    pub(super) is_dir: bool,
    /// What directories get that have to be made.
    pub(super) dir_meta: Meta,
    /// Lays it without regard to what the stage has: links there are not followed.
    pub(super) link: bool,
}

/// Makes the layer.
pub(super) fn lay(
    image: &Image,
    all: Vec<Gathered>,
    to: &Destination<'_>,
) -> Result<Layer, Failure> {
    let stage = StageView(Fs::new(image));
    let given = lexical(to.path);
    let real = match to.link {
        true => given,
        false => stage.real(&given)?,
    };
    let has_dir = !to.link && stage.kind(&real) == Some(Kind::Dir);
    let into_dir = to.is_dir || has_dir;
    if all.len() > 1 && !into_dir {
        return Err(Failure::new(format_args!(
            "several files go to {}, which is not a directory: write {}/",
            to.path, to.path
        )));
    }
    let mut out = LayOut {
        builder: LayerBuilder::new(),
        stage,
        made: HashSet::new(),
        objects: HashMap::new(),
        dir_meta: to.dir_meta.clone(),
        link: to.link,
    };
    for gathered in all {
        let base = match gathered.is_dir || !into_dir {
            true => real.clone(),
            false => joined(&real, &gathered.name),
        };
        // Objects are numbered by what they come from.
        out.objects.clear();
        for item in gathered.items {
            out.put(&base, item)?;
        }
    }
    Ok(out.builder.finish()?)
}

/// An absolute path as its names, `.` and `..` resolved by text.
fn lexical(path: &str) -> Vec<u8> {
    let mut all: Vec<&[u8]> = Vec::new();
    for name in names(path.as_bytes()) {
        match name {
            b"." => {}
            b".." => drop(all.pop()),
            name => all.push(name),
        }
    }
    all.join(&b'/')
}

/// What the stage has.
struct StageView(Fs);

impl StageView {
    fn kind(&self, path: &[u8]) -> Option<Kind> {
        let rooted = [b"/", path].concat();
        self.0.symlink_metadata(rooted).ok().map(|stat| stat.kind)
    }

    /// Follows the links of the stage, as far as it has the path.
    fn real(&self, path: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut todo: Vec<Vec<u8>> = names(path).map(<[u8]>::to_vec).rev().collect();
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == b"." {
                continue;
            }
            if name == b".." {
                done.pop();
                continue;
            }
            done.push(name);
            let at = done.join(&b'/');
            if self.kind(&at) != Some(Kind::Symlink) {
                continue;
            }
            links += 1;
            if links > stratafs::limits::MAX_SYMLINKS {
                return Err(Failure::new(format_args!(
                    "/{}: too many links lead to each other in the stage",
                    show(path)
                )));
            }
            let target = self.0.read_link([b"/", at.as_slice()].concat())?;
            done.pop();
            if target.starts_with(b"/") {
                done.clear();
            }
            todo.extend(names(&target).map(<[u8]>::to_vec).rev());
        }
        Ok(done.join(&b'/'))
    }
}

struct LayOut {
    builder: LayerBuilder,
    stage: StageView,
    /// Directories that are in the layer or known to be in the stage.
    made: HashSet<Vec<u8>>,
    /// Where a file with several names was put first.
    objects: HashMap<u64, LayerPath>,
    dir_meta: Meta,
    link: bool,
}

impl LayOut {
    fn put(&mut self, base: &[u8], item: Item) -> Result<(), Failure> {
        let path = joined(base, &item.path);
        if !self.link {
            let above: Vec<&[u8]> = names(&path).collect();
            let above = above.len().checked_sub(1).and_then(|len| above.get(..len));
            self.make_dirs(above.unwrap_or_default())?;
        }
        let place = LayerPath::parse(&path)
            .map_err(|error| Failure::new(format_args!("{}: {error}", show(&path))))?;
        let has = match self.link {
            true => None,
            false => self.stage.kind(&path),
        };
        match item.body {
            ItemBody::Dir(meta) | ItemBody::LeftOut(meta) => {
                if has.is_some_and(|kind| kind != Kind::Dir) && !self.made.contains(&path) {
                    return Err(in_the_way(&path, "a directory", "a file or a link"));
                }
                // What is there keeps its own metadata, if it is what was named.
                let is_named = item.path.is_empty() && has == Some(Kind::Dir);
                if !is_named && !path.is_empty() {
                    self.builder.dir(&place, meta)?;
                }
                self.made.insert(path);
            }
            ItemBody::File(meta, content, object) => {
                if has == Some(Kind::Dir) {
                    return Err(in_the_way(&path, "a file", "a directory"));
                }
                match object.and_then(|object| self.objects.get(&object)) {
                    Some(first) => self.builder.hard_link(&place, first)?,
                    None => self.builder.file(&place, meta, content)?,
                }
                if let Some(object) = object {
                    self.objects.entry(object).or_insert(place);
                }
            }
            ItemBody::Symlink(meta, target) => {
                if has == Some(Kind::Dir) {
                    return Err(in_the_way(&path, "a link", "a directory"));
                }
                self.builder.symlink(&place, meta, &target)?;
            }
        }
        Ok(())
    }

    /// Makes the directories that the stage does not have.
    fn make_dirs(&mut self, path: &[&[u8]]) -> Result<(), Failure> {
        if self.made.contains(&path.join(&b'/')) {
            return Ok(());
        }
        for len in 1..=path.len() {
            let dir = path.get(..len).unwrap_or_default().join(&b'/');
            if self.made.contains(&dir) {
                continue;
            }
            match self.stage.kind(&dir) {
                Some(Kind::Dir) => {}
                Some(_) => return Err(in_the_way(&dir, "a directory", "a file or a link")),
                None => {
                    let place = LayerPath::parse(&dir)
                        .map_err(|error| Failure::new(format_args!("{}: {error}", show(&dir))))?;
                    self.builder.dir(&place, self.dir_meta.clone())?;
                }
            }
            self.made.insert(dir);
        }
        Ok(())
    }
}

fn in_the_way(path: &[u8], new: &str, old: &str) -> Failure {
    Failure::new(format_args!(
        "/{}: {new} cannot be copied there: the stage has {old} of that name: choose another destination",
        show(path)
    ))
}

/// Where paths lead in a stage once its links are followed.
pub(super) fn real_places(image: &Image, all: &[LayerPath]) -> Result<Vec<LayerPath>, Failure> {
    let stage = StageView(Fs::new(image));
    let real = all.iter().map(|path| {
        let real = stage.real(&path.to_bytes())?;
        Ok(LayerPath::parse(&real)?)
    });
    real.collect()
}

/// Makes the layer of `WORKDIR`, if the stage lacks the directory. Links are followed.
pub(super) fn workdir(image: &Image, dir: &str, meta: Meta) -> Result<Option<Layer>, Failure> {
    let stage = StageView(Fs::new(image));
    let real = stage.real(&lexical(dir))?;
    let mut out = LayOut {
        builder: LayerBuilder::new(),
        stage,
        made: HashSet::new(),
        objects: HashMap::new(),
        dir_meta: meta,
        link: false,
    };
    let all: Vec<&[u8]> = names(&real).collect();
    out.make_dirs(&all)?;
    let layer = out.builder.finish()?;
    Ok((layer.node_count() > 1).then_some(layer))
}
