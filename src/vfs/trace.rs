//! Traces: which files of the base were opened, and which bytes were read.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits::MAX_TRACE_RANGES;
use crate::meta::FileId;
use crate::name::LayerPath;

use super::Fs;

/// What an instance touched of its base, in the order of first touch. Given to
/// [`FsBuilder::trace`](super::FsBuilder::trace); clones are handles on one
/// trace. Without one, an open or a read costs one comparison more.
///
/// Lock order: a trace comes after its instance, and nothing comes after it.
#[derive(Clone, Debug, Default)]
pub struct Trace(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    files: Vec<Touched>,
    place: HashMap<FileId, usize>,
}

#[derive(Clone, Debug)]
struct Touched {
    id: FileId,
    opens: u64,
    /// In the order of first touch; none overlaps or adjoins another.
    ranges: Vec<Range<u64>>,
}

/// A file of the base that was opened. Made by [`Fs::traced`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TracedFile {
    /// Its first name in the base, whatever the instance calls it now.
    pub path: LayerPath,
    /// Its bytes in the base.
    pub size: u64,
    /// How often it was opened.
    pub opens: u64,
    /// What was read of it, in the order of first touch. Ranges that meet are
    /// one; past [`MAX_TRACE_RANGES`] the two nearest are joined with what
    /// lies between.
    pub ranges: Vec<Range<u64>>,
}

impl TracedFile {
    /// Gives how many bytes the ranges have together.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        self.ranges
            .iter()
            .map(|range| range.end - range.start)
            .sum()
    }
}

impl Trace {
    /// Starts an empty trace.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn opened(&self, id: FileId) {
        self.0.lock().touch(id, |file| file.opens += 1);
    }

    pub(super) fn read(&self, id: FileId, offset: u64, len: usize) {
        if len > 0 {
            let end = offset.saturating_add(len as u64);
            self.0.lock().touch(id, |file| file.add(offset..end));
        }
    }
}

impl Seen {
    fn touch(&mut self, id: FileId, change: impl FnOnce(&mut Touched)) {
        let Self { files, place } = self;
        let at = *place.entry(id).or_insert(files.len());
        if at == files.len() {
            files.push(Touched {
                id,
                opens: 0,
                ranges: Vec::new(),
            });
        }
        if let Some(file) = files.get_mut(at) {
            change(file);
        }
    }
}

impl Touched {
    /// Adds what was read, joined to the earliest range that it meets.
    fn add(&mut self, new: Range<u64>) {
        // Most reads go on where the one before ended.
        let goes_on = self.ranges.last().is_some_and(|last| last.end == new.start);
        if goes_on && self.ranges.len() == 1 {
            if let Some(last) = self.ranges.last_mut() {
                last.end = new.end;
            }
            return;
        }
        let meets = |range: &Range<u64>| range.start <= new.end && new.start <= range.end;
        let Some(first) = self.ranges.iter().position(meets) else {
            self.ranges.push(new);
            if self.ranges.len() > MAX_TRACE_RANGES {
                self.join_nearest();
            }
            return;
        };
        let (mut whole, mut at) = (new.clone(), 0);
        self.ranges.retain(|range| {
            let joined = meets(range);
            if joined {
                whole = whole.start.min(range.start)..whole.end.max(range.end);
            }
            let keep = !joined || at == first;
            at += 1;
            keep
        });
        if let Some(range) = self.ranges.get_mut(first) {
            *range = whole;
        }
    }

    /// Joins the two ranges with the smallest gap between them.
    fn join_nearest(&mut self) {
        let mut by_start = self.ranges.clone();
        by_start.sort_by_key(|range| range.start);
        let pairs = by_start.iter().zip(by_start.iter().skip(1));
        let nearest = pairs.min_by_key(|(low, high)| high.start.saturating_sub(low.end));
        if let Some((low, high)) = nearest {
            self.add(low.end..high.start);
        }
    }
}

impl Fs {
    /// Gives what has been touched of the base until now, in the order of
    /// first touch; `None` for an instance without a trace. Every descriptor
    /// counts, the host's own calls included. Bytes that the instance itself
    /// wrote into a base file count as read when they are. O(base).
    #[must_use]
    pub fn traced(&self) -> Option<Vec<TracedFile>> {
        let files = self.trace()?.0.lock().files.clone();
        let wanted = files.iter().filter_map(|file| self.base_node(file.id));
        let mut paths = self.image().paths_of(&wanted.collect());
        let named = files.into_iter().filter_map(|file| {
            let node = self.base_node(file.id)?;
            Some(TracedFile {
                path: paths.remove(&node)?,
                size: self.image().stat(node).size,
                opens: file.opens,
                ranges: file.ranges,
            })
        });
        Some(named.collect())
    }

    fn base_node(&self, id: FileId) -> Option<u32> {
        id.node_below(self.image().nodes())
    }

    /// Notes an open or a read of a base file, if there is a trace.
    pub(super) fn note(&self, id: FileId, note: impl FnOnce(&Trace)) {
        if let Some(trace) = self.trace()
            && self.base_node(id).is_some()
        {
            note(trace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(reads: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut file = Touched {
            id: FileId::ROOT,
            opens: 0,
            ranges: Vec::new(),
        };
        for (start, end) in reads {
            file.add(*start..*end);
        }
        let pair = |range: &Range<u64>| (range.start, range.end);
        file.ranges.iter().map(pair).collect()
    }

    #[test]
    fn ranges_that_meet_are_one_at_the_place_of_the_first() {
        assert_eq!(ranges(&[(0, 4), (4, 8), (8, 9)]), [(0, 9)]);
        let apart = [(90, 99), (0, 4), (10, 12)];
        assert_eq!(ranges(&apart), apart);
        let joined = [(90, 99), (0, 4), (10, 12), (4, 10)];
        assert_eq!(ranges(&joined), [(90, 99), (0, 12)]);
        assert_eq!(ranges(&[(10, 12), (50, 60), (0, 100)]), [(0, 100)]);
        let again = [(5, 6), (5, 6), (0, 1), (5, 6)];
        assert_eq!(ranges(&again), [(5, 6), (0, 1)]);
    }

    #[test]
    fn past_the_bound_the_nearest_are_joined() {
        let mut reads: Vec<_> = (0..MAX_TRACE_RANGES as u64)
            .map(|at| (at * 10, at * 10 + 1))
            .collect();
        assert_eq!(ranges(&reads).len(), MAX_TRACE_RANGES);
        reads.push((3, 4));
        let joined = ranges(&reads);
        assert_eq!((joined.len(), joined[0]), (MAX_TRACE_RANGES, (0, 4)));
    }
}
