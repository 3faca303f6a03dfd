use std::collections::{BTreeMap, HashSet};

use super::*;

fn config(records: u64) -> FeedConfig {
    FeedConfig {
        records: Some(records),
        ..FeedConfig::default()
    }
}

fn share_of(records: &[FeedRecord], holds: impl Fn(&FeedRecord) -> bool) -> f64 {
    records.iter().filter(|record| holds(record)).count() as f64 / records.len() as f64
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let feed = |seed| {
        Feed::new(FeedConfig {
            seed,
            ..config(5_000).with_every_switch()
        })
        .expect("right settings")
    };
    assert!(feed(7).eq(feed(7)));
    assert!(!feed(7).eq(feed(8)));
}

#[test]
fn reused_memory_changes_nothing() {
    let mut feed = Feed::new(config(5_000).with_every_switch()).expect("right settings");
    let mut record = FeedRecord::empty();
    for expected in feed.clone() {
        assert!(feed.next_into(&mut record));
        assert_eq!(record, expected);
    }
    assert!(!feed.next_into(&mut record));
}

#[test]
fn valuations_with_one_item_have_168_bytes_on_average() {
    let feed = Feed::new(FeedConfig {
        mix: DataTypeMix::only(DataType::Valuation),
        ..config(20_000)
    });
    let sizes: Vec<_> = feed.expect("right settings").map(|record| record.size()).collect();
    let mean = sizes.iter().sum::<usize>() as f64 / sizes.len() as f64;
    assert!((166.0..170.0).contains(&mean), "{mean}");
}

#[test]
fn a_feed_of_one_type_visits_every_fund_and_day_once_before_it_starts_over() {
    let config = FeedConfig {
        funds: 250,
        days: 8,
        mix: DataTypeMix::only(DataType::Valuation),
        ..config(2_000)
    };
    let keys: HashSet<_> = Feed::new(config)
        .expect("right settings")
        .map(|record| {
            let json: serde_json::Value = serde_json::from_slice(&record.payload.expect("a payload")).expect("JSON");
            format!("{} {}", json["performanceId"], json["items"][0]["date"])
        })
        .collect();
    assert_eq!(keys.len(), 2_000);
}

#[test]
fn shares_and_weights_are_kept() {
    let bad = vec![BadShare {
        class: BadClass::Tombstone,
        share: 0.1,
    }];
    let multi_row = MultiRow {
        multi_row: 0.25,
        items: 4,
        same_key: 0.5,
    };
    let config = FeedConfig {
        bad,
        unknown_ids: 0.05,
        equal_versions: 0.2,
        multi_row,
        ..config(50_000)
    };
    let records: Vec<_> = Feed::new(config).expect("right settings").collect();
    let near = |share: f64, expected: f64| assert!((share - expected).abs() < 0.01, "{share} for {expected}");
    near(share_of(&records, |record| record.payload.is_none()), 0.1);
    near(share_of(&records, |record| record.partition.is_some()), 0.2);
    let unknown = Expectation::DeadLettered(FaultClass::LookupMiss);
    near(share_of(&records, |record| record.expectation == unknown), 0.05);
    let valuations: Vec<_> = records
        .iter()
        .filter(|record| record.data_type == DataType::Valuation)
        .cloned()
        .collect();
    near(valuations.len() as f64 / records.len() as f64, 0.8);
    let several = |record: &FeedRecord| matches!(record.expectation, Expectation::Processed { rows: 2.., .. });
    // Tombstones and unknown ids keep their class instead.
    near(share_of(&valuations, several), 0.25 * 0.85);
}

#[test]
fn every_class_occurs_and_means_what_it_says() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for class in BadClass::ALL {
        let bad = vec![BadShare { class, share: 1.0 }];
        for record in Feed::new(FeedConfig { bad, ..config(100) }).expect("right settings") {
            let good = matches!(
                record.expectation,
                Expectation::Processed {
                    rows: 1..,
                    letter: None
                }
            );
            assert!(!good, "{class}: {record:?}");
            *seen.entry(class.to_string()).or_default() += 1;
        }
    }
    assert_eq!(seen.len(), BadClass::ALL.len());
}

#[test]
fn good_records_are_json_and_duplicates_are_exact() {
    let config = FeedConfig {
        duplicates: 0.5,
        ..config(4_000)
    };
    let payloads: Vec<_> = Feed::new(config)
        .expect("right settings")
        .map(|record| record.payload.expect("a payload"))
        .collect();
    assert!(
        payloads
            .iter()
            .all(|payload| serde_json::from_slice::<serde_json::Value>(payload).is_ok())
    );
    let distinct: HashSet<_> = payloads.iter().collect();
    assert!((1_800..2_200).contains(&distinct.len()), "{}", distinct.len());
}

#[test]
fn wrong_settings_are_all_named_at_once() {
    let config = FeedConfig {
        funds: 0,
        disorder: 0.7,
        duplicates: 0.7,
        partitions: 0,
        ..FeedConfig::default()
    };
    let error = Feed::new(config).expect_err("wrong settings").to_string();
    for word in ["funds", "partitions", "together"] {
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn the_seed_names_every_fund() {
    let seed = BasicSeed::new(&FeedConfig {
        funds: 3,
        ..FeedConfig::default()
    });
    let keys: Vec<_> = seed
        .records()
        .map(|record| String::from_utf8(record.key).expect("UTF-8"))
        .collect();
    assert_eq!(keys, ["0P00000001", "0P00000002", "0P00000003"]);
    assert_eq!(seed.lookup()["0P00000003"], "000003");
    assert_eq!(seed.rows().count(), 3);
    assert_eq!(Fund(12_345_678).fund_code(), "12345678");
}

#[test]
fn settings_come_from_the_command_line_and_from_files() {
    use clap::{Args, FromArgMatches};
    let command = FeedConfig::augment_args(clap::Command::new("feed"));
    let matches = command.get_matches_from(["feed", "--records", "10", "--bad", "not_json=0.5", "--items", "3"]);
    let parsed = FeedConfig::from_arg_matches(&matches).expect("right arguments");
    assert_eq!(
        parsed.bad,
        [BadShare {
            class: BadClass::NotJson,
            share: 0.5
        }]
    );
    assert_eq!((parsed.records, parsed.multi_row.items), (Some(10), 3));
    let text = serde_json::to_string(&parsed).expect("settings");
    assert_eq!(serde_json::from_str::<FeedConfig>(&text).expect("settings"), parsed);
}
