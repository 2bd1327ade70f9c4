//! Naming what a file is that is not an archive, for the error message.

/// Says what `head`, the beginning of a file, looks like, and what to do.
/// `None` if it looks like nothing in particular.
pub(super) fn looks_like(head: &[u8]) -> Option<String> {
    if head.is_empty() {
        return None;
    }
    garbled(head)
        .or_else(|| by_magic(head))
        .or_else(|| as_text(head))
}

/// Archives that passed through something that takes bytes for text.
fn garbled(head: &[u8]) -> Option<String> {
    let how = match head {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "UTF-16 text",
        // What was no UTF-8 became U+FFFD: gzip's, zstd's, bzip2's and xz's first bytes.
        [0x1f, 0xef, 0xbf, 0xbd, ..]
        | [b'(', 0xef, 0xbf, 0xbd, b'/', ..]
        | [0xef, 0xbf, 0xbd, b'7', b'z', b'X', b'Z', ..] => "UTF-8 text",
        [0xef, 0xbb, 0xbf, rest @ ..] if rest.contains(&0) || by_magic(rest).is_some() => {
            "UTF-8 text"
        }
        _ => return None,
    };
    Some(format!(
        "an archive, or something else, damaged by a redirection that made {how} of it, as `>` of \
         PowerShell does: make it again with the tool's own option for its output (`-o FILE`), or \
         with `cmd /c \"... > FILE\"`"
    ))
}

