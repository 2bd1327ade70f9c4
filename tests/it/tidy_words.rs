//! The sources keep to the words of the field: what was renamed does not come back.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::rust::{sources, tokens, without_tests};
use crate::tidy::quoted;

/// The code of the packages.
const PACKAGES: [&str; 3] = ["src", "cli/src", "shim/src"];

/// Homemade words that no identifier may be, each with the word that took its place.
const GONE: &[(&str, &str)] = &[
    ("Shelf", "ChunkSink"),
    ("Shelving", "FileSink, RunTable"),
    ("Shelved", "RunSource"),
    ("ImportShelf", "PackSink"),
    ("shelf", "sink"),
    ("shelving", "run_table"),
    ("Packing", "PackWriter, MemberCompression"),
    ("Cutter", "FileCutter"),
    ("Twin", "FilesBySize"),
    ("Twins", "FilesBySize"),
    ("MAX_TWINS", "MAX_FILES_OF_ONE_SIZE"),
    ("MAX_TWIN_OBJECTS", "MAX_OBJECTS_BY_SIZE"),
    ("Storey", "LayerDir"),
    ("storeys", "layer_dirs"),
    ("Settled", "Resolved"),
    ("Places", "SlotsByNode"),
    ("Fresh", "DirtyBlocks"),
    ("Loose", "Detached"),
    ("Seat", "InstanceHost"),
    ("seat", "host"),
    ("Sort", "RecordKind, DocumentKind"),
    ("Things", "CatalogRecords"),
    ("poor", "underused"),
    ("is_poor", "is_underused"),
    ("at_hand", "load_layer"),
    ("Forged", "MalformedTable"),
    ("NoIndex", "IndexError"),
    ("NoHead", "HeadError"),
    ("NoObject", "LinkError"),
    ("NoLayer", "NotALayer"),
    ("Promise", "Mismatch"),
    ("Odd", "SpecialFile"),
    ("GrowingDir", "BuildDir"),
    ("set_held", "set_verified"),
    ("make_right", "heal"),
    ("lock_alone", "lock_exclusive"),
    ("written_anew", "rewritten"),
];

/// Words that nothing defined here may be named, each with what took its place. They are
/// also the names of other crates' items, so that using one is no mistake.
const GONE_FROM_DEFINITIONS: &[(&str, &str)] = &[
    ("Spot", "EntryPos"),
    (
        "Place",
        "ChunkPos, OciSource, CacheDir, DeviceInode, GuestSlot",
    ),
    (
        "Held",
        "OutputBuffer, PieceInner, HealOutcome, GuestPermits",
    ),
    ("Known", "ChunkIndex, KnownFormat, KnownInstance"),
    ("Found", "TableLookup, StoreState, FoundFile, FoundEntry"),
    ("Walk", "ImageWalk, LayerWalk, DirWalk"),
    ("Entry", "LayerEntry, TarEntry, CacheEntry"),
    ("Brought", "Dedup"),
    ("Lent", "Dedup"),
    ("Turn", "ImportLock"),
    ("Below", "HiddenLayer, Backing, SnapshotParents"),
    ("Terms", "WriteLimits, PullSettings"),
    ("Asks", "OpenRequest"),
    ("Reached", "Crossing"),
    ("Level", "Crossing"),
    ("By", "Caller"),
    ("Live", "VirtualHandle"),
    ("Census", "SharedCount"),
    ("Hold", "Charge"),
    ("rises", "check_order"),
    ("forged", "mark_malformed"),
    ("intact", "check_undamaged"),
    ("passing", "transient"),
    ("ruled", "with_rule"),
    ("showing", "with_virtual"),
    ("into_top", "into_preopen"),
    ("settle", "resolve_name, reap_orphans"),
    ("undo", "roll_back"),
    ("told", "reported"),
    ("tell", "report, print_lines"),
    ("tells", "is_active"),
    ("telling", "with_spans"),
    ("twin", "copy, fork"),
    ("twins", "files_by_size"),
];

/// Definitions that keep such a name: the steps of a walk and what it meets, as other
/// libraries for files call them.
const KEPT_DEFINITIONS: &[(&str, &str)] =
    &[("src/host/list.rs", "Entry"), ("src/host/list.rs", "Walk")];

/// What begins with this is named after a word of the list, but for a field that is part of
/// the public API.
const GONE_PREFIX: (&str, &str) = ("tell_", "report_, print_");
const KEPT_FIELD: &str = "tell_number";

/// Whether a file keeps to the second list.
fn is_mended(file: &str) -> bool {
    !file.ends_with("tests.rs") && !file.contains("/tests/")
}

/// The code of the packages without its unit tests, by file.
fn code() -> Vec<(String, String)> {
    let files = PACKAGES.iter().flat_map(|dir| sources(dir));
    files
        .map(|(file, source)| (file, without_tests(&source).to_owned()))
        .collect()
}

