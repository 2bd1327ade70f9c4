//! Bodies on their way between a client and a guest: counted, bounded, and timed.

use std::collections::VecDeque;
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

use super::record::Record;
use crate::limits::MAX_EARLY_BODY_BYTES;

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
    record: Arc<Record>,
}

/// Why a body is not taken.
pub(super) enum BodyFault {
    TooSlow,
    Broken,
}

impl Received {
    pub(super) fn new(body: Incoming, max: u64, patience: Duration, record: &Arc<Record>) -> Self {
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

    /// Takes a small body whose length is known before a guest is started for it.
    pub(super) async fn take_early(&mut self) -> Result<(), BodyFault> {
        let Some(body) = &mut self.rest else {
            return Ok(());
        };
        let length = body.size_hint().exact();
        if length.is_none_or(|length| length > MAX_EARLY_BODY_BYTES as u64) {
            return Ok(());
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
                Err(Error::HttpRequestBodySize(Some(self.max)))
            }
        }
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
                self.is_waiting = false;
                Poll::Ready(match frame {
                    None => None,
                    Some(Ok(frame)) => Some(self.count(frame)),
                    Some(Err(error)) => Some(Err(error.into())),
                })
            }
            Poll::Pending => {
                if !self.is_waiting {
                    self.is_waiting = true;
                    let deadline = Instant::now() + self.patience;
                    self.deadline.as_mut().reset(deadline);
                }
                if self.deadline.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.rest = None;
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

/// What a client is answered with.
pub(super) struct Answer {
    kind: Kind,
    /// What the head says the length is.
    expected: Option<u64>,
    record: Arc<Record>,
}

enum Kind {
    /// A few words of the server's own.
    Words(Option<Bytes>),
    /// What the guest writes.
    Guest(WasiBody),
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
    pub(super) fn words(text: String, record: Arc<Record>) -> Self {
        Self {
            kind: Kind::Words(Some(text.into())),
            expected: None,
            record,
        }
    }

    /// `expected` is the length that the head gives, 0 where there is to be no body.
    pub(super) fn guest(body: WasiBody, expected: Option<u64>, record: Arc<Record>) -> Self {
        Self {
            kind: Kind::Guest(body),
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
        let body = match &mut this.kind {
            Kind::Words(words) => {
                let words = words.take().map(|bytes| {
                    this.record.hand(bytes.len());
                    Ok(Frame::data(bytes))
                });
                return Poll::Ready(words);
            }
            Kind::Over => return Poll::Ready(None),
            Kind::Guest(body) => body,
        };
        this.record.took();
        let frame = match Pin::new(body).poll_frame(cx) {
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
            Kind::Guest(body) => body.is_end_stream(),
            Kind::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Words(Some(words)) => SizeHint::with_exact(words.len() as u64),
            Kind::Guest(body) => body.size_hint(),
            Kind::Words(None) | Kind::Over => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let sent = self.record.took();
        let is_whole = self.expected.is_some_and(|expected| sent >= expected);
        if matches!(self.kind, Kind::Guest(_)) && !is_whole {
            self.record.abandoned.notify_one();
        }
    }
}
