//! `COPY` and `ADD`: flags, sources and destination.

use super::flags::{self, Flag};
use super::heredoc::{self, Heredoc, HeredocWord};
use super::instruction::Piece;
use super::lexer::LogicalLine;
use super::problem::{Position, Problem};
use super::words::{json, plain_words};

/// What `COPY` or `ADD` says.
#[derive(Clone, Debug, Default)]
pub(crate) struct TransferLine {
    pub(crate) from: Option<Piece>,
    pub(crate) owner: Option<Piece>,
    pub(crate) mode: Option<Piece>,
    pub(crate) excludes: Vec<Piece>,
    pub(crate) parents: bool,
    pub(crate) link: bool,
    /// Whether archives are unpacked, if `ADD` says so.
    pub(crate) unpack: Option<bool>,
    pub(crate) sources: Vec<Piece>,
    pub(crate) heredocs: Vec<Heredoc>,
    /// Where to. There is one in each that was read.
    pub(crate) to: Option<Piece>,
}

/// Reads the rest of a line after the instruction's name.
pub(super) fn read(
    line: &LogicalLine,
    start: usize,
    escape: char,
    name: &'static str,
) -> Result<TransferLine, Problem> {
    let (flags, start) = flags::take(line, start, escape);
    flags::check_once(&flags)?;
    let mut read = TransferLine::default();
    for flag in &flags {
        take_flag(&mut read, flag, name)?;
    }
    let rest = line.text.get(start..).unwrap_or_default();
    let words = match json(line, start)? {
        Some(words) => words.into_iter().map(|word| (start, word)).collect(),
        None if line.heredocs.is_empty() => plain_words(rest, start),
        None => beside_heredocs(rest, start, escape),
    };
    let piece = |(offset, text)| Piece {
        text,
        at: line.position(offset),
    };
    let mut pieces: Vec<Piece> = words.into_iter().map(piece).collect();
    read.heredocs.clone_from(&line.heredocs);
    read.to = pieces.pop();
    read.sources = pieces;
    if read.to.is_none() || (read.sources.is_empty() && read.heredocs.is_empty()) {
        return Err(Problem::new(
            line.position(0),
            format_args!("{name} needs a source and a destination: write `{name} SOURCE... DEST`"),
        ));
    }
    for source in &read.sources {
        check_local(&source.text, name == "ADD", source.at)?;
    }
    Ok(read)
}

/// The words of a line that announce no here-document.
fn beside_heredocs(text: &str, start: usize, escape: char) -> Vec<(usize, String)> {
    let words = heredoc::words(text, start, escape).into_iter();
    words
        .filter_map(|(offset, word)| match word {
            HeredocWord::Other(word) => Some((offset, word)),
            HeredocWord::Begins(_) | HeredocWord::Open(_) => None,
        })
        .collect()
}

fn take_flag(read: &mut TransferLine, flag: &Flag, name: &'static str) -> Result<(), Problem> {
    let piece = || flag.value().map(|text| Piece { text, at: flag.at });
    match (flag.name.as_str(), name) {
        ("from", "COPY") => read.from = Some(piece()?),
        ("chown", _) => read.owner = Some(piece()?),
        ("chmod", _) => read.mode = Some(piece()?),
        ("exclude", _) => read.excludes.push(piece()?),
        ("link", _) => read.link = flag.on()?,
        ("parents", "COPY") => read.parents = flag.on()?,
        ("unpack", "ADD") => read.unpack = Some(flag.on()?),
        ("checksum", "ADD") => {
            return Err(Problem::new(
                flag.at,
                "--checksum is for what is fetched, and ADD fetches nothing here: leave it out",
            ));
        }
        ("keep-git-dir", "ADD") => {
            return Err(Problem::new(
                flag.at,
                "--keep-git-dir: ADD fetches no repository: give a clone with --build-context NAME=DIR and write COPY --from=NAME",
            ));
        }
        (_, "COPY") => {
            let known = "--from, --chown, --chmod, --exclude, --parents and --link";
            return Err(flag.unknown(name, known));
        }
        _ => return Err(flag.unknown(name, "--chown, --chmod, --exclude, --unpack and --link")),
    }
    Ok(())
}

/// Refuses a source that is fetched from elsewhere.
pub(crate) fn check_local(source: &str, is_add: bool, at: Position) -> Result<(), Problem> {
    let is_git = source.starts_with("git@") || source.ends_with(".git");
    match source.contains("://") || (is_git && is_add) {
        true => Err(Problem::new(
            at,
            format_args!(
                "{source}: fetched at each build, it may differ each time: fetch it before, give it with --build-context NAME=DIR and write COPY --from=NAME"
            ),
        )),
        false => Ok(()),
    }
}
