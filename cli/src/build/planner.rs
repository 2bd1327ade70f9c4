//! From a recipe to the steps of the stages that the target needs. Nothing has run yet.

mod commands;
mod copies;
mod facts;
mod points;

use std::collections::{BTreeMap, BTreeSet};

use stratafs::image::ImageConfig;
use stratafs::runner::freeze::Point;
use stratafs::source::Platform;

use super::origins::{Origin, Origins};
use super::settings::Settings;
use super::steps::{StagePlan, StepKind, StepPlan};
use super::variables::{BuildScope, Variables};
use crate::failure::Failure;
use crate::recipe::{Instruction, InstructionBody, Piece, Position, Problem, Recipe, Stage};

/// What is to be built.
pub(super) struct BuildPlan {
    /// The stages that the target needs, by number: each after those that it needs.
    pub(super) stages: BTreeMap<usize, StagePlan>,
    pub(super) target: usize,
    /// Lines that say what was odd.
    pub(super) warnings: Vec<String>,
    /// Where the image is to go on from, and where the recipe says so.
    pub(super) prepare: Option<(Point, Position)>,
}

/// Plans a build.
pub(super) fn plan(
    recipe: &Recipe,
    origins: &Origins<'_>,
    settings: &Settings,
    (target, platform): (Option<&str>, Option<&Platform>),
) -> Result<BuildPlan, Failure> {
    let name = &settings.name;
    let at = |problem: Problem| Failure::new(format_args!("{name}: {problem}"));
    let target = find_target(recipe, target, name)?;
    let named = recipe
        .stages
        .get(target)
        .and_then(|stage| stage.name.as_deref());
    let of_build = (platform, named.unwrap_or("default"));
    let head = BuildScope::new(recipe.escape, &settings.build_args, of_build, &recipe.head);
    let mut head = head.map_err(at)?;
    let bases = recipe.stages.iter().map(|stage| head.expand(&stage.image));
    let bases: Vec<Result<String, Problem>> = bases.collect();
    let base = |at: usize| match bases.get(at) {
        Some(Ok(base)) => base.clone(),
        _ => String::new(),
    };
    let mut plan = BuildPlan {
        stages: BTreeMap::new(),
        target,
        prepare: points::of(recipe, target).map_err(at)?,
        warnings: recipe
            .warnings
            .iter()
            .map(|line| format!("{name}: {line}"))
            .collect(),
    };
    for number in recipe.needed(target, base) {
        let Some(stage) = recipe.stages.get(number) else {
            continue;
        };
        let base = head.expand(&stage.image).map_err(at)?;
        let planned = StagePlanner {
            recipe,
            origins,
            number,
            head: &mut head,
            own: Variables::default(),
            config: ImageConfig::new(),
            shell: None,
            has_cmd: false,
            secrets: settings.secrets.keys().cloned().collect(),
        };
        let planned = planned.stage(stage, &base, &plan.stages).map_err(at)?;
        plan.stages.insert(number, planned);
    }
    let unused = settings.build_args.keys();
    let unused: Vec<&str> = unused
        .filter(|name| !head.used.contains(*name))
        .map(String::as_str)
        .collect();
    if !unused.is_empty() {
        plan.warnings.push(format!(
            "{name}: --build-arg {}: no ARG of what was built asks for it",
            unused.join(", ")
        ));
    }
    Ok(plan)
}

/// Finds the stage that is to be built.
fn find_target(recipe: &Recipe, target: Option<&str>, name: &str) -> Result<usize, Failure> {
    recipe.target(target).ok_or_else(|| {
        let known = recipe.stages.iter().enumerate();
        let known: Vec<String> = known
            .map(|(number, stage)| stage.name.clone().unwrap_or_else(|| number.to_string()))
            .take(20)
            .collect();
        Failure::new(format_args!(
            "{name}: --target {}: the recipe has no such stage: it has {}",
            target.unwrap_or_default(),
            known.join(", ")
        ))
    })
}

/// One stage on its way.
struct StagePlanner<'a, 'b> {
    recipe: &'a Recipe,
    origins: &'a Origins<'b>,
    number: usize,
    head: &'a mut BuildScope,
    own: Variables,
    config: ImageConfig,
    shell: Option<Vec<String>>,
    /// Whether this stage has said what `CMD` is.
    has_cmd: bool,
    /// The secrets that were given, by id.
    secrets: BTreeSet<String>,
}

