//! ExplainRecord where something is not on record any more, or never was: what Redis lost, what was never read or given
//! up as lost, a whitelist whose ids are forgotten; and records that only their payload and exact keys tell apart.

use anyhow::{Context as _, Result, ensure};
use reprise_proto::v1::fleet_service_client::FleetServiceClient;
use reprise_proto::v1::resume_ingest_request::Target;
use reprise_proto::v1::resume_partition::From as Begin;
use reprise_proto::v1::*;
use reprise_shared::ledger::Keys;
use reprise_shared::position::{Partition, TopicName, TopicPartition};
use reprise_tests::feed::{DataType, Fund, Made, moment};
use reprise_tests::fleet::{Fleet, Options, PATIENCE, Stop};
use sqlx::AssertSqlSafe;

#[path = "support/explain.rs"]
mod support;
use support::{Client, allow, ask, ask_one, control, of_id, send, whitelist};

use RecordOutcome::{Expired, Filtered, Missing, Pending, Stale, Superseded, Written};

/// Asks for one record and checks its outcome and words of its explanation.
async fn expect(
    client: &Client,
    fleet: &Fleet,
    (partition, offset): (u32, u64),
    outcome: &[RecordOutcome],
    words: &str,
) -> Result<RecordExplanation> {
    let told = ask_one(client, &fleet.topic, partition, offset).await?;
    eprintln!("{partition}/{offset} {:?}: {}", told.outcome(), told.explanation);
    ensure!(
        outcome.contains(&told.outcome()) && told.explanation.contains(words),
        "{outcome:?} and {words:?} expected: {told:?}"
    );
    Ok(told)
}

/// Lets a partition go on from an offset, although there is something before it.
async fn resume_from(fleet: &Fleet, partition: u32, offset: u64) -> Result<()> {
    let (control, client) = control(fleet, &[]).await?;
    drop(client);
    let mut client = FleetServiceClient::new(control.channel());
    let request = ResumeIngestRequest {
        target: Some(Target::Partition(ResumePartition {
            topic: fleet.topic.clone(),
            partition,
            from: Some(Begin::Offset(offset)),
        })),
        reason: "given up".to_owned(),
        ..ResumeIngestRequest::default()
    };
    client.resume_ingest(request).await?;
    control.stop().await
}

