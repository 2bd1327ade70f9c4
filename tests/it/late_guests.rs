//! Guests under an asynchronous host with one thread, whose base has to be fetched first: who
//! needs the bytes awaits them, and nobody else.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use stratafs::vfs::Fs;
use tokio::task::yield_now;

use crate::support::far::{Far, far_image, noise};
use crate::support::guest::World;
use crate::support::wasi_host::Compiled;

/// More than two of the pieces that are fetched at a time.
const LEN: usize = 150_000;

/// Runs something on this thread alone. What holds the thread never ends.
fn on_one_thread<R>(call: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(call)
}

/// How many bytes the guest says that it read.
fn bytes(out: &str) -> usize {
    out.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_guest_that_waits_lets_others_of_its_thread_go_on() {
    for (name, world) in [
        ("read_through", World::P1),
        ("read_through", World::P2),
        ("streams", World::P3),
    ] {
        let guest = Compiled::new(name, world);
        let words = |path: &'static str| match world {
            World::P3 => vec!["read", path, "65536"],
            _ => vec![path, "65536"],
        };
        let far = Far::new(&noise(LEN));
        let image = far_image(&far);
        let (waits, other) = (Fs::new(&image), Fs::new(&image));
        far.leave();
        let late = on_one_thread(async {
            let late = words("/dir/far");
            let mut late = pin!(guest.run_on_poller(&waits, &late));
            while far.asked() == 0 {
                let polled = poll_fn(|cx| Poll::Ready(late.as_mut().poll(cx))).await;
                assert!(polled.is_pending(), "{name}: it did not wait");
                yield_now().await;
            }
            // Another guest over the same image begins and ends meanwhile, on the same thread.
            let near = words("/dir/near");
            let near = guest.run_on_poller(&other, &near).await;
            assert_eq!((near.code, bytes(&near.out)), (0, 4), "{}", near.err);
            assert_eq!(far.asked(), 1, "nothing else was asked for");
            far.come();
            late.await
        });
        assert_eq!((late.code, bytes(&late.out)), (0, LEN), "{}", late.err);
    }
}

#[test]
fn a_stream_of_a_guest_pends_while_its_other_calls_go_on() {
    let guest = Compiled::new("streams", World::P3);
    let far = Far::new(&noise(LEN));
    let fs = Fs::new(&far_image(&far));
    far.leave();
    let done = on_one_thread(async {
        let run = guest.run_on_poller(&fs, &["beside", "/dir/far", "/dir/near"]);
        let mut run = pin!(run);
        // The guest's last call before it waits for the stream.
        while fs.metadata("/meanwhile").is_err() {
            let polled = poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx))).await;
            if let Poll::Ready(done) = polled {
                return done;
            }
            yield_now().await;
        }
        assert_eq!(far.asked(), 1);
        far.come();
        run.await
    });
    let want =
        format!("the stream is pending: true\nmeanwhile: 4 bytes\nthen: {LEN} bytes Ok(())\n");
    assert_eq!((done.code, done.out), (0, want), "{}", done.err);
}

#[test]
fn a_guest_that_is_given_up_while_it_waits_leaves_nothing() {
    for world in [World::P1, World::P2] {
        let guest = Compiled::new("read_through", world);
        let far = Far::new(&noise(LEN));
        let fs = Fs::new(&far_image(&far));
        far.leave();
        on_one_thread(async {
            let mut run = Box::pin(guest.run_on_poller(&fs, &["/dir/far", "65536"]));
            while far.asked() == 0 {
                let polled = poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx))).await;
                assert!(polled.is_pending());
                yield_now().await;
            }
            drop(run);
        });
        assert_eq!(fs.usage().open, 0, "descriptors left open");
        far.come();
        assert_eq!(fs.read("/dir/far").unwrap(), noise(LEN));
    }
}
