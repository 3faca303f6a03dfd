//! B5: how late live rows are while everything is being replayed, against without.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use reprise_shared::clock::Clock;
use reprise_tests::feed::{DATA_TYPE_HEADER, DataType, FeedConfig, Fund};
use reprise_tests::wait::blocking;
use serde_json::json;
use sqlx::{Connection as _, MySqlConnection};

use crate::ground::PARTITIONS;
use crate::jobs::{Bench, THROUGH};
use crate::results::{Figure, Wanted};

/// A probe is published this often.
const EVERY: Duration = Duration::from_millis(20);
/// Probes of one phase.
const PROBES: usize = 500;
/// Other live records a second.
const BESIDE: u32 = 1_000;
/// The table is looked at this often.
const LOOK: Duration = Duration::from_millis(2);

/// Measures phases without and with a replay in turns: the 99th percentile of the time from a probe's sending to its
/// row being in the table.
pub async fn measure(bench: &mut Bench, pairs: usize) -> Result<Figure> {
    bench.ground.fleet.start_workers(1).await?;
    let beside = FeedConfig {
        records: None,
        seed: 5,
        ..bench.ground.feed.clone()
    };
    let load = bench.ground.fleet.load(beside, BESIDE);
    let (mut ratios, mut raw) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        let without = phase(bench, pair * 2).await?;
        // So that the replay writes every row.
        bench.ground.change_rows().await?;
        let job = bench.begin(Vec::new()).await?;
        let with = phase(bench, pair * 2 + 1).await;
        bench.cancel(&job).await?;
        let with = with?;
        eprintln!("B5: 99th percentile {without:.1} ms without, {with:.1} ms with a replay");
        raw.push(json!({ "without_ms": without, "with_ms": with }));
        ratios.push(with / without);
    }
    load.finish().await?;
    bench.ground.fleet.caught_up(THROUGH).await?;
    let what = "live latency (99th percentile) with a replay running, against without";
    Ok(Figure::new(
        "B5",
        what,
        ratios,
        "ratio",
        Wanted::AtMost,
        1.5,
        json!(raw),
    ))
}

/// Sends probes and returns the 99th percentile of their lateness in milliseconds.
async fn phase(bench: &Bench, number: usize) -> Result<f64> {
    let (brokers, topic) = (
        bench.ground.fleet.isolation.kafka_brokers().to_owned(),
        bench.ground.fleet.topic.clone(),
    );
    let mut connection = MySqlConnection::connect(&bench.ground.fleet.isolation.mysql_url()).await?;
    // Each probe has a day of its own, long before those of the feed.
    let first = i64::try_from(number * PROBES)?;
    let before: i64 = count(&mut connection).await?;
    let watch = async {
        let (clock, mut seen) = (Clock::system(), Vec::with_capacity(PROBES));
        while seen.len() < PROBES {
            let there = usize::try_from(count(&mut connection).await? - before)?;
            let now = clock.monotonic();
            seen.resize(there.max(seen.len()), now);
            tokio::time::sleep(LOOK).await;
        }
        anyhow::Ok(seen)
    };
    let watch = async {
        tokio::time::timeout(THROUGH, watch)
            .await
            .context("the probes did not all arrive")?
    };
    let sent = blocking("send probes", Duration::from_secs(120), move || {
        send(&brokers, &topic, first)
    });
    let (sent, seen) = tokio::try_join!(sent, watch)?;
    ensure!(seen.len() >= PROBES, "{} of {PROBES} probes arrived", seen.len());
    let mut late: Vec<f64> = sent
        .iter()
        .zip(&seen)
        .map(|(sent, seen)| seen.saturating_sub(*sent).as_secs_f64() * 1e3)
        .collect();
    late.sort_by(f64::total_cmp);
    Ok(late[PROBES * 99 / 100 - 1])
}

async fn count(connection: &mut MySqlConnection) -> Result<i64> {
    let query = "SELECT COUNT(*) FROM t_fund_valuation WHERE fund_code = ? AND nav_date < '1990-01-01'";
    let code = Fund(1).fund_code();
    Ok(sqlx::query_scalar(query).bind(code).fetch_one(connection).await?)
}

/// Publishes the probes at their pace and returns when each was sent.
fn send(brokers: &str, topic: &str, first: i64) -> Result<Vec<Duration>> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("linger.ms", "0")
        .create()
        .context("make a producer")?;
    let (clock, id) = (Clock::system(), Fund(1).performance_id());
    let begun = clock.monotonic();
    let mut sent = Vec::with_capacity(PROBES);
    for number in 0..PROBES {
        let due = begun + EVERY * u32::try_from(number)?;
        std::thread::sleep(due.saturating_sub(clock.monotonic()));
        let day = jiff::civil::date(1900, 1, 1) + jiff::Span::new().days(first + i64::try_from(number)?);
        let payload = json!({
            "performanceId": id,
            "sourceTime": clock.now().to_string(),
            "items": [{ "date": day.to_string(), "unitNav": 1.5, "sourceTime": clock.now().to_string() }],
        });
        let payload = payload.to_string();
        let headers = OwnedHeaders::new().insert(Header {
            key: DATA_TYPE_HEADER,
            value: Some(DataType::Valuation.name()),
        });
        let record = BaseRecord::to(topic)
            .key(&id)
            .payload(&payload)
            .partition(i32::try_from(number)? % i32::from(PARTITIONS))
            .headers(headers);
        sent.push(clock.monotonic());
        producer
            .send(record)
            .map_err(|(error, _)| error)
            .context("send a probe")?;
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_secs(10)).context("flush")?;
    Ok(sent)
}
