//! One request: from its head to an answer, and to the end of its guest.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, SET_COOKIE};
use hyper::{Method, Request, Response, StatusCode, Version};
use stratafs::runner::Outcome;
use stratafs::vfs::seal_until;
use stratafs::wasmtime::Store;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit};
use tokio::task::JoinHandle;
use wasmtime_wasi_http::WasiBody;

use super::body::{Answer, BodyFault, Received};
use super::call::{Call, Given};
use super::client::Client;
use super::files::Taken;
use super::proxy::Data;
use super::record::{Ended, Record};
use super::server::Server;

/// How long a request waits for one that is just ending before it is one too many.
const GRACE: Duration = Duration::from_millis(100);

/// When a client that was refused should come again, in seconds.
const RETRY_SECONDS: &str = "1";

/// An answer that is the server's own.
struct Refusal {
    status: StatusCode,
    why: String,
}

impl Refusal {
    fn new(status: StatusCode, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { status, why }
    }
}

/// What a guest holds that has to be free before others go on.
struct Held {
    _permit: OwnedSemaphorePermit,
    _turn: Option<OwnedMutexGuard<()>>,
}

/// Stops the guest if the client goes away before there is an answer.
struct Waiting<'a> {
    record: &'a Record,
    is_over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.record.abandoned.notify_one();
        }
    }
}

/// Answers a request: with what the guest gives, or with why it gave nothing.
pub(super) async fn answer(
    server: Arc<Server>,
    client: Arc<Client>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let record = Record::new(&server, &client, &request);
    let is_head = request.method() == Method::HEAD;
    let given = ask(&server, &client, &record, request).await;
    let response = match given {
        Ok((response, cookie)) => of_guest(response, cookie, is_head, &record),
        Err(refusal) => own(refusal, &record),
    };
    record.answered(response.status().as_u16());
    Ok(response)
}

/// Passes on what a guest gave.
fn of_guest(
    response: Response<WasiBody>,
    cookie: Option<HeaderValue>,
    is_head: bool,
    record: &Arc<Record>,
) -> Response<Answer> {
    let (mut head, body) = response.into_parts();
    if let Some(cookie) = cookie {
        head.headers.append(SET_COOKIE, cookie);
    }
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED];
    let length = head.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let expected = match is_head || bodiless.contains(&head.status) {
        true => Some(0),
        false => length,
    };
    Response::from_parts(head, Answer::guest(body, expected, Arc::clone(record)))
}

/// Says what is wrong in place of a guest.
fn own(refusal: Refusal, record: &Arc<Record>) -> Response<Answer> {
    record.refused(&refusal.why);
    let text = format!("{}: {}\n", refusal.status.as_u16(), refusal.why);
    let mut response = Response::new(Answer::words(text, Arc::clone(record)));
    *response.status_mut() = refusal.status;
    let headers = response.headers_mut();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(CONTENT_TYPE, plain);
    if refusal.status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
    }
    response
}

/// Lets a guest answer, once there is room for it.
async fn ask(
    server: &Arc<Server>,
    client: &Arc<Client>,
    record: &Arc<Record>,
    request: Request<Incoming>,
) -> Result<(Response<WasiBody>, Option<HeaderValue>), Refusal> {
    let admitted = admit(server, client, record, request).await;
    let started = match admitted {
        Ok((request, held)) => start(server, record, request, held),
        Err(refusal) => Err(refusal),
    };
    let (given, guest, cookie) = started.inspect_err(|_| record.over())?;
    let mut waiting = Waiting {
        record,
        is_over: false,
    };
    let given = given.await;
    let done = match given {
        Ok(Ok(response)) => Ok((response, cookie)),
        Ok(Err(code)) => Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the guest answered with an error: {code}"),
        )),
        Err(_) => Err(no_answer(guest.await.ok(), server.bounds.timeout)),
    };
    waiting.is_over = true;
    done
}

/// Says why a guest that has ended gave no answer.
fn no_answer(ended: Option<Ended>, timeout: Duration) -> Refusal {
    match ended {
        Some(Ended::TimedOut) => Refusal::new(
            StatusCode::GATEWAY_TIMEOUT,
            format!(
                "the guest gave no answer within {} s",
                timeout.as_secs_f64()
            ),
        ),
        Some(Ended::Failed(Outcome::Trapped { .. })) => {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the guest trapped")
        }
        Some(Ended::Failed(Outcome::OutOfMemory(_))) => Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the guest grew past its memory",
        ),
        Some(Ended::Failed(Outcome::Exited(code))) => Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the guest exited with {code} and gave no answer"),
        ),
        _ => Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the guest gave no answer",
        ),
    }
}

