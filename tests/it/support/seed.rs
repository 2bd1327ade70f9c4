//! The tree that a run of the reference model starts from: layers applied one
//! after the other, and what the generator asks of the present state.

use stratafs::meta::Kind;
use stratafs::vfs::Quota;

use super::charge::File;
use super::generator::Lookout;
use super::ops::{ROOT, Slot};
use super::reference::{Body, Id, Model, Node, TOP};
use super::rng::Rng;
use super::tree::{Entry, What, pattern};

impl Model {
    /// The tree of a stack of layers, bottom first.
    pub fn over(layers: &[Vec<Entry>], quota: Quota) -> Self {
        let mut model = Self::new(quota);
        for lines in layers {
            model.add_layer(lines);
        }
        model
    }

    fn add_layer(&mut self, lines: &[Entry]) {
        // What a hard link of this layer to a lower one means is settled by
        // what the lower ones hold.
        let lower: Vec<Option<Id>> = lines
            .iter()
            .map(|line| match &line.what {
                What::Hard(target) if !lines.iter().any(|other| other.path == *target) => {
                    self.look_up(target)
                }
                _ => None,
            })
            .collect();
        for line in lines {
            match line.what {
                What::Whiteout => {
                    let dir = self.implied(&line.path);
                    self.drop_tree(dir, last_name(&line.path));
                }
                What::Opaque => {
                    let dir = self.implied(&line.path);
                    self.drop_tree(dir, last_name(&line.path));
                    self.implied(&[&line.path[..], b"/x"].concat());
                }
                _ => {}
            }
        }
        for (line, lower) in lines.iter().zip(lower) {
            self.add_line(line, lower);
        }
    }

    fn add_line(&mut self, line: &Entry, lower: Option<Id>) {
        let body = match &line.what {
            What::Whiteout | What::Opaque => return,
            What::Dir => {
                let dir = self.implied(&[&line.path[..], b"/x"].concat());
                self.nodes[dir].mode = line.mode;
                self.nodes[dir].times = [line.mtime; 3];
                return;
            }
            What::Hard(target) => {
                let node = lower
                    .or_else(|| self.look_up(target))
                    .expect("the target is there");
                let dir = self.implied(&line.path);
                self.nodes[node].nlink += 1;
                self.replace(dir, last_name(&line.path), node);
                return;
            }
            What::Text(text) => Body::File(File::of_layer(text.clone())),
            What::Pattern(len) => Body::File(File::of_layer(pattern(0, *len as usize))),
            What::Hole(len) => Body::File(File::of_layer(vec![0; *len as usize])),
            What::Symlink(target) => Body::Symlink(target.clone()),
        };
        let dir = self.implied(&line.path);
        let mut node = Node::new(body, line.mode);
        node.times = [line.mtime; 3];
        self.nodes.push(node);
        self.replace(dir, last_name(&line.path), self.nodes.len() - 1);
    }

    /// The directory above `path`; what is not there or no directory is made.
    fn implied(&mut self, path: &[u8]) -> Id {
        let mut names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        names.pop();
        let mut at = TOP;
        for name in names {
            let found = self.find(at, name).ok().flatten();
            at = match found.filter(|node| matches!(self.nodes[*node].body, Body::Dir(_))) {
                Some(dir) => dir,
                None => {
                    self.nodes.push(Node::new(Body::empty_dir(at), 0o755));
                    let dir = self.nodes.len() - 1;
                    self.replace(at, name, dir);
                    dir
                }
            };
        }
        at
    }

    fn look_up(&self, path: &[u8]) -> Option<Id> {
        path.split(|byte| *byte == b'/')
            .try_fold(TOP, |at, name| self.find(at, name).ok().flatten())
    }

    fn replace(&mut self, dir: Id, name: &[u8], node: Id) {
        self.drop_tree(dir, name);
        self.untimed(dir, |model| model.attach(dir, name, node));
    }

    /// Takes out what is at `name`, with everything below it.
    fn drop_tree(&mut self, dir: Id, name: &[u8]) {
        let Some(node) = self.find(dir, name).ok().flatten() else {
            return;
        };
        for below in self.names(node) {
            self.drop_tree(node, &below);
        }
        self.untimed(dir, |model| model.detach(dir, name));
        self.nodes[node].nlink = self.nodes[node].nlink.saturating_sub(1);
    }

    /// Layers set times themselves: an entry does not change its directory's.
    fn untimed(&mut self, dir: Id, change: impl FnOnce(&mut Self)) {
        let times = self.nodes[dir].times;
        change(self);
        self.nodes[dir].times = times;
    }

    fn names(&self, dir: Id) -> Vec<Vec<u8>> {
        match &self.nodes[dir].body {
            Body::Dir(dir) => dir.entries.keys().cloned().collect(),
            Body::File(_) | Body::Symlink(_) => Vec::new(),
        }
    }

    /// Everything below the root: path and object, sorted by path.
    pub fn walk_all(&self) -> Vec<(Vec<u8>, Id)> {
        let mut found = vec![(Vec::new(), TOP)];
        let mut at = 0;
        while let Some((path, node)) = found.get(at).cloned() {
            for name in self.names(node) {
                let below = self.find(node, &name).ok().flatten().expect("it is listed");
                let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
                found.push(([&path[..], slash, &name].concat(), below));
            }
            at += 1;
        }
        found.sort();
        found
    }

    /// The paths of all files.
    pub fn files(&self) -> Vec<Vec<u8>> {
        let all = self.walk_all().into_iter();
        all.filter(|(_, node)| matches!(self.nodes[*node].body, Body::File(_)))
            .map(|(path, _)| path)
            .collect()
    }
}

fn last_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

impl Lookout for Model {
    fn some_path(&self, slot: Slot, rng: &mut Rng) -> Option<Vec<u8>> {
        let mut at = self.handle(slot).or_else(|_| self.handle(ROOT)).ok()?.node;
        let mut path: Option<Vec<u8>> = None;
        while let Body::Dir(dir) = &self.nodes[at].body {
            if dir.entries.is_empty() || (path.is_some() && rng.one_in(3)) {
                break;
            }
            let (name, (node, _)) = dir.entries.iter().nth(rng.below(dir.entries.len()))?;
            path = Some(match path {
                Some(path) => [&path[..], b"/", name].concat(),
                None => name.clone(),
            });
            at = *node;
        }
        path
    }

    fn kind(&self, slot: Slot) -> Option<Kind> {
        Some(self.kind_of(self.handle(slot).ok()?.node))
    }

    fn size(&self, slot: Slot) -> u64 {
        match self
            .handle(slot)
            .map(|handle| &self.nodes[handle.node].body)
        {
            Ok(Body::File(file)) => file.bytes.len() as u64,
            _ => 0,
        }
    }
}
