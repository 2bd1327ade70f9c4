//! Going through an image in canonical order, without recursion.

use std::ops::Range;

use super::Image;
use super::index::SlotRef;
use crate::meta::Kind;
use crate::name::{LayerPath, Name};

/// One step of a walk: a directory's entries by name, what is in a directory
/// right after it. The root is entered before the first step. The walk ends
/// early when the image turns out to be damaged.
pub(super) enum ImageStep<'a> {
    Enter(SlotRef<'a>),
    Leaf(SlotRef<'a>),
    Leave,
}

pub(super) struct ImageWalk<'a> {
    image: &'a Image,
    /// The directories that are entered, the root first: what is left of
    /// each, and the last directory seen there.
    open: Vec<(Range<u32>, u32)>,
    /// The entry that the last step was at, in each of them.
    path: Vec<u32>,
}

impl<'a> ImageWalk<'a> {
    pub(super) fn new(image: &'a Image) -> Self {
        image.begin();
        Self {
            image,
            open: vec![(image.slots(0), 0)],
            path: vec![0],
        }
    }

    /// Returns the path of the last step's leaf. O(its length).
    pub(super) fn path(&self) -> LayerPath {
        let entries = self.path.iter().filter_map(|slot| self.image.slot(*slot));
        let names: Vec<_> = entries
            .map(|entry| Name::from_checked(entry.name))
            .collect();
        names.into()
    }
}

impl<'a> Iterator for ImageWalk<'a> {
    type Item = ImageStep<'a>;

    fn next(&mut self) -> Option<ImageStep<'a>> {
        // Once damaged, directories may be within themselves.
        self.image.check_undamaged().ok()?;
        let (slots, last) = self.open.last_mut()?;
        let Some(slot) = slots.next() else {
            self.open.pop();
            self.path.pop();
            return (!self.open.is_empty()).then_some(ImageStep::Leave);
        };
        let entry = self.image.slot(slot)?;
        if entry.kind == Kind::Dir && !self.image.check_order(last, entry.node) {
            return None;
        }
        if let Some(at) = self.path.last_mut() {
            *at = slot;
        }
        Some(match entry.kind {
            Kind::Dir => {
                self.open.push((self.image.slots(entry.node), 0));
                self.path.push(slot);
                ImageStep::Enter(entry)
            }
            Kind::File | Kind::Symlink => ImageStep::Leaf(entry),
        })
    }
}
