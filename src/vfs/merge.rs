//! Merging what another state changed into an instance.

use super::fork::Snapshot;
use super::fs::{Fs, recheck};
use crate::errno::Errno;
use crate::overlay::{MergeError, MergeReads, Merged, Merger, Overlay};

/// How often a merge is worked out without the lock before it is done under it.
pub(super) const MERGE_ATTEMPTS: usize = 3;

impl Fs {
    /// Does here what `theirs` changed since `base`: a merge of three states,
    /// object by object and block by block. One step; open descriptors go on.
    ///
    /// An object is the same on both sides if it came from `base`, whatever it
    /// is called by now. Both sides may change different blocks of one file,
    /// different entries of one directory, and the name on one side and the
    /// bytes on the other. What theirs made comes under the same name, with a
    /// number of this instance; where both made a directory of one name the two
    /// become one, and equal files or links stay as they are here. Of two
    /// changes of a time the later stands. Holes stay holes and cost nothing.
    /// When a file was closed, and so sealed, makes no difference.
    ///
    /// O(n log n) in the objects, entries and blocks that differ between `base`
    /// and each side, and the bytes of blocks that both sides changed or of files
    /// that both made; blocks are shared, not copied, unless both sides changed
    /// the file. It may be used on what a guest made: nothing depends on the depth
    /// of a tree or the size of a hole.
    ///
    /// The merge is worked out on snapshots, without the lock of the instance,
    /// and put in place if nothing has changed meanwhile, or else worked out
    /// again. An instance that never rests has it worked out under its lock at
    /// last, which reads nothing from a store.
    ///
    /// ```
    /// use stratafs::{image::Image, vfs::Fs};
    ///
    /// let ours = Fs::new(&Image::empty());
    /// ours.write("/list", "plan\n")?;
    /// let base = ours.snapshot();
    /// let theirs = base.fork();
    /// theirs.rename("/list", "/agenda")?;
    /// ours.write("/notes", "more")?;
    /// ours.merge(&base, &theirs.snapshot())?;
    /// assert_eq!(ours.read("/agenda")?, b"plan\n");
    /// assert!(ours.read("/list").is_err() && ours.read("/notes").is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// In this order, and nothing is changed: [`Errno::ReadOnly`];
    /// [`Errno::CrossDevice`] for states of another image; [`Errno::Invalid`]
    /// if `base` is no earlier state of both; [`Errno::Busy`] if the instance
    /// never rested and its files had to be compared with bytes in a store;
    /// [`Errno::TooManyLinks`]; [`Errno::Io`] for data at rest that cannot be
    /// read; [`MergeError::Conflicts`] with all that both sides changed in
    /// different ways; [`Errno::NoSpace`] when a budget ends on the way or if
    /// the outcome exceeds the quotas; [`Errno::Busy`] if it lacks an object that
    /// a [`Rule`](super::Rule) is for, something is mounted on, or
    /// [`Self::keep_dir`] keeps.
    pub fn merge(&self, base: &Snapshot, theirs: &Snapshot) -> Result<(), MergeError> {
        if self.is_read_only() {
            return Err(Errno::ReadOnly.into());
        }
        let merged = self.try_merge(base, theirs);
        match &merged {
            Ok(()) => tracing::debug!(device = self.device(), "merged"),
            Err(MergeError::Conflicts(all)) => {
                tracing::info!(
                    device = self.device(),
                    conflicts = all.len(),
                    "a merge ended in conflicts"
                );
            }
            Err(_) => {}
        }
        merged
    }

    fn try_merge(&self, base: &Snapshot, theirs: &Snapshot) -> Result<(), MergeError> {
        let now = self.now();
        let mut merger = Merger::new(self.image(), base.state(), theirs.state(), now)?;
        for _ in 0..MERGE_ATTEMPTS {
            let ours = self.lock().copy_to_plan();
            let merged = merger.merge(&ours, MergeReads::Allowed)?;
            let mut state = self.lock();
            if state.is_still(&ours) {
                // Else each of its blocks would seem to have a second owner.
                drop(ours);
                return Ok(self.take_over(&mut state, merged)?);
            }
        }
        let mut state = self.lock();
        let merged = merger.merge(&state.copy_to_plan(), MergeReads::Refused)?;
        Ok(self.take_over(&mut state, merged)?)
    }

