//! Calling one export of a guest in place of its command.

use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::wasm_wave::untyped::UntypedFuncCall;
use wasmtime::component::wasm_wave::wasm::{DisplayFuncResults, WasmFunc};
use wasmtime::component::wit_parser::ItemName;
use wasmtime::component::{self, Component, ComponentExportIndex};
use wasmtime::{Engine, Func, Module, Ref, Store, Val, ValType};

use super::RunnerError;
use super::host::{ComponentHost, CoreHost};

/// A call of a component's function, read and found.
pub(super) struct Call {
    export: ComponentExportIndex,
    params: Vec<component::Val>,
    results: usize,
}

impl Call {
    /// Reads `NAME(ARGUMENTS)` as WAVE has it, and finds the function.
    pub(super) fn find(
        engine: &Engine,
        component: &Component,
        guest: &str,
        call: &str,
    ) -> Result<Self, RunnerError> {
        let wrong = |reason: String| RunnerError::Call {
            call: call.to_owned(),
            reason: reason.replace('\n', " "),
        };
        let parsed = UntypedFuncCall::parse(call).map_err(|error| wrong(error.to_string()))?;
        let name = parsed
            .item_name()
            .map_err(|error| wrong(error.to_string()))?;
        let (export, ty) =
            find(engine, component, &name).map_err(|reason| RunnerError::NoFunction {
                name: guest.to_owned(),
                reason,
            })?;
        let types: Vec<_> = WasmFunc::params(&ty).collect();
        let params = parsed.to_wasm_params(&types);
        Ok(Self {
            export,
            params: params.map_err(|error| wrong(error.to_string()))?,
            results: ty.results().len(),
        })
    }

    /// Makes the call, and returns its results as WAVE.
    pub(super) async fn make(
        &self,
        store: &mut Store<ComponentHost>,
        instance: &component::Instance,
        is_async: bool,
    ) -> wasmtime::Result<String> {
        let func = instance.get_func(&mut *store, self.export);
        let func = func.ok_or_else(|| wasmtime::Error::msg("the export is not a function"))?;
        let mut results = vec![component::Val::Bool(false); self.results];
        let to = &mut results;
        match is_async {
            true => {
                let call = async |store: &_| func.call_concurrent(store, &self.params, to).await;
                store.run_concurrent(call).await??;
            }
            false => func.call_async(&mut *store, &self.params, to).await?,
        }
        Ok(DisplayFuncResults(&results).to_string())
    }
}

/// Finds a function by its full name, or in the one exported instance that has it.
fn find(
    engine: &Engine,
    component: &Component,
    name: &ItemName,
) -> Result<(ComponentExportIndex, ComponentFunc), String> {
    if let Some((ComponentItem::ComponentFunc(func), index)) = component.get_export(None, name) {
        return Ok((index, func));
    }
    let mut found = Vec::new();
    if name.interface.is_none() && name.package.is_none() {
        let leaf = name.to_string();
        for (instance, item) in component.component_type().exports(engine) {
            let ComponentItem::ComponentInstance(_) = item.ty else {
                continue;
            };
            let inside = component
                .get_export_index(None, instance)
                .and_then(|index| component.get_export(Some(&index), &leaf));
            if let Some((ComponentItem::ComponentFunc(func), index)) = inside {
                found.push((instance.to_owned(), index, func));
            }
        }
    }
    match (found.pop(), found.as_slice()) {
        (Some((_, index, func)), []) => Ok((index, func)),
        (Some((last, ..)), others) => {
            let others = others.iter().map(|(instance, ..)| instance.as_str());
            let all: Vec<_> = others.chain([last.as_str()]).collect();
            Err(format!(
                "{name} is exported by {}: say which, as in {last}.{name}",
                all.join(" and ")
            ))
        }
        (None, _) => Err(format!("it exports no function {name}")),
    }
}

/// Returns whether a core module has the function.
pub(super) fn check_core(module: &Module, guest: &str, name: &str) -> Result<(), RunnerError> {
    match module.get_export(name) {
        Some(wasmtime::ExternType::Func(_)) => Ok(()),
        _ => Err(RunnerError::NoFunction {
            name: guest.to_owned(),
            reason: format!("it exports no function {name:?}"),
        }),
    }
}

/// Calls a core module's function with arguments as typed, and returns its
/// results, a line each.
pub(super) async fn call_core(
    store: &mut Store<CoreHost>,
    func: Func,
    typed: &[String],
) -> wasmtime::Result<Vec<String>> {
    let ty = func.ty(&*store);
    let count = ty.params().len();
    if typed.len() < count {
        return Err(wasmtime::Error::msg(format!(
            "the function takes {count} arguments, {} are given",
            typed.len()
        )));
    }
    let values: wasmtime::Result<Vec<Val>> = ty
        .params()
        .zip(typed)
        .map(|(ty, text)| value(&ty, text))
        .collect();
    let mut results = vec![Val::null_func_ref(); ty.results().len()];
    func.call_async(&mut *store, &values?, &mut results).await?;
    Ok(results.iter().map(show).collect())
}

fn value(ty: &ValType, text: &str) -> wasmtime::Result<Val> {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let value = match (ty, hex) {
        (ValType::I32, Some(hex)) => u32::from_str_radix(hex, 16)
            .ok()
            .map(|bits| Val::I32(bits.cast_signed())),
        (ValType::I32, None) => text.parse().ok().map(Val::I32),
        (ValType::I64, Some(hex)) => u64::from_str_radix(hex, 16)
            .ok()
            .map(|bits| Val::I64(bits.cast_signed())),
        (ValType::I64, None) => text.parse().ok().map(Val::I64),
        (ValType::F32, _) => text
            .parse()
            .ok()
            .map(|number: f32| Val::F32(number.to_bits())),
        (ValType::F64, _) => text
            .parse()
            .ok()
            .map(|number: f64| Val::F64(number.to_bits())),
        (other, _) => {
            return Err(wasmtime::Error::msg(format!(
                "the function takes an argument of type {other}, which cannot be typed"
            )));
        }
    };
    value.ok_or_else(|| {
        wasmtime::Error::msg(format!(
            "invalid argument {text:?}: expected a value of type {ty}"
        ))
    })
}

fn show(value: &Val) -> String {
    let reference = |text: &str, is_null: bool| match is_null {
        true => format!("<null {text}>"),
        false => format!("<{text}>"),
    };
    match value {
        Val::I32(number) => number.to_string(),
        Val::I64(number) => number.to_string(),
        Val::F32(bits) => f32::from_bits(*bits).to_string(),
        Val::F64(bits) => f64::from_bits(*bits).to_string(),
        Val::V128(bits) => bits.as_u128().to_string(),
        other => {
            let is_null = other
                .ref_()
                .is_some_and(|reference: Ref| reference.is_null());
            let text = match other {
                Val::ExternRef(_) => "externref",
                Val::FuncRef(_) => "funcref",
                Val::AnyRef(_) => "anyref",
                Val::ExnRef(_) => "exnref",
                _ => "contref",
            };
            reference(text, is_null)
        }
    }
}
