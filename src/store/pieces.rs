//! The entries of a layer in pieces: those that an earlier version has published are copied out of
//! its blob, and the blob of the layer has the others. docs/FORMAT.md, "Layers in pieces", has the bytes.

use std::collections::BTreeMap;

use zerocopy::FromBytes;

use super::codec::{ByteReader, count};
use super::{StoreError, layer_file};
use crate::digest::{Digest, Sha256};
use crate::image::index_file::RunRecord;

const MAGIC: [u8; 8] = *b"stratpcs";

/// The version that is written, and the only one that is read.
const PIECES_VERSION: u32 = 1;

/// Packs have numbers below this.
const PACK_NUMBERS: u32 = 1 << 31;

/// Packs by the numbers that runs call them by. Numbers stay from version to version, so that entries do.
pub(crate) type PackNumbers = BTreeMap<u32, Digest>;

/// Bytes of the entries that some blob has itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryPiece {
    /// 0 for the blob at hand, else one more than the number of a source.
    pub(crate) from: u32,
    pub(crate) place: u32,
    pub(crate) len: u32,
}

/// A blob with entries, decompressed: the file of a layer, all of whose entries are its own, or pieces.
#[derive(Debug)]
pub(crate) struct EntriesBlob {
    packs: PackNumbers,
    sources: Vec<Sha256>,
    pieces: Vec<EntryPiece>,
    bytes: Vec<u8>,
    /// Where in `bytes` the entries begin that it has itself.
    own: usize,
    is_file: bool,
}

/// Finds a blob that pieces are copied from.
pub(crate) type FindSource<'b> = dyn Fn(&Sha256) -> Option<&'b EntriesBlob> + 'b;

impl EntriesBlob {
    /// Reads one; `None` for what is none.
    pub(crate) fn read(bytes: Vec<u8>) -> Option<Self> {
        if let Some((packs, own)) = layer_file::head(&bytes) {
            let len = u32::try_from(bytes.len() - own).ok()?;
            return Some(Self {
                packs: (0..).zip(packs).collect(),
                sources: Vec::new(),
                pieces: vec![EntryPiece {
                    from: 0,
                    place: 0,
                    len,
                }],
                bytes,
                own,
                is_file: true,
            });
        }
        let mut reader = ByteReader::new(&bytes);
        if reader.array() != Some(MAGIC) || reader.u32() != Some(PIECES_VERSION) {
            return None;
        }
        let counts = (reader.u32()?, reader.u32()?, reader.u32()?);
        let packs = read_packs(&mut reader, counts.0)?;
        let sources = read_sources(&mut reader, counts.1)?;
        let pieces = read_pieces(&mut reader, counts.2)?;
        let own = reader.offset();
        Some(Self {
            packs,
            sources,
            pieces,
            bytes,
            own,
            is_file: false,
        })
    }

    /// Returns whether it is a layer's file as a store has it.
    pub(crate) fn is_file(&self) -> bool {
        self.is_file
    }

    /// Returns how many bytes it has.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Returns the bytes as they were read.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Returns the packs that its entries name.
    pub(crate) fn packs(&self) -> &PackNumbers {
        &self.packs
    }

    /// Returns the blobs that it copies from, by their digests.
    pub(crate) fn sources(&self) -> &[Sha256] {
        &self.sources
    }

    /// Returns the entries that it has itself.
    pub(crate) fn own(&self) -> &[u8] {
        self.bytes.get(self.own..).unwrap_or_default()
    }

    /// Puts all entries of the layer together, of which there may be `limit` bytes. Says what is wrong.
    pub(crate) fn entries<'b>(
        &'b self,
        find: &FindSource<'b>,
        limit: u64,
    ) -> Result<Vec<u8>, String> {
        let lens = self.pieces.iter().map(|piece| u64::from(piece.len));
        let sum = lens.fold(0, u64::saturating_add);
        if sum > limit {
            return Err(format!(
                "its pieces have {sum} bytes together, {limit} were expected at most"
            ));
        }
        let mut out = Vec::new();
        for piece in &self.pieces {
            out.extend_from_slice(self.piece(piece, find)?);
        }
        Ok(out)
    }

    fn piece<'b>(&'b self, piece: &EntryPiece, find: &FindSource<'b>) -> Result<&'b [u8], String> {
        let blob = match piece.from.checked_sub(1) {
            None => self,
            Some(number) => {
                let known = self.sources.len();
                let named = self.sources.get(number as usize).ok_or_else(|| {
                    format!("a piece is copied from blob {number}, and it names {known}")
                })?;
                let missing =
                    || format!("it copies from {named}, which the manifest does not name");
                find(named).ok_or_else(missing)?
            }
        };
        let own = blob.own();
        let place = piece.place as usize;
        let end = place.checked_add(piece.len as usize);
        end.and_then(|end| own.get(place..end)).ok_or_else(|| {
            let (from, len) = (piece.from, piece.len);
            format!(
                "a piece of {len} bytes at {place} of source {from}, which has {} bytes of entries",
                own.len()
            )
        })
    }

    /// Makes the file of the layer as a store has it, of `limit` bytes of entries at most.
    pub(crate) fn file<'b>(&'b self, find: &FindSource<'b>, limit: u64) -> Result<Vec<u8>, String> {
        if self.is_file {
            return Ok(self.bytes.clone());
        }
        let mut entries = self.entries(find, limit)?;
        let packs = count_from_zero(&mut entries, &self.packs)?;
        layer_file::with_head(&packs, entries).map_err(|error| error.to_string())
    }
}

