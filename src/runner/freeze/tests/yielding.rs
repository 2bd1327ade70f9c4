//! Guests that are frozen where they first yield, twice, and what goes on from there.

use super::*;
use crate::chunk::ChunkPool;
use crate::vfs::Fs;

/// An image of what `make` makes.
pub(super) fn image_with(make: impl FnOnce(&Fs)) -> Image {
    let fs = Fs::new(&Image::empty());
    make(&fs);
    let layer = fs.diff(&ChunkPool::new()).unwrap();
    Image::new(&[layer]).unwrap()
}

/// Freezes a guest where it first yields, opens that as it lies in an image, and freezes what goes
/// on from there at the same call once more.
pub(super) fn two_generations(guest: &Guest, image: &Image, shown: &RunPlan) -> [Checkpoint; 2] {
    let (config, point) = (
        RunnerConfig::default(),
        "call:sched_yield:1".parse().unwrap(),
    );
    let checkpoint = |frozen: Result<Freezing, FreezeError>| match frozen.unwrap() {
        Freezing::Frozen(checkpoint) => checkpoint,
        Freezing::Ended(outcome) => panic!("{outcome}"),
    };
    let first = checkpoint(freeze(guest, image, shown, &config, &point));
    let tree = first.to_fs().unwrap().tree("/", &ChunkPool::new());
    let kept = Image::new(&[tree.unwrap()]).unwrap();
    let first = Checkpoint::open(&kept).unwrap().unwrap();
    let mut shown = shown.clone();
    shown.preopens = first.plan().preopens;
    let second = checkpoint(first.freeze(first.image(), &shown, &config, &point));
    [first, second]
}

/// Runs what goes on from both generations, each with the plan before, changed by `change`.
pub(super) fn go_on(
    (guest, image): (&Guest, &Image),
    (shown, written): (&RunPlan, &Mutex<Vec<u8>>),
    change: impl Fn(&mut RunPlan),
) -> Vec<Ran> {
    let generations = two_generations(guest, image, shown).into_iter();
    let ran = generations.map(|checkpoint| {
        written.lock().unwrap().clear();
        let mut plan = shown.clone();
        plan.preopens = checkpoint.plan().preopens;
        change(&mut plan);
        let runner = checkpoint.runner(RunnerConfig::default()).unwrap();
        let report = runner.run(checkpoint.image(), &plan).unwrap();
        ran(written, &report.instances[0].outcome)
    });
    ran.collect()
}
