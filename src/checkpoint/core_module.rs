//! A core module, read once: what freezing has to know of it.

use std::collections::HashMap;
use std::ops::Range;

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{HeapType, RefType, ValType};
use wasmparser::types::CoreTypeId;
use wasmparser::{
    CompositeInnerType, Export, ExternalKind, FuncToValidate, FuncType, FunctionBody, GlobalType,
    KnownCustom, MemoryType, Name, Parser, Payload, TableType, TypeRef, UnpackedIndex,
    ValidPayload, Validator, ValidatorResources, WasmFeatures,
};

use super::error::{Refusal, missing};
use super::origin::{OriginalProgram, SECTION};
use super::value::Value;
use crate::bounded::bounded_u32;
use crate::digest::Digest;

/// A function that the program has itself.
pub(crate) struct Defined<'a> {
    pub(crate) body: FunctionBody<'a>,
    pub(crate) check: FuncToValidate<ValidatorResources>,
}

/// A function that the program imports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImportedFunction {
    pub(crate) module: String,
    pub(crate) name: String,
}

/// A section: its number, where its contents lie, and how many items it counts.
pub(crate) struct Section {
    pub(crate) id: u8,
    pub(crate) contents: Range<usize>,
    pub(crate) count: u32,
}

/// A validated core module that imports functions alone.
pub(crate) struct CoreModule<'a> {
    pub(crate) wasm: &'a [u8],
    pub(crate) sections: Vec<Section>,
    types: Vec<Option<FuncType>>,
    /// Whether objects of a type can change.
    changing: Vec<bool>,
    ids: HashMap<CoreTypeId, u32>,
    /// The type of each function, imported ones first.
    pub(crate) functions: Vec<u32>,
    pub(crate) imports: Vec<ImportedFunction>,
    pub(crate) defined: Vec<Defined<'a>>,
    pub(crate) memories: Vec<MemoryType>,
    pub(crate) tables: Vec<TableType>,
    /// What the elements of each table are unless a segment sets them; `None` if that is known
    /// to the engine alone.
    pub(crate) first_elements: Vec<Option<Value>>,
    pub(crate) globals: Vec<GlobalType>,
    pub(crate) exports: Vec<Export<'a>>,
    pub(crate) has_start: bool,
    /// The name that the module has for itself.
    pub(crate) module_name: Option<&'a str>,
    names: HashMap<u32, &'a str>,
    /// The section that says what the module was made of.
    origin_section: Option<&'a [u8]>,
    /// The program that it was made of, if it goes on from one.
    pub(crate) origin: Option<OriginalProgram<'a>>,
}

