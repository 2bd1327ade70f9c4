//! Small stores to test with.

use std::collections::BTreeMap;

use stratafs::chunk::{ChunkPool, ContentBuilder};
use stratafs::image::{Image, ImageConfig, ImageId};
use stratafs::layer::{Layer, LayerBuilder};
use stratafs::meta::{Meta, Time};
use stratafs::name::LayerPath;
use stratafs::store::{LayerOrigin, Store, StoreError};
use stratafs::vfs::Fs;

pub fn path(text: &str) -> LayerPath {
    LayerPath::parse(text.as_bytes()).unwrap()
}

/// Bytes that do not repeat, told apart by `seed`.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// A layer with everything that a layer can have.
pub fn lower(pool: &ChunkPool) -> Layer {
    let xattrs = vec![
        (Box::from(&b"user.a"[..]), Box::from(&b"1"[..])),
        (Box::from(&b"user.empty"[..]), Box::from(&b""[..])),
    ];
    let odd = Meta {
        uid: 1000,
        gid: u32::MAX,
        xattrs: Some(xattrs.into()),
        ..Meta::with_mode(0o4755).at(Time::new(-5, 999_999_999))
    };
    let mut layer = LayerBuilder::new();
    layer.dir(&path("/"), Meta::with_mode(0o711)).unwrap();
    layer.dir(&path("etc"), odd.clone()).unwrap();
    let file = |layer: &mut LayerBuilder, at: &str, bytes: &[u8]| {
        let content = ContentBuilder::of(pool, bytes);
        layer.file(&path(at), odd.clone(), content).unwrap();
    };
    file(&mut layer, "etc/motd", b"hello");
    file(&mut layer, "etc/empty", b"");
    file(&mut layer, "lib/large", &noise(1, 30_000));
    file(&mut layer, "lib/gone", b"x");
    layer
        .hard_link(&path("lib/link"), &path("lib/large"))
        .unwrap();
    layer
        .symlink(&path("lib/to"), odd.clone(), b"../etc/motd")
        .unwrap();
    let mut sparse = ContentBuilder::new(pool);
    sparse.hole(1 << 30);
    sparse.write(b"end");
    layer
        .file(&path("sparse"), Meta::with_mode(0o600), sparse.finish())
        .unwrap();
    layer.finish().unwrap()
}

/// A layer that hides and links what [`lower`] has.
pub fn upper(pool: &ChunkPool) -> Layer {
    let mut layer = LayerBuilder::new();
    layer.whiteout(&path("lib/gone")).unwrap();
    layer
        .hard_link(&path("usr/motd"), &path("etc/motd"))
        .unwrap();
    layer.opaque(&path("usr")).unwrap();
    let mut large = noise(1, 30_000);
    large[15_000] ^= 1;
    let content = ContentBuilder::of(pool, &large);
    layer
        .file(&path("usr/large"), Meta::with_mode(0o644), content)
        .unwrap();
    layer.finish().unwrap()
}

/// Puts one image of [`lower`] alone in.
pub fn put(store: &Store, tag: &str) -> Result<ImageId, StoreError> {
    let mut import = store.import()?;
    let layer = lower(import.pool());
    import.layer(layer, LayerOrigin::new());
    import.commit(ImageConfig::new(), Some(tag))
}

/// Puts an image of one file in.
pub fn put_file(store: &Store, tag: &str, bytes: &[u8]) -> Result<ImageId, StoreError> {
    let mut import = store.import()?;
    let mut layer = Layer::builder();
    let content = ContentBuilder::of(import.pool(), bytes);
    layer.file(&path("file"), Meta::with_mode(0o644), content)?;
    import.layer(layer.finish()?, LayerOrigin::new());
    import.commit(ImageConfig::new(), Some(tag))
}

/// Reads the one file of [`put_file`].
pub fn get_file(store: &Store, tag: &str) -> Result<Vec<u8>, String> {
    let image = store.image(tag).map_err(|error| error.to_string())?;
    Fs::new(&image)
        .read("/file")
        .map_err(|error| error.to_string())
}

/// All that an instance shows: each path with its facts and bytes.
pub fn shown(image: &Image) -> Result<BTreeMap<String, String>, String> {
    let fs = Fs::new(image);
    let layer = fs
        .tree("/", &ChunkPool::new())
        .map_err(|error| error.to_string())?;
    let mut all = BTreeMap::new();
    for entry in layer.entries() {
        use stratafs::layer::EntryBody;
        let text = match entry.body {
            EntryBody::File {
                meta,
                content,
                links,
                ..
            } => {
                let mut hash = 0_u64;
                for piece in content.pieces() {
                    let (at, bytes) = piece.map_err(|error| error.to_string())?;
                    hash = bytes.iter().fold(hash ^ at, |hash, byte| {
                        hash.wrapping_mul(31).wrapping_add(u64::from(*byte))
                    });
                }
                format!("{meta:?} {} {hash} {links}", content.size())
            }
            other => format!("{other:?}"),
        };
        all.insert(entry.path.to_string(), text);
    }
    Ok(all)
}
