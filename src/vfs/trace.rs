//! Traces: which files of the base were opened, and which bytes were read.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits::{MAX_TRACE_ALL_RANGES, MAX_TRACE_FILES, MAX_TRACE_RANGES};
use crate::meta::FileId;
use crate::name::LayerPath;

use super::Fs;

/// What an instance touched of its base, in the order of first touch. Given to
/// [`FsBuilder::trace`](super::FsBuilder::trace); clones are handles on one
/// trace. Without one, an open or a read costs one comparison more.
///
/// A trace keeps [`MAX_TRACE_FILES`] files and [`MAX_TRACE_ALL_RANGES`] ranges,
/// whatever guests do; [`Self::left_out`] counts what it has no room for.
///
/// Its lock comes after the instance's, and nothing comes after it.
///
/// ```
/// use stratafs::image::Image;
/// use stratafs::vfs::{Fs, Trace};
///
/// # let dir = tempfile::tempdir()?;
/// std::fs::write(dir.path().join("read"), "some bytes")?;
/// std::fs::write(dir.path().join("not-read"), "others")?;
/// let base = Image::from_dir(dir.path())?;
/// let fs = Fs::builder(&base).trace(Trace::new()).build();
/// fs.read("/read")?;
/// let files = fs.collect_trace().unwrap_or_default();
/// assert_eq!((files.len(), files[0].read_bytes()), (1, 10));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Trace(Arc<Mutex<TraceRecords>>);

#[derive(Debug)]
struct TraceRecords {
    files: Vec<FileTrace>,
    place: HashMap<FileId, usize>,
    /// Ranges of all files, the first of each not counted.
    ranges: usize,
    /// Opens and reads of files past `max_files`.
    left_out: u64,
    max_files: usize,
    max_ranges: usize,
}

impl Default for TraceRecords {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            place: HashMap::new(),
            ranges: 0,
            left_out: 0,
            max_files: MAX_TRACE_FILES,
            max_ranges: MAX_TRACE_ALL_RANGES,
        }
    }
}

#[derive(Clone, Debug)]
struct FileTrace {
    id: FileId,
    opens: u64,
    /// By start; none overlaps or adjoins another.
    ranges: BTreeMap<u64, ReadRange>,
    /// How many ranges were begun.
    begun: u64,
}

/// What was read from some start.
#[derive(Clone, Copy, Debug)]
struct ReadRange {
    end: u64,
    /// When it, or the earliest range that is in it, was begun.
    order: u64,
}

/// A file of the base that was opened. Made by [`Fs::collect_trace`].
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
    /// one; past [`MAX_TRACE_RANGES`] and [`MAX_TRACE_ALL_RANGES`] the two
    /// nearest are joined with what lies between.
    pub ranges: Vec<Range<u64>>,
}

impl TracedFile {
    /// Returns how many bytes the ranges have together.
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

    /// Counts the opens and reads of files that are not in this trace because
    /// it holds [`MAX_TRACE_FILES`] others.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.0.lock().left_out
    }

    pub(super) fn opened(&self, id: FileId) {
        if let Some((file, _)) = self.0.lock().touch(id) {
            file.opens += 1;
        }
    }

    pub(super) fn read(&self, id: FileId, offset: u64, len: usize) {
        if len > 0 {
            let end = offset.saturating_add(len as u64);
            self.0.lock().read(id, offset..end);
        }
    }
}

impl TraceRecords {
    /// The file, and how many ranges more there is room for; `None` if there is
    /// no room for the file.
    fn touch(&mut self, id: FileId) -> Option<(&mut FileTrace, usize)> {
        let room = self.max_ranges.saturating_sub(self.ranges);
        let at = match self.place.get(&id) {
            Some(at) => *at,
            None if self.files.len() >= self.max_files => {
                self.left_out += 1;
                return None;
            }
            None => {
                self.files.push(FileTrace::new(id));
                self.place.insert(id, self.files.len() - 1);
                self.files.len() - 1
            }
        };
        self.files.get_mut(at).map(|file| (file, room))
    }

    fn read(&mut self, id: FileId, new: Range<u64>) {
        let Some((file, room)) = self.touch(id) else {
            return;
        };
        let had = file.further_ranges();
        file.add(new);
        let has = file.further_ranges();
        if has > had && (has >= MAX_TRACE_RANGES || room == 0) {
            file.join_nearest();
        }
        let has = file.further_ranges();
        self.ranges = (self.ranges + has).saturating_sub(had);
    }
}

