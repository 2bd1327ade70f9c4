//! Clients that are slow, huge, half there or endless: each harms itself alone.

use std::io::{Read, Write};
use std::time::{Duration, Instant};
use std::{iter, thread};

use super::{Served, is_closed, read_answer, send};

/// What clients have here to do their part in.
const PATIENCE: Duration = Duration::from_secs(1);

/// When a slow one must be gone.
const SOON: Duration = Duration::from_secs(8);

/// A server whose clients have little time, and which has room for two requests.
fn served() -> Served {
    Served::start("--client-timeout 1 --max-in-flight 2 --timeout 20")
}

#[test]
fn those_that_send_no_whole_head_are_closed() {
    let served = served();
    let begun = Instant::now();
    let mut half: Vec<_> = (0..40)
        .map(|number| {
            let mut stream = served.connect();
            let part: &[u8] = match number % 4 {
                0 => b"",
                1 => b"GET /hello HT",
                2 => b"GET /hello HTTP/1.1\r\nhost: h\r\nx-y: ",
                _ => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            };
            stream.write_all(part).unwrap();
            stream
        })
        .collect();
    served.get("/hello").is(200, "hello\n");
    for stream in &mut half {
        assert!(is_closed(stream, SOON));
    }
    assert!(begun.elapsed() >= PATIENCE, "{:?}", begun.elapsed());
    served.get("/hello").is(200, "hello\n");
    // One byte now and then is no head either.
    let mut drip = served.connect();
    let mut head = b"GET /hello HTTP/1.1\r\nx: "
        .iter()
        .chain(iter::repeat(&b'y'));
    let begun = Instant::now();
    while drip.write_all(&[*head.next().unwrap()]).is_ok() {
        assert!(begun.elapsed() < SOON, "it is still there");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn heads_have_a_bound() {
    let served = served();
    let huge = format!("GET /{} HTTP/1.1\r\nhost: h\r\n\r\n", "x".repeat(1 << 20));
    let mut stream = served.connect();
    // It may close before all is sent.
    drop(stream.write_all(huge.as_bytes()));
    let refused = read_answer(&mut stream).is_ok_and(|got| [414, 431].contains(&got.status));
    assert!(refused || is_closed(&mut stream, SOON));
    let endless = b"GET /hello HTTP/1.1\r\nhost: h\r\n".to_vec();
    let fields: Vec<u8> = (0..200)
        .flat_map(|n| format!("a-{n}: b\r\n").into_bytes())
        .collect();
    let many = [endless, fields, b"\r\n".to_vec()].concat();
    assert_eq!(send(&mut served.connect(), &many).status, 431);
    for bad in [
        "\0\0\0\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/9\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: h\r\nhost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost : h\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: h\r\nx y: z\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: h\r\nx: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: h\r\nx: a\0b\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: +1\r\n\r\na",
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1, 1\r\n\r\na",
        "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /a b HTTP/1.1\r\nhost: h\r\n\r\n",
        "G@T / HTTP/1.1\r\nhost: h\r\n\r\n",
    ] {
        assert_eq!(
            send(&mut served.connect(), bad.as_bytes()).status,
            400,
            "{bad:?}"
        );
    }
    served.get("/hello").is(200, "hello\n");
}

#[test]
fn bodies_that_are_malformed_are_refused_whatever_the_guest_makes_of_them() {
    let served = Served::start("--client-timeout 1 --max-body 1K --timeout 20");
    let head = "POST /echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";
    for (body, status) in [
        ("zz\r\n".to_owned(), 400),
        ("1\na\n0\n\n".to_owned(), 400),
        ("1\r\naXX0\r\n\r\n".to_owned(), 400),
        ("fffffffffffffffff\r\na\r\n0\r\n\r\n".to_owned(), 400),
        ("-1\r\na\r\n0\r\n\r\n".to_owned(), 400),
        (format!("500\r\n{}\r\n0\r\n\r\n", "x".repeat(0x500)), 413),
    ] {
        let mut stream = served.connect();
        let got = send(&mut stream, format!("{head}{body}").as_bytes());
        assert_eq!(got.status, status, "{body:?}");
        assert!(is_closed(&mut stream, SOON), "{body:?}");
    }
    // One of which the length is ambiguous is answered, and nothing after it is read.
    let both = "POST /echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n1\r\na\r\n0\r\n\r\n";
    let next = "GET /hello HTTP/1.1\r\nhost: h\r\n\r\n";
    let mut stream = served.connect();
    stream
        .write_all(format!("{both}{next}").as_bytes())
        .unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert!(!all.contains("hello"), "{all}");
    assert_eq!(all.matches("HTTP/1.1 ").count(), 1, "{all}");
    // Chunks as they may be.
    let fine = format!("{head}1;x=y\r\na\r\n00\r\nt: u\r\n\r\n{next}");
    let mut stream = served.connect();
    send(&mut stream, fine.as_bytes()).is(200, "a");
    read_answer(&mut stream).unwrap().is(200, "hello\n");
    // A target that names its host, and another in the header: the target counts.
    let absolute = "GET http://x.example/hello HTTP/1.1\r\nhost: other\r\n\r\n";
    send(&mut served.connect(), absolute.as_bytes()).is(200, "hello\n");
    let coded =
        "POST /echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(send(&mut served.connect(), coded.as_bytes()).status, 501);
}

#[test]
fn small_bodies_that_do_not_come_hold_no_place() {
    let served = served();
    let head = b"POST /echo HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\nab";
    let mut slow: Vec<_> = (0..10)
        .map(|_| {
            let mut stream = served.connect();
            stream.write_all(head).unwrap();
            stream
        })
        .collect();
    for _ in 0..5 {
        served.get("/hello").is(200, "hello\n");
    }
    for stream in &mut slow {
        let got = read_answer(stream).unwrap();
        got.is(408, "408: the body did not come in time\n");
    }
}

#[test]
fn bodies_that_stop_or_never_end_end_their_requests() {
    let served = Served::start("--client-timeout 1 --max-body 1M --timeout 20");
    let mut stuck = served.connect();
    stuck
        .write_all(
            b"POST /echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n",
        )
        .unwrap();
    assert!(is_closed(&mut stuck, SOON));
    let mut endless = served.connect();
    endless
        .write_all(b"POST /echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n")
        .unwrap();
    let mut reader = endless.try_clone().unwrap();
    let reading = thread::spawn(move || {
        let mut all = Vec::new();
        drop(reader.read_to_end(&mut all));
        all.len()
    });
    let piece = [b"1000\r\n".to_vec(), vec![b'z'; 4096], b"\r\n".to_vec()].concat();
    let begun = Instant::now();
    while endless.write_all(&piece).is_ok() {
        assert!(begun.elapsed() < SOON, "it is still taken");
    }
    // What was echoed has the bound, with the framing beside it.
    assert!(reading.join().unwrap() < 2 << 20);
    served.get("/hello").is(200, "hello\n");
    let log = served.log(2);
    assert!(
        log.iter()
            .all(|line| line["received_bytes"].as_u64().unwrap() <= (1 << 20) + 65_536)
    );
}

#[test]
fn those_that_do_not_read_are_left_and_their_guests_stopped() {
    let served = served();
    let mut deaf: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = served.connect();
            stream
                .write_all(b"GET /big?kib=1000000 HTTP/1.1\r\nhost: h\r\n\r\n")
                .unwrap();
            stream
        })
        .collect();
    let begun = Instant::now();
    // Both places are theirs for a while, and not for the time of the guests.
    while served.get("/hello").status != 200 {
        assert!(begun.elapsed() < SOON, "they are still there");
    }
    while served.metric("stratafs_outcomes_total{outcome=\"abandoned\"}") < 2 {
        assert!(begun.elapsed() < SOON, "one is still there");
        thread::sleep(Duration::from_millis(20));
    }
    for stream in &mut deaf {
        assert!(is_closed(stream, SOON));
    }
    let log = served.log(3);
    let left = log.iter().filter(|line| line["outcome"] == "abandoned");
    assert_eq!(left.count(), 2, "{log:?}");
    assert!(served.resident() < 400 << 20);
}

