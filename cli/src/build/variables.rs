//! Which variables a line sees: `ENV` before `ARG`, and `ARG` from where it stands.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use stratafs::source::Platform;

use crate::limits::{MAX_ENVIRONMENT_BYTES, MAX_PLANNED_BYTES};
use crate::recipe::expand::{self, Quoting};
use crate::recipe::{Instruction, InstructionBody, Piece, Position, Problem};

/// Build arguments that a `RUN` sees without an `ARG`, in capitals and in small letters.
const PROXIES: [&str; 5] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];

/// The build argument that is the time of everything.
pub(super) const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Variables by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Variables {
    /// What `ARG` declared: `None` for one without a value.
    args: BTreeMap<String, Option<String>>,
    /// What `ENV` set, and the base's, in order.
    env: Vec<(String, String)>,
    /// Where each name of the environment stands there.
    places: BTreeMap<String, usize>,
    /// Bytes of names and values of the environment, with two for what is between them.
    env_bytes: usize,
}

/// What is the same for all stages.
pub(super) struct BuildScope {
    pub(super) escape: char,
    pub(super) build_args: BTreeMap<String, String>,
    /// `ARG` before the first `FROM`, and what is always there.
    global: Variables,
    /// Build arguments that a line asked for.
    pub(super) used: BTreeSet<String>,
    /// Bytes of what the plan holds.
    planned: Cell<usize>,
}

impl BuildScope {
    pub(super) fn new(
        escape: char,
        build_args: &BTreeMap<String, String>,
        (platform, target): (Option<&Platform>, &str),
        instructions: &[Instruction],
    ) -> Result<Self, Problem> {
        let mut head = Self {
            escape,
            build_args: build_args.clone(),
            global: Variables::of_build(platform, target),
            used: BTreeSet::from([EPOCH.to_owned()]),
            planned: Cell::new(0),
        };
        for (name, value) in build_args {
            let known = head.global.args.get_mut(name);
            if known.is_some() || is_proxy(name) {
                head.used.insert(name.clone());
            }
            if let Some(known) = known {
                *known = Some(value.clone());
            }
        }
        let mut global = head.global.clone();
        for instruction in instructions {
            if let InstructionBody::Arg(args) = &instruction.body {
                for (name, value) in args {
                    head.declare(&mut global, name, value.as_ref(), None)?;
                }
            }
        }
        head.global = global;
        Ok(head)
    }

    /// Counts what the plan holds, and refuses more than it may.
    pub(super) fn count(&self, bytes: usize, at: Position) -> Result<(), Problem> {
        let sum = self.planned.get().saturating_add(bytes);
        self.planned.set(sum);
        match sum > MAX_PLANNED_BYTES {
            true => Err(Problem::new(
                at,
                format_args!(
                    "the recipe has more than {MAX_PLANNED_BYTES} bytes with all its variables replaced, up to here"
                ),
            )),
            false => Ok(()),
        }
    }

    /// Takes `ARG NAME=VALUE`: a build argument wins over the value, which wins over that
    /// of a declaration before the first `FROM`.
    fn declare(
        &mut self,
        variables: &mut Variables,
        name: &str,
        value: Option<&Piece>,
        global: Option<&Variables>,
    ) -> Result<(), Problem> {
        let given = self.build_args.get(name).cloned();
        if given.is_some() {
            self.used.insert(name.to_owned());
        }
        let value = match (given, value) {
            (Some(given), _) => Some(given),
            (None, Some(value)) => {
                let expanded = variables.expand(value, self.escape)?;
                self.count(expanded.len(), value.at)?;
                Some(expanded)
            }
            (None, None) => global.and_then(|global| global.get(name)),
        };
        variables.args.insert(name.to_owned(), value);
        Ok(())
    }

