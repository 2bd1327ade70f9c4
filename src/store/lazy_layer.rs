//! Layers that come in as a table, and later as bytes.

use super::frame_places::FramePlaces;
use super::frame_table::FrameTable;
use super::lazy_pack::LazyPack;
use super::pack_table::ChunkRecord;
use super::record::BlobRecord;
use super::{Blob, Import, StoreError};
use crate::digest::Digest;
use crate::layer::Layer;

/// A layer that is known by its table.
pub(crate) struct LazyLayer<'a> {
    pub(crate) table: &'a FrameTable,
    /// The image that it is of: `HOST/NAME@sha256:HEX`.
    pub(crate) from: &'a str,
    pub(crate) blob: Blob,
    /// Whether its frames are of zstd.
    pub(crate) is_zstd: bool,
}

impl Import {
    /// Makes a layer of its table. `start` gives frames, decompressed, as far as they have come
    /// already; what the store has in other packs is copied; all other chunks are absent.
    pub(crate) fn lazy_layer(
        &mut self,
        lazy: &LazyLayer<'_>,
        start: &mut dyn FnMut(u32) -> Option<Vec<u8>>,
    ) -> Result<Layer, StoreError> {
        let table = lazy.table;
        self.lazy_packs(lazy, start)?;
        let layer = self.packed_layer(&table.entries, table.layer)?;
        let blob = BlobRecord {
            bytes: lazy.blob.bytes,
            content: Digest::from_bytes([0; 32]),
            packs: Vec::new(),
            runs: Vec::new(),
            absent: Some(lazy.from.to_owned()),
        };
        self.keep_absent(lazy.blob.digest, blob);
        Ok(layer)
    }

