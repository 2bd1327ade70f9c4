//! A guest of 0.2, played by the test: each call goes through the traits that
//! a component's imports are bound to, the sync or the async ones.

use std::future::Future;
use std::sync::LazyLock;

use stratafs::vfs::{Fs, Rights};
use stratafs::wasi::p2::{FsView, PreopensView};
use stratafs::wasi::{StratafsCtx, StratafsView};
use tokio::runtime::{Builder, Runtime};
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::filesystem::WasiFilesystemView as _;
use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as Preopens;
use wasmtime_wasi::p2::bindings::filesystem::types as waits;
use wasmtime_wasi::p2::bindings::sync::filesystem::types;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, StreamError};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use types::{DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags};

/// What an embedder's store would hold.
pub(super) struct Host {
    pub(super) wasi: WasiCtx,
    pub(super) table: ResourceTable,
    pub(super) stratafs: StratafsCtx,
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl StratafsView for Host {
    fn stratafs(&mut self) -> &mut StratafsCtx {
        &mut self.stratafs
    }
}

/// Which of the two traits a guest calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Sync,
    Async,
}

pub(super) const MODES: [Mode; 2] = [Mode::Sync, Mode::Async];

/// A guest's descriptor, a number as in its own table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fd(u32);

pub(super) type Answer<T> = Result<T, ErrorCode>;

/// What came of a stream call, comparable.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Halt {
    Closed,
    Failed(Option<ErrorCode>),
    Trap,
}

/// What the async traits wait on.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().build().unwrap());

pub(super) struct Guest {
    pub(super) host: Host,
    pub(super) mode: Mode,
}

fn fd(fd: Fd) -> Resource<types::Descriptor> {
    Resource::new_borrow(fd.0)
}

/// A trap fails the test: none of the calls may end the guest.
fn plain<T>(result: Result<T, FsError>) -> Answer<T> {
    result.map_err(|error| error.downcast().expect("no trap").into())
}

/// Calls the same method of the sync or of the async trait.
macro_rules! call {
    ($self:ident, $method:ident($($arg:expr),*)) => {{
        let Guest { host, mode } = $self;
        let mut view = FsView::new(host.filesystem());
        plain(match mode {
            Mode::Sync => types::HostDescriptor::$method(&mut view, $($arg),*),
            Mode::Async => RUNTIME
                .block_on(waits::HostDescriptor::$method(&mut view, $($arg.into()),*))
                .map(Into::into),
        })
    }};
}

impl Guest {
    /// A guest of `fs` with its root as the first directory.
    pub(super) fn new(fs: &Fs, mode: Mode) -> (Self, Fd) {
        Self::with(StratafsCtx::new().preopen(fs.root().unwrap(), "/"), mode)
    }

    /// As [`Self::new`], the root without the right to change anything.
    pub(super) fn read_only(fs: &Fs, mode: Mode) -> (Self, Fd) {
        Self::with(
            StratafsCtx::new().preopen(fs.preopen(b"/", Rights::ReadOnly).unwrap(), "/"),
            mode,
        )
    }

    /// A guest with the first directory of `stratafs` open.
    pub(super) fn with(stratafs: StratafsCtx, mode: Mode) -> (Self, Fd) {
        let mut guest = Self::over(WasiCtxBuilder::new().build(), stratafs, mode);
        let root = guest.preopens().remove(0).0;
        (guest, root)
    }

    pub(super) fn over(wasi: WasiCtx, stratafs: StratafsCtx, mode: Mode) -> Self {
        Self {
            host: Host {
                wasi,
                table: ResourceTable::new(),
                stratafs,
            },
            mode,
        }
    }

    pub(super) fn preopens(&mut self) -> Vec<(Fd, String)> {
        let ctx = self.host.stratafs.clone();
        let mut view = PreopensView::new(ctx, self.host.filesystem());
        let all = Preopens::get_directories(&mut view).unwrap();
        all.into_iter()
            .map(|(dir, path)| (Fd(dir.rep()), path))
            .collect()
    }

