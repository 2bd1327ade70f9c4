//! What is wrong with a recipe, and where.

use std::borrow::Cow;
use std::fmt;

use crate::failure;

/// Bytes of a word that a message repeats.
const WORD_BYTES: usize = 100;

/// A word as a message repeats it: the end of a long one would push out what it says.
pub(super) fn shortened(word: &str) -> Cow<'_, str> {
    failure::cut(word, WORD_BYTES)
}

/// A place in a recipe: line and column, both from 1, the column in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A line that cannot be built: where it is, what was found there, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) at: Position,
    pub(crate) what: String,
}

impl Problem {
    pub(crate) fn new(at: Position, what: impl fmt::Display) -> Self {
        Self {
            at,
            what: what.to_string(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

impl std::error::Error for Problem {}
