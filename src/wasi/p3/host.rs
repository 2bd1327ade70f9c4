//! The traits of `wasi:filesystem`. Ours never wait, but for the streams that
//! they make; a descriptor of a host directory may.

use std::iter;
use std::sync::Arc;

use wasmtime::AsContextMut as _;
use wasmtime::component::{Access, Accessor, FutureReader, Resource, StreamReader};
use wasmtime_wasi::filesystem::{
    Descriptor as WasiDescriptor, WasiFilesystem, WasiFilesystemView as _,
};
use wasmtime_wasi::p3::bindings::filesystem::preopens;
use wasmtime_wasi::p3::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, Filesize,
    Host, HostDescriptor, HostDescriptorWithStore, MetadataHashValue, NewTimestamp, OpenFlags,
    PathFlags,
};
use wasmtime_wasi::p3::filesystem::{FilesystemError, FilesystemResult};

use super::convert::{self, no_room};
use super::listing::EntryStream;
use super::stream::{Ending, ReadStream, StreamEnd, WriteStream};
use crate::errno::Errno;
use crate::vfs::Descriptor;
use crate::wasi::component::ctx::StratafsView;
use crate::wasi::component::listing::ReadDir;
use crate::wasi::component::ops;
use crate::wasi::component::view::{FsView, HasFs, Pair, PreopensView};
use crate::wasi::component::watch::StreamWatcher;
use crate::wasi::write_at::WriteAt;

type Fd = Resource<WasiDescriptor>;

/// A stream, and the future that tells how it ended.
type StreamAndEnd<T> = (StreamReader<T>, FutureReader<StreamEnd>);

impl Host for FsView<'_> {
    fn convert_error_code(&mut self, error: FilesystemError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }
}

impl HostDescriptor for FsView<'_> {
    fn drop(&mut self, fd: Fd) -> wasmtime::Result<()> {
        if self.take(&fd)? {
            return Ok(());
        }
        HostDescriptor::drop(&mut self.stock, fd)
    }
}

impl preopens::Host for PreopensView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Fd, String)>> {
        let mut all = self.put_ours().map_err(no_room)?;
        all.extend(preopens::Host::get_directories(&mut self.fs.stock)?);
        Ok(all)
    }
}

/// Does `op` on the descriptor behind `fd` if it is ours.
fn ours<U, R>(store: &Accessor<U, HasFs>, fd: &Fd, op: impl FnOnce(&Descriptor) -> R) -> Option<R> {
    store.with(|mut access| access.get().ours(fd).map(|d| op(d)))
}

/// What two descriptors of one call come to.
enum PairResult<R> {
    Ours(R),
    Theirs,
    Mixed,
}

fn both<U, R>(
    store: &Accessor<U, HasFs>,
    (a, b): (&Fd, &Fd),
    op: impl FnOnce(&Descriptor, &Descriptor) -> R,
) -> PairResult<R> {
    store.with(|mut access| match access.get().pair(a, b) {
        Pair::Ours(a, b) => PairResult::Ours(op(a, b)),
        Pair::Theirs => PairResult::Theirs,
        Pair::Mixed => PairResult::Mixed,
    })
}

/// wasmtime-wasi's way into the same store.
fn stock<U: StratafsView>(store: &Accessor<U, HasFs>) -> Accessor<U, WasiFilesystem> {
    store.with_getter::<WasiFilesystem>(U::filesystem)
}

/// As [`stock`], for calls that do not wait.
fn stock_now<'a, U: StratafsView>(
    store: &'a mut Access<'_, U, HasFs>,
) -> Access<'a, U, WasiFilesystem> {
    Access::<U, WasiFilesystem>::new(store.as_context_mut(), U::filesystem)
}

fn now<U>(
    store: &mut Access<'_, U, HasFs>,
    end: Errno,
) -> wasmtime::Result<FutureReader<StreamEnd>> {
    let end = ErrorCode::from(end);
    FutureReader::new(store, async move { wasmtime::error::Ok(Err(end)) })
}

