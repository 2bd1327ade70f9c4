//! What an analysis comes to: sums, and lists of the largest.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use stratafs::meta::Kind;
use stratafs::name::LayerPath;
use stratafs::transfer::{Analysis, AnalyzedEntry, HiddenFile};

use super::super::trace::Touched;

/// Sums and lists of the largest, each of as many as were asked for.
pub(super) struct Summed<'a> {
    pub(super) files: u64,
    pub(super) dirs: u64,
    pub(super) symlinks: u64,
    pub(super) bytes: u64,
    /// Files that have the bytes of one before them.
    pub(super) duplicate_files: u64,
    pub(super) duplicate_bytes: u64,
    pub(super) wasted_files: u64,
    pub(super) wasted_bytes: u64,
    pub(super) largest_files: Vec<&'a AnalyzedEntry>,
    pub(super) largest_dirs: Vec<DirSum>,
    pub(super) largest_wasted: Vec<&'a HiddenFile>,
    pub(super) unread: Option<Unopened<'a>>,
}

/// A directory with all that is below it.
pub(super) struct DirSum {
    pub(super) path: LayerPath,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// What the traces did not touch.
#[derive(Default)]
pub(super) struct Unopened<'a> {
    pub(super) opened_files: u64,
    pub(super) read_bytes: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) largest: Vec<&'a AnalyzedEntry>,
    /// Paths of the traces that are no file of the image.
    pub(super) unknown_paths: u64,
}

impl<'a> Summed<'a> {
    pub(super) fn of(analysis: &'a Analysis, touched: Option<&Touched>, top: usize) -> Self {
        let count = |kind| {
            let of_kind = analysis.entries.iter().filter(|entry| entry.kind == kind);
            of_kind.filter(|entry| !entry.is_further_name).count() as u64
        };
        let files: Vec<&AnalyzedEntry> = files(analysis).collect();
        let mut seen = HashSet::new();
        let duplicates = files.iter().filter(|file| file.size > 0);
        let duplicates: Vec<_> = duplicates
            .filter(|file| file.content.is_some_and(|digest| !seen.insert(digest)))
            .collect();
        Self {
            files: count(Kind::File),
            dirs: count(Kind::Dir),
            symlinks: count(Kind::Symlink),
            bytes: sum(files.iter().map(|file| file.size)),
            duplicate_files: duplicates.len() as u64,
            duplicate_bytes: sum(duplicates.iter().map(|file| file.size)),
            wasted_files: analysis.hidden.len() as u64,
            wasted_bytes: sum(analysis.hidden.iter().map(|file| file.size)),
            largest_dirs: largest_dirs(&files, top),
            largest_wasted: largest(analysis.hidden.iter(), |file| file.size, top),
            unread: touched.map(|touched| Unopened::of(analysis, &files, touched, top)),
            largest_files: largest(files.into_iter(), |file| file.size, top),
        }
    }
}

impl<'a> Unopened<'a> {
    fn of(
        analysis: &'a Analysis,
        files: &[&'a AnalyzedEntry],
        touched: &Touched,
        top: usize,
    ) -> Self {
        // A trace names a file by its first name; any name will do.
        let known = analysis.entries.iter();
        let known = known.filter(|entry| touched.of(&entry.path).is_some());
        let known = known.count() as u64;
        let mut unread = Self {
            unknown_paths: (touched.len() as u64).saturating_sub(known),
            ..Self::default()
        };
        let mut never = Vec::new();
        for file in files {
            match touched.of(&file.path) {
                Some(read) => {
                    unread.opened_files += 1;
                    unread.read_bytes = unread.read_bytes.saturating_add(read.min(file.size));
                }
                None => never.push(*file),
            }
        }
        unread.files = never.len() as u64;
        unread.bytes = sum(never.iter().map(|file| file.size));
        unread.largest = largest(never.into_iter(), |file| file.size, top);
        unread
    }
}

/// The files of the merged tree, each once.
pub(super) fn files(analysis: &Analysis) -> impl Iterator<Item = &AnalyzedEntry> {
    let entries = analysis.entries.iter();
    entries.filter(|entry| entry.kind == Kind::File && !entry.is_further_name)
}

fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

fn largest<T>(all: impl Iterator<Item = T>, size: impl Fn(&T) -> u64, top: usize) -> Vec<T> {
    let mut all: Vec<T> = all.filter(|one| size(one) > 0).collect();
    all.sort_by_key(|one| Reverse(size(one)));
    all.truncate(top);
    all
}

/// Adds each file to all directories above it but the root.
fn largest_dirs(files: &[&AnalyzedEntry], top: usize) -> Vec<DirSum> {
    let mut dirs: HashMap<&[stratafs::name::Name], (u64, u64)> = HashMap::new();
    for file in files {
        let names = file.path.names();
        for depth in 1..names.len() {
            let (count, bytes) = dirs
                .entry(names.get(..depth).unwrap_or_default())
                .or_default();
            *count += 1;
            *bytes = bytes.saturating_add(file.size);
        }
    }
    let mut dirs: Vec<_> = dirs.into_iter().filter(|(_, sum)| sum.1 > 0).collect();
    dirs.sort_by(|(one, a), (other, b)| b.1.cmp(&a.1).then_with(|| one.cmp(other)));
    dirs.truncate(top);
    let sums = dirs.into_iter().map(|(names, (files, bytes))| DirSum {
        path: names.to_vec().into(),
        files,
        bytes,
    });
    sums.collect()
}
