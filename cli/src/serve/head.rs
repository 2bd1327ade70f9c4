//! What a request's head has to say before a guest sees it: whom it is for, once and clearly,
//! and a body of which two readers find the same end.

use hyper::header::{HOST, HeaderValue, TRANSFER_ENCODING};
use hyper::http::uri::Authority;
use hyper::{Request, StatusCode, Version};

/// Why a head is refused.
type Wrong = (StatusCode, &'static str);

const fn bad(why: &'static str) -> Wrong {
    (StatusCode::BAD_REQUEST, why)
}

/// Returns the request, with the one host that it is for.
pub(super) fn checked<B>(mut request: Request<B>) -> Result<Request<B>, Wrong> {
    let is_two = request.version() == Version::HTTP_2;
    check_coding(&request)?;
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    if another.is_some() {
        return Err(bad("the header host is there twice"));
    }
    let host = host.map(authority).transpose()?;
    match (request.uri().authority(), host) {
        (Some(target), Some(host))
            if is_two && !host.as_str().eq_ignore_ascii_case(target.as_str()) =>
        {
            Err(bad("the header host and :authority differ"))
        }
        // Of HTTP/1 the target counts, whatever the header says.
        (Some(target), _) => {
            let target = checked_authority(target.as_str())?;
            let value = HeaderValue::from_str(target.as_str());
            let value = value.map_err(|_| bad("the authority is malformed"))?;
            request.headers_mut().insert(HOST, value);
            Ok(request)
        }
        (None, Some(_)) => Ok(request),
        // A request of HTTP/1.0 need not say whom it is for; a guest has to be told.
        (None, None) if request.version() == Version::HTTP_10 => {
            let host = HeaderValue::from_static("localhost");
            request.headers_mut().insert(HOST, host);
            Ok(request)
        }
        (None, None) => Err(bad("the header host is missing")),
    }
}

/// Refuses a body that is coded in another way than in chunks. Of a length beside that hyper
/// takes no notice, and closes the connection after the answer.
fn check_coding<B>(request: &Request<B>) -> Result<(), Wrong> {
    let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Ok(());
    };
    if codings.next().is_some() {
        return Err(bad("the header transfer-encoding is there twice"));
    }
    match coding
        .as_bytes()
        .trim_ascii()
        .eq_ignore_ascii_case(b"chunked")
    {
        true => Ok(()),
        false => Err((
            StatusCode::NOT_IMPLEMENTED,
            "the only transfer-encoding that is known here is chunked",
        )),
    }
}

fn authority(value: &HeaderValue) -> Result<Authority, Wrong> {
    let text = value.to_str();
    checked_authority(text.map_err(|_| MALFORMED)?)
}

const MALFORMED: Wrong = bad("the header host is malformed");

/// Reads a host with a port or without.
fn checked_authority(text: &str) -> Result<Authority, Wrong> {
    let authority: Authority = text.parse().map_err(|_| MALFORMED)?;
    let port = text
        .strip_prefix(authority.host())
        .and_then(|rest| rest.strip_prefix(':'));
    let has_port = port.is_none_or(|port| port.is_empty() || port.parse::<u16>().is_ok());
    match has_port && !text.contains('@') && !authority.host().is_empty() {
        true => Ok(authority),
        false => Err(MALFORMED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(target: &str, hosts: &[&str]) -> Result<String, &'static str> {
        of(Version::HTTP_11, target, hosts)
    }

    fn of(version: Version, target: &str, hosts: &[&str]) -> Result<String, &'static str> {
        let request = Request::builder().version(version).uri(target);
        let request = hosts
            .iter()
            .fold(request, |request, host| request.header(HOST, *host));
        let checked = checked(request.body(()).unwrap()).map_err(|(_, why)| why)?;
        Ok(checked.headers()[HOST].to_str().unwrap().to_owned())
    }

    #[test]
    fn a_request_is_for_one_host() {
        for host_of in ["h", "h:80", "h:", "[::1]:8080", "127.0.0.1", "a.b-c"] {
            assert_eq!(host("/", &[host_of]).as_deref(), Ok(host_of));
        }
        for wrong in ["", "a b", "a/b", "u@h", "h:99999", "h:x", "\u{7f}", ":80"] {
            let request = Request::builder().uri("/");
            let Ok(value) = HeaderValue::from_bytes(wrong.as_bytes()) else {
                continue;
            };
            let request = request.header(HOST, value).body(()).unwrap();
            let why = checked(request).map(drop).unwrap_err();
            assert_eq!(why, MALFORMED, "{wrong:?}");
        }
        assert!(host("/", &["a", "a"]).unwrap_err().contains("twice"));
        assert!(host("/", &[]).unwrap_err().contains("missing"));
        assert_eq!(of(Version::HTTP_10, "/", &[]).as_deref(), Ok("localhost"));
        // A target that says it goes before the header, but for HTTP/2.
        assert_eq!(host("http://x/", &["y"]).as_deref(), Ok("x"));
        assert_eq!(host("http://x/", &[]).as_deref(), Ok("x"));
        assert!(host("http://u@x/", &["x"]).is_err());
        assert_eq!(of(Version::HTTP_2, "http://x/", &["X"]).as_deref(), Ok("x"));
        assert!(
            of(Version::HTTP_2, "http://x/", &["y"])
                .unwrap_err()
                .contains("differ")
        );
    }

    #[test]
    fn a_body_has_one_end() {
        let status = |headers: &[(&str, &str)]| {
            let mut request = Request::builder().uri("/").header(HOST, "h");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let checked = checked(request.body(()).unwrap());
            checked.map_or_else(|(status, _)| status.as_u16(), |_| 200)
        };
        let coding = |value| ("transfer-encoding", value);
        for (headers, want) in [
            (&[coding("chunked")][..], 200),
            (&[coding("Chunked ")], 200),
            (&[coding("chunked"), coding("chunked")], 400),
            (&[coding("gzip, chunked")], 501),
            (&[coding("identity")], 501),
            (&[("content-length", "3")], 200),
        ] {
            assert_eq!(status(headers), want, "{headers:?}");
        }
    }
}
