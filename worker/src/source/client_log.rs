//! What the Kafka client says of itself, in our log.

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

/// Logs a line of the client.
pub(crate) fn line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::error!(facility, message, "kafka client");
        }
        RDKafkaLogLevel::Warning => tracing::warn!(facility, message, "kafka client"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(facility, message, "kafka client"),
        RDKafkaLogLevel::Debug => tracing::debug!(facility, message, "kafka client"),
    }
}

/// Logs an error that the client met in the background.
pub(crate) fn error(error: &KafkaError, reason: &str) {
    tracing::warn!(%error, reason, "kafka client");
}
