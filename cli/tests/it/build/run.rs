//! `RUN`: guests of the stage, their layers, mounts, secrets, ends.

use super::{Cli, build, cat, guest, id, tree, with};
use crate::support::archive::Archive;
use crate::support::script::{NOENT, NOSPC, OK, ROFS, ROOT, Script};

fn scripted(lines: &str, script: &Script) -> Cli {
    let cli = with(&format!("FROM scratch\nCOPY g.wat /g.wat\n{lines}\n"));
    guest(&cli, "g.wat", script);
    cli
}

#[test]
fn a_run_is_a_layer_of_what_its_guest_changed() {
    let script = Script::new()
        .write("out", b"made")
        .unlink("gone", OK)
        .print("hello\n");
    let cli = scripted("COPY <<gone /\nx\ngone\nRUN [\"/g.wat\"]", &script);
    let done = cli.run("image build ctx --tag made --progress plain");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stderr.contains("#4 hello"), "{}", done.stderr);
    assert_eq!(tree(&cli), ["/g.wat", "/out"]);
    assert_eq!(cat(&cli, "/out"), "made");
    let layers = cli.run("image history made").text();
    assert!(layers.contains("RUN [\"/g.wat\"]"), "{layers}");
    // One that changes nothing has no layer.
    let cli = scripted("RUN [\"/g.wat\"]", &Script::new().print("x"));
    id(&build(&cli, ""));
    assert_eq!(super::inspect(&cli)["layers"].as_array().unwrap().len(), 1);
}

