//! The whitelist on the live path: who is let through, by which version, and how soon after a change.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reprise_shared::clock::Clock;
use reprise_shared::ledger::{Interval, Range, Reader};
use reprise_shared::position::{Offset, Partition, TopicName, TopicPartition};
use reprise_shared::whitelist::{Keys, Version};
use reprise_tests::env::Servers;
use reprise_tests::feed::{DataType, FeedConfig, Fund};
use reprise_tests::fleet::{Fleet, Options, PATIENCE};
use reprise_tests::servers::{Endpoints, Server as _};
use reprise_tests::wait::wait_for;
use reprise_tests::whitelist::ONE_POLL;

fn feed(seed: u64, records: u64) -> FeedConfig {
    FeedConfig {
        seed,
        records: Some(records),
        funds: 200,
        disorder: 0.05,
        duplicates: 0.05,
        ..FeedConfig::default()
    }
}

fn ids(funds: impl IntoIterator<Item = u32>) -> Vec<String> {
    funds.into_iter().map(|fund| Fund(fund).performance_id()).collect()
}

/// Heartbeats come often, so that waiting for one adds little to what is measured.
fn often() -> Vec<(String, String)> {
    vec![("ingest.heartbeat".into(), "200ms".into())]
}

async fn ranges(fleet: &Fleet) -> Result<Vec<(u16, Range)>> {
    let reader = Reader::new(fleet.redis.clone());
    let everything = Interval::new(Offset(0), Offset(1 << 50));
    let mut all = Vec::new();
    for partition in 0..4 {
        let at = TopicPartition {
            topic: TopicName::new(&fleet.topic),
            partition: Partition(partition),
        };
        for data_type in DataType::ALL {
            let page = reader
                .ranges(data_type.name(), &at, everything, None, Reader::MAX_PAGE)
                .await?;
            ensure!(page.unreadable == 0 && page.next.is_none());
            all.extend(page.members.into_iter().map(|range| (partition, range)));
        }
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_exactly_the_listed_ids_pass_and_ranges_carry_the_version_that_judged_them() -> Result<()> {
    let mut fleet = Fleet::new(
        "filter-list",
        Options {
            settings: often(),
            ..Options::default()
        },
    )
    .await?;
    let first = feed(1, 8_000);
    fleet.seed(&first).await?;
    // Most of these are no fund of the feed: a list of 100,000 must work like one of 25.
    let listed = ids((1..=25).chain(1_000_000..1_099_975));
    ensure!(listed.len() == 100_000);
    let before = fleet.set_whitelist(&listed).await?;
    fleet.publish(first.clone()).await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    let folded = fleet.check_tables(Some(first), listed).await?;
    let counts = folded.counts_of("fund_valuation").records;
    println!("of a list of 100,000: {counts:?}");
    ensure!(counts.filtered > 0 && counts.processed > 0);
    let boundary: Vec<u64> = fleet
        .positions()
        .await?
        .iter()
        .map(|(_, end)| u64::try_from(*end).unwrap_or_default())
        .collect();

    // An empty list lets everything through.
    let after = fleet.set_whitelist(&[]).await?;
    fleet.whitelist_applied(after, PATIENCE).await?;
    fleet.publish(feed(2, 4_000)).await?;
    fleet.caught_up(PATIENCE).await?;
    let (mut old, mut new) = (0, 0);
    for (partition, range) in ranges(&fleet).await? {
        let end = Offset(boundary[usize::from(partition)]);
        if range.end <= end {
            ensure!(range.whitelist == Some(before), "judged by {before:?}: {range:?}");
            old += range.records.consumed();
        } else {
            ensure!(range.start >= end, "one range, two versions: {range:?}");
            ensure!(range.whitelist == Some(after), "judged by {after:?}: {range:?}");
            ensure!(range.records.filtered == 0, "an empty list filters: {range:?}");
            new += range.records.consumed();
        }
    }
    println!("{old} records judged by {before:?}, {new} by {after:?}");
    ensure!((old, new) == (8_000, 4_000), "ranges count {old} and {new} records");
    fleet.stop().await
}

async fn applied_within(fleet: &Fleet, version: Version, clock: &Clock, since: Duration) -> Result<Duration> {
    fleet
        .whitelist_applied(
            version,
            ONE_POLL.saturating_sub(clock.monotonic().saturating_sub(since)),
        )
        .await
        .with_context(|| fleet.log_of(0))?;
    Ok(clock.monotonic().saturating_sub(since))
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_without_the_channel_changes_are_applied_within_one_poll_period() -> Result<()> {
    let redis = Servers::own().redis().await?;
    let shared = Servers::shared().await?.endpoints().clone();
    let mut settings = often();
    let address = redis.endpoint().trim_start_matches("redis://").to_owned();
    settings.push(("redis.url".into(), format!("redis://worker:secret@{address}")));
    let mut fleet = Fleet::new(
        "filter-no-channel",
        Options {
            settings,
            endpoints: Some(Endpoints {
                redis: redis.endpoint().to_owned(),
                ..shared
            }),
            ..Options::default()
        },
    )
    .await?;
    let mut connection = redis::Client::open(redis.endpoint())?
        .get_multiplexed_async_connection()
        .await?;
    let rules = ["SETUSER", "worker", "on", ">secret", "~*", "resetchannels", "+@all"];
    let () = redis::cmd("ACL").arg(&rules).query_async(&mut connection).await?;
    fleet.start_workers(1).await?;
    let channel = Keys::new(fleet.redis.prefix()).changes();
    let clock = Clock::system();
    for round in 0..3 {
        let begun = clock.monotonic();
        let version = fleet.set_whitelist(&ids(1..=round + 1)).await?;
        let took = applied_within(&fleet, version, &clock, begun).await?;
        let listeners: (String, u32) = redis::cmd("PUBSUB")
            .arg("NUMSUB")
            .arg(&channel)
            .query_async(&mut connection)
            .await?;
        ensure!(listeners.1 == 0, "the channel is not cut");
        println!("without the channel, change {round}: applied after {took:?}");
    }
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_a_change_whose_notice_was_lost_is_applied_within_one_poll_period() -> Result<()> {
    let mut fleet = Fleet::new(
        "filter-lost-notice",
        Options {
            settings: often(),
            ..Options::default()
        },
    )
    .await?;
    let first = fleet.set_whitelist(&ids([1])).await?;
    fleet.start_workers(1).await?;
    fleet.whitelist_applied(first, PATIENCE).await?;
    let keys = Keys::new(fleet.redis.prefix());
    let mut connection = redis::Client::open(fleet.isolation.redis_url())?
        .get_multiplexed_async_connection()
        .await?;
    // What the control plane's script does, without its PUBLISH: the subscription is alive and nothing arrives.
    let clock = Clock::system();
    let begun = clock.monotonic();
    let version = first.next();
    let () = redis::pipe()
        .atomic()
        .sadd(keys.list(&reprise_shared::whitelist::Scope::Global), ids([2]))
        .ignore()
        .hset_multiple(
            keys.head(),
            &[("version", version.0.to_string()), ("change_id", "unheard".to_owned())],
        )
        .ignore()
        .query_async(&mut connection)
        .await?;
    let took = applied_within(&fleet, version, &clock, begun).await?;
    println!("without a notice: applied after {took:?}");
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_an_unknown_whitelist_keeps_a_worker_from_starting() -> Result<()> {
    let mut fleet = Fleet::new("filter-unknown", Options::default()).await?;
    let config = feed(3, 1_000);
    fleet.seed(&config).await?;
    fleet.publish(config.clone()).await?;
    let keys = Keys::new(fleet.redis.prefix());
    let mut connection = redis::Client::open(fleet.isolation.redis_url())?
        .get_multiplexed_async_connection()
        .await?;
    let () = redis::cmd("DEL").arg(keys.head()).query_async(&mut connection).await?;
    let number = fleet.start_worker()?;
    let url = format!("{}/readyz", fleet.workers[number].http());
    wait_for("the worker to say what it waits for", PATIENCE, async || {
        let answer = reqwest::get(&url).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        if status == reqwest::StatusCode::SERVICE_UNAVAILABLE && text.contains("whitelist") {
            Ok(())
        } else {
            Err(format!("{status}: {text}"))
        }
    })
    .await?;
    // It is not ready in longer than a poll period either, and reads nothing.
    let early = fleet.workers[number].ready(ONE_POLL).await;
    ensure!(early.is_err(), "ready without a whitelist");
    ensure!(fleet.workers[number].pid().is_some(), "ended without a whitelist");
    let positions = fleet.positions().await?;
    ensure!(
        positions.iter().all(|(committed, _)| committed.is_none()),
        "{positions:?}"
    );

    fleet.set_whitelist(&ids(1..=10)).await?;
    fleet.workers[number].ready(PATIENCE).await?;
    fleet.caught_up(PATIENCE).await?;
    fleet.check_tables(Some(config), ids(1..=10)).await?;
    fleet.stop().await
}
