//! ttrpc, the protocol between containerd and its shims: calls over a Unix socket.
//!
//! A frame is ten bytes, length, stream, type and flags, and a message. Answers come in any
//! order; each has the stream of its call.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::limits::{MAX_CALLS, MAX_CONNECTIONS, MAX_MESSAGE_BYTES, MAX_REASON_BYTES};
use crate::messages::{CallRequest, CallResponse, CallStatus};
use crate::status::{Code, Status};
use crate::wire::Message;

/// How long a call may take that is answered at once.
pub const CALL_PATIENCE: Duration = Duration::from_secs(10);

/// The type of a frame that asks.
const REQUEST: u8 = 1;

/// The type of a frame that answers.
const RESPONSE: u8 = 2;

/// Answers calls.
pub trait Answer: Send + Sync + 'static {
    /// Answers one call.
    fn answer(
        self: Arc<Self>,
        service: String,
        method: String,
        payload: Vec<u8>,
    ) -> impl Future<Output = Result<Answered, Status>> + Send;
}

/// The answer to a call.
#[derive(Default)]
pub struct Answered {
    /// The message.
    pub payload: Vec<u8>,
    /// What follows once it is written.
    pub after: AfterReply,
}

impl From<Vec<u8>> for Answered {
    fn from(payload: Vec<u8>) -> Self {
        Self {
            payload,
            after: AfterReply::default(),
        }
    }
}

/// Something that is done when this is dropped: once an answer is written, or cannot be. Whoever
/// asked may hang up as soon as he sees what is done.
#[derive(Default)]
pub struct AfterReply(Option<Box<dyn FnOnce() + Send>>);

impl AfterReply {
    /// Makes one that calls `work`.
    pub fn new(work: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(work)))
    }
}

impl Drop for AfterReply {
    fn drop(&mut self) {
        if let Some(work) = self.0.take() {
            work();
        }
    }
}

/// A frame without its length.
struct Frame {
    stream: u32,
    kind: u8,
    bytes: Vec<u8>,
}

async fn read_frame(from: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Frame> {
    let len = from.read_u32().await?;
    let stream = from.read_u32().await?;
    let kind = from.read_u8().await?;
    let _flags = from.read_u8().await?;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > MAX_MESSAGE_BYTES {
        return Err(io::Error::other(format!(
            "a message of {len} bytes: the limit is {MAX_MESSAGE_BYTES}"
        )));
    }
    let mut bytes = Vec::new();
    // Memory is taken as bytes come, not as they are announced.
    let read = from.take(len as u64).read_to_end(&mut bytes).await?;
    if read < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Frame {
        stream,
        kind,
        bytes,
    })
}

fn frame_bytes(stream: u32, kind: u8, message: &[u8]) -> io::Result<Vec<u8>> {
    let len = u32::try_from(message.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(message.len() + 10);
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(&[kind, 0]);
    bytes.extend_from_slice(message);
    Ok(bytes)
}

/// How much is done at a time.
#[derive(Clone, Copy, Debug)]
pub struct ServeBounds {
    /// Connections.
    pub connections: usize,
    /// Calls of one connection.
    pub calls: usize,
}

impl Default for ServeBounds {
    fn default() -> Self {
        Self {
            connections: MAX_CONNECTIONS,
            calls: MAX_CALLS,
        }
    }
}

/// Counts connections that are open.
#[derive(Clone, Debug, Default)]
pub struct OpenConnections(watch::Sender<usize>);

impl OpenConnections {
    /// Waits until there is none.
    pub async fn closed(&self) {
        // The sender is this value's own, so that waiting does not fail.
        let mut open = self.0.subscribe();
        let _counted = open.wait_for(|open| *open == 0).await;
    }

    fn enter(&self) -> OpenConnection {
        self.0.send_modify(|open| *open += 1);
        OpenConnection(self.0.clone())
    }
}

/// A connection that counts as long as this is there.
struct OpenConnection(watch::Sender<usize>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open = open.saturating_sub(1));
    }
}

/// Answers all who connect, for ever. Works in a runtime of tokio.
pub async fn serve<A: Answer>(
    listener: UnixListener,
    answer: Arc<A>,
    bounds: ServeBounds,
    open: OpenConnections,
) {
    let room = Arc::new(Semaphore::new(bounds.connections));
    loop {
        let Ok(pass) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (answer, counted) = (Arc::clone(&answer), open.enter());
                tokio::spawn(async move {
                    // Whoever leaves or talks nonsense is let go.
                    let _ended = connection(stream, answer, bounds.calls).await;
                    drop((pass, counted));
                });
            }
            // Too many files are open: some are closed soon.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn connection<A: Answer>(stream: UnixStream, answer: Arc<A>, calls: usize) -> io::Result<()> {
    let (mut from, to) = stream.into_split();
    let (send, receive) = mpsc::channel(16);
    let writer = tokio::spawn(write_all(to, receive));
    let room = Arc::new(Semaphore::new(calls));
    let ended = loop {
        let frame = match read_frame(&mut from).await {
            Ok(frame) => frame,
            Err(error) => break Err(error),
        };
        // Streams of messages are no part of the task service.
        if frame.kind != REQUEST {
            continue;
        }
        let Ok(pass) = Arc::clone(&room).acquire_owned().await else {
            break Ok(());
        };
        let (send, answer) = (send.clone(), Arc::clone(&answer));
        tokio::spawn(async move {
            let (response, after) = respond(answer, &frame.bytes).await;
            if let Ok(bytes) = frame_bytes(frame.stream, RESPONSE, &response.encode()) {
                let _gone = send.send((bytes, after)).await;
            }
            drop(pass);
        });
    };
    drop(send);
    let _written = writer.await;
    ended
}

