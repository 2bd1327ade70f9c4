//! A registry on this machine that can be told to misbehave: each request first asks a
//! function what is to go wrong with it.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use stratafs::source::BlobDigest;

/// A request, its body not yet read.
#[derive(Clone, Debug)]
pub struct Head {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: HashMap<String, String>,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// `GET /v2/app/blobs/...`: method and path.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub fn is_blob_get(&self) -> bool {
        self.method == "GET" && self.path.contains("/blobs/sha256:")
    }

    fn len(&self) -> usize {
        self.header("content-length")
            .map_or(0, |len| len.parse().unwrap())
    }
}

/// What goes wrong with a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing.
    No,
    /// This is answered in its place.
    Answer(u16, Vec<(String, String)>, Vec<u8>),
    /// The connection is closed before anything is answered.
    Drop,
    /// The connection is closed after so many bytes of the answer's body.
    Cut(usize),
    /// The connection is closed after so many bytes of the request's body, which are kept.
    CutUpload(usize),
    /// The answer says that it is so long, and is.
    Truncate(usize),
    /// A byte of the answer is another.
    Flip(usize),
    /// A range is answered by everything.
    WholeForRange,
    /// The answer comes late.
    Delay(Duration),
    /// The answer's body has no end.
    Endless,
    /// The answer's body stops coming after so many bytes, and the connection stays open.
    Stall(usize),
}

impl Fault {
    pub fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), Vec::new())
    }

    pub fn with(status: u16, header: &str, value: &str) -> Self {
        Self::Answer(status, vec![(header.into(), value.into())], Vec::new())
    }
}

/// Who is let in.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Door {
    #[default]
    Open,
    /// `user:password`.
    Basic(String),
    /// With a token for which `user:password` is asked if there is one.
    Bearer(Option<String>),
}

type Misbehave = Box<dyn FnMut(&Head, usize) -> Fault + Send>;

#[derive(Default)]
struct Content {
    blobs: HashMap<(String, String), Vec<u8>>,
    manifests: HashMap<(String, String), (String, Vec<u8>)>,
    uploads: HashMap<String, Vec<u8>>,
    tokens: HashSet<String>,
    log: Vec<Head>,
    served: u64,
    made: usize,
}

#[derive(Default)]
struct State {
    content: Mutex<Content>,
    fault: Mutex<Option<Misbehave>>,
    door: Mutex<Door>,
    stopped: AtomicBool,
    host: Mutex<String>,
    /// Another address of tokens, and whether pieces are taken.
    realm: Mutex<Option<String>>,
    whole_only: AtomicBool,
    /// What it says that pieces have at least.
    least_piece: AtomicU64,
    /// Whether it lists referrers.
    lists_referrers: AtomicBool,
}

/// The registry. It ends with this value.
pub struct FakeRegistry {
    state: Arc<State>,
    pub host: String,
}

impl Drop for FakeRegistry {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(&self.host));
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    BlobDigest::of(bytes).to_string()
}

impl FakeRegistry {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State::default());
        *state.host.lock().unwrap() = host.clone();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let state = Arc::clone(&shared);
                thread::spawn(move || drop(state.serve(stream)));
            }
        });
        Self { state, host }
    }

    /// `HOST/NAME`.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }

    pub fn misbehave(&self, fault: impl FnMut(&Head, usize) -> Fault + Send + 'static) {
        *self.state.fault.lock().unwrap() = Some(Box::new(fault));
    }

    pub fn behave(&self) {
        *self.state.fault.lock().unwrap() = None;
    }

    pub fn close(&self, door: Door) {
        *self.state.door.lock().unwrap() = door;
    }

    pub fn set_realm(&self, realm: &str) {
        *self.state.realm.lock().unwrap() = Some(realm.to_owned());
    }

    /// Takes no pieces of blobs from now on.
    pub fn take_whole_blobs_only(&self) {
        self.state.whole_only.store(true, Ordering::Relaxed);
    }

    /// Lists referrers from now on, as OCI's registries of 1.1 do.
    pub fn list_referrers(&self) {
        self.state.lists_referrers.store(true, Ordering::Relaxed);
    }

    /// Says that pieces of blobs have so many bytes at least.
    pub fn want_pieces_of(&self, bytes: u64) {
        self.state.least_piece.store(bytes, Ordering::Relaxed);
    }

    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        let key = (repository.to_owned(), digest.clone());
        self.state
            .content
            .lock()
            .unwrap()
            .blobs
            .insert(key, bytes.to_owned());
        digest
    }

    pub fn blob(&self, repository: &str, digest: &str) -> Vec<u8> {
        let key = (repository.to_owned(), digest.to_owned());
        self.state.content.lock().unwrap().blobs[&key].clone()
    }

    pub fn put_manifest(&self, repository: &str, tag: &str, kind: &str, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        let mut content = self.state.content.lock().unwrap();
        for name in [tag, &digest] {
            let key = (repository.to_owned(), name.to_owned());
            content
                .manifests
                .insert(key, (kind.to_owned(), bytes.to_owned()));
        }
        digest
    }

    pub fn manifest(&self, repository: &str, tag: &str) -> Option<Vec<u8>> {
        let key = (repository.to_owned(), tag.to_owned());
        let content = self.state.content.lock().unwrap();
        content.manifests.get(&key).map(|(_, bytes)| bytes.clone())
    }

    /// Puts these bytes in the place of those of a digest.
    pub fn damage_blobs(&self, damage: impl Fn(&mut Vec<u8>)) {
        let mut content = self.state.content.lock().unwrap();
        content.blobs.values_mut().for_each(damage);
    }

    /// Takes what was asked since the last time.
    pub fn log(&self) -> Vec<Head> {
        std::mem::take(&mut self.state.content.lock().unwrap().log)
    }

    /// Takes the bytes of bodies that were answered since the last time.
    pub fn served(&self) -> u64 {
        std::mem::take(&mut self.state.content.lock().unwrap().served)
    }
}

