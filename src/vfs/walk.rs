//! The path walk: from a directory and a path to an entry.
//!
//! Directories passed are held on a stack and `..` pops it; nothing is ever
//! looked up "above", so a walk cannot leave the directory it started in
//! (invariant 1). Symbolic links push their target onto a stack of paths to
//! go. No recursion, and no allocation for paths up to 16 directories deep.

use smallvec::SmallVec;

use crate::errno::Errno;
use crate::limits::{MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_SYMLINKS};
use crate::meta::{FileId, Kind};
use crate::overlay::{Found, Overlay, Rule, Rules};

/// Whether a symbolic link at the end of a path is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// The operation is on what the link leads to.
    Yes,
    /// The operation is on the link itself. A slash after its name makes the
    /// walk follow it all the same.
    No,
}

/// What to do with the last name of a path.
#[derive(Clone, Copy)]
pub(super) enum Last {
    /// Walk it: a link is followed if asked, or if a slash comes after it.
    Walk(Follow),
    /// Walk it to create a file there: a slash after it, also after the target
    /// of a link, is [`Errno::IsDirectory`] before anything is looked up, as in
    /// Linux's `open_last_lookups`.
    Create(Follow),
    /// Leave it: the operation makes, removes or moves the name itself.
    Keep,
}

/// Where a walk ended.
pub(super) enum End<'a> {
    /// At a directory it passed, by `.` or `..`, not by a name.
    Dir(FileId),
    /// At a name.
    Entry {
        /// The directory that has the name, or may get it.
        dir: FileId,
        name: &'a [u8],
        found: Option<Found>,
        /// A slash came after the name.
        slash: Slash,
    },
}

/// Whether a path asks for a directory by ending in a slash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Slash {
    Trailing,
    None,
}

/// Where a walk starts, and for whom.
#[derive(Clone, Copy)]
pub(super) struct Start<'a> {
    pub(super) dir: FileId,
    /// The rules that hold for who walks: none for the host itself.
    pub(super) rules: Option<&'a Rules>,
}

impl Start<'_> {
    /// The root, for the host's own calls.
    pub(super) fn of_host() -> Self {
        Self {
            dir: FileId::ROOT,
            rules: None,
        }
    }
}

/// Walks `path` from the directory `start`. What a rule hides is not found.
///
/// Errors: [`Errno::NoEntry`] for an empty path or a hidden start, [`Errno::NameTooLong`],
/// [`Errno::Invalid`] for a NUL, [`Errno::NotPermitted`] for an absolute path;
/// then, as components come: [`Errno::NameTooLong`], [`Errno::NoEntry`],
/// [`Errno::NotDirectory`], [`Errno::NotPermitted`] for a `..` or a link that
/// leaves `start`, [`Errno::Loop`]. Before these [`Errno::Io`] if the base
/// turned out to be damaged.
pub(super) fn resolve<'a>(
    tree: &'a Overlay,
    start: Start<'a>,
    path: &'a [u8],
    last: Last,
) -> Result<End<'a>, Errno> {
    if path.is_empty() {
        return Err(Errno::NoEntry);
    }
    if path.len() > MAX_PATH_BYTES {
        return Err(Errno::NameTooLong);
    }
    if path.contains(&0) {
        return Err(Errno::Invalid);
    }
    if path.first() == Some(&b'/') {
        return Err(Errno::NotPermitted);
    }
    if start.rules.is_some() && tree.rule_of_dir(start.dir) == Rule::Hidden {
        return Err(Errno::NoEntry);
    }
    let end = Walk::new(tree, start, path).run(last);
    tree.intact()?;
    end
}

struct Walk<'a> {
    tree: &'a Overlay,
    start: Start<'a>,
    /// The directories below `start` that the walk is in.
    passed: SmallVec<[FileId; 16]>,
    /// Paths to go, the next one last: the rest of the path, and above it the
    /// rest of each link's target.
    rest: SmallVec<[&'a [u8]; 4]>,
    links: usize,
}

