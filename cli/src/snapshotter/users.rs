//! The users and groups of an image, put where containerd looks for them. `USER app` and `runAsUserName`
//! are found in the root that would have been mounted, which is an empty directory for the rest.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::lgetxattr;

use crate::failure::{Failure, say};
use crate::limits::MAX_USERS_BYTES;

/// What containerd reads.
const FILES: [&str; 2] = ["passwd", "group"];

/// Files of `/etc`, by name.
pub(super) type UserFiles = Vec<(&'static str, Vec<u8>)>;

/// What a directory of a layer says of a file.
enum Seen {
    Here(Vec<u8>),
    /// It is not there, and neither in what lies below.
    Gone,
    Below,
}

/// Reads the files as a container sees them: in directories, the topmost first, over what `image` has. One
/// that cannot be read is told of and left out: numbers go without it, and containerd refuses names.
pub(super) fn find(
    dirs: &[PathBuf],
    image: impl Fn(&str) -> Result<Option<Vec<u8>>, Failure>,
) -> UserFiles {
    let mut found = Vec::new();
    for name in FILES {
        match one(dirs, name, &image) {
            Ok(Some(bytes)) => found.push((name, bytes)),
            Ok(None) => {}
            Err(failure) => say(&format!("names of users are not known: {failure}")),
        }
    }
    found
}

fn one(
    dirs: &[PathBuf],
    name: &str,
    image: impl Fn(&str) -> Result<Option<Vec<u8>>, Failure>,
) -> Result<Option<Vec<u8>>, Failure> {
    for dir in dirs {
        match look(dir, name)? {
            Seen::Here(bytes) => return Ok(Some(bytes)),
            Seen::Gone => return Ok(None),
            Seen::Below => {}
        }
    }
    image(&format!("/etc/{name}"))
}

/// Looks into a layer's directory, and never where a link in it leads: that is another's.
fn look(dir: &Path, name: &str) -> Result<Seen, Failure> {
    let etc = dir.join("etc");
    let path = etc.join(name);
    let meta = |path: &Path| match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        meta => meta.map(Some).map_err(|error| Failure::at(path, error)),
    };
    match meta(&etc)? {
        None => return Ok(Seen::Below),
        Some(meta) if !meta.is_dir() => return Ok(Seen::Gone),
        Some(_) => {}
    }
    match meta(&path)? {
        Some(meta) if meta.is_file() => read(&path).map(Seen::Here),
        Some(_) => Ok(Seen::Gone),
        None if is_opaque(&etc) => Ok(Seen::Gone),
        None => Ok(Seen::Below),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let opened = File::open(path).map_err(|error| Failure::at(path, error))?;
    let read = opened.take(MAX_USERS_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::at(path, error))?;
    if bytes.len() as u64 > MAX_USERS_BYTES {
        let what = format!("more than {MAX_USERS_BYTES} bytes");
        return Err(Failure::at(path, what));
    }
    Ok(bytes)
}

/// Returns whether an overlay hides what lies below a directory.
fn is_opaque(dir: &Path) -> bool {
    let mut value = [0_u8; 1];
    matches!(lgetxattr(dir, "trusted.overlay.opaque", &mut value), Ok(1)) && value == *b"y"
}

/// Writes the files into the directory that containerd mounts.
pub(super) fn write(root: &Path, files: &UserFiles) -> io::Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let etc = root.join("etc");
    fs::create_dir(&etc)?;
    for (name, bytes) in files {
        fs::write(etc.join(name), bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_hide_those_below_and_links_lead_nowhere() {
        let root = tempfile::tempdir().unwrap();
        let dir = |number: u32| root.path().join(number.to_string());
        for number in 0..5 {
            fs::create_dir(dir(number)).unwrap();
        }
        fs::create_dir(dir(1).join("etc")).unwrap();
        fs::write(dir(1).join("etc/passwd"), "upper").unwrap();
        std::os::unix::fs::symlink("/etc", dir(2).join("etc")).unwrap();
        fs::create_dir(dir(3).join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir(3).join("etc/passwd")).unwrap();
        fs::create_dir(dir(4).join("etc")).unwrap();
        let large = File::create(dir(4).join("etc/passwd")).unwrap();
        large.set_len(MAX_USERS_BYTES + 1).unwrap();
        let image = |path: &str| Ok(Some(format!("image {path}").into_bytes()));
        let found = |numbers: &[u32]| {
            let dirs: Vec<PathBuf> = numbers.iter().map(|number| dir(*number)).collect();
            let files = find(&dirs, image);
            files
                .into_iter()
                .map(|(name, bytes)| format!("{name}={}", String::from_utf8(bytes).unwrap()))
                .collect::<Vec<String>>()
        };
        assert_eq!(
            found(&[]),
            ["passwd=image /etc/passwd", "group=image /etc/group"]
        );
        assert_eq!(found(&[0, 1]), ["passwd=upper", "group=image /etc/group"]);
        assert_eq!(found(&[2, 1]), Vec::<String>::new());
        assert_eq!(found(&[3]), ["group=image /etc/group"]);
        assert_eq!(found(&[4]), ["group=image /etc/group"]);
        let out = dir(0);
        write(&out, &vec![("passwd", b"app:x:7:7".to_vec())]).unwrap();
        assert_eq!(fs::read(out.join("etc/passwd")).unwrap(), b"app:x:7:7");
    }
}
