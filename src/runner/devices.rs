//! What stands behind `/dev` of a guest that is run: random bytes and the
//! standard streams.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};

use bytes::Bytes;
use parking_lot::Mutex;
use wasmtime_wasi::cli::{StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError};

use super::fixed;
use super::output::OutputBuffer;
use super::{RunPlan, Stdio};
use crate::chunk::Ticket;
use crate::errno::Errno;
use crate::vfs::{Filled, VirtualFile, World};

/// Where in its random numbers an instance of a run that repeats stands, by bytes. Clones are
/// one place.
#[derive(Clone, Debug, Default)]
pub(super) struct RandomPlace(Arc<Mutex<usize>>);

#[cfg(feature = "freeze")]
impl RandomPlace {
    pub(super) fn get(&self) -> u64 {
        *self.0.lock() as u64
    }

    /// Goes on from another place, which may come from anywhere.
    pub(super) fn set(&self, place: u64) {
        let place = place % fixed::CYCLE_BYTES as u64;
        *self.0.lock() = usize::try_from(place).unwrap_or(0);
    }
}

/// The world of one instance, whose output goes where `outputs` or `plan` say.
pub(super) fn world(
    plan: &RunPlan,
    (outputs, place): (&[OutputBuffer], &RandomPlace),
    instance: u32,
) -> World {
    let random: Arc<dyn VirtualFile> = match plan.deterministic {
        true => Arc::new(Repeating::new(instance, place)),
        false => Arc::new(Random),
    };
    let world = World::new(random);
    let input = |stream| Arc::new(SharedStdin::new(stream));
    let output = |stream| Arc::new(Output(Mutex::new(stream)));
    match (&plan.stdio, outputs) {
        (Stdio::Inherit, _) => world.streams(
            input(Some(wasmtime_wasi::cli::stdin().p2_stream())),
            output(wasmtime_wasi::cli::stdout().p2_stream()),
            output(wasmtime_wasi::cli::stderr().p2_stream()),
        ),
        (Stdio::Output, _) => world.streams(
            input(None),
            output(wasmtime_wasi::cli::stdout().p2_stream()),
            output(wasmtime_wasi::cli::stderr().p2_stream()),
        ),
        (Stdio::Streams(streams), _) => world.streams(
            input(Some(streams.stdin(instance).p2_stream())),
            output(streams.stdout(instance).p2_stream()),
            output(streams.stderr(instance).p2_stream()),
        ),
        (Stdio::Collect(_) | Stdio::Lines(_) | Stdio::Forward(_), [out, err]) => world.streams(
            input(None),
            output(out.p2_stream()),
            output(err.p2_stream()),
        ),
        (Stdio::Collect(_) | Stdio::Lines(_) | Stdio::Forward(_) | Stdio::Null, _) => world,
    }
}

/// The system's random numbers.
struct Random;

impl VirtualFile for Random {
    fn is_device(&self) -> bool {
        true
    }

    fn fill(&self, buf: &mut [u8]) -> Result<Filled, Errno> {
        getrandom::fill(buf).map_err(|_| Errno::Io)?;
        Ok(Filled::Bytes(buf.len()))
    }

    fn is_writable(&self) -> bool {
        true
    }

    /// As on Linux: taken, and not needed.
    fn write(&self, _: Option<u64>, bytes: &[u8]) -> Result<usize, Errno> {
        Ok(bytes.len())
    }
}

/// Random numbers that follow from the instance's number.
struct Repeating {
    bytes: Vec<u8>,
    next: RandomPlace,
}

impl Repeating {
    fn new(instance: u32, place: &RandomPlace) -> Self {
        Self {
            bytes: fixed::bytes("device", instance),
            next: place.clone(),
        }
    }
}

impl VirtualFile for Repeating {
    fn is_device(&self) -> bool {
        true
    }

    fn fill(&self, buf: &mut [u8]) -> Result<Filled, Errno> {
        let mut next = self.next.0.lock();
        let from = self.bytes.iter().cycle().skip(*next);
        for (to, byte) in buf.iter_mut().zip(from) {
            *to = *byte;
        }
        *next = (*next + buf.len()) % self.bytes.len().max(1);
        Ok(Filled::Bytes(buf.len()))
    }

    fn is_writable(&self) -> bool {
        true
    }

    fn write(&self, _: Option<u64>, bytes: &[u8]) -> Result<usize, Errno> {
        Ok(bytes.len())
    }
}

/// A stream that the guest writes to.
struct Output(Mutex<Box<dyn OutputStream>>);

impl VirtualFile for Output {
    fn is_device(&self) -> bool {
        true
    }

    fn is_writable(&self) -> bool {
        true
    }

    fn write(&self, _: Option<u64>, bytes: &[u8]) -> Result<usize, Errno> {
        let mut stream = self.0.lock();
        let permitted = stream.check_write().map_err(|_| Errno::Io)?;
        let taken = bytes.get(..permitted.min(bytes.len())).unwrap_or_default();
        let done = stream.write(Bytes::copy_from_slice(taken));
        done.and_then(|()| stream.flush()).map_err(|_| Errno::Io)?;
        Ok(taken.len())
    }
}

