//! Merges in which a host decides what both sides changed.

use std::ops::Range;

use super::descriptor::{Access, Descriptor, Rights};
use super::fork::Snapshot;
use super::fs::{Fs, recheck};
use super::merge::MERGE_ATTEMPTS;
use super::walk::{Last, Start, WalkTarget, resolve};
use crate::errno::Errno;
use crate::meta::FileId;
use crate::overlay::{Conflict, MergeError, TreePath};

/// A file that both sides of a merge changed in the same blocks, to be decided
/// by the callback of [`Fs::merge_with`].
#[derive(Debug)]
pub struct Contested<'a> {
    path: &'a TreePath,
    ranges: &'a [Range<u64>],
    base: &'a Descriptor,
    ours: &'a Descriptor,
    theirs: &'a Descriptor,
}

impl Contested<'_> {
    /// Returns the path of the file in the common state.
    #[must_use]
    pub fn path(&self) -> &TreePath {
        self.path
    }

    /// Returns where both sides changed it, by the block; empty if only the sizes
    /// differ.
    #[must_use]
    pub fn ranges(&self) -> &[Range<u64>] {
        self.ranges
    }

    /// Returns the bytes of the common state, if they are at most `max`: a guest
    /// may have made the file as large as it likes.
    ///
    /// # Errors
    ///
    /// [`Errno::FileTooLarge`] if there are more; [`Errno::Io`] for base content that
    /// cannot be read.
    pub fn base(&self, max: usize) -> Result<Vec<u8>, Errno> {
        whole(self.base, max)
    }

    /// Returns the bytes that this instance has, as [`base`](Self::base).
    ///
    /// # Errors
    ///
    /// As [`base`](Self::base).
    pub fn ours(&self, max: usize) -> Result<Vec<u8>, Errno> {
        whole(self.ours, max)
    }

    /// Returns the bytes that the other state has, as [`base`](Self::base).
    ///
    /// # Errors
    ///
    /// As [`base`](Self::base).
    pub fn theirs(&self, max: usize) -> Result<Vec<u8>, Errno> {
        whole(self.theirs, max)
    }

    /// Merges the three texts line by line. Returns [`Resolution::Bytes`] if no line was
    /// changed on both sides in different ways, and else [`Resolution::Conflict`]; also
    /// for a file of more than `max` bytes on any side, or one that cannot be read.
    ///
    /// Time is O(lines x lines that differ).
    #[cfg(feature = "merge-lines")]
    #[must_use]
    pub fn merge_lines(&self, max: usize) -> Resolution {
        let (Ok(base), Ok(ours), Ok(theirs)) = (self.base(max), self.ours(max), self.theirs(max))
        else {
            return Resolution::Conflict;
        };
        match diffy::merge_bytes(&base, &ours, &theirs) {
            Ok(merged) => Resolution::Bytes(merged),
            Err(_) => Resolution::Conflict,
        }
    }
}

/// What becomes of a [`Contested`] file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resolution {
    /// It stays a conflict, and nothing is merged.
    Conflict,
    /// It keeps the bytes that this instance has.
    Ours,
    /// It gets the bytes of the other state.
    Theirs,
    /// It gets these bytes.
    Bytes(Vec<u8>),
}

