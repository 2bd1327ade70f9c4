//! What is kept from build to build, and that equal recipes give equal images.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use super::{Cli, build, guest, id, steps, tree, with};
use crate::support::script::Script;

const RECIPE: &str =
    "FROM scratch\nCOPY g.wat /g.wat\nCOPY src /src\nENV A=1\nRUN [\"/g.wat\"]\nCOPY last /last\n";

fn project() -> Cli {
    let cli = with(RECIPE);
    guest(&cli, "g.wat", &Script::new().write("out", b"1"));
    cli.file("ctx/src/a", "a").file("ctx/last", "l");
    cli
}

fn cached(cli: &Cli) -> Vec<bool> {
    steps(cli, "").iter().map(|step| step.0).collect()
}

#[test]
fn equal_recipes_give_equal_digests_and_other_times_change_nothing() {
    let (one, two) = (project(), project());
    let first = id(&build(&one, ""));
    // Another machine, another day.
    fs::File::open(two.path("ctx/src/a"))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH + Duration::from_secs(5))
        .unwrap();
    assert_eq!(id(&build(&two, "--no-cache")), first);
    assert_eq!(id(&build(&one, "--no-cache")), first);
    assert_eq!(id(&build(&one, "")), first);
    let mut command = one.command("image build -q ctx --tag made");
    command.env("SOURCE_DATE_EPOCH", "86400");
    assert_ne!(id(&super::Done::of(&mut command)), first);
    let shown = one.run("image tree made").text();
    assert!(shown.contains("1970-01-02"), "{shown}");
    assert!(!shown.contains("2000-"), "{shown}");
    command.env("SOURCE_DATE_EPOCH", "tomorrow");
    super::Done::of(&mut command).failed(1, &["SOURCE_DATE_EPOCH=tomorrow"]);
}

#[test]
fn a_change_rebuilds_from_its_step_on_and_explain_says_why() {
    let cli = project();
    assert_eq!(cached(&cli), [true, false, false, true, false, false]);
    assert_eq!(cached(&cli), [true; 6]);
    // Content counts, and mode; time does not.
    cli.file("ctx/last", "l");
    assert_eq!(cached(&cli), [true; 6]);
    cli.file("ctx/last", "m");
    let told = steps(&cli, "");
    assert!(told[4].0);
    assert_eq!(
        told[5],
        (
            false,
            "changed since it was built last: the files; first change: C /last".to_owned()
        )
    );
    cli.file("ctx/src/a", "b");
    let told = steps(&cli, "");
    assert!(told[2].1.contains("the files"), "{told:?}");
    assert!(told[4].1.contains("what lies below"), "{told:?}");
    // What was built once is found again.
    cli.file("ctx/src/a", "a").file("ctx/last", "l");
    assert_eq!(cached(&cli), [true; 6]);
    cli.file("ctx/Dockerfile", RECIPE.replace("A=1", "A=2"));
    let told = steps(&cli, "");
    assert!(told[4].1.contains("the environment"), "{told:?}");
    assert!(told[2].0 && !told[4].0);
    cli.file(
        "ctx/Dockerfile",
        RECIPE.replace("RUN [", "RUN --mount=type=tmpfs,target=/t ["),
    );
    assert!(steps(&cli, "")[4].1.contains("was not built before"));
    let told = steps(&cli, "--no-cache");
    assert!(told[2].1.contains("--no-cache"), "{told:?}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        cli.file("ctx/Dockerfile", RECIPE);
        fs::set_permissions(cli.path("ctx/last"), fs::Permissions::from_mode(0o711)).unwrap();
        assert!(!steps(&cli, "")[5].0);
    }
}

