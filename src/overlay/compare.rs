//! Where two states of a file differ.
//!
//! What counts is what they read as, never how it is held: a state is the same
//! before and after a file is sealed.

use std::iter;
use std::ops::Range;

use super::blocks::FileBody;
use super::runs::{Data, Run, Runs};
use super::steps;
use crate::chunk::Content;
use crate::limits::BLOCK_BYTES;

/// [`BLOCK_BYTES`] as a file offset counts.
const BLOCK: u64 = BLOCK_BYTES as u64;

/// A state of a file, and the content of the base file that shows in it.
#[derive(Clone, Copy)]
pub(super) struct FileState<'a> {
    pub(super) file: &'a FileBody,
    pub(super) content: Option<&'a Content>,
}

impl<'a> FileState<'a> {
    fn runs(self, range: Range<u64>) -> Runs<'a> {
        self.file.runs(range).over(self.content)
    }
}

/// Returns the byte ranges in which two states differ, in order and apart: the
/// blocks that have other bytes in the part that both have, and what only the
/// longer one has. Base content that cannot be read differs.
///
/// O(blocks that are not shared, and stored bytes of the base where only one
/// of them shows it), whatever the sizes.
pub(super) fn ranges(one: FileState<'_>, two: FileState<'_>) -> Vec<Range<u64>> {
    let (short, long) = sizes(one, two);
    let mut found: Vec<Range<u64>> = Vec::new();
    for range in candidates(one.file, two.file, short) {
        let pairs = RunPairs::new(one.runs(range.clone()), two.runs(range));
        let mut done = 0;
        for pair in pairs {
            let mut at = pair.range.start.max(done);
            while at < pair.range.end {
                let stop = pair.range.end.min((at / BLOCK + 1) * BLOCK);
                if !pair.is_equal(at..stop, one, two) {
                    done = long.min((at / BLOCK + 1) * BLOCK);
                    push(&mut found, at / BLOCK * BLOCK..done);
                }
                at = if pair.is_known() {
                    pair.range.end
                } else {
                    stop
                };
                at = at.max(done);
            }
        }
    }
    if short < long {
        push(&mut found, short..long);
    }
    found
}

/// Returns whether two files read the same in `range`. O(blocks that are not
/// shared, and stored bytes of the base where only one of them shows it).
pub(super) fn is_equal(one: FileState<'_>, two: FileState<'_>, range: Range<u64>) -> bool {
    let (short, long) = sizes(one, two);
    if short.min(range.end) != long.min(range.end) {
        return false;
    }
    let pairs = RunPairs::new(one.runs(range.clone()), two.runs(range));
    pairs.into_iter().all(|pair| {
        let mut at = pair.range.start;
        while at < pair.range.end && !pair.is_known() {
            let stop = pair.range.end.min((at / BLOCK + 1) * BLOCK);
            if !pair.is_equal(at..stop, one, two) {
                return false;
            }
            at = stop;
        }
        true
    })
}

fn sizes(one: FileState<'_>, two: FileState<'_>) -> (u64, u64) {
    let (one, two) = (one.file.size(), two.file.size());
    (one.min(two), one.max(two))
}

/// Where there can be a difference before `size`: in order and apart.
fn candidates(one: &FileBody, two: &FileBody, size: u64) -> Vec<Range<u64>> {
    let (below, other) = (one.backing(), two.backing());
    if !below.owner().is_same(other.owner()) {
        return iter::once(0..size).collect();
    }
    let mut found: Vec<Range<u64>> = Vec::new();
    for number in one.block_map().differing(two.block_map()) {
        found.push(number * BLOCK..(number + 1) * BLOCK);
    }
    let (one, two) = (below.end(), other.end());
    if one != two {
        found.push(one.min(two)..one.max(two));
    }
    found.sort_by_key(|range| range.start);
    let mut apart: Vec<Range<u64>> = Vec::new();
    for range in found {
        push(&mut apart, range.start..range.end.min(size));
    }
    apart
}

