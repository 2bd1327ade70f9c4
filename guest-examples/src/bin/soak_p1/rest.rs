//! Calls that are not about files, and the last call of a run, which may end
//! the guest.

use guest_examples::preview1::{Ciovec, Event, Iovec, Subscription, raw};
use guest_examples::random::Random;
use guest_examples::soak::digest;

use crate::{Fd, Kind, Soak, outcome};

/// The calls and how likely they are.
pub const KINDS: &[Kind] = &[
    (1, arguments),
    (1, environment),
    (1, clock),
    (1, random_get),
    (1, sched_yield),
    (1, sock_accept),
    (1, sock_recv),
    (1, sock_send),
    (1, sock_shutdown),
    (2, poll),
];

fn none() -> String {
    String::new()
}

fn arguments(_: &mut Soak, _: &mut Random) -> String {
    let (mut count, mut size) = (0, 0);
    // SAFETY: both pointers are valid for a write.
    let code = unsafe { raw::args_sizes_get(&raw mut count, &raw mut size) };
    let (mut argv, mut buf) = (vec![std::ptr::null_mut(); count], vec![0; size]);
    // SAFETY: both have the room that was asked for.
    let got = unsafe { raw::args_get(argv.as_mut_ptr(), buf.as_mut_ptr()) };
    // Which calls are made is an argument: only its presence is shown.
    format!("args_get = {} {}", outcome(code, none), outcome(got, none))
}

fn environment(_: &mut Soak, _: &mut Random) -> String {
    let (mut count, mut size) = (0, 0);
    // SAFETY: both pointers are valid for a write.
    let code = unsafe { raw::environ_sizes_get(&raw mut count, &raw mut size) };
    let (mut environ, mut buf) = (vec![std::ptr::null_mut(); count], vec![0; size]);
    // SAFETY: both have the room that was asked for.
    let got = unsafe { raw::environ_get(environ.as_mut_ptr(), buf.as_mut_ptr()) };
    format!(
        "environ_get = {} {} {count} {:x}",
        outcome(code, none),
        outcome(got, none),
        digest(&buf)
    )
}

fn clock(_: &mut Soak, random: &mut Random) -> String {
    let (id, mut out) = (random.below(4) as u32, 0);
    // SAFETY: the pointer is valid for a write.
    let code = unsafe { raw::clock_time_get(id, 1, &raw mut out) };
    // SAFETY: the pointer is valid for a write.
    let res = unsafe { raw::clock_res_get(id, &raw mut out) };
    format!(
        "clock_time_get {id} = {} {}",
        outcome(code, none),
        outcome(res, none)
    )
}

fn random_get(_: &mut Soak, random: &mut Random) -> String {
    let mut buf = vec![0; random.below(40)];
    // SAFETY: the buffer is valid for its length.
    let code = unsafe { raw::random_get(buf.as_mut_ptr(), buf.len()) };
    format!("random_get {} = {}", buf.len(), outcome(code, none))
}

fn sched_yield(_: &mut Soak, _: &mut Random) -> String {
    // SAFETY: no pointer is passed.
    let code = unsafe { raw::sched_yield() };
    format!("sched_yield = {}", outcome(code, none))
}

fn sock_accept(soak: &mut Soak, random: &mut Random) -> String {
    let (fd, mut out) = (soak.fd(random), 77);
    // SAFETY: the pointer is valid for a write.
    let code = unsafe { raw::sock_accept(fd.number, 0, &raw mut out) };
    format!("sock_accept {fd} = {}", outcome(code, || out.to_string()))
}

fn sock_recv(soak: &mut Soak, random: &mut Random) -> String {
    let (fd, mut buf, mut len, mut flags) = (soak.fd(random), [0; 8], 0, 0);
    let iovec = Iovec {
        buf: buf.as_mut_ptr(),
        len: buf.len(),
    };
    // SAFETY: one piece that is valid for its length, two pointers for a write.
    let code = unsafe {
        raw::sock_recv(
            fd.number,
            &raw const iovec,
            1,
            0,
            &raw mut len,
            &raw mut flags,
        )
    };
    format!("sock_recv {fd} = {}", outcome(code, || len.to_string()))
}

