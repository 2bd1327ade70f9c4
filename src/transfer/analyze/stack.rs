//! Layers stacked one by one, with an account of what each does to those below.

use std::collections::{BTreeMap, HashMap};

use super::{Analysis, AnalyzedEntry, HiddenFile, LayerAnalysis};
use crate::digest::Digest;
use crate::layer::{EntryBody, Layer, LayerEntry};
use crate::meta::Kind;
use crate::name::LayerPath;

/// The tree so far, and what is known of all files of the layers.
#[derive(Default)]
pub(super) struct LayerStack {
    layers: Vec<LayerAnalysis>,
    entries: BTreeMap<LayerPath, StackEntry>,
    objects: Vec<StackObject>,
}

/// What the tree shows at a path.
#[derive(Clone, Copy)]
struct StackEntry {
    layer: usize,
    what: EntryTarget,
}

#[derive(Clone, Copy)]
enum EntryTarget {
    Dir,
    /// A file or symbolic link, by its number in `objects`.
    Object(usize),
}

/// A file or symbolic link of a layer.
struct StackObject {
    path: LayerPath,
    layer: usize,
    kind: Kind,
    size: u64,
    content: Option<Digest>,
    /// Names of the tree that lead to it.
    names: u64,
    /// The layer that took the last name away, and whether it put something there.
    hidden: Option<(usize, bool)>,
}

impl LayerStack {
    /// Puts a layer on top.
    pub(super) fn stack(&mut self, layer: &Layer) {
        let number = self.layers.len();
        self.layers.push(LayerAnalysis::default());
        // A hard link leads to what lower layers show, whiteouts of its own layer or not.
        let links: Vec<(LayerPath, Option<usize>)> = layer
            .entries()
            .filter_map(|entry| match entry.body {
                EntryBody::LowerLink { target } => Some((entry.path, self.object_at(target))),
                _ => None,
            })
            .collect();
        let mut own = HashMap::new();
        for entry in layer.entries() {
            self.put(number, &entry, &mut own);
        }
        for (path, object) in links {
            if let Some(object) = object {
                self.replace(number, &path, None);
                self.show(number, path, object);
            }
        }
    }

    fn object_at(&self, path: &LayerPath) -> Option<usize> {
        match self.entries.get(path)?.what {
            EntryTarget::Object(object) => Some(object),
            EntryTarget::Dir => None,
        }
    }

    fn figures(&mut self, number: usize) -> Option<&mut LayerAnalysis> {
        self.layers.get_mut(number)
    }

    /// Puts one entry of a layer. `own` has the layer's files by their numbers in it.
    fn put(&mut self, number: usize, entry: &LayerEntry<'_>, own: &mut HashMap<u32, usize>) {
        let path = &entry.path;
        match &entry.body {
            EntryBody::Dir { meta, opaque } => self.put_dir(number, path, meta.is_some(), *opaque),
            EntryBody::File {
                content, object, ..
            } => {
                let known = own.get(object).copied();
                let object = known.unwrap_or_else(|| {
                    let made = self.make(number, path, (Kind::File, content.size()));
                    self.set_content(made, content.digest());
                    own.insert(*object, made);
                    made
                });
                self.replace(number, path, Some(content.digest()));
                self.show(number, path.clone(), object);
            }
            EntryBody::Symlink { object, .. } => {
                let known = own.get(object).copied();
                let object = known.unwrap_or_else(|| {
                    let made = self.make(number, path, (Kind::Symlink, 0));
                    own.insert(*object, made);
                    made
                });
                self.replace(number, path, None);
                self.show(number, path.clone(), object);
            }
            EntryBody::Whiteout => {
                if let Some(figures) = self.figures(number) {
                    figures.added.whiteouts += 1;
                }
                self.remove(number, path, true);
            }
            // Those come last.
            EntryBody::LowerLink { .. } => {}
        }
    }

    fn put_dir(&mut self, number: usize, path: &LayerPath, says: bool, opaque: bool) {
        if let Some(figures) = self.figures(number) {
            figures.added.dirs += u64::from(says && !path.is_root());
            figures.added.opaque_dirs += u64::from(opaque);
        }
        if opaque {
            self.remove(number, path, false);
        }
        if path.is_root() {
            return;
        }
        let known = match self.entries.get(path) {
            Some(StackEntry {
                what: EntryTarget::Dir,
                ..
            }) => true,
            Some(_) => {
                self.replace(number, path, None);
                false
            }
            None => false,
        };
        if says || !known {
            let dir = StackEntry {
                layer: number,
                what: EntryTarget::Dir,
            };
            self.entries.insert(path.clone(), dir);
        }
    }

