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
use crate::service::TaskService;

/// How long one request may take, from its first byte to the last of its answer.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);

/// Answers all who ask, for ever. Works in a runtime of tokio.
pub async fn serve(listener: TcpListener, service: Arc<TaskService>) {
    let room = Arc::new(Semaphore::new(MAX_HTTP_CONNECTIONS));
    loop {
        let Ok(pass) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let service = Arc::clone(&service);
                tokio::spawn(async move {
                    // Whoever is slow or leaves is let go.
                    let _answered = timeout(REQUEST_PATIENCE, answer(stream, &service)).await;
                    drop(pass);
                });
            }
            // Too many files are open: some are closed soon.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn answer(mut stream: TcpStream, service: &TaskService) -> io::Result<()> {
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
    let (status, body) = respond(line, || service.figures());
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
}
