//! What layers make together, seen from inside.

use super::*;
use crate::chunk::{ChunkPool, ContentBuilder};
use crate::image::walk::{ImageStep, ImageWalk};
use crate::layer::LayerBuilder;
use crate::name::{LayerPath, show};
use crate::steps::{assert_linear, counted};

fn path(text: &str) -> LayerPath {
    LayerPath::parse(text.as_bytes()).unwrap()
}

/// Builds layers, the lowest first, `|` between them, from entries with `,`
/// between: `d PATH [MODE]`, `f PATH TEXT`, `s PATH TARGET`, `h PATH TARGET`,
/// `w PATH`, `o PATH`.
fn layers(text: &str) -> Vec<Layer> {
    let pool = ChunkPool::new();
    text.split('|').map(|text| layer(&pool, text)).collect()
}

fn layer(pool: &ChunkPool, text: &str) -> Layer {
    let mut builder = LayerBuilder::new();
    for entry in text.split(',').filter(|entry| !entry.trim().is_empty()) {
        let words: Vec<_> = entry.split_whitespace().collect();
        let (at, rest) = (path(words[1]), words.get(2).copied().unwrap_or(""));
        let meta = Meta::with_mode(u32::from_str_radix(rest, 8).unwrap_or(0o755));
        let content = || ContentBuilder::of(pool, rest.as_bytes());
        match words[0] {
            "d" => builder.dir(&at, meta),
            "f" => builder.file(&at, meta, content()),
            "s" => builder.symlink(&at, meta, rest.as_bytes()),
            "h" => builder.hard_link(&at, &path(rest)),
            "w" => builder.whiteout(&at),
            "o" => builder.opaque(&at),
            other => panic!("{other}?"),
        }
        .unwrap();
    }
    builder.finish().unwrap()
}

pub(super) fn image(text: &str) -> Image {
    Image::new(&layers(text)).unwrap()
}

/// Lists an image: `PATH:dMODE`, `PATH:fTEXT`, `PATH:sTARGET`, and `#NAMES`
/// where an object has several.
fn list(text: &str) -> String {
    listing(&image(text))
}

fn listing(image: &Image) -> String {
    let mut out = Vec::new();
    let mut dirs: Vec<String> = Vec::new();
    for step in ImageWalk::new(image) {
        let (ImageStep::Enter(entry) | ImageStep::Leaf(entry)) = step else {
            dirs.pop();
            continue;
        };
        let stat = image.stat(entry.node);
        let what = match entry.kind {
            Kind::Dir => format!("d{:o}", stat.mode),
            Kind::Symlink => format!("s{}", show(image.target(entry.node).unwrap())),
            Kind::File => {
                let mut text = vec![0; usize::try_from(stat.size).unwrap()];
                image
                    .content(entry.node)
                    .unwrap()
                    .read_at(&mut text, 0)
                    .unwrap();
                format!("f{}", show(&text))
            }
        };
        let several = match entry.kind {
            Kind::File | Kind::Symlink if stat.nlink > 1 => format!("#{}", stat.nlink),
            _ => String::new(),
        };
        let above: String = dirs.iter().map(|dir| format!("{dir}/")).collect();
        out.push(format!("{above}{}:{what}{several}", show(entry.name)));
        if entry.kind == Kind::Dir {
            dirs.push(show(entry.name));
        }
    }
    out.join(" ")
}

fn error(text: &str) -> String {
    Image::new(&layers(text)).unwrap_err().to_string()
}

fn find(image: &Image, at: &str) -> Option<Dentry> {
    let root = Dentry {
        slot: 0,
        node: 0,
        kind: Kind::Dir,
    };
    let mut names = at.split('/');
    names.try_fold(root, |at, name| image.lookup(at.node, name.as_bytes()))
}

#[test]
fn no_layers_make_an_empty_root() {
    for image in [Image::empty(), Image::new(&[]).unwrap()] {
        assert_eq!((image.nodes(), image.parent(0)), (1, 0));
        let stat = image.stat(0);
        assert_eq!((stat.kind, stat.mode, stat.nlink), (Kind::Dir, 0o755, 2));
        assert_eq!(image.slots(0), 0..0);
        assert_eq!(image.lookup(0, b"a"), None);
        assert_eq!(image.digest(), Image::empty().digest());
    }
}

