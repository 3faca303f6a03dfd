//! What the ledger still knows of a record that Kafka has deleted.

use std::fmt::Write as _;

use reprise_shared::ledger::{Interval, Range};
use reprise_shared::position::{Offset, TopicPartition};

use super::time;
use crate::explain::evidence::Letter;

/// At most so many ranges are told one by one.
const MOST: usize = 4;

/// Says what is left of a deleted record. `ranges` hold its offset, each with its type.
pub(in crate::explain) fn expired(
    at: &TopicPartition,
    offset: Offset,
    log: Interval,
    ranges: &[(&str, Range)],
    deferred: &[&str],
) -> String {
    let mut text = format!(
        "Kafka has deleted it: the log of topic {} partition {} begins at {}.",
        at.topic, at.partition, log.start
    );
    if ranges.is_empty() {
        text.push_str(" The ledger has nothing on record about its position.");
    } else {
        let _ = write!(text, " Its position {offset} lies in what the ledger has on record:");
    }
    for (number, (data_type, range)) in ranges.iter().take(MOST).enumerate() {
        let separator = if number == 0 { "" } else { ";" };
        let _ = write!(text, "{separator} {}", line(data_type, range));
    }
    if !ranges.is_empty() {
        text.push('.');
    }
    for data_type in deferred {
        let _ = write!(
            text,
            " It lies in an interval in which records of {data_type} were passed over while that type was stopped."
        );
    }
    text.push_str(" Only upstream can send it again.");
    text
}

fn line(data_type: &str, range: &Range) -> String {
    let counts = range.records;
    let mut told = String::new();
    for (count, name) in [
        (counts.processed, "processed"),
        (counts.filtered, "filtered"),
        (counts.skipped, "skipped"),
        (counts.deferred, "deferred"),
        (counts.dead_lettered, "dead-lettered"),
    ] {
        if count > 0 {
            let _ = write!(told, "{}{count} {name}", if told.is_empty() { "" } else { ", " });
        }
    }
    let version = range
        .whitelist
        .map_or(String::new(), |version| format!(" under whitelist version {version}"));
    format!(
        "[{}, {}) of {data_type}, processed from {} to {}{version}: {told}",
        range.start,
        range.end,
        time(range.first_processed),
        time(range.last_processed)
    )
}

/// Says which positions Kafka has deleted that held records of a type with times in a window.
pub(in crate::explain) fn expired_in(at: &TopicPartition, log: Interval, lost: Interval, data_type: &str) -> String {
    format!(
        "Kafka has deleted positions [{}, {}) of topic {} partition {}, whose log begins at {}. They held records of \
         {data_type} with times in the window; whether one of them was of this id cannot be told any more. Only \
         upstream can send them again.",
        lost.start, lost.end, at.topic, at.partition, log.start
    )
}

/// Says that of a deleted record a dead letter is left.
pub(in crate::explain) fn expired_letter(at: &TopicPartition, log: Interval, letter: &Letter) -> String {
    format!(
        "Kafka has deleted it (the log of topic {} partition {} begins at {}), but it is a dead letter {}",
        at.topic,
        at.partition,
        log.start,
        super::of_letter(letter)
    )
}
