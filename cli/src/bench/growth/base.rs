//! Growth of the base.

use stratafs::chunk::{ChunkPool, ContentBuilder};
use stratafs::image::Image;
use stratafs::layer::{Layer, LayerBuilder};
use stratafs::meta::Meta;
use stratafs::name::LayerPath;
use stratafs::vfs::Fs;

use super::{Case, take_turns, up_to};
use crate::failure::Failure;
use crate::report::Series;

/// Files of a directory.
const IN_A_DIR: u32 = 100;

/// A layer with one small file at each of these paths.
pub(super) fn layer(paths: impl Iterator<Item = String>) -> Result<Layer, Failure> {
    let pool = ChunkPool::new();
    let content = ContentBuilder::of(&pool, &[b'x'; 1000]);
    let mut builder = LayerBuilder::new();
    for path in paths {
        let path = LayerPath::parse(path.as_bytes())?;
        builder.file(&path, Meta::with_mode(0o644), content.clone())?;
    }
    Ok(builder.finish()?)
}

/// An image of so many files, a hundred in a directory.
pub(super) fn image(files: u32) -> Result<Image, Failure> {
    let paths = (0..files).map(|n| format!("d{}/f{}", n / IN_A_DIR, n % IN_A_DIR));
    Ok(Image::new(&[layer(paths)?])?)
}

pub(super) fn files(max: u64) -> Result<Vec<Series>, Failure> {
    let mut bases = Vec::new();
    for files in up_to(max, [10, 1_000, 10_000, 100_000, 1_000_000]) {
        let image = image(files)?;
        bases.push((files, Fs::new(&image), image));
    }
    let cases = |work: &'static dyn Fn(&Fs, &Image, u32) -> Result<(), Failure>| {
        let case = |(files, fs, image): &'_ (u32, Fs, Image)| {
            let (files, fs, image) = (*files, fs.clone(), image.clone());
            let mut at = 0_u32;
            Case::new(files.into(), move || {
                // A step that meets all of them in an order without a pattern.
                at = at.wrapping_add(0x9e37_79b1) % files;
                work(&fs, &image, at)
            })
        };
        bases.iter().map(case).collect::<Vec<_>>()
    };
    let of = "files in the base";
    Ok(vec![
        take_turns(
            of,
            "metadata of a file",
            cases(&|fs, _, at| {
                fs.metadata(format!("/d{}/f{}", at / IN_A_DIR, at % IN_A_DIR))?;
                Ok(())
            }),
        )?,
        take_turns(
            of,
            "a name that is not there",
            cases(&|fs, _, at| {
                fs.exists(format!("/d{}/none", at / IN_A_DIR))?;
                Ok(())
            }),
        )?,
        take_turns(
            of,
            "make an instance",
            cases(&|_, image, _| {
                drop(Fs::new(image));
                Ok(())
            }),
        )?,
        take_turns(
            of,
            "list a directory",
            cases(&|fs, _, at| {
                fs.read_dir(format!("/d{}", at / IN_A_DIR))?;
                Ok(())
            }),
        )?,
        take_turns(
            of,
            "make an instance, change a file",
            cases(&|_, image, at| {
                let path = format!("/d{}/f{}", at / IN_A_DIR, at % IN_A_DIR);
                Ok(Fs::new(image).write(path, b"changed")?)
            }),
        )?,
    ])
}

pub(super) fn layers(max: u64) -> Result<Vec<Series>, Failure> {
    let mut bases = Vec::new();
    for count in up_to(max, [1, 10, 100, 500]) {
        let layer = |n: u32| layer([format!("own/{n}"), "common".to_owned()].into_iter());
        let layers: Vec<Layer> = (0..count).map(layer).collect::<Result<_, _>>()?;
        let image = Image::new(&layers)?;
        bases.push((count, Fs::new(&image), image));
    }
    let of = "layers of the base";
    let stats = bases
        .iter()
        .map(|(count, fs, _)| Case::new((*count).into(), move || Ok(fs.metadata("/own/0")?)));
    let reads = bases
        .iter()
        .map(|(count, fs, _)| Case::new((*count).into(), move || Ok(fs.read("/common")?)));
    let makes = bases
        .iter()
        .map(|(count, _, image)| Case::new((*count).into(), move || Ok(Fs::new(image))));
    Ok(vec![
        take_turns(of, "metadata of a file", stats.collect())?,
        take_turns(of, "read a file of 1000 bytes", reads.collect())?,
        take_turns(of, "make an instance", makes.collect())?,
    ])
}

pub(super) fn depth(max: u64) -> Result<Vec<Series>, Failure> {
    let depths: Vec<u32> = up_to(max, [1, 2, 4, 8, 16, 32]).collect();
    let dirs = |depth: u32| "dir/".repeat(depth as usize - 1);
    let image = Image::new(&[layer(
        depths.iter().map(|depth| format!("{}file", dirs(*depth))),
    )?])?;
    let fs = Fs::new(&image);
    let fs = &fs;
    let of = "depth of the path";
    let cases = |last: &str, work: &'static dyn Fn(&Fs, &str) -> Result<(), Failure>| {
        let case = |depth: &u32| {
            let path = format!("/{}{last}", dirs(*depth));
            Case::new((*depth).into(), move || work(fs, &path))
        };
        depths.iter().map(case).collect::<Vec<_>>()
    };
    Ok(vec![
        take_turns(
            of,
            "metadata of a file",
            cases("file", &|fs, path| {
                fs.metadata(path)?;
                Ok(())
            }),
        )?,
        take_turns(
            of,
            "open and close",
            cases("file", &|fs, path| {
                fs.open(path)?;
                Ok(())
            }),
        )?,
        take_turns(
            of,
            "a name that is not there",
            cases("none", &|fs, path| {
                fs.exists(path)?;
                Ok(())
            }),
        )?,
    ])
}
