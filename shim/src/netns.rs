//! Network namespaces of the kernel: which one a path names, and sockets that are made in it.
//!
//! A thread has a namespace, and a socket that it makes belongs to that for good. A guest's thread
//! enters its pod's for the moment in which it makes a socket, and is in the process's own whenever
//! it does anything else: the process fetches content from registries on behalf of all pods, and
//! threads that it starts are where their makers are.
//!
//! It is back however that moment ends, by a panic as well. Should the kernel not let it, the process
//! ends: see `Away`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::thread;

use rustix::fs::OFlags;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use stratafs::runner::SocketPlace;

use crate::log::{LogLevel, log_line};
use crate::sysctls::NetworkSettings;

/// The namespace of this thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// Ports below this one are for the privileged, where the kernel does not say.
const USUAL_LOWEST_PORT: u16 = 1024;

/// Where the kernel says it, of the namespace of whoever reads.
const LOWEST_PORT: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// The namespace that the process is in, as all its threads are.
#[derive(Debug)]
pub struct HomeNetwork(File);

impl HomeNetwork {
    /// Opens the namespace of this thread.
    ///
    /// # Errors
    /// The kernel has none, or does not tell of it.
    pub fn open() -> Result<Self, String> {
        let opened = File::open(OWN).map_err(|error| format!("{OWN}: {error}"))?;
        Ok(Self(opened))
    }
}

/// The namespace of a pod, or of a container that has its own.
#[derive(Debug)]
pub struct PodNetwork {
    file: File,
    home: Arc<HomeNetwork>,
    /// The least port that those may bind who are not privileged.
    pub lowest_port: u16,
}

impl PodNetwork {
    /// Opens the namespace of a path, and enters it once, on a thread of its own.
    ///
    /// # Errors
    /// There is none, it is no namespace of networks, it is the process's own, or it cannot be entered.
    pub fn open(path: &Path, home: &Arc<HomeNetwork>) -> Result<Self, String> {
        let said = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
        if !path.is_absolute() {
            return Err(said(&"expected an absolute path"));
        }
        // What is no namespace is neither waited for nor taken for a terminal.
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(i32::try_from(flags).unwrap_or(0))
            .open(path)
            .map_err(|error| said(&error))?;
        let identity = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino()));
        let ours = identity(&home.0).map_err(|error| said(&error))?;
        if identity(&file).map_err(|error| said(&error))? == ours {
            return Err(said(
                &"it is the network of the host, on which a container is only by having no such entry",
            ));
        }
        let lowest_port = on_a_thread_in(&file, lowest_port);
        let lowest_port = lowest_port.map_err(|error| match error.raw_os_error() {
            // EINVAL: it is another kind of namespace, or none.
            Some(22) => said(&"it is not a network namespace"),
            _ => said(&format_args!("it cannot be entered: {error}")),
        })?;
        Ok(Self {
            file,
            home: Arc::clone(home),
            lowest_port,
        })
    }

    /// Has the kernel set for the namespace what is asked for.
    ///
    /// # Errors
    /// The setting that cannot be had, or that the namespace cannot be entered.
    pub fn set(&mut self, settings: &NetworkSettings) -> Result<(), String> {
        if settings.first().is_none() {
            return Ok(());
        }
        let set = on_a_thread_in(&self.file, || settings.set().map(|()| lowest_port()));
        self.lowest_port = set.map_err(|error| format!("linux.sysctl: {error}"))??;
        Ok(())
    }
}

impl SocketPlace for PodNetwork {
    fn within(&self, make: &mut dyn FnMut()) -> io::Result<()> {
        let _away = Away::enter(&self.file, &self.home)?;
        make();
        Ok(())
    }
}

/// A thread is away from the process's own namespace for as long as it holds this.
///
/// When this goes and the kernel does not let the thread back, the process ends. Nothing less is sure:
/// an error or a panic can be lost on its way, in a task that nobody waits for, and the thread
/// would go on where it is. It would start threads there, and fetch content for others, with the
/// node's credentials, over the network of a pod. It takes a process that has lost the right to enter
/// namespaces, and so can serve no pod any more, or a kernel that has no memory left.
struct Away<'h> {
    home: &'h HomeNetwork,
}

impl<'h> Away<'h> {
    fn enter(namespace: &File, home: &'h HomeNetwork) -> io::Result<Self> {
        enter(namespace)?;
        Ok(Self { home })
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        if let Err(error) = enter(&self.home.0) {
            log_line(
                LogLevel::Error,
                "",
                format_args!(
                    "a thread cannot leave the network of a pod, and the process ends: {error}"
                ),
            );
            process::abort();
        }
    }
}

/// Does something on a thread that is in a namespace, and ends there.
fn on_a_thread_in<R: Send>(namespace: &File, what: impl FnOnce() -> R + Send) -> io::Result<R> {
    thread::scope(|scope| {
        let done = scope.spawn(|| enter(namespace).map(|()| what()));
        let failed = |_| io::Error::other("the thread that tried to enter it has failed");
        done.join().map_err(failed)?
    })
}

/// Lets this thread be in a namespace from now on.
fn enter(namespace: &File) -> io::Result<()> {
    let kind = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(namespace.as_fd(), kind).map_err(io::Error::from)
}

/// Returns the least port that is not for the privileged, in this thread's namespace.
#[must_use]
pub fn lowest_port() -> u16 {
    let said = std::fs::read_to_string(LOWEST_PORT).ok();
    let said = said.and_then(|text| text.trim().parse().ok());
    said.unwrap_or(USUAL_LOWEST_PORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_networks_of_pods_are_refused_by_name() {
        let home = Arc::new(HomeNetwork::open().unwrap());
        let refused = |path: &Path| PodNetwork::open(path, &home).unwrap_err();
        let missing = refused(Path::new("/run/netns/no-such-pod"));
        assert!(missing.starts_with("/run/netns/no-such-pod: No such file"));
        assert!(refused(Path::new("net")).contains("absolute"));
        for own in [OWN, "/proc/self/ns/net"] {
            assert!(refused(Path::new(own)).contains("the network of the host"));
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        for wrong in [&*file, dir.path(), Path::new("/proc/self/ns/mnt")] {
            let text = refused(wrong);
            assert!(text.ends_with("it is not a network namespace"), "{text}");
        }
        // The thread that asks is where it was.
        let here = std::fs::read_link(OWN).unwrap();
        assert_eq!(here, std::fs::read_link("/proc/self/ns/net").unwrap());
    }
}
