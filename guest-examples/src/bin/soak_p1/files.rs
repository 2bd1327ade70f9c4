//! Calls on descriptors.

use guest_examples::preview1::{self as p1, Ciovec, Fdstat, Filestat, Iovec, raw};
use guest_examples::random::Random;
use guest_examples::soak::{digest, nanos, offset};

use crate::{Fd, Kind, Soak, outcome};

/// The calls and how likely they are.
pub const KINDS: &[Kind] = &[
    (4, advise),
    (1, allocate),
    (5, close),
    (1, datasync),
    (1, sync),
    (6, fdstat_get),
    (3, fdstat_set_flags),
    (1, fdstat_set_rights),
    (8, filestat_get),
    (4, filestat_set_size),
    (3, filestat_set_times),
    (6, pread),
    (8, read),
    (8, pwrite),
    (10, write),
    (2, prestat_get),
    (2, prestat_dir_name),
    (6, list),
    (3, readdir),
    (1, renumber),
    (6, seek),
    (3, tell),
];

fn none() -> String {
    String::new()
}

/// Sizes of the pieces of one read or write: mostly one piece with bytes in
/// it, before or behind empty ones.
fn pieces(random: &mut Random) -> Vec<usize> {
    const SIZES: [usize; 10] = [1, 2, 3, 7, 11, 100, 4_095, 4_096, 4_097, 9_000];
    let size = *random.pick(&SIZES);
    match random.below(40) {
        0 => Vec::new(),
        1 => vec![0],
        2..6 => vec![0, size],
        6..10 => vec![size, 0],
        10 => vec![size, 3, *random.pick(&SIZES)],
        11 => {
            let mut many = vec![0; 1_100];
            many.push(size);
            many
        }
        _ => vec![size],
    }
}

/// Cuts a buffer into pieces.
fn cut<'a>(mut buf: &'a mut [u8], pieces: &[usize]) -> Vec<&'a mut [u8]> {
    let mut cut = Vec::new();
    for len in pieces {
        let (piece, rest) = buf.split_at_mut(*len);
        cut.push(piece);
        buf = rest;
    }
    cut
}

fn shown(pieces: &[usize]) -> String {
    if pieces.len() > 3 {
        format!("[{} pieces, {:?}]", pieces.len(), pieces.last())
    } else {
        format!("{pieces:?}")
    }
}

/// One read, by `call`, which is given the pieces.
fn reading(pieces: &[usize], call: impl FnOnce(*const Iovec, usize, *mut usize) -> u32) -> String {
    let mut buf = vec![b'-'; pieces.iter().sum::<usize>() + 8];
    let iovecs: Vec<Iovec> = cut(&mut buf, pieces)
        .into_iter()
        .map(|piece| Iovec {
            buf: piece.as_mut_ptr(),
            len: piece.len(),
        })
        .collect();
    let mut len = 0;
    let code = call(iovecs.as_ptr(), iovecs.len(), &raw mut len);
    outcome(code, || format!("{len} bytes {:x}", digest(&buf)))
}

/// One write, by `call`, which is given the pieces.
fn writing(
    pieces: &[usize],
    random: &mut Random,
    call: impl FnOnce(*const Ciovec, usize, *mut usize) -> u32,
) -> String {
    let mut buf = random.bytes(pieces.iter().sum());
    let iovecs: Vec<Ciovec> = cut(&mut buf, pieces)
        .into_iter()
        .map(|piece| Ciovec {
            buf: piece.as_ptr(),
            len: piece.len(),
        })
        .collect();
    let mut len = 0;
    let code = call(iovecs.as_ptr(), iovecs.len(), &raw mut len);
    outcome(code, || format!("{len} bytes"))
}

fn advise(soak: &mut Soak, random: &mut Random) -> String {
    let (fd, offset, len) = (soak.file(random), offset(random), offset(random));
    let advice = random.below(6) as u32;
    // SAFETY: no pointer is passed.
    let code = unsafe { raw::fd_advise(fd.number, offset, len, advice) };
    format!(
        "fd_advise {fd} {offset} {len} {advice} = {}",
        outcome(code, none)
    )
}

fn allocate(soak: &mut Soak, random: &mut Random) -> String {
    let (fd, offset, len) = (soak.fd(random), offset(random), offset(random));
    // SAFETY: no pointer is passed.
    let code = unsafe { raw::fd_allocate(fd.number, offset, len) };
    format!("fd_allocate {fd} {offset} {len} = {}", outcome(code, none))
}

/// Draws a descriptor that may go. The two roots mostly stay, or most calls
/// would have nothing to walk from.
fn mortal(soak: &Soak, random: &mut Random) -> Fd {
    match soak.fd(random) {
        Fd {
            place: Some(3 | 4), ..
        } if random.below(20) > 0 => soak.at(5),
        fd => fd,
    }
}

fn close(soak: &mut Soak, random: &mut Random) -> String {
    let fd = mortal(soak, random);
    // SAFETY: no pointer is passed.
    let code = unsafe { raw::fd_close(fd.number) };
    if code == 0 {
        soak.closed(fd);
    }
    format!(
        "fd_close {fd} = {}",
        outcome(code, || format!("{:?}", p1::close(fd.number)))
    )
}