#[test]
fn case_p04_whiteouts_of_the_lowest_layer_are_dropped() {
    assert_eq!(list("w a,f b x"), "b:fx");
    assert_eq!(list("w d/a,o e,d d 700"), "d:d700 e:d755");
    assert_eq!(list("|w a,f b x"), "b:fx");
}

#[test]
fn case_c1_23_whiteouts_hide_lower_layers_only() {
    assert_eq!(list("f a x,f b y|w a"), "b:fy");
    assert_eq!(list("f a x|w missing/too"), "a:fx missing:d755");
    assert_eq!(list("f a x|w a,f a y"), "a:fy");
    assert_eq!(list("f a/x 1,d a 700|w a,d a 711"), "a:d711");
    assert_eq!(list("f a x|w a|f a y"), "a:fy");
    assert_eq!(list("f d/x 1|w d|f d/y 2"), "d:d755 d/y:f2");
}

#[test]
fn opaque_directories_hide_what_is_below_them() {
    assert_eq!(list("f a/x 1,d a 700|d a 711,o a,f a/y 2"), "a:d711 a/y:f2");
    assert_eq!(
        list("f a/b/x 1|f a/b/y 2|o a/b,f a/b/z 3|f a/b/u 4"),
        "a:d755 a/b:d755 a/b/u:f4 a/b/z:f3"
    );
    assert_eq!(list("f a 1,d d 700|d / 500,o /,f b 2"), "b:f2");
    let image = image("d / 700|d / 711,o /|f b 2");
    assert_eq!(image.stat(0).mode, 0o711);
}

#[test]
fn case_c1_18_kinds_replace_one_another() {
    assert_eq!(list("f a/b x|f a y"), "a:fy");
    assert_eq!(list("f a x|d a 700,f a/b y"), "a:d700 a/b:fy");
    assert_eq!(list("s a t|f a x"), "a:fx");
    assert_eq!(list("f a x|s a t"), "a:st");
    assert_eq!(list("f a/old x|f a mid|f a/new y"), "a:d755 a/new:fy");
    assert_eq!(list("f a/old x|w a|f a/new y"), "a:d755 a/new:fy");
}

#[test]
fn case_c1_08_a_directory_over_a_link_leaves_its_target_alone() {
    assert_eq!(
        list("d t 700,f t/x 1,s l t|d l 711,f l/y 2"),
        "l:d711 l/y:f2 t:d700 t/x:f1"
    );
}

#[test]
fn an_implied_directory_keeps_the_lower_metadata() {
    assert_eq!(list("d a 700|f a/y 2"), "a:d700 a/y:f2");
    assert_eq!(list("d a 700|f a/y 2|d a 711|f a/z 3|f a/u 4"), {
        "a:d711 a/u:f4 a/y:f2 a/z:f3"
    });
    assert_eq!(list("d a 700|f a x|f a/y 2"), "a:d755 a/y:f2");
    assert_eq!(list("d a 700|w a,f a/y 2"), "a:d755 a/y:f2");
    // Over what is no directory it is one of its own.
    assert_eq!(list("s l t,f t/x 1|f l/y 2"), "l:d755 l/y:f2 t:d755 t/x:f1");
    // A whiteout implies it just as an entry does.
    assert_eq!(list("f x 1|w a/b"), "a:d755 x:f1");
    assert_eq!(image("d / 700|f x 1").stat(0).mode, 0o700);
    assert_eq!(image("f x 1").stat(0).mode, 0o755);
}

