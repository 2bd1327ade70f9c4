//! What the command line does while guests run.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use stratafs::runner::{InstanceReport, OutputSink, Stream, Watch};
use stratafs::vfs::Fs;

use super::failure::Failure;
use crate::report::{Resident, peak_bytes, reset_peak, resident_bytes};

/// Passes on what many instances write.
#[derive(Default)]
pub(super) struct Terminal {
    /// The first error of stdout or stderr.
    error: Mutex<Option<io::Error>>,
}

impl OutputSink for Terminal {
    fn write(&self, _: u32, stream: Stream, bytes: &[u8]) {
        let mut error = self.error.lock();
        if error.is_some() {
            return;
        }
        let written = match stream {
            Stream::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes).and_then(|()| stdout.flush())
            }
            Stream::Stderr => io::stderr().lock().write_all(bytes),
        };
        *error = written.err();
    }
}

impl Terminal {
    /// Returns the first error, if there was one.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match self.error.lock().take() {
            None => Ok(()),
            Some(error) => Err(Failure::new(format_args!(
                "output of the instances: {error}"
            ))),
        }
    }
}

/// Keeps what the first instance that wrote to stderr said.
#[derive(Default)]
pub(super) struct FirstWords(Mutex<String>);

impl OutputSink for FirstWords {
    fn write(&self, _: u32, stream: Stream, bytes: &[u8]) {
        let mut words = self.0.lock();
        if stream == Stream::Stderr && words.is_empty() {
            *words = String::from_utf8_lossy(bytes).into_owned();
        }
    }
}

impl FirstWords {
    pub(super) fn take(&self) -> String {
        std::mem::take(&mut self.0.lock())
    }
}

/// Notes resident memory around a run.
pub(super) struct Memory {
    before: Option<u64>,
    /// 0: not known.
    after_create: AtomicU64,
}

impl Memory {
    pub(super) fn start() -> Self {
        reset_peak();
        Self {
            before: resident_bytes(),
            after_create: AtomicU64::new(0),
        }
    }

    pub(super) fn end(&self) -> Resident {
        let after_create = self.after_create.load(Ordering::Relaxed);
        Resident {
            before: self.before,
            after_create: (after_create > 0).then_some(after_create),
            peak: peak_bytes(),
        }
    }
}

impl Watch for Memory {
    fn created(&self) {
        self.after_create
            .store(resident_bytes().unwrap_or(0), Ordering::Relaxed);
    }
}

/// Shows a bar on stderr while it runs; nothing where that is no terminal.
pub(super) struct RunProgress {
    memory: Memory,
    bar: ProgressBar,
}

impl RunProgress {
    pub(super) fn start(instances: u64) -> Self {
        let bar = ProgressBar::new(instances);
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} instances, {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self {
            memory: Memory::start(),
            bar,
        }
    }

    pub(super) fn end(&self) -> Resident {
        self.bar.finish_and_clear();
        self.memory.end()
    }
}

impl Watch for RunProgress {
    fn created(&self) {
        self.memory.created();
    }

    fn finished(&self, _: &InstanceReport, _: &Fs) {
        self.bar.inc(1);
    }
}

/// Shows on a terminal how far an import or export has come.
pub(super) struct MovingBar(ProgressBar);

impl MovingBar {
    pub(super) fn start() -> Self {
        // A bar that is drawn on stderr hides itself where that is no terminal.
        let bar = ProgressBar::no_length();
        let style = ProgressStyle::with_template("{spinner} {bytes} read, {bytes_per_sec} {msg}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self(bar)
    }

    pub(super) fn watcher(&self) -> stratafs::store::Watcher {
        let bar = self.0.clone();
        std::sync::Arc::new(move |progress| {
            bar.set_position(progress.bytes);
            // An export brings nothing new.
            if progress.chunks > 0 {
                let new = crate::report::bytes(progress.new_bytes);
                bar.set_message(format!("({new} new)"));
            }
        })
    }

    pub(super) fn end(self) {
        self.0.finish_and_clear();
    }
}

/// Shows on a terminal how far transfers from and to registries have come.
pub(super) struct TransferBar(ProgressBar);

impl TransferBar {
    pub(super) fn start() -> Self {
        let bar = ProgressBar::new(0);
        let style =
            ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self(bar)
    }

    pub(super) fn watcher(&self) -> stratafs::transfer::MovedWatcher {
        let bar = self.0.clone();
        std::sync::Arc::new(move |moving| {
            bar.set_length(moving.of);
            bar.set_position(moving.bytes);
        })
    }

    pub(super) fn end(self) {
        self.0.finish_and_clear();
    }
}
