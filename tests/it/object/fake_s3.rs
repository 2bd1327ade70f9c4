//! An object store on this machine that speaks S3 as far as it is spoken here, and can be
//! told to misbehave.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use stratafs::source::BlobDigest;

/// What goes wrong with a request.
pub enum Bad {
    No,
    Status(u16),
    /// The connection is closed once all is done.
    Lost,
    /// The body is this.
    Body(Vec<u8>),
}

type Misbehave = Box<dyn FnMut(&str, &str) -> Bad + Send>;

#[derive(Clone)]
pub struct Object {
    pub bytes: Vec<u8>,
    /// When it was written, in seconds since 1970.
    pub written: u64,
}

#[derive(Default)]
struct State {
    objects: Mutex<BTreeMap<String, Object>>,
    uploads: Mutex<BTreeMap<String, BTreeMap<u32, Vec<u8>>>>,
    log: Mutex<Vec<String>>,
    bad: Mutex<Option<Misbehave>>,
    stopped: AtomicBool,
}

pub struct FakeS3 {
    state: Arc<State>,
    pub host: String,
}

impl Drop for FakeS3 {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(&self.host));
    }
}

pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

impl FakeS3 {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State::default());
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

    pub fn misbehave(&self, bad: impl FnMut(&str, &str) -> Bad + Send + 'static) {
        *self.state.bad.lock().unwrap() = Some(Box::new(bad));
    }

    pub fn behave(&self) {
        *self.state.bad.lock().unwrap() = None;
    }

    /// All objects, by `BUCKET/KEY`.
    pub fn change(&self, work: impl FnOnce(&mut BTreeMap<String, Object>)) {
        work(&mut self.state.objects.lock().unwrap());
    }

    /// Takes what was asked since the last time: `GET /bucket/key?query`.
    pub fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.state.log.lock().unwrap())
    }
}

fn query(text: &str, name: &str) -> Option<String> {
    let mut pairs = text
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let found = pairs.find(|(key, _)| *key == name)?;
    Some(found.1.replace("%2F", "/"))
}

fn date(seconds: u64) -> (u64, u64, u64, u64, u64, u64) {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (mut year, mut left) = (1970, days);
    let of_year = |year: u64| if year.is_multiple_of(4) { 366 } else { 365 };
    while left >= of_year(year) {
        left -= of_year(year);
        year += 1;
    }
    let february = of_year(year) - 337;
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while left >= months[month] {
        left -= months[month];
        month += 1;
    }
    (
        year,
        month as u64,
        left + 1,
        rest / 3600,
        rest / 60 % 60,
        rest % 60,
    )
}

fn http_date(seconds: u64) -> String {
    let (year, month, day, hour, minute, second) = date(seconds);
    let names = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let at = month as usize * 3;
    let weekdays = "ThuFriSatSunMonTueWed";
    let weekday = (seconds / 86_400 % 7) as usize * 3;
    format!(
        "{}, {day:02} {} {year} {hour:02}:{minute:02}:{second:02} GMT",
        &weekdays[weekday..weekday + 3],
        &names[at..at + 3]
    )
}

fn e_tag(bytes: &[u8]) -> String {
    format!("\"{}\"", &BlobDigest::of(bytes).hex()[..32])
}

type Headers = BTreeMap<String, String>;

struct Reply {
    status: u16,
    headers: Headers,
    body: Vec<u8>,
}

fn reply(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Reply {
        status,
        headers: Headers::new(),
        body: body.into(),
    }
}

fn failure(status: u16, code: &str) -> Reply {
    reply(
        status,
        format!("<Error><Code>{code}</Code><Message>no</Message></Error>"),
    )
}

impl Reply {
    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }
}

impl State {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut out = stream.try_clone()?;
        let mut input = BufReader::new(stream);
        loop {
            let mut line = String::new();
            if input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let mut words = line.split_whitespace();
            let method = words.next().unwrap_or_default().to_owned();
            let target = words.next().unwrap_or_default().to_owned();
            let mut headers = Headers::new();
            loop {
                let mut line = String::new();
                input.read_line(&mut line)?;
                match line.trim_end().split_once(':') {
                    Some((name, value)) => {
                        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
                    }
                    None => break,
                }
            }
            let len = headers
                .get("content-length")
                .map_or(0, |len| len.parse().unwrap());
            let mut body = vec![0; len];
            input.read_exact(&mut body)?;
            self.log.lock().unwrap().push(format!("{method} {target}"));
            let bad = match self.bad.lock().unwrap().as_mut() {
                Some(bad) => bad(&method, &target),
                None => Bad::No,
            };
            let mut made = match &bad {
                Bad::Status(status) => failure(*status, "Told"),
                _ => self.answer(&method, &target, &headers, body),
            };
            match bad {
                Bad::Lost => return Ok(()),
                Bad::Body(body) => made.body = body,
                _ => {}
            }
            let mut text = format!("HTTP/1.1 {} X\r\n", made.status);
            if method != "HEAD" {
                made = {
                    let len = made.body.len().to_string();
                    made.with("content-length", len)
                };
            }
            for (name, value) in &made.headers {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
            text.push_str("\r\n");
            out.write_all(text.as_bytes())?;
            if method != "HEAD" {
                out.write_all(&made.body)?;
            }
        }
    }

