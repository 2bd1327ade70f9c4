//! Bodies on their way between a client and a guest: counted, bounded, and timed.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use super::record::RequestRecord;
use crate::limits::{MAX_EARLY_ANSWER_BYTES, MAX_EARLY_BODY_BYTES};

/// How often whoever reads a connection is let go on before what has come is all there is.
const PAUSES: u32 = 3;

/// What a client sends.
pub(super) struct Received {
    early: VecDeque<Frame<Bytes>>,
    rest: Option<Incoming>,
    max: u64,
    left: u64,
    patience: Duration,
    /// When a client is too slow that is waited for.
    deadline: Pin<Box<Sleep>>,
    is_waiting: bool,
    record: Arc<RequestRecord>,
}

/// Why a body is not taken.
#[derive(Clone, Copy)]
pub(super) enum BodyFault {
    TooSlow,
    Broken,
    TooLarge,
}

impl Received {
    pub(super) fn new(
        body: Incoming,
        max: u64,
        patience: Duration,
        record: &Arc<RequestRecord>,
    ) -> Self {
        Self {
            early: VecDeque::new(),
            rest: Some(body),
            max,
            left: max,
            patience,
            deadline: Box::pin(tokio::time::sleep(patience)),
            is_waiting: false,
            record: Arc::clone(record),
        }
    }

    /// Takes a small body before a guest is started for it: one whose length is known, or what
    /// has come of another already.
    pub(super) async fn take_early(&mut self) -> Result<(), BodyFault> {
        let Some(body) = &mut self.rest else {
            return Ok(());
        };
        match body.size_hint().exact() {
            None => return self.take_ready().await,
            Some(length) if length > MAX_EARLY_BODY_BYTES as u64 => return Ok(()),
            Some(_) => {}
        }
        let deadline = Instant::now() + self.patience;
        loop {
            let frame = tokio::time::timeout_at(deadline, body.frame()).await;
            match frame.map_err(|_| BodyFault::TooSlow)? {
                None => break,
                Some(Err(_)) => return Err(BodyFault::Broken),
                Some(Ok(frame)) => self.early.push_back(frame),
            }
        }
        self.rest = None;
        Ok(())
    }

    /// Takes what is there of a body of unknown length, and waits for no more. What comes with
    /// the head and is malformed, or too much, is found out while there is no answer yet.
    async fn take_ready(&mut self) -> Result<(), BodyFault> {
        let (mut bytes, mut pauses) = (0, 0);
        while bytes < MAX_EARLY_BODY_BYTES
            && let Some(body) = &mut self.rest
        {
            let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut *body).poll_frame(cx)));
            match polled.await {
                // Who reads the connection does so in this very task, once it is asked to.
                Poll::Pending if pauses < PAUSES => {
                    pauses += 1;
                    tokio::task::yield_now().await;
                }
                Poll::Pending => break,
                Poll::Ready(None) => self.rest = None,
                Poll::Ready(Some(Err(_))) => return Err(BodyFault::Broken),
                Poll::Ready(Some(Ok(frame))) => {
                    bytes += frame.data_ref().map_or(0, Bytes::len);
                    self.early.push_back(frame);
                }
            }
        }
        match bytes as u64 > self.max {
            true => Err(BodyFault::TooLarge),
            false => Ok(()),
        }
    }

    /// The guest waits for the client, or does so no more.
    fn waits(&mut self, waits: bool) {
        if self.is_waiting != waits {
            self.is_waiting = waits;
            self.record.awaits_body(waits);
        }
    }

    /// Counts what is passed on, and refuses what is too much.
    fn count(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Error> {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        self.record.received(bytes);
        match self.left.checked_sub(bytes as u64) {
            Some(left) => {
                self.left = left;
                Ok(frame)
            }
            None => {
                self.rest = None;
                self.record.broke(BodyFault::TooLarge);
                Err(Error::HttpRequestBodySize(Some(self.max)))
            }
        }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.waits(false);
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(frame) = self.early.pop_front() {
            return Poll::Ready(Some(self.count(frame)));
        }
        let Some(body) = &mut self.rest else {
            return Poll::Ready(None);
        };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.waits(false);
                Poll::Ready(match frame {
                    None => None,
                    Some(Ok(frame)) => Some(self.count(frame)),
                    Some(Err(error)) => {
                        self.record.broke(BodyFault::Broken);
                        Some(Err(error.into()))
                    }
                })
            }
            Poll::Pending => {
                if !self.is_waiting {
                    self.waits(true);
                    let deadline = Instant::now() + self.patience;
                    self.deadline.as_mut().reset(deadline);
                }
                if self.deadline.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.rest = None;
                self.waits(false);
                self.record.broke(BodyFault::TooSlow);
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let early = self.early.iter().filter_map(Frame::data_ref);
        let early: u64 = early.map(|bytes| bytes.len() as u64).sum();
        let rest = self.rest.as_ref().and_then(|rest| rest.size_hint().exact());
        match (&self.rest, rest) {
            (None, _) => SizeHint::with_exact(early),
            (Some(_), Some(rest)) => SizeHint::with_exact(early + rest),
            (Some(_), None) => SizeHint::default(),
        }
    }
}

/// The first parts of the body of an answer, which were there with its head.
#[derive(Default)]
pub(super) struct Parts {
    frames: VecDeque<Frame<Bytes>>,
    bytes: usize,
    /// Nothing follows, for good or because of an error.
    end: Option<Result<(), Error>>,
}

