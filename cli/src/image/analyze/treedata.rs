//! The tree of an image for a page: columns that a script reads, within a bound of bytes.
//!
//! The largest directories are opened first. What there is no room for is one entry in its
//! directory that says how many entries and bytes it stands for.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use serde_json::{Value, json};
use stratafs::meta::Kind;
use stratafs::name::{Name, show};
use stratafs::transfer::AnalyzedEntry;

use super::super::trace::Touched;

/// Kinds in the column of kinds; a directory has the number of its entries there.
const FILE: i64 = -1;
const SYMLINK: i64 = -2;
const FURTHER_NAME: i64 = -3;
/// Entries that there is no room for. Its name is their number.
const REST: i64 = -4;

/// Bytes that a directory may need for what is left out of it.
const REST_BYTES: usize = 48;

/// An entry with sums of what is below it.
struct Node {
    name: String,
    kind: Kind,
    layer: usize,
    /// Bytes of all files at and below it.
    size: u64,
    /// Those of files that no trace opened.
    unopened: u64,
    further_name: bool,
    /// Entries below it, itself included.
    entries: u64,
    children: Vec<usize>,
    is_listed: bool,
}

/// The tree, and which of it is on the page.
pub(super) struct TreeData {
    nodes: Vec<Node>,
    is_traced: bool,
    /// Entries that are only counted.
    pub(super) left_out: u64,
}

impl TreeData {
    /// Takes as much of the tree as `max` bytes of JSON have room for.
    pub(super) fn new(entries: &[AnalyzedEntry], touched: Option<&Touched>, max: usize) -> Self {
        let mut tree = Self {
            nodes: vec![Node::root()],
            is_traced: touched.is_some(),
            left_out: 0,
        };
        let parents = tree.fill(entries, touched);
        tree.sum(&parents);
        tree.choose(max);
        tree
    }

    /// Makes a node of each entry, which come parents first. Returns the parent of each.
    fn fill(&mut self, entries: &[AnalyzedEntry], touched: Option<&Touched>) -> Vec<usize> {
        let mut dirs: HashMap<&[Name], usize> = HashMap::from([(&[][..], 0)]);
        let mut parents = vec![0];
        for entry in entries {
            let Some((above, name)) = entry.path.split_last() else {
                continue;
            };
            let number = self.nodes.len();
            let parent = dirs.get(above).copied().unwrap_or(0);
            let node = Node::new(entry, name, touched);
            if entry.kind == Kind::Dir {
                dirs.insert(entry.path.names(), number);
            }
            if let Some(parent) = self.nodes.get_mut(parent) {
                parent.children.push(number);
            }
            self.nodes.push(node);
            parents.push(parent);
        }
        parents
    }

    fn sum(&mut self, parents: &[usize]) {
        for number in (1..self.nodes.len()).rev() {
            let Some(node) = self.nodes.get(number) else {
                continue;
            };
            let (size, unopened, entries) = (node.size, node.unopened, node.entries);
            let parent = parents.get(number).copied().unwrap_or(0);
            if let Some(parent) = self.nodes.get_mut(parent) {
                parent.size = parent.size.saturating_add(size);
                parent.unopened = parent.unopened.saturating_add(unopened);
                parent.entries += entries;
            }
        }
    }

    /// Opens directories, the largest first, for as long as there is room.
    fn choose(&mut self, max: usize) {
        let all: usize = self.nodes.iter().map(Node::cost).sum();
        let mut room = max.saturating_sub(REST_BYTES);
        let rest = if all <= room { 0 } else { REST_BYTES };
        let mut open = BinaryHeap::from([(self.size(0), Reverse(0))]);
        while let Some((_, Reverse(dir))) = open.pop() {
            let mut children = match self.nodes.get_mut(dir) {
                Some(dir) => std::mem::take(&mut dir.children),
                None => continue,
            };
            children.sort_by_key(|child| Reverse((self.size(*child), Reverse(*child))));
            for child in &children {
                let Some(node) = self.nodes.get_mut(*child) else {
                    continue;
                };
                let is_dir = node.kind == Kind::Dir;
                let cost = node.cost() + if is_dir { rest } else { 0 };
                node.is_listed = cost <= room;
                if !node.is_listed {
                    self.left_out += node.entries;
                    continue;
                }
                room -= cost;
                if is_dir {
                    open.push((node.size, Reverse(*child)));
                }
            }
            let is_listed = |child: &usize| self.nodes.get(*child).is_some_and(|it| it.is_listed);
            if children.iter().all(is_listed) {
                room += rest;
            }
            if let Some(dir) = self.nodes.get_mut(dir) {
                dir.children = children;
            }
        }
    }

