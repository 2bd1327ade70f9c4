//! The rules: what each is called, how bad it is, and what to do.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Severity {
    /// Worth a look.
    Note,
    /// Costs or risks something.
    Warning,
    /// The image does not do what it is for, or gives something away.
    Error,
}

impl Severity {
    /// Returns the word for it, which SARIF has as well.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A rule.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) id: &'static str,
    pub(super) severity: Severity,
    /// What it looks for.
    pub(super) about: &'static str,
    /// What to do about a finding.
    pub(super) fix: &'static str,
}

const fn rule(
    id: &'static str,
    severity: Severity,
    about: &'static str,
    fix: &'static str,
) -> Rule {
    Rule {
        id,
        severity,
        about,
        fix,
    }
}

pub(super) const SECRET: Rule = rule(
    "secret",
    Severity::Error,
    "a key, token or password in a file of any layer, in the environment or in a recipe",
    "make the image again without it, with RUN --mount=type=secret where a build needs it, and replace what was given away: a whiteout does not remove it",
);
pub(super) const UNBUILDABLE: Rule = rule(
    "unbuildable",
    Severity::Error,
    "a line of the recipe that `image build` refuses",
    "write what the finding says",
);
pub(super) const ENTRY_MISSING: Rule = rule(
    "entry-missing",
    Severity::Error,
    "the image starts a program that it does not contain",
    "add the file, or name another with `image mutate --entrypoint`",
);
pub(super) const ENTRY_NOT_WASM: Rule = rule(
    "entry-not-wasm",
    Severity::Error,
    "the program that the image starts is not WebAssembly",
    "build it for wasm32-wasip1 or as a component",
);
pub(super) const UNKNOWN_IMPORT: Rule = rule(
    "unknown-import",
    Severity::Error,
    "the program that the image starts wants what the runtime does not have",
    "build it for WASI 0.1, 0.2 or 0.3 as a command",
);
pub(super) const HIDDEN_BYTES: Rule = rule(
    "hidden-bytes",
    Severity::Warning,
    "a file of 4 KiB or more that an upper layer overwrites or removes still weighs",
    "leave it out of the lower layer, or use `image squash`",
);
pub(super) const SETUID: Rule = rule(
    "setuid",
    Severity::Warning,
    "a file is setuid or setgid, which means nothing to a guest and much to who unpacks the image",
    "clear the bits: chmod ug-s",
);
pub(super) const WORLD_WRITABLE: Rule = rule(
    "world-writable",
    Severity::Warning,
    "anybody may write a file, or a directory without the sticky bit",
    "clear the bit: chmod o-w",
);
pub(super) const NATIVE_PROGRAM: Rule = rule(
    "native-program",
    Severity::Warning,
    "a program or library for a processor: no guest can run it",
    "leave it out, or build it for WebAssembly",
);
pub(super) const SHARED_RANDOM: Rule = rule(
    "shared-random",
    Severity::Warning,
    "a prepared guest drew random numbers before its point: all runs share what it made of them",
    "seed anew after the point, or draw them there: docs/FREEZE.md says how for each language",
);
pub(super) const LATEST: Rule = rule(
    "latest",
    Severity::Warning,
    "the image or its base has the tag `latest`, which does not say what version it is",
    "give it a tag of its own: `image tag`",
);
pub(super) const UNPINNED_BASE: Rule = rule(
    "unpinned-base",
    Severity::Warning,
    "the image names its base without a digest",
    "write FROM NAME:TAG@sha256:HEX, or set the label org.opencontainers.image.base.digest as well",
);
pub(super) const OVERWRITTEN: Rule = rule(
    "overwritten",
    Severity::Warning,
    "a CMD or ENTRYPOINT that a later one of the stage replaces",
    "leave one of them out",
);
pub(super) const RELATIVE_WORKDIR: Rule = rule(
    "relative-workdir",
    Severity::Warning,
    "WORKDIR of a stage begins with a path that depends on its base",
    "write it from the root on: WORKDIR /DIR",
);
pub(super) const ODD_LINE: Rule = rule(
    "odd-line",
    Severity::Warning,
    "a line of the recipe says something else than it seems to",
    "write what the finding says",
);
pub(super) const LEFTOVER: Rule = rule(
    "leftover",
    Severity::Note,
    "a cache, a temporary file or what an editor or a version control left",
    "leave it out, of a context with .dockerignore",
);
pub(super) const DUPLICATE: Rule = rule(
    "duplicate",
    Severity::Note,
    "a file of 64 KiB or more has the bytes of another",
    "make one a hard link or a symbolic link of the other",
);
pub(super) const MANY_LAYERS: Rule = rule(
    "many-layers",
    Severity::Note,
    "more than 32 layers, or a quarter of the bytes hidden",
    "use `image squash`",
);
pub(super) const NO_ENTRY: Rule = rule(
    "no-entry",
    Severity::Note,
    "the image does not say what to run",
    "name it with `image mutate --entrypoint`",
);

pub(super) const ADD_FOR_COPY: Rule = rule(
    "add-for-copy",
    Severity::Note,
    "ADD of what is not an archive by its name",
    "write COPY, which never unpacks anything",
);

/// All rules, the worst first.
pub(super) const RULES: [&Rule; 20] = [
    &SECRET,
    &UNBUILDABLE,
    &ENTRY_MISSING,
    &ENTRY_NOT_WASM,
    &UNKNOWN_IMPORT,
    &HIDDEN_BYTES,
    &SETUID,
    &WORLD_WRITABLE,
    &NATIVE_PROGRAM,
    &SHARED_RANDOM,
    &LATEST,
    &UNPINNED_BASE,
    &OVERWRITTEN,
    &RELATIVE_WORKDIR,
    &ODD_LINE,
    &LEFTOVER,
    &DUPLICATE,
    &MANY_LAYERS,
    &NO_ENTRY,
    &ADD_FOR_COPY,
];

/// A rule as it is named in arguments.
#[derive(Clone, Copy)]
pub(crate) struct RuleName(pub(super) &'static Rule);

impl fmt::Debug for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.id)
    }
}

impl FromStr for RuleName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = RULES.iter().find(|rule| rule.id == text);
        found.map(|rule| Self(rule)).ok_or_else(|| {
            let ids: Vec<&str> = RULES.iter().map(|rule| rule.id).collect();
            format!("no such rule: expected one of {}", ids.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_names_of_their_own_and_a_page() {
        let page = include_str!("../../../../docs/LINT.md");
        for (at, rule) in RULES.iter().enumerate() {
            let line = format!("| `{}` | {} |", rule.id, rule.severity.word());
            assert!(page.contains(&line), "docs/LINT.md lacks {line}");
            assert!(RULES.iter().skip(at + 1).all(|other| other.id != rule.id));
        }
        assert!(RULES.is_sorted_by(|one, other| one.severity >= other.severity));
    }
}
