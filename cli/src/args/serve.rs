//! The arguments of `serve`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::RunArgs;
use crate::failure::Failure;
use crate::parse::{self, Address, OnEnd};

const SERVE_EXAMPLE: &str = "\
Examples:
  stratafs serve --layer ./site app.wasm
  stratafs serve --addr 127.0.0.1:0 --keep session --image shop:3
  stratafs serve --metrics 127.0.0.1:9090 --access-log access.jsonl --timeout 5 app.wasm

Answers that are not the guest's:
  400, 431   the head of a request is malformed or too large
  408, 413   its body comes too slowly, or is larger than --max-body
  500        the guest trapped, outgrew its memory, or gave no answer
  503        more requests than --max-in-flight; Retry-After says when to try again
  504        the guest gave no answer within --timeout

Exit codes:
  0          INT or TERM: no new requests were taken, those in flight have ended
  1          the work failed: the guest answers no requests, the address is taken
  2          the arguments are wrong
  130, 143   INT or TERM for the second time";

/// Answers HTTP requests with a component: each has its own instance, and a fork of one
/// file system.
///
/// The guest exports the incoming handler of wasi:http 0.2 (the world `wasi:http/proxy`)
/// or the handler of 0.3. The base, directories, volumes, environment and limits are those
/// of `run`, for each request; what a guest writes to stdout and stderr goes to stderr.
/// What a request wrote is removed before its connection takes the next one, unless --keep
/// or --on-end says otherwise. Guests have no network, and send no requests, unless --allow-net or
/// --inherit-network lets them.
#[derive(Debug, Args)]
#[command(after_help = SERVE_EXAMPLE, override_usage = "stratafs serve [OPTIONS] GUEST.wasm [GUEST ARGS...]\n       stratafs serve [OPTIONS] --image REF [GUEST ARGS...]")]
pub(crate) struct ServeArgs {
    /// Where to listen; port 0 takes a free one, which is printed
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080", value_parser = parse::address)]
    pub(crate) addr: Address,

    /// Which changes of earlier requests a request sees: none, those of its session, which
    /// the cookie `stratafs_session` names (session), or those of all (shared)
    #[arg(
        long,
        value_enum,
        value_name = "none|session|shared",
        default_value = "none"
    )]
    pub(crate) keep: Keep,

    /// How long a session lives after its last request
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = parse::seconds)]
    pub(crate) session_ttl: Duration,

    /// The most sessions at a time; past it, and past the budget, the least
    /// recently used one is removed
    #[arg(long, value_name = "N", default_value = "10000", value_parser = parse::sessions)]
    pub(crate) max_sessions: u32,

    /// Run a command over the base once, before the first request: each request starts
    /// from the files that it leaves
    #[arg(long, value_name = "GUEST")]
    pub(crate) init: Option<PathBuf>,

    /// Save the changes before files are removed (with a request, a session, or the
    /// server): as an image whose tag is REF and a number, or as a layer DIR/NUMBER.tar
    #[arg(long, value_name = "commit:REF|diff:DIR", value_parser = parse::on_end)]
    pub(crate) on_end: Option<OnEnd>,

    /// The most requests at a time; others are answered with 503
    #[arg(long, value_name = "N", default_value = "128", value_parser = parse::in_flight)]
    pub(crate) max_in_flight: u32,

    /// The most bytes in the body of a request (K, M, G)
    #[arg(long, value_name = "N", default_value = "256M", value_parser = parse::size)]
    pub(crate) max_body: u64,

    /// Close a connection when its client takes longer to send the head of its next request
    /// or the next part of a body, or to take the next part of an answer
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = parse::seconds)]
    pub(crate) client_timeout: Duration,

    /// Answer /metrics, in the text format of Prometheus, and /healthz at this address
    #[arg(long, value_name = "HOST:PORT", value_parser = parse::address)]
    pub(crate) metrics: Option<Address>,

    /// Write a line of JSON for each request into FILE (`-`: stdout)
    #[arg(long, value_name = "FILE")]
    pub(crate) access_log: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// Which changes of earlier requests a request sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Keep {
    /// None
    None,
    /// Those of the requests of its session
    Session,
    /// Those of all requests
    Shared,
}

impl ServeArgs {
    /// Refuses what is about runs that end.
    pub(crate) fn refuse(&self) -> Result<(), Failure> {
        let run = &self.run;
        let given = [
            ("--instances", run.instances.is_some()),
            ("--threads", run.threads != 1),
            ("--commit", run.commit.is_some()),
            ("--set-platform", run.set_platform.is_some()),
            ("--diff", run.diff.is_some()),
            ("--trace", run.trace.is_some()),
            ("--strace, --strace-counts", run.strace.is_given()),
            ("--stats", run.stats.is_some()),
            ("--stats-instances", run.stats_instances.is_some()),
            ("--save-volume", !run.save_volumes.is_empty()),
            ("--invoke", run.invoke.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((option, _)) => Err(Failure::usage(format_args!(
                "{option} is for a run that ends: `serve` answers requests; --access-log has \
                 what each of them used, --on-end keeps what it wrote"
            ))),
        }
    }
}
