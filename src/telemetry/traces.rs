//! Traces by OTLP, where they are built in and an endpoint is named: spans of batches, answers and what is enforced.
//!
//! Set up by OpenTelemetry's own variables, `OTEL_EXPORTER_OTLP_ENDPOINT` (HTTP, protobuf) and `OTEL_SERVICE_NAME` before all.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

/// Whoever sends them; what is left is sent when it is told to stop.
#[derive(Clone, Debug)]
pub struct Traces(SdkTracerProvider);

// === impl Traces ===

impl Traces {
    /// An exporter, where an endpoint is named.
    pub fn start() -> Option<Traces> {
        let is_named = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if !is_named("OTEL_EXPORTER_OTLP_ENDPOINT") && !is_named("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
            return None;
        }
        // What cannot be built now could never be sent.
        let exporter = SpanExporter::builder().with_http().build().ok()?;
        let resource = Resource::builder();
        let resource = match is_named("OTEL_SERVICE_NAME") {
            true => resource.build(),
            false => resource.with_service_name("editwar").build(),
        };
        Some(Traces(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
    }

    /// The layer that turns spans of ours into traces.
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let ours = Targets::new().with_target("editwar", tracing::Level::DEBUG);
        tracing_opentelemetry::layer().with_tracer(self.0.tracer("editwar")).with_filter(ours)
    }

    /// Sends what is left.
    pub fn stop(&self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}
