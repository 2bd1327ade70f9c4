//! Answers HTTP requests by their path, with what it finds in its files: a guest for
//! `stratafs serve` (the world `wasi:http/proxy` of 0.2).
//!
//! | path | answer |
//! |---|---|
//! | `/hello` | a greeting |
//! | `/count` | how many times it was asked, which it keeps in `/count` |
//! | `/write?n=N&kib=K` | writes N files of K KiB below `/tmp`, and says how many are there now |
//! | `/write-and-trap` | writes a file, and traps |
//! | `/read?path=P` | the bytes of a file, or 404 |
//! | `/list?path=P` | the names in a directory |
//! | `/echo` | the body of the request, as it comes |
//! | `/drop` | nothing is read of the body |
//! | `/big?kib=K` | K KiB |
//! | `/head-then-trap?length=L` | a head that promises L bytes, some of them, and a trap |
//! | `/slow?ms=M` | an answer after M milliseconds |
//! | `/late?ms=M` | an answer, after which it goes on for M milliseconds, and writes `/late` |
//! | `/env` | its environment and the headers that it got |
//! | `/fetch?url=U` | what another server says, or why it is not asked |
//! | `/trap`, `/loop`, `/exit`, `/nothing`, `/grow` | no answer, each in its own way |

use std::io::Write as _;

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse,
    ResponseOutparam, Scheme,
};
use wasip2::io::streams::{OutputStream, StreamError};

struct Answers;

wasip2::http::proxy::export!(Answers);

/// Bytes of one piece of a body.
const PIECE: usize = 64 * 1024;

impl Guest for Answers {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/hello" => text(out, 200, "hello\n"),
            "/count" => text(out, 200, &format!("{}\n", count())),
            "/write" => text(out, 200, &format!("{}\n", write(query))),
            "/write-and-trap" => {
                std::fs::write("/trapped", "here").expect("the file is written");
                trap();
            }
            "/read" => read(out, value(query, "path").unwrap_or("/")),
            "/list" => list(out, value(query, "path").unwrap_or("/")),
            "/echo" => echo(&request, out),
            "/drop" => text(out, 200, "dropped\n"),
            "/big" => big(out, number(query, "kib", 1024)),
            "/head-then-trap" => head_then_trap(out, query),
            "/slow" => {
                wait(number(query, "ms", 100));
                text(out, 200, "slow\n");
            }
            "/late" => {
                text(out, 200, "first\n");
                wait(number(query, "ms", 100));
                std::fs::write("/late", "late").expect("the file is written");
            }
            "/env" => env(&request, out),
            "/fetch" => fetch(out, value(query, "url").unwrap_or_default()),
            "/trap" => trap(),
            "/loop" => loop {
                std::hint::black_box(path);
            },
            "/exit" => std::process::exit(3),
            "/nothing" => drop(out),
            "/grow" => loop {
                std::hint::black_box(vec![1_u8; 1 << 20].leak());
            },
            _ => text(out, 404, "no such path\n"),
        }
    }
}

fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

fn value<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn number(query: &str, name: &str, default: u64) -> u64 {
    value(query, name).map_or(default, |text| text.parse().expect("a number"))
}

fn wait(ms: u64) {
    subscribe_duration(ms * 1_000_000).block();
}

fn count() -> u64 {
    let seen = std::fs::read_to_string("/count").unwrap_or_default();
    let count = seen.trim().parse::<u64>().unwrap_or(0) + 1;
    std::fs::write("/count", count.to_string()).expect("the count is written");
    count
}

/// Writes files, and counts those that are there then.
fn write(query: &str) -> String {
    let bytes = vec![b'x'; number(query, "kib", 1) as usize * 1024];
    for file in 0..number(query, "n", 1) {
        if let Err(error) = std::fs::write(format!("/tmp/file-{file}"), &bytes) {
            return error.to_string();
        }
    }
    let files = std::fs::read_dir("/tmp").expect("/tmp is there");
    files.count().to_string()
}

fn read(out: ResponseOutparam, path: &str) {
    match std::fs::read(path) {
        Ok(bytes) => bytes_of(out, 200, &bytes),
        Err(error) => text(out, 404, &format!("{error}\n")),
    }
}

