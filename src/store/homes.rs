//! The homes of a pack of which chunks are absent: the images that its blob can be had from, the one that
//! was pulled last first.

use super::StoreError;
use super::disk::Disk;
use super::failed_homes::place_of;
use super::lazy_pack::LazyPack;
use crate::digest::{Digest, Sha256};
use crate::limits::MAX_HOMES;

/// Names an image as it is called at another one's place.
pub(super) fn named_at(home: &str, image: &str) -> String {
    match image.rsplit_once('@') {
        Some((_, digest)) => format!("{}@{digest}", place_of(home)),
        None => image.to_owned(),
    }
}

/// Puts a home in front of others; it takes the place of another image at the same place.
fn add(homes: &mut Vec<String>, home: &str) {
    homes.retain(|known| place_of(known) != place_of(home));
    homes.insert(0, home.to_owned());
    homes.truncate(MAX_HOMES);
}

impl LazyPack {
    /// Notes that the chunks of a pack, if some may not be here, can be had from another home as
    /// well, which has the same blob.
    pub(super) fn add_home(
        disk: &Disk,
        pack: Digest,
        blob: Sha256,
        home: &str,
    ) -> Result<(), StoreError> {
        let Some(mut lazy) = Self::of(disk, pack).filter(|lazy| lazy.blob == blob) else {
            return Ok(());
        };
        if lazy.homes.first().is_some_and(|first| first == home) {
            return Ok(());
        }
        add(&mut lazy.homes, home);
        lazy.put(disk, pack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_kept_by_place_and_up_to_a_bound() {
        let mut homes = vec!["a.test/x@sha256:1".to_owned()];
        add(&mut homes, "b.test/x@sha256:1");
        add(&mut homes, "a.test/x@sha256:2");
        assert_eq!(homes, ["a.test/x@sha256:2", "b.test/x@sha256:1"]);
        for number in 0..2 * MAX_HOMES {
            add(&mut homes, &format!("c{number}.test/x@sha256:1"));
        }
        assert_eq!(homes.len(), MAX_HOMES);
        assert_eq!(homes[0], format!("c{}.test/x@sha256:1", 2 * MAX_HOMES - 1));
        assert_eq!(
            named_at("b.test/y@sha256:1", "a.test/x@sha256:2"),
            "b.test/y@sha256:2"
        );
    }
}
