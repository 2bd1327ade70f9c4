//! A kernel overlay mount: Linux, with the right to mount.

use std::io;
use std::path::{Path, PathBuf};

/// A mounted overlay; unmounted when dropped.
pub(super) struct OverlayMount {
    home: PathBuf,
    mounted: bool,
}

impl OverlayMount {
    /// Mounts a writable overlay over `lower`, with all it needs below the
    /// new directory `home`.
    pub(super) fn new(lower: &Path, home: PathBuf) -> io::Result<Self> {
        std::fs::create_dir(&home)?;
        for part in ["upper", "work", "merged"] {
            std::fs::create_dir(home.join(part))?;
        }
        let mut mount = Self {
            home,
            mounted: false,
        };
        mount_overlay(lower, &mount.home)?;
        mount.mounted = true;
        Ok(mount)
    }

    /// The directory for the guest.
    pub(super) fn merged(&self) -> PathBuf {
        self.home.join("merged")
    }

    /// Where the kernel keeps what the guest changed.
    pub(super) fn upper(&self) -> PathBuf {
        self.home.join("upper")
    }

    /// Unmounts and removes everything.
    pub(super) fn remove(mut self) -> io::Result<()> {
        self.unmount()?;
        std::fs::remove_dir_all(&self.home)
    }

    fn unmount(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.mounted) {
            unmount(&self.merged())?;
        }
        Ok(())
    }
}

impl Drop for OverlayMount {
    fn drop(&mut self) {
        // An error is the kernel's: the directory then stays behind.
        drop(self.unmount());
    }
}

#[cfg(target_os = "linux")]
fn mount_overlay(lower: &Path, home: &Path) -> io::Result<()> {
    use nix::mount::{MsFlags, mount};

    let part = |name: &str, path: &Path| format!("{name}={}", path.display());
    let options = [
        part("lowerdir", lower),
        part("upperdir", &home.join("upper")),
        part("workdir", &home.join("work")),
        // Or renaming a directory of the base fails.
        "redirect_dir=on".to_owned(),
    ];
    let (kind, options) = (Some("overlay"), Some(options.join(",")));
    let merged = home.join("merged");
    mount(kind, &merged, kind, MsFlags::empty(), options.as_deref())?;
    Ok(())
}

#[cfg(target_os = "linux")]
fn unmount(merged: &Path) -> io::Result<()> {
    Ok(nix::mount::umount(merged)?)
}

#[cfg(not(target_os = "linux"))]
fn mount_overlay(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "Linux has it only",
    ))
}

#[cfg(not(target_os = "linux"))]
fn unmount(_: &Path) -> io::Result<()> {
    Ok(())
}
