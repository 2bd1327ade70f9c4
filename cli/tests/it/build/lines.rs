//! What instructions leave in the configuration, and recipes that mean harm.

use super::{Cli, build, id, inspect, tree, with};

#[test]
fn the_configuration_is_what_the_lines_say() {
    let cli = with(
        "ARG BASE=scratch\nFROM $BASE\nARG V=1\nENV A=$V B=\"two words\"\nLABEL k=v \"a b\"=c\nWORKDIR /srv\nWORKDIR app\nUSER 5:6\nEXPOSE 80 53/udp\nVOLUME /data more\nSTOPSIGNAL SIGTERM\nENTRYPOINT [\"/x.wasm\", \"-a\"]\nCMD [\"b\"]\nMAINTAINER me\nSHELL [\"/sh.wasm\", \"-c\"]\nHEALTHCHECK CMD x\n",
    );
    id(&build(
        &cli,
        "--build-arg V=2 --label l=m --set-platform linux/arm64",
    ));
    let told = inspect(&cli);
    let config = told.to_string();
    for part in [
        "\"A=2\"",
        "\"B=two words\"",
        "\"k\":\"v\"",
        "\"a b\":\"c\"",
        "/srv/app",
        "\"5:6\"",
        "80/tcp",
        "53/udp",
        "\"/data\"",
        "\"/srv/app/more\"",
        "SIGTERM",
        "/x.wasm",
        "\"l\":\"m\"",
        "arm64",
        "\"me\"",
    ] {
        assert!(config.contains(part), "{part} is not in {config}");
    }
    let history = cli.run("image history made").text();
    assert!(history.contains("ENV A=2 B=two words"), "{history}");
    assert!(history.contains("WORKDIR /srv/app"), "{history}");
    assert_eq!(tree(&cli), ["/srv", "/srv/app"]);
    // What a base says stays, but for the arguments of another entry point.
    cli.run("image tag made base").fine();
    cli.file(
        "ctx/Dockerfile",
        "FROM base\nENTRYPOINT [\"/y.wasm\"]\nENV A=3\n",
    );
    id(&build(&cli, ""));
    let config = inspect(&cli).to_string();
    assert!(
        config.contains("\"A=3\"") && config.contains("B=two words"),
        "{config}"
    );
    assert!(!config.contains("\"cmd\":[\"b\"]"), "{config}");
}

#[test]
fn every_refusal_names_the_recipe_the_line_and_what_to_write() {
    for (lines, parts) in [
        (
            "RUN make",
            &[
                "line 2, column 5",
                "this stage has none",
                "RUN [\"/PROGRAM.wasm\"",
                "SHELL [",
            ] as &[&str],
        ),
        (
            "CMD run me",
            &["line 2, column 5", "CMD [\"/PROGRAM.wasm\""],
        ),
        (
            "ENTRYPOINT ['a']",
            &["line 2, column 12", "not a JSON array"],
        ),
        (
            "RUN <<EOF\nx\nEOF",
            &["line 2, column 5", "this stage has none"],
        ),
        ("ADD https://x/y /", &["line 2, column 5"]),
        ("ONBUILD RUN x", &["line 2, column 1"]),
        (
            "RUN --mount=type=secret,required,id=k [\"a\"]",
            &["line 2, column 5", "--secret id=k"],
        ),
        (
            "RUN --mount=target=/ [\"a\"]",
            &["line 2, column 5", "target=/DIR"],
        ),
        (
            "RUN --mount=target=/a --mount=type=tmpfs,target=/a/b [\"a\"]",
            &["line 2, column 23", "choose targets apart"],
        ),
        (
            "COPY --from=$X a b",
            &["line 2, column 6", "--from takes no variables"],
        ),
        ("WORKDIR $NONE", &["line 2, column 1"]),
        (
            "FROM none:1",
            &["line 2, column 6", "docker.io/library/none:1"],
        ),
        (
            "FROM $NONE",
            &["line 2, column 6", "ARG before the first FROM"],
        ),
        (
            "FROM Bad_Name",
            &["line 2, column 6", "invalid image reference"],
        ),
        (
            "FROM --platform=x scratch",
            &["line 2, column 6", "--platform=x"],
        ),
    ] {
        // The step before would fail if anything ran.
        let cli = with(&format!("FROM scratch\n{lines}\n"));
        build(&cli, "").failed(1, &[&["ctx/Dockerfile: "], parts].concat());
        assert!(
            !cli.run("image ls --all").text().contains("BUILD"),
            "{lines}"
        );
    }
    let cli = Cli::new();
    cli.file("ctx/a", "a");
    build(&cli, "").failed(1, &["ctx: no recipe there", "-f RECIPE"]);
    cli.run("image build -q ctx").refused(&["--tag"]);
    cli.run("image build -q ctx --tag a --secret x")
        .refused(&["id=NAME"]);
    cli.run("image build -q ctx --tag a -o type=x,dest=y")
        .refused(&["oci-archive"]);
    cli.run("image build -q -f none ctx --tag a")
        .failed(1, &["none"]);
}

