//! One request and its answer. Redirects are not followed here, nothing is tried again.

use std::io::{self, Read};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ureq::http::header::{HeaderName, RETRY_AFTER};
use ureq::http::{HeaderMap, Method, Request};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Proxy, SendBody};

use super::error::{RegistryError, RegistryErrorKind};
use super::options::{ClientOptions, Proxies};
use super::retry::retry_after;
use super::url::Url;
use crate::limits::{MAX_ANSWER_HEADER_BYTES, MAX_REGISTRY_ERROR_BYTES};

/// How long it may take to find a host and to connect to it.
const CONNECT: Duration = Duration::from_secs(15);

/// Bytes of what a registry says that are shown.
const MAX_SHOWN: usize = 1024;

/// Connections, straight and through proxies.
pub(crate) struct Http {
    straight: Agent,
    https: Option<(Agent, Proxy)>,
    http: Option<(Agent, Proxy)>,
    stall: Duration,
}

/// What goes with a request.
pub(super) enum Payload<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// So many bytes of a reader.
    Reader(&'a mut dyn Read, u64),
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// Whether it is the answer of a host that the registry led to.
    pub(super) elsewhere: bool,
    body: Body,
    stall: Duration,
}

/// Why no answer came, and whether one may come the next time.
pub(super) struct NoAnswer {
    pub(super) kind: RegistryErrorKind,
    pub(super) passes: bool,
    /// The other side speaks TLS, and its certificate is not trusted.
    pub(super) untrusted: bool,
}

impl Http {
    pub(crate) fn new(
        options: &ClientOptions,
        roots: &[Vec<u8>],
        unverified: bool,
    ) -> Result<Self, RegistryErrorKind> {
        let bad = RegistryErrorKind::Options;
        let tls = TlsConfig::builder().disable_verification(unverified);
        let tls = match certificates(roots).map_err(bad)? {
            own if own.is_empty() => tls.root_certs(RootCerts::WebPki),
            own => tls.root_certs(RootCerts::from(own)),
        };
        let tls = tls.build();
        let agent = |proxy: Option<Proxy>| -> Agent {
            Agent::config_builder()
                .proxy(proxy)
                .tls_config(tls.clone())
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .timeout_resolve(Some(CONNECT))
                .timeout_connect(Some(CONNECT))
                .timeout_per_read(Some(options.stall))
                .timeout_per_write(Some(options.stall))
                .max_response_header_size(MAX_ANSWER_HEADER_BYTES)
                .user_agent(concat!("stratafs/", env!("CARGO_PKG_VERSION")))
                .accept("")
                .build()
                .into()
        };
        let through = |url: &Option<String>| -> Result<_, RegistryErrorKind> {
            let proxy = url.as_deref().map(|url| proxy(url, &options.proxies));
            let proxy = proxy.transpose().map_err(bad)?;
            Ok(proxy.map(|proxy| (agent(Some(proxy.clone())), proxy)))
        };
        Ok(Self {
            https: through(&options.proxies.https)?,
            http: through(&options.proxies.http)?,
            straight: agent(None),
            stall: options.stall,
        })
    }