fn none(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

/// The old words that `source` has as identifiers, with their lines. Names from
/// elsewhere are left alone: what follows `::` or `.`, and variants of an enum.
fn old_words(file: &str, source: &str) -> Vec<String> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|before| tokens.get(before));
        let is_path = before.is_some_and(|before| before.is("::"));
        let after = tokens.get(at + 1);
        let is_path_of = after.is_some_and(|after| after.is("::"));
        let is_definition = before.is_some_and(|before| {
            [
                "struct", "enum", "trait", "type", "fn", "mod", "const", "let", "mut",
            ]
            .iter()
            .any(|word| before.is(word))
        });
        let is_field = after.is_some_and(|after| after.is(":"));
        let names_own = is_mended(file) && !is_path_of && (is_definition || is_field);
        let is_kept = KEPT_DEFINITIONS
            .iter()
            .any(|(home, word)| file == *home && token.is(word));
        let everywhere = GONE.iter().filter(|_| !is_path);
        // Elsewhere these are the names of other crates.
        let own = GONE_FROM_DEFINITIONS.iter();
        let own = own.filter(|_| names_own && !is_kept);
        let (prefix, better) = GONE_PREFIX;
        let has_prefix = names_own && token.text.starts_with(prefix) && !token.is(KEPT_FIELD);
        let word = everywhere.chain(own).find(|(old, _)| token.is(old));
        let word = word.map(|(_, new)| *new).or(has_prefix.then_some(better));
        let of_macro = at.checked_sub(2).and_then(|at| tokens.get(at));
        let is_macro = of_macro.is_some_and(|before| before.is("macro_rules"));
        let word = word.or((is_macro && token.is("words")).then_some("impl_names"));
        if let Some(new) = word {
            found.push(format!(
                "{file}:{}: `{}` is now {new}",
                token.line, token.text
            ));
        }
    }
    found
}

#[test]
fn old_words_do_not_come_back() {
    let files = code();
    assert!(files.len() > 200, "the sources were not found");
    let found = files
        .iter()
        .flat_map(|(file, source)| old_words(file, source));
    none("words that were replaced", &found.collect::<Vec<_>>());
}

#[test]
fn old_words_are_found_in_code_alone() {
    let source = "// a Shelf\nstruct Shelf;\nstruct Spot { told: u8 }\nfn f(x: other::Sort) {}\n\
                  fn tell_all() { let mut told = 1; if let Entry::Vacant(tell) = other::tell() {} }\n\
                  macro_rules! words { () => {} }\n";
    let lines = |file| {
        old_words(file, source)
            .iter()
            .map(|found| found.split(": ").next().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        lines("cli/src/a/tests.rs"),
        ["cli/src/a/tests.rs:2", "cli/src/a/tests.rs:6"]
    );
    let numbers = [2, 3, 3, 5, 5, 6].map(|line| format!("cli/src/a.rs:{line}"));
    assert_eq!(lines("cli/src/a.rs"), numbers);
}

/// Types that share a name because they are the same idea: the shared part behind a
/// handle, one type built twice for two kinds of system, and the streams of two versions
/// of WASI with what stands for descriptors and ends of streams there. The numbers may only
/// shrink.
const SHARED: &[(&str, usize)] = &[
    ("Inner", 8),
    ("Memory", 2),
    ("Host", 2),
    ("ReadStream", 2),
    ("WriteStream", 2),
    ("Fd", 3),
    ("StreamEnd", 2),
    ("StreamAndEnd", 2),
];

/// The types that a package defines, by name, with where. Types that belong to a trait are
/// named by it, and so is what is declared inside functions and tests: of `type` those count
/// that stand at the beginning of a line.
fn defined_types(package: &str, files: &[(String, String)]) -> BTreeMap<String, Vec<String>> {
    let mut defined: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let own = files
        .iter()
        .filter(|(file, _)| file.starts_with(package) && !file.ends_with("tests.rs"));
    for (file, source) in own {
        let lines: Vec<&str> = source.lines().collect();
        for pair in tokens(source).windows(2) {
            let line = lines.get(pair[0].line - 1).copied().unwrap_or_default();
            let is_alias = pair[0].is("type") && !line.starts_with(' ');
            let defines = ["struct", "enum", "trait", "union"]
                .iter()
                .any(|word| pair[0].is(word));
            if (defines || is_alias) && pair[1].is_word() {
                let place = format!("{file}:{}", pair[1].line);
                defined.entry(pair[1].text.clone()).or_default().push(place);
            }
        }
    }
    defined
}

/// The names of several types, but for those that `shared` allows.
fn ambiguous(defined: &BTreeMap<String, Vec<String>>, shared: &[(&str, usize)]) -> Vec<String> {
    let shared: BTreeMap<_, _> = shared.iter().copied().collect();
    let wrong = defined.iter().filter_map(|(name, places)| {
        let allowed = shared.get(name.as_str()).copied().unwrap_or(1);
        (places.len() > allowed).then(|| format!("{name}: {}", places.join(", ")))
    });
    wrong.collect()
}

#[test]
fn each_type_has_a_name_of_its_own() {
    let files = code();
    let mut wrong = ambiguous(&defined_types("src/", &files), SHARED);
    wrong.extend(ambiguous(&defined_types("cli/src/", &files), &[]));
    none(
        "names that stand for several types: give each its own",
        &wrong,
    );
    let source = "struct A;\npub type B = u8;\nimpl C for A {\n    type B = u8;\n}\nenum A {}\n";
    let files = [("src/a.rs".to_owned(), source.to_owned())];
    let found = ambiguous(&defined_types("src/", &files), &[]);
    assert_eq!(found, ["A: src/a.rs:1, src/a.rs:6"]);
}

/// The line of the item that is documented or annotated above: the first that belongs to no
/// comment and no attribute, which may have several lines.
fn item<'a>(lines: &[&'a str]) -> Option<&'a str> {
    let mut open = 0_usize;
    for line in lines {
        if open == 0 && line.starts_with("//") {
            continue;
        }
        if open == 0 && !line.starts_with("#[") {
            return Some(line);
        }
        open = (open + line.matches('[').count()).saturating_sub(line.matches(']').count());
    }
    None
}

