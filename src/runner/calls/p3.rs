//! `wasi:filesystem@0.3`: a view in front of ours that tells of each call, and of each
//! step of the streams that the calls make. Of a host's directory the calls are told,
//! and not the steps: those are between the guest and wasmtime-wasi.

use wasmtime::AsContextMut as _;
use wasmtime::component::{
    Access, Accessor, FutureReader, HasData, Linker, Resource, StreamReader,
};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView as _};
use wasmtime_wasi::p3::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, Filesize,
    Host, HostDescriptor, HostDescriptorWithStore, MetadataHashValue, NewTimestamp, OpenFlags,
    PathFlags,
};
use wasmtime_wasi::p3::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p3::filesystem::{FilesystemError, FilesystemResult};

use super::p2::{HasTracedPreopens, TracedPreopens, traced_preopens};
use super::tracer::{Pending, Tracer};
use super::{CallResult, CallValue, Excerpt, WasiVersion, errnos};
use crate::limits::MAX_TRACED_PATH_BYTES;
use crate::runner::host::ComponentHost;
use crate::wasi::p3::{FsView, HasFs, Step, StreamWatcher, WatchStream};
use names::{ended, nothing};

mod names {
    use wasmtime_wasi::p3::bindings::filesystem::types;
    use wasmtime_wasi::p3::filesystem::FilesystemError;

    crate::runner::calls::names::impl_names!(types, FilesystemError,
        codes: ErrorCode::Other(_) => "EOTHER";
        kinds: DescriptorType::Other(_) => "OTHER");
}

type Fd = Resource<Descriptor>;

/// How a stream ended.
type StreamEnd = Result<(), ErrorCode>;

type StreamAndEnd<T> = (StreamReader<T>, FutureReader<StreamEnd>);

/// Reports each call, and passes it on.
pub(in crate::runner) struct TracedFsThree<'a> {
    fs: FsView<'a>,
    tracer: Tracer,
}

pub(in crate::runner) struct HasTracedFsThree;

impl HasData for HasTracedFsThree {
    type Data<'a> = TracedFsThree<'a>;
}

/// Puts the view in front of ours in a linker.
pub(in crate::runner) fn interpose_three(
    linker: &mut Linker<ComponentHost>,
) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    types::add_to_linker::<ComponentHost, HasTracedFsThree>(linker, |host| {
        let tracer = host.calls.clone();
        let fs = FsView::new(host.filesystem());
        TracedFsThree { fs, tracer }
    })?;
    preopens::add_to_linker::<ComponentHost, HasTracedPreopens>(linker, traced_preopens)?;
    linker.allow_shadowing(false);
    Ok(())
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

impl Host for TracedFsThree<'_> {
    fn convert_error_code(&mut self, error: FilesystemError) -> wasmtime::Result<ErrorCode> {
        Host::convert_error_code(&mut self.fs, error)
    }
}

impl HostDescriptor for TracedFsThree<'_> {
    fn drop(&mut self, fd: Fd) -> wasmtime::Result<()> {
        let (call, number) = (begin(&self.tracer, "drop", &fd), fd.rep());
        HostDescriptor::drop(&mut self.fs, fd)?;
        self.tracer.closed(number);
        call.end(CallResult::Done(CallValue::Nothing));
        Ok(())
    }
}

fn begin(tracer: &Tracer, name: &'static str, fd: &Fd) -> Pending {
    let call = tracer.begin(WasiVersion::Three, name);
    call.descriptor("descriptor", fd.rep())
}

fn call(store: &Accessor<ComponentHost, HasTracedFsThree>, name: &'static str, fd: &Fd) -> Pending {
    store.with(|mut access| begin(&access.get().tracer, name, fd))
}

/// The way to our own view of the same store.
fn behind(store: &Accessor<ComponentHost, HasTracedFsThree>) -> Accessor<ComponentHost, HasFs> {
    store.with_getter::<HasFs>(|host| FsView::new(host.filesystem()))
}

/// As [`behind`], for calls that make a stream: they take along who is told of it.
fn behind_now<'a>(
    store: &'a mut Access<'_, ComponentHost, HasTracedFsThree>,
    traced: TracedStream,
) -> Access<'a, ComponentHost, HasFs> {
    store.data_mut().next_stream = StreamWatcher(Some(Box::new(traced)));
    Access::<ComponentHost, HasFs>::new(store.as_context_mut(), |host| {
        let watch = std::mem::take(&mut host.next_stream);
        FsView::new(host.filesystem()).watched(watch)
    })
}

