//! From text to logical lines: directives, comments, continuations, here-documents.

use std::cell::Cell;

use super::heredoc::{self, Heredoc, HeredocWord};
use super::problem::{Position, Problem, shortened};
use super::remark::Remark;
use crate::limits::{MAX_INSTRUCTIONS, MAX_RECIPE_BYTES};

/// The front end whose syntax this is; tags of version 1 are taken.
const SYNTAX: &str = "docker/dockerfile";

/// A line with its continuations joined, and the bodies of its here-documents.
#[derive(Clone, Debug, Default)]
pub(super) struct LogicalLine {
    pub(super) text: String,
    /// Where pieces of the text come from: offset there, and position in the recipe.
    marks: Vec<(usize, Position)>,
    /// The place that was asked for last: the next one is counted from there.
    last: Cell<(usize, Position)>,
    pub(super) heredocs: Vec<Heredoc>,
    /// What comments before it or in it say to this program.
    pub(super) remarks: Vec<Remark>,
}

impl LogicalLine {
    /// Returns where the byte at `offset` stands in the recipe.
    pub(super) fn position(&self, offset: usize) -> Position {
        let after = self.marks.partition_point(|(start, _)| *start <= offset);
        let Some((start, at)) = after.checked_sub(1).and_then(|mark| self.marks.get(mark)) else {
            return Position::default();
        };
        let (known, place) = self.last.get();
        let is_near = (*start..=offset).contains(&known) && place.line == at.line;
        let (from, at) = if is_near {
            (known, place)
        } else {
            (*start, *at)
        };
        let between = self.text.get(from..offset).unwrap_or_default();
        let place = Position {
            line: at.line,
            column: at.column + between.chars().count(),
        };
        self.last.set((offset, place));
        place
    }

    fn push(&mut self, text: &str, at: Position) {
        self.marks.push((self.text.len(), at));
        self.text.push_str(text);
    }
}

/// A recipe as logical lines.
#[derive(Debug)]
pub(super) struct Lexed {
    pub(super) escape: char,
    pub(super) lines: Vec<LogicalLine>,
    /// What is odd and no error.
    pub(super) warnings: Vec<Problem>,
}

/// Splits a recipe.
pub(super) fn lex(text: &str) -> Result<Lexed, Problem> {
    let start = Position { line: 1, column: 1 };
    if text.len() > MAX_RECIPE_BYTES {
        let have = text.len();
        return Err(Problem::new(
            start,
            format_args!("the recipe has {have} bytes, and may have {MAX_RECIPE_BYTES}"),
        ));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lexer = Lexer {
        lines: text
            .split('\n')
            .map(|line| line.strip_suffix('\r').unwrap_or(line))
            .collect(),
        next: 0,
        directives: Directives::default(),
        remarks: Vec::new(),
        warnings: Vec::new(),
    };
    let mut lines = Vec::new();
    while let Some(line) = lexer.logical()? {
        if lines.len() >= MAX_INSTRUCTIONS {
            return Err(Problem::new(
                line.position(0),
                format_args!("a recipe may have {MAX_INSTRUCTIONS} instructions"),
            ));
        }
        lines.push(line);
    }
    Ok(Lexed {
        escape: lexer.directives.escape,
        lines,
        warnings: lexer.warnings,
    })
}

struct Lexer<'a> {
    lines: Vec<&'a str>,
    next: usize,
    directives: Directives,
    /// Those whose instruction is still to come.
    remarks: Vec<Remark>,
    warnings: Vec<Problem>,
}

