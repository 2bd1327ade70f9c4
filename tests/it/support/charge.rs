//! The bytes of a file of the reference model, and what it may cost of a quota.
//!
//! Nothing here works out what a write costs. A file's cost is what the count
//! of the library moved by when the file was changed, and it is held against
//! what docs/SEMANTICS.md tells a user: never less than what was written, or
//! copied with a block of a base file, and is still there; never more than
//! whole blocks that were written and are still there, as far as the file
//! goes; given back to the byte when the file goes.

use std::collections::BTreeSet;
use std::ops::Range;

use stratafs::limits::BLOCK_BYTES;

use super::reference::{Body, Id, Model};

const BLOCK: u64 = BLOCK_BYTES as u64;

#[derive(Clone, Debug, Default)]
pub struct File {
    pub bytes: Vec<u8>,
    /// What the library counts for it, as far as that is known.
    pub cost: u64,
    /// Bytes of a layer show up to here in blocks that nobody wrote into.
    base: u64,
    /// The blocks that were written into and are still there.
    touched: BTreeSet<u64>,
    /// What was written, or came with a block of a layer that was written into.
    covered: Ranges,
    /// Made by a merge of bytes: in which blocks they lie now is not known.
    merged: bool,
}

impl File {
    /// A file of a layer.
    pub fn of_layer(bytes: Vec<u8>) -> Self {
        Self {
            base: bytes.len() as u64,
            bytes,
            ..Self::default()
        }
    }

    /// Writes all of `data`.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let end = offset + data.len() as u64;
        for number in offset / BLOCK..end.div_ceil(BLOCK) {
            if self.touched.insert(number) && !self.merged {
                let start = number * BLOCK;
                self.covered.add(start..self.base.min(start + BLOCK));
            }
        }
        self.covered.add(offset..end);
        let (start, end) = (offset as usize, end as usize);
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes[start..end].copy_from_slice(data);
    }

    /// Cuts or grows.
    pub fn resize(&mut self, size: u64) {
        self.bytes.resize(size as usize, 0);
        self.base = self.base.min(size);
        self.touched.retain(|number| number * BLOCK < size);
        self.covered.cut(size);
        self.merged &= size > 0;
    }

    /// The most that writing `range` may add to the cost: each block of it up to
    /// where it is written or bytes of a layer show, less what is there already.
    fn need(&self, range: Range<u64>) -> u64 {
        let numbers = range.start / BLOCK..range.end.div_ceil(BLOCK);
        let needs = numbers.map(|number| {
            let (start, end) = (number * BLOCK, (number + 1) * BLOCK);
            let part = range.start.max(start)..range.end.min(end);
            if self.covered.within(&part) == part.end - part.start {
                return 0;
            }
            let shown = if self.merged {
                end
            } else if self.touched.contains(&number) {
                0
            } else {
                self.base.min(end)
            };
            let top = part.end.max(shown) - start;
            top.saturating_sub(self.covered.within(&(start..end)))
        });
        needs.sum()
    }

    /// The least and the most that the file may cost.
    pub fn bounds(&self) -> (u64, u64) {
        let size = self.bytes.len() as u64;
        let most = self.touched.iter().map(|number| {
            let start = number * BLOCK;
            BLOCK.min(size - start)
        });
        (self.covered.within(&(0..size)), most.sum())
    }

    /// Whether in which blocks its bytes lie is not known.
    pub fn is_mixed(&self) -> bool {
        self.merged
    }

    /// A file that a merge gave `bytes`, of what two made of one.
    pub fn merged(bytes: Vec<u8>, one: &Self, two: &Self) -> Self {
        let size = bytes.len() as u64;
        let differs = |number: &u64| {
            let block = |file: &Self| {
                let at = |end: u64| file.bytes.len().min((end * BLOCK) as usize);
                file.bytes[at(*number)..at(number + 1)].to_vec()
            };
            block(one) != block(two)
        };
        let mut touched: BTreeSet<u64> = one.touched.union(&two.touched).copied().collect();
        touched.extend((0..size.div_ceil(BLOCK)).filter(differs));
        touched.retain(|number| number * BLOCK < size);
        Self {
            bytes,
            touched,
            merged: true,
            ..Self::default()
        }
    }
}

/// Ranges of a file that are apart, in order.
#[derive(Clone, Debug, Default)]
struct Ranges(Vec<Range<u64>>);

