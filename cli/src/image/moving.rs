//! `image import`, `export`, `squash`, `tag`, `rm`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use stratafs::image::Reference;
use stratafs::source::Compression;
use stratafs::store::{ImageInfo, Store};
use stratafs::transfer::{self, ExportOptions, ImportOptions};

use super::args::{Compress, ExportArgs, Form, Format, ImportArgs, RmArgs, SquashArgs, TagArgs};
use super::list::summary;
use super::text::answer;
use super::trace;
use crate::checkpoint;
use crate::failure::Failure;
use crate::outfile::{self, OutFile, is_stdout};
use crate::sources::{self, Layers};
use crate::watch::MovingBar;

pub(super) fn import(store: &Store, args: ImportArgs) -> Result<(), Failure> {
    let mut layers = Layers::new([vec![args.source], args.layers].concat(), &args.sources)?;
    let source = &mut layers.options;
    source.max_bytes = args.max_bytes.unwrap_or(source.max_bytes);
    source.max_entries = args.max_entries.unwrap_or(source.max_entries);
    let source = source.clone();
    let opened = layers.paths.iter().map(|path| sources::open(path, &source));
    let opened = opened.collect::<Result<_, _>>()?;
    let bar = MovingBar::start();
    let healed = Arc::new(AtomicU64::new(0));
    let (shown, counted) = (bar.watcher(), Arc::clone(&healed));
    let options = ImportOptions {
        source,
        set_platform: args.stamp.set_platform,
        watcher: Some(Arc::new(move |progress| {
            counted.store(progress.healed_chunks, Ordering::Relaxed);
            shown(progress);
        })),
    };
    let made = transfer::import_opened(store, opened, &args.tag, &options);
    bar.end();
    layers.report_left_out();
    let (made, tag) = (made?, &args.tag);
    let healed = healed.load(Ordering::Relaxed);
    let json = || {
        let mut document = named(tag, &made);
        if let Some(document) = document.as_object_mut() {
            document.insert("healed_chunks".into(), json!(healed));
        }
        document
    };
    answer(args.form, json, || match healed {
        0 => format!("{tag} {}", made.id),
        1 => format!("{tag} {}\nhealed 1 chunk that was damaged", made.id),
        _ => format!(
            "{tag} {}\nhealed {healed} chunks that were damaged",
            made.id
        ),
    })
}

/// Describes an image that has been given a name.
fn named(tag: &Reference, image: &ImageInfo) -> Value {
    let mut document = summary(image);
    if let Some(document) = document.as_object_mut() {
        document.insert("tag".into(), json!(tag.as_str()));
    }
    document
}

/// Says which image has a name now.
pub(super) fn say(form: Form, tag: &Reference, image: &ImageInfo) -> Result<(), Failure> {
    answer(form, || named(tag, image), || format!("{tag} {}", image.id))
}

pub(super) fn export(store: &Store, args: ExportArgs) -> Result<(), Failure> {
    let to_stdout = is_stdout(&args.out);
    if to_stdout && args.form.json {
        return Err(Failure::usage(
            "stdout is asked for twice: leave --json out, or name a file",
        ));
    }
    if args.format == Some(Format::Wasm) {
        return export_program(store, args);
    }
    let is_tar = to_stdout || args.out.extension().is_some_and(|end| end == "tar");
    let format = args.format.unwrap_or(match is_tar {
        true => Format::OciArchive,
        false => Format::Oci,
    });
    let (format, name) = match format {
        Format::Oci => (transfer::Format::Oci, "oci"),
        Format::OciArchive => (transfer::Format::OciArchive, "oci-archive"),
        Format::Tar => (transfer::Format::Tar, "tar"),
        Format::Dir => (transfer::Format::Dir, "dir"),
        Format::Artifact if is_tar => (transfer::Format::ArtifactArchive, "artifact"),
        Format::Artifact | Format::Wasm => (transfer::Format::Artifact, "artifact"),
    };
    let compression = match args.compress {
        Compress::None => Compression::None,
        Compress::Gzip => Compression::Gzip,
        Compress::Zstd => Compression::Zstd,
    };
    if to_stdout && !format.is_archive() {
        return Err(Failure::usage(
            "OUT: a directory cannot go to stdout: choose --format tar or oci-archive",
        ));
    }
    let bar = MovingBar::start();
    let options = ExportOptions {
        format,
        compression,
        start_set: trace::start_set(args.start_set.as_deref())?,
        set_platform: args.stamp.set_platform.clone(),
        watcher: Some(bar.watcher()),
    };
    let reference = &args.image.reference;
    let done = outfile::export(store, reference, &args.out, options);
    bar.end();
    done?;
    written(&args, name)
}

/// Writes the program of an image that is prepared, or is one program.
fn export_program(store: &Store, args: ExportArgs) -> Result<(), Failure> {
    let reference = &args.image.reference;
    let info = store.info(reference.as_str())?;
    let program = match checkpoint::open(&store.image(reference.as_str())?, reference)? {
        Some(checkpoint) => Some(checkpoint.module()?.into_owned()),
        None => transfer::program(store, &info)?,
    };
    let Some(program) = program else {
        return Err(Failure::new(format_args!(
            "{reference}: the image is neither prepared nor one program: `image cat` writes a file of it"
        )));
    };
    OutFile::create(&args.out)?.write(|out| Ok(out.write_all(&program)?))?;
    written(&args, "wasm")
}

/// Says what was written where, if that is asked for.
fn written(args: &ExportArgs, format: &str) -> Result<(), Failure> {
    let image = args.image.reference.as_str();
    let out = args.out.display().to_string();
    let json = || json!({"image": image, "out": out, "format": format});
    match is_stdout(&args.out) {
        true => Ok(()),
        false => answer(args.form, json, String::new),
    }
}

pub(super) fn squash(store: &Store, args: SquashArgs) -> Result<(), Failure> {
    let platform = args.stamp.set_platform.as_ref();
    let made = transfer::squash_for(store, &args.image.reference, &args.tag, platform)?;
    say(args.form, &args.tag, &made)
}

pub(super) fn tag(store: &Store, args: TagArgs) -> Result<(), Failure> {
    let reference = args.image.reference.as_str();
    store.tag(reference, args.tag.as_str())?;
    say(args.form, &args.tag, &store.info(args.tag.as_str())?)
}

pub(super) fn rm(store: &Store, args: RmArgs) -> Result<(), Failure> {
    // All are looked up first: one that is not there removes none.
    let mut tags = Vec::new();
    for reference in &args.images {
        let info = store.info(reference.as_str())?;
        match reference {
            Reference::Tag(tag) => tags.push(tag.clone()),
            Reference::Digest(_) => tags.extend(info.tags),
        }
    }
    tags.sort();
    tags.dedup();
    for tag in &tags {
        store.untag(tag)?;
    }
    let removed: Vec<Value> = tags.iter().map(|tag| json!(tag)).collect();
    answer(
        args.form,
        || json!({"removed": removed}),
        || tags.join("\n"),
    )
}
