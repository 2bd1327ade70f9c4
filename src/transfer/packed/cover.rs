//! Which entries of a layer are copied from blobs that earlier versions have published, and which are sent.

use std::collections::HashMap;

use crate::limits::MIN_PUSHED_USE_PERCENT;
use crate::store::pieces::{EntryPiece, EntrySpan, spans};

/// Bytes of a piece, which says from where it is copied.
const PIECE_BYTES: u64 = 12;

/// Bytes that a version changes at least: a directory and a file.
const MIN_CHANGE: u64 = 256;

/// Entries that are put together of what is there, and what is not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Cover {
    pub(super) pieces: Vec<EntryPiece>,
    /// What is sent.
    pub(super) own: Vec<u8>,
}

/// Puts entries together of those of `sources`; `None` if that is not worth it, or if there are more
/// bytes than a piece can tell of.
pub(super) fn cover(entries: &[u8], sources: &[&[u8]]) -> Option<Cover> {
    let mut places: HashMap<&[u8], (u32, usize)> = HashMap::new();
    for (source, from) in sources.iter().zip(1..) {
        for span in spans(source).ok()? {
            let bytes = source.get(span.start..span.end())?;
            places.entry(bytes).or_insert((from, span.start));
        }
    }
    let mut cover = Cover::default();
    // Where the last piece ends in its source.
    let mut open: Option<(u32, usize)> = None;
    for span in spans(entries).ok()? {
        let bytes = entries.get(span.start..span.end())?;
        let follows = open.filter(|(from, end)| {
            let source = sources.get(*from as usize - 1);
            source.and_then(|source| source.get(*end..end + bytes.len())) == Some(bytes)
        });
        let found = follows.or_else(|| places.get(bytes).copied());
        let (from, place) = found.unwrap_or((0, cover.own.len()));
        let is_same = match from {
            0 => cover.pieces.last().is_some_and(|last| last.from == 0),
            _ => follows.is_some(),
        };
        if from == 0 {
            cover.own.extend_from_slice(bytes);
        }
        open = (from > 0).then_some((from, place + bytes.len()));
        let len = u32::try_from(bytes.len()).ok()?;
        match cover.pieces.last_mut().filter(|_| is_same) {
            Some(last) => last.len = last.len.checked_add(len)?,
            None => cover.pieces.push(EntryPiece {
                from,
                place: u32::try_from(place).ok()?,
                len,
            }),
        }
    }
    is_worth_it(&cover, entries.len() as u64).then_some(cover)
}

/// Returns whether less than half has to be sent, and whether pieces have not become so many, from version to
/// version, that sending them with each costs more than sending all entries once.
fn is_worth_it(cover: &Cover, entries: u64) -> bool {
    let listed = PIECE_BYTES * cover.pieces.len() as u64;
    let sent = listed + cover.own.len() as u64;
    let changes = cover.pieces.iter().filter(|piece| piece.from == 0).count();
    // Each takes a piece, and cuts one in two. A row that grows by so many has this square for its sum.
    let change = 2 * PIECE_BYTES * changes.max(1) as u64;
    sent * 2 < entries && listed * listed < 2 * change * entries
}

/// Chooses the blobs that entries are copied from, the one with most of them first: two at most. `blobs`
/// gives the entries that each has itself.
///
/// A first start asks for each, so they are few; and what is copied from none is sent with each version. So
/// what has been sent since the first is a second blob, which is sent again with what came after it once sending
/// that with each version has cost as much; and so is the first in turn.
pub(super) fn choose_sources(entries: &[u8], blobs: &[&[u8]]) -> Vec<usize> {
    let Ok(own) = spans(entries) else {
        return Vec::new();
    };
    let mut order: Vec<(usize, &[u8])> = blobs.iter().copied().enumerate().collect();
    order.sort_by_key(|(_, blob)| std::cmp::Reverse(blob.len()));
    let mut owners: HashMap<&[u8], usize> = HashMap::new();
    for (number, blob) in order {
        // What a registry has that cannot be read as entries is not copied from.
        let Ok(spans) = spans(blob) else { continue };
        for span in spans {
            if let Some(key) = key(blob, &span) {
                owners.entry(key).or_insert(number);
            }
        }
    }
    let mut used = vec![0_u64; blobs.len()];
    for span in &own {
        let owner = key(entries, span).and_then(|key| owners.get(key)).copied();
        if let Some(used) = owner.and_then(|owner| used.get_mut(owner)) {
            *used += (span.end() - span.start) as u64;
        }
    }
    let mut chosen: Vec<(u64, usize)> = used.into_iter().zip(0..).collect();
    let mut sizes = blobs.iter().map(|blob| blob.len() as u64);
    chosen.retain(|(used, _)| {
        let size = sizes.next();
        debug_assert!(size.is_some(), "one count of use for each blob");
        size.is_some_and(|size| *used > 0 && used * 100 >= size * MIN_PUSHED_USE_PERCENT)
    });
    // Of equals the first.
    chosen.sort_by_key(|(used, number)| (std::cmp::Reverse(*used), *number));
    let kept = how_many(entries.len() as u64, &chosen);
    chosen.truncate(kept);
    chosen.into_iter().map(|(_, number)| number).collect()
}

