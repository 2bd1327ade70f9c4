//! A program that is ready for containers: from its beginning, or from where it was frozen.

use std::sync::Arc;

use stratafs::runner::freeze::Checkpoint;
use stratafs::runner::{RunPlan, Runner};

use crate::status::Status;

/// A program that is ready, and where it goes on if it was frozen.
#[derive(Clone)]
pub struct ReadyProgram {
    /// It.
    pub runner: Arc<Runner>,
    /// The point of a prepared image.
    pub checkpoint: Option<Checkpoint>,
}

impl ReadyProgram {
    /// Is a program that begins at its start.
    #[must_use]
    pub const fn from_start(runner: Arc<Runner>) -> Self {
        Self {
            runner,
            checkpoint: None,
        }
    }

    /// Changes a plan to that of a guest that goes on, if it does: the guest has its arguments
    /// and its environment already.
    ///
    /// # Errors
    /// The arguments are others.
    pub fn take_over(&self, plan: &mut RunPlan) -> Result<(), Status> {
        let Some(checkpoint) = &self.checkpoint else {
            return Ok(());
        };
        if plan.args != checkpoint.args() {
            return Err(Status::invalid(format_args!(
                "process.args: {:?}: the image is prepared, and its guest goes on with {:?}",
                plan.args,
                checkpoint.args()
            )));
        }
        let shown = checkpoint.plan();
        plan.args.clear();
        plan.env.clear();
        plan.working_dir = None;
        plan.preopens = shown.preopens;
        plan.furnished = shown.furnished;
        Ok(())
    }
}
