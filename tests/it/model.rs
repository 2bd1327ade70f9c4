//! Random operations on random images, step by step against the reference
//! model: errors, bytes, metadata, usage; at the end of each run the whole
//! tree, its diff stacked on the base, and what is left when all is closed.
//!
//! `STRATAFS_SEED=n` starts every test here at that seed, which a failure
//! prints; `STRATAFS_RUNS=n` makes each go on for that many runs.

use crate::support::twin::hunt;

/// Operations in one run.
const STEPS: usize = 500;

/// Runs in one test: in a long run of all, 10 tests make a million operations.
const RUNS: u64 = 200;

macro_rules! hunts {
    ($($name:ident: $seed:expr;)*) => {$(
        #[test]
        fn $name() {
            hunt($seed << 32, RUNS, STEPS);
        }
    )*};
}

hunts! {
    model_agrees_0: 0;
    model_agrees_1: 1;
    model_agrees_2: 2;
    model_agrees_3: 3;
    model_agrees_4: 4;
    model_agrees_5: 5;
    model_agrees_6: 6;
    model_agrees_7: 7;
    model_agrees_8: 8;
    model_agrees_9: 9;
}
