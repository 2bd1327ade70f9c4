//! The mounts of a spec, as a guest can be given them: directories of the host, small files,
//! and empty trees of its own.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use stratafs::runner::{GivenFile, HostDir, RunPlan, Volume};
use stratafs::vfs::Rights;

use crate::file_user::FileUser;
use crate::limits::MAX_BOUND_FILE_BYTES;
use crate::spec::{SpecMount, climbs};
use crate::status::Status;

/// Kinds that show what a kernel has, and so nothing that a guest could use.
const KERNEL: [&str; 7] = [
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "mqueue",
    "devpts",
    "securityfs",
];

/// Files that Kubernetes binds so that they can be written: a guest is given what they hold.
const COPIED: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

/// Adds the mounts to a plan. `private` are directories that no guest may be shown, and above
/// which none may write; `user` is as whom files are reached, if not as the process.
///
/// Returns the directories of the host. The plan names them by their descriptors, so that they have to
/// stay open until the guest runs: what was checked is what it is shown, wherever its name leads by then.
///
/// # Errors
/// A mount that a guest cannot be given, by its destination.
pub fn apply(
    mounts: &[SpecMount],
    private: &[PathBuf],
    user: Option<&FileUser>,
    plan: &mut RunPlan,
) -> Result<Vec<File>, Status> {
    let mut shown = Vec::new();
    for mount in mounts {
        let dir = one(mount, (private, user), plan)
            .map_err(|why| Status::invalid(format_args!("mount {:?}: {why}", mount.destination)))?;
        shown.extend(dir);
    }
    Ok(shown)
}

/// What no guest may be shown, and as whom files are reached.
type Bounds<'b> = (&'b [PathBuf], Option<&'b FileUser>);

fn one(mount: &SpecMount, bounds: Bounds<'_>, plan: &mut RunPlan) -> Result<Option<File>, String> {
    let destination = mount.destination.as_str();
    if !destination.starts_with('/') || climbs(destination) || destination.contains('\0') {
        return Err("expected an absolute path without `..`".to_owned());
    }
    let plain = destination.trim_end_matches('/');
    if plain.is_empty() {
        return Err("the root comes from the image".to_owned());
    }
    let binds = mount
        .options
        .iter()
        .any(|option| option == "bind" || option == "rbind");
    if KERNEL.contains(&mount.kind.as_str()) && !binds {
        return Ok(None);
    }
    // Guests have the devices that every guest of stratafs has, and no shared memory.
    if plain == "/dev" || plain.starts_with("/dev/") {
        return Ok(None);
    }
    match mount.kind.as_str() {
        "tmpfs" => {
            plan.volumes.push(Volume {
                name: plain.to_owned(),
                guest: plain.to_owned(),
            });
            Ok(None)
        }
        _ if mount.kind == "bind" || binds => bind(mount, plain, bounds, plan),
        kind => Err(format!(
            "its type is {kind:?}: a guest is shown directories of the host, of type \"bind\""
        )),
    }
}

fn bind(
    mount: &SpecMount,
    plain: &str,
    (private, user): Bounds<'_>,
    plan: &mut RunPlan,
) -> Result<Option<File>, String> {
    let named = Path::new(&mount.source);
    let said = |what: &dyn std::fmt::Display| format!("source {}: {what}", named.display());
    if !named.is_absolute() || climbs(&mount.source) {
        return Err(said(&"expected an absolute path without `..`"));
    }
    // What is opened is checked, wherever links lead, now and later.
    let (opened, by_number) = open(named).map_err(|error| said(&error))?;
    let source = fs::read_link(&by_number).map_err(|error| said(&error))?;
    let rights = match mount.options.iter().any(|option| option == "ro") {
        true => Rights::ReadOnly,
        false => Rights::ReadWrite,
    };
    for dir in private {
        let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.clone());
        if source.starts_with(&dir) {
            return Err(said(&format_args!(
                "{} is the runtime's own",
                dir.display()
            )));
        }
        if dir.starts_with(&source) && rights == Rights::ReadWrite {
            return Err(said(&format_args!(
                "{} below it is the runtime's own: mount it read-only",
                dir.display()
            )));
        }
    }
    let meta = opened.metadata().map_err(|error| said(&error))?;
    if meta.is_dir() {
        plan.host_dirs.push(HostDir {
            dir: by_number,
            guest: plain.to_owned(),
            rights,
        });
        return Ok(Some(opened));
    }
    if !meta.is_file() {
        return Err(said(&"it is neither a directory nor a file"));
    }
    if rights == Rights::ReadWrite && !COPIED.contains(&plain) {
        return Err(said(
            &"a single file cannot be written through: mount its directory, or read-only",
        ));
    }
    let bytes = content(&by_number, user).map_err(|error| said(&error))?;
    plan.files.push(GivenFile {
        path: plain.to_owned(),
        bytes,
    });
    Ok(None)
}

/// Opens what a mount names, to look at it and to open it by its number.
fn open(path: &Path) -> io::Result<(File, PathBuf)> {
    let opened = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let opened = File::from(opened);
    let by_number = format!("/proc/self/fd/{}", opened.as_raw_fd());
    Ok((opened, by_number.into()))
}

