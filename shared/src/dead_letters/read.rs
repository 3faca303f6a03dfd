//! Simple reads.

use sqlx::Row as _;
use sqlx::mysql::{MySqlExecutor, MySqlRow};

use super::State;
use crate::position::{Offset, Partition, RowNumber, TopicId};

/// What a letter is about: its identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The data type's name; empty when the record matched none.
    pub data_type: String,
    /// The topic's id.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: Partition,
    /// The offset.
    pub offset: Offset,
    /// The row, or [`RowNumber::RECORD`].
    pub row: RowNumber,
}

/// A letter as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLetter {
    /// Its number.
    pub id: u64,
    /// Its class.
    pub class: String,
    /// The latest error.
    pub error: String,
    /// How often it failed.
    pub attempts: u32,
    /// What happens next.
    pub state: State,
    /// The job that found it last; empty for live traffic.
    pub job_id: String,
    /// The lookup that missed; empty for other classes.
    pub lookup_name: String,
    /// The key that it missed.
    pub lookup_key: String,
}

/// A letter's record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// The topic's name.
    pub topic: String,
    /// Kafka's timestamp in UTC, `YYYY-MM-DD HH:MM:SS.mmm`.
    pub time: Option<String>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The headers as JSON.
    pub headers: String,
    /// The payload; cut when not `whole`.
    pub payload: Option<Vec<u8>>,
    /// The payload's size as Kafka delivered it.
    pub payload_size: u64,
    /// Whether payload is all of it.
    pub whole: bool,
}

impl StoredRecord {
    /// Returns Kafka's timestamp in milliseconds since 1970; `None` when it has none.
    pub fn timestamp(&self) -> Option<i64> {
        let time: jiff::civil::DateTime = self.time.as_deref()?.parse().ok()?;
        Some(
            time.to_zoned(jiff::tz::TimeZone::UTC)
                .ok()?
                .timestamp()
                .as_millisecond(),
        )
    }
}

/// How many letters of one kind there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The data type's name.
    pub data_type: String,
    /// The class.
    pub class: String,
    /// The state.
    pub state: State,
    /// How many.
    pub letters: u64,
}

/// Counts letters by data type, class and state, in that order.
pub async fn count(executor: impl MySqlExecutor<'_>) -> Result<Vec<Count>, sqlx::Error> {
    let rows = sqlx::query(
        "/* count_dead_letters */ SELECT data_type, class, state, COUNT(*) AS letters FROM dead_letters \
         GROUP BY data_type, class, state ORDER BY data_type, class, state",
    )
    .fetch_all(executor)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Count {
                data_type: row.try_get("data_type")?,
                class: row.try_get("class")?,
                state: state(row)?,
                letters: u64::try_from(row.try_get::<i64, _>("letters")?).unwrap_or_default(),
            })
        })
        .collect()
}

/// Finds a letter by its origin.
pub async fn get(executor: impl MySqlExecutor<'_>, origin: &Origin) -> Result<Option<StoredLetter>, sqlx::Error> {
    let row = sqlx::query(
        "/* get_dead_letter */ SELECT id, class, error, attempts, state, job_id, lookup_name, lookup_key \
         FROM dead_letters WHERE data_type = ? AND topic_id = ? AND partition_number = ? AND record_offset = ? \
         AND record_row = ?",
    )
    .bind(&origin.data_type)
    .bind(origin.topic_id.as_str())
    .bind(origin.partition.0)
    .bind(origin.offset.0)
    .bind(origin.row.0)
    .fetch_optional(executor)
    .await?;
    row.as_ref().map(letter).transpose()
}

/// Lists the letters of one record and of its rows, of every data type, by data type and row; at most `most`.
pub async fn of_record(
    executor: impl MySqlExecutor<'_>,
    topic_id: &TopicId,
    partition: Partition,
    offset: Offset,
    most: u32,
) -> Result<Vec<(Origin, StoredLetter)>, sqlx::Error> {
    let rows = sqlx::query(
        "/* dead_letters_of_record */ SELECT id, class, error, attempts, state, job_id, lookup_name, lookup_key, \
         data_type, record_row FROM dead_letters WHERE topic_id = ? AND partition_number = ? AND record_offset = ? \
         ORDER BY data_type, record_row LIMIT ?",
    )
    .bind(topic_id.as_str())
    .bind(partition.0)
    .bind(offset.0)
    .bind(most)
    .fetch_all(executor)
    .await?;
    let letters = rows.iter().map(|row| {
        let origin = Origin {
            data_type: row.try_get("data_type")?,
            topic_id: topic_id.clone(),
            partition,
            offset,
            row: RowNumber(row.try_get("record_row")?),
        };
        Ok((origin, letter(row)?))
    });
    letters.collect()
}

/// Finds the record of letters by topic id, partition and offset.
pub async fn get_record(
    executor: impl MySqlExecutor<'_>,
    topic_id: &TopicId,
    partition: Partition,
    offset: Offset,
) -> Result<Option<StoredRecord>, sqlx::Error> {
    let row = sqlx::query(
        "/* get_dead_letter_record */ SELECT topic, CAST(record_time AS CHAR) AS record_time, record_key, headers, \
         payload, payload_size, payload_state = 'WHOLE' AS whole FROM dead_letter_records \
         WHERE topic_id = ? AND partition_number = ? AND record_offset = ?",
    )
    .bind(topic_id.as_str())
    .bind(partition.0)
    .bind(offset.0)
    .fetch_optional(executor)
    .await?;
    row.map(|row| {
        Ok(StoredRecord {
            topic: row.try_get("topic")?,
            time: row.try_get("record_time")?,
            key: row.try_get("record_key")?,
            headers: row.try_get("headers")?,
            payload: row.try_get("payload")?,
            payload_size: row.try_get("payload_size")?,
            whole: row.try_get::<i64, _>("whole")? == 1,
        })
    })
    .transpose()
}

fn letter(row: &MySqlRow) -> Result<StoredLetter, sqlx::Error> {
    Ok(StoredLetter {
        id: row.try_get("id")?,
        class: row.try_get("class")?,
        error: row.try_get("error")?,
        attempts: row.try_get("attempts")?,
        state: state(row)?,
        job_id: row.try_get("job_id")?,
        lookup_name: row.try_get("lookup_name")?,
        lookup_key: row.try_get("lookup_key")?,
    })
}

fn state(row: &MySqlRow) -> Result<State, sqlx::Error> {
    let name: String = row.try_get("state")?;
    State::parse(&name).ok_or_else(|| sqlx::Error::Decode(format!("{name} is not a dead letter's state").into()))
}
