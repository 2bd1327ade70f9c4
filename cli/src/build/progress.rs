//! How a build shows on stderr how far it is.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::build_args::ProgressKind;
use crate::failure::complain;

/// Shows steps as they begin and end.
pub(super) struct Progress {
    kind: Option<ProgressKind>,
    bar: Option<ProgressBar>,
    total: usize,
    done: usize,
}

/// A step that goes on.
pub(super) struct StepRun {
    number: usize,
    start: Instant,
}

impl Progress {
    pub(super) fn new(kind: Option<ProgressKind>, total: usize) -> Self {
        let bar = (kind == Some(ProgressKind::Tty)).then(|| {
            let bar = ProgressBar::new(total as u64);
            if let Ok(style) = ProgressStyle::with_template("[{pos}/{len}] {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self {
            kind,
            bar,
            total,
            done: 0,
        }
    }

    /// A step begins.
    pub(super) fn begin(&mut self, stage: &str, text: &str) -> StepRun {
        self.done += 1;
        let line = format!("[{stage}] {text}");
        match &self.bar {
            Some(bar) => {
                bar.set_message(crate::failure::printable(&line).replace('\n', " "));
                bar.set_position(self.done as u64);
            }
            None => self.line(&format!("#{} of {}: {line}", self.done, self.total)),
        }
        StepRun {
            number: self.done,
            start: Instant::now(),
        }
    }

    /// Says something of a step.
    pub(super) fn say(&self, step: &StepRun, text: &str) {
        for line in text.lines() {
            let line = format!("#{} {line}", step.number);
            match &self.bar {
                Some(bar) => bar.suspend(|| complain(&line)),
                None => self.line(&line),
            }
        }
    }

    /// A step has ended. Says how long it took, and returns it.
    pub(super) fn end(&self, step: &StepRun, cached: bool) -> Duration {
        let took = step.start.elapsed();
        if self.bar.is_none() {
            match cached {
                true => self.line(&format!("#{} cached", step.number)),
                false => self.line(&format!(
                    "#{} done in {:.1} s",
                    step.number,
                    took.as_secs_f64()
                )),
            }
        }
        took
    }

    pub(super) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, line: &str) {
        if self.kind.is_some() {
            complain(line);
        }
    }
}