fn datasync(soak: &mut Soak, random: &mut Random) -> String {
    let fd = soak.fd(random);
    // SAFETY: no pointer is passed.
    let code = unsafe { raw::fd_datasync(fd.number) };
    format!("fd_datasync {fd} = {}", outcome(code, none))
}

fn sync(soak: &mut Soak, random: &mut Random) -> String {
    let fd = soak.fd(random);
    // SAFETY: no pointer is passed.
    let code = unsafe { raw::fd_sync(fd.number) };
    format!("fd_sync {fd} = {}", outcome(code, none))
}

fn fdstat_get(soak: &mut Soak, random: &mut Random) -> String {
    let fd = soak.fd(random);
    let mut stat = Fdstat::default();
    // SAFETY: the pointer is valid for a write.
    let code = unsafe { raw::fd_fdstat_get(fd.number, &raw mut stat) };
    let told = outcome(code, || {
        format!(
            "kind {} flags {} rights {:#x} {:#x}",
            stat.filetype, stat.flags, stat.rights_base, stat.rights_inheriting
        )
    });
    format!("fd_fdstat_get {fd} = {told}")
}

fn fdstat_set_flags(soak: &mut Soak, random: &mut Random) -> String {
    let (fd, flags) = (
        soak.file(random),
        *random.pick(&[0, 0, 1, 1, 4, 5, 2, 8, 16]),
    );
    // SAFETY: no pointer is passed.
    let code = unsafe { raw::fd_fdstat_set_flags(fd.number, flags) };
    format!("fd_fdstat_set_flags {fd} {flags} = {}", outcome(code, none))
}

fn fdstat_set_rights(soak: &mut Soak, random: &mut Random) -> String {
    let (fd, rights) = (soak.fd(random), random.draw() & 0x1fff_ffff);
    // SAFETY: no pointer is passed.
    let code = unsafe { raw::fd_fdstat_set_rights(fd.number, rights, rights) };
    format!(
        "fd_fdstat_set_rights {fd} {rights:#x} = {}",
        outcome(code, none)
    )
}

fn filestat_get(soak: &mut Soak, random: &mut Random) -> String {
    let fd = soak.fd(random);
    let mut stat = Filestat::default();
    // SAFETY: the pointer is valid for a write.
    let code = unsafe { raw::fd_filestat_get(fd.number, &raw mut stat) };
    let told = outcome(code, || soak.stat(&stat));
    format!("fd_filestat_get {fd} = {told}")
}

fn filestat_set_size(soak: &mut Soak, random: &mut Random) -> String {
    let (fd, size) = (soak.file(random), offset(random));
    // SAFETY: no pointer is passed.
    let code = unsafe { raw::fd_filestat_set_size(fd.number, size) };
    format!("fd_filestat_set_size {fd} {size} = {}", outcome(code, none))
}

fn filestat_set_times(soak: &mut Soak, random: &mut Random) -> String {
    let (fd, atim, mtim) = (soak.file(random), nanos(random), nanos(random));
    let flags = random.below(16) as u32;
    // SAFETY: no pointer is passed.
    let code = unsafe { raw::fd_filestat_set_times(fd.number, atim, mtim, flags) };
    format!(
        "fd_filestat_set_times {fd} {atim} {mtim} flags {flags} = {}",
        outcome(code, none)
    )
}

fn pread(soak: &mut Soak, random: &mut Random) -> String {
    let (fd, pieces, offset) = (soak.file(random), pieces(random), offset(random));
    // SAFETY: the pieces are valid for their lengths.
    let told = reading(&pieces, |iovecs, count, len| unsafe {
        raw::fd_pread(fd.number, iovecs, count, offset, len)
    });
    format!("fd_pread {fd} {} at {offset} = {told}", shown(&pieces))
}

fn read(soak: &mut Soak, random: &mut Random) -> String {
    let (fd, pieces) = (soak.file(random), pieces(random));
    // SAFETY: the pieces are valid for their lengths.
    let told = reading(&pieces, |iovecs, count, len| unsafe {
        raw::fd_read(fd.number, iovecs, count, len)
    });
    format!("fd_read {fd} {} = {told}", shown(&pieces))
}

fn pwrite(soak: &mut Soak, random: &mut Random) -> String {
    let (fd, pieces, offset) = (soak.file(random), pieces(random), offset(random));
    // SAFETY: the pieces are valid for their lengths.
    let told = writing(&pieces, random, |iovecs, count, len| unsafe {
        raw::fd_pwrite(fd.number, iovecs, count, offset, len)
    });
    format!("fd_pwrite {fd} {} at {offset} = {told}", shown(&pieces))
}

fn write(soak: &mut Soak, random: &mut Random) -> String {
    let (fd, pieces) = (soak.file(random), pieces(random));
    // SAFETY: the pieces are valid for their lengths.
    let told = writing(&pieces, random, |iovecs, count, len| unsafe {
        raw::fd_write(fd.number, iovecs, count, len)
    });
    format!("fd_write {fd} {} = {told}", shown(&pieces))
}

