//! `RUN`, with its words expanded.

use super::StagePlanner;
use super::facts::json;
use crate::build::origins::Origin;
use crate::build::steps::{GuestPlan, MountPlan, MountWhat, StepKind};
use crate::recipe::expand::Quoting;
use crate::recipe::{CommandLine, MountKind, MountLine, Piece, Position, Problem, RunLine};

/// Where secrets are shown.
const SECRETS: &str = "/run/secrets";

impl StagePlanner<'_, '_> {
    pub(super) fn run(&self, line: &RunLine, at: Position) -> Result<(StepKind, String), Problem> {
        let argv = self.words("RUN", &with_heredocs(line))?;
        let mut mounts = Vec::with_capacity(line.mounts.len());
        for mount in &line.mounts {
            mounts.push(self.mount(mount)?);
        }
        check_targets(&mounts, &line.mounts)?;
        if argv.first().is_none_or(String::is_empty) {
            return Err(Problem::new(
                at,
                "RUN needs a program: write RUN [\"/PROGRAM.wasm\"]",
            ));
        }
        self.head.count(self.own.bytes(), at)?;
        let said = format!("RUN {}", json(&argv));
        let plan = GuestPlan {
            argv,
            env: self.head.of_guest(&self.own),
            workdir: self.workdir(),
            mounts,
            no_network: line.no_network,
        };
        Ok((StepKind::Run(Box::new(plan)), said))
    }

    fn mount(&self, line: &MountLine) -> Result<MountPlan, Problem> {
        let at = line.at;
        let text = |text: &str| {
            self.own
                .expand_text(text, at, self.head.escape, Quoting::Words)
        };
        let opt = |word: &Option<String>| word.as_deref().map(text).transpose();
        let target = opt(&line.target)?
            .map(|target| super::absolute(&self.workdir(), &target, at))
            .transpose()?;
        let origin = |from: &Option<String>| match from {
            Some(from) => self.origin(from, at),
            None => Ok(Origin::Context),
        };
        let what = match &line.kind {
            MountKind::Tmpfs { size } => MountWhat::Tmpfs { size: *size },
            MountKind::Bind { from, source } => MountWhat::Bind {
                from: origin(from)?,
                source: inside(opt(source)?, at)?,
            },
            MountKind::Cache {
                id,
                from,
                source,
                locked,
            } => {
                let source = opt(source)?;
                if from.is_none() && source.is_some() {
                    return Err(Problem::new(
                        at,
                        "--mount: source is a directory of what from names: write from=STAGE as well",
                    ));
                }
                let from = match from {
                    Some(_) => Some((origin(from)?, inside(source, at)?)),
                    None => None,
                };
                let id = opt(id)?.or_else(|| target.clone()).unwrap_or_default();
                MountWhat::Cache {
                    id,
                    from,
                    locked: *locked,
                }
            }
            MountKind::Secret {
                id,
                variable,
                required,
            } => {
                let id = opt(id)?.or_else(|| {
                    let name = target.as_deref()?.rsplit('/').next()?;
                    Some(name.to_owned())
                });
                let lacks = "--mount: a secret has an id or a target: write id=NAME";
                let id = id.ok_or_else(|| Problem::new(at, lacks))?;
                let variable = opt(variable)?;
                return self.secret(line, (id, variable), target, *required);
            }
        };
        let target = target.unwrap_or_default();
        if target == "/" {
            let what = "--mount: the target / is the stage itself: write target=/DIR";
            return Err(Problem::new(at, what));
        }
        Ok(MountPlan {
            target,
            read_only: line.read_only,
            what,
        })
    }

    fn secret(
        &self,
        line: &MountLine,
        (id, variable): (String, Option<String>),
        target: Option<String>,
        required: bool,
    ) -> Result<MountPlan, Problem> {
        if required && !self.secrets.contains(&id) {
            return Err(Problem::new(
                line.at,
                format_args!(
                    "the secret {id:?} is required: give it with --secret id={id},src=FILE"
                ),
            ));
        }
        let target = match (target, &variable) {
            (Some(target), _) => target,
            (None, Some(_)) => String::new(),
            (None, None) => {
                let name = id.rsplit('/').next().filter(|name| !name.is_empty());
                format!("{SECRETS}/{}", name.unwrap_or(&id))
            }
        };
        Ok(MountPlan {
            target,
            read_only: true,
            what: MountWhat::Secret { id, variable },
        })
    }
}

/// What a shell is given: a here-document alone is the text; beside words it follows them.
fn with_heredocs(line: &RunLine) -> CommandLine {
    let (CommandLine::Shell(text), false) = (&line.command, line.heredocs.is_empty()) else {
        return line.command.clone();
    };
    let mut whole = match line.is_script {
        true => String::new(),
        false => format!("{}\n", text.text),
    };
    for doc in &line.heredocs {
        whole.push_str(&doc.content);
        if !line.is_script {
            whole.push_str(&doc.name);
            whole.push('\n');
        }
    }
    CommandLine::Shell(Piece {
        text: whole,
        at: text.at,
    })
}

/// A directory inside of what a mount shows.
fn inside(source: Option<String>, at: Position) -> Result<String, Problem> {
    let source = source.unwrap_or_default();
    match source.split('/').any(|name| name == "..") {
        true => Err(Problem::new(
            at,
            format_args!(
                "--mount: source={source}: it may not go up: name a directory from the root of what is mounted on"
            ),
        )),
        false => Ok(source),
    }
}

/// Refuses targets that are one or lie within each other.
fn check_targets(mounts: &[MountPlan], lines: &[MountLine]) -> Result<(), Problem> {
    for (number, (mount, line)) in mounts.iter().zip(lines).enumerate() {
        let own = format!("{}/", mount.target);
        let others = mounts.iter().take(number);
        let near = others
            .filter(|other| !other.target.is_empty() && !mount.target.is_empty())
            .find(|other| {
                let theirs = format!("{}/", other.target);
                own.starts_with(&theirs) || theirs.starts_with(&own)
            });
        if let Some(other) = near {
            return Err(Problem::new(
                line.at,
                format_args!(
                    "--mount: {} and {} lie within each other: choose targets apart",
                    mount.target, other.target
                ),
            ));
        }
    }
    Ok(())
}
