//! Spans of what containerd asks for, by OpenTelemetry's names. Built with the feature `otel`, and sent where the
//! environment names a collector; else nothing of it is there.

use crate::status::Status;

/// A call that is being answered.
pub struct CallSpan(#[cfg(feature = "otel")] Option<on::Answering>);

#[cfg(not(feature = "otel"))]
impl CallSpan {
    /// Begins nothing.
    #[must_use]
    pub fn begin(_method: &str, _payload: &[u8]) -> Self {
        Self()
    }

    /// Ends nothing.
    pub fn end(
        self,
        _answered: Result<&[u8], &Status>,
        _manifest: impl FnOnce() -> Option<String>,
    ) {
    }
}

#[cfg(feature = "otel")]
impl CallSpan {
    /// Begins the span of a call that changes a container; of another there is none.
    #[must_use]
    pub fn begin(method: &str, payload: &[u8]) -> Self {
        Self(on::Answering::begin(method, payload))
    }

    /// Notes what the answer is, and of a container that was made the digest of its image's manifest,
    /// and ends it.
    pub fn end(self, answered: Result<&[u8], &Status>, manifest: impl FnOnce() -> Option<String>) {
        if let Some(answering) = self.0 {
            answering.end(answered, manifest);
        }
    }
}

/// Begins to send spans, if the environment names a collector.
///
/// # Errors
/// What the environment asks for and is not done.
pub fn begin() -> Result<(), String> {
    #[cfg(feature = "otel")]
    stratafs_traces::begin("containerd-shim-stratafs-v1", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}

/// Sends what waits, before the process ends.
pub fn end() {
    #[cfg(feature = "otel")]
    stratafs_traces::end();
}

#[cfg(feature = "otel")]
mod on {
    use std::collections::HashMap;
    use std::fs::File;
    use std::io::Read;
    use std::path::Path;

    use serde::Deserialize;
    use stratafs_traces::Span;

    use crate::limits::MAX_SPEC_BYTES;
    use crate::messages::{CreateTaskRequest, DeleteResponse, KillRequest, ProcessRequest};
    use crate::status::{Code, Status};
    use crate::wire::Message;

    /// The span of a call.
    pub(super) struct Answering {
        span: Span,
        /// Whether it makes a container.
        creates: bool,
        /// Whether its answer has a code of an end.
        deletes: bool,
    }

    impl Answering {
        pub(super) fn begin(method: &str, payload: &[u8]) -> Option<Self> {
            let name = match method {
                "Create" => "container.create",
                "Start" => "container.start",
                "Kill" => "container.kill",
                "Delete" => "container.delete",
                _ => return None,
            };
            let mut span = stratafs_traces::span(name);
            if !span.is_seen() {
                return None;
            }
            span.set("container.runtime.name", "stratafs");
            match method {
                "Create" => CreateTaskRequest::decode(payload).map(|request| {
                    span.set("container.id", request.id);
                    describe(&mut span, Path::new(&request.bundle));
                }),
                "Kill" => KillRequest::decode(payload).map(|request| {
                    span.set("container.id", request.id);
                    span.set("stratafs.signal", i64::from(request.signal));
                }),
                _ => ProcessRequest::decode(payload).map(|request| {
                    span.set("container.id", request.id);
                }),
            }
            // What is no message is refused by whoever answers it.
            .ok();
            Some(Self {
                span,
                creates: method == "Create",
                deletes: method == "Delete",
            })
        }

        pub(super) fn end(
            mut self,
            answered: Result<&[u8], &Status>,
            manifest: impl FnOnce() -> Option<String>,
        ) {
            match answered {
                Ok(_) if self.creates => {
                    if let Some(digest) = manifest() {
                        self.span.set("oci.manifest.digest", digest);
                    }
                }
                Ok(bytes) if self.deletes => {
                    if let Ok(response) = DeleteResponse::decode(bytes) {
                        let code = i64::from(response.exit_status);
                        self.span.set("process.exit.code", code);
                    }
                }
                Ok(_) => {}
                Err(status) => self.span.fail(kind(status.code), status),
            }
        }
    }

    /// What CRI notes of a container, and what OpenTelemetry calls it.
    const NOTED: [(&str, &str); 5] = [
        ("io.kubernetes.cri.image-name", "container.image.name"),
        ("io.kubernetes.cri.container-name", "k8s.container.name"),
        ("io.kubernetes.cri.sandbox-name", "k8s.pod.name"),
        ("io.kubernetes.cri.sandbox-namespace", "k8s.namespace.name"),
        ("io.kubernetes.cri.sandbox-uid", "k8s.pod.uid"),
    ];

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Described {
        annotations: Option<HashMap<String, String>>,
    }

    /// Notes what a bundle says of its container: what is wrong with it, whoever makes it says.
    fn describe(span: &mut Span, bundle: &Path) {
        let Ok(file) = File::open(bundle.join("config.json")) else {
            return;
        };
        let described = serde_json::from_reader(file.take(MAX_SPEC_BYTES));
        let described: Described = described.unwrap_or_default();
        let mut annotations = described.annotations.unwrap_or_default();
        for (from, key) in NOTED {
            if let Some(value) = annotations.remove(from) {
                span.set(key, value);
            }
        }
    }

    /// The names of gRPC's codes.
    fn kind(code: Code) -> &'static str {
        match code {
            Code::InvalidArgument => "INVALID_ARGUMENT",
            Code::NotFound => "NOT_FOUND",
            Code::AlreadyExists => "ALREADY_EXISTS",
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Code::FailedPrecondition => "FAILED_PRECONDITION",
            Code::Unimplemented => "UNIMPLEMENTED",
            Code::Internal => "INTERNAL",
            Code::Unavailable => "UNAVAILABLE",
        }
    }
}