#[test]
fn arguments_are_seen_where_docker_sees_them() {
    // The lines, and what `ENV R=...` at their end comes to.
    for (lines, want) in [
        ("ARG A=1\nFROM scratch\nENV R=$A", ""),
        ("ARG A=1\nFROM scratch\nARG A\nENV R=$A", "1"),
        ("ARG A=1\nFROM scratch\nARG A=2\nENV R=$A", "2"),
        ("ARG A=1 B=${A}x\nFROM scratch\nARG B\nENV R=$B", "1x"),
        ("FROM scratch\nENV R=$A\nARG A=1", ""),
        ("FROM scratch\nARG A=1\nENV A=2\nENV R=$A", "2"),
        ("FROM scratch\nENV A=2\nARG A=1\nENV R=$A", "2"),
        ("FROM scratch\nARG A=1\nARG A=2\nENV R=$A", "2"),
        ("FROM scratch\nARG A=1\nARG B=$A$A\nENV R=$B", "11"),
        // A stage that begins with another has its arguments, and one beside it has not.
        ("FROM scratch AS s\nARG A=1\nFROM s\nENV R=$A", "1"),
        (
            "FROM scratch AS s\nARG A=1\nFROM s AS t\nFROM t\nENV R=$A",
            "1",
        ),
        ("FROM scratch AS s\nARG A=1\nFROM s\nARG A=2\nENV R=$A", "2"),
        ("FROM scratch AS s\nARG A=1\nFROM scratch\nENV R=$A", ""),
        ("FROM scratch AS s\nENV A=1\nFROM s\nENV R=$A", "1"),
        ("FROM scratch\nARG G\nENV R=${G:-none}", "given"),
        ("FROM scratch\nARG G=own\nENV R=$G", "given"),
        ("ARG G=own\nFROM scratch\nARG G\nENV R=$G", "given"),
        ("FROM scratch\nENV R=${G-none}", "none"),
        ("FROM scratch\nARG TARGETARCH\nENV R=$TARGETARCH", "wasm"),
        ("FROM scratch\nENV R=$TARGETARCH", ""),
        ("FROM scratch\nENV A=1\nENV A=2 R=$A", "1"),
        ("FROM scratch\nENV R=\\$A", "$A"),
        ("FROM scratch\nARG A=1\nENV R='$A'", "$A"),
        ("FROM scratch\nARG A=1\nENV R=\"$A b\"", "1 b"),
        (
            "FROM scratch\nARG A=abcabc\nENV R=${A#a}${A##*b}${A%c}${A%%b*}${A/b/x}${A//b/x}",
            "bcabccabcabaaxcabcaxcaxc",
        ),
        (
            "FROM scratch\nARG A=\nENV R=${A:-x}${A-y}${A:+z}${A+w}",
            "xw",
        ),
    ] {
        let cli = with(&format!("{lines}\n"));
        let done = cli.run("image build -q ctx --tag made --build-arg G=given");
        assert_eq!(done.code, Some(0), "{lines}: {}", done.stderr);
        let env = inspect(&cli)["config"]["env"].to_string();
        let told = format!("\"R={want}\"");
        assert!(env.contains(&told), "{lines}: {env}");
    }
}

