//! Stores the letters of one batch, in as few statements as the packet limit allows.

use jiff::Timestamp;
use sqlx::mysql::{MySqlArguments, MySqlConnection};
use sqlx::{Arguments, AssertSqlSafe};

use super::State;
use crate::fault::FaultClass;
use crate::position::{Offset, Partition, RowNumber, TopicId, TopicName};

/// Statement sizes: powers of two up to this.
const MAX_ROWS: usize = 64;
const MAX_ERROR_CHARACTERS: usize = 2_000;
const MAX_LOOKUP_KEY_CHARACTERS: usize = 255;
/// What a row needs beside its byte strings, generously.
const ROW_OVERHEAD: usize = 1024;

/// A letter to store, borrowed from the record's chunk.
#[derive(Clone, Debug)]
pub struct NewLetter<'a> {
    /// The data type's name; empty when the record matched none.
    pub data_type: &'a str,
    /// The faulty row, or [`RowNumber::RECORD`].
    pub row: RowNumber,
    /// What is wrong.
    pub class: FaultClass,
    /// What is wrong, for a person; cut at 2,000 characters.
    pub error: &'a str,
    /// The lookup's name and the key that it missed, for `LOOKUP_MISS`.
    pub missed: Option<(&'a str, &'a str)>,
    /// The job that found it; empty for live traffic.
    pub job_id: &'a str,
    /// The record.
    pub record: RecordBytes<'a>,
}

/// The record that a letter is about.
#[derive(Clone, Debug)]
pub struct RecordBytes<'a> {
    /// The topic's id.
    pub topic_id: &'a TopicId,
    /// The topic's name.
    pub topic: &'a TopicName,
    /// The partition.
    pub partition: Partition,
    /// The offset.
    pub offset: Offset,
    /// Kafka's timestamp in milliseconds; negative when it has none.
    pub timestamp: i64,
    /// The record's key.
    pub key: Option<&'a [u8]>,
    /// The headers as [`super::headers_json`] writes them.
    pub headers: String,
    /// The payload, perhaps cut already.
    pub payload: Option<&'a [u8]>,
    /// The payload's size as Kafka delivered it.
    pub payload_size: usize,
}

impl RecordBytes<'_> {
    fn origin(&self) -> (&TopicId, Partition, Offset) {
        (self.topic_id, self.partition, self.offset)
    }

    /// Cuts what one statement of `limit` bytes cannot hold: the payload first, then headers and key.
    fn fitted(&self, limit: usize) -> Self {
        let mut fitted = self.clone();
        let room = limit.saturating_sub(ROW_OVERHEAD);
        let mut rest = fitted.key.map_or(0, <[u8]>::len) + fitted.headers.len();
        if rest > room {
            fitted.headers = "[]".to_owned();
            fitted.key = fitted.key.map(|key| &key[..key.len().min(room.saturating_sub(2))]);
            fitted.payload = fitted.payload.map(|_| [].as_slice());
            rest = room;
        }
        fitted.payload = fitted.payload.map(|payload| &payload[..payload.len().min(room - rest)]);
        fitted
    }

    fn size(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.headers.len() + self.payload.map_or(0, <[u8]>::len) + ROW_OVERHEAD
    }
}

