//! What a feed is made of.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BadClass, DataType};

/// Settings of a feed. Shares are fractions of all records, from 0 to 1; together they leave room for good ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, clap::Args)]
#[serde(default, deny_unknown_fields)]
pub struct FeedConfig {
    /// The same seed and settings give the same bytes.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many records; endless when left out.
    #[arg(long)]
    pub records: Option<u64>,
    /// How many funds there are, 2 to 10,000,000.
    #[arg(long, default_value_t = 2_000)]
    pub funds: u32,
    /// How many days the records of one fund cover before they start over, 1 to 10,000. The last one is the day of
    /// `start`. Funds × days is the number of keys of a table.
    #[arg(long, default_value_t = 30)]
    pub days: u32,
    /// The version and the Kafka timestamp of the first record. Each further record is one `step_ms` later.
    #[arg(long, default_value_t = FeedConfig::START)]
    pub start: Timestamp,
    /// Milliseconds between the versions of two records.
    #[arg(long, default_value_t = 1)]
    pub step_ms: u32,
    /// How many partitions the topic has, for records that are put into another one than their key's.
    #[arg(long, default_value_t = 4)]
    pub partitions: u16,
    /// The weights of the data types.
    #[command(flatten)]
    pub mix: DataTypeMix,
    /// Share of records that carry an older version of a recent record's key.
    #[arg(long, default_value_t = 0.0)]
    pub disorder: f64,
    /// Share of records that repeat a recent record.
    #[arg(long, default_value_t = 0.0)]
    pub duplicates: f64,
    /// Share of records with key and version of a recent record, other values, and any partition.
    #[arg(long, default_value_t = 0.0)]
    pub equal_versions: f64,
    /// Share of records whose id no lookup knows.
    #[arg(long, default_value_t = 0.0)]
    pub unknown_ids: f64,
    /// Records with several rows.
    #[command(flatten)]
    pub multi_row: MultiRow,
    /// Shares of bad records by class, on the command line as `--bad not_json=0.001`.
    #[arg(long)]
    pub bad: Vec<BadShare>,
}

impl FeedConfig {
    /// 2024-03-07T09:30:00Z.
    pub const START: Timestamp = Timestamp::constant(1_709_803_800, 0);

    /// A feed without records, of so many funds.
    #[must_use]
    pub fn only_funds(funds: u32) -> Self {
        Self {
            records: Some(0),
            funds,
            ..Self::default()
        }
    }

    /// Switches everything on: each kind of good and bad record with about the same small share.
    #[must_use]
    pub fn with_every_switch(mut self) -> Self {
        self.disorder = 0.05;
        self.duplicates = 0.05;
        self.equal_versions = 0.05;
        self.unknown_ids = 0.01;
        self.multi_row = MultiRow {
            multi_row: 0.2,
            items: 8.min(self.days.max(2)),
            same_key: 0.2,
        };
        self.bad = BadClass::ALL
            .into_iter()
            .map(|class| BadShare {
                class,
                share: class.small_share(),
            })
            .collect();
        self
    }

    /// Checks everything and names all faults at once.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut faults = Vec::new();
        let mut check = |holds: bool, fault: &str| {
            if !holds {
                faults.push(fault.to_owned());
            }
        };
        check(
            (2..=10_000_000).contains(&self.funds),
            "funds must be from 2 to 10,000,000",
        );
        check((1..=10_000).contains(&self.days), "days must be from 1 to 10,000");
        check(self.partitions > 0, "partitions must be at least 1");
        check(
            (2..=self.days.max(2)).contains(&self.multi_row.items),
            "items must be from 2 to days",
        );
        check(
            self.multi_row.multi_row == 0.0 || self.days >= 2,
            "multi_row needs at least 2 days",
        );
        check(self.mix.total() > 0, "one weight of a data type must be above 0");
        check(
            (946_684_800..=4_000_000_000).contains(&self.start.as_second()),
            "start must lie between the years 2000 and 2096",
        );
        let shares = [self.disorder, self.duplicates, self.equal_versions, self.unknown_ids];
        let shares = shares.into_iter().chain(self.bad.iter().map(|bad| bad.share));
        let of_rows = [self.multi_row.multi_row, self.multi_row.same_key];
        check(
            shares.clone().chain(of_rows).all(|share| (0.0..=1.0).contains(&share)),
            "a share must be from 0 to 1",
        );
        check(shares.sum::<f64>() <= 1.0, "the shares together must not be above 1");
        check(
            self.unknown_ids == 0.0 || self.mix.any_of(&[DataType::Valuation, DataType::Risk]),
            "unknown_ids needs a data type with a lookup",
        );
        for bad in &self.bad {
            check(
                bad.share == 0.0 || self.mix.any_of(bad.class.data_types()),
                &format!("bad records of class {} need a data type that can have them", bad.class),
            );
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(ConfigError(faults.join("; ")))
        }
    }
}