    pub(super) fn wait<T>(&mut self, future: impl Future<Output = T>) -> T {
        RUNTIME.block_on(future)
    }

    pub(super) fn open(
        &mut self,
        dir: Fd,
        path: &str,
        open: OpenFlags,
        flags: DescriptorFlags,
    ) -> Answer<Fd> {
        self.open_at(dir, PathFlags::SYMLINK_FOLLOW, path, open, flags)
    }

    pub(super) fn open_at(
        &mut self,
        dir: Fd,
        follow: PathFlags,
        path: &str,
        open: OpenFlags,
        flags: DescriptorFlags,
    ) -> Answer<Fd> {
        let path = path.to_owned();
        let opened: Answer<Resource<types::Descriptor>> =
            call!(self, open_at(fd(dir), follow, path, open, flags));
        opened.map(|fd| Fd(fd.rep()))
    }

    /// Makes a file with these bytes and closes it.
    pub(super) fn put(&mut self, dir: Fd, path: &str, bytes: &[u8]) -> Answer<()> {
        let open = OpenFlags::CREATE | OpenFlags::TRUNCATE;
        let file = self.open(dir, path, open, DescriptorFlags::WRITE)?;
        let written = self.write(file, 0, bytes);
        self.close(file);
        assert_eq!(written?, bytes.len() as u64);
        Ok(())
    }

    /// Gives the bytes of a file.
    pub(super) fn get(&mut self, dir: Fd, path: &str) -> Answer<Vec<u8>> {
        let file = self.open(dir, path, OpenFlags::empty(), DescriptorFlags::READ)?;
        let bytes = self.read_all(file);
        self.close(file);
        bytes
    }