fn query(text: &str, name: &str) -> Option<String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    let mut found = pairs.filter(|(key, _)| *key == name);
    found.next().map(|(_, value)| decoded(value))
}

fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let hex: Vec<u8> = bytes.by_ref().take(2).collect();
                let hex = String::from_utf8(hex).unwrap();
                out.push(u8::from_str_radix(&hex, 16).unwrap());
            }
            byte => out.push(byte),
        }
    }
    String::from_utf8(out).unwrap()
}

struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

fn reply(status: u16) -> Reply {
    Reply {
        status,
        headers: Vec::new(),
        body: Vec::new(),
    }
}

impl Reply {
    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

fn refusal(status: u16, code: &str, message: &str) -> Reply {
    let text = format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#);
    reply(status).body(text)
}

impl State {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut out = stream.try_clone()?;
        let mut input = BufReader::new(stream);
        while let Some(head) = read_head(&mut input)? {
            let nth = {
                let mut content = self.content.lock().unwrap();
                content.log.push(head.clone());
                content.log.len()
            };
            let fault = self
                .fault
                .lock()
                .unwrap()
                .as_mut()
                .map_or(Fault::No, |f| f(&head, nth));
            let mut body = vec![0; head.len()];
            if let Fault::CutUpload(len) = fault {
                body.truncate(len.min(body.len()));
                input.read_exact(&mut body)?;
                self.keep(&head, &body);
                return Ok(());
            }
            input.read_exact(&mut body)?;
            let made = match &fault {
                Fault::Drop => return Ok(()),
                Fault::Answer(status, headers, body) => Reply {
                    status: *status,
                    headers: headers.clone(),
                    body: body.clone(),
                },
                Fault::WholeForRange => {
                    let mut head = head.clone();
                    head.headers.remove("range");
                    self.answer(&head, body)
                }
                _ => self.answer(&head, body),
            };
            if let Fault::Delay(time) = fault {
                thread::sleep(time);
            }
            if !self.send(&mut out, &head, made, &fault)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Writes an answer. Returns whether the connection stays.
    fn send(
        &self,
        out: &mut TcpStream,
        head: &Head,
        mut made: Reply,
        fault: &Fault,
    ) -> io::Result<bool> {
        let len = made.body.len();
        let (announced, sent) = match fault {
            Fault::Cut(at) | Fault::Stall(at) => (len, len.min(*at)),
            Fault::Truncate(at) => (len.min(*at), len.min(*at)),
            Fault::Endless => (usize::MAX / 2, len),
            _ => (len, len),
        };
        if let (Fault::Flip(at), false) = (fault, made.body.is_empty()) {
            let at = at % len;
            made.body[at] ^= 1;
        }
        let mut text = format!("HTTP/1.1 {} X\r\n", made.status);
        for (name, value) in &made.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let has_len = made
            .headers
            .iter()
            .any(|(name, _)| name == "content-length");
        if !has_len {
            text.push_str(&format!("content-length: {announced}\r\n"));
        }
        text.push_str("\r\n");
        out.write_all(text.as_bytes())?;
        if head.method == "HEAD" {
            return Ok(true);
        }
        out.write_all(&made.body[..sent])?;
        self.content.lock().unwrap().served += sent as u64;
        match fault {
            Fault::Endless => loop {
                out.write_all(&[b' '; 65536])?;
                self.content.lock().unwrap().served += 65536;
            },
            Fault::Stall(_) => {
                while !self.stopped.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(20));
                }
                Ok(false)
            }
            Fault::Cut(_) => Ok(false),
            _ => Ok(true),
        }
    }

