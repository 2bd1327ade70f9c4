//! Each instruction as it is read, and each line that is refused.

use super::*;
use crate::recipe::{MountKind, StageSource};

/// The instruction after `FROM scratch`.
fn body(line: &str) -> InstructionBody {
    let recipe = parse(&format!("FROM scratch\n{line}")).unwrap();
    let mut stage = recipe.stages.into_iter().next().unwrap();
    stage.instructions.remove(0).body
}

fn words(pieces: &[Piece]) -> Vec<&str> {
    pieces.iter().map(|piece| piece.text.as_str()).collect()
}

fn pairs(line: &str) -> Vec<(String, String)> {
    match body(line) {
        InstructionBody::Env(pairs) | InstructionBody::Label(pairs) => pairs
            .into_iter()
            .map(|(key, value)| (key.text, value.text))
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn env_and_label_take_pairs() {
    let of = |all: &[(&str, &str)]| -> Vec<(String, String)> {
        let all = all.iter();
        all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    for (line, want) in [
        ("ENV a=b", of(&[("a", "b")])),
        ("env a=b c=d", of(&[("a", "b"), ("c", "d")])),
        ("ENV a b c", of(&[("a", "b c")])),
        ("ENV a  b=c ", of(&[("a", "b=c")])),
        (
            "ENV a=\"b c\" d='e f'",
            of(&[("a", "\"b c\""), ("d", "'e f'")]),
        ),
        ("ENV a=b\\ c d=", of(&[("a", "b\\ c"), ("d", "")])),
        ("ENV a=b \\\n  c=d", of(&[("a", "b"), ("c", "d")])),
        ("LABEL \"a b\"=c", of(&[("\"a b\"", "c")])),
        ("LABEL a b", of(&[("a", "b")])),
    ] {
        assert_eq!(pairs(line), want, "{line}");
    }
}

#[test]
fn commands_are_arrays_or_text() {
    let of = |line: &str| match body(line) {
        InstructionBody::Cmd(command) | InstructionBody::Entrypoint(command) => command,
        InstructionBody::Run(run) => run.command,
        other => panic!("{other:?}"),
    };
    let exec =
        |words: &[&str]| CommandLine::Exec(words.iter().map(|word| (*word).to_owned()).collect());
    for (line, want) in [
        (r#"CMD ["a", "b c"]"#, exec(&["a", "b c"])),
        (r#"RUN ["\u0061"]"#, exec(&["a"])),
        ("CMD []", exec(&[])),
        ("RUN --mount=type=tmpfs,target=/x [\"a\"]", exec(&["a"])),
        ("RUN -- [\"a\"]", exec(&["a"])),
    ] {
        assert_eq!(of(line), want, "{line}");
    }
    for (line, want) in [
        ("CMD a b  c ", "a b  c"),
        ("RUN ['a']", "['a']"),
        ("RUN [\"a\"] && b", "[\"a\"] && b"),
    ] {
        let CommandLine::Shell(text) = of(line) else {
            panic!("{line}")
        };
        assert_eq!(text.text, want);
    }
}

#[test]
fn copy_and_add_are_read() {
    let of = |line: &str| match body(line) {
        InstructionBody::Copy(line) | InstructionBody::Add(line) => line,
        other => panic!("{other:?}"),
    };
    let line =
        of("COPY --from=0 --chown=1:2 --chmod=755 --link --exclude=*.md --exclude=x a b /c/");
    assert_eq!(words(&line.sources), ["a", "b"]);
    assert_eq!(line.to.unwrap().text, "/c/");
    assert_eq!(words(&line.excludes), ["*.md", "x"]);
    assert_eq!((line.from.unwrap().text, line.link), ("0".to_owned(), true));
    let line = of("COPY [\"a b\", \"c d/\"]");
    assert_eq!(
        (words(&line.sources), line.to.unwrap().text),
        (vec!["a b"], "c d/".into())
    );
    let line = of("COPY <<a <<\"b\" /c/\n1\na\n2\nb");
    assert_eq!((line.sources.len(), line.heredocs.len()), (0, 2));
    assert_eq!(of("ADD --unpack=false a b").unpack, Some(false));
    assert!(!of("COPY --link=false a b").link);
}

#[test]
fn mounts_are_read() {
    let of = |mount: &str| match body(&format!("RUN --mount={mount} [\"a\"]")) {
        InstructionBody::Run(mut run) => run.mounts.remove(0),
        other => panic!("{other:?}"),
    };
    let mount = of("type=bind,from=x,source=a,target=/b");
    assert!(mount.read_only && matches!(mount.kind, MountKind::Bind { from: Some(_), .. }));
    assert!(!of("target=/b,rw").read_only);
    assert!(matches!(
        of("type=cache,dst=/c,id=x").kind,
        MountKind::Cache { .. }
    ));
    assert_eq!(
        of("TYPE=Tmpfs,Target=/t,size=64MiB").kind,
        MountKind::Tmpfs {
            size: Some(64 << 20)
        }
    );
    assert_eq!(
        of("type=tmpfs,target=/t").kind,
        MountKind::Tmpfs { size: None }
    );
    assert!(!of("target=/b,readonly=F").read_only);
    assert!(of("target=/b,readwrite=false").read_only);
    assert!(of("type=tmpfs,target=/b,ro=True").read_only);
    assert!(matches!(
        of("type=cache,target=/c,sharing=LOCKED").kind,
        MountKind::Cache { locked: true, .. }
    ));
    assert!(matches!(
        of("type=secret,src=k").kind,
        MountKind::Secret { id: Some(id), .. } if id == "k"
    ));
    let secret = of("type=secret,id=k,required,env=KEY");
    let want = MountKind::Secret {
        id: Some("k".into()),
        variable: Some("KEY".into()),
        required: true,
    };
    assert_eq!(secret.kind, want);
}

#[test]
fn stages_are_found_by_name_and_number() {
    let recipe =
        parse("ARG V=1\nFROM a AS One\nFROM one as two\nCOPY --from=0 x y\nFROM b\nRUN --mount=from=TWO,target=/x [\"a\"]\nFROM c")
            .unwrap();
    assert_eq!((recipe.head.len(), recipe.stages.len()), (1, 4));
    assert_eq!(recipe.find("ONE", 4, false), StageSource::Stage(0));
    assert_eq!(recipe.find("1", 4, true), StageSource::Stage(1));
    assert_eq!(recipe.find("1", 4, false), StageSource::Other("1".into()));
    assert_eq!(
        recipe.find("two", 1, true),
        StageSource::Other("two".into())
    );
    assert_eq!(recipe.target(None), Some(3));
    assert_eq!(recipe.target(Some("two")), Some(1));
    assert_eq!(recipe.target(Some("3")), Some(3));
    assert_eq!(recipe.target(Some("nine")), None);
    let base = |at: usize| recipe.stages[at].image.text.clone();
    assert_eq!(recipe.needed(3, base), [3]);
    assert_eq!(recipe.needed(2, base), [0, 1, 2]);
}

/// Lines after `FROM scratch`, where each is wrong, and what is told; nothing for one that is fine.
const REFUSED: &[(&str, &str, &[&str])] = &[
    (
        "RNU x",
        "2, column 1",
        &["\"RNU\" is not an instruction", "RUN"],
    ),
    ("  ONBUILD RUN x", "2, column 3", &["ONBUILD"]),
    ("ENV", "2, column 1", &["ENV NAME=VALUE"]),
    (
        "ENV a",
        "2, column 5",
        &["\"a\" has no value", "ENV a=VALUE"],
    ),
    ("ENV a=b c", "2, column 9", &["\"c\" has no `=`"]),
    ("ENV a=b =c", "2, column 9", &["without a name"]),
    (
        "LABEL",
        "2, column 1",
        &["LABEL needs a name", "LABEL NAME=VALUE"],
    ),
    (
        "LABEL a=b c",
        "2, column 11",
        &["\"c\" has no `=`", "double quotes"],
    ),
    ("MAINTAINER", "2, column 1", &["MAINTAINER needs a name"]),
    ("STOPSIGNAL --x 9", "2, column 12", &["takes no flags"]),
    ("USER --x me", "2, column 6", &["takes no flags"]),
    ("ARG", "2, column 1", &["ARG NAME"]),
    ("ARG =x", "2, column 5", &["without a name"]),
    ("COPY a", "2, column 1", &["COPY SOURCE... DEST"]),
    ("ADD", "2, column 1", &["ADD SOURCE... DEST"]),
    (
        "COPY --form=x a b",
        "2, column 6",
        &["--form", "--from, --chown"],
    ),
    ("COPY --from a b", "2, column 6", &["--from=VALUE"]),
    ("COPY --link=maybe a b", "2, column 6", &["--link=false"]),
    ("ADD --from=x a b", "2, column 5", &["--from: unknown"]),
    (
        "ADD --checksum=sha256:0 a b",
        "2, column 5",
        &["leave it out"],
    ),
    (
        "ADD --keep-git-dir a b",
        "2, column 5",
        &["--build-context"],
    ),
    ("ADD https://x/y z", "2, column 5", &["--build-context"]),
    ("ADD git@x:y.git z", "2, column 5", &["--build-context"]),
    ("COPY a http://x b", "2, column 8", &["COPY --from=NAME"]),
    ("RUN", "2, column 1", &["RUN [\"/PROGRAM.wasm\"]"]),
    ("RUN []", "2, column 1", &["RUN needs a program"]),
    (
        "RUN [\"a\", 1]",
        "2, column 5",
        &["1 is not a string", "double quotes"],
    ),
    (
        "RUN --mount=type=ssh,target=/x [\"a\"]",
        "2, column 5",
        &["type=secret"],
    ),
    (
        "RUN --mount=type=odd,target=/x [\"a\"]",
        "2, column 5",
        &["type=odd", "type=bind"],
    ),
    (
        "RUN --mount=type=tmpfs [\"a\"]",
        "2, column 5",
        &["target=/DIR"],
    ),
    (
        "RUN --mount=type=tmpfs,target=/x,size=much [\"a\"]",
        "2, column 5",
        &["size=much", "512M"],
    ),
    (
        "RUN --mount=type=bind,target=/x,size=1 [\"a\"]",
        "2, column 5",
        &["type=bind,size", "leave it out"],
    ),
    (
        "RUN --mount=type=cache,target=/x,uid=1 [\"a\"]",
        "2, column 5",
        &["type=cache,uid", "no owners"],
    ),
    (
        "RUN --mount=type=secret,id=x,mode=0444 [\"a\"]",
        "2, column 5",
        &["type=secret,mode", "no modes"],
    ),
    (
        "RUN --mount=type=secret,id=x,source=y [\"a\"]",
        "2, column 5",
        &["given twice"],
    ),
    (
        "RUN --mount=type=secret,id=x,rw [\"a\"]",
        "2, column 5",
        &["leave rw out"],
    ),
    (
        "RUN --mount=type=secret,id=x,from=y [\"a\"]",
        "2, column 5",
        &["type=secret,from"],
    ),
    (
        "RUN --mount=type=bind,target=/x,sharing=locked [\"a\"]",
        "2, column 5",
        &["type=bind,sharing"],
    ),
    (
        "RUN --mount=type=bind,target=/x,required [\"a\"]",
        "2, column 5",
        &["type=bind,required"],
    ),
    (
        "RUN --mount=target=/x,dst=/y [\"a\"]",
        "2, column 5",
        &["given twice"],
    ),
    (
        "RUN --mount=target=/x,ro,rw [\"a\"]",
        "2, column 5",
        &["ro and rw together"],
    ),
    (
        "RUN --mount=from=$X,target=/x [\"a\"]",
        "2, column 5",
        &["from takes no variables", "FROM"],
    ),
    (
        "RUN --mount=type=cache,target=/x,odd [\"a\"]",
        "2, column 5",
        &["type=cache,odd: unknown"],
    ),
    (
        "RUN --network=none --network=none [\"a\"]",
        "2, column 20",
        &["--network is given twice"],
    ),
    (
        "COPY --from=a --from=b c d",
        "2, column 15",
        &["--from is given twice"],
    ),
    ("COPY [\"a\", 1]", "2, column 6", &["1 is not a string"]),
    (
        "RUN <<'EOF\nx\nEOF",
        "2, column 5",
        &["<<'EOF", "does not end"],
    ),
    (
        "RUN <<EOF\n#!/bin/x\nEOF",
        "2, column 5",
        &["begins with #!", "COPY <<script"],
    ),
    (
        "HEALTHCHECK",
        "2, column 1",
        &["HEALTHCHECK CMD PROGRAM", "HEALTHCHECK NONE"],
    ),
    ("HEALTHCHECK NONE x", "2, column 1", &["HEALTHCHECK NONE"]),
    ("HEALTHCHECK CMD", "2, column 1", &["HEALTHCHECK CMD"]),
    (
        "HEALTHCHECK --often CMD x",
        "2, column 13",
        &["--often", "--interval"],
    ),
    ("HEALTHCHECK --interval=5s --retries=3 CMD x", "", &[]),
    ("HEALTHCHECK NONE", "", &[]),
    ("RUN --security=sandbox [\"a\"]", "", &[]),
    (
        "RUN <<-EOF\n\t#!/x\n\tEOF",
        "2, column 5",
        &["begins with #!"],
    ),
    ("RUN <<EOF sh\n#!/bin/x\nEOF", "", &[]),
    (
        "RUN --mount=type=cache,target=/x,sharing=odd [\"a\"]",
        "2, column 5",
        &["sharing=odd", "sharing=locked"],
    ),
    (
        "RUN --mount=type=bind,target= [\"a\"]",
        "2, column 5",
        &["target=VALUE"],
    ),
    (
        "RUN --mount=target=/x,ro=2 [\"a\"]",
        "2, column 5",
        &["ro=2"],
    ),
    (
        "RUN --network=host [\"a\"]",
        "2, column 5",
        &["--network=none", "--allow-net"],
    ),
    (
        "RUN --security=insecure [\"a\"]",
        "2, column 5",
        &["leave it out"],
    ),
    ("RUN --device=x [\"a\"]", "2, column 5", &["leave it out"]),
    (
        "RUN --odd [\"a\"]",
        "2, column 5",
        &["--odd", "--mount and --network"],
    ),
    (
        "SHELL /bin/sh",
        "2, column 1",
        &["SHELL [\"/bin/sh.wasm\", \"-c\"]"],
    ),
    ("SHELL []", "2, column 1", &["JSON array"]),
    ("WORKDIR", "2, column 1", &["WORKDIR /DIR"]),
    ("WORKDIR --x /a", "2, column 9", &["--x", "takes no flags"]),
    ("USER", "2, column 1", &["USER NAME"]),
    ("EXPOSE", "2, column 1", &["EXPOSE 80/tcp"]),
    ("VOLUME", "2, column 1", &["VOLUME /DIR"]),
    ("VOLUME [1]", "2, column 8", &["1 is not a string"]),
    ("STOPSIGNAL", "2, column 1", &["STOPSIGNAL SIGTERM"]),
    ("CMD", "2, column 1", &["CMD needs a program"]),
    ("ENTRYPOINT {", "", &[]),
    ("FROM", "2, column 1", &["FROM IMAGE AS NAME"]),
    ("FROM a b", "2, column 1", &["FROM IMAGE AS NAME"]),
    (
        "FROM a AS 1x",
        "2, column 11",
        &["\"1x\" cannot be a stage's name"],
    ),
    ("FROM --odd=x a", "2, column 6", &["--odd", "--platform"]),
];

#[test]
fn each_line_that_is_refused_says_where_why_and_what_to_write() {
    for (line, place, parts) in REFUSED {
        let read = parse(&format!("FROM scratch\n{line}"));
        if parts.is_empty() {
            read.unwrap();
            continue;
        }
        let told = read.unwrap_err().to_string();
        assert!(
            told.starts_with(&format!("line {place}: ")),
            "{line}: {told}"
        );
        for part in *parts {
            assert!(told.contains(part), "{line}: {part:?} is not in {told}");
        }
    }
    for (recipe, part) in [
        ("", "line 1, column 1: the recipe has no FROM"),
        ("ARG a", "has no FROM"),
        ("# x\nRUN a\nFROM b", "line 2, column 1: only ARG"),
    ] {
        let told = parse(recipe).unwrap_err().to_string();
        assert!(told.contains(part), "{recipe:?}: {told}");
    }
}

#[test]
fn comments_to_this_program_belong_to_the_instruction_below_them() {
    let recipe = parse(
        "# stratafs: ignore-all=a\n# a comment\nFROM a\n# stratafs: ignore=b\n\nRUN x \\\n# stratafs: ignore=c\n y\n# stratafs: odd\nCMD z\n# stratafs: ignore=d\n",
    )
    .unwrap();
    let told = recipe.remarks.iter();
    let told: Vec<_> = told
        .map(|remark| (remark.at.line, remark.about, remark.value.as_str()))
        .collect();
    assert_eq!(told, [(1, 3, "a"), (4, 6, "b"), (7, 6, "c")]);
    let warned: Vec<_> = recipe.warnings.iter().map(|told| told.at.line).collect();
    assert_eq!(warned, [9]);
}

#[test]
fn what_is_odd_is_told_and_taken() {
    let recipe = parse("FROM a\nMAINTAINER me\nHEALTHCHECK CMD x\nRUN a \\\n\n b").unwrap();
    let lines: Vec<_> = recipe.warnings.iter().map(|told| told.at.line).collect();
    assert_eq!(lines, [5, 2, 3]);
}

#[test]
fn stages_have_a_bound() {
    use crate::limits::MAX_STAGES;
    let of = |count| parse(&"FROM a\n".repeat(count));
    assert!(of(MAX_STAGES).is_ok());
    assert!(
        of(MAX_STAGES + 1)
            .unwrap_err()
            .to_string()
            .contains("stages")
    );
}