impl StagePlanner<'_, '_> {
    fn stage(
        mut self,
        stage: &Stage,
        base: &str,
        planned: &BTreeMap<usize, StagePlan>,
    ) -> Result<StagePlan, Problem> {
        let failed = |failure: Failure| Problem::new(stage.image.at, failure.message());
        if base.is_empty() {
            return Err(Problem::new(
                stage.image.at,
                format_args!(
                    "{} is nothing with its variables replaced: declare them with ARG before the first FROM",
                    stage.image.text
                ),
            ));
        }
        let platform = self.platform(stage)?;
        let found = self
            .origins
            .base(self.recipe, (base, self.number), platform);
        let origin = found.map_err(failed)?;
        match &origin {
            Origin::Stage(number) => {
                if let Some(below) = planned.get(number) {
                    self.config = below.config.clone();
                    self.shell.clone_from(&below.shell);
                }
            }
            Origin::Image(image) => self.config = image.info.config.clone(),
            Origin::Scratch | Origin::Context | Origin::Dir(_) => {}
        }
        self.own = Variables::of_base(&self.config.env);
        if let Origin::Stage(number) = &origin
            && let Some(below) = planned.get(number)
        {
            self.own = self.own.with_args(&below.args);
        }
        let labels = self.config.labels.iter();
        let labels: usize = labels.map(|(key, value)| key.len() + value.len()).sum();
        self.head.count(self.own.bytes() + labels, stage.at)?;
        let mut steps = Vec::with_capacity(stage.instructions.len());
        for instruction in &stage.instructions {
            steps.push(self.step(instruction)?);
        }
        let number = self.number.to_string();
        Ok(StagePlan {
            title: stage.name.clone().unwrap_or(number),
            at: stage.at,
            text: stage.text.clone(),
            base: origin,
            steps,
            config: self.config,
            shell: self.shell,
            args: self.own.args().clone(),
        })
    }

    fn platform(&self, stage: &Stage) -> Result<Option<Platform>, Problem> {
        let Some(piece) = &stage.platform else {
            return Ok(None);
        };
        let text = self.head.expand(piece)?;
        let parsed = text.parse();
        parsed
            .map(Some)
            .map_err(|error| Problem::new(piece.at, format_args!("--platform={text}: {error}")))
    }

    /// Expands a word of the stage.
    fn word(&self, piece: &Piece) -> Result<String, Problem> {
        let expanded = self.own.expand(piece, self.head.escape)?;
        self.head.count(expanded.len(), piece.at)?;
        Ok(expanded)
    }

    fn step(&mut self, instruction: &Instruction) -> Result<StepPlan, Problem> {
        let at = instruction.at;
        let (kind, said) = match &instruction.body {
            InstructionBody::Copy(line) => self.copy(line, at, false)?,
            InstructionBody::Add(line) => self.copy(line, at, true)?,
            InstructionBody::Run(line) => self.run(line, at)?,
            InstructionBody::Workdir(dir) => {
                let dir = self.word(dir)?;
                let dir = absolute(&self.workdir(), &dir, at)?;
                self.config.working_dir = Some(dir.clone());
                let user = self.config.user.clone();
                (StepKind::Dir(dir.clone(), user), format!("WORKDIR {dir}"))
            }
            other => (StepKind::Config, self.fact(other, at)?),
        };
        Ok(StepPlan {
            at,
            text: instruction.text.clone(),
            said,
            kind,
        })
    }

    fn workdir(&self) -> String {
        self.config
            .working_dir
            .clone()
            .unwrap_or_else(|| "/".to_owned())
    }

    /// Finds what a `from` names.
    fn origin(&self, name: &str, at: Position) -> Result<Origin, Problem> {
        let found = self.origins.find(self.recipe, name, self.number);
        found.map_err(|failure| Problem::new(at, failure.message()))
    }
}

/// A path from the root on, seen from `dir`.
fn absolute(dir: &str, path: &str, at: Position) -> Result<String, Problem> {
    if path.is_empty() || path.contains('\0') {
        let what = "it is empty with its variables replaced: write a path";
        return Err(Problem::new(at, what));
    }
    let whole = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{dir}/{path}"),
    };
    let mut names: Vec<&str> = Vec::new();
    for name in whole.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    Ok(format!("/{}", names.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_seen_from_the_working_directory() {
        let of = |dir, path| absolute(dir, path, Position::default()).unwrap();
        assert_eq!(of("/a", "b"), "/a/b");
        assert_eq!(of("/a", "/b/"), "/b");
        assert_eq!(of("/a", "../../b/./c"), "/b/c");
        assert_eq!(of("/", "."), "/");
        assert!(absolute("/", "", Position::default()).is_err());
    }
}
