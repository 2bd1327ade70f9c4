//! How an instance ended.

use std::fmt;
use std::time::Duration;

use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::limiter::OutOfMemory;

/// How an instance ended.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The guest returned (0), said that it failed (1) or gave this code.
    Exited(i32),
    /// The guest trapped.
    Trapped {
        /// What trapped, on one line.
        message: String,
        /// The functions of the guest that were running, innermost first, a
        /// line each; empty if none was.
        backtrace: String,
    },
    /// The guest was stopped at its time limit.
    TimedOut(Duration),
    /// The host stopped the guest: [`RunControl::stop`](super::RunControl::stop).
    Stopped,
    /// The guest was stopped when its memory grew past this many bytes.
    OutOfMemory(u64),
    /// The guest did not start, or the host failed it.
    Failed(String),
}

impl Outcome {
    /// Returns whether the guest ran to an end and said that all is well.
    #[must_use]
    pub fn is_success(&self) -> bool {
        *self == Self::Exited(0)
    }

    /// Reads what wasmtime says about a call that did not return: an exit, a trap, a
    /// memory bound, or a failure of the host.
    #[must_use]
    pub fn of_error(error: &wasmtime::Error) -> Self {
        if let Some(I32Exit(code)) = error.downcast_ref() {
            return Self::Exited(*code);
        }
        if let Some(out) = error.downcast_ref::<OutOfMemory>() {
            return Self::OutOfMemory(out.limit);
        }
        let backtrace = error.downcast_ref::<WasmBacktrace>();
        let trap = error.downcast_ref::<Trap>();
        if error.is::<wasmtime::ThrownException>() {
            return Self::Trapped {
                message: "uncaught exception".to_owned(),
                backtrace: backtrace.map_or_else(String::new, WasmBacktrace::to_string),
            };
        }
        if backtrace.is_none() && trap.is_none() {
            return Self::Failed(one_line(error));
        }
        let message = trap.map_or_else(|| error.root_cause().to_string(), Trap::to_string);
        let backtrace = backtrace.map_or_else(String::new, WasmBacktrace::to_string);
        let message = message.strip_prefix("wasm trap: ").unwrap_or(&message);
        Self::Trapped {
            message: message.replace('\n', " "),
            backtrace,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Trapped { message, .. } => write!(f, "trap: {message}"),
            Self::TimedOut(limit) => {
                write!(f, "stopped: it ran longer than {} s", limit.as_secs_f64())
            }
            Self::Stopped => f.write_str("stopped by its host"),
            Self::OutOfMemory(limit) => {
                write!(f, "stopped: its memory grew past {limit} bytes")
            }
            Self::Failed(why) => f.write_str(why),
        }
    }
}

fn one_line(error: &wasmtime::Error) -> String {
    format!("{error:#}").replace('\n', " ")
}
