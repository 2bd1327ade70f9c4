//! Calls with paths.

use guest_examples::preview1::{Filestat, READ, WRITE, raw};
use guest_examples::random::Random;
use guest_examples::soak::{digest, nanos, path, show, target};

use crate::{Fd, Kind, Soak, outcome};

/// The calls and how likely they are.
pub const KINDS: &[Kind] = &[
    (30, open),
    (8, create_directory),
    (6, remove_directory),
    (5, unlink_file),
    (10, filestat_get),
    (3, filestat_set_times),
    (8, link),
    (9, rename),
    (8, symlink),
    (5, readlink),
];

fn none() -> String {
    String::new()
}

/// `at` shows a place: descriptor and path.
fn at(fd: Fd, path: &[u8]) -> String {
    format!("{fd} {}", show(path))
}

fn open(soak: &mut Soak, random: &mut Random) -> String {
    const OFLAGS: [u32; 12] = [0, 0, 0, 1, 1, 2, 2, 5, 8, 9, 3, 10];
    const RIGHTS: [u64; 8] = [
        0,
        READ,
        READ,
        WRITE,
        READ | WRITE,
        READ | WRITE,
        0x1fff_ffff,
        1 << 14,
    ];
    const FDFLAGS: [u32; 18] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 4, 4, 2, 8, 16];
    let (dir, path) = (soak.dir(random), path(random));
    let follow = random.below(3).min(1) as u32;
    let oflags = match random.below(8) {
        0 => random.below(16) as u32,
        _ => *random.pick(&OFLAGS),
    };
    let rights = match random.below(10) {
        0 => random.draw() & 0x1fff_ffff,
        _ => *random.pick(&RIGHTS),
    };
    let fdflags = *random.pick(&FDFLAGS);
    let mut fd = 77;
    // SAFETY: the path is valid for its length, the pointer for a write.
    let code = unsafe {
        raw::path_open(
            dir.number,
            follow,
            path.as_ptr(),
            path.len(),
            oflags,
            rights,
            0,
            fdflags,
            &raw mut fd,
        )
    };
    format!(
        "path_open {} follow {follow} oflags {oflags} rights {rights:#x} fdflags {fdflags} = {}",
        at(dir, &path),
        outcome(code, || soak.opened(fd))
    )
}

fn create_directory(soak: &mut Soak, random: &mut Random) -> String {
    let (dir, path) = (soak.dir(random), path(random));
    // SAFETY: the path is valid for its length.
    let code = unsafe { raw::path_create_directory(dir.number, path.as_ptr(), path.len()) };
    format!(
        "path_create_directory {} = {}",
        at(dir, &path),
        outcome(code, none)
    )
}

fn remove_directory(soak: &mut Soak, random: &mut Random) -> String {
    let (dir, path) = (soak.dir(random), path(random));
    // SAFETY: the path is valid for its length.
    let code = unsafe { raw::path_remove_directory(dir.number, path.as_ptr(), path.len()) };
    format!(
        "path_remove_directory {} = {}",
        at(dir, &path),
        outcome(code, none)
    )
}

fn unlink_file(soak: &mut Soak, random: &mut Random) -> String {
    let (dir, path) = (soak.dir(random), path(random));
    // SAFETY: the path is valid for its length.
    let code = unsafe { raw::path_unlink_file(dir.number, path.as_ptr(), path.len()) };
    format!(
        "path_unlink_file {} = {}",
        at(dir, &path),
        outcome(code, none)
    )
}

fn filestat_get(soak: &mut Soak, random: &mut Random) -> String {
    let (dir, path, flags) = (soak.dir(random), path(random), random.below(2) as u32);
    let mut stat = Filestat::default();
    // SAFETY: the path is valid for its length, the pointer for a write.
    let code = unsafe {
        raw::path_filestat_get(dir.number, flags, path.as_ptr(), path.len(), &raw mut stat)
    };
    let told = outcome(code, || soak.stat(&stat));
    format!(
        "path_filestat_get {} follow {flags} = {told}",
        at(dir, &path)
    )
}

fn filestat_set_times(soak: &mut Soak, random: &mut Random) -> String {
    let (dir, path, flags) = (soak.dir(random), path(random), random.below(2) as u32);
    let (atim, mtim, fst) = (nanos(random), nanos(random), random.below(16) as u32);
    // SAFETY: the path is valid for its length.
    let code = unsafe {
        raw::path_filestat_set_times(
            dir.number,
            flags,
            path.as_ptr(),
            path.len(),
            atim,
            mtim,
            fst,
        )
    };
    format!(
        "path_filestat_set_times {} follow {flags} {atim} {mtim} flags {fst} = {}",
        at(dir, &path),
        outcome(code, none)
    )
}

fn link(soak: &mut Soak, random: &mut Random) -> String {
    let flags = random.below(10).saturating_sub(8) as u32;
    let (from, path, to, new) = (
        soak.dir(random),
        path(random),
        soak.dir(random),
        path(random),
    );
    // SAFETY: the paths are valid for their lengths.
    let code = unsafe {
        raw::path_link(
            from.number,
            flags,
            path.as_ptr(),
            path.len(),
            to.number,
            new.as_ptr(),
            new.len(),
        )
    };
    format!(
        "path_link {} to {} follow {flags} = {}",
        at(from, &path),
        at(to, &new),
        outcome(code, none)
    )
}

fn rename(soak: &mut Soak, random: &mut Random) -> String {
    let (from, path, to, new) = (
        soak.dir(random),
        path(random),
        soak.dir(random),
        path(random),
    );
    // SAFETY: the paths are valid for their lengths.
    let code = unsafe {
        raw::path_rename(
            from.number,
            path.as_ptr(),
            path.len(),
            to.number,
            new.as_ptr(),
            new.len(),
        )
    };
    format!(
        "path_rename {} to {} = {}",
        at(from, &path),
        at(to, &new),
        outcome(code, none)
    )
}

fn symlink(soak: &mut Soak, random: &mut Random) -> String {
    let (target, dir, path) = (target(random), soak.dir(random), path(random));
    // SAFETY: target and path are valid for their lengths.
    let code = unsafe {
        raw::path_symlink(
            target.as_ptr(),
            target.len(),
            dir.number,
            path.as_ptr(),
            path.len(),
        )
    };
    format!(
        "path_symlink {} to {} = {}",
        at(dir, &path),
        show(&target),
        outcome(code, none)
    )
}

fn readlink(soak: &mut Soak, random: &mut Random) -> String {
    let (dir, path) = (soak.dir(random), path(random));
    let room = *random.pick(&[0, 1, 3, 300, 5_000]);
    let mut buf = vec![b'-'; room];
    let mut len = 0;
    // SAFETY: path and buffer are valid for their lengths.
    let code = unsafe {
        raw::path_readlink(
            dir.number,
            path.as_ptr(),
            path.len(),
            buf.as_mut_ptr(),
            room,
            &raw mut len,
        )
    };
    let told = outcome(code, || {
        format!("{len} {} {:x}", show(&buf[..len]), digest(&buf))
    });
    format!("path_readlink {} room {room} = {told}", at(dir, &path))
}
