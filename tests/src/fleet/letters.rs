//! Dead letters and type states as they stand in MySQL, and what the oracle says of them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use reprise_shared::position::{Offset, Partition, RowNumber};
use sqlx::Row as _;

use super::Fleet;
use crate::oracle::Folded;

/// A letter's identity, as the oracle knows it: data type, partition, offset, row and class.
pub type LetterKey = (String, u16, u64, u32, String);

/// A dead letter with its record.
#[derive(Clone, Debug)]
pub struct FoundLetter {
    /// Its identity.
    pub key: LetterKey,
    /// The topic's id.
    pub topic_id: String,
    /// What happens next.
    pub state: String,
    /// How often it failed.
    pub attempts: u32,
    /// The missed lookup and its key.
    pub missed: (String, String),
    /// The record's key.
    pub record_key: Option<Vec<u8>>,
    /// The record's headers as JSON.
    pub headers: String,
    /// The stored payload.
    pub payload: Option<Vec<u8>>,
    /// The payload's size in Kafka.
    pub payload_size: u64,
    /// `WHOLE` or `POINTER_ONLY`.
    pub payload_state: String,
}

impl FoundLetter {
    /// Where its record stands.
    pub fn place(&self) -> (Partition, Offset) {
        (Partition(self.key.1), Offset(self.key.2))
    }
}

/// A data type's recorded state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundState {
    /// Whether it is stopped.
    pub stopped: bool,
    /// Why.
    pub reason: String,
    /// More about it.
    pub detail: String,
    /// Whether the Kafka key is not trusted.
    pub in_key_off: bool,
}

impl Fleet {
    /// Reads every dead letter with its record.
    pub async fn letters(&self) -> Result<Vec<FoundLetter>> {
        let rows = sqlx::query(
            "SELECT l.data_type, l.partition_number, l.record_offset, l.record_row, l.class, l.topic_id, l.state, \
             l.attempts, l.lookup_name, l.lookup_key, r.record_key, r.headers, r.payload, r.payload_size, \
             r.payload_state FROM dead_letters l JOIN dead_letter_records r USING (topic_id, partition_number, \
             record_offset) ORDER BY l.partition_number, l.record_offset, l.record_row",
        )
        .fetch_all(&self.pool)
        .await?;
        let letters = rows.iter().map(|row| {
            Ok(FoundLetter {
                key: (
                    row.try_get(0)?,
                    row.try_get(1)?,
                    row.try_get(2)?,
                    row.try_get(3)?,
                    row.try_get(4)?,
                ),
                topic_id: row.try_get(5)?,
                state: row.try_get(6)?,
                attempts: row.try_get(7)?,
                missed: (row.try_get(8)?, row.try_get(9)?),
                record_key: row.try_get(10)?,
                headers: row.try_get(11)?,
                payload: row.try_get(12)?,
                payload_size: row.try_get(13)?,
                payload_state: row.try_get(14)?,
            })
        });
        letters.collect::<sqlx::Result<_>>().context("read the dead letters")
    }

    /// Counts the dead letters, with or without their records.
    pub async fn count_letters(&self) -> Result<usize> {
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM dead_letters")
            .fetch_one(&self.pool)
            .await?;
        Ok(usize::try_from(count)?)
    }

    /// Checks that there are exactly the letters of the oracle, each with its record, and returns them.
    pub async fn check_letters(&self, folded: &Folded) -> Result<Vec<FoundLetter>> {
        let letters = self.letters().await?;
        ensure!(
            letters.len() == self.count_letters().await?,
            "a letter lacks its record"
        );
        let found: BTreeSet<LetterKey> = letters.iter().map(|letter| letter.key.clone()).collect();
        ensure!(found.len() == letters.len(), "a letter stands twice");
        let expected = keys_of(folded);
        let (missing, extra): (Vec<_>, Vec<_>) = (
            expected.difference(&found).collect(),
            found.difference(&expected).collect(),
        );
        if !missing.is_empty() || !extra.is_empty() {
            let few = |all: &[&LetterKey]| format!("{:#?}", &all[..all.len().min(5)]);
            bail!(
                "{} letters expected, {} found: {} missing: {}, {} unexpected: {}",
                expected.len(),
                found.len(),
                missing.len(),
                few(&missing),
                extra.len(),
                few(&extra)
            );
        }
        Ok(letters)
    }

    /// Reads the recorded state of data types.
    pub async fn type_states(&self) -> Result<BTreeMap<String, FoundState>> {
        let rows = sqlx::query("SELECT data_type, stopped, stop_reason, stop_detail, in_key_off FROM type_states")
            .fetch_all(&self.pool)
            .await?;
        let states = rows.iter().map(|row| {
            Ok((
                row.try_get(0)?,
                FoundState {
                    stopped: row.try_get(1)?,
                    reason: row.try_get(2)?,
                    detail: row.try_get(3)?,
                    in_key_off: row.try_get(4)?,
                },
            ))
        });
        states.collect::<sqlx::Result<_>>().context("read the type states")
    }
}

/// The identities of the oracle's letters.
pub fn keys_of(folded: &Folded) -> BTreeSet<LetterKey> {
    let letters = folded.letters.iter();
    letters
        .map(|letter| {
            let RowNumber(row) = letter.row;
            (
                letter.data_type.clone(),
                letter.partition.0,
                letter.offset.0,
                row,
                letter.class.as_str().to_owned(),
            )
        })
        .collect()
}
