//! Replays make room for live traffic, and their faults are their own.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use reprise_shared::jobs::{JobId, JobState, Progress};
use reprise_tests::env::Servers;
use reprise_tests::fleet::{Asked, Fleet, Options, PATIENCE, endpoints_with, feed_of_all_kinds, sum};
use reprise_tests::servers::Server;
use reprise_tests::wait::wait_for;

fn options(settings: &[(&str, &str)]) -> Options {
    let usual = [("replay.poll", "100ms"), ("replay.checkpoint", "200ms")];
    Options {
        settings: usual
            .iter()
            .chain(settings)
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..Options::default()
    }
}

/// Waits until a job says why it is held back.
async fn held_because(fleet: &Fleet, job: JobId, word: &str) -> Result<String> {
    let waited = wait_for("a hold", PATIENCE, async || {
        let progress = fleet.progress(job).await.map_err(|error| format!("{error:#}"))?;
        let found = progress
            .hold_reasons
            .iter()
            .find(|reason| reason.contains(word))
            .cloned();
        found.ok_or_else(|| format!("{progress:?}"))
    });
    waited.await.with_context(|| fleet.log_of(fleet.workers.len() - 1))
}

/// Waits until a worker has looked so often at live traffic and the database. Each look shows another latency.
async fn looks(fleet: &Fleet, worker: usize, count: usize) -> Result<()> {
    let mut seen = Vec::new();
    wait_for("looks at the database", PATIENCE, async || {
        let metrics = fleet.metrics(worker).await?;
        let latency = sum(&metrics, "reprise_replay_database_latency_seconds", &[]);
        if seen.last() != Some(&latency) {
            seen.push(latency);
        }
        ensure!(seen.len() > count, "{seen:?}");
        Ok(())
    })
    .await
}

/// Checks that nothing of a job is read while it is held: what was on its way ends, and after that nothing changes,
/// however often the worker looks.
async fn reads_nothing(fleet: &Fleet, worker: usize, job: JobId) -> Result<Progress> {
    let done = |progress: &Progress| {
        (
            progress.read,
            progress.written,
            progress.positions_done,
            progress.tasks_done,
        )
    };
    let settled = wait_for("what was on its way", PATIENCE, async || {
        let before = fleet.progress(job).await?;
        looks(fleet, worker, 1).await?;
        let after = fleet.progress(job).await?;
        ensure!(done(&before) == done(&after), "{before:?}, and then {after:?}");
        Ok(after)
    });
    let settled = settled.await?;
    looks(fleet, worker, 3).await?;
    let later = fleet.progress(job).await?;
    ensure!(
        done(&settled) == done(&later),
        "it was read on: {settled:?}, and then {later:?}"
    );
    ensure!(
        later.read.read > 0 && later.tasks_done < later.tasks && later.positions_done < later.positions,
        "nothing was begun, or left to hold: {later:?}"
    );
    Ok(later)
}