/// Pipes what the guest writes into a file.
fn write<U>(
    mut store: Access<'_, U, HasFs>,
    file: Arc<Descriptor>,
    mut data: StreamReader<u8>,
    place: WriteAt,
    watch: StreamWatcher,
) -> wasmtime::Result<FutureReader<StreamEnd>> {
    if let Err(errno) = WriteStream::check(&file, place) {
        data.close(&mut store)?;
        return now(&mut store, errno);
    }
    let (ending, end) = Ending::new();
    data.pipe(&mut store, WriteStream::new(file, place, ending, watch))?;
    FutureReader::new(&mut store, end)
}

impl<U: StratafsView> HostDescriptorWithStore<U> for HasFs {
    fn read_via_stream(
        mut store: Access<'_, U, Self>,
        fd: Fd,
        offset: Filesize,
    ) -> wasmtime::Result<StreamAndEnd<u8>> {
        let (file, watch) = store.get().ours_watched(&fd);
        let Some(file) = file else {
            return WasiFilesystem::read_via_stream(stock_now(&mut store), fd, offset);
        };
        let (ending, end) = Ending::new();
        match ReadStream::new(&file, offset, ending, watch) {
            Ok(stream) => Ok((
                StreamReader::new(&mut store, stream)?,
                FutureReader::new(&mut store, end)?,
            )),
            Err(errno) => Ok((
                StreamReader::new(&mut store, iter::empty())?,
                now(&mut store, errno)?,
            )),
        }
    }

    fn write_via_stream(
        mut store: Access<'_, U, Self>,
        fd: Fd,
        data: StreamReader<u8>,
        offset: Filesize,
    ) -> wasmtime::Result<FutureReader<StreamEnd>> {
        let (file, watch) = store.get().ours_watched(&fd);
        match file {
            Some(file) => write(store, file, data, WriteAt::Offset(offset), watch),
            None => WasiFilesystem::write_via_stream(stock_now(&mut store), fd, data, offset),
        }
    }

