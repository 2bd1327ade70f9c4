//! Imports point down, in all packages: a module names only modules of a lower rank.

use crate::support::rust::{Token, sources, tokens};

/// A package: where its code lies, and each module with its rank.
struct Package {
    dir: &'static str,
    ranks: &'static [(&'static str, u32)],
}

/// The library, as ARCHITECTURE.md draws it.
const LIBRARY: Package = Package {
    dir: "src/",
    ranks: &[
        ("limits", 0),
        ("errno", 0),
        ("digest", 0),
        ("staged", 0),
        ("spill", 0),
        ("steps", 0),
        ("bounded", 0),
        ("weak_table", 0),
        ("checkpoint", 1),
        ("budget", 1),
        ("name", 1),
        ("meta", 1),
        ("error", 2),
        ("path", 2),
        ("chunk", 2),
        ("tree", 3),
        ("layer", 4),
        ("image", 5),
        ("source", 6),
        ("store", 6),
        ("overlay", 7),
        ("registry", 7),
        ("object", 8),
        ("vfs", 8),
        ("host", 9),
        ("wasi", 9),
        ("runner", 10),
        ("transfer", 10),
    ],
};

/// The command line, all of it above the library. Its head names what it runs.
const COMMAND_LINE: Package = Package {
    dir: "cli/src/",
    ranks: &[
        ("limits", 0),
        ("memory", 0),
        ("report", 0),
        ("signals", 0),
        ("beside", 1),
        ("failure", 1),
        ("parse", 1),
        ("base", 2),
        ("from_image", 2),
        ("guest_source", 2),
        ("habits", 2),
        ("outfile", 2),
        ("proof", 2),
        ("reach", 2),
        ("sources", 2),
        ("spans", 2),
        ("store_dir", 2),
        ("recipe", 2),
        ("recipe_file", 2),
        ("cached", 2),
        ("checkpoint", 2),
        ("build_args", 3),
        ("strace", 3),
        ("watch", 2),
        ("image", 3),
        ("instances", 3),
        ("args", 4),
        ("manual", 5),
        ("resolve", 5),
        ("prepared", 6),
        ("pulled", 6),
        ("run", 7),
        ("bench", 8),
        ("demo", 8),
        ("prepare", 8),
        ("serve", 8),
        ("snapshotter", 8),
        ("build", 8),
    ],
};

/// The runtime of containerd, all of it above the library.
const SHIM: Package = Package {
    dir: "shim/src/",
    ranks: &[
        ("limits", 0),
        ("log", 0),
        ("status", 0),
        ("sysctls", 0),
        ("wire", 0),
        ("dns", 1),
        ("figures", 1),
        ("input", 1),
        ("messages", 1),
        ("netns", 1),
        ("reach", 1),
        ("ready", 1),
        ("spec", 1),
        ("users", 1),
        ("config", 2),
        ("containerd", 2),
        ("fifo", 2),
        ("file_user", 2),
        ("lookup", 2),
        ("stored", 2),
        ("trace", 2),
        ("ttrpc", 2),
        ("events", 3),
        ("mounts", 3),
        ("network", 3),
        ("rootfs", 3),
        ("plan", 4),
        ("programs", 4),
        ("container", 5),
        ("throttle", 6),
        ("service", 7),
        ("metrics", 7),
        ("start", 8),
    ],
};

impl Package {
    fn rank(&self, module: &str) -> Option<u32> {
        self.ranks
            .iter()
            .find(|(name, _)| *name == module)
            .map(|(_, rank)| *rank)
    }

    /// The module a file belongs to, from the root of the package down.
    fn module_of(&self, file: &str) -> Vec<String> {
        let inner = file.trim_start_matches(self.dir).trim_end_matches(".rs");
        let mut parts: Vec<String> = inner.split('/').map(str::to_owned).collect();
        parts.pop_if(|last| matches!(last.as_str(), "mod" | "lib" | "main"));
        parts
    }

