//! Connections: accepted, told apart by version, watched, and ended.

use std::collections::HashMap;
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{self, AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::client::{Client, Verdict};
use super::request::answer;
use super::server::Server;
use crate::limits::{MAX_CONNECTIONS, MAX_HEAD_BYTES, MAX_PIECE_BYTES, MAX_STREAMS};

/// What a client of HTTP/2 sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How often connections are looked at, unless clients have less time.
const LOOK: Duration = Duration::from_secs(1);

/// How long accepting rests when the system has no descriptor left.
const REST: Duration = Duration::from_millis(50);

/// All connections that are open.
#[derive(Default)]
pub(super) struct Clients(Mutex<HashMap<u64, Arc<Client>>>);

impl Clients {
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Closes the connection that has waited longest for a request. Returns whether there
    /// was one.
    fn make_room(&self) -> bool {
        let mut clients = self.0.lock();
        let idle = clients.iter().filter_map(|(number, client)| {
            let since = client.idle_since()?;
            Some((since, *number))
        });
        let longest = idle.min_by_key(|(since, _)| *since);
        let gone = longest.and_then(|(_, number)| clients.remove(&number));
        if let Some(client) = &gone {
            client.close.notify_one();
        }
        gone.is_some()
    }
}

/// Takes connections until it is told to stop, and waits for those that are in progress.
pub(super) async fn listen(
    server: Arc<Server>,
    clients: Arc<Clients>,
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
) {
    let mut tasks = JoinSet::new();
    let mut numbers = 0..;
    let mut look = tokio::time::interval(LOOK);
    while !*stop.borrow() {
        let accepted = tokio::select! {
            _ = stop.changed() => break,
            _ = look.tick() => {
                server.files.sweep();
                continue;
            }
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, address)) = accepted else {
            clients.make_room();
            tokio::time::sleep(REST).await;
            continue;
        };
        server.metrics.connections.add(1);
        let is_full = clients.len() >= MAX_CONNECTIONS;
        let (Some(number), false) = (numbers.next(), is_full && !clients.make_room()) else {
            continue;
        };
        let client = Client::new(address);
        clients.0.lock().insert(number, Arc::clone(&client));
        let (server, clients, stop) = (Arc::clone(&server), Arc::clone(&clients), stop.clone());
        tasks.spawn(async move {
            connection(server, client, stream, stop).await;
            clients.0.lock().remove(&number);
        });
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

/// Serves one connection to its end.
async fn connection(
    server: Arc<Server>,
    client: Arc<Client>,
    mut stream: TcpStream,
    mut stop: watch::Receiver<bool>,
) {
    // Small answers go out at once; where that cannot be set they go out all the same.
    drop(stream.set_nodelay(true));
    let patience = server.bounds.client_timeout;
    let mut first = Vec::new();
    let is_two = tokio::select! {
        sniffed = sniff(&mut stream, &mut first) => sniffed,
        () = tokio::time::sleep(patience) => return,
        () = client.close.notified() => return,
        _ = stop.wait_for(|stop| *stop) => return,
    };
    let Ok(is_two) = is_two else { return };
    let io = TokioIo::new(Rewound { first, stream });
    let service = service_fn({
        let client = Arc::clone(&client);
        move |request| answer(Arc::clone(&server), Arc::clone(&client), request)
    });
    let watched = Watched {
        client: &client,
        patience,
        is_shared: is_two,
        stop,
    };
    match is_two {
        true => {
            let conn = two().serve_connection(io, service);
            watched
                .drive(pin!(conn), |conn| conn.graceful_shutdown())
                .await;
        }
        false => {
            let conn = one().serve_connection(io, service);
            watched
                .drive(pin!(conn), |conn| conn.graceful_shutdown())
                .await;
        }
    }
}

fn one() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // The look at the client counts the time.
        .header_read_timeout(None)
        // One that sends no more has gone: over TCP the two look alike.
        .half_close(false)
        .max_buf_size(MAX_HEAD_BYTES);
    builder
}

fn two() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .max_send_buf_size(MAX_PIECE_BYTES);
    builder
}

/// Reads until it is clear whether a client speaks HTTP/2.
async fn sniff(stream: &mut TcpStream, first: &mut Vec<u8>) -> io::Result<bool> {
    let mut buf = [0; PREFACE.len()];
    loop {
        let room = PREFACE.len().saturating_sub(first.len());
        let room = buf.get_mut(..room).unwrap_or_default();
        let read = stream.read(room).await?;
        first.extend_from_slice(room.get(..read).unwrap_or_default());
        if !PREFACE.starts_with(first) || read == 0 {
            return Ok(false);
        }
        if first.len() == PREFACE.len() {
            return Ok(true);
        }
    }
}

/// A connection whose client is looked at.
struct Watched<'a> {
    client: &'a Client,
    patience: Duration,
    is_shared: bool,
    stop: watch::Receiver<bool>,
}

impl Watched<'_> {
    /// Drives a connection to its end, or drops it once its client is too slow.
    async fn drive<C>(mut self, mut conn: Pin<&mut C>, graceful: impl Fn(Pin<&mut C>))
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let mut look = tokio::time::interval(LOOK.min(self.patience / 4));
        let mut is_stopping = false;
        loop {
            tokio::select! {
                // What is wrong with a connection is its client's affair.
                _ = conn.as_mut() => return,
                () = self.client.close.notified() => return,
                _ = look.tick() => match self.client.look(self.patience, self.is_shared) {
                    Verdict::TooSlow => return,
                    Verdict::Idle if is_stopping => return,
                    Verdict::Idle | Verdict::Busy => {}
                },
                stopped = self.stop.wait_for(|stop| *stop), if !is_stopping => {
                    drop(stopped);
                    is_stopping = true;
                    graceful(conn.as_mut());
                }
            }
        }
    }
}

/// A stream with the bytes that were read of it already.
struct Rewound {
    first: Vec<u8>,
    stream: TcpStream,
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let len = self.first.len().min(buf.remaining());
        let taken: Vec<u8> = self.first.drain(..len).collect();
        buf.put_slice(&taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
