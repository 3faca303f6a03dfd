//! Where and when a range is: what a search looks at, in tens of thousands of members at a time.

use std::str::FromStr;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;

use super::interval::Interval;
use super::member::Millis;
use crate::position::{Offset, TopicId};

/// A [`Range`](super::Range) without its counts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Span {
    /// The type's first record.
    pub start: Offset,
    /// The position after its last record.
    pub end: Offset,
    /// The earliest time that Kafka gives for its records.
    #[serde(default)]
    pub first_record: Option<Millis>,
    /// The latest.
    #[serde(default)]
    pub last_record: Option<Millis>,
    /// When the segment's first chunk was processed.
    pub first_processed: Millis,
    /// When its last chunk was.
    pub last_processed: Millis,
    /// The incarnation of the topic.
    pub topic_id: TopicId,
}

impl Span {
    /// Returns the positions.
    pub fn interval(&self) -> Interval {
        Interval::new(self.start, self.end)
    }

    /// Reads a member of a type's ranges. Members as this crate writes them are read by their places in the text, which
    /// takes a third of the time; all others as JSON.
    ///
    /// # Errors
    /// When it is not such a member.
    pub fn read(text: &str) -> serde_json::Result<Self> {
        Self::find(text).map_or_else(|| serde_json::from_str(text), Ok)
    }

    /// Finds every field behind the one before it. A name with its quotes and colon stands nowhere else: within a JSON
    /// string the quotes would be escaped, and the counts between have other names.
    fn find(text: &str) -> Option<Self> {
        let whole = text.strip_prefix("{\"run\":\"").and_then(|rest| rest.strip_suffix('}'));
        let (mut rest, fields) = (whole?, &*FIELDS);
        Some(Self {
            start: Offset(number(&mut rest, &fields.start)?),
            end: Offset(number(&mut rest, &fields.end)?),
            first_record: Some(Millis(number(&mut rest, &fields.first_record)?)),
            last_record: Some(Millis(number(&mut rest, &fields.last_record)?)),
            first_processed: Millis(number(&mut rest, &fields.first_processed)?),
            last_processed: Millis(number(&mut rest, &fields.last_processed)?),
            topic_id: TopicId::new(plain_text(&mut rest, &fields.topic_id)?),
        })
    }
}

/// The fields in the order in which they are written.
struct Fields {
    start: Finder<'static>,
    end: Finder<'static>,
    first_record: Finder<'static>,
    last_record: Finder<'static>,
    first_processed: Finder<'static>,
    last_processed: Finder<'static>,
    topic_id: Finder<'static>,
}

static FIELDS: LazyLock<Fields> = LazyLock::new(|| Fields {
    start: Finder::new("\"start\":"),
    end: Finder::new("\"end\":"),
    first_record: Finder::new("\"first_record\":"),
    last_record: Finder::new("\"last_record\":"),
    first_processed: Finder::new("\"first_processed\":"),
    last_processed: Finder::new("\"last_processed\":"),
    topic_id: Finder::new("\"topic_id\":\""),
});

/// Returns the whole number of a field that is not the last, and leaves `rest` behind it.
fn number<T: FromStr>(rest: &mut &str, field: &Finder<'_>) -> Option<T> {
    let value = behind(rest, field)?;
    let (digits, after) = value.split_at(value.bytes().position(|byte| !byte.is_ascii_digit())?);
    *rest = after.strip_prefix(',')?;
    digits.parse().ok()
}

/// Returns the text of a field whose name ends with the opening quote, and leaves `rest` behind it.
fn plain_text<'a>(rest: &mut &'a str, field: &Finder<'_>) -> Option<&'a str> {
    let value = behind(rest, field)?;
    let end = memchr::memchr2(b'"', b'\\', value.as_bytes())?;
    *rest = value[end..].strip_prefix('"')?;
    Some(&value[..end])
}

fn behind<'a>(rest: &mut &'a str, field: &Finder<'_>) -> Option<&'a str> {
    let at = field.find(rest.as_bytes())?;
    rest.get(at + field.needle().len()..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Range, RunId, Source};
    use crate::tally::{RecordCounts, RowCounts};
    use crate::whitelist::Version;

    fn range(run: &str, first_record: Option<i64>) -> Range {
        Range {
            run: RunId::new(run),
            segment: Offset(100),
            start: Offset(103),
            end: Offset(180),
            records: RecordCounts {
                processed: 7,
                ..RecordCounts::default()
            },
            rows: RowCounts {
                written: 9,
                ..RowCounts::default()
            },
            first_record: first_record.map(Millis),
            last_record: Some(Millis(2)),
            first_processed: Millis(3),
            last_processed: Millis(i64::MAX),
            whitelist: Some(Version(12)),
            topic_id: TopicId::new("AAAAAAAAAAAAAAAAAAAAAQ"),
            source: Source::Live,
        }
    }

    fn text(range: &Range) -> String {
        serde_json::to_string(range).expect("plain data")
    }

    #[test]
    fn members_as_they_are_written_are_found_in_their_text() {
        // A run's name may say anything.
        for run in ["r-1", "\"start\":7,", "\\\"end\":8"] {
            let range = range(run, Some(1));
            let span = Span::find(&text(&range)).expect("own form");
            assert_eq!(span, serde_json::from_str(&text(&range)).expect("own form"));
            assert_eq!(
                (span.interval(), span.first_record),
                (range.interval(), range.first_record)
            );
            assert_eq!(
                (span.last_record, span.last_processed),
                (range.last_record, range.last_processed)
            );
            assert_eq!(span.topic_id, range.topic_id);
        }
    }

    #[test]
    fn all_others_are_read_as_json() {
        let whole = text(&range("r-1", Some(1)));
        let others = [
            text(&range("r-1", None)),
            text(&range("r-1", Some(-1))),
            whole.replace(",\"", ", \"").replace(':', ": "),
            whole.replace("AAAQ", "AAA\\u0051"),
            whole.replacen('{', "{\"more\":{\"start\":5},", 1),
            whole.replace("\"start\":103,\"end\":180", "\"end\":180,\"start\":103"),
        ];
        for text in others {
            assert_eq!(Span::find(&text), None, "{text}");
            let span = Span::read(&text).expect("a range");
            assert_eq!((span.start, span.end), (Offset(103), Offset(180)), "{text}");
        }
        let wrong = [
            whole.replace("\"start\":103", "\"start\":103.5"),
            whole.replace("\"start\":103", "\"start\":1e2"),
            whole.replace("\"end\":180", "\"end\":18446744073709551616"),
            whole.replace("\"topic_id\"", "\"topic\""),
            whole[..whole.len() - 1].to_owned(),
            String::new(),
        ];
        for text in wrong {
            assert!(Span::read(&text).is_err(), "{text}");
        }
    }
}
