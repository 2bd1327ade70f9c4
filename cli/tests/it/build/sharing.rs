//! `--cache-from` and `--cache-to`: steps that were built elsewhere.

use std::fs;

use super::{Cli, Done, guest, with};
use crate::support::fake_registry::FakeRegistry;
use crate::support::script::{OK, Script};

/// Links `/g.wat`, which lies below, to `/linked`.
const LINKER: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_link"
    (func $link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "g.watlinked")
  (func (export "_start")
    (call $exit (call $link
      (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 5)
      (i32.const 3) (i32.const 5) (i32.const 6)))))"#;

/// A project with every kind of layer: files, links to what lies below, what is removed, nothing.
fn project() -> Cli {
    let cli = with(
        "FROM scratch AS tools\nCOPY link.wat g.wat more.wat /\nRUN [\"/link.wat\"]\nRUN [\"/g.wat\"]\nFROM tools\nENV A=1\nWORKDIR /srv\nCOPY --from=tools / /all\nRUN [\"/more.wat\"]\nRUN [\"/none.wat\"]\nCOPY --link src /src\nCMD [\"/g.wat\"]\n",
    );
    guest(
        &cli,
        "g.wat",
        &Script::new().write("out", b"1").unlink("link.wat", OK),
    );
    guest(
        &cli,
        "more.wat",
        &Script::new().write("none.wat", b"(module (func (export \"_start\")))"),
    );
    cli.file("ctx/link.wat", LINKER).file("ctx/src/a", "a");
    cli
}

/// Builds in a store of its own, as another machine.
fn elsewhere(cli: &Cli, store: &str, words: &str, host: &str) -> Done {
    let words = format!("image build --progress plain --json --explain {words} ctx --tag made");
    let mut command = cli.command(&words.replace("REG", host));
    command.env("STRATAFS_STORE", cli.path(store));
    command.env("DOCKER_CONFIG", cli.path("docker"));
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        command.env_remove(name);
    }
    Done::of(&mut command)
}

/// The digest, and how many steps were not cached.
#[track_caller]
fn told(done: &Done) -> (String, usize) {
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let told: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let steps = told["steps"].as_array().unwrap().iter();
    let built = steps.filter(|step| step["cached"] == false).count();
    (told["id"].as_str().unwrap().to_owned(), built)
}

#[test]
fn another_machine_runs_nothing_with_the_cache_of_this_one() {
    let cli = project();
    let fake = FakeRegistry::start();
    let places =
        "--cache-to type=local,dest=shared --cache-to type=registry,ref=REG/app:cache,mode=max";
    let (id, built) = told(&elsewhere(&cli, "one", places, &fake.host));
    assert!(built >= 7, "{built}");
    for (store, from) in [
        ("two", "--cache-from type=local,src=shared"),
        ("three", "--cache-from REG/app:cache"),
        (
            "four",
            "--cache-from type=registry,ref=REG/app:cache --cache-from type=local,src=shared",
        ),
    ] {
        let done = elsewhere(&cli, store, from, &fake.host);
        assert_eq!(told(&done), (id.clone(), 0), "{store}: {}", done.stderr);
    }
    // One changed file is built from its step on; what is written goes over what was there.
    cli.file("ctx/src/a", "b");
    let both = "--cache-from type=local,src=shared --cache-to type=local,dest=shared";
    let (other, built) = told(&elsewhere(&cli, "five", both, &fake.host));
    assert_eq!(built, 1);
    assert_eq!(told(&elsewhere(&cli, "six", both, &fake.host)), (other, 0));
    // Nothing is left of the exchange beside the cache, and no name a person sees.
    let ls = cli.run("image ls --all --store five").text();
    assert!(!ls.contains("BUILD/to-"), "{ls}");
    let left = cli.names();
    assert!(
        !left.iter().any(|name| name.starts_with("shared.")),
        "{left:?}"
    );
    cli.run("store verify --store three").fine();
    cli.run("store verify --store six").fine();
}

