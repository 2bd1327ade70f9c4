//! Rules about the lines of a recipe: what can be told from its text alone.

use super::findings::Findings;
use super::rules::{
    ADD_FOR_COPY, LATEST, LEFTOVER, MANY_LAYERS, NO_ENTRY, ODD_LINE, OVERWRITTEN, RELATIVE_WORKDIR,
    RuleName, SECRET, SETUID, UNBUILDABLE, UNPINNED_BASE, WORLD_WRITABLE,
};
use super::secrets::{is_secret_name, kind_of};
use super::tree::MANY;
use crate::recipe::expand::{Quoting, expand};
use crate::recipe::{
    ARCHIVE_ENDINGS, CommandLine, Instruction, InstructionBody, ModeChange, Piece, Position,
    Problem, Recipe, RemarkKind, Stage, StageSource, TransferLine, parse,
};

/// Looks at a recipe. `has_ignore_file` tells whether one stands beside it, if that is known.
pub(super) fn look(text: &str, has_ignore_file: Option<bool>, findings: &mut Findings) {
    let recipe = match parse(text) {
        Ok(recipe) => recipe,
        Err(Problem { at, what }) => {
            findings.in_recipe(&UNBUILDABLE, (at.line, at), what);
            return;
        }
    };
    remarks(&recipe, findings);
    for Problem { at, what } in &recipe.warnings {
        findings.in_recipe(&ODD_LINE, (at.line, *at), what.clone());
    }
    let mut looker = Looker {
        recipe: &recipe,
        has_ignore_file,
        stages: Vec::with_capacity(recipe.stages.len()),
        findings,
    };
    for instruction in &recipe.head {
        looker.secrets(instruction);
    }
    for number in 0..recipe.stages.len() {
        looker.stage(number);
    }
    looker.last_stage();
}

/// Takes what comments say about rules.
fn remarks(recipe: &Recipe, findings: &mut Findings) {
    for remark in &recipe.remarks {
        let line = match remark.kind {
            RemarkKind::Ignore => Some(remark.about),
            RemarkKind::IgnoreAll => None,
            RemarkKind::Prepare => continue,
        };
        for name in remark.value.split(',').map(str::trim) {
            match name.parse::<RuleName>() {
                Ok(rule) => findings.allow(rule.0, line),
                Err(why) => {
                    let place = (remark.about, remark.at);
                    findings.in_recipe(&ODD_LINE, place, format!("{name:?}: {why}"));
                }
            }
        }
    }
}

/// What a stage hands on to those that build on it.
#[derive(Clone, Default)]
struct StageSeen {
    has_shell: bool,
    /// Whether it says what to run, or builds on an image, which may.
    has_entry: bool,
    /// Whether its working directory is known from the root on.
    is_placed: bool,
    layers: usize,
}

struct Looker<'a> {
    recipe: &'a Recipe,
    has_ignore_file: Option<bool>,
    stages: Vec<StageSeen>,
    findings: &'a mut Findings,
}