#[test]
fn what_is_kept_is_hidden_and_goes_with_a_collection() {
    let cli = project();
    id(&build(&cli, ""));
    let shown = cli.run("image ls").text();
    assert!(
        !shown.contains("BUILD") && shown.contains("made:latest"),
        "{shown}"
    );
    assert!(cli.run("image ls --all").text().contains("BUILD/step-"));
    assert!(!cli.run("image inspect made").text().contains("BUILD"));
    cli.run("store gc --keep-cache 1G").fine();
    assert_eq!(cached(&cli), [true; 6]);
    cli.run("store gc").fine();
    assert!(!cli.run("image ls --all").text().contains("BUILD"));
    assert_eq!(cached(&cli), [true, false, false, true, false, false]);
    assert_eq!(tree(&cli), ["/g.wat", "/last", "/out", "/src", "/src/a"]);
    cli.run("store verify").fine();
    assert!(
        cli.run("store gc --json")
            .text()
            .contains("\"cache_entries\": 5")
    );
}

#[test]
fn ten_builds_at_once_make_one_image() {
    let cli = project();
    let children: Vec<_> = (0..10)
        .map(|number| {
            let mut command = cli.command(&format!("image build -q ctx --tag made{number}"));
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut ids: Vec<String> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            let text = String::from_utf8(output.stdout).unwrap();
            text.split_whitespace().last().unwrap().to_owned()
        })
        .collect();
    ids.dedup();
    assert_eq!(ids.len(), 1);
    cli.run("store verify").fine();
}

/// The files of a store with their lengths.
fn files(store: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut todo = vec![store.to_owned()];
    while let Some(dir) = todo.pop() {
        // What goes away meanwhile is not there.
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => todo.push(entry.path()),
                Ok(meta) => drop(found.insert(entry.path(), meta.len())),
                Err(_) => {}
            }
        }
    }
    found
}

/// Starts a build that nobody listens to.
fn started(cli: &Cli) -> Child {
    let mut command = cli.command("image build -q ctx --tag made");
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Runs a build until the store has changed for the nth time under its eyes, and ends it then.
/// Returns whether it got that far.
fn killed_at(cli: &Cli, nth: usize) -> bool {
    let mut child = started(cli);
    let store = cli.path("store");
    let mut seen = files(&store);
    let mut changes = 0;
    while child.try_wait().unwrap().is_none() {
        let now = files(&store);
        changes += usize::from(now != seen);
        seen = now;
        if changes == nth {
            child.kill().unwrap();
            return child.wait().unwrap().code().is_none();
        }
    }
    false
}

#[test]
fn a_build_that_is_killed_at_each_step_leaves_nothing_that_stays() {
    let whole = project();
    let want = id(&build(&whole, ""));
    let cli = project();
    // The guest is compiled already.
    id(&build(&cli, ""));
    let mut kills = 0;
    for nth in 1.. {
        fs::remove_dir_all(cli.path("store")).unwrap();
        if !killed_at(&cli, nth) {
            break;
        }
        kills += 1;
        // There may be none yet.
        let verified = cli.run("store verify");
        let is_none = verified.stderr.contains("no store there");
        assert!(verified.code == Some(0) || is_none, "{verified:?}");
        assert_eq!(id(&build(&cli, "")), want, "after {nth} changes");
        cli.run("store verify").fine();
        cli.run("image rm made").fine();
        cli.run("store gc").fine();
        for dir in ["tmp", "packs", "indexes", "layers"] {
            let left = super::left_in(&cli.path("store").join(dir));
            assert_eq!(left, [""; 0], "{dir} after {nth} changes");
        }
    }
    assert!(kills > 5, "only {kills} changes were seen");
}

#[test]
fn a_build_that_is_killed_leaves_whole_steps_alone() {
    let cli = project();
    for wait in [1, 5, 10, 20, 40, 60, 80, 120, 160, 240] {
        let mut child = started(&cli);
        std::thread::sleep(Duration::from_millis(wait));
        drop(child.kill());
        child.wait().unwrap();
    }
    let whole = project();
    assert_eq!(id(&build(&cli, "")), id(&build(&whole, "")));
    cli.run("store verify").fine();
}
