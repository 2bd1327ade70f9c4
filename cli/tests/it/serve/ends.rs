//! How a server ends, and what it keeps: between requests, and at the end.

use std::io::Write;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Cli, Served, is_closed, read_answer};

#[test]
fn those_in_flight_end_and_the_exit_code_is_0() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut served = Served::start("");
        let mut idle = served.connect();
        let mut half = served.connect();
        half.write_all(b"GET /hello HT").unwrap();
        let mut busy = served.connect();
        busy.write_all(b"GET /slow?ms=1500 HTTP/1.1\r\nhost: h\r\n\r\n")
            .unwrap();
        while served.metric("stratafs_in_flight ") == 0 {
            thread::sleep(Duration::from_millis(5));
        }
        served.signal(signal);
        assert!(is_closed(&mut idle, Duration::from_secs(5)));
        assert!(is_closed(&mut half, Duration::from_secs(5)));
        let refused = std::net::TcpStream::connect(&served.address).is_err();
        assert!(refused, "it takes connections still");
        read_answer(&mut busy).unwrap().is(200, "slow\n");
        assert_eq!(served.wait().0, Some(0));
        assert_eq!(served.log(1)[0]["status"], 200);
    }
}

#[test]
fn a_second_signal_does_not_wait() {
    let mut served = Served::start("");
    let mut busy = served.connect();
    busy.write_all(b"GET /loop HTTP/1.1\r\nhost: h\r\n\r\n")
        .unwrap();
    while served.metric("stratafs_in_flight ") == 0 {
        thread::sleep(Duration::from_millis(5));
    }
    served.signal(Signal::SIGTERM);
    thread::sleep(Duration::from_millis(200));
    served.signal(Signal::SIGTERM);
    assert_eq!(served.wait().0, Some(143));
}

#[test]
fn a_session_finds_its_own_files() {
    let served = Served::start("--keep session");
    let first = served.get("/count");
    first.is(200, "1\n");
    let cookie = first.cookie().unwrap();
    let (name, value) = cookie.split_once('=').unwrap();
    assert_eq!((name, value.len()), ("stratafs_session", 32));
    let set = first.header("set-cookie").unwrap();
    assert!(
        set.contains("HttpOnly") && set.contains("SameSite=Lax"),
        "{set}"
    );
    let again = served.get_as("/count", &format!("a=b; {cookie}"));
    again.is(200, "2\n");
    assert_eq!(again.cookie(), None);
    let other = served.get("/count");
    other.is(200, "1\n");
    assert_ne!(other.cookie().unwrap(), cookie);
    // A name that nobody was given makes a session of another name.
    let forged = format!("stratafs_session={}", "0".repeat(32));
    let got = served.get_as("/count", &forged);
    got.is(200, "1\n");
    assert!(got.cookie().is_some_and(|new| new != forged));
    // The guest learns no name, and the other cookies.
    let env = served.get_as("/env", &format!("a=b; {cookie}")).text();
    assert!(
        env.contains("header cookie: a=b\n") && !env.contains(value),
        "{env}"
    );
    assert_eq!(served.metric("stratafs_sessions "), 3);
}

#[test]
fn sessions_end() {
    let served = Served::start("--keep session --session-ttl 0.5 --max-sessions 2");
    let first = served.get("/count");
    let cookie = first.cookie().unwrap().to_owned();
    served.get_as("/count", &cookie).is(200, "2\n");
    thread::sleep(Duration::from_millis(700));
    let late = served.get_as("/count", &cookie);
    late.is(200, "1\n");
    assert!(late.cookie().is_some_and(|new| new != cookie));
    let cookie = late.cookie().unwrap();
    for _ in 0..5 {
        served.get("/count").is(200, "1\n");
    }
    served.get_as("/count", cookie).is(200, "1\n");
    assert!(served.metric("stratafs_sessions ") <= 3);
}

#[test]
fn many_requests_at_once_share_one_file_system() {
    let served = Served::start("--keep shared");
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(served.get("/write?n=4").status, 200);
                }
            });
        }
    });
    served.get("/write?n=0").is(200, "4\n");
    served.get("/count").is(200, "1\n");
    served.get("/count").is(200, "2\n");
}

/// A command that makes `/made`, and one that fails.
fn init(cli: &Cli) {
    let script = super::super::support::script::Script::new().write("made", b"by init");
    cli.file("init.wat", script.wat());
    cli.file(
        "bad.wat",
        "(module (memory (export \"memory\") 1) (func (export \"_start\") unreachable))",
    );
}

#[test]
fn a_command_prepares_what_requests_find() {
    let cli = Cli::new();
    init(&cli);
    let served = Served::start_in(cli, "--init init.wat", &|_| {});
    served.get("/read?path=/made").is(200, "by init");
    served.get("/count").is(200, "1\n");
    served.get("/count").is(200, "1\n");
    let cli = served.end();
    std::fs::copy(super::http_guest(), cli.path("answers.wasm")).unwrap();
    let done = cli.run("serve --addr 127.0.0.1:0 --init bad.wat answers.wasm");
    done.failed(1, &["--init bad.wat: trap: "]);
}

#[test]
fn what_was_written_is_kept_where_it_is_wanted() {
    let served = Served::start("--on-end diff:kept");
    served.get("/hello").is(200, "hello\n");
    served.get("/count").is(200, "1\n");
    let cli = served.end();
    assert_eq!(super::super::names(&cli.path("kept")), ["2.tar"]);
    let served = Served::start_in(cli, "--keep shared --on-end commit:app:2", &|_| {});
    served.get("/count").is(200, "1\n");
    let cli = served.end();
    assert_eq!(cli.run("image cat app:2 /count").text(), "1");
    let served = Served::start_in(cli, "--keep session --on-end commit:app:s", &|_| {});
    let cookie = served.get("/count").cookie().unwrap().to_owned();
    served.get_as("/count", &cookie).is(200, "2\n");
    let cli = served.end();
    assert_eq!(cli.run("image cat app:s-1 /count").text(), "2");
}
