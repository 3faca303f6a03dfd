//! Chunks with rows in memory, and lanes to push them through.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Result;
use reprise_shared::catalog::{
    Batch, Catalog, Column, ColumnSource, ColumnType, DataType, Field, Lookup, Pointer, Root, Topic, TypeIndex,
    Unmatched, Version, VersionSource,
};
use reprise_shared::clock::Clock;
use reprise_shared::fault::{Fault, FaultClass};
use reprise_shared::kafka::headers::pack;
use reprise_shared::position::{
    Offset, Partition, RowNumber, SourcePosition, TopicGeneration, TopicId, TopicName, TopicPartition,
};
use reprise_shared::row::{Cell, CellWriter, Row};
use reprise_shared::tally::RowCounts;
use reprise_shared::whitelist::{ChangeId, Content, Head, Snapshot};
use reprise_worker::budget::Budget;
use reprise_worker::chunk::{Chunk, RecordIndex, Stretch};
use reprise_worker::lanes::{Config, End, Lanes, Setup};
use reprise_worker::piece::{Letter, PendingRow, Piece};
use reprise_worker::source::builder::{Builder, Delivered};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::hooks::Hooks;
use super::server::TestDatabase;

/// The target table of [`catalog`].
pub const DDL: &str = "CREATE TABLE t_fund (
    code VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, nav_date DATE NOT NULL,
    amount DECIMAL(10,2) NULL, name VARCHAR(10) NULL, rating INT NULL,
    version BIGINT NOT NULL, pos VARBINARY(16) NOT NULL, PRIMARY KEY (code, nav_date))";

/// The type of [`catalog`].
pub const FUND: TypeIndex = TypeIndex(0);

/// A catalog of one type: key (code, date), a decimal, a text, an integer and a `bigint` version.
pub fn catalog(max_rows: usize) -> Catalog {
    let field = |name: &str| Field {
        root: Root::Item,
        pointer: Pointer(vec![name.into()]),
    };
    let column = |name: &str, column_type, optional| Column {
        name: name.into(),
        source: ColumnSource::Field(field(name)),
        column_type,
        optional,
        round: false,
        zone: None,
    };
    let topic = TopicName::new("funds");
    let data_type = DataType {
        name: "fund".into(),
        topic: topic.clone(),
        matcher: None,
        rows: None,
        id: Pointer(vec!["id".into()]),
        in_key: true,
        table: "t_fund".into(),
        key: vec![0, 1],
        version: Version {
            source: VersionSource::Field {
                field: field("version"),
                column_type: ColumnType::BigInt,
                zone: None,
            },
            column: Some("version".into()),
            position_column: "pos".into(),
            max_ahead: None,
        },
        columns: vec![
            column("code", ColumnType::String(16), false),
            column("nav_date", ColumnType::Date, false),
            column(
                "amount",
                ColumnType::Decimal {
                    precision: 10,
                    scale: 2,
                },
                true,
            ),
            column("name", ColumnType::String(10), true),
            column("rating", ColumnType::Int, true),
        ],
        batch: Batch {
            max_rows,
            linger: Duration::from_millis(5),
        },
    };
    let lookup = Lookup {
        name: "code".into(),
        table: "t_fund".into(),
        key: "code".into(),
        value: "name".into(),
        search: Vec::new(),
        ttl: Duration::from_secs(60),
        refresh_after: Duration::from_secs(30),
        negative_ttl: Duration::from_secs(5),
        capacity: 10,
        preload: false,
    };
    Catalog {
        lookups: vec![lookup],
        topics: vec![Topic {
            name: topic,
            unmatched: Unmatched::DeadLetter,
        }],
        data_types: vec![data_type],
        hash: String::new(),
    }
}

/// The values of one row.
#[derive(Clone, Copy, Debug)]
pub struct Fund<'a> {
    /// First column of the key.
    pub code: &'a str,
    /// Second column of the key.
    pub nav_date: &'a str,
    /// `DECIMAL(10,2)`.
    pub amount: Option<&'a str>,
    /// `VARCHAR(10)`.
    pub name: Option<&'a str>,
    /// `INT`.
    pub rating: Option<i64>,
    /// The version.
    pub version: i64,
}

impl<'a> Fund<'a> {
    /// A good row.
    pub fn new(code: &'a str, version: i64) -> Self {
        Self {
            code,
            nav_date: "2024-03-07",
            amount: Some("1.25"),
            name: Some("a"),
            rating: Some(3),
            version,
        }
    }

    /// Makes the row that stands at an offset of partition 0.
    pub fn row(&self, offset: u64) -> Row {
        let text = |text: Option<&'a str>| text.map_or(Cell::Null, Cell::Text);
        let mut cells = CellWriter::default();
        for cell in [
            Cell::Text(self.code),
            Cell::Text(self.nav_date),
            text(self.amount),
            text(self.name),
            self.rating.map_or(Cell::Null, Cell::Int),
            Cell::Int(self.version),
        ] {
            cells.push(cell);
        }
        let key = [self.code.as_bytes(), b"\0", self.nav_date.as_bytes(), b"\0"]
            .concat()
            .into_boxed_slice();
        Row {
            key,
            version: self.version,
            position: position(offset),
            cells: cells.take(),
        }
    }
}

/// The source position of the only row of a record of partition 0.
pub fn position(offset: u64) -> SourcePosition {
    SourcePosition::new(TopicGeneration(1), Partition(0), Offset(offset), RowNumber(0))
}

