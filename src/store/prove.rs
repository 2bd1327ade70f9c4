//! Holding images that were pulled in part against their bytes, once these are here.

use std::collections::HashMap;

use super::absent::{each_content, packs_of};
use super::catalog::{CatalogChange, RecordKind};
use super::lazy_pack::{LAZY, LazyPack};
use super::pack::{Pack, file_name, sync_pack};
use super::record::{ImageRecord, LayerRecord};
use super::verify::VerifiedFiles;
use super::{Store, StoreError, reference};
use crate::digest::Digest;
use crate::image::{Image, ImageId};

impl Store {
    /// Reads the files of `before`, the image as it was, and of the image as it is and its layers,
    /// and holds each against its digest. The thread waits for what is not here. What was known
    /// by tables is known from then on.
    pub(crate) fn prove(&self, id: ImageId, before: &Image) -> Result<(), StoreError> {
        let text = id.to_string();
        let (record, files) = self.0.catalog.read(|view| {
            let (_, record) = reference::resolve(view, &text)?;
            let mut files: HashMap<Digest, Digest> = HashMap::new();
            for layer in &record.layers {
                let digest = layer.digest;
                let known = view.get::<LayerRecord>(RecordKind::Layer, digest.as_bytes())?;
                files.extend(known.map(|known| (digest, known.file)));
            }
            Ok((record, files))
        })?;
        let mut verified = VerifiedFiles::default();
        let mut check = |content: &crate::chunk::Content| verified.check(content);
        each_content(before, &[], &mut check)?;
        each_content(&self.image(&text)?, &self.layers(&text)?, &mut check)?;
        self.0.catalog.change(|view| {
            let mut changes = Vec::new();
            for (digest, file) in &files {
                let known = view.get::<LayerRecord>(RecordKind::Layer, digest.as_bytes())?;
                // If it is another by now, it is not the one that was read.
                if let Some(known) = known.filter(|it| it.by_table && it.file == *file) {
                    let proved = LayerRecord {
                        by_table: false,
                        ..known
                    };
                    let key = digest.as_bytes();
                    changes.push(CatalogChange::put(RecordKind::Layer, key, &proved)?);
                }
            }
            let known = view.get::<ImageRecord>(RecordKind::Image, id.as_bytes())?;
            if let Some(known) = known.filter(|it| it.by_table && it.index == record.index) {
                let proved = ImageRecord {
                    by_table: false,
                    ..known
                };
                let key = id.as_bytes();
                changes.push(CatalogChange::put(RecordKind::Image, key, &proved)?);
            }
            Ok((changes, ()))
        })?;
        self.finish_packs(id)
    }

    /// Lets those packs of an image that lack nothing any more be packs as any other.
    pub(crate) fn finish_packs(&self, id: ImageId) -> Result<(), StoreError> {
        let disk = &self.0.packs.disk;
        let packs = self.0.catalog.read(|view| {
            let (_, record) = reference::resolve(view, &id.to_string())?;
            packs_of(view, &record)
        })?;
        for name in packs {
            if LazyPack::is_one(disk, name)
                && Pack::open_once(disk, name)?.verify().absent_chunks == 0
            {
                sync_pack(disk, name)?;
                disk.remove(&disk.file_in(LAZY, &file_name(name)))?;
            }
        }
        Ok(())
    }
}