/// Reads a small file that a user may read.
fn content(path: &Path, user: Option<&FileUser>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    if let Some(user) = user {
        user.check_reads(&file).map_err(io::Error::other)?;
    }
    file.take(MAX_BOUND_FILE_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BOUND_FILE_BYTES {
        let text = format!("more than {MAX_BOUND_FILE_BYTES} bytes: mount its directory");
        return Err(io::Error::other(text));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(destination: &str, kind: &str, source: &Path, options: &[&str]) -> SpecMount {
        SpecMount {
            destination: destination.into(),
            kind: kind.into(),
            source: source.to_str().unwrap().into(),
            options: options.iter().map(|&option| option.into()).collect(),
        }
    }

    fn plan(mounts: &[SpecMount], private: &[PathBuf]) -> Result<RunPlan, String> {
        let mut plan = RunPlan::default();
        let applied = apply(mounts, private, None, &mut plan);
        applied.map(|_| plan).map_err(|status| status.message)
    }

    #[test]
    fn mounts_become_directories_files_and_empty_trees() {
        let host = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(host.path()).unwrap();
        fs::create_dir(root.join("config")).unwrap();
        fs::write(root.join("hosts"), "127.0.0.1 localhost").unwrap();
        let plan = plan(
            &[
                mount("/proc", "proc", Path::new("proc"), &[]),
                mount("/dev", "tmpfs", Path::new("tmpfs"), &["size=65536k"]),
                mount("/dev/shm", "bind", &root, &["rbind"]),
                mount("/run/", "tmpfs", Path::new("tmpfs"), &[]),
                mount("/config", "bind", &root.join("config"), &["rbind", "ro"]),
                mount("/data", "", &root, &["bind", "rw"]),
                mount("/etc/hosts", "bind", &root.join("hosts"), &["rbind", "rw"]),
            ],
            &[],
        )
        .unwrap();
        let dirs: Vec<_> = plan
            .host_dirs
            .iter()
            .map(|dir| (&*dir.guest, dir.rights))
            .collect();
        assert_eq!(
            dirs,
            [("/config", Rights::ReadOnly), ("/data", Rights::ReadWrite)]
        );
        assert_eq!(plan.volumes.len(), 1);
        assert_eq!(plan.volumes[0].guest, "/run");
        assert_eq!(plan.files.len(), 1);
        assert_eq!(plan.files[0].bytes, b"127.0.0.1 localhost");
    }

    #[test]
    fn what_a_guest_cannot_be_given_is_refused_by_name() {
        let host = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(host.path()).unwrap();
        fs::write(root.join("file"), "x").unwrap();
        File::create(root.join("large"))
            .unwrap()
            .set_len(MAX_BOUND_FILE_BYTES + 1)
            .unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
        let refused = |mount: SpecMount| plan(&[mount], &[]).unwrap_err();
        let text = refused(mount("/a/../b", "bind", &root, &[]));
        assert_eq!(
            text,
            "mount \"/a/../b\": expected an absolute path without `..`"
        );
        assert!(refused(mount("data", "bind", &root, &[])).contains("absolute"));
        assert!(refused(mount("//", "bind", &root, &[])).contains("the image"));
        assert!(refused(mount("/a", "nfs", &root, &[])).contains("\"nfs\""));
        assert!(refused(mount("/a", "bind", Path::new("rel"), &[])).contains("absolute"));
        assert!(refused(mount("/a", "bind", &root.join("../x"), &[])).contains("`..`"));
        assert!(refused(mount("/a", "bind", &root.join("none"), &[])).contains("No such file"));
        assert!(refused(mount("/a", "bind", &root.join("socket"), &[])).contains("neither"));
        assert!(refused(mount("/a", "bind", &root.join("file"), &[])).contains("read-only"));
        let large = mount("/a", "bind", &root.join("large"), &["ro"]);
        assert!(refused(large).contains("more than 1048576 bytes"));
    }

    #[test]
    fn nobody_is_shown_what_is_the_runtimes_own() {
        let host = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(host.path()).unwrap();
        fs::create_dir_all(root.join("cache/below")).unwrap();
        std::os::unix::fs::symlink(root.join("cache/below"), root.join("link")).unwrap();
        let private = [root.join("cache")];
        let of = |source: &Path, options: &[&str]| {
            plan(&[mount("/a", "bind", source, options)], &private)
        };
        for source in ["cache", "cache/below", "link"] {
            let text = of(&root.join(source), &["ro"]).unwrap_err();
            assert!(text.contains("the runtime's own"), "{text}");
        }
        assert!(
            of(&root, &["rw"])
                .unwrap_err()
                .contains("mount it read-only")
        );
        assert!(of(&root, &["ro"]).is_ok());
    }

    #[test]
    fn a_directory_is_shown_as_it_was_checked_wherever_its_name_leads_later() {
        let host = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(host.path()).unwrap();
        for name in ["data", "cache"] {
            fs::create_dir(root.join(name)).unwrap();
            fs::write(root.join(name).join(name), "").unwrap();
        }
        let mut plan = RunPlan::default();
        let asked = [mount("/a", "bind", &root.join("data"), &["rw"])];
        let shown = apply(&asked, &[root.join("cache")], None, &mut plan).unwrap();
        assert_eq!((shown.len(), plan.host_dirs.len()), (1, 1));
        fs::rename(root.join("data"), root.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("cache", root.join("data")).unwrap();
        let found = fs::read_dir(&plan.host_dirs[0].dir).unwrap();
        let found: Vec<_> = found.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(found, ["data"]);
    }
}
