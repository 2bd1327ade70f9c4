//! Tar archives as layers: each rule with a legal near miss beside it.

use crate::support::archive::{Archive, Head, import, list};
use stratafs::source::write_layer;

fn a() -> Archive {
    Archive::new()
}

/// Export and import again, and compare digests.
fn comes_back(archive: Archive) {
    let layer = import(&archive.end()).unwrap();
    let bytes = write_layer(&layer, Vec::new()).unwrap();
    assert_eq!(
        bytes,
        write_layer(&layer, Vec::new()).unwrap(),
        "not deterministic"
    );
    let again = import(&bytes).unwrap();
    assert_eq!(list(&again), list(&layer));
    assert_eq!(again.digest(), layer.digest());
}

#[test]
fn case_p05_export_and_import_give_the_same_layer() {
    comes_back(a());
    let long = "n".repeat(200);
    comes_back(
        a().dir("./")
            .dir("d/")
            .file("d/f", "content")
            .hard_link("d/g", "d/f")
            .symlink("l", "/abs/target")
            .hard_link("m", "l")
            .hard_link("lower", "some/where")
            .file("d/.wh.gone", "")
            .file("o/.wh..wh..opq", "")
            .file("implied/x", "")
            .pax(&[
                ("path", format!("{long}/{long}").as_bytes()),
                ("mtime", b"-1.25"),
                ("uid", b"3000000"),
                ("SCHILY.xattr.user.a%3Db", b"\0\xff\n"),
            ])
            .file("x", "y")
            .pax(&[("linkpath", long.as_bytes())])
            .symlink("ll", "x")
            .with(Head::new(b'0', b"not-utf8-\xff"), b"z")
            .pax(&[("path", &[&b"\xff"[..]; 1].concat().repeat(120))])
            .file("y", "w"),
    );
}