    /// Takes `ARG` of a stage.
    pub(super) fn declare_in(
        &mut self,
        variables: &mut Variables,
        name: &str,
        value: Option<&Piece>,
    ) -> Result<(), Problem> {
        let global = std::mem::take(&mut self.global);
        let declared = self.declare(variables, name, value, Some(&global));
        self.global = global;
        declared
    }

    /// Returns what a guest sees: what `--build-arg` says of proxies, unless the stage says it, and
    /// the variables of the stage.
    pub(super) fn of_guest(&self, own: &Variables) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = Vec::new();
        let said = own.of_guest();
        for proxy in PROXIES {
            let lower = proxy.to_ascii_lowercase();
            // Either name sets both, and the one that a guest asks for goes first.
            let of = |first: &str, second: &str| {
                let given = self.build_args.get(first);
                given.or_else(|| self.build_args.get(second)).cloned()
            };
            for (name, other) in [(proxy, lower.as_str()), (lower.as_str(), proxy)] {
                let is_said = said.iter().any(|(known, _)| known == name);
                all.extend(
                    of(name, other)
                        .filter(|_| !is_said)
                        .map(|value| (name.to_owned(), value)),
                );
            }
        }
        all.extend(said);
        all
    }

    /// Expands what `FROM` says, which sees nothing of stages.
    pub(super) fn expand(&self, piece: &Piece) -> Result<String, Problem> {
        self.global.expand(piece, self.escape)
    }
}

impl Variables {
    /// What BuildKit sets of itself: here the guest's platform is that of the build.
    fn of_build(platform: Option<&Platform>, target: &str) -> Self {
        let whole = platform.map_or_else(|| "wasip1/wasm".to_owned(), ToString::to_string);
        let mut parts = whole.splitn(3, '/');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let (os, arch, variant) = (part(), part(), part());
        let mut variables = Self::default();
        for side in ["TARGET", "BUILD"] {
            for (name, value) in [
                ("PLATFORM", &whole),
                ("OS", &os),
                ("ARCH", &arch),
                ("VARIANT", &variant),
                ("OSVERSION", &String::new()),
            ] {
                let value = Some(value.clone());
                variables.args.insert(format!("{side}{name}"), value);
            }
        }
        let target = Some(target.to_owned());
        variables.args.insert("TARGETSTAGE".to_owned(), target);
        variables
    }

    /// Starts a stage with the environment of its base.
    pub(super) fn of_base(env: &[String]) -> Self {
        let mut variables = Self::default();
        for both in env {
            if let Some((name, value)) = both.split_once('=') {
                variables.put(name.to_owned(), value.to_owned());
            }
        }
        variables
    }

    /// Sets a variable of the environment, in the place that it has already.
    fn put(&mut self, name: String, value: String) {
        let known = self.places.get(&name).and_then(|at| self.env.get_mut(*at));
        match known {
            Some((_, old)) => {
                self.env_bytes = self.env_bytes - old.len() + value.len();
                *old = value;
            }
            None => {
                self.env_bytes += name.len() + value.len() + 2;
                self.places.insert(name.clone(), self.env.len());
                self.env.push((name, value));
            }
        }
    }

    /// Adds what the stage declared that this one begins with.
    pub(super) fn with_args(mut self, args: &BTreeMap<String, Option<String>>) -> Self {
        self.args.extend(args.clone());
        self
    }

    /// Returns what `ARG` declared, for stages that begin with this one.
    pub(super) fn args(&self) -> &BTreeMap<String, Option<String>> {
        &self.args
    }

    fn get(&self, name: &str) -> Option<String> {
        let env = self.places.get(name).and_then(|at| self.env.get(*at));
        match env {
            Some((_, value)) => Some(value.clone()),
            None => self.args.get(name).cloned().flatten(),
        }
    }

    /// Expands a word.
    pub(super) fn expand(&self, piece: &Piece, escape: char) -> Result<String, Problem> {
        self.expand_text(&piece.text, piece.at, escape, Quoting::Words)
    }