fn sock_send(soak: &mut Soak, random: &mut Random) -> String {
    let (fd, mut len) = (soak.fd(random), 0);
    let iovec = Ciovec {
        buf: b"x".as_ptr(),
        len: 1,
    };
    // SAFETY: one piece that is valid for its length, a pointer for a write.
    let code = unsafe { raw::sock_send(fd.number, &raw const iovec, 1, 0, &raw mut len) };
    format!("sock_send {fd} = {}", outcome(code, || len.to_string()))
}

fn sock_shutdown(soak: &mut Soak, random: &mut Random) -> String {
    let (fd, how) = (soak.fd(random), 1 + random.below(3) as u32);
    // SAFETY: no pointer is passed.
    let code = unsafe { raw::sock_shutdown(fd.number, how) };
    format!("sock_shutdown {fd} {how} = {}", outcome(code, none))
}

/// `clockid.monotonic`.
const MONOTONIC: u32 = 1;

/// Waits for a few things, one of them a clock that is up at once; no standard
/// stream, since what those are is the host's to say.
fn poll(soak: &mut Soak, random: &mut Random) -> String {
    let mut all = vec![Subscription {
        userdata: 1,
        id: MONOTONIC,
        ..Subscription::default()
    }];
    let mut asked = Vec::new();
    for userdata in 0..random.below(3) as u64 {
        let fd = match soak.fd(random) {
            Fd {
                place: Some(0..3), ..
            } => soak.at(3),
            fd => fd,
        };
        let tag = 1 + random.below(2) as u64;
        asked.push(format!("{tag} of {fd}"));
        all.push(Subscription {
            userdata: 2 + userdata,
            tag,
            id: fd.number,
            ..Subscription::default()
        });
    }
    let mut events = vec![Event::default(); all.len()];
    let mut count = 0;
    // SAFETY: as many events as subscriptions, a pointer for a write.
    let code =
        unsafe { raw::poll_oneoff(all.as_ptr(), events.as_mut_ptr(), all.len(), &raw mut count) };
    let told = outcome(code, || {
        events.truncate(count);
        events.sort_by_key(|event| event.userdata);
        let told: Vec<_> = events
            .iter()
            .map(|event| {
                (
                    event.userdata,
                    event.error,
                    event.tag,
                    event.nbytes,
                    event.flags,
                )
            })
            .collect();
        format!("{told:?}")
    });
    format!("poll_oneoff {asked:?} = {told}")
}

/// A call that the host may end the guest for. What it is comes out first.
pub fn last(soak: &mut Soak, random: &mut Random) -> String {
    let out = random.below(8);
    let far: *mut u8 = std::ptr::without_provenance_mut(usize::MAX - 3);
    let (fd, flag) = (soak.dir(random), 1 << (5 + random.below(10)));
    let code = *random.pick(&[0, 1, 77, 125, 126, 134, 255, 256]);
    soak.note(&format!("last {out} {fd} {flag:#x} {code}\n"));
    soak.flush();
    let dir = fd.number;
    // SAFETY: what is passed is out of bounds on purpose: the host has to
    // notice. It writes to nothing of ours.
    let answer = unsafe {
        match out {
            0 => raw::proc_exit(code),
            1 => raw::proc_raise(code % 20),
            2 => raw::fd_fdstat_set_flags(dir, flag),
            3 => raw::fd_filestat_get(dir, far.cast()),
            4 => raw::path_create_directory(dir, far, 100),
            5 => raw::fd_read(dir, far.cast(), 5, far.cast()),
            6 => raw::fd_readdir(dir, far, 100, 0, far.cast()),
            _ => raw::path_open(dir, flag, b"f".as_ptr(), 1, flag, 0, 0, flag, far.cast()),
        }
    };
    format!("last = {}", outcome(answer, none))
}