/// Whether a line begins a function, of whatever visibility.
fn is_function(line: &str) -> bool {
    let mut words = line.split_whitespace().skip_while(|word| {
        word.starts_with("pub")
            || word.ends_with(')')
            || ["in", "const", "async", "unsafe"].contains(word)
    });
    words.next() == Some("fn")
}

/// Functions whose documentation begins with one of `words`, by line.
fn begins_with(source: &str, words: &[&str]) -> Vec<usize> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let is_first = at == 0 || !lines[at - 1].starts_with("///");
        let begins = words.iter().any(|word| {
            let text = line.strip_prefix("/// ");
            text.and_then(|text| text.strip_prefix(word))
                .is_some_and(|rest| rest.starts_with(' '))
        });
        if is_first && begins && item(&lines[at..]).is_some_and(is_function) {
            found.push(at + 1);
        }
    }
    found
}

#[test]
fn functions_say_what_they_return() {
    let mut wrong = Vec::new();
    for (file, source) in code() {
        let lines = begins_with(&source, &["Gives", "Tells"]);
        wrong.extend(lines.iter().map(|line| format!("{file}:{line}")));
    }
    none("write \"Returns ...\", as std does", &wrong);
    let source = "/// Gives it.\n#[must_use]\npub fn a() {}\n/// Gives it.\nfn b() {}\n\
                  /// One.\n/// Gives it.\npub fn c() {}\n/// Tells all.\npub const fn d() {}\n\
                  /// Gives it.\n#[cfg(any(\n    a,\n))]\npub(in crate::a) async fn e() {}\n\
                  /// Gives it.\nstruct F;\n";
    assert_eq!(begins_with(source, &["Gives", "Tells"]), [1, 4, 9, 11]);
}

/// Public functions whose documentation does not begin with a verb that says what they do,
/// such as `Returns`, by line.
fn begins_without_verb(source: &str) -> Vec<usize> {
    const NO_VERBS: [&str; 4] = ["As", "Bytes", "Nanoseconds", "This"];
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let is_first = at == 0 || !lines[at - 1].starts_with("///");
        let Some(text) = line.strip_prefix("/// ").filter(|_| is_first) else {
            continue;
        };
        let first = text.split(' ').next().unwrap_or_default();
        let is_verb = first.ends_with('s') && first.chars().all(char::is_alphabetic);
        let is_verb = is_verb && !NO_VERBS.contains(&first);
        let is_public =
            item(&lines[at..]).is_some_and(|item| is_function(item) && item.starts_with("pub "));
        if is_public && !is_verb {
            found.push(at + 1);
        }
    }
    found
}

#[test]
fn public_functions_say_what_they_do() {
    let mut wrong = Vec::new();
    for (file, source) in code() {
        if file.starts_with("src/") {
            let lines = begins_without_verb(&source);
            wrong.extend(lines.iter().map(|line| format!("{file}:{line}")));
        }
    }
    none("begin with a verb: \"Returns\", \"Makes\"", &wrong);
    let source = "/// The root.\n#[must_use]\npub fn a() {}\n/// Makes it.\npub fn b() {}\n\
                  /// The one.\nfn c() {}\n/// As `a`.\npub async fn d() {}\n";
    assert_eq!(begins_without_verb(source), [1, 8]);
}