fn prestat_get(soak: &mut Soak, random: &mut Random) -> String {
    let (fd, mut out) = (soak.fd(random), [77; 2]);
    // SAFETY: the pointer is valid for a write.
    let code = unsafe { raw::fd_prestat_get(fd.number, &raw mut out) };
    format!(
        "fd_prestat_get {fd} = {}",
        outcome(code, || format!("{out:?}"))
    )
}

fn prestat_dir_name(soak: &mut Soak, random: &mut Random) -> String {
    let (fd, room) = (soak.fd(random), random.below(6));
    let mut buf = [b'-'; 8];
    // SAFETY: the buffer is valid for that length.
    let code = unsafe { raw::fd_prestat_dir_name(fd.number, buf.as_mut_ptr(), room) };
    format!(
        "fd_prestat_dir_name {fd} {room} = {}",
        outcome(code, || buf.escape_ascii().to_string())
    )
}

/// Lists a directory from the start to the end, with some room at a time.
fn list(soak: &mut Soak, random: &mut Random) -> String {
    let (fd, room) = (soak.fd(random), 300 + random.below(700));
    let mut buf = vec![0; room];
    let (mut cookie, mut names) = (0, Vec::new());
    let told = loop {
        let used = match p1::readdir(fd.number, &mut buf, cookie) {
            Ok(used) => used,
            Err(errno) => break format!("{errno:?}"),
        };
        let mut rest = &buf[..used];
        while let Some((head, tail)) = rest.split_at_checked(24) {
            let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8"));
            let len = (word(16) & 0xffff_ffff) as usize;
            let Some((name, tail)) = tail.split_at_checked(len) else {
                break;
            };
            cookie = word(0);
            names.push((name.to_vec(), head[20], word(8)));
            rest = tail;
        }
        if used < room {
            names.sort();
            break self::names(soak, &names);
        }
    };
    format!("fd_readdir {fd} all by {room} = {told}")
}

fn names(soak: &mut Soak, names: &[(Vec<u8>, u8, u64)]) -> String {
    let shown: Vec<String> = names
        .iter()
        .map(|(name, kind, inode)| {
            // What `..` is called is told by another guest.
            let inode = match &name[..] {
                b".." => 0,
                _ => soak.seen.number(*inode),
            };
            format!("{}:{kind}:{inode}", guest_examples::soak::show(name))
        })
        .collect();
    format!("ok {}", shown.join(" "))
}

/// A listing with odd room and cookie. Order and cookies are each host's own:
/// shown are the dots, and whether anything came.
fn readdir(soak: &mut Soak, random: &mut Random) -> String {
    let fd = soak.fd(random);
    let room = *random.pick(&[0, 1, 23, 24, 25, 26, 49, 50, 51]);
    let cookie = *random.pick(&[0, 0, 0, 1, 2, 1 << 40, u64::MAX - 2, u64::MAX]);
    let mut buf = vec![0; room];
    let mut used = 0;
    // SAFETY: the buffer is valid for its length.
    let code = unsafe { raw::fd_readdir(fd.number, buf.as_mut_ptr(), room, cookie, &raw mut used) };
    let dots = if cookie == 0 { 51 } else { 0 };
    let told = outcome(code, || {
        let kinds: Vec<u8> = [20, 45]
            .iter()
            .filter_map(|at| buf.get(*at))
            .copied()
            .collect();
        let kinds = if dots > 0 { kinds } else { Vec::new() };
        format!("{used} {kinds:?}")
    });
    format!("fd_readdir {fd} room {room} cookie {cookie} = {told}")
}

fn renumber(soak: &mut Soak, random: &mut Random) -> String {
    let (from, to) = (mortal(soak, random), mortal(soak, random));
    // SAFETY: no pointer is passed.
    let code = unsafe { raw::fd_renumber(from.number, to.number) };
    if code == 0 && from.number != to.number {
        soak.moved(from, to);
    }
    format!(
        "fd_renumber {from} {to} = {}",
        outcome(code, || format!("{:?}", p1::fdstat(from.number).err()))
    )
}

fn seek(soak: &mut Soak, random: &mut Random) -> String {
    let (fd, whence, mut out) = (soak.file(random), random.below(3) as u32, 77);
    let offset = match random.below(4) {
        0 => -(random.below(5_000) as i64),
        _ => offset(random) as i64,
    };
    // SAFETY: the pointer is valid for a write.
    let code = unsafe { raw::fd_seek(fd.number, offset, whence, &raw mut out) };
    format!(
        "fd_seek {fd} {offset} from {whence} = {}",
        outcome(code, || out.to_string())
    )
}

fn tell(soak: &mut Soak, random: &mut Random) -> String {
    let (fd, mut out) = (soak.file(random), 77);
    // SAFETY: the pointer is valid for a write.
    let code = unsafe { raw::fd_tell(fd.number, &raw mut out) };
    format!("fd_tell {fd} = {}", outcome(code, || out.to_string()))
}
