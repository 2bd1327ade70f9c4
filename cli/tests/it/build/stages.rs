//! Stages side by side: the order of what is told, equal results, failures.

use std::time::{Duration, Instant};

use super::{Cli, build, guest, id, tree, with};
use crate::support::script::Script;

/// Eight stages that need nothing of each other, and one that takes from all.
fn many() -> Cli {
    let mut recipe = String::new();
    for at in 0..8 {
        recipe.push_str(&format!(
            "FROM scratch AS s{at}\nCOPY g.wat /g.wat\nENV A={at}\nRUN [\"/g.wat\"]\nCOPY <<f /out{at}\n{at}\nf\n"
        ));
    }
    recipe.push_str("FROM scratch\n");
    for at in 0..8 {
        recipe.push_str(&format!("COPY --from=s{at} /out{at} /\n"));
    }
    let cli = with(&recipe);
    guest(
        &cli,
        "g.wat",
        &Script::new().print("one\ntwo\nthree\n").print_env(),
    );
    cli
}

#[test]
fn stages_are_built_side_by_side_and_told_in_order() {
    let cli = many();
    let done = cli.run("image build --progress plain --json ctx --tag made");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    // Each line says which step it is of; what a guest prints stays together.
    let lines: Vec<&str> = done.stderr.lines().collect();
    assert!(
        lines.iter().all(|line| line.starts_with('#')),
        "{}",
        done.stderr
    );
    let at = lines
        .iter()
        .position(|line| line.ends_with(" one"))
        .unwrap();
    let number = lines[at].split(' ').next().unwrap();
    assert_eq!(lines[at + 1], format!("{number} two"));
    assert_eq!(lines[at + 2], format!("{number} three"));
    let told: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let told = told["steps"].as_array().unwrap().iter();
    let order: Vec<u64> = told.map(|step| step["line"].as_u64().unwrap()).collect();
    assert!(order.is_sorted() && order.len() == 8 * 5 + 9, "{order:?}");
    let outs: Vec<String> = (0..8).map(|at| format!("/out{at}")).collect();
    assert_eq!(tree(&cli), outs);
    let first = id(&build(&cli, ""));
    assert_eq!(id(&build(&cli, "--no-cache")), first);
    assert_eq!(id(&build(&many(), "")), first);
}

#[test]
fn a_stage_that_fails_ends_those_beside_it() {
    let cli = with(
        "FROM scratch AS slow\nCOPY slow.wat /\nRUN [\"/slow.wat\"]\nFROM scratch AS bad\nCOPY bad.wat /\nRUN [\"/bad.wat\"]\nFROM scratch\nCOPY --from=slow / /\nCOPY --from=bad / /\n",
    );
    guest(&cli, "slow.wat", &Script::new().sleep(600));
    guest(&cli, "bad.wat", &Script::new().exit(3));
    let start = Instant::now();
    build(&cli, "--iidfile id").failed(1, &["line 6, column 1", "exit code 3"]);
    assert!(start.elapsed() < Duration::from_secs(120));
    cli.run("image inspect made").failed(1, &["made"]);
    assert_eq!(cli.names(), ["cache", "ctx", "store"]);
    // What was whole is kept, and the store is as it should be.
    cli.run("store verify").fine();
}
