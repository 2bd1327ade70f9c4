//! Tables of small packs, which an image has together in one blob: so that who has none of them asks
//! once. docs/FORMAT.md has the bytes.

use std::collections::{HashMap, HashSet};

use crate::digest::Digest;
use crate::limits::MAX_LISTED_TABLES_BYTES;
use crate::source::{BlobDigest, hidden};
use crate::transfer::TransferError;
use crate::transfer::lazy::NotedTable;
use crate::transfer::remote::Origin;
use crate::transfer::table_room::TableRoom;

/// What a manifest says of such a blob.
pub(super) struct NotedTables<'n> {
    pub(super) digest: &'n BlobDigest,
    pub(super) size: u64,
    /// The packs whose tables it has, as [`TABLES_ANNOTATION`](crate::source::packed::TABLES_ANNOTATION)
    /// says it.
    pub(super) packs: Option<&'n str>,
    /// All of it, if the manifest has it itself.
    pub(super) inline: Option<&'n [u8]>,
}

/// Tables that have come, by their digests: each is vouched for by what the manifest says of its pack.
#[derive(Default)]
pub(super) struct ListedTables(HashMap<Digest, Vec<u8>>);

impl ListedTables {
    /// Fetches them, if they have those of at least two of the packs that are `wanted`, by their numbers: one
    /// is had with as few requests from its pack. Says what is wrong, if something is.
    pub(super) fn fetch(
        origin: &dyn Origin,
        noted: &NotedTables<'_>,
        room: &mut TableRoom,
        wanted: &HashSet<usize>,
    ) -> Result<Result<Self, String>, TransferError> {
        let numbers = noted.packs.unwrap_or_default().split(',');
        let numbers: Result<HashSet<usize>, _> = numbers.map(str::parse).collect();
        let Ok(numbers) = numbers else {
            return Ok(Err("it was expected to say the numbers of packs".to_owned()));
        };
        if numbers.intersection(wanted).count() < 2 {
            return Ok(Ok(Self::default()));
        }
        if noted.size > MAX_LISTED_TABLES_BYTES {
            return Ok(Err(format!(
                "it has {} bytes, tables that are sent together have {MAX_LISTED_TABLES_BYTES} at most",
                noted.size
            )));
        }
        if let Err(what) = room.fetch(noted.size) {
            return Ok(Err(what));
        }
        let mut fetched = Vec::new();
        let bytes = match noted.inline {
            Some(bytes) => bytes,
            None => {
                origin.fetch((noted.digest, noted.size), &mut fetched, &mut |_| true)?;
                &fetched
            }
        };
        let tables = hidden::each(bytes).ok_or("it was expected to have nothing but tables");
        Ok(tables.map(Self::of).map_err(str::to_owned))
    }

    fn of(tables: Vec<&[u8]>) -> Self {
        let pairs = tables.into_iter();
        Self(pairs.map(|it| (Digest::of(it), it.to_vec())).collect())
    }

    /// Returns the table of a pack, if it is among them.
    pub(super) fn get(&self, noted: &NotedTable<'_>) -> Option<&[u8]> {
        let digest = noted.stated?.splitn(3, ':').nth(2)?.parse().ok()?;
        self.0.get(&digest).map(Vec::as_slice)
    }
}
