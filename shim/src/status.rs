//! Why a call was refused: the codes of gRPC, as containerd reads them.

use std::fmt;

/// What kind of refusal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// What was said makes no sense, whatever the state.
    InvalidArgument = 3,
    /// There is no such container or process.
    NotFound = 5,
    /// There is one of that name.
    AlreadyExists = 6,
    /// It may not be, as the configuration has it.
    PermissionDenied = 7,
    /// A bound is reached.
    ResourceExhausted = 8,
    /// The container is not in a state for it.
    FailedPrecondition = 9,
    /// Nothing here does that.
    Unimplemented = 12,
    /// The host failed.
    Internal = 13,
    /// The process is about to end, or containerd does not answer it.
    Unavailable = 14,
}

/// A refusal, with its reason on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What kind.
    pub code: Code,
    /// Why, for the user.
    pub message: String,
}

impl Status {
    /// Makes one.
    pub fn new(code: Code, message: impl fmt::Display) -> Self {
        Self {
            code,
            message: message.to_string(),
        }
    }

    /// Cuts the reason to so many bytes, between characters, and says that it goes on.
    #[must_use]
    pub fn cut(mut self, most: usize) -> Self {
        if self.message.len() > most {
            let end = self.message.floor_char_boundary(most);
            self.message.truncate(end);
            self.message.push_str(" ...");
        }
        self
    }

    /// Refuses what was said.
    pub fn invalid(message: impl fmt::Display) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// Returns the status of a failure of the host.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(Code::Internal, message)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_is_too_long_is_cut_between_characters() {
        let long = Status::invalid("\u{e4}".repeat(10)).cut(7);
        assert_eq!(long.message, "\u{e4}\u{e4}\u{e4} ...");
        assert_eq!(Status::invalid("short").cut(5).message, "short");
    }
}
