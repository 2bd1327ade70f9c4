//! How object stores are reached: by the HTTP client that registries are, with what is tried
//! again done here, where status and headers are known.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use http_body_util::BodyExt;
use object_store::ClientOptions as StoreOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use ureq::http::{Method, Request, Response};

use super::error::ObjectErrorKind;
use crate::limits::{MAX_OBJECT_ANSWER_BYTES, MAX_RETRY_AFTER_SECONDS};
use crate::registry::{ClientOptions, Http, RegistryErrorKind, is_loopback, retry_after};

/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Where machines in clouds are told who they are: by plain HTTP, and by nobody further away
/// than the host they run on.
const METADATA: [&str; 4] = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "metadata.google.internal",
];

/// Connections to an object store.
#[derive(Clone)]
pub(super) struct Wire(Arc<WireState>);

struct WireState {
    http: Http,
    plain_http: bool,
    tries: u32,
    first_pause: Duration,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

/// Why no answer came, and whether one may come the next time.
struct Unanswered {
    reason: String,
    passes: bool,
}

impl Wire {
    pub(super) fn new(options: &ClientOptions) -> Result<Self, ObjectErrorKind> {
        let http = Http::new(options, &options.roots, false);
        let http = http.map_err(|error| ObjectErrorKind::Options(error.to_string()))?;
        Ok(Self(Arc::new(WireState {
            http,
            plain_http: options.plain_http,
            tries: options.tries.max(1),
            first_pause: options.first_pause,
        })))
    }

    /// Sends a request, and again while that may help. The answer is whole, whatever its
    /// status; where trying again has not helped, it is the last one.
    pub(super) fn send(
        &self,
        request: &Request<Vec<u8>>,
    ) -> Result<Response<Vec<u8>>, ObjectErrorKind> {
        self.check(request)?;
        let mut done = 0;
        loop {
            done += 1;
            let last = done >= self.0.tries;
            let asked = match self.once(request) {
                Ok(answer) => match pause_asked(&answer) {
                    Some(asked) if !last && asked.as_secs() <= MAX_RETRY_AFTER_SECONDS => asked,
                    _ => return Ok(answer),
                },
                Err(error) if last || !error.passes => {
                    return Err(ObjectErrorKind::Store(error.reason));
                }
                Err(error) => {
                    tracing::debug!(reason = %error.reason, "tries again");
                    Duration::ZERO
                }
            };
            std::thread::sleep(asked.max(self.pause(done)));
        }
    }

    /// Plain HTTP is for this machine, and for what tells it who it is.
    fn check(&self, request: &Request<Vec<u8>>) -> Result<(), ObjectErrorKind> {
        let uri = request.uri();
        let host = uri.host().unwrap_or_default();
        let near = is_loopback(host) || METADATA.contains(&host);
        match uri.scheme_str() == Some("https") || near || self.0.plain_http {
            true => Ok(()),
            false => Err(ObjectErrorKind::Options(
                RegistryErrorKind::PlainHttp.to_string(),
            )),
        }
    }

    fn once(&self, request: &Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Unanswered> {
        let sent = self.0.http.pass(request, MAX_OBJECT_ANSWER_BYTES);
        sent.map_err(|(kind, passes)| Unanswered {
            reason: kind.to_string(),
            passes,
        })
    }

    /// Twice as long each time, and anything from half of that to all of it.
    fn pause(&self, done: u32) -> Duration {
        let doubled = 1_u32.checked_shl(done.saturating_sub(1).min(16));
        let whole = self.0.first_pause.saturating_mul(doubled.unwrap_or(1));
        let whole = whole.min(MAX_PAUSE);
        let random = u32::try_from(RandomState::new().hash_one(done) % 1024);
        whole / 2 + whole / 2048 * random.unwrap_or(0)
    }
}

/// Returns how long an answer asks to wait before the next try; `None` if there is no use in
/// one.
fn pause_asked(answer: &Response<Vec<u8>>) -> Option<Duration> {
    let passes = matches!(
        answer.status().as_u16(),
        408 | 425 | 429 | 500 | 502 | 503 | 504
    );
    let header = answer.headers().get("retry-after");
    let header = header.and_then(|value| value.to_str().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs());
    let asked = header.and_then(|text| retry_after(text, now));
    passes.then(|| asked.unwrap_or_default())
}

impl HttpConnector for Wire {
    fn connect(&self, _: &StoreOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes().to_vec();
        // Whoever asks waits for it: the futures of this module are all driven by `block_on`.
        let answer = self.send(&Request::from_parts(parts, body));
        let answer = answer.map_err(|kind| HttpError::new(HttpErrorKind::Unknown, kind))?;
        Ok(answer.map(|bytes| HttpResponseBody::from(bytes::Bytes::from(bytes))))
    }
}

/// Makes a request without a body.
pub(super) fn get(url: &str, range: Option<String>) -> Result<Request<Vec<u8>>, ObjectErrorKind> {
    let mut request = Request::builder().method(Method::GET).uri(url);
    if let Some(range) = range {
        request = request.header("range", range);
    }
    let request = request.body(Vec::new());
    request.map_err(|error| ObjectErrorKind::Options(error.to_string()))
}
