//! Spans of pulls, by OpenTelemetry's names. Built with the feature `otel`, and sent where the environment names
//! a collector; else nothing of it is there.

use stratafs::registry::RegistryRef;
use stratafs::transfer::{Pulled, TransferError};

/// Begins to send spans, if the environment names a collector.
pub(crate) fn begin() {
    #[cfg(feature = "otel")]
    if let Err(what) = stratafs_traces::begin("stratafs", env!("CARGO_PKG_VERSION")) {
        // As OpenTelemetry has it: what cannot be traced is done all the same.
        crate::failure::say(&format!("no spans are sent: {what}"));
    }
}

/// Sends what waits, before the program ends.
pub(crate) fn end() {
    #[cfg(feature = "otel")]
    stratafs_traces::end();
}

/// Pulls an image, as `pull` does it.
pub(crate) fn of_pull(
    name: &RegistryRef,
    pull: impl FnOnce() -> Result<Pulled, TransferError>,
) -> Result<Pulled, TransferError> {
    #[cfg(feature = "otel")]
    return on::of_pull(name, pull);
    #[cfg(not(feature = "otel"))]
    {
        let _unseen = name;
        pull()
    }
}

#[cfg(feature = "otel")]
mod on {
    use super::{Pulled, RegistryRef, TransferError};

    pub(super) fn of_pull(
        name: &RegistryRef,
        pull: impl FnOnce() -> Result<Pulled, TransferError>,
    ) -> Result<Pulled, TransferError> {
        let mut span = stratafs_traces::span("image.pull");
        let pulled = pull();
        if !span.is_seen() {
            return pulled;
        }
        let repository = format!("{}/{}", name.host(), name.repository());
        span.set("container.image.name", repository);
        if let Some(tag) = name.tag() {
            span.set("container.image.tags", stratafs_traces::texts([tag]));
        }
        match &pulled {
            Ok(pulled) => {
                span.set("oci.manifest.digest", pulled.digest.as_str().to_owned());
                let bytes = i64::try_from(pulled.fetched_bytes).unwrap_or(i64::MAX);
                span.set("stratafs.fetched_bytes", bytes);
            }
            Err(error) => span.fail("pull_failed", error),
        }
        pulled
    }
}