impl Parts {
    /// Takes what there is of a body, if it is little.
    pub(super) fn take(&mut self, body: &mut WasiBody, cx: &mut Context<'_>) {
        while self.end.is_none() && self.bytes < MAX_EARLY_ANSWER_BYTES {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => return,
                Poll::Ready(None) => self.end = Some(Ok(())),
                Poll::Ready(Some(Err(error))) => self.end = Some(Err(error)),
                Poll::Ready(Some(Ok(frame))) => {
                    self.bytes += frame.data_ref().map_or(0, Bytes::len);
                    self.frames.push_back(frame);
                }
            }
        }
    }

    fn poll(
        &mut self,
        body: &mut WasiBody,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(frame) = self.frames.pop_front() {
            self.bytes -= frame.data_ref().map_or(0, Bytes::len);
            return Poll::Ready(Some(Ok(frame)));
        }
        match self.end.take() {
            None => Pin::new(body).poll_frame(cx),
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
        }
    }

    /// Adds to what a body says of its rest.
    fn and_more(&self, rest: &SizeHint) -> SizeHint {
        let (bytes, mut hint) = (self.bytes as u64, SizeHint::new());
        hint.set_lower(rest.lower().saturating_add(bytes));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(bytes)) {
            hint.set_upper(upper);
        }
        hint
    }

    /// Returns how much there is, if that is all and nothing but bytes.
    fn whole(&self) -> Option<u64> {
        let is_whole = matches!(self.end, Some(Ok(()))) && self.frames.iter().all(Frame::is_data);
        is_whole.then_some(self.bytes as u64)
    }
}

/// What a client is answered with.
pub(super) struct Answer {
    kind: Kind,
    /// What the head says the length is.
    expected: Option<u64>,
    record: Arc<RequestRecord>,
}

enum Kind {
    /// A few words of the server's own.
    Words(Option<Bytes>),
    /// What the guest wrote first, and what it writes.
    Guest(Parts, WasiBody),
    /// Nothing more.
    Over,
}

/// An answer that its guest did not finish.
#[derive(Debug)]
pub(super) struct Unfinished;

impl std::fmt::Display for Unfinished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the guest did not finish its answer")
    }
}

impl std::error::Error for Unfinished {}

impl Answer {
    pub(super) fn words(text: String, record: Arc<RequestRecord>) -> Self {
        Self {
            kind: Kind::Words(Some(text.into())),
            expected: None,
            record,
        }
    }

    /// `expected` is the length that the head gives, 0 where there is to be no body.
    pub(super) fn guest(
        body: WasiBody,
        first: Parts,
        expected: Option<u64>,
        record: Arc<RequestRecord>,
    ) -> Self {
        Self {
            kind: Kind::Guest(first, body),
            expected,
            record,
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Unfinished;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        let this = &mut *self;
        let (first, body) = match &mut this.kind {
            Kind::Words(words) => {
                let words = words.take().map(|bytes| {
                    this.record.hand(bytes.len());
                    Ok(Frame::data(bytes))
                });
                return Poll::Ready(words);
            }
            Kind::Over => return Poll::Ready(None),
            Kind::Guest(first, body) => (first, body),
        };
        this.record.took();
        let frame = match first.poll(body, cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(frame) => frame,
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                this.record.hand(frame.data_ref().map_or(0, Bytes::len));
                Some(Ok(frame))
            }
            Some(Err(_)) => {
                this.kind = Kind::Over;
                Some(Err(Unfinished))
            }
            None => {
                this.kind = Kind::Over;
                // A guest that was stopped in the middle has not written all.
                this.record.has_failed().then_some(Err(Unfinished))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Words(words) => words.is_none(),
            // A guest that failed has to be told of.
            Kind::Guest(first, body) => {
                first.frames.is_empty() && first.end.is_none() && body.is_end_stream()
            }
            Kind::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Words(Some(words)) => SizeHint::with_exact(words.len() as u64),
            Kind::Guest(first, body) => match first.whole() {
                Some(bytes) if !self.record.has_failed() => SizeHint::with_exact(bytes),
                Some(_) => SizeHint::default(),
                None => first.and_more(&body.size_hint()),
            },
            Kind::Words(None) | Kind::Over => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let sent = self.record.took();
        let is_whole = self.expected.is_some_and(|expected| sent >= expected);
        if matches!(self.kind, Kind::Guest(..)) && !is_whole {
            self.record.abandoned.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// So many frames of 8 KiB, which are there at once.
    struct Frames(usize);

    impl Body for Frames {
        type Data = Bytes;
        type Error = Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
            let left = self.0.checked_sub(1);
            self.0 = left.unwrap_or(0);
            Poll::Ready(left.map(|_| Ok(Frame::data(Bytes::from(vec![b'x'; 8192])))))
        }
    }

    fn taken(frames: usize) -> (Parts, WasiBody) {
        let (mut parts, mut body) = (Parts::default(), Frames(frames).boxed_unsync());
        parts.take(&mut body, &mut Context::from_waker(Waker::noop()));
        (parts, body)
    }

    #[test]
    fn the_first_parts_of_an_answer_have_a_bound() {
        for (frames, early) in [(0, 0), (1, 1), (2, 2), (3, 2), (9, 2)] {
            let (mut parts, mut body) = taken(frames);
            assert_eq!(parts.bytes, early * 8192, "{frames} frames");
            assert_eq!(parts.frames.len(), early);
            let whole = (early * 8192 < MAX_EARLY_ANSWER_BYTES).then_some(early as u64 * 8192);
            assert_eq!(parts.whole(), whole, "{frames} frames");
            // All of it comes in order, and its end once.
            let mut cx = Context::from_waker(Waker::noop());
            let mut count = 0;
            while let Poll::Ready(Some(frame)) = parts.poll(&mut body, &mut cx) {
                count += frame.unwrap().into_data().unwrap().len();
            }
            assert_eq!(count, frames * 8192);
        }
    }
}
