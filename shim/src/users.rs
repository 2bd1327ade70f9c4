//! What is left of users where there are none: the home of one, out of the image's own `/etc/passwd`.

use stratafs::errno::Errno;
use stratafs::image::Image;
use stratafs::vfs::Fs;

use crate::limits::MAX_USERS_BYTES;

/// The home of whoever has no other.
const NO_HOME: &str = "/";

/// Returns the home of a user of an image: `/` for one that its `/etc/passwd` does not know, or whose
/// home is no absolute path.
///
/// # Errors
/// The file is there and cannot be read, or is too large.
pub fn home_of(image: &Image, uid: u32) -> Result<String, String> {
    match Fs::new(image).read_up_to("/etc/passwd", MAX_USERS_BYTES) {
        Ok(bytes) => Ok(home_in(&String::from_utf8_lossy(&bytes), uid)),
        Err(error) if matches!(error.errno(), Errno::NoEntry | Errno::NotDirectory) => {
            Ok(NO_HOME.to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// `NAME:PASSWORD:UID:GID:WHAT:HOME:SHELL`, a line each; the first that fits holds.
fn home_in(passwd: &str, uid: u32) -> String {
    let home = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let own: u32 = fields.nth(2)?.parse().ok()?;
        fields.nth(2).filter(|_| own == uid)
    });
    let home = home.filter(|home| home.starts_with('/') && !home.contains('\0'));
    home.unwrap_or(NO_HOME).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_those_of_the_first_line_that_fits() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n# app:x:7\napp:x:7:8::/srv/app:/bin/sh\nother:x:7:9::/other:\nshort:x:9\nodd:x:10:1::home:\n";
        for (uid, home) in [(0, "/root"), (7, "/srv/app"), (8, "/"), (9, "/"), (10, "/")] {
            assert_eq!(home_in(passwd, uid), home, "{uid}");
        }
        assert_eq!(home_of(&Image::empty(), 0), Ok("/".into()));
    }
}