#[test]
fn case_p06_hard_links_reach_into_lower_layers() {
    assert_eq!(list("f a x|h b a"), "a:fx#2 b:fx#2");
    assert_eq!(list("f a x|h b a|h c b"), "a:fx#3 b:fx#3 c:fx#3");
    assert_eq!(list("f a x|h b a|w a"), "b:fx");
    assert_eq!(list("f a x|h b a|f a y"), "a:fy b:fx");
    assert_eq!(list("f a x|f a y|h b a|f a z"), "a:fz b:fy");
    assert_eq!(list("s l t|h m l"), "l:st#2 m:st#2");
    assert_eq!(list("f d/a x|h d/b d/a,h e d/a"), {
        "d:d755 d/a:fx#3 d/b:fx#3 e:fx#3"
    });
    assert_eq!(list("f a x,h b a|f a y"), "a:fy b:fx");
    let image = image("f a x|h b a|h d/c b");
    let [a, b, c] = ["a", "b", "d/c"].map(|at| find(&image, at).unwrap());
    assert_eq!((a.node, a.node), (b.node, c.node));
    assert_eq!([a, b, c].map(|found| image.origin(found.slot)), [0, 1, 2]);
}

#[test]
fn case_c1_11_links_that_lead_nowhere_are_named() {
    let missing = "no layer below has that path";
    assert_eq!(
        error("|h d/b x/a"),
        format!("layer 1: hard link d/b to x/a: {missing}")
    );
    for text in [
        "h b a",
        "f a x|w a|h b a",
        "f d/a x|o d|h b d/a",
        "f d/a x,s l d|h b l/a",
        "f a x|h b a/c",
        "|h b a|f a x",
        "f x 1|h b a|w b",
    ] {
        assert!(error(text).ends_with(missing), "{text}");
    }
    assert_eq!(
        error("d x/a|h d/b x/a"),
        "layer 1: hard link d/b to x/a: that is a directory"
    );
}

#[test]
fn numbers_and_tables_follow_from_the_tree_alone() {
    let whole = image("d b/c 700,f a 1,f b/x 2,s b/c/l t,h d b/x,f e 3");
    let split = image(
        "f a old,f b/x 2,d b/c 711|w a,d b/c 700,h d b/x,f e/f/g x|f a 1,s b/c/l t,w e,f e 3",
    );
    assert_eq!(whole.digest(), split.digest());
    assert_eq!(listing(&whole), listing(&split));
    for node in 0..whole.nodes() {
        assert_eq!(whole.stat(node), split.stat(node));
        assert_eq!(whole.slots(node), split.slots(node));
    }
    let names: Vec<_> = (0..).map_while(|slot| whole.slot(slot)).collect();
    let others: Vec<_> = (0..).map_while(|slot| split.slot(slot)).collect();
    assert_eq!(names, others);
    let in_order: Vec<_> = names.iter().map(|entry| show(entry.name)).collect();
    assert_eq!(in_order, ["a", "b", "d", "e", "c", "x", "l"]);
    assert_eq!(whole.stat(0).nlink, 3);
}

#[test]
fn every_entry_is_found_and_knows_its_parent() {
    let image = image("f a/b/c 1,f a/b/d 2,f a/e 3,d f|f a/b/c 4,f g 5,f f/h 6");
    for dir in (0..image.nodes()).filter(|node| image.kind(*node) == Kind::Dir) {
        for slot in image.slots(dir) {
            let entry = image.slot(slot).unwrap();
            let found = image.lookup(dir, entry.name).unwrap();
            assert_eq!((found.slot, found.node), (slot, entry.node));
            assert_eq!(found.kind, image.kind(entry.node));
            if entry.kind == Kind::Dir {
                assert_eq!(image.parent(entry.node), dir);
            }
        }
        assert_eq!(image.lookup(dir, b"nothing"), None);
        assert_eq!(image.lookup(dir, b""), None);
    }
}

#[test]
fn numbers_from_elsewhere_are_nothing() {
    let image = image("f a 1,s l t");
    let file = find(&image, "a").unwrap().node;
    for node in [image.nodes(), u32::MAX] {
        assert_eq!((image.kind(node), image.slots(node)), (Kind::Dir, 0..0));
        assert!(image.content(node).is_none() && image.target(node).is_none());
        assert_eq!(image.lookup(node, b"a"), None);
    }
    assert_eq!(image.slots(file), 0..0);
    assert_eq!(image.lookup(file, b"a"), None);
    assert!(image.target(file).is_none());
    assert_eq!(image.slot(u32::MAX), None);
}

