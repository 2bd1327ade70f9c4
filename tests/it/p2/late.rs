//! Content that has to be fetched first: calls that wait, streams that are not
//! ready.

use stratafs::vfs::Fs;
use tokio::task::yield_now;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{DescriptorFlags, ErrorCode, OpenFlags};

use super::guest::{Guest, Halt, MODES};
use crate::support::far::{Far, far_image, noise};

const LEN: usize = 150_000;

fn both() -> DescriptorFlags {
    DescriptorFlags::READ | DescriptorFlags::WRITE
}

/// Runs `call` on this thread alone; the bytes come once they were asked for.
/// A call that held the thread would never end.
fn alone<R>(far: &Far, call: impl Future<Output = R>) -> R {
    let comes = async {
        while far.asked() == 0 {
            yield_now().await;
        }
        far.come();
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::join!(call, comes).0 })
}

#[test]
fn calls_wait_and_are_made_again() {
    let bytes = noise(LEN);
    for mode in MODES {
        for stalled in [true, false] {
            let far = Far::new(&bytes);
            let fs = Fs::new(&far_image(&far));
            let (mut guest, root) = Guest::new(&fs, mode);
            let file = guest
                .open(root, "dir/far", OpenFlags::empty(), both())
                .unwrap();
            let turn = |far: &Far| if stalled { far.stall() } else { far.leave() };
            turn(&far);
            let others = || {
                assert_eq!(fs.usage().logical_bytes, 0);
                fs.write("/other", "").unwrap();
            };
            let read = far.meanwhile(|| guest.read(file, 9, 70_000).unwrap(), others);
            // At most one chunk at a time.
            assert!(read.0 == bytes[9..9 + 65_536] && !read.1);
            turn(&far);
            let wrote = far.meanwhile(|| guest.write(file, 100, b"late"), others);
            assert_eq!(wrote, Ok(4));
            assert_eq!(
                &fs.read("/dir/far").unwrap()[98..106],
                &{
                    let mut want = bytes[98..106].to_vec();
                    want[2..6].copy_from_slice(b"late");
                    want
                }[..]
            );
        }
    }
}

#[test]
fn async_streams_hold_no_thread() {
    let bytes = noise(LEN);
    let far = Far::new(&bytes);
    let fs = Fs::new(&far_image(&far));
    let (mut guest, root) = Guest::new(&fs, MODES[1]);
    let file = guest
        .open(root, "dir/far", OpenFlags::empty(), both())
        .unwrap();
    let input = guest.reader(file, 10).unwrap();
    let output = guest.writer(file, 70_000).unwrap();

    // A read that finds nothing yet gives nothing, and the stream is not ready.
    far.leave();
    let stream = guest.input(&input);
    assert_eq!(stream.read(100).unwrap().len(), 0);
    alone(&far, stream.ready());
    assert_eq!(stream.read(100).unwrap(), bytes[10..110]);
    far.leave();
    let read = alone(&far, stream.blocking_read(100));
    assert_eq!(read.unwrap(), bytes[110..210]);

    // A write is kept, and nothing more is taken, until the bytes are here.
    far.leave();
    let stream = guest.output(&output);
    assert!(stream.check_write().unwrap() > 0);
    stream.write(b"kept".as_slice().into()).unwrap();
    assert_eq!(fs.usage().logical_bytes, 0);
    assert_eq!(stream.check_write().unwrap(), 0);
    stream.flush().unwrap();
    assert_eq!(stream.check_write().unwrap(), 0);
    alone(&far, stream.ready());
    assert!(stream.check_write().unwrap() > 0);
    assert_eq!(fs.usage().logical_bytes, 4096);
    far.leave();
    let output = guest.appender(file).unwrap();
    let stream = guest.output(&output);
    alone(
        &far,
        stream.blocking_write_and_flush(b"end".as_slice().into()),
    )
    .unwrap();
    let all = fs.read("/dir/far").unwrap();
    assert_eq!(&all[70_000..70_004], b"kept");
    assert_eq!(&all[LEN..], b"end");
}

#[test]
fn a_kept_write_that_fails_is_told_and_closes_the_stream() {
    let far = Far::new(&noise(LEN));
    let fs = Fs::new(&far_image(&far));
    let (mut guest, root) = Guest::new(&fs, MODES[1]);
    let file = guest
        .open(root, "dir/far", OpenFlags::empty(), both())
        .unwrap();
    let output = guest.writer(file, 10).unwrap();
    far.leave();
    let stream = guest.output(&output);
    stream.write(b"kept".as_slice().into()).unwrap();
    // A guest that writes before it may is ended.
    let early = stream.write(b"early".as_slice().into()).unwrap_err();
    far.break_off();
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(stream.ready());
    let error = stream.check_write().unwrap_err();
    let closed = stream.check_write().unwrap_err();
    assert_eq!(guest.halt(early), Halt::Trap);
    assert_eq!(guest.halt(error), Halt::Failed(Some(ErrorCode::Io)));
    assert_eq!(guest.halt(closed), Halt::Closed);
    assert_eq!(fs.usage().logical_bytes, 0);
}
