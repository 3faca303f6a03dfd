//! Generates the records of the shipped data types, good and bad, the same for the same seed.
//!
//! A [`Feed`] is pure: it draws from a seeded generator and knows neither the time nor Kafka. Every record says which
//! outcome the pipeline must give it when the whitelist is empty and every fund of the feed is in the lookup
//! ([`BasicSeed`] puts them there), so that a run can be checked record for record.
//!
//! The Kafka timestamps follow [`FeedConfig::start`]: a topic for a feed that starts in the past needs
//! `retention.ms=-1`; brokers refuse timestamps of more than an hour ahead; and [`BadClass::HugeString`] needs a
//! `max.message.bytes` of 4 MiB.

mod bad;
mod config;
mod draft;
mod funds;
mod made;
mod publish;
mod render;

pub use bad::BadClass;
pub use config::{BadShare, ConfigError, DataTypeMix, FeedConfig, MultiRow};
pub use draft::Feed;
pub use funds::{BasicRow, BasicSeed, Fund};
pub use made::{Made, moment};
pub use publish::{Destination, IntoFeed, Pace, Place, Progress, Report, publish};

use reprise_shared::fault::FaultClass;

/// The header that names a record's data type.
pub const DATA_TYPE_HEADER: &str = "data-type";

/// The data types that the feed generates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DataType {
    /// `fund_basic`, which feeds the lookup of fund codes.
    Basic,
    /// `fund_valuation`, whose records carry an array of rows.
    Valuation,
    /// `fund_risk`.
    Risk,
}

impl DataType {
    /// Every data type.
    pub const ALL: [Self; 3] = [Self::Basic, Self::Valuation, Self::Risk];

    /// Returns the name in the catalog.
    pub fn name(self) -> &'static str {
        match self {
            Self::Basic => "fund_basic",
            Self::Valuation => "fund_valuation",
            Self::Risk => "fund_risk",
        }
    }

    /// Returns the target table.
    pub fn table(self) -> &'static str {
        match self {
            Self::Basic => "t_fund_basic_info",
            Self::Valuation => "t_fund_valuation",
            Self::Risk => "t_ai_risk",
        }
    }

    fn headers(self) -> Headers {
        match self {
            Self::Basic => &[(DATA_TYPE_HEADER, "fund_basic")],
            Self::Valuation => &[(DATA_TYPE_HEADER, "fund_valuation")],
            Self::Risk => &[(DATA_TYPE_HEADER, "fund_risk")],
        }
    }
}

/// The Kafka headers of a record: names and values.
pub type Headers = &'static [(&'static str, &'static str)];

/// One record, ready to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedRecord {
    /// The data type that its payload was made for. The headers say what the pipeline sees.
    pub data_type: DataType,
    /// The Kafka key: the performance id, but for the faults that concern it.
    pub key: Vec<u8>,
    /// The Kafka headers.
    pub headers: Headers,
    /// The payload; `None` for a tombstone.
    pub payload: Option<Vec<u8>>,
    /// Kafka's timestamp, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The partition, where it shall not follow from the key.
    pub partition: Option<i32>,
    /// What must become of it.
    pub expectation: Expectation,
}

impl FeedRecord {
    /// Makes an empty record, to be filled by [`Feed::next_into`].
    pub fn empty() -> Self {
        Self {
            data_type: DataType::Basic,
            key: Vec::new(),
            headers: &[],
            payload: None,
            timestamp_ms: 0,
            partition: None,
            expectation: Expectation::Skipped,
        }
    }

    /// Returns the bytes of key and payload together.
    pub fn size(&self) -> usize {
        self.key.len() + self.payload.as_ref().map_or(0, Vec::len)
    }
}

/// The outcome that the pipeline must give a record when the whitelist is empty and the lookup knows every fund.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// It yields rows, also none from an empty array.
    Processed {
        /// How many rows are written or superseded.
        rows: u32,
        /// The row that becomes a dead letter, by its number in the record, and the class. A record has one fault at
        /// most.
        letter: Option<(u32, FaultClass)>,
    },
    /// A tombstone.
    Skipped,
    /// A fault leaves it without rows.
    DeadLettered(FaultClass),
}

#[cfg(test)]
mod tests;
