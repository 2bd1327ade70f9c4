//! Figures for Prometheus, and health, over HTTP: two pages, and nothing else.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::figures::NodeFigures;
use crate::limits::{MAX_HTTP_CONNECTIONS, MAX_HTTP_REQUEST_BYTES};

/// How long one request may take, from its first byte to the last of its answer.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);

/// Answers all who ask, for ever. Works in a runtime of tokio.
pub async fn serve<F>(listener: TcpListener, figures: F)
where
    F: Fn() -> NodeFigures + Send + Sync + 'static,
{
    let figures = Arc::new(figures);
    let room = Arc::new(Semaphore::new(MAX_HTTP_CONNECTIONS));
    loop {
        let Ok(pass) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let figures = Arc::clone(&figures);
                tokio::spawn(async move {
                    // Whoever is slow or leaves is let go.
                    let _answered = timeout(REQUEST_PATIENCE, answer(stream, &*figures)).await;
                    drop(pass);
                });
            }
            // Too many files are open: some are closed soon.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn answer(mut stream: TcpStream, figures: &impl Fn() -> NodeFigures) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut piece = [0; 1024];
        let read = stream.read(&mut piece).await?;
        head.extend_from_slice(piece.get(..read).unwrap_or_default());
        if read == 0 || head.len() > MAX_HTTP_REQUEST_BYTES {
            return Ok(());
        }
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let (status, body) = respond(line, figures);
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

/// Returns the answer to a request line.
fn respond(line: &[u8], figures: impl FnOnce() -> NodeFigures) -> (&'static str, String) {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, path) = (words.next(), words.next().unwrap_or_default());
    if method != Some(b"GET".as_slice()) {
        return ("405 Method Not Allowed", "expected GET\n".to_owned());
    }
    match path {
        b"/metrics" => ("200 OK", figures().page()),
        b"/healthz" => match figures().ailment() {
            None => ("200 OK", "ok\n".to_owned()),
            Some(why) => ("503 Service Unavailable", format!("{why}\n")),
        },
        _ => (
            "404 Not Found",
            "expected /metrics or /healthz\n".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::SocketAddr;

    use super::*;
    use crate::limits::MAX_WAITING_EVENTS;

    #[test]
    fn two_pages_are_there_and_others_are_not() {
        let of = |line: &str, waiting| {
            let figures = || NodeFigures {
                events_waiting: waiting,
                ..NodeFigures::default()
            };
            respond(line.as_bytes(), figures).0
        };
        assert_eq!(of("GET /metrics HTTP/1.1", 0), "200 OK");
        assert_eq!(of("GET /healthz HTTP/1.1", 0), "200 OK");
        let many = MAX_WAITING_EVENTS as u64;
        assert_eq!(of("GET /healthz HTTP/1.1", many), "503 Service Unavailable");
        assert_eq!(of("GET /metrics HTTP/1.1", many), "200 OK");
        assert_eq!(of("GET / HTTP/1.1", 0), "404 Not Found");
        assert_eq!(of("POST /metrics HTTP/1.1", 0), "405 Method Not Allowed");
        assert_eq!(of("", 0), "405 Method Not Allowed");
    }

    /// A server in a runtime of its own, and where it listens.
    fn server() -> (tokio::runtime::Runtime, SocketAddr) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, NodeFigures::default));
        (runtime, address)
    }

    /// What comes back until the connection ends, or nothing more comes for a while.
    fn answer_to(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let patience = Some(Duration::from_millis(300));
        stream.set_read_timeout(patience).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        let _ended = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    #[test]
    fn a_request_past_its_bound_has_no_answer() {
        let (_runtime, address) = server();
        let padded = |bytes: usize| {
            let mut head = b"GET /healthz HTTP/1.1\r\nX: ".to_vec();
            head.resize(bytes - 4, b'x');
            head.extend_from_slice(b"\r\n\r\n");
            head
        };
        let most = answer_to(address, &padded(MAX_HTTP_REQUEST_BYTES));
        assert!(most.starts_with("HTTP/1.1 200 OK"), "{most}");
        assert_eq!(answer_to(address, &padded(MAX_HTTP_REQUEST_BYTES + 1)), "");
    }

    #[test]
    fn so_many_ask_at_a_time_and_others_wait() {
        let (_runtime, address) = server();
        let silent = || std::net::TcpStream::connect(address).unwrap();
        let silent: Vec<_> = (0..MAX_HTTP_CONNECTIONS).map(|_| silent()).collect();
        assert_eq!(answer_to(address, b"GET /healthz HTTP/1.1\r\n\r\n"), "");
        drop(silent);
        let answer = answer_to(address, b"GET /healthz HTTP/1.1\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
}
