//! The sources keep to the house rules that a compiler does not hold.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::limits::ELSEWHERE;
use crate::support::rust::{Token, sources, tokens, without_tests};

/// Lines of a file of either package, its `mod tests` left out.
const MAX_FILE_LINES: usize = 600;

/// Lines of a function of either package, from `fn` to its closing brace.
const MAX_FUNCTION_LINES: usize = 70;

/// Functions that are longer, with their length: it may only shrink, and an
/// entry goes when its function fits.
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[];

/// Where the project's own Rust lies.
const HOMES: &[&str] = &[
    "src",
    "cli",
    "sim",
    "shim",
    "tests",
    "benches",
    "examples",
    "guest-examples",
    "fuzz",
    "traces",
];

/// Where the code of the packages lies, the library's first.
const PACKAGES: [&str; 3] = ["src", "cli/src", "shim/src"];

/// Where their tests from outside lie.
const TESTS: [&str; 3] = ["tests/it", "cli/tests/it", "shim/tests/it"];

/// The code of both packages, with the tests beside it.
fn code() -> Vec<(String, String)> {
    PACKAGES.iter().flat_map(|dir| sources(dir)).collect()
}

fn everything() -> Vec<(String, String)> {
    let mut files: Vec<_> = HOMES.iter().flat_map(|home| sources(home)).collect();
    files.extend(text("build.rs").map(|text| ("build.rs".to_owned(), text)));
    assert!(files.len() > 10, "the sources were not found");
    files
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

fn none(what: &str, wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

#[test]
fn files_are_short() {
    let long = code().into_iter().filter_map(|(file, source)| {
        let lines = without_tests(&source).lines().count();
        (lines > MAX_FILE_LINES).then(|| format!("{file}: {lines} lines, {MAX_FILE_LINES} allowed"))
    });
    none("files to split", long.collect());
}

#[test]
fn tests_stand_last() {
    let late = code().into_iter().filter(|(_, source)| {
        let tests = &source[without_tests(source).len()..];
        // The module's closing brace is the first at the line's start.
        tests
            .find("\n}\n")
            .is_some_and(|end| !tests[end + 3..].trim().is_empty())
    });
    none(
        "code after `mod tests`",
        late.map(|(file, _)| file).collect(),
    );
}

/// The functions of a source: name, line, and lines from `fn` to `}`.
fn functions(source: &str) -> Vec<(String, usize, usize)> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        if pair[0].is("fn")
            && pair[1].is_word()
            && let Some(end) = body_end(&tokens[at..])
        {
            found.push((pair[1].text.clone(), pair[0].line, end + 1 - pair[0].line));
        }
    }
    found
}

/// The line of the brace that closes the body, unless `;` comes first.
fn body_end(tokens: &[Token]) -> Option<usize> {
    let (mut braces, mut round) = (0, 0);
    for token in tokens {
        match token.text.as_str() {
            "(" | "[" => round += 1,
            ")" | "]" => round -= 1,
            ";" if braces == 0 && round == 0 => return None,
            "{" => braces += 1,
            "}" => {
                braces -= 1;
                if braces == 0 && round == 0 {
                    return Some(token.line);
                }
            }
            _ => {}
        }
    }
    None
}

#[test]
fn functions_fit_a_screen() {
    let mut wrong = Vec::new();
    let mut known: BTreeSet<_> = LONG_FUNCTIONS
        .iter()
        .map(|(file, name, _)| (*file, *name))
        .collect();
    let files = code();
    for (file, source) in &files {
        for (name, line, lines) in functions(without_tests(source)) {
            let listed = LONG_FUNCTIONS
                .iter()
                .find(|(f, n, _)| f == file && *n == name);
            match listed {
                Some((.., allowed)) if lines == *allowed && lines > MAX_FUNCTION_LINES => {
                    known.retain(|(f, n)| f != file || *n != name);
                }
                Some((.., allowed)) => wrong.push(format!(
                    "{file}:{line}: `{name}` has {lines} lines, the list says {allowed}: \
                     grown is an error, shrunk is a new entry, fitting is no entry"
                )),
                None if lines > MAX_FUNCTION_LINES => wrong.push(format!(
                    "{file}:{line}: `{name}` has {lines} lines, {MAX_FUNCTION_LINES} allowed"
                )),
                None => {}
            }
        }
    }
    wrong.extend(
        known
            .iter()
            .map(|(file, name)| format!("{file}: `{name}` is listed for nothing")),
    );
    none("functions to split", wrong);
}

