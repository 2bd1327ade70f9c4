//! Growth of a store.

use std::fs;
use std::path::{Path, PathBuf};

use stratafs::image::Reference;
use stratafs::store::Store;
use stratafs::transfer::{ExportOptions, Format, ImportOptions};

use super::{Case, take_turns, up_to};
use crate::failure::Failure;
use crate::report::Series;

/// Files of an image.
const FILES: u32 = 20;

/// A store of some images, and a directory to import from.
struct GrowthStore {
    images: u32,
    store: PathBuf,
    source: PathBuf,
    out: PathBuf,
}

impl GrowthStore {
    /// Makes one below `dir`, each image with bytes of its own.
    fn create(dir: &Path, images: u32) -> Result<Self, Failure> {
        let this = Self {
            images,
            store: dir.join(format!("store{images}")),
            source: dir.join(format!("source{images}")),
            out: dir.join(format!("out{images}.tar")),
        };
        fs::create_dir(&this.source)?;
        let store = Store::open(&this.store)?;
        for image in 0..images {
            this.fill(image)?;
            this.import(&store, &format!("image:{image}"))?;
        }
        this.fill(images)?;
        Ok(this)
    }

    /// Overwrites the files of the source with other bytes.
    fn fill(&self, seed: u32) -> Result<(), Failure> {
        for file in 0..FILES {
            let bytes: Vec<u8> = (0..2_000_u32)
                .map(|at| at ^ (seed << 16) ^ file)
                .flat_map(u32::to_le_bytes)
                .collect();
            fs::write(self.source.join(format!("f{file}")), bytes)?;
        }
        Ok(())
    }

    fn import(&self, store: &Store, tag: &str) -> Result<(), Failure> {
        let tag: Reference = tag.parse()?;
        store.import_from(&self.source, &tag, &ImportOptions::default())?;
        Ok(())
    }
}

pub(super) fn images(max: u64) -> Result<Vec<Series>, Failure> {
    let dir = tempfile::tempdir()?;
    let stores = up_to(max, [1, 10, 100]);
    let stores = stores.map(|images| GrowthStore::create(dir.path(), images));
    let stores: Vec<GrowthStore> = stores.collect::<Result<_, _>>()?;
    let cases = |work: &'static dyn Fn(&GrowthStore) -> Result<(), Failure>| {
        let stores = stores.iter();
        let cases = stores.map(|stored| Case::new(stored.images.into(), move || work(stored)));
        cases.collect::<Vec<_>>()
    };
    let of = "images in a store";
    Ok(vec![
        take_turns(
            of,
            "open the store and an image",
            cases(&|stored| {
                Store::open(&stored.store)?.image("image:0")?;
                Ok(())
            }),
        )?,
        take_turns(
            of,
            "import an image of 160 KB",
            cases(&|stored| stored.import(&Store::open(&stored.store)?, "more:1")),
        )?,
        take_turns(
            of,
            "export it",
            cases(&|stored| {
                let store = Store::open(&stored.store)?;
                let image: Reference = "image:0".parse()?;
                let options = ExportOptions {
                    format: Format::OciArchive,
                    ..ExportOptions::default()
                };
                Ok(store.export_to(&image, &stored.out, options)?)
            }),
        )?,
        take_turns(
            of,
            "collect where nothing is left over",
            cases(&|stored| {
                Store::open(&stored.store)?.gc()?;
                Ok(())
            }),
        )?,
    ])
}
