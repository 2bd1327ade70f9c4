//! Stacks of layers as one tree, from outside.

use std::collections::BTreeMap;

use stratafs::chunk::{ChunkPool, Content, ContentBuilder};
use stratafs::image::{Image, ImageError};
use stratafs::layer::{EntryBody, Layer, LayerBuilder, LayerError};
use stratafs::limits::{MAX_LAYER_DEPTH, MAX_LAYERS};
use stratafs::meta::{Kind, Meta};
use stratafs::name::{LayerPath, Name};

fn path(text: &str) -> LayerPath {
    LayerPath::parse(text.as_bytes()).unwrap()
}

fn file(builder: &mut LayerBuilder, at: &str) {
    let meta = Meta::with_mode(0o644);
    builder.file(&path(at), meta, Content::empty()).unwrap();
}

/// What a stack makes, by the plainest means: each layer applied to a map of
/// paths, the lowest first.
#[derive(Clone, Default)]
struct Model {
    /// In the order of a walk.
    entries: BTreeMap<Vec<Name>, Thing>,
    objects: Vec<(Meta, Leaf)>,
    root: Option<Meta>,
}

#[derive(Clone)]
enum Thing {
    Dir(Meta),
    Object(usize),
}

#[derive(Clone)]
enum Leaf {
    File(Content),
    Symlink(Vec<u8>),
}

impl Model {
    fn of(layers: &[Layer]) -> Result<Self, usize> {
        let mut model = Self::default();
        for (at, layer) in layers.iter().enumerate() {
            model = model.under(layer).ok_or(at)?;
        }
        Ok(model)
    }

    /// Applies a layer: `None` if a hard link leads nowhere.
    fn under(&self, layer: &Layer) -> Option<Self> {
        let mut over = self.clone();
        let mut numbers = BTreeMap::new();
        for entry in layer.entries() {
            let at = entry.path.names().to_vec();
            let mut object = |over: &mut Self, number: u32, meta: &Meta, leaf: Leaf| {
                let object = *numbers.entry(number).or_insert(over.objects.len());
                if object == over.objects.len() {
                    over.objects.push((meta.clone(), leaf));
                }
                over.put(&at, Thing::Object(object));
            };
            match entry.body {
                EntryBody::Dir { meta, opaque } => over.dir(&at, meta, opaque),
                EntryBody::Whiteout => over.remove(&at),
                EntryBody::File {
                    meta,
                    content,
                    object: number,
                    ..
                } => {
                    object(&mut over, number, meta, Leaf::File(content.clone()));
                }
                EntryBody::Symlink {
                    meta,
                    target,
                    object: number,
                    ..
                } => {
                    object(&mut over, number, meta, Leaf::Symlink(target.to_vec()));
                }
                EntryBody::LowerLink { target } => match self.entries.get(target.names()) {
                    Some(Thing::Object(object)) => over.put(&at, Thing::Object(*object)),
                    Some(Thing::Dir(_)) | None => return None,
                },
            }
        }
        Some(over)
    }

    fn dir(&mut self, at: &[Name], meta: Option<&Meta>, opaque: bool) {
        if opaque {
            self.remove(at);
        }
        if at.is_empty() {
            let kept = self.root.take().filter(|_| !opaque);
            self.root = meta.cloned().or(kept);
            return;
        }
        match (self.entries.get(at), meta) {
            (Some(Thing::Dir(_)), None) => {}
            (Some(Thing::Dir(_)), Some(meta)) => {
                self.entries.insert(at.to_vec(), Thing::Dir(meta.clone()));
            }
            (Some(Thing::Object(_)) | None, meta) => {
                let meta = meta.cloned().unwrap_or(Meta::with_mode(0o755));
                self.entries.insert(at.to_vec(), Thing::Dir(meta));
            }
        }
    }

    fn put(&mut self, at: &[Name], thing: Thing) {
        self.remove(at);
        self.entries.insert(at.to_vec(), thing);
    }

    fn remove(&mut self, at: &[Name]) {
        self.entries.retain(|path, _| !path.starts_with(at));
    }