    /// Expands text that stands at `at`.
    pub(super) fn expand_text(
        &self,
        text: &str,
        at: Position,
        escape: char,
        quoting: Quoting,
    ) -> Result<String, Problem> {
        let lookup = |name: &str| self.get(name);
        expand::expand(text, escape, quoting, &lookup)
            .map_err(|why| Problem::new(at, format_args!("{}: {why}", shortened(text))))
    }

    /// Sets a variable of the environment.
    pub(super) fn set(&mut self, name: String, value: String, at: Position) -> Result<(), Problem> {
        self.put(name, value);
        match self.env_bytes > MAX_ENVIRONMENT_BYTES {
            true => Err(Problem::new(
                at,
                format_args!(
                    "the environment has more than {MAX_ENVIRONMENT_BYTES} bytes with this"
                ),
            )),
            false => Ok(()),
        }
    }

    /// Returns the environment as an image has it.
    pub(super) fn env(&self) -> Vec<String> {
        let all = self.env.iter();
        all.map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// Counts the bytes of all.
    pub(super) fn bytes(&self) -> usize {
        let env = self.env.iter();
        let env: usize = env.map(|(name, value)| name.len() + value.len()).sum();
        let args = self.args.iter();
        let args = args.map(|(name, value)| name.len() + value.as_ref().map_or(0, String::len));
        env + args.sum::<usize>()
    }

    /// Returns what a guest sees: declared arguments that have a value, then the environment.
    pub(super) fn of_guest(&self) -> Vec<(String, String)> {
        let args = self.args.iter().filter_map(|(name, value)| {
            let hidden = self.places.contains_key(name);
            let value = value.clone().filter(|_| !hidden)?;
            Some((name.clone(), value))
        });
        args.chain(self.env.iter().cloned()).collect()
    }
}

/// Returns whether a build argument is about a proxy.
fn is_proxy(name: &str) -> bool {
    let is_one_case = name == name.to_ascii_lowercase() || name == name.to_ascii_uppercase();
    is_one_case && PROXIES.contains(&name.to_ascii_uppercase().as_str())
}

/// A word in a message.
fn shortened(text: &str) -> String {
    crate::failure::cut(&stratafs::name::show(text.as_bytes()), 100).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::parse;

    /// The environment and the guest's variables at the end of a recipe's one stage.
    fn end(recipe: &str, given: &[(&str, &str)]) -> (String, Vec<String>) {
        let recipe = parse(recipe).unwrap();
        let given = given.iter();
        let given = given.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut head =
            BuildScope::new('\\', &given.collect(), (None, "default"), &recipe.head).unwrap();
        let stage = &recipe.stages[0];
        let image = head.expand(&stage.image).unwrap();
        let mut own = Variables::of_base(&["BASE=b".into()]);
        for instruction in &stage.instructions {
            match &instruction.body {
                InstructionBody::Arg(args) => {
                    for (name, value) in args {
                        head.declare_in(&mut own, name, value.as_ref()).unwrap();
                    }
                }
                InstructionBody::Env(pairs) => {
                    let sees = own.clone();
                    for (name, value) in pairs {
                        let value = sees.expand(value, '\\').unwrap();
                        own.set(name.text.clone(), value, name.at).unwrap();
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        let guest = head.of_guest(&own).into_iter();
        (
            image,
            guest
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
        )
    }

    #[test]
    fn arguments_have_the_scopes_of_buildkit() {
        for (recipe, given, image, want) in [
            // Before FROM: for FROM, and for who asks by name.
            ("ARG V=1\nFROM a:$V", vec![], "a:1", "BASE=b"),
            ("ARG V=1\nFROM a:$V", vec![("V", "2")], "a:2", "BASE=b"),
            ("ARG V=1\nFROM a\nARG V", vec![], "a", "V=1 BASE=b"),
            ("ARG V=1\nFROM a\nARG V=3", vec![], "a", "V=3 BASE=b"),
            (
                "ARG V=1\nFROM a\nARG V=3",
                vec![("V", "2")],
                "a",
                "V=2 BASE=b",
            ),
            ("ARG V=1\nARG W=$V.0\nFROM a:$W", vec![], "a:1.0", "BASE=b"),
            // An ARG without a value is no variable.
            ("FROM a\nARG V", vec![], "a", "BASE=b"),
            ("FROM a\nARG V", vec![("V", "x")], "a", "V=x BASE=b"),
            ("FROM a\nARG V=1 W=${V}2", vec![], "a", "V=1 W=12 BASE=b"),
            // ENV wins over ARG, before and after it.
            (
                "FROM a\nARG V=1\nENV V=2",
                vec![("V", "3")],
                "a",
                "BASE=b V=2",
            ),
            ("FROM a\nENV V=2\nARG V=1", vec![], "a", "BASE=b V=2"),
            ("FROM a\nARG V=1\nENV V=$V.x", vec![], "a", "BASE=b V=1.x"),
            // One line sees what stood before it.
            (
                "FROM a\nENV A=1\nENV A=2 B=$A",
                vec![],
                "a",
                "BASE=b A=2 B=1",
            ),
            ("FROM a\nENV C=${BASE}c", vec![], "a", "BASE=b C=bc"),
            // What stages see only when they ask.
            (
                "FROM a:$TARGETARCH\nENV A=$TARGETARCH",
                vec![],
                "a:wasm",
                "BASE=b A=",
            ),
            (
                "FROM a\nARG TARGETOS\nENV A=$TARGETOS",
                vec![],
                "a",
                "TARGETOS=wasip1 BASE=b A=wasip1",
            ),
            (
                "FROM a\nARG TARGETOSVERSION\nARG BUILDPLATFORM\nARG TARGETSTAGE",
                vec![],
                "a",
                "BUILDPLATFORM=wasip1/wasm TARGETOSVERSION= TARGETSTAGE=default BASE=b",
            ),
            // A build argument goes before what is always there.
            (
                "FROM a:$TARGETARCH\nARG TARGETARCH",
                vec![("TARGETARCH", "x")],
                "a:x",
                "TARGETARCH=x BASE=b",
            ),
            // Proxies are there without an ARG, for RUN alone.
            (
                "FROM a\nENV A=$HTTP_PROXY",
                vec![("HTTP_PROXY", "p")],
                "a",
                "HTTP_PROXY=p http_proxy=p BASE=b A=",
            ),
            (
                "FROM a\nARG no_proxy=own",
                vec![("NO_PROXY", "p"), ("Http_Proxy", "q")],
                "a",
                "NO_PROXY=p no_proxy=own BASE=b",
            ),
        ] {
            let (have, env) = end(recipe, &given);
            assert_eq!(
                (have.as_str(), env.join(" ").as_str()),
                (image, want),
                "{recipe}"
            );
        }
    }

    #[test]
    fn an_environment_that_doubles_is_stopped() {
        let mut variables = Variables::default();
        let at = Position { line: 3, column: 5 };
        variables.set("A".into(), "x".repeat(64), at).unwrap();
        let piece = Piece {
            text: "$A$A".into(),
            at,
        };
        let told = (0..100).find_map(|_| {
            let twice = variables.expand(&piece, '\\').err();
            twice.or_else(|| {
                let twice = variables.expand(&piece, '\\').unwrap();
                variables.set("A".into(), twice, at).err()
            })
        });
        let told = told.unwrap().to_string();
        assert!(told.starts_with("line 3, column 5"), "{told}");
        assert!(told.contains("more than"), "{told}");
        let many = (0..10_000).find_map(|number| {
            let value = "x".repeat(1000);
            variables.set(format!("N{number}"), value, at).err()
        });
        assert!(
            many.unwrap()
                .to_string()
                .contains("the environment has more than")
        );
    }
}