    /// Keeps what came of an upload.
    fn keep(&self, head: &Head, body: &[u8]) {
        let id = head.path.rsplit('/').next().unwrap().to_owned();
        let mut content = self.content.lock().unwrap();
        if let Some(upload) = content.uploads.get_mut(&id) {
            upload.extend_from_slice(body);
        }
    }

    fn answer(&self, head: &Head, body: Vec<u8>) -> Reply {
        if head.path == "/token" {
            return self.token(head, &body);
        }
        if !self.lets_in(head) {
            let host = self.host.lock().unwrap().clone();
            let own = format!("http://{host}/token");
            let realm = self.realm.lock().unwrap().clone().unwrap_or(own);
            let asked = match &*self.door.lock().unwrap() {
                Door::Basic(_) => "Basic realm=\"here\"".to_owned(),
                _ => format!("Bearer realm=\"{realm}\",service=\"fake\""),
            };
            let refused = refusal(401, "UNAUTHORIZED", "authentication required");
            return refused.with("www-authenticate", asked);
        }
        let Some(rest) = head.path.strip_prefix("/v2/") else {
            return reply(404);
        };
        if rest.is_empty() {
            return reply(200);
        }
        let kinds = [
            "/blobs/uploads/",
            "/blobs/",
            "/manifests/",
            "/tags/list",
            "/referrers/",
        ];
        let Some(kind) = kinds.into_iter().find(|kind| rest.contains(kind)) else {
            return reply(404);
        };
        let (repository, name) = rest.split_once(kind).unwrap();
        match kind {
            "/blobs/uploads/" => self.upload(head, repository, name, body),
            "/blobs/" => self.blob(head, repository, name),
            "/manifests/" => self.manifest(head, repository, name, body),
            "/tags/list" => self.tags(repository),
            _ if self.lists_referrers.load(Ordering::Relaxed) => self.referrers(repository, name),
            _ => reply(404),
        }
    }

    fn referrers(&self, repository: &str, digest: &str) -> Reply {
        let content = self.content.lock().unwrap();
        let mut listed: Vec<serde_json::Value> = Vec::new();
        for ((own, name), (kind, bytes)) in &content.manifests {
            let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
            let about = value["subject"]["digest"] == digest;
            if own == repository && about && name.starts_with("sha256:") {
                listed.push(serde_json::json!({
                    "mediaType": kind, "digest": name, "size": bytes.len(),
                    "artifactType": value["artifactType"], "annotations": value["annotations"],
                }));
            }
        }
        let kind = "application/vnd.oci.image.index.v1+json";
        let list = serde_json::json!({"schemaVersion": 2, "mediaType": kind, "manifests": listed});
        reply(200).with("content-type", kind).body(list.to_string())
    }

    fn lets_in(&self, head: &Head) -> bool {
        let given = head.header("authorization").unwrap_or_default();
        match &*self.door.lock().unwrap() {
            Door::Open => true,
            Door::Basic(both) => given == format!("Basic {}", base64(both)),
            Door::Bearer(_) => {
                let token = given.strip_prefix("Bearer ").unwrap_or_default();
                self.content.lock().unwrap().tokens.contains(token)
            }
        }
    }

