//! The interleaved run: in each turn every way adds some instances.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use stratafs::image::Image;
use stratafs::runner::{InstanceReport, RunPlan, Runner, Stdio};
use stratafs::vfs::Fs;

use super::as_nanos;
use super::ways::{InstanceFiles, Way, Ways};
use super::work::WorkDir;
use crate::failure::Failure;
use crate::report::{Absent, Growth, Summary, WayFigures, bytes, settled_bytes};
use crate::watch::FirstWords;

/// Turns at the most: points of the curves.
const MOST_TURNS: u32 = 16;

/// How far a way may go.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) instances: u32,
    /// For all instances of one way.
    pub(super) budget: Duration,
    /// Bytes of files outside this process, for one way.
    pub(super) room: u64,
}

impl Limits {
    pub(super) fn turns(self) -> u32 {
        self.instances.clamp(1, MOST_TURNS)
    }
}

/// Everything a turn needs.
pub(super) struct TurnContext<'a> {
    runner: &'a Runner,
    image: &'a Image,
    plan: &'a RunPlan,
    work: &'a WorkDir,
    limits: Limits,
}

/// A way on its course.
struct Course {
    way: Way,
    set_up_ns: u64,
    samples: Vec<Sample>,
    failed: u64,
    words: Arc<FirstWords>,
    /// Files of instances that have run; file systems first, since a mount
    /// and a directory outlive this process if nobody takes them away.
    file_systems: Vec<Fs>,
    kept: Vec<InstanceFiles>,
    growth: Vec<Growth>,
    memory: Option<i64>,
    files: u64,
    spent: Duration,
    stopped: Option<String>,
}

struct Sample {
    prepare_ns: u64,
    start_ns: u64,
    /// Of a guest that exited with 0.
    run_ns: Option<u64>,
}

impl<'a> TurnContext<'a> {
    pub(super) fn new(
        runner: &'a Runner,
        image: &'a Image,
        plan: &'a RunPlan,
        work: &'a WorkDir,
        limits: Limits,
    ) -> Self {
        Self {
            runner,
            image,
            plan,
            work,
            limits,
        }
    }

    /// Runs all turns, then takes everything away again.
    pub(super) fn run(&self, ways: Ways) -> Result<(Vec<WayFigures>, Vec<Absent>), Failure> {
        let mut courses: Vec<_> = ways.ready.into_iter().map(Course::new).collect();
        let bar = progress(u64::from(self.limits.instances) * courses.len() as u64);
        let turns = self.limits.turns();
        for turn in 0..turns {
            // Each way comes first in some turn, so that none has the others'
            // leavings always.
            let lead = turn as usize % courses.len().max(1);
            let (front, back) = courses.split_at_mut(lead);
            for course in back.iter_mut().chain(front) {
                self.turn(course, turn, &bar)?;
            }
        }
        bar.finish_and_clear();
        let figures: Result<_, _> = courses.into_iter().map(Course::end).collect();
        Ok((figures?, ways.absent))
    }

    /// Adds one way's share of a turn.
    fn turn(&self, course: &mut Course, turn: u32, bar: &ProgressBar) -> Result<(), Failure> {
        let all = u64::from(self.limits.instances);
        let (turn, turns) = (u64::from(turn), u64::from(self.limits.turns()));
        let share = all * turn / turns..all * (turn + 1) / turns;
        if course.stopped.is_some() {
            bar.inc(share.end - share.start);
            return Ok(());
        }
        let before = settled_bytes();
        let (from, kept) = (course.samples.len(), course.kept.len());
        for number in share {
            if course.stopped.is_none() {
                self.add(course, u32::try_from(number).unwrap_or(u32::MAX))?;
                course.check(self.limits);
            }
            bar.inc(1);
        }
        course.note(from, kept, before)
    }

    /// Makes the files of one more instance and runs it.
    fn add(&self, course: &mut Course, number: u32) -> Result<(), Failure> {
        let mut plan = self.plan.clone();
        plan.stdio = Stdio::Collect(course.words.clone());
        plan.first_instance = number;
        plan.keep_file_systems = true;
        let begin = Instant::now();
        let (plan, kept) = match course.way.prepare(self.work, number, &plan) {
            Ok(prepared) => prepared,
            Err(error) => {
                course.stopped = Some(format!("then: {error}"));
                return Ok(());
            }
        };
        let prepared = as_nanos(begin.elapsed());
        course.kept.push(kept);
        let mut report = self.runner.run(self.image, &plan)?;
        course.spent += begin.elapsed();
        if course.way == Way::Strata {
            course.file_systems.append(&mut report.file_systems);
        }
        course.failed += report.failed().count() as u64;
        let samples = report.instances.iter();
        course
            .samples
            .extend(samples.map(|one| Sample::new(course.way, prepared, one)));
        Ok(())
    }
}