    /// Sends a request, and returns as soon as the head of the answer is there.
    pub(super) fn send(
        &self,
        method: &Method,
        url: &Url,
        headers: &[(HeaderName, String)],
        payload: Payload<'_>,
    ) -> Result<Answer, NoAnswer> {
        let mut request = Request::builder()
            .method(method.clone())
            .uri(url.to_string());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let agent = self.agent(url);
        let made = |request: Request<SendBody<'_>>| agent.run(request);
        let answer = match payload {
            Payload::Nothing if *method == Method::GET || *method == Method::HEAD => {
                request.body(SendBody::none()).map(made)
            }
            Payload::Nothing => bytes_of(request, &mut io::empty(), 0).map(made),
            Payload::Bytes(mut bytes) => {
                let len = bytes.len() as u64;
                bytes_of(request, &mut bytes, len).map(made)
            }
            Payload::Reader(reader, len) => bytes_of(request, reader, len).map(made),
        };
        let answer = answer.map_err(|error| NoAnswer {
            kind: RegistryErrorKind::Protocol(error.to_string()),
            passes: false,
            untrusted: false,
        })?;
        let (parts, body) = answer
            .map_err(|error| no_answer(&error, self.stall))?
            .into_parts();
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            elsewhere: false,
            body,
            stall: self.stall,
        })
    }

    /// Sends a request of another protocol as it is, and reads all of an answer of at most
    /// `limit` bytes. Of an error it is told whether the next try may succeed.
    #[cfg(feature = "object")]
    pub(crate) fn pass(
        &self,
        request: &Request<Vec<u8>>,
        limit: u64,
    ) -> Result<ureq::http::Response<Vec<u8>>, (RegistryErrorKind, bool)> {
        let bad = |what: String| (RegistryErrorKind::Protocol(what), false);
        let url = Url::parse(&request.uri().to_string());
        let invalid = || {
            bad(format!(
                "invalid address, whose path is {:?}",
                request.uri().path()
            ))
        };
        let url = url.ok_or_else(invalid)?;
        let mut made = Request::builder()
            .method(request.method().clone())
            .uri(request.uri().clone());
        if let Some(headers) = made.headers_mut() {
            headers.clone_from(request.headers());
        }
        let bodiless = *request.method() == Method::GET || *request.method() == Method::HEAD;
        let mut bytes = request.body().as_slice();
        let len = bytes.len() as u64;
        let agent = self.agent(&url);
        let run = |request: Request<SendBody<'_>>| agent.run(request);
        let answer = match bodiless {
            true => made.body(SendBody::none()).map(run),
            false => bytes_of(made, &mut bytes, len).map(run),
        };
        let answer = answer.map_err(|error| bad(error.to_string()))?;
        let failed = |no: NoAnswer| (no.kind, no.passes);
        let answer = answer.map_err(|error| failed(no_answer(&error, self.stall)))?;
        let (parts, body) = answer.into_parts();
        let mut answer = Answer {
            status: parts.status.as_u16(),
            headers: parts.headers.clone(),
            elsewhere: false,
            body,
            stall: self.stall,
        };
        let bytes = match *request.method() == Method::HEAD {
            true => Vec::new(),
            false => answer.bytes("an answer", limit).map_err(failed)?,
        };
        Ok(ureq::http::Response::from_parts(parts, bytes))
    }

    fn agent(&self, url: &Url) -> &Agent {
        let proxied = if url.secure { &self.https } else { &self.http };
        let uri: Option<ureq::http::Uri> = url.to_string().parse().ok();
        match (proxied, uri) {
            (Some((agent, proxy)), Some(uri)) if !url.is_loopback() && !proxy.is_no_proxy(&uri) => {
                agent
            }
            _ => &self.straight,
        }
    }
}

/// Makes a request with a body of known length.
fn bytes_of<'a>(
    request: ureq::http::request::Builder,
    reader: &'a mut dyn Read,
    len: u64,
) -> Result<Request<SendBody<'a>>, ureq::http::Error> {
    let mut request = request;
    if let Some(headers) = request.headers_mut() {
        headers.insert(ureq::http::header::CONTENT_LENGTH, len.into());
    }
    request.body(SendBody::from_reader(reader))
}

/// Reads roots, each a certificate in DER or some in PEM.
fn certificates(roots: &[Vec<u8>]) -> Result<Vec<Certificate<'static>>, String> {
    let mut found = Vec::new();
    for root in roots {
        if root.first() == Some(&0x30) {
            found.push(Certificate::from_der(root).to_owned());
            continue;
        }
        let before = found.len();
        for item in parse_pem(root) {
            match item {
                Ok(PemItem::Certificate(certificate)) => found.push(certificate),
                Ok(_) => {}
                Err(error) => return Err(format!("roots of trust: {error}")),
            }
        }
        if found.len() == before {
            return Err("roots of trust: no certificate in PEM or DER was found".into());
        }
    }
    Ok(found)
}

