//! `COPY`, `ADD`, `WORKDIR`: what lands where, and what stays out.

use std::fs;

use super::{Cli, build, cat, id, tree, with};

/// A context with files of all sorts.
fn context(recipe: &str) -> Cli {
    let cli = with(recipe);
    cli.file("ctx/a.txt", "a")
        .file("ctx/b.txt", "b")
        .file("ctx/c.md", "c")
        .file("ctx/dir/one", "1")
        .file("ctx/dir/sub/two", "2")
        .file("ctx/x y", "blank");
    cli
}

#[test]
fn copies_land_where_those_of_docker_land() {
    let all: &[(&str, &[&str])] = &[
        ("COPY a.txt /", &["/a.txt"]),
        ("COPY a.txt /new", &["/new"]),
        ("COPY a.txt /new/", &["/new", "/new/a.txt"]),
        ("COPY a.txt b.txt /n/", &["/n", "/n/a.txt", "/n/b.txt"]),
        ("COPY *.txt /n/", &["/n", "/n/a.txt", "/n/b.txt"]),
        ("COPY ?.md /n/", &["/n", "/n/c.md"]),
        ("COPY [ab].txt /n/", &["/n", "/n/a.txt", "/n/b.txt"]),
        ("COPY dir /n", &["/n", "/n/one", "/n/sub", "/n/sub/two"]),
        ("COPY dir/ /n/", &["/n", "/n/one", "/n/sub", "/n/sub/two"]),
        ("COPY ./dir/../dir/sub /", &["/two"]),
        ("COPY /dir/sub /", &["/two"]),
        ("COPY d*/s*/two /", &["/two"]),
        ("COPY [\"x y\", \"/z q\"]", &["/z q"]),
        (
            "COPY a.txt /n/\nCOPY b.txt /n",
            &["/n", "/n/a.txt", "/n/b.txt"],
        ),
        ("WORKDIR /w\nCOPY a.txt .", &["/w", "/w/a.txt"]),
        (
            "WORKDIR /w\nWORKDIR v\nCOPY a.txt b",
            &["/w", "/w/v", "/w/v/b"],
        ),
        (
            "COPY --exclude=*.md --exclude=dir . /n/",
            &["/n", "/n/Dockerfile", "/n/a.txt", "/n/b.txt", "/n/x y"],
        ),
        ("COPY --exclude=**/two dir /", &["/one", "/sub"]),
        (
            "COPY --parents dir/sub/two /n/",
            &["/n", "/n/dir", "/n/dir/sub", "/n/dir/sub/two"],
        ),
        (
            "COPY --parents dir/./sub/two /n/",
            &["/n", "/n/sub", "/n/sub/two"],
        ),
        (
            "COPY --parents **/two /n/",
            &["/n", "/n/dir", "/n/dir/sub", "/n/dir/sub/two"],
        ),
        ("COPY --link a.txt /n/m/", &["/n", "/n/m", "/n/m/a.txt"]),
        ("COPY <<f /\ntext\nf", &["/f"]),
        ("COPY <<f <<g /n/\n1\nf\n2\ng", &["/n", "/n/f", "/n/g"]),
        // Only the last name of such a word is a name of what is copied.
        ("COPY <<../../f /n/\n1\n../../f", &["/n", "/n/f"]),
        ("COPY <<a/./../f /n/\n1\na/./../f", &["/n", "/n/f"]),
        ("COPY <<a/f /n\n1\na/f", &["/n"]),
        ("ARG F=a.txt\nENV D=/n\nCOPY $F ${D}/", &["/n", "/n/a.txt"]),
        ("COPY a.txt /n\nCOPY b.txt /n", &["/n"]),
        // Of a directory that a wildcard matches the content is copied, as of one that is named.
        ("COPY dir/* /n/", &["/n", "/n/one", "/n/two"]),
        (
            "COPY dir dir/sub /n/",
            &["/n", "/n/one", "/n/sub", "/n/sub/two", "/n/two"],
        ),
        (
            "COPY dir /n\nCOPY dir/sub /n/sub",
            &["/n", "/n/one", "/n/sub", "/n/sub/two"],
        ),
        ("COPY a.txt /n/../m", &["/m"]),
        ("COPY a.txt /../../m/./k", &["/m", "/m/k"]),
        (
            "COPY --exclude=dir/sub --exclude=[abx]* --exclude=D* . /n/",
            &["/n", "/n/c.md", "/n/dir", "/n/dir/one"],
        ),
        ("COPY --exclude=* --exclude=!c.md . /n/", &["/n", "/n/c.md"]),
        (
            "COPY --parents a.txt dir/one /n/",
            &["/n", "/n/a.txt", "/n/dir", "/n/dir/one"],
        ),
        (
            "COPY --parents dir/*/two /n/",
            &["/n", "/n/dir", "/n/dir/sub", "/n/dir/sub/two"],
        ),
        ("COPY odd[[]0].txt /n/", &["/n", "/n/odd[0].txt"]),
        ("COPY o*.txt /n/", &["/n", "/n/odd[0].txt"]),
        (
            "COPY [\"a.txt\", \"b.txt\", \"/n/\"]",
            &["/n", "/n/a.txt", "/n/b.txt"],
        ),
        (
            "WORKDIR /w\nCOPY dir ./d",
            &["/w", "/w/d", "/w/d/one", "/w/d/sub", "/w/d/sub/two"],
        ),
        ("WORKDIR /w\nCOPY dir/one ../v/", &["/v", "/v/one", "/w"]),
        (
            "COPY --chmod=700 a.txt b.txt /n/",
            &["/n", "/n/a.txt", "/n/b.txt"],
        ),
        // A pattern may match nothing as long as something is copied.
        ("COPY a.txt none* /n/", &["/n", "/n/a.txt"]),
        ("COPY none* <<f /n/\n1\nf", &["/n", "/n/f"]),
        ("COPY <<'f g' /n/\n$A\nf g", &["/n", "/n/f g"]),
        ("COPY <<  f /n/\n1\nf", &["/n", "/n/f"]),
        ("COPY <<X <<Y /n/\nY\nX\nX\nY", &["/n", "/n/X", "/n/Y"]),
        (
            "COPY --parents ./dir/./sub/. /n/",
            &["/n", "/n/sub", "/n/sub/two"],
        ),
        (
            "COPY --parents dir/./*/two a.txt /n/",
            &["/n", "/n/a.txt", "/n/sub", "/n/sub/two"],
        ),
        (
            "COPY --parents --exclude=**/two dir /n/",
            &["/n", "/n/dir", "/n/dir/one", "/n/dir/sub"],
        ),
        ("COPY --link . /n/\nCOPY --link a.txt /n", &["/n"]),
        ("WORKDIR /w\nCOPY --link a.txt .", &["/w", "/w/a.txt"]),
        ("WORKDIR /w\nCOPY --link a.txt b", &["/w", "/w/b"]),
        ("ENV D=/n/\nCOPY a.txt $D", &["/n", "/n/a.txt"]),
        ("ENV A='x y'\nCOPY [\"$A\", \"/z q\"]", &["/z q"]),
    ];
    for (lines, want) in all {
        let cli = context(&format!("FROM scratch\n{lines}"));
        if lines.contains("o*") || lines.contains("odd") {
            cli.file("ctx/odd[0].txt", "odd");
        }
        id(&build(&cli, ""));
        assert_eq!(&tree(&cli), want, "{lines}");
    }
}

