//! OTLP traces, if they are built in and an endpoint is configured: spans of batches, responses and enforcement
//! actions.
//!
//! Configured by the standard OpenTelemetry variables, mainly `OTEL_EXPORTER_OTLP_ENDPOINT` (HTTP, protobuf) and
//! `OTEL_SERVICE_NAME`.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

/// The trace exporter. [`Traces::stop`] flushes it.
#[derive(Clone, Debug)]
pub(crate) struct Traces(SdkTracerProvider);

// === impl Traces ===

impl Traces {
    /// Starts an exporter, if an endpoint is configured.
    pub(crate) fn start() -> Option<Traces> {
        let is_named = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if !is_named("OTEL_EXPORTER_OTLP_ENDPOINT") && !is_named("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
            return None;
        }
        // An exporter that cannot be built now could never send anything.
        let exporter = SpanExporter::builder().with_http().build().ok()?;
        let resource = Resource::builder();
        let resource = if is_named("OTEL_SERVICE_NAME") {
            resource.build()
        } else {
            resource.with_service_name("editwar").build()
        };
        Some(Traces(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
    }

    /// Returns the layer that turns our spans into traces.
    pub(crate) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let ours = Targets::new().with_target("editwar", tracing::Level::DEBUG);
        tracing_opentelemetry::layer().with_tracer(self.0.tracer("editwar")).with_filter(ours)
    }

    /// Flushes the pending traces.
    pub(crate) fn stop(&self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(%error, "cannot send the last traces");
        }
    }
}
