//! Texts, and the lines that they come to.

use super::*;

fn texts(recipe: &str) -> Vec<String> {
    let lexed = lex(recipe).unwrap();
    lexed.lines.into_iter().map(|line| line.text).collect()
}

#[test]
fn lines_are_joined_as_buildkit_joins_them() {
    for (recipe, want) in [
        ("FROM a\nRUN b", vec!["FROM a", "RUN b"]),
        ("  FROM a\r\n\tRUN b\r\n", vec!["FROM a", "RUN b"]),
        ("RUN a \\\n  b", vec!["RUN a   b"]),
        ("RUN a\\\nb", vec!["RUN ab"]),
        ("RUN a \\  \t\n b", vec!["RUN a  b"]),
        ("RUN a \\\n# a comment\n  # another\n b", vec!["RUN a  b"]),
        ("RUN a \\\n\n b", vec!["RUN a  b"]),
        ("RUN a \\\\\nCMD b", vec!["RUN a \\\\", "CMD b"]),
        (
            "# escape=`\nRUN a `\nb \\\nCMD c",
            vec!["RUN a b \\", "CMD c"],
        ),
        ("RUN a # no comment", vec!["RUN a # no comment"]),
        ("\u{feff}FROM a", vec!["FROM a"]),
        ("RUN a \\", vec!["RUN a "]),
        ("\\\nFROM a", vec!["FROM a"]),
        ("\\", vec![]),
        ("", vec![]),
    ] {
        assert_eq!(texts(recipe), want, "{recipe:?}");
    }
}

#[test]
fn directives_stand_at_the_head_and_once() {
    let escape = |recipe: &str| lex(recipe).map(|lexed| lexed.escape);
    assert_eq!(escape("# escape=`\n"), Ok('`'));
    assert_eq!(escape("#!/usr/bin/env x\n#ESCAPE = `\n"), Ok('`'));
    assert_eq!(escape("# a comment\n# escape=`\n"), Ok('\\'));
    assert_eq!(escape("\n# escape=`\n"), Ok('\\'));
    assert_eq!(escape("FROM a\n# escape=`\n"), Ok('\\'));
    assert_eq!(escape("# unknown=x\n# escape=`\n"), Ok('\\'));
    assert_eq!(escape("# check=skip=all\n# escape=`\n"), Ok('`'));
    for (recipe, want) in [
        (
            "# escape=`\n# escape=`",
            "line 2, column 1: the directive escape",
        ),
        ("# escape=x", "line 1, column 1: # escape=x: the escape"),
        (
            "# syntax=mine/front:1",
            "line 1, column 1: # syntax=mine/front:1",
        ),
        ("# syntax=docker/dockerfile:2", "another language"),
    ] {
        let told = lex(recipe).unwrap_err().to_string();
        assert!(told.contains(want), "{recipe:?}: {told}");
    }
    for fine in [
        "docker/dockerfile",
        "docker/dockerfile:1",
        "docker/dockerfile:1.7-labs",
        "docker.io/docker/dockerfile:1@sha256:00",
    ] {
        lex(&format!("# syntax={fine}\n")).unwrap();
    }
}

#[test]
fn positions_are_those_of_the_recipe() {
    let lexed = lex("FROM a\n  COPY b \\\n   \u{e9}c d").unwrap();
    let line = &lexed.lines[1];
    let of = |what: &str| {
        let at = line.position(line.text.find(what).unwrap());
        (at.line, at.column)
    };
    assert_eq!((of("COPY"), of("b")), ((2, 3), (2, 8)));
    assert_eq!((of("\u{e9}c"), of("d")), ((3, 4), (3, 7)));
    // In whatever order they are asked for.
    assert_eq!((of("d"), of("b"), of("\u{e9}c")), ((3, 7), (2, 8), (3, 4)));
    assert_eq!((of("COPY"), of("d"), of("COPY")), ((2, 3), (3, 7), (2, 3)));
}

#[test]
fn here_documents_end_with_their_name() {
    let lexed = lex("COPY <<A <<-\"B\" /x\n a\nA\n\t\tb\n\tB\nRUN c").unwrap();
    let docs = &lexed.lines[0].heredocs;
    assert_eq!((docs[0].content.as_str(), docs[0].expands), (" a\n", true));
    assert_eq!((docs[1].content.as_str(), docs[1].expands), ("b\n", false));
    assert_eq!(lexed.lines[1].text, "RUN c");
    assert!(lex("ENV a=<<A").unwrap().lines[0].heredocs.is_empty());
    let told = lex("RUN x\nRUN <<EOF\n a\n EOF").unwrap_err().to_string();
    assert!(told.starts_with("line 2, column 5: the here-document \"EOF\""));
}

#[test]
fn a_recipe_has_a_bound() {
    let told = lex(&" ".repeat(MAX_RECIPE_BYTES + 1)).unwrap_err();
    assert!(told.to_string().contains("may have 1048576"), "{told}");
    lex(&" ".repeat(MAX_RECIPE_BYTES)).unwrap();
    let lines = |count| "RUN x\n".repeat(count);
    let told = lex(&lines(MAX_INSTRUCTIONS + 1)).unwrap_err();
    assert!(told.to_string().contains("instructions"), "{told}");
    lex(&lines(MAX_INSTRUCTIONS)).unwrap();
}
