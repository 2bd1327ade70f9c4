//! What people type first who come from `wasmtime run` and `docker run`.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use super::{Cli, Done};
use crate::support::guest::{World, guest};
use crate::support::script::{NOENT, OK, ROOT, Script};

#[test]
fn variables_by_name_are_the_hosts() {
    let cli = Cli::new();
    cli.guest(&Script::new().print_env());
    let mut command = cli.command("run -e A --env NONE -e B=2 guest.wat");
    let done = Done::of(command.env("A", "1").env("SECRET", "x").env_remove("NONE"));
    assert_eq!(done.fine().text(), "A=1\0B=2\0");
}

#[test]
fn a_directory_by_one_name_is_shown_by_it() {
    let cli = Cli::new();
    cli.file("host/in", "from the host");
    let script = Script::new().cat_in(ROOT + 1, "in", OK);
    assert_eq!(
        cli.script("--dir host", &script).fine().text(),
        "from the host"
    );
    // Alone.
    let script = Script::new().cat_in(ROOT, "in", OK);
    let done = cli.script("--no-preopen --dir host", &script);
    assert_eq!(done.fine().text(), "from the host");
    cli.run("run --no-preopen --preopen /::/ guest.wat")
        .refused(&["--no-preopen"]);
}

#[test]
fn dockers_volumes_are_directories_and_volumes() {
    let cli = Cli::new();
    cli.file("host/in", "from the host");
    let script = Script::new().cat_in(ROOT + 1, "in", OK);
    let host = cli.path("host").display().to_string();
    for shown in [
        format!("{host}:/data"),
        format!("{host}:/data:ro"),
        "./host:/data".into(),
    ] {
        let done = cli.script(&format!("-v {shown}"), &script);
        assert_eq!(done.fine().text(), "from the host", "{shown}");
    }
    let script = Script::new().write("cache/x", b"kept").cat("cache/x");
    assert_eq!(cli.script("-v cache:/cache", &script).fine().text(), "kept");
    assert_eq!(crate::names(&cli.path("host")), ["in"]);
    for bad in [
        "host:/data",
        "./host",
        "./host:data",
        "./host:/data:z",
        "v:/v:ro",
    ] {
        let done = cli.run(&format!("run -v {bad} guest.wat"));
        match bad {
            // Without a slash it is the name of a volume.
            "host:/data" => assert_ne!(done.code, Some(2)),
            _ => drop(done.refused(&["--volume"])),
        }
    }
}

#[test]
fn the_first_argument_and_the_directory_are_what_is_asked_for() {
    let cli = Cli::new();
    cli.guest(&Script::new().print_args());
    let done = cli.run("run --argv0 busybox guest.wat a");
    assert_eq!(done.fine().text(), "busybox\0a\0");
    cli.guest(&Script::new().print_env());
    assert_eq!(cli.run("run -w /srv guest.wat").fine().text(), "PWD=/srv\0");
    let done = cli.run("run --workdir /srv -e PWD=/x guest.wat");
    assert_eq!(done.fine().text(), "PWD=/x\0");
    cli.run("run -w srv guest.wat")
        .refused(&["--workdir", "absolute"]);
}

#[test]
fn two_dashes_right_after_the_guest_are_dropped() {
    let cli = Cli::new();
    cli.guest(&Script::new().print_args());
    let done = cli.run("run guest.wat -- --a -- b");
    assert_eq!(done.fine().text(), "guest.wat\0--a\0--\0b\0");
    let done = cli.run("run -- guest.wat -- -- b");
    assert_eq!(done.fine().text(), "guest.wat\0--\0b\0");
    let done = cli.run("run guest.wat a -- b");
    assert_eq!(done.fine().text(), "guest.wat\0a\0--\0b\0");
}

/// An image with these files.
fn image(cli: &Cli, tag: &str) {
    cli.run(&format!("image import base --tag {tag}")).fine();
}

