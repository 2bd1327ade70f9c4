//! A hundred instances of one guest with a budget for all of them together, where equal blocks
//! are held once, whoever wrote them.
//!
//! `cargo run --release --features runner --example many_guests`

use stratafs::budget::Budget;
use stratafs::chunk::Scope;
use stratafs::image::Image;
use stratafs::runner::{Guest, GuestDir, RunPlan, Runner, RunnerConfig};
use stratafs::vfs::{Rights, Share};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let base = Image::from_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples"))?;
    let guest = Guest::from_bytes("greeting.wat", include_bytes!("embed_p1.wat"))?;
    // Compiled once, and from the cache the next time.
    let runner = Runner::new(&guest, RunnerConfig::default())?;

    let budget = Budget::new(256 << 20);
    let mut plan = RunPlan::default();
    plan.instances = 100;
    plan.budget = Some(budget.clone());
    // A guest could find out by timing what others wrote: share among guests that trust each other.
    plan.share = Share::Scope(Scope::new());
    plan.preopens = vec![GuestDir {
        dir: "/".into(),
        guest: "/".into(),
        rights: Rights::ReadWrite,
    }];
    plan.keep_file_systems = true;
    let report = runner.run(&base, &plan)?;

    let mut starts: Vec<u64> = report
        .instances
        .iter()
        .map(|instance| instance.start_ns)
        .collect();
    starts.sort_unstable();
    println!(
        "{} of {} failed",
        report.failed().count(),
        report.instances.len()
    );
    println!(
        "median start: {} ns",
        starts.get(starts.len() / 2).ok_or("no instance ran")?
    );
    println!(
        "held for all: {} bytes of {}",
        budget.held_bytes(),
        budget.max_bytes()
    );
    Ok(())
}
