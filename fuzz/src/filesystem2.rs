//! Calls of `wasi:filesystem` 0.2 with any arguments, made through the traits
//! that a component's imports are bound to; the instance is checked after each.

use std::ops::BitOr;

use stratafs::vfs::{Fs, Rights};
use stratafs::wasi::p2::{FsView, PreopensView};
use stratafs::wasi::{StratafsState, StratafsView as _};
use wasmtime::component::Resource;
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::filesystem::WasiFilesystemView as _;
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{
    Advice, Descriptor, DescriptorFlags, DirectoryEntryStream, HostDescriptor,
    HostDirectoryEntryStream, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, StreamError};

use super::feed::Feed;
use super::instance::BASE;

/// Calls of one run.
const LENGTH: usize = 120;

/// Handles of each kind that a guest keeps at most; one more replaces one.
const HANDLES: usize = 6;

/// A guest: what it has open, by the numbers of its handles.
struct Guest {
    state: StratafsState,
    open: Vec<u32>,
    listings: Vec<u32>,
    inputs: Vec<Resource<DynInputStream>>,
    outputs: Vec<Resource<DynOutputStream>>,
}

/// Makes calls as the bytes say.
///
/// # Panics
///
/// If a call ends the guest, or a check of the instance fails.
pub fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let fs = Fs::builder(&BASE)
        .max_bytes([0, 5_000, 100_000][feed.below(3)])
        .max_inodes(30)
        .max_open(12)
        .build();
    let read_only = fs.preopen(b"/", Rights::ReadOnly).expect("a preopen");
    let state = StratafsState::new(WasiCtxBuilder::new().build())
        .preopen(fs.root().expect("the root"), "/")
        .preopen(read_only, "/ro");
    let mut guest = Guest::new(state);
    for _ in 0..LENGTH {
        if feed.is_empty() {
            break;
        }
        match feed.below(12) {
            0..5 => guest.change(&mut feed),
            5..9 => guest.look(&mut feed),
            9 => guest.list(&mut feed),
            10 => guest.stream(&mut feed),
            _ => guest.close(&mut feed),
        }
        assert_eq!(fs.check(), Ok(()));
        assert!(fs.usage().private_bytes <= fs.quota().max_bytes);
    }
    drop(guest);
    assert_eq!(fs.check(), Ok(()));
    assert_eq!(fs.usage().open, 0);
}

/// Takes what a call gave. An error is an answer; a trap is a fault.
fn plain<T>(answer: Result<T, FsError>) -> Option<T> {
    match answer {
        Ok(value) => Some(value),
        Err(error) => {
            error.downcast().expect("no trap");
            None
        }
    }
}

/// As [`plain`], for streams.
fn flows<T>(answer: Result<T, StreamError>) {
    if let Err(StreamError::Trap(trap)) = answer {
        panic!("{trap}");
    }
}

fn keep<T>(handles: &mut Vec<T>, handle: T, feed: &mut Feed<'_>) -> Option<T> {
    if handles.len() < HANDLES {
        handles.push(handle);
        return None;
    }
    let at = feed.below(HANDLES);
    Some(std::mem::replace(&mut handles[at], handle))
}

fn path(feed: &mut Feed<'_>) -> String {
    String::from_utf8_lossy(&feed.path()).into_owned()
}

fn follow(feed: &mut Feed<'_>) -> PathFlags {
    feed.pick(&[PathFlags::empty(), PathFlags::SYMLINK_FOLLOW])
}

/// Some of a few flags.
fn flags<T: Copy + BitOr<Output = T>>(feed: &mut Feed<'_>, none: T, all: &[T]) -> T {
    let bits = feed.byte();
    let chosen = all.iter().enumerate().filter(|(n, _)| bits >> n & 1 == 1);
    chosen.fold(none, |flags, (_, flag)| flags | *flag)
}

