//! How a build shows on stderr how far it is.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use crate::build_args::ProgressKind;
use crate::failure::complain;

/// Shows steps as they begin and end; those of several stages at a time.
pub(super) struct BuildProgress {
    kind: Option<ProgressKind>,
    bar: Option<ProgressBar>,
    total: usize,
    /// Held while lines that belong together are written.
    lines: Mutex<()>,
}

/// A step that goes on.
pub(super) struct StepRun {
    number: usize,
    start: Instant,
}

impl BuildProgress {
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
            lines: Mutex::new(()),
        }
    }

    /// A step begins: the `number`th of the plan.
    pub(super) fn begin(&self, number: usize, stage: &str, text: &str) -> StepRun {
        let line = format!("[{stage}] {text}");
        match &self.bar {
            Some(bar) => {
                bar.set_message(crate::failure::printable(&line).replace('\n', " "));
                bar.inc(1);
            }
            None => self.line(&format!("#{number} of {}: {line}", self.total)),
        }
        StepRun {
            number,
            start: Instant::now(),
        }
    }

    /// Says something of a step, all lines of it together.
    pub(super) fn say(&self, step: &StepRun, text: &str) {
        let lines = text.lines().map(|line| format!("#{} {line}", step.number));
        let lines: Vec<String> = lines.collect();
        if lines.is_empty() {
            return;
        }
        let lines = lines.join("\n");
        match &self.bar {
            Some(bar) => bar.suspend(|| complain(&lines)),
            None => self.line(&lines),
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

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, line: &str) {
        if self.kind.is_some() {
            let _together = self.lines.lock();
            complain(line);
        }
    }
}