/// Reads the address of a proxy.
fn proxy(url: &str, proxies: &Proxies) -> Result<Proxy, String> {
    let scheme = url.split_once("://").map_or("http", |(scheme, _)| scheme);
    if !matches!(scheme, "http" | "https") {
        return Err(format!(
            "the proxy begins with {scheme}://: http:// or https:// is expected"
        ));
    }
    let bad = |_| "the address of the proxy is not valid: expected http://HOST:PORT".to_owned();
    let read = Proxy::new(url).map_err(bad)?;
    let mut made = Proxy::builder(read.protocol())
        .host(read.host())
        .port(read.port());
    if let Some(user) = read.username() {
        made = made.username(user);
    }
    if let Some(password) = read.password() {
        made = made.password(password);
    }
    let except = proxies.except.iter().flat_map(|list| list.split(','));
    for host in except.map(str::trim).filter(|host| !host.is_empty()) {
        made = made.no_proxy(host);
    }
    made.build().map_err(bad)
}

/// Returns what a failure means.
fn no_answer(error: &ureq::Error, stall: Duration) -> NoAnswer {
    let text = error.to_string();
    let certificate = text.contains("certificate");
    let (kind, passes) = match error {
        ureq::Error::Timeout(_) => {
            let seconds = stall.as_secs();
            (RegistryErrorKind::Stalled { seconds }, true)
        }
        ureq::Error::HostNotFound => {
            let kind = RegistryErrorKind::Connection("no such host is known".into());
            (kind, false)
        }
        ureq::Error::Io(_) => (RegistryErrorKind::Connection(text), !certificate),
        ureq::Error::ConnectionFailed | ureq::Error::ConnectProxyFailed(_) => {
            (RegistryErrorKind::Connection(text), true)
        }
        ureq::Error::LargeResponseHeader(..) => {
            let kind = RegistryErrorKind::TooLarge {
                what: "the head of an answer",
                limit: MAX_ANSWER_HEADER_BYTES as u64,
            };
            (kind, false)
        }
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
            (RegistryErrorKind::Connection(text), false)
        }
        // An answer that was cut, as a rule.
        _ => (RegistryErrorKind::Protocol(text), true),
    };
    NoAnswer {
        kind,
        passes,
        untrusted: certificate,
    }
}

impl Answer {
    /// Returns a header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns how long it asks to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        retry_after(self.header(RETRY_AFTER.as_str())?, now.as_secs())
    }

    /// Returns the length that is announced.
    pub(super) fn len(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// Returns the body, for reading to its end.
    pub(super) fn reader(&mut self) -> impl Read {
        self.body.with_config().limit(u64::MAX).reader()
    }

    /// Reads the body, which has a bound.
    pub(super) fn bytes(&mut self, what: &'static str, limit: u64) -> Result<Vec<u8>, NoAnswer> {
        let too_large = || NoAnswer {
            kind: RegistryErrorKind::TooLarge { what, limit },
            passes: false,
            untrusted: false,
        };
        if self.len().is_some_and(|len| len > limit) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        let stall = self.stall;
        let read = self.reader().take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| broken(&error, stall))?;
        match bytes.len() as u64 > limit {
            true => Err(too_large()),
            false => Ok(bytes),
        }
    }

    /// Makes an error of an answer that is no success: what the registry says of it.
    pub(super) fn refusal(&mut self, name: &str, action: &str) -> RegistryError {
        let message = self.message();
        let status = self.status;
        let spent = |value: &str| value.trim_start().starts_with('0');
        let quota = status == 429
            && (self.header("ratelimit-remaining").is_some_and(spent)
                || message.contains("pull rate limit"));
        let kind = match quota {
            true => RegistryErrorKind::Quota { message },
            false => RegistryErrorKind::Status { status, message },
        };
        RegistryError::new(name, action, kind)
    }

    /// Returns what the registry says of a failure, on one line.
    fn message(&mut self) -> String {
        let mut bytes = Vec::new();
        // What does not come to its end is shown as far as it came.
        let read = self
            .reader()
            .take(MAX_REGISTRY_ERROR_BYTES)
            .read_to_end(&mut bytes);
        drop(read);
        let mut text = error_text(&bytes);
        if text.len() > MAX_SHOWN {
            text.truncate(text.floor_char_boundary(MAX_SHOWN));
            text.push_str("...");
        }
        text
    }
}

