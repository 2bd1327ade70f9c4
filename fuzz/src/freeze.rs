//! Programs that call an import in any place, frozen at one of these calls and again at a
//! later one, against the plain engine.

use std::sync::{Arc, Mutex};

use stratafs::image::Image;
use stratafs::runner::freeze::{Freezing, Point, freeze};
use stratafs::runner::{Guest, Outcome, OutputSink, RunPlan, Runner, RunnerConfig, Stdio, Stream};

use super::feed::Feed;
use super::generated::program;

/// How far apart the calls are that a program is frozen at.
const CALLS: usize = 60;

/// Makes a program of the bytes, freezes it at one of its calls, and what goes on from there
/// at one that follows: it must go on as it does when it is left alone.
pub fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let mut nth = || Point::Call {
        function: "sched_yield".to_owned(),
        nth: 1 + feed.below(CALLS) as u64,
    };
    let points = [nth(), nth()];
    let wat = program(&mut feed);
    let guest = Guest::from_bytes("generated", wat.as_str());
    let guest = guest.unwrap_or_else(|error| panic!("{error}\n{wat}"));
    let want = left_alone(&guest, &wat);
    let (plan, written) = plan();
    let outcome = in_parts(&guest, &points, &plan, &wat);
    assert_eq!(told(&written, &outcome), want, "{points:?}\n{wat}");
}

fn left_alone(guest: &Guest, wat: &str) -> (Vec<u8>, String) {
    let (plan, written) = plan();
    let runner = Runner::new(guest, config()).unwrap_or_else(|error| panic!("{error}\n{wat}"));
    let report = runner.run(&Image::empty(), &plan).expect("it runs");
    told(&written, &report.instances[0].outcome)
}

/// Runs a guest up to one point after the other, each time what goes on from the last one,
/// and then to its end.
fn in_parts(guest: &Guest, points: &[Point], plan: &RunPlan, wat: &str) -> Outcome {
    let Some((point, later)) = points.split_first() else {
        let runner = Runner::new(guest, config());
        let runner = runner.unwrap_or_else(|error| panic!("{error}\n{wat}"));
        let mut report = runner.run(&Image::empty(), plan).expect("it runs");
        return report.instances.remove(0).outcome;
    };
    let frozen = freeze(guest, &Image::empty(), plan, &config(), point);
    match frozen.unwrap_or_else(|error| panic!("{point}: {error}\n{wat}")) {
        Freezing::Ended(outcome) => outcome,
        Freezing::Frozen(checkpoint) => {
            // Nothing is open, so that the program is all that there is.
            let guest = Guest::from_bytes("generated", checkpoint.module().to_vec());
            let guest = guest.unwrap_or_else(|error| panic!("{point}: {error}\n{wat}"));
            in_parts(&guest, later, plan, wat)
        }
    }
}

fn config() -> RunnerConfig {
    RunnerConfig::default()
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl OutputSink for Sink {
    fn write(&self, _: u32, _: Stream, bytes: &[u8]) {
        self.0
            .lock()
            .expect("nobody panicked")
            .extend_from_slice(bytes);
    }
}

fn plan() -> (RunPlan, Arc<Mutex<Vec<u8>>>) {
    let written = Arc::<Mutex<Vec<u8>>>::default();
    let mut plan = RunPlan::default();
    plan.tell_number = false;
    plan.stdio = Stdio::Collect(Arc::new(Sink(Arc::clone(&written))));
    (plan, written)
}

fn told(written: &Mutex<Vec<u8>>, outcome: &Outcome) -> (Vec<u8>, String) {
    let written = written.lock().expect("nobody panicked").clone();
    (written, outcome.to_string())
}