#[test]
fn an_image_without_an_entry_point_runs_a_guest_of_the_host() {
    let cli = Cli::new();
    cli.file("base/data", "of the image");
    image(&cli, "data:1");
    cli.guest(&Script::new().cat("data").print_args());
    let done = cli.run("run --image data:1 guest.wat -- --a --instances 3");
    assert_eq!(
        done.fine().text(),
        "of the imageguest.wat\0--a\0--instances\x003\0"
    );
    let done = cli.run("run --image data:1 --guest guest.wat -- --a");
    assert_eq!(done.fine().text(), "of the imageguest.wat\0--a\0");
    // No guest, of the image or of the host.
    cli.run("run --image data:1 missing.wasm")
        .failed(1, &["missing.wasm", "nor of the host"]);
    cli.file("text", "no guest");
    cli.run("run --image data:1 text")
        .failed(1, &["text", "not WebAssembly"]);
    cli.run("run --image data:1").failed(1, &["no entry point"]);
    cli.run("run --guest guest.wat x").refused(&["--image"]);
    // What the image has goes first, whatever lies in this directory.
    cli.file(
        "base/tool",
        wat::parse_str(Script::new().print("of the image\n").wat()).unwrap(),
    );
    cli.file("tool", Script::new().print("of the host\n").wat());
    image(&cli, "data:2");
    assert_eq!(
        cli.run("run --image data:2 tool").fine().text(),
        "of the image\n"
    );
    let done = cli.run("run --image data:2 --guest tool");
    assert_eq!(done.fine().text(), "of the host\n");
    let done = cli.run("run --image data:2 --entrypoint tool");
    assert_eq!(done.fine().text(), "of the image\n");
    // A program that was asked for by name is the image's or none.
    cli.run("run --image data:1 --entrypoint guest.wat x")
        .failed(1, &["guest.wat", "not a file of the image"]);
}

#[test]
fn a_reference_as_a_layer_says_what_to_use() {
    let cli = Cli::new();
    cli.guest(&Script::new());
    cli.run("run --layer py:1 guest.wat")
        .failed(1, &["py:1", "--image py:1"]);
    let done = cli.run("run --layer missing guest.wat");
    assert!(!done.failed(1, &["missing"]).stderr.contains("--image"));
}

#[test]
fn what_is_so_anyway_is_accepted() {
    let cli = Cli::new();
    cli.guest(&Script::new().echo());
    let mut command = cli.command("run --rm -i -t guest.wat");
    let done = Done::of(&mut command);
    done.fine();
    cli.run("run --rm -it guest.wat").fine();
}

#[test]
fn commands_of_docker_point_to_ours() {
    let cli = Cli::new();
    for (typed, meant) in [
        ("images", "stratafs image ls"),
        ("images -a --format x", "stratafs image ls"),
        ("rmi x:1", "stratafs image rm"),
        ("pull alpine", "stratafs image"),
        ("load -i x.tar", "stratafs image import"),
    ] {
        cli.run(typed).failed(2, &[meant]);
    }
    let help = cli.run("--help").fine().text();
    assert!(
        !help.contains("rmi") && help.contains("completions"),
        "{help}"
    );
    assert_eq!(cli.names(), [""; 0]);
}

#[test]
fn keys_of_wasmtime_do_what_they_do_there() {
    let cli = Cli::new();
    cli.guest(&Script::new().spin());
    let done = cli.run("run -W fuel=1000 guest.wat");
    assert_eq!(done.code, Some(134), "{done:?}");
    assert!(done.stderr.contains("fuel"), "{done:?}");
    assert_eq!(cli.run("run -W timeout=200ms guest.wat").code, Some(124));
    assert_eq!(
        cli.run("run -Wtimeout=1,fuel=1000 guest.wat").code,
        Some(134)
    );
    cli.guest(&Script::new().grow(100));
    cli.run("run -W max-memory-size=1M guest.wat")
        .failed(1, &["memory"]);
    cli.guest(&Script::new().print("ran\n"));
    // Fuel is for the guest: what it has left goes with it.
    let done = cli.run("run -W fuel=100000 -S cli,preview2=y -C cache=n guest.wat");
    assert_eq!(done.fine().text(), "ran\n");
    assert_eq!(cli.names(), ["cache", "guest.wat"]);
    for (typed, parts) in [
        ("-S inherit-env", ["--wasi", "--env NAME"]),
        ("-S http", ["--wasi", "wasi:cli"]),
        ("-C compiler=winch", ["--codegen", "--no-cache"]),
        ("-W telepathy", ["--wasm", "exceptions"]),
        ("-W max-memories=1", ["--wasm", "--max-memory"]),
        ("-O opt-level=2", ["--optimize", "leave it out"]),
    ] {
        cli.run(&format!("run {typed} guest.wat")).refused(&parts);
    }
}