/// Reports the steps of one stream.
struct TracedStream {
    tracer: Tracer,
    name: &'static str,
    /// The descriptor that it was made of, and what that was then.
    of: CallValue,
    pending: Option<Pending>,
}

impl TracedStream {
    fn new(tracer: &Tracer, name: &'static str, fd: &Fd) -> Self {
        Self {
            tracer: tracer.clone(),
            name,
            of: tracer.descriptor(fd.rep()),
            pending: None,
        }
    }
}

impl Drop for TracedStream {
    /// A step that was given up moved nothing.
    fn drop(&mut self) {
        if let Some(pending) = self.pending.take() {
            pending.forget();
        }
    }
}

impl WatchStream for TracedStream {
    fn begin(&mut self) {
        if self.pending.is_none() {
            let call = self.tracer.begin(WasiVersion::Three, self.name);
            self.pending = Some(call.arg("descriptor", self.of.clone()));
        }
    }

    fn end(&mut self, step: Step<'_>) {
        let Some(mut call) = self.pending.take() else {
            return;
        };
        let result = match step {
            Step::Bytes(bytes) => {
                call = call.arg("buf", CallValue::Bytes(Excerpt::content(bytes)));
                call.moved(bytes.len() as u64);
                CallResult::Done(CallValue::Number(bytes.len() as u64))
            }
            Step::Entries(names) => {
                let mut room = MAX_TRACED_PATH_BYTES;
                let mut count = 0_u64;
                let mut traced = Vec::new();
                for name in names {
                    count = count.saturating_add(1);
                    if name.len() <= room {
                        room = room.saturating_sub(name.len());
                        traced.push(Excerpt::path(name.as_bytes()));
                    }
                }
                call = call.arg("entries", CallValue::Names(traced));
                CallResult::Done(CallValue::Number(count))
            }
            Step::Failed(errno) => errnos::of_errno(errno),
        };
        call.end(result);
    }
}

impl HostDescriptorWithStore<ComponentHost> for HasTracedFsThree {
    fn read_via_stream(
        mut store: Access<'_, ComponentHost, Self>,
        fd: Fd,
        offset: Filesize,
    ) -> wasmtime::Result<StreamAndEnd<u8>> {
        let tracer = store.get().tracer;
        let call = begin(&tracer, "read-via-stream", &fd).number("offset", offset);
        let traced = TracedStream::new(&tracer, "stream.read", &fd);
        let made = HasFs::read_via_stream(behind_now(&mut store, traced), fd, offset)?;
        call.end(CallResult::Done(CallValue::Nothing));
        Ok(made)
    }

    fn write_via_stream(
        mut store: Access<'_, ComponentHost, Self>,
        fd: Fd,
        data: StreamReader<u8>,
        offset: Filesize,
    ) -> wasmtime::Result<FutureReader<StreamEnd>> {
        let tracer = store.get().tracer;
        let call = begin(&tracer, "write-via-stream", &fd).number("offset", offset);
        let traced = TracedStream::new(&tracer, "stream.write", &fd);
        let made = HasFs::write_via_stream(behind_now(&mut store, traced), fd, data, offset)?;
        call.end(CallResult::Done(CallValue::Nothing));
        Ok(made)
    }