    pub(super) fn read_all(&mut self, file: Fd) -> Answer<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let (bytes, end) = self.read(file, all.len() as u64, u64::MAX)?;
            all.extend(bytes);
            if end {
                return Ok(all);
            }
        }
    }

    pub(super) fn close(&mut self, file: Fd) {
        let mut view = FsView::new(self.host.filesystem());
        let file = Resource::new_own(file.0);
        match self.mode {
            Mode::Sync => types::HostDescriptor::drop(&mut view, file).unwrap(),
            Mode::Async => waits::HostDescriptor::drop(&mut view, file).unwrap(),
        }
    }

    pub(super) fn read(&mut self, file: Fd, offset: u64, len: u64) -> Answer<(Vec<u8>, bool)> {
        call!(self, read(fd(file), len, offset))
    }

    pub(super) fn write(&mut self, file: Fd, offset: u64, bytes: &[u8]) -> Answer<u64> {
        call!(self, write(fd(file), bytes.to_vec(), offset))
    }

    pub(super) fn set_size(&mut self, file: Fd, size: u64) -> Answer<()> {
        call!(self, set_size(fd(file), size))
    }

    pub(super) fn stat(&mut self, file: Fd) -> Answer<types::DescriptorStat> {
        call!(self, stat(fd(file)))
    }

    pub(super) fn stat_at(&mut self, dir: Fd, path: &str) -> Answer<types::DescriptorStat> {
        self.stat_follow(dir, PathFlags::empty(), path)
    }

    pub(super) fn stat_follow(
        &mut self,
        dir: Fd,
        follow: PathFlags,
        path: &str,
    ) -> Answer<types::DescriptorStat> {
        call!(self, stat_at(fd(dir), follow, path.to_owned()))
    }

    pub(super) fn flags(&mut self, file: Fd) -> Answer<DescriptorFlags> {
        call!(self, get_flags(fd(file)))
    }

    pub(super) fn kind(&mut self, file: Fd) -> Answer<types::DescriptorType> {
        call!(self, get_type(fd(file)))
    }

    pub(super) fn advise(&mut self, file: Fd, advice: types::Advice) -> Answer<()> {
        call!(self, advise(fd(file), 0u64, 1u64, advice))
    }

    pub(super) fn sync(&mut self, file: Fd) -> Answer<()> {
        call!(self, sync(fd(file)))
    }

    pub(super) fn sync_data(&mut self, file: Fd) -> Answer<()> {
        call!(self, sync_data(fd(file)))
    }

    pub(super) fn set_times(
        &mut self,
        file: Fd,
        atime: NewTimestamp,
        mtime: NewTimestamp,
    ) -> Answer<()> {
        call!(self, set_times(fd(file), atime, mtime))
    }

    pub(super) fn set_times_at(
        &mut self,
        dir: Fd,
        follow: PathFlags,
        path: &str,
        [atime, mtime]: [NewTimestamp; 2],
    ) -> Answer<()> {
        call!(
            self,
            set_times_at(fd(dir), follow, path.to_owned(), atime, mtime)
        )
    }

    pub(super) fn mkdir(&mut self, dir: Fd, path: &str) -> Answer<()> {
        call!(self, create_directory_at(fd(dir), path.to_owned()))
    }

    pub(super) fn rmdir(&mut self, dir: Fd, path: &str) -> Answer<()> {
        call!(self, remove_directory_at(fd(dir), path.to_owned()))
    }

    pub(super) fn unlink(&mut self, dir: Fd, path: &str) -> Answer<()> {
        call!(self, unlink_file_at(fd(dir), path.to_owned()))
    }

    pub(super) fn symlink(&mut self, dir: Fd, target: &str, path: &str) -> Answer<()> {
        call!(
            self,
            symlink_at(fd(dir), target.to_owned(), path.to_owned())
        )
    }

    pub(super) fn readlink(&mut self, dir: Fd, path: &str) -> Answer<String> {
        call!(self, readlink_at(fd(dir), path.to_owned()))
    }

    pub(super) fn rename(
        &mut self,
        (dir, path): (Fd, &str),
        (new_dir, new): (Fd, &str),
    ) -> Answer<()> {
        call!(
            self,
            rename_at(fd(dir), path.to_owned(), fd(new_dir), new.to_owned())
        )
    }

    pub(super) fn link(
        &mut self,
        (dir, path): (Fd, &str),
        (new_dir, new): (Fd, &str),
    ) -> Answer<()> {
        self.link_follow(PathFlags::empty(), (dir, path), (new_dir, new))
    }

    pub(super) fn link_follow(
        &mut self,
        follow: PathFlags,
        (dir, path): (Fd, &str),
        (new_dir, new): (Fd, &str),
    ) -> Answer<()> {
        call!(
            self,
            link_at(
                fd(dir),
                follow,
                path.to_owned(),
                fd(new_dir),
                new.to_owned()
            )
        )
    }

    pub(super) fn is_same(&mut self, a: Fd, b: Fd) -> bool {
        let mut view = FsView::new(self.host.filesystem());
        match self.mode {
            Mode::Sync => types::HostDescriptor::is_same_object(&mut view, fd(a), fd(b)),
            Mode::Async => RUNTIME.block_on(waits::HostDescriptor::is_same_object(
                &mut view,
                fd(a),
                fd(b),
            )),
        }
        .unwrap()
    }

    /// Both halves of the hash.
    pub(super) fn hash(&mut self, file: Fd) -> Answer<(u64, u64)> {
        let hash: Answer<types::MetadataHashValue> = call!(self, metadata_hash(fd(file)));
        hash.map(|hash| (hash.lower, hash.upper))
    }

    pub(super) fn hash_at(&mut self, dir: Fd, path: &str) -> Answer<(u64, u64)> {
        let hash: Answer<types::MetadataHashValue> = call!(
            self,
            metadata_hash_at(fd(dir), PathFlags::empty(), path.to_owned())
        );
        hash.map(|hash| (hash.lower, hash.upper))
    }

    pub(super) fn listing(&mut self, dir: Fd) -> Answer<Listing> {
        let stream: Answer<Resource<types::DirectoryEntryStream>> =
            call!(self, read_directory(fd(dir)));
        stream.map(|stream| Listing(stream.rep()))
    }

    pub(super) fn next(&mut self, listing: Listing) -> Answer<Option<types::DirectoryEntry>> {
        let mut view = FsView::new(self.host.filesystem());
        let stream = Resource::new_borrow(listing.0);
        plain(match self.mode {
            Mode::Sync => types::HostDirectoryEntryStream::read_directory_entry(&mut view, stream),
            Mode::Async => RUNTIME
                .block_on(waits::HostDirectoryEntryStream::read_directory_entry(
                    &mut view, stream,
                ))
                .map(|entry| entry.map(Into::into)),
        })
    }

    pub(super) fn end(&mut self, listing: Listing) {
        let mut view = FsView::new(self.host.filesystem());
        let stream = Resource::new_own(listing.0);
        match self.mode {
            Mode::Sync => types::HostDirectoryEntryStream::drop(&mut view, stream).unwrap(),
            Mode::Async => waits::HostDirectoryEntryStream::drop(&mut view, stream).unwrap(),
        }
    }

    /// The names in a directory, sorted.
    pub(super) fn names(&mut self, dir: Fd) -> Answer<Vec<String>> {
        let listing = self.listing(dir)?;
        let mut names = Vec::new();
        while let Some(entry) = self.next(listing)? {
            names.push(entry.name);
        }
        self.end(listing);
        names.sort();
        Ok(names)
    }

    pub(super) fn reader(&mut self, file: Fd, offset: u64) -> Answer<Resource<DynInputStream>> {
        let mut view = FsView::new(self.host.filesystem());
        plain(match self.mode {
            Mode::Sync => types::HostDescriptor::read_via_stream(&mut view, fd(file), offset),
            Mode::Async => waits::HostDescriptor::read_via_stream(&mut view, fd(file), offset),
        })
    }

    pub(super) fn writer(&mut self, file: Fd, offset: u64) -> Answer<Resource<DynOutputStream>> {
        let mut view = FsView::new(self.host.filesystem());
        plain(match self.mode {
            Mode::Sync => types::HostDescriptor::write_via_stream(&mut view, fd(file), offset),
            Mode::Async => waits::HostDescriptor::write_via_stream(&mut view, fd(file), offset),
        })
    }

    pub(super) fn appender(&mut self, file: Fd) -> Answer<Resource<DynOutputStream>> {
        let mut view = FsView::new(self.host.filesystem());
        plain(match self.mode {
            Mode::Sync => types::HostDescriptor::append_via_stream(&mut view, fd(file)),
            Mode::Async => waits::HostDescriptor::append_via_stream(&mut view, fd(file)),
        })
    }

    pub(super) fn input(&mut self, stream: &Resource<DynInputStream>) -> &mut DynInputStream {
        self.host.table.get_mut(stream).unwrap()
    }

    pub(super) fn output(&mut self, stream: &Resource<DynOutputStream>) -> &mut DynOutputStream {
        self.host.table.get_mut(stream).unwrap()
    }

    /// What a guest learns of a stream's error, by `filesystem-error-code`.
    pub(super) fn halt(&mut self, error: StreamError) -> Halt {
        let error = match error {
            StreamError::Closed => return Halt::Closed,
            StreamError::Trap(_) => return Halt::Trap,
            StreamError::LastOperationFailed(error) => error,
        };
        let error = self.host.table.push(error).unwrap();
        let mut view = FsView::new(self.host.filesystem());
        let found = match self.mode {
            Mode::Sync => types::Host::filesystem_error_code(&mut view, error).unwrap(),
            Mode::Async => waits::Host::filesystem_error_code(&mut view, error)
                .unwrap()
                .map(Into::into),
        };
        Halt::Failed(found)
    }
}

/// A listing under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listing(u32);