#[test]
fn functions_are_measured_from_fn_to_brace() {
    let source =
        "trait T { fn a(&self); }\nfn b(x: [u8; 2]) -> u8 {\n if x { 1 } else {\n 2 }\n}\n";
    assert_eq!(functions(source), [("b".to_owned(), 2, 4)]);
}

#[test]
fn sources_are_ascii() {
    let odd = everything().into_iter().filter_map(|(file, source)| {
        let (line, _) = source
            .lines()
            .enumerate()
            .find(|(_, line)| !line.is_ascii())?;
        Some(format!("{file}:{}", line + 1))
    });
    none("lines with more than ASCII (use escapes)", odd.collect());
}

#[test]
fn every_file_says_what_it_is() {
    let bare = everything()
        .into_iter()
        .filter(|(_, source)| !source.starts_with("//! "));
    none(
        "files without `//!` at their head",
        bare.map(|(file, _)| file).collect(),
    );
}

#[test]
fn nothing_is_left_to_do() {
    let mut wrong = Vec::new();
    for (file, source) in everything() {
        let tokens = tokens(&source);
        for pair in tokens.windows(2) {
            let stub = ["todo", "unimplemented", "dbg"]
                .iter()
                .any(|word| pair[0].is(word));
            if stub && pair[1].is("!") {
                wrong.push(format!("{file}:{}: {}!", pair[0].line, pair[0].text));
            }
        }
    }
    none("stubs", wrong);
}

#[test]
fn no_test_file_is_forgotten() {
    let files = TESTS
        .iter()
        .flat_map(|dir| sources(dir).into_iter().map(move |(file, _)| (dir, file)));
    let mut wrong = Vec::new();
    for (dir, file) in files {
        let inner = file[dir.len() + 1..].trim_end_matches(".rs");
        let (parent, name) = match inner.rsplit_once('/') {
            _ if inner == "main" => continue,
            None => ("main.rs".to_owned(), inner),
            Some((dir, "mod")) => match dir.rsplit_once('/') {
                None => ("main.rs".to_owned(), dir),
                Some((above, dir)) => (format!("{above}/mod.rs"), dir),
            },
            Some((dir, name)) => (format!("{dir}/mod.rs"), name),
        };
        let listing = text(&format!("{dir}/{parent}")).unwrap_or_default();
        let tokens = tokens(&listing);
        if !tokens
            .windows(2)
            .any(|pair| pair[0].is("mod") && pair[1].is(name))
        {
            wrong.push(format!("{file} is not in {dir}/{parent}"));
        }
    }
    none("forgotten test files", wrong);
}

#[test]
fn every_test_module_has_its_line() {
    let mains = TESTS.map(|dir| text(&format!("{dir}/main.rs")).unwrap());
    let bare = mains
        .iter()
        .flat_map(|main| main.lines())
        .filter(|line| line.starts_with("mod ") || line.starts_with("pub mod "))
        .filter(|line| !line.contains("; // "));
    none(
        "modules without a line that says what they test",
        bare.map(str::to_owned).collect(),
    );
}

/// The names of all functions outside the packages' plain code: tests.
pub fn test_names() -> BTreeSet<String> {
    everything()
        .iter()
        .flat_map(|(file, source)| {
            let before = without_tests(source);
            // Some files beside the code hold tests and nothing else.
            let code = PACKAGES.iter().any(|dir| file.starts_with(dir));
            let from = if code && !before.contains("#[test]") {
                before.len()
            } else {
                0
            };
            functions(&source[from..])
        })
        .map(|(name, ..)| name)
        .collect()
}

/// Words in backticks of the lines that start with `Test:` or `Tests:`.
fn named_tests(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| line.starts_with("Test: ") || line.starts_with("Tests: "))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .collect()
}

#[test]
fn every_bound_has_a_test() {
    let limits = text("tests/it/limits.rs").unwrap_or_default();
    let words: BTreeSet<String> = tokens(&limits)
        .into_iter()
        .map(|token| token.text)
        .collect();
    let bounds = PACKAGES.map(|dir| text(&format!("{dir}/limits.rs")).unwrap());
    let bounds = tokens(&bounds.concat());
    let elsewhere: BTreeSet<&str> = ELSEWHERE.iter().map(|(bound, _)| *bound).collect();
    let missing: Vec<String> = bounds
        .windows(2)
        .filter(|two| two[0].is("const"))
        .map(|two| two[1].text.clone())
        .filter(|bound| !words.contains(bound) && !elsewhere.contains(&bound[..]))
        .collect();
    none("bounds that tests/it/limits.rs does not name", missing);
    let known = test_names();
    let absent = ELSEWHERE.iter().filter(|(_, test)| !known.contains(*test));
    none(
        "tests that do not exist",
        absent.map(|(_, test)| (*test).to_owned()).collect(),
    );
}

