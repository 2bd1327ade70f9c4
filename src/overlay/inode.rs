//! A changed or new object.

use std::sync::Arc;

use super::added_names::AddedNames;
use super::blocks::FileBody;
use super::delta::DirEntryKey;
use super::dir::DirBody;
use super::maps::ByPtr;
use crate::budget::{Account, Asking, Charge};
use crate::errno::Errno;
use crate::image::Image;
use crate::limits::LINK_BYTES;
use crate::meta::{FileId, Kind, Stat, Time};

/// The present state of an object that an instance changed or made.
#[derive(Clone)]
pub(super) struct Inode {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Names that lead here; of a directory 2 and one for each directory in
    /// it; 0 once it has no name.
    pub(super) nlink: u32,
    pub(super) atime: Time,
    pub(super) mtime: Time,
    pub(super) ctime: Time,
    /// The branch that made it; 0 for an object of the base.
    pub(super) birth: u64,
    /// The names that are own entries of directories.
    pub(super) given: AddedNames,
    /// Whether it was given a name here. What a base object had stays with it: a link of
    /// a layer that a guest moved is as good as made by the guest.
    pub(super) was_named: bool,
    /// What it costs its host besides its blocks.
    pub(super) hold: Charge,
    pub(super) body: Body,
}

#[derive(Clone)]
pub(super) enum Body {
    File(FileBody),
    Dir(DirBody),
    Symlink(Arc<[u8]>),
}

impl Body {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::File(_) => Kind::File,
            Self::Dir(_) => Kind::Dir,
            Self::Symlink(_) => Kind::Symlink,
        }
    }

    /// Returns whether it is a file in which nothing of the base shows.
    #[inline]
    pub(super) fn is_file_without_base(&self) -> bool {
        matches!(self, Self::File(file) if file.base_node().is_none())
    }

    /// Bytes of a link's target: as a file's, they count against the quota of
    /// an instance that made the link.
    pub(super) fn target_bytes(&self) -> u64 {
        match self {
            Self::Symlink(target) => target.len() as u64,
            Self::File(_) | Self::Dir(_) => 0,
        }
    }
}

impl ByPtr<Inode> {
    /// The object to be changed: copied first where another state has it too,
    /// at the cost of `account`, whose owner makes the change.
    pub(super) fn change_by(&mut self, account: &Account) -> &mut Inode {
        if !self.0.is_unique() {
            let copy = Inode {
                hold: self.0.hold.copy_for(account),
                given: self.0.given.clone(),
                body: self.0.body.clone(),
                ..*self.0
            };
            self.0 = triomphe::Arc::new(copy);
        }
        triomphe::Arc::make_mut(&mut self.0)
    }
}

impl Inode {
    /// Notes a name that is an entry of the overlay's own, and pays for it
    /// unless it is the first. Returns whether it is a further one.
    ///
    /// # Errors
    ///
    /// [`Errno::NoSpace`] if there is no budget for it.
    pub(super) fn gain_name(&mut self, entry: DirEntryKey, asking: Asking) -> Result<bool, Errno> {
        let further = !self.given.is_empty();
        match asking {
            Asking::Yes if further => self.hold.take_more(LINK_BYTES)?,
            Asking::No if further => self.hold.overdraw_more(LINK_BYTES.into()),
            Asking::Yes | Asking::No => {}
        }
        self.given.add(entry);
        self.was_named = true;
        Ok(further)
    }

    /// Forgets a name; one that the base gave is not known here. Returns
    /// whether it was one of several, and so had been paid for.
    pub(super) fn lose_name(&mut self, dir: FileId, name: &[u8]) -> bool {
        let had = self.given.further();
        self.given.remove(dir, name);
        let further = self.given.further() < had;
        if further {
            self.hold.give_back(LINK_BYTES);
        }
        further
    }

    /// The state of a base object before its first change.
    pub(super) fn of_base(image: &Image, node: u32, hold: Charge) -> Self {
        let stat = image.stat(node);
        let body = match stat.kind {
            Kind::File => Body::File(FileBody::over(stat.size, node)),
            Kind::Dir => {
                let parent = FileId::of_node(image.parent(node));
                Body::Dir(DirBody::over(parent, node, image.slots(node).len()))
            }
            Kind::Symlink => Body::Symlink(Arc::from(image.target(node).unwrap_or_default())),
        };
        Self {
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            nlink: stat.nlink,
            atime: stat.atime,
            mtime: stat.mtime,
            ctime: stat.ctime,
            birth: 0,
            given: AddedNames::default(),
            was_named: false,
            hold,
            body,
        }
    }

    /// A new object, made `now`, with its first name.
    pub(super) fn new(body: Body, now: Time, birth: u64, name: DirEntryKey, hold: Charge) -> Self {
        let (mode, nlink) = match body {
            Body::File(_) => (0o644, 1),
            Body::Dir(_) => (0o755, 2),
            Body::Symlink(_) => (0o777, 1),
        };
        Self {
            mode,
            uid: 0,
            gid: 0,
            nlink,
            atime: now,
            mtime: now,
            ctime: now,
            birth,
            given: AddedNames::first(name),
            was_named: true,
            hold,
            body,
        }
    }

    pub(super) fn stat(&self, id: FileId) -> Stat {
        let size = match &self.body {
            Body::File(file) => file.size(),
            Body::Dir(_) => 0,
            Body::Symlink(target) => target.len() as u64,
        };
        Stat {
            id,
            kind: self.body.kind(),
            is_device: false,
            size,
            nlink: self.nlink,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
        }
    }

    /// Notes a change of content or entries.
    pub(super) fn touch(&mut self, now: Time) {
        self.mtime = now;
        self.ctime = now;
    }
}
