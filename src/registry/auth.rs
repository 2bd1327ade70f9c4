//! Who asks: credentials, and the tokens that are had for them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde_json::Value;
use ureq::http::Method;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, WWW_AUTHENTICATE};

use super::challenge::{self, Challenge};
use super::error::{RegistryError, RegistryErrorKind};
use super::http::{Answer, Http, Payload};
use super::options::{ClientOptions, Credential};
use super::retry::{Attempt, of_status};
use super::url::{Url, encoded};
use crate::limits::MAX_TOKEN_ANSWER_BYTES;

/// How long a token is good that does not say so, and the least that is believed.
const LEAST_LIFE: Duration = Duration::from_secs(60);

/// The most that is believed.
const MOST_LIFE: Duration = Duration::from_secs(24 * 3600);

/// What a request is about, and what is to be done with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TokenScope {
    /// The repository, for finding credentials; none for a look at the registry itself.
    pub(super) repository: String,
    /// `repository:NAME:pull,push`, one for each repository.
    pub(super) wanted: Vec<String>,
}

impl TokenScope {
    pub(super) fn pull(repository: &str) -> Self {
        Self {
            repository: repository.to_owned(),
            wanted: vec![format!("repository:{repository}:pull")],
        }
    }

    pub(super) fn push(repository: &str) -> Self {
        Self {
            repository: repository.to_owned(),
            wanted: vec![format!("repository:{repository}:pull,push")],
        }
    }

    /// The same, with the right to read another repository.
    pub(super) fn and_pull(mut self, repository: &str) -> Self {
        if repository != self.repository {
            self.wanted.push(format!("repository:{repository}:pull"));
        }
        self
    }
}

/// What is known of how one host is logged in at.
#[derive(Default)]
pub(super) struct Auth(Mutex<AuthState>);

#[derive(Default)]
struct AuthState {
    challenge: Option<Challenge>,
    /// By repository.
    credentials: HashMap<String, Option<Credential>>,
    /// By what they are good for.
    tokens: HashMap<String, Token>,
    /// An identity token that a token server gave.
    refresh: Option<String>,
}

struct Token {
    text: String,
    until: Instant,
}

/// The host that is logged in at, and what its tokens are fetched with.
pub(super) struct Site<'s> {
    pub(super) http: &'s Http,
    pub(super) options: &'s ClientOptions,
    /// The registry's own address.
    pub(super) base: &'s Url,
    /// The name that credentials are known by.
    pub(super) host: &'s str,
    /// The name that errors have.
    pub(super) name: &'s str,
}

impl Site<'_> {
    fn error(&self, kind: RegistryErrorKind) -> RegistryError {
        RegistryError::new(self.name, "cannot log in", kind)
    }

    /// Says what to do, where a token server does not let in.
    fn denied(&self, attempt: Attempt, known: bool) -> Attempt {
        let Attempt::Fatal(error) = &attempt else {
            return attempt;
        };
        let RegistryErrorKind::Status { status, message } = error.kind() else {
            return attempt;
        };
        if !matches!(status, 400 | 401 | 403) {
            return attempt;
        }
        let kind = RegistryErrorKind::Denied {
            status: *status,
            message: message.clone(),
            hint: self.hint(known),
        };
        RegistryError::new(self.name, "the token server refuses", kind).into()
    }

    /// Says what who is not let in can do.
    pub(super) fn hint(&self, known: bool) -> String {
        let host = self.host;
        match known {
            true => format!("the credentials for {host} do not suffice"),
            false => format!(
                "no credentials are known for {host}: `stratafs image login {host}` saves some"
            ),
        }
    }

    /// Checks that plain HTTP is allowed, if the address uses it: between addresses of this
    /// machine, and everywhere if the options allow it.
    pub(super) fn check_plain(&self, url: &Url) -> Result<(), RegistryErrorKind> {
        let own = url.is_loopback() && self.base.is_loopback();
        match url.secure || own || self.options.plain_http {
            true => Ok(()),
            false => Err(RegistryErrorKind::PlainHttp),
        }
    }
}