/// Modules that use one proposal each, with what `-W` calls it, and whether
/// wasmtime's command line has it on.
const PROPOSALS: &[(&str, bool, &str)] = &[
    (
        "exceptions",
        true,
        "(memory 1) (tag $t) (func (export \"_start\") (block $b (try_table (catch_all $b) (throw $t)) unreachable))",
    ),
    (
        "gc",
        true,
        "(type $s (struct (field i32))) (func (export \"_start\") (drop (struct.new $s (i32.const 1))))",
    ),
    (
        "function-references",
        true,
        "(type $f (func)) (func $g) (elem declare func $g) (func (export \"_start\") (call_ref $f (ref.func $g)))",
    ),
    (
        "memory64",
        true,
        "(memory i64 1) (func (export \"_start\") (drop (i32.load (i64.const 0))))",
    ),
    (
        "multi-memory",
        true,
        "(memory 1) (memory 1) (func (export \"_start\"))",
    ),
    (
        "tail-call",
        true,
        "(func $g) (func (export \"_start\") (return_call $g))",
    ),
    (
        "relaxed-simd",
        true,
        "(func (export \"_start\") (drop (i32x4.relaxed_trunc_f32x4_s (v128.const i64x2 0 0))))",
    ),
    (
        "extended-const",
        true,
        "(global i32 (i32.add (i32.const 1) (i32.const 2))) (func (export \"_start\"))",
    ),
    (
        "threads",
        true,
        "(memory 1) (func (export \"_start\") (drop (i32.atomic.load (i32.const 0))))",
    ),
    (
        "wide-arithmetic",
        false,
        "(func (export \"_start\") (i64.add128 (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1)) drop drop)",
    ),
    (
        "custom-page-sizes",
        false,
        "(memory 1 (pagesize 1)) (func (export \"_start\"))",
    ),
];

#[test]
fn proposals_are_as_wasmtime_has_them_and_can_be_switched() {
    let cli = Cli::new();
    for (name, is_on, body) in PROPOSALS {
        cli.file("guest.wat", format!("(module {body})"));
        let on = cli.run(&format!("run -W {name} guest.wat"));
        assert_eq!(on.code, Some(0), "{name}: {on:?}");
        let usual = cli.run("run guest.wat");
        assert_eq!(usual.code, Some(i32::from(!is_on)), "{name}: {usual:?}");
        let off = cli.run(&format!("run -W {name}=n guest.wat"));
        assert_eq!(off.code, Some(1), "{name}: {off:?}");
    }
    cli.file(
        "guest.wat",
        "(module (tag $t) (func (export \"_start\") (throw $t)))",
    );
    let done = cli.run("run guest.wat");
    assert_eq!(done.code, Some(134), "{done:?}");
    assert!(done.stderr.contains("uncaught exception"), "{done:?}");
}

#[test]
fn a_guest_with_a_collector_is_bounded_as_any_other() {
    let cli = Cli::new();
    let body = "(type $s (array (mut i64)))
        (global $all (mut (ref null $l)) (ref.null $l))
        (type $l (struct (field (ref null $l)) (field (ref $s))))
        (func (export \"_start\") (loop $again
            (global.set $all (struct.new $l (global.get $all)
                (array.new_default $s (i32.const 100000))))
            (br $again)))";
    cli.file("guest.wat", format!("(module {body})"));
    let done = cli.run("run --max-memory 64M --timeout 60 guest.wat");
    assert_ne!(done.code, Some(124), "{done:?}");
    assert_ne!(done.code, Some(0), "{done:?}");
}

