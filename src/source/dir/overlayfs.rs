//! What overlayfs says by extended attributes in its upper directories.

use crate::meta::Xattrs;
use crate::source::SourceErrorKind;

/// What the attributes of one object mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OverlayfsMarks {
    /// `overlay.opaque` is `y`.
    pub(super) opaque: bool,
    /// `overlay.opaque` is `x`: whiteouts may be empty files with a mark.
    pub(super) holds_whiteouts: bool,
    /// `overlay.whiteout`.
    pub(super) whiteout: bool,
}

/// Takes overlayfs's own attributes out of `xattrs`.
pub(super) fn take_marks(xattrs: &mut Xattrs) -> Result<OverlayfsMarks, SourceErrorKind> {
    let mut marks = OverlayfsMarks::default();
    let mut refused = None;
    xattrs.retain(|(name, value)| {
        let prefixes: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
        let Some(key) = prefixes
            .iter()
            .find_map(|prefix| name.strip_prefix(*prefix))
        else {
            return true;
        };
        match key {
            b"opaque" => match &value[..] {
                b"y" => marks.opaque = true,
                b"x" => marks.holds_whiteouts = true,
                _ => {}
            },
            b"whiteout" => marks.whiteout = true,
            b"redirect" => refused = Some("overlay.redirect"),
            b"metacopy" => refused = Some("overlay.metacopy"),
            b"origin" | b"impure" | b"nlink" | b"uuid" | b"upper" | b"protattr" => {}
            // Such as `overlay.overlay.opaque`, of an overlay in an overlay.
            _ => return true,
        }
        false
    });
    match refused {
        Some(name) => Err(SourceErrorKind::NotALayer(format!(
            "the attribute {name} points into another layer: only the mounted overlay has the \
             whole"
        ))),
        None => Ok(marks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(list: &[(&str, &str)]) -> Result<(OverlayfsMarks, usize), SourceErrorKind> {
        let mut xattrs: Xattrs = list
            .iter()
            .map(|(name, value)| (name.as_bytes().into(), value.as_bytes().into()))
            .collect();
        Ok((take_marks(&mut xattrs)?, xattrs.len()))
    }

    #[test]
    fn case_p04_opaque_is_y_and_x_announces_whiteouts() {
        let none = OverlayfsMarks::default();
        for prefix in ["trusted", "user"] {
            let opaque = format!("{prefix}.overlay.opaque");
            let y = take(&[(&opaque, "y"), ("user.mine", "1")]).unwrap();
            assert_eq!(
                y,
                (
                    OverlayfsMarks {
                        opaque: true,
                        ..none
                    },
                    1
                )
            );
            let x = take(&[(&opaque, "x")]).unwrap();
            assert_eq!(
                x,
                (
                    OverlayfsMarks {
                        holds_whiteouts: true,
                        ..none
                    },
                    0
                )
            );
        }
        assert_eq!(
            take(&[("security.overlay.opaque", "y")]).unwrap(),
            (none, 1)
        );
        assert_eq!(
            take(&[("user.overlay.overlay.opaque", "y")]).unwrap(),
            (none, 1)
        );
        for key in ["redirect", "metacopy"] {
            let name = format!("trusted.overlay.{key}");
            assert!(
                take(&[(&name, "/x")])
                    .unwrap_err()
                    .to_string()
                    .contains(key)
            );
        }
    }
}