#[test]
fn copies_that_cannot_be_made_say_where_and_why() {
    for (lines, place, parts) in [
        (
            "COPY ../x /",
            "line 2, column 6",
            &["it leaves the context", "--build-context"] as &[&str],
        ),
        (
            "COPY dir/../../x /",
            "line 2, column 6",
            &["it leaves the context"],
        ),
        ("ADD ../x /", "line 2, column 5", &["it leaves the context"]),
        ("COPY none /", "line 2, column 1", &["none: nothing there"]),
        ("COPY *.none /", "line 2, column 1", &["nothing there"]),
        ("COPY a.txt b.txt /n", "line 2, column 18", &["write /n/"]),
        ("COPY *.txt /n", "line 2, column 1", &["write /n/"]),
        ("COPY [a /n/", "line 2, column 6", &["is malformed"]),
        ("COPY $NONE /n/", "line 2, column 6", &["empty"]),
        (
            "COPY --chmod=u+q a.txt /",
            "line 2, column 6",
            &["--chmod=755"],
        ),
        (
            "COPY --chown=nobody a.txt /",
            "line 2, column 1",
            &["/etc/passwd", "nobody"],
        ),
        (
            "COPY --from=nowhere a /",
            "line 2, column 6",
            &["nowhere: no image of the store"],
        ),
        (
            "COPY dir /n\nCOPY a.txt /n/sub/two/x",
            "line 3, column 1",
            &["cannot be copied there"],
        ),
        (
            "COPY a.txt /sub\nCOPY dir /",
            "line 3, column 1",
            &["/sub: a directory cannot"],
        ),
        (
            "COPY <<a/.. /n/\n1\na/..",
            "line 2, column 1",
            &[
                "<<a/..: a copy of the here-document has no name",
                "<<a/../file",
            ],
        ),
        ("COPY <<a/ /n/\n1\na/", "line 2, column 1", &["<<a/file"]),
        ("ENV A=${B", "line 2, column 7", &["a `}` is missing"]),
        ("EXPOSE high", "line 2, column 8", &["EXPOSE 80"]),
    ] {
        let cli = context(&format!("FROM scratch\n{lines}"));
        let done = build(&cli, "");
        done.failed(1, &[&[place, "Dockerfile"], parts].concat());
        assert!(cli.run("image inspect made").code == Some(1), "{lines}");
    }
}

