//! Simulates a fleet of hosts that start guests of one image from a registry: who waits how long, and what goes over which line.
//!
//! One queue of events drives everything. A registry and each host have a line in each direction that carries segments of 64 KiB
//! one after the other; a transfer has a window of bytes on their way, so transfers that share a line share its rate. What an
//! image holds and what a start reads is recorded from real ones.

mod guests;
mod link;
mod network;
mod page;
mod plan;
mod program;
mod queue;
mod random;
mod setup;
mod table;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use program::{Program, RECORDED};
use queue::SECOND;
use setup::{Arrivals, Fleet, WAYS};
use table::{Row, markdown};

/// Simulates a fleet of hosts that start guests of one image from a registry.
///
/// Example: stratafs-sim --hosts 1000 --guests 10 --program cpython --html fleet.html
#[derive(Debug, Parser)]
#[command(name = "stratafs-sim", verbatim_doc_comment)]
struct Args {
    /// How many hosts there are
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    hosts: u64,
    /// Guests of each host
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    guests: u64,
    /// The image and its guest: cpython, php, ruby, quickjs, or a file made by sim/record.py
    #[arg(long, default_value = "cpython")]
    program: String,
    /// The registry's line, in Mbit/s
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    registry_mbit: u64,
    /// Each host's line, in Mbit/s in each direction
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    host_mbit: u64,
    /// Mirrors that have the image, each with a line as the registry's
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    mirrors: u64,
    /// Milliseconds from a host to the registry and back
    #[arg(long, default_value_t = 1.0)]
    rtt_ms: f64,
    /// Requests a second past which the registry answers 429
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    requests_per_second: Option<u64>,
    /// Cores of each host
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=1_024))]
    cores: u64,
    /// Guests a second that are asked for in the whole fleet; all at the beginning without it
    #[arg(long)]
    arrivals_per_second: Option<f64>,
    /// Only ways whose name has this word; may be given again
    #[arg(long)]
    way: Vec<String>,
    /// Where chance begins
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Writes a page with a plot
    #[arg(long)]
    html: Option<PathBuf>,
    /// Prints one JSON document instead of a table
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let program = read_program(&args.program)?;
    let fleet = fleet(args)?;
    let mut rows = Vec::new();
    for way in &WAYS {
        if !args.way.is_empty() && !args.way.iter().any(|word| way.name.contains(word)) {
            continue;
        }
        match Row::of(&fleet, way, &program) {
            Some(row) => rows.push(row),
            None => eprintln!("left out: {}, past 10 guests a host", way.name),
        }
    }
    if rows.is_empty() {
        return Err(format!("no way has a name with {:?} in it", args.way).into());
    }
    let title = format!(
        "{}: {} hosts, {} guests each, registry {} Mbit/s, hosts {} Mbit/s, round trip {} ms, seed {}",
        program.name,
        args.hosts,
        args.guests,
        args.registry_mbit,
        args.host_mbit,
        args.rtt_ms,
        args.seed
    );
    if let Some(path) = &args.html {
        fs::write(path, page::page(&title, &rows))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if args.json {
        println!("{}", serde_json::json!({ "title": title, "ways": rows }));
    } else {
        print!("{title}\n\n{}", markdown(&rows));
    }
    Ok(())
}

fn read_program(name: &str) -> Result<Program, Box<dyn Error>> {
    let text = match RECORDED.iter().find(|(recorded, _)| *recorded == name) {
        Some((_, text)) => (*text).to_owned(),
        None => fs::read_to_string(name).map_err(|error| {
            format!("{name}: {error}; expected cpython, php, ruby, quickjs or a file made by sim/record.py")
        })?,
    };
    serde_json::from_str(&text).map_err(|error| format!("{name}: {error}").into())
}

fn fleet(args: &Args) -> Result<Fleet, Box<dyn Error>> {
    let arrivals = match args.arrivals_per_second {
        None => Arrivals::Together,
        Some(rate) if rate > 0.0 && rate.is_finite() => Arrivals::PerSecond(rate),
        Some(rate) => {
            return Err(format!("--arrivals-per-second {rate}: expected a number above 0").into());
        }
    };
    if !(0.0..=60_000.0).contains(&args.rtt_ms) {
        return Err(format!("--rtt-ms {}: expected 0 to 60000", args.rtt_ms).into());
    }
    Ok(Fleet {
        hosts: usize::try_from(args.hosts)?,
        guests: usize::try_from(args.guests)?,
        registry_bits: args.registry_mbit * 1_000_000,
        mirrors: usize::try_from(args.mirrors)?,
        host_bits: args.host_mbit * 1_000_000,
        round_trip: (args.rtt_ms / 1_000.0 * SECOND as f64) as u64,
        request_rate: args.requests_per_second,
        cores: usize::try_from(args.cores)?,
        arrivals,
        seed: args.seed,
        ..Fleet::default()
    })
}