impl Auth {
    /// Returns the header that says who asks, as far as the registry has said that it
    /// wants to know. Other threads wait while a token is fetched: they want the same.
    pub(super) fn header(
        &self,
        site: &Site<'_>,
        scope: &TokenScope,
    ) -> Result<Option<(HeaderName, String)>, Attempt> {
        let mut state = self.0.lock();
        let credential = state.credential(site, scope)?;
        let value = match (&state.challenge, credential) {
            (_, Some(Credential::Bearer(token))) => Some(format!("Bearer {token}")),
            (None, _) => None,
            (Some(Challenge::Basic), Some(Credential::Basic { user, password })) => {
                Some(basic(&user, &password))
            }
            (Some(Challenge::Basic), _) => None,
            (Some(Challenge::Bearer { .. }), credential) => {
                let token = state.token(site, scope, credential)?;
                Some(format!("Bearer {token}"))
            }
        };
        Ok(value.map(|value| (AUTHORIZATION, value)))
    }

    /// Takes in that a request was refused with 401. Returns whether it is worth while to
    /// send it again: somebody asks now who was not known before.
    pub(super) fn challenged(
        &self,
        site: &Site<'_>,
        scope: &TokenScope,
        (answer, sent): (&Answer, Option<&str>),
    ) -> Result<bool, Attempt> {
        let headers = answer.headers.get_all(WWW_AUTHENTICATE).iter();
        let asked = challenge::parse(headers.filter_map(|value| value.to_str().ok()));
        {
            let mut state = self.0.lock();
            if asked.is_some() {
                state.challenge = asked;
            }
            let key = scope.wanted.join(" ");
            let is_old = |token: &Token| sent == Some(&format!("Bearer {}", token.text));
            if state.tokens.get(&key).is_some_and(is_old) {
                state.tokens.remove(&key);
            }
        }
        let now = self.header(site, scope)?;
        Ok(now.is_some_and(|(_, value)| Some(value.as_str()) != sent))
    }

