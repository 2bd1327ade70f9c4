//! A sandbox for code of an AI agent: each run gets the agent's workspace as it is, with bounds
//! on time, memory and files; what a run changed is listed, and kept only if it ended well.
//!
//! `cargo run --release --features runner --example agent_sandbox [GUEST.wasm [ARGS...]]`; without
//! a guest, one that writes a greeting (embed_p1.wat), and one that never ends.

use std::time::Duration;

use stratafs::chunk::ChunkPool;
use stratafs::image::Image;
use stratafs::runner::{Guest, GuestDir, Outcome, RunPlan, Runner, RunnerConfig};
use stratafs::vfs::{Fs, Quota, Rights};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What one agent works with.
struct Sandbox {
    /// What runs that ended well left behind.
    image: Image,
}

impl Sandbox {
    fn new(base: Image) -> Self {
        Self { image: base }
    }

    /// Runs a program over the workspace. Its changes are kept if it exits with 0.
    fn run(&mut self, guest: &Guest, args: &[String]) -> Result<Outcome> {
        let mut config = RunnerConfig::default();
        config.timeout = Some(Duration::from_secs(2));
        config.max_memory = Some(128 << 20);
        let mut plan = RunPlan::default();
        plan.args = args.to_vec();
        plan.quota = Quota {
            max_bytes: 64 << 20,
            max_inodes: 10_000,
            ..Quota::default()
        };
        plan.preopens = vec![GuestDir {
            dir: "/".into(),
            guest: "/".into(),
            rights: Rights::ReadWrite,
        }];
        plan.keep_file_systems = true;
        let report = Runner::new(guest, config)?.run(&self.image, &plan)?;
        let ran = report.instances.first().zip(report.file_systems.first());
        let (instance, fs) = ran.ok_or("no instance ran")?;
        for change in fs.changes()? {
            println!("  {} ({} bytes)", change.path(), change.size());
        }
        if instance.outcome.is_success() {
            self.image =
                Image::new(&[self.image.layers(), &[fs.diff(&ChunkPool::new())?]].concat())?;
        }
        Ok(instance.outcome.clone())
    }
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut sandbox = Sandbox::new(Image::from_dir(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples"
    ))?);
    let guests = match args.next() {
        Some(path) => vec![Guest::from_file(path.as_ref())?],
        None => vec![
            Guest::from_bytes("greeting.wat", include_bytes!("embed_p1.wat"))?,
            Guest::from_bytes(
                "endless.wat",
                r#"(module (memory (export "memory") 1)
                (func (export "_start") (loop br 0)))"#,
            )?,
        ],
    };
    let words: Vec<String> = std::iter::once("guest".to_owned()).chain(args).collect();
    for guest in &guests {
        println!("{}:", guest.name());
        println!("  {:?}", sandbox.run(guest, &words)?);
    }
    let names = Fs::new(&sandbox.image).read_dir("/")?.len();
    println!(
        "the workspace has {names} names in {} layers",
        sandbox.image.layer_count()
    );
    Ok(())
}
