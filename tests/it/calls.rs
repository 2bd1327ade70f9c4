//! docs/semantics lists every call that a guest can make, and for each the tests
//! that hold its answers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use stratafs::wasi::p1;
use wasmtime::{Engine, Linker, Store};
use wasmtime_wasi::WasiCtxBuilder;

use crate::support::rust::{Token, tokens};
use crate::tidy::{quoted, test_names};

type Names = BTreeSet<String>;

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/semantics");
    fs::read_to_string(path.join(name)).unwrap()
}

/// The cells of each row about calls below a heading.
fn rows<'a>(page: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let start = page.find(&format!("## {heading}\n"));
    let section = &page[start.unwrap_or_else(|| panic!("no heading {heading}")) + 3..];
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// The calls that the rows below some headings are about.
fn listed(page: &str, headings: &[&str]) -> Names {
    let rows = headings.iter().flat_map(|heading| rows(page, heading));
    rows.flat_map(|cells| quoted(cells[0]).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// What a linker of core modules has.
fn linked(add: impl FnOnce(&mut Linker<p1::Ctx>) -> wasmtime::Result<()>) -> Names {
    let engine = Engine::default();
    let mut linker = Linker::new(&engine);
    add(&mut linker).unwrap();
    let ctx = p1::Ctx::new(WasiCtxBuilder::new().build_p1());
    let mut store = Store::new(&engine, ctx);
    let names = linker.iter(&mut store).map(|(_, name, _)| name.to_owned());
    names.collect()
}

fn tokens_of(file: &str) -> Vec<Token> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/wasi")
        .join(file);
    tokens(&fs::read_to_string(path).unwrap())
}

/// The functions that a file with a table of operations names: one in each row, and
/// those of the implementations around it.
fn tabled(file: &str) -> Names {
    let tokens = tokens_of(file);
    let pairs = tokens.windows(2).filter(|pair| pair[0].is("fn"));
    let names = pairs.filter(|pair| pair[1].is_word());
    calls_of_wasi(names.map(|pair| pair[1].text.replace('_', "-")).collect())
}

/// Leaves out the functions that are not calls of WASI.
fn calls_of_wasi(mut names: Names) -> Names {
    names.remove("drop");
    names.remove("convert-error-code");
    names
}

/// The functions of a file's implementations of traits: what wasmtime calls for
/// a component.
fn implemented(file: &str) -> Names {
    let tokens = tokens_of(file);
    let (mut depth, mut head, mut of_trait) = (0, false, false);
    let mut names = Names::new();
    for pair in tokens.windows(2) {
        match pair[0].text.as_str() {
            "impl" if depth == 0 => (head, of_trait) = (true, false),
            "for" if head => of_trait = true,
            "{" => (depth, head) = (depth + 1, false),
            "}" => depth -= 1,
            "fn" if depth == 1 && of_trait => {
                names.insert(pair[1].text.replace('_', "-"));
            }
            _ => {}
        }
        of_trait &= head || depth > 0;
    }
    calls_of_wasi(names)
}

#[test]
fn every_call_of_preview1_is_listed() {
    let page = page("preview1.md");
    let newer = linked(|linker| p1::add_to_linker_sync(linker, |ctx| ctx));
    assert_eq!(newer.len(), 46);
    let headings = ["Files", "Descriptors", "Paths", "The rest"];
    assert_eq!(listed(&page, &headings), newer);
    let mut older = linked(|linker| p1::p0::add_to_linker_sync(linker, |ctx| ctx));
    assert!(listed(&page, &["preview0"]).is_subset(&older));
    assert!(older.insert("sock_accept".to_owned()));
    assert_eq!(older, newer);
}

#[test]
fn every_call_of_components_is_listed() {
    let page = page("components.md");
    let two = [tabled("p2/host.rs"), implemented("p2/view.rs")];
    let three = [implemented("p3/host.rs"), implemented("p3/link.rs")];
    for (alone, files, count) in [("0.2 alone", two, 30), ("0.3 alone", three, 26)] {
        let calls: Names = files.into_iter().flatten().collect();
        assert_eq!(listed(&page, &["In both", alone]), calls, "{alone}");
        assert_eq!(calls.len(), count, "{alone}");
    }
}

#[test]
fn every_call_names_tests_that_exist() {
    let known = test_names();
    for (name, headings) in [
        (
            "preview1.md",
            &["Files", "Descriptors", "Paths", "The rest", "preview0"][..],
        ),
        ("components.md", &["In both", "0.2 alone", "0.3 alone"]),
    ] {
        let page = page(name);
        for cells in headings.iter().flat_map(|heading| rows(&page, heading)) {
            let tests: Vec<&str> = quoted(cells[cells.len() - 1]).collect();
            assert!(!tests.is_empty(), "{name}: {} names no test", cells[0]);
            for test in tests {
                assert!(known.contains(test), "{name}: {} names {test}", cells[0]);
            }
        }
        // In sentences, names are told from calls by their length.
        let named = quoted(&page).filter(|word| word.matches('_').count() > 3);
        for test in named {
            assert!(known.contains(test), "{name} names {test}");
        }
    }
}
