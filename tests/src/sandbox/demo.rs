//! `demo`: starts the stack, feeds it, changes the whitelist half-way, checks that every count adds up, and replays.

mod check;
mod replay;
mod watch;

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use reprise_shared::clock::Clock;
use tokio_util::sync::CancellationToken;

use super::counts::Counters;
use super::screen::{heading, number, say, table};
use super::stack::{Position, Stack, TOPIC};
use super::state::StateFolder;
use super::{feed, look, up, whitelist};
use crate::feed::{BadClass, BadShare, DataType, Feed, FeedConfig, Fund, MultiRow, Pace, publish};
use crate::wait::{blocking, wait_for};

/// How long the stack may take to get through what it was given.
const PATIENCE: Duration = Duration::from_secs(600);

/// The arguments of `demo`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Arguments {
    /// How many records to feed after the funds' basic data.
    #[arg(long, default_value_t = 200_000)]
    records: u64,
    /// How many funds there are.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(20..=1_000_000))]
    funds: u32,
    /// How many records a second.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
}

pub(super) async fn run(folder: &Path, arguments: &Arguments) -> Result<ExitCode> {
    heading("The stack: Kafka, MySQL, Redis, the control plane, an ingest worker and a replay worker");
    let endpoints = up::start(&StateFolder::open(folder.to_owned())?).await?;
    let stack = Stack::at(endpoints, folder)?;
    show_endpoints(&stack);
    let before = begin(&stack).await?;

    let config = config(arguments);
    heading(&format!("{} funds", number(arguments.funds.into())));
    let destination = feed::destination(&stack);
    let clock = Clock::system();
    let begun = clock.monotonic();
    let seeded = feed::seed(&destination, &config).await?.counts.delivered;
    caught_up(&stack).await?;
    let rows = look::count(&stack, DataType::Basic.table()).await?;
    let took = clock.monotonic().saturating_sub(begun);
    say(format_args!(
        "  {} records of basic data through Kafka; {} holds {} rows after {:.1} s",
        number(seeded),
        DataType::Basic.table(),
        number(rows),
        took.as_secs_f64()
    ));

    heading(&format!(
        "{} records, {} a second",
        number(arguments.records),
        number(arguments.rate.into())
    ));
    let (sent, cut) = publish_and_watch(&stack, arguments, config).await?;
    let begun = clock.monotonic();
    let after = caught_up(&stack).await?;
    let took = clock.monotonic().saturating_sub(begun);
    say(format_args!("  all of it committed {:.1} s later", took.as_secs_f64()));

    look::everything(&stack).await?;
    heading("Do the counts add up?");
    let fine = check::run(&stack, &before, &after, seeded + sent).await?;
    let fine = fine && replay::run(&stack, cut, arguments.funds).await?;
    go_on(&stack);
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How things stand before the demo.
struct Before {
    positions: Vec<Position>,
    counters: Counters,
}

/// Waits until nothing of an earlier demo is in flight, and lets everything through.
async fn begin(stack: &Stack) -> Result<Before> {
    caught_up(stack)
        .await
        .context("wait for the records that are in the topic already")?;
    let mut client = stack.whitelist()?;
    if !whitelist::get(&mut client, "").await?.unrestricted {
        let version = whitelist::replace(&mut client, Vec::new()).await?;
        watch::applied(stack, version, PATIENCE).await?;
        say(format_args!(
            "  the whitelist of an earlier demo is empty again (version {version}), so everything goes through"
        ));
    }
    Ok(Before {
        positions: stack.positions().await?,
        counters: Counters::read(stack).await?,
    })
}

/// Mostly good records, as they come: some late, some twice, some wrong.
fn config(arguments: &Arguments) -> FeedConfig {
    let bad = [
        (BadClass::NotJson, 0.000_2),
        (BadClass::WrongType, 0.000_2),
        (BadClass::MissingField, 0.000_2),
        (BadClass::ZeroDate, 0.000_2),
        (BadClass::Tombstone, 0.001),
    ];
    FeedConfig {
        records: Some(arguments.records),
        funds: arguments.funds,
        // Newer than everything that an earlier demo left behind.
        start: Clock::system().now(),
        disorder: 0.01,
        duplicates: 0.01,
        multi_row: MultiRow {
            multi_row: 0.2,
            items: 4,
            same_key: 0.0,
        },
        bad: bad
            .into_iter()
            .map(|(class, share)| BadShare { class, share })
            .collect(),
        ..FeedConfig::default()
    }
}

/// Publishes the feed while another task watches what arrives and changes the whitelist; returns how many records
/// were delivered, and the version of the whitelist since half-way.
async fn publish_and_watch(stack: &Stack, arguments: &Arguments, config: FeedConfig) -> Result<(u64, u64)> {
    let delivered = Arc::new(AtomicU64::new(0));
    let given_up = CancellationToken::new();
    // A failed watch ends the thread that publishes, too.
    let _guard = given_up.clone().drop_guard();
    let (destination, rate, seen) = (feed::destination(stack), arguments.rate, delivered.clone());
    let published = blocking("publish", PATIENCE, move || {
        let clock = Clock::system();
        let elapsed = || clock.monotonic();
        let pace = Pace {
            per_second: rate,
            elapsed: &elapsed,
        };
        publish(Feed::new(config)?, &destination, Some(pace), |progress| {
            seen.store(progress.delivered, Ordering::Relaxed);
            if given_up.is_cancelled() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
    });
    let published = async {
        let report = published.await?;
        feed::check(&report)?;
        delivered.store(report.counts.delivered, Ordering::Relaxed);
        anyhow::Ok(report.counts.delivered)
    };
    let funds: Vec<String> = (1..=arguments.funds / 10)
        .map(|fund| Fund(fund).performance_id())
        .collect();
    let watch = watch::Watch {
        stack,
        delivered: &delivered,
        total: arguments.records,
        funds,
        limit: PATIENCE,
    };
    tokio::try_join!(published, watch.run())
}

/// Waits until every record of the topic is committed.
async fn caught_up(stack: &Stack) -> Result<Vec<Position>> {
    wait_for("every record of the topic to be committed", PATIENCE, async || {
        let positions = stack.positions().await.map_err(|error| format!("{error:#}"))?;
        let behind = |position: &&Position| position.committed.unwrap_or(0) < position.end;
        match positions.iter().find(behind) {
            None => Ok(positions),
            Some(position) => Err(format!("{position:?}")),
        }
    })
    .await
}

fn show_endpoints(stack: &Stack) {
    let endpoints = &stack.endpoints;
    let line = |name: &str, place: &str| vec![name.to_owned(), place.to_owned()];
    let mut lines = vec![
        line("Kafka", &endpoints.kafka),
        line("MySQL", &endpoints.mysql),
        line("Redis", &endpoints.redis),
    ];
    if let Some(address) = &endpoints.control_plane {
        lines.push(line(
            "control plane",
            &format!("{address} (gRPC; tokens in .dev/endpoints.json)"),
        ));
    }
    lines.extend(endpoints.ingest_http.iter().map(|http| line("ingest worker", http)));
    lines.extend(endpoints.replay_http.iter().map(|http| line("replay worker", http)));
    lines.push(line("logs", &endpoints.log_dir.display().to_string()));
    table(&["", ""], lines);
}

fn go_on(stack: &Stack) {
    let endpoints = &stack.endpoints;
    let address = |url: &str| {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let rest = rest.split_once('/').map_or(rest, |(rest, _)| rest);
        let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
        let (host, port) = rest.rsplit_once(':').unwrap_or((rest, ""));
        (host.to_owned(), port.to_owned())
    };
    let (redis_host, redis_port) = address(&endpoints.redis);
    let (mysql_host, mysql_port) = address(&endpoints.mysql);
    heading("Look around; the stack is still running");
    say(format_args!(
        "  kcat -b {} -t {TOPIC} -C -o -3 -e -q -f '%p:%o %h %s\\n'",
        endpoints.kafka
    ));
    say(format_args!(
        "  redis-cli -h {redis_host} -p {redis_port} zrange 'databus:coverage:{{{TOPIC}:0}}' 0 -1"
    ));
    say(format_args!(
        "  redis-cli -h {redis_host} -p {redis_port} scard 'databus:{{whitelist}}:global'"
    ));
    let mysql = format!("  mysql -h {mysql_host} -P {mysql_port} -u root reprise -e");
    say(format_args!("{mysql} 'SELECT * FROM t_fund_valuation LIMIT 5'"));
    say(format_args!(
        "{mysql} 'SELECT class, error, COUNT(*) FROM dead_letters GROUP BY 1, 2'"
    ));
    if let Some(http) = endpoints.ingest_http.first() {
        say(format_args!("  curl -s {http}/metrics | grep reprise_records_total"));
    }
    say("  ./dev look                                    all of the above, summed up");
    say("  ./dev feed --records 100000 --rate 5000       more records");
    say("  ./dev whitelist set --allow-unrestricted      let everything through again");
    say("  ./dev down                                    stop it all; --delete-data forgets it, too");
}