/// Writes a blob of pieces.
pub(crate) fn encode_pieces(
    packs: &PackNumbers,
    sources: &[Sha256],
    pieces: &[EntryPiece],
    own: &[u8],
) -> Result<Vec<u8>, StoreError> {
    let mut out = MAGIC.to_vec();
    out.extend(PIECES_VERSION.to_le_bytes());
    out.extend(count(packs.len(), "packs of a layer")?.to_le_bytes());
    out.extend(count(sources.len(), "blobs that a layer copies from")?.to_le_bytes());
    out.extend(count(pieces.len(), "pieces of a layer")?.to_le_bytes());
    for (number, name) in packs {
        out.extend(number.to_le_bytes());
        out.extend(name.as_bytes());
    }
    sources.iter().for_each(|it| out.extend(it.as_bytes()));
    for piece in pieces {
        for number in [piece.from, piece.place, piece.len] {
            out.extend(number.to_le_bytes());
        }
    }
    out.extend_from_slice(own);
    Ok(out)
}

/// Reads records of a size. They are taken off before anything is allocated.
fn records<'b, const N: usize>(
    reader: &mut ByteReader<'b>,
    count: u32,
) -> Option<impl Iterator<Item = &'b [u8; N]>> {
    let bytes = reader.bytes((count as usize).checked_mul(N)?)?;
    Some(bytes.as_chunks::<N>().0.iter())
}

/// Reads packs, whose numbers have to ascend, with room for as many above them.
fn read_packs(reader: &mut ByteReader<'_>, count: u32) -> Option<PackNumbers> {
    let mut packs = PackNumbers::new();
    for record in records::<36>(reader, count)? {
        let (number, name) = record.split_first_chunk()?;
        let number = u32::from_le_bytes(*number);
        let is_next = packs.last_key_value().is_none_or(|last| *last.0 < number);
        if !is_next || number >= PACK_NUMBERS {
            return None;
        }
        packs.insert(number, Digest::from_bytes(*name.first_chunk()?));
    }
    Some(packs)
}

fn read_sources(reader: &mut ByteReader<'_>, count: u32) -> Option<Vec<Sha256>> {
    let all = records::<32>(reader, count)?;
    Some(all.map(|it| Sha256::from_bytes(*it)).collect())
}

fn read_pieces(reader: &mut ByteReader<'_>, count: u32) -> Option<Vec<EntryPiece>> {
    let number = |bytes: &[u8; 12], at: usize| {
        let bytes = bytes.get(at..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    };
    let piece = |bytes: &[u8; 12]| {
        Some(EntryPiece {
            from: number(bytes, 0)?,
            place: number(bytes, 4)?,
            len: number(bytes, 8)?,
        })
    };
    records::<12>(reader, count)?.map(piece).collect()
}

/// Calls packs by their places in a list, as the file of a layer does. Returns the list.
fn count_from_zero(entries: &mut [u8], packs: &PackNumbers) -> Result<Vec<Digest>, String> {
    let places: BTreeMap<u32, u32> = packs.keys().copied().zip(0..).collect();
    for span in spans(entries)? {
        let bytes = entries.get_mut(span.runs).unwrap_or_default();
        for run in <[RunRecord]>::mut_from_bytes(bytes).unwrap_or_default() {
            let number = run.pack.get();
            let place = places.get(&number).ok_or_else(|| {
                let known = places.len();
                format!(
                    "an entry names pack {number}, which is not one of the {known} that are listed"
                )
            })?;
            run.pack = (*place).into();
        }
    }
    Ok(packs.values().copied().collect())
}

/// Where an entry lies among others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntrySpan {
    pub(crate) start: usize,
    /// Its runs; nothing where it has none. They are its last bytes.
    pub(crate) runs: std::ops::Range<usize>,
}

impl EntrySpan {
    /// Returns where the entry ends.
    pub(crate) fn end(&self) -> usize {
        self.runs.end
    }
}

