//! `image slim`.

use serde_json::{Value, json};
use stratafs::image::{Image, ImageConfig, Reference};
use stratafs::meta::Kind;
use stratafs::name::LayerPath;
use stratafs::store::{ImageInfo, Store};
use stratafs::transfer::{self, KeepList, RemovedEntry, Slimmed};

use super::check::check;
use super::list::summary;
use super::make_args::SlimArgs;
use super::text::{answer, kind, put_bytes, rooted, rooted_bytes};
use super::trace::{self, Touched};
use super::tree::TreeLine;
use crate::checkpoint;
use crate::failure::{Failure, complain};
use crate::from_image;
use crate::outfile::{self, OutFile};
use crate::report::{bytes, count};

pub(super) fn slim(store: &Store, args: SlimArgs) -> Result<(), Failure> {
    let start_set = args.start_set.as_deref().map(OutFile::create).transpose()?;
    let touched = Touched::read(&args.traces)?;
    let reference = &args.image.reference;
    let info = store.info(reference.as_str())?;
    // A tag may move while this works.
    let id = Reference::Digest(info.id.to_string());
    let image = store.image(id.as_str())?;
    if checkpoint::inspect(&image, reference)?.is_some() {
        return Err(Failure::new(format_args!(
            "{reference}: the image is prepared: its guest goes on with what it had read, and may open any file: \
             slim the image that it was made of, and prepare that"
        )));
    }
    let keep = keep_list(&image, &info.config, &touched, &args)?;
    let slimmed = transfer::slim(store, &id, &keep)?;
    if let Some(words) = &args.check {
        let program = transfer::program(store, &info)?;
        let left = slimmed.image()?;
        check((reference, &info.config), (program, words), (&image, &left))?;
    }
    let by = history(&args, &info, &slimmed);
    let sums = (slimmed.kept_files, slimmed.kept_bytes);
    let removed = slimmed.removed.clone();
    let start = start_files(&slimmed, &touched)?;
    let made = slimmed.commit(store, &args.tag, &by)?;
    if let Some(file) = start_set {
        file.write(|out| Ok(out.write_all(trace::start_lines(&start).as_bytes())?))?;
        if args.start_set.as_deref().is_some_and(outfile::is_stdout) {
            return Ok(());
        }
    }
    print_report(&args, &made, sums, &removed)
}

/// Finds what is wanted: by the traces, by name, and by how the image starts.
fn keep_list(
    image: &Image,
    config: &ImageConfig,
    touched: &Touched,
    args: &SlimArgs,
) -> Result<KeepList, Failure> {
    let mut keep = KeepList::new();
    let mut matched = vec![false; args.keep.len()];
    for entry in TreeLine::collect(image, &LayerPath::root())? {
        if touched.of(&entry.path).is_some() {
            keep.entries.push(entry.path.clone());
        }
        let path = rooted_bytes(&entry.path);
        let mut is_wanted = false;
        for (glob, matched) in args.keep.iter().zip(&mut matched) {
            if glob.matches(&path) {
                (*matched, is_wanted) = (true, true);
            }
        }
        if is_wanted {
            keep.trees.push(entry.path);
        }
    }
    for (glob, _) in args
        .keep
        .iter()
        .zip(matched)
        .filter(|(_, matched)| !matched)
    {
        complain(&format!("--keep {glob}: nothing in the image matches"));
    }
    let program = from_image::program_path(image, config);
    for path in program.iter().chain(&config.working_dir) {
        if let Ok(path) = LayerPath::parse(path.as_bytes()) {
            keep.entries.push(path);
        }
    }
    Ok(keep)
}

/// Files that are kept and were opened, in the order of the traces: path, size, bytes read.
fn start_files(
    slimmed: &Slimmed,
    touched: &Touched,
) -> Result<Vec<(LayerPath, u64, u64)>, Failure> {
    let entries = TreeLine::collect(&slimmed.image()?, &LayerPath::root())?;
    let mut files = Vec::new();
    for entry in entries {
        if let (Kind::File, Some(read)) = (entry.kind, touched.of(&entry.path)) {
            files.push((entry.path, entry.size, read));
        }
    }
    files.sort_by_key(|(path, _, _)| touched.place(path));
    Ok(files)
}

/// What the history says.
fn history(args: &SlimArgs, info: &ImageInfo, slimmed: &Slimmed) -> String {
    let globs = args.keep.iter().map(|glob| format!(" --keep {glob}"));
    format!(
        "slim of {} layers by {} traces{}: {} files kept, {} entries removed",
        info.layers.len(),
        args.traces.len(),
        globs.collect::<String>(),
        slimmed.kept_files,
        slimmed.removed.len()
    )
}

fn print_report(
    args: &SlimArgs,
    made: &ImageInfo,
    (kept_files, kept_bytes): (u64, u64),
    removed: &[RemovedEntry],
) -> Result<(), Failure> {
    let is_file = |entry: &&RemovedEntry| entry.kind == Kind::File;
    let files = removed.iter().filter(is_file).count() as u64;
    let size = removed.iter().map(|entry| entry.size);
    let size = size.fold(0, u64::saturating_add);
    complain(&format!(
        "kept {} files ({}), removed {} files ({})",
        count(kept_files),
        bytes(kept_bytes),
        count(files),
        bytes(size)
    ));
    let json = || {
        let mut document = summary(made);
        let names: Vec<Value> = removed.iter().map(removed_json).collect();
        let all = [
            ("tag", json!(args.tag.as_str())),
            ("kept_files", json!(kept_files)),
            ("kept_bytes", json!(kept_bytes)),
            ("removed_files", json!(files)),
            ("removed_bytes", json!(size)),
            ("removed", Value::Array(names)),
        ];
        if let Some(document) = document.as_object_mut() {
            document.extend(all.map(|(key, value)| (key.to_owned(), value)));
        }
        document
    };
    answer(args.form, json, || {
        let mut lines = vec![format!("{} {}", args.tag, made.id)];
        if args.list {
            lines.extend(removed.iter().map(|entry| rooted(&entry.path)));
        }
        lines.join("\n")
    })
}

fn removed_json(entry: &RemovedEntry) -> Value {
    let mut document = json!({"kind": kind(entry.kind), "size_bytes": entry.size});
    put_bytes(&mut document, "path", &rooted_bytes(&entry.path));
    document
}
