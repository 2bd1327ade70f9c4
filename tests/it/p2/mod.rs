//! WASI 0.2: the traits that components' imports are bound to, sync and async.

#[cfg(feature = "runner")]
mod bounds;
mod component;
mod files;
mod guest;
mod hosts;
mod late;
mod names;
#[cfg(all(feature = "runner", target_os = "linux"))]
mod soak;
mod versus;

use stratafs::chunk::{ChunkPool, ContentBuilder};
use stratafs::image::Image;
use stratafs::layer::LayerBuilder;
use stratafs::meta::{Meta, Time};
use stratafs::name::LayerPath;

/// A path of a layer.
fn at(path: &str) -> LayerPath {
    LayerPath::parse(path.as_bytes()).unwrap()
}

/// The bytes of `big`: more than three chunks, none like another.
fn big() -> Vec<u8> {
    (0..200_000u32)
        .flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 8).to_le_bytes())
        .take(200_000)
        .collect()
}

/// One layer with what these tests need:
///
/// ```text
/// f "hello"   hl = f   big   d/g "inside"   d/e/   e/
/// lf -> f   ld -> d   abs -> /d/g   up -> ../x   gone -> nope   loop -> loop
/// ```
fn base() -> Image {
    let pool = ChunkPool::new();
    let mut layer = LayerBuilder::new();
    let file = Meta::with_mode(0o644).at(Time::new(1_000, 7));
    for (path, bytes) in [("f", &b"hello"[..]), ("big", &big()), ("d/g", b"inside")] {
        layer
            .file(&at(path), file.clone(), ContentBuilder::of(&pool, bytes))
            .unwrap();
    }
    layer.hard_link(&at("hl"), &at("f")).unwrap();
    for path in ["d", "d/e", "e"] {
        layer.dir(&at(path), Meta::with_mode(0o755)).unwrap();
    }
    let links = [
        ("lf", "f"),
        ("ld", "d"),
        ("abs", "/d/g"),
        ("up", "../x"),
        ("gone", "nope"),
        ("loop", "loop"),
    ];
    for (path, target) in links {
        layer
            .symlink(&at(path), Meta::with_mode(0o777), target.as_bytes())
            .unwrap();
    }
    Image::new(&[layer.finish().unwrap()]).unwrap()
}
