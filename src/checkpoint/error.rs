//! Why a program cannot be frozen.

use std::fmt;

/// A program, or the place where it stands, cannot be frozen.
///
/// Its text names the construct, and the function and the offset in the binary where it
/// stands, if it stands in one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// What cannot be frozen, and why.
    pub construct: String,
    /// The number of the function, imported ones first.
    pub function: Option<u32>,
    /// Its name, if the program has one for it.
    pub name: Option<String>,
    /// The offset in the binary, in bytes.
    pub offset: Option<usize>,
}

impl Refusal {
    pub(crate) fn new(construct: impl Into<String>) -> Self {
        Self {
            construct: construct.into(),
            function: None,
            name: None,
            offset: None,
        }
    }

    /// Returns `number` in 31 bits. The validation of the module allows no function so
    /// large that it is more: one that is comes from a mistake here, so that a debug build
    /// panics and a release build refuses the program.
    pub(super) fn unless_i32(number: u64, what: &str) -> Result<i32, Self> {
        let narrow = i32::try_from(number);
        debug_assert!(narrow.is_ok(), "{what}: {number}");
        narrow.map_err(|_| {
            Self::new(format!(
                "{what}: expected at most {}, found {number}",
                i32::MAX
            ))
        })
    }

    /// Says where it stands, unless that is known more closely already.
    pub(super) fn in_function(mut self, function: u32, name: Option<&str>) -> Self {
        if self.function.is_none() {
            self.function = Some(function);
            self.name = name.map(str::to_owned);
        }
        self
    }

    pub(super) fn at(mut self, offset: usize) -> Self {
        self.offset.get_or_insert(offset);
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(function) = self.function {
            write!(f, "function {function}")?;
            if let Some(name) = &self.name {
                write!(f, " ({})", name.escape_debug())?;
            }
        }
        if let Some(offset) = self.offset {
            let space = if self.function.is_some() { " " } else { "" };
            write!(f, "{space}at offset {offset:#x}")?;
        }
        if self.function.is_some() || self.offset.is_some() {
            f.write_str(": ")?;
        }
        f.write_str(&self.construct)
    }
}

impl std::error::Error for Refusal {}

impl From<wasmparser::BinaryReaderError> for Refusal {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        Self::new(format!("the program is not valid: {}", error.message())).at(error.offset())
    }
}

/// What a validated program cannot lack.
pub(super) fn missing(what: &str) -> Refusal {
    Refusal::new(format!("the program has no such {what}"))
}

impl Refusal {
    /// A component was to be frozen.
    pub(crate) fn of_component() -> Self {
        Self::new(
            "the guest is a component: what the engine holds of its calls and resources cannot be read and made again; build it as a command of WASI preview1, such as by the target wasm32-wasip1",
        )
    }

    /// The stack could not be left.
    pub(crate) fn of_leaving(why: &str) -> Self {
        Self::new(format!("a function on the stack cannot be left: {why}"))
    }

    /// What belongs to no place in the program.
    pub(crate) fn of_call(what: &str) -> Self {
        Self::new(what)
    }
}
