//! Words with variables, and what they come to.

use super::*;

fn lookup(name: &str) -> Option<String> {
    let value = match name {
        "A" => "a",
        "B" => "two words",
        "EMPTY" => "",
        "P" => "/usr/local/bin/tool.tar.gz",
        "STAR" => "a*b*c",
        _ => return None,
    };
    Some(value.to_owned())
}

fn of(text: &str) -> String {
    expand(text, '\\', Quoting::Words, &lookup).unwrap_or_else(|why| format!("ERR {why}"))
}

#[test]
fn words_expand_as_buildkit_expands_them() {
    for (text, want) in [
        ("plain", "plain"),
        ("$A", "a"),
        ("${A}", "a"),
        ("x$A.y", "xa.y"),
        ("$A$A", "aa"),
        ("$UNSET", ""),
        ("${UNSET}", ""),
        ("$", "$"),
        ("$ x", "$ x"),
        ("a$", "a$"),
        ("$1x", "x"),
        ("'$A'", "$A"),
        ("\"$A\"", "a"),
        ("\"${B}\"", "two words"),
        ("\\$A", "$A"),
        ("\"\\$A\"", "$A"),
        ("\"a\\b\"", "a\\b"),
        ("\"a\\\"b\"", "a\"b"),
        ("a\\b", "ab"),
        ("a\\\\b", "a\\b"),
        ("it\\'s", "it's"),
        ("'a'\"b\"c", "abc"),
        ("${A:-x}", "a"),
        ("${UNSET:-x}", "x"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY-x}", ""),
        ("${UNSET-x}", "x"),
        ("${UNSET:-$A}", "a"),
        ("${UNSET:-${UNSET:-${A}}}", "a"),
        ("${UNSET:-\"q q\"}", "q q"),
        ("${A:+x}", "x"),
        ("${EMPTY:+x}", ""),
        ("${EMPTY+x}", "x"),
        ("${UNSET+x}", ""),
        ("${A:?no}", "a"),
        ("${EMPTY?no}", ""),
        ("${P#/}", "usr/local/bin/tool.tar.gz"),
        ("${P#*/}", "usr/local/bin/tool.tar.gz"),
        ("${P##*/}", "tool.tar.gz"),
        ("${P%.*}", "/usr/local/bin/tool.tar"),
        ("${P%%.*}", "/usr/local/bin/tool"),
        ("${P%/*}", "/usr/local/bin"),
        ("${P%nothing}", "/usr/local/bin/tool.tar.gz"),
        ("${P#/???/}", "local/bin/tool.tar.gz"),
        ("${STAR#a\\*}", "b*c"),
        ("${STAR%\\**}", "a*b"),
        ("${P/local/opt}", "/usr/opt/bin/tool.tar.gz"),
        ("${P//\\//-}", "-usr-local-bin-tool.tar.gz"),
        ("${P/l*l/X}", "/usr/X.tar.gz"),
        ("${P/none/X}", "/usr/local/bin/tool.tar.gz"),
        ("${STAR//\\*/}", "abc"),
        ("${UNSET/a/b}", ""),
        ("${UNSET#a}", ""),
    ] {
        assert_eq!(of(text), want, "{text}");
    }
    let ticks = |text| expand(text, '`', Quoting::Words, &lookup).unwrap();
    assert_eq!(ticks("C:\\x`$A"), "C:\\x$A");
}

#[test]
fn what_cannot_be_expanded_is_told() {
    for (text, want) in [
        ("${A", "a `}` is missing"),
        ("${", "followed by a name"),
        ("${}", "followed by a name"),
        ("${:-x}", "followed by a name"),
        ("${A:x}", "write `:-`, `:+` or `:?`"),
        ("${A^}", "found '^'"),
        ("${A:-x", "a `}` is missing"),
        ("${A/x", "a `/` is missing"),
        ("'a", "a single quote is missing"),
        ("\"a", "a double quote is missing"),
        ("${UNSET:?give it}", "UNSET: give it"),
        ("${EMPTY:?}", "--build-arg EMPTY=VALUE"),
        ("${UNSET?}", "UNSET is not set"),
        ("${A#\\x}", "`\\x`"),
    ] {
        let told = of(text);
        assert!(
            told.starts_with("ERR ") && told.contains(want),
            "{text}: {told}"
        );
    }
}

