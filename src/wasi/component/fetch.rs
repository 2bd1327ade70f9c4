//! Awaiting content that has to be fetched first.

use crate::errno::Errno;
use crate::vfs::NotDone;

/// Makes a call until it is done, awaiting each ticket that it gives. Nothing
/// of it has been done while it waits, so it may be given up there.
pub(in crate::wasi) async fn fetched<R>(
    mut call: impl FnMut() -> Result<R, NotDone>,
) -> Result<R, Errno> {
    loop {
        match call() {
            Ok(done) => return Ok(done),
            Err(NotDone::Errno(errno)) => return Err(errno),
            Err(NotDone::Absent(ticket)) => ticket.await,
        }
    }
}