fn time(feed: &mut Feed<'_>) -> NewTimestamp {
    match feed.below(3) {
        0 => NewTimestamp::NoChange,
        1 => NewTimestamp::Now,
        _ => NewTimestamp::Timestamp(Datetime {
            seconds: feed.number(),
            nanoseconds: feed.pick(&[0, 999_999_999, 1_000_000_000, u32::MAX]),
        }),
    }
}

impl Guest {
    fn new(mut state: StratafsState) -> Self {
        let stratafs = state.stratafs().clone();
        let mut view = PreopensView::new(stratafs, state.filesystem());
        let preopens = view.get_directories().expect("preopens");
        let open = preopens.iter().map(|(dir, _)| dir.rep()).collect();
        Self {
            state,
            open,
            listings: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }

    fn view(&mut self) -> FsView<'_> {
        FsView::new(self.state.filesystem())
    }

    /// One of the guest's handles, most likely of a preopen.
    fn fd(&self, feed: &mut Feed<'_>) -> Resource<Descriptor> {
        let at = feed.below(2 * self.open.len());
        let first = &self.open[0];
        Resource::new_borrow(*self.open.get(at).unwrap_or(first))
    }

    /// Calls that change the tree or a file.
    fn change(&mut self, feed: &mut Feed<'_>) {
        let (fd, other) = (self.fd(feed), self.fd(feed));
        let what = feed.below(12);
        let (number, name) = (feed.number(), path(feed));
        let view = &mut self.view();
        let done = match what {
            0 => view.create_directory_at(fd, name),
            1 => view.remove_directory_at(fd, name),
            2 => view.unlink_file_at(fd, name),
            3 => view.symlink_at(fd, path(feed), name),
            4 => view.link_at(fd, follow(feed), name, other, path(feed)),
            5 => view.rename_at(fd, name, other, path(feed)),
            6 => view.set_size(fd, number),
            7 => view.set_times(fd, time(feed), time(feed)),
            8 => view.set_times_at(fd, follow(feed), name, time(feed), time(feed)),
            9 => {
                let bytes = vec![feed.byte(); feed.number() as usize % 10_000];
                view.write(fd, bytes, number).map(drop)
            }
            _ => return self.open(fd, name, feed),
        };
        plain(done);
    }

    fn open(&mut self, fd: Resource<Descriptor>, name: String, feed: &mut Feed<'_>) {
        let how = flags(
            feed,
            OpenFlags::empty(),
            &[
                OpenFlags::CREATE,
                OpenFlags::DIRECTORY,
                OpenFlags::EXCLUSIVE,
                OpenFlags::TRUNCATE,
            ],
        );
        let flags = flags(
            feed,
            DescriptorFlags::empty(),
            &[
                DescriptorFlags::READ,
                DescriptorFlags::WRITE,
                DescriptorFlags::MUTATE_DIRECTORY,
            ],
        );
        let follow = follow(feed);
        let opened = self.view().open_at(fd, follow, name, how, flags);
        let Some(opened) = plain(opened) else { return };
        if let Some(old) = keep(&mut self.open, opened.rep(), feed) {
            self.drop_fd(old);
        }
    }

    fn drop_fd(&mut self, fd: u32) {
        let dropped = HostDescriptor::drop(&mut self.view(), Resource::new_own(fd));
        dropped.expect("an open descriptor");
    }

    /// Calls that only look.
    fn look(&mut self, feed: &mut Feed<'_>) {
        let (fd, other) = (self.fd(feed), self.fd(feed));
        let (what, number) = (feed.below(12), feed.number());
        let view = &mut self.view();
        match what {
            0 => drop(plain(view.stat(fd))),
            1 => drop(plain(view.stat_at(fd, follow(feed), path(feed)))),
            2 => drop(plain(view.readlink_at(fd, path(feed)))),
            3 => drop(plain(view.metadata_hash(fd))),
            4 => drop(plain(view.metadata_hash_at(fd, follow(feed), path(feed)))),
            5 => drop(plain(view.get_flags(fd))),
            6 => drop(plain(view.get_type(fd))),
            7 => drop(plain(view.sync(fd))),
            8 => drop(plain(view.sync_data(fd))),
            9 => drop(plain(view.advise(fd, number, number, Advice::WillNeed))),
            10 => drop(view.is_same_object(fd, other).expect("no trap")),
            _ => drop(plain(view.read(fd, feed.number(), number))),
        }
    }

