//! Limits of processors: a guest that has had its share of a period stands still until the next.
//!
//! A guest has one thread, and so takes no more time than passes: it is looked at when it could have
//! had its share at the earliest, and at the end of each period.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::container::Container;
use crate::spec::CpuLimit;

/// Holds a container that runs to its limit until it has ended, if it has one. Works in a runtime of
/// tokio.
pub fn begin(container: &Arc<Container>) {
    if let Some(limit) = container.cpu {
        tokio::spawn(hold(Arc::clone(container), limit));
    }
}

async fn hold(container: Arc<Container>, limit: CpuLimit) {
    let mut begins = Instant::now();
    let mut spent = Duration::ZERO;
    loop {
        let ends = begins + limit.period;
        let mut looks = Instant::now();
        loop {
            let taken = container.cpu_time().saturating_sub(spent);
            let left = limit.quota.saturating_sub(taken);
            if left.is_zero() {
                container.hold_back(true);
                looks = ends;
            } else {
                looks = (looks.max(Instant::now()) + left).min(ends);
            }
            if timeout_at(looks, container.wait()).await.is_ok() {
                return;
            }
            if looks >= ends {
                break;
            }
        }
        // What it took too much is taken from the next period; what it left is not added to it.
        let taken = container.cpu_time().saturating_sub(spent);
        spent += taken.min(limit.quota);
        // Periods in which nobody could look are over: they are not made up for.
        begins = ends.max(Instant::now());
        if taken < limit.quota.saturating_mul(2) {
            container.hold_back(false);
        }
    }
}
