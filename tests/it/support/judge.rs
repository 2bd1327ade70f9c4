//! Whether a listing is right: it shows what is there, each entry once, and
//! loses none that stayed, whatever changed while it went on.

use std::collections::BTreeSet;

use stratafs::meta::Kind;

use super::ops::{From, Slot};
use super::reference::{Body, Model};

/// A listing in progress. Entries are told apart by their serials.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    at_start: BTreeSet<u64>,
    given: Vec<u64>,
    mark: usize,
}

impl Model {
    /// Judges one step of a listing of the directory in `slot`. `same` tells
    /// whether an object of the model is the listed one.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn judge_listing(
        &mut self,
        slot: Slot,
        (from, mark): (From, bool),
        (entries, end): (&[(Vec<u8>, Kind, u64)], bool),
        same: &mut dyn FnMut(usize, u64) -> bool,
    ) -> Result<(), String> {
        let handle = self.handle(slot).map_err(|errno| errno.to_string())?;
        let mut listing = handle.listing.clone();
        let Body::Dir(dir) = &self.nodes[handle.node].body else {
            return Err("a listing of no directory".into());
        };
        match from {
            From::Start => {
                listing = Listing::default();
                listing.at_start = dir.entries.values().map(|(_, serial)| *serial).collect();
            }
            From::Next => {}
            From::Mark => listing.given.truncate(listing.mark),
        }
        for (name, kind, id) in entries {
            let Some((node, serial)) = dir.entries.get(name) else {
                return Err(format!("{name:?} is not there"));
            };
            if listing.given.contains(serial) {
                return Err(format!("{name:?} comes twice"));
            }
            if *kind != self.kind_of(*node) || !same(*node, *id) {
                return Err(format!("{name:?} is another object"));
            }
            listing.given.push(*serial);
        }
        let lost = dir.entries.iter().find(|(_, (_, serial))| {
            end && listing.at_start.contains(serial) && !listing.given.contains(serial)
        });
        if let Some((name, _)) = lost {
            return Err(format!("{name:?} was there all the time and is lost"));
        }
        if mark {
            listing.mark = listing.given.len();
        }
        if let Some(handle) = &mut self.handles[slot] {
            handle.listing = listing;
        }
        Ok(())
    }
}