/// Finds where each entry lies. Says what is wrong.
pub(crate) fn spans(entries: &[u8]) -> Result<Vec<EntrySpan>, String> {
    let mut reader = ByteReader::new(entries);
    let mut spans = Vec::new();
    while !reader.is_at_end() {
        let start = reader.offset();
        let runs = layer_file::pass_over(&mut reader);
        let runs = runs.ok_or_else(|| format!("no entry at byte {start} of its entries"))?;
        spans.push(EntrySpan { start, runs });
    }
    Ok(spans)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packs(numbers: &[u32]) -> PackNumbers {
        let name = |number: &u32| (*number, Digest::of(&number.to_le_bytes()));
        numbers.iter().map(name).collect()
    }

    /// A file in the root whose one run lies in a pack.
    fn entry(name: u8, pack: u32) -> Vec<u8> {
        let mut out = vec![2, 1, 0, 1, name, 0];
        out.extend([0; 26]);
        out.extend(1_u64.to_le_bytes());
        out.extend([name; 32]);
        out.extend(1_u32.to_le_bytes());
        out.extend(0_u64.to_le_bytes());
        for number in [pack, 4096, 1] {
            out.extend(number.to_le_bytes());
        }
        out
    }

    fn piece(from: u32, place: usize, len: usize) -> EntryPiece {
        let narrow = |number: usize| u32::try_from(number).unwrap();
        EntryPiece {
            from,
            place: narrow(place),
            len: narrow(len),
        }
    }

    fn blob(
        packs: &PackNumbers,
        sources: &[Sha256],
        pieces: &[EntryPiece],
        own: &[u8],
    ) -> EntriesBlob {
        EntriesBlob::read(encode_pieces(packs, sources, pieces, own).unwrap()).unwrap()
    }

    #[test]
    fn pieces_are_put_together_in_their_order_and_packs_counted_from_zero() {
        let (a, b, c) = (entry(b'a', 3), entry(b'b', 7), entry(b'c', 3));
        let len = a.len();
        let base = layer_file::with_head(&[Digest::of(b"x")], [a.clone(), c.clone()].concat());
        let base = EntriesBlob::read(base.unwrap()).unwrap();
        assert!(base.is_file() && base.own().len() == 2 * len);
        let name = Sha256::from_bytes([1; 32]);
        let pieces = [piece(1, 0, len), piece(0, 0, len), piece(1, len, len)];
        let own = blob(&packs(&[3, 7]), &[name], &pieces, &b);
        let find = |named: &Sha256| (*named == name).then_some(&base);
        assert_eq!(
            own.entries(&find, 1 << 20).unwrap(),
            [&a[..], &b, &c].concat()
        );
        let file = own.file(&find, 1 << 20).unwrap();
        let (names, at) = layer_file::head(&file).unwrap();
        assert_eq!(names, packs(&[3, 7]).into_values().collect::<Vec<_>>());
        let counted = [entry(b'a', 0), entry(b'b', 1), entry(b'c', 0)].concat();
        assert_eq!(&file[at..], counted);
    }

    #[test]
    fn invalid_pieces_are_refused_by_name() {
        let own = entry(b'a', 0);
        let len = own.len();
        let name = Sha256::from_bytes([1; 32]);
        let wrong = |numbers: &[u32], pieces: &[EntryPiece], limit: u64| {
            let made = blob(&packs(numbers), &[name], pieces, &own);
            made.file(&|_: &Sha256| None, limit).unwrap_err()
        };
        let tries = [
            (wrong(&[0], &[piece(1, 0, len)], 1000), "does not name"),
            (
                wrong(&[0], &[piece(3, 0, len)], 1000),
                "blob 2, and it names 1",
            ),
            (wrong(&[0], &[piece(0, 1, len)], 1000), "bytes of entries"),
            (
                wrong(&[0], &[piece(0, 0, 1 << 31)], 1000),
                "1000 were expected",
            ),
            (
                wrong(&[0], &[piece(0, 0, len); 100], 1000),
                "1000 were expected",
            ),
            (
                wrong(&[0], &[piece(0, 1, len - 1)], 1000),
                "no entry at byte",
            ),
            (wrong(&[5], &[piece(0, 0, len)], 1000), "names pack 0"),
        ];
        for (error, want) in tries {
            assert!(error.contains(want), "{want}: {error}");
        }
    }

    #[test]
    fn a_head_that_says_more_than_there_is_is_none() {
        let good = encode_pieces(&packs(&[1, 4]), &[], &[piece(0, 0, 0)], b"").unwrap();
        assert!(EntriesBlob::read(good.clone()).is_some());
        for cut in 0..good.len() {
            assert!(EntriesBlob::read(good[..cut].to_vec()).is_none(), "{cut}");
        }
        for at in [12, 16, 20] {
            let mut many = good.clone();
            many[at..at + 4].fill(0xff);
            assert!(EntriesBlob::read(many).is_none(), "{at}");
        }
        // Numbers that do not ascend.
        for number in [4_u32, 5] {
            let mut other = good.clone();
            other[24..28].copy_from_slice(&number.to_le_bytes());
            assert!(EntriesBlob::read(other).is_none());
        }
        let mut large = good;
        large[60..64].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(EntriesBlob::read(large).is_none());
    }
}