#[cfg(unix)]
#[test]
fn links_that_lead_out_of_the_context_are_refused() {
    use std::os::unix::fs::symlink;
    let cli = context("FROM scratch\nCOPY out /o\n");
    cli.file("secret/key", "s");
    symlink("../secret", cli.path("ctx/out")).unwrap();
    build(&cli, "").failed(1, &["out: a link there leads out of the context"]);
    cli.file("ctx/Dockerfile", "FROM scratch\nCOPY out/key /o\n");
    build(&cli, "").failed(1, &["leads out of the context"]);
    fs::remove_file(cli.path("ctx/out")).unwrap();
    symlink("/etc", cli.path("ctx/out")).unwrap();
    build(&cli, "").failed(1, &["leads out of the context"]);
    // One that stays is followed where it is named, and kept where it is found.
    symlink("dir", cli.path("ctx/in")).unwrap();
    symlink("../a.txt", cli.path("ctx/dir/link")).unwrap();
    cli.file(
        "ctx/Dockerfile",
        "FROM scratch\nCOPY in /o\nCOPY in/sub /p\n",
    );
    id(&build(&cli, ""));
    assert_eq!(
        tree(&cli),
        [
            "/o",
            "/o/link",
            "/o/one",
            "/o/sub",
            "/o/sub/two",
            "/p",
            "/p/two"
        ]
    );
    let linked = cli.run("image tree made /o/link").text();
    assert!(linked.contains("-> ../a.txt"), "{linked}");
    // Links of the stage are followed within it, but not by --link.
    cli.file(
        "ctx/Dockerfile",
        "FROM scratch\nCOPY links /\nCOPY a.txt /run/\n",
    );
    fs::create_dir(cli.path("ctx/links")).unwrap();
    symlink("/var/run", cli.path("ctx/links/run")).unwrap();
    id(&build(&cli, ""));
    assert_eq!(tree(&cli), ["/run", "/var", "/var/run", "/var/run/a.txt"]);
    cli.file(
        "ctx/Dockerfile",
        "FROM scratch\nCOPY links /\nCOPY --link a.txt /run/\n",
    );
    id(&build(&cli, ""));
    assert_eq!(tree(&cli), ["/run", "/run/a.txt"]);
}