#[test]
fn a_guest_sees_arguments_environment_and_working_directory() {
    let script = Script::new().print_args().print_env();
    let cli = scripted(
        "ARG A=1\nARG NONE\nENV B=2\nWORKDIR /w\nRUN [\"/g.wat\", \"x y\", \"$A\"]",
        &script,
    );
    let done = cli.run("image build ctx --tag made --progress plain");
    for part in ["x y", "$A", "A=1", "B=2", "PWD=/w"] {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    assert!(!done.stderr.contains("NONE="), "{}", done.stderr);
    // A shell that is WebAssembly runs text, and here-documents.
    let cli = scripted(
        "SHELL [\"/g.wat\", \"-c\"]\nRUN a && b\nRUN <<EOF\none\ntwo\nEOF\nCMD c d",
        &script,
    );
    let done = cli.run("image build ctx --tag made --progress plain");
    assert!(done.stderr.contains("-c\\u{0}a && b"), "{}", done.stderr);
    assert!(
        done.stderr.contains("-c\\u{0}one") && done.stderr.contains("two"),
        "{}",
        done.stderr
    );
    assert!(
        super::inspect(&cli)
            .to_string()
            .contains("[\"/g.wat\",\"-c\",\"c d\"]")
    );
}

#[test]
fn a_run_that_fails_fails_the_build() {
    let script = Script::new().complain("first\nwhy it failed\n").exit(7);
    let cli = scripted("RUN [\"/g.wat\"]", &script);
    let want = [
        "line 3, column 1: /g.wat ended with exit code 7",
        "first | why it failed",
    ];
    build(&cli, "").failed(1, &want);
    cli.run("image inspect made").failed(1, &["made"]);
    let cli = scripted("RUN [\"/none.wasm\"]", &script);
    build(&cli, "").failed(
        1,
        &[
            "line 3, column 1",
            "\"/none.wasm\" is not a file of this stage",
        ],
    );
    for (bytes, part) in [
        (b"\x7fELF\x02\x01" as &[u8], "an ELF program for Linux"),
        (b"#!/bin/sh\n", "a script"),
        (b"\0\xff", "not WebAssembly"),
    ] {
        let cli = scripted("COPY p /p\nRUN [\"/p\"]", &script);
        cli.file("ctx/p", bytes);
        build(&cli, "").failed(1, &["line 4, column 1", part]);
    }
    let cli = scripted("RUN [\"/g.wat\"]", &Script::new());
    cli.file(
        "ctx/g.wat",
        "(module (func (export \"_start\") (loop (br 0))))",
    );
    build(&cli, "--timeout 0.3").failed(1, &["line 3, column 1", "longer than 0.3 s"]);
}

#[test]
fn mounts_are_seen_and_leave_nothing() {
    let script = Script::new()
        .cat("bound/one")
        .cat("file")
        .write_in(ROOT, "bound/one", b"x", ROFS, OK)
        .write("tmpfs/x", b"gone")
        .write("kept/x", b"stays")
        .write("out", b"1");
    let mounts = "--mount=type=bind,source=dir,target=/bound --mount=source=f,target=/file --mount=type=tmpfs,target=/tmpfs --mount=type=cache,target=/kept";
    let cli = scripted(&format!("RUN {mounts} [\"/g.wat\"]"), &script);
    cli.file("ctx/dir/one", "1").file("ctx/f", "content");
    id(&build(&cli, ""));
    assert_eq!(tree(&cli), ["/g.wat", "/out"]);
    // The cache is there for the next one; what a mount holds is part of the key.
    let script = Script::new().cat("kept/x").write("tmpfs/x", b"");
    guest(&cli, "g.wat", &script);
    cli.file("ctx/Dockerfile", "FROM scratch\nCOPY g.wat /\nRUN --mount=type=cache,target=/kept --mount=type=tmpfs,target=/tmpfs [\"/g.wat\"]\n");
    id(&build(&cli, ""));
    let bound = "FROM scratch\nCOPY g.wat /\nRUN --mount=source=dir,target=/bound [\"/g.wat\"]\n";
    guest(&cli, "g.wat", &Script::new().print("ran"));
    cli.file("ctx/Dockerfile", bound);
    id(&build(&cli, ""));
    let cached: Vec<bool> = super::steps(&cli, "").iter().map(|step| step.0).collect();
    assert_eq!(cached, [true; 3]);
    cli.file("ctx/dir/one", "2");
    let cached = super::steps(&cli, "");
    assert!(
        !cached[2].0 && cached[2].1.contains("the mounts"),
        "{cached:?}"
    );
}

#[test]
fn a_directory_in_memory_holds_what_its_size_says() {
    let script = Script::new()
        .write("small/x", b"1234")
        .write_in(ROOT, "small/y", b"5", OK, NOSPC)
        .write("large/x", b"12345");
    let mounts = "--mount=type=tmpfs,target=/small,size=4 --mount=type=tmpfs,target=/large";
    let cli = scripted(&format!("RUN {mounts} [\"/g.wat\"]"), &script);
    id(&build(&cli, ""));
    assert_eq!(tree(&cli), ["/g.wat"]);
}

#[test]
fn proxies_are_seen_by_a_guest_and_nowhere_else() {
    let cli = scripted("RUN [\"/g.wat\"]", &Script::new().print_env());
    let done = cli.run(
        "image build ctx --tag made --progress plain --build-arg https_proxy=http://p:1 --build-arg NO_PROXY=n",
    );
    assert_eq!(done.code, Some(0), "{done:?}");
    for part in [
        "https_proxy=http://p:1",
        "HTTPS_PROXY=http://p:1",
        "no_proxy=n",
        "NO_PROXY=n",
    ] {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    assert!(!done.stderr.contains("no ARG"), "{}", done.stderr);
    let told = super::inspect(&cli).to_string() + &cli.run("image history made").text();
    assert!(!told.contains("http://p:1"), "{told}");
}

#[test]
fn places_of_mounts_leave_nothing_wherever_they_are() {
    let places = [
        // Where devices are shown, and where the stage has links.
        ("/dev/shm", "dev/shm"),
        ("/dev/a/b", "dev/a/b"),
        ("/tmp/a", "tmp/a"),
        ("/var/run/x/y", "var/run/x/y"),
        ("/up/x", "up/x"),
    ];
    let want = ["/deep", "/g.wat", "/out", "/run", "/up", "/var", "/var/run"];
    for (target, name) in places {
        let script = Script::new()
            .write(&format!("{name}/gone"), b"x")
            .write("out", b"1");
        let run = format!("RUN --mount=type=tmpfs,target={target} [\"/g.wat\"]");
        let cli = scripted(&format!("ADD links.tar /\n{run}"), &script);
        let links = Archive::new()
            .dir("run")
            .dir("deep")
            .symlink("var/run", "../run")
            .symlink("up", "/run/../deep");
        cli.file("ctx/links.tar", links.end());
        id(&build(&cli, ""));
        assert_eq!(tree(&cli), want, "{target}");
    }
    // The guest's own files in such a directory stay.
    let script = Script::new().write("dev/own", b"x");
    let run = "RUN --mount=type=tmpfs,target=/dev/shm [\"/g.wat\"]";
    let cli = scripted(run, &script);
    id(&build(&cli, ""));
    assert_eq!(tree(&cli), ["/dev", "/dev/own", "/g.wat"]);
}

#[test]
fn a_cache_keeps_no_secret() {
    let cli = scripted(
        "RUN --mount=type=secret,id=key --mount=type=cache,target=/kept --mount=type=cache,target=/too [\"/g.wat\"]",
        &Script::new()
            .write("kept/x", b"a hunter2-very-secret b")
            .write("too/x", b"fine"),
    );
    cli.file("key", "hunter2-very-secret\n");
    let done = build(&cli, "--secret id=key,src=key");
    done.failed(
        1,
        &[
            "line 3, column 1",
            "the secret \"key\" into /x of the cache at /kept",
        ],
    );
    assert!(!done.stderr.contains("hunter2"));
    guest(
        &cli,
        "g.wat",
        &Script::new().mkdir("kept/hunter2-very-secret", OK),
    );
    build(&cli, "--secret id=key,src=key").failed(1, &["a name or a link of the cache at /kept"]);
    // Neither cache was kept, and no byte of it is in the store.
    let none = Script::new()
        .unlink("kept/x", NOENT)
        .unlink("too/x", NOENT)
        .write("kept/y", b"fine");
    assert_eq!(super::left_in(&cli.path("store/tmp")), [""; 0]);
    guest(&cli, "g.wat", &none);
    id(&build(&cli, "--secret id=key,src=key"));
    // What a cache held before is no business of a later secret.
    cli.file("key", "another-secret");
    guest(&cli, "g.wat", &Script::new().cat("kept/y"));
    id(&build(&cli, "--secret id=key,src=key"));
}

#[test]
fn a_locked_cache_loses_nothing_of_builds_at_once() {
    let cli = Cli::new();
    let recipe = |name: &str| {
        format!(
            "FROM scratch\nCOPY {name} /g.wat\nRUN --mount=type=cache,id=c,target=/kept,sharing=locked [\"/g.wat\"]\n"
        )
    };
    let mut all = Script::new();
    let children: Vec<_> = (0..6)
        .map(|number| {
            let file = format!("kept/{number}");
            guest(
                &cli,
                &format!("{number}.wat"),
                &Script::new().write(&file, b"x"),
            );
            cli.file(&format!("r{number}"), recipe(&format!("{number}.wat")));
            let words = format!("image build -q -f r{number} ctx --tag t{number}");
            cli.command(&words).spawn().unwrap()
        })
        .collect();
    for (number, mut child) in children.into_iter().enumerate() {
        assert!(child.wait().unwrap().success());
        all = all.cat(&format!("kept/{number}"));
    }
    guest(&cli, "all.wat", &all);
    cli.file("ctx/Dockerfile", recipe("all.wat"));
    let done = cli.run("image build --progress plain ctx --tag made");
    assert!(done.stderr.contains("#3 xxxxxx"), "{}", done.stderr);
}

#[test]
fn secrets_are_in_no_layer_key_history_or_output() {
    const SECRET: &str = "hunter2-very-secret";
    let script = Script::new()
        .cat("run/secrets/key")
        .print("\n")
        .print_env()
        .write("out", b"1");
    let run = "RUN --mount=type=secret,id=key,env=KEY,target=/run/secrets/key [\"/g.wat\"]";
    let cli = scripted(run, &script);
    cli.file("key", format!("{SECRET}\n"));
    let done = cli.run("image build ctx --tag made --progress plain --secret id=key,src=key");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        done.stderr.contains("***") && !done.stderr.contains(SECRET),
        "{}",
        done.stderr
    );
    assert_eq!(tree(&cli), ["/g.wat", "/out"]);
    cli.run("image export made all.tar").fine();
    let mut files = vec![cli.path("all.tar")];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(
                std::fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            continue;
        }
        if path == cli.path("all.tar") {
            files.push(cli.path("store"));
        }
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes
            .windows(SECRET.len())
            .any(|part| part == SECRET.as_bytes());
        assert!(!found, "{}", path.display());
    }
    // Another secret changes no key; none at all is an empty place.
    cli.file("key", "another-secret");
    let again = build(&cli, "--json --secret id=key,src=key");
    assert!(again.fine().text().contains("\"cached\": true"));
    assert!(
        !again.text().contains("\"cached\": false"),
        "{}",
        again.text()
    );
    let missing = scripted(
        "RUN --mount=type=secret,id=key [\"/g.wat\"]",
        &Script::new().write_in(ROOT, "run/secrets/key", b"", NOENT, OK),
    );
    id(&build(&missing, ""));
    // A guest that keeps it is stopped.
    let script = Script::new().write("copy", SECRET.as_bytes());
    guest(&cli, "g.wat", &script);
    cli.file("key", format!("{SECRET}\n"));
    let done = build(&cli, "--secret id=key,src=key");
    done.failed(
        1,
        &["line 3, column 1", "wrote the secret \"key\" into /copy"],
    );
    assert!(!done.stderr.contains(SECRET));
    assert_eq!(super::left_in(&cli.path("store/tmp")), [""; 0]);
    guest(&cli, "g.wat", &Script::new().mkdir(SECRET, OK));
    let done = build(&cli, "--secret id=key,src=key");
    done.failed(1, &["a name or a link with the secret \"key\" in it"]);
    assert!(!done.stderr.contains(SECRET));
}

#[test]
fn secrets_and_output_have_bounds() {
    let script = Script::new()
        .print("begin")
        .print_much('x', 3 * 1024)
        .exit(1);
    let cli = scripted("RUN [\"/g.wat\"]", &script);
    let done = cli.run("image build ctx --tag made --progress plain");
    assert_eq!(done.code, Some(1));
    let len = done.stderr.len();
    assert!(len > 1 << 20 && len < (2 << 20) + (1 << 17), "{len} bytes");
    assert!(!done.stderr.contains("begin"));
    let most = 1 << 20;
    cli.file("ctx/Dockerfile", "FROM scratch\n")
        .file("key", "x".repeat(most));
    id(&build(&cli, "--secret id=key,src=key"));
    cli.file("key", "x".repeat(most + 1));
    build(&cli, "--secret id=key,src=key").failed(1, &["key: it may have 1048576 bytes"]);
}
