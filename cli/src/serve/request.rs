//! One request: from its head to an answer, and to the end of its guest.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER, SET_COOKIE};
use hyper::{Method, Request, Response, StatusCode, Version};
use stratafs::runner::Outcome;
use stratafs::wasmtime::Store;
use wasmtime_wasi_http::WasiBody;

use super::body::{Answer, BodyFault, Parts, Received};
use super::call::{Call, GivenLater};
use super::client::Client;
use super::files::Taken;
use super::guest::{Ended, First, Guest, GuestPermits, Started};
use super::head;
use super::proxy::Data;
use super::record::RequestRecord;
use super::server::Server;

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

/// Stops the guest if the client goes away before there is an answer.
struct Waiting<'a> {
    record: &'a RequestRecord,
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
    let record = RequestRecord::new(&server, &client, &request);
    let is_head = request.method() == Method::HEAD;
    let given = ask(&server, &client, &record, request).await;
    let response = match given {
        Ok((response, first, cookie)) => of_guest((response, first), cookie, is_head, &record),
        Err(refusal) => own(refusal, &record),
    };
    record.answered(response.status().as_u16());
    Ok(response)
}

/// Passes on what a guest gave.
fn of_guest(
    (response, first): (Response<WasiBody>, Parts),
    cookie: Option<HeaderValue>,
    is_head: bool,
    record: &Arc<RequestRecord>,
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
    Response::from_parts(
        head,
        Answer::guest(body, first, expected, Arc::clone(record)),
    )
}

/// Says what is wrong in place of a guest.
fn own(refusal: Refusal, record: &Arc<RequestRecord>) -> Response<Answer> {
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

/// What a guest gives, and the first parts of its body.
type Given = (Response<WasiBody>, Parts, Option<HeaderValue>);

/// Lets a guest answer, once there is room for it.
async fn ask(
    server: &Arc<Server>,
    client: &Arc<Client>,
    record: &Arc<RequestRecord>,
    request: Request<Incoming>,
) -> Result<Given, Refusal> {
    let admitted = admit(server, client, record, request).await;
    let started = match admitted {
        Ok((request, held)) => start(server, record, request, held),
        Err(refusal) => Err(refusal),
    };
    let (started, cookie) = started.inspect_err(|_| record.over())?;
    let First { given, parts, end } = started.first_steps(server.files.end_at_once()).await;
    let mut waiting = Waiting {
        record,
        is_over: false,
    };
    let given = match given {
        Ok(given) => given,
        Err(given) => given.await.ok(),
    };
    // Nothing of an answer is on its way yet: whatever the guest made of half a body, its
    // client learns what was wrong with it. The guest is stopped.
    if let Some(fault) = record.body_fault() {
        return Err(no_body(fault, server.bounds.max_body));
    }
    let done = match given {
        Some(Ok(response)) => Ok((response, parts, cookie)),
        Some(Err(code)) => Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the guest answered with an error: {code}"),
        )),
        None => Err(no_answer(end.wait().await, server.bounds.timeout)),
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
        Some(Ended::Abandoned) => Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body came slowly, and others needed the place",
        ),
        _ => Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the guest gave no answer",
        ),
    }
}

/// Says what is wrong with a body.
fn no_body(fault: BodyFault, max: u64) -> Refusal {
    match fault {
        BodyFault::TooSlow => {
            Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")
        }
        BodyFault::Broken => Refusal::new(StatusCode::BAD_REQUEST, "the body is malformed"),
        BodyFault::TooLarge => Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {max} bytes"),
        ),
    }
}

/// Waits until the request may have a guest: what its connection asked for before is over,
/// its small body is here, and there are not too many others.
async fn admit(
    server: &Arc<Server>,
    client: &Arc<Client>,
    record: &Arc<RequestRecord>,
    request: Request<Incoming>,
) -> Result<(Request<Received>, GuestPermits), Refusal> {
    let bounds = &server.bounds;
    let turn = match request.version() {
        Version::HTTP_2 => None,
        _ => Some(Arc::clone(&client.turn).lock_owned().await),
    };
    let request = head::checked(request).map_err(|(status, why)| Refusal::new(status, why))?;
    if request.body().size_hint().lower() > bounds.max_body {
        return Err(no_body(BodyFault::TooLarge, bounds.max_body));
    }
    let (head, body) = request.into_parts();
    let mut body = Received::new(body, bounds.max_body, bounds.client_timeout, record);
    let early = body.take_early().await;
    early.map_err(|fault| no_body(fault, bounds.max_body))?;
    let Some(slot) = server.in_flight.take(record).await else {
        let why = format!("{} requests are in flight", bounds.max_in_flight);
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why));
    };
    Ok((
        Request::from_parts(head, body),
        GuestPermits::new(slot, turn),
    ))
}

/// Makes a guest with a file system of its own or of its session.
fn start(
    server: &Arc<Server>,
    record: &Arc<RequestRecord>,
    mut request: Request<Received>,
    held: GuestPermits,
) -> Result<(Started, Option<HeaderValue>), Refusal> {
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
    Ok((guest.start(call, given), cookie))
}

fn make_store(
    server: &Server,
    record: &RequestRecord,
    taken: &Taken,
    request: Request<Received>,
) -> Result<(Store<Data>, Call, GivenLater), Refusal> {
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