/// Adds a range that starts at or after the start of the last one.
fn push(found: &mut Vec<Range<u64>>, range: Range<u64>) {
    if range.is_empty() {
        return;
    }
    match found.last_mut().filter(|last| range.start <= last.end) {
        Some(last) => last.end = last.end.max(range.end),
        None => found.push(range),
    }
}

/// Two runs of one range.
struct RunPair<'a> {
    range: Range<u64>,
    one: Data<'a>,
    two: Data<'a>,
}

impl RunPair<'_> {
    /// Returns whether both are the same bytes, known without a look at them.
    fn is_known(&self) -> bool {
        match (self.one, self.two) {
            (Data::Hole, Data::Hole) => true,
            (Data::Base(one), Data::Base(two)) => one == two,
            (Data::Block(one), Data::Block(two)) => std::ptr::eq(one, two),
            _ => false,
        }
    }

    /// Compares the bytes of `range`, which lies in one block.
    fn is_equal(&self, range: Range<u64>, one: FileState<'_>, two: FileState<'_>) -> bool {
        if self.is_known() {
            return true;
        }
        let (mut a, mut b) = ([0; BLOCK_BYTES], [0; BLOCK_BYTES]);
        let at = self.range.start;
        let one = bytes(self.one, at, &range, one.content, &mut a);
        let two = bytes(self.two, at, &range, two.content, &mut b);
        one.is_some() && one == two
    }
}

/// The bytes of `range` of a run that starts at `at`; `None` if they cannot be
/// read.
fn bytes<'a>(
    data: Data<'a>,
    at: u64,
    range: &Range<u64>,
    content: Option<&Content>,
    buf: &'a mut [u8; BLOCK_BYTES],
) -> Option<&'a [u8]> {
    let len = usize::try_from(range.end - range.start).ok()?;
    match data {
        Data::Hole => buf.get(..len),
        Data::Base(_) => {
            let buf = buf.get_mut(..len)?;
            let read = content?.read_at(buf, range.start).ok()?;
            buf.get_mut(read..)?.fill(0);
            Some(buf)
        }
        Data::Block(bytes) => {
            let from = usize::try_from(range.start - at).ok()?;
            bytes.get(from..)?.get(..len)
        }
    }
}

/// Goes through two files in step.
struct RunPairs<'a> {
    one: Runs<'a>,
    two: Runs<'a>,
    ahead: Option<(Run<'a>, Run<'a>)>,
}

impl<'a> RunPairs<'a> {
    fn new(mut one: Runs<'a>, mut two: Runs<'a>) -> Self {
        let ahead = one.next().zip(two.next());
        Self { one, two, ahead }
    }
}

impl<'a> Iterator for RunPairs<'a> {
    type Item = RunPair<'a>;

    fn next(&mut self) -> Option<RunPair<'a>> {
        steps::add(1);
        let (one, two) = self.ahead.take()?;
        let end = one.range.end.min(two.range.end);
        let pair = RunPair {
            range: one.range.start..end,
            one: part(one.data, end - one.range.start),
            two: part(two.data, end - two.range.start),
        };
        let one = rest(one, end).or_else(|| self.one.next());
        let two = rest(two, end).or_else(|| self.two.next());
        self.ahead = one.zip(two);
        Some(pair)
    }
}

/// The first `len` bytes.
fn part(data: Data<'_>, len: u64) -> Data<'_> {
    match data {
        Data::Hole | Data::Base(_) => data,
        Data::Block(bytes) => {
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            Data::Block(bytes.get(..len).unwrap_or(bytes))
        }
    }
}

/// What is left of a run from `at` on.
fn rest(run: Run<'_>, at: u64) -> Option<Run<'_>> {
    if at >= run.range.end {
        return None;
    }
    let data = match run.data {
        Data::Hole | Data::Base(_) => run.data,
        Data::Block(bytes) => {
            let from = usize::try_from(at - run.range.start).unwrap_or(usize::MAX);
            Data::Block(bytes.get(from..).unwrap_or_default())
        }
    };
    Some(Run {
        range: at..run.range.end,
        data,
    })
}
