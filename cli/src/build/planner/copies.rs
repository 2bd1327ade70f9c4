//! `COPY` and `ADD`, with their words expanded.

use super::StagePlanner;
use crate::build::origins::Origin;
use crate::build::steps::{CopyPlan, StepKind};
use crate::recipe::expand::Quoting;
use crate::recipe::wildcard::Wildcard;
use crate::recipe::{self, ModeChange, Piece, Position, Problem, TransferLine};

impl StagePlanner<'_, '_> {
    pub(super) fn copy(
        &self,
        line: &TransferLine,
        at: Position,
        is_add: bool,
    ) -> Result<(StepKind, String), Problem> {
        let words = |pieces: &[Piece]| -> Result<Vec<String>, Problem> {
            pieces.iter().map(|piece| self.word(piece)).collect()
        };
        let from = self.copied_from(line)?;
        let (sources, excludes) = (words(&line.sources)?, words(&line.excludes)?);
        for (source, piece) in sources.iter().zip(&line.sources) {
            recipe::check_local(source, is_add, piece.at)?;
            check_source(source, piece.at)?;
        }
        for (exclude, piece) in excludes.iter().zip(&line.excludes) {
            Wildcard::new(exclude, true).map_err(|why| Problem::new(piece.at, why))?;
        }
        let texts = self.texts(line, at)?;
        let to_piece = line.to.as_ref();
        let to = to_piece
            .map(|to| self.word(to))
            .transpose()?
            .unwrap_or_default();
        let is_dir = to.ends_with('/') || matches!(to.rsplit('/').next(), Some("." | ".."));
        let many = sources.len() + texts.len() > 1;
        if many && !is_dir {
            return Err(Problem::new(
                to_piece.map_or(at, |to| to.at),
                format_args!("several sources go to {to:?}, which is not a directory: write {to}/"),
            ));
        }
        let mode = line.mode.as_ref().map(|mode| self.mode(mode)).transpose()?;
        let owner = line
            .owner
            .as_ref()
            .map(|owner| self.word(owner))
            .transpose()?;
        let name = if is_add { "ADD" } else { "COPY" };
        let named: Vec<&str> = sources
            .iter()
            .chain(texts.iter().map(|(name, _)| name))
            .map(String::as_str)
            .collect();
        let said = format!("{name} {} {to}", named.join(" "));
        let plan = CopyPlan {
            is_add,
            from,
            sources,
            texts,
            to: super::absolute(&self.workdir(), &to, at)?,
            is_dir,
            owner,
            mode,
            excludes,
            parents: line.parents,
            link: line.link,
            unpack: line.unpack,
        };
        Ok((StepKind::Copy(Box::new(plan)), said))
    }

    /// What files are copied from.
    fn copied_from(&self, line: &TransferLine) -> Result<Origin, Problem> {
        match &line.from {
            None => Ok(Origin::Context),
            Some(from) if from.text.contains('$') => Err(Problem::new(
                from.at,
                "--from takes no variables: name a stage that begins with FROM and an ARG before the first FROM",
            )),
            Some(from) => self.origin(&from.text, from.at),
        }
    }

    /// Here-documents by name, expanded unless their word is quoted.
    fn texts(&self, line: &TransferLine, at: Position) -> Result<Vec<(String, String)>, Problem> {
        let texts = line.heredocs.iter().map(|doc| {
            let text = match doc.expands {
                true => {
                    let escape = self.head.escape;
                    self.own
                        .expand_text(&doc.content, at, escape, Quoting::Text)?
                }
                false => doc.content.clone(),
            };
            self.head.count(text.len(), at)?;
            let name = doc.file_name().ok_or_else(|| {
                Problem::new(
                    at,
                    format_args!(
                        "<<{0}: a copy of the here-document has no name then: end it with a file's, as in <<{0}/file",
                        doc.name.trim_end_matches('/')
                    ),
                )
            })?;
            Ok((name.to_owned(), text))
        });
        texts.collect()
    }

    fn mode(&self, piece: &Piece) -> Result<ModeChange, Problem> {
        let text = self.word(piece)?;
        ModeChange::parse(&text).ok_or_else(|| {
            Problem::new(
                piece.at,
                format_args!(
                    "--chmod={text}: write the mode in octal digits up to 7777, as in --chmod=755, or as a change, as in --chmod=u=rwX,go=rX"
                ),
            )
        })
    }
}

/// Refuses what is empty, no pattern, or leads above the context.
fn check_source(source: &str, at: Position) -> Result<(), Problem> {
    if source.is_empty() || source.contains('\0') {
        let what = "a source is empty with its variables replaced: name a file or directory";
        return Err(Problem::new(at, what));
    }
    let mut depth = 0_usize;
    for name in source.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                depth = depth.checked_sub(1).ok_or_else(|| {
                    Problem::new(
                        at,
                        format_args!("{source}: it leaves the context: copy from inside it, or give another with --build-context NAME=DIR and write --from=NAME"),
                    )
                })?;
            }
            name => {
                Wildcard::new(name, false).map_err(|why| Problem::new(at, why))?;
                depth += 1;
            }
        }
    }
    Ok(())
}