    fn size(&self, number: usize) -> u64 {
        self.nodes.get(number).map_or(0, |node| node.size)
    }

    /// Returns the columns, parents first and the largest child first.
    pub(super) fn json(&self) -> Value {
        let mut columns = Columns::default();
        let mut waiting = vec![0];
        while let Some(number) = waiting.pop() {
            let Some(node) = self.nodes.get(number) else {
                continue;
            };
            let child = |number: &usize| self.nodes.get(*number);
            let all = node.children.iter().filter_map(child);
            let rest = LeftOut::of(all.filter(|child| !child.is_listed));
            let is_listed = |number: &&usize| child(number).is_some_and(|child| child.is_listed);
            let listed: Vec<usize> = node.children.iter().filter(is_listed).copied().collect();
            let children = listed.len() + usize::from(rest.entries > 0);
            columns.push(node, children);
            // What is left out comes first: it has no children that could stand between.
            if rest.entries > 0 {
                columns.push_rest(&rest);
            }
            waiting.extend(listed.into_iter().rev());
        }
        columns.json(self.is_traced)
    }
}

impl Node {
    fn root() -> Self {
        Self {
            name: String::new(),
            kind: Kind::Dir,
            layer: 0,
            size: 0,
            unopened: 0,
            further_name: false,
            entries: 0,
            children: Vec::new(),
            is_listed: true,
        }
    }

    fn new(entry: &AnalyzedEntry, name: &Name, touched: Option<&Touched>) -> Self {
        let size = match entry.is_further_name {
            true => 0,
            false => entry.size,
        };
        let is_opened = touched.is_none_or(|touched| touched.of(&entry.path).is_some());
        Self {
            name: show(name.as_bytes()),
            kind: entry.kind,
            layer: entry.layer,
            size,
            unopened: if is_opened { 0 } else { size },
            further_name: entry.is_further_name,
            entries: 1,
            ..Self::root()
        }
    }

    /// Returns the bytes that it takes in the columns at most.
    fn cost(&self) -> usize {
        let name: usize = self.name.chars().map(escaped_len).sum();
        let digits = |number: u64| number.checked_ilog10().unwrap_or(0) as usize + 1;
        // The sum of a directory is no part of the page.
        let size = if self.kind == Kind::Dir { 0 } else { self.size };
        let numbers = digits(size) + digits(self.layer as u64) + digits(size.min(self.unopened));
        let kind = match self.kind {
            Kind::Dir => digits(self.children.len() as u64 + 1),
            _ => 2,
        };
        name + numbers + kind + 5
    }
}

/// What a character takes in JSON within a page.
fn escaped_len(c: char) -> usize {
    match c {
        '"' | '\\' => 2,
        '<' | '>' | '&' => 6,
        c if (c as u32) < 0x20 => 6,
        c => c.len_utf8(),
    }
}

/// What is left out of a directory.
#[derive(Default)]
struct LeftOut {
    entries: u64,
    size: u64,
    unopened: u64,
}

impl LeftOut {
    fn of<'a>(nodes: impl Iterator<Item = &'a Node>) -> Self {
        nodes.fold(Self::default(), |sum, node| Self {
            entries: sum.entries + node.entries,
            size: sum.size.saturating_add(node.size),
            unopened: sum.unopened.saturating_add(node.unopened),
        })
    }
}

