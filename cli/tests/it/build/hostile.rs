//! Contexts that mean harm, and what may never stay behind.

use super::{Cli, build, guest, id, tree, with};
use crate::support::script::Script;

/// Fails if a text is in any file below a directory.
fn never_in(cli: &Cli, dir: &str, text: &str) {
    let mut todo = vec![cli.path(dir)];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).unwrap();
            todo.extend(entries.map(|entry| entry.unwrap().path()));
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let mut parts = bytes.windows(text.len());
        assert!(
            !parts.any(|part| part == text.as_bytes()),
            "{}",
            path.display()
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_no_file_in_a_context_keeps_nobody_waiting() {
    use rustix::fs::{CWD, Mode, mkfifoat};
    let cli = with("FROM scratch\nCOPY . /\n");
    cli.file("ctx/a", "a");
    mkfifoat(CWD, cli.path("ctx/pipe"), Mode::RWXU).unwrap();
    build(&cli, "").failed(
        1,
        &["line 2", "pipe: a device, FIFO or socket", ".dockerignore"],
    );
    cli.file(
        "ctx/Dockerfile",
        "FROM scratch\nCOPY --exclude=pipe . /n/\n",
    );
    id(&build(&cli, ""));
    cli.file("ctx/Dockerfile", "FROM scratch\nCOPY p* /n/\n");
    build(&cli, "").failed(1, &["line 2", "pipe: a device, FIFO or socket"]);
    cli.file("ctx/.dockerignore", "pipe\nDockerfile\n.dockerignore\n");
    cli.file("ctx/Dockerfile", "FROM scratch\nCOPY . /\n");
    id(&build(&cli, ""));
    assert_eq!(tree(&cli), ["/a"]);
    let _socket = std::os::unix::net::UnixListener::bind(cli.path("ctx/sock")).unwrap();
    build(&cli, "").failed(1, &["sock: a device, FIFO or socket"]);
    std::fs::remove_file(cli.path("ctx/sock")).unwrap();
    // An ignore file that never ends, and one that is elsewhere.
    std::fs::remove_file(cli.path("ctx/.dockerignore")).unwrap();
    mkfifoat(CWD, cli.path("ctx/.dockerignore"), Mode::RWXU).unwrap();
    build(&cli, "").failed(1, &[".dockerignore: it is not a file"]);
    std::fs::remove_file(cli.path("ctx/.dockerignore")).unwrap();
    cli.file("elsewhere", "a\n");
    std::os::unix::fs::symlink("../elsewhere", cli.path("ctx/.dockerignore")).unwrap();
    assert_eq!(build(&cli, "").code, Some(1));
    // A recipe that is none.
    std::fs::remove_file(cli.path("ctx/Dockerfile")).unwrap();
    mkfifoat(CWD, cli.path("ctx/Dockerfile"), Mode::RWXU).unwrap();
    build(&cli, "").failed(1, &["no recipe there"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_is_not_what_it_was_is_not_copied() {
    // What the kernel makes while it is read has no size, and so is never what it said it was.
    let cli = with("FROM scratch\nCOPY --from=kernel ostype /\n");
    let done = build(&cli, "--build-context kernel=/proc/sys/kernel");
    done.failed(
        1,
        &[
            "line 2",
            "ostype: it changed while it was read",
            "build again",
        ],
    );
    assert!(!cli.run("image ls --all").text().contains("BUILD/step"));
}

#[cfg(unix)]
#[test]
fn links_of_a_context_lead_nowhere_else() {
    use std::os::unix::fs::symlink;
    let cli = with("FROM scratch\n");
    cli.file("secret/key", "hunter2-very-secret")
        .file("ctx/dir/a", "a");
    symlink("../../secret", cli.path("ctx/dir/out")).unwrap();
    symlink("loop", cli.path("ctx/loop")).unwrap();
    symlink("dir/out", cli.path("ctx/far")).unwrap();
    symlink("/", cli.path("ctx/root")).unwrap();
    for (line, part) in [
        ("COPY dir/out/key /", "leads out of the context"),
        ("COPY far/key /", "leads out of the context"),
        ("COPY f*/key /", "leads out of the context"),
        ("COPY root/etc/passwd /", "leads out of the context"),
        ("COPY --parents dir/out/key /", "leads out of the context"),
        ("ADD far/key /", "leads out of the context"),
        ("COPY loop /", "links lead to each other"),
        ("COPY dir/../../secret/key /", "it leaves the context"),
        ("COPY [\"..\", \"/\"]", "it leaves the context"),
    ] {
        cli.file("ctx/Dockerfile", format!("FROM scratch\n{line}\n"));
        build(&cli, "").failed(1, &["line 2", part]);
    }
    // Links that are found are kept as they are, and nothing of what they lead to is read.
    cli.file("ctx/Dockerfile", "FROM scratch\nCOPY dir /d\n");
    id(&build(&cli, ""));
    assert_eq!(tree(&cli), ["/d", "/d/a", "/d/out"]);
    never_in(&cli, "store", "hunter2-very-secret");
}

#[test]
fn deep_contexts_and_long_lines_end_by_a_bound_or_are_built() {
    let deep = "d/".repeat(400);
    let cli = with("FROM scratch\nCOPY d /d\n");
    cli.file(&format!("ctx/{deep}f"), "f");
    id(&build(&cli, ""));
    assert_eq!(tree(&cli).len(), 401);
    cli.file("ctx/Dockerfile", "FROM scratch\nCOPY --parents **/f /\n");
    id(&build(&cli, ""));
    assert_eq!(tree(&cli).len(), 401);
    // A line as long as a recipe may be, in one piece and in many.
    let word = "x".repeat(900_000);
    let many: String = (0..80_000).map(|number| format!("a{number}=1 ")).collect();
    let joined = format!("FROM scratch\nLABEL a={}\n", "\\\n".repeat(400_000));
    for (recipe, part) in [
        (format!("FROM scratch\nENV A={word}\n"), None),
        (format!("FROM scratch\nCOPY {word} /\n"), Some("line 2")),
        (
            format!("FROM scratch\nCOPY <<{word} /\n"),
            Some("does not end"),
        ),
        (
            format!("FROM scratch\n{word}\n"),
            Some("is not an instruction"),
        ),
        (format!("FROM scratch AS {word}\n"), None),
        (format!("FROM {word}\n"), Some("line 1, column 6")),
        (joined, None),
        (
            format!("FROM scratch\nLABEL {}\n", "a=1 ".repeat(200_000)),
            None,
        ),
        (format!("FROM scratch\nENV {many}\n"), None),
        (format!("FROM scratch\nARG {many}\n"), None),
        (
            format!("FROM scratch\nCOPY {} /\n", "a ".repeat(200_000)),
            Some("line 2"),
        ),
        (
            format!("FROM scratch\nEXPOSE {}\n", "1-65535 ".repeat(100)),
            Some("more than"),
        ),
    ] {
        let cli = with(&recipe);
        let done = build(&cli, "");
        let told = &done.stderr;
        assert!(told.len() < 20_000, "{} bytes are told", told.len());
        match part {
            Some(part) => {
                assert_eq!(done.code, Some(1));
                assert!(told.contains(part), "{part}: {told}");
            }
            None => assert_eq!(done.code, Some(0), "{told}"),
        }
    }
}

#[test]
fn the_value_of_an_argument_stays_nowhere() {
    const TOKEN: &str = "hunter2-very-secret";
    let cli = with("FROM scratch\nARG TOKEN\nCOPY g.wat /g.wat\nRUN [\"/g.wat\"]\n");
    guest(&cli, "g.wat", &Script::new().write("out", b"1"));
    let done = cli.run(&format!(
        "image build ctx --tag made --json --explain --build-arg TOKEN={TOKEN}"
    ));
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(!done.text().contains(TOKEN));
    assert!(!done.stderr.contains(TOKEN), "{}", done.stderr);
    for words in [
        "image history made",
        "image inspect made --json",
        "image ls --all --json",
    ] {
        assert!(!cli.run(words).fine().text().contains(TOKEN), "{words}");
    }
    never_in(&cli, "store", TOKEN);
}
