//! Keeping a store that is a cache in bounds: what was pulled and not used for long goes.

use std::collections::HashSet;
use std::fs::File;
use std::time::{Duration, SystemTime};

use super::catalog::{COPY, CatalogChange, CatalogView, LOG, OLD, RESERVE, RecordKind};
use super::gc::{GcReport, ROUND};
use super::inventory::{HeldImage, Inventory};
use super::record::TagRecord;
use super::{Store, StoreError};
use crate::digest::Digest;
use crate::image::ImageId;

/// What a store keeps of images that were pulled. Nothing is dropped by default but what no tag
/// leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrimOptions {
    /// Bytes that the store may take. Default: as many as there are.
    pub max_bytes: Option<u64>,
    /// Drop what was not used for longer than this. Default: nothing is too old.
    pub unused_for: Option<Duration>,
    /// Only say what would go; nothing is changed. Default: no.
    pub dry_run: bool,
}

/// An image that was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DroppedImage {
    /// Its digest in the store.
    pub id: ImageId,
    /// The names that it was pulled by.
    pub tags: Vec<String>,
    /// When it was used last.
    pub last_used: SystemTime,
}

/// What [`Store::trim`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrimReport {
    /// Images that were pulled and went, those used longest ago first.
    pub dropped: Vec<DroppedImage>,
    /// Images that would have gone, and are in use.
    pub in_use: u64,
    /// What was collected, they included. Of what only would go packs that would be written anew
    /// are not counted.
    pub collected: GcReport,
    /// Bytes that the store takes now.
    pub bytes: u64,
}

impl Store {
    /// Drops images that were pulled and can be pulled again, those used longest ago first,
    /// until the store is in bounds, and then does what [`gc`](Self::gc) does.
    ///
    /// An image goes if a pull gave it all its names: one that has a name of its own, from
    /// [`tag`](Self::tag), an import or a pull by another name, stays, whatever the bounds. So do images
    /// that are in use; see [`mark_used`](Self::mark_used), which says as well what use is. What
    /// an image shares with others that stay stays, so that dropping it may free little.
    ///
    /// The names go in one step, and the rest is collected then: who is killed in between leaves
    /// what the next collection removes.
    ///
    /// # Errors
    ///
    /// As [`gc`](Self::gc).
    pub fn trim(&self, options: &TrimOptions) -> Result<TrimReport, StoreError> {
        if options.dry_run {
            let _lock = self.lock_for_reading()?;
            let (plan, inventory) =
                self.plan(options, &|id| Ok((!self.is_in_use(id)).then_some(())))?;
            return Ok(TrimReport {
                bytes: self.fixed_bytes() + inventory.bytes,
                dropped: plan.images.into_iter().map(|(image, ())| image).collect(),
                in_use: plan.in_use,
                collected: inventory.gone,
            });
        }
        self.check_writable()?;
        let lock = self.lock_for_collection()?;
        let (plan, _) = self.plan(options, &|id| self.lock_unused(id))?;
        let mut report = TrimReport {
            in_use: plan.in_use,
            ..TrimReport::default()
        };
        for some in plan.images.chunks(ROUND) {
            let forgotten = self.0.catalog.change(|view| untag(view, some))?;
            let those = some.iter().map(|(image, _)| image);
            let those = those.filter(|image| forgotten.contains(&image.id));
            report.dropped.extend(those.cloned());
        }
        // Who waits to use one of them finds that it is gone.
        drop(plan);
        report.collected = self.collect(&lock)?;
        let left = |view: &CatalogView<'_>| Inventory::read(view, &self.0.packs.disk);
        report.bytes = self.fixed_bytes() + self.0.catalog.read(left)?.bytes;
        Ok(report)
    }

    /// Chooses what goes, each held by what `hold` returns for it.
    fn plan<L>(
        &self,
        options: &TrimOptions,
        hold: &dyn Fn(ImageId) -> Result<Option<L>, StoreError>,
    ) -> Result<(TrimPlan<L>, Inventory), StoreError> {
        let read = |view: &CatalogView<'_>| Inventory::read(view, &self.0.packs.disk);
        let mut inventory = self.0.catalog.read(read)?;
        let used = |image: &HeldImage| self.used_at(image.id, image.added);
        let pulled = inventory.images.iter().enumerate();
        let pulled = pulled.filter(|(_, image)| image.is_pulled);
        let mut oldest: Vec<_> = pulled.map(|(at, it)| (used(it), it.id, at)).collect();
        oldest.sort_unstable();
        let mut plan = TrimPlan {
            images: Vec::new(),
            in_use: 0,
        };
        let now = SystemTime::now();
        let fixed = self.fixed_bytes();
        for (last_used, id, at) in oldest {
            let age = now.duration_since(last_used).unwrap_or_default();
            let is_old = options.unused_for.is_some_and(|most| age > most);
            let bytes = fixed.saturating_add(inventory.bytes);
            if !is_old && options.max_bytes.is_none_or(|most| bytes <= most) {
                break;
            }
            let Some(held) = hold(id)? else {
                plan.in_use += 1;
                continue;
            };
            let tags = inventory.images.get(at).map(|image| image.tags.clone());
            inventory.drop_image(at);
            let image = DroppedImage {
                id,
                tags: tags.unwrap_or_default(),
                last_used,
            };
            plan.images.push((image, held));
        }
        Ok((plan, inventory))
    }

    /// Returns the bytes of the catalog, its copy and the room for removals.
    fn fixed_bytes(&self) -> u64 {
        let own = [LOG, COPY, OLD, RESERVE].map(|name| self.0.packs.disk.path(name));
        let lens = own.iter().filter_map(|path| path.symlink_metadata().ok());
        lens.map(|meta| meta.len()).sum()
    }
}

/// What goes, and what keeps it from being used.
struct TrimPlan<L> {
    images: Vec<(DroppedImage, L)>,
    in_use: u64,
}

/// Takes their names from images, unless somebody gave them one of his own meanwhile. Returns
/// those that have none any more.
fn untag(
    view: &CatalogView<'_>,
    images: &[(DroppedImage, File)],
) -> Result<(Vec<CatalogChange>, HashSet<Digest>), StoreError> {
    let mut ids: HashSet<Digest> = images.iter().map(|(image, _)| image.id).collect();
    let tags = view.all::<TagRecord>(RecordKind::Tag)?;
    for (_, tag) in tags.iter().filter(|(_, tag)| !tag.pulled) {
        ids.remove(&tag.image);
    }
    let own = tags.into_iter().filter(|(_, tag)| ids.contains(&tag.image));
    let changes = own.map(|(key, _)| CatalogChange::Remove(RecordKind::Tag, key));
    Ok((changes.collect(), ids))
}