#[test]
fn a_function_of_a_module_is_called_by_name() {
    let cli = Cli::new();
    cli.file(
        "lib.wat",
        r#"(module (global $g (mut i32) (i32.const 0))
            (func (export "_initialize") (global.set $g (i32.const 40)))
            (func (export "add") (param i32 i64) (result i64 f32)
                (i64.add (i64.extend_i32_s (i32.add (local.get 0) (global.get $g))) (local.get 1))
                (f32.const 1.5))
            (func (export "none"))
            (func (export "bad") (unreachable)) (memory (export "m") 1))"#,
    );
    assert_eq!(
        cli.run("run --invoke add lib.wat 1 0x10").fine().text(),
        "57\n1.5\n"
    );
    assert_eq!(cli.run("run --invoke none lib.wat").fine().text(), "");
    cli.run("run --invoke add lib.wat 1")
        .failed(1, &["2 arguments"]);
    cli.run("run --invoke add lib.wat one 1")
        .failed(1, &["one", "i32"]);
    cli.run("run --invoke m lib.wat")
        .failed(1, &["no function", "m"]);
    cli.run("run --invoke x lib.wat")
        .failed(1, &["no function", "x"]);
    assert_eq!(cli.run("run --invoke bad lib.wat").code, Some(134));
}

#[test]
fn a_function_of_a_component_is_called_as_wave_has_it() {
    let cli = Cli::new();
    let text = r#"(component
        (core module $m
            (func (export "add") (param i32 i32) (result i32)
                (i32.add (local.get 0) (local.get 1))))
        (core instance $i (instantiate $m))
        (func $add (param "a" u32) (param "b" u32) (result u32)
            (canon lift (core func $i "add")))
        (instance $math (export "add" (func $add)))
        (export "my:lib/math@1.0.0" (instance $math))
        (export "top" (func $add)))"#;
    cli.file("lib.wat", text);
    assert_eq!(
        cli.run("run --invoke top(1,2) lib.wat").fine().text(),
        "3\n"
    );
    assert_eq!(
        cli.run("run --invoke add(1,2) lib.wat").fine().text(),
        "3\n"
    );
    let done = cli.run("run --invoke my:lib/math.add@1.0.0(40,2) lib.wat");
    assert_eq!(done.fine().text(), "42\n");
    let done = cli.run("run --timeout 60 --instances 2 --invoke top(1,2) lib.wat");
    assert_eq!(done.fine().text(), "3\n3\n");
    cli.run("run --invoke top(1,-2) lib.wat")
        .failed(2, &["top(1,-2)"]);
    cli.run("run --invoke top lib.wat").failed(2, &["top"]);
    cli.run("run --invoke gone() lib.wat")
        .failed(1, &["no function gone"]);
}

#[test]
fn a_volume_starts_from_an_image_and_goes_to_one() {
    let cli = Cli::new();
    cli.file("base/a", "of the image");
    image(&cli, "v:1");
    let script = Script::new()
        .cat("data/a")
        .write("data/b", b"new")
        .cat("data/b");
    let options = "--volume v=v:1::/data --save-volume v=v:2";
    assert_eq!(
        cli.script(options, &script).fine().text(),
        "of the imagenew"
    );
    assert_eq!(cli.run("image cat v:2 /a").fine().text(), "of the image");
    assert_eq!(cli.run("image cat v:2 /b").fine().text(), "new");
    cli.run("image cat v:1 /b").failed(1, &["/b"]);
    // One that was empty, and one whose guest failed.
    let script = Script::new().write("data/c", b"first");
    cli.script("--volume w::/data --save-volume w=w:1", &script)
        .fine();
    assert_eq!(cli.run("image cat w:1 /c").fine().text(), "first");
    let done = cli.script(
        "--volume w::/data --save-volume w=w:2",
        &Script::new().exit(3),
    );
    assert_eq!(done.failed(3, &["w:2", "not made"]).code, Some(3));
    cli.run("image inspect w:2").failed(1, &["w:2"]);
    cli.run("run --save-volume x=x:1 guest.wat")
        .failed(2, &["--volume x::"]);
    cli.run("run --volume v=none:1::/data guest.wat")
        .failed(1, &["none:1"]);
    let both = "run --volume v=v:1::/a --volume v=v:2::/b guest.wat";
    cli.run(both).failed(2, &["v:1", "v:2"]);
    let script = Script::new().cat_in(ROOT, "data/b", NOENT);
    cli.script("--volume v=v:1::/data", &script).fine();
}

