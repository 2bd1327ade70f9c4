//! What an image says that it is for.

use crate::image::ImageConfig;
use crate::source::Platform;

/// Has the configuration say that the image is for `platform`, if one is given.
pub(super) fn stamp(config: &mut ImageConfig, platform: Option<&Platform>) {
    if let Some(platform) = platform {
        config.os = Some(platform.os().to_owned());
        config.architecture = Some(platform.architecture().to_owned());
        config.variant = platform.variant().map(str::to_owned);
    }
}