impl Sample {
    fn new(way: Way, prepared: u64, one: &InstanceReport) -> Self {
        let run_ns = one.outcome.is_success().then_some(one.run_ns);
        match way {
            Way::Strata => Self {
                prepare_ns: one.fs_create_ns,
                start_ns: one.start_ns,
                run_ns,
            },
            Way::Copied | Way::Mounted | Way::Shared | Way::Nothing => Self {
                prepare_ns: prepared,
                start_ns: prepared.saturating_add(one.start_ns),
                run_ns,
            },
        }
    }
}

impl Course {
    fn new((way, set_up_ns): (Way, u64)) -> Self {
        Self {
            way,
            set_up_ns,
            samples: Vec::new(),
            failed: 0,
            words: Arc::default(),
            file_systems: Vec::new(),
            kept: Vec::new(),
            growth: Vec::new(),
            memory: Some(0),
            files: 0,
            spent: Duration::ZERO,
            stopped: None,
        }
    }

    /// Stops a way that would take too long or fill the disk.
    fn check(&mut self, limits: Limits) {
        if self.spent > limits.budget {
            let seconds = limits.budget.as_secs_f64();
            self.stopped = Some(format!("then its budget of {seconds} s was spent"));
        } else if self.files > limits.room {
            let room = bytes(limits.room);
            self.stopped = Some(format!("then its files took more than {room}"));
        }
    }

    /// Notes how things stand after a turn that began with these counts.
    fn note(&mut self, from: usize, kept: usize, before: Option<u64>) -> Result<(), Failure> {
        let grown = |before: u64, after: u64| after.cast_signed() - before.cast_signed();
        let after = settled_bytes();
        self.memory = match (self.memory, before, after) {
            (Some(sum), Some(before), Some(after)) => Some(sum + grown(before, after)),
            _ => None,
        };
        for kept in self.kept.iter().skip(kept) {
            self.files += kept.files_bytes().map_err(|error| self.failure(error))?;
        }
        let turn = self.samples.iter().skip(from);
        let start = Summary::of(turn.map(|sample| sample.start_ns)).median;
        if self.samples.len() > from {
            self.growth.push(Growth::new(
                self.samples.len() as u64,
                start,
                self.memory.map(|sum| u64::try_from(sum).unwrap_or(0)),
                self.files,
            ));
        }
        Ok(())
    }

    /// Takes everything away and sums up.
    fn end(mut self) -> Result<WayFigures, Failure> {
        let mut drops = Vec::with_capacity(self.samples.len());
        for fs in std::mem::take(&mut self.file_systems) {
            let begin = Instant::now();
            drop(fs);
            drops.push(as_nanos(begin.elapsed()));
        }
        let timed = self.way != Way::Strata;
        for kept in std::mem::take(&mut self.kept) {
            let begin = Instant::now();
            kept.remove().map_err(|error| self.failure(error))?;
            if timed {
                drops.push(as_nanos(begin.elapsed()));
            }
        }
        let samples = &self.samples;
        let starts: Vec<_> = samples.iter().map(|sample| sample.start_ns).collect();
        Ok(WayFigures {
            name: self.way.name(),
            what: self.way.what(),
            files: self.way.files(),
            instances: samples.len() as u64,
            failed: self.failed,
            complaint: self
                .words
                .take()
                .lines()
                .next_back()
                .unwrap_or_default()
                .to_owned(),
            stopped: self.stopped,
            set_up_ns: self.set_up_ns,
            prepare_ns: Summary::of(samples.iter().map(|sample| sample.prepare_ns)),
            start_ns: Summary::of(starts.iter().copied()),
            run_ns: Summary::of(samples.iter().filter_map(|sample| sample.run_ns)),
            drop_ns: Summary::of(drops),
            growth: self.growth,
            start_samples_ns: starts,
        })
    }

    fn failure(&self, error: io::Error) -> Failure {
        Failure::new(format_args!("{}: {error}", self.way.name()))
    }
}

fn progress(instances: u64) -> ProgressBar {
    let bar = ProgressBar::new(instances);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} instances, {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
