//! Descriptors of the reference model: which are open, and opening them.

use stratafs::errno::Errno;
use stratafs::meta::Kind;
use stratafs::vfs::{Access, Follow, OpenFlags};

use super::charge::File;
use super::judge::Listing;
use super::ops::{Outcome, Seen, Slot};
use super::paths::Place;
use super::reference::{Body, Id, Model, refuse};

#[derive(Clone)]
pub struct Handle {
    pub node: Id,
    pub access: Access,
    pub read_only: bool,
    pub listing: Listing,
}

impl Model {
    pub fn handle(&self, slot: Slot) -> Result<&Handle, Errno> {
        self.handles[slot].as_ref().ok_or(Errno::BadDescriptor)
    }

    pub fn dir(&self, slot: Slot) -> Result<Id, Errno> {
        let node = self.handle(slot)?.node;
        refuse(self.kind_of(node) != Kind::Dir, Errno::NotDirectory)?;
        Ok(node)
    }

    pub fn writable_dir(&self, slot: Slot) -> Result<Id, Errno> {
        let node = self.dir(slot)?;
        refuse(self.handle(slot)?.read_only, Errno::NotPermitted)?;
        Ok(node)
    }

    pub fn writable_pair(&self, one: Slot, two: Slot) -> Result<(Id, Id), Errno> {
        self.dir(one)?;
        self.dir(two)?;
        Ok((self.writable_dir(one)?, self.writable_dir(two)?))
    }

    pub fn hold(&mut self, slot: Slot, node: Id, access: Access, read_only: bool) {
        drop(self.close(slot));
        self.nodes[node].open += 1;
        self.usage.open += 1;
        self.handles[slot] = Some(Handle {
            node,
            access,
            read_only,
            listing: Listing::default(),
        });
    }

    pub fn close(&mut self, slot: Slot) -> Outcome {
        let handle = self.handles[slot].take().ok_or(Errno::BadDescriptor)?;
        self.nodes[handle.node].open -= 1;
        self.usage.open -= 1;
        self.forget_if_gone(handle.node);
        Ok(Seen::Done)
    }

    /// Gives the space of an object back once nothing leads to it.
    pub fn forget_if_gone(&mut self, id: Id) {
        let node = &mut self.nodes[id];
        if node.nlink > 0 || node.open > 0 {
            return;
        }
        if let Body::File(file) = &mut node.body {
            self.usage.logical_bytes -= file.cost;
            *file = File::default();
        }
        if std::mem::take(&mut node.own) {
            self.usage.inodes -= 1;
            if let Body::Symlink(target) = &node.body {
                self.usage.logical_bytes -= target.len() as u64;
            }
        }
    }

    pub fn open(
        &mut self,
        slot: Slot,
        path: &[u8],
        follow: Follow,
        flags: OpenFlags,
        mut access: Access,
        into: Slot,
    ) -> Outcome {
        let start = self.dir(slot)?;
        let read_only = self.handle(slot)?.read_only;
        let (create, exclusive) = (
            flags.contains(OpenFlags::CREATE),
            flags.contains(OpenFlags::EXCLUSIVE),
        );
        let truncate = flags.contains(OpenFlags::TRUNCATE);
        // WASI's rules, as wasmtime reads them.
        if !access.contains(Access::WRITE) {
            access |= Access::READ;
        }
        if create || truncate {
            access |= Access::WRITE;
        }
        let directory = flags.contains(OpenFlags::DIRECTORY);
        refuse(
            directory && (create || exclusive || truncate),
            Errno::Invalid,
        )?;
        refuse(
            read_only && access.contains(Access::WRITE),
            Errno::NotPermitted,
        )?;
        let exclusive = create && exclusive;
        let follow = if exclusive { Follow::No } else { follow };
        let place = self.walk_to(start, path, follow, create)?;
        let node = match place.node {
            Some(_) if exclusive => return Err(Errno::Exist),
            Some(node) => {
                self.check_open(node, &place, directory, access)?;
                self.check_room_to_open()?;
                if truncate {
                    self.resize(node, 0);
                }
                node
            }
            None if create => {
                self.check_room_to_open()?;
                self.make(place.dir, &place.name, Body::File(File::default()))?
            }
            None => return Err(Errno::NoEntry),
        };
        self.hold(into, node, access, read_only);
        Ok(Seen::Done)
    }

    pub fn check_open(
        &self,
        node: Id,
        place: &Place,
        directory: bool,
        access: Access,
    ) -> Result<(), Errno> {
        let kind = self.kind_of(node);
        refuse(kind == Kind::Symlink, Errno::Loop)?;
        refuse(
            (directory || place.slash) && kind == Kind::File,
            Errno::NotDirectory,
        )?;
        refuse(
            kind == Kind::Dir && access.contains(Access::WRITE),
            Errno::IsDirectory,
        )
    }

    pub fn check_room_to_open(&self) -> Result<(), Errno> {
        refuse(self.usage.open >= self.quota.max_open, Errno::TooManyOpen)
    }
}
