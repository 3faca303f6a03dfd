//! The client settings that reprise fixes, whoever connects.

use rdkafka::ClientConfig;

use crate::config::KafkaConfig;

/// Names a worker to the brokers, so that the members of its group are known by their workers.
pub fn client_id_of(kafka: &KafkaConfig, worker_id: &str) -> String {
    format!("{}-{worker_id}", kafka.client_id)
}

/// Returns the worker that a client id names; the whole client id when something else made it.
pub fn worker_of(client_id: &str) -> &str {
    client_id.rsplit_once('-').map_or(client_id, |(_, worker)| worker)
}

/// Makes a configuration for a consumer that never jumps and never commits by itself. `kafka.properties` (TLS, SASL,
/// tuning) come first, so that what reprise fixes wins; the config refuses to set those anyway.
pub fn consumer_config(kafka: &KafkaConfig, group: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("topic.metadata.refresh.interval.ms", "30000")
        .set("reconnect.backoff.max.ms", "5000")
        // Otherwise a question that waits for a broker (as for a topic's id) asks for a connection each time that one was
        // refused, which takes back the wait before the next: hundreds of connections a second and all of a machine's
        // time for as long as Kafka is away (librdkafka 2.12, rd_kafka_broker_find_by_nodeid0_fl).
        .set("enable.sparse.connections", "false");
    for (key, value) in kafka.properties.iter() {
        config.set(key, value);
    }
    config
        .set("bootstrap.servers", kafka.brokers.join(","))
        .set("client.id", &kafka.client_id)
        .set("group.id", group)
        .set("group.protocol", "classic")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        // Kafka's default of 1,000 ms idles a consumer that is a little slower than the fetcher most of the time.
        .set("fetch.queue.backoff.ms", "10");
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_found_by_its_client_id() {
        let kafka = KafkaConfig {
            client_id: "reprise-eu".to_owned(),
            ..KafkaConfig::default()
        };
        assert_eq!(worker_of(&client_id_of(&kafka, "0193af")), "0193af");
        assert_eq!(worker_of("kcat"), "kcat");
    }
}