    fn append_via_stream(
        mut store: Access<'_, ComponentHost, Self>,
        fd: Fd,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<FutureReader<StreamEnd>> {
        let tracer = store.get().tracer;
        let call = begin(&tracer, "append-via-stream", &fd);
        let traced = TracedStream::new(&tracer, "stream.append", &fd);
        let made = HasFs::append_via_stream(behind_now(&mut store, traced), fd, data)?;
        call.end(CallResult::Done(CallValue::Nothing));
        Ok(made)
    }

    fn read_directory(
        mut store: Access<'_, ComponentHost, Self>,
        fd: Fd,
    ) -> wasmtime::Result<StreamAndEnd<DirectoryEntry>> {
        let tracer = store.get().tracer;
        let call = begin(&tracer, "read-directory", &fd);
        let traced = TracedStream::new(&tracer, "stream.read-directory", &fd);
        let made = HasFs::read_directory(behind_now(&mut store, traced), fd)?;
        call.end(CallResult::Done(CallValue::Nothing));
        Ok(made)
    }

    async fn advise(
        store: &Accessor<ComponentHost, Self>,
        fd: Fd,
        offset: Filesize,
        len: Filesize,
        advice: Advice,
    ) -> FilesystemResult<()> {
        let call = call(store, "advise", &fd);
        let call = call.number("offset", offset).number("length", len);
        let call = call.word("advice", names::advice(advice));
        let done = HasFs::advise(&behind(store), fd, offset, len, advice).await;
        ended(call, done, nothing)
    }

    async fn sync_data(store: &Accessor<ComponentHost, Self>, fd: Fd) -> FilesystemResult<()> {
        let call = call(store, "sync-data", &fd);
        let done = HasFs::sync_data(&behind(store), fd).await;
        ended(call, done, nothing)
    }

    async fn sync(store: &Accessor<ComponentHost, Self>, fd: Fd) -> FilesystemResult<()> {
        let call = call(store, "sync", &fd);
        let done = HasFs::sync(&behind(store), fd).await;
        ended(call, done, nothing)
    }

    async fn get_flags(
        store: &Accessor<ComponentHost, Self>,
        fd: Fd,
    ) -> FilesystemResult<DescriptorFlags> {
        let call = call(store, "get-flags", &fd);
        let done = HasFs::get_flags(&behind(store), fd).await;
        ended(call, done, |flags| CallValue::Word(names::access(*flags)))
    }

    async fn get_type(
        store: &Accessor<ComponentHost, Self>,
        fd: Fd,
    ) -> FilesystemResult<DescriptorType> {
        let call = call(store, "get-type", &fd);
        let done = HasFs::get_type(&behind(store), fd).await;
        ended(call, done, |kind| {
            CallValue::Word(names::kind(kind).to_owned())
        })
    }

    async fn set_size(
        store: &Accessor<ComponentHost, Self>,
        fd: Fd,
        size: Filesize,
    ) -> FilesystemResult<()> {
        let call = call(store, "set-size", &fd).number("size", size);
        let done = HasFs::set_size(&behind(store), fd, size).await;
        ended(call, done, nothing)
    }

    async fn set_times(
        store: &Accessor<ComponentHost, Self>,
        fd: Fd,
        atime: NewTimestamp,
        mtime: NewTimestamp,
    ) -> FilesystemResult<()> {
        let call = call(store, "set-times", &fd);
        let call = call.word("atim", names::time(&atime));
        let call = call.word("mtim", names::time(&mtime));
        let done = HasFs::set_times(&behind(store), fd, atime, mtime).await;
        ended(call, done, nothing)
    }

    async fn create_directory_at(
        store: &Accessor<ComponentHost, Self>,
        fd: Fd,
        path: String,
    ) -> FilesystemResult<()> {
        let call = call(store, "create-directory-at", &fd).path("path", &path);
        let done = HasFs::create_directory_at(&behind(store), fd, path).await;
        ended(call, done, nothing)
    }

    async fn stat(
        store: &Accessor<ComponentHost, Self>,
        fd: Fd,
    ) -> FilesystemResult<DescriptorStat> {
        let call = call(store, "stat", &fd);
        let done = HasFs::stat(&behind(store), fd).await;
        ended(call, done, names::stat)
    }

    async fn stat_at(
        store: &Accessor<ComponentHost, Self>,
        fd: Fd,
        flags: PathFlags,
        path: String,
    ) -> FilesystemResult<DescriptorStat> {
        let call = call(store, "stat-at", &fd).word("lookup", names::look(flags));
        let call = call.path("path", &path);
        let done = HasFs::stat_at(&behind(store), fd, flags, path).await;
        ended(call, done, names::stat)
    }

    async fn set_times_at(
        store: &Accessor<ComponentHost, Self>,
        fd: Fd,
        flags: PathFlags,
        path: String,
        atime: NewTimestamp,
        mtime: NewTimestamp,
    ) -> FilesystemResult<()> {
        let call = call(store, "set-times-at", &fd);
        let call = call.word("lookup", names::look(flags));
        let call = call.path("path", &path);
        let call = call.word("atim", names::time(&atime));
        let call = call.word("mtim", names::time(&mtime));
        let done = HasFs::set_times_at(&behind(store), fd, flags, path, atime, mtime).await;
        ended(call, done, nothing)
    }

    async fn link_at(
        store: &Accessor<ComponentHost, Self>,
        fd: Fd,
        flags: PathFlags,
        path: String,
        new_fd: Fd,
        new_path: String,
    ) -> FilesystemResult<()> {
        let call = call(store, "link-at", &fd).word("lookup", names::look(flags));
        let call = call.path("path", &path);
        let call = call.descriptor("new_descriptor", new_fd.rep());
        let call = call.path("new_path", &new_path);
        let done = HasFs::link_at(&behind(store), fd, flags, path, new_fd, new_path).await;
        ended(call, done, nothing)
    }

    async fn open_at(
        store: &Accessor<ComponentHost, Self>,
        fd: Fd,
        follow: PathFlags,
        path: String,
        open: OpenFlags,
        flags: DescriptorFlags,
    ) -> FilesystemResult<Fd> {
        let call = call(store, "open-at", &fd);
        let call = call.word("lookup", names::look(follow));
        let call = call.path("path", &path);
        let call = call.word("oflags", names::open(open));
        let call = call.word("flags", names::access(flags));
        let (dir, name) = (fd.rep(), path.clone());
        let done = HasFs::open_at(&behind(store), fd, follow, path, open, flags).await;
        if let Ok(opened) = &done {
            call.tracer()
                .opened_below(dir, name.as_bytes(), opened.rep());
        }
        ended(call, done, |fd| CallValue::Descriptor(fd.rep(), None))
    }

    async fn readlink_at(
        store: &Accessor<ComponentHost, Self>,
        fd: Fd,
        path: String,
    ) -> FilesystemResult<String> {
        let call = call(store, "readlink-at", &fd).path("path", &path);
        let done = HasFs::readlink_at(&behind(store), fd, path).await;
        ended(call, done, |to| {
            CallValue::Path(Excerpt::path(to.as_bytes()))
        })
    }

    async fn remove_directory_at(
        store: &Accessor<ComponentHost, Self>,
        fd: Fd,
        path: String,
    ) -> FilesystemResult<()> {
        let call = call(store, "remove-directory-at", &fd).path("path", &path);
        let done = HasFs::remove_directory_at(&behind(store), fd, path).await;
        ended(call, done, nothing)
    }

    async fn rename_at(
        store: &Accessor<ComponentHost, Self>,
        fd: Fd,
        path: String,
        new_fd: Fd,
        new_path: String,
    ) -> FilesystemResult<()> {
        let call = call(store, "rename-at", &fd).path("path", &path);
        let call = call.descriptor("new_descriptor", new_fd.rep());
        let call = call.path("new_path", &new_path);
        let done = HasFs::rename_at(&behind(store), fd, path, new_fd, new_path).await;
        ended(call, done, nothing)
    }

    async fn symlink_at(
        store: &Accessor<ComponentHost, Self>,
        fd: Fd,
        target: String,
        path: String,
    ) -> FilesystemResult<()> {
        let call = call(store, "symlink-at", &fd).path("target", &target);
        let call = call.path("path", &path);
        let done = HasFs::symlink_at(&behind(store), fd, target, path).await;
        ended(call, done, nothing)
    }

    async fn unlink_file_at(
        store: &Accessor<ComponentHost, Self>,
        fd: Fd,
        path: String,
    ) -> FilesystemResult<()> {
        let call = call(store, "unlink-file-at", &fd).path("path", &path);
        let done = HasFs::unlink_file_at(&behind(store), fd, path).await;
        ended(call, done, nothing)
    }

    async fn is_same_object(
        store: &Accessor<ComponentHost, Self>,
        a: Fd,
        b: Fd,
    ) -> wasmtime::Result<bool> {
        let call = call(store, "is-same-object", &a);
        let call = call.descriptor("other", b.rep());
        let same = HasFs::is_same_object(&behind(store), a, b).await?;
        call.end(CallResult::Done(CallValue::Word(same.to_string())));
        Ok(same)
    }

    async fn metadata_hash(
        store: &Accessor<ComponentHost, Self>,
        fd: Fd,
    ) -> FilesystemResult<MetadataHashValue> {
        let call = call(store, "metadata-hash", &fd);
        let done = HasFs::metadata_hash(&behind(store), fd).await;
        ended(call, done, names::hash)
    }

    async fn metadata_hash_at(
        store: &Accessor<ComponentHost, Self>,
        fd: Fd,
        flags: PathFlags,
        path: String,
    ) -> FilesystemResult<MetadataHashValue> {
        let call = call(store, "metadata-hash-at", &fd);
        let call = call.word("lookup", names::look(flags));
        let call = call.path("path", &path);
        let done = HasFs::metadata_hash_at(&behind(store), fd, flags, path).await;
        ended(call, done, names::hash)
    }
}
