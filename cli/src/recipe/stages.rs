//! Stages: what belongs together from one `FROM` to the next, and which need which.

use super::instruction::{Instruction, InstructionBody, Piece};
use super::mounts::MountKind;
use super::problem::{Position, Problem};
use super::remark::Remark;
use crate::limits::MAX_STAGES;

/// A whole recipe.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) escape: char,
    /// What stands before the first `FROM`: `ARG` alone.
    pub(crate) head: Vec<Instruction>,
    pub(crate) stages: Vec<Stage>,
    /// What is odd and no error.
    pub(crate) warnings: Vec<Problem>,
    /// What comments say to this program.
    pub(crate) remarks: Vec<Remark>,
}

/// One stage.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) at: Position,
    pub(crate) text: String,
    pub(crate) name: Option<String>,
    pub(crate) image: Piece,
    pub(crate) platform: Option<Piece>,
    pub(crate) instructions: Vec<Instruction>,
}

/// What a name in `FROM`, `COPY --from` or a mount leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StageSource {
    /// An earlier stage.
    Stage(usize),
    /// Anything else: an image, a context, `scratch`.
    Other(String),
}

/// Returns whether a stage may have this name.
pub(super) fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// Splits instructions at each `FROM`.
pub(super) fn split(instructions: Vec<Instruction>, escape: char) -> Result<Recipe, Problem> {
    let mut recipe = Recipe {
        escape,
        head: Vec::new(),
        stages: Vec::new(),
        warnings: Vec::new(),
        remarks: Vec::new(),
    };
    for instruction in instructions {
        let Instruction { at, text, body } = instruction;
        match (body, recipe.stages.last_mut()) {
            (
                InstructionBody::From {
                    image,
                    platform,
                    name,
                },
                _,
            ) => {
                if recipe.stages.len() >= MAX_STAGES {
                    let what = format_args!("a recipe may have {MAX_STAGES} stages");
                    return Err(Problem::new(at, what));
                }
                recipe.stages.push(Stage {
                    at,
                    text,
                    name,
                    image,
                    platform,
                    instructions: Vec::new(),
                });
            }
            (body, Some(stage)) => stage.instructions.push(Instruction { at, text, body }),
            (body @ InstructionBody::Arg(_), None) => {
                recipe.head.push(Instruction { at, text, body });
            }
            (_, None) => {
                return Err(Problem::new(
                    at,
                    "only ARG may stand before the first FROM: begin with FROM IMAGE or FROM scratch",
                ));
            }
        }
    }
    match recipe.stages.is_empty() {
        true => Err(Problem::new(
            Position { line: 1, column: 1 },
            "the recipe has no FROM: begin with FROM IMAGE or FROM scratch",
        )),
        false => Ok(recipe),
    }
}

impl Recipe {
    /// Finds a stage before `before` by its name, or by its number for who may use numbers.
    pub(crate) fn find(&self, name: &str, before: usize, numbers: bool) -> StageSource {
        let stages = self.stages.get(..before).unwrap_or_default();
        let lower = name.to_ascii_lowercase();
        let named = stages
            .iter()
            .rposition(|stage| stage.name.as_deref() == Some(&lower));
        let number = || {
            name.parse()
                .ok()
                .filter(|number| numbers && *number < stages.len())
        };
        match named.or_else(number) {
            Some(stage) => StageSource::Stage(stage),
            None => StageSource::Other(name.to_owned()),
        }
    }

    /// Finds the stage that is to be built: the last one, unless another is named.
    pub(crate) fn target(&self, name: Option<&str>) -> Option<usize> {
        match name {
            None => self.stages.len().checked_sub(1),
            Some(name) => match self.find(name, self.stages.len(), true) {
                StageSource::Stage(stage) => Some(stage),
                StageSource::Other(_) => None,
            },
        }
    }

    /// Returns the stages that the target needs, itself included, each after those that it
    /// needs. `base` gives the expanded name that a stage builds on.
    pub(crate) fn needed(&self, target: usize, base: impl Fn(usize) -> String) -> Vec<usize> {
        let mut wanted = vec![false; self.stages.len()];
        let mut todo = vec![target];
        while let Some(at) = todo.pop() {
            let Some((stage, seen)) = self.stages.get(at).zip(wanted.get_mut(at)) else {
                continue;
            };
            if std::mem::replace(seen, true) {
                continue;
            }
            let mut names = vec![(base(at), false)];
            for instruction in &stage.instructions {
                names.extend(
                    named(&instruction.body)
                        .into_iter()
                        .map(|name| (name, true)),
                );
            }
            for (name, numbers) in names {
                if let StageSource::Stage(stage) = self.find(&name, at, numbers) {
                    todo.push(stage);
                }
            }
        }
        let all = wanted.into_iter().enumerate();
        all.filter_map(|(at, wanted)| wanted.then_some(at))
            .collect()
    }
}

/// Names of stages or images that an instruction takes something from.
fn named(body: &InstructionBody) -> Vec<String> {
    match body {
        InstructionBody::Copy(line) => line.from.iter().map(|from| from.text.clone()).collect(),
        InstructionBody::Run(line) => line
            .mounts
            .iter()
            .filter_map(|mount| match &mount.kind {
                MountKind::Bind { from, .. } | MountKind::Cache { from, .. } => from.clone(),
                MountKind::Tmpfs { .. } | MountKind::Secret { .. } => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}
