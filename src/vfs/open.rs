//! Opening files and directories by path.

use smallvec::SmallVec;

use super::descriptor::{Access, Descriptor};
use super::fs::recheck;
use super::state::FsState;
use super::walk::{Follow, Last, Slash, WalkTarget, resolve};
use crate::errno::Errno;
use crate::meta::{FileId, Kind, Time};
use crate::overlay::{New, Overlay, Rule};

bitflags::bitflags! {
    /// What opening may do besides opening.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OpenFlags: u8 {
        /// Create the file if the name is free.
        const CREATE = 1;
        /// With `CREATE`: fail if the name is taken.
        const EXCLUSIVE = 2;
        /// Cut the file to no bytes.
        const TRUNCATE = 4;
        /// Fail unless a directory is there.
        const DIRECTORY = 8;
    }
}

impl Descriptor {
    /// Opens what is at `path`, relative to this directory.
    ///
    /// As WASI has it, `CREATE` and `TRUNCATE` ask for writing, and without
    /// [`Access::WRITE`] reading is added: an empty access means reading.
    /// Opening changes no time; creating and cutting do.
    ///
    /// # Errors
    ///
    /// In this order: [`Errno::NotDirectory`] if this is none;
    /// [`Errno::Invalid`] for `DIRECTORY` with another flag;
    /// [`Errno::NotPermitted`] for writing through a read-only preopen;
    /// [`Errno::ReadOnly`]; those of the walk (see [`Self::stat_at`]); then
    /// [`Errno::Exist`], [`Errno::IsDirectory`] for writing a directory or
    /// creating a name with a trailing slash, [`Errno::Loop`] for a link that
    /// is not to be followed, [`Errno::NotDirectory`], [`Errno::NoEntry`];
    /// [`Errno::NotPermitted`] by a [`Rule`](crate::vfs::Rule);
    /// [`Errno::NoSpace`] and [`Errno::TooManyOpen`] by the quotas.
    pub fn open_at(
        &self,
        follow: Follow,
        path: &[u8],
        flags: OpenFlags,
        access: Access,
    ) -> Result<Self, Errno> {
        self.expect_dir()?;
        let asks = OpenRequest::new(follow, flags, access)?;
        let reached = self.reach(path, asks.last())?;
        let (from, path) = reached.parts();
        let (found, rule) = from.open_here(path, &asks)?;
        from.counted(found.id, (found.kind, asks.access, rule))
            .with_content()
    }

    /// Finds what is opened, or makes it, and counts it as open.
    fn open_here(&self, path: &[u8], asks: &OpenRequest) -> Result<(Target, Rule), Errno> {
        if !asks.access.contains(Access::WRITE) {
            let mut state = self.fs().lock();
            let found = find(&state, self, path, asks)?;
            let rule = self.open_found(&mut state, found)?;
            recheck(&state);
            return Ok((found, rule));
        }
        self.expect_writable()?;
        self.fs().change(|state, now| {
            let found = find_or_create(state, self, path, asks, now)?;
            let rule = self.open_found(state, found)?;
            Ok((found, rule))
        })
    }

    /// Counts what was found as open, and returns the rule of its name.
    fn open_found(
        &self,
        state: &mut Overlay,
        Target { dir, id, kind }: Target,
    ) -> Result<Rule, Errno> {
        let rule = match kind {
            Kind::File => self.rule_of(state, dir, id),
            Kind::Dir | Kind::Symlink => Rule::Free,
        };
        state.opened(id)?;
        if kind == Kind::File {
            self.fs().note(id, |trace| trace.opened(id));
        }
        Ok(rule)
    }
}

/// What is opened, and the directory that has its name; a directory is its own.
#[derive(Clone, Copy)]
struct Target {
    dir: FileId,
    id: FileId,
    kind: Kind,
}

/// What the caller wants, with WASI's implications drawn.
struct OpenRequest {
    follow: Follow,
    flags: OpenFlags,
    access: Access,
}