    fn answer(&self, method: &str, target: &str, headers: &Headers, body: Vec<u8>) -> Reply {
        let (path, asked) = target.split_once('?').unwrap_or((target, ""));
        let key = path.trim_start_matches('/').to_owned();
        if let Some(id) = query(asked, "uploadId") {
            return self.part(method, (key, id), asked, body);
        }
        match method {
            "POST" if query(asked, "delete").is_some() => self.remove(&key, &body),
            "POST" => {
                let id = format!("u{}", self.uploads.lock().unwrap().len());
                self.uploads
                    .lock()
                    .unwrap()
                    .insert(id.clone(), BTreeMap::new());
                reply(
                    200,
                    format!(
                        "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
                    ),
                )
            }
            "PUT" => self.put(key, headers, body),
            "DELETE" => {
                self.objects.lock().unwrap().remove(&key);
                reply(204, "")
            }
            _ if query(asked, "list-type").is_some() => self.list(&key, asked),
            _ => self.get(method, &key, headers),
        }
    }

    /// Removes the objects that a document names.
    fn remove(&self, bucket: &str, body: &[u8]) -> Reply {
        let text = String::from_utf8_lossy(body).into_owned();
        let mut objects = self.objects.lock().unwrap();
        let mut answer = String::from("<DeleteResult>");
        for part in text.split("<Key>").skip(1) {
            let key = part.split("</Key>").next().unwrap();
            let bucket = bucket.trim_end_matches('/');
            objects.remove(&format!("{bucket}/{key}"));
            answer.push_str(&format!("<Deleted><Key>{key}</Key></Deleted>"));
        }
        answer.push_str("</DeleteResult>");
        reply(200, answer)
    }

    fn keep(&self, key: String, bytes: Vec<u8>) -> Reply {
        let tag = e_tag(&bytes);
        let object = Object {
            bytes,
            written: now(),
        };
        self.objects.lock().unwrap().insert(key, object);
        reply(200, "").with("etag", tag)
    }

    fn put(&self, key: String, headers: &Headers, body: Vec<u8>) -> Reply {
        let known = self.objects.lock().unwrap().get(&key).cloned();
        let known = known.map(|known| e_tag(&known.bytes));
        let is_new = headers.contains_key("if-none-match");
        if is_new && known.is_some()
            || headers
                .get("if-match")
                .is_some_and(|tag| Some(tag) != known.as_ref())
        {
            return failure(412, "PreconditionFailed");
        }
        self.keep(key, body)
    }

    fn part(&self, method: &str, (key, id): (String, String), asked: &str, body: Vec<u8>) -> Reply {
        let mut uploads = self.uploads.lock().unwrap();
        let Some(parts) = uploads.get_mut(&id) else {
            return failure(404, "NoSuchUpload");
        };
        match method {
            "PUT" => {
                let number = query(asked, "partNumber").unwrap().parse().unwrap();
                let tag = e_tag(&body);
                parts.insert(number, body);
                reply(200, "").with("etag", tag)
            }
            "POST" => {
                let bytes: Vec<u8> = parts.values().flatten().copied().collect();
                let tag = e_tag(&bytes);
                drop(self.keep(key, bytes));
                reply(
                    200,
                    format!(
                        "<CompleteMultipartUploadResult><Location>l</Location><Bucket>b</Bucket><Key>k</Key><ETag>{tag}</ETag></CompleteMultipartUploadResult>"
                    ),
                )
            }
            _ => reply(204, ""),
        }
    }

    fn get(&self, method: &str, key: &str, headers: &Headers) -> Reply {
        let Some(object) = self.objects.lock().unwrap().get(key).cloned() else {
            return failure(404, "NoSuchKey");
        };
        let len = object.bytes.len();
        let range = headers.get("range").map(|range| {
            let (from, to) = range
                .strip_prefix("bytes=")
                .unwrap()
                .split_once('-')
                .unwrap();
            let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
            (from, len.min(to + 1))
        });
        let made = match range {
            Some((from, _)) if from >= len => return failure(416, "InvalidRange"),
            Some((from, to)) => reply(206, &object.bytes[from..to])
                .with("content-range", format!("bytes {from}-{}/{len}", to - 1)),
            None => reply(200, object.bytes.clone()),
        };
        let made = made
            .with("etag", e_tag(&object.bytes))
            .with("last-modified", http_date(object.written));
        match method {
            "HEAD" => made.with("content-length", len.to_string()),
            _ => made,
        }
    }

    fn list(&self, bucket: &str, asked: &str) -> Reply {
        let prefix = query(asked, "prefix").unwrap_or_default();
        let below = format!("{}/", bucket.trim_end_matches('/'));
        let mut text =
            String::from("<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated>");
        for (key, object) in self.objects.lock().unwrap().iter() {
            let Some(key) = key
                .strip_prefix(&below)
                .filter(|key| key.starts_with(&prefix))
            else {
                continue;
            };
            let (year, month, day, hour, minute, second) = date(object.written);
            let month = month + 1;
            text.push_str(&format!(
                "<Contents><Key>{key}</Key><LastModified>{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000Z</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
                e_tag(&object.bytes),
                object.bytes.len()
            ));
        }
        text.push_str("</ListBucketResult>");
        reply(200, text)
    }
}