#[test]
fn case_99_a_forged_chunk_is_named() {
    let pool = ChunkPool::new();
    let good = layer(&pool, "f d/a good,f b good,f c other");
    let image = Image::new(std::slice::from_ref(&good)).unwrap();
    assert_eq!(image.verify(), Ok(image.digest()));
    let digest = Digest::of(b"wrong");
    let mark_malformed = pool.forge(digest, bytes::Bytes::from_static(b"right"));
    let bad = layer(&pool, "f d/evil wrong");
    let error = Image::new(&[good, bad]).unwrap().verify().unwrap_err();
    drop(mark_malformed);
    let expected = ImageError::WrongChunk {
        path: path("d/evil"),
        offset: 0,
        expected: digest,
        found: Digest::of(b"right"),
    };
    assert_eq!(error, expected);
    assert!(error.to_string().contains(&digest.to_string()));
}

#[test]
fn names_made_to_collide_are_found_all_the_same() {
    // 2,000 entries make 4,096 places: names that all want the same one.
    let collide = |name: &String| table::hash(0, name.as_bytes()) & 4095 == 77;
    let mut names = (0..).map(|number| format!("n{number}")).filter(collide);
    let mut builder = LayerBuilder::new();
    let there: Vec<_> = names.by_ref().take(2000).collect();
    for name in &there {
        let meta = Meta::with_mode(0o644);
        builder.file(&path(name), meta, Content::empty()).unwrap();
    }
    let image = Image::new(&[builder.finish().unwrap()]).unwrap();
    let Index { table, .. } = &image.0.index;
    let full = |name: &&String| table.find(table::hash(0, name.as_bytes()), |_| false);
    let lost = there
        .iter()
        .filter(|name| full(name) == table::TableLookup::Full);
    assert_eq!(lost.count(), 2000, "the names do not collide");
    for name in &there {
        let found = image.lookup(0, name.as_bytes()).unwrap();
        assert_eq!(image.slot(found.slot).unwrap().name, name.as_bytes());
        assert_eq!(image.lookup(found.node, name.as_bytes()), None);
    }
    for name in names.take(100) {
        assert_eq!(image.lookup(0, name.as_bytes()), None);
    }
}

#[test]
fn case_c1_36_names_in_one_directory_merge_in_linear_steps() {
    let image = |names: usize, layers: usize| {
        let mut parts = Vec::new();
        for layer in 0..layers {
            let mut builder = LayerBuilder::new();
            for number in (layer..names).step_by(layers) {
                let at = path(&format!("d/{number}"));
                let meta = Meta::with_mode(0o644);
                builder.file(&at, meta, Content::empty()).unwrap();
            }
            parts.push(builder.finish().unwrap());
        }
        counted(|| {
            let image = Image::new(&parts).unwrap();
            assert_eq!(image.stats().files, names as u64);
        })
    };
    assert_linear(50_000, |names| image(names, 1));
    assert_linear(50_000, |names| image(names, 10));
}

#[test]
fn case_p29_600_layers_look_up_as_one() {
    let name = |at: u32| format!("{}/{}/{at}", at % 7, at % 1000);
    let add = |builder: &mut LayerBuilder, at: u32| {
        let meta = Meta::with_mode(0o644);
        builder
            .file(&path(&name(at)), meta, Content::empty())
            .unwrap();
    };
    let mut whole = LayerBuilder::new();
    let layers: Vec<_> = (0..600u32)
        .map(|layer| {
            let mut builder = LayerBuilder::new();
            for at in (layer..120_000).step_by(600) {
                add(&mut builder, at);
                add(&mut whole, at);
            }
            builder.finish().unwrap()
        })
        .collect();
    let many = Image::new(&layers).unwrap();
    let one = Image::new(&[whole.finish().unwrap()]).unwrap();
    assert_eq!(many.digest(), one.digest());
    assert_eq!(
        many.locate(&path(&name(77_777))).unwrap().layer,
        Some(77_777 % 600)
    );
    for at in (0..120_000).step_by(31) {
        let at = path(&name(at));
        let steps = |image: &Image| counted(|| assert!(image.locate(&at).is_some()));
        assert_eq!(steps(&many), steps(&one), "{at}");
        // Three names, each found in its window of the table.
        assert!((3..=48).contains(&steps(&many)), "{at}");
    }
}