/// Returns what an entry says, but for where its bytes lie; `None` for a span of other
/// entries, which is a bug.
fn key<'e>(entries: &'e [u8], span: &EntrySpan) -> Option<&'e [u8]> {
    let key = entries.get(span.start..span.runs.start);
    debug_assert!(key.is_some(), "{span:?} of {} bytes", entries.len());
    key
}

/// Says how many blobs are copied from, of some with so many bytes of use, most first.
fn how_many(entries: u64, chosen: &[(u64, usize)]) -> usize {
    let used = |number: usize| chosen.get(number).map_or(0, |it| it.0);
    let covered: u64 = chosen.iter().map(|it| it.0).sum();
    let change = entries.saturating_sub(covered).max(MIN_CHANGE);
    let (base, middle) = (used(0), used(1));
    // What is sent if the two are kept.
    let sent = change + covered.saturating_sub(base + middle);
    if chosen.len() < 2 {
        return chosen.len();
    }
    // Versions of equal changes that sent 1, 2, 3 of them have sent this square together. No number here has more than 28 bits.
    if sent * sent < 2 * change * middle {
        return 2;
    }
    let all = sent + middle;
    usize::from(all * all < 2 * sent * base)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whiteouts, which have names and nothing else: 100 bytes each.
    fn entries(names: impl IntoIterator<Item = u32>) -> Vec<u8> {
        let one = |name: u32| {
            let name = format!("{name:096}");
            [&[4, 1, 0, 96], name.as_bytes()].concat()
        };
        names.into_iter().flat_map(one).collect()
    }

    fn together(cover: &Cover, sources: &[&[u8]]) -> Vec<u8> {
        let piece = |piece: &EntryPiece| {
            let from = match piece.from {
                0 => &cover.own,
                number => sources[number as usize - 1],
            };
            let place = piece.place as usize;
            from[place..place + piece.len as usize].to_vec()
        };
        cover.pieces.iter().flat_map(piece).collect()
    }

    #[test]
    fn entries_are_put_together_of_what_is_there() {
        let base = entries(0..1000);
        let all = entries((0..500).chain(5000..5002).chain(501..1000));
        let made = cover(&all, &[&base]).unwrap();
        assert_eq!((made.pieces.len(), &made.own), (3, &entries(5000..5002)));
        assert_eq!(together(&made, &[&base]), all);
        let more = made.own.clone();
        let all = entries((0..500).chain(5000..5002).chain(501..900).chain([7000]));
        let made = cover(&all, &[&base, &more]).unwrap();
        assert_eq!(made.own, entries([7000]));
        assert_eq!(together(&made, &[&base, &more]), all);
        // More than half is new, or there is nothing but single entries.
        assert_eq!(cover(&all, &[&entries(0..100)]), None);
        assert_eq!(cover(&entries((0..1000).rev()), &[&base]), None);
        assert_eq!(cover(b"none", &[&base]), None);
    }

    /// Publishes versions, each of which changes `change` entries of `tree`. Returns the bytes that are
    /// sent after the first, and the most blobs that one has.
    fn publish(tree: u32, change: u32, versions: u32) -> (u64, usize) {
        let mut names: Vec<u32> = (0..tree).collect();
        let mut blobs: Vec<Vec<u8>> = vec![entries(names.iter().copied())];
        let (mut sent, mut most) = (0, 0);
        for version in 1..=versions {
            for number in 0..change {
                let at = (version * 7919 + number) % tree;
                names[at as usize] = tree + version * change + number;
            }
            let all = entries(names.iter().copied());
            let own: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
            let chosen = choose_sources(&all, &own);
            let sources: Vec<&[u8]> = chosen.iter().map(|number| own[*number]).collect();
            let made = cover(&all, &sources);
            let own = made.as_ref().map_or(&all, |made| &made.own);
            let pieces = made.as_ref().map_or(0, |made| made.pieces.len() as u64);
            sent += own.len() as u64 + PIECE_BYTES * pieces;
            let kept = match &made {
                Some(made) => {
                    assert_eq!(together(made, &sources), all);
                    sources.iter().map(|it| it.to_vec()).collect()
                }
                None => Vec::new(),
            };
            let own = own.clone();
            blobs = kept;
            blobs.push(own);
            most = most.max(blobs.len());
        }
        (sent, most)
    }

    #[test]
    fn many_versions_send_little_more_than_their_changes_and_name_few_blobs() {
        let (versions, change) = (60, 4);
        let changes = u64::from(versions * change) * 100;
        let mut sums = Vec::new();
        for tree in [300, 3_000] {
            let (sent, most) = publish(tree, change, versions);
            println!("{tree}: {sent} bytes for {changes} of changes, {most} blobs at most");
            assert!(most <= 3);
            sums.push(sent);
        }
        // Ten times the tree, whose cube root is 2.2.
        assert!(sums[0] < 8 * changes && sums[1] < 3 * sums[0], "{sums:?}");
    }

    #[test]
    fn what_is_mostly_unused_is_not_copied_from() {
        let blob = entries(0..1000);
        let of = |range: std::ops::Range<u32>| choose_sources(&entries(range), &[&blob]);
        assert_eq!(of(0..600), [0]);
        assert!(of(0..400).is_empty());
        assert!(of(5000..6000).is_empty());
    }
}
