//! Two things at the same time.

use std::panic::resume_unwind;
use std::thread;

/// Does `aside` in a thread of its own while this one does `work`; behind it, if no thread can be made.
pub(super) fn beside<A: Send, B>(aside: impl Fn() -> A + Sync, work: impl FnOnce() -> B) -> (A, B) {
    let (done, worked) = thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, &aside);
        let worked = work();
        (thread.map(|thread| thread.join()), worked)
    });
    let done = match done {
        Ok(done) => done.unwrap_or_else(|panic| resume_unwind(panic)),
        Err(_) => aside(),
    };
    (done, worked)
}
