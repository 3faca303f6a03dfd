//! Bad records on the live path: each ends as a dead letter that says where it came from, and nothing else suffers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::SignedDuration;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use reprise_shared::clock::Clock;
use reprise_shared::fault::FaultClass;
use reprise_shared::kafka::describe::{Described, describe_topics};
use reprise_shared::position::TopicName;
use reprise_tests::feed::{BadClass, BadShare, DATA_TYPE_HEADER, DataType, FeedConfig, Fund};
use reprise_tests::fleet::{Fleet, FoundLetter, Options, PATIENCE, RawRecord, keys_of, sum};
use reprise_tests::oracle::Oracle;
use reprise_tests::wait::{blocking, wait_for};

const RECORD_LIMIT: usize = 1024 * 1024;
const RECORD: u32 = u32::MAX;

/// Every kind of bad record but disagreeing keys, which change how all later ones are judged.
fn every_bad_payload() -> FeedConfig {
    let config = FeedConfig {
        records: Some(5_000),
        funds: 200,
        ..FeedConfig::default()
    }
    .with_every_switch();
    let bad = BadClass::ALL
        .into_iter()
        .filter(|class| *class != BadClass::KeyMismatch)
        .map(|class| BadShare {
            class,
            share: if class == BadClass::HugeString { 0.001 } else { 0.005 },
        });
    FeedConfig {
        bad: bad.collect(),
        ..config
    }
}

fn risk(fund: u32, date: &str, time: &str) -> String {
    let id = Fund(fund).performance_id();
    format!(r#"{{"performanceId":"{id}","alertDate":"{date}","riskLevel":3,"riskScore":1.5,"sourceTime":"{time}"}}"#)
}

fn record(key: u32, id: u32, date: &str) -> RawRecord {
    let key = Fund(key).performance_id();
    RawRecord::new(DataType::Risk, 0, &key, risk(id, date, "2024-03-07T09:00:00Z"))
}

async fn topic_id(fleet: &Fleet) -> Result<String> {
    let (brokers, topic) = (fleet.isolation.kafka_brokers().to_owned(), fleet.topic.clone());
    blocking("ask for the topic's id", Duration::from_secs(20), move || {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "reprise-payloads")
            .create()?;
        let topic = TopicName::new(topic);
        let described = describe_topics(consumer.client(), std::slice::from_ref(&topic), Duration::from_secs(10))?;
        match described.get(&topic) {
            Some(Described::Topic { id, .. }) => Ok(id.as_str().to_owned()),
            _ => anyhow::bail!("the broker does not know the topic"),
        }
    })
    .await
}

/// Checks every letter's record against the topic itself, byte for byte.
async fn check_records(fleet: &Fleet, letters: &[FoundLetter]) -> Result<()> {
    let (brokers, topic) = (fleet.isolation.kafka_brokers().to_owned(), fleet.topic.clone());
    let oracle = blocking("read the topic", Duration::from_secs(60), move || {
        Oracle::read_topic(&brokers, &topic)
    })
    .await?;
    let records: BTreeMap<_, _> = oracle
        .records()
        .map(|record| ((record.partition, record.offset), record))
        .collect();
    let id = topic_id(fleet).await?;
    for letter in letters {
        let record = records.get(&letter.place()).context("no such record")?;
        let payload = record.payload.context("a tombstone has no letter")?;
        let whole = payload.len() <= RECORD_LIMIT;
        let kept = &payload[..payload.len().min(RECORD_LIMIT)];
        ensure!(letter.topic_id == id, "{:?}: topic id {}", letter.key, letter.topic_id);
        ensure!(
            letter.record_key.as_deref() == record.key,
            "{:?}: another key",
            letter.key
        );
        ensure!(
            letter.payload.as_deref() == Some(kept),
            "{:?}: another payload",
            letter.key
        );
        ensure!(
            letter.payload_size == payload.len() as u64,
            "{:?}: another size",
            letter.key
        );
        ensure!(
            letter.payload_state == if whole { "WHOLE" } else { "POINTER_ONLY" },
            "{:?}: {}",
            letter.key,
            letter.payload_state
        );
    }
    Ok(())
}

