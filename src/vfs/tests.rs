//! The first facts about an instance; the wide tests are in `tests/it`.

use std::ops::ControlFlow;

use super::{Access, Descriptor, Follow, Fs, OpenFlags, Rights};
use crate::chunk::{ChunkPool, ContentBuilder};
use crate::errno::Errno;
use crate::image::Image;
use crate::layer::LayerBuilder;
use crate::meta::{FileId, Kind, Meta};
use crate::name::LayerPath;

fn path(text: &str) -> LayerPath {
    LayerPath::parse(text.as_bytes()).unwrap()
}

fn base() -> Image {
    let pool = ChunkPool::new();
    let meta = Meta::with_mode(0o644);
    let mut layer = LayerBuilder::new();
    layer.dir(&path("etc"), meta.clone()).unwrap();
    layer
        .file(
            &path("etc/hosts"),
            meta.clone(),
            ContentBuilder::of(&pool, b"localhost"),
        )
        .unwrap();
    layer
        .hard_link(&path("etc/hosts2"), &path("etc/hosts"))
        .unwrap();
    layer
        .file(
            &path("big"),
            meta.clone(),
            ContentBuilder::of(&pool, &[7; 300_000]),
        )
        .unwrap();
    layer
        .symlink(&path("abs"), meta.clone(), b"/etc/hosts")
        .unwrap();
    layer.symlink(&path("up"), meta, b"../etc").unwrap();
    Image::new(&[layer.finish().unwrap()]).unwrap()
}

fn open(
    dir: &Descriptor,
    path: &str,
    flags: OpenFlags,
    access: Access,
) -> Result<Descriptor, Errno> {
    dir.open_at(Follow::Yes, path.as_bytes(), flags, access)
}

fn names(dir: &Descriptor) -> Vec<String> {
    let mut names = Vec::new();
    dir.read_dir(0, &mut |entry| {
        names.push(String::from_utf8(entry.name.to_vec()).unwrap());
        ControlFlow::Continue(())
    })
    .unwrap();
    names
}

#[test]
fn a_write_is_private_and_copies_one_block() {
    let image = base();
    let (one, two) = (Fs::new(&image), Fs::new(&image));
    let file = open(
        &one.root().unwrap(),
        "big",
        OpenFlags::empty(),
        Access::all(),
    )
    .unwrap();
    assert_eq!(file.write_at(100_000, b"x"), Ok(1));
    assert_eq!(one.usage().private_bytes, 4096);
    let mut buf = [0; 3];
    assert_eq!(file.read_at(99_999, &mut buf), Ok(3));
    assert_eq!(&buf, b"\x07x\x07");
    let other = open(
        &two.root().unwrap(),
        "big",
        OpenFlags::empty(),
        Access::READ,
    )
    .unwrap();
    assert_eq!(other.read_at(99_999, &mut buf), Ok(3));
    assert_eq!(&buf, b"\x07\x07\x07");
    assert_eq!(one.check(), Ok(()));
}

#[test]
fn links_and_dots_stay_inside() {
    let fs = Fs::new(&base());
    let root = fs.root().unwrap();
    let stat = |path: &str| root.stat_at(Follow::Yes, path.as_bytes());
    assert_eq!(stat("abs").map(|stat| stat.size), Ok(9));
    assert_eq!(stat("up"), Err(Errno::NotPermitted));
    assert_eq!(stat("etc/../etc/hosts").map(|stat| stat.nlink), Ok(2));
    assert_eq!(stat("../etc"), Err(Errno::NotPermitted));
    assert_eq!(stat("/etc"), Err(Errno::NotPermitted));
    assert_eq!(stat(""), Err(Errno::NoEntry));
    assert_eq!(stat("etc/hosts/"), Err(Errno::NotDirectory));
    assert_eq!(stat("etc/hosts/.."), Err(Errno::NotDirectory));
    assert_eq!(stat("nope/.."), Err(Errno::NoEntry));
    let etc = fs.preopen(b"/etc", Rights::ReadOnly).unwrap();
    assert_eq!(etc.create_dir_at(b"d"), Err(Errno::NotPermitted));
    assert_eq!(
        etc.stat_at(Follow::Yes, b"../big").map(drop),
        Err(Errno::NotPermitted)
    );
}

#[test]
fn rename_keeps_numbers_and_descriptors() {
    let fs = Fs::new(&base());
    let root = fs.root().unwrap();
    let before = root.stat_at(Follow::No, b"etc").unwrap();
    let etc = open(&root, "etc", OpenFlags::empty(), Access::READ).unwrap();
    root.rename_at(b"etc", &root, b"moved").unwrap();
    let after = root.stat_at(Follow::No, b"moved").unwrap();
    assert_eq!((before.id, before.kind), (after.id, Kind::Dir));
    etc.create_dir_at(b"new").unwrap();
    assert_eq!(
        names(&open(&root, "moved", OpenFlags::empty(), Access::READ).unwrap()),
        ["hosts", "hosts2", "new"]
    );
    assert_eq!(
        root.rename_at(b"moved", &etc, b"new/x"),
        Err(Errno::Invalid)
    );
    assert_ne!(before.id, FileId::ROOT);
    assert_eq!(fs.check(), Ok(()));
}

#[test]
fn an_unlinked_open_file_gives_its_space_back_at_the_end() {
    let fs = Fs::builder(&base()).max_bytes(5000).build();
    let root = fs.root().unwrap();
    let file = open(&root, "f", OpenFlags::CREATE, Access::all()).unwrap();
    assert_eq!(file.write_at(0, &[1; 6000]), Ok(5000));
    assert_eq!(file.append(b"x"), Err(Errno::NoSpace));
    root.unlink_at(b"f").unwrap();
    assert_eq!(file.stat().unwrap().nlink, 0);
    assert_eq!(fs.usage().private_bytes, 5000);
    drop(file);
    assert_eq!((fs.usage().private_bytes, fs.usage().inodes), (0, 0));
    assert_eq!(fs.check(), Ok(()));
}

#[test]
fn the_diff_over_the_base_is_the_instance() {
    let image = base();
    let fs = Fs::new(&image);
    let root = fs.root().unwrap();
    root.rename_at(b"etc", &root, b"moved").unwrap();
    root.unlink_at(b"abs").unwrap();
    root.create_dir_at(b"etc").unwrap();
    open(&root, "etc/new", OpenFlags::CREATE, Access::WRITE)
        .unwrap()
        .write_at(70_000, b"end")
        .unwrap();
    root.link_at(b"moved/hosts", &root, b"third").unwrap();
    let diff = fs.diff(&ChunkPool::new()).unwrap();
    let both = Image::new(&[image.layers()[0].clone(), diff]).unwrap();
    let again = Fs::new(&both);
    let top = again.root().unwrap();
    assert_eq!(names(&top), ["big", "etc", "moved", "third", "up"]);
    assert_eq!(top.stat_at(Follow::No, b"third").unwrap().nlink, 3);
    assert_eq!(top.stat_at(Follow::No, b"etc/new").unwrap().size, 70_003);
    let empty = again.diff(&ChunkPool::new()).unwrap();
    assert_eq!(empty.node_count(), 1);
}
