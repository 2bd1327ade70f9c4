//! Writing a module that is another one with more in it.

use std::borrow::Cow;

use wasm_encoder::{Encode, Module, RawSection, ValType};

use super::core_module::CoreModule;
use super::error::{Refusal, missing};
use super::frames::Frame;
use super::signatures::Signatures;
use crate::bounded::bounded_u32;

/// The numbers of sections.
pub(crate) mod id {
    pub(crate) const TYPE: u8 = 1;
    pub(crate) const IMPORT: u8 = 2;
    pub(crate) const FUNCTION: u8 = 3;
    pub(crate) const TABLE: u8 = 4;
    pub(crate) const MEMORY: u8 = 5;
    pub(crate) const GLOBAL: u8 = 6;
    pub(crate) const EXPORT: u8 = 7;
    pub(crate) const START: u8 = 8;
    pub(crate) const ELEMENT: u8 = 9;
    pub(crate) const CODE: u8 = 10;
    pub(crate) const DATA: u8 = 11;
    pub(crate) const DATA_COUNT: u8 = 12;
    pub(crate) const TAG: u8 = 13;
}

/// The order in which sections stand.
const ORDER: [u8; 13] = [
    id::TYPE,
    id::IMPORT,
    id::FUNCTION,
    id::TABLE,
    id::MEMORY,
    id::TAG,
    id::GLOBAL,
    id::EXPORT,
    id::START,
    id::ELEMENT,
    id::DATA_COUNT,
    id::CODE,
    id::DATA,
];

/// Writes a module section by section. `change` returns what a section holds instead of
/// what the program has there; nothing for a section that is to go.
pub(crate) fn compose<'p>(
    program: &'p CoreModule<'_>,
    names: &[u8],
    mut change: impl FnMut(u8) -> Result<SectionChange<'p>, Refusal>,
) -> Result<Vec<u8>, Refusal> {
    let mut module = Module::new();
    for id in ORDER {
        let contents = match change(id)? {
            SectionChange::Keep => contents(program, id)?.map(Cow::Borrowed),
            SectionChange::Leave => None,
            SectionChange::Put(contents) => Some(contents),
        };
        if let Some(data) = &contents {
            module.section(&RawSection { id, data });
        }
    }
    if !names.is_empty() {
        module.section(&wasm_encoder::CustomSection {
            name: "name".into(),
            data: names.into(),
        });
    }
    Ok(module.finish())
}

/// What becomes of a section.
pub(crate) enum SectionChange<'p> {
    Keep,
    Leave,
    Put(Cow<'p, [u8]>),
}

impl SectionChange<'_> {
    pub(crate) fn put(contents: Vec<u8>) -> Self {
        Self::Put(Cow::Owned(contents))
    }
}

/// Returns what a section of the program holds.
pub(crate) fn contents<'p>(
    program: &'p CoreModule<'_>,
    id: u8,
) -> Result<Option<&'p [u8]>, Refusal> {
    let Some(section) = program.section(id) else {
        return Ok(None);
    };
    let contents = program.wasm.get(section.contents.clone());
    contents.map(Some).ok_or_else(|| missing("section"))
}

/// Items to stand behind those of a section.
#[derive(Default)]
pub(crate) struct Items {
    pub(crate) count: u32,
    pub(crate) bytes: Vec<u8>,
}

impl Items {
    pub(crate) fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.count += 1;
        write(&mut self.bytes);
    }

    /// Puts others behind these.
    pub(crate) fn append(&mut self, others: &Self) {
        self.count += others.count;
        self.bytes.extend_from_slice(&others.bytes);
    }

    /// Returns a section that has nothing but these.
    pub(crate) fn alone(mut self) -> Vec<u8> {
        let mut count = Vec::new();
        self.count.encode(&mut count);
        // The pages of a memory are moved where they are: a copy would take as much again.
        self.bytes.reserve_exact(count.len());
        self.bytes.splice(0..0, count);
        self.bytes
    }

    /// Returns the section of the program with these behind its own.
    pub(crate) fn behind(
        self,
        program: &CoreModule<'_>,
        id: u8,
    ) -> Result<SectionChange<'static>, Refusal> {
        if self.count == 0 {
            return match contents(program, id)? {
                Some(own) => Ok(SectionChange::put(own.to_vec())),
                None => Ok(SectionChange::Leave),
            };
        }
        let Some(own) = contents(program, id)? else {
            return Ok(SectionChange::put(self.alone()));
        };
        let count = program.section(id).map_or(0, |section| section.count);
        let digits = own.iter().position(|byte| byte & 0x80 == 0);
        let items = own.get(digits.ok_or_else(|| missing("section"))? + 1..);
        let mut out = Vec::with_capacity(own.len() + self.bytes.len() + 5);
        (count + self.count).encode(&mut out);
        out.extend_from_slice(items.unwrap_or_default());
        out.extend_from_slice(&self.bytes);
        Ok(SectionChange::put(out))
    }
}

/// Returns the types that were added, as items of the type section.
pub(crate) fn types(signatures: &Signatures) -> Items {
    let mut items = Items::default();
    for (params, results) in signatures.added() {
        items.add(|out| {
            out.push(0x60);
            for types in [params, results] {
                length(types.len()).encode(out);
                types.iter().for_each(|ty: &ValType| ty.encode(out));
            }
        });
    }
    items
}

/// Bytes of names of the frames' functions, which a deep stack has as often as it has the function.
const MAX_ADDED_NAMES: usize = 1 << 20;

/// The names of the program's functions up to a number, and of each continuation that of its
/// function.
pub(crate) fn names(program: &CoreModule<'_>, until: u32, frames: &[Frame]) -> Vec<u8> {
    let own = program.names().filter(|(number, _)| *number < until);
    let mut all: Vec<(u32, String)> = own
        .map(|(number, name)| (number, name.to_owned()))
        .collect();
    let mut bytes = 0;
    for (number, frame) in (program.function_count()..).zip(frames) {
        let name = program.name(frame.function).unwrap_or_default();
        bytes += name.len();
        // What an engine says of a function without a name, which has another number here.
        let name = match name.is_empty() || bytes > MAX_ADDED_NAMES {
            true => format!("<wasm function {}>", frame.function),
            false => name.to_owned(),
        };
        all.push((number, name));
    }
    if all.is_empty() && program.module_name.is_none() {
        return Vec::new();
    }
    all.sort_unstable();
    let mut map = wasm_encoder::NameMap::new();
    for (number, name) in &all {
        map.append(*number, name);
    }
    let mut section = wasm_encoder::NameSection::new();
    if let Some(name) = program.module_name {
        section.module(name);
    }
    if !all.is_empty() {
        section.functions(&map);
    }
    section.as_custom().data.to_vec()
}

/// Returns a length as modules have it.
pub(crate) fn length(length: usize) -> u32 {
    bounded_u32(length, "the bound on the size of a program")
}