fn list(out: ResponseOutparam, path: &str) {
    let entries = std::fs::read_dir(path).expect("the directory is there");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.expect("an entry").file_name();
        name.into_string().expect("UTF-8")
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    text(out, 200, &(names.join("\n") + "\n"));
}

fn env(request: &IncomingRequest, out: ResponseOutparam) {
    let mut lines = String::new();
    for (name, value) in std::env::vars() {
        lines += &format!("{name}={value}\n");
    }
    for arg in std::env::args() {
        lines += &format!("argument {arg}\n");
    }
    for (name, value) in request.headers().entries() {
        lines += &format!("header {name}: {}\n", String::from_utf8_lossy(&value));
    }
    println!("this goes to stdout");
    std::io::stdout().flush().expect("stdout is there");
    text(out, 200, &lines);
}

fn text(out: ResponseOutparam, status: u16, text: &str) {
    bytes_of(out, status, text.as_bytes());
}

fn bytes_of(out: ResponseOutparam, status: u16, bytes: &[u8]) {
    let body = begin(out, status, Some(bytes.len()));
    let stream = body.write().expect("the body is taken once");
    let written = write_all(&stream, bytes);
    drop(stream);
    if written {
        OutgoingBody::finish(body, None).expect("the body is whole");
    }
}

/// Gives the head of an answer, with a length if it is known.
fn begin(out: ResponseOutparam, status: u16, length: Option<usize>) -> OutgoingBody {
    let fields = Fields::new();
    if let Some(length) = length {
        let length = length.to_string().into_bytes();
        fields
            .append("content-length", &length)
            .expect("the header is good");
    }
    let response = OutgoingResponse::new(fields);
    response
        .set_status_code(status)
        .expect("the status is good");
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    body
}

/// Whether all was written: a client may go away.
fn write_all(stream: &OutputStream, bytes: &[u8]) -> bool {
    let mut pieces = bytes.chunks(4096);
    pieces.all(|piece| stream.blocking_write_and_flush(piece).is_ok())
}

fn big(out: ResponseOutparam, kib: u64) {
    let body = begin(out, 200, None);
    let stream = body.write().expect("the body is taken once");
    let piece = [b'y'; 1024];
    for _ in 0..kib {
        if !write_all(&stream, &piece) {
            return;
        }
    }
    drop(stream);
    OutgoingBody::finish(body, None).expect("the body is whole");
}

fn head_then_trap(out: ResponseOutparam, query: &str) {
    let length = value(query, "length").map(|text| text.parse().expect("a number"));
    let body = begin(out, 200, length);
    let stream = body.write().expect("the body is taken once");
    write_all(&stream, b"some");
    trap();
}

fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().expect("the body is taken once");
    let input = incoming.stream().expect("the stream is taken once");
    let body = begin(out, 200, None);
    let stream = body.write().expect("the body is taken once");
    loop {
        match input.blocking_read(PIECE as u64) {
            Ok(bytes) if write_all(&stream, &bytes) => {}
            Ok(_) => return,
            Err(StreamError::Closed) => break,
            // Neither is what it should be: the answer breaks off.
            Err(StreamError::LastOperationFailed(_)) => trap(),
        }
    }
    drop(stream);
    OutgoingBody::finish(body, None).expect("the body is whole");
}

/// Asks `http://HOST:PORT/`.
fn fetch(out: ResponseOutparam, authority: &str) {
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
    request.set_authority(Some(authority)).expect("a host");
    request.set_path_with_query(Some("/")).expect("a path");
    let given = match outgoing_handler::handle(request, None) {
        Err(error) => return text(out, 502, &format!("{error:?}\n")),
        Ok(given) => given,
    };
    given.subscribe().block();
    match given.get().expect("it is ready").expect("it is taken once") {
        Err(error) => text(out, 502, &format!("{error:?}\n")),
        Ok(response) => {
            let body = response.consume().expect("the body is taken once");
            let stream = body.stream().expect("the stream is taken once");
            let bytes = stream.blocking_read(PIECE as u64).unwrap_or_default();
            drop(stream);
            drop(IncomingBody::finish(body));
            bytes_of(out, 200, &bytes);
        }
    }
}
