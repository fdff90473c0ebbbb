//! What becomes of librdkafka's own words.

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

/// Says librdkafka's errors at debug level: those that matter come back from the calls that meet them.
#[derive(Clone, Copy, Debug)]
pub struct QuietContext;

impl ClientContext for QuietContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_client_line(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("librdkafka: {error}: {reason}");
    }
}

impl ConsumerContext for QuietContext {}

/// librdkafka's own log lines: what it cannot mend itself is an error, the rest is for debugging.
pub(super) fn log_client_line(level: RDKafkaLogLevel, facility: &str, text: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!("librdkafka {facility}: {text}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
            tracing::debug!("librdkafka {facility}: {text}");
        }
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::trace!("librdkafka {facility}: {text}"),
    }
}
