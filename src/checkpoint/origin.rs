//! What a module that goes on says of the program that it was made of.
//!
//! Behind the program's functions such a module has continuations. When it is frozen itself, its
//! frames are read as frames of the program's functions, and the next module is made of those:
//! however often a program is frozen, what goes on has the program's functions, and one
//! continuation for each frame.
//!
//! This stands in a section that means nothing to an engine, behind all others and with a digest
//! of them: a module that was changed since is a program of its own.

use wasm_encoder::{CustomSection, Encode, Section};
use wasmparser::BinaryReader;

use super::compose::length;
use crate::digest::Digest;

/// The name of the section.
pub(super) const SECTION: &str = "stratafs.checkpoint";

/// The first byte of the section.
const VERSION: u8 = 1;

/// Bytes of a digest.
const DIGEST_BYTES: usize = 32;

/// What a module has of the program that it was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OriginalProgram<'a> {
    /// The digest of the program.
    pub(crate) program: Digest,
    /// How many functions the program has, imported ones among them.
    pub(crate) functions: u32,
    /// How many groups of types.
    pub(crate) types: u32,
    /// How many segments of elements.
    pub(crate) elements: u32,
    /// How many segments of data.
    pub(crate) data: u32,
    /// The function that the program exports in the place of the outermost continuation.
    pub(crate) entry: u32,
    /// The functions behind those of the program.
    pub(crate) continuations: Vec<Continued<'a>>,
}

/// What a continuation is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Continued<'a> {
    /// The number of its function; `None` if it calls the import alone, or is never called.
    pub(crate) function: Option<u32>,
    /// Its [`CopiedRun`]s, as they stand in the section.
    pub(crate) runs: &'a [u8],
}

/// Operators of a continuation that are those of its function, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CopiedRun {
    /// The offset of the first one in the body of the continuation.
    pub(crate) start: u32,
    /// The position of the first one in the function.
    pub(crate) first: u32,
    pub(crate) count: u32,
}

impl CopiedRun {
    /// Returns the last of runs by where they begin that begins at an offset of the body or
    /// before it.
    pub(super) fn at(runs: &[Self], offset: usize) -> Option<Self> {
        let behind = runs.partition_point(|run| run.start as usize <= offset);
        runs.get(behind.checked_sub(1)?).copied()
    }

    /// Bytes that one takes at most: three numbers.
    pub(crate) const MAX_BYTES: usize = 15;

    /// Writes runs as they stand in the section.
    pub(crate) fn write_all(runs: &[Self]) -> Vec<u8> {
        let mut out = Vec::new();
        for run in runs {
            for number in [run.start, run.first, run.count] {
                number.encode(&mut out);
            }
        }
        out
    }
}

impl<'a> OriginalProgram<'a> {
    /// Returns the function of the program whose frame one of the module's functions has; `None`
    /// if that is a continuation of none.
    pub(super) fn function_of(&self, function: u32) -> Option<u32> {
        match function.checked_sub(self.functions) {
            None => Some(function),
            Some(at) => self.continuations.get(at as usize)?.function,
        }
    }

    /// Reads the contents of the section of a module that has so many functions. `None` if
    /// they are not what was written for it.
    pub(super) fn read(contents: &'a [u8], module: &[u8], functions: u32) -> Option<Self> {
        let mut reader = BinaryReader::new(contents, 0);
        if reader.read_u8().ok()? != VERSION {
            return None;
        }
        let before = reader.read_var_u32().ok()?;
        if Digest::of(module.get(..before as usize)?) != digest(&mut reader)? {
            return None;
        }
        let program = digest(&mut reader)?;
        let mut number = || reader.read_var_u32().ok();
        let mut origin = Self {
            program,
            functions: number()?,
            types: number()?,
            elements: number()?,
            data: number()?,
            entry: number()?,
            continuations: Vec::new(),
        };
        // What may come from anywhere takes no more room than the functions that are there.
        for _ in 0..functions.checked_sub(origin.functions)? {
            let function = reader.read_var_u32().ok()?.checked_sub(1);
            let bytes = reader.read_var_u32().ok()? as usize;
            let runs = reader.read_bytes(bytes).ok()?;
            origin.continuations.push(Continued { function, runs });
        }
        reader.eof().then_some(origin)
    }

