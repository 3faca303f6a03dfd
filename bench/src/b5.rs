//! B5: how late live rows are while everything is being replayed, against without.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use reprise_proto::v1::JobState;
use reprise_shared::clock::Clock;
use reprise_tests::feed::{DATA_TYPE_HEADER, DataType, FeedConfig, Fund};
use reprise_tests::kernel::{cpu_seconds, stolen_seconds};
use reprise_tests::servers::Server as _;
use reprise_tests::wait::blocking;
use serde_json::json;
use sqlx::{Connection as _, MySqlConnection};

use crate::ground::PARTITIONS;
use crate::jobs::{Bench, THROUGH, lasted};
use crate::results::{Figure, Wanted};

/// A probe is published this often.
const EVERY: Duration = Duration::from_millis(20);
/// Probes of one phase.
const PROBES: usize = 500;
/// Probes that tell whether live rows are in time again.
const WARM: usize = 50;
/// They are when their 99th percentile is below this, in milliseconds.
const SETTLED: f64 = 200.0;
/// Days from 1900 to those of the feed.
const MOST_DAYS: i64 = 32_000;
/// Other live records a second.
const BESIDE: u32 = 1_000;
/// The table is looked at this often.
const LOOK: Duration = Duration::from_millis(2);

/// The broker is warm when it needed at least this part of the CPU time that it needed for as many probes before.
const WARMED: f64 = 0.9;
/// So many times is that asked at most.
const WARMING: usize = 30;

/// A phase in which the hypervisor took more than this, in seconds of the 20 that two cores have in it, is measured again.
const STOLEN: f64 = 0.2;
/// So many times at most.
const AGAIN: usize = 5;