#[test]
fn the_semantics_name_tests_that_exist() {
    let known = test_names();
    let text = text("docs/SEMANTICS.md").expect("docs/SEMANTICS.md");
    let named = named_tests(&text);
    assert!(!named.is_empty(), "docs/SEMANTICS.md has no `Test:` line");
    let missing = named
        .into_iter()
        .filter(|name| !known.contains(name.rsplit("::").next().unwrap_or(name)));
    none(
        "docs/SEMANTICS.md names tests that do not exist",
        missing.map(str::to_owned).collect(),
    );
}

#[test]
fn each_promise_of_the_security_page_names_tests_that_exist() {
    let known = test_names();
    let text = text("SECURITY.md").expect("SECURITY.md");
    let promises: Vec<&str> = text
        .split("\n\n")
        .filter(|paragraph| paragraph.starts_with("**"))
        .collect();
    assert!(promises.len() > 10, "SECURITY.md promises next to nothing");
    let untested = without_test(&text).into_iter();
    none(
        "promises of SECURITY.md without a test",
        untested.map(str::to_owned).collect(),
    );
    let missing = named_tests(&text)
        .into_iter()
        .filter(|name| !known.contains(*name));
    none(
        "SECURITY.md names tests that do not exist",
        missing.map(str::to_owned).collect(),
    );
}

/// Where the library has unsafe code, as its pages name it.
const UNSAFE: [(&str, &str); 3] = [
    ("src/chunk/pages", "`chunk::pages`"),
    ("src/runner/code.rs", "`runner::code`"),
    ("src/store/map.rs", "`store::map`"),
];

#[test]
fn unsafe_code_is_where_the_pages_say() {
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for (file, source) in code() {
        if !tokens(&source).iter().any(|token| token.is("unsafe")) {
            continue;
        }
        match UNSAFE.iter().find(|(place, _)| file.starts_with(place)) {
            Some((place, _)) => {
                seen.insert(*place);
            }
            None => wrong.push(file),
        }
    }
    none("files with unsafe code that no page names", wrong);
    for (place, name) in UNSAFE {
        assert!(seen.contains(place), "{place} has no unsafe code any more");
        for page in ["SECURITY.md", "ARCHITECTURE.md"] {
            let text = text(page).expect("the page");
            assert!(text.contains(name), "{page} does not name {name}");
        }
    }
}

/// Words in backticks of a text.
pub fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_page_on_testing_names_what_exists() {
    let known = test_names();
    let text = text("docs/TESTING.md").expect("docs/TESTING.md");
    let cases = text.split("<!-- cases -->").nth(1).unwrap_or_default();
    assert!(quoted(cases).count() > 100, "the table of cases is empty");
    let tests = quoted(cases).filter(|name| !known.contains(*name));
    none(
        "tests that do not exist (tests/cases.sh makes the table)",
        tests.map(str::to_owned).collect(),
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scripts = quoted(&text).filter(|word| {
        let path = word.split(' ').next().unwrap_or_default();
        path.starts_with("tests/") && !root.join(path).exists()
    });
    none(
        "files that do not exist",
        scripts.map(str::to_owned).collect(),
    );
}

#[test]
fn the_page_on_testing_names_all_that_runs() {
    let script = text("tests/all.sh").expect("tests/all.sh");
    let page = text("docs/TESTING.md").expect("docs/TESTING.md");
    let table = page.split("| what | `tests/all.sh` |").nth(1);
    let table = table.expect("the table of what runs when");
    let named: BTreeSet<&str> = quoted(table.split("\n\n").next().unwrap_or_default()).collect();
    let lines = script.lines().map(str::trim);
    let run: Vec<&str> = lines
        .map(|line| line.strip_prefix("script ").unwrap_or(line))
        .filter(|line| {
            ["tests/", ".ci/", "sim/"]
                .iter()
                .any(|home| line.starts_with(home))
        })
        .collect();
    assert!(run.len() > 10, "tests/all.sh runs next to nothing");
    let missing = run.into_iter().filter(|line| {
        let path = line.split(' ').next().unwrap_or_default();
        !named.contains(line) && !named.contains(path)
    });
    none(
        "what tests/all.sh runs and docs/TESTING.md does not name",
        missing.map(str::to_owned).collect(),
    );
}

/// The crates that the packages depend on, by their manifests.
fn dependencies() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for package in ["", "cli/", "shim/", "sim/", "traces/"] {
        let manifest = text(&format!("{package}Cargo.toml")).expect("a manifest");
        let mut listed = false;
        for line in manifest.lines() {
            if line.starts_with('[') {
                listed = line.ends_with("dependencies]") && !line.starts_with("[workspace");
            } else if let (true, Some((name, _))) = (listed, line.split_once(['.', ' '])) {
                found.insert(name.to_owned());
            }
        }
    }
    found.retain(|name| !name.starts_with("stratafs") && !name.starts_with('#'));
    found
}