#[test]
fn here_documents_keep_quotes_and_escapes() {
    let of = |text| expand(text, '\\', Quoting::Text, &lookup).unwrap();
    assert_eq!(of("\"$A\" 'b' \\n \\$A \\\\"), "\"a\" 'b' \\n $A \\");
}

#[test]
fn expansion_has_bounds() {
    let deep = |depth: usize| format!("{}x{}", "${U:-".repeat(depth), "}".repeat(depth));
    assert_eq!(of(&deep(MAX_EXPANSION_DEPTH - 1)), "x");
    assert!(of(&deep(MAX_EXPANSION_DEPTH)).contains("deep"));
    assert!(of(&deep(100_000)).contains("deep"));
    let large = |_: &str| Some("x".repeat(MAX_EXPANDED_BYTES / 2));
    let twice = |text| expand(text, '\\', Quoting::Words, &large);
    assert_eq!(twice("$A$A").unwrap().len(), MAX_EXPANDED_BYTES);
    assert!(twice("$A$A$A").unwrap_err().contains("more than"));
    assert!(twice("\"$A$A$A\"").unwrap_err().contains("more than"));
    assert!(twice("${A//x/xxx}").unwrap_err().contains("more than"));
    let slow = format!("${{A/{}y/z}}", "*x".repeat(1000));
    assert!(twice(&slow).unwrap_err().contains("steps"));
}

/// A word, the variables that are set, and what it comes to; `None` for one that is refused.
type WordCase = (
    &'static str,
    &'static [(&'static str, &'static str)],
    Option<&'static str>,
);