#[test]
fn an_invalid_cache_is_a_warning() {
    let cli = project();
    cli.run("image import ctx --tag plain").fine();
    cli.run("image export plain lay --format oci").fine();
    cli.file("damaged/oci-layout", "{}")
        .file("damaged/index.json", "{");
    let fake = FakeRegistry::start();
    for (from, part) in [
        ("type=local,src=none", "none"),
        ("type=local,src=lay", "no cache of builds"),
        ("type=local,src=damaged", "damaged"),
        ("REG/none:1", "none:1"),
    ] {
        let done = elsewhere(&cli, "one", &format!("--cache-from {from}"), &fake.host);
        told(&done);
        let warning = done.stderr.lines().next().unwrap();
        assert!(
            warning.starts_with("warning: --cache-from") && warning.contains(part),
            "{warning}"
        );
    }
    // A place that cannot be written is an error before anything is built.
    cli.file("file", "").file("full/x", "");
    for to in [
        "type=local,dest=file",
        "type=local,dest=full",
        "type=local,dest=no/where",
    ] {
        let done = elsewhere(&cli, "two", &format!("--cache-to {to}"), "");
        assert_eq!(done.code, Some(1), "{to}");
        assert!(done.stderr.contains("--cache-to"), "{}", done.stderr);
        assert!(!cli.path("two").exists(), "{to}");
    }
    for bad in [
        "--cache-to type=gha",
        "--cache-from type=local,dest=x",
        "--cache-to type=local,dest=x,mode=min",
    ] {
        cli.run(&format!("image build ctx --tag a {bad}"))
            .refused(&["--cache-"]);
    }
}

/// A step's key leads where the cache says, but only to a layer of that cache, and what was
/// built here goes first.
#[test]
fn a_cache_that_lies_is_believed_for_its_keys_and_for_nothing_else() {
    let cli = project();
    let (id_here, _) = told(&elsewhere(
        &cli,
        "one",
        "--cache-to type=local,dest=shared",
        "",
    ));
    // A store that knows the steps takes none of the other's.
    let done = elsewhere(&cli, "one", "--cache-from type=local,src=shared", "");
    assert_eq!(told(&done), (id_here.clone(), 0));
    // The first key is said to lead to the last layer.
    let lie = |list: &dyn Fn(Vec<(String, Option<usize>)>) -> Vec<(String, Option<usize>)>,
               tag: &str| {
        cli.run("image import shared --tag raw").fine();
        let labels = cli.json("image inspect raw")["config"]["labels"].clone();
        let steps: Vec<(String, Option<usize>)> =
            serde_json::from_str(labels["stratafs.build.cache"].as_str().unwrap()).unwrap();
        let text = serde_json::to_string(&list(steps)).unwrap();
        let mut command = cli.command(&format!("image mutate raw --tag {tag}"));
        command.args(["--label", &format!("stratafs.build.cache={text}")]);
        Done::of(&mut command).fine();
        cli.run(&format!("image export {tag} {tag} --format oci"))
            .fine();
    };
    lie(
        &|mut steps| {
            let last = steps.iter().filter_map(|(_, number)| *number).max();
            steps[0].1 = last;
            steps
        },
        "swapped",
    );
    let done = elsewhere(&cli, "two", "--cache-from type=local,src=swapped", "");
    // `COPY link.wat g.wat` came to something else, and RUN finds no program: the line says so.
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("line 3, column 1"), "{}", done.stderr);
    lie(
        &|mut steps| {
            steps[0].1 = Some(1000);
            steps
        },
        "beyond",
    );
    let done = elsewhere(&cli, "three", "--cache-from type=local,src=beyond", "");
    assert!(
        done.stderr
            .contains("names a key or a layer that cannot be"),
        "{}",
        done.stderr
    );
    assert_eq!(told(&done).0, id_here);
    // Who does not believe it builds anew.
    let done = elsewhere(
        &cli,
        "two",
        "--no-cache --cache-from type=local,src=swapped",
        "",
    );
    assert_eq!(told(&done).0, id_here);
}

#[test]
fn no_secret_is_in_what_is_given_away() {
    let cli =
        with("FROM scratch\nCOPY g.wat /\nRUN --mount=type=secret,id=key,env=KEY [\"/g.wat\"]\n");
    guest(&cli, "g.wat", &Script::new().write("out", b"1"));
    cli.file("key", "hunter2-very-secret");
    let done = elsewhere(
        &cli,
        "one",
        "--secret id=key,src=key --cache-to type=local,dest=shared",
        "",
    );
    told(&done);
    let mut dirs = vec![cli.path("shared")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => dirs.push(path),
                false => {
                    let bytes = fs::read(path).unwrap();
                    assert!(!bytes.windows(7).any(|part| part == b"hunter2"));
                }
            }
        }
    }
}