impl Looker<'_> {
    fn stage(&mut self, number: usize) {
        let recipe = self.recipe;
        let Some(stage) = recipe.stages.get(number) else {
            return;
        };
        let mut seen = self.base(stage, number);
        self.name(stage, number);
        let mut commands: [Option<Position>; 2] = [None, None];
        for instruction in &stage.instructions {
            self.secrets(instruction);
            self.instruction(instruction, number, (&mut seen, &mut commands));
        }
        self.stages.push(seen);
    }

    /// Looks at `FROM`, and says what the stage begins with.
    fn base(&mut self, stage: &Stage, number: usize) -> StageSeen {
        // A variable that only --build-arg sets is for those who call the build.
        let Some(name) = self.expanded(&stage.image) else {
            return StageSeen {
                has_entry: true,
                ..StageSeen::default()
            };
        };
        match self.recipe.find(&name, number, false) {
            StageSource::Stage(below) => self.stages.get(below).cloned().unwrap_or_default(),
            StageSource::Other(name) if name == "scratch" => StageSeen {
                is_placed: true,
                ..StageSeen::default()
            },
            StageSource::Other(name) => {
                self.image(&name, (stage.at.line, stage.image.at));
                StageSeen {
                    has_entry: true,
                    ..StageSeen::default()
                }
            }
        }
    }

    /// Expands a word with what the recipe itself gives to variables before the first `FROM`.
    fn expanded(&self, piece: &Piece) -> Option<String> {
        let mut known: Vec<(&str, String)> = Vec::new();
        let escape = self.recipe.escape;
        let with = |known: &[(&str, String)], text: &str| {
            let lookup = |name: &str| {
                let mut all = known.iter().rev();
                all.find(|(known, _)| *known == name)
                    .map(|(_, value)| value.clone())
            };
            expand(text, escape, Quoting::Words, &lookup).ok()
        };
        for instruction in &self.recipe.head {
            let InstructionBody::Arg(args) = &instruction.body else {
                continue;
            };
            for (name, value) in args {
                if let Some(value) = value.as_ref().and_then(|value| with(&known, &value.text)) {
                    known.push((name, value));
                }
            }
        }
        with(&known, &piece.text).filter(|name| !name.is_empty())
    }

    /// Looks at how an image is named.
    fn image(&mut self, name: &str, place: (usize, Position)) {
        if name.contains("@sha256:") || name.starts_with("blake3:") {
            return;
        }
        let last = name.rsplit('/').next().unwrap_or_default();
        match last.split_once(':') {
            None => self
                .findings
                .in_recipe(&LATEST, place, format!("{name} has no tag")),
            Some((_, "latest")) => self.findings.in_recipe(&LATEST, place, name),
            Some(_) => {}
        }
        self.findings
            .in_recipe(&UNPINNED_BASE, place, format!("{name} has no digest"));
    }

    fn name(&mut self, stage: &Stage, number: usize) {
        let Some(name) = &stage.name else { return };
        let mut before = self.recipe.stages.iter().take(number);
        if let Some(other) = before.find(|other| other.name.as_ref() == Some(name)) {
            let reason = format!(
                "the stage of line {} is called {name} as well, and can be meant no more: choose another name",
                other.at.line
            );
            let place = (stage.at.line, stage.at);
            self.findings.in_recipe(&ODD_LINE, place, reason);
        }
    }

    /// Looks for keys and tokens, and for variables that are named as secrets are.
    fn secrets(&mut self, instruction: &Instruction) {
        let place = (instruction.at.line, instruction.at);
        let mut say = |reason: String| self.findings.in_recipe(&SECRET, place, reason);
        match &instruction.body {
            InstructionBody::Env(pairs) => {
                let secret = pairs
                    .iter()
                    .find(|(name, value)| is_secret_name(&name.text) && !value.text.is_empty());
                if let Some((name, _)) = secret {
                    say(format!("the variable {:?} has a value", name.text));
                }
            }
            InstructionBody::Arg(args) => {
                if let Some((name, _)) = args.iter().find(|(name, _)| is_secret_name(name)) {
                    say(format!(
                        "the argument {name:?}: what --build-arg gives is not secret"
                    ));
                }
            }
            _ => {}
        }
        let heredocs = match &instruction.body {
            InstructionBody::Copy(line) | InstructionBody::Add(line) => line.heredocs.as_slice(),
            InstructionBody::Run(line) => line.heredocs.as_slice(),
            _ => &[],
        };
        let texts = heredocs.iter().map(|doc| doc.content.as_str());
        let found = std::iter::once(instruction.text.as_str())
            .chain(texts)
            .find_map(|text| kind_of(text.as_bytes()));
        if let Some(what) = found {
            say(what.to_owned());
        }
    }

    fn instruction(
        &mut self,
        instruction: &Instruction,
        number: usize,
        (seen, commands): (&mut StageSeen, &mut [Option<Position>; 2]),
    ) {
        let at = instruction.at;
        match &instruction.body {
            InstructionBody::Copy(line) | InstructionBody::Add(line) => {
                seen.layers += 1;
                let is_add = matches!(&instruction.body, InstructionBody::Add(_));
                self.transfer(line, (at, number), is_add);
            }
            InstructionBody::Run(line) => {
                seen.layers += 1;
                self.command("RUN", &line.command, (at, seen.has_shell));
            }
            InstructionBody::Workdir(dir) => {
                let is_placed = seen.is_placed || dir.text.starts_with(['/', '$']);
                if !std::mem::replace(&mut seen.is_placed, true) && !is_placed {
                    let place = (at.line, dir.at);
                    let reason = dir.text.clone();
                    self.findings.in_recipe(&RELATIVE_WORKDIR, place, reason);
                }
            }
            InstructionBody::Entrypoint(command) => {
                seen.has_entry = true;
                self.command("ENTRYPOINT", command, (at, seen.has_shell));
                self.once("ENTRYPOINT", &mut commands[0], at);
            }
            InstructionBody::Cmd(command) => {
                seen.has_entry = true;
                self.command("CMD", command, (at, seen.has_shell));
                self.once("CMD", &mut commands[1], at);
            }
            InstructionBody::Shell(_) => seen.has_shell = true,
            _ => {}
        }
    }

    /// Says that an earlier one is replaced.
    fn once(&mut self, name: &str, before: &mut Option<Position>, at: Position) {
        if let Some(before) = before.replace(at) {
            let reason = format!("the {name} of line {} replaces it", at.line);
            let place = (before.line, before);
            self.findings.in_recipe(&OVERWRITTEN, place, reason);
        }
    }

    /// Text needs a shell.
    fn command(&mut self, name: &str, command: &CommandLine, (at, has_shell): (Position, bool)) {
        if let (CommandLine::Shell(text), false) = (command, has_shell) {
            let reason = format!(
                "text is for a shell, and this stage has none: write {name} [\"/PROGRAM.wasm\"], or SHELL [\"/bin/sh.wasm\", \"-c\"] before it"
            );
            self.findings
                .in_recipe(&UNBUILDABLE, (at.line, text.at), reason);
        }
    }

    fn transfer(&mut self, line: &TransferLine, (at, number): (Position, usize), is_add: bool) {
        if let Some(from) = &line.from
            && let StageSource::Other(name) = self.recipe.find(&from.text, number, true)
            && name.contains(['/', ':'])
        {
            self.image(&name, (at.line, from.at));
        }
        if let Some(mode) = &line.mode {
            // A change is tried on what a file has as a rule.
            let bits = ModeChange::parse(&mode.text).map_or(0, |change| change.of(0o644, false));
            let reason = format!("--chmod={}", mode.text);
            if bits & 0o6000 != 0 {
                self.findings
                    .in_recipe(&SETUID, (at.line, mode.at), reason.clone());
            }
            if bits & 0o002 != 0 {
                self.findings
                    .in_recipe(&WORLD_WRITABLE, (at.line, mode.at), reason);
            }
        }
        for source in &line.sources {
            let is_archive = ARCHIVE_ENDINGS.iter().any(|end| source.text.ends_with(end));
            let is_told = source.text.contains(['*', '?', '[', '$']);
            if is_add && !is_archive && !is_told && line.unpack.is_none() {
                let place = (at.line, source.at);
                self.findings
                    .in_recipe(&ADD_FOR_COPY, place, source.text.clone());
            }
            let is_whole = matches!(source.text.as_str(), "." | "./" | "/" | "*" | "./*");
            let has_rest = self.has_ignore_file == Some(false) && line.excludes.is_empty();
            if is_whole && line.from.is_none() && has_rest {
                let reason = "the whole context is copied, and no .dockerignore stands beside the recipe: version control, caches and the recipe itself come along";
                self.findings
                    .in_recipe(&LEFTOVER, (at.line, source.at), reason);
            }
        }
    }

    /// What is about the image that the recipe is for.
    fn last_stage(&mut self) {
        let (Some(seen), Some(stage)) = (self.stages.last(), self.recipe.stages.last()) else {
            return;
        };
        let place = (stage.at.line, stage.at);
        if !seen.has_entry {
            let reason = "the last stage has neither ENTRYPOINT nor CMD";
            self.findings.in_recipe(&NO_ENTRY, place, reason);
        }
        if seen.layers > MANY {
            let reason = format!("{} lines make a layer each", seen.layers);
            self.findings.in_recipe(&MANY_LAYERS, place, reason);
        }
    }
}