impl Fs {
    /// Merges as [`merge`](Self::merge), and asks `decide` for each file that both sides changed
    /// in the same blocks.
    ///
    /// ```
    /// use stratafs::image::Image;
    /// use stratafs::vfs::{Fs, Resolution};
    ///
    /// let fs = Fs::new(&Image::empty());
    /// fs.write("/count", "1")?;
    /// let before = fs.snapshot();
    /// let other = before.fork();
    /// (fs.write("/count", "3")?, other.write("/count", "5")?);
    /// fs.merge_with(&before, &other.snapshot(), |file| {
    ///     let number = |bytes: Vec<u8>| String::from_utf8(bytes).ok()?.parse::<u32>().ok();
    ///     let sides = (file.ours(99).ok().and_then(number), file.theirs(99).ok().and_then(number));
    ///     match sides {
    ///         (Some(ours), Some(theirs)) => Resolution::Bytes((ours + theirs - 1).to_string().into()),
    ///         _ => Resolution::Conflict,
    ///     }
    /// })?;
    /// assert_eq!(fs.read("/count")?, b"7");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// With the feature `merge-lines`, `|file| file.merge_lines(1 << 20)` merges small texts line
    /// by line. Conflicts of another kind stay what they are. `decide` is called without the lock of
    /// the instance, and once more for the same file if the instance changed meanwhile. It costs,
    /// beside a merge or two, the bytes of each file that is decided, twice.
    ///
    /// # Errors
    ///
    /// As [`merge`](Self::merge), with the conflicts that are left over: then nothing is changed.
    /// [`Errno::Busy`] if the instance never rested.
    pub fn merge_with(
        &self,
        base: &Snapshot,
        theirs: &Snapshot,
        mut decide: impl FnMut(&Contested<'_>) -> Resolution,
    ) -> Result<(), MergeError> {
        for _ in 0..MERGE_ATTEMPTS {
            let before = self.lock().copy_to_plan();
            let conflicts = match self.merge(base, theirs) {
                Err(MergeError::Conflicts(conflicts)) => conflicts,
                ended => return ended,
            };
            let sides = MergeCopies {
                base: base.fork(),
                ours: self.fork(),
                theirs: theirs.fork(),
            };
            sides.decide(conflicts, &mut decide)?;
            sides.ours.merge(base, &sides.theirs.snapshot())?;
            let merged = sides.ours.snapshot();
            let mut state = self.lock();
            if state.is_still(&before) {
                drop(before);
                Self::restore_in(&mut state, &merged)?;
                recheck(&state);
                return Ok(());
            }
        }
        Err(Errno::Busy.into())
    }
}

/// Copies of the three states, in which what is decided is written.
struct MergeCopies {
    base: Fs,
    ours: Fs,
    theirs: Fs,
}

impl MergeCopies {
    /// Makes both sides alike in each file that is decided. Fails with the conflicts
    /// that are left over.
    fn decide(
        &self,
        conflicts: Vec<Conflict>,
        decide: &mut dyn FnMut(&Contested<'_>) -> Resolution,
    ) -> Result<(), MergeError> {
        let mut left = Vec::new();
        for conflict in conflicts {
            let is_decided = match &conflict {
                Conflict::Content { path, ranges } => self.decide_file(path, ranges, decide)?,
                _ => false,
            };
            if !is_decided {
                left.push(conflict);
            }
        }
        match left.is_empty() {
            true => Ok(()),
            false => Err(MergeError::Conflicts(left)),
        }
    }

    fn number_in_base(&self, path: &TreePath) -> Option<FileId> {
        let (state, path) = (self.base.lock(), path.to_bytes());
        match resolve(&state, Start::of_host(), &path, Last::Keep) {
            Ok(WalkTarget::Entry { found, .. }) => found.map(|found| found.id),
            Ok(WalkTarget::Dir(_)) | Err(_) => None,
        }
    }

    fn decide_file(
        &self,
        path: &TreePath,
        ranges: &[Range<u64>],
        decide: &mut dyn FnMut(&Contested<'_>) -> Resolution,
    ) -> Result<bool, Errno> {
        // The object has one number in all three, whatever each side calls it.
        let Some(id) = self.number_in_base(path) else {
            return Ok(false);
        };
        let open = |fs| open_number(fs, id);
        let (base, ours, theirs) = (open(&self.base)?, open(&self.ours)?, open(&self.theirs)?);
        let contested = Contested {
            path,
            ranges,
            base: &base,
            ours: &ours,
            theirs: &theirs,
        };
        match decide(&contested) {
            Resolution::Conflict => return Ok(false),
            Resolution::Ours => theirs.copy_content_of(&ours)?,
            Resolution::Theirs => ours.copy_content_of(&theirs)?,
            Resolution::Bytes(bytes) => {
                for file in [&ours, &theirs] {
                    file.set_size(0)?;
                    file.write_all_at(&bytes, 0)?;
                }
            }
        }
        Ok(true)
    }
}

/// Opens an object by its number, as the host.
fn open_number(fs: &Fs, id: FileId) -> Result<Descriptor, Errno> {
    let mut state = fs.lock();
    let access = Access::READ | Access::WRITE;
    Descriptor::open(fs, &mut state, id, access, Rights::ReadWrite)
}

fn whole(file: &Descriptor, max: usize) -> Result<Vec<u8>, Errno> {
    let size = file.stat()?.size;
    match usize::try_from(size) {
        Ok(size) if size <= max => Ok(file.read_full(0, size)?.to_vec()),
        _ => Err(Errno::FileTooLarge),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Image;

    /// An instance, the state before it and another changed `/f`, and the other.
    fn forked(base: &str, ours: &str, theirs: &str) -> (Fs, Snapshot, Snapshot) {
        let fs = Fs::new(&Image::empty());
        fs.write("/f", base).unwrap();
        fs.write("/g", base).unwrap();
        let before = fs.snapshot();
        let other = before.fork();
        fs.write("/f", ours).unwrap();
        other.write("/f", theirs).unwrap();
        other.write("/new", "theirs").unwrap();
        (fs, before, other.snapshot())
    }

    #[test]
    fn each_decision_does_what_it_says_and_the_rest_is_merged() {
        let cases = [
            (Resolution::Ours, "ours"),
            (Resolution::Theirs, "theirs"),
            (Resolution::Bytes(b"both".to_vec()), "both"),
        ];
        for (decision, want) in cases {
            let (fs, before, other) = forked("base", "ours", "theirs");
            let mut asked = 0;
            fs.merge_with(&before, &other, |file| {
                asked += 1;
                assert_eq!(file.path().to_string(), "f");
                assert_eq!(file.ranges().len(), 1);
                assert_eq!(file.base(4).unwrap(), b"base");
                assert_eq!(file.ours(4).unwrap(), b"ours");
                assert_eq!(file.theirs(5), Err(Errno::FileTooLarge));
                assert_eq!(file.theirs(6).unwrap(), b"theirs");
                decision.clone()
            })
            .unwrap();
            assert_eq!((asked, fs.read("/f").unwrap()), (1, want.into()));
            assert_eq!(fs.read("/new").unwrap(), b"theirs");
        }
    }

    #[test]
    fn what_is_not_decided_stays_a_conflict_and_changes_nothing() {
        let (fs, before, other) = forked("base", "ours", "theirs");
        fs.write("/g", "ours").unwrap();
        let other = other.fork();
        other.write("/g", "theirs").unwrap();
        let merged = fs.merge_with(&before, &other.snapshot(), |file| {
            match file.path().to_string() == "f" {
                true => Resolution::Theirs,
                false => Resolution::Conflict,
            }
        });
        let Err(MergeError::Conflicts(left)) = merged else {
            panic!("{merged:?}");
        };
        assert!(matches!(&left[..], [Conflict::Content { path, .. }] if path.to_string() == "g"));
        assert_eq!(fs.read("/f").unwrap(), b"ours");
        assert!(fs.read("/new").is_err());
    }

    #[test]
    fn a_file_is_found_under_whatever_name_each_side_has_for_it() {
        let (fs, before, other) = forked("base", "ours", "theirs");
        fs.create_dir("/d").unwrap();
        fs.rename("/f", "/d/renamed").unwrap();
        fs.merge_with(&before, &other, |_| Resolution::Theirs)
            .unwrap();
        assert_eq!(fs.read("/d/renamed").unwrap(), b"theirs");
    }

    #[test]
    fn an_instance_that_changes_while_a_host_decides_is_merged_anew() {
        let (fs, before, other) = forked("base", "ours", "theirs");
        let mut asked = 0;
        fs.merge_with(&before, &other, |_| {
            asked += 1;
            if asked == 1 {
                fs.write("/late", "kept").unwrap();
            }
            Resolution::Theirs
        })
        .unwrap();
        assert_eq!((asked, fs.read("/late").unwrap()), (2, b"kept".to_vec()));
        let never = fs.merge_with(&before, &before.fork().snapshot(), |_| Resolution::Ours);
        assert_eq!(never, Ok(()));
    }

    #[test]
    fn a_file_of_holes_costs_its_bytes_and_not_its_size() {
        let (fs, before, other) = forked("base", "ours", "theirs");
        let far = 1 << 40;
        let other = other.fork();
        let id = other.metadata("/f").unwrap().id;
        open_number(&other, id).unwrap().set_size(far).unwrap();
        fs.merge_with(&before, &other.snapshot(), |_| Resolution::Theirs)
            .unwrap();
        assert_eq!(fs.metadata("/f").unwrap().size, far);
        assert!(fs.usage().private_bytes < 100_000);
    }

    #[cfg(feature = "merge-lines")]
    #[test]
    fn lines_changed_apart_are_merged_and_the_same_line_is_a_conflict() {
        let (fs, before, other) = forked("a\nb\nc\nd\ne\n", "A\nb\nc\nd\ne\n", "a\nb\nc\nd\nE\n");
        fs.merge_with(&before, &other, |file| file.merge_lines(1 << 20))
            .unwrap();
        assert_eq!(fs.read("/f").unwrap(), b"A\nb\nc\nd\nE\n");
        let (fs, before, other) = forked("a\n", "b\n", "c\n");
        let merged = fs.merge_with(&before, &other, |file| file.merge_lines(1 << 20));
        assert!(matches!(merged, Err(MergeError::Conflicts(_))));
    }
}