impl OpenRequest {
    fn new(follow: Follow, flags: OpenFlags, access: Access) -> Result<Self, Errno> {
        let others = OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::TRUNCATE;
        if flags.contains(OpenFlags::DIRECTORY) && flags.intersects(others) {
            return Err(Errno::Invalid);
        }
        let mut drawn = access;
        if !access.contains(Access::WRITE) {
            drawn |= Access::READ;
        }
        if flags.intersects(OpenFlags::CREATE | OpenFlags::TRUNCATE) {
            drawn |= Access::WRITE;
        }
        // POSIX open: O_CREAT with O_EXCL does not follow a link.
        let exclusive = flags.contains(OpenFlags::CREATE | OpenFlags::EXCLUSIVE);
        let follow = if exclusive { Follow::No } else { follow };
        Ok(Self {
            follow,
            flags,
            access: drawn,
        })
    }

    /// How the last name of the path is walked.
    fn last(&self) -> Last {
        if self.has(OpenFlags::CREATE) {
            Last::Create(self.follow)
        } else {
            Last::Walk(self.follow)
        }
    }

    fn has(&self, flags: OpenFlags) -> bool {
        self.flags.contains(flags)
    }

    /// Takes what a walk ended at, if it may be opened.
    fn take(&self, end: WalkTarget<'_>) -> Result<Target, Errno> {
        let (dir, id, kind, slash) = match end {
            WalkTarget::Dir(id) => (id, id, Kind::Dir, Slash::None),
            WalkTarget::Entry {
                dir,
                found: Some(found),
                slash,
                ..
            } => (dir, found.id, found.kind, slash),
            WalkTarget::Entry { found: None, .. } => return Err(Errno::NoEntry),
        };
        if self.has(OpenFlags::CREATE | OpenFlags::EXCLUSIVE) {
            return Err(Errno::Exist);
        }
        match kind {
            Kind::Symlink => Err(Errno::Loop),
            Kind::Dir if self.access.contains(Access::WRITE) => Err(Errno::IsDirectory),
            Kind::File if slash == Slash::Trailing => Err(Errno::NotDirectory),
            Kind::File if self.has(OpenFlags::DIRECTORY) => Err(Errno::NotDirectory),
            Kind::Dir | Kind::File => Ok(Target { dir, id, kind }),
        }
    }
}

/// Finds what is there, for an open that creates nothing.
fn find(
    state: &FsState,
    from: &Descriptor,
    path: &[u8],
    asks: &OpenRequest,
) -> Result<Target, Errno> {
    asks.take(resolve(state, from.start(state), path, asks.last())?)
}

fn find_or_create(
    state: &mut FsState,
    from: &Descriptor,
    path: &[u8],
    asks: &OpenRequest,
    now: Time,
) -> Result<Target, Errno> {
    if !asks.has(OpenFlags::CREATE) {
        let found = find(state, from, path, asks)?;
        return cut(state, from, found, asks, now);
    }
    match resolve(state, from.start(state), path, asks.last())? {
        WalkTarget::Entry {
            dir,
            name,
            found: None,
            ..
        } => {
            let name: SmallVec<[u8; 64]> = SmallVec::from_slice(name);
            from.allow_new(state, dir, &name)?;
            check_room(state)?;
            let id = state.create(dir, &name, New::File, now)?;
            let kind = Kind::File;
            Ok(Target { dir, id, kind })
        }
        end => {
            let found = asks.take(end)?;
            cut(state, from, found, asks, now)
        }
    }
}

/// Takes a file that is open for writing, and empties it if that is asked for.
fn cut(
    state: &mut Overlay,
    from: &Descriptor,
    found: Target,
    asks: &OpenRequest,
    now: Time,
) -> Result<Target, Errno> {
    // A host's file is asked when it is written; what is below it stays.
    match from.fs().mounted_file(found.id) {
        Some(mount) if mount.writable => return Ok(found),
        Some(_) => return Err(Errno::NotPermitted),
        None => {}
    }
    let truncates = asks.has(OpenFlags::TRUNCATE);
    match from.rule_of(state, found.dir, found.id) {
        Rule::Free => {}
        Rule::AppendOnly if !truncates => {}
        Rule::AppendOnly | Rule::ReadOnly | Rule::Hidden => return Err(Errno::NotPermitted),
    }
    if truncates && found.kind == Kind::File {
        check_room(state)?;
        state.set_size(found.id, 0, now)?;
    }
    Ok(found)
}

/// Refuses before something is changed that could not be opened then.
fn check_room(state: &Overlay) -> Result<(), Errno> {
    if state.usage().open < state.quota().max_open {
        Ok(())
    } else {
        Err(Errno::TooManyOpen)
    }
}
