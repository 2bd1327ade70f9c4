//! `--metrics`: what a server says of itself, at an address of its own.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::listen::Clients;
use super::server::Server;

/// Connections that ask at a time: those of a few collectors.
const MAX_OBSERVERS: usize = 16;

/// How long one may stay.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers until the runtime ends.
pub(super) async fn observe(
    server: Arc<Server>,
    clients: Arc<Clients>,
    listener: TcpListener,
    stop: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(MAX_OBSERVERS));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (server, clients, stop) = (Arc::clone(&server), Arc::clone(&clients), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let answer = respond(&server, &clients, &stop, &request);
                async { Ok::<_, Infallible>(answer) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).keep_alive(false);
            let conn = builder.serve_connection(TokioIo::new(stream), service);
            // One that is late is dropped; what is wrong with it is the collector's affair.
            drop(tokio::time::timeout(PATIENCE, pin!(conn)).await);
            drop(permit);
        });
    }
}

fn respond(
    server: &Server,
    clients: &Clients,
    stop: &watch::Receiver<bool>,
    request: &Request<Incoming>,
) -> Response<Full<Bytes>> {
    let is_read = [Method::GET, Method::HEAD].contains(request.method());
    let (status, text) = match (request.uri().path(), is_read) {
        ("/healthz", true) if *stop.borrow() => {
            (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned())
        }
        ("/healthz", true) => (StatusCode::OK, "ok\n".to_owned()),
        ("/metrics", true) => (StatusCode::OK, server.metrics_text(clients.len())),
        ("/healthz" | "/metrics", false) => {
            (StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD\n".to_owned())
        }
        _ => (
            StatusCode::NOT_FOUND,
            "here are /metrics and /healthz\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
