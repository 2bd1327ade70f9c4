//! Files of a base whose bytes are somewhere else: reads of them stall, wait for
//! a ticket, or fail, as a test says.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use stratafs::chunk::{
    Arrival, ChunkPool, Content, ContentBuilder, ContentError, Stored, Ticket, Unread,
};
use stratafs::image::Image;
use stratafs::layer::{Layer, LayerBuilder};
use stratafs::meta::Meta;
use stratafs::name::LayerPath;

/// How long a test waits before it says that a call hangs. Nothing is measured
/// by it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that are fetched at a time.
const PIECE: u64 = 64 * 1024;

/// What becomes of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// It gives bytes at once.
    Here,
    /// Its thread stands still, as on a slow disk.
    Stalled,
    /// It gives a ticket for the first piece that has not been delivered.
    Away,
    /// It fails.
    Broken,
}

struct State {
    mode: Mode,
    /// Threads that stand still in a read.
    inside: usize,
    /// Tickets given since the last change of mode.
    asked: usize,
    /// The pieces that tickets were given for.
    wanted: Vec<(u64, Arrival)>,
    delivered: BTreeSet<u64>,
}

struct Shared {
    bytes: Vec<u8>,
    state: Mutex<State>,
    changed: Condvar,
}

/// The bytes of one file, in the hands of a test. Cloning gives another handle.
#[derive(Clone)]
pub struct Far(Arc<Shared>);

#[derive(Debug)]
struct Gone;

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the far end is gone")
    }
}

impl std::error::Error for Gone {}

impl Far {
    /// Bytes that are here at first.
    pub fn new(bytes: &[u8]) -> Self {
        Self(Arc::new(Shared {
            bytes: bytes.to_vec(),
            state: Mutex::new(State {
                mode: Mode::Here,
                inside: 0,
                asked: 0,
                wanted: Vec::new(),
                delivered: BTreeSet::new(),
            }),
            changed: Condvar::new(),
        }))
    }

    fn turn(&self, mode: Mode) {
        let wanted = {
            let mut state = self.0.state.lock();
            state.mode = mode;
            state.asked = 0;
            std::mem::take(&mut state.wanted)
        };
        drop(wanted);
        self.0.changed.notify_all();
    }

    /// From now on a read stands still until [`come`](Self::come).
    pub fn stall(&self) {
        self.turn(Mode::Stalled);
    }

    /// From now on a read gives a ticket.
    pub fn leave(&self) {
        self.turn(Mode::Away);
    }

    /// The bytes are here: whoever waits goes on.
    pub fn come(&self) {
        self.turn(Mode::Here);
    }

    /// The bytes will never come: whoever waits goes on, and fails.
    pub fn break_off(&self) {
        self.turn(Mode::Broken);
    }

    /// Takes all pieces away again.
    pub fn forget(&self) {
        self.0.state.lock().delivered.clear();
    }

    /// Ends the waits for all tickets given so far, with nothing come.
    pub fn disappoint(&self) {
        self.turn(Mode::Away);
    }

    /// Runs a call, or a guest, to which each piece of the file is delivered once
    /// it has asked for it. Tells how many were.
    pub fn serve<R: Send>(&self, call: impl FnOnce() -> R + Send) -> (R, usize) {
        self.leave();
        let mut pieces = 0;
        let result = std::thread::scope(|threads| {
            let call = threads.spawn(call);
            while !call.is_finished() {
                let mut state = self.0.state.lock();
                let short = Duration::from_millis(1);
                self.0.changed.wait_for(&mut state, short);
                let wanted = std::mem::take(&mut state.wanted);
                pieces += wanted.len();
                state
                    .delivered
                    .extend(wanted.iter().map(|(piece, _)| *piece));
                drop(state);
                drop(wanted);
            }
            call.join().unwrap()
        });
        self.come();
        (result, pieces)
    }

    /// Waits until somebody stands still in a read, or was given a ticket.
    pub fn wait_asked(&self) {
        let mut state = self.0.state.lock();
        while state.inside + state.asked == 0 {
            let waited = self.0.changed.wait_for(&mut state, PATIENCE);
            assert!(!waited.timed_out(), "nobody read the far file");
        }
    }

    /// Counts the tickets given since the last change.
    pub fn asked(&self) -> usize {
        self.0.state.lock().asked
    }

    /// The file as a content.
    pub fn content(&self) -> Content {
        let known = ContentBuilder::of(&ChunkPool::new(), &self.0.bytes);
        Content::at_rest(known.size(), known.digest(), Box::new(self.clone()))
    }

    /// Runs `call`, which reads the file, in one thread, and while it stands
    /// still or waits, `others` in another, which must not have to wait. Then
    /// the bytes come. Gives what `call` gave.
    pub fn meanwhile<R: Send>(
        &self,
        call: impl FnOnce() -> R + Send,
        others: impl FnOnce() + Send,
    ) -> R {
        std::thread::scope(|threads| {
            let call = threads.spawn(call);
            self.wait_asked();
            let (tell, told) = mpsc::channel();
            let others = threads.spawn(move || {
                others();
                tell.send(()).unwrap();
            });
            let done = told.recv_timeout(PATIENCE);
            let waiting = !call.is_finished();
            self.come();
            others.join().unwrap();
            assert!(done.is_ok(), "another call waited for the far file");
            assert!(waiting, "the call did not wait");
            call.join().unwrap()
        })
    }
}

impl Stored for Far {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Unread> {
        let mut state = self.0.state.lock();
        if state.mode == Mode::Stalled {
            state.inside += 1;
            self.0.changed.notify_all();
            while state.mode == Mode::Stalled {
                self.0.changed.wait(&mut state);
            }
            state.inside -= 1;
        }
        let start = offset as usize;
        let pieces = offset / PIECE..(offset + buf.len() as u64).div_ceil(PIECE);
        let absent = match state.mode {
            Mode::Here | Mode::Stalled => None,
            Mode::Away => pieces.into_iter().find(|n| !state.delivered.contains(n)),
            Mode::Broken => return Err(ContentError::new(Gone).into()),
        };
        let Some(piece) = absent else {
            buf.copy_from_slice(&self.0.bytes[start..start + buf.len()]);
            return Ok(());
        };
        let (ticket, arrival) = Ticket::new();
        state.asked += 1;
        state.wanted.push((piece, arrival));
        self.0.changed.notify_all();
        Err(Unread::Absent(ticket))
    }

    fn next_data(&self, offset: u64) -> Option<u64> {
        (offset < self.0.bytes.len() as u64).then_some(offset)
    }

    fn data_end(&self, _: u64, limit: u64) -> u64 {
        limit.min(self.0.bytes.len() as u64)
    }

    fn stored_bytes(&self) -> u64 {
        self.0.bytes.len() as u64
    }
}

/// Bytes of which no two blocks are alike.
pub fn noise(len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8)
        .collect()
}

/// A layer of `far`, whose bytes are those, and `near`, whose bytes are in
/// memory, in `dir/` both.
pub fn far_layer(far: &Far) -> Layer {
    let mut layer = LayerBuilder::new();
    let near = ContentBuilder::of(&ChunkPool::new(), b"near");
    for (name, content) in [("dir/far", far.content()), ("dir/near", near)] {
        let path = LayerPath::parse(name.as_bytes()).unwrap();
        layer.file(&path, Meta::with_mode(0o644), content).unwrap();
    }
    layer.finish().unwrap()
}

/// An image of that layer.
pub fn far_image(far: &Far) -> Image {
    Image::new(&[far_layer(far)]).unwrap()
}