    fn token(&self, head: &Head, body: &[u8]) -> Reply {
        let given = head.header("authorization").unwrap_or_default();
        let form = String::from_utf8_lossy(body).into_owned();
        let identity = query(&form, "refresh_token");
        if let Door::Bearer(Some(both)) = &*self.door.lock().unwrap() {
            let known = given == format!("Basic {}", base64(both));
            if !known && identity.as_deref() != Some("identity") {
                let text = r#"{"details":"incorrect username or password"}"#;
                return reply(401).body(text);
            }
        }
        let mut content = self.content.lock().unwrap();
        content.made += 1;
        let token = format!("token-{}", content.made);
        content.tokens.insert(token.clone());
        reply(200).body(format!(r#"{{"token":"{token}","expires_in":300}}"#))
    }

    fn blob(&self, head: &Head, repository: &str, digest: &str) -> Reply {
        let key = (repository.to_owned(), digest.to_owned());
        let content = self.content.lock().unwrap();
        let Some(bytes) = content.blobs.get(&key) else {
            return refusal(404, "BLOB_UNKNOWN", "blob unknown to registry");
        };
        let range = head.header("range").and_then(|range| {
            let (from, _) = range.strip_prefix("bytes=")?.split_once('-')?;
            from.parse::<usize>().ok()
        });
        let made = match range {
            Some(from) if from >= bytes.len() => return reply(416),
            Some(from) => {
                let last = bytes.len() - 1;
                let told = format!("bytes {from}-{last}/{}", bytes.len());
                reply(206).with("content-range", told).body(&bytes[from..])
            }
            None if head.method == "HEAD" => {
                return reply(200).with("content-length", bytes.len().to_string());
            }
            None => reply(200).body(bytes.clone()),
        };
        made.with("docker-content-digest", digest)
    }

    fn manifest(&self, head: &Head, repository: &str, name: &str, body: Vec<u8>) -> Reply {
        let key = (repository.to_owned(), name.to_owned());
        let mut content = self.content.lock().unwrap();
        if head.method == "PUT" {
            let digest = sha256(&body);
            let kind = head.header("content-type").unwrap_or_default().to_owned();
            for name in [name, &digest] {
                let key = (repository.to_owned(), name.to_owned());
                content.manifests.insert(key, (kind.clone(), body.clone()));
            }
            let made = reply(201).with("docker-content-digest", digest);
            let value: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            let subject = value["subject"]["digest"].as_str();
            return match subject.filter(|_| self.lists_referrers.load(Ordering::Relaxed)) {
                Some(subject) => made.with("oci-subject", subject),
                None => made,
            };
        }
        match content.manifests.get(&key) {
            None => refusal(404, "MANIFEST_UNKNOWN", "manifest unknown"),
            Some((kind, bytes)) => reply(200)
                .with("content-type", kind)
                .with("docker-content-digest", sha256(bytes))
                .body(bytes.clone()),
        }
    }

    fn tags(&self, repository: &str) -> Reply {
        let content = self.content.lock().unwrap();
        let own = content
            .manifests
            .keys()
            .filter(|(own, _)| own == repository);
        let mut tags: Vec<&String> = own.map(|(_, tag)| tag).collect();
        tags.retain(|tag| !tag.starts_with("sha256:"));
        tags.sort();
        let tags: Vec<String> = tags.iter().map(|tag| format!("\"{tag}\"")).collect();
        reply(200).body(format!(r#"{{"name":"x","tags":[{}]}}"#, tags.join(",")))
    }

    fn upload(&self, head: &Head, repository: &str, id: &str, body: Vec<u8>) -> Reply {
        let mut content = self.content.lock().unwrap();
        if head.method == "POST" {
            let mount = query(&head.query, "mount").zip(query(&head.query, "from"));
            if let Some((digest, from)) = mount
                && let Some(bytes) = content.blobs.get(&(from, digest.clone())).cloned()
            {
                content.blobs.insert((repository.to_owned(), digest), bytes);
                return reply(201);
            }
            content.made += 1;
            let id = format!("upload-{}", content.made);
            content.uploads.insert(id.clone(), Vec::new());
            let least = self.least_piece.load(Ordering::Relaxed).to_string();
            return reply(202)
                .with("oci-chunk-min-length", least)
                .with("location", format!("/v2/{repository}/blobs/uploads/{id}"));
        }
        let Some(upload) = content.uploads.get_mut(id) else {
            return refusal(404, "BLOB_UPLOAD_UNKNOWN", "upload unknown");
        };
        let last = |len: usize| format!("0-{}", len.saturating_sub(1));
        if head.method == "GET" {
            return reply(204)
                .with("range", last(upload.len()))
                .with("location", head.path.clone());
        }
        if head.method == "PATCH" && self.whole_only.load(Ordering::Relaxed) {
            return refusal(405, "UNSUPPORTED", "no pieces here");
        }
        let from = head.header("content-range").map_or(upload.len(), |range| {
            range.split('-').next().unwrap().parse().unwrap()
        });
        if from != upload.len() {
            return reply(416).with("range", last(upload.len()));
        }
        upload.extend_from_slice(&body);
        if head.method == "PATCH" {
            return reply(202)
                .with("range", last(upload.len()))
                .with("location", head.path.clone());
        }
        let digest = query(&head.query, "digest").unwrap_or_default();
        let bytes = content.uploads.remove(id).unwrap();
        if sha256(&bytes) != digest {
            return refusal(
                400,
                "DIGEST_INVALID",
                "provided digest did not match uploaded content",
            );
        }
        content
            .blobs
            .insert((repository.to_owned(), digest.clone()), bytes);
        reply(201).with("docker-content-digest", digest)
    }
}

/// Reads the head of a request; `None` at the end, and for what is no HTTP.
fn read_head(input: &mut BufReader<TcpStream>) -> io::Result<Option<Head>> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (Some(method), Some(address), Some(_)) = (words.next(), words.next(), words.next()) else {
        return Ok(None);
    };
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let mut head = Head {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: HashMap::new(),
    };
    loop {
        let mut line = String::new();
        input.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return Ok(Some(head));
        };
        let value = value.trim().to_owned();
        head.headers.insert(name.to_ascii_lowercase(), value);
    }
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in text.as_bytes().chunks(3) {
        let at = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= group.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    out
}