/// Stores letters on a connection, within the transaction that is open on it. `packet_limit` bounds one statement, in
/// bytes; a payload that does not fit is cut and marked `POINTER_ONLY`.
///
/// A letter whose origin is stored already counts an attempt and takes the new error; a discarded one stays
/// discarded, a redriven one is open again. Any error leaves the transaction to be rolled back. Rows are written in
/// the order of their unique keys, like everywhere, so that two lanes cannot lock in a circle.
pub async fn insert(
    connection: &mut MySqlConnection,
    letters: &[NewLetter<'_>],
    now: Timestamp,
    packet_limit: usize,
) -> Result<(), sqlx::Error> {
    let mut records: Vec<&RecordBytes<'_>> = letters.iter().map(|letter| &letter.record).collect();
    records.sort_unstable_by(|a, b| a.origin().cmp(&b.origin()));
    records.dedup_by(|a, b| a.origin() == b.origin());
    let records: Vec<_> = records.into_iter().map(|record| record.fitted(packet_limit)).collect();
    let mut rest = records.as_slice();
    while !rest.is_empty() {
        let (now_these, later) = rest.split_at(fitting(rest, packet_limit, RecordBytes::size));
        insert_records(connection, now_these).await?;
        rest = later;
    }

    let mut letters: Vec<&NewLetter<'_>> = letters.iter().collect();
    letters
        .sort_unstable_by(|a, b| (a.data_type, a.record.origin(), a.row).cmp(&(b.data_type, b.record.origin(), b.row)));
    let mut rest = letters.as_slice();
    while !rest.is_empty() {
        let bytes = |_: &&NewLetter<'_>| ROW_OVERHEAD + 4 * (MAX_ERROR_CHARACTERS + MAX_LOOKUP_KEY_CHARACTERS);
        let (now_these, later) = rest.split_at(fitting(rest, packet_limit, bytes));
        insert_letters(connection, now_these, now).await?;
        rest = later;
    }
    Ok(())
}

/// Returns how many of the first items go into one statement: a power of two, at least one.
fn fitting<T>(items: &[T], limit: usize, size: impl Fn(&T) -> usize) -> usize {
    let mut bytes = 0;
    let fit = items
        .iter()
        .take(MAX_ROWS)
        .take_while(|item| {
            bytes += size(item);
            bytes <= limit
        })
        .count()
        .max(1);
    1 << fit.ilog2()
}

async fn insert_records(connection: &mut MySqlConnection, records: &[RecordBytes<'_>]) -> Result<(), sqlx::Error> {
    let sql = format!(
        "/* insert_dead_letter_records */ INSERT INTO dead_letter_records (topic_id, partition_number, record_offset, \
         topic, record_time, record_key, headers, payload, payload_size, payload_state) VALUES {} \
         ON DUPLICATE KEY UPDATE record_offset = dead_letter_records.record_offset",
        tuples(records.len(), 10)
    );
    let mut arguments = MySqlArguments::default();
    for record in records {
        let add = &mut arguments;
        let whole = record.payload.map_or(0, <[u8]>::len) == record.payload_size;
        bind(add, record.topic_id.as_str())?;
        bind(add, record.partition.0)?;
        bind(add, record.offset.0)?;
        bind(add, record.topic.as_str())?;
        bind(add, record_time(record.timestamp))?;
        bind(add, record.key)?;
        bind(add, record.headers.as_str())?;
        bind(add, record.payload)?;
        bind(add, record.payload_size as u64)?;
        bind(add, if whole { "WHOLE" } else { "POINTER_ONLY" })?;
    }
    sqlx::query_with(AssertSqlSafe(sql), arguments)
        .execute(connection)
        .await?;
    Ok(())
}

async fn insert_letters(
    connection: &mut MySqlConnection,
    letters: &[&NewLetter<'_>],
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let sql = format!(
        "/* insert_dead_letters */ INSERT INTO dead_letters (data_type, topic_id, partition_number, record_offset, \
         record_row, class, error, state, job_id, lookup_name, lookup_key, created_at, updated_at) VALUES {} \
         ON DUPLICATE KEY UPDATE attempts = attempts + 1, class = VALUES(class), error = VALUES(error), \
         job_id = VALUES(job_id), lookup_name = VALUES(lookup_name), lookup_key = VALUES(lookup_key), \
         updated_at = VALUES(updated_at), published_at = NULL, state = IF(state = 'DISCARDED', state, VALUES(state))",
        tuples(letters.len(), 13)
    );
    let now = now.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string();
    let mut arguments = MySqlArguments::default();
    for letter in letters {
        let add = &mut arguments;
        let state = if letter.missed.is_some() {
            State::Retrying
        } else {
            State::Parked
        };
        let (lookup, key) = letter.missed.unwrap_or_default();
        bind(add, letter.data_type)?;
        bind(add, letter.record.topic_id.as_str())?;
        bind(add, letter.record.partition.0)?;
        bind(add, letter.record.offset.0)?;
        bind(add, letter.row.0)?;
        bind(add, letter.class.as_str())?;
        bind(add, cut(letter.error, MAX_ERROR_CHARACTERS))?;
        bind(add, state.as_str())?;
        bind(add, letter.job_id)?;
        bind(add, lookup)?;
        bind(add, cut(key, MAX_LOOKUP_KEY_CHARACTERS))?;
        bind(add, now.as_str())?;
        bind(add, now.as_str())?;
    }
    sqlx::query_with(AssertSqlSafe(sql), arguments)
        .execute(connection)
        .await?;
    Ok(())
}

fn bind<'v, V>(arguments: &mut MySqlArguments, value: V) -> Result<(), sqlx::Error>
where
    V: sqlx::Encode<'v, sqlx::MySql> + sqlx::Type<sqlx::MySql>,
{
    arguments.add(value).map_err(sqlx::Error::Encode)
}

fn tuples(rows: usize, columns: usize) -> String {
    let tuple = format!("({})", vec!["?"; columns].join(","));
    vec![tuple; rows].join(",")
}

/// Kafka's milliseconds as MySQL reads them; `None` when there is no time or MySQL cannot hold it.
fn record_time(milliseconds: i64) -> Option<String> {
    let time = (milliseconds >= 0)
        .then(|| Timestamp::from_millisecond(milliseconds).ok())
        .flatten()?;
    Some(time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string())
}

fn cut(text: &str, characters: usize) -> &str {
    text.char_indices()
        .nth(characters)
        .map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_hold_powers_of_two_within_the_limit() {
        let sizes = [10, 10, 10, 10, 100, 10];
        assert_eq!(fitting(&sizes, 35, |size| *size), 2);
        assert_eq!(fitting(&sizes, 40, |size| *size), 4);
        assert_eq!(fitting(&sizes[4..], 40, |size| *size), 1);
        assert_eq!(fitting(&[1; 500], 1_000, |size| *size), MAX_ROWS);
    }

    #[test]
    fn a_record_beyond_the_packet_limit_is_cut_payload_first() {
        let (topic_id, topic) = (TopicId::new("t"), TopicName::new("t"));
        let payload = vec![b'x'; 10_000];
        let record = RecordBytes {
            topic_id: &topic_id,
            topic: &topic,
            partition: Partition(0),
            offset: Offset(0),
            timestamp: -1,
            key: Some(b"key"),
            headers: "[]".into(),
            payload: Some(&payload),
            payload_size: payload.len(),
        };
        assert_eq!(record.fitted(100_000).payload.map(<[u8]>::len), Some(10_000));
        let fitted = record.fitted(5_000);
        assert!(fitted.size() <= 5_000 && fitted.key == Some(b"key".as_slice()));
        let key = RecordBytes {
            key: Some(&payload),
            ..record
        };
        assert!(key.fitted(5_000).size() <= 5_000);
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(cut("añb", 2), "añ");
        assert_eq!(cut("añb", 9), "añb");
    }
}
