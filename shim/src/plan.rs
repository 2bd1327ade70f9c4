//! What a guest is run with, as its spec asks for it.

use std::fs::File;
use std::path::PathBuf;

use stratafs::image::Image;
use stratafs::runner::{GuestDir, RunControl, RunPlan};
use stratafs::vfs::Rights;

use crate::file_user::FileUser;
use crate::log::{LogLevel, log_line};
use crate::mounts;
use crate::spec::ContainerSpec;
use crate::status::Status;
use crate::users::home_of;

/// What a spec asks for, its mounts and bounds left out.
#[must_use]
pub fn of(spec: &ContainerSpec) -> RunPlan {
    let mut plan = RunPlan::default();
    plan.args.clone_from(&spec.args);
    plan.env.clone_from(&spec.env);
    // preview1 has no other way to say it.
    if !plan.env.iter().any(|(name, _)| name == "PWD") {
        plan.env.push(("PWD".to_owned(), spec.cwd.clone()));
    }
    plan.working_dir = Some(spec.cwd.clone());
    plan.tell_number = false;
    plan.furnished = true;
    plan.preopens = vec![GuestDir {
        dir: "/".to_owned(),
        guest: "/".to_owned(),
        rights: Rights::ReadWrite,
    }];
    if spec.read_only {
        plan.rights = Rights::ReadOnly;
    }
    if let Some(max) = spec.max_open {
        plan.quota.max_open = plan
            .quota
            .max_open
            .min(u32::try_from(max).unwrap_or(u32::MAX));
    }
    plan
}

/// Shows a guest what its mounts are, reached as its user. Returns what has to stay open until it runs.
///
/// # Errors
/// A mount that a guest cannot be given, or a user who cannot be taken on, by the name of the field.
pub fn show(
    spec: &ContainerSpec,
    private: &[PathBuf],
    (id, control): (&str, &RunControl),
    plan: &mut RunPlan,
) -> Result<Vec<File>, Status> {
    let user = FileUser::of(&spec.user);
    let shown = mounts::apply(&spec.mounts, private, user.as_ref(), plan)?;
    if let Some(user) = user.filter(|_| !plan.host_dirs.is_empty()) {
        // What cannot be done is heard of now.
        user.do_as(|| ())
            .map_err(|why| Status::invalid(format_args!("process.user: {why}")))?;
        plan.host_threads = Some(user.threads(id, control));
    }
    Ok(shown)
}

/// Says where the home of a container's user is, if the spec does not: as other runtimes do. That
/// nobody can say it is no reason not to run.
pub fn give_home(id: &str, image: &Image, uid: u32, plan: &mut RunPlan) {
    if plan.env.iter().any(|(name, _)| name == "HOME") {
        return;
    }
    let home = home_of(image, uid).unwrap_or_else(|error| {
        log_line(LogLevel::Warn, id, format_args!("HOME is /: {error}"));
        "/".to_owned()
    });
    plan.env.push(("HOME".to_owned(), home));
}