/// The stream that the guest reads. What it waits for another read finds, too: both
/// this and the guest's descriptor 0 take from one place.
struct SharedStdin(Arc<Mutex<StdinOwner>>);

/// Who has the stream.
enum StdinOwner {
    Here(Box<dyn InputStream>),
    /// A thread that waits for bytes.
    Away(Ticket),
    /// Nobody: it is at its end.
    Over,
}

impl SharedStdin {
    fn new(stream: Option<Box<dyn InputStream>>) -> Self {
        Self(Arc::new(Mutex::new(match stream {
            Some(stream) => StdinOwner::Here(stream),
            None => StdinOwner::Over,
        })))
    }
}

impl VirtualFile for SharedStdin {
    fn is_device(&self) -> bool {
        true
    }

    /// Never waits: a thread of its own does, so that a guest can be left meanwhile.
    fn fill(&self, buf: &mut [u8]) -> Result<Filled, Errno> {
        let mut turn = self.0.lock();
        let stream = match &mut *turn {
            StdinOwner::Over => return Ok(Filled::Bytes(0)),
            StdinOwner::Away(ticket) => return Ok(Filled::Later(ticket.clone())),
            StdinOwner::Here(stream) => stream,
        };
        match stream.read(buf.len()) {
            Err(StreamError::Closed) => {
                *turn = StdinOwner::Over;
                return Ok(Filled::Bytes(0));
            }
            Err(_) => return Err(Errno::Io),
            Ok(bytes) if bytes.is_empty() && !buf.is_empty() => {}
            Ok(bytes) => {
                for (to, byte) in buf.iter_mut().zip(&bytes) {
                    *to = *byte;
                }
                return Ok(Filled::Bytes(bytes.len().min(buf.len())));
            }
        }
        let (ticket, arrival) = Ticket::new();
        let StdinOwner::Here(mut stream) =
            std::mem::replace(&mut *turn, StdinOwner::Away(ticket.clone()))
        else {
            return Err(Errno::Io);
        };
        let back = Arc::clone(&self.0);
        let waits = thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || {
                wait(stream.ready());
                *back.lock() = StdinOwner::Here(stream);
                drop(arrival);
            });
        match waits {
            Ok(_) => Ok(Filled::Later(ticket)),
            Err(_) => {
                *turn = StdinOwner::Over;
                Err(Errno::Io)
            }
        }
    }
}

/// Blocks this thread until something is ready.
fn wait(ready: impl Future<Output = ()>) {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut ready = pin!(ready);
    while ready
        .as_mut()
        .poll(&mut Context::from_waker(&waker))
        .is_pending()
    {
        thread::park();
    }
}

#[cfg(test)]
mod tests {
    use wasmtime_wasi::p2::StreamResult;
    use wasmtime_wasi::p2::pipe::MemoryInputPipe;

    use super::*;

    #[test]
    fn input_is_read_to_its_end() {
        let input = SharedStdin::new(Some(Box::new(MemoryInputPipe::new("abc"))));
        let mut buf = [0; 2];
        for want in [&b"ab"[..], b"c", b"", b""] {
            let Ok(Filled::Bytes(len)) = input.fill(&mut buf) else {
                panic!("all is here");
            };
            assert_eq!(&buf[..len], want);
        }
    }

    /// Has nothing until it was waited for.
    struct Slow(bool);

    #[wasmtime_wasi::async_trait]
    impl Pollable for Slow {
        async fn ready(&mut self) {
            self.0 = true;
        }
    }

    impl InputStream for Slow {
        fn read(&mut self, _: usize) -> StreamResult<Bytes> {
            Ok(if self.0 { "now".into() } else { Bytes::new() })
        }
    }

    #[test]
    fn whoever_reads_too_early_gets_a_ticket() {
        let input = SharedStdin::new(Some(Box::new(Slow(false))));
        let mut buf = [0; 8];
        loop {
            match input.fill(&mut buf).unwrap() {
                Filled::Later(ticket) => ticket.wait(),
                Filled::Bytes(len) => break assert_eq!(&buf[..len], b"now"),
            }
        }
    }

    #[test]
    fn random_bytes_repeat_only_where_they_are_to() {
        let draw = |file: &dyn VirtualFile| {
            let mut buf = [0; 32];
            assert!(matches!(file.fill(&mut buf), Ok(Filled::Bytes(32))));
            buf
        };
        assert_ne!(draw(&Random), draw(&Random));
        let of = |instance| Repeating::new(instance, &RandomPlace::default());
        let (one, same, other) = (of(1), of(1), of(2));
        let first = draw(&one);
        assert_eq!(first, draw(&same));
        assert_ne!(first, draw(&other));
        assert_ne!(first, draw(&one));
    }
}