/// The columns. Names have no slash in them and are joined by one.
#[derive(Default)]
struct Columns {
    names: Vec<String>,
    sizes: Vec<u64>,
    layers: Vec<usize>,
    kinds: Vec<i64>,
    unopened: Vec<u64>,
}

impl Columns {
    fn push(&mut self, node: &Node, children: usize) {
        let kind = match (node.kind, node.further_name) {
            (Kind::Dir, _) => i64::try_from(children).unwrap_or(i64::MAX),
            (_, true) => FURTHER_NAME,
            (Kind::Symlink, _) => SYMLINK,
            (Kind::File, _) => FILE,
        };
        // Sums of directories are made by the script.
        let of_file = |size| if node.kind == Kind::Dir { 0 } else { size };
        self.names.push(node.name.clone());
        self.sizes.push(of_file(node.size));
        self.layers.push(node.layer);
        self.kinds.push(kind);
        self.unopened.push(of_file(node.unopened));
    }

    fn push_rest(&mut self, rest: &LeftOut) {
        self.names.push(rest.entries.to_string());
        self.sizes.push(rest.size);
        self.layers.push(0);
        self.kinds.push(REST);
        self.unopened.push(rest.unopened);
    }

    fn json(&self, is_traced: bool) -> Value {
        json!({
            "names": self.names.join("/"),
            "sizes": self.sizes,
            "layers": self.layers,
            "kinds": self.kinds,
            "unopened": is_traced.then_some(&self.unopened),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stratafs::chunk::{ChunkPool, ContentBuilder};
    use stratafs::image::Reference;
    use stratafs::layer::LayerBuilder;
    use stratafs::meta::Meta;
    use stratafs::name::LayerPath;
    use stratafs::store::{LayerOrigin, Store};

    /// The entries of an image with these files.
    fn entries(files: &[(String, usize)]) -> Vec<AnalyzedEntry> {
        let (dir, pool) = (tempfile::tempdir().unwrap(), ChunkPool::new());
        let mut layer = LayerBuilder::new();
        for (path, size) in files {
            let content = ContentBuilder::of(&pool, &vec![7; *size]);
            let path = LayerPath::parse(path.as_bytes()).unwrap();
            layer.file(&path, Meta::with_mode(0o644), content).unwrap();
        }
        let store = Store::open(&dir.path().join("store")).unwrap();
        let mut import = store.import().unwrap();
        import.layer(layer.finish().unwrap(), LayerOrigin::new());
        import.commit(Default::default(), Some("a:1")).unwrap();
        let reference: Reference = "a:1".parse().unwrap();
        stratafs::transfer::analyze(&store, &reference)
            .unwrap()
            .entries
    }

    #[test]
    fn columns_hold_the_tree_parents_first() {
        let files = [("d/small", 1), ("d/large", 100), ("top", 50)];
        let files = files.map(|(path, size)| (path.to_owned(), size));
        let json = TreeData::new(&entries(&files), None, 1 << 20).json();
        assert_eq!(json["names"], "/d/large/small/top");
        assert_eq!(json["sizes"], json!([0, 0, 100, 1, 50]));
        assert_eq!(json["kinds"], json!([2, 2, FILE, FILE, FILE]));
        assert_eq!(json["unopened"], Value::Null);
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let files: Vec<_> = (0..300)
            .map(|number| (format!("d{}/file-{number:<<60}", number % 7), number))
            .collect();
        let entries = entries(&files);
        for max in [0, 100, 1000, 5000, 20_000] {
            let tree = TreeData::new(&entries, None, max);
            let json = tree.json();
            let text = json.to_string().replace('<', "\\u003c");
            assert!(text.len() <= max + 200, "{max}: {}", text.len());
            let sizes = json["sizes"].as_array().unwrap();
            let sum: u64 = sizes.iter().map(|size| size.as_u64().unwrap()).sum();
            assert_eq!(sum, 300 * 299 / 2, "{max}");
            assert!(tree.left_out > 0, "{max}");
        }
        let whole = TreeData::new(&entries, None, 1 << 20);
        assert_eq!(whole.left_out, 0);
    }
}
