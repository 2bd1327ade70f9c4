//! As whom the files of the host are reached that a guest is shown: as the user of its spec.
//!
//! A thread has rights on files of its own, apart from those of its process. Threads that reach files
//! for a guest take on those of its user when they begin, and end with them. Nothing else about them
//! changes: that user can neither signal nor trace them.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::thread;

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities, set_thread_groups};
use stratafs::runner::{HostThreads, RunControl};

use crate::log::{LogLevel, log_line};
use crate::spec::SpecUser;

/// What root may do to files of others only with a capability, and those that each goes with.
const OVER_FILES: [(&str, CapabilitySet); 3] = [
    (
        "CAP_DAC_OVERRIDE",
        CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::DAC_READ_SEARCH),
    ),
    ("CAP_FOWNER", CapabilitySet::FOWNER),
    ("CAP_FSETID", CapabilitySet::FSETID),
];

/// A number that is nobody's: a call that is given it changes nothing, and tells what holds.
const NOBODY: u32 = u32::MAX;

/// A user who is not the process's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileUser {
    uid: u32,
    gid: u32,
    groups: Vec<rustix::thread::Gid>,
    /// What it may not do although it is root.
    lacks: CapabilitySet,
}

impl FileUser {
    /// Returns as whom a container reaches files, if not as the process does: as root, with all that
    /// root may do to files.
    #[must_use]
    pub fn of(user: &SpecUser) -> Option<Self> {
        let has = |name: &str| match &user.capabilities {
            None => true,
            Some(all) => all.iter().any(|own| own == name),
        };
        let lacks = OVER_FILES.iter().filter(|(name, _)| !has(name));
        let lacks = lacks.fold(CapabilitySet::empty(), |all, (_, set)| all | *set);
        if user.uid == 0 && user.gid == 0 && lacks.is_empty() {
            return None;
        }
        let groups = user.groups.iter();
        Some(Self {
            uid: user.uid,
            gid: user.gid,
            groups: groups
                .map(|id| rustix::thread::Gid::from_raw(*id))
                .collect(),
            lacks,
        })
    }

    /// Lets this thread reach files as the user, for good.
    ///
    /// # Errors
    /// The process has not the right to do that. The thread is to reach no file then.
    pub fn take_on(&self) -> Result<(), String> {
        let said = |what: &str| {
            let Self { uid, gid, .. } = self;
            format!("files cannot be reached as {uid}:{gid}: {what}")
        };
        // This thread's groups alone: the kernel has them by thread, whatever libraries make of it.
        set_thread_groups(&self.groups).map_err(|error| said(&error.to_string()))?;
        setfsgid(Gid::from_raw(self.gid));
        // From here on the thread has not the rights of root over files, unless the user is root.
        setfsuid(Uid::from_raw(self.uid));
        let is = (
            setfsuid(Uid::from_raw(NOBODY)).as_raw(),
            setfsgid(Gid::from_raw(NOBODY)).as_raw(),
        );
        if is != (self.uid, self.gid) {
            let (uid, gid) = is;
            return Err(said(&format!("they would be as {uid}:{gid}")));
        }
        if self.uid == 0 && !self.lacks.is_empty() {
            let own = capabilities(None).map_err(|error| said(&error.to_string()))?;
            let mut fewer = own;
            fewer.effective.remove(self.lacks);
            set_capabilities(None, fewer).map_err(|error| said(&error.to_string()))?;
        }
        Ok(())
    }

    /// Does something on a thread that is the user's.
    ///
    /// # Errors
    /// As [`take_on`](Self::take_on), and that there is no thread.
    pub fn do_as<R: Send>(&self, what: impl FnOnce() -> R + Send) -> Result<R, String> {
        thread::scope(|scope| {
            let spawned = thread::Builder::new()
                .name("files".to_owned())
                .stack_size(128 * 1024)
                .spawn_scoped(scope, || self.take_on().map(|()| what()));
            let done = spawned.map_err(|error| format!("cannot start a thread: {error}"))?;
            let failed = |_| Err("the thread that reaches files has failed".to_owned());
            done.join().unwrap_or_else(failed)
        })
    }

    /// Refuses a file that the user may not read, wherever it lies: its mount is what leads to it.
    ///
    /// # Errors
    /// What its owner and its mode are.
    pub fn check_reads(&self, file: &File) -> Result<(), String> {
        let meta = file.metadata().map_err(|error| error.to_string())?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        // Anew, so that the kernel looks at the rights of who opens it.
        let opened = self.do_as(|| File::open(path).map(drop))?;
        opened.map_err(|error| {
            let (mode, uid, gid) = (meta.mode() & 0o7777, meta.uid(), meta.gid());
            format!(
                "user {}:{} may not read it: it is {uid}:{gid}'s with mode {mode:04o}: {error}",
                self.uid, self.gid
            )
        })
    }

    /// Has the threads of a run that reach files be the user's. One that cannot ends the run, and
    /// reaches none.
    #[must_use]
    pub fn threads(&self, id: &str, control: &RunControl) -> HostThreads {
        let (user, id, control) = (self.clone(), id.to_owned(), control.clone());
        HostThreads::new(move || {
            if let Err(why) = user.take_on() {
                log_line(LogLevel::Error, &id, format_args!("stopped: {why}"));
                control.stop();
                std::panic::resume_unwind(Box::new(why));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32, gid: u32, capabilities: Option<&[&str]>) -> SpecUser {
        SpecUser {
            uid,
            gid,
            groups: vec![2000],
            capabilities: capabilities.map(|all| all.iter().map(|&name| name.into()).collect()),
        }
    }

    #[test]
    fn root_is_the_process_itself_unless_it_lacks_what_root_may_do_to_files() {
        assert_eq!(FileUser::of(&user(0, 0, None)), None);
        let usual = ["CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_KILL"];
        assert_eq!(FileUser::of(&user(0, 0, Some(&usual))), None);
        let less = FileUser::of(&user(0, 0, Some(&usual[1..]))).unwrap();
        let reads = CapabilitySet::DAC_READ_SEARCH;
        assert_eq!(less.lacks, CapabilitySet::DAC_OVERRIDE | reads);
        assert!(FileUser::of(&user(0, 1000, None)).is_some());
        assert!(FileUser::of(&user(1000, 0, Some(&usual))).is_some());
    }
}