/// What BuildKit says of the same words is the measure.
const AS_BUILDKIT: &[WordCase] = &[
    // Quotes and escapes.
    ("he'll'o", &[], Some("hello")),
    ("he'llo", &[], None),
    (r"he\'llo", &[], Some("he'llo")),
    (r"he\\'llo", &[], None),
    (r"abc\tdef", &[], Some("abctdef")),
    (r#""abc\tdef""#, &[], Some(r"abc\tdef")),
    (r#""abc\\tdef""#, &[], Some(r"abc\tdef")),
    (r"'abc\tdef'", &[], Some(r"abc\tdef")),
    (r"hello\", &[], Some("hello")),
    (r"hello\\", &[], Some(r"hello\")),
    (r#""hello\""#, &[], None),
    (r#""hel'lo""#, &[], Some("hel'lo")),
    (r"'hello\'", &[], Some(r"hello\")),
    (r"'hello\\there'", &[], Some(r"hello\\there")),
    ("\"''\"", &[], Some("''")),
    ("\"\"", &[], Some("")),
    ("''", &[], Some("")),
    // Names.
    ("he$.x", &[], Some("he$.x")),
    ("he$1x", &[], Some("hex")),
    ("he$12x", &[("1", "no")], Some("hex")),
    ("he$$x", &[], Some("hex")),
    ("he$*x", &[], Some("hex")),
    ("$W_1-", &[("W_1", "v")], Some("v-")),
    ("$wx", &[("w", "no")], Some("")),
    (
        "\u{d55c}$\u{ae00} x",
        &[("\u{ae00}", "v")],
        Some("\u{d55c}v x"),
    ),
    (r"he\$W", &[("W", "v")], Some("he$W")),
    (r"he\\$W", &[("W", "v")], Some(r"he\v")),
    (r#""he\$W""#, &[("W", "v")], Some("he$W")),
    (r#""he\\$W""#, &[("W", "v")], Some(r"he\v")),
    (r"\${}", &[], Some("${}")),
    ("he${}", &[], None),
    ("he${", &[], None),
    ("he${hi", &[], None),
    ("he${{hi}}", &[], None),
    ("${:}", &[], None),
    // Words in place of values.
    (r"he${X:-\$W}xx", &[("W", "v")], Some("he$Wxx")),
    (r"he${X:-\${W}z}xx", &[("W", "v")], Some("he${Wz}xx")),
    ("he${X:-$W:}xx", &[("W", "v")], Some("hev:xx")),
    ("he${X:-)}xx", &[], Some("he)xx")),
    (
        "${F-a} ${B-b} ${Z-c}",
        &[("F", "x"), ("B", "")],
        Some("x  c"),
    ),
    (
        "${F:-a} ${B:-b} ${Z:-c}",
        &[("F", "x"), ("B", "")],
        Some("x b c"),
    ),
    (
        "${F+a} ${B+b} ${Z+c}",
        &[("F", "x"), ("B", "")],
        Some("a b "),
    ),
    (
        "${F:+a} ${B:+b} ${Z:+c}",
        &[("F", "x"), ("B", "")],
        Some("a  "),
    ),
    ("${F:-}", &[("F", "x")], Some("x")),
    ("${F:-}", &[], Some("")),
    ("${F?a}", &[("F", "x")], Some("x")),
    ("${F?a}", &[("F", "")], Some("")),
    ("${F?a}", &[], None),
    ("${F:?a}", &[("F", "")], None),
    ("${F=a}", &[("F", "x")], None),
    ("${F=}", &[], None),
    ("${V:+-${V}}.gz", &[("V", "v7")], Some("-v7.gz")),
    ("${V:+-${V}}.gz", &[("V", "")], Some(".gz")),
    // Ends that are cut off.
    (
        r"${F#()[]{\}^$.\*\?|\\}",
        &[("F", r"()[]{}^$.*?|\x")],
        Some("x"),
    ),
    (r"${F%%\**}", &[("F", "xx**")], Some("xx")),
    ("${F#*x*y}", &[("F", "xxyy")], Some("y")),
    ("${F#*}", &[("F", "xxyy")], Some("xxyy")),
    ("${F##*}", &[("F", "xxyy")], Some("")),
    ("${F#$B}", &[("F", "xxyy"), ("B", "x")], Some("xyy")),
    ("${F#$B}", &[("F", "xxyy"), ("B", "")], Some("xxyy")),
    ("${F#}${F##}${F%}${F%%}", &[("F", "a")], Some("aaaa")),
    ("${F##*x}", &[("F", "xxyy")], Some("yy")),
    (r"${F#?\?}", &[("F", "???y")], Some("?y")),
    ("${A:-.}${F%x}${A:-.}", &[("F", "xxyy")], Some(".xxyy.")),
    (r"${F%%\**\*}", &[("F", "a***yy*")], Some("a")),
    ("${F%%$B}", &[("F", "xxyy"), ("B", "")], Some("xxyy")),
    ("${F%\\", &[("F", "x")], None),
    (r"${F#\x}", &[("F", "x")], None),
    // What is put in the place of something else.
    (
        "${F/$N/.} - ${F//$N/.}",
        &[("F", "/foo*/*/*.txt"), ("N", r"\*/")],
        Some("/foo.*/*.txt - /foo..*.txt"),
    ),
    (
        "${F/$N/} - ${F//$N/}",
        &[("F", "/tmp/tmp/bar.txt"), ("N", "/tmp")],
        Some("/tmp/bar.txt - /bar.txt"),
    ),
    (
        "${F/$N/$R} - ${F//$N/$R}",
        &[("F", "/a/foo/b/c.txt"), ("N", "/?/"), ("R", "/")],
        Some("/foo/b/c.txt - /foo/c.txt"),
    ),
    (
        "${F/$N/$R}",
        &[("F", "http://x.de"), ("N", "http://"), ("R", "https://")],
        Some("https://x.de"),
    ),
    (
        r"${F//\//\/}",
        &[("F", "/tmp/f.txt")],
        Some(r"\/tmp\/f.txt"),
    ),
    ("${F//w}", &[("F", "x")], None),
    ("${F//}", &[("F", "x")], None),
    ("${F///}", &[("F", "xxyy")], Some("xxyy")),
    ("${F///}", &[], Some("")),
];

#[test]
fn words_come_to_what_buildkits_come_to() {
    for (text, set, want) in AS_BUILDKIT {
        let of = |name: &str| {
            let found = set.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let have = expand(text, '\\', Quoting::Words, &of);
        assert_eq!(have.as_deref().ok(), *want, "{text}: {have:?}");
    }
}
