//! The client settings that reprise fixes, whoever connects.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;

/// Settings that reprise sets itself, with the reason that is given to who tries to set them.
pub const RESERVED: &[(&str, &str)] = &[
    ("bootstrap.servers", "set `kafka.brokers`"),
    ("group.id", "set `ingest.group`"),
    ("enable.auto.commit", "offsets are committed after MySQL and the ledger, never by the client"),
    ("enable.auto.offset.store", "offsets are committed after MySQL and the ledger, never by the client"),
    ("auto.offset.reset", "an offset out of range stops the partition; the client must never jump"),
    ("partition.assignment.strategy", "the worker relies on cooperative-sticky"),
    ("group.protocol", "the worker relies on the classic protocol"),
    ("enable.partition.eof", "replay relies on it and ingest on its absence"),
    ("isolation.level", "only committed records are processed"),
];

/// Finds the settings that must not be given, each with the reason.
pub fn reserved(properties: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &'static str)> {
    properties.keys().filter_map(|key| {
        let (_, reason) = RESERVED.iter().find(|(reserved, _)| reserved == key)?;
        Some((key.as_str(), *reason))
    })
}

/// Makes a configuration for a consumer that never jumps and never commits by itself. `properties` (TLS, SASL,
/// tuning) come first, so that what reprise fixes wins.
pub fn consumer_config(brokers: &str, group: &str, properties: &BTreeMap<String, String>) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        // Kafka's default of 1,000 ms idles a consumer that is a little slower than the fetcher most of the time.
        .set("fetch.queue.backoff.ms", "10")
        .set("queued.max.messages.kbytes", "32768")
        .set("queued.min.messages", "50000")
        .set("session.timeout.ms", "45000")
        .set("max.poll.interval.ms", "300000")
        .set("topic.metadata.refresh.interval.ms", "30000")
        .set("reconnect.backoff.max.ms", "5000")
        .set("client.id", "reprise");
    for (key, value) in properties {
        config.set(key, value);
    }
    config
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("group.protocol", "classic")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "false")
        .set("isolation.level", "read_committed");
    config
}
