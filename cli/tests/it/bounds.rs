//! What a run may hold together, and what an ended or interrupted run leaves.

use super::Cli;
use crate::support::script::{NOSPC, OK, ROOT, Script};

#[test]
fn a_budget_bounds_what_a_run_holds() {
    let cli = Cli::new();
    // An object alone takes more than this.
    let script = Script::new().write_in(ROOT, "file", b"x", NOSPC, OK);
    cli.script("--budget 1K", &script).fine();
    // A volume is a part of the run.
    let script = Script::new().write_in(ROOT + 1, "file", b"x", NOSPC, OK);
    // The place that it is mounted at takes the room of two objects, too.
    cli.script("--budget 4K --volume v::/v", &script).fine();
    cli.run("run --budget x guest.wat")
        .refused(&["--budget", "K, M or G"]);
}

#[test]
fn an_instance_that_has_ended_holds_nothing() {
    let cli = Cli::new();
    let script = Script::new().write("file", &[7; 64 << 10]);
    // One instance has room; twenty have only if each frees what it wrote.
    cli.script("--budget 100K --instances 20", &script).fine();
    let none = cli.script("--budget 60K", &Script::new().write("file", &[7; 64 << 10]));
    assert_eq!(
        none.code,
        Some(0),
        "a write past the budget is short: {none:?}"
    );
}

#[test]
fn a_base_read_into_memory_counts_against_the_budget() {
    let cli = Cli::new();
    let noise: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    cli.guest(&Script::new()).file("base/file", noise);
    cli.run("run --layer base --budget 100K guest.wat").failed(
        1,
        &["base", "102400", "--budget", "image import", "--image"],
    );
    cli.run("run --layer base --budget 2M guest.wat").fine();
    // What it takes is not there for the guest.
    let script = Script::new().write_in(ROOT, "new", b"x", NOSPC, OK);
    cli.script("--layer base --budget 800000", &script).fine();
}

#[test]
fn sharing_is_chosen_by_name() {
    let cli = Cli::new();
    for share in ["none", "own", "run"] {
        cli.script(
            &format!("--share {share} --instances 2"),
            &Script::new().write("file", &[7; 8192]),
        )
        .fine();
    }
    cli.run("run --share all guest.wat")
        .refused(&["--share", "none, own or run"]);
}

#[cfg(unix)]
mod interrupted {
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use super::super::names;
    use super::*;

    /// Starts a run that writes a diff at its end and does not end, and waits
    /// until the file beside the diff's place is there.
    fn start(cli: &Cli) -> Child {
        cli.guest(&Script::new().spin()).file("out/keep", "");
        let child = cli
            .command("run --diff out/x.tar guest.wat")
            .stderr(Stdio::null())
            .spawn();
        for _ in 0..600 {
            if names(&cli.path("out")).len() > 1 {
                return child.unwrap();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("nothing is made beside the diff");
    }

    fn send(signal: &str, child: &Child) {
        let id = child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success());
    }

    #[test]
    fn int_and_term_leave_nothing_beside_the_output() {
        let cli = Cli::new();
        for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
            let mut child = start(&cli);
            send(signal, &child);
            assert_eq!(child.wait().unwrap().code(), Some(code));
            assert_eq!(names(&cli.path("out")), ["keep"], "{signal}");
        }
    }

    #[test]
    fn what_a_killed_run_left_goes_with_the_next_output() {
        let cli = Cli::new();
        let mut killed = start(&cli);
        send("-KILL", &killed);
        killed.wait().unwrap();
        assert_eq!(names(&cli.path("out")).len(), 2);
        // One that runs meanwhile keeps its own.
        let mut live = start(&cli);
        cli.file("ends.wat", Script::new().wat())
            .run("run --diff out/y.tar ends.wat")
            .fine();
        let left = names(&cli.path("out"));
        assert_eq!(left.len(), 3, "{left:?}");
        assert!(left.contains(&"y.tar".to_owned()), "{left:?}");
        send("-TERM", &live);
        live.wait().unwrap();
        assert_eq!(names(&cli.path("out")), ["keep", "y.tar"]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_spills_to_a_directory_and_leaves_nothing_there() {
    let cli = Cli::new();
    std::fs::create_dir(cli.path("spill")).unwrap();
    let script = Script::new().write("file", &[7; 900 << 10]).cat("file");
    let done = cli.script("--budget 256K --spill spill --stats stats.json", &script);
    assert_eq!(done.fine().stdout.len(), 900 << 10);
    let stats = std::fs::read(cli.path("stats.json")).unwrap();
    let stats: serde_json::Value = serde_json::from_slice(&stats).unwrap();
    let spilled = stats["spilled_bytes"].as_u64().unwrap();
    assert!((700 << 10..3 << 20).contains(&spilled), "{spilled}");
    // A bound on the file, and one killed in the middle.
    let script = Script::new().write("file", &[7; 900 << 10]).spin();
    let mut command = cli.command("run --budget 256K --spill spill guest.wat");
    cli.guest(&script);
    let mut child = command.spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(1));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(std::fs::read_dir(cli.path("spill")).unwrap().count(), 0);
    cli.run("run --budget 256K --spill none guest.wat")
        .failed(1, &["none", "spill"]);
    cli.run("run --spill-max 1K guest.wat")
        .refused(&["--spill"]);
}
