use std::collections::BTreeMap;

use reprise_shared::fault::FaultClass;
use reprise_shared::position::{Offset, Partition, RowNumber};

use super::*;
use crate::feed::{BasicSeed, Expectation, Feed, FeedConfig};

const ID: &[u8] = b"0P00000001";

fn valuation(items: &str) -> Vec<u8> {
    format!(r#"{{"performanceId":"0P00000001","items":[{items}]}}"#).into_bytes()
}

fn item(unit_nav: &str, time: &str) -> String {
    format!(r#"{{"date":"2024-03-07","unitNav":{unit_nav},"sourceTime":"2024-03-07T{time}Z"}}"#)
}

fn oracle(payloads: &[Vec<u8>]) -> Oracle {
    let mut oracle = Oracle::default();
    for (offset, payload) in (0..).zip(payloads) {
        oracle.push(&TopicRecord {
            partition: Partition(0),
            offset: Offset(offset),
            time: None,
            data_type: Some(b"fund_valuation"),
            key: Some(ID),
            payload: Some(payload),
        });
    }
    oracle
}

fn lookup() -> BTreeMap<String, String> {
    BasicSeed::new(&FeedConfig {
        funds: 2,
        ..FeedConfig::default()
    })
    .lookup()
}

fn now() -> jiff::Timestamp {
    "2024-03-08T00:00:00Z".parse().expect("a time")
}

#[test]
fn the_newest_version_stays_and_an_equal_one_from_a_later_position_replaces_it() {
    let payloads = [
        valuation(&item("2", "09:00:00.001")),
        valuation(&item("1", "09:00:00")),
        valuation(&item("3", "09:00:00.0019")),
    ];
    let lookup = lookup();
    let folded = oracle(&payloads).fold(&Rules::new(&lookup, now()));
    assert_eq!(
        folded.dump("t_fund_valuation"),
        "000001\t2024-03-07\t3.00000000\t\\N\t2024-03-07 09:00:00.001\t00000000000000000000000200000000\n"
    );
    assert_eq!(folded.counts_of("fund_valuation").rows, 3);
}

#[test]
fn a_faulty_item_is_a_letter_of_its_own() {
    let items = [item("1", "09:00:00"), item("true", "09:00:00"), item("3", "08:00:00")].join(",");
    let lookup = lookup();
    let folded = oracle(&[valuation(&items), valuation("")]).fold(&Rules::new(&lookup, now()));
    let counts = folded.counts_of("fund_valuation");
    assert_eq!(
        (counts.records.processed, counts.rows, counts.dead_lettered_rows),
        (2, 2, 1)
    );
    let letters: Vec<_> = folded.letters.iter().map(|letter| (letter.row, letter.class)).collect();
    assert_eq!(letters, [(RowNumber(1), FaultClass::WrongType)]);
    assert_eq!(folded.tables["t_fund_valuation"].len(), 1);
}

#[test]
fn an_id_that_is_not_let_through_is_filtered_whatever_its_payload() {
    let lookup = lookup();
    let rules = Rules {
        allowed: &|id| id == "0P00000002",
        ..Rules::new(&lookup, now())
    };
    let folded = oracle(&[b"no JSON".to_vec(), valuation("")]).fold(&rules);
    assert_eq!(folded.counts_of("fund_valuation").records.filtered, 2);
    assert!(folded.letters.is_empty());
}

/// Puts a feed into an oracle without Kafka, the records going round the partitions.
#[test]
fn the_oracle_agrees_with_the_feed_about_every_record() {
    let config = FeedConfig {
        records: Some(10_000),
        funds: 100,
        ..FeedConfig::default()
    }
    .with_every_switch();
    let seed = BasicSeed::new(&config);
    let lookup = seed.lookup();
    let rules = Rules {
        seed: Some(seed),
        ..Rules::new(&lookup, now())
    };
    for (number, record) in (0..).zip(Feed::new(config).expect("right settings")) {
        let mut oracle = Oracle::default();
        oracle.push(&TopicRecord {
            partition: Partition(0),
            offset: Offset(number),
            time: None,
            data_type: record.headers.last().map(|(_, value)| value.as_bytes()),
            key: Some(&record.key),
            payload: record.payload.as_deref(),
        });
        let judged = judge::judge(
            &oracle.records().next().expect("one record"),
            judge::shape_of(&oracle.records().next().expect("one record")),
            &rules,
        );
        let outcome = match judged {
            judge::Outcome::Skipped => Some(Expectation::Skipped),
            judge::Outcome::DeadLettered(class) => Some(Expectation::DeadLettered(class)),
            judge::Outcome::Processed { rows, letters } => Some(Expectation::Processed {
                rows: rows.len() as u32,
                letter: letters.first().copied(),
            }),
            judge::Outcome::Filtered => None,
        };
        let payload = String::from_utf8_lossy(record.payload.as_deref().unwrap_or_default());
        let excerpt: String = payload.chars().take(300).collect();
        assert_eq!(outcome, Some(record.expectation), "{excerpt}");
    }
}
