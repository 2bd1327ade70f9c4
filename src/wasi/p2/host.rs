//! The traits of `wasi:filesystem/types`, as one table of operations.
//!
//! wasmtime-wasi generates the traits twice, for synchronous and for asynchronous
//! linkers, each with its own copies of the types. [`hosts`] holds one row for each
//! operation and writes both. A row says what happens to a descriptor of ours; any other
//! descriptor is a host directory's, and wasmtime-wasi answers the same call. Ours wait
//! for content that has to be fetched first, and for nothing else. A descriptor of a host
//! directory may wait in any call.
//!
//! In a row `.into()` turns a type of one kind of bindings into that of the other. For
//! the asynchronous ones, whose types [`ops`] speaks, it turns a type into itself.

use wasmtime::component::Resource;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::ops;
use super::stream::{ReadStream, WriteStream};
use crate::errno::Errno;
use crate::vfs::NotDone;
use crate::wasi::component::fetch::fetched;
use crate::wasi::component::listing::ReadDir;
use crate::wasi::component::view::{FsView, Pair};

/// An operation on one descriptor. `$ours` is its result for a descriptor of ours.
///
/// `[async await]` at the head of a row writes an asynchronous function, `[]` a
/// synchronous one. The other macros of this file have the same head.
macro_rules! one {
    ([$($async:ident $wait:ident)?]
        fn $name:ident($($arg:ident: $type:ty),*) -> $ret:ty, |$d:ident| $ours:expr) => {
        $($async)? fn $name(&mut self, fd: Fd $(, $arg: $type)*) -> FsResult<$ret> {
            match self.ours(&fd) {
                Some($d) => $ours,
                None => self.stock.$name(fd $(, $arg)*)$(.$wait)?,
            }
        }
    };
}

/// An operation on one descriptor that may need content which has to be fetched first.
/// `$fetch` makes the call `$ours` again until it has been done.
macro_rules! fetching {
    ([$($async:ident $wait:ident)?] $fetch:path,
        fn $name:ident($($arg:ident: $type:ty),*) -> $ret:ty, |$d:ident| $ours:expr) => {
        $($async)? fn $name(&mut self, fd: Fd $(, $arg: $type)*) -> FsResult<$ret> {
            match self.ours(&fd) {
                Some($d) => Ok($fetch(|| $ours)$(.$wait)??),
                None => self.stock.$name(fd $(, $arg)*)$(.$wait)?,
            }
        }
    };
}

/// An operation that makes something, `$ours`, which `$give` hands to the guest.
macro_rules! making {
    ([$($async:ident $wait:ident)?]
        fn $name:ident($($arg:ident: $type:ty),*) -> $ret:ty, |$d:ident| $ours:expr, $give:ident) => {
        $($async)? fn $name(&mut self, fd: Fd $(, $arg: $type)*) -> FsResult<$ret> {
            match self.ours(&fd).map(|$d| $ours) {
                Some(made) => self.$give(made?),
                None => self.stock.$name(fd $(, $arg)*)$(.$wait)?,
            }
        }
    };
}

/// An operation on two descriptors, whose arguments stand in brackets before the row.
/// `$mixed` is its result where one descriptor is ours and the other is not.
macro_rules! two {
    ([$($async:ident $wait:ident)?] [$a:ident, $b:ident]
        fn $name:ident($($arg:ident: $type:ty),*) -> $ret:ty,
        |$d:ident, $e:ident| $ours:expr, $mixed:expr) => {
        $($async)? fn $name(&mut self $(, $arg: $type)*) -> $ret {
            match self.pair(&$a, &$b) {
                Pair::Ours($d, $e) => $ours,
                Pair::Theirs => self.stock.$name($($arg),*)$(.$wait)?,
                Pair::Mixed => $mixed,
            }
        }
    };
}

