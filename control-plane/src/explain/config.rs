//! Limits of explaining records.

use std::time::Duration;

use bytesize::ByteSize;
use reprise_shared::config::{Faults, Validate};
use reprise_shared::decode::Limits;
use serde::{Deserialize, Serialize};

/// How much one question about records may cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Questions in work at one time; further ones wait. 4.
    pub max_calls: u32,
    /// One question reads at most this many records of Kafka. 200,000.
    pub max_records: u64,
    /// One question reads Kafka for at most this long. 10 s.
    #[serde(with = "humantime_serde")]
    pub max_reading: Duration,
    /// One question keeps at most this much of the records that it found. 8 MiB, one record always.
    pub max_bytes: ByteSize,
    /// So many rows of one record are compared with the table; the rest is only counted. 1,000.
    pub max_rows: u32,
    /// So many versions of the whitelist are kept. 4.
    pub max_whitelists: u64,
    /// The workers' `ingest.max_record`: a larger payload is a dead letter. 1 MiB.
    pub max_record: ByteSize,
    /// The workers' `ingest.max_depth`. 64.
    pub max_depth: usize,
    /// The workers' `ingest.max_rows_per_record`. 50,000.
    pub max_rows_per_record: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_calls: 4,
            max_records: 200_000,
            max_reading: Duration::from_secs(10),
            max_bytes: ByteSize::mib(8),
            max_rows: 1_000,
            max_whitelists: 4,
            max_record: ByteSize::mib(1),
            max_depth: 64,
            max_rows_per_record: 50_000,
        }
    }
}

impl Config {
    /// Returns the limits that workers decode payloads by.
    pub fn payload(&self) -> Limits {
        Limits {
            max_payload: usize::try_from(self.max_record.as_u64()).unwrap_or(usize::MAX),
            max_depth: self.max_depth,
            max_rows: self.max_rows_per_record,
        }
    }
}

impl Validate for Config {
    fn validate(&self, faults: &mut Faults) {
        for (key, value, least, most) in [
            ("max_calls", self.max_calls.into(), 1, 100),
            ("max_records", self.max_records, 1, 100_000_000),
            ("max_bytes", self.max_bytes.as_u64(), 1 << 10, 1 << 30),
            ("max_rows", self.max_rows.into(), 1, 50_000),
            ("max_whitelists", self.max_whitelists, 1, 100),
            ("max_record", self.max_record.as_u64(), 1 << 10, 64 << 20),
            ("max_depth", self.max_depth as u64, 2, 1_000),
            ("max_rows_per_record", self.max_rows_per_record as u64, 1, 1_000_000),
        ] {
            faults.check_range(key, value, least, most);
        }
        let (least, most) = (Duration::from_millis(100), Duration::from_secs(300));
        faults.check_range("max_reading", self.max_reading, least, most);
    }
}