    /// The tree as one layer that hides and implies nothing.
    fn layer(&self) -> Layer {
        let mut builder = Layer::builder();
        let root = self.root.clone().unwrap_or(Meta::with_mode(0o755));
        builder.dir(&LayerPath::root(), root).unwrap();
        let mut first: BTreeMap<usize, LayerPath> = BTreeMap::new();
        for (at, thing) in &self.entries {
            let at = LayerPath::from(at.clone());
            match thing {
                Thing::Dir(meta) => builder.dir(&at, meta.clone()),
                Thing::Object(object) if first.contains_key(object) => {
                    builder.hard_link(&at, &first[object])
                }
                Thing::Object(object) => {
                    first.insert(*object, at.clone());
                    let (meta, leaf) = self.objects[*object].clone();
                    match leaf {
                        Leaf::File(content) => builder.file(&at, meta, content),
                        Leaf::Symlink(target) => builder.symlink(&at, meta, &target),
                    }
                }
            }
            .unwrap();
        }
        builder.finish().unwrap()
    }

    /// Holds an image of the same stack against the model.
    fn check(&self, image: &Image, case: &str) {
        let flat = self.layer();
        assert_eq!(image.digest(), flat.digest(), "{case}: {flat:?}");
        assert_eq!(image.verify(), Ok(flat.digest()), "{case}");
        let again = Image::new(&[flat]).unwrap();
        let (stats, others) = (image.stats(), again.stats());
        assert_eq!(
            (
                stats.files,
                stats.dirs,
                stats.symlinks,
                stats.logical_bytes,
                stats.stored_bytes
            ),
            (
                others.files,
                others.dirs,
                others.symlinks,
                others.logical_bytes,
                others.stored_bytes
            ),
            "{case}"
        );
        for (at, thing) in &self.entries {
            let at = LayerPath::from(at.clone());
            let found = image.locate(&at).unwrap().stat;
            assert_eq!(found, again.locate(&at).unwrap().stat, "{case}: {at}");
            assert_eq!(found.kind == Kind::Dir, matches!(thing, Thing::Dir(_)));
        }
    }
}

/// SplitMix64: the same numbers from the same seed everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn path(&mut self) -> LayerPath {
        let depth = 1 + self.below(3);
        let names: Vec<_> = (0..depth)
            .map(|_| ["a", "b", "c"][self.below(3) as usize])
            .collect();
        path(&names.join("/"))
    }

    fn entry(&mut self, pool: &ChunkPool) -> Entry {
        let (at, number) = (self.path(), self.below(8));
        let meta = Meta::with_mode(0o700 + u32::try_from(number).unwrap());
        match self.below(16) {
            0..4 => Entry::File(at, meta, ContentBuilder::of(pool, &[number as u8])),
            4..6 => Entry::Symlink(at, meta, number),
            6..8 => Entry::Dir(at, meta),
            8..11 => Entry::Link(at, self.path()),
            11..14 => Entry::Whiteout(at),
            14 => Entry::Opaque(at),
            _ if number == 0 => Entry::Opaque(LayerPath::root()),
            _ => Entry::Dir(LayerPath::root(), meta),
        }
    }

    /// A layer of a few entries; those that do not fit are left out.
    fn layer(&mut self, pool: &ChunkPool) -> Layer {
        let mut entries = Vec::new();
        let mut layer = Layer::builder().finish().unwrap();
        for _ in 0..self.below(9) {
            entries.push(self.entry(pool));
            match build(&entries) {
                Ok(built) => layer = built,
                Err(_) => drop(entries.pop()),
            }
        }
        layer
    }
}

#[derive(Clone)]
enum Entry {
    File(LayerPath, Meta, Content),
    Symlink(LayerPath, Meta, u64),
    Dir(LayerPath, Meta),
    Link(LayerPath, LayerPath),
    Whiteout(LayerPath),
    Opaque(LayerPath),
}

fn build(entries: &[Entry]) -> Result<Layer, LayerError> {
    let mut builder = Layer::builder();
    for entry in entries.iter().cloned() {
        match entry {
            Entry::File(at, meta, content) => builder.file(&at, meta, content)?,
            Entry::Symlink(at, meta, to) => {
                builder.symlink(&at, meta, to.to_string().as_bytes())?
            }
            Entry::Dir(at, meta) => builder.dir(&at, meta)?,
            Entry::Link(at, to) => builder.hard_link(&at, &to)?,
            Entry::Whiteout(at) => builder.whiteout(&at)?,
            Entry::Opaque(at) => builder.opaque(&at)?,
        }
    }
    builder.finish()
}

