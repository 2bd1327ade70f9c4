//! What a step's key is made of: whatever goes into its result, and nothing else.

use std::time::{Duration, UNIX_EPOCH};

use super::{Cli, build, guest, id, steps, with};
use crate::support::script::Script;

const RECIPE: &str = "FROM base\nARG SEEN=1\nCOPY src /src\nCOPY --from=other f /other\nCOPY g.wat /g.wat\nENV E=1\nLABEL l=1\nRUN --mount=source=bound,target=/bound --mount=from=other,target=/o --mount=type=cache,target=/kept --mount=type=secret,id=s [\"/g.wat\"]\nARG LATER=1\n";

const OPTIONS: &str = "--build-context other=other --secret id=s,src=secret";

fn project() -> Cli {
    let cli = with(RECIPE);
    guest(&cli, "g.wat", &Script::new().write("out", b"1"));
    cli.file("ctx/src/a", "a")
        .file("ctx/src/b", "b")
        .file("ctx/bound/x", "x")
        .file("ctx/beside", "1")
        .file("ctx/.dockerignore", "**/*.log\n")
        .file("other/f", "f")
        .file("secret", "first-secret")
        .file("base/b", "b");
    cli.run("image import base --tag base").fine();
    cli
}

/// Changes one line of the recipe.
fn line(cli: &Cli, from: &str, to: &str) {
    assert!(RECIPE.contains(from), "{from}");
    cli.file("ctx/Dockerfile", RECIPE.replace(from, to));
}

/// One change, the options of the build after it, and which of the lines are built anew then.
struct KeyCase {
    what: &'static str,
    change: fn(&Cli),
    options: &'static str,
    anew: [bool; 4],
}

/// A change of which nothing is to come.
const NONE: [bool; 4] = [false; 4];

/// One of which everything is built anew.
const ALL: [bool; 4] = [true; 4];

/// One that the guest alone may see.
const RUN: [bool; 4] = [false, false, false, true];

fn case(what: &'static str, anew: [bool; 4], change: fn(&Cli)) -> KeyCase {
    KeyCase {
        what,
        change,
        options: OPTIONS,
        anew,
    }
}

fn option(options: &'static str, anew: [bool; 4]) -> KeyCase {
    KeyCase {
        what: options,
        change: |_| {},
        options,
        anew,
    }
}

fn cases() -> Vec<KeyCase> {
    let mut all = vec![
        case("nothing", NONE, |_| {}),
        case("times", NONE, |cli| {
            for name in ["ctx/src/a", "ctx/g.wat", "ctx/bound/x", "other/f"] {
                let file = std::fs::File::options().write(true).open(cli.path(name));
                let then = UNIX_EPOCH + Duration::from_secs(5);
                file.unwrap().set_modified(then).unwrap();
            }
        }),
        case("content", ALL, |cli| {
            cli.file("ctx/src/a", "c");
        }),
        case("a name", ALL, |cli| {
            cli.file("ctx/src/new", "c");
        }),
        case("what nobody copies", NONE, |cli| {
            cli.file("ctx/beside", "2").file("ctx/more", "3");
        }),
        case("what is left out", NONE, |cli| {
            cli.file("ctx/src/x.log", "1");
        }),
        case("a comment of .dockerignore", NONE, |cli| {
            cli.file("ctx/.dockerignore", "# all logs\n**/*.log\n");
        }),
        case("what .dockerignore leaves out", ALL, |cli| {
            cli.file("ctx/.dockerignore", "**/*.log\nsrc/b\n");
        }),
        case("the guest", [false, false, true, true], |cli| {
            guest(cli, "g.wat", &Script::new().write("out", b"2"));
        }),
        case("what is mounted", RUN, |cli| {
            cli.file("ctx/bound/x", "y");
        }),
        case("another context", [false, true, true, true], |cli| {
            cli.file("other/f", "g");
        }),
        case("more in another context", RUN, |cli| {
            cli.file("other/g", "g");
        }),
        case("the base", ALL, |cli| {
            cli.file("base/b", "c");
            cli.run("image import base --tag base").fine();
        }),
        case("a secret", NONE, |cli| {
            cli.file("secret", "second-secret");
        }),
        case("blanks and comments", NONE, |cli| {
            line(
                cli,
                "COPY src /src",
                "# the sources\n  COPY \\\n   src   /src  ",
            );
        }),
        case("a variable that says the same", NONE, |cli| {
            line(cli, "COPY src /src", "COPY ${NONE:-src} /src");
        }),
        case("the environment", RUN, |cli| line(cli, "E=1", "E=2")),
        case("an argument's value", RUN, |cli| {
            line(cli, "SEEN=1", "SEEN=2")
        }),
        case("a later argument", NONE, |cli| {
            line(cli, "LATER=1", "LATER=2")
        }),
        case("a label", NONE, |cli| line(cli, "LABEL l=1", "LABEL l=2")),
        case("what no guest sees", NONE, |cli| {
            line(
                cli,
                "LABEL l=1",
                "LABEL l=1\nUSER 5\nEXPOSE 80\nVOLUME /v\nCMD [\"x\"]",
            );
        }),
        case("the working directory", RUN, |cli| {
            line(cli, "LABEL l=1", "LABEL l=1\nWORKDIR /src");
        }),
        case("an owner", ALL, |cli| {
            line(cli, "COPY src", "COPY --chown=5 src")
        }),
        case("a mode", ALL, |cli| {
            line(cli, "COPY src", "COPY --chmod=700 src")
        }),
        case("a place", ALL, |cli| line(cli, "/src", "/src2")),
        case("a word of the guest's", RUN, |cli| {
            line(cli, "[\"/g.wat\"]", "[\"/g.wat\", \"x\"]");
        }),
        case("a mount's place", RUN, |cli| {
            line(cli, "target=/bound", "target=/b2")
        }),
        case("a mount that may be written", RUN, |cli| {
            line(cli, "target=/bound", "target=/bound,rw");
        }),
        case("another mount", RUN, |cli| {
            line(
                cli,
                "--mount=type=secret,id=s",
                "--mount=type=secret,id=s --mount=type=tmpfs,target=/t",
            );
        }),
        case("a cache's name", RUN, |cli| {
            line(cli, "target=/kept", "target=/kept,id=k")
        }),
        // Where another context lies is nobody's business.
        KeyCase {
            what: "another place of a context",
            change: |cli| {
                cli.file("moved/f", "f");
            },
            options: "--build-context other=moved --secret id=s,src=secret",
            anew: NONE,
        },
        option("--build-context other=other", NONE),
        option("--build-context other=other --build-arg SEEN=1", NONE),
        option("--build-context other=other --build-arg SEEN=2", RUN),
        option("--build-context other=other --build-arg LATER=2", NONE),
        option("--build-context other=other --build-arg NEVER=2", NONE),
        option("--build-context other=other --build-arg HTTP_PROXY=p", RUN),
        option(
            "--build-context other=other --build-arg SOURCE_DATE_EPOCH=9",
            ALL,
        ),
        option(
            "--build-context other=other --set-platform linux/arm64",
            NONE,
        ),
        option("--build-context other=other --label l=2", NONE),
        option("--build-context other=other --allow-net 127.0.0.1:9", RUN),
        option("--build-context other=other --timeout 60", NONE),
        option("--build-context other=other --no-cache", ALL),
    ];
    if cfg!(unix) {
        all.push(case("the mode of a file", ALL, |cli| {
            mode(cli, "ctx/src/a", 0o711)
        }));
        all.push(case("the mode of what is mounted", RUN, |cli| {
            mode(cli, "ctx/bound/x", 0o711);
        }));
        all.push(case("the mode of what is named", NONE, |cli| {
            mode(cli, "ctx/src", 0o711)
        }));
    }
    all
}

