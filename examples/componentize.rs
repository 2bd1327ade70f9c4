//! Makes a 0.2 component of a preview1 command, with wasmtime's adapter: the
//! way compilers without a target of their own do it.
//!
//! ```sh
//! cargo run --release --example componentize -- IN.wasm OUT.wasm
//! ```

use std::process::ExitCode;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER as ADAPTER,
};
use wasmtime::Result;
use wasmtime::error::Context as _;
use wit_component::ComponentEncoder;

fn main() -> Result<ExitCode> {
    let mut words = std::env::args().skip(1);
    let (Some(input), Some(output), None) = (words.next(), words.next(), words.next()) else {
        eprintln!("usage: componentize IN.wasm OUT.wasm");
        return Ok(ExitCode::from(2));
    };
    let module = std::fs::read(&input).with_context(|| input.clone())?;
    let component = encode(&module).map_err(|error| wasmtime::format_err!("{input}: {error}"))?;
    std::fs::write(&output, component).with_context(|| output.clone())?;
    Ok(ExitCode::SUCCESS)
}

fn encode(module: &[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let encoder = ComponentEncoder::default().validate(true);
    Ok(encoder.module(module)?.adapter(NAME, ADAPTER)?.encode()?)
}