/// Phrases that had to be read twice, each with how the same is said plainly. They are
/// looked for in the code of both packages, comments and texts alike, and in the pages.
const RIDDLES: &[(&str, &str)] = &[
    ("need not know", "does not notice"),
    ("drawn anew", "made again"),
    ("draw anew", "make again"),
    ("what to log in with", "credentials"),
    ("spoken to so", "plain HTTP is used for it"),
    ("spoken to in plain text", "reached by plain HTTP"),
    ("over the line", "sent and fetched"),
    ("left away", "left out"),
    ("is none any more", "is not one any more"),
    ("none is ever asked", "no registry is asked"),
    ("what it goes by", "its settings, its rules"),
    ("the run goes by", "the settings of the run"),
    ("One that knows something counts", "is used"),
    ("is no text", "is not text"),
    ("is no name of", "is not the name of"),
    ("is no terminal to", "is not a terminal"),
    ("are none together", "do not make an image together"),
    ("says of itself; its", "its configuration"),
    ("Nobody is spoken to", "no connection is opened"),
    ("whatever goes by a", "anything that has a"),
    ("is there is not sent", "what the registry has is not sent"),
    ("told by its marks", "is recognised by"),
    ("Without a wish", "if none is asked for"),
    ("at the first question", "when it is first needed"),
    ("told again by", "is returned by"),
    ("may be told of", "may be reported"),
    ("is for the writer to choose", "the writer chooses"),
    ("of the host's making", "provided by the host"),
    ("way a guest came", "the path it was opened by"),
    ("be met by either", "may or may not be observed"),
    ("lock's hold", "the same lock guard"),
    ("are no names", "are not valid names"),
    ("} was promised, {", "expected ..., found ..."),
    ("leave it away", "leave it out"),
    ("leave one away", "leave one out"),
];

/// Phrases that are no riddles on every page, but in the code.
const RIDDLES_OF_CODE: &[(&str, &str)] = &[
    ("goes by", "depends on, is named, its settings"),
    ("come by:", "obtained:"),
    ("that it came by", "that it was pulled by"),
];

/// The pages that users read.
fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap();
    let docs = docs.map(|entry| entry.unwrap().path());
    let tops = [
        "README.md",
        "ARCHITECTURE.md",
        "SECURITY.md",
        "cli/README.md",
    ];
    let tops = tops.map(|page| root.join(page));
    docs.chain(tops)
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .map(|path| {
            (
                path.display().to_string(),
                fs::read_to_string(&path).unwrap(),
            )
        })
        .collect()
}

/// The riddles in a text, whose sentences may go on in the next line of a comment.
fn riddles(file: &str, text: &str, list: &[(&str, &str)]) -> Vec<String> {
    let words: Vec<&str> = text
        .split_whitespace()
        .filter(|word| !matches!(*word, "//" | "///" | "//!"))
        .collect();
    let text = words.join(" ");
    let found = list.iter().filter(|(riddle, _)| text.contains(riddle));
    found
        .map(|(riddle, plain)| format!("{file}: `{riddle}`: say `{plain}`"))
        .collect()
}

#[test]
fn sentences_are_plain() {
    let code: Vec<_> = PACKAGES.iter().flat_map(|dir| sources(dir)).collect();
    assert!(code.len() > 200, "the texts were not found");
    let of_code = code.iter();
    let mut found: Vec<_> = of_code
        .flat_map(|(file, text)| riddles(file, text, RIDDLES_OF_CODE))
        .collect();
    for (file, text) in code.iter().chain(&pages()) {
        found.extend(riddles(file, text, RIDDLES));
    }
    none("riddles", &found);
    let source = "/// The guest need\n/// not know.\nfn f() {}\n";
    assert_eq!(riddles("a", source, RIDDLES).len(), 1);
    assert!(riddles("a", "The guest does not notice.", RIDDLES).is_empty());
}

/// The files of Rust that a page names in backticks and that are nowhere.
fn absent_files(page: &str, text: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let homes = ["", "src", "cli/src", "tests/it", "examples"];
    let names = quoted(text).filter(|word| {
        let path = word.strip_suffix(".rs");
        path.is_some_and(|path| path.contains('/') && !path.contains(char::is_whitespace))
    });
    names
        .filter(|name| !homes.iter().any(|home| root.join(home).join(name).exists()))
        .map(|name| format!("{page}: {name}"))
        .collect()
}

#[test]
fn pages_name_files_that_exist() {
    let found = pages().into_iter();
    let found = found.flat_map(|(page, text)| absent_files(&page, &text));
    none("files that do not exist", &found.collect::<Vec<_>>());
    let text = "`vfs/walk.rs`, `tests/it/tidy.rs` and `vfs/no.rs`, not `a b/c.rs`";
    assert_eq!(absent_files("a", text), ["a: vfs/no.rs"]);
}