#[cfg(unix)]
fn mode(cli: &Cli, path: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(cli.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(not(unix))]
fn mode(_: &Cli, _: &str, _: u32) {}

/// Which of the steps are built anew: those of the recipe's lines that make layers.
fn anew(cli: &Cli, options: &str) -> Vec<bool> {
    let told = steps(cli, options);
    // The base and instructions that change the configuration alone are always there.
    let text = std::fs::read_to_string(cli.path("ctx/Dockerfile")).unwrap();
    let joined = text.replace("\\\n", "");
    let lines = joined.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let told = lines.zip(told);
    told.filter(|(line, _)| line.starts_with("COPY") || line.starts_with("RUN"))
        .map(|(_, (cached, _))| !cached)
        .collect()
}

#[test]
fn a_key_changes_with_what_goes_into_a_step_and_with_nothing_else() {
    let cli = project();
    assert_eq!(anew(&cli, OPTIONS), ALL);
    assert_eq!(anew(&cli, OPTIONS), NONE);
    // Each case has a project of its own, over what the first one built.
    let mut wrong = Vec::new();
    for case in cases() {
        let own = project();
        build(&own, OPTIONS).fine();
        (case.change)(&own);
        let have = anew(&own, case.options);
        if have != case.anew {
            wrong.push((case.what, have));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[cfg(unix)]
#[test]
fn neither_umask_nor_place_nor_time_is_in_a_digest() {
    let recipe = "FROM scratch\nCOPY --chmod=u=rwX,go=rX src /src\nCOPY g.wat /g.wat\nWORKDIR /w\nRUN [\"/g.wat\"]\nCOPY <<f /\nf\n";
    let made = |file_mode: u32, dir_mode: u32, umask: u32| {
        let cli = with(recipe);
        let script = Script::new().write("out", b"1");
        guest(&cli, "g.wat", &script);
        cli.file("ctx/src/a", "a").file("ctx/src/d/b", "b");
        mode(&cli, "ctx/src/a", file_mode);
        mode(&cli, "ctx/src/d/b", file_mode);
        mode(&cli, "ctx/src/d", dir_mode);
        mode(&cli, "ctx/src", dir_mode);
        mode(&cli, "ctx/g.wat", 0o644);
        let inner = cli.command("image build -q ctx --tag made");
        let mut shell = std::process::Command::new("/bin/sh");
        shell
            .args(["-c", &format!("umask {umask:03o}; exec \"$0\" \"$@\"")])
            .arg(inner.get_program())
            .args(inner.get_args());
        if let Some(dir) = inner.get_current_dir() {
            shell.current_dir(dir);
        }
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        id(&super::Done::of(&mut shell))
    };
    let first = made(0o644, 0o755, 0o022);
    assert_eq!(made(0o600, 0o700, 0o077), first);
    assert_eq!(made(0o664, 0o775, 0o002), first);
}
