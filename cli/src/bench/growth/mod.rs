//! How costs grow with what there is: files, layers and depth of a base, changes
//! of an instance, size of a file, instances, threads, images in a store.
//!
//! For each of these all sizes are set up first and then take turns, so that
//! whatever else the machine does meets them alike.

mod base;
mod live;
mod stored;

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::as_nanos;
use crate::failure::Failure;
use crate::report::{Series, Summary};

/// How long one size works at a time.
const TURN: Duration = Duration::from_millis(2);

/// How often each size has its turn.
const TURNS: usize = 15;

/// One size of one piece of work, ready to be done again and again.
struct Case<'a> {
    n: u64,
    work: Box<dyn FnMut() -> Result<(), Failure> + 'a>,
}

impl<'a> Case<'a> {
    fn new<R>(n: u64, mut work: impl FnMut() -> Result<R, Failure> + 'a) -> Self {
        let work = move || work().map(|done| drop(black_box(done)));
        Self {
            n,
            work: Box::new(work),
        }
    }
}

/// Measures all of it, with at most `max` of each thing: up to a minute, half a
/// gigabyte of memory, and some megabytes in the system's directory for temporary
/// files.
pub(super) fn measure(max: u64) -> Result<Vec<Series>, Failure> {
    let mut all = base::files(max)?;
    all.extend(base::layers(max)?);
    all.extend(base::depth(max)?);
    all.extend(live::changed(max)?);
    all.extend(live::blocks(max)?);
    all.extend(live::merges(max)?);
    all.extend(live::instances(max)?);
    all.extend(live::threads(max)?);
    all.extend(stored::images(max)?);
    Ok(all)
}

/// Those of some sizes that are not above `max`.
fn up_to<const N: usize>(max: u64, sizes: [u32; N]) -> impl Iterator<Item = u32> {
    let fits = move |size: &u32| u64::from(*size) <= max;
    sizes.into_iter().filter(fits)
}

/// Lets the sizes of one piece of work take turns.
fn take_turns(
    of: &'static str,
    what: &'static str,
    mut cases: Vec<Case>,
) -> Result<Series, Failure> {
    let mut samples: Vec<Vec<u64>> = cases.iter().map(|_| Vec::new()).collect();
    // The first turn of each is a look at how long it takes.
    let mut times: Vec<u32> = Vec::new();
    for case in &mut cases {
        let once = timed(1, &mut case.work)?.max(1);
        let times_of = as_nanos(TURN) / once;
        times.push(u32::try_from(times_of.clamp(1, 100_000)).unwrap_or(1));
    }
    for _ in 0..TURNS {
        for ((case, samples), times) in cases.iter_mut().zip(&mut samples).zip(&times) {
            samples.push(timed(*times, &mut case.work)?);
        }
    }
    let sizes = cases.iter().map(|case| case.n);
    let points = sizes.zip(samples.into_iter().map(Summary::of));
    Ok(Series::new(of, what, points))
}

/// Does the work so many times, and returns the nanoseconds of one.
fn timed(times: u32, work: &mut dyn FnMut() -> Result<(), Failure>) -> Result<u64, Failure> {
    let began = Instant::now();
    for _ in 0..times {
        work()?;
    }
    Ok(as_nanos(began.elapsed()) / u64::from(times))
}
