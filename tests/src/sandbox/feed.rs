//! `feed`: publishes generated records to the stack's topic.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use reprise_shared::clock::Clock;

use super::screen::{Live, number, say};
use super::stack::{Stack, TOPIC};
use crate::feed::{BasicSeed, DataType, Destination, Feed, FeedConfig, FeedRecord, Pace, Report, publish};
use crate::wait::blocking;

/// No feed takes longer; an endless one ends with its process.
const LIMIT: Duration = Duration::from_secs(365 * 86_400);

/// The arguments of `feed`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// At most so many records a second; as fast as possible when left out.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// First give every fund its basic data, which lookups need: through Kafka, or straight into the table.
    #[arg(long, value_name = "HOW", num_args = 0..=1, default_missing_value = "publish")]
    seed_basic: Option<SeedBasic>,
    #[command(flatten)]
    config: FeedConfig,
}

/// How basic data gets into its table.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum SeedBasic {
    /// Through Kafka, as records that come before the others.
    Publish,
    /// By an insert; the table must not have them yet.
    Insert,
}

pub(super) async fn run(folder: &Path, arguments: Arguments) -> Result<ExitCode> {
    let stack = Stack::open(folder)?;
    let destination = destination(&stack);
    let config = arguments.config;
    config.validate()?;
    match arguments.seed_basic {
        None => {}
        Some(SeedBasic::Publish) => {
            let report = seed(&destination, &config).await?;
            say(format_args!(
                "basic data: {} records published",
                number(report.counts.delivered)
            ));
        }
        Some(SeedBasic::Insert) => {
            let seed = BasicSeed::new(&config);
            let inserted = seed.insert(&stack.pool, DataType::Basic.table()).await;
            inserted.context("the table has some of these funds already? then publish them")?;
            say(format_args!(
                "basic data: {} rows inserted",
                number(config.funds.into())
            ));
        }
    }
    let report = blocking("publish", LIMIT, move || {
        publish_live(config, &destination, arguments.rate)
    })
    .await?;
    check(&report)?;
    Ok(ExitCode::SUCCESS)
}

/// Returns where records for a stack go.
pub(super) fn destination(stack: &Stack) -> Destination {
    Destination {
        brokers: stack.endpoints.kafka.clone(),
        topic: TOPIC.to_owned(),
        keep_places: false,
    }
}

/// Publishes the basic data of a feed's funds.
pub(super) async fn seed(destination: &Destination, config: &FeedConfig) -> Result<Report> {
    let (destination, seed) = (destination.clone(), BasicSeed::new(config));
    let report = blocking("publish the basic data", LIMIT, move || {
        let records: Box<dyn Iterator<Item = FeedRecord>> = Box::new(seed.records());
        publish(records, &destination, None, |_| ControlFlow::Continue(()))
    })
    .await?;
    check(&report)?;
    Ok(report)
}

/// Fails when a record was not delivered.
pub(super) fn check(report: &Report) -> Result<()> {
    ensure!(
        report.counts.failed == 0,
        "{} records were not delivered: {}",
        report.counts.failed,
        report.first_error.as_deref().unwrap_or("no reason given")
    );
    Ok(())
}

fn publish_live(config: FeedConfig, destination: &Destination, rate: Option<u32>) -> Result<Report> {
    let clock = Clock::system();
    let elapsed = || clock.monotonic();
    let pace = rate.map(|per_second| Pace {
        per_second,
        elapsed: &elapsed,
    });
    let mut live = Live::new(config.records);
    let begun = elapsed();
    let per_second = |records: u64| records as f64 / elapsed().saturating_sub(begun).as_secs_f64().max(0.001);
    let report = publish(Feed::new(config)?, destination, pace, |progress| {
        live.show(progress.delivered, || {
            format!(
                "{} published, {:.0} a second, {} failed",
                number(progress.delivered),
                per_second(progress.delivered),
                progress.failed
            )
        });
        ControlFlow::Continue(())
    })?;
    live.end(format_args!(
        "{} published, {:.0} a second",
        number(report.counts.delivered),
        per_second(report.counts.delivered)
    ));
    Ok(report)
}
