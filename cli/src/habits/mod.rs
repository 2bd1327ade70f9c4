//! What people type who come from `wasmtime run` and `docker run`.

mod docker;
mod keys;

use clap::Args;
use stratafs::runner::{Network, RunnerConfig};

use crate::failure::Failure;
use crate::parse::{self, Door};

pub(crate) use docker::{Word, point};
pub(crate) use keys::{Key, Keys};

/// Network, and options with the names that other tools have for them.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct HabitArgs {
    /// Let the guest connect to HOST, listen on it if it is this machine's, and
    /// look up its name, at one port or at all; addresses are found once, at the
    /// start. Without this and --inherit-network guests have no network
    #[arg(long, value_name = "HOST[:PORT]", value_parser = parse::door)]
    allow_net: Vec<Door>,

    /// Give the guest the host's network
    #[arg(long)]
    inherit_network: bool,

    /// Settings of WebAssembly as `wasmtime run` has them: proposals, fuel,
    /// max-memory-size, timeout; `-W help` lists them
    #[arg(short = 'W', long = "wasm", value_name = "KEY[=VAL],...", value_parser = keys::wasm)]
    wasm: Vec<Keys>,

    /// Settings of WASI as `wasmtime run` has them: inherit-network, tcp, udp,
    /// allow-ip-name-lookup, cwd
    #[arg(short = 'S', long = "wasi", value_name = "KEY[=VAL],...", value_parser = keys::wasi)]
    wasi: Vec<Keys>,

    /// Settings of the compiler as `wasmtime run` has them: cache
    #[arg(short = 'C', long = "codegen", value_name = "KEY[=VAL],...", value_parser = keys::codegen)]
    codegen: Vec<Keys>,

    /// What else `wasmtime run` has.
    #[arg(short = 'O', long = "optimize", hide = true, value_parser = keys::none)]
    optimize: Vec<Keys>,

    /// The same.
    #[arg(short = 'D', long = "debug", hide = true, value_parser = keys::none)]
    debug: Vec<Keys>,

    /// Accepted: what a run changes is always removed when it ends
    #[arg(long)]
    rm: bool,

    /// Accepted: one instance reads this standard input
    #[arg(short = 'i', long)]
    interactive: bool,

    /// Accepted: one instance has this terminal, if there is one
    #[arg(short = 't', long)]
    tty: bool,
}

/// What habits ask for that other options ask for as well; those win.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) workdir: Option<String>,
    pub(crate) no_cache: bool,
}

impl HabitArgs {
    /// Fills in what was asked for, and looks up the names of `--allow-net`.
    pub(crate) fn apply(&self, config: &mut RunnerConfig) -> Result<Asked, Failure> {
        // That these were given changes nothing: a run is so anyway.
        let _ = (self.rm, self.interactive, self.tty);
        // Nothing passes their parser.
        let _ = (self.optimize.len(), self.debug.len());
        let mut asked = Asked::default();
        let mut inherit = self.inherit_network;
        let (mut tcp, mut udp, mut names) = (true, true, true);
        let groups = [&self.wasm, &self.wasi, &self.codegen];
        for key in groups.into_iter().flatten().flat_map(|keys| &keys.0) {
            match key {
                Key::MaxMemory(bytes) => config.max_memory = Some(*bytes),
                Key::Fuel(fuel) => config.fuel = Some(*fuel),
                Key::Timeout(limit) => config.timeout = Some(*limit),
                Key::TrapUnknownImports(on) => config.trap_unknown_imports = *on,
                Key::Proposal(name, on) => drop(config.proposals.set(name, *on)),
                Key::Network(on) => inherit = *on,
                Key::Tcp(on) => tcp = *on,
                Key::Udp(on) => udp = *on,
                Key::Names(on) => names = *on,
                Key::Workdir(dir) => asked.workdir = Some(dir.clone()),
                Key::Cache(on) => asked.no_cache = !on,
                Key::Nothing => {}
            }
        }
        config.network = match inherit {
            true => Network::inherit(),
            false => Network::none(),
        };
        for door in &self.allow_net {
            let found = door.find().map_err(|error| {
                Failure::new(format_args!(
                    "--allow-net {}: the host is not found: {error}",
                    door.host
                ))
            })?;
            config.network.allow(&door.host, &found, door.port);
        }
        config.network.set_tcp(tcp);
        config.network.set_udp(udp);
        config.network.set_names(names);
        Ok(asked)
    }
}
