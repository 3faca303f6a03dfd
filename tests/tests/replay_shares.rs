//! Who gets the workers: jobs of different size, of different priority, and beside a task that nobody survives.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reprise_proto::v1::{Job, JobSpec, JobState, ReplayMode, ReplaySpec};
use reprise_shared::jobs::{JobId, JobState as Stored, Mode};
use reprise_tests::feed::{DataTypeMix, FeedConfig, Fund, Made};
use reprise_tests::fleet::{Asked, Fleet, Options, PATIENCE};
use reprise_tests::jobs::{everything, job_of, offsets_of};
use reprise_tests::stage::Stage;
use reprise_tests::wait::wait_for;
use sqlx::Connection as _;

fn feed() -> FeedConfig {
    FeedConfig {
        records: Some(8_000),
        funds: 100,
        mix: DataTypeMix {
            basic: 0,
            valuation: 1,
            risk: 1,
        },
        ..FeedConfig::default()
    }
}

fn options(more: &[(&str, &str)]) -> Options {
    let usual = [
        ("replay.live_first.floor_rate", "4000000000"),
        ("replay.live_first.latency_cut", "20s"),
        ("replay.live_first.latency_hold", "60s"),
    ];
    let mut options = Options::quick();
    for (key, value) in usual.iter().chain(more) {
        options.settings.push(((*key).to_owned(), (*value).to_owned()));
    }
    options
}

/// A stage with one ingest worker that has read everything, and no replay worker yet.
async fn stage(name: &str, tasks: &str) -> Result<Stage> {
    let options = options(&[("replay.max_tasks", tasks)]);
    let mut stage = Stage::without_workers(name, options, vec![("jobs.max_slice", "200".to_owned())]).await?;
    stage.fleet.seed(&feed()).await?;
    stage.fleet.start_workers(1).await?;
    stage.ingest(&feed()).await?;
    Ok(stage)
}

fn verify(data_type: &str) -> JobSpec {
    job_of(everything(&[data_type], ReplayMode::Verify))
}

/// The order in which tasks ended: their jobs.
async fn order(stage: &Stage) -> Result<Vec<String>> {
    Ok(
        sqlx::query_scalar("SELECT job_id FROM tasks ORDER BY finished_at, job_id")
            .fetch_all(&stage.fleet.pool)
            .await?,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_different_size_share_the_workers_and_a_higher_priority_goes_first() -> Result<()> {
    let mut stage = stage("shares", "2").await?;
    // Nobody runs anything yet, so that who came first has no lead.
    let large = stage.jobs.begin(verify("fund_valuation")).await?.job_id;
    let small = ReplaySpec {
        records: Some(offsets_of(&[(0, 0, 1_000), (1, 0, 1_000)])),
        ..everything(&["fund_risk"], ReplayMode::Verify)
    };
    let small = stage.jobs.begin(job_of(small)).await?.job_id;
    let first = JobSpec {
        priority: 10,
        ..verify("fund_risk")
    };
    let first = stage.jobs.begin(first).await?.job_id;
    stage.fleet.start_replay_workers(1).await?;
    let ended = async |id: &str| -> Result<Job> {
        let job = stage.jobs.ended(id, PATIENCE).await?;
        ensure!(job.state() == JobState::Succeeded, "{job:?}");
        Ok(job)
    };
    for id in [&first, &small, &large] {
        ended(id).await?;
    }
    let order = order(&stage).await?;
    let count = |id: &String| order.iter().filter(|job| *job == id).count();
    let (firsts, smalls, larges) = (count(&first), count(&small), count(&large));
    ensure!(
        firsts > 30 && smalls == 10 && larges > 30,
        "{firsts} {smalls} {larges} tasks"
    );
    // Two run at one time: what begins last of one job may end after what begins first of the next.
    let before = order[..firsts + 1].iter().filter(|job| **job == first).count();
    ensure!(
        before >= firsts - 1,
        "of {firsts} tasks that go first, {before} did: {order:?}"
    );
    let rest: Vec<&String> = order.iter().filter(|job| **job != first).collect();
    // While both have work, each gets every second task, give or take those that run.
    let until = rest.iter().rposition(|job| **job == small).context("no task")?;
    let of_large = rest[..until].iter().filter(|job| ***job == large).count();
    ensure!(
        (smalls - 4..=smalls + 4).contains(&of_large),
        "{of_large} tasks of the large job beside {smalls} of the small one: {rest:?}"
    );
    eprintln!("{firsts} tasks of the first, then {smalls} of the small job beside {of_large} of the large one");
    stage.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_nobody_survives_fails_its_job_with_the_reason_while_others_go_on() -> Result<()> {
    let mut fleet = Fleet::new(
        "shares-poison",
        options(&[
            ("replay.max_tasks", "1"),
            ("replay.max_attempts", "3"),
            ("replay.lease", "2s"),
            ("replay.renew", "500ms"),
            ("replay.poll", "100ms"),
            ("replay.checkpoint", "200ms"),
        ]),
    )
    .await?;
    fleet.seed(&feed()).await?;
    fleet.publish(feed()).await?;
    let risks = (1..=100).map(|fund| Made::risk(Fund(fund), 1).record);
    fleet.publish_records(risks.collect()).await?;
    // No batch passes these rows, so that whoever has the task comes no further before it dies.
    let mut blocker = sqlx::mysql::MySqlConnection::connect(&fleet.isolation.mysql_url()).await?;
    let mut held = blocker.begin().await?;
    sqlx::query(
        "INSERT INTO t_ai_risk (fund_code, alert_date, risk_level, risk_score, source_time, source_position) \
         SELECT fund_code, '2026-03-01', 0, 0, '2000-01-01', '' FROM t_fund_basic_info",
    )
    .execute(&mut *held)
    .await?;
    let end = fleet.bounds().await?[0].1;
    let slices = vec![fleet.slice("fund_risk", 0, end - 100..end).await?];
    let poison = Asked {
        priority: 5,
        ..Asked::default()
    };
    let poison = fleet.replay_slices(slices, &poison).await?;
    let victim = fleet.start_replay_workers(1).await?;
    let attempts = |id: JobId| {
        let pool = fleet.pool.clone();
        async move {
            let found: u32 = sqlx::query_scalar("SELECT attempts FROM tasks WHERE job_id = ?")
                .bind(id.to_string())
                .fetch_one(&pool)
                .await?;
            anyhow::Ok(found)
        }
    };
    for attempt in 1..=3 {
        let waited = wait_for("the next attempt", PATIENCE, async || {
            let found = attempts(poison).await?;
            ensure!(found == attempt, "{found} attempts");
            Ok(())
        });
        waited.await.with_context(|| fleet.log_of(victim))?;
        fleet.workers[victim].kill()?;
        fleet.workers[victim].start()?;
    }
    // Others are run meanwhile, and the job fails at the claim after the last attempt.
    let asked = Asked {
        mode: Mode::Verify,
        ..Asked::default()
    };
    let other = fleet.replay("fund_valuation", &asked).await?;
    fleet.job_succeeds(other, Duration::from_secs(60)).await?;
    let found = fleet.job_ends(poison, PATIENCE).await?;
    ensure!(
        found.state == Stored::Failed
            && found.reason == "ATTEMPTS_EXHAUSTED"
            && found.detail.contains("fund_risk")
            && found
                .detail
                .contains(&format!("3 attempts came no further than position {}", end - 100)),
        "{:?}: {} {}",
        found.state,
        found.reason,
        found.detail
    );
    held.rollback().await?;
    eprintln!("{}: {}", found.reason, found.detail);
    fleet.stop().await
}
