//! What each request gets, and what it finds of others.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use super::super::support::guest::{World, guest};
use super::{Cli, Served, ask, read_answer, send};

#[test]
fn requests_see_the_base_and_nothing_of_each_other() {
    let cli = Cli::new();
    cli.file("site/page.txt", "from the base");
    let served = Served::start_in(cli, "--layer site", &|_| {});
    served.get("/read?path=/page.txt").is(200, "from the base");
    let mut kept = served.connect();
    for _ in 0..3 {
        ask(&mut kept, "/count").is(200, "1\n");
        ask(&mut kept, "/write?n=5").is(200, "5\n");
        served.get("/write?n=2").is(200, "2\n");
        assert_eq!(ask(&mut kept, "/read?path=/tmp/file-0").status, 404);
    }
    assert_eq!(served.get("/write-and-trap").status, 500);
    assert_eq!(served.get("/read?path=/trapped").status, 404);
}

#[test]
fn options_of_run_hold_for_each_request() {
    let served = Served::start("-e COLOR=blue --max-bytes 64K --read-only");
    let env = served.get("/env").text();
    assert!(env.contains("COLOR=blue\n"), "{env}");
    assert!(served.get("/write?n=1").text().contains("Read-only"));
    drop(served);
    let served = Served::start("--max-bytes 64K");
    // A stream of 0.2 tells no more than that.
    let full = served.get("/write?n=1&kib=65").text();
    assert!(full.contains("I/O error"), "{full}");
    served.get("/write?n=1&kib=60").is(200, "1\n");
    drop(served);
    let served = Served::start("--max-memory 64M");
    let got = served.get("/grow");
    got.is(500, "500: the guest grew past its memory\n");
    served.get("/hello").is(200, "hello\n");
    drop(served);
    let cli = Cli::new();
    cli.file("site/own.txt", "kept");
    let limits = "--layer site --max-inodes 3 --keep session";
    let served = Served::start_in(cli, limits, &|_| {});
    let first = served.get("/write?n=2");
    first.is(200, "2\n");
    let cookie = first.cookie().unwrap();
    let full = served.get_as("/write?n=4", cookie).text();
    assert!(full.contains("No space"), "{full}");
    served.get("/write?n=3").is(200, "3\n");
    served.get("/read?path=/own.txt").is(200, "kept");
}

#[test]
fn volumes_are_shared() {
    let served = Served::start("--volume data::/tmp");
    served.get("/write?n=3").is(200, "3\n");
    let size = served.get("/read?path=/tmp/file-2").body.len();
    assert_eq!(size, 1024);
}

#[test]
fn a_guest_that_fails_costs_its_own_request() {
    let served = Served::start("--timeout 1");
    let mut kept = served.connect();
    for _ in 0..2 {
        ask(&mut kept, "/trap").is(500, "500: the guest trapped\n");
        ask(&mut kept, "/exit").is(500, "500: the guest exited with 1 and gave no answer\n");
        ask(&mut kept, "/nothing").is(500, "500: the guest gave no answer\n");
        let begun = Instant::now();
        let got = ask(&mut kept, "/loop");
        got.is(504, "504: the guest gave no answer within 1 s\n");
        assert!(begun.elapsed() < Duration::from_secs(5));
        ask(&mut kept, "/hello").is(200, "hello\n");
    }
    // An answer that breaks off does not look whole.
    let mut stream = served.connect();
    stream
        .write_all(b"GET /head-then-trap HTTP/1.1\r\nhost: h\r\n\r\n")
        .unwrap();
    assert!(read_answer(&mut stream).is_err());
    assert_eq!(
        served.metric("stratafs_outcomes_total{outcome=\"trapped\"}"),
        3
    );
    let (_, said) = {
        let mut served = served;
        served.signal(nix::sys::signal::Signal::SIGTERM);
        served.wait()
    };
    let trapped = said
        .iter()
        .filter(|line| line.contains("the guest failed: trap: "));
    assert_eq!(trapped.count(), 3, "{said:?}");
}

