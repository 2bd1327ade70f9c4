//! `stratafs serve`: what requests find, what clients may do, and how it ends.

mod answers; // what each request gets, and what it finds of others
mod clients; // clients that are slow, huge, half there or endless
mod ends; // signals, sessions, `--init`, `--on-end`

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Cli;
use super::support::guest::http_guest;

/// Longer than anything takes here that ends.
const LONG: Duration = Duration::from_secs(30);

/// A server in a directory of its own.
struct Served {
    cli: Cli,
    child: Child,
    address: String,
    metrics: String,
    rest: Mutex<mpsc::Receiver<String>>,
}

/// An answer.
#[derive(Debug)]
struct Got {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Served {
    /// Starts a server of the usual guest with these options.
    fn start(options: &str) -> Self {
        Self::start_in(Cli::new(), options, &|_| {})
    }

    fn start_in(cli: Cli, options: &str, change: &dyn Fn(&mut Command)) -> Self {
        let guest = cli.path("answers.wasm");
        if !guest.exists() {
            fs::copy(http_guest(), guest).unwrap();
        }
        Self::start_with(cli, options, "answers.wasm", change)
    }

    fn start_with(cli: Cli, options: &str, guest: &str, change: &dyn Fn(&mut Command)) -> Self {
        let words = format!(
            "serve --addr 127.0.0.1:0 --metrics 127.0.0.1:0 --access-log log.jsonl {options} {guest}"
        );
        let mut command = cli.command(&words);
        // One cache for all of these tests: they have one guest.
        command.env("STRATAFS_CACHE", env!("CARGO_TARGET_TMPDIR"));
        change(&mut command);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, rest) = mpsc::channel();
        thread::spawn(move || {
            for line in stderr.lines() {
                if sender.send(line.unwrap()).is_err() {
                    return;
                }
            }
        });
        let address = |what: &str| {
            let line = rest.recv_timeout(LONG).unwrap();
            let address = line.strip_prefix(what).unwrap_or_else(|| panic!("{line}"));
            address.to_owned()
        };
        let (address, metrics) = (
            address("listening on http://"),
            address("metrics on http://"),
        );
        Self {
            address,
            metrics,
            cli,
            child,
            rest: Mutex::new(rest),
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    /// Asks on a connection of its own.
    fn get(&self, path: &str) -> Got {
        ask(&mut self.connect(), path)
    }

    fn get_as(&self, path: &str, cookie: &str) -> Got {
        let head = format!("GET {path} HTTP/1.1\r\nhost: h\r\ncookie: {cookie}\r\n\r\n");
        send(&mut self.connect(), head.as_bytes())
    }

    fn metric(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(&self.metrics).unwrap();
        let text = ask(&mut stream, "/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }

    /// The lines of the access log, once there are so many.
    fn log(&self, count: usize) -> Vec<serde_json::Value> {
        let begun = Instant::now();
        loop {
            let text = fs::read_to_string(self.cli.path("log.jsonl")).unwrap();
            if text.lines().count() >= count {
                let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
                return lines.collect();
            }
            assert!(begun.elapsed() < LONG, "{text}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Waits for the end, and gives the exit code and what was said on stderr.
    fn wait(&mut self) -> (Option<i32>, Vec<String>) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), self.rest.lock().unwrap().iter().collect());
            }
            assert!(begun.elapsed() < LONG, "it does not end");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it as a supervisor does, which must go well.
    fn end(mut self) -> Cli {
        self.signal(Signal::SIGTERM);
        assert_eq!(self.wait().0, Some(0));
        std::mem::replace(&mut self.cli, Cli::new())
    }

    /// Resident memory in bytes.
    fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Got {
    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The cookie that the client is to send from now on.
    fn cookie(&self) -> Option<&str> {
        self.header("set-cookie")?.split(';').next()
    }

    #[track_caller]
    fn is(&self, status: u16, text: &str) {
        assert_eq!((self.status, self.text().as_str()), (status, text));
    }
}

fn ask(stream: &mut TcpStream, path: &str) -> Got {
    let head = format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n");
    send(stream, head.as_bytes())
}

/// Sends bytes and reads one answer.
#[track_caller]
fn send(stream: &mut TcpStream, bytes: &[u8]) -> Got {
    stream.write_all(bytes).unwrap();
    read_answer(stream).unwrap_or_else(|why| panic!("{why}"))
}

/// Reads one answer: by its length, by chunks, or to the end of the connection.
fn read_answer(stream: &mut TcpStream) -> Result<Got, String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            other => {
                let head = String::from_utf8_lossy(&head);
                return Err(format!("the head ends after {head:?}: {other:?}"));
            }
        }
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut got = Got {
        status,
        head,
        body: Vec::new(),
    };
    let length = got
        .header("content-length")
        .map(|text| text.parse().unwrap());
    let is_chunked = got.header("transfer-encoding").is_some();
    match (length, is_chunked) {
        (Some(length), _) => got.body = exactly(stream, length)?,
        (None, true) => got.body = chunks(stream)?,
        (None, false) => drop(stream.read_to_end(&mut got.body)),
    }
    Ok(got)
}

fn exactly(stream: &mut TcpStream, length: usize) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; length];
    let read = stream.read_exact(&mut bytes);
    read.map(|()| bytes)
        .map_err(|error| format!("the body: {error}"))
}

fn chunks(stream: &mut TcpStream) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(exactly(stream, 1)?);
        }
        let digits = String::from_utf8(line).unwrap();
        let length = usize::from_str_radix(digits.trim(), 16).unwrap();
        let piece = exactly(stream, length + 2)?;
        body.extend_from_slice(&piece[..length]);
        if length == 0 {
            return Ok(body);
        }
    }
}

/// Whether the other side closes the connection in good time.
fn is_closed(stream: &mut TcpStream, within: Duration) -> bool {
    stream.set_read_timeout(Some(within)).unwrap();
    let mut rest = [0; 4096];
    loop {
        match stream.read(&mut rest) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => {
                return error.kind() == std::io::ErrorKind::ConnectionReset;
            }
        }
    }
}