    /// Makes the packs that the chunks of a table make, unless they are there.
    pub(super) fn lazy_packs(
        &mut self,
        lazy: &LazyLayer<'_>,
        start: &mut dyn FnMut(u32) -> Option<Vec<u8>>,
    ) -> Result<(), StoreError> {
        let disk = self.packs().disk.clone();
        let table = lazy.table;
        for pack in &table.packs {
            let chunks = table.chunks.get(pack.first..pack.first + pack.count);
            let chunks = chunks.unwrap_or_default();
            let records = chunks.iter().map(|chunk| ChunkRecord {
                len: chunk.len.into(),
                digest: *chunk.digest.as_bytes(),
            });
            let records: Vec<ChunkRecord> = records.collect();
            let known = disk.file_in(super::disk::PACKS, &super::pack::file_name(pack.name));
            if disk.is_file(&known) {
                LazyPack::add_home(&disk, pack.name, lazy.blob.digest, lazy.from)?;
            } else {
                let file = LazyPack {
                    homes: vec![lazy.from.to_owned()],
                    blob: lazy.blob.digest,
                    blob_bytes: lazy.blob.bytes,
                    is_zstd: lazy.is_zstd,
                    frames: FramePlaces::new(table.frames.clone()),
                    chunks: chunks
                        .iter()
                        .map(|chunk| (chunk.frame, chunk.place))
                        .collect(),
                };
                let mut frame = (u32::MAX, None);
                let mut fill = |number: usize| {
                    let chunk = chunks.get(number)?;
                    if let Some(bytes) = self.known_chunk(&chunk.digest, chunk.len) {
                        return Some(bytes);
                    }
                    if frame.0 != chunk.frame {
                        frame = (chunk.frame, start(chunk.frame));
                    }
                    let place = chunk.place as usize;
                    let bytes = frame.1.as_ref()?.get(place..place + chunk.len as usize);
                    bytes.map(<[u8]>::to_vec)
                };
                file.make(&disk, &records, &mut fill)?;
            }
            self.take_pack(pack.name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io;
    use std::ops::Range;
    use std::path::Path;
    use std::sync::Arc;

    use super::super::frame_table::{TableChunk, encode};
    use super::super::lazy_pack::FrameSource;
    use super::super::{LayerOrigin, Store};
    use super::*;
    use crate::chunk::{ChunkPool, ContentBuilder};
    use crate::digest::Sha256;
    use crate::image::{Image, ImageConfig, ImageId};
    use crate::layer::LayerBuilder;
    use crate::meta::Meta;
    use crate::name::LayerPath;

    const TRUE: &[u8] = b"what the archive has";
    const FALSE: &[u8] = b"what the table has..";

    /// A source of a blob that is one frame, not compressed.
    struct OneFrame(&'static [u8]);

    impl FrameSource for OneFrame {
        fn fetch(
            &self,
            _: &str,
            _: (Sha256, u64),
            range: Range<u64>,
            _: bool,
        ) -> Result<Vec<u8>, String> {
            let at = |offset: u64| usize::try_from(offset).unwrap();
            Ok(self.0[at(range.start)..at(range.end)].to_vec())
        }

        fn unpack(&self, frame: &[u8], _: bool, _: usize) -> io::Result<Vec<u8>> {
            Ok(frame.to_vec())
        }
    }

    fn layer(pool: &ChunkPool) -> Layer {
        let mut builder = LayerBuilder::new();
        let content = ContentBuilder::of(pool, TRUE);
        let path = LayerPath::parse(b"f").unwrap();
        builder
            .file(&path, Meta::with_mode(0o644), content)
            .unwrap();
        builder.finish().unwrap()
    }

    /// A table of that layer, whose one chunk has other bytes.
    fn lying_table() -> FrameTable {
        let layer = layer(&ChunkPool::new());
        let chunk = TableChunk {
            frame: 0,
            place: 0,
            len: 20,
            digest: Digest::of(FALSE),
        };
        let content = ContentBuilder::of(&ChunkPool::new(), TRUE).digest();
        let files = HashMap::from([(content, vec![(0, 0)])]);
        let table = encode(&layer, &[(20, 20)], &[chunk], &files).unwrap();
        FrameTable::read(&table.unwrap(), 20).unwrap()
    }

    fn import_lie(store: &Store, tag: &str) -> ImageId {
        let mut import = store.import().unwrap();
        let blob = Sha256::from_bytes([5; 32]);
        let lazy = LazyLayer {
            table: &lying_table(),
            from: "registry.test/app@sha256:00",
            blob: Blob::new(blob, 20),
            is_zstd: false,
        };
        let made = import.lazy_layer(&lazy, &mut |_| None).unwrap();
        let origin = LayerOrigin::of_blob(lazy.blob, "tar", blob);
        import.layer(made, origin);
        import.commit(ImageConfig::new(), Some(tag)).unwrap()
    }

    fn import_truth(store: &Store, tag: &str) {
        let mut import = store.import().unwrap();
        let made = layer(import.pool());
        import.layer(made, LayerOrigin::new());
        import.commit(ImageConfig::new(), Some(tag)).unwrap();
    }

    /// An image whose file has the content of another's.
    fn import_derived(store: &Store, from: &Image, tag: &str) {
        let content = (0..from.nodes()).find_map(|node| from.content(node));
        let mut builder = LayerBuilder::new();
        let path = LayerPath::parse(b"g").unwrap();
        builder
            .file(&path, Meta::with_mode(0o600), content.unwrap().clone())
            .unwrap();
        let mut import = store.import().unwrap();
        import.layer(builder.finish().unwrap(), LayerOrigin::new());
        import.commit(ImageConfig::new(), Some(tag)).unwrap();
    }

    /// The bytes of the image's first file.
    fn read(image: &Image) -> Result<Vec<u8>, String> {
        let content = (0..image.nodes()).find_map(|node| image.content(node));
        let mut bytes = vec![0; TRUE.len()];
        let read = content.unwrap().read_at(&mut bytes, 0);
        read.map(|_| bytes).map_err(|error| error.to_string())
    }

    fn of_layer(store: &Store, tag: &str) -> Vec<u8> {
        read(&Image::new(&store.layers(tag).unwrap()).unwrap()).unwrap()
    }

    fn new_store(dir: &Path) -> Store {
        let store = Store::open(dir).unwrap();
        store.fetch_from(Arc::new(OneFrame(FALSE))).unwrap();
        store
    }

    #[test]
    fn a_table_that_lies_of_a_file_is_believed_of_its_own_image_alone_and_found_out() {
        for truth_first in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let store = new_store(dir.path());
            if truth_first {
                import_truth(&store, "true:1");
            }
            let lie = import_lie(&store, "lie:1");
            let image = store.image("lie:1").unwrap();
            assert_eq!(read(&image).unwrap(), FALSE);
            assert_eq!(store.layers_by_table().unwrap().is_empty(), truth_first);
            import_truth(&store, "true:2");
            assert!(store.layers_by_table().unwrap().is_empty());
            for tag in ["true:1", "true:2"].iter().skip(usize::from(!truth_first)) {
                assert_eq!(of_layer(&store, tag), TRUE, "{tag}");
                assert!(store.absent(tag).unwrap().is_whole());
            }
            // What is made on top of the lie is no more than that.
            import_derived(&store, &image, "derived:1");
            assert_eq!(store.absent("derived:1").unwrap().unchecked, 1);
            for tag in ["lie:1", "derived:1"] {
                let id = store.resolve(tag).unwrap();
                let before = store.image(tag).unwrap();
                let error = store.prove(id, &before).unwrap_err();
                assert!(error.to_string().contains("expected bytes"), "{error}");
                assert_eq!(store.absent(tag).unwrap().unchecked, 1);
            }
            assert!(!store.verify().unwrap().is_sound());
            assert_eq!(store.stat().unwrap().unchecked_images, 2);
            for tag in ["lie:1", "derived:1"] {
                store.untag(tag).unwrap();
            }
            store.gc().unwrap();
            assert!(store.info(&lie.to_string()).is_err());
            assert!(store.verify().unwrap().is_sound());
            assert_eq!(of_layer(&store, "true:2"), TRUE);
        }
    }

    #[test]
    fn a_pack_that_was_collected_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        import_lie(&store, "lie:1");
        let old = store.image("lie:1").unwrap();
        store.untag("lie:1").unwrap();
        store.gc().unwrap();
        import_lie(&store, "lie:1");
        store.fetch_from(Arc::new(OneFrame(FALSE))).unwrap();
        let told = read(&old).unwrap_err();
        assert!(told.contains("not here"), "{told}");
        drop(old);
        assert_eq!(read(&store.image("lie:1").unwrap()).unwrap(), FALSE);
    }

    #[test]
    fn a_source_that_fails_inside_leaves_nobody_waiting() {
        struct Panics;
        impl FrameSource for Panics {
            fn fetch(
                &self,
                _: &str,
                _: (Sha256, u64),
                _: Range<u64>,
                _: bool,
            ) -> Result<Vec<u8>, String> {
                panic!("a mistake of the source's")
            }

            fn unpack(&self, _: &[u8], _: bool, _: usize) -> io::Result<Vec<u8>> {
                Ok(Vec::new())
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.fetch_from(Arc::new(Panics)).unwrap();
        import_lie(&store, "lie:1");
        let image = store.image("lie:1").unwrap();
        for _ in 0..10 {
            let told = read(&image).unwrap_err();
            assert!(told.contains("failed inside"), "{told}");
        }
    }

    #[test]
    fn damaged_tables_are_errors_and_no_panics() {
        let layer = layer(&ChunkPool::new());
        let chunk = TableChunk {
            frame: 0,
            place: 0,
            len: 20,
            digest: Digest::of(TRUE),
        };
        let content = ContentBuilder::of(&ChunkPool::new(), TRUE).digest();
        let files = HashMap::from([(content, vec![(0, 0)])]);
        let good = encode(&layer, &[(20, 20)], &[chunk], &files)
            .unwrap()
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut import = store.import().unwrap();
        let mut taken = 0;
        for at in 0..good.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] ^= flip;
                let Ok(table) = FrameTable::read(&bytes, 20) else {
                    continue;
                };
                let lazy = LazyLayer {
                    table: &table,
                    from: "registry.test/app@sha256:00",
                    blob: Blob::new(Sha256::from_bytes([5; 32]), 20),
                    is_zstd: false,
                };
                taken += usize::from(import.lazy_layer(&lazy, &mut |_| None).is_ok());
            }
        }
        // A run that lies elsewhere in the pack, which the tree's digest does not tell of.
        assert!(taken < 100, "{taken}");
    }
}
