//! The consumer group: partitions and workers that come and go.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use reprise_shared::clock::Clock;
use reprise_shared::ledger::{Interval, Reader};
use reprise_shared::position::{Offset, Partition, TopicName, TopicPartition};
use reprise_tests::cluster::STOP_LIMIT;
use reprise_tests::feed::{Feed, FeedConfig, Pace, publish};
use reprise_tests::fleet::{Fleet, Options, PATIENCE};
use reprise_tests::wait::{blocking, wait_for};

const TYPES: [&str; 3] = ["fund_basic", "fund_valuation", "fund_risk"];

fn feed(seed: u64, records: u64, partitions: u16) -> FeedConfig {
    FeedConfig {
        seed,
        records: Some(records),
        funds: 200,
        disorder: 0.1,
        partitions,
        ..FeedConfig::default()
    }
}

/// Checks each partition's ledger: whole coverage up to the end, and, when every handover was orderly, each record
/// counted once.
async fn check_ledger(fleet: &Fleet) -> Result<()> {
    let reader = Reader::new(fleet.redis.clone());
    for (number, (committed, end)) in fleet.positions().await?.into_iter().enumerate() {
        let partition = TopicPartition {
            topic: TopicName::new(&fleet.topic),
            partition: Partition(u16::try_from(number)?),
        };
        ensure!(
            committed == Some(end),
            "{partition} is committed at {committed:?} of {end}"
        );
        let whole = Interval::new(Offset(0), Offset(u64::try_from(end)?));
        let mut records = 0;
        for data_type in TYPES {
            let page = reader
                .ranges(data_type, &partition, whole, None, Reader::MAX_PAGE)
                .await?;
            ensure!(
                page.next.is_none() && page.unreadable == 0,
                "{partition}: not all ranges came"
            );
            records += page.members.iter().map(|range| range.records.consumed()).sum::<u64>();
        }
        ensure!(
            i64::try_from(records)? == end,
            "{partition}: the ledger counts {records} of {end} records"
        );
        let page = reader.coverage(&partition, whole, None, Reader::MAX_PAGE).await?;
        let holes = reprise_shared::ledger::holes(whole, page.members.iter().map(|member| member.interval()));
        ensure!(holes.is_empty(), "{partition}: holes {holes:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_partitions_added_while_running_are_read_from_their_beginning() -> Result<()> {
    let mut fleet = Fleet::new("rebalance-grow", Options::quick()).await?;
    let config = feed(1, 4_000, 4);
    fleet.seed(&config).await?;
    fleet.start_workers(2).await?;
    fleet.publish(config.clone()).await?;
    fleet.caught_up(PATIENCE).await?;
    // These records lie in the new partitions before any worker has discovered them.
    fleet.grow(6).await?;
    fleet.publish(feed(2, 6_000, 6)).await?;
    fleet.caught_up(PATIENCE).await?;
    let positions = fleet.positions().await?;
    ensure!(
        positions.len() == 6 && positions.iter().all(|(_, end)| *end > 0),
        "{positions:?}"
    );
    fleet.check_tables(Some(config), Vec::new()).await?;
    check_ledger(&fleet).await?;
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_workers_that_come_and_go_lose_nothing_and_repeat_nothing() -> Result<()> {
    let mut fleet = Fleet::new("rebalance-handover", Options::quick()).await?;
    let rounds = reprise_tests::env::rounds(2)?;
    let records = 24_000 + u64::from(rounds) * 12_000;
    let config = feed(1, records, 4);
    fleet.seed(&config).await?;
    let destination = fleet.destination();
    let clock = Clock::system();
    let (published, feeding) = (config.clone(), Duration::from_secs(600));
    #[expect(clippy::disallowed_methods, reason = "a test's own task, awaited below")]
    let publishing = tokio::spawn(blocking("publish", feeding, move || {
        let elapsed = || clock.monotonic();
        let pace = Pace {
            per_second: 1_500,
            elapsed: &elapsed,
        };
        publish(Feed::new(published)?, &destination, Some(pace), |_| {
            std::ops::ControlFlow::Continue(())
        })
    }));
    fleet.start_workers(1).await?;
    for _ in 0..rounds {
        let second = fleet.start_worker()?;
        shared_by(&fleet, 2).await?;
        let third = fleet.start_worker()?;
        shared_by(&fleet, 3).await?;
        for (leaving, left) in [(second, 2), (third, 1)] {
            fleet.workers[leaving].signal(Signal::SIGTERM)?;
            let code = fleet.workers[leaving].wait(STOP_LIMIT).await?;
            ensure!(code == Some(0), "ended with {code:?}\n{}", fleet.log_of(leaving));
            shared_by(&fleet, left).await?;
        }
    }
    let report = publishing.await??;
    ensure!(report.counts.delivered == records, "{:?}", report.counts);
    fleet.caught_up(PATIENCE).await?;
    fleet.check_tables(Some(config), Vec::new()).await?;
    check_ledger(&fleet).await.with_context(|| {
        (0..fleet.workers.len())
            .map(|number| fleet.log_of(number))
            .collect::<Vec<_>>()
            .join("\n")
    })?;
    fleet.stop().await
}

/// Waits until every partition is read, by so many workers.
async fn shared_by(fleet: &Fleet, workers: usize) -> Result<()> {
    let waited = wait_for("the partitions to be shared", PATIENCE, async || {
        let owners = fleet.owners().await?;
        let running: usize = owners.iter().sum();
        let busy = owners.iter().filter(|count| **count > 0).count();
        ensure!(
            busy == workers && running == 4,
            "partitions read by each worker: {owners:?}"
        );
        Ok(())
    })
    .await;
    waited.with_context(|| {
        (0..fleet.workers.len())
            .map(|number| fleet.log_of(number))
            .collect::<Vec<_>>()
            .join("\n")
    })
}