    /// Begins a listing, or goes on with one.
    fn list(&mut self, feed: &mut Feed<'_>) {
        let fd = self.fd(feed);
        if feed.coin() || self.listings.is_empty() {
            if let Some(listing) = plain(self.view().read_directory(fd)) {
                let old = keep(&mut self.listings, listing.rep(), feed);
                if let Some(old) = old {
                    self.drop_listing(old);
                }
            }
            return;
        }
        let at = feed.below(self.listings.len());
        let listing: Resource<DirectoryEntryStream> = Resource::new_borrow(self.listings[at]);
        plain(self.view().read_directory_entry(listing));
    }

    fn drop_listing(&mut self, listing: u32) {
        let listing = Resource::new_own(listing);
        HostDirectoryEntryStream::drop(&mut self.view(), listing).expect("an open listing");
    }

    /// Makes a stream, or moves bytes through one.
    fn stream(&mut self, feed: &mut Feed<'_>) {
        let (fd, what, number) = (self.fd(feed), feed.below(5), feed.number());
        match what {
            0 => {
                if let Some(input) = plain(self.view().read_via_stream(fd, number)) {
                    let old = keep(&mut self.inputs, input, feed);
                    self.drop_stream(old);
                }
            }
            1 | 2 => {
                let made = match what {
                    1 => self.view().write_via_stream(fd, number),
                    _ => self.view().append_via_stream(fd),
                };
                if let Some(output) = plain(made) {
                    let old = keep(&mut self.outputs, output, feed);
                    self.drop_stream(old);
                }
            }
            3 if !self.inputs.is_empty() => {
                let at = feed.below(self.inputs.len());
                let input = self
                    .state
                    .data
                    .table
                    .get_mut(&self.inputs[at])
                    .expect("open");
                let size = number as usize % 100_000;
                match feed.coin() {
                    true => flows(input.read(size)),
                    false => flows(input.skip(size)),
                }
            }
            4 if !self.outputs.is_empty() => {
                let at = feed.below(self.outputs.len());
                let output = self
                    .state
                    .data
                    .table
                    .get_mut(&self.outputs[at])
                    .expect("open");
                let size = number as usize % 20_000;
                match feed.coin() {
                    true => flows(output.write(vec![7; size].into())),
                    false => flows(output.write_zeroes(size)),
                }
            }
            _ => {}
        }
    }

    fn drop_stream<T: 'static>(&mut self, stream: Option<Resource<T>>) {
        if let Some(stream) = stream {
            self.state
                .data
                .table
                .delete(stream)
                .expect("an open stream");
        }
    }

    /// Closes a handle that is no preopen.
    fn close(&mut self, feed: &mut Feed<'_>) {
        match feed.below(4) {
            0 if self.open.len() > 2 => {
                let fd = self.open.remove(2 + feed.below(self.open.len() - 2));
                self.drop_fd(fd);
            }
            1 if !self.listings.is_empty() => {
                let listing = self.listings.remove(feed.below(self.listings.len()));
                self.drop_listing(listing);
            }
            2 if !self.inputs.is_empty() => {
                let input = self.inputs.remove(feed.below(self.inputs.len()));
                self.drop_stream(Some(input));
            }
            3 if !self.outputs.is_empty() => {
                let output = self.outputs.remove(feed.below(self.outputs.len()));
                self.drop_stream(Some(output));
            }
            _ => {}
        }
    }
}