/// A format by the bytes it begins with, and what to do about it.
type KnownFormat = (&'static [u8], &'static str, &'static str);

const UNPACK: &str = "unpack it first";
const NO_FILES: &str = "it holds no tree of files that could be read here";
const DISK: &str = "an image of a disk: mount it, and give the directory";

const KNOWN: &[KnownFormat] = &[
    (b"\x04\x22\x4d\x18", "lz4", "unpack it first (`lz4 -d`)"),
    (
        b"\x02\x21\x4c\x18",
        "lz4 in its old form",
        "unpack it first (`lz4 -d`)",
    ),
    (
        b"\x5d\x00\x00",
        "lzma",
        "unpack it first (`xz -d --format=lzma`)",
    ),
    (b"LZIP", "lzip", "unpack it first (`lzip -d`)"),
    (
        b"\x89LZO\x00\r\n\x1a\n",
        "lzop",
        "unpack it first (`lzop -d`)",
    ),
    (b"\x1f\x9d", "compress (.Z)", "unpack it first (`gzip -d`)"),
    (b"\xff\x06\x00\x00sNaPpY", "snappy", UNPACK),
    (
        b"7z\xbc\xaf\x27\x1c",
        "a 7-Zip archive",
        "unpack it first (`7z x`)",
    ),
    (b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (b"MSCF", "a cabinet file", UNPACK),
    (b"xar!", "a xar archive (a macOS package)", UNPACK),
    (b"070701", "a cpio archive", "unpack it first (`cpio -id`)"),
    (b"070702", "a cpio archive", "unpack it first (`cpio -id`)"),
    (b"070707", "a cpio archive", "unpack it first (`cpio -id`)"),
    (
        b"\xc7\x71",
        "a cpio archive",
        "unpack it first (`cpio -id`)",
    ),
    (
        b"\x71\xc7",
        "a cpio archive",
        "unpack it first (`cpio -id`)",
    ),
    (
        b"\xed\xab\xee\xdb",
        "an RPM package",
        "unpack it first (`rpm2archive`)",
    ),
    (b"PK\x07\x08", "a zip archive in several parts", UNPACK),
    (b"hsqs", "a squashfs", "unpack it first (`unsquashfs`)"),
    (b"sqsh", "a squashfs", "unpack it first (`unsquashfs`)"),
    (b"QFI\xfb", "a qcow2 image", DISK),
    (b"conectix", "a VHD image", DISK),
    (b"KDMV", "a VMDK image", DISK),
    (b"vhdxfile", "a VHDX image", DISK),
    (
        b"\0asm",
        "WebAssembly",
        "a guest is not a layer: name it after the options, without `--layer`",
    ),
    (b"\x7fELF", "an ELF program or library", NO_FILES),
    (b"MZ", "a program for Windows", NO_FILES),
    (b"\xcf\xfa\xed\xfe", "a program for macOS", NO_FILES),
    (
        b"\xca\xfe\xba\xbe",
        "a program for macOS or a Java class",
        NO_FILES,
    ),
    (b"\x89PNG", "a PNG image", NO_FILES),
    (b"\xff\xd8\xff", "a JPEG image", NO_FILES),
    (b"GIF8", "a GIF image", NO_FILES),
    (b"%PDF", "a PDF document", NO_FILES),
    (b"SQLite format 3\0", "an SQLite database", NO_FILES),
    (
        b"# v2 git bundle",
        "a git bundle",
        "clone it, and give the directory",
    ),
    (
        b"# v3 git bundle",
        "a git bundle",
        "clone it, and give the directory",
    ),
    (
        b"version https://git-lfs",
        "a pointer of Git LFS",
        "fetch the file itself (`git lfs pull`)",
    ),
    (b"-----BEGIN PGP", "an OpenPGP message", "decrypt it first"),
    (b"-----BEGIN", "PEM", NO_FILES),
    (
        b"Salted__",
        "data encrypted with OpenSSL",
        "decrypt it first",
    ),
    (
        b"age-encryption.org/",
        "data encrypted with age",
        "decrypt it first",
    ),
];

fn by_magic(head: &[u8]) -> Option<String> {
    let (_, what, advice) = KNOWN.iter().find(|(magic, ..)| head.starts_with(magic))?;
    Some(format!("{what}: {advice}"))
}

/// Text: which, if that helps.
fn as_text(head: &[u8]) -> Option<String> {
    let whole = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The last character may be cut off.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(head.get(..error.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    if whole.chars().any(|c| c.is_control() && !c.is_whitespace()) {
        return None;
    }
    let text = whole.trim_start_matches('\u{feff}').trim_start();
    let lower = text.to_ascii_lowercase();
    let is = |fronts: &[&str]| fronts.iter().any(|front| lower.starts_with(front));
    let what = if is(&["<!doctype html", "<html", "<head", "<body"]) {
        "an HTML page: a server answered with that instead of the file: look at it, and at the address"
    } else if is(&["<?xml", "<!doctype", "<"]) {
        "XML: a server may have answered with that instead of the file: look at it"
    } else if is(&["{", "["]) {
        "JSON: of an image, give the directory or archive that it lies in"
    } else if is(&["#!"]) {
        "a script: it holds no tree of files that could be read here"
    } else if is(&["from ", "# syntax="]) {
        "a recipe for an image, which has to be built first"
    } else {
        "text: look at it, a server may have answered with that instead of the file"
    };
    Some(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_an_archive_says_what_it_looks_like() {
        let utf16: Vec<u8> = "\u{feff}a/\0"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        for (head, told) in [
            (&b"\x04\x22\x4d\x18\x64\x40"[..], "lz4: unpack"),
            (b"\x5d\x00\x00\x80\x00\xff\xff", "lzma: unpack"),
            (b"0707010000", "cpio"),
            (b"\x7fELF\x02\x01", "ELF"),
            (b"  \n<!DOCTYPE html><html>", "an HTML page"),
            (b"<HTML>", "an HTML page"),
            (b"<?xml version='1.0'?>", "XML"),
            (b"{\"errors\": []}", "JSON"),
            (b"Not Found", "text"),
            (b"caf\xc3\xa9 \xc3", "text"),
            (b"\0asm\x01\0\0\0", "WebAssembly"),
            (&utf16, "UTF-16"),
            (b"\xfe\xff\0a", "UTF-16"),
            (b"\x1f\xef\xbf\xbd\x08\x00", "UTF-8"),
            (b"\xef\xbb\xbfa/\0\0", "UTF-8"),
        ] {
            let said = looks_like(head).unwrap_or_default();
            assert!(said.contains(told), "{head:?}: {said}");
        }
        for nothing in [&b""[..], b"\0\0\0\0", b"\x91\x92\x93", b"a\0\0b"] {
            assert_eq!(looks_like(nothing), None, "{nothing:?}");
        }
    }
}
