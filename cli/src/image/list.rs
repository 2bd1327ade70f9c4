//! `image ls`.

use serde_json::{Value, json};
use stratafs::meta::Time;
use stratafs::store::{ImageInfo, Store};

use super::args::LsArgs;
use super::text::{answer, cell, date};
use crate::cached;
use crate::failure::Failure;
use crate::report::{Align, Table, bytes, count};

pub(super) fn ls(store: &Store, args: LsArgs) -> Result<(), Failure> {
    let mut images = store.list()?;
    if !args.all {
        images.retain(|image| !cached::is_for_builds(image));
    }
    let json = || {
        let all: Vec<Value> = images.iter().map(summary).collect();
        json!({"images": all})
    };
    answer(args.form, json, || {
        let mut table = Table::new(&[
            ("image", Align::Left),
            ("digest", Align::Left),
            ("layers", Align::Right),
            ("entries", Align::Right),
            ("size", Align::Right),
            ("added", Align::Left),
        ]);
        for image in &images {
            let names = match args.all {
                true => image.tags.iter().collect(),
                false => cached::typed_tags(image),
            };
            let names: Vec<&str> = names.iter().map(|tag| tag.as_str()).collect();
            let names = match names.is_empty() {
                true => "-".to_owned(),
                false => names.join(", "),
            };
            table.row(vec![
                cell(&names),
                short(image),
                image.layers.len().to_string(),
                count(image.entries),
                bytes(image.logical_bytes),
                date(Time::new(image.added, 0)),
            ]);
        }
        table.to_string()
    })
}

/// What `ls` and the commands that make an image say of it.
pub(super) fn summary(image: &ImageInfo) -> Value {
    json!({
        "id": image.id.to_string(),
        "tags": cached::typed_tags(image),
        "layers": image.layers.len(),
        "entries": image.entries,
        "logical_bytes": image.logical_bytes,
        "added_ns": Time::new(image.added, 0).as_nanos_clamped(),
    })
}

/// The beginning of a digest, which is enough to name the image.
pub(super) fn short(image: &ImageInfo) -> String {
    image
        .id
        .to_string()
        .chars()
        .take("blake3:".len() + 12)
        .collect()
}
