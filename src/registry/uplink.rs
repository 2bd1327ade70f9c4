//! One registry, or a mirror of one: where it answers, and requests to it with whoever
//! asks and where it leads.

use ureq::http::Method;
use ureq::http::header::{AUTHORIZATION, HeaderName, LOCATION};

use super::auth::{Auth, Site, TokenScope};
use super::error::{RegistryError, RegistryErrorKind};
use super::http::{Answer, Http, NoAnswer, Payload};
use super::options::ClientOptions;
use super::retry::{Attempt, of_status};
use super::url::Url;

/// Redirects that are followed one after the other.
const MAX_REDIRECTS: usize = 5;

/// How often a registry may say that one has to say who one is: a token can end between
/// two requests of other threads, and one that is never good is not fetched for ever.
const MAX_CHALLENGES: usize = 3;

/// A host that answers for a registry.
pub(super) struct Uplink {
    pub(super) http: Http,
    /// Where its API begins: `https://HOST/v2`, without a slash at the end.
    pub(super) base: Url,
    /// The name that credentials are known by.
    pub(super) host: String,
    /// Headers that go with every request to it.
    pub(super) headers: Vec<(HeaderName, String)>,
    /// The registry that this is a mirror of: it is told, since it may be one of several.
    pub(super) mirrored: Option<String>,
    pub(super) auth: Auth,
}

/// A request.
pub(super) struct RegistryCall<'c> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) payload: Payload<'c>,
    pub(super) scope: &'c TokenScope,
    /// What errors say: of what, and what was to be done.
    pub(super) name: &'c str,
    pub(super) action: &'c str,
}

impl<'c> RegistryCall<'c> {
    pub(super) fn new(
        method: Method,
        url: Url,
        scope: &'c TokenScope,
        (name, action): (&'c str, &'c str),
    ) -> Self {
        Self {
            method,
            url,
            headers: Vec::new(),
            payload: Payload::Nothing,
            scope,
            name,
            action,
        }
    }

    fn error(&self, kind: RegistryErrorKind) -> RegistryError {
        RegistryError::new(self.name, self.action, kind)
    }

    pub(super) fn failed(&self, no: NoAnswer) -> Attempt {
        failed((self.name, self.action), no)
    }
}

/// Makes what may be tried again of an answer that did not come.
pub(super) fn failed((name, action): (&str, &str), no: NoAnswer) -> Attempt {
    let error = RegistryError::new(name, action, no.kind);
    match no.passes {
        true => Attempt::Again(error, None),
        false => Attempt::Fatal(error),
    }
}

impl Uplink {
    /// Returns the address of something in the API.
    pub(super) fn url(&self, rest: &str) -> Url {
        let url = Url {
            path: format!("{}{rest}", self.base.path),
            ..self.base.clone()
        };
        match &self.mirrored {
            Some(host) => url.with_query(&[("ns", host)]),
            None => url,
        }
    }

    /// Sends a request, and again if the registry asks who that is. An answer with a status
    /// of 400 and more is an error, but for those in `also`.
    pub(super) fn call(
        &self,
        options: &ClientOptions,
        mut call: RegistryCall<'_>,
        also: &[u16],
    ) -> Result<Answer, Attempt> {
        let site = Site {
            http: &self.http,
            options,
            base: &self.base,
            host: &self.host,
            name: call.name,
        };
        let mut sent_as = self.auth.header(&site, call.scope)?;
        let mut answer = self.led(&site, &mut call, sent_as.as_ref())?;
        for _ in 0..MAX_CHALLENGES {
            if answer.status != 401 || answer.elsewhere {
                break;
            }
            let sent = sent_as.as_ref().map(|(_, value)| value.as_str());
            if !self.auth.challenged(&site, call.scope, (&answer, sent))? {
                break;
            }
            if matches!(call.payload, Payload::Reader(..)) {
                // What has been read of it is gone: the caller knows where to go on.
                let error = answer.refusal(call.name, call.action);
                return Err(Attempt::Again(error, Some(std::time::Duration::ZERO)));
            }
            sent_as = self.auth.header(&site, call.scope)?;
            answer = self.led(&site, &mut call, sent_as.as_ref())?;
        }
        if answer.status < 400 || also.contains(&answer.status) {
            return Ok(answer);
        }
        if call.method == Method::HEAD && !answer.elsewhere {
            // Such an answer has no body: what the registry has to say, it says to another.
            call.method = Method::GET;
            match self.led(&site, &mut call, sent_as.as_ref()) {
                Ok(answered) if answered.status == answer.status => answer = answered,
                _ => {}
            }
        }
        Err(self.refused(&site, &mut answer, &call))
    }

    /// Makes an error of an answer that is no success.
    fn refused(&self, site: &Site<'_>, answer: &mut Answer, call: &RegistryCall<'_>) -> Attempt {
        let (status, after) = (answer.status, answer.retry_after());
        let error = answer.refusal(call.name, call.action);
        if matches!(status, 401 | 403) && answer.elsewhere {
            // The address that the registry gave has expired: it gives another one.
            return Attempt::Again(error, None);
        }
        let RegistryErrorKind::Status { message, .. } = error.kind() else {
            return Attempt::Fatal(error);
        };
        if !matches!(status, 401 | 403) {
            return of_status(status, error, after, (call.name, call.action));
        }
        let hint = site.hint(self.auth.is_known(call.scope));
        let message = message.clone();
        Attempt::Fatal(call.error(RegistryErrorKind::Denied {
            status,
            message,
            hint,
        }))
    }

    /// Sends a request, and follows where it is led. Who asks is told to the registry alone.
    fn led(
        &self,
        site: &Site<'_>,
        call: &mut RegistryCall<'_>,
        sent_as: Option<&(HeaderName, String)>,
    ) -> Result<Answer, Attempt> {
        let mut url = call.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            site.check_plain(&url).map_err(|kind| call.error(kind))?;
            let mut headers = call.headers.clone();
            if url.is_same_host(&self.base) {
                headers.extend(self.headers.iter().cloned());
                headers.extend(sent_as.cloned());
            } else {
                headers.retain(|(name, _)| *name != AUTHORIZATION);
            }
            let payload = match &mut call.payload {
                Payload::Nothing => Payload::Nothing,
                Payload::Bytes(bytes) => Payload::Bytes(bytes),
                Payload::Reader(reader, len) => Payload::Reader(&mut **reader, *len),
            };
            let sent = self.http.send(&call.method, &url, &headers, payload);
            let mut answer = sent.map_err(|no| call.failed(no))?;
            answer.elsewhere = !url.is_same_host(&self.base);
            if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            url = self.next(&url, &answer, call)?;
        }
        let what = format!("more than {MAX_REDIRECTS} redirects, one after the other");
        Err(call.error(RegistryErrorKind::Protocol(what)).into())
    }

    fn next(&self, url: &Url, answer: &Answer, call: &RegistryCall<'_>) -> Result<Url, Attempt> {
        let broken = |what: String| Attempt::from(call.error(RegistryErrorKind::Protocol(what)));
        if matches!(call.payload, Payload::Reader(..)) {
            let what = format!("{} where bytes were to be sent", answer.status);
            return Err(broken(what));
        }
        let location = answer.header(LOCATION.as_str());
        let location = location.ok_or_else(|| broken("a redirect to nowhere".into()))?;
        let next = url.join(location);
        let next = next.ok_or_else(|| broken(format!("a redirect to {location:?}")))?;
        if url.secure && !next.secure {
            let what = format!("a redirect from https to http, {}", next.host);
            return Err(broken(what));
        }
        Ok(next)
    }
}
