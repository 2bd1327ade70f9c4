//! A prepared image beside what was typed.

use stratafs::runner::freeze::Checkpoint;

use super::failure::Failure;
use super::resolve::{GuestFrom, Run, root};

/// Refuses what the guest has been told already, and shows it what it was shown when it
/// was frozen.
pub(super) fn take_over(run: &mut Run, checkpoint: &Checkpoint) -> Result<(), Failure> {
    let GuestFrom::Image(reference, wanted) = &run.guest else {
        return Ok(());
    };
    let name = reference.to_string();
    let given = [
        ("arguments", !wanted.typed.is_empty()),
        ("--env", !run.plan.env.is_empty()),
        ("--argv0", run.argv0.is_some()),
        ("--entrypoint", wanted.entrypoint.is_some()),
        ("--guest", wanted.over.is_some()),
        ("--workdir", wanted.workdir.is_some()),
        ("--invoke", run.config.invoke.is_some()),
    ];
    if let Some((what, _)) = given.iter().find(|(_, given)| *given) {
        return Err(Failure::usage(format_args!(
            "{reference}: {what} cannot be given: the guest was started when it was prepared, and this is part of the prepared state; pass data to it by stdin, files or volumes"
        )));
    }
    let shown = checkpoint.plan();
    if run.plan.preopens == [root()] {
        run.plan.preopens = shown.preopens;
    }
    run.plan.furnished = shown.furnished;
    check_shown(run, &name, checkpoint)
}

/// Refuses a run that lacks a directory which the guest was shown.
fn check_shown(run: &Run, reference: &str, checkpoint: &Checkpoint) -> Result<(), Failure> {
    match checkpoint.missing_dir(&run.plan) {
        None => Ok(()),
        Some(name) => {
            let shown = checkpoint.plan().preopens;
            let how = match shown.iter().find(|own| own.guest == name) {
                Some(own) => format!("--preopen {}::{name}", own.dir),
                None => format!("--volume NAME::{name} or --dir DIR::{name}"),
            };
            Err(Failure::new(format_args!(
                "{reference}: the guest was shown {name:?} when it was prepared, and is not now: give it again, with {how}"
            )))
        }
    }
}
