//! A guest that answers one request: its first steps in the task of its client, the rest in
//! one of its own.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use hyper::Response;
use stratafs::runner::Outcome;
use stratafs::vfs::seal_until;
use stratafs::wasmtime::Store;
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinHandle;
use wasmtime_wasi_http::WasiBody;

use super::body::Parts;
use super::call::{Call, GivenLater};
use super::files::Taken;
use super::in_flight::GuestSlot;
use super::proxy::Data;
use super::record::RequestRecord;
use super::server::Server;

/// How long a guest may take for its first steps.
const FIRST: Duration = Duration::from_millis(1);

/// How often it may go on by itself in that time.
const FIRST_STEPS: u32 = 16;

/// How a guest ended.
pub(super) enum Ended {
    /// It returned.
    Fine,
    /// It did not return in its time.
    TimedOut,
    /// Its client went away before.
    Abandoned,
    /// It trapped, or the host failed it.
    Failed(Outcome),
}

/// What a guest holds that has to be free before others go on.
pub(super) struct GuestPermits {
    _slot: GuestSlot,
    _turn: Option<OwnedMutexGuard<()>>,
}

impl GuestPermits {
    /// A slot, and the turn of its connection where requests have to follow each other.
    pub(super) fn new(slot: GuestSlot, turn: Option<OwnedMutexGuard<()>>) -> Self {
        Self {
            _slot: slot,
            _turn: turn,
        }
    }
}

/// A guest that answers one request.
pub(super) struct Guest {
    pub(super) server: Arc<Server>,
    pub(super) record: Arc<RequestRecord>,
    pub(super) store: Store<Data>,
    pub(super) taken: Taken,
    pub(super) held: GuestPermits,
}

/// A guest that has not made a step yet.
pub(super) struct Started {
    run: Pin<Box<dyn Future<Output = Ended> + Send>>,
    given: GivenLater,
}

/// What has come of a guest's first steps.
pub(super) struct First {
    /// What it gave, nothing if it ended without, or where to wait for that.
    pub(super) given: Result<Option<Result<Response<WasiBody>, String>>, GivenLater>,
    pub(super) parts: Parts,
    pub(super) end: End,
}

/// The end of a guest.
pub(super) enum End {
    Here(Ended),
    Later(JoinHandle<Ended>),
}

impl End {
    /// Waits for it. Returns nothing if the guest was left.
    pub(super) async fn wait(self) -> Option<Ended> {
        match self {
            Self::Here(ended) => Some(ended),
            Self::Later(task) => task.await.ok(),
        }
    }
}

impl Guest {
    pub(super) fn start(self, call: Call, given: GivenLater) -> Started {
        Started {
            run: Box::pin(self.run(call)),
            given,
        }
    }

    /// Runs it to its end, and lets all go that it had.
    async fn run(mut self, call: Call) -> Ended {
        let bounds = self.server.bounds;
        let now = Instant::now();
        // In files that are about to go nobody looks for equal blocks.
        let seal = match self.server.files.go_with_request() {
            true => now,
            false => now + bounds.timeout,
        };
        let ended = {
            let entry = &self.server.proxy.entry;
            let call = call.make(entry, &mut self.store, &self.record);
            let mut call = pin!(call);
            let ticks = &self.server.ticks;
            let sealed = poll_fn(|cx| seal_until(seal, || ticks.turn(|| call.as_mut().poll(cx))));
            tokio::select! {
                biased;
                result = tokio::time::timeout(bounds.timeout, sealed) => match result {
                    Err(_) => Ended::TimedOut,
                    Ok(Ok(())) => Ended::Fine,
                    Ok(Err(error)) => Ended::Failed(Outcome::of_error(&error)),
                },
                () = self.record.abandoned.notified() => Ended::Abandoned,
            }
        };
        self.record.ended(&ended, self.taken.fs.usage());
        if let Ended::Failed(outcome) = &ended {
            let number = self.record.number;
            let text = format!("[{number}] the guest failed: {outcome}");
            self.server.errors.push(&text);
        }
        let store = self.store;
        seal_until(seal, || drop(store));
        self.server.files.end(self.taken, self.record.number);
        self.record.over();
        drop(self.held);
        ended
    }
}

impl Started {
    /// Lets the guest go as far as it comes by itself in a moment, in this task: a short
    /// answer is there as a whole then, with no other thread woken for it. What is left of
    /// the guest goes on in a task of its own; all of it where its end takes longer.
    pub(super) async fn first_steps(self, ends_at_once: bool) -> First {
        let Self { mut run, mut given } = self;
        let mut parts = Parts::default();
        let (mut ended, mut answer) = (None, None);
        if ends_at_once {
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&woken));
            let begun = Instant::now();
            // In the context of a task, which is this one.
            poll_fn(|_| {
                let mut cx = Context::from_waker(&waker);
                for _ in 0..FIRST_STEPS {
                    if let Poll::Ready(how) = run.as_mut().poll(&mut cx) {
                        ended = Some(how);
                    }
                    answer = answer.take().or_else(|| given.try_recv().ok());
                    if let Some(Ok(response)) = &mut answer {
                        parts.take(response.body_mut(), &mut cx);
                    }
                    let goes_on = woken.0.swap(false, Ordering::Relaxed);
                    if ended.is_some() || !goes_on || begun.elapsed() > FIRST {
                        break;
                    }
                }
                Poll::Ready(())
            })
            .await;
        }
        let given = match (answer, &ended) {
            (None, None) => Err(given),
            (answer, _) => Ok(answer),
        };
        let end = match ended {
            Some(ended) => End::Here(ended),
            None => End::Later(tokio::spawn(run)),
        };
        First { given, parts, end }
    }
}

/// Whether somebody has something to go on with.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