impl Lexer<'_> {
    /// Reads the next instruction's line, or `None` at the end.
    fn logical(&mut self) -> Result<Option<LogicalLine>, Problem> {
        while let Some(raw) = self.lines.get(self.next) {
            let number = self.next + 1;
            let trimmed = raw.trim_start();
            let indent = raw.len() - trimmed.len();
            if trimmed.starts_with('#') {
                let column = raw.get(..indent).unwrap_or_default().chars().count() + 1;
                let at = Position {
                    line: number,
                    column,
                };
                self.directives.take(trimmed, at)?;
                self.remark(trimmed, at);
                self.next += 1;
                continue;
            }
            self.directives.done = true;
            if trimmed.is_empty() {
                self.next += 1;
                continue;
            }
            let line = self.joined()?;
            if !line.text.trim().is_empty() {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    /// Joins a line with those that it goes on in, and reads its here-documents.
    fn joined(&mut self) -> Result<LogicalLine, Problem> {
        let mut joined = LogicalLine::default();
        let mut is_first = true;
        while let Some(raw) = self.lines.get(self.next) {
            let at = self.next + 1;
            self.next += 1;
            let trimmed = raw.trim_start();
            let body = if is_first { trimmed } else { raw };
            let column = raw
                .get(..raw.len() - body.len())
                .unwrap_or_default()
                .chars()
                .count()
                + 1;
            let place = Position { line: at, column };
            if !is_first && trimmed.starts_with('#') {
                self.remark(trimmed, place);
                continue;
            }
            if !is_first && trimmed.is_empty() {
                self.warnings.push(Problem::new(
                    place,
                    "an empty line inside an instruction: remove it, or end the line before without the escape character",
                ));
                continue;
            }
            is_first = false;
            let (text, goes_on) = continued(body, self.directives.escape);
            joined.push(text, place);
            if !goes_on {
                break;
            }
        }
        joined.remarks = std::mem::take(&mut self.remarks);
        self.read_heredocs(&mut joined)?;
        Ok(joined)
    }

    /// Takes a comment, if it speaks to this program.
    fn remark(&mut self, comment: &str, at: Position) {
        match Remark::read(comment, at) {
            Some(Ok(remark)) => self.remarks.push(remark),
            Some(Err(problem)) => self.warnings.push(problem),
            None => {}
        }
    }

    fn read_heredocs(&mut self, line: &mut LogicalLine) -> Result<(), Problem> {
        let name = line.text.split_whitespace().next().unwrap_or_default();
        if !["RUN", "COPY", "ADD"].contains(&name.to_ascii_uppercase().as_str()) {
            return Ok(());
        }
        for (offset, word) in heredoc::words(&line.text, 0, self.directives.escape) {
            let at = line.position(offset);
            let mut found = match word {
                HeredocWord::Begins(found) => found,
                HeredocWord::Other(_) => continue,
                HeredocWord::Open(word) => return Err(open_quote(&word, at)),
            };
            loop {
                let Some(raw) = self.lines.get(self.next) else {
                    let name = shortened(&found.name);
                    return Err(Problem::new(
                        at,
                        format_args!(
                            "the here-document {name:?} does not end: write a line with {name} alone after it"
                        ),
                    ));
                };
                self.next += 1;
                let body = match found.strips_tabs {
                    true => raw.trim_start_matches('\t'),
                    false => raw,
                };
                if body == found.name {
                    break;
                }
                found.content.push_str(body);
                found.content.push('\n');
            }
            line.heredocs.push(found);
        }
        Ok(())
    }
}

/// Refuses a here-document whose name has a quote that does not end.
fn open_quote(word: &str, at: Position) -> Problem {
    let word = shortened(word.split_whitespace().next().unwrap_or_default());
    Problem::new(
        at,
        format_args!("{word}: a quote in it does not end: write <<NAME or <<\"NAME\""),
    )
}

/// Cuts the escape character off a line that goes on in the next one. Two of them at the
/// end are one that is meant.
fn continued(line: &str, escape: char) -> (&str, bool) {
    let trimmed = line.trim_end_matches([' ', '\t']);
    match trimmed.strip_suffix(escape) {
        Some(rest) if !rest.ends_with(escape) => (rest, true),
        _ => (line, false),
    }
}

/// What the comments at the head of a recipe say of how it is read.
struct Directives {
    escape: char,
    done: bool,
    seen: Vec<String>,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            escape: '\\',
            done: false,
            seen: Vec::new(),
        }
    }
}

impl Directives {
    /// Takes a comment, if it can still be a directive.
    fn take(&mut self, comment: &str, at: Position) -> Result<(), Problem> {
        if self.done {
            return Ok(());
        }
        let text = comment.strip_prefix('#').unwrap_or(comment);
        let Some((key, value)) = text.split_once('=') else {
            // What looks like the first line of a script says nothing here.
            self.done = !(at.line == 1 && text.starts_with('!'));
            return Ok(());
        };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        if !["syntax", "escape", "check"].contains(&key.as_str()) || value.is_empty() {
            self.done = true;
            return Ok(());
        }
        if self.seen.contains(&key) {
            return Err(Problem::new(
                at,
                format_args!("the directive {key} is given twice: leave one out"),
            ));
        }
        match key.as_str() {
            "escape" => self.set_escape(value, at)?,
            "syntax" => check_syntax(value, at)?,
            _ => {}
        }
        self.seen.push(key);
        Ok(())
    }

    fn set_escape(&mut self, value: &str, at: Position) -> Result<(), Problem> {
        self.escape = match value {
            "\\" => '\\',
            "`" => '`',
            _ => {
                return Err(Problem::new(
                    at,
                    format_args!("# escape={value}: the escape character is \\ or `"),
                ));
            }
        };
        Ok(())
    }
}

/// Refuses a recipe that is written for another front end.
fn check_syntax(value: &str, at: Position) -> Result<(), Problem> {
    let name = value.split_whitespace().next().unwrap_or_default();
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let version = match name.strip_prefix(SYNTAX) {
        Some("") => Some("1"),
        Some(rest) => rest.strip_prefix(':'),
        None => None,
    };
    let version = version.map(|text| text.split(['@', '-', '.']).next().unwrap_or_default());
    match version {
        Some("1" | "latest") => Ok(()),
        _ => Err(Problem::new(
            at,
            format_args!(
                "# syntax={value}: another language than the recipes here: write `# syntax={SYNTAX}:1`, or leave the line out"
            ),
        )),
    }
}

#[cfg(test)]
mod tests;