impl<'a> Walk<'a> {
    fn new(tree: &'a Overlay, start: Start<'a>, path: &'a [u8]) -> Self {
        let mut rest = SmallVec::new();
        rest.push(path);
        Self {
            tree,
            start,
            passed: SmallVec::new(),
            rest,
            links: 0,
        }
    }

    fn run(mut self, last: Last) -> Result<End<'a>, Errno> {
        while let Some(part) = self.next_part() {
            match part {
                b"." => {}
                b".." => {
                    self.passed.pop().ok_or(Errno::NotPermitted)?;
                }
                name if name.len() > MAX_NAME_BYTES => return Err(Errno::NameTooLong),
                name => {
                    if let Some(end) = self.step(name, last)? {
                        return Ok(end);
                    }
                }
            }
        }
        Ok(End::Dir(self.here()))
    }

    /// Takes one step by a name. Gives the end if this was the last.
    fn step(&mut self, name: &'a [u8], last: Last) -> Result<Option<End<'a>>, Errno> {
        let dir = self.here();
        let (is_last, slash) = self.ahead();
        let found = self.find(dir, name);
        if is_last {
            let follow = match last {
                Last::Create(_) if slash == Slash::Trailing => return Err(Errno::IsDirectory),
                Last::Create(follow) => follow == Follow::Yes,
                Last::Walk(Follow::Yes) => true,
                Last::Walk(Follow::No) => slash == Slash::Trailing,
                Last::Keep => false,
            };
            return match found {
                Some(link) if follow && link.kind == Kind::Symlink => {
                    self.follow(link.id)?;
                    Ok(None)
                }
                _ => Ok(Some(End::Entry {
                    dir,
                    name,
                    found,
                    slash,
                })),
            };
        }
        match found {
            None => return Err(Errno::NoEntry),
            Some(found) => match found.kind {
                Kind::Dir => self.passed.push(found.id),
                Kind::Symlink => self.follow(found.id)?,
                Kind::File => return Err(Errno::NotDirectory),
            },
        }
        Ok(None)
    }

    fn find(&self, dir: FileId, name: &[u8]) -> Option<Found> {
        let found = self.tree.find(dir, name)?;
        match self.start.rules {
            Some(rules) if rules.hides(found.id) => None,
            Some(_) | None => Some(found),
        }
    }

    /// Goes on with the target of a link. An absolute one starts over where
    /// the walk did if that is the instance's root, as in a chroot; elsewhere
    /// it would leave the directory the walk is confined to.
    fn follow(&mut self, link: FileId) -> Result<(), Errno> {
        self.links += 1;
        if self.links > MAX_SYMLINKS {
            return Err(Errno::Loop);
        }
        let target = self.tree.target(link)?;
        match target.first() {
            None => return Err(Errno::NoEntry),
            Some(b'/') if self.start.dir == FileId::ROOT => self.passed.clear(),
            Some(b'/') => return Err(Errno::NotPermitted),
            Some(_) => {}
        }
        self.rest.push(target);
        Ok(())
    }

    fn here(&self) -> FileId {
        self.passed.last().copied().unwrap_or(self.start.dir)
    }

    /// Takes the next component off the paths to go.
    fn next_part(&mut self) -> Option<&'a [u8]> {
        loop {
            let rest = self.rest.last_mut()?;
            let from = rest.iter().position(|byte| *byte != b'/');
            let Some(trimmed) = from.and_then(|from| rest.get(from..)) else {
                self.rest.pop();
                continue;
            };
            let len = trimmed
                .iter()
                .position(|byte| *byte == b'/')
                .unwrap_or(trimmed.len());
            let (part, after) = trimmed.split_at(len);
            *rest = after;
            return Some(part);
        }
    }

    /// Tells whether nothing but slashes is to come, and whether any is.
    fn ahead(&self) -> (bool, Slash) {
        let mut slash = Slash::None;
        for rest in &self.rest {
            if rest.iter().any(|byte| *byte != b'/') {
                return (false, Slash::None);
            }
            if !rest.is_empty() {
                slash = Slash::Trailing;
            }
        }
        (true, slash)
    }
}
