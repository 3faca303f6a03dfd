//! What the control plane has to know of the ingest workers, under the keys that they have for it.

use std::time::Duration;

use reprise_shared::config::{Faults, Validate};
use serde::{Deserialize, Serialize};

use super::duration;

/// The ingest workers' group, and how long Kafka may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IngestGroup {
    /// The consumer group, the same as in the workers' configuration: its committed positions say how far ingest is.
    /// The control plane never joins it.
    pub group: String,
    /// A call to Kafka may take this long. 5 s.
    #[serde(with = "humantime_serde")]
    pub kafka_call: Duration,
}

impl Default for IngestGroup {
    fn default() -> Self {
        Self {
            group: "reprise-ingest".to_owned(),
            kafka_call: Duration::from_secs(5),
        }
    }
}

impl Validate for IngestGroup {
    fn validate(&self, faults: &mut Faults) {
        let name = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        if self.group.is_empty() || self.group.len() > 249 || !self.group.chars().all(name) {
            let right = "the workers' ingest.group: 1 to 249 ASCII letters, digits, dots, hyphens or underscores";
            faults.add("group", "is not a usable name", right);
        }
        duration(faults, "kafka_call", self.kafka_call, 100, 60_000);
    }
}