#[test]
fn endless_guests_leave_others_their_time() {
    let served = Served::start("--timeout 3");
    let address = served.address.clone();
    let loops: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(&address).unwrap();
            thread::spawn(move || ask(&mut stream, "/loop").status)
        })
        .collect();
    thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    for _ in 0..5 {
        served.get("/hello").is(200, "hello\n");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    for looped in loops {
        assert_eq!(looped.join().unwrap(), 504);
    }
}

#[test]
fn past_the_bound_clients_are_told_to_come_again() {
    let served = Served::start("--max-in-flight 1");
    let mut busy = served.connect();
    busy.write_all(b"GET /slow?ms=2000 HTTP/1.1\r\nhost: h\r\n\r\n")
        .unwrap();
    while served.metric("stratafs_in_flight ") == 0 {
        thread::sleep(Duration::from_millis(10));
    }
    let got = served.get("/hello");
    got.is(503, "503: 1 requests are in flight\n");
    assert_eq!(got.header("retry-after"), Some("1"));
    read_answer(&mut busy).unwrap().is(200, "slow\n");
    // One right after another is not refused, on whatever connection.
    for _ in 0..50 {
        served.get("/hello").is(200, "hello\n");
    }
}

#[test]
fn a_connection_takes_the_next_request_once_all_of_the_last_is_gone() {
    let served = Served::start("");
    let mut kept = served.connect();
    let begun = Instant::now();
    ask(&mut kept, "/late?ms=400").is(200, "first\n");
    assert!(begun.elapsed() < Duration::from_millis(400));
    ask(&mut kept, "/hello").is(200, "hello\n");
    assert!(begun.elapsed() >= Duration::from_millis(400));
    let log = served.log(1);
    // The guest was left to finish.
    assert_eq!(log[0]["outcome"], "ended");
    assert_eq!(log[0]["usage"]["logical_bytes"], 4);
}

#[test]
fn bodies_come_and_go_whole() {
    let served = Served::start("--max-body 2M");
    let body: Vec<u8> = (0..2_000_000_u32).map(|byte| byte as u8).collect();
    let mut stream = served.connect();
    let head = format!(
        "POST /echo HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut writer = stream.try_clone().unwrap();
    let sent = body.clone();
    let writing = thread::spawn(move || {
        writer.write_all(head.as_bytes()).unwrap();
        writer.write_all(&sent).unwrap();
    });
    let got = read_answer(&mut stream).unwrap();
    writing.join().unwrap();
    assert!(got.status == 200 && got.body == body);
    let chunked = b"POST /echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    send(&mut stream, chunked).is(200, "hello");
    assert_eq!(served.get("/big?kib=3000").body.len(), 3000 << 10);
    let mut stream = served.connect();
    stream.write_all(b"HEAD /hello HTTP/1.0\r\n\r\n").unwrap();
    let mut head = String::new();
    stream.read_to_string(&mut head).unwrap();
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
    assert!(head.contains("content-length: 6\r\n") && head.ends_with("\r\n\r\n"));
}

#[test]
fn the_second_version_of_http_is_spoken() {
    let served = Served::start("");
    // The preface, settings, and a request with HPACK's static table: GET, http, /, and :authority.
    let mut stream = served.connect();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    let mut block = vec![0x82, 0x86, 0x04, 6];
    block.extend_from_slice(b"/hello");
    block.extend_from_slice(b"\x41\x01h");
    bytes.extend_from_slice(&[0, 0, block.len() as u8, 1, 5, 0, 0, 0, 1]);
    bytes.extend_from_slice(&block);
    // In two parts, so that it is told apart across reads.
    stream.write_all(&bytes[..10]).unwrap();
    thread::sleep(Duration::from_millis(50));
    stream.write_all(&bytes[10..]).unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while !answer.windows(6).any(|part| part == b"hello\n") {
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "{answer:?}");
        answer.extend_from_slice(&piece[..read]);
    }
    // MAX_CONCURRENT_STREAMS is 3.
    assert!(answer.windows(6).any(|part| part == [0, 3, 0, 0, 0, 64]));
    let line = &served.log(1)[0];
    assert_eq!(line["version"], "HTTP/2");
}