    /// Returns whether there is something to log in with.
    pub(super) fn is_known(&self, scope: &TokenScope) -> bool {
        let state = self.0.lock();
        let known = state.credentials.get(&scope.repository);
        known.is_some_and(Option::is_some)
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

impl AuthState {
    fn credential(
        &mut self,
        site: &Site<'_>,
        scope: &TokenScope,
    ) -> Result<Option<Credential>, RegistryError> {
        if let Some(known) = self.credentials.get(&scope.repository) {
            return Ok(known.clone());
        }
        let found = site
            .options
            .credentials
            .find(site.host, &scope.repository)?;
        let key = scope.repository.clone();
        self.credentials.insert(key, found.clone());
        Ok(found)
    }

    fn token(
        &mut self,
        site: &Site<'_>,
        scope: &TokenScope,
        credential: Option<Credential>,
    ) -> Result<String, Attempt> {
        let key = scope.wanted.join(" ");
        if let Some(token) = self.tokens.get(&key)
            && token.until > Instant::now()
        {
            return Ok(token.text.clone());
        }
        let Some(Challenge::Bearer { realm, service }) = self.challenge.clone() else {
            return Ok(String::new());
        };
        let url = Url::parse(&realm).ok_or_else(|| {
            let what = format!("the token server's address {realm:?} is not a URL");
            site.error(RegistryErrorKind::Protocol(what))
        })?;
        site.check_plain(&url).map_err(|kind| site.error(kind))?;
        let identity = match &credential {
            Some(Credential::Identity(token)) => Some(token.clone()),
            _ => self.refresh.clone(),
        };
        let service = service.as_deref();
        let known = identity.is_some() || credential.is_some();
        let granted = match (&identity, credential) {
            (Some(identity), _) => by_identity(site, &url, (service, scope), identity),
            (None, Some(Credential::Basic { user, password })) => {
                let user = (user.as_str(), password.as_str());
                by_query(site, &url, (service, scope), Some(user))
            }
            (None, _) => by_query(site, &url, (service, scope), None),
        };
        let mut answer = granted.map_err(|attempt| site.denied(attempt, known))?;
        let (text, life, refresh) = read_token(site, &mut answer)?;
        if refresh.is_some() {
            self.refresh = refresh;
        }
        // Nine tenths: what is sent with it has to arrive while it is good.
        let until = Instant::now() + life / 10 * 9;
        let token = Token {
            text: text.clone(),
            until,
        };
        self.tokens.insert(key, token);
        Ok(text)
    }
}

/// Asks a token server as Docker's does: a GET, with the name and password if there are.
fn by_query(
    site: &Site<'_>,
    url: &Url,
    (service, scope): (Option<&str>, &TokenScope),
    user: Option<(&str, &str)>,
) -> Result<Answer, Attempt> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    pairs.extend(service.map(|service| ("service", service)));
    pairs.extend(scope.wanted.iter().map(|scope| ("scope", scope.as_str())));
    let mut headers = Vec::new();
    if let Some((user, password)) = user {
        pairs.push(("account", user));
        headers.push((AUTHORIZATION, basic(user, password)));
    }
    let url = url.with_query(&pairs);
    let sent = site
        .http
        .send(&Method::GET, &url, &headers, Payload::Nothing);
    granted(site, sent)
}

/// Asks a token server with an identity token: a POST (OAuth 2).
fn by_identity(
    site: &Site<'_>,
    url: &Url,
    (service, scope): (Option<&str>, &TokenScope),
    identity: &str,
) -> Result<Answer, Attempt> {
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", "stratafs"),
        ("service", service.unwrap_or_default()),
        ("scope", &scope.wanted.join(" ")),
        ("refresh_token", identity),
    ];
    let form = form.map(|(name, value)| format!("{name}={}", encoded(value)));
    let headers = [(CONTENT_TYPE, "application/x-www-form-urlencoded".to_owned())];
    let form = form.join("&");
    let payload = Payload::Bytes(form.as_bytes());
    let sent = site.http.send(&Method::POST, url, &headers, payload);
    granted(site, sent)
}

/// Looks at what a token server answers. It is not followed elsewhere.
fn granted(
    site: &Site<'_>,
    sent: Result<Answer, super::http::NoAnswer>,
) -> Result<Answer, Attempt> {
    let mut answer = sent.map_err(|no| match no.passes {
        true => Attempt::Again(site.error(no.kind), None),
        false => Attempt::Fatal(site.error(no.kind)),
    })?;
    if answer.status == 200 {
        return Ok(answer);
    }
    let after = answer.retry_after();
    let status = answer.status;
    let action = "the token server refuses";
    let error = answer.refusal(site.name, action);
    Err(of_status(status, error, after, (site.name, action)))
}

/// Reads a token, how long it is good, and an identity token if there is one.
fn read_token(
    site: &Site<'_>,
    answer: &mut Answer,
) -> Result<(String, Duration, Option<String>), Attempt> {
    let bytes = answer.bytes("an answer of a token server", MAX_TOKEN_ANSWER_BYTES);
    let bytes = bytes.map_err(|no| match no.passes {
        true => Attempt::Again(site.error(no.kind), None),
        false => Attempt::Fatal(site.error(no.kind)),
    })?;
    let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let text = |key: &str| {
        let text = value.get(key).and_then(Value::as_str);
        text.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()))
            .map(str::to_owned)
    };
    let Some(token) = text("token").or_else(|| text("access_token")) else {
        let what = "the token server's answer has no token".to_owned();
        return Err(site.error(RegistryErrorKind::Protocol(what)).into());
    };
    let life = value.get("expires_in").and_then(Value::as_u64).unwrap_or(0);
    let life = Duration::from_secs(life).clamp(LEAST_LIFE, MOST_LIFE);
    Ok((token, life, text("refresh_token")))
}