#[test]
fn those_that_go_away_give_their_places_back() {
    let served = Served::start("--max-in-flight 1 --timeout 60");
    for path in ["/loop", "/slow?ms=50000"] {
        let mut stream = served.connect();
        let head = format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        while served.metric("stratafs_in_flight ") < 1 {
            thread::sleep(Duration::from_millis(10));
        }
        drop(stream);
        let begun = Instant::now();
        while served.get("/hello").status != 200 {
            assert!(begun.elapsed() < SOON, "{path} goes on");
        }
    }
}

#[test]
fn those_that_are_waited_for_make_room() {
    // Time enough for any of them: what makes room is that others need it.
    let served = Served::start("--max-in-flight 4 --timeout 60");
    let mut slow: Vec<_> = (0..4).map(|_| served.connect()).collect();
    let (bodies, deaf) = slow.split_at_mut(2);
    for stream in bodies.iter_mut() {
        stream
            .write_all(b"POST /echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n")
            .unwrap();
    }
    for stream in deaf {
        stream
            .write_all(b"GET /big?kib=1000000 HTTP/1.1\r\nhost: h\r\n\r\n")
            .unwrap();
    }
    while served.metric("stratafs_in_flight ") < 4 {
        thread::sleep(Duration::from_millis(10));
    }
    let begun = Instant::now();
    let mut refused = 0;
    loop {
        // A byte now and then makes a client no faster.
        for stream in bodies.iter_mut() {
            // It may be closed by now.
            drop(stream.write_all(b"1\r\na\r\n"));
        }
        match served.get("/hello").status {
            200 => break,
            503 => refused += 1,
            other => panic!("{other}"),
        }
        assert!(begun.elapsed() < SOON, "they are still there");
    }
    assert!(begun.elapsed() < SOON, "{refused} were refused until then");
    for _ in 0..5 {
        served.get("/hello").is(200, "hello\n");
    }
    // One place was needed, and no more were taken.
    while served.metric("stratafs_in_flight ") != 3 {
        assert!(begun.elapsed() < SOON, "more or fewer than three are left");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn those_that_go_away_stop_their_guests() {
    let served = served();
    let mut stream = served.connect();
    stream
        .write_all(b"GET /big?kib=1000000 HTTP/1.1\r\nhost: h\r\n\r\n")
        .unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    drop(stream);
    // It finds out by itself, or is stopped.
    let line = &served.log(1)[0];
    assert!(line["sent_bytes"].as_u64().unwrap() < 100 << 20, "{line}");
    served.get("/hello").is(200, "hello\n");
}

#[test]
fn more_connections_than_there_is_room_for_harm_nobody() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let served = Served::start("");
    // The bound is 1,024.
    let mut held: Vec<_> = (0..1100).map(|_| served.connect()).collect();
    let begun = Instant::now();
    for _ in 0..20 {
        served.get("/hello").is(200, "hello\n");
    }
    assert!(begun.elapsed() < SOON);
    let open = served.metric("stratafs_connections ");
    assert!((1000..=1024).contains(&open), "{open}");
    // Those that had waited longest made room.
    assert!(is_closed(&mut held[0], SOON));
    let last = held.last_mut().unwrap();
    send(last, b"GET /hello HTTP/1.1\r\nhost: h\r\n\r\n").is(200, "hello\n");
}
