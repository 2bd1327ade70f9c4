//! What a call of the host takes as a path.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::name::LayerPath;

/// A path in a file system, in a call of the host such as
/// [`Fs::read`](crate::vfs::Fs::read): text, bytes, a path of the standard
/// library, or one that this library returned.
///
/// A path is bytes separated by `/`, on every platform. `/x` and `x` both mean
/// `x` below the root; `..` and links, absolute ones too, resolve in the instance
/// as in a chroot. The empty path names nothing, as for the standard library;
/// the root is `/`. A [`Path`] and an [`OsStr`] are taken as the bytes that they
/// are on Unix; on Windows each `\` becomes a `/`.
///
/// The trait is sealed: it is for parameters, and nothing else can be made one.
///
/// ```
/// use std::path::Path;
/// use stratafs::{image::Image, vfs::Fs};
///
/// let fs = Fs::new(&Image::empty());
/// fs.write("/text", "by text")?;
/// fs.write(b"not \xff UTF-8", "by bytes")?;
/// fs.write(Path::new("/dir").with_file_name("file"), "by a path")?;
/// assert_eq!(fs.read_to_string(String::from("/file"))?, "by a path");
/// # Ok::<(), stratafs::Error>(())
/// ```
pub trait IntoFsPath: sealed::FsPath {}

impl<T: sealed::FsPath + ?Sized> IntoFsPath for T {}

pub(crate) mod sealed {
    use std::borrow::Cow;

    /// What paths are used by.
    pub trait FsPath {
        /// Returns the bytes of the path.
        fn fs_path(&self) -> Cow<'_, [u8]>;
    }

    impl<T: FsPath + ?Sized> FsPath for &T {
        fn fs_path(&self) -> Cow<'_, [u8]> {
            (**self).fs_path()
        }
    }
}

pub(crate) use sealed::FsPath;

/// Paths that are bytes already.
macro_rules! bytes {
    ($($path:ty: $as_bytes:ident;)*) => {$(
        impl FsPath for $path {
            fn fs_path(&self) -> Cow<'_, [u8]> {
                Cow::Borrowed(self.$as_bytes())
            }
        }
    )*};
}

bytes! {
    str: as_bytes;
    String: as_bytes;
    [u8]: as_ref;
    Vec<u8>: as_slice;
}

impl<const N: usize> FsPath for [u8; N] {
    fn fs_path(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self)
    }
}

impl<T: FsPath + ToOwned + ?Sized> FsPath for Cow<'_, T> {
    fn fs_path(&self) -> Cow<'_, [u8]> {
        (**self).fs_path()
    }
}

impl FsPath for OsStr {
    fn fs_path(&self) -> Cow<'_, [u8]> {
        let bytes = self.as_encoded_bytes();
        if cfg!(windows) && bytes.contains(&b'\\') {
            let slash = |byte: &u8| if *byte == b'\\' { b'/' } else { *byte };
            return Cow::Owned(bytes.iter().map(slash).collect());
        }
        Cow::Borrowed(bytes)
    }
}

/// Paths of the standard library.
macro_rules! os_strings {
    ($($path:ty: $as_os_str:ident;)*) => {$(
        impl FsPath for $path {
            fn fs_path(&self) -> Cow<'_, [u8]> {
                self.$as_os_str().fs_path()
            }
        }
    )*};
}

os_strings! {
    OsString: as_os_str;
    Path: as_os_str;
    PathBuf: as_os_str;
}

impl FsPath for LayerPath {
    fn fs_path(&self) -> Cow<'_, [u8]> {
        // The root's bytes are none, and its path is `/`.
        Cow::Owned([b"/", &*self.to_bytes()].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: impl IntoFsPath) -> Vec<u8> {
        path.fs_path().into_owned()
    }

    #[test]
    fn each_kind_of_path_is_the_same_bytes() {
        let (text, want) = ("/a/b", b"/a/b".to_vec());
        let (string, layer) = (text.to_owned(), LayerPath::parse(b"a/b").unwrap());
        let twice: &&str = &text;
        let paths = [
            of(text),
            of(twice),
            of(&string),
            of(string),
            of(Cow::Borrowed(text)),
            of(b"/a/b"),
            of(text.as_bytes()),
            of(want.clone()),
            of(&want),
            of(Cow::Borrowed(text.as_bytes())),
            of(OsStr::new(text)),
            of(OsString::from(text)),
            of(Path::new(text)),
            of(Path::new("/a").join("b")),
            of(&layer),
            of(layer),
        ];
        for path in paths {
            assert_eq!(path, want);
        }
        assert_eq!(of(LayerPath::root()), b"/");
        assert_eq!(of(""), b"");
    }

    #[cfg(unix)]
    #[test]
    fn paths_of_any_bytes_stay_as_they_are() {
        use std::os::unix::ffi::OsStrExt as _;
        let odd = OsStr::from_bytes(b"a\\b\xff\n");
        assert_eq!(of(Path::new(odd)), b"a\\b\xff\n");
    }

    #[cfg(windows)]
    #[test]
    fn separators_of_windows_become_slashes() {
        assert_eq!(of(Path::new(r"a\b").join("c")), b"a/b/c");
    }
}
