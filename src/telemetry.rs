//! What the outside sees of a running instance: its log and its metrics.

mod histograms;
mod instruments;
mod logs;
mod partitions;
mod process;

use std::sync::Arc;

use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{Instrument, SdkMeterProvider, Stream};
use prometheus::{Registry, TextEncoder};

use crate::scheduler::status::Status;
pub use logs::start_log;
pub use process::resident_bytes;

/// Time series an instrument may have: topics times the values of a label, with room. More are folded into one by the SDK.
const SERIES_LIMIT: usize = 20_000;

/// The metrics of an instance.
///
/// OpenTelemetry instruments, and what stands beside them in the registry, observe the [`Status`] when a scrape asks for
/// it, so the threads that do the work pay nothing for them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// The instruments live as long as their provider.
    _provider: SdkMeterProvider,
}

/// Metrics could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up metrics: {0}")]
pub struct MetricsError(String);

impl Metrics {
    /// Metrics that observe `status`.
    pub fn of(status: &Arc<Status>) -> Result<Self, MetricsError> {
        let failed = |error: &dyn std::error::Error| MetricsError(error.to_string());
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .build()
            .map_err(|error| failed(&error))?;
        let provider = SdkMeterProvider::builder()
            .with_reader(exporter)
            .with_resource(Resource::builder().with_service_name("kafka-message-scheduler").build())
            .with_view(|_: &Instrument| Stream::builder().with_cardinality_limit(SERIES_LIMIT).build().ok())
            .build();
        instruments::observe(&provider.meter("scheduler"), status);
        registry.register(Box::new(histograms::Histograms::of(status))).map_err(|error| failed(&error))?;
        registry.register(Box::new(partitions::Partitions::of(status))).map_err(|error| failed(&error))?;
        Ok(Self { registry, _provider: provider })
    }

    /// The metrics now, in Prometheus' text format.
    pub fn render(&self) -> Result<String, MetricsError> {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .map_err(|error| MetricsError(error.to_string()))
    }
}

#[cfg(test)]
mod tests;