/// The topic id of every chunk here.
pub fn topic_id() -> TopicId {
    TopicId::new("AAAAAAAAAAAAAAAAAAAAAA")
}

/// Lanes that run, and what is needed to push into them.
pub struct Rig {
    /// The handle.
    pub lanes: Lanes,
    /// The hooks.
    pub hooks: Arc<Hooks>,
    /// Rows in flight.
    pub budget: Arc<Budget>,
    /// Ends lanes at once.
    pub shutdown: CancellationToken,
    tasks: JoinSet<End>,
    stretch: Arc<Stretch>,
}

impl Rig {
    /// Starts the lanes of a catalog on a database. The table is not made here.
    pub fn start(database: &TestDatabase, catalog: Catalog, config: Config) -> Result<Self> {
        let hooks = Arc::new(Hooks::default());
        let budget = Arc::new(Budget::new(1_000_000, 1 << 30));
        let (lanes, each) = Lanes::new(Setup {
            catalog: Arc::new(catalog),
            config,
            url: database.url.clone(),
            database: database.database.clone(),
            budget: budget.clone(),
            control: hooks.clone(),
            clock: Clock::system(),
            task: None,
        })?;
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for lane in each {
            tasks.spawn(lane.run(shutdown.clone()));
        }
        let stretch = Arc::new(Stretch {
            topic_partition: TopicPartition {
                topic: TopicName::new("funds"),
                partition: Partition(0),
            },
            topic_id: topic_id(),
            generation: TopicGeneration(1),
            abandoned: AtomicBool::new(false),
        });
        Ok(Self {
            lanes,
            hooks,
            budget,
            shutdown,
            tasks,
            stretch,
        })
    }

    /// Makes a chunk of one record per offset, each counted as processed, with its payload.
    pub fn chunk(&self, offsets: &[u64], data_type: Option<TypeIndex>) -> Arc<Chunk> {
        let mut offsets_in_order = offsets.to_vec();
        offsets_in_order.sort_unstable();
        let start = Offset(offsets_in_order.first().copied().unwrap_or_default());
        let head = Head {
            version: reprise_shared::whitelist::Version(1),
            change_id: ChangeId::new("test"),
        };
        let whitelist = Arc::new(Snapshot::new(&[], Content::new(head)));
        let mut builder = Builder::new(start, whitelist, Duration::ZERO);
        let mut headers = Vec::new();
        pack(b"trace", Some(b"t"), &mut headers);
        for offset in offsets {
            let record = Delivered {
                offset: Offset(*offset),
                timestamp: 1_700_000_000_000,
                key: Some(b"key"),
                payload: Some(br#"{"id":"x"}"#),
                headers: &headers,
            };
            builder.keep(data_type, record, false, 1 << 20);
        }
        let chunk = builder.seal(self.stretch.clone(), 0, self.budget.clone());
        chunk.count(|outcome| {
            for offset in offsets {
                outcome
                    .saw(data_type, Offset(*offset), 1_700_000_000_000)
                    .records
                    .processed += 1;
            }
        });
        chunk
    }

    /// Pushes one row per record, in one chunk.
    pub fn push_rows(&self, rows: Vec<Row>) -> Arc<Chunk> {
        let offsets: Vec<u64> = rows.iter().map(|row| row.position.offset().0).collect();
        let chunk = self.chunk(&offsets, Some(FUND));
        self.push_decoded(&chunk, rows);
        chunk
    }

    /// Pushes rows of a chunk, one per record.
    pub fn push_decoded(&self, chunk: &Arc<Chunk>, rows: Vec<Row>) {
        chunk.count(|outcome| outcome.tally(Some(FUND)).produced += rows.len() as u64);
        let pieces = rows.into_iter().enumerate().map(|(record, row)| {
            let record = RecordIndex(u32::try_from(record).expect("a small chunk"));
            Piece::Row(PendingRow {
                row,
                data_type: FUND,
                chunk: chunk.clone(),
                record,
            })
        });
        self.push(chunk, pieces.collect());
    }

    /// Pushes one letter for a record of its own chunk.
    pub fn push_letter(&self, offset: u64, data_type: Option<TypeIndex>, class: FaultClass) -> Arc<Chunk> {
        let chunk = self.chunk(&[offset], data_type);
        chunk.count(|outcome| {
            let records = &mut outcome.tally(data_type).records;
            records.processed -= 1;
            records.dead_lettered += 1;
        });
        let letter = Letter {
            data_type,
            chunk: chunk.clone(),
            record: RecordIndex(0),
            row: RowNumber::RECORD,
            fault: Fault::new(class, "made by a test"),
            missed: None,
        };
        self.push(&chunk, vec![Piece::Letter(letter)]);
        chunk
    }

    fn push(&self, chunk: &Chunk, pieces: Vec<Piece>) {
        chunk.expect(pieces.len());
        chunk.decoded();
        self.budget.take_rows(pieces.len());
        self.lanes.push(pieces);
    }

    /// Waits until a chunk is complete; panics after 60 s.
    pub async fn complete(&self, chunk: &Chunk) {
        let done = async {
            while !chunk.is_complete() {
                let again = tokio::time::timeout(Duration::from_millis(20), self.budget.changed());
                let _ = again.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), done)
            .await
            .expect("the chunk completes within 60 s");
    }

    /// Lets the lanes drain and end.
    pub async fn close(self) -> Vec<End> {
        self.lanes.close();
        self.tasks.join_all().await
    }
}

/// The row counts of a chunk's only type.
pub fn rows_of(chunk: &Chunk) -> RowCounts {
    chunk.tallies()[0].1.rows
}