    fn append_via_stream(
        mut store: Access<'_, U, Self>,
        fd: Fd,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<FutureReader<StreamEnd>> {
        let (file, watch) = store.get().ours_watched(&fd);
        match file {
            Some(file) => write(store, file, data, WriteAt::End, watch),
            None => WasiFilesystem::append_via_stream(stock_now(&mut store), fd, data),
        }
    }

    fn read_directory(
        mut store: Access<'_, U, Self>,
        fd: Fd,
    ) -> wasmtime::Result<StreamAndEnd<DirectoryEntry>> {
        let (dir, watch) = store.get().ours_watched(&fd);
        let Some(dir) = dir else {
            return WasiFilesystem::read_directory(stock_now(&mut store), fd);
        };
        match ReadDir::new(&dir) {
            Ok(listing) => {
                let (ending, end) = Ending::new();
                Ok((
                    StreamReader::new(&mut store, EntryStream::new(listing, ending, watch))?,
                    FutureReader::new(&mut store, end)?,
                ))
            }
            Err(errno) => Ok((
                StreamReader::new(&mut store, iter::empty())?,
                now(&mut store, errno)?,
            )),
        }
    }

    async fn advise(
        store: &Accessor<U, Self>,
        fd: Fd,
        offset: Filesize,
        len: Filesize,
        advice: Advice,
    ) -> FilesystemResult<()> {
        match ours(store, &fd, ops::advise) {
            Some(done) => Ok(done?),
            None => WasiFilesystem::advise(&stock(store), fd, offset, len, advice).await,
        }
    }

    async fn sync_data(store: &Accessor<U, Self>, fd: Fd) -> FilesystemResult<()> {
        match ours(store, &fd, Descriptor::sync) {
            Some(done) => Ok(done?),
            None => WasiFilesystem::sync_data(&stock(store), fd).await,
        }
    }

    async fn sync(store: &Accessor<U, Self>, fd: Fd) -> FilesystemResult<()> {
        match ours(store, &fd, Descriptor::sync) {
            Some(done) => Ok(done?),
            None => WasiFilesystem::sync(&stock(store), fd).await,
        }
    }

    async fn get_flags(store: &Accessor<U, Self>, fd: Fd) -> FilesystemResult<DescriptorFlags> {
        match ours(store, &fd, |d| {
            convert::descriptor_flags(d.kind(), d.access())
        }) {
            Some(flags) => Ok(flags),
            None => WasiFilesystem::get_flags(&stock(store), fd).await,
        }
    }

    async fn get_type(store: &Accessor<U, Self>, fd: Fd) -> FilesystemResult<DescriptorType> {
        match ours(store, &fd, |d| convert::kind(d.kind(), d.is_device())) {
            Some(kind) => Ok(kind),
            None => WasiFilesystem::get_type(&stock(store), fd).await,
        }
    }

    async fn set_size(store: &Accessor<U, Self>, fd: Fd, size: Filesize) -> FilesystemResult<()> {
        match ours(store, &fd, |d| ops::set_size(d, size)) {
            Some(done) => Ok(done?),
            None => WasiFilesystem::set_size(&stock(store), fd, size).await,
        }
    }

    async fn set_times(
        store: &Accessor<U, Self>,
        fd: Fd,
        atime: NewTimestamp,
        mtime: NewTimestamp,
    ) -> FilesystemResult<()> {
        let set =
            |d: &Descriptor| d.set_times(convert::set_time(atime)?, convert::set_time(mtime)?);
        match ours(store, &fd, set) {
            Some(done) => Ok(done?),
            None => WasiFilesystem::set_times(&stock(store), fd, atime, mtime).await,
        }
    }

    async fn create_directory_at(
        store: &Accessor<U, Self>,
        fd: Fd,
        path: String,
    ) -> FilesystemResult<()> {
        match ours(store, &fd, |d| ops::create_dir_at(d, &path)) {
            Some(done) => Ok(done?),
            None => WasiFilesystem::create_directory_at(&stock(store), fd, path).await,
        }
    }

    async fn stat(store: &Accessor<U, Self>, fd: Fd) -> FilesystemResult<DescriptorStat> {
        match ours(store, &fd, Descriptor::stat) {
            Some(stat) => Ok(convert::stat(&stat?)),
            None => WasiFilesystem::stat(&stock(store), fd).await,
        }
    }

    async fn stat_at(
        store: &Accessor<U, Self>,
        fd: Fd,
        flags: PathFlags,
        path: String,
    ) -> FilesystemResult<DescriptorStat> {
        match ours(store, &fd, |d| {
            ops::stat_at(d, convert::follow(flags), &path)
        }) {
            Some(stat) => Ok(convert::stat(&stat?)),
            None => WasiFilesystem::stat_at(&stock(store), fd, flags, path).await,
        }
    }

    async fn set_times_at(
        store: &Accessor<U, Self>,
        fd: Fd,
        flags: PathFlags,
        path: String,
        atime: NewTimestamp,
        mtime: NewTimestamp,
    ) -> FilesystemResult<()> {
        let times = (convert::set_time(atime), convert::set_time(mtime));
        let follow = convert::follow(flags);
        match ours(store, &fd, |d| {
            ops::set_times_at(d, follow, &path, times.0, times.1)
        }) {
            Some(done) => Ok(done?),
            None => {
                let store = stock(store);
                WasiFilesystem::set_times_at(&store, fd, flags, path, atime, mtime).await
            }
        }
    }

    async fn link_at(
        store: &Accessor<U, Self>,
        fd: Fd,
        flags: PathFlags,
        path: String,
        new_fd: Fd,
        new_path: String,
    ) -> FilesystemResult<()> {
        let follow = convert::follow(flags);
        match both(store, (&fd, &new_fd), |d, new| {
            ops::link_at((d, follow, &path), (new, &new_path))
        }) {
            PairResult::Ours(done) => Ok(done?),
            PairResult::Theirs => {
                let store = stock(store);
                WasiFilesystem::link_at(&store, fd, flags, path, new_fd, new_path).await
            }
            PairResult::Mixed => Err(Errno::CrossDevice.into()),
        }
    }

    async fn open_at(
        store: &Accessor<U, Self>,
        fd: Fd,
        follow: PathFlags,
        path: String,
        open: OpenFlags,
        flags: DescriptorFlags,
    ) -> FilesystemResult<Fd> {
        let opened = store.with(|mut access| {
            let mut view = access.get();
            let dir = view.ours(&fd)?;
            let (how, which) = (convert::follow(follow), convert::open_flags(open));
            let opened = ops::open_at(dir, how, &path, which, convert::access(flags));
            Some(match opened {
                Ok(opened) => view.put(Arc::new(opened)).map_err(no_room),
                Err(errno) => Err(errno.into()),
            })
        });
        match opened {
            Some(opened) => opened,
            None => {
                let store = stock(store);
                WasiFilesystem::open_at(&store, fd, follow, path, open, flags).await
            }
        }
    }

    async fn readlink_at(
        store: &Accessor<U, Self>,
        fd: Fd,
        path: String,
    ) -> FilesystemResult<String> {
        match ours(store, &fd, |d| ops::readlink_at(d, &path)) {
            Some(target) => Ok(target?),
            None => WasiFilesystem::readlink_at(&stock(store), fd, path).await,
        }
    }

    async fn remove_directory_at(
        store: &Accessor<U, Self>,
        fd: Fd,
        path: String,
    ) -> FilesystemResult<()> {
        match ours(store, &fd, |d| ops::remove_dir_at(d, &path)) {
            Some(done) => Ok(done?),
            None => WasiFilesystem::remove_directory_at(&stock(store), fd, path).await,
        }
    }

    async fn rename_at(
        store: &Accessor<U, Self>,
        fd: Fd,
        path: String,
        new_fd: Fd,
        new_path: String,
    ) -> FilesystemResult<()> {
        match both(store, (&fd, &new_fd), |d, new| {
            ops::rename_at((d, &path), (new, &new_path))
        }) {
            PairResult::Ours(done) => Ok(done?),
            PairResult::Theirs => {
                let store = stock(store);
                WasiFilesystem::rename_at(&store, fd, path, new_fd, new_path).await
            }
            PairResult::Mixed => Err(Errno::CrossDevice.into()),
        }
    }

    async fn symlink_at(
        store: &Accessor<U, Self>,
        fd: Fd,
        target: String,
        path: String,
    ) -> FilesystemResult<()> {
        match ours(store, &fd, |d| ops::symlink_at(d, &target, &path)) {
            Some(done) => Ok(done?),
            None => WasiFilesystem::symlink_at(&stock(store), fd, target, path).await,
        }
    }

    async fn unlink_file_at(
        store: &Accessor<U, Self>,
        fd: Fd,
        path: String,
    ) -> FilesystemResult<()> {
        match ours(store, &fd, |d| ops::unlink_at(d, &path)) {
            Some(done) => Ok(done?),
            None => WasiFilesystem::unlink_file_at(&stock(store), fd, path).await,
        }
    }

    async fn is_same_object(
        store: &Accessor<U, Self>,
        fd: Fd,
        other: Fd,
    ) -> wasmtime::Result<bool> {
        match both(store, (&fd, &other), Descriptor::is_same_object) {
            PairResult::Ours(same) => Ok(same),
            PairResult::Theirs => WasiFilesystem::is_same_object(&stock(store), fd, other).await,
            PairResult::Mixed => Ok(false),
        }
    }

    async fn metadata_hash(
        store: &Accessor<U, Self>,
        fd: Fd,
    ) -> FilesystemResult<MetadataHashValue> {
        match ours(store, &fd, |d| {
            convert::metadata_hash(d.fs().device(), d.id())
        }) {
            Some(hash) => Ok(hash),
            None => WasiFilesystem::metadata_hash(&stock(store), fd).await,
        }
    }

    async fn metadata_hash_at(
        store: &Accessor<U, Self>,
        fd: Fd,
        flags: PathFlags,
        path: String,
    ) -> FilesystemResult<MetadataHashValue> {
        match ours(store, &fd, |d| {
            let (device, id) = ops::identity_at(d, convert::follow(flags), &path)?;
            Ok(convert::metadata_hash(device, id))
        }) {
            Some(hash) => hash,
            None => WasiFilesystem::metadata_hash_at(&stock(store), fd, flags, path).await,
        }
    }
}