async fn write_all(mut to: OwnedWriteHalf, mut frames: mpsc::Receiver<(Vec<u8>, AfterReply)>) {
    while let Some((bytes, after)) = frames.recv().await {
        if to.write_all(&bytes).await.is_err() {
            return;
        }
        drop(after);
    }
}

async fn respond<A: Answer>(answer: Arc<A>, bytes: &[u8]) -> (CallResponse, AfterReply) {
    let answered = match CallRequest::decode(bytes) {
        Ok(call) => answer.answer(call.service, call.method, call.payload).await,
        Err(error) => Err(Status::invalid(error)),
    };
    match answered {
        Ok(Answered { payload, after }) => {
            // Go's client wants a status, and takes one without a code as success.
            let status = Some(CallStatus::default());
            (CallResponse { status, payload }, after)
        }
        Err(status) => {
            let Status { code, message } = status.cut(MAX_REASON_BYTES);
            let status = Some(CallStatus {
                code: code as u32,
                message,
            });
            let payload = Vec::new();
            (CallResponse { status, payload }, AfterReply::default())
        }
    }
}

/// Makes calls, one at a time.
pub struct Client {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    next: u32,
}

/// Why a call has no answer.
#[derive(Debug)]
pub enum CallError {
    /// Nobody answers.
    Io(io::Error),
    /// It was refused: the code, and why.
    Refused(u32, String),
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Refused(_, message) => f.write_str(message),
        }
    }
}

impl std::error::Error for CallError {}

impl CallError {
    /// Returns whether it was refused with this code.
    #[must_use]
    pub fn is(&self, wanted: Code) -> bool {
        matches!(self, Self::Refused(code, _) if *code == wanted as u32)
    }
}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Client {
    /// Connects to a socket.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        let (from, to) = UnixStream::connect(path).await?.into_split();
        Ok(Self { from, to, next: 1 })
    }

    /// Makes a call and waits for its answer.
    ///
    /// # Errors
    /// It is refused, or nobody answers.
    pub async fn call<R: Message>(
        &mut self,
        service: &str,
        method: &str,
        request: &impl Message,
    ) -> Result<R, CallError> {
        let stream = self.next;
        self.next = self.next.wrapping_add(2);
        let call = CallRequest {
            service: service.to_owned(),
            method: method.to_owned(),
            payload: request.encode(),
            timeout_nano: 0,
        };
        let bytes = frame_bytes(stream, REQUEST, &call.encode())?;
        self.to.write_all(&bytes).await?;
        loop {
            let frame = read_frame(&mut self.from).await?;
            if frame.stream == stream && frame.kind == RESPONSE {
                return read_response(&frame.bytes);
            }
        }
    }
}

fn read_response<R: Message>(bytes: &[u8]) -> Result<R, CallError> {
    let response = CallResponse::decode(bytes).map_err(io::Error::other)?;
    match response.status {
        Some(CallStatus { code, message }) if code != 0 => Err(CallError::Refused(code, message)),
        _ => Ok(R::decode(&response.payload).map_err(io::Error::other)?),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Returns a frame of some MiB and something that follows it, and whether that is done.
    fn followed() -> ((Vec<u8>, AfterReply), Arc<AtomicBool>) {
        let is_done = Arc::<AtomicBool>::default();
        let done = Arc::clone(&is_done);
        let after = AfterReply::new(move || done.store(true, Ordering::Relaxed));
        ((vec![7; 4 << 20], after), is_done)
    }

    #[test]
    fn what_follows_an_answer_waits_until_it_is_written_or_cannot_be() {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap().block_on(async {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let (send, receive) = mpsc::channel(1);
            let (frame, is_done) = followed();
            send.send(frame).await.unwrap();
            let writer = tokio::spawn(write_all(ours.into_split().1, receive));
            // A socket holds far less than is left then.
            let mut read = vec![0; 2 << 20];
            theirs.read_exact(&mut read).await.unwrap();
            assert!(!is_done.load(Ordering::Relaxed));
            theirs.read_exact(&mut read).await.unwrap();
            drop(send);
            writer.await.unwrap();
            assert!(is_done.load(Ordering::Relaxed));

            let (ours, theirs) = UnixStream::pair().unwrap();
            drop(theirs);
            let (send, receive) = mpsc::channel(1);
            let (frame, is_done) = followed();
            send.send(frame).await.unwrap();
            write_all(ours.into_split().1, receive).await;
            assert!(is_done.load(Ordering::Relaxed));
        });
    }
}
