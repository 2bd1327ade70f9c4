//! The tables of layers that are written so that they can be read in parts.

use std::io;

use crate::layer::Layer;
use crate::source::FrameMap;
use crate::store::frame_table::{self, TableChunk};

/// Makes the table of a layer that was cut into frames; none if it would be too large.
pub(super) fn table(layer: &Layer, map: &FrameMap) -> io::Result<Option<Vec<u8>>> {
    let chunks = map.chunks.iter().map(|chunk| TableChunk {
        frame: chunk.frame,
        place: chunk.place,
        len: chunk.len,
        digest: chunk.digest,
    });
    let chunks: Vec<TableChunk> = chunks.collect();
    frame_table::encode(layer, &map.frames, &chunks, &map.files).map_err(frame_table::failed)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use crate::chunk::ContentBuilder;
    use crate::digest::Digest;
    use crate::image::{ImageConfig, Reference};
    use crate::layer::LayerBuilder;
    use crate::limits::{FRAME_BYTES, MAX_FRAME_TABLE_BYTES, REST_CHUNK_MAX_BYTES};
    use crate::meta::Meta;
    use crate::name::LayerPath;
    use crate::source::{Compression, StartSet, TABLE_ANNOTATION, hidden};
    use crate::store::frame_table::FrameTable;
    use crate::store::{LayerOrigin, Store};
    use crate::transfer::{ExportOptions, ImportOptions};

    fn path(text: &str) -> LayerPath {
        LayerPath::parse(text.as_bytes()).unwrap()
    }

    fn text(len: usize, seed: u32) -> Vec<u8> {
        let mut state = seed;
        let mut byte = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0] & 0x3f
        };
        (0..len).map(&mut byte).collect()
    }

    /// A store with an image `app` of all sorts of files.
    fn store(dir: &Path) -> (Store, Digest) {
        let store = Store::open(&dir.join("store")).unwrap();
        let mut import = store.import().unwrap();
        let mut builder = LayerBuilder::new();
        let meta = || Meta::with_mode(0o644);
        let long = text(700_000, 1);
        for (name, bytes) in [
            ("a/empty", &[][..]),
            ("a/long", &long),
            ("a/same", &long),
            ("b/small", b"small"),
            ("z/start", &text(150_000, 2)),
        ] {
            let content = ContentBuilder::of(import.pool(), bytes);
            builder.file(&path(name), meta(), content).unwrap();
        }
        for (name, hole) in [("b/holes", 300_000), ("b/sparse", 5 << 20)] {
            let mut content = ContentBuilder::new(import.pool());
            content.write(&text(70_000, 3));
            content.hole(hole);
            content.write(&text(9_000, 4));
            content.hole(4096);
            content.write(&text(100, 5));
            builder.file(&path(name), meta(), content.finish()).unwrap();
        }
        builder
            .hard_link(&path("c/link"), &path("z/start"))
            .unwrap();
        builder.symlink(&path("c/to"), meta(), b"../b").unwrap();
        builder.whiteout(&path("gone")).unwrap();
        let layer = builder.finish().unwrap();
        let digest = layer.digest();
        import.layer(layer, LayerOrigin::new());
        import.commit(ImageConfig::new(), Some("app")).unwrap();
        (store, digest)
    }

    /// Exports the image. Returns the blob of its layer and the descriptor of that.
    fn exported(store: &Store, out: &Path, options: ExportOptions) -> (Vec<u8>, serde_json::Value) {
        let app: Reference = "app".parse().unwrap();
        store.export_to(&app, out, options).unwrap();
        let json = |file: &Path| -> serde_json::Value {
            serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
        };
        let blob = |digest: &serde_json::Value| {
            out.join("blobs")
                .join(digest.as_str().unwrap().replace(':', "/"))
        };
        let index = json(&out.join("index.json"));
        let manifest = json(&blob(&index["manifests"][0]["digest"]));
        let layer = manifest["layers"][0].clone();
        (std::fs::read(blob(&layer["digest"])).unwrap(), layer)
    }

    fn unpacked(bytes: &[u8], compression: Compression) -> Vec<u8> {
        let mut out = Vec::new();
        match compression {
            Compression::Zstd => zstd::Decoder::new(bytes).unwrap().read_to_end(&mut out),
            _ => flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut out),
        }
        .unwrap();
        out
    }

    fn table_of(blob: &[u8], layer: &serde_json::Value) -> (FrameTable, usize) {
        let told = layer["annotations"][TABLE_ANNOTATION].as_str().unwrap();
        let mut parts = told.splitn(3, ':');
        let place: usize = parts.next().unwrap().parse().unwrap();
        let len: usize = parts.next().unwrap().parse().unwrap();
        let found = &blob[place..place + len];
        assert_eq!(place + len, blob.len());
        assert_eq!(Digest::of(found).to_string(), parts.next().unwrap());
        let table = hidden::reveal(found, MAX_FRAME_TABLE_BYTES).unwrap();
        (FrameTable::read(&table, place as u64).unwrap(), place)
    }

    #[test]
    fn a_compressed_layer_is_an_archive_for_everybody() {
        let dir = tempfile::tempdir().unwrap();
        let (store, digest) = store(dir.path());
        let mut start = StartSet::new();
        start.add(path("z/start"), true);
        start.add(path("b/small"), true);
        start.add(path("a/long"), false);
        for compression in [Compression::Gzip, Compression::Zstd] {
            for start_set in [StartSet::new(), start.clone()] {
                let out = dir.path().join("out");
                let is_ordered = !start_set.is_empty();
                let options = ExportOptions {
                    compression,
                    start_set,
                    ..ExportOptions::default()
                };
                let (blob, layer) = exported(&store, &out, options.clone());
                let (table, place) = table_of(&blob, &layer);
                assert_eq!(table.layer, digest);
                let mut tar = Vec::new();
                let mut at = 0;
                let mut raw_frames = Vec::new();
                for (compressed, raw) in &table.frames {
                    let frame = unpacked(&blob[at..at + *compressed as usize], compression);
                    assert_eq!(frame.len(), *raw as usize);
                    assert!(frame.len() < FRAME_BYTES + REST_CHUNK_MAX_BYTES);
                    tar.extend_from_slice(&frame);
                    raw_frames.push(frame);
                    at += *compressed as usize;
                }
                assert_eq!(at, place);
                assert_eq!(tar, unpacked(&blob, compression));
                for chunk in &table.chunks {
                    let place = chunk.place as usize;
                    let frame = &raw_frames[chunk.frame as usize];
                    let bytes = &frame[place..place + chunk.len as usize];
                    assert_eq!(Digest::of(bytes), chunk.digest);
                }
                // The store's own chunks have the same names, but for those of sparse files.
                let known: Vec<_> = table.packs.iter().map(|pack| pack.count).collect();
                assert_eq!(known, [table.chunks.len()]);
                let start = &layer["annotations"][crate::source::START_ANNOTATION];
                assert_eq!(start.is_string(), is_ordered);
                if is_ordered {
                    let bytes: usize = start.as_str().unwrap().parse().unwrap();
                    let front = unpacked(&blob[..bytes], compression);
                    let has = |name: &[u8]| front.windows(name.len()).any(|part| part == name);
                    assert!(has(b"z/start") && has(b"b/small") && !has(b"a/long"));
                }
                let back: Reference = "back".parse().unwrap();
                let other = Store::open(&dir.path().join("other")).unwrap();
                other
                    .import_from(&out, &back, &ImportOptions::default())
                    .unwrap();
                assert_eq!(other.info("back").unwrap().layers[0].digest, digest);
                let again = dir.path().join("again");
                assert_eq!(exported(&store, &again, options).0, blob);
                read_by_others(&blob, compression, &tar);
                std::fs::remove_dir_all(&out).unwrap();
                std::fs::remove_dir_all(&again).unwrap();
            }
        }
    }

    /// Lets the tools of the system read a layer, as far as they are there.
    fn read_by_others(blob: &[u8], compression: Compression, tar: &[u8]) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("layer");
        std::fs::write(&file, blob).unwrap();
        let listing = "import sys,tarfile;print(len(tarfile.open(sys.argv[1]).getmembers()))";
        let gzip: [(&str, &[&str]); 3] = [
            ("gzip", &["-dc"]),
            ("tar", &["-tzf"]),
            ("python3", &["-c", listing]),
        ];
        let tools = match compression {
            Compression::Gzip => &gzip[..],
            _ => &[("zstd", &["-dc"][..])],
        };
        for (tool, args) in tools {
            let mut command = Command::new(tool);
            let command = command.args(*args).arg(&file).stdin(Stdio::null());
            // One that is not there says nothing.
            let Ok(done) = command.output() else { continue };
            assert!(done.status.success(), "{tool}: {done:?}");
            match *tool {
                "gzip" | "zstd" => assert_eq!(done.stdout, tar),
                "tar" => assert_eq!(done.stdout.split(|byte| *byte == b'\n').count(), 11),
                _ => assert_eq!(done.stdout, b"10\n"),
            }
        }
    }
}
