//! `wasi:filesystem@0.2`: a view in front of ours that tells of each call.

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::filesystem::WasiFilesystemView as _;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry,
    DirectoryEntryStream, ErrorCode, Filesize, Host, HostDescriptor, HostDirectoryEntryStream,
    MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::streams::{TracedInput, TracedOutput};
use super::tracer::{Pending, Tracer};
use super::{CallResult, CallValue, Excerpt, WasiVersion};
use crate::runner::host::ComponentHost;
use crate::wasi::StratafsView as _;
use crate::wasi::p2::{FsView, PreopensView};
use names::{ended, nothing};

mod names {
    use wasmtime_wasi::p2::FsError;
    use wasmtime_wasi::p2::bindings::filesystem::types;

    crate::runner::calls::names::impl_names!(types, FsError,
        codes: ErrorCode::WouldBlock => "EAGAIN";
        kinds: DescriptorType::Unknown => "UNKNOWN");
}

type Fd = Resource<Descriptor>;

/// Reports each call, and passes it on.
pub(in crate::runner) struct TracedFsTwo<'a> {
    fs: FsView<'a>,
    tracer: Tracer,
}

struct HasTracedFsTwo;

impl HasData for HasTracedFsTwo {
    type Data<'a> = TracedFsTwo<'a>;
}

pub(in crate::runner) struct TracedPreopens<'a> {
    pub(super) all: PreopensView<'a>,
    pub(super) tracer: Tracer,
}

pub(super) struct HasTracedPreopens;

impl HasData for HasTracedPreopens {
    type Data<'a> = TracedPreopens<'a>;
}

/// Puts the view in front of ours in a linker for async stores.
pub(in crate::runner) fn interpose_two(linker: &mut Linker<ComponentHost>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    types::add_to_linker::<ComponentHost, HasTracedFsTwo>(linker, |host| {
        let tracer = host.calls.clone();
        let fs = FsView::new(host.filesystem());
        TracedFsTwo { fs, tracer }
    })?;
    preopens::add_to_linker::<ComponentHost, HasTracedPreopens>(linker, traced_preopens)?;
    linker.allow_shadowing(false);
    Ok(())
}

pub(super) fn traced_preopens(host: &mut ComponentHost) -> TracedPreopens<'_> {
    let (tracer, ctx) = (host.calls.clone(), host.stratafs().clone());
    let all = PreopensView::new(ctx, host.filesystem());
    TracedPreopens { all, tracer }
}

impl preopens::Host for TracedPreopens<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Fd, String)>> {
        let all = preopens::Host::get_directories(&mut self.all)?;
        for (fd, name) in &all {
            self.tracer.opened(fd.rep(), name);
        }
        Ok(all)
    }
}

impl TracedFsTwo<'_> {
    fn call(&self, name: &'static str, fd: &Fd) -> Pending {
        let call = self.tracer.begin(WasiVersion::Two, name);
        call.descriptor("descriptor", fd.rep())
    }

    /// Puts a stream that tells in the place of one that was just made.
    fn put<S: Send + 'static>(
        &mut self,
        made: FsResult<Resource<S>>,
        of: &Fd,
        wrap: impl FnOnce(S, Tracer, u32) -> S,
    ) -> FsResult<Resource<S>> {
        let table: &mut ResourceTable = self.fs.table();
        let stream = table.delete(made?).map_err(FsError::trap)?;
        let traced = wrap(stream, self.tracer.clone(), of.rep());
        table.push(traced).map_err(FsError::trap)
    }
}

impl Host for TracedFsTwo<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        Host::convert_error_code(&mut self.fs, error)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        Host::filesystem_error_code(&mut self.fs, error)
    }
}

