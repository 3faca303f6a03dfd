//! Which funds there are, and how their basic data comes into the lookup before anything else.

use std::collections::BTreeMap;

use anyhow::Context;
use sqlx::{MySqlPool, QueryBuilder};

use super::draft::Draft;
use super::{DataType, Expectation, FeedConfig, FeedRecord, render};

/// The number of a fund, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fund(pub u32);

impl Fund {
    /// Returns the performance id, for example `0P00000042`.
    pub fn performance_id(self) -> String {
        format!("0P{:08}", self.0)
    }

    /// Returns the fund code, for example `000042`; longer above 999,999.
    pub fn fund_code(self) -> String {
        format!("{:06}", self.0)
    }
}

/// The basic data of every fund of a feed, older than anything that the feed says later.
#[derive(Clone, Copy, Debug)]
pub struct BasicSeed {
    seed: u64,
    funds: u32,
    version_ms: i64,
    timestamp_ms: i64,
}

/// One row of `t_fund_basic_info` as [`BasicSeed::insert`] writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicRow {
    /// The performance id, the table's key.
    pub performance_id: String,
    /// The fund code.
    pub fund_code: String,
    /// The fund's name.
    pub fund_name: String,
    /// The version, as MySQL prints a `DATETIME(3)`.
    pub source_time: String,
}

impl BasicSeed {
    /// The position of rows that do not come from Kafka: one byte, below every position of a record.
    pub const POSITION: [u8; 1] = [0];

    /// Makes the seed of a feed: its funds, one day before its start.
    pub fn new(config: &FeedConfig) -> Self {
        const DAY_MS: i64 = 86_400_000;
        let start_ms = config.start.as_millisecond();
        Self {
            seed: config.seed,
            funds: config.funds,
            version_ms: start_ms - DAY_MS,
            timestamp_ms: start_ms,
        }
    }

    /// Iterates over one `fund_basic` record a fund, to be published before the feed.
    pub fn records(self) -> impl Iterator<Item = FeedRecord> {
        (1..=self.funds).map(move |fund| {
            let draft = Draft {
                data_type: DataType::Basic,
                fund,
                day: 0,
                items: 1,
                same_key: false,
                version_ms: self.version_ms,
                values: self.seed ^ (u64::from(fund) << 32),
            };
            let mut record = FeedRecord::empty();
            let mut payload = Vec::with_capacity(256);
            render::payload(&draft, &[], &mut payload);
            record.data_type = DataType::Basic;
            record.key.extend_from_slice(Fund(fund).performance_id().as_bytes());
            record.headers = DataType::Basic.headers();
            record.payload = Some(payload);
            record.timestamp_ms = self.timestamp_ms;
            record.expectation = Expectation::Processed { rows: 1, letter: None };
            record
        })
    }

    /// Returns what the lookup answers: performance id → fund code.
    pub fn lookup(self) -> BTreeMap<String, String> {
        (1..=self.funds)
            .map(|fund| (Fund(fund).performance_id(), Fund(fund).fund_code()))
            .collect()
    }

    /// Iterates over the rows that [`BasicSeed::insert`] writes.
    pub fn rows(self) -> impl Iterator<Item = BasicRow> {
        let source_time = render::mysql_time(self.version_ms);
        (1..=self.funds).map(move |fund| BasicRow {
            performance_id: Fund(fund).performance_id(),
            fund_code: Fund(fund).fund_code(),
            fund_name: format!("Fund {}", Fund(fund).fund_code()),
            source_time: source_time.clone(),
        })
    }

    /// Writes the rows straight into `table` (of the form of `t_fund_basic_info`), which must not hold them yet.
    /// Not cancel-safe: a part of the rows may stay written.
    pub async fn insert(self, pool: &MySqlPool, table: &str) -> anyhow::Result<()> {
        const ROWS_A_STATEMENT: usize = 1_000;
        let rows: Vec<_> = self.rows().collect();
        for rows in rows.chunks(ROWS_A_STATEMENT) {
            let mut statement = QueryBuilder::new("");
            statement.push(format_args!(
                "INSERT INTO `{table}` (performance_id, fund_code, fund_name, source_time, source_position) "
            ));
            statement.push_values(rows, |mut values, row| {
                values.push_bind(&row.performance_id);
                values.push_bind(&row.fund_code);
                values.push_bind(&row.fund_name);
                values.push_bind(&row.source_time);
                values.push_bind(Self::POSITION.as_slice());
            });
            statement
                .build()
                .execute(pool)
                .await
                .context("insert the basic data of the funds")?;
        }
        Ok(())
    }
}
