//! Checkpoints of images, and errors about them that name the image.

use std::fmt::Display;

use stratafs::errno::Errno;
use stratafs::image::Image;
use stratafs::runner::freeze::{Checkpoint, CheckpointError, CheckpointInfo};

use super::failure::Failure;

/// Opens the checkpoint of an image, if it has one.
pub(super) fn open(image: &Image, name: &impl Display) -> Result<Option<Checkpoint>, Failure> {
    Checkpoint::open(image).map_err(|error| failed(name, &error))
}

/// Reads what is known of the checkpoint of an image, as [`open`].
pub(super) fn inspect(
    image: &Image,
    name: &impl Display,
) -> Result<Option<CheckpointInfo>, Failure> {
    Checkpoint::inspect(image).map_err(|error| failed(name, &error))
}

fn failed(name: &impl Display, error: &CheckpointError) -> Failure {
    match error {
        CheckpointError::File(file) if file.errno() == Errno::Io => Failure::new(format_args!(
            "{name}: {error}: `stratafs store verify` says what of the store is damaged"
        )),
        _ => Failure::new(format_args!("{name}: {error}")),
    }
}
