//! A trial run over a tree that has lost files.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use stratafs::image::{Image, ImageConfig, Reference};
use stratafs::runner::{
    CallResult, CallValue, FileCall, GuestDir, OutputSink, RunPlan, Runner, RunnerConfig, Stdio,
    Stream, WatchCalls,
};
use stratafs::vfs::{Fs, Rights};

use crate::failure::Failure;
use crate::from_image::{self, Wanted};
use crate::limits::MAX_MISSED_PATHS;

/// Missed files that are named.
const NAMED: usize = 10;

/// Runs the program of an image over what is left of it. Fails if the guest asks for a
/// path that only the whole has, or ends otherwise than well.
pub(super) fn check(
    (reference, config): (&Reference, &ImageConfig),
    (program, args): (Option<Vec<u8>>, &[String]),
    (whole, left): (&Image, &Image),
) -> Result<(), Failure> {
    let missed = Arc::new(Missed {
        whole: Fs::new(whole),
        left: Fs::new(left),
        paths: Mutex::default(),
    });
    let mut plan = RunPlan::default();
    plan.tell_number = false;
    plan.furnished = true;
    plan.preopens = vec![GuestDir {
        dir: "/".to_owned(),
        guest: "/".to_owned(),
        rights: Rights::ReadWrite,
    }];
    let stderr = Arc::new(ToStderr::default());
    plan.stdio = Stdio::Collect(stderr.clone());
    let wanted = Wanted {
        typed: args.to_vec(),
        ..Wanted::default()
    };
    let guest = from_image::guest(reference, (left, config), (program, &wanted), &mut plan)?;
    let mut runner = RunnerConfig::default();
    runner.calls = Some(missed.clone());
    let report = Runner::new(&guest, runner)?.run(left, &plan)?;
    stderr.end_line();
    let paths = missed.paths.lock();
    if !paths.is_empty() {
        return Err(Failure::new(format_args!(
            "--check: the guest asked for what is not in the slim image: {}: name it with --keep, or trace a run that opens it",
            named(&paths)
        )));
    }
    match report.instances.first() {
        Some(one) if one.outcome.is_success() => Ok(()),
        Some(one) => Err(Failure::new(format_args!(
            "--check: over the slim image the guest {}, and no file that it asked for has gone: see what it prints",
            one.outcome
        ))),
        None => Err(Failure::new("--check: the guest did not run")),
    }
}

fn named(paths: &BTreeSet<String>) -> String {
    let mut names: Vec<&str> = paths.iter().take(NAMED).map(String::as_str).collect();
    let more = paths.len().saturating_sub(NAMED);
    let rest = format!("{more} more");
    if more > 0 {
        names.push(&rest);
    }
    names.join(", ")
}

/// Notes what a guest asks for that only the whole tree has.
struct Missed {
    whole: Fs,
    left: Fs,
    paths: Mutex<BTreeSet<String>>,
}

impl std::fmt::Debug for Missed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Missed").finish_non_exhaustive()
    }
}

impl WatchCalls for Missed {
    fn called(&self, call: &FileCall) {
        let CallResult::Failed {
            errno: "ENOENT", ..
        } = &call.result
        else {
            return;
        };
        let mut dir = "/";
        for arg in &call.args {
            match &arg.value {
                CallValue::Descriptor(_, Some(name)) => dir = name,
                CallValue::Path(path) if !path.is_cut() => {
                    let path = String::from_utf8_lossy(&path.bytes);
                    self.asked(&format!("{dir}/{path}"));
                }
                _ => {}
            }
        }
    }
}

impl Missed {
    fn asked(&self, path: &str) {
        let path = match path.starts_with('/') {
            true => format!("/{}", path.trim_start_matches('/')),
            false => format!("/{path}"),
        };
        let is_in = |fs: &Fs| fs.symlink_metadata(&path).is_ok();
        let mut paths = self.paths.lock();
        if paths.len() < MAX_MISSED_PATHS && is_in(&self.whole) && !is_in(&self.left) {
            paths.insert(path);
        }
    }
}

/// What a guest prints during a trial.
#[derive(Default)]
struct ToStderr {
    /// The last line has not ended.
    is_open: AtomicBool,
}

impl ToStderr {
    /// Ends the line that the guest left open: what is said next begins a new one.
    fn end_line(&self) {
        if self.is_open.swap(false, Ordering::Relaxed) {
            drop(io::stderr().lock().write_all(b"\n"));
        }
    }
}

impl OutputSink for ToStderr {
    fn write(&self, _: u32, _: Stream, bytes: &[u8]) {
        // Where nobody takes it there is nobody to tell.
        drop(io::stderr().lock().write_all(bytes));
        let is_open = bytes.last().is_some_and(|last| *last != b'\n');
        self.is_open.store(is_open, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stratafs::chunk::Content;
    use stratafs::layer::LayerBuilder;
    use stratafs::meta::Meta;
    use stratafs::name::LayerPath;

    #[test]
    fn what_is_missed_is_kept_up_to_a_bound() {
        let mut layer = LayerBuilder::new();
        for number in 0..=MAX_MISSED_PATHS {
            let path = LayerPath::parse(format!("f{number}").as_bytes()).unwrap();
            layer
                .file(&path, Meta::with_mode(0o644), Content::empty())
                .unwrap();
        }
        let whole = Image::new(&[layer.finish().unwrap()]).unwrap();
        let missed = Missed {
            whole: Fs::new(&whole),
            left: Fs::new(&Image::empty()),
            paths: Mutex::default(),
        };
        missed.asked("/none");
        assert!(missed.paths.lock().is_empty(), "the whole lacks it too");
        for number in 0..=MAX_MISSED_PATHS {
            missed.asked(&format!("//f{number}"));
            missed.asked(&format!("/f{number}"));
        }
        let paths = missed.paths.lock();
        assert_eq!(paths.len(), MAX_MISSED_PATHS);
        assert!(named(&paths).ends_with("990 more"), "{}", named(&paths));
    }
}
