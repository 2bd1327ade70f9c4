//! Which stage is built when: side by side, as far as none waits for another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::origins::Origin;
use super::planner::BuildPlan;
use super::steps::{MountWhat, StagePlan, StepKind};

/// Hands stages out to those who build them.
pub(super) struct Schedule {
    state: Mutex<ScheduleState>,
    changed: Condvar,
}

struct ScheduleState {
    /// Stages that nobody has begun, with those that they wait for.
    waiting: BTreeMap<usize, BTreeSet<usize>>,
    running: usize,
    failed: bool,
}

impl Schedule {
    pub(super) fn new(plan: &BuildPlan) -> Self {
        let stages = plan.stages.iter();
        Self::of(
            stages
                .map(|(number, stage)| (*number, needs(stage)))
                .collect(),
        )
    }

    fn of(waiting: BTreeMap<usize, BTreeSet<usize>>) -> Self {
        Self {
            state: Mutex::new(ScheduleState {
                waiting,
                running: 0,
                failed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Returns how many stages there are at most at a time.
    pub(super) fn len(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Returns a stage that waits for none, the first in the recipe; `None` once there is none
    /// left or one has failed.
    pub(super) fn next(&self) -> Option<usize> {
        let mut state = self.state.lock();
        loop {
            if state.failed || state.waiting.is_empty() {
                return None;
            }
            let mut stages = state.waiting.iter();
            let ready = stages.find(|(_, needs)| needs.is_empty());
            if let Some(stage) = ready.map(|(stage, _)| *stage) {
                state.waiting.remove(&stage);
                state.running += 1;
                return Some(stage);
            }
            self.changed.wait(&mut state);
        }
    }

    /// A stage has been built, or has failed.
    pub(super) fn ended(&self, stage: usize, is_built: bool) {
        let mut state = self.state.lock();
        state.running -= 1;
        match is_built {
            true => state.waiting.values_mut().for_each(|needs| {
                needs.remove(&stage);
            }),
            false => state.failed = true,
        }
        self.changed.notify_all();
    }

    /// Returns whether a stage has failed: the others end after the step that they are at.
    pub(super) fn has_failed(&self) -> bool {
        self.state.lock().failed
    }

    /// Waits until nothing is left to do. Once a stage has failed the others have `grace` to end
    /// the step that they are at; returns whether they did.
    pub(super) fn wait(&self, grace: Duration) -> bool {
        let mut state = self.state.lock();
        let mut until: Option<Instant> = None;
        while state.running > 0 || (!state.failed && !state.waiting.is_empty()) {
            if state.failed && until.is_none() {
                until = Some(Instant::now() + grace);
            }
            match until {
                None => self.changed.wait(&mut state),
                Some(until) if self.changed.wait_until(&mut state, until).timed_out() => {
                    return state.running == 0;
                }
                Some(_) => {}
            }
        }
        true
    }
}

/// The stages that a stage takes something from.
fn needs(stage: &StagePlan) -> BTreeSet<usize> {
    let mut origins = vec![&stage.base];
    for step in &stage.steps {
        match &step.kind {
            StepKind::Config | StepKind::Dir(..) => {}
            StepKind::Copy(copy) => origins.push(&copy.from),
            StepKind::Run(run) => {
                origins.extend(run.mounts.iter().filter_map(|mount| match &mount.what {
                    MountWhat::Bind { from, .. } => Some(from),
                    MountWhat::Cache { from, .. } => from.as_ref().map(|(from, _)| from),
                    MountWhat::Tmpfs { .. } | MountWhat::Secret { .. } => None,
                }))
            }
        }
    }
    let stages = origins.into_iter().filter_map(|origin| match origin {
        Origin::Stage(number) => Some(*number),
        _ => None,
    });
    stages.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(all: &[(usize, &[usize])]) -> Schedule {
        let all = all.iter();
        Schedule::of(
            all.map(|(stage, needs)| (*stage, needs.iter().copied().collect()))
                .collect(),
        )
    }

    #[test]
    fn a_stage_comes_after_those_that_it_needs() {
        let schedule = schedule(&[(0, &[]), (1, &[0]), (2, &[]), (4, &[1, 2])]);
        assert_eq!((schedule.next(), schedule.next()), (Some(0), Some(2)));
        schedule.ended(2, true);
        schedule.ended(0, true);
        assert_eq!(schedule.next(), Some(1));
        std::thread::scope(|scope| {
            let last = scope.spawn(|| schedule.next());
            schedule.ended(1, true);
            assert_eq!(last.join().unwrap(), Some(4));
        });
        assert_eq!(schedule.next(), None);
        schedule.ended(4, true);
        assert!(schedule.wait(Duration::ZERO));
    }

    #[test]
    fn a_failure_ends_the_others() {
        let schedule = schedule(&[(0, &[]), (1, &[]), (2, &[1])]);
        assert_eq!((schedule.next(), schedule.next()), (Some(0), Some(1)));
        schedule.ended(0, false);
        assert!(schedule.has_failed());
        assert_eq!(schedule.next(), None);
        // The other is still at a step.
        assert!(!schedule.wait(Duration::from_millis(1)));
        schedule.ended(1, true);
        assert!(schedule.wait(Duration::from_secs(60)));
    }
}