    /// Writes the section behind all that a module has.
    pub(super) fn append_to(&self, module: &mut Vec<u8>) {
        let mut data = vec![VERSION];
        length(module.len()).encode(&mut data);
        data.extend_from_slice(Digest::of(module).as_bytes());
        data.extend_from_slice(self.program.as_bytes());
        for number in [
            self.functions,
            self.types,
            self.elements,
            self.data,
            self.entry,
        ] {
            number.encode(&mut data);
        }
        for one in &self.continuations {
            one.function
                .map_or(0, |function| function + 1)
                .encode(&mut data);
            one.runs.encode(&mut data);
        }
        let section = CustomSection {
            name: SECTION.into(),
            data: data.into(),
        };
        section.append_to(module);
    }
}

impl Continued<'_> {
    /// Returns its runs by where they begin; `None` if they cannot be read.
    pub(super) fn runs_by_start(&self) -> Option<Vec<CopiedRun>> {
        let mut reader = BinaryReader::new(self.runs, 0);
        let mut runs = Vec::new();
        while !reader.eof() {
            let mut number = || reader.read_var_u32().ok();
            runs.push(CopiedRun {
                start: number()?,
                first: number()?,
                count: number()?,
            });
        }
        // They were written so; what comes from elsewhere may be in any order.
        runs.sort_by_key(|run| run.start);
        Some(runs)
    }
}

fn digest(reader: &mut BinaryReader<'_>) -> Option<Digest> {
    let bytes = reader.read_bytes(DIGEST_BYTES).ok()?;
    bytes.first_chunk().copied().map(Digest::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_for_a_module_is_read_for_it_alone() {
        let runs = CopiedRun::write_all(&[
            CopiedRun {
                start: 5,
                first: 200,
                count: 3,
            },
            CopiedRun {
                start: 1000,
                first: 0,
                count: 1,
            },
        ]);
        let continuations = vec![
            Continued {
                function: Some(0),
                runs: &runs,
            },
            Continued {
                function: None,
                runs: &[],
            },
        ];
        let origin = OriginalProgram {
            program: Digest::of(b"the program"),
            functions: 40,
            types: 300,
            elements: 0,
            data: 1,
            entry: 39,
            continuations,
        };
        let mut module = b"what stands before".to_vec();
        origin.append_to(&mut module);
        let mut names = module.windows(SECTION.len());
        let name = names.position(|name| name == SECTION.as_bytes()).unwrap();
        let contents = &module[name + SECTION.len()..];
        assert_eq!(
            OriginalProgram::read(contents, &module, 42),
            Some(origin.clone())
        );
        for functions in [39, 41, 43] {
            assert_eq!(OriginalProgram::read(contents, &module, functions), None);
        }
        let mut changed = module.clone();
        changed[3] ^= 1;
        assert_eq!(OriginalProgram::read(contents, &changed, 42), None);
        for end in 0..contents.len() {
            assert_eq!(
                OriginalProgram::read(&contents[..end], &module, 42),
                None,
                "{end}"
            );
        }
        let runs = origin.continuations[0].runs_by_start().unwrap();
        let at = |offset| CopiedRun::at(&runs, offset).map(|run| run.first);
        assert_eq!(
            [at(4), at(5), at(999), at(1000)],
            [None, Some(200), Some(200), Some(0)]
        );
        assert_eq!(origin.continuations[1].runs_by_start(), Some(Vec::new()));
        assert_eq!(CopiedRun::at(&[], 9), None);
    }
}
