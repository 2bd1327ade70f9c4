//! Rules for objects of an instance, and what they refuse to whom.

use super::Fs;
use super::descriptor::{Caller, Descriptor};
use super::fs::below_root;
use super::state::FsState;
use super::walk::{Follow, Last, Start, WalkTarget, resolve};
use crate::errno::Errno;
use crate::error::Error;
use crate::meta::{FileId, Kind};
use crate::overlay::{Overlay, Rule, Rules};
use crate::path::IntoFsPath;

impl Fs {
    /// Makes a rule for what is at `path` and all below it, in place of the one
    /// that it has; the nearest rule above an object holds. Links are followed.
    /// It holds for every descriptor of [`Fs::root`]
    /// and [`Fs::preopen`] and all opened through them, before or after, under
    /// every name; not for the host's own calls, such as [`Fs::write`].
    ///
    /// The rule is on the object, which guests can neither remove, replace nor
    /// move, nor a directory above it ([`Errno::NotPermitted`]). Forks and
    /// snapshots have it too. What the host itself moves or links below a rule
    /// is under it for who opens it there; making the rule again makes that sure.
    ///
    /// O(entries below all rules of the instance), once; forks share the result.
    /// Without rules nothing costs more; with some, calls walk up from the
    /// directory they are about.
    ///
    /// # Errors
    ///
    /// Those of the walk (see [`Descriptor::stat_at`]): a rule is for what is
    /// there. Then [`Errno::NoSpace`] past
    /// [`MAX_RULES`](crate::limits::MAX_RULES).
    ///
    /// ```
    /// use stratafs::{image::Image, vfs::{Fs, Rule}};
    ///
    /// let fs = Fs::new(&Image::empty());
    /// fs.write("/key", "secret")?;
    /// fs.set_rule("/key", Rule::Hidden)?;
    /// assert!(fs.root()?.unlink_at(b"key").is_err());
    /// assert_eq!(fs.read("/key")?, b"secret");
    /// # Ok::<(), stratafs::Error>(())
    /// ```
    pub fn set_rule(&self, path: impl IntoFsPath, rule: Rule) -> Result<(), Error> {
        let path = path.fs_path();
        let mut state = self.lock();
        let set = find(&state, &path).and_then(|id| state.set_rule(id, rule));
        set.map_err(|errno| Error::new("set rule of", &path, errno))
    }
}

/// Finds an object.
fn find(state: &FsState, path: &[u8]) -> Result<FileId, Errno> {
    match resolve(
        state,
        Start::of_host(),
        below_root(path)?,
        Last::Walk(Follow::Yes),
    )? {
        WalkTarget::Dir(id) => Ok(id),
        WalkTarget::Entry { found, .. } => found.map(|found| found.id).ok_or(Errno::NoEntry),
    }
}

impl Descriptor {
    /// The rules that hold for who works with this.
    pub(super) fn rules<'a>(&self, state: &'a Overlay) -> Option<&'a Rules> {
        match self.by() {
            Caller::Guest => state.rules(),
            Caller::Host => None,
        }
    }

    /// Where a walk from this directory starts.
    pub(super) fn start<'a>(&self, state: &'a Overlay) -> Start<'a> {
        Start {
            dir: self.id(),
            rules: self.rules(state),
        }
    }

    /// The rule that holds for a name in `dir`, or for what it stands for.
    pub(super) fn rule_of(&self, state: &Overlay, dir: FileId, id: FileId) -> Rule {
        match self.rules(state) {
            Some(_) => state.rule_of(dir, id),
            None => Rule::Free,
        }
    }

    /// The rule that holds for what this is open on.
    #[inline]
    fn own_rule(&self, state: &Overlay) -> Rule {
        if state.rules().is_none() {
            return Rule::Free;
        }
        self.own_rule_of(state)
    }

    fn own_rule_of(&self, state: &Overlay) -> Rule {
        match self.rules(state) {
            None => Rule::Free,
            Some(_) if self.kind() == Kind::Dir => state.rule_of_dir(self.id()),
            Some(rules) => rules.mark(self.id()).unwrap_or(self.rule()),
        }
    }

    /// Refuses what is hidden, as if it were no more.
    #[inline]
    pub(super) fn allow_look(&self, state: &Overlay) -> Result<(), Errno> {
        match self.own_rule(state) {
            Rule::Hidden => Err(Errno::BadDescriptor),
            Rule::Free | Rule::AppendOnly | Rule::ReadOnly => Ok(()),
        }
    }

    /// Refuses a change of the object that this is open on.
    #[inline]
    pub(super) fn allow_change(&self, state: &Overlay) -> Result<(), Errno> {
        free_only(self.own_rule(state))
    }

    /// Refuses a write into this file at `offset`.
    #[inline]
    pub(super) fn allow_write(&self, state: &Overlay, offset: u64) -> Result<(), Errno> {
        match self.own_rule(state) {
            Rule::AppendOnly if state.stat(self.id())?.size == offset => Ok(()),
            rule => free_only(rule),
        }
    }

    /// Refuses a change of the object that a name in `dir` stands for.
    pub(super) fn allow_change_of(
        &self,
        state: &Overlay,
        dir: FileId,
        id: FileId,
    ) -> Result<(), Errno> {
        free_only(self.rule_of(state, dir, id))
    }

    /// Refuses a new object in `dir`, and one under a name that is hidden.
    pub(super) fn allow_new(&self, state: &Overlay, dir: FileId, name: &[u8]) -> Result<(), Errno> {
        if self.rules(state).is_none() {
            return Ok(());
        }
        match state.rule_of_dir(dir) {
            Rule::Free | Rule::AppendOnly if state.find(dir, name).is_none() => Ok(()),
            _ => Err(Errno::NotPermitted),
        }
    }

    /// Refuses to give an object that is elsewhere a name in `dir`: it would
    /// have come below a rule, or stand where something is hidden.
    pub(super) fn allow_arrival(
        &self,
        state: &Overlay,
        dir: FileId,
        name: &[u8],
        found: Option<FileId>,
    ) -> Result<(), Errno> {
        match (self.rules(state), found) {
            (None, _) => Ok(()),
            (Some(_), Some(id)) => self.allow_departure(state, dir, id),
            (Some(_), None) => {
                free_only(state.rule_of_dir(dir))?;
                self.allow_new(state, dir, name)
            }
        }
    }

    /// Refuses to take a name out of `dir`.
    pub(super) fn allow_departure(
        &self,
        state: &Overlay,
        dir: FileId,
        id: FileId,
    ) -> Result<(), Errno> {
        if self.rules(state).is_none() {
            return Ok(());
        }
        free_only(state.rule_of_dir(dir))?;
        free_only(state.rule_of(dir, id))?;
        if state.has_rule_within(id) {
            return Err(Errno::NotPermitted);
        }
        Ok(())
    }
}

fn free_only(rule: Rule) -> Result<(), Errno> {
    match rule {
        Rule::Free => Ok(()),
        Rule::AppendOnly | Rule::ReadOnly => Err(Errno::NotPermitted),
        Rule::Hidden => Err(Errno::BadDescriptor),
    }
}
