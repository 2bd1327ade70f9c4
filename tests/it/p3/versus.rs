//! Every call with good, odd and bad arguments, here and in wasmtime-wasi on a
//! directory of the host: the same answer, the same tree after it.
//!
//! Linux only: what the twin says is what Linux says.
#![cfg(target_os = "linux")]

use stratafs::image::Image;
use stratafs::vfs::Fs;

use crate::support::guest::World;
use crate::support::wasi_host::{Compiled, Files, Mode};

/// A call with its arguments, the answer, and the tree if that is another
/// after it.
struct Line {
    call: String,
    answer: String,
    tree: String,
}

fn lines(out: &str) -> Vec<Line> {
    let mut all: Vec<Line> = Vec::new();
    for line in out.lines() {
        match (line.strip_prefix("    "), all.last_mut()) {
            (Some(tree), Some(last)) => last.tree = tree.to_owned(),
            _ => {
                let (call, answer) = line.split_once(": ").unwrap();
                all.push(Line {
                    call: call.to_owned(),
                    answer: answer.to_owned(),
                    tree: String::new(),
                });
            }
        }
    }
    all
}

/// Our answers that wasmtime-wasi has not, and why.
fn is_meant(ours: &Line, theirs: &Line) -> bool {
    let (call, answer) = (ours.call.as_str(), ours.answer.as_str());
    let slash = [r#"/" "#, r#"/." "#].iter().any(|end| call.contains(end));
    let code = |name: &str| answer == format!("ErrorCode::{name}");
    // Linux goes through a link with a slash after it, and wants a directory;
    // wasmtime does not see the slash.
    let looks = call.ends_with(" stat-at") || call.ends_with(" metadata-hash-at");
    if slash && looks {
        let failed = ["NotDirectory", "NoEntry", "Loop", "NotPermitted"];
        return answer == r#""dir""# || failed.into_iter().any(code);
    }
    // Linux removes a directory by a name with a slash, and no link;
    // wasmtime refuses the slash, or what the link leads to.
    if slash && call.ends_with(" remove-directory-at") {
        return answer == "()" || code("NotEmpty") || code("NotDirectory");
    }
    // Each write is done when its call returns: wasmtime does not offer that.
    if call.contains(" open-at ") && call.contains(" sync") {
        return theirs.answer == "ErrorCode::Unsupported";
    }
    // What no file can hold is too large.
    let huge = ["9223372036854775808", "18446744073709551615"];
    let size = huge
        .iter()
        .any(|size| call.ends_with(&format!("set-size {size}")));
    size && code("FileTooLarge") && theirs.answer == "ErrorCode::Invalid"
}

#[test]
fn each_call_answers_as_wasmtime_wasi_does() {
    let guest = Compiled::new("calls", World::P3);
    let [strata, again] = [Mode::Sync, Mode::Async].map(|mode| {
        let fs = Fs::new(&Image::empty());
        let outcome = guest.run(Files::Strata(&fs), mode, &[]);
        assert_eq!(fs.usage().open, 0);
        outcome
    });
    assert_eq!((strata.code, &strata.err[..]), (0, ""));
    assert_eq!(strata, again);
    let ours = lines(&strata.out);
    assert!(ours.len() > 6_000, "{} calls", ours.len());
    for mode in [Mode::Sync, Mode::Async] {
        let dir = tempfile::tempdir().unwrap();
        let stock = guest.run(Files::HostDir(dir.path()), mode, &[]);
        assert_eq!((stock.code, &stock.err[..]), (0, ""));
        let theirs = lines(&stock.out);
        assert_eq!(ours.len(), theirs.len());
        let mut meant = false;
        let mut wrong = Vec::new();
        for (ours, theirs) in ours.iter().zip(&theirs) {
            // What a call that was meant to differ left is told after it.
            let after = meant && ours.call.ends_with(" then");
            let same = (&ours.call, &ours.answer, &ours.tree)
                == (&theirs.call, &theirs.answer, &theirs.tree);
            meant = !same && is_meant(ours, theirs);
            if !same && !meant && !after {
                wrong.push(format!(
                    "{}: {} here, {} there\n{}\n{}",
                    ours.call, ours.answer, theirs.answer, ours.tree, theirs.tree
                ));
            }
        }
        assert!(
            wrong.is_empty(),
            "{mode:?}: {} of {} differ\n{}",
            wrong.len(),
            ours.len(),
            wrong.join("\n")
        );
    }
}