/// Waits until the request may have a guest: what its connection asked for before is over,
/// its small body is here, and there are not too many others.
async fn admit(
    server: &Arc<Server>,
    client: &Arc<Client>,
    record: &Arc<Record>,
    request: Request<Incoming>,
) -> Result<(Request<Received>, Held), Refusal> {
    let bounds = &server.bounds;
    let turn = match request.version() {
        Version::HTTP_2 => None,
        _ => Some(Arc::clone(&client.turn).lock_owned().await),
    };
    let request = with_host(request)?;
    let too_large = || {
        let why = format!("the body has more than {} bytes", bounds.max_body);
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, why)
    };
    if request.body().size_hint().lower() > bounds.max_body {
        return Err(too_large());
    }
    let (head, body) = request.into_parts();
    let mut body = Received::new(body, bounds.max_body, bounds.client_timeout, record);
    body.take_early().await.map_err(|fault| match fault {
        BodyFault::TooSlow => {
            Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")
        }
        BodyFault::Broken => Refusal::new(StatusCode::BAD_REQUEST, "the body is malformed"),
    })?;
    let permit = Arc::clone(&server.permits).acquire_owned();
    let permit = tokio::time::timeout(GRACE, permit).await;
    let Ok(Ok(permit)) = permit else {
        let why = format!("{} requests are in flight", bounds.max_in_flight);
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why));
    };
    let held = Held {
        _permit: permit,
        _turn: turn,
    };
    Ok((Request::from_parts(head, body), held))
}

/// A request of HTTP/1.0 need not say whom it is for; a guest has to be told.
fn with_host(mut request: Request<Incoming>) -> Result<Request<Incoming>, Refusal> {
    let bad = |why| Refusal::new(StatusCode::BAD_REQUEST, why);
    if request.uri().authority().is_some() {
        return Ok(request);
    }
    match request.headers().get(HOST) {
        Some(host) => match host.to_str() {
            Ok(_) => Ok(request),
            Err(_) => Err(bad("the header host is malformed")),
        },
        None if request.version() == Version::HTTP_10 => {
            let host = HeaderValue::from_static("localhost");
            request.headers_mut().insert(HOST, host);
            Ok(request)
        }
        None => Err(bad("the header host is missing")),
    }
}

/// Starts a guest with a file system of its own or of its session.
fn start(
    server: &Arc<Server>,
    record: &Arc<Record>,
    mut request: Request<Received>,
    held: Held,
) -> Result<(Given, JoinHandle<Ended>, Option<HeaderValue>), Refusal> {
    let internal = |why: String| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why);
    let taken = server.files.take(request.headers_mut());
    let taken = taken.map_err(|failure| internal(failure.to_string()))?;
    let cookie = match &taken.session {
        Some((ticket, true)) => {
            server.files.sweep();
            ticket.cookie().parse().ok()
        }
        _ => None,
    };
    let made = make_store(server, record, &taken, request);
    let (store, call, given) = match made {
        Ok(made) => made,
        Err(refusal) => {
            server.files.end(taken, record.number);
            return Err(refusal);
        }
    };
    let guest = Guest {
        server: Arc::clone(server),
        record: Arc::clone(record),
        store,
        taken,
        held,
    };
    Ok((given, tokio::spawn(guest.run(call)), cookie))
}

fn make_store(
    server: &Server,
    record: &Record,
    taken: &Taken,
    request: Request<Received>,
) -> Result<(Store<Data>, Call, Given), Refusal> {
    let internal = |why: String| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why);
    let number = u32::try_from(record.number & u64::from(u32::MAX)).unwrap_or(0);
    let state = server.files.state(&taken.fs, number);
    let state = state.map_err(|error| internal(error.to_string()))?;
    let data = Data::new(state, &server.network);
    let mut store = server.proxy.component.store(data);
    store.limiter(Data::limiter);
    let call = Call::new(&server.proxy.entry, &mut store, request);
    let (call, given) = call.map_err(|error| internal(format!("{error:#}")))?;
    Ok((store, call, given))
}

/// A guest that answers one request.
struct Guest {
    server: Arc<Server>,
    record: Arc<Record>,
    store: Store<Data>,
    taken: Taken,
    held: Held,
}

impl Guest {
    /// Runs it to its end, and lets all go that it had.
    async fn run(mut self, call: Call) -> Ended {
        let bounds = self.server.bounds;
        let now = Instant::now();
        // In files that are about to go nobody looks for equal blocks.
        let seal = match self.server.files.go_with_request() {
            true => now,
            false => now + bounds.timeout,
        };
        let ended = {
            let entry = &self.server.proxy.entry;
            let call = call.make(entry, &mut self.store, &self.record);
            let mut call = pin!(call);
            let sealed = poll_fn(|cx| seal_until(seal, || call.as_mut().poll(cx)));
            tokio::select! {
                biased;
                result = tokio::time::timeout(bounds.timeout, sealed) => match result {
                    Err(_) => Ended::TimedOut,
                    Ok(Ok(())) => Ended::Fine,
                    Ok(Err(error)) => Ended::Failed(Outcome::of_error(&error)),
                },
                () = self.record.abandoned.notified() => Ended::Abandoned,
            }
        };
        self.record.ended(&ended, self.taken.fs.usage());
        if let Ended::Failed(outcome) = &ended {
            let number = self.record.number;
            let text = format!("[{number}] the guest failed: {outcome}");
            self.server.errors.push(&text);
        }
        let store = self.store;
        seal_until(seal, || drop(store));
        self.server.files.end(self.taken, self.record.number);
        self.record.over();
        drop(self.held);
        ended
    }
}