impl Default for FeedConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            records: None,
            funds: 2_000,
            days: 30,
            start: Self::START,
            step_ms: 1,
            partitions: 4,
            mix: DataTypeMix::default(),
            disorder: 0.0,
            duplicates: 0.0,
            equal_versions: 0.0,
            unknown_ids: 0.0,
            multi_row: MultiRow::default(),
            bad: Vec::new(),
        }
    }
}

/// All that is wrong with a [`FeedConfig`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the feed's settings are wrong: {0}")]
pub struct ConfigError(String);

/// The weights of the data types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
#[serde(default, deny_unknown_fields)]
pub struct DataTypeMix {
    /// Weight of `fund_basic`.
    #[arg(long = "weight-basic", default_value_t = 1)]
    pub basic: u16,
    /// Weight of `fund_valuation`.
    #[arg(long = "weight-valuation", default_value_t = 16)]
    pub valuation: u16,
    /// Weight of `fund_risk`.
    #[arg(long = "weight-risk", default_value_t = 3)]
    pub risk: u16,
}

impl DataTypeMix {
    /// Makes a mix of one data type.
    pub fn only(data_type: DataType) -> Self {
        let weight = |of| u16::from(data_type == of);
        Self {
            basic: weight(DataType::Basic),
            valuation: weight(DataType::Valuation),
            risk: weight(DataType::Risk),
        }
    }

    fn weight(&self, data_type: DataType) -> u32 {
        u32::from(match data_type {
            DataType::Basic => self.basic,
            DataType::Valuation => self.valuation,
            DataType::Risk => self.risk,
        })
    }

    fn total(&self) -> u32 {
        DataType::ALL.into_iter().map(|data_type| self.weight(data_type)).sum()
    }

    fn any_of(&self, data_types: &[DataType]) -> bool {
        data_types.iter().any(|data_type| self.weight(*data_type) > 0)
    }

    /// Chooses one of `data_types` by weight, `None` when all their weights are 0.
    pub(super) fn choose(&self, random: u32, data_types: &[DataType]) -> Option<DataType> {
        let total: u32 = data_types.iter().map(|data_type| self.weight(*data_type)).sum();
        let mut rest = u32::try_from((u64::from(random) * u64::from(total)) >> 32).unwrap_or(0);
        data_types
            .iter()
            .copied()
            .find(|data_type| match rest.checked_sub(self.weight(*data_type)) {
                Some(left) => {
                    rest = left;
                    false
                }
                None => true,
            })
    }
}

impl Default for DataTypeMix {
    fn default() -> Self {
        Self {
            basic: 1,
            valuation: 16,
            risk: 3,
        }
    }
}

/// Valuation records with several rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, clap::Args)]
#[serde(default, deny_unknown_fields)]
pub struct MultiRow {
    /// Share of the new valuation records that have more than one item.
    #[arg(long, default_value_t = 0.0)]
    pub multi_row: f64,
    /// At most this many items, from 2 to the number of days.
    #[arg(long, default_value_t = 8)]
    pub items: u32,
    /// Share of those records whose last item has the key of the first.
    #[arg(long, default_value_t = 0.0)]
    pub same_key: f64,
}

impl Default for MultiRow {
    fn default() -> Self {
        Self {
            multi_row: 0.0,
            items: 8,
            same_key: 0.0,
        }
    }
}

/// The share of one class of bad records.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BadShare {
    /// The class.
    pub class: BadClass,
    /// Its share of all records.
    pub share: f64,
}

impl std::str::FromStr for BadShare {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError(format!("{text:?} is not of the form class=share"));
        let (class, share) = text.split_once('=').ok_or_else(wrong)?;
        Ok(Self {
            class: BadClass::ALL
                .into_iter()
                .find(|known| known.name() == class)
                .ok_or_else(wrong)?,
            share: share.parse().map_err(|_| wrong())?,
        })
    }
}