/// Implements the three traits for the bindings in `$types`.
macro_rules! hosts {
    ($mode:tt, $fetch:path, $($types:ident)::+) => {
        use super::*;
        use $($types)::+::{
            Advice, Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry,
            DirectoryEntryStream, ErrorCode, Filesize, Host, HostDescriptor,
            HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
        };

        type Fd = Resource<Descriptor>;
        type DirStream = Resource<DirectoryEntryStream>;

        impl HostDescriptor for FsView<'_> {
            one!($mode fn advise(offset: Filesize, len: Filesize, advice: Advice) -> (),
                |d| Ok(ops::advise(d)?));
            one!($mode fn sync_data() -> (), |d| Ok(d.sync()?));
            one!($mode fn sync() -> (), |d| Ok(d.sync()?));
            one!($mode fn get_flags() -> DescriptorFlags, |d| Ok(ops::flags(d).into()));
            one!($mode fn get_type() -> DescriptorType, |d| Ok(ops::kind(d).into()));
            one!($mode fn set_size(size: Filesize) -> (), |d| Ok(ops::set_size(d, size)?));
            one!($mode fn set_times(atime: NewTimestamp, mtime: NewTimestamp) -> (),
                |d| Ok(ops::set_times(d, atime.into(), mtime.into())?));
            one!($mode fn stat() -> DescriptorStat, |d| Ok(ops::stat(d)?.into()));
            one!($mode fn metadata_hash() -> MetadataHashValue,
                |d| Ok(ops::metadata_hash(d).into()));

            fetching!($mode $fetch, fn read(len: Filesize, offset: Filesize) -> (Vec<u8>, bool),
                |d| ops::read(d, len, offset));
            fetching!($mode $fetch, fn write(bytes: Vec<u8>, offset: Filesize) -> Filesize,
                |d| ops::write(d, &bytes, offset));

            one!($mode fn stat_at(flags: PathFlags, path: String) -> DescriptorStat,
                |d| Ok(ops::stat_at(d, flags.into(), &path)?.into()));
            one!($mode fn set_times_at(flags: PathFlags, path: String,
                atime: NewTimestamp, mtime: NewTimestamp) -> (),
                |d| Ok(ops::set_times_at(d, flags.into(), &path, atime.into(), mtime.into())?));
            one!($mode fn metadata_hash_at(flags: PathFlags, path: String) -> MetadataHashValue,
                |d| Ok(ops::metadata_hash_at(d, flags.into(), &path)?.into()));
            one!($mode fn readlink_at(path: String) -> String,
                |d| Ok(ops::readlink_at(d, &path)?));
            one!($mode fn create_directory_at(path: String) -> (),
                |d| Ok(ops::create_dir_at(d, &path)?));
            one!($mode fn remove_directory_at(path: String) -> (),
                |d| Ok(ops::remove_dir_at(d, &path)?));
            one!($mode fn unlink_file_at(path: String) -> (),
                |d| Ok(ops::unlink_at(d, &path)?));
            one!($mode fn symlink_at(target: String, path: String) -> (),
                |d| Ok(ops::symlink_at(d, &target, &path)?));

            two!($mode [fd, to_fd] fn link_at(fd: Fd, flags: PathFlags, path: String,
                to_fd: Fd, to_path: String) -> FsResult<()>,
                |d, to| Ok(ops::link_at((d, flags.into(), &path), (to, &to_path))?),
                Err(Errno::CrossDevice.into()));
            two!($mode [fd, to_fd] fn rename_at(fd: Fd, path: String,
                to_fd: Fd, to_path: String) -> FsResult<()>,
                |d, to| Ok(ops::rename_at((d, &path), (to, &to_path))?),
                Err(Errno::CrossDevice.into()));
            two!($mode [a, b] fn is_same_object(a: Fd, b: Fd) -> wasmtime::Result<bool>,
                |d, e| Ok(d.is_same_object(e)), Ok(false));

            making!($mode fn open_at(follow: PathFlags, path: String, open: OpenFlags,
                flags: DescriptorFlags) -> Fd,
                |d| ops::open_at(d, follow.into(), &path, open.into(), flags.into()), give_opened);
            making!($mode fn read_directory() -> DirStream, |d| ReadDir::new(d), give_listing);
            // No bindings let a guest wait for a stream to be made.
            making!([] fn read_via_stream(offset: Filesize) -> Resource<DynInputStream>,
                |d| ReadStream::new(d, offset), give_input);
            making!([] fn write_via_stream(offset: Filesize) -> Resource<DynOutputStream>,
                |d| WriteStream::at(d, offset), give_output);
            making!([] fn append_via_stream() -> Resource<DynOutputStream>,
                |d| WriteStream::append(d), give_output);

            fn drop(&mut self, fd: Fd) -> wasmtime::Result<()> {
                if self.take(&fd)? {
                    return Ok(());
                }
                HostDescriptor::drop(&mut self.stock, fd)
            }
        }

        impl HostDirectoryEntryStream for FsView<'_> {
            entry!($mode fn read_directory_entry() -> Option<DirectoryEntry>);

            fn drop(&mut self, stream: DirStream) -> wasmtime::Result<()> {
                if self.take_listing(&stream)? {
                    return Ok(());
                }
                HostDirectoryEntryStream::drop(&mut self.stock, stream)
            }
        }

        impl Host for FsView<'_> {
            fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
                Ok(error.downcast()?.into())
            }

            fn filesystem_error_code(
                &mut self,
                error: Resource<wasmtime::Error>,
            ) -> wasmtime::Result<Option<ErrorCode>> {
                match self.stream_error(&error)? {
                    Some(code) => Ok(Some(code.into())),
                    None => self.stock.filesystem_error_code(error),
                }
            }
        }
    };
}

/// The one operation on a listing.
macro_rules! entry {
    ([$($async:ident $wait:ident)?] fn $name:ident() -> $ret:ty) => {
        $($async)? fn $name(&mut self, stream: DirStream) -> FsResult<$ret> {
            match self.listing(&stream) {
                Some(listing) => Ok(listing.next()?.map(|entry| ops::entry(entry).into())),
                None => self.stock.$name(stream)$(.$wait)?,
            }
        }
    };
}

mod synchronous {
    hosts!(
        [],
        NotDone::wait_for,
        wasmtime_wasi::p2::bindings::sync::filesystem::types
    );
}

mod asynchronous {
    hosts!(
        [async await],
        fetched,
        wasmtime_wasi::p2::bindings::filesystem::types
    );
}
