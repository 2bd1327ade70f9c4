//! Spans of what stratafs does for containers: named as OpenTelemetry's conventions have them, and sent to a
//! collector as OTLP over HTTP, in JSON.
//!
//! Nothing is sent, and no thread is started, unless the environment names a collector by
//! `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`. The other variables of OpenTelemetry's
//! SDK hold as its Rust SDK reads them: `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME`,
//! `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`, `OTEL_BSP_*`. Spans that wait are bounded by
//! `OTEL_BSP_MAX_QUEUE_SIZE`, 2048 of them: what does not fit is lost, and nobody waits for a collector.

use std::env;
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::trace::{Span as _, SpanKind, Status, Tracer as _, TracerProvider as _};
use opentelemetry::{Array, InstrumentationScope, KeyValue, Value};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

/// How long a collector may take for an answer, if the environment does not say.
const USUAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of an answer of a collector that are read.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// Where spans go, once something asked for it.
static EXPORTING: OnceLock<Exporting> = OnceLock::new();

struct Exporting {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// Returns the value of a variable that says something.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// Begins to send spans, if the environment names a collector; returns whether it does. Once for a process.
///
/// # Errors
/// The environment asks for what is not done here, or the address is none.
pub fn begin(service: &'static str, version: &'static str) -> Result<bool, String> {
    let endpoints = [
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ];
    let off = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if off || endpoints.into_iter().find_map(variable).is_none() {
        return Ok(false);
    }
    match variable("OTEL_TRACES_EXPORTER").as_deref() {
        None | Some("otlp") => {}
        Some("none") => return Ok(false),
        Some(other) => {
            return Err(format!(
                "OTEL_TRACES_EXPORTER is {other:?}: expected otlp or none"
            ));
        }
    }
    for name in [
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ] {
        if let Some(other) = variable(name).filter(|value| value != "http/json") {
            return Err(format!(
                "{name} is {other:?}: expected http/json, which is all that is spoken"
            ));
        }
    }
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpJson)
        .with_http_client(Collector::new(timeout()?))
        .build()
        .map_err(|error| format!("the collector of OTEL_EXPORTER_OTLP_ENDPOINT: {error}"))?;
    let mut resource = Resource::builder();
    if variable("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(service);
    }
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.build())
        .build();
    let scope = InstrumentationScope::builder(service)
        .with_version(version)
        .build();
    let tracer = provider.tracer_with_scope(scope);
    Ok(EXPORTING.set(Exporting { provider, tracer }).is_ok())
}

fn timeout() -> Result<Duration, String> {
    let names = [
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
    ];
    for name in names {
        if let Some(text) = variable(name) {
            let millis = text.trim().parse();
            return millis
                .map(Duration::from_millis)
                .map_err(|_| format!("{name} is {text:?}: expected milliseconds"));
        }
    }
    Ok(USUAL_TIMEOUT)
}

/// Sends what waits, before the process ends. A collector that does not answer is waited for some
/// seconds.
pub fn end() {
    if let Some(exporting) = EXPORTING.get() {
        // Whoever does not answer has lost it.
        let _ended = exporting.provider.shutdown();
    }
}

/// Something that is being done; it ends when this goes.
pub struct Span(Option<opentelemetry_sdk::trace::Span>);

/// Begins a span: of nothing where nobody asked for spans.
#[must_use]
pub fn span(name: &'static str) -> Span {
    Span(EXPORTING.get().map(|exporting| {
        let builder = exporting.tracer.span_builder(name);
        let builder = builder.with_kind(SpanKind::Internal);
        exporting.tracer.build(builder)
    }))
}

impl Span {
    /// Returns whether anybody will see it: what is to be found out for it costs nothing else.
    #[must_use]
    pub fn is_seen(&self) -> bool {
        self.0.as_ref().is_some_and(|span| span.is_recording())
    }

    /// Notes an attribute.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(key, value));
        }
    }

    /// Notes that it failed: `kind` is one of few words, `why` is for people.
    pub fn fail(&mut self, kind: &str, why: &dyn std::fmt::Display) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new("error.type", kind.to_owned()));
            span.set_status(Status::error(why.to_string()));
        }
    }
}

/// Makes a value of several texts.
pub fn texts<'t>(texts: impl IntoIterator<Item = &'t str>) -> Value {
    let texts = texts.into_iter().map(|text| text.to_owned().into());
    Value::Array(Array::String(texts.collect()))
}

/// Speaks HTTP with a collector.
#[derive(Debug)]
struct Collector(ureq::Agent);

impl Collector {
    fn new(timeout: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .build();
        Self(config.into())
    }
}

#[async_trait]
impl HttpClient for Collector {
    /// Blocks the thread, which is the one of the SDK that does nothing else.
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = request.map(|bytes| bytes.to_vec());
        let mut answer = self.0.run(request)?;
        let body = answer
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER_BYTES)
            .read_to_vec()?;
        let mut made = Response::new(Bytes::from(body));
        *made.status_mut() = answer.status();
        Ok(made)
    }
}