#[expect(clippy::too_many_lines, reason = "one scenario, told in its order")]
#[tokio::test(flavor = "multi_thread")]
async fn i1_every_bad_payload_is_a_dead_letter_once_and_its_neighbours_are_written() -> Result<()> {
    let mut fleet = Fleet::new(
        "payloads",
        Options {
            settings: vec![
                // A killed worker's partitions are free again after this long.
                ("ingest.session_timeout".into(), "6s".into()),
                ("ingest.drain".into(), "3s".into()),
                // The first worker commits nothing, so that the second one reads everything again.
                ("ingest.tick".into(), "60s".into()),
            ],
            ..Options::default()
        },
    )
    .await?;
    let config = every_bad_payload();
    fleet.seed(&config).await?;
    fleet.publish(config.clone()).await?;
    let next_year = (Clock::system().now() + SignedDuration::from_hours(366 * 24)).to_string();
    let no_key = RawRecord {
        key: None,
        ..record(1, 1, "2024-01-01")
    };
    let empty_key = RawRecord {
        key: Some(Vec::new()),
        ..record(1, 1, "2024-01-02")
    };
    let mut odd_header = record(2, 2, "2024-01-03");
    odd_header
        .headers
        .insert(0, (b"\xff\xfe-trace".to_vec(), b"\x00\xff".to_vec()));
    let mut odd_and_bad = odd_header.clone();
    odd_and_bad.payload = Some(b"no JSON".to_vec());
    let mut other_type = record(3, 3, "2024-01-04");
    other_type.headers.push((DATA_TYPE_HEADER.into(), b"\xff".to_vec()));
    let ahead = RawRecord::new(
        DataType::Risk,
        0,
        &Fund(4).performance_id(),
        risk(4, "2024-01-05", &next_year),
    );
    fleet
        .send(vec![no_key, empty_key, odd_header, odd_and_bad, other_type, ahead])
        .await?;

    let folded = fleet.oracle(Some(config.clone()), Vec::new()).await?;
    let classes: BTreeMap<_, usize> = folded.letters.iter().fold(BTreeMap::new(), |mut classes, letter| {
        *classes.entry(letter.class.as_str()).or_default() += 1;
        classes
    });
    println!("{} letters: {classes:?}", folded.letters.len());
    for class in [
        FaultClass::RecordTooLarge,
        FaultClass::InvalidUtf8,
        FaultClass::NotJson,
        FaultClass::TooDeep,
        FaultClass::DuplicateField,
        FaultClass::MissingField,
        FaultClass::WrongType,
        FaultClass::OutOfRange,
        FaultClass::BadTime,
        FaultClass::VersionAhead,
        FaultClass::KeyMismatch,
        FaultClass::LookupMiss,
        FaultClass::Unmatched,
    ] {
        ensure!(classes.contains_key(class.as_str()), "no record of class {class:?}");
    }

    fleet.start_workers(1).await?;
    let expected = folded.letters.len();
    wait_for("all letters of the first worker", PATIENCE, async || {
        match fleet.count_letters().await {
            Ok(found) if found == expected => Ok(()),
            Ok(found) => Err(format!("{found} of {expected} letters")),
            Err(error) => Err(format!("{error:#}")),
        }
    })
    .await
    .with_context(|| fleet.log_of(0))?;
    let mut once = fleet.check_letters(&folded).await?;
    check_records(&fleet, &once).await?;
    ensure!(
        fleet
            .positions()
            .await?
            .iter()
            .all(|(committed, _)| committed.unwrap_or(0) == 0),
        "the first worker must not have committed yet"
    );
    fleet.workers[0].kill()?;

    fleet.set("ingest.tick", "200ms");
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    folded.compare(&fleet.pool).await?;
    let twice = fleet.check_letters(&folded).await?;
    check_records(&fleet, &twice).await?;
    for (letter, again) in once.iter_mut().zip(&twice) {
        ensure!(
            again.attempts > letter.attempts && again.state == letter.state,
            "{:?} was read again: {} attempts, {}",
            again.key,
            again.attempts,
            again.state
        );
        let state = if letter.key.4 == "LOOKUP_MISS" {
            "RETRYING"
        } else {
            "PARKED"
        };
        ensure!(again.state == state, "{:?} is {}", again.key, again.state);
    }
    let odd = twice
        .iter()
        .filter(|letter| letter.headers.contains("name_hex"))
        .count();
    ensure!(odd == 1, "{odd} letters with the odd header");
    let states = fleet.type_states().await?;
    ensure!(
        states.is_empty(),
        "no type has a reason to be anything but running: {states:?}"
    );

    let metrics = fleet.metrics(1).await?;
    let consumed = sum(&metrics, "reprise_records_consumed_total", &[]);
    let outcomes = sum(&metrics, "reprise_records_total", &[]);
    ensure!(consumed == outcomes, "consumed {consumed}, outcomes {outcomes}");
    let dead = sum(&metrics, "reprise_records_total", &[("outcome", "dead_lettered")]);
    let whole = folded.letters.iter().filter(|letter| letter.row.0 == RECORD).count();
    ensure!(dead == whole as f64, "{dead} dead-lettered records, {whole} expected");
    fleet.stop().await
}

