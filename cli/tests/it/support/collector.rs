//! A collector of OpenTelemetry that keeps what it is sent, as OTLP over HTTP in JSON.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A span, as far as it matters.
#[derive(Clone, Debug)]
pub struct Seen {
    pub name: String,
    /// Values as text; of several texts, as JSON.
    pub attributes: BTreeMap<String, String>,
    /// Of the resource.
    pub service: String,
    /// 2 for an error, and why.
    pub status: (u64, String),
    /// Whether it has an identity, and ends after it begins.
    pub is_whole: bool,
}

/// The collector. It listens as long as the process is there.
pub struct Collector {
    pub endpoint: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Headers of requests, and how many connections there were.
    headers: Arc<Mutex<(Vec<String>, usize)>>,
}

impl Collector {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (seen, headers) =
            <(Arc<Mutex<Vec<Seen>>>, Arc<Mutex<(Vec<String>, usize)>>)>::default();
        let into = (Arc::clone(&seen), Arc::clone(&headers));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                into.1.lock().unwrap().1 += 1;
                let into = into.clone();
                thread::spawn(move || serve(&stream, &into.0, &into.1));
            }
        });
        Self {
            endpoint,
            seen,
            headers,
        }
    }

    /// Waits until so many spans are there, and returns them in the order of their names.
    pub fn until(&self, count: usize) -> Vec<Seen> {
        let start = Instant::now();
        loop {
            let mut seen = self.seen.lock().unwrap().clone();
            if seen.len() >= count {
                seen.sort_by(|one, other| one.name.cmp(&other.name));
                return seen;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{seen:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn headers(&self) -> Vec<String> {
        self.headers.lock().unwrap().0.clone()
    }

    pub fn connections(&self) -> usize {
        self.headers.lock().unwrap().1
    }
}

fn serve(stream: &TcpStream, seen: &Mutex<Vec<Seen>>, headers: &Mutex<(Vec<String>, usize)>) {
    let mut input = BufReader::new(stream);
    let mut out = stream;
    loop {
        let (mut len, mut line) = (0, String::new());
        while input.read_line(&mut line).is_ok_and(|read| read > 2) {
            let text = line.trim_end().to_ascii_lowercase();
            if let Some(value) = text.strip_prefix("content-length: ") {
                len = value.parse().unwrap();
            }
            headers.lock().unwrap().0.push(text);
            line.clear();
        }
        if len == 0 {
            return;
        }
        let mut body = vec![0; len];
        input.read_exact(&mut body).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let answer =
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        seen.lock().unwrap().extend(spans(&body));
        if out.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn attributes(of: &Value) -> BTreeMap<String, String> {
    let pairs = list(of, "attributes").iter().map(|pair| {
        let value = pair["value"].as_object().unwrap().values().next().unwrap();
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        (pair["key"].as_str().unwrap().to_owned(), text)
    });
    pairs.collect()
}

fn spans(body: &Value) -> Vec<Seen> {
    let mut all = Vec::new();
    for group in list(body, "resourceSpans") {
        let service = attributes(&group["resource"])["service.name"].clone();
        for scope in list(group, "scopeSpans") {
            for span in list(scope, "spans") {
                let time = |key: &str| -> u64 {
                    let text = span[key].as_str().map(str::to_owned);
                    text.unwrap_or_else(|| span[key].to_string())
                        .parse()
                        .unwrap()
                };
                let id = |key: &str, len| span[key].as_str().is_some_and(|id| id.len() == len);
                let status = &span["status"];
                all.push(Seen {
                    name: span["name"].as_str().unwrap().to_owned(),
                    attributes: attributes(span),
                    service: service.clone(),
                    status: (
                        status["code"].as_u64().unwrap_or_default(),
                        status["message"].as_str().unwrap_or_default().to_owned(),
                    ),
                    is_whole: id("traceId", 32)
                        && id("spanId", 16)
                        && time("startTimeUnixNano") <= time("endTimeUnixNano"),
                });
            }
        }
    }
    all
}