    /// The top-level modules that a file names, with the line of each: through
    /// `crate::`, or through enough `super::`.
    fn named(&self, file: &str, source: &str) -> Vec<(String, usize)> {
        let tokens = tokens(source);
        let home = self.module_of(file);
        let mut open: Vec<bool> = Vec::new();
        let mut found = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            let before = at.checked_sub(1).and_then(|at| tokens.get(at));
            let starts = before.is_none_or(|before| !before.is("::"));
            match token.text.as_str() {
                "{" => open.push(is_module(&tokens, at)),
                "}" => drop(open.pop()),
                "crate" if starts && follows(&tokens, at, "::") => {
                    tops(&tokens, at + 2, &mut found);
                }
                "super" if starts => {
                    let mut end = at;
                    let mut depth = home.len() + open.iter().filter(|module| **module).count();
                    while tokens.get(end).is_some_and(|t| t.is("super"))
                        && follows(&tokens, end, "::")
                    {
                        (depth, end) = (depth.saturating_sub(1), end + 2);
                    }
                    if depth == 0 && end > at {
                        tops(&tokens, end, &mut found);
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// What is wrong with the imports of a file.
    fn complaints(&self, file: &str, source: &str) -> Vec<String> {
        let home = self.module_of(file);
        let Some(home) = home.first() else {
            return Vec::new();
        };
        let Some(own) = self.rank(home) else {
            return vec![format!(
                "{file}: `{home}` has no rank in tests/it/layers.rs"
            )];
        };
        self.named(file, source)
            .into_iter()
            .filter(|(module, _)| module != home)
            .filter_map(|(module, line)| match self.rank(&module) {
                Some(rank) if rank < own => None,
                Some(rank) => Some(format!(
                    "{file}:{line}: `{home}` ({own}) names `{module}` ({rank})"
                )),
                None => Some(format!(
                    "{file}:{line}: `{module}` is no module with a rank"
                )),
            })
            .collect()
    }
}

fn follows(tokens: &[Token], at: usize, text: &str) -> bool {
    tokens.get(at + 1).is_some_and(|token| token.is(text))
}

/// Whether the brace at `at` opens `mod name {`.
fn is_module(tokens: &[Token], at: usize) -> bool {
    at >= 2 && tokens[at - 2].is("mod") && tokens[at - 1].is_word()
}

/// Takes the first names of the path or `{group}` that starts at `at`.
fn tops(tokens: &[Token], at: usize, found: &mut Vec<(String, usize)>) {
    let Some(first) = tokens.get(at) else { return };
    if !first.is("{") {
        found.push((first.text.clone(), first.line));
        return;
    }
    let (mut depth, mut fresh) = (0, false);
    for token in &tokens[at..] {
        match token.text.as_str() {
            "{" => (depth, fresh) = (depth + 1, depth == 0),
            "}" if depth == 1 => return,
            "}" => depth -= 1,
            "," => fresh = depth == 1,
            _ if fresh => {
                found.push((token.text.clone(), token.line));
                fresh = false;
            }
            _ => {}
        }
    }
}

#[test]
fn imports_point_down() {
    let complaints = |package: Package| -> Vec<String> {
        let files = sources(package.dir.trim_end_matches('/'));
        assert!(
            files.len() > 10,
            "the sources of {} were not found",
            package.dir
        );
        files
            .iter()
            .flat_map(|(file, source)| package.complaints(file, source))
            .collect()
    };
    let wrong = [LIBRARY, COMMAND_LINE, SHIM].map(complaints).concat();
    assert!(
        wrong.is_empty(),
        "imports that point up or sideways:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_check_catches_each_way_to_point_up() {
    let up = |file: &str, source: &str| LIBRARY.complaints(file, source).len();
    assert_eq!(up("src/meta.rs", "use crate::limits::X;"), 0);
    assert_eq!(up("src/meta.rs", "use crate::vfs::Fs;"), 1);
    assert_eq!(
        up("src/meta.rs", "use crate::name::Name;"),
        1,
        "sideways is up as well"
    );
    assert_eq!(
        up(
            "src/meta.rs",
            "use crate::{errno::Errno, vfs::{self, a}, host};"
        ),
        2
    );
    assert_eq!(up("src/meta.rs", "fn f() -> crate::vfs::Fs {}"), 1);
    assert_eq!(up("src/meta.rs", "use super::vfs;"), 1);
    assert_eq!(up("src/chunk/pool.rs", "use super::content;"), 0);
    assert_eq!(up("src/chunk/pool.rs", "use super::super::image;"), 1);
    assert_eq!(up("src/chunk/mod.rs", "use super::{image::Image};"), 1);
    assert_eq!(up("src/chunk/mod.rs", "mod tests { use super::*; }"), 0);
    assert_eq!(
        up("src/chunk/mod.rs", "mod tests { use super::super::image; }"),
        1
    );
    assert_eq!(
        up(
            "src/meta.rs",
            "mod a { fn f() { crate::vfs::f() } } use crate::vfs;"
        ),
        2
    );
    assert_eq!(
        up("src/meta.rs", "use crate::Fs;"),
        1,
        "a name of the head hides its module"
    );
    assert_eq!(up("src/meta.rs", "use crate::*;"), 1);
    assert_eq!(
        up("src/meta.rs", "// crate::vfs\nlet s = \"crate::vfs\";"),
        0
    );
    assert_eq!(
        up(
            "src/meta.rs",
            "macro_rules! m { () => { $crate::vfs::f() } }"
        ),
        1
    );
    assert_eq!(
        up(
            "src/meta.rs",
            "pub(crate) fn f() {} pub(in crate::meta) fn g() {}"
        ),
        0
    );
    assert_eq!(up("src/nowhere.rs", ""), 1);
    let up = |file: &str, source: &str| COMMAND_LINE.complaints(file, source).len();
    assert_eq!(up("cli/src/parse.rs", "use stratafs::vfs;"), 0);
    assert_eq!(up("cli/src/image/cat.rs", "use super::super::run;"), 1);
    assert_eq!(up("cli/src/main.rs", "use run::x;"), 0);
}
