//! Replays make room for live traffic, and their faults are their own.

use anyhow::{Context as _, Result, ensure};
use reprise_shared::jobs::{JobId, JobState};
use reprise_tests::env::Servers;
use reprise_tests::fleet::{Asked, Fleet, Options, PATIENCE, endpoints_with, feed_of_all_kinds};
use reprise_tests::servers::Server as _;
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
    // Live traffic stands still and falls behind.
    fleet.workers[0].kill()?;
    fleet.publish(feed_of_all_kinds(Some(3_000), 62)).await?;
    fleet.start_replay_workers(1).await?;
    let asked = Asked {
        per_second: Some(400),
        ..Asked::default()
    };
    let job = fleet.replay_slices(slices, &asked).await?;
    let reason = held_because(&fleet, job, "records behind").await?;
    ensure!(reason.starts_with("held"), "{reason}");
    let before = fleet.progress(job).await?;
    ensure!(before.tasks_done < before.tasks, "nothing was left to hold: {before:?}");
    fleet.workers[0].start()?;
    fleet.job_succeeds(job, PATIENCE).await?;
    eprintln!("{reason}; then it went on");
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_holds_while_mysql_is_slow_and_goes_on_by_itself() -> Result<()> {
    let mut server = Servers::own().mariadb().await?;
    let endpoints = endpoints_with(|all| server.endpoint().clone_into(&mut all.mysql)).await?;
    let mut options = options(&[
        ("replay.live_first.floor_rate", "4000000000"),
        ("replay.live_first.latency_cut", "400ms"),
        ("replay.live_first.latency_hold", "800ms"),
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
    // Frozen and woken again and again: an answer takes a second and more.
    let mut held = None;
    for _ in 0..60 {
        server.pause()?;
        tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
        server.resume()?;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let progress = fleet.progress(job).await?;
        held = progress
            .hold_reasons
            .into_iter()
            .find(|reason| reason.starts_with("held: the database"));
        if held.is_some() {
            break;
        }
    }
    let held = held.with_context(|| fleet.log_of(0))?;
    fleet.job_succeeds(job, PATIENCE).await?;
    fleet
        .oracle_of(&fleet.slices("fund_valuation", 200_000).await?, &asked, config)
        .await?
        .0
        .compare(&fleet.pool)
        .await?;
    eprintln!("{held}; then it went on");
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
    fleet.workers[first].signal(nix::sys::signal::Signal::SIGTERM)?;
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