/// Measures phases without and with a replay in turns: the 99th percentile of the time from a probe's sending to its
/// row being in the table.
pub async fn measure(bench: &mut Bench, pairs: usize) -> Result<Figure> {
    bench.ground.fleet.start_workers(1).await?;
    bench.ground.fleet.caught_up(THROUGH).await?;
    let beside = FeedConfig {
        records: None,
        seed: 5,
        ..bench.ground.feed.clone()
    };
    let load = bench.ground.fleet.load(beside, BESIDE);
    let (mut ratios, mut raw, mut day) = (Vec::new(), Vec::new(), 0);
    warm_up(bench, &mut day).await?;
    for _ in 0..pairs {
        let without = quiet(bench, &mut day, Beside::Nothing).await?;
        let with = quiet(bench, &mut day, Beside::Replay).await?;
        eprintln!(
            "B5: 99th percentile {:.1} ms without, {:.1} ms with a replay of {:.0} records a second",
            without.late, with.late, with.replayed
        );
        raw.push(json!({
            "without_ms": without.late,
            "with_ms": with.late,
            "replayed_a_second": with.replayed,
            "stolen_seconds": [without.stolen, with.stolen],
        }));
        ratios.push(with.late / without.late);
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

/// Lets live traffic flow until the broker needs no more CPU time for it than before. A JVM that was just started compiles
/// what it runs often: at first that takes a third of this machine, which live rows and a replay then lack.
async fn warm_up(bench: &mut Bench, day: &mut i64) -> Result<()> {
    let broker = bench.ground.servers.kafka.as_mut().and_then(|kafka| kafka.pid());
    let Some(broker) = broker else {
        // A broker that was not started here is warm or not: nothing here tells.
        return Ok(());
    };
    let mut last = f64::INFINITY;
    for _ in 0..WARMING {
        let before = cpu_seconds(broker)?;
        probe(bench, day, PROBES).await?;
        let took = cpu_seconds(broker)? - before;
        eprintln!("B5: the broker took {took:.1} CPU seconds for {PROBES} probes");
        if took >= last * WARMED {
            return Ok(());
        }
        last = took;
    }
    bail!("the broker was not warm after {WARMING} times {PROBES} probes")
}

/// What runs beside live traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Nothing,
    Replay,
}

/// What a phase came to.
#[derive(Clone, Copy, Debug)]
struct Phase {
    /// The 99th percentile, in milliseconds.
    late: f64,
    /// Records of the replay, a second.
    replayed: f64,
    /// CPU seconds that the hypervisor took.
    stolen: f64,
}

/// Measures a phase, again while the hypervisor takes part in it.
async fn quiet(bench: &Bench, day: &mut i64, beside: Beside) -> Result<Phase> {
    let mut again = 0;
    loop {
        // Before each phase, so that MariaDB has the same left to do; and so that the replay writes every row.
        bench.ground.change_rows().await?;
        // Live rows had to wait for that.
        while probe(bench, day, WARM).await? > SETTLED {}
        let phase = beside.run(bench, day).await?;
        if phase.stolen <= STOLEN || again == AGAIN {
            return Ok(phase);
        }
        eprintln!(
            "B5: measured again, as {:.1} CPU seconds of it were taken by others",
            phase.stolen
        );
        again += 1;
    }
}

impl Beside {
    async fn run(self, bench: &Bench, day: &mut i64) -> Result<Phase> {
        let before = stolen_seconds()?;
        let (late, replayed) = match self {
            Self::Nothing => (probe(bench, day, PROBES).await?, 0.0),
            Self::Replay => {
                let job = bench.begin(Vec::new()).await?;
                let late = probe(bench, day, PROBES).await;
                // It must have run all the time.
                let ended = bench.cancel(&job).await?;
                ensure!(
                    ended.state() == JobState::Cancelled,
                    "the replay was {}",
                    ended.state().as_str_name()
                );
                let read = ended.progress.as_ref().map_or(0, |progress| progress.records_read);
                (late?, read as f64 / lasted(&ended)?)
            }
        };
        Ok(Phase {
            late,
            replayed,
            stolen: stolen_seconds()? - before,
        })
    }
}

/// Sends probes and returns the 99th percentile of their lateness in milliseconds. Each has a day of its own, from `day`
/// on, long before those of the feed.
async fn probe(bench: &Bench, day: &mut i64, probes: usize) -> Result<f64> {
    let (brokers, topic) = (
        bench.ground.fleet.isolation.kafka_brokers().to_owned(),
        bench.ground.fleet.topic.clone(),
    );
    let mut connection = MySqlConnection::connect(&bench.ground.fleet.isolation.mysql_url()).await?;
    let first = *day;
    *day += i64::try_from(probes)?;
    ensure!(*day < MOST_DAYS, "there were too many phases");
    let before: i64 = count(&mut connection).await?;
    let watch = async {
        let (clock, mut seen) = (Clock::system(), Vec::with_capacity(probes));
        while seen.len() < probes {
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
        send(&brokers, &topic, first, probes)
    });
    let (sent, seen) = tokio::try_join!(sent, watch)?;
    ensure!(seen.len() >= probes, "{} of {probes} probes arrived", seen.len());
    let mut late: Vec<f64> = sent
        .iter()
        .zip(&seen)
        .map(|(sent, seen)| seen.saturating_sub(*sent).as_secs_f64() * 1e3)
        .collect();
    late.sort_by(f64::total_cmp);
    Ok(late[probes * 99 / 100 - 1])
}

async fn count(connection: &mut MySqlConnection) -> Result<i64> {
    let query = "SELECT COUNT(*) FROM t_fund_valuation WHERE fund_code = ? AND nav_date < '1990-01-01'";
    let code = Fund(1).fund_code();
    Ok(sqlx::query_scalar(query).bind(code).fetch_one(connection).await?)
}

/// Publishes the probes at their pace and returns when each was sent.
fn send(brokers: &str, topic: &str, first: i64, probes: usize) -> Result<Vec<Duration>> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("linger.ms", "0")
        .create()
        .context("make a producer")?;
    let (clock, id) = (Clock::system(), Fund(1).performance_id());
    let begun = clock.monotonic();
    let mut sent = Vec::with_capacity(probes);
    for number in 0..probes {
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
