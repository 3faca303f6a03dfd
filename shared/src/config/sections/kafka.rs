//! The connection to Kafka.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::config::secret::REDACTED;
use crate::config::{Faults, Validate};

/// Properties that reprise sets itself, each with the reason why it cannot be given.
const OURS: &[(&str, &str)] = &[
    (
        "auto.commit.interval.ms",
        "offsets are committed after the rows they stand for, never on a timer",
    ),
    (
        "auto.offset.reset",
        "an offset that is out of range stops the partition, it never jumps",
    ),
    ("bootstrap.servers", "set kafka.brokers"),
    (
        "check.crcs",
        "the client would pass over a batch with a wrong checksum without saying which records it lost",
    ),
    (
        "enable.auto.commit",
        "offsets are committed after the rows they stand for, never by the client",
    ),
    (
        "enable.auto.offset.store",
        "offsets are stored after the rows they stand for, never by the client",
    ),
    ("enable.partition.eof", "the end of a partition is found by its offsets"),
    (
        "fetch.queue.backoff.ms",
        "the gate of the pipeline decides when fetching pauses",
    ),
    ("group.id", "the group is a setting of the worker"),
    (
        "group.instance.id",
        "members that come back under an old name would take partitions that are being drained",
    ),
    ("group.protocol", "draining on revocation needs the classic protocol"),
    ("isolation.level", "only committed records are data"),
    (
        "max.poll.interval.ms",
        "it has to agree with the time for draining, which is a setting of the worker",
    ),
    ("metadata.broker.list", "set kafka.brokers"),
    (
        "partition.assignment.strategy",
        "draining on revocation needs cooperative-sticky",
    ),
    (
        "queued.max.messages.kbytes",
        "the memory of queues is a setting of the worker",
    ),
    ("queued.min.messages", "the memory of queues is a setting of the worker"),
    (
        "session.timeout.ms",
        "it has to agree with the time for draining, which is a setting of the worker",
    ),
];

/// How Kafka is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KafkaConfig {
    /// `host:port` of some brokers, as a list or with commas; required.
    #[serde(deserialize_with = "list")]
    pub brokers: Vec<String>,
    /// How we name ourselves to the brokers, for their logs and quotas.
    pub client_id: String,
    /// Further properties of librdkafka: TLS, SASL, and what else reprise does not set itself.
    pub properties: Properties,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            client_id: "reprise".to_owned(),
            properties: Properties::default(),
        }
    }
}

impl Validate for KafkaConfig {
    fn validate(&self, faults: &mut Faults) {
        if self.brokers.is_empty() {
            faults.add("brokers", "is not set", "host:port of at least one broker");
        }
        for broker in &self.brokers {
            let port = broker.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            if port
                .and_then(|(_, port)| port.parse::<u16>().ok())
                .is_none_or(|port| port == 0)
            {
                faults.add(
                    "brokers",
                    format!("{broker:?} is not host:port"),
                    "for example kafka-0:9092",
                );
            }
        }
        for name in self.properties.0.keys() {
            if let Some((_, reason)) = OURS.iter().find(|(ours, _)| ours == name) {
                let problem = format!("is set by reprise itself: {reason}");
                faults.add(&format!("properties.{name}"), problem, "leave it out");
            }
        }
    }
}

/// Properties of librdkafka by name. Values of secrets are not shown by `Debug` or in a dump.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// Returns names and values, to be handed to the client and nowhere else.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn shown(&self) -> BTreeMap<&str, &str> {
        let secret = |name: &str| {
            ["password", "secret", "pem", "token", "oauthbearer.config"]
                .iter()
                .any(|word| name.contains(word))
        };
        self.iter()
            .map(|(name, value)| (name, if secret(name) { REDACTED } else { value }))
            .collect()
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown().fmt(formatter)
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shown().serialize(serializer)
    }
}

/// Names have dots, and dots nest, so properties arrive as a tree.
impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let tree = serde_norway::Mapping::deserialize(deserializer)?;
        let mut properties = BTreeMap::new();
        flatten("", tree, &mut properties).map_err(D::Error::custom)?;
        Ok(Self(properties))
    }
}

fn flatten(prefix: &str, tree: serde_norway::Mapping, properties: &mut BTreeMap<String, String>) -> Result<(), String> {
    use serde_norway::Value;
    for (key, value) in tree {
        let key = key.as_str().ok_or("a property's name has to be text")?;
        let name = if prefix.is_empty() {
            key.to_owned()
        } else {
            format!("{prefix}.{key}")
        };
        let text = match value {
            Value::Mapping(inner) => {
                flatten(&name, inner, properties)?;
                continue;
            }
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Null | Value::Sequence(_) | Value::Tagged(_) => {
                return Err(format!("the property {name} has to be text, a number, true or false"));
            }
        };
        properties.insert(name, text);
    }
    Ok(())
}

/// Takes a list, or text with commas.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct List;
    impl<'de> Visitor<'de> for List {
        type Value = Vec<String>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a list, or text with commas")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<String>, E> {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(items.map(str::to_owned).collect())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<String>, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = sequence.next_element()? {
                items.push(item);
            }
            Ok(items)
        }
    }
    deserializer.deserialize_any(List)
}