/// Takes away what the ledger has of a partition.
async fn forget(fleet: &Fleet, partition: u16) -> Result<()> {
    let partition = TopicPartition {
        topic: TopicName::new(&fleet.topic),
        partition: Partition(partition),
    };
    let keys = Keys::new(fleet.redis.prefix().clone());
    let mut connection = redis::Client::open(fleet.isolation.redis_url())?
        .get_multiplexed_async_connection()
        .await?;
    let mut delete = redis::cmd("DEL");
    delete.arg(keys.coverage(&partition));
    delete.arg(keys.ranges(DataType::Basic.name(), &partition));
    let deleted: u32 = delete.query_async(&mut connection).await?;
    ensure!(deleted == 2, "{deleted} keys were there");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_read_given_up_or_forgotten_is_told_apart() -> Result<()> {
    let options = Options {
        partitions: 2,
        settings: vec![("ingest.start_at".to_owned(), "latest".to_owned())],
        ..Options::quick()
    };
    let mut fleet = Fleet::new("explain-holes", options).await?;
    allow(&whitelist(&fleet)?, (1..=8).map(Fund)).await?;
    let into = |fund, partition| Made::basic(Fund(fund), 100).into_partition(partition);
    send(&fleet, vec![into(1, 0), into(1, 1)]).await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    send(&fleet, vec![into(2, 0), into(3, 0), into(4, 1)]).await?;
    fleet.caught_up(PATIENCE).await?;
    fleet.stop().await?;

    send(&fleet, (5..=8).map(|fund| into(fund, 1)).collect()).await?;
    fleet.delete_records(1, 4).await?;
    let worker = fleet.start_worker()?;
    let stop: Stop = ("LOG_START_AHEAD".to_owned(), Some((2, 4)));
    fleet.stopped(worker, &[(1, stop)].into()).await?;
    resume_from(&fleet, 1, 5).await?;
    fleet.caught_up(PATIENCE).await?;
    fleet.stop().await?;
    forget(&fleet, 0).await?;
    sqlx::query("DELETE FROM t_fund_basic_info WHERE performance_id = ?")
        .bind(Fund(3).performance_id())
        .execute(&fleet.pool)
        .await?;

    let (control, client) = control(&fleet, &[]).await?;
    let never = "first began to read the partition at position 1";
    expect(&client, &fleet, (0, 0), &[Pending], never).await?;
    expect(&client, &fleet, (0, 1), &[Written], "holds its row").await?;
    expect(&client, &fleet, (0, 2), &[Pending], "the ledger has a hole here").await?;
    let known = "lies in what the ledger has on record";
    expect(&client, &fleet, (1, 1), &[Expired], known).await?;
    let lost = "accepted the positions around 4 as missing";
    expect(&client, &fleet, (1, 4), &[Pending], lost).await?;
    expect(&client, &fleet, (1, 5), &[Written], "holds its row").await?;
    control.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whitelist_whose_ids_are_not_on_record_leaves_the_counts_to_conclude_from() -> Result<()> {
    let options = Options {
        partitions: 2,
        ..Options::default()
    };
    let mut fleet = Fleet::new("explain-versions", options).await?;
    let store = whitelist(&fleet)?;
    let judged_by = allow(&store, [Fund(1)]).await?;
    fleet.start_workers(1).await?;
    let into = |fund, partition| Made::basic(Fund(fund), 100).into_partition(partition);
    send(&fleet, vec![into(1, 0), into(90, 0), into(90, 1)]).await?;
    fleet.caught_up(PATIENCE).await?;
    fleet.stop().await?;
    allow(&store, [Fund(90)]).await?;
    let forgotten = sqlx::query("DELETE FROM whitelist_changes WHERE version = ?")
        .bind(judged_by.0)
        .execute(&fleet.pool)
        .await?;
    ensure!(forgotten.rows_affected() == 1, "the change is not on record");

    let (control, client) = control(&fleet, &[]).await?;
    expect(&client, &fleet, (0, 0), &[Written], "holds its row").await?;
    let likely = "Some records of its range were filtered";
    let told = expect(&client, &fleet, (0, 1), &[Filtered], likely).await?;
    ensure!(told.whitelist_version == Some(judged_by.0), "{told:?}");
    let certain = "all records of its range were filtered";
    let told = expect(&client, &fleet, (1, 0), &[Filtered], certain).await?;
    ensure!(told.whitelist_version == Some(judged_by.0), "{told:?}");
    control.stop().await
}

/// Puts a type into the place of `fund_risk` that a field of the payload tells, with a decimal and a time as key.
fn with_prices() -> Result<Vec<(String, String)>> {
    let shipped = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../config/catalog.yaml"))?;
    let from = shipped
        .find("    match: { header: data-type, equals: fund_risk }")
        .context("no fund_risk")?;
    let prices = r#"    match: { field: /kind, equals: price }
    id: { field: /performanceId }
    table: t_price
    key: [price, seen_at]
    version: { field: /sourceTime, type: "datetime(3)", zone: UTC, column: source_time, position_column: source_position, max_ahead: 1d }
    columns:
      price:   { field: /price, type: "decimal(20,8)" }
      seen_at: { field: /seenAt, type: "datetime(3)", zone: UTC }
      remark:  { field: /remark, type: string(20), optional: true }
"#;
    Ok(vec![(shipped[from..].to_owned(), prices.to_owned())])
}

fn price(price: &str, seen_at: &str, version: i64) -> Made {
    let payload = format!(
        r#"{{"kind":"price","performanceId":"{}","price":{price},"seenAt":"{seen_at}","sourceTime":"{}"}}"#,
        Fund(1).performance_id(),
        moment(version)
    );
    Made::new(DataType::Risk, Fund(1), Some(payload)).without_type()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_told_by_a_field_are_found_by_exact_decimals_and_times() -> Result<()> {
    let options = Options {
        partitions: 1,
        catalog: with_prices()?,
        ..Options::default()
    };
    let mut fleet = Fleet::new("explain-exact", options).await?;
    let table = "CREATE TABLE t_price (price DECIMAL(20,8) NOT NULL, seen_at DATETIME(3) NOT NULL, \
                 remark VARCHAR(20) NULL, source_time DATETIME(3) NOT NULL, \
                 source_position VARBINARY(16) NOT NULL, PRIMARY KEY (price, seen_at))";
    sqlx::query(table).execute(&fleet.pool).await?;
    fleet.start_workers(1).await?;
    let (one, near) = ("123456789012.12345678", "123456789012.12345679");
    let (then, later) = ("2026-03-01 10:00:00.123", "2026-03-01 10:00:00.124");
    let made = [
        // As floats both prices are the same, and without their last digit both times are.
        price(one, then, 100),
        price(near, then, 300),
        price(one, later, 300),
        price(one, then, 50),
        price(near, later, 100),
        Made::basic(Fund(1), 100),
    ];
    send(&fleet, (0..).zip(made).map(|(second, made)| made.at(second)).collect()).await?;
    fleet.caught_up(PATIENCE).await?;
    fleet.stop().await?;
    let gone = format!("DELETE FROM t_price WHERE price = {near} AND seen_at = '{later}'");
    let gone = sqlx::query(AssertSqlSafe(gone)).execute(&fleet.pool).await?;
    ensure!(gone.rows_affected() == 1, "{} rows are gone", gone.rows_affected());

    let (control, client) = control(&fleet, &[]).await?;
    for offset in 0..3 {
        let told = expect(&client, &fleet, (0, offset), &[Written], "t_price holds its row").await?;
        ensure!(
            told.data_type == "fund_risk" && told.id == Fund(1).performance_id(),
            "{told:?}"
        );
    }
    let newer = [Stale, Superseded];
    expect(&client, &fleet, (0, 3), &newer, "partition 0 offset 0").await?;
    expect(&client, &fleet, (0, 4), &[Missing], "has no row of its key").await?;
    expect(&client, &fleet, (0, 5), &[Written], "t_fund_basic_info holds its row").await?;
    let found = ask(&client, of_id(DataType::Risk, Fund(1), (0, 100))).await?;
    let offsets: Vec<u64> = found
        .records
        .iter()
        .filter_map(|record| record.position.as_ref())
        .map(|position| position.offset)
        .collect();
    ensure!(offsets == [0, 1, 2, 3, 4] && !found.truncated, "{found:?}");
    control.stop().await
}