#[test]
fn completions_and_man_pages_come_from_the_options() {
    let cli = Cli::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = cli.run(&format!("completions {shell}")).fine().text();
        assert!(script.contains("save-volume"), "{shell}");
    }
    cli.run("completions tcsh").refused(&["tcsh"]);
    let checked = Command::new("bash")
        .arg("-n")
        .stdin(fs::File::open("/dev/null").unwrap())
        .status();
    if checked.is_ok_and(|status| status.success()) {
        cli.file("script", cli.run("completions bash").text());
        let status = Command::new("bash")
            .arg("-n")
            .arg(cli.path("script"))
            .status();
        assert!(status.unwrap().success());
    }
    cli.run("man pages/man1").fine();
    let pages = crate::names(&cli.path("pages/man1"));
    for page in ["stratafs.1", "stratafs-run.1", "stratafs-image-import.1"] {
        assert!(pages.iter().any(|name| name == page), "{pages:?}");
    }
    assert!(!pages.iter().any(|name| name.contains("rmi")), "{pages:?}");
    let text = fs::read_to_string(cli.path("pages/man1/stratafs-run.1")).unwrap();
    assert!(text.contains("save\\-volume"), "{text}");
}

/// A server that says one word to each that comes; returns its port.
fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            drop(stream.unwrap().write_all(b"hello"));
        }
    });
    port
}

#[test]
fn the_network_is_closed_but_for_what_is_opened() {
    let cli = Cli::new();
    let (open, other) = (server(), server());
    let program = guest("connect", World::P2).display().to_string();
    let heard = |options: &str, places: &str| {
        cli.run(&format!("run {options} {program} {places}"))
            .fine()
            .text()
    };
    let places = format!("127.0.0.1:{open} 127.0.0.1:{other}");
    let hello = "heard \"hello\"\n";
    let denied = "PermissionDenied\n";
    assert_eq!(heard("", &places), denied.repeat(2));
    assert_eq!(heard("--inherit-network", &places), hello.repeat(2));
    assert_eq!(heard("-S inherit-network", &places), hello.repeat(2));
    assert_eq!(heard("-S inherit-network,tcp=n", &places), denied.repeat(2));
    for timeout in ["", "--timeout 60"] {
        let one = format!("--allow-net 127.0.0.1:{open} {timeout}");
        assert_eq!(heard(&one, &places), [hello, denied].concat());
        assert_eq!(
            heard(&format!("--allow-net 127.0.0.1 {timeout}"), &places),
            hello.repeat(2)
        );
        // By name: found once, and no other name is looked up.
        let names = format!("localhost:{open} LOCALHOST.:{open} secret.example:{open}");
        let named = heard(&format!("--allow-net localhost:{open} {timeout}"), &names);
        assert!(
            named.starts_with(&hello.repeat(2)) && !named[hello.len() * 2..].contains(hello),
            "{named}"
        );
    }
    let names = heard("", &format!("localhost:{open}"));
    assert!(!names.contains("hello"), "{names}");
    cli.run(&format!("run --allow-net http://x {program}"))
        .refused(&["--allow-net"]);
    cli.run(&format!(
        "run --allow-net no-such-host.invalid:80 {program}"
    ))
    .failed(1, &["no-such-host.invalid", "not found"]);
}
