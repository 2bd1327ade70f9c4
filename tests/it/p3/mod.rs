//! WASI 0.3: streams, futures, and every call beside wasmtime-wasi's.

mod streams;
mod versus;

use stratafs::chunk::{ChunkPool, ContentBuilder};
use stratafs::image::Image;
use stratafs::layer::LayerBuilder;
use stratafs::meta::Meta;
use stratafs::name::LayerPath;

/// A base with one file, `data/big.bin`, of more than three chunks.
fn base() -> Image {
    let bytes: Vec<u8> = (0..250_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 9) as u8)
        .collect();
    let mut layer = LayerBuilder::new();
    let path = LayerPath::parse(b"data/big.bin").unwrap();
    let content = ContentBuilder::of(&ChunkPool::new(), &bytes);
    layer.file(&path, Meta::with_mode(0o644), content).unwrap();
    Image::new(&[layer.finish().unwrap()]).unwrap()
}