#[test]
fn requests_go_where_the_network_is_open() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    thread::spawn(move || {
        for stream in other.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 1024];
            let read = stream.read(&mut head).unwrap();
            let asked = String::from_utf8_lossy(&head[..read]).into_owned();
            let host = asked.lines().find(|line| line.starts_with("host")).unwrap();
            let length = host.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{host}");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let url = format!("/fetch?url={address}");
    let served = Served::start("");
    served.get(&url).is(502, "ErrorCode::HttpRequestDenied\n");
    drop(served);
    let port = address.port();
    let served = Served::start(&format!("--allow-net localhost:{port}"));
    let named = format!("/fetch?url=localhost:{port}");
    served
        .get(&named)
        .is(200, &format!("host: localhost:{port}"));
    let other = format!("/fetch?url=localhost:{}", port ^ 1);
    served.get(&other).is(502, "ErrorCode::HttpRequestDenied\n");
    served
        .get("/fetch?url=example.com")
        .is(502, "ErrorCode::HttpRequestDenied\n");
}

#[test]
fn guests_of_0_3_answer_too() {
    let cli = Cli::new();
    let file = guest("answers", World::P3);
    std::fs::copy(file, cli.path("answers.wasm")).unwrap();
    let served = Served::start_in(cli, "--timeout 2 --keep session", &|_| {});
    let mut kept = served.connect();
    let first = ask(&mut kept, "/count");
    first.is(200, "1\n");
    served
        .get_as("/count", first.cookie().unwrap())
        .is(200, "2\n");
    ask(&mut kept, "/count").is(200, "1\n");
    ask(&mut kept, "/hello").is(200, "hello\n");
    assert_eq!(ask(&mut kept, "/big").body.len(), 8 << 20);
    let echo = b"POST /echo HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nabcde";
    send(&mut kept, echo).is(200, "abcde");
    ask(&mut kept, "/trap").is(500, "500: the guest trapped\n");
    assert_eq!(ask(&mut kept, "/error").status, 500);
    assert_eq!(ask(&mut kept, "/loop").status, 504);
    ask(&mut kept, "/hello").is(200, "hello\n");
    drop(kept);
    served.end();
}