/// Checks that a job which was held goes on to its end.
async fn goes_on(fleet: &Fleet, job: JobId, held: &Progress) -> Result<()> {
    let progress = fleet.job_succeeds(job, PATIENCE).await?;
    ensure!(
        progress.read.read > held.read.read && progress.positions_done == progress.positions,
        "{progress:?}, held at {held:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_holds_while_live_traffic_is_behind_and_goes_on_by_itself() -> Result<()> {
    let config = feed_of_all_kinds(Some(3_000), 61);
    let mut fleet = Fleet::new(
        "yields-lag",
        options(&[
            ("replay.live_first.lag_cut", "500"),
            ("replay.live_first.lag_hold", "1000"),
        ]),
    )
    .await?;
    fleet.seed(&config).await?;
    fleet.publish(config.clone()).await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    let slices = fleet.slices("fund_valuation", 200_000).await?;
    let replay = fleet.start_replay_workers(1).await?;
    let asked = Asked {
        per_second: Some(400),
        ..Asked::default()
    };
    let job = fleet.replay_slices(slices, &asked).await?;
    fleet.job_reads(job, 1, PATIENCE).await?;
    // Live traffic stands still and falls behind.
    fleet.workers[0].signal(Signal::SIGSTOP)?;
    fleet.publish(feed_of_all_kinds(Some(3_000), 62)).await?;
    let reason = held_because(&fleet, job, "held: live traffic is").await?;
    let held = reads_nothing(&fleet, replay, job).await?;
    fleet.workers[0].signal(Signal::SIGCONT)?;
    goes_on(&fleet, job, &held).await?;
    eprintln!("{reason} after {} records; then it went on", held.read.read);
    fleet.stop().await
}

/// Freezes a database and wakes it, again and again, while something is watched: a small write that meets a freeze takes
/// most of it.
async fn while_freezing<T>(server: &mut impl Server, watched: impl Future<Output = Result<T>>) -> Result<T> {
    let seen = tokio::select! {
        seen = watched => seen,
        failed = freeze(server) => failed.map(|never| match never {}),
    };
    server.resume()?;
    seen
}

async fn freeze(server: &mut impl Server) -> Result<Infallible> {
    loop {
        server.pause()?;
        tokio::time::sleep(Duration::from_millis(800)).await;
        server.resume()?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_holds_while_mysql_is_slow_and_goes_on_by_itself() -> Result<()> {
    let mut server = Servers::own().mariadb().await?;
    let endpoints = endpoints_with(|all| server.endpoint().clone_into(&mut all.mysql)).await?;
    let mut options = options(&[
        ("replay.live_first.floor_rate", "4000000000"),
        ("replay.live_first.latency_cut", "300ms"),
        ("replay.live_first.latency_hold", "400ms"),
        // A look has at least one whole freeze behind it.
        ("replay.live_first.interval", "1500ms"),
    ]);
    options.endpoints = Some(endpoints);
    let mut fleet = Fleet::new("yields-slow", options).await?;
    let config = feed_of_all_kinds(Some(8_000), 63);
    fleet.seed(&config).await?;
    fleet.publish(config.clone()).await?;
    fleet.start_replay_workers(1).await?;
    let asked = Asked {
        per_second: Some(800),
        ..Asked::default()
    };
    let job = fleet.replay("fund_valuation", &asked).await?;
    fleet.job_reads(job, 200, PATIENCE).await?;
    let found = while_freezing(&mut *server, async {
        let reason = held_because(&fleet, job, "held: the database").await?;
        Ok((reason, reads_nothing(&fleet, 0, job).await?))
    });
    let (reason, held) = found.await.with_context(|| fleet.log_of(0))?;
    goes_on(&fleet, job, &held).await?;
    fleet
        .oracle_of(&fleet.slices("fund_valuation", 200_000).await?, &asked, config)
        .await?
        .0
        .compare(&fleet.pool)
        .await?;
    eprintln!("{reason} after {} records; then it went on", held.read.read);
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_live_traffic_a_replay_keeps_to_the_floor_and_says_so() -> Result<()> {
    let config = feed_of_all_kinds(Some(3_000), 64);
    let mut fleet = Fleet::new("yields-floor", options(&[("replay.live_first.floor_rate", "300")])).await?;
    fleet.seed(&config).await?;
    fleet.publish(config).await?;
    fleet.start_replay_workers(1).await?;
    let job = fleet.replay("fund_risk", &Asked::default()).await?;
    let reason = held_because(&fleet, job, "nothing is known of live traffic").await?;
    fleet.job_succeeds(job, PATIENCE).await?;
    eprintln!("{reason}");
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_live_traffic_the_transactions_of_a_replay_are_small() -> Result<()> {
    const ROWS: u64 = 10;
    // What waits when a task ends is written in larger ones.
    const WAITING: u64 = 1_000;
    let config = feed_of_all_kinds(Some(16_000), 67);
    let settings = [
        ("replay.live_first.floor_rate", "4000000000"),
        ("replay.live_first.batch_rows", &*ROWS.to_string()),
        ("replay.max_rows_in_flight", &*WAITING.to_string()),
    ];
    let mut fleet = Fleet::new("yields-small", options(&settings)).await?;
    fleet.seed(&config).await?;
    fleet.publish(config).await?;
    fleet.start_replay_workers(1).await?;
    // Nothing is known of live traffic, so it counts as flowing.
    let job = fleet.replay("fund_valuation", &Asked::default()).await?;
    let progress = fleet.job_succeeds(job, PATIENCE).await?;
    let (rows, batches) = (progress.written.inserted, fleet.batches(job).await?);
    let small = rows.saturating_sub(u64::from(progress.tasks) * WAITING) / ROWS;
    eprintln!("{rows} rows in {batches} transactions, of {small} at least");
    ensure!(small > 0 && batches >= small, "{rows} rows in {batches} transactions");
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_a_task_fails_its_job_and_never_the_live_type() -> Result<()> {
    let config = feed_of_all_kinds(Some(2_000), 65);
    let mut fleet = Fleet::new(
        "yields-fault",
        options(&[("replay.live_first.floor_rate", "4000000000")]),
    )
    .await?;
    fleet.seed(&config).await?;
    fleet.publish(config).await?;
    fleet.start_replay_workers(1).await?;
    sqlx::query("ALTER TABLE t_ai_risk DROP COLUMN volatility")
        .execute(&fleet.pool)
        .await?;
    let good = fleet.replay("fund_valuation", &Asked::default()).await?;
    let bad = fleet.replay("fund_risk", &Asked::default()).await?;
    let found = fleet.job_ends(bad, PATIENCE).await?;
    ensure!(
        found.state == JobState::Failed && found.reason == "SCHEMA" && found.detail.contains("volatility"),
        "{:?}: {} {}",
        found.state,
        found.reason,
        found.detail
    );
    fleet.job_succeeds(good, PATIENCE).await?;
    let stopped: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM type_states")
        .fetch_one(&fleet.pool)
        .await?;
    ensure!(stopped == 0, "{stopped} live types were stopped");
    eprintln!("{}: {}", found.reason, found.detail);
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_a_task_go_and_the_next_worker_goes_on_at_once() -> Result<()> {
    let config = feed_of_all_kinds(Some(4_000), 66);
    let mut fleet = Fleet::new("yields-term", options(&[("replay.live_first.floor_rate", "1000")])).await?;
    fleet.seed(&config).await?;
    fleet.publish(config.clone()).await?;
    let first = fleet.start_replay_workers(1).await?;
    let asked = Asked::default();
    let slices = fleet.slices("fund_valuation", asked.slice).await?;
    let (folded, read) = fleet.oracle_of(&slices, &asked, config).await?;
    let job = fleet.replay_slices(slices, &asked).await?;
    fleet.job_reads(job, 300, PATIENCE).await?;
    fleet.workers[first].signal(Signal::SIGTERM)?;
    let code = fleet.workers[first].wait(reprise_tests::cluster::STOP_LIMIT).await?;
    ensure!(code == Some(0), "it ended with {code:?}\n{}", fleet.log_of(first));
    let attempts: Vec<u32> = sqlx::query_scalar("SELECT attempts FROM tasks WHERE job_id = ? AND state = 'PENDING'")
        .bind(job.to_string())
        .fetch_all(&fleet.pool)
        .await?;
    ensure!(
        attempts.iter().all(|attempts| *attempts == 0),
        "a graceful release counts: {attempts:?}"
    );
    let held: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM tasks WHERE job_id = ? AND state = 'RUNNING'")
        .bind(job.to_string())
        .fetch_one(&fleet.pool)
        .await?;
    ensure!(held == 0, "{held} tasks are still held\n{}", fleet.log_of(first));
    fleet.start_replay_workers(1).await?;
    let progress = fleet.job_succeeds(job, PATIENCE).await?;
    ensure!(progress.read.read == read, "{} of {read} were read", progress.read.read);
    let rows = folded.tables["t_fund_valuation"].len() as u64;
    ensure!(
        progress.written.inserted == rows,
        "{:?}, not {rows} rows",
        progress.written
    );
    folded.compare(&fleet.pool).await?;
    fleet.stop().await
}