/// Makes an error of a body that breaks off.
pub(super) fn broken(error: &io::Error, stall: Duration) -> NoAnswer {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let timed_out =
        matches!(inner, Some(ureq::Error::Timeout(_))) || error.kind() == io::ErrorKind::TimedOut;
    let kind = match timed_out {
        true => RegistryErrorKind::Stalled {
            seconds: stall.as_secs(),
        },
        false => RegistryErrorKind::Connection(format!("the answer broke off: {error}")),
    };
    NoAnswer {
        kind,
        passes: true,
        untrusted: false,
    }
}

/// Returns the codes and messages of an answer in the protocol's form, a token server's, or its text.
fn error_text(bytes: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let field = |value: &serde_json::Value, key: &str| {
        let text = value.get(key).and_then(|text| text.as_str());
        text.unwrap_or_default().to_owned()
    };
    let two = |code: String, message: String| match (code.is_empty(), message.is_empty()) {
        (true, _) => message,
        (false, true) => code,
        (false, false) => format!("{code}: {message}"),
    };
    let errors = value.get("errors").and_then(|errors| errors.as_array());
    let errors = errors.into_iter().flatten();
    let mut all: Vec<String> = errors
        .map(|error| two(field(error, "code"), field(error, "message")))
        .collect();
    all.push(two(
        field(&value, "error"),
        field(&value, "error_description"),
    ));
    all.push(field(&value, "details"));
    all.push(field(&value, "message"));
    all.retain(|text| !text.is_empty());
    let text = match all.is_empty() {
        true => String::from_utf8_lossy(bytes).into_owned(),
        false => all.join("; "),
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_reported_in_the_registrys_words() {
        for (body, want) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"no\nentry"},{"code":"X"}]}"#,
                "DENIED: no entry; X",
            ),
            (
                r#"{"error":"invalid_grant","error_description":"gone"}"#,
                "invalid_grant: gone",
            ),
            (
                r#"{"details":"incorrect username or password"}"#,
                "incorrect username or password",
            ),
            ("<h1>502</h1>\r\n<p>bad</p>", "<h1>502</h1> <p>bad</p>"),
            ("", ""),
        ] {
            assert_eq!(error_text(body.as_bytes()), want);
        }
    }

    #[test]
    fn proxies_are_http() {
        let proxies = Proxies {
            except: Some("a.b, .c.d".into()),
            ..Proxies::default()
        };
        let made = proxy("http://u:p%40@10.0.0.1:8080", &proxies).unwrap();
        assert_eq!((made.host(), made.port()), ("10.0.0.1", 8080));
        assert_eq!(made.password(), Some("p@"));
        for (host, want) in [("a.b", true), ("x.c.d", true), ("e.f", false)] {
            let uri = format!("https://{host}/").parse().unwrap();
            assert_eq!(made.is_no_proxy(&uri), want, "{host}");
        }
        assert!(
            proxy("socks5://a:1", &proxies)
                .unwrap_err()
                .contains("socks5")
        );
        // The address may have a password in it.
        assert!(
            !proxy("http://u:secret@", &proxies)
                .unwrap_err()
                .contains("secret")
        );
    }

    #[test]
    fn roots_are_certificates() {
        let error = certificates(&[b"hello".to_vec()]).unwrap_err();
        assert!(error.contains("no certificate"), "{error}");
        assert!(certificates(&[]).unwrap().is_empty());
    }
}
