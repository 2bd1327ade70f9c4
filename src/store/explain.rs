//! Which chunks a file is made of.

use super::file::StoredFile;
use super::{Store, StoreError};
use crate::chunk::Content;
use crate::digest::Digest;

/// A chunk at rest, as a file uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredChunk {
    /// Where its bytes are in the file.
    pub offset: u64,
    /// How many they are.
    pub bytes: u32,
    /// Its digest: files that have the same share it.
    pub digest: Digest,
    /// The pack that it lies in.
    pub pack: Digest,
    /// Where it lies there.
    pub pack_offset: u64,
}

impl Store {
    /// Lists the chunks of a file from this store, in order; none of a content
    /// from elsewhere. Reads the tables of the packs, no chunk.
    ///
    /// # Errors
    ///
    /// Those of reading the packs' tables.
    pub fn chunks(&self, content: &Content) -> Result<Vec<StoredChunk>, StoreError> {
        let mut found = Vec::new();
        let runs = StoredFile::of(content).map(|file| (file, &file.runs));
        for (file, run) in runs
            .into_iter()
            .flat_map(|(file, runs)| runs.iter().map(move |run| (file, run)))
        {
            let pack = file.packs.get(run.pack.get())?;
            let Some(name) = pack.name() else { continue };
            let start = u64::from(run.offset.get());
            for (digest, at, bytes) in pack.chunks_in(start, run.len.get().into())? {
                found.push(StoredChunk {
                    offset: run.at.get() + at.saturating_sub(start),
                    bytes,
                    digest,
                    pack: name,
                    pack_offset: at,
                });
            }
        }
        Ok(found)
    }
}