#[test]
fn what_is_ignored_is_not_there() {
    let cli = context("FROM scratch\nCOPY . /\n");
    cli.file(
        "ctx/.dockerignore",
        "# all but\n*\n!dir\n!*.txt\nb.*\ndir/sub\n",
    );
    id(&build(&cli, ""));
    assert_eq!(tree(&cli), ["/a.txt", "/dir", "/dir/one"]);
    cli.file("ctx/Dockerfile", "FROM scratch\nCOPY b.txt /\n");
    build(&cli, "").failed(1, &["b.txt: nothing there", ".dockerignore"]);
    cli.file("ctx/.dockerignore", "[");
    build(&cli, "").failed(1, &[".dockerignore: line 1"]);
    // One beside the recipe goes first.
    cli.file("ctx/Dockerfile.dockerignore", "a.txt");
    cli.run("image build -q -f ctx/Dockerfile ctx --tag made")
        .fine();
    assert_eq!(tree(&cli), ["/b.txt"]);
    // However the recipe is named, and where it lies.
    for named in [
        "".to_owned(),
        "-f ./ctx/Dockerfile".to_owned(),
        format!("-f {}", cli.path("ctx/Dockerfile").display()),
    ] {
        cli.file("ctx/Dockerfile", "FROM scratch\nCOPY a.txt /\n");
        build(&cli, &named).failed(1, &["a.txt: nothing there"]);
    }
    cli.file("elsewhere/R", "FROM scratch\nCOPY c.md /\n")
        .file("elsewhere/R.dockerignore", "c.md");
    build(&cli, "-f elsewhere/R").failed(1, &["c.md: nothing there"]);
    std::fs::remove_file(cli.path("elsewhere/R.dockerignore")).unwrap();
    // A recipe elsewhere has none in the context.
    cli.file("ctx/.dockerignore", "")
        .file("elsewhere/R", "FROM scratch\nCOPY b.txt /\n");
    cli.run("image build -q -f elsewhere/R ctx --tag made")
        .fine();
    cli.run("image build -q -f ./elsewhere/../elsewhere/R ctx --tag made")
        .fine();
}

#[cfg(unix)]
#[test]
fn directories_that_are_left_out_are_there_for_what_is_brought_back() {
    use std::os::unix::fs::PermissionsExt;
    for (ignore, copy, want) in [
        ("*\n!dir/one\n", "COPY dir /d", &["/d", "/d/one"][..]),
        (
            "*\n!dir/**\n",
            "COPY d* /d/",
            &["/d", "/d/one", "/d/sub", "/d/sub/two"],
        ),
        (
            "dir\n!dir/sub/two\n",
            "COPY dir /d",
            &["/d", "/d/sub", "/d/sub/two"],
        ),
        (
            "*\n!dir/sub/two\n",
            "COPY . /",
            &["/dir", "/dir/sub", "/dir/sub/two"],
        ),
    ] {
        let cli = context(&format!("FROM scratch\n{copy}\n"));
        fs::set_permissions(cli.path("ctx/dir/sub"), fs::Permissions::from_mode(0o700)).unwrap();
        cli.file("ctx/.dockerignore", ignore);
        id(&build(&cli, ""));
        assert_eq!(tree(&cli), want, "{ignore:?}");
        if want.iter().any(|path| path.ends_with("sub")) {
            cli.run("image export made out --format dir").fine();
            let sub = want.iter().find(|path| path.ends_with("sub")).unwrap();
            let mode = fs::metadata(cli.path(&format!("out{sub}"))).unwrap();
            assert_eq!(mode.permissions().mode() & 0o777, 0o700, "{ignore:?}");
        }
    }
    let cli = context("FROM scratch\nCOPY dir /d\n");
    cli.file("ctx/.dockerignore", "*\n!a.txt\n");
    build(&cli, "").failed(1, &["dir: nothing there", ".dockerignore"]);
}