    /// Puts what came of a merge in the place of the state it was made of.
    fn take_over(&self, state: &mut Overlay, merged: Merged) -> Result<(), Errno> {
        let next = state.succeeded_by(merged).ok_or(Errno::NoSpace)?;
        state.check_rules(&next)?;
        state.check_places(&next)?;
        state.replace_with(next);
        state.renew_rules();
        recheck(state);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Image;
    use crate::limits::MAX_FILE_BYTES;
    use crate::overlay::{Change, Conflict};
    use crate::steps;
    use crate::vfs::{Access, Descriptor, Follow, OpenFlags};

    /// Holds the steps of twice the work against those of once.
    fn assert_linear(name: &str, steps: impl Fn(usize) -> u64, n: usize) {
        let (once, twice) = (steps(n), steps(2 * n));
        assert!(once >= n as u64, "{name}: {once} steps for {n}");
        assert!(twice * 2 <= once * 5, "{name}: {once} steps, then {twice}");
    }

    fn open(fs: &Fs, path: &str) -> Descriptor {
        let access = Access::READ | Access::WRITE;
        let top = fs.root().unwrap();
        top.open_at(Follow::Yes, path.as_bytes(), OpenFlags::CREATE, access)
            .unwrap()
    }

    fn merge_steps(ours: &Fs, base: &Snapshot, theirs: &Fs) -> u64 {
        let there = theirs.snapshot();
        steps::counted(|| ours.merge(base, &there).unwrap())
    }

    /// Makes a tower of directories from the top down, so that the deepest has
    /// the lowest number: each new one takes the last one in.
    fn tower(fs: &Fs, levels: usize) {
        fs.create_dir("/0").unwrap();
        for level in 1..levels {
            fs.create_dir(format!("/{level}")).unwrap();
            let (from, to) = (level - 1, level);
            fs.rename(format!("/{from}"), format!("/{to}/{from}"))
                .unwrap();
        }
    }

    #[test]
    fn rewrites_of_every_other_block_merge_in_linear_steps() {
        let steps = |blocks: usize| {
            let ours = Fs::new(&Image::empty());
            ours.write("/f", vec![1; blocks * 4096]).unwrap();
            let base = ours.snapshot();
            let theirs = base.fork();
            for (fs, first) in [(&ours, 0), (&theirs, 1)] {
                let file = open(fs, "f");
                for block in (first..blocks).step_by(2) {
                    file.write_at(b"new", block as u64 * 4096).unwrap();
                }
            }
            let steps = merge_steps(&ours, &base, &theirs);
            let bytes = ours.read("/f").unwrap();
            assert!(bytes.chunks(4096).all(|block| block.starts_with(b"new")));
            steps
        };
        assert_linear("blocks", steps, 500);
    }

    #[test]
    fn a_tower_with_falling_numbers_merges_in_linear_steps() {
        let steps = |levels: usize| {
            let ours = Fs::new(&Image::empty());
            let base = ours.snapshot();
            let theirs = base.fork();
            tower(&theirs, levels);
            let steps = merge_steps(&ours, &base, &theirs);
            let changes = theirs.snapshot().changes_to(&ours.snapshot()).unwrap();
            // The same names, of objects that were made apart.
            assert_eq!(changes.len(), 2 * levels);
            steps
        };
        assert_linear("levels", steps, 1_000);
    }

    #[test]
    fn directories_that_move_around_in_a_tower_merge_in_linear_steps() {
        let steps = |levels: usize| {
            let ours = Fs::new(&Image::empty());
            tower(&ours, levels);
            let base = ours.snapshot();
            let theirs = base.fork();
            // Turns the tower over: the deepest comes to stand on the top.
            for level in (0..levels - 1).rev() {
                let (from, to) = (level, level + 1);
                theirs
                    .rename(format!("/{to}/{from}"), format!("/{from}"))
                    .unwrap();
            }
            merge_steps(&ours, &base, &theirs)
        };
        assert_linear("moves", steps, 1_000);
    }

    #[test]
    fn changes_of_a_tower_are_told_in_linear_steps_and_memory() {
        let steps = |levels: usize| {
            let fs = Fs::new(&Image::empty());
            tower(&fs, levels);
            let (first, now) = (Snapshot::of(fs.image()), fs.snapshot());
            let mut changes = Vec::new();
            let steps = steps::counted(|| changes = first.changes_to(&now).unwrap());
            assert_eq!(changes.len(), levels);
            assert!(changes.is_sorted_by_key(Change::path));
            let deepest = changes.iter().map(|change| change.path().depth()).max();
            assert_eq!(deepest, Some(levels));
            steps
        };
        assert_linear("levels", steps, 1_000);
        steps(30_000);
    }

    #[test]
    fn files_that_lost_the_name_they_were_given_last_are_told_in_linear_steps() {
        let steps = |files: usize| {
            let fs = Fs::new(&Image::empty());
            fs.create_dir("/d").unwrap();
            for file in 0..files {
                fs.write(format!("/d/{file}"), "text").unwrap();
                fs.hard_link(format!("/d/{file}"), "/d/last").unwrap();
                fs.remove_file("/d/last").unwrap();
            }
            let before = fs.snapshot();
            for file in 0..files {
                fs.write(format!("/d/{file}"), "other").unwrap();
            }
            let after = fs.snapshot();
            let mut changes = Vec::new();
            let steps = steps::counted(|| changes = before.changes_to(&after).unwrap());
            assert_eq!(changes.len(), files);
            steps
        };
        assert_linear("files", steps, 500);
    }

    #[test]
    fn a_file_of_nothing_but_a_hole_costs_the_same_at_any_size() {
        let steps = |size: u64| {
            let ours = Fs::new(&Image::empty());
            let base = ours.snapshot();
            let theirs = base.fork();
            for fs in [&ours, &theirs] {
                open(fs, "x").set_size(size).unwrap();
            }
            let merged = merge_steps(&ours, &base, &theirs);
            let before = ours.snapshot();
            open(&ours, "x").write_at(b"!", size / 2).unwrap();
            let after = ours.snapshot();
            let told = steps::counted(|| drop(before.changes_to(&after).unwrap()));
            // Another state of the other side's file: one block differs.
            open(&theirs, "x").write_at(b"?", size / 2).unwrap();
            let refused = ours.merge(&base, &theirs.snapshot());
            assert!(matches!(
                refused,
                Err(MergeError::Conflicts(all)) if matches!(&all[..], [Conflict::Name { .. }])
            ));
            (merged, told)
        };
        assert_eq!(steps(1 << 20), steps(MAX_FILE_BYTES));
    }

    #[test]
    fn an_instance_that_never_rests_is_merged_into_all_the_same() {
        let ours = Fs::new(&Image::empty());
        ours.write("/f", "text").unwrap();
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let log = open(&ours, "log");
                while !over.load(std::sync::atomic::Ordering::Acquire) {
                    log.write_at(b"still here", 0).unwrap();
                }
            });
            for round in 0..200 {
                let base = ours.snapshot();
                let theirs = base.fork();
                theirs.write("/f", format!("{round}")).unwrap();
                theirs.write(format!("/new{round}"), "new").unwrap();
                ours.merge(&base, &theirs.snapshot()).unwrap();
                assert_eq!(ours.read("/f").unwrap(), format!("{round}").as_bytes());
            }
            over.store(true, std::sync::atomic::Ordering::Release);
        });
        ours.check().unwrap();
        assert_eq!(ours.read("/log").unwrap(), b"still here");
        assert_eq!(ours.read_dir("/").unwrap().len(), 202);
    }
}