    /// Notes a file or link that a layer brings.
    fn make(&mut self, layer: usize, path: &LayerPath, (kind, size): (Kind, u64)) -> usize {
        if let Some(figures) = self.figures(layer) {
            match kind {
                Kind::Symlink => figures.added.symlinks += 1,
                _ => {
                    figures.added.files += 1;
                    figures.added.bytes = figures.added.bytes.saturating_add(size);
                }
            }
        }
        self.objects.push(StackObject {
            path: path.clone(),
            layer,
            kind,
            size,
            content: None,
            names: 0,
            hidden: None,
        });
        self.objects.len() - 1
    }

    fn set_content(&mut self, object: usize, digest: Digest) {
        if let Some(object) = self.objects.get_mut(object) {
            object.content = Some(digest);
        }
    }

    fn show(&mut self, layer: usize, path: LayerPath, object: usize) {
        if let Some(object) = self.objects.get_mut(object) {
            object.names += 1;
        }
        let shown = StackEntry {
            layer,
            what: EntryTarget::Object(object),
        };
        self.entries.insert(path, shown);
    }

    /// Takes away what is at `path`, since the layer has something there: a file with the
    /// bytes of `content`, or something else.
    fn replace(&mut self, number: usize, path: &LayerPath, content: Option<Digest>) {
        match self.entries.get(path).map(|shown| shown.what) {
            None => {}
            Some(EntryTarget::Dir) => self.remove(number, path, true),
            Some(EntryTarget::Object(object)) => {
                self.entries.remove(path);
                let was = self.objects.get(object);
                let (size, had) = was.map_or((0, None), |was| (was.size, was.content));
                if let Some(figures) = self.figures(number) {
                    figures.overwritten.add(size);
                    if content.is_some() && content == had {
                        figures.repeated.add(size);
                    }
                }
                self.lose(object, (number, true));
            }
        }
    }

    /// Takes away what is below `path`, and with `itself` what is there.
    fn remove(&mut self, number: usize, path: &LayerPath, itself: bool) {
        let names = path.names();
        let below = self.entries.range(path.clone()..);
        let below = below.take_while(|(at, _)| at.names().starts_with(names));
        let gone: Vec<LayerPath> = below
            .filter(|(at, shown)| shown.layer != number && (itself || *at != path))
            .map(|(at, _)| at.clone())
            .collect();
        for at in gone {
            let Some(shown) = self.entries.remove(&at) else {
                continue;
            };
            let EntryTarget::Object(object) = shown.what else {
                continue;
            };
            let size = self.objects.get(object).map_or(0, |object| object.size);
            if let Some(figures) = self.figures(number) {
                figures.removed.add(size);
            }
            self.lose(object, (number, false));
        }
    }

    /// Takes one name of an object away.
    fn lose(&mut self, object: usize, by: (usize, bool)) {
        if let Some(object) = self.objects.get_mut(object) {
            object.names = object.names.saturating_sub(1);
            if object.names == 0 {
                object.hidden = Some(by);
            }
        }
    }

    /// Adds up what no name leads to.
    pub(super) fn finish(mut self) -> Analysis {
        let mut hidden = Vec::new();
        for object in &self.objects {
            let (0, Some((by, is_overwritten))) = (object.names, object.hidden) else {
                continue;
            };
            if let Some(figures) = self.layers.get_mut(object.layer) {
                figures.wasted.add(object.size);
            }
            if object.kind == Kind::File {
                hidden.push(HiddenFile {
                    path: object.path.clone(),
                    layer: object.layer,
                    by,
                    is_overwritten,
                    size: object.size,
                });
            }
        }
        Analysis {
            layers: self.layers,
            entries: listed(self.entries, &self.objects),
            hidden,
        }
    }
}

fn listed(shown: BTreeMap<LayerPath, StackEntry>, objects: &[StackObject]) -> Vec<AnalyzedEntry> {
    let mut seen = vec![false; objects.len()];
    let entry = |(path, StackEntry { layer, what }): (LayerPath, StackEntry)| {
        let number = match what {
            EntryTarget::Object(number) => Some(number),
            EntryTarget::Dir => None,
        };
        let object = number.and_then(|number| objects.get(number));
        let before = number.and_then(|number| seen.get_mut(number));
        let is_further_name = before.is_some_and(|seen| std::mem::replace(seen, true));
        AnalyzedEntry {
            path,
            kind: object.map_or(Kind::Dir, |object| object.kind),
            layer,
            size: object.map_or(0, |object| object.size),
            content: object.and_then(|object| object.content),
            is_further_name,
        }
    };
    shown.into_iter().map(entry).collect()
}