#[test]
fn ports_and_signals_are_what_readers_of_the_image_know() {
    let cli =
        with("FROM scratch\nEXPOSE 80 8000-8002/UDP\nEXPOSE 8001/udp\nSTOPSIGNAL sigrtmin+3\n");
    id(&build(&cli, ""));
    let config = &inspect(&cli)["config"];
    let ports = ["80/tcp", "8000/udp", "8001/udp", "8002/udp"];
    assert_eq!(config["exposed_ports"], serde_json::json!(ports));
    assert_eq!(config["stop_signal"], "sigrtmin+3");
    for (line, part) in [
        ("EXPOSE 2-1", "not a port"),
        ("EXPOSE 0", "not a port"),
        ("EXPOSE 80/ip", "not a port"),
        ("EXPOSE 65536", "not a port"),
        (
            "STOPSIGNAL SIGNONE",
            "not a signal: write STOPSIGNAL SIGTERM",
        ),
        ("STOPSIGNAL 0", "not a signal"),
        ("STOPSIGNAL 65", "not a signal"),
    ] {
        let cli = with(&format!("FROM scratch\n{line}\n"));
        build(&cli, "").failed(1, &["line 2", part]);
    }
}

#[test]
fn warnings_are_told_and_stop_nothing() {
    let cli = with("FROM scratch\nHEALTHCHECK CMD x\nMAINTAINER me\n");
    let done = cli.run("image build ctx --tag made --build-arg NONE=1 --progress plain");
    assert_eq!(done.code, Some(0));
    for part in [
        "line 2, column 1: HEALTHCHECK",
        "MAINTAINER",
        "--build-arg NONE",
        "#3 of 3: [0] MAINTAINER me",
    ] {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
}

#[test]
fn hostile_recipes_end_by_a_bound() {
    let doubling = format!(
        "FROM scratch\nENV A={}\n{}",
        "x".repeat(100),
        "ENV A=$A$A\n".repeat(60)
    );
    let large = format!(
        "FROM scratch\nENV A={}\n{}",
        "x".repeat(100),
        "ENV A=$A$A\n".repeat(12)
    );
    let runs = format!("{large}{}", "RUN [\"/a\"]\n".repeat(300));
    let args: String = (0..300).map(|at| format!("ARG A{at}=$A\n")).collect();
    let labels: String = (0..300).map(|at| format!("LABEL l{at}=$A\n")).collect();
    let stages: String = (0..300)
        .map(|at| format!("FROM s{at} AS s{}\n", at + 1))
        .collect();
    let stages = format!(
        "{}{stages}",
        large.replace("FROM scratch", "FROM scratch AS s0")
    );
    let nested = format!(
        "FROM scratch\nENV A={}{}\n",
        "${B:-".repeat(10_000),
        "}".repeat(10_000)
    );
    let chain: String = (0..2000)
        .map(|at| format!("FROM scratch AS s{at}\n"))
        .collect();
    let many = "RUN x\n".repeat(1_000_000);
    let lines = format!("FROM scratch\n{}", "WORKDIR /\n".repeat(11_000));
    for (recipe, part) in [
        (doubling, "more than"),
        (runs, "with all its variables replaced"),
        (format!("{large}{args}"), "with all its variables replaced"),
        (
            format!("{large}{labels}"),
            "with all its variables replaced",
        ),
        (stages, "with all its variables replaced"),
        (nested, "deep"),
        (chain, "1000 stages"),
        (many, "it may have 1048576 bytes"),
        (lines, "10000 instructions"),
        ("FROM a\0b\n".to_owned(), "invalid image reference"),
        ("FROM scratch\nCOPY <<A /\n".to_owned(), "does not end"),
    ] {
        let cli = with(&recipe);
        let done = build(&cli, "");
        assert_eq!(done.code, Some(1), "{part}: {}", done.stderr);
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    let cli = with("");
    cli.file("ctx/Dockerfile", b"FROM \xff\n");
    build(&cli, "").failed(1, &["not UTF-8 at byte 5"]);
    // Stages that build on each other are no recursion.
    let chain: String = (1..1000)
        .map(|at| format!("FROM s{} AS s{at}\n", at - 1))
        .collect();
    let cli = with(&format!("FROM scratch AS s0\n{chain}"));
    id(&build(&cli, ""));
}

fn id_of(cli: &super::Cli) -> String {
    id(&build(cli, ""))
}

#[test]
fn outputs_and_digests_are_written() {
    let cli = with("FROM scratch\nCOPY <<f /\ntext\nf\n");
    let words =
        "image build -q ctx --iidfile id -o out -o type=tar,dest=t.tar -o type=oci,dest=lay";
    let id = cli.run(words).fine().text();
    let written = std::fs::read_to_string(cli.path("id")).unwrap();
    assert_eq!(id.trim(), written);
    assert_eq!(std::fs::read(cli.path("out/f")).unwrap(), b"text\n");
    assert!(cli.path("t.tar").is_file() && cli.path("lay/index.json").is_file());
    let done = cli.run("image build -q ctx -o -");
    assert_eq!(&done.fine().stdout[257..262], b"ustar");
    // The same where stdout is a file.
    let mut command = cli.command("image build -q ctx -o type=oci-archive,dest=-");
    let file = std::fs::File::create(cli.path("stdout.tar")).unwrap();
    assert!(command.stdout(file).status().unwrap().success());
    let written = std::fs::read(cli.path("stdout.tar")).unwrap();
    assert_eq!(&written[257..262], b"ustar");
    cli.run("image build -q ctx -o - --json")
        .refused(&["stdout is asked for twice"]);
    cli.run("image build -q ctx -o type=dir,dest=-")
        .refused(&["type=tar,dest=-"]);
    for output in ["--iidfile no/where", "-o type=tar,dest=no/where"] {
        let failed = cli.run(&format!("image build -q ctx --tag late:1 {output}"));
        assert_eq!(failed.code, Some(1), "{output}");
        assert_eq!(cli.run("image inspect late:1").code, Some(1), "{output}");
    }
    // What cannot be written is found out before anything is built.
    let cli = with("FROM scratch\nCOPY <<f /\nother\nf\n");
    cli.file("full/x", "").file("file", "");
    for (words, part) in [
        ("-o full", "full: is there already"),
        ("-o file", "file: is there already"),
        ("-o type=tar,dest=full", "full"),
        ("-o no/where", "no/where"),
        ("--iidfile full", "full"),
    ] {
        build(&cli, words).failed(1, &[part]);
        assert!(!cli.path("store").exists(), "{words}");
    }
    build(&cli, "-o type=tar,dest=./t --iidfile t").refused(&["two outputs go there"]);
    assert_eq!(cli.names(), ["ctx", "file", "full"]);
    // Of a build that fails nothing is left.
    cli.file("ctx/Dockerfile", "FROM scratch\nCOPY none /\n");
    build(&cli, "-o out -o type=tar,dest=t --iidfile id").failed(1, &["line 2"]);
    assert_eq!(cli.names(), ["ctx", "file", "full", "store"]);
    let cli = with("FROM scratch\nCOPY <<f /\ntext\nf\n");
    let written = id_of(&cli);
    // A recipe comes by stdin as well.
    let mut command = cli.command("image build -q -f - ctx --tag a --tag b:1");
    command.stdin(std::fs::File::open(cli.path("ctx/Dockerfile")).unwrap());
    let done = super::Done::of(&mut command);
    assert_eq!(done.fine().text().lines().count(), 2);
    assert!(done.text().contains(&written));
}