impl HostDescriptor for TracedFsTwo<'_> {
    async fn advise(
        &mut self,
        fd: Fd,
        offset: Filesize,
        len: Filesize,
        advice: Advice,
    ) -> FsResult<()> {
        let call = self.call("advise", &fd);
        let call = call.number("offset", offset).number("length", len);
        let call = call.word("advice", names::advice(advice));
        let done = self.fs.advise(fd, offset, len, advice).await;
        ended(call, done, nothing)
    }

    async fn sync_data(&mut self, fd: Fd) -> FsResult<()> {
        let call = self.call("sync-data", &fd);
        let done = self.fs.sync_data(fd).await;
        ended(call, done, nothing)
    }

    async fn get_flags(&mut self, fd: Fd) -> FsResult<DescriptorFlags> {
        let call = self.call("get-flags", &fd);
        let done = self.fs.get_flags(fd).await;
        ended(call, done, |flags| CallValue::Word(names::access(*flags)))
    }

    async fn get_type(&mut self, fd: Fd) -> FsResult<DescriptorType> {
        let call = self.call("get-type", &fd);
        let done = self.fs.get_type(fd).await;
        ended(call, done, |kind| {
            CallValue::Word(names::kind(kind).to_owned())
        })
    }

    async fn set_size(&mut self, fd: Fd, size: Filesize) -> FsResult<()> {
        let call = self.call("set-size", &fd).number("size", size);
        let done = self.fs.set_size(fd, size).await;
        ended(call, done, nothing)
    }

    async fn set_times(
        &mut self,
        fd: Fd,
        atime: NewTimestamp,
        mtime: NewTimestamp,
    ) -> FsResult<()> {
        let call = self.call("set-times", &fd);
        let call = call.word("atim", names::time(&atime));
        let call = call.word("mtim", names::time(&mtime));
        let done = self.fs.set_times(fd, atime, mtime).await;
        ended(call, done, nothing)
    }

    async fn read(&mut self, fd: Fd, len: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)> {
        let call = self.call("read", &fd).arg("buf", CallValue::Nothing);
        let mut call = call.number("len", len).number("offset", offset);
        let done = self.fs.read(fd, len, offset).await;
        if let Ok((bytes, _)) = &done {
            call.fill("buf", CallValue::Bytes(Excerpt::content(bytes)));
            call.moved(bytes.len() as u64);
        }
        ended(call, done, |(bytes, _)| {
            CallValue::Number(bytes.len() as u64)
        })
    }

    async fn write(&mut self, fd: Fd, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        let call = self.call("write", &fd);
        let call = call.arg("buf", CallValue::Bytes(Excerpt::content(&bytes)));
        let call = call.number("len", bytes.len() as u64);
        let mut call = call.number("offset", offset);
        let done = self.fs.write(fd, bytes, offset).await;
        if let Ok(len) = &done {
            call.moved(*len);
        }
        ended(call, done, |len| CallValue::Number(*len))
    }

    async fn read_directory(&mut self, fd: Fd) -> FsResult<Resource<DirectoryEntryStream>> {
        let call = self.call("read-directory", &fd);
        let number = fd.rep();
        let done = self.fs.read_directory(fd).await;
        if let Ok(listing) = &done {
            self.tracer.opened_below(number, b"", listing.rep());
        }
        ended(call, done, |fd| CallValue::Descriptor(fd.rep(), None))
    }

    async fn sync(&mut self, fd: Fd) -> FsResult<()> {
        let call = self.call("sync", &fd);
        let done = self.fs.sync(fd).await;
        ended(call, done, nothing)
    }

    async fn create_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        let call = self.call("create-directory-at", &fd).path("path", &path);
        let done = self.fs.create_directory_at(fd, path).await;
        ended(call, done, nothing)
    }

    async fn stat(&mut self, fd: Fd) -> FsResult<DescriptorStat> {
        let call = self.call("stat", &fd);
        let done = self.fs.stat(fd).await;
        ended(call, done, names::stat)
    }

    async fn stat_at(
        &mut self,
        fd: Fd,
        flags: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        let call = self.call("stat-at", &fd).word("lookup", names::look(flags));
        let call = call.path("path", &path);
        let done = self.fs.stat_at(fd, flags, path).await;
        ended(call, done, names::stat)
    }

    async fn set_times_at(
        &mut self,
        fd: Fd,
        flags: PathFlags,
        path: String,
        atime: NewTimestamp,
        mtime: NewTimestamp,
    ) -> FsResult<()> {
        let call = self.call("set-times-at", &fd);
        let call = call.word("lookup", names::look(flags));
        let call = call.path("path", &path);
        let call = call.word("atim", names::time(&atime));
        let call = call.word("mtim", names::time(&mtime));
        let done = self.fs.set_times_at(fd, flags, path, atime, mtime).await;
        ended(call, done, nothing)
    }

    async fn link_at(
        &mut self,
        fd: Fd,
        flags: PathFlags,
        path: String,
        new_fd: Fd,
        new_path: String,
    ) -> FsResult<()> {
        let call = self.call("link-at", &fd).word("lookup", names::look(flags));
        let call = call.path("path", &path);
        let call = call.descriptor("new_descriptor", new_fd.rep());
        let call = call.path("new_path", &new_path);
        let done = self.fs.link_at(fd, flags, path, new_fd, new_path).await;
        ended(call, done, nothing)
    }

    async fn open_at(
        &mut self,
        fd: Fd,
        follow: PathFlags,
        path: String,
        open: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Fd> {
        let call = self.call("open-at", &fd);
        let call = call.word("lookup", names::look(follow));
        let call = call.path("path", &path);
        let call = call.word("oflags", names::open(open));
        let call = call.word("flags", names::access(flags));
        let (dir, name) = (fd.rep(), path.clone());
        let done = self.fs.open_at(fd, follow, path, open, flags).await;
        if let Ok(opened) = &done {
            self.tracer.opened_below(dir, name.as_bytes(), opened.rep());
        }
        ended(call, done, |fd| CallValue::Descriptor(fd.rep(), None))
    }

    fn drop(&mut self, fd: Fd) -> wasmtime::Result<()> {
        let (call, number) = (self.call("drop", &fd), fd.rep());
        HostDescriptor::drop(&mut self.fs, fd)?;
        self.tracer.closed(number);
        call.end(CallResult::Done(CallValue::Nothing));
        Ok(())
    }

    async fn readlink_at(&mut self, fd: Fd, path: String) -> FsResult<String> {
        let call = self.call("readlink-at", &fd).path("path", &path);
        let done = self.fs.readlink_at(fd, path).await;
        ended(call, done, |to| {
            CallValue::Path(Excerpt::path(to.as_bytes()))
        })
    }

    async fn remove_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        let call = self.call("remove-directory-at", &fd).path("path", &path);
        let done = self.fs.remove_directory_at(fd, path).await;
        ended(call, done, nothing)
    }

    async fn rename_at(
        &mut self,
        fd: Fd,
        path: String,
        new_fd: Fd,
        new_path: String,
    ) -> FsResult<()> {
        let call = self.call("rename-at", &fd).path("path", &path);
        let call = call.descriptor("new_descriptor", new_fd.rep());
        let call = call.path("new_path", &new_path);
        let done = self.fs.rename_at(fd, path, new_fd, new_path).await;
        ended(call, done, nothing)
    }

    async fn symlink_at(&mut self, fd: Fd, target: String, path: String) -> FsResult<()> {
        let call = self.call("symlink-at", &fd).path("target", &target);
        let call = call.path("path", &path);
        let done = self.fs.symlink_at(fd, target, path).await;
        ended(call, done, nothing)
    }

    async fn unlink_file_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        let call = self.call("unlink-file-at", &fd).path("path", &path);
        let done = self.fs.unlink_file_at(fd, path).await;
        ended(call, done, nothing)
    }

    fn read_via_stream(&mut self, fd: Fd, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        let call = self.call("read-via-stream", &fd).number("offset", offset);
        let of = Resource::new_borrow(fd.rep());
        let made = self.fs.read_via_stream(fd, offset);
        let done = self.put(made, &of, TracedInput::put_before);
        ended(call, done, |stream| {
            CallValue::Descriptor(stream.rep(), None)
        })
    }

    fn write_via_stream(
        &mut self,
        fd: Fd,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        let call = self.call("write-via-stream", &fd).number("offset", offset);
        let of = Resource::new_borrow(fd.rep());
        let made = self.fs.write_via_stream(fd, offset);
        let done = self.put(made, &of, TracedOutput::put_before);
        ended(call, done, |stream| {
            CallValue::Descriptor(stream.rep(), None)
        })
    }

    fn append_via_stream(&mut self, fd: Fd) -> FsResult<Resource<DynOutputStream>> {
        let call = self.call("append-via-stream", &fd);
        let of = Resource::new_borrow(fd.rep());
        let made = self.fs.append_via_stream(fd);
        let done = self.put(made, &of, TracedOutput::put_before);
        ended(call, done, |stream| {
            CallValue::Descriptor(stream.rep(), None)
        })
    }

    async fn is_same_object(&mut self, a: Fd, b: Fd) -> wasmtime::Result<bool> {
        let call = self.call("is-same-object", &a);
        let call = call.descriptor("other", b.rep());
        let same = self.fs.is_same_object(a, b).await?;
        call.end(CallResult::Done(CallValue::Word(same.to_string())));
        Ok(same)
    }

    async fn metadata_hash(&mut self, fd: Fd) -> FsResult<MetadataHashValue> {
        let call = self.call("metadata-hash", &fd);
        let done = self.fs.metadata_hash(fd).await;
        ended(call, done, names::hash)
    }

    async fn metadata_hash_at(
        &mut self,
        fd: Fd,
        flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        let call = self.call("metadata-hash-at", &fd);
        let call = call.word("lookup", names::look(flags));
        let call = call.path("path", &path);
        let done = self.fs.metadata_hash_at(fd, flags, path).await;
        ended(call, done, names::hash)
    }
}

impl HostDirectoryEntryStream for TracedFsTwo<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        let call = self.tracer.begin(WasiVersion::Two, "read-directory-entry");
        let call = call.descriptor("stream", stream.rep());
        let done = self.fs.read_directory_entry(stream).await;
        ended(call, done, |entry| match entry {
            Some(entry) => CallValue::Record(vec![
                (
                    "type",
                    CallValue::Word(names::kind(&entry.type_).to_owned()),
                ),
                (
                    "name",
                    CallValue::Path(Excerpt::path(entry.name.as_bytes())),
                ),
            ]),
            None => CallValue::Nothing,
        })
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.tracer.closed(stream.rep());
        HostDirectoryEntryStream::drop(&mut self.fs, stream)
    }
}

/// A step of a stream that failed with a code of 0.2.
pub(super) fn of_code(code: &ErrorCode) -> CallResult {
    names::of_code(code)
}