#[test]
fn random_stacks_equal_the_model() {
    let pool = ChunkPool::new();
    let (mut whole, mut broken) = (0, 0);
    for seed in 0..6000 {
        let mut random = Random(seed);
        let layers: Vec<_> = (0..=random.below(6)).map(|_| random.layer(&pool)).collect();
        match (Model::of(&layers), Image::new(&layers)) {
            (Ok(model), Ok(image)) => {
                model.check(&image, &format!("seed {seed}"));
                whole += 1;
            }
            (
                Err(at),
                Err(
                    ImageError::LinkToMissing { layer, .. }
                    | ImageError::LinkToDirectory { layer, .. },
                ),
            ) => {
                assert_eq!(at, layer, "seed {seed}");
                broken += 1;
            }
            (model, image) => panic!("seed {seed}: {:?}, {image:?}", model.map(|_| ())),
        }
    }
    assert!(
        whole > 1000 && broken > 1000,
        "{whole} whole, {broken} broken"
    );
}

#[test]
fn case_97_towers_of_opaque_directories_and_whiteouts() {
    let deep: Vec<_> = (0..128).map(|depth| format!("d{depth}")).collect();
    let pool = ChunkPool::new();
    let layers: Vec<_> = (0..500)
        .map(|at| {
            let mut builder = Layer::builder();
            let here = deep[..1 + at * 37 % 128].join("/");
            let content = ContentBuilder::of(&pool, at.to_string().as_bytes());
            let meta = || Meta::with_mode(0o755);
            builder
                .file(&path(&format!("{here}/f{at}")), meta(), content)
                .unwrap();
            match at % 5 {
                0 => builder.opaque(&path(&here)).unwrap(),
                1 => builder.whiteout(&path(&here)).unwrap(),
                2 => builder
                    .whiteout(&path(&format!("{here}/f{}", at - 1)))
                    .unwrap(),
                3 => builder.dir(&path(&here), Meta::with_mode(0o711)).unwrap(),
                _ => {}
            }
            builder.finish().unwrap()
        })
        .collect();
    for height in [1, 2, 17, 128, 499, 500] {
        let model = Model::of(&layers[..height]).unwrap();
        let image = Image::new(&layers[..height]).unwrap();
        assert_eq!(image.stats().layers, height);
        model.check(&image, &format!("{height} layers"));
    }
}

#[test]
fn the_stack_is_bounded() {
    let layer = Layer::builder().finish().unwrap();
    let image = Image::new(&vec![layer.clone(); MAX_LAYERS]).unwrap();
    assert_eq!(image.stats().layers, MAX_LAYERS);
    let error = Image::new(&vec![layer; MAX_LAYERS + 1]).unwrap_err();
    assert_eq!(
        error,
        ImageError::TooManyLayers {
            count: MAX_LAYERS + 1
        }
    );
    assert!(error.to_string().contains("4097 layers"));
}

#[test]
fn case_p29_the_deepest_tree_needs_no_stack() {
    let run = || {
        let at = format!("{}leaf", "d/".repeat(MAX_LAYER_DEPTH - 1));
        let mut lower = Layer::builder();
        file(&mut lower, &at);
        let mut upper = Layer::builder();
        upper.hard_link(&path("near"), &path(&at)).unwrap();
        upper
            .dir(&path(&"d/".repeat(MAX_LAYER_DEPTH)), Meta::with_mode(0o700))
            .unwrap();
        let layers = [lower.finish().unwrap(), upper.finish().unwrap()];
        let image = Image::new(&layers).unwrap();
        assert_eq!(image.locate(&path(&at)).unwrap().stat.nlink, 2);
        assert_eq!(image.stats().dirs, 1 + MAX_LAYER_DEPTH as u64);
        assert_eq!(image.verify(), Ok(image.digest()));
    };
    let small = std::thread::Builder::new().stack_size(128 * 1024);
    small.spawn(run).unwrap().join().unwrap();
}

#[test]
fn case_c1_36_a_million_names_in_one_directory() {
    let mut builder = Layer::builder();
    for number in 0..1_000_000 {
        file(&mut builder, &format!("d/{number}"));
    }
    let layer = builder.finish().unwrap();
    let image = Image::new(&[layer]).unwrap();
    for number in (0..1_000_000).step_by(997) {
        assert!(image.locate(&path(&format!("d/{number}"))).is_some());
    }
    assert!(image.locate(&path("d/1000000")).is_none());
}