impl Ranges {
    fn add(&mut self, mut new: Range<u64>) {
        if new.start >= new.end {
            return;
        }
        self.0.retain(|old| {
            let apart = old.end < new.start || new.end < old.start;
            if !apart {
                new = new.start.min(old.start)..new.end.max(old.end);
            }
            apart
        });
        let at = self.0.partition_point(|old| old.start < new.start);
        self.0.insert(at, new);
    }

    fn cut(&mut self, size: u64) {
        self.0.retain(|one| one.start < size);
        if let Some(last) = self.0.last_mut() {
            last.end = last.end.min(size);
        }
    }

    /// The bytes of `part` that lie in them.
    fn within(&self, part: &Range<u64>) -> u64 {
        let common = self.0.iter().map(|one| {
            let end = one.end.min(part.end);
            end.saturating_sub(one.start.max(part.start))
        });
        common.sum()
    }
}

/// What an operation does to the bytes of files, and so may do to the count.
#[derive(Clone, Debug, Default)]
pub enum Doing {
    /// Nothing, but for files that go.
    #[default]
    Nothing,
    /// A write: what it wrote needs at most so much, and the rest was not
    /// written.
    Writing {
        node: Id,
        most: u64,
        rest: Range<u64>,
    },
    Cutting(Id),
    Growing(Id),
}

impl Model {
    /// Writes as much as the library did, which may be cut short or refused.
    /// [`Self::settle`] says whether it may.
    pub fn write_some(&mut self, node: Id, offset: u64, data: &[u8], wrote: usize) {
        let Body::File(file) = &mut self.nodes[node].body else {
            unreachable!("the caller has looked it up")
        };
        let (end, all) = (offset + wrote as u64, offset + data.len() as u64);
        let most = file.need(offset..end);
        file.write(offset, &data[..wrote]);
        self.doing = Doing::Writing {
            node,
            most,
            rest: end..all,
        };
    }

    /// Takes over what the library counts after an operation, if it may be that.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn settle(&mut self, now: u64) -> Result<(), String> {
        let (doing, was) = (std::mem::take(&mut self.doing), self.usage.logical_bytes);
        let left = self.quota.max_bytes.checked_sub(now);
        let left = left.ok_or_else(|| format!("{now} bytes count, past the quota"))?;
        self.usage.logical_bytes = now;
        let fits = match &doing {
            Doing::Nothing | Doing::Growing(_) => now == was,
            Doing::Cutting(_) => now <= was,
            Doing::Writing { most, .. } => (was..=was + most).contains(&now),
        };
        if !fits {
            return Err(format!("the count went from {was} to {now} by {doing:?}"));
        }
        let (Doing::Writing { node, .. } | Doing::Cutting(node) | Doing::Growing(node)) = doing
        else {
            return Ok(());
        };
        let Body::File(file) = &mut self.nodes[node].body else {
            return Err("a write into what is no file".into());
        };
        if let Doing::Writing { rest, .. } = &doing
            && !rest.is_empty()
            && left >= file.need(rest.clone())
        {
            return Err(format!("{left} bytes are left, and {rest:?} not written"));
        }
        file.cost = (file.cost + now).checked_sub(was).unwrap_or(u64::MAX);
        let (least, most) = file.bounds();
        if (least..=most).contains(&file.cost) {
            Ok(())
        } else {
            let cost = file.cost;
            Err(format!("a file costs {cost}, not {least} to {most}"))
        }
    }
}

#[test]
fn a_file_costs_what_was_written_and_at_most_its_blocks() {
    let mut file = File::of_layer(vec![1; 5000]);
    assert_eq!((file.bounds(), file.need(0..1)), ((0, 0), 4096));
    assert_eq!(file.need(4096..4097), 904);
    // A block of the layer counts whole, and once.
    file.write(10, b"x");
    assert_eq!((file.bounds(), file.need(0..4096)), ((4096, 4096), 0));
    // Past the end of what shows a gap may count, and need not.
    file.write(8192 + 100, &[1; 10]);
    assert_eq!(file.bounds(), (4096 + 10, 4096 + 110));
    assert_eq!(file.need(8192 + 105..8192 + 120), 110);
    file.resize(8192 + 105);
    assert_eq!(file.bounds(), (4096 + 5, 4096 + 105));
    file.resize(1);
    assert_eq!(file.bounds(), (1, 1));
    file.resize(0);
    assert_eq!(file.bounds(), (0, 0));
    file.resize(5000);
    assert_eq!((file.bounds(), file.need(0..5000)), ((0, 0), 5000));
}