impl<'a> CoreModule<'a> {
    /// Reads a module and validates all but the bodies of its functions.
    pub(crate) fn parse(wasm: &'a [u8]) -> Result<Self, Refusal> {
        let mut program = Self {
            wasm,
            sections: Vec::new(),
            types: Vec::new(),
            changing: Vec::new(),
            ids: HashMap::new(),
            functions: Vec::new(),
            imports: Vec::new(),
            defined: Vec::new(),
            memories: Vec::new(),
            tables: Vec::new(),
            first_elements: Vec::new(),
            globals: Vec::new(),
            exports: Vec::new(),
            has_start: false,
            module_name: None,
            names: HashMap::new(),
            origin_section: None,
            origin: None,
        };
        let mut validator = Validator::new_with_features(WasmFeatures::all());
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload?;
            let is_end = matches!(payload, Payload::End(_));
            if is_end {
                // The types are gone once the end is validated.
                program.find_ids(&validator);
            }
            program.take(&payload)?;
            if let ValidPayload::Func(check, body) = validator.payload(&payload)? {
                program.defined.push(Defined { body, check });
            }
        }
        if let Some(shared) = program.memories.iter().position(|memory| memory.shared) {
            return Err(Refusal::new(format!(
                "memory {shared} is shared between threads, whose stacks nobody else can read"
            )));
        }
        let functions = program.function_count();
        let origin_section = program.origin_section.take();
        program.origin = origin_section
            .and_then(|origin_section| OriginalProgram::read(origin_section, wasm, functions));
        Ok(program)
    }

    /// Returns the digest of the program: of a module that goes on, of the one that it was
    /// made of.
    pub(crate) fn digest(&self) -> Digest {
        match &self.origin {
            Some(origin) => origin.program,
            None => Digest::of(self.wasm),
        }
    }

    fn find_ids(&mut self, validator: &Validator) {
        let Some(types) = validator.types(0) else {
            return;
        };
        for index in 0..types.core_type_count_in_module() {
            self.ids.insert(types.core_type_at_in_module(index), index);
        }
    }

    fn take(&mut self, payload: &Payload<'a>) -> Result<(), Refusal> {
        let mut count = 0;
        match payload {
            Payload::TypeSection(section) => {
                count = section.count();
                self.take_types(section)?;
            }
            Payload::ImportSection(section) => {
                count = section.count();
                for import in section.clone().into_imports() {
                    self.take_import(&import?)?;
                }
            }
            Payload::FunctionSection(section) => {
                count = section.count();
                for ty in section.clone() {
                    self.functions.push(ty?);
                }
            }
            Payload::MemorySection(section) => {
                count = section.count();
                self.memories = section.clone().into_iter().collect::<Result<_, _>>()?;
            }
            Payload::TableSection(section) => {
                count = section.count();
                for table in section.clone() {
                    let table = table?;
                    self.tables.push(table.ty);
                    self.first_elements.push(match table.init {
                        wasmparser::TableInit::RefNull => Some(Value::Null),
                        wasmparser::TableInit::Expr(first) => plain_element(&first)?,
                    });
                }
            }
            Payload::GlobalSection(section) => {
                count = section.count();
                for global in section.clone() {
                    self.globals.push(global?.ty);
                }
            }
            Payload::ExportSection(section) => {
                count = section.count();
                self.exports = section.clone().into_iter().collect::<Result<_, _>>()?;
            }
            Payload::ElementSection(section) => count = section.count(),
            Payload::DataSection(section) => count = section.count(),
            Payload::DataCountSection { count: said, .. } => count = *said,
            Payload::CodeSectionStart { count: said, .. } => count = *said,
            Payload::StartSection { .. } => self.has_start = true,
            Payload::CustomSection(section) => {
                if let KnownCustom::Name(names) = section.as_known() {
                    self.take_names(names);
                }
                if section.name() == SECTION {
                    self.origin_section = Some(section.data());
                }
            }
            _ => {}
        }
        if let Some((id, contents)) = payload.as_section().filter(|(id, _)| *id != 0) {
            self.sections.push(Section {
                id,
                contents,
                count,
            });
        }
        Ok(())
    }

    fn take_types(&mut self, section: &wasmparser::TypeSectionReader<'a>) -> Result<(), Refusal> {
        for group in section.clone() {
            for ty in group?.types() {
                let ty = &ty.composite_type.inner;
                self.changing.push(match ty {
                    CompositeInnerType::Struct(fields) => {
                        fields.fields.iter().any(|field| field.mutable)
                    }
                    CompositeInnerType::Array(array) => array.0.mutable,
                    _ => false,
                });
                self.types.push(match ty {
                    CompositeInnerType::Func(function) => Some(function.clone()),
                    _ => None,
                });
            }
        }
        Ok(())
    }

    fn take_import(&mut self, import: &wasmparser::Import<'_>) -> Result<(), Refusal> {
        let kind = match import.ty {
            TypeRef::Func(ty) => {
                self.functions.push(ty);
                self.imports.push(ImportedFunction {
                    module: import.module.to_owned(),
                    name: import.name.to_owned(),
                });
                return Ok(());
            }
            TypeRef::Global(_) => "global",
            TypeRef::Memory(_) => "memory",
            TypeRef::Table(_) => "table",
            TypeRef::Tag(_) => "tag",
            _ => "item",
        };
        Err(Refusal::new(format!(
            "the {kind} {:?} of {:?} is imported: its contents are not the program's own",
            import.name, import.module
        )))
    }

    /// A broken section of names is none: it means nothing to the engine either.
    fn take_names(&mut self, names: wasmparser::NameSectionReader<'a>) {
        for name in names.into_iter().flatten() {
            match name {
                Name::Module { name, .. } => self.module_name = Some(name),
                Name::Function(map) => {
                    for naming in map.into_iter().flatten() {
                        self.names.insert(naming.index, naming.name);
                    }
                }
                _ => {}
            }
        }
    }

    /// Returns the section of a number, if the module has one.
    pub(crate) fn section(&self, id: u8) -> Option<&Section> {
        self.sections.iter().find(|section| section.id == id)
    }

    /// Returns the name that the module has for a function.
    pub(crate) fn name(&self, function: u32) -> Option<&'a str> {
        self.names.get(&function).copied()
    }

    /// Returns the numbers and names of functions.
    pub(crate) fn names(&self) -> impl Iterator<Item = (u32, &'a str)> {
        self.names.iter().map(|(number, name)| (*number, *name))
    }

    pub(crate) fn type_count(&self) -> u32 {
        bounded_u32(self.types.len(), "the bound on the size of a program")
    }

    pub(crate) fn function_count(&self) -> u32 {
        bounded_u32(self.functions.len(), "the bound on the size of a program")
    }

    pub(crate) fn import_count(&self) -> u32 {
        bounded_u32(self.imports.len(), "the bound on the size of a program")
    }

    /// Returns whether objects of a type can change once they are made.
    pub(crate) fn can_change(&self, ty: u32) -> bool {
        self.changing.get(ty as usize) == Some(&true)
    }

    /// Returns the function type of a number.
    pub(crate) fn func_type(&self, number: u32) -> Result<&FuncType, Refusal> {
        let found = self.types.get(number as usize).and_then(Option::as_ref);
        found.ok_or_else(|| missing("function type"))
    }

    /// Returns the type of a function.
    pub(crate) fn type_of(&self, function: u32) -> Result<&FuncType, Refusal> {
        let number = self.functions.get(function as usize);
        self.func_type(*number.ok_or_else(|| missing("function"))?)
    }

    /// Returns a function that the program has itself.
    pub(crate) fn defined(&self, function: u32) -> Result<&Defined<'a>, Refusal> {
        let at = function.checked_sub(self.import_count());
        let found = at.and_then(|at| self.defined.get(at as usize));
        found.ok_or_else(|| missing("function of its own"))
    }

    /// Returns the exported function of a name.
    pub(crate) fn exported_function(&self, name: &str) -> Option<u32> {
        self.exports
            .iter()
            .find(|export| export.name == name && export.kind == ExternalKind::Func)
            .map(|export| export.index)
    }

    /// Returns a type of the validator as one that can be written.
    pub(crate) fn plain(&self, ty: wasmparser::ValType) -> Result<ValType, Refusal> {
        let wasmparser::ValType::Ref(reference) = ty else {
            return RoundtripReencoder
                .val_type(ty)
                .map_err(|error| Refusal::new(format!("a value of type {ty}: {error}")));
        };
        let heap_type = match reference.heap_type() {
            // What the validator knows better than the program could say: types of this kind
            // belong to custom descriptors, which the engine does not run.
            wasmparser::HeapType::Concrete(index) | wasmparser::HeapType::Exact(index) => {
                HeapType::Concrete(self.module_index(index)?)
            }
            other @ wasmparser::HeapType::Abstract { .. } => RoundtripReencoder
                .heap_type(other)
                .map_err(|error| Refusal::new(format!("a value of type {ty}: {error}")))?,
        };
        Ok(ValType::Ref(RefType {
            nullable: reference.is_nullable(),
            heap_type,
        }))
    }

    fn module_index(&self, index: UnpackedIndex) -> Result<u32, Refusal> {
        match index {
            UnpackedIndex::Module(index) => Ok(index),
            UnpackedIndex::Id(id) => self.ids.get(&id).copied().ok_or_else(|| missing("type")),
            UnpackedIndex::RecGroup(_) => Err(missing("type")),
        }
    }

    pub(crate) fn plain_all(&self, types: &[wasmparser::ValType]) -> Result<Vec<ValType>, Refusal> {
        types.iter().map(|ty| self.plain(*ty)).collect()
    }

    /// Returns whether a type is one of references to functions.
    pub(crate) fn is_function(&self, ty: RefType) -> bool {
        super::value::is_function(ty, |index| self.func_type(index).is_ok())
    }
}

/// Returns what an expression is that is a null or names a function.
fn plain_element(expression: &wasmparser::ConstExpr<'_>) -> Result<Option<Value>, Refusal> {
    let mut operators = expression.get_operators_reader();
    let value = match operators.read()? {
        wasmparser::Operator::RefNull { .. } => Value::Null,
        wasmparser::Operator::RefFunc { function_index } => Value::Function(function_index),
        _ => return Ok(None),
    };
    let is_all = matches!(operators.read()?, wasmparser::Operator::End);
    Ok(is_all.then_some(value))
}