#[cfg(unix)]
#[test]
fn owners_and_modes_are_those_that_were_asked_for() {
    use std::os::unix::fs::PermissionsExt;
    let cli = context(
        "FROM scratch\nCOPY etc /etc\nUSER app\nWORKDIR /home/w\nUSER 5:6\nWORKDIR /home/v\nUSER nobody\nWORKDIR /home/u\nCOPY a.txt /plain\nCOPY --chown=app --chmod=4750 a.txt /n/own\nCOPY --chown=5:team b.txt /five\n",
    );
    cli.file("ctx/etc/passwd", "root:x:0:0::/:\napp:x:77:78::/:\n")
        .file("ctx/etc/group", "team:x:99:\n");
    fs::set_permissions(cli.path("ctx/a.txt"), fs::Permissions::from_mode(0o640)).unwrap();
    id(&build(&cli, ""));
    let told: serde_json::Value =
        serde_json::from_str(&cli.run("image tree made --json").text()).unwrap();
    let of = |path: &str| {
        let entries = told["entries"].as_array().unwrap();
        let found = entries.iter().find(|entry| entry["path"] == path).unwrap();
        (
            found["mode"].clone(),
            found["uid"].clone(),
            found["gid"].clone(),
        )
    };
    // A working directory is that of the user that was named before.
    for (path, uid, gid) in [
        ("/home", 77, 78),
        ("/home/w", 77, 78),
        ("/home/v", 5, 6),
        ("/home/u", 0, 0),
    ] {
        assert_eq!((of(path).1, of(path).2), (uid.into(), gid.into()), "{path}");
    }
    let plain = of("/plain");
    assert_eq!((plain.1, plain.2), (0.into(), 0.into()));
    let own = of("/n/own");
    assert_eq!((own.1, own.2), (77.into(), 78.into()));
    assert_eq!((of("/n").1, of("/five").2), (77.into(), 99.into()));
    let shown = cli.run("image tree made").text();
    assert!(shown.contains("rwsr-x---"), "{shown}");
    assert!(shown.contains("-rw-r-----"), "{shown}");
}

#[test]
fn archives_are_unpacked_by_add_alone() {
    let cli = context(
        "FROM scratch\nADD in.tar.gz /n/\nADD --unpack=false in.tar.gz /raw/\nCOPY in.tar.gz /c/\nADD a.txt /n/\nADD odd.gz /\n",
    );
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o644);
    header.set_mtime(1_000_000);
    archive
        .append_data(&mut header, "deep/file", &b"in"[..])
        .unwrap();
    let tar = archive.into_inner().unwrap();
    let gzip = |bytes: &[u8]| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut out, bytes).unwrap();
        out.finish().unwrap()
    };
    cli.file("ctx/in.tar.gz", gzip(&tar))
        .file("ctx/odd.gz", gzip(b"no archive"));
    id(&build(&cli, ""));
    let want = [
        "/c",
        "/c/in.tar.gz",
        "/n",
        "/n/a.txt",
        "/n/deep",
        "/n/deep/file",
        "/odd.gz",
        "/raw",
        "/raw/in.tar.gz",
    ];
    assert_eq!(tree(&cli), want);
    assert_eq!(cat(&cli, "/n/deep/file"), "in");
    let cut = gzip(&tar);
    cli.file("ctx/in.tar.gz", &cut[..cut.len() / 2]);
    build(&cli, "").failed(1, &["in.tar.gz: it cannot be unpacked", "--unpack=false"]);
}

#[test]
fn stages_contexts_and_images_give_files() {
    let cli = context(
        "FROM scratch AS one\nCOPY dir /d\nENV FROM_ONE=yes\nFROM one AS two\nCOPY a.txt /\nFROM scratch\nCOPY --from=one /d /one\nCOPY --from=1 /a.txt /two\nCOPY --from=other f /other\nCOPY --from=base /b.txt /base\nCOPY --from=lay / /lay\n",
    );
    cli.file("other/f", "o").file("base/b.txt", "B");
    cli.run("image import base --tag base").fine();
    cli.run("image export base layout").fine();
    id(&build(
        &cli,
        "--build-context other=other --build-context lay=oci-layout://layout",
    ));
    let want = [
        "/base",
        "/lay",
        "/lay/b.txt",
        "/one",
        "/one/one",
        "/one/sub",
        "/one/sub/two",
        "/other",
        "/two",
    ];
    assert_eq!(tree(&cli), want);
    // A stage that nobody needs is not built, and one that is named is the image.
    id(&build(&cli, "--target two"));
    assert_eq!(
        tree(&cli),
        ["/a.txt", "/d", "/d/one", "/d/sub", "/d/sub/two"]
    );
    let told = super::inspect(&cli).to_string();
    assert!(told.contains("FROM_ONE=yes"), "{told}");
    build(&cli, "--target nine").failed(1, &["--target nine", "one, two, 2"]);
    build(&cli, "--build-context other=https://x").failed(1, &["fetch it before"]);
    cli.file("ctx/Dockerfile", "FROM other\n");
    build(&cli, "--build-context other=other").failed(1, &["FROM scratch", "COPY --from=other"]);
    cli.file("ctx/Dockerfile", "FROM other\nCOPY a.txt /\n");
    id(&build(&cli, "--build-context other=docker-image://base"));
    assert_eq!(tree(&cli), ["/a.txt", "/b.txt"]);
    build(&cli, "").failed(1, &["other: no image of the store"]);
}

