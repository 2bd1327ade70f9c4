//! What Docker's documentation and BuildKit's own tests say of lines, held against what is built.

use super::{Cli, build, id, inspect, tree, with};

/// A path, its mode, user and group.
type Owned = (&'static str, u64, u64, u64);

/// Modes and owners in the image, by path.
fn owned(cli: &Cli, path: &str) -> (u64, u64, u64) {
    let told: serde_json::Value =
        serde_json::from_str(&cli.run("image tree made --json").text()).unwrap();
    let entries = told["entries"].as_array().unwrap();
    let found = entries.iter().find(|entry| entry["path"] == path);
    let found = found.unwrap_or_else(|| panic!("{path} is not in {entries:?}"));
    let number = |key: &str| found[key].as_u64().unwrap();
    (number("mode"), number("uid"), number("gid"))
}

#[cfg(unix)]
fn set_mode(cli: &Cli, path: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(cli.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(unix)]
#[test]
fn modes_and_owners_of_what_is_copied() {
    // The line, and for each path its mode, user and group.
    let cases: &[(&str, &[Owned])] = &[
        // Of a directory that is named the content is copied, and not the directory.
        (
            "COPY dir /d",
            &[("/d", 0o755, 0, 0), ("/d/sub", 0o700, 0, 0)],
        ),
        (
            "COPY --chown=3:4 dir /d",
            &[("/d", 0o755, 3, 4), ("/d/sub", 0o700, 3, 4)],
        ),
        (
            "COPY --chmod=750 dir /d",
            &[("/d", 0o750, 0, 0), ("/d/one", 0o750, 0, 0)],
        ),
        // What has to be made above is 755 and of who is named.
        (
            "COPY --chmod=600 --chown=3 a /n/m/a",
            &[
                ("/n", 0o755, 3, 3),
                ("/n/m", 0o755, 3, 3),
                ("/n/m/a", 0o600, 3, 3),
            ],
        ),
        // What is there stays as it is.
        (
            "COPY --chown=5:6 dir /d\nCOPY --chown=3:4 --chmod=777 dir2 /d",
            &[
                ("/d", 0o755, 5, 6),
                ("/d/sub", 0o700, 5, 6),
                ("/d/new", 0o777, 3, 4),
            ],
        ),
        // Of a stage owners stay, but for the directory that is named.
        (
            "COPY --chown=5:6 dir /d\nFROM scratch\nCOPY --from=0 /d /e",
            &[("/e", 0o755, 0, 0), ("/e/sub", 0o700, 5, 6)],
        ),
        // Changes of modes.
        ("COPY --chmod=go-w w /", &[("/w", 0o644, 0, 0)]),
        ("COPY --chmod=u=rw,g=r,o= w /", &[("/w", 0o640, 0, 0)]),
        ("COPY --chmod=a+X w /", &[("/w", 0o666, 0, 0)]),
        (
            "COPY --chmod=u=rwX,go=rX dir /d",
            &[
                ("/d", 0o755, 0, 0),
                ("/d/sub", 0o755, 0, 0),
                ("/d/one", 0o644, 0, 0),
            ],
        ),
        (
            "ARG M=u+x\nCOPY --chmod=$M <<f /\nf",
            &[("/f", 0o744, 0, 0)],
        ),
        ("COPY --chmod=0 w /", &[("/w", 0, 0, 0)]),
        ("COPY --chmod=00640 w /", &[("/w", 0o640, 0, 0)]),
        ("ADD --chmod=g+s --chown=1 w /", &[("/w", 0o2666, 1, 1)]),
        (
            "WORKDIR /w/v",
            &[("/w", 0o755, 0, 0), ("/w/v", 0o755, 0, 0)],
        ),
    ];
    for (lines, want) in cases {
        let cli = with(&format!("FROM scratch\n{lines}\n"));
        cli.file("ctx/dir/one", "1")
            .file("ctx/dir/sub/two", "2")
            .file("ctx/dir2/new", "n")
            .file("ctx/a", "a")
            .file("ctx/w", "w");
        set_mode(&cli, "ctx/dir", 0o750);
        set_mode(&cli, "ctx/dir/sub", 0o700);
        set_mode(&cli, "ctx/dir/one", 0o640);
        set_mode(&cli, "ctx/w", 0o666);
        id(&build(&cli, ""));
        for (path, mode, uid, gid) in *want {
            assert_eq!(owned(&cli, path), (*mode, *uid, *gid), "{lines}: {path}");
        }
    }
}

#[test]
fn lines_leave_what_docker_says_in_the_configuration() {
    use serde_json::json;
    for (lines, key, want) in [
        (
            "ENV a=1 b=\"2 3\" c='4 $a' d=5\\ 6",
            "env",
            json!(["a=1", "b=2 3", "c=4 $a", "d=5 6"]),
        ),
        ("ENV a b=c d", "env", json!(["a=b=c d"])),
        ("ENV a=\"x\\\"y\"", "env", json!(["a=x\"y"])),
        ("ENV a=", "env", json!(["a="])),
        ("ENV a=1\nENV a=2", "env", json!(["a=2"])),
        ("ENV a=1\nENV a=x$a b=${a}y", "env", json!(["a=x1", "b=1y"])),
        ("ENV k$X=v", "env", json!(["k=v"])),
        (
            "LABEL a=1 \\\n  b=\"2\"",
            "labels",
            json!({"a": "1", "b": "2"}),
        ),
        ("LABEL \"com.x.y\"=\"z\"", "labels", json!({"com.x.y": "z"})),
        ("LABEL d=\"a \\\nb\"", "labels", json!({"d": "a b"})),
        (
            "ENV e=v\nLABEL s='$e' d=\"$e\"",
            "labels",
            json!({"d": "v", "s": "$e"}),
        ),
        ("LABEL a=1\nLABEL a=2", "labels", json!({"a": "2"})),
        ("USER me", "user", json!("me")),
        ("USER 1:2", "user", json!("1:2")),
        ("ARG U=5\nUSER ${U}:${U}", "user", json!("5:5")),
        (
            "WORKDIR /a\nWORKDIR b\nWORKDIR c",
            "working_dir",
            json!("/a/b/c"),
        ),
        ("ENV D=/p\nWORKDIR $D/$N/q", "working_dir", json!("/p/q")),
        ("WORKDIR /a/../../b/.", "working_dir", json!("/b")),
        ("WORKDIR \"/x y\"", "working_dir", json!("/x y")),
        ("WORKDIR /a\nWORKDIR ..", "working_dir", json!("/")),
        ("EXPOSE 80", "exposed_ports", json!(["80/tcp"])),
        (
            "EXPOSE 80/tcp 80/udp",
            "exposed_ports",
            json!(["80/tcp", "80/udp"]),
        ),
        (
            "ARG P=1-2\nEXPOSE $P/sctp",
            "exposed_ports",
            json!(["1/sctp", "2/sctp"]),
        ),
        ("VOLUME /a /b", "volumes", json!(["/a", "/b"])),
        (
            "VOLUME [\"/a b\", \"/c\"]",
            "volumes",
            json!(["/a b", "/c"]),
        ),
        ("VOLUME /a\nVOLUME /a", "volumes", json!(["/a"])),
        ("STOPSIGNAL 9", "stop_signal", json!("9")),
        (
            "ENV S=KILL\nSTOPSIGNAL SIG$S",
            "stop_signal",
            json!("SIGKILL"),
        ),
        ("CMD [\"a\"]\nCMD [\"b\"]", "cmd", json!(["b"])),
        ("CMD []", "cmd", json!([])),
        ("CMD [\"a\"]\nENTRYPOINT [\"e\"]", "cmd", json!(["a"])),
        ("CMD [\"$A\"]", "cmd", json!(["$A"])),
        (
            "SHELL [\"/s\", \"-c\"]\nCMD a  b",
            "cmd",
            json!(["/s", "-c", "a  b"]),
        ),
        (
            "SHELL [\"/s\"]\nENTRYPOINT a # b",
            "entrypoint",
            json!(["/s", "a # b"]),
        ),
        ("SHELL [\"/s\"]\nCMD ['a']", "cmd", json!(["/s", "['a']"])),
        (
            "SHELL [\"/s\"]\nSHELL [\"/t\"]\nCMD a",
            "cmd",
            json!(["/t", "a"]),
        ),
        ("ENTRYPOINT [\"a\", \"b\"]", "entrypoint", json!(["a", "b"])),
        ("ENTRYPOINT []", "entrypoint", json!([])),
        ("MAINTAINER A B <a@b>", "author", json!("A B <a@b>")),
    ] {
        let cli = with(&format!("FROM scratch\n{lines}\n"));
        id(&build(&cli, ""));
        assert_eq!(inspect(&cli)["config"][key], want, "{lines}");
    }
}

#[test]
fn what_a_base_says_stays_or_goes() {
    use serde_json::json;
    let base = "FROM scratch AS base\nENV A=1\nLABEL a=1\nEXPOSE 1\nVOLUME /v\nUSER u\nWORKDIR /w\nCMD [\"c\"]\nENTRYPOINT [\"e\"]\nSTOPSIGNAL 9\nFROM base\n";
    for (lines, key, want) in [
        ("", "cmd", json!(["c"])),
        // Arguments of another entry point.
        ("ENTRYPOINT [\"f\"]", "cmd", json!(null)),
        ("CMD [\"d\"]\nENTRYPOINT [\"f\"]", "cmd", json!(["d"])),
        ("ENTRYPOINT [\"f\"]\nCMD [\"d\"]", "cmd", json!(["d"])),
        ("CMD [\"d\"]", "entrypoint", json!(["e"])),
        ("ENV A=2 B=3", "env", json!(["A=2", "B=3"])),
        ("ENV B=$A", "env", json!(["A=1", "B=1"])),
        ("LABEL b=2", "labels", json!({"a": "1", "b": "2"})),
        ("EXPOSE 2", "exposed_ports", json!(["1/tcp", "2/tcp"])),
        ("VOLUME /x", "volumes", json!(["/v", "/x"])),
        ("", "user", json!("u")),
        ("WORKDIR x", "working_dir", json!("/w/x")),
        ("", "stop_signal", json!("9")),
    ] {
        let cli = with(&format!("{base}{lines}\n"));
        id(&build(&cli, ""));
        assert_eq!(inspect(&cli)["config"][key], want, "{lines}");
    }
}

#[test]
fn lines_that_are_refused_say_so_before_anything_is_built() {
    for (lines, place, part) in [
        (
            "EXPOSE 127.0.0.1:80:80",
            "line 3, column 8",
            "write EXPOSE 80",
        ),
        ("EXPOSE 8080:80", "line 3, column 8", "write EXPOSE 80"),
        ("COPY --chmod=64a a /", "line 3, column 6", "--chmod=64a"),
        ("COPY --chmod=10000 a /", "line 3, column 6", "up to 7777"),
        (
            "ARG U=https://x/y\nADD $U /",
            "line 4, column 5",
            "--build-context",
        ),
        (
            "COPY $NONE/../../x /",
            "line 3, column 6",
            "leaves the context",
        ),
        ("VOLUME [\"\"]", "line 3, column 8", "empty"),
        ("WORKDIR $NONE", "line 3, column 1", "empty"),
        ("ENV $NONE=1", "line 3, column 1", "cannot be a variable"),
        ("LABEL $NONE=1", "line 3, column 1", "label's name is empty"),
        (
            "ENV A=\"${B?is not there}\"",
            "line 3, column 7",
            "B: is not there",
        ),
        ("FROM x AS 1a", "line 3, column 11", "stage's name"),
        (
            "COPY --from=later a /\nFROM scratch AS later\nCOPY --from=0 /a /",
            "line 3, column 6",
            "no earlier stage",
        ),
        ("COPY --from=0 a /", "line 3, column 6", "0: no image"),
        (
            "RUN --mount=from=none,target=/x [\"/a\"]",
            "line 3, column 5",
            "none: no image",
        ),
        (
            "RUN --mount=source=../x,target=/x [\"/a\"]",
            "line 3, column 5",
            "may not go up",
        ),
        (
            "RUN --mount=type=cache,source=x,target=/x [\"/a\"]",
            "line 3, column 5",
            "from=STAGE",
        ),
        (
            "RUN --mount=type=secret [\"/a\"]",
            "line 3, column 5",
            "id=NAME",
        ),
        (
            "RUN --mount=type=bind [\"/a\"]",
            "line 3, column 5",
            "target=/DIR",
        ),
        (
            "SHELL [\"/s\"]\nRUN <<EOF\n#!/x\nEOF",
            "line 4, column 5",
            "begins with #!",
        ),
    ] {
        let cli = with(&format!("FROM scratch\nCOPY a /a\n{lines}\n"));
        cli.file("ctx/a", "a");
        build(&cli, "").failed(1, &["ctx/Dockerfile", place, part]);
        assert!(
            !cli.run("image ls --all").text().contains("BUILD"),
            "{lines}"
        );
    }
}

#[test]
fn build_arguments_that_are_always_there() {
    // The options, the lines, and what `R` comes to.
    for (options, lines, want) in [
        (
            "",
            "ARG TARGETPLATFORM\nENV R=$TARGETPLATFORM",
            "wasip1/wasm",
        ),
        (
            "--platform wasip2/wasm/v1",
            "ARG TARGETOS TARGETARCH TARGETVARIANT TARGETOSVERSION\nENV R=$TARGETOS-$TARGETARCH-$TARGETVARIANT-$TARGETOSVERSION.",
            "wasip2-wasm-v1-.",
        ),
        (
            "--build-arg TARGETARCH=x",
            "ARG TARGETARCH\nENV R=$TARGETARCH",
            "x",
        ),
        ("", "ARG TARGETSTAGE\nENV R=$TARGETSTAGE", "default"),
        (
            "--build-arg SOURCE_DATE_EPOCH=5",
            "ARG SOURCE_DATE_EPOCH\nENV R=$SOURCE_DATE_EPOCH",
            "5",
        ),
        ("--build-arg HTTP_PROXY=p", "ENV R=$HTTP_PROXY.", "."),
        (
            "--build-arg HTTP_PROXY=p",
            "ARG HTTP_PROXY\nENV R=$HTTP_PROXY",
            "p",
        ),
    ] {
        let cli = with(&format!("FROM scratch\n{lines}\n"));
        let done = cli.run(&format!(
            "image build ctx --tag made --progress plain {options}"
        ));
        assert_eq!(done.code, Some(0), "{lines}: {}", done.stderr);
        assert!(!done.stderr.contains("no ARG"), "{lines}: {}", done.stderr);
        let env = inspect(&cli)["config"]["env"].to_string();
        assert!(env.contains(&format!("\"R={want}\"")), "{lines}: {env}");
    }
    let named = "FROM scratch AS one\nARG TARGETSTAGE\nENV R=$TARGETSTAGE\nFROM one AS two\n";
    let cli = with(named);
    for (options, want) in [
        ("", "R=two"),
        ("--target one", "R=one"),
        ("--target 0", "R=one"),
    ] {
        id(&build(&cli, options));
        let env = inspect(&cli)["config"]["env"].to_string();
        assert!(env.contains(want), "{options}: {env}");
    }
    // The time of everything: the option goes before the environment.
    let cli = with("FROM scratch\nCOPY <<f /\nf\n");
    let plain = id(&build(&cli, ""));
    let given = id(&build(&cli, "--build-arg SOURCE_DATE_EPOCH=86400"));
    assert_ne!(given, plain);
    let mut command =
        cli.command("image build -q ctx --tag made --build-arg SOURCE_DATE_EPOCH=86400");
    command.env("SOURCE_DATE_EPOCH", "5");
    assert_eq!(id(&super::Done::of(&mut command)), given);
    build(&cli, "--build-arg SOURCE_DATE_EPOCH=soon").failed(1, &["SOURCE_DATE_EPOCH=soon"]);
}

#[test]
fn directives_and_odd_lines_are_read_as_docker_reads_them() {
    for (recipe, want) in [
        (
            "# syntax=docker/dockerfile:1\n# escape=`\nFROM scratch\nCOPY a `\n /x\n",
            &["/x"] as &[&str],
        ),
        (
            "#escape = \\\nFROM scratch\nCOPY a \\\n# between\n\n   # and more\n /x\n",
            &["/x"],
        ),
        ("FROM scratch\ncopy a /x\n", &["/x"]),
        (
            "from scratch As s\nFrOm S\nCOPY --from=S / /\nCOPY a /x\n",
            &["/x"],
        ),
        ("\u{feff}FROM scratch\r\nCOPY a /x\r\n", &["/x"]),
        ("  # comment\n\tFROM scratch\n   COPY\ta\t/x   \n", &["/x"]),
        ("FROM scratch\nCOPY a /x", &["/x"]),
        ("FROM scratch\nCOPY a /x \\", &["/x"]),
        ("FROM scratch\nCOPY a /x \\  \t\n", &["/x"]),
        ("FROM scratch\n\\\nCOPY a /x\n", &["/x"]),
    ] {
        let cli = with(recipe);
        cli.file("ctx/a", "a");
        id(&build(&cli, ""));
        assert_eq!(tree(&cli), want, "{recipe:?}");
    }
}
