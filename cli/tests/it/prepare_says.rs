//! What `image prepare`, and runs of what it made, say of directories and of what is not kept.

use serde_json::Value;

use super::Cli;
use super::prepare::{ANSWERS, prepared};

fn inspected(cli: &Cli, tag: &str) -> Value {
    let text = cli.run(&format!("image inspect {tag} --json")).text();
    serde_json::from_str::<Value>(&text).unwrap()["checkpoint"].clone()
}

#[test]
fn what_a_volume_holds_is_not_in_the_image_and_is_told_of() {
    let cli = Cli::new();
    let unlink = "(call $must (call $unlink (i32.const 3) (i32.const 48) (i32.const 4)))";
    cli.file("guest.wat", ANSWERS.replace(unlink, ""))
        .file("base/data", "1");
    cli.run("image import base --tag vol").fine();
    let words = "image prepare --at stdin --tag warm --no-preopen --volume v=vol::/side guest.wat";
    let done = cli.run(words);
    assert_eq!(done.code, Some(0), "{done:?}");
    let warning =
        "warning: the guest wrote to the volume at \"/side\", which warm:latest does not hold";
    assert!(done.stderr.contains(warning), "{done:?}");
    assert_eq!(inspected(&cli, "warm")["needed_dirs"][0], "/side");
    assert_eq!(inspected(&cli, "warm")["changed_volumes"][0], "/side");
    let shown = cli.run("image inspect warm").text();
    for line in [
        "a volume or a directory at \"/side\"",
        "the volume at \"/side\"",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    cli.run("run --image warm").failed(
        1,
        &[
            "warm:latest: ",
            "\"/side\"",
            "--volume NAME::/side or --dir DIR::/side",
        ],
    );
    // One that is only read is needed, and nothing of it is lost.
    let point = "image prepare --at path:/side/data --tag early --no-preopen --volume v=vol::/side guest.wat";
    assert_eq!(cli.run(point).stderr, "");
    assert_eq!(inspected(&cli, "early")["needed_dirs"][0], "/side");
    let none = Value::Array(Vec::new());
    assert_eq!(inspected(&cli, "early")["changed_volumes"], none);
}

#[test]
fn a_run_that_shows_none_of_the_guests_own_directories_is_told_how() {
    let cli = prepared();
    cli.run("run --image warm --no-preopen")
        .failed(1, &["warm:latest: ", "\"/\"", "with --preopen /::/"]);
    let none = Value::Array(Vec::new());
    assert_eq!(inspected(&cli, "warm")["needed_dirs"], none);
}

#[test]
fn no_directory_of_the_host_that_prepared_an_image_is_in_it() {
    let cli = prepared();
    let place = cli.path("guest.wat");
    let words = format!(
        "image prepare --at stdin --tag far --layer base {}",
        place.display()
    );
    cli.run(&words).fine();
    let state = cli.run("image cat far /.stratafs/frozen/state.json").text();
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["program"], "guest.wat");
}

#[test]
fn an_image_that_is_prepared_says_what_it_is_for() {
    let cli = prepared();
    cli.run("image prepare --at stdin --tag arm --set-platform linux/arm64 --layer base guest.wat")
        .fine();
    let text = cli.run("image inspect arm --json").text();
    let image: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(image["config"]["architecture"], "arm64");
}

#[test]
fn points_that_never_come_are_refused_or_told_of() {
    let cli = prepared();
    cli.run("image prepare --at call:proc_exit:1 --tag none guest.wat")
        .refused(&["call:proc_exit", "as it ends"]);
    let done = cli.run("image prepare --at path:/dta --tag none --layer base guest.wat");
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(done.stderr.contains("run --strace -"), "{done:?}");
}

#[test]
fn a_damaged_store_is_named_with_the_image() {
    let cli = prepared();
    let packs = cli.path("store/packs");
    for pack in std::fs::read_dir(packs).unwrap() {
        let path = pack.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        // Behind the head of the pack, and before its table.
        let end = bytes.len() * 3 / 4;
        bytes[64..end].iter_mut().for_each(|byte| *byte ^= 0x55);
        std::fs::write(&path, bytes).unwrap();
    }
    for words in ["run --image warm", "image inspect warm"] {
        cli.run(words)
            .failed(1, &["warm:latest: ", "stratafs store verify"]);
    }
}
