//! The stages of a plan, each on a thread of its own as far as there are cores.

use std::num::NonZeroUsize;
use std::process;
use std::thread;
use std::time::Duration;

use stratafs::image::HistoryEntry;
use stratafs::staged;

use super::Builder;
use super::built::Built;
use super::finish::{self, StepReport};
use super::origins::Origin;
use super::planner::BuildPlan;
use super::progress::BuildProgress;
use super::schedule::Schedule;
use super::steps::StagePlan;
use crate::failure::{Failure, say};

/// How long the other stages have to end a step once one has failed.
const GRACE: Duration = Duration::from_secs(3);

/// Bytes of stack of a thread that builds: what the first thread of a process has.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// What came of a stage: its number, and what is told of its steps.
type StageDone = (usize, Result<Vec<StepReport>, Failure>);

impl Builder<'_> {
    /// Builds all stages of a plan. What is told of steps is in the order of the recipe.
    pub(super) fn stages(&self, plan: &BuildPlan) -> Result<Vec<StepReport>, Failure> {
        let steps = |stage: &StagePlan| stage.steps.len() + 1;
        let progress = BuildProgress::new(
            self.settings.progress,
            plan.stages.values().map(steps).sum(),
        );
        let schedule = Schedule::new(plan);
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let work = || {
            let mut all: Vec<StageDone> = Vec::new();
            while let Some(number) = schedule.next() {
                let done = self.numbered_stage(plan, number, (&progress, &schedule));
                schedule.ended(number, done.is_ok());
                all.push((number, done));
            }
            all
        };
        let workers = cores.min(schedule.len());
        let mut done = match workers {
            0 | 1 => work(),
            _ => thread::scope(|scope| {
                let workers = (0..workers).map(|_| {
                    let builder = thread::Builder::new().stack_size(STACK_BYTES);
                    builder.spawn_scoped(scope, work)
                });
                let workers: Vec<_> = workers.collect::<Result<_, _>>()?;
                if !schedule.wait(GRACE) {
                    self.leave(&progress);
                }
                let all = workers.into_iter().map(thread::ScopedJoinHandle::join);
                let all = all.collect::<Result<Vec<_>, _>>();
                let all = all.map_err(|_| Failure::new("a thread that built a stage panicked"))?;
                Ok::<_, Failure>(all.into_iter().flatten().collect())
            })?,
        };
        progress.finish();
        done.sort_by_key(|(number, _)| *number);
        let reports = done.into_iter().map(|(_, reports)| reports);
        let reports: Vec<Vec<StepReport>> = reports.collect::<Result<_, _>>()?;
        Ok(reports.into_iter().flatten().collect())
    }

    /// Ends the program though a stage is still at a step: a guest may go on for hours, and
    /// nothing is to come of it.
    fn leave(&self, progress: &BuildProgress) {
        progress.finish();
        if let Some(failure) = self.failure.lock().take() {
            say(failure.message());
        }
        staged::abandon_all();
        process::exit(1);
    }

    fn numbered_stage(
        &self,
        plan: &BuildPlan,
        number: usize,
        (progress, schedule): (&BuildProgress, &Schedule),
    ) -> Result<Vec<StepReport>, Failure> {
        let Some(stage) = plan.stages.get(&number) else {
            return Ok(Vec::new());
        };
        let before = plan.stages.range(..number);
        let before: usize = before.map(|(_, stage)| stage.steps.len() + 1).sum();
        let mut reports = Vec::with_capacity(stage.steps.len() + 1);
        let built = self.one_stage(stage, before, (progress, schedule), &mut reports);
        let built = built.inspect_err(|failure| {
            self.failure
                .lock()
                .get_or_insert_with(|| Failure::new(failure.message()));
        })?;
        // Nobody else builds this one.
        if let (Some(built), Some(place)) = (built, self.built.get(&number)) {
            drop(place.set(built));
        }
        Ok(reports)
    }

    /// Builds a stage: `None` if it was given up because another one failed.
    fn one_stage(
        &self,
        plan: &StagePlan,
        before: usize,
        (progress, schedule): (&BuildProgress, &Schedule),
        reports: &mut Vec<StepReport>,
    ) -> Result<Option<Built>, Failure> {
        let step = progress.begin(before + 1, &plan.title, &plan.text);
        let mut built = match &plan.base {
            Origin::Stage(number) => self.stage(*number)?.clone(),
            Origin::Image(image) => Built::on(image),
            Origin::Scratch | Origin::Context | Origin::Dir(_) => Built::default(),
        };
        let took = progress.end(&step, true);
        reports.push(StepReport::of_base(plan, took));
        for (at, step) in plan.steps.iter().enumerate() {
            if schedule.has_failed() {
                return Ok(None);
            }
            let shown = progress.begin(before + at + 2, &plan.title, &step.text);
            let say = |text: &str| progress.say(&shown, text);
            let done = self.step(&built, step, &say);
            let done = done.map_err(|failure| self.at(step.at, &failure))?;
            if let Some(why) = done.as_ref().and_then(|done| done.why.as_ref()) {
                progress.say(&shown, why);
            }
            let cached = done.as_ref().is_none_or(|done| done.cached);
            let took = progress.end(&shown, cached);
            reports.push(StepReport::of(plan, step, done.as_ref(), took));
            let layer = done.and_then(|done| done.layer);
            let mut history = HistoryEntry::by(&step.said);
            history.created = Some(finish::rfc3339(self.settings.epoch));
            history.empty_layer = layer.is_none();
            built.history.push(history);
            if let Some(layer) = layer {
                built.push(layer);
            }
        }
        Ok(Some(built))
    }
}
