//! What a diff takes and tells.

use super::{Access, Follow, Fs, OpenFlags, SetTime};
use crate::chunk::{ChunkPool, ContentBuilder};
use crate::image::Image;
use crate::layer::{EntryBody, Layer};
use crate::meta::{Meta, Time};
use crate::name::LayerPath;
use crate::steps::{assert_linear, counted};

fn path(text: &str) -> LayerPath {
    LayerPath::parse(text.as_bytes()).unwrap()
}

/// A base with `count` files in a directory, each with a further name in
/// another one.
fn linked(count: usize) -> Fs {
    let pool = ChunkPool::new();
    let mut layer = Layer::builder();
    for number in 0..count {
        let (first, more) = (
            path(&format!("one/{number}")),
            path(&format!("two/{number}")),
        );
        let content = ContentBuilder::of(&pool, number.to_string().as_bytes());
        layer.file(&first, Meta::with_mode(0o644), content).unwrap();
        layer.hard_link(&more, &first).unwrap();
    }
    Fs::new(&Image::new(&[layer.finish().unwrap()]).unwrap())
}

/// The steps of a diff and of a whole tree.
fn steps_of(fs: &Fs) -> [u64; 2] {
    let pool = ChunkPool::new();
    // What is found out about an image once, is before.
    fs.diff(&pool).unwrap();
    let diff = counted(|| drop(fs.diff(&pool).unwrap()));
    [diff, counted(|| drop(fs.tree(b"/", &pool).unwrap()))]
}

fn each_is_linear(size: usize, steps: impl Fn(usize) -> [u64; 2]) {
    for which in 0..2 {
        assert_linear(size, |size| steps(size)[which]);
    }
}

#[test]
fn a_diff_takes_steps_for_what_changed() {
    each_is_linear(500, |count| {
        let fs = linked(count);
        (0..count).for_each(|number| fs.write(format!("/one/{number}"), "new").unwrap());
        steps_of(&fs)
    });
    each_is_linear(500, |count| {
        let fs = linked(count);
        for number in 0..count {
            fs.remove_file(format!("/one/{number}")).unwrap();
        }
        steps_of(&fs)
    });
    // Files that did not change are told for their names in a moved tree.
    each_is_linear(500, |count| {
        let fs = linked(count);
        fs.rename("/one", "/three").unwrap();
        steps_of(&fs)
    });
}

#[test]
fn a_file_that_lost_a_name_or_got_its_times_back_is_not_told() {
    let fs = linked(1);
    let (image, before) = (fs.image().clone(), fs.metadata("/two/0").unwrap());
    fs.remove_file("/one/0").unwrap();
    let pool = ChunkPool::new();
    let layer = fs.diff(&pool).unwrap();
    assert!(pool.is_empty(), "{layer:?}");
    let layers = [image.layers(), &[layer]].concat();
    let again = Fs::new(&Image::new(&layers).unwrap());
    assert_eq!(again.read("/two/0").unwrap(), b"0");
    assert_eq!(again.metadata("/two/0").unwrap().nlink, 1);
    assert!(again.metadata("/one/0").is_err());
    // What a layer says of it tells it, and its directory.
    let times = |mtime| {
        let root = fs.root().unwrap();
        let (atime, mtime) = (SetTime::Keep, SetTime::To(mtime));
        root.set_times_at(Follow::No, b"two/0", atime, mtime)
            .unwrap();
    };
    let told = fs.diff(&pool).unwrap().node_count();
    times(Time::new(1, 1));
    assert_eq!(fs.diff(&pool).unwrap().node_count(), told + 2);
    times(before.mtime);
    assert_eq!(fs.diff(&pool).unwrap().node_count(), told);
    fs.write("/two/0", "1").unwrap();
    times(before.mtime);
    assert_eq!(fs.diff(&pool).unwrap().node_count(), told + 2);
}

#[test]
fn a_file_that_keeps_a_name_of_the_base_moves_without_a_byte() {
    let reads = |fs: &Fs, layer: Layer| {
        let layers = [fs.image().layers(), &[layer]].concat();
        Fs::new(&Image::new(&layers).unwrap())
    };
    let fs = linked(2);
    fs.rename("/one/0", "/new").unwrap();
    fs.hard_link("/one/1", "/more").unwrap();
    let pool = ChunkPool::new();
    let layer = fs.diff(&pool).unwrap();
    let has_files = |layer: &Layer| {
        let mut entries = layer.entries();
        entries.any(|entry| matches!(entry.body, EntryBody::File { .. }))
    };
    assert!(!has_files(&layer), "no content is told");
    let again = reads(&fs, layer);
    for name in ["/new", "/two/0"] {
        assert_eq!(again.read(name).unwrap(), b"0");
        assert_eq!(again.metadata(name).unwrap().nlink, 2);
    }
    assert_eq!(again.metadata("/one/1").unwrap().nlink, 3);
    assert_eq!(
        again.metadata("/new").unwrap().id,
        again.metadata("/two/0").unwrap().id
    );
    // A whole tree has no base to link to.
    let tree = fs.tree(b"/", &pool).unwrap();
    let alone = Fs::new(&Image::new(&[tree]).unwrap());
    assert_eq!(alone.read("/new").unwrap(), b"0");
    // Once no name stands, or the bytes are others, they are told.
    let pool = ChunkPool::new();
    fs.rename("/two", "/three").unwrap();
    fs.write("/one/1", "changed").unwrap();
    let layer = fs.diff(&pool).unwrap();
    assert!(has_files(&layer));
    let again = reads(&fs, layer);
    for (name, text) in [("/new", "0"), ("/three/0", "0"), ("/more", "changed")] {
        assert_eq!(again.read(name).unwrap(), text.as_bytes(), "{name}");
    }
    assert_eq!(again.metadata("/new").unwrap().nlink, 2);
    assert_eq!(again.metadata("/more").unwrap().nlink, 3);
}

#[test]
fn a_diff_of_a_tower_takes_steps_for_the_names_of_its_paths() {
    for levels in [300, 600] {
        let fs = Fs::new(&Image::empty());
        fs.create_dir_all(vec!["d"; levels].join("/")).unwrap();
        let names = (levels * (levels + 1) / 2) as u64;
        for steps in steps_of(&fs) {
            assert!(steps <= 5 * names, "{steps} for {names} names");
        }
    }
}

#[test]
fn a_diff_of_a_sparse_file_takes_steps_for_its_blocks() {
    let steps = |blocks: u64, apart: u64| {
        let fs = Fs::new(&Image::empty());
        let root = fs.root().unwrap();
        let access = Access::READ | Access::WRITE;
        let file = root.open_at(Follow::Yes, b"f", OpenFlags::CREATE, access);
        let file = file.unwrap();
        for number in 0..blocks {
            file.write_at(b"x", number * apart).unwrap();
        }
        steps_of(&fs)
    };
    each_is_linear(300, |blocks| steps(blocks as u64, 1 << 20));
    assert_eq!(steps(100, 1 << 20), steps(100, 1 << 30));
}