#[test]
fn the_decisions_list_the_crates_there_are() {
    // Features that the list names beside their crates.
    const FEATURES: [&str; 5] = ["aws-base", "azure-base", "gcp-base", "http-json", "rustls"];
    let there = dependencies();
    assert!(there.len() > 40, "the manifests were not read: {there:?}");
    let text = text("docs/DECISIONS.md").expect("docs/DECISIONS.md");
    let rows = text.split("## Crates").nth(1).expect("the section").lines();
    let firsts: Vec<&str> = rows
        .filter(|row| row.starts_with("| `"))
        .filter_map(|row| row.split(" | ").next())
        .collect();
    // What stands in parentheses is where a crate is used.
    let outside = firsts.iter().flat_map(|first| {
        let parts = first.split(['(', ')']).step_by(2);
        parts.flat_map(quoted)
    });
    let named: BTreeSet<String> = outside.map(str::to_owned).collect();
    let missing: Vec<String> = there.difference(&named).cloned().collect();
    none("crates that docs/DECISIONS.md does not list", missing);
    let extra = named.difference(&there);
    let extra = extra.filter(|name| !FEATURES.contains(&name.as_str()));
    none(
        "what docs/DECISIONS.md lists and no manifest names",
        extra.cloned().collect(),
    );
    let mut seen = BTreeSet::new();
    let heads = firsts.iter().filter_map(|first| quoted(first).next());
    let twice = heads.filter(|head| !seen.insert(*head));
    none("crates listed twice", twice.map(str::to_owned).collect());
}

/// The public enums of a source that are neither hidden nor `#[non_exhaustive]`.
fn closed_enums(source: &str) -> Vec<String> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = line.strip_prefix("pub enum ") else {
            continue;
        };
        let above = lines[..at].iter().rev();
        let mut above = above.take_while(|line| line.starts_with("#[") || line.starts_with("///"));
        if !above.any(|line| ["#[non_exhaustive]", "#[doc(hidden)]"].contains(line)) {
            let name = name.split(|c: char| !c.is_alphanumeric()).next();
            found.extend(name.map(str::to_owned));
        }
    }
    found
}

#[test]
fn the_guide_lists_the_closed_enums() {
    let library = sources("src").into_iter();
    let closed: BTreeSet<String> = library
        .flat_map(|(_, source)| closed_enums(without_tests(&source)))
        .collect();
    let guide = text("docs/GUIDE.md").expect("docs/GUIDE.md");
    let table = guide.split("| closed | because |").nth(1);
    let table = table.expect("the table of closed enums");
    let rows = table.split("\n\n").next().unwrap_or_default().lines();
    let firsts = rows.filter_map(|row| row.split(" | ").next());
    let listed: BTreeSet<String> = firsts.flat_map(quoted).map(str::to_owned).collect();
    assert_eq!(closed, listed, "closed enums, and those of docs/GUIDE.md");
    let source = "/// A.\n#[derive(Debug)]\n#[non_exhaustive]\npub enum A {}\n\n\
                  /// B.\npub enum B<'a> {}\n#[doc(hidden)]\npub enum C {}\n";
    assert_eq!(closed_enums(source), ["B"]);
}

/// Paragraphs of a section that describe a call or a property, by their bold
/// beginning, and have no line of tests.
fn without_test(text: &str) -> Vec<&str> {
    text.split("\n\n")
        .filter(|paragraph| paragraph.starts_with("**") && named_tests(paragraph).is_empty())
        .filter_map(|paragraph| paragraph.split("**").nth(1))
        .collect()
}

#[test]
fn each_call_in_the_semantics_names_its_test() {
    let text = text("docs/SEMANTICS.md").expect("docs/SEMANTICS.md");
    let calls = text.find("## Objects").expect("the section");
    let missing = without_test(&text[calls..]);
    none(
        "paragraphs without a test",
        missing.into_iter().map(str::to_owned).collect(),
    );
    assert_eq!(
        without_test("**a**. x\n\n**b**. y\nTests: `t`.\n\nc"),
        ["a"]
    );
}

#[test]
fn named_tests_are_found_in_test_lines_only() {
    let text = "`no`\nTest: `a`, `m::b`.\nTests: `c`\nTest without `d`\n";
    assert_eq!(named_tests(text), ["a", "m::b", "c"]);
}