async fn risk_row(fleet: &Fleet, fund: u32, date: &str) -> Result<bool> {
    let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM t_ai_risk WHERE fund_code = ? AND alert_date = ?")
        .bind(Fund(fund).fund_code())
        .bind(date)
        .fetch_one(&fleet.pool)
        .await?;
    Ok(rows == 1)
}

fn funds(count: u32) -> FeedConfig {
    FeedConfig {
        funds: count,
        ..FeedConfig::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_disagree_with_ids_are_letters_and_from_then_on_the_id_decides() -> Result<()> {
    let mut fleet = Fleet::new("key-mismatch", Options::default()).await?;
    fleet.seed(&funds(20)).await?;
    fleet
        .set_whitelist(&[Fund(1).performance_id(), Fund(4).performance_id()])
        .await?;
    // One poll takes all of these: they are judged while keys are trusted, whatever the first of them reveals.
    let days: Vec<String> = (1..=20).map(|day| format!("2024-01-{day:02}")).collect();
    let mut first = vec![record(4, 4, "2024-02-01")];
    first.extend(days.iter().map(|day| record(1, 2, day)));
    first.push(record(4, 4, "2024-02-02"));
    fleet.send(first).await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;

    let letters = fleet.letters().await?;
    let offsets: BTreeSet<u64> = letters.iter().map(|letter| letter.key.2).collect();
    println!("{} letters at {offsets:?}", letters.len());
    ensure!(offsets.contains(&1), "the first disagreement is no letter");
    ensure!(
        letters
            .iter()
            .all(|letter| letter.key.4 == "KEY_MISMATCH" && letter.key.3 == RECORD)
    );
    for (day, offset) in days.iter().zip(1..) {
        ensure!(
            !risk_row(&fleet, 1, day).await?,
            "{day}: the data of fund 2 stands under fund 1"
        );
        // Fund 2 is on no list, so there is no row of it either; what is no letter was filtered by its id.
        ensure!(
            !risk_row(&fleet, 2, day).await?,
            "{day} (offset {offset}): fund 2 was written"
        );
    }
    ensure!(risk_row(&fleet, 4, "2024-02-01").await? && risk_row(&fleet, 4, "2024-02-02").await?);
    wait_for("in_key to be off", PATIENCE, async || {
        let states = fleet.type_states().await.map_err(|error| format!("{error:#}"))?;
        match states.get("fund_risk") {
            Some(state) if state.in_key_off && !state.stopped => Ok(()),
            _ => Err(format!("{states:?}")),
        }
    })
    .await?;
    let metrics = fleet.metrics(0).await?;
    let alarms = sum(
        &metrics,
        "reprise_key_mismatch_alarms_total",
        &[("data_type", "fund_risk")],
    );
    ensure!(alarms == 1.0, "{alarms} alarms");

    // The id alone decides now, in this worker and, by what MySQL remembers, in the next one.
    let stored = letters.len();
    for (round, month) in ["03", "04"].into_iter().enumerate() {
        let day = |number: u32| format!("2024-{month}-{number:02}");
        let later = vec![record(9, 1, &day(1)), record(1, 9, &day(2)), record(4, 4, &day(3))];
        fleet.send(later).await?;
        fleet.caught_up(PATIENCE).await?;
        ensure!(
            risk_row(&fleet, 1, &day(1)).await?,
            "round {round}: a listed id was not written"
        );
        ensure!(
            !risk_row(&fleet, 9, &day(2)).await?,
            "round {round}: an unlisted id was written"
        );
        ensure!(
            !risk_row(&fleet, 1, &day(2)).await?,
            "round {round}: written under its key"
        );
        ensure!(
            risk_row(&fleet, 4, &day(3)).await?,
            "round {round}: a good record was not written"
        );
        ensure!(fleet.count_letters().await? == stored, "round {round}: a new letter");
        if round == 0 {
            fleet.stop().await?;
            fleet.start_workers(1).await?;
        }
    }
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_of_filtered_records_finds_keys_that_disagree() -> Result<()> {
    let mut fleet = Fleet::new("key-sample", Options::default()).await?;
    fleet.seed(&funds(20)).await?;
    fleet.set_whitelist(&[Fund(1).performance_id()]).await?;
    // The first 1,023 are good, the sampled one is not; a sampled one that cannot be read proves nothing.
    let mut records = vec![record(5, 5, "2024-01-01"); 1_023];
    records.push(RawRecord {
        payload: Some(vec![b'x'; 2 * RECORD_LIMIT]),
        ..record(5, 5, "2024-01-01")
    });
    fleet.send(records).await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    ensure!(fleet.count_letters().await? == 0, "a filtered record is a letter");
    ensure!(fleet.type_states().await?.is_empty(), "keys are trusted still");

    let mut records = vec![record(5, 5, "2024-01-02"); 1_023];
    records.push(record(5, 6, "2024-01-02"));
    fleet.send(records).await?;
    fleet.caught_up(PATIENCE).await?;
    let letters = fleet.letters().await?;
    ensure!(letters.len() == 1, "{} letters", letters.len());
    ensure!(
        letters[0].key == ("fund_risk".into(), 0, 2_047, RECORD, "KEY_MISMATCH".into()),
        "{:?}",
        letters[0].key
    );
    wait_for("in_key to be off", PATIENCE, async || {
        let states = fleet.type_states().await.map_err(|error| format!("{error:#}"))?;
        states
            .get("fund_risk")
            .filter(|state| state.in_key_off)
            .map(|_| ())
            .ok_or(format!("{states:?}"))
    })
    .await?;
    fleet.send(vec![record(5, 1, "2024-01-03")]).await?;
    fleet.caught_up(PATIENCE).await?;
    ensure!(risk_row(&fleet, 1, "2024-01-03").await?, "a listed id was not written");
    fleet.stop().await
}

/// Waits until a fund's letters are all in one state.
async fn letters_of(fleet: &Fleet, fund: u32, count: usize, state: &str, limit: Duration) -> Result<()> {
    let id = Fund(fund).performance_id();
    wait_for(
        &format!("{count} letters of {id} in state {state}"),
        limit,
        async || {
            let letters = fleet.letters().await.map_err(|error| format!("{error:#}"))?;
            let states: Vec<_> = letters
                .iter()
                .filter(|letter| letter.missed == ("fund_code".into(), id.clone()))
                .map(|letter| letter.state.as_str())
                .collect();
            if states.len() == count && states.iter().all(|found| *found == state) {
                Ok(())
            } else {
                Err(format!("{states:?}"))
            }
        },
    )
    .await
    .with_context(|| fleet.log_of(0))
}

#[expect(clippy::too_many_lines, reason = "one scenario, told in its order")]
#[tokio::test(flavor = "multi_thread")]
async fn lookup_misses_resolve_themselves_when_the_key_arrives() -> Result<()> {
    let mut fleet = Fleet::new(
        "lookup-miss",
        Options {
            settings: vec![("ingest.resolve_misses".into(), "1s".into())],
            ..Options::default()
        },
    )
    .await?;
    let seeded = funds(20);
    fleet.seed(&seeded).await?;
    let valuation = format!(
        r#"{{"performanceId":"{}","items":[
            {{"date":"2024-03-01","unitNav":1.25,"sourceTime":"2024-03-07T09:00:00Z"}},
            {{"date":"2024-03-02","unitNav":1.26,"sourceTime":"2024-03-07T09:00:00Z"}},
            {{"date":"2024-03-01","unitNav":1.27,"sourceTime":"2024-03-07T09:00:01Z"}}]}}"#,
        Fund(900).performance_id()
    );
    let key = |fund: u32| Fund(fund).performance_id();
    let mut records = vec![
        record(900, 900, "2024-01-01"),
        RawRecord::new(DataType::Valuation, 1, &key(900), valuation),
        record(901, 901, "2024-01-01"),
        record(902, 902, "2024-01-01"),
        record(1, 1, "2024-01-01"),
    ];
    records[0].partition = 2;
    fleet.send(records).await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    for (fund, count) in [(900, 2), (901, 1), (902, 1)] {
        letters_of(&fleet, fund, count, "RETRYING", Duration::from_secs(5)).await?;
    }
    let misses = fleet.oracle(Some(seeded.clone()), Vec::new()).await?;
    fleet.check_letters(&misses).await?;
    misses.compare(&fleet.pool).await?;
    ensure!(keys_of(&misses).len() == 4);

    // The key comes through the pipeline.
    let clock = Clock::system();
    let begun = clock.monotonic();
    let basic = format!(
        r#"{{"performanceId":"{}","fundCode":"{}","fundName":"late","sourceTime":"2024-03-07T09:00:00Z"}}"#,
        key(900),
        Fund(900).fund_code()
    );
    fleet
        .send(vec![RawRecord::new(DataType::Basic, 3, &key(900), basic)])
        .await?;
    fleet.caught_up(PATIENCE).await?;
    // Far less than the 30 s for which the cache remembers that there was no such key.
    letters_of(&fleet, 900, 2, "REDRIVEN", Duration::from_secs(8)).await?;
    println!(
        "resolved {:?} after the key was sent",
        clock.monotonic().saturating_sub(begun)
    );

    // The key comes from somewhere else, and the fund is filtered by now.
    let version = fleet.set_whitelist(&[key(1), key(902)]).await?;
    let insert = |fund: u32| {
        sqlx::query(
            "INSERT INTO t_fund_basic_info (performance_id, fund_code, fund_name, source_time, source_position) \
             VALUES (?, ?, 'by hand', '2024-01-01', '')",
        )
        .bind(key(fund))
        .bind(Fund(fund).fund_code())
    };
    fleet.whitelist_applied(version, Duration::from_secs(10)).await?;
    insert(901).execute(&fleet.pool).await?;
    insert(902).execute(&fleet.pool).await?;
    letters_of(&fleet, 901, 1, "DISCARDED", Duration::from_secs(8)).await?;
    letters_of(&fleet, 902, 1, "REDRIVEN", Duration::from_secs(8)).await?;
    ensure!(
        !risk_row(&fleet, 901, "2024-01-01").await?,
        "a filtered fund was written"
    );

    // The tables are those of a run that had known the keys from the start, source positions included.
    let known = fleet.oracle_knowing(&[900, 902], seeded, Vec::new()).await?;
    for table in ["t_fund_valuation", "t_ai_risk"] {
        let (expected, found) = (
            known.dump(table),
            reprise_tests::oracle::dump_table(&fleet.pool, table).await?,
        );
        ensure!(expected == found, "{table} must be\n{expected}and is\n{found}");
        println!("{table}:\n{found}");
    }
    // The cache does not remember the miss either.
    fleet.send(vec![record(902, 902, "2024-01-02")]).await?;
    fleet.caught_up(PATIENCE).await?;
    ensure!(
        risk_row(&fleet, 902, "2024-01-02").await?,
        "the resolved key misses again"
    );
    fleet.stop().await
}
