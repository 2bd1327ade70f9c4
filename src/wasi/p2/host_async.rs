//! The async traits of `wasi:filesystem/types`. Ours wait for content that has
//! to be fetched first, and for nothing else; a descriptor of a host directory
//! may wait in any call.

use std::sync::Arc;

use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry,
    DirectoryEntryStream, ErrorCode, Filesize, Host, HostDescriptor, HostDirectoryEntryStream,
    MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::ops;
use super::stream::{ReadStream, WriteStream};
use crate::errno::Errno;
use crate::wasi::component::fetch::fetched;
use crate::wasi::component::listing::ReadDir;
use crate::wasi::component::view::{FsView, Pair};

type Fd = Resource<Descriptor>;

impl Host for FsView<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        match self.stream_error(&error)? {
            Some(code) => Ok(Some(code)),
            None => self.stock.filesystem_error_code(error),
        }
    }
}

impl HostDescriptor for FsView<'_> {
    async fn advise(
        &mut self,
        fd: Fd,
        offset: Filesize,
        len: Filesize,
        advice: Advice,
    ) -> FsResult<()> {
        match self.ours(&fd) {
            Some(d) => Ok(ops::advise(d)?),
            None => self.stock.advise(fd, offset, len, advice).await,
        }
    }

    async fn sync_data(&mut self, fd: Fd) -> FsResult<()> {
        match self.ours(&fd) {
            Some(d) => Ok(d.sync()?),
            None => self.stock.sync_data(fd).await,
        }
    }

    async fn get_flags(&mut self, fd: Fd) -> FsResult<DescriptorFlags> {
        match self.ours(&fd) {
            Some(d) => Ok(ops::flags(d)),
            None => self.stock.get_flags(fd).await,
        }
    }

    async fn get_type(&mut self, fd: Fd) -> FsResult<DescriptorType> {
        match self.ours(&fd) {
            Some(d) => Ok(ops::kind(d)),
            None => self.stock.get_type(fd).await,
        }
    }

    async fn set_size(&mut self, fd: Fd, size: Filesize) -> FsResult<()> {
        match self.ours(&fd) {
            Some(d) => Ok(ops::set_size(d, size)?),
            None => self.stock.set_size(fd, size).await,
        }
    }

    async fn set_times(
        &mut self,
        fd: Fd,
        atime: NewTimestamp,
        mtime: NewTimestamp,
    ) -> FsResult<()> {
        match self.ours(&fd) {
            Some(d) => Ok(ops::set_times(d, atime, mtime)?),
            None => self.stock.set_times(fd, atime, mtime).await,
        }
    }

    async fn read(&mut self, fd: Fd, len: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)> {
        match self.ours(&fd) {
            Some(d) => Ok(fetched(|| ops::read(d, len, offset)).await?),
            None => self.stock.read(fd, len, offset).await,
        }
    }

    async fn write(&mut self, fd: Fd, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        match self.ours(&fd) {
            Some(d) => Ok(fetched(|| ops::write(d, &bytes, offset)).await?),
            None => self.stock.write(fd, bytes, offset).await,
        }
    }

    async fn read_directory(&mut self, fd: Fd) -> FsResult<Resource<DirectoryEntryStream>> {
        match self.ours(&fd).map(|d| ReadDir::new(d)) {
            Some(listing) => self.give_listing(listing?),
            None => self.stock.read_directory(fd).await,
        }
    }

    async fn sync(&mut self, fd: Fd) -> FsResult<()> {
        match self.ours(&fd) {
            Some(d) => Ok(d.sync()?),
            None => self.stock.sync(fd).await,
        }
    }

    async fn create_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        match self.ours(&fd) {
            Some(d) => Ok(ops::create_dir_at(d, &path)?),
            None => self.stock.create_directory_at(fd, path).await,
        }
    }

    async fn stat(&mut self, fd: Fd) -> FsResult<DescriptorStat> {
        match self.ours(&fd) {
            Some(d) => Ok(ops::stat(d)?),
            None => self.stock.stat(fd).await,
        }
    }

    async fn stat_at(
        &mut self,
        fd: Fd,
        flags: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        match self.ours(&fd) {
            Some(d) => Ok(ops::stat_at(d, flags, &path)?),
            None => self.stock.stat_at(fd, flags, path).await,
        }
    }

    async fn set_times_at(
        &mut self,
        fd: Fd,
        flags: PathFlags,
        path: String,
        atime: NewTimestamp,
        mtime: NewTimestamp,
    ) -> FsResult<()> {
        match self.ours(&fd) {
            Some(d) => Ok(ops::set_times_at(d, flags, &path, atime, mtime)?),
            None => self.stock.set_times_at(fd, flags, path, atime, mtime).await,
        }
    }

    async fn link_at(
        &mut self,
        fd: Fd,
        flags: PathFlags,
        path: String,
        new_fd: Fd,
        new_path: String,
    ) -> FsResult<()> {
        match self.pair(&fd, &new_fd) {
            Pair::Ours(d, new) => Ok(ops::link_at((d, flags, &path), (new, &new_path))?),
            Pair::Theirs => self.stock.link_at(fd, flags, path, new_fd, new_path).await,
            Pair::Mixed => Err(Errno::CrossDevice.into()),
        }
    }

    async fn open_at(
        &mut self,
        fd: Fd,
        follow: PathFlags,
        path: String,
        open: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Fd> {
        match self
            .ours(&fd)
            .map(|d| ops::open_at(d, follow, &path, open, flags))
        {
            Some(opened) => self.give(Arc::new(opened?)),
            None => self.stock.open_at(fd, follow, path, open, flags).await,
        }
    }

    fn drop(&mut self, fd: Fd) -> wasmtime::Result<()> {
        if self.take(&fd)? {
            return Ok(());
        }
        HostDescriptor::drop(&mut self.stock, fd)
    }

    async fn readlink_at(&mut self, fd: Fd, path: String) -> FsResult<String> {
        match self.ours(&fd) {
            Some(d) => Ok(ops::readlink_at(d, &path)?),
            None => self.stock.readlink_at(fd, path).await,
        }
    }

    async fn remove_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        match self.ours(&fd) {
            Some(d) => Ok(ops::remove_dir_at(d, &path)?),
            None => self.stock.remove_directory_at(fd, path).await,
        }
    }

    async fn rename_at(
        &mut self,
        fd: Fd,
        path: String,
        new_fd: Fd,
        new_path: String,
    ) -> FsResult<()> {
        match self.pair(&fd, &new_fd) {
            Pair::Ours(d, new) => Ok(ops::rename_at((d, &path), (new, &new_path))?),
            Pair::Theirs => self.stock.rename_at(fd, path, new_fd, new_path).await,
            Pair::Mixed => Err(Errno::CrossDevice.into()),
        }
    }

    async fn symlink_at(&mut self, fd: Fd, target: String, path: String) -> FsResult<()> {
        match self.ours(&fd) {
            Some(d) => Ok(ops::symlink_at(d, &target, &path)?),
            None => self.stock.symlink_at(fd, target, path).await,
        }
    }

    async fn unlink_file_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        match self.ours(&fd) {
            Some(d) => Ok(ops::unlink_at(d, &path)?),
            None => self.stock.unlink_file_at(fd, path).await,
        }
    }

    fn read_via_stream(&mut self, fd: Fd, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        match self.ours(&fd).map(|d| ReadStream::new(d, offset)) {
            Some(stream) => self.give_input(stream?),
            None => self.stock.read_via_stream(fd, offset),
        }
    }

    fn write_via_stream(
        &mut self,
        fd: Fd,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        match self.ours(&fd).map(|d| WriteStream::at(d, offset)) {
            Some(stream) => self.give_output(stream?),
            None => self.stock.write_via_stream(fd, offset),
        }
    }

    fn append_via_stream(&mut self, fd: Fd) -> FsResult<Resource<DynOutputStream>> {
        match self.ours(&fd).map(WriteStream::append) {
            Some(stream) => self.give_output(stream?),
            None => self.stock.append_via_stream(fd),
        }
    }

    async fn is_same_object(&mut self, a: Fd, b: Fd) -> wasmtime::Result<bool> {
        match self.pair(&a, &b) {
            Pair::Ours(a, b) => Ok(a.is_same_object(b)),
            Pair::Theirs => self.stock.is_same_object(a, b).await,
            Pair::Mixed => Ok(false),
        }
    }

    async fn metadata_hash(&mut self, fd: Fd) -> FsResult<MetadataHashValue> {
        match self.ours(&fd) {
            Some(d) => Ok(ops::metadata_hash(d)),
            None => self.stock.metadata_hash(fd).await,
        }
    }

    async fn metadata_hash_at(
        &mut self,
        fd: Fd,
        flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        match self.ours(&fd) {
            Some(d) => Ok(ops::metadata_hash_at(d, flags, &path)?),
            None => self.stock.metadata_hash_at(fd, flags, path).await,
        }
    }
}

impl HostDirectoryEntryStream for FsView<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        match self.listing(&stream) {
            Some(listing) => Ok(listing.next()?.map(ops::entry)),
            None => self.stock.read_directory_entry(stream).await,
        }
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        if self.take_listing(&stream)? {
            return Ok(());
        }
        HostDirectoryEntryStream::drop(&mut self.stock, stream)
    }
}