impl FileTrace {
    fn new(id: FileId) -> Self {
        Self {
            id,
            opens: 0,
            ranges: BTreeMap::new(),
            begun: 0,
        }
    }

    fn further_ranges(&self) -> usize {
        self.ranges.len().saturating_sub(1)
    }

    /// Adds what was read, joined with all ranges that it meets, at the place of
    /// the earliest. O(log ranges) and O(ranges that are joined).
    fn add(&mut self, new: Range<u64>) {
        let Range { mut start, mut end } = new;
        let mut order = self.begun;
        self.begun += 1;
        while let Some((from, read)) = self.ranges.range(..=end).next_back() {
            if read.end < start {
                break;
            }
            let (from, read) = (*from, *read);
            (start, end) = (start.min(from), end.max(read.end));
            order = order.min(read.order);
            self.ranges.remove(&from);
        }
        self.ranges.insert(start, ReadRange { end, order });
    }

    /// Joins the two ranges with the smallest gap between them. O(ranges), of
    /// which there are [`MAX_TRACE_RANGES`].
    fn join_nearest(&mut self) {
        let pairs = self.ranges.iter().zip(self.ranges.iter().skip(1));
        let gaps = pairs.map(|((_, low), (high, _))| low.end..*high);
        if let Some(gap) = gaps.min_by_key(|gap| gap.end - gap.start) {
            self.add(gap);
        }
    }

    /// The ranges in the order in which they were begun.
    fn in_order(&self) -> Vec<Range<u64>> {
        let mut all: Vec<_> = self.ranges.iter().collect();
        all.sort_by_key(|(_, read)| read.order);
        let range = |(start, read): (&u64, &ReadRange)| *start..read.end;
        all.into_iter().map(range).collect()
    }
}

impl Fs {
    /// Walks the base and returns what has been touched of it until now, in the order
    /// of first touch; `None` for an instance without a trace. O(objects of the base).
    ///
    /// Every descriptor counts, the host's own calls included. Bytes that the
    /// instance itself wrote into a base file count as read when they are.
    #[must_use]
    pub fn collect_trace(&self) -> Option<Vec<TracedFile>> {
        let files = self.trace()?.0.lock().files.clone();
        let wanted = files.iter().filter_map(|file| self.base_node(file.id));
        let mut paths = self.image().paths_of(&wanted.collect());
        let named = files.into_iter().filter_map(|file| {
            let node = self.base_node(file.id)?;
            Some(TracedFile {
                path: paths.remove(&node)?,
                size: self.image().stat(node).size,
                opens: file.opens,
                ranges: file.in_order(),
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
        let mut seen = TraceRecords::default();
        for (start, end) in reads {
            seen.read(FileId::ROOT, *start..*end);
        }
        let pair = |range: Range<u64>| (range.start, range.end);
        seen.files[0].in_order().into_iter().map(pair).collect()
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

    fn id(number: u64) -> FileId {
        FileId::new(number.try_into().unwrap())
    }

    #[test]
    fn a_trace_keeps_a_bounded_number_of_files() {
        let mut seen = TraceRecords::default();
        for number in 1..=MAX_TRACE_FILES as u64 {
            assert!(seen.touch(id(number)).is_some());
        }
        assert!(seen.touch(id(1 << 40)).is_none());
        seen.read(id(1 << 41), 0..9);
        assert!(seen.touch(id(1)).is_some(), "one that it has");
        assert_eq!((seen.files.len(), seen.left_out), (MAX_TRACE_FILES, 2));
    }

    #[test]
    fn a_trace_keeps_a_bounded_number_of_ranges_of_all_files() {
        let each = MAX_TRACE_RANGES as u64 - 1;
        let files = MAX_TRACE_ALL_RANGES as u64 / each + 3;
        let mut seen = TraceRecords::default();
        for number in 1..=files {
            for at in 0..=each {
                seen.read(id(number), at * 10..at * 10 + 1);
            }
        }
        let all: usize = seen.files.iter().map(FileTrace::further_ranges).sum();
        assert_eq!(
            (all, seen.ranges),
            (MAX_TRACE_ALL_RANGES, MAX_TRACE_ALL_RANGES)
        );
        // What came last is still there, in fewer and larger ranges.
        let last = seen.files.last().unwrap();
        let ranges = last.in_order();
        assert_eq!((ranges.len(), ranges[0].clone()), (1, 0..each * 10 + 1));
        // A join gives its room to the next that needs it.
        seen.read(id(1), 0..15);
        assert_eq!(seen.ranges, MAX_TRACE_ALL_RANGES - 1);
    }
}