#[cfg(unix)]
#[test]
fn names_of_one_file_stay_names_of_one_file() {
    use std::os::unix::fs::MetadataExt;
    let cli = with(
        "FROM scratch AS one\nCOPY src /src\nCOPY src/a src/b /two/\nFROM scratch\nCOPY --from=one / /\n",
    );
    let fill = |cli: &super::Cli| {
        cli.file("ctx/src/a", "text").file("ctx/src/c", "text");
        std::fs::create_dir_all(cli.path("ctx/src/d")).unwrap();
        std::fs::hard_link(cli.path("ctx/src/a"), cli.path("ctx/src/b")).unwrap();
        std::fs::hard_link(cli.path("ctx/src/a"), cli.path("ctx/src/d/e")).unwrap();
    };
    fill(&cli);
    let first = id(&build(&cli, ""));
    cli.run("image export made out --format dir").fine();
    let ino = |path: &str| cli.path(&format!("out/{path}")).metadata().unwrap().ino();
    assert_eq!((ino("src/a"), ino("src/a")), (ino("src/b"), ino("src/d/e")));
    assert_ne!(ino("src/a"), ino("src/c"));
    // Each source word is a copy of its own.
    assert_ne!(ino("two/a"), ino("two/b"));
    // The numbers that the host has for its files are no part of it.
    let other = with(&std::fs::read_to_string(cli.path("ctx/Dockerfile")).unwrap());
    other.file("ctx/src/before", "");
    std::fs::remove_file(other.path("ctx/src/before")).unwrap();
    fill(&other);
    assert_eq!(id(&build(&other, "")), first);
    assert_eq!(
        super::steps(&other, "")
            .iter()
            .filter(|step| !step.0)
            .count(),
        0
    );
    // Which names are of one file is.
    std::fs::remove_file(other.path("ctx/src/b")).unwrap();
    other.file("ctx/src/b", "text");
    assert_ne!(id(&build(&other, "")), first);
}

#[cfg(target_os = "linux")]
#[test]
fn attributes_of_users_are_copied() {
    use rustix::fs::{XattrFlags, setxattr};
    let cli = with("FROM scratch\nCOPY src /src\n");
    cli.file("ctx/src/a", "text").file("ctx/src/d/b", "text");
    let set = |path: &str, value: &[u8]| {
        setxattr(cli.path(path), "user.kind", value, XattrFlags::empty())
    };
    if let Err(error) = set("ctx/src/a", b"one").and_then(|()| set("ctx/src/d", b"dir")) {
        println!("skipped: this file system has no attributes of users: {error}");
        return;
    }
    let first = id(&build(&cli, ""));
    cli.run("image export made out.tar --format tar").fine();
    let tar = std::fs::read(cli.path("out.tar")).unwrap();
    for record in [
        &b"SCHILY.xattr.user.kind=one\n"[..],
        b"SCHILY.xattr.user.kind=dir\n",
    ] {
        let found = tar.windows(record.len()).any(|part| part == record);
        assert!(found, "{}", String::from_utf8_lossy(record));
    }
    set("ctx/src/a", b"two").unwrap();
    assert_ne!(id(&build(&cli, "")), first);
}