#[test]
fn what_answers_no_requests_is_named() {
    let cli = Cli::new();
    cli.file("core.wat", "(module (func (export \"_start\")))");
    cli.file("none.wat", "(component)");
    let serve = |guest: &str| cli.run(&format!("serve --addr 127.0.0.1:0 {guest}"));
    serve("core.wat").failed(
        1,
        &[
            "core.wat: expected a component that answers requests",
            "a core module",
        ],
    );
    serve("none.wat").failed(1, &["none.wat: ", "exports nothing", "wasi:http/proxy"]);
    serve("missing.wasm").failed(1, &["missing.wasm"]);
    let refused = |words: &str, parts: &[&str]| {
        cli.run(&format!("serve {words} none.wat")).refused(parts);
    };
    refused("--addr nowhere", &["HOST:PORT"]);
    refused("--max-in-flight 0", &["1 to 1024"]);
    refused("--max-in-flight 1025", &["1 to 1024"]);
    refused("--max-sessions 1000001", &["1 to 1000000"]);
    refused("--keep all", &["none", "session", "shared"]);
    refused("--on-end elsewhere", &["commit:REF"]);
    refused("--commit a:1", &["--commit", "--on-end"]);
    refused("--strace -", &["--strace"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let done = cli.run(&format!("serve --addr {address} none.wat"));
    done.failed(1, &[&address.to_string(), "in use"]);
}

#[test]
fn an_image_answers_too() {
    let cli = Cli::new();
    std::fs::create_dir(cli.path("app")).unwrap();
    std::fs::copy(super::http_guest(), cli.path("app/answers.wasm")).unwrap();
    cli.file("app/note.txt", "in the image");
    cli.run("image import app --tag app:1").fine();
    let served = Served::start_in(cli, "--image app:1 --guest answers.wasm", &|_| {});
    served.get("/read?path=/note.txt").is(200, "in the image");
}

#[test]
fn an_image_with_an_entry_point_answers_by_itself() {
    let cli = Cli::new();
    std::fs::create_dir_all(cli.path("app/srv")).unwrap();
    std::fs::copy(super::http_guest(), cli.path("app/srv/answers.wasm")).unwrap();
    cli.file("app/srv/note.txt", "in the image");
    let recipe = "FROM scratch\nCOPY srv /srv\nENV COLOR=green\nWORKDIR /srv\n\
                  ENTRYPOINT [\"/srv/answers.wasm\", \"one\"]\nCMD [\"two\"]\n";
    cli.file("app/Dockerfile", recipe);
    cli.run("image build -q app --tag app:1").fine();
    let served = Served::start_with(cli, "--image app:1", "", &|_| {});
    served
        .get("/read?path=/srv/note.txt")
        .is(200, "in the image");
    let env = served.get("/env").text();
    for line in ["COLOR=green\n", "argument one\n", "argument two\n"] {
        assert!(env.contains(line), "{line}: {env}");
    }
    drop(served);
    // One without an entry point says what is missing.
    let cli = Cli::new();
    cli.file("plain/note.txt", "no program");
    cli.run("image import plain --tag plain:1").fine();
    cli.run("serve --addr 127.0.0.1:0 --image plain:1")
        .failed(1, &["plain:1", "entry point"]);
}

#[test]
fn memory_stays_where_it_is() {
    let served = Served::start("");
    let mut kept = served.connect();
    let mut ask_many = |count: u32| {
        for _ in 0..count {
            ask(&mut kept, "/write?n=3&kib=256").is(200, "3\n");
        }
    };
    ask_many(100);
    // What all requests find.
    let held = served.metric("stratafs_held_bytes ");
    let before = served.resident();
    ask_many(600);
    let after = served.resident();
    assert!(after < before + (16 << 20), "{before} to {after}");
    assert_eq!(served.metric("stratafs_held_bytes "), held);
}

#[test]
fn the_log_and_the_metrics_tell_of_each_request() {
    let served = Served::start("--max-body 10");
    served.get("/write?n=2&kib=4").is(200, "2\n");
    let post = b"POST /drop HTTP/1.1\r\nhost: h\r\ncontent-length: 11\r\n\r\n";
    let got = send(&mut served.connect(), post);
    got.is(413, "413: the body has more than 10 bytes\n");
    let log = served.log(2);
    let first = log.iter().find(|line| line["status"] == 200).unwrap();
    assert_eq!(first["target"], "/write?n=2&kib=4");
    assert_eq!(
        (&first["method"], &first["version"]),
        (&"GET".into(), &"HTTP/1.1".into())
    );
    assert_eq!(first["usage"]["logical_bytes"], 8192);
    assert_eq!(first["sent_bytes"], 2);
    assert!(first["run_ns"].as_u64().unwrap() > 0);
    let second = log.iter().find(|line| line["status"] == 413).unwrap();
    assert_eq!(second["outcome"], "refused");
    assert_eq!(served.metric("stratafs_requests_total{status=\"200\"}"), 1);
    assert_eq!(served.metric("stratafs_written_bytes_total"), 8192);
    let mut metrics = std::net::TcpStream::connect(&served.metrics).unwrap();
    ask(&mut metrics, "/healthz").is(200, "ok\n");
}
