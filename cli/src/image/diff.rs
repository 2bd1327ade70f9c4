//! `image diff`.

use serde_json::{Value, json};
use stratafs::image::Image;
use stratafs::layer::{ChangeKind, compare};
use stratafs::meta::Kind;
use stratafs::name::LayerPath;
use stratafs::store::Store;

use super::args::DiffArgs;
use super::text::{answer, put_bytes, rooted, rooted_bytes};
use super::tree::tree_of;
use crate::failure::Failure;
use crate::report::{Align, Table, bytes, count};

type Changes = [(ChangeKind, LayerPath)];

pub(super) fn diff(store: &Store, args: DiffArgs) -> Result<(), Failure> {
    let (from, to) = (
        store.image(args.from.as_str())?,
        store.image(args.to.as_str())?,
    );
    let changes = compare(&tree_of(&from, b"/")?, &tree_of(&to, b"/")?);
    let sums = args.stat.then(|| Sums::of(&changes, &from, &to));
    let json = || {
        let all = changes.iter().map(|(change, path)| {
            let mut document = json!({"change": change.letter().to_string()});
            put_bytes(&mut document, "path", &rooted_bytes(path));
            document
        });
        let all: Vec<Value> = all.collect();
        match &sums {
            Some(sums) => json!({"changes": all, "stat": sums.json()}),
            None => json!({"changes": all}),
        }
    };
    answer(args.form, json, || match &sums {
        Some(sums) => sums.text(),
        None => lines(&changes),
    })
}

fn lines(changes: &Changes) -> String {
    let lines: Vec<String> = changes
        .iter()
        .map(|(change, path)| format!("{} {}", change.letter(), rooted(path)))
        .collect();
    lines.join("\n")
}

/// What the changes of one kind come to.
#[derive(Clone, Copy, Debug, Default)]
struct KindSum {
    files: u64,
    dirs: u64,
    symlinks: u64,
    /// Bytes of the files in the first image, and in the second.
    before: u64,
    after: u64,
}

/// The changes by kind.
struct Sums([(ChangeKind, KindSum); 3]);

impl Sums {
    fn of(changes: &Changes, from: &Image, to: &Image) -> Self {
        let mut sums = [ChangeKind::Added, ChangeKind::Changed, ChangeKind::Deleted]
            .map(|kind| (kind, KindSum::default()));
        for (change, path) in changes {
            let (before, after) = (from.locate(path), to.locate(path));
            let Some(shown) = after.or(before) else {
                continue;
            };
            let Some((_, sum)) = sums.iter_mut().find(|(kind, _)| kind == change) else {
                continue;
            };
            match shown.stat.kind {
                Kind::File => sum.files += 1,
                Kind::Dir => sum.dirs += 1,
                Kind::Symlink => sum.symlinks += 1,
            }
            let size = |found: Option<stratafs::image::Located>| {
                let file = found.filter(|found| found.stat.kind == Kind::File);
                file.map_or(0, |file| file.stat.size)
            };
            sum.before = sum.before.saturating_add(size(before));
            sum.after = sum.after.saturating_add(size(after));
        }
        Self(sums)
    }

    fn json(&self) -> Value {
        let all = self.0.iter().map(|(kind, sum)| {
            let document = json!({
                "files": sum.files,
                "dirs": sum.dirs,
                "symlinks": sum.symlinks,
                "before_bytes": sum.before,
                "after_bytes": sum.after,
            });
            (word(*kind).to_owned(), document)
        });
        Value::Object(all.collect())
    }

    fn text(&self) -> String {
        let right = |name| (name, Align::Right);
        let mut table = Table::new(&[
            ("", Align::Left),
            right("files"),
            right("directories"),
            right("links"),
            right("bytes before"),
            right("bytes after"),
        ]);
        for (kind, sum) in &self.0 {
            table.row([
                word(*kind).to_owned(),
                count(sum.files),
                count(sum.dirs),
                count(sum.symlinks),
                bytes(sum.before),
                bytes(sum.after),
            ]);
        }
        table.to_string()
    }
}

fn word(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Added => "added",
        ChangeKind::Changed => "changed",
        ChangeKind::Deleted => "deleted",
    }
}
