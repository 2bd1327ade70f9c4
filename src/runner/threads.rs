//! The threads that reach what the host has, for one run.

use std::fmt;
use std::sync::Arc;

use tokio::runtime::{Handle, Runtime};

use super::{Outcome, RunPlan};

/// What is done on each thread that reaches directories of the host for a guest:
/// [`RunPlan::host_threads`]. Guests' own threads do not reach them then.
///
/// On Linux it is where a thread takes on the rights of a user. A thread that cannot has to
/// unwind: it does nothing then, and whoever waits for it is to be stopped by
/// [`RunPlan::control`].
#[derive(Clone)]
pub struct HostThreads(Arc<dyn Fn() + Send + Sync>);

impl HostThreads {
    /// Has `begin` called on each such thread, before all else.
    pub fn new(begin: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(begin))
    }

    pub(super) fn begin(&self) {
        (self.0)();
    }
}

impl fmt::Debug for HostThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostThreads")
    }
}

/// Returns the runtime of this thread; makes it if there is none yet. The threads that it starts are
/// those that reach what the host has: directories, and names if its system looks them up.
pub(super) fn runtime_of<'r>(
    runtime: &'r mut Option<Runtime>,
    plan: &RunPlan,
) -> Result<&'r Runtime, Outcome> {
    match runtime {
        Some(runtime) => Ok(runtime),
        None => {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all();
            if let Some(threads) = plan.host_threads.clone() {
                builder.on_thread_start(move || threads.begin());
            }
            let failed = |error| Outcome::Failed(format!("cannot make a runtime: {error}"));
            Ok(runtime.insert(builder.build().map_err(failed)?))
        }
    }
}

/// Returns what is to be entered before an instance is made, where threads are to begin in a certain
/// way: a guest that goes on from a checkpoint opens files of the host before it runs.
pub(super) fn threads_from_the_start(
    runtime: &mut Option<Runtime>,
    plan: &RunPlan,
) -> Result<Option<Handle>, Outcome> {
    match plan.host_threads {
        Some(_) => Ok(Some(runtime_of(runtime, plan)?.handle().clone())),
        None => Ok(None),
    }
}
