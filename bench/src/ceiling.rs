//! The raw ceiling of the database: the same rows in the same batches, already in memory, by the same statement on
//! the same number of connections, and nothing else.

use std::collections::BTreeMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use foldhash::fast::FixedState;
use rdkafka::Message as _;
use reprise_shared::catalog::{Catalog, TypeIndex};
use reprise_shared::clock::Clock;
use reprise_shared::decode::{Decoder, Drafts, Limits, RecordSource};
use reprise_shared::mysql::{Connector, Session};
use reprise_shared::position::{Offset, Partition, TopicGeneration};
use reprise_shared::row::Row;
use reprise_tests::feed::BasicSeed;
use reprise_worker::sink::statement::Upsert;
use serde::Serialize;
use sqlx::mysql::MySqlConnection;
use tokio::task::JoinSet;

use crate::bare;
use crate::ground::Ground;
use crate::process::CpuTimes;

/// As many as a worker has lanes of one table.
const CONNECTIONS: usize = 2;
/// As many rows as a worker puts into one statement.
const BATCH: usize = 1_000;

/// All rows of the topic in batches, by connection.
pub struct Rows {
    batches: Vec<Arc<Vec<Vec<Row>>>>,
    upsert: Arc<Upsert>,
    /// The mean size of the records' values in bytes.
    pub mean_value: f64,
}

/// What a pass took.
#[derive(Clone, Debug, Serialize)]
pub struct Written {
    /// Seconds from the first statement to the last commit.
    pub seconds: f64,
    /// CPU seconds per million records by process.
    pub cpu_seconds_per_million: BTreeMap<String, f64>,
}

/// Finds a data type of a catalog.
pub fn type_index(catalog: &Catalog, name: &str) -> Result<TypeIndex> {
    let place = catalog.data_types.iter().position(|data_type| data_type.name == name);
    place.map(TypeIndex).with_context(|| format!("no data type {name}"))
}

impl Rows {
    /// Reads the topic and decodes it as a worker does: rows in the order of their delivery, dealt to connections by
    /// their key, each batch in key order.
    pub fn read(ground: &Ground, catalog: &Catalog) -> Result<Self> {
        let data_type = catalog.data_type(type_index(catalog, "fund_valuation")?);
        let decoder = Decoder::new(data_type)?;
        let codes = BasicSeed::new(&ground.feed).lookup();
        let now = Clock::system().now();
        let hasher = FixedState::default();
        let (mut drafts, mut rows) = (Drafts::default(), Vec::new());
        let mut open: Vec<Vec<Row>> = (0..CONNECTIONS).map(|_| Vec::with_capacity(BATCH)).collect();
        let mut batches: Vec<Vec<Vec<Row>>> = vec![Vec::new(); CONNECTIONS];
        let mut bytes = 0;
        bare::consume(ground, |message| {
            let payload = message.payload().unwrap_or_default();
            bytes += payload.len();
            let key = message.key().unwrap_or_default();
            let code = codes.get(std::str::from_utf8(key)?).context("an unknown fund")?;
            let source = RecordSource {
                generation: TopicGeneration(1),
                partition: Partition::from_kafka(message.partition()).context("a partition")?,
                offset: Offset::from_kafka(message.offset()).context("an offset")?,
                timestamp: message.timestamp().to_millis().unwrap_or(-1),
                key: Some(key),
                in_key: true,
            };
            let faulty = |fault| anyhow::anyhow!("a good record has a fault: {fault:?}");
            decoder
                .decode(&source, payload, now, &Limits::default(), &mut drafts)
                .map_err(faulty)?;
            drafts.complete(|_| code.as_str(), &mut rows).map_err(faulty)?;
            for row in rows.drain(..) {
                let connection = usize::try_from(hasher.hash_one(&row.key) >> 48)? % CONNECTIONS;
                open[connection].push(row);
                if open[connection].len() == BATCH {
                    batches[connection].push(sorted(std::mem::take(&mut open[connection])));
                }
            }
            Ok(())
        })?;
        for (batches, open) in batches.iter_mut().zip(open) {
            batches.push(sorted(open));
        }
        Ok(Self {
            batches: batches.into_iter().map(Arc::new).collect(),
            upsert: Arc::new(Upsert::new(data_type)),
            mean_value: bytes as f64 / ground.records as f64,
        })
    }

    /// Writes all rows.
    pub async fn write(&self, ground: &mut Ground) -> Result<Written> {
        let url = ground.fleet.isolation.mysql_url().into();
        let session = Session {
            lock_wait_timeout: Duration::from_secs(5),
            wait_timeout: Duration::from_secs(20),
            statement_cache: 256,
        };
        let connector = Connector::new(&url, session)?;
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(connector.connect().await?);
        }
        let (clock, pids) = (Clock::system(), ground.processes());
        let (begun, cpu) = (clock.monotonic(), CpuTimes::of(&pids)?);
        let mut writers = JoinSet::new();
        for (connection, batches) in connections.into_iter().zip(&self.batches) {
            writers.spawn(write(connection, Arc::clone(batches), Arc::clone(&self.upsert)));
        }
        while let Some(written) = writers.join_next().await {
            written??;
        }
        Ok(Written {
            seconds: clock.monotonic().saturating_sub(begun).as_secs_f64(),
            cpu_seconds_per_million: CpuTimes::of(&pids)?.since(&cpu, ground.records),
        })
    }
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    rows
}

async fn write(mut connection: MySqlConnection, batches: Arc<Vec<Vec<Row>>>, upsert: Arc<Upsert>) -> Result<()> {
    for batch in batches.iter() {
        let mut rest = batch.as_slice();
        while !rest.is_empty() {
            let sizes = rest.iter().map(|row| upsert.row_bytes(row));
            let bytes = sizes.clone().sum();
            let size = upsert.fitting(sizes, rest.len(), usize::MAX);
            let (rows, left) = rest.split_at(size);
            let arguments = upsert.bind(rows.iter(), bytes)?;
            sqlx::query_with(upsert.sql(size), arguments)
                .execute(&mut connection)
                .await?;
            rest = left;
        }
    }
    Ok(())
}
