//! Who owns a task when several believe that they do, or nobody does: workers that were killed, whose leases ran out, or who
//! were frozen and woke up, while live traffic writes newer versions of half of the keys.

#[path = "support/contested.rs"]
mod contested;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use reprise_shared::jobs::{Event, JobId, JobState, Slice};
use reprise_tests::env::rounds;
use reprise_tests::feed::{FeedConfig, Fund};
use reprise_tests::fleet::{Asked, Fleet, PATIENCE};
use reprise_tests::wait::wait_for;
use sqlx::{Connection as _, MySqlConnection};

use self::contested::{CONTESTED, FUNDS, options, risks};

/// A fleet where everything was ingested; then the rows of the funds that nobody else writes were removed.
struct Contest {
    fleet: Fleet,
    days: u32,
    /// All that a job is to replay.
    slices: Vec<Slice>,
    /// Batches of live traffic so far.
    round: u32,
}

impl Contest {
    async fn prepare(name: &str, days: u32) -> Result<Self> {
        let mut fleet = Fleet::new(name, options(&[("replay.lease", "2s"), ("replay.checkpoint", "200ms")])).await?;
        fleet.seed(&FeedConfig::only_funds(FUNDS)).await?;
        for day in 0..days {
            fleet.publish_records(risks(1..=FUNDS, day, 1)).await?;
        }
        fleet.start_workers(1).await?;
        fleet.caught_up(PATIENCE).await?;
        let slices = fleet.slices("fund_risk", 1_500).await?;
        let removed = sqlx::query("DELETE FROM t_ai_risk WHERE fund_code > ?")
            .bind(Fund(CONTESTED).fund_code())
            .execute(&fleet.pool)
            .await?;
        ensure!(
            removed.rows_affected() == u64::from((FUNDS - CONTESTED) * days),
            "{removed:?}"
        );
        Ok(Self {
            fleet,
            days,
            slices,
            round: 0,
        })
    }

    async fn begin(&self, asked: &Asked) -> Result<JobId> {
        self.fleet.replay_slices(self.slices.clone(), asked).await
    }

    /// Writes newer versions of the contested keys, day by day, until all have some; then of the first days again.
    async fn live(&mut self) -> Result<()> {
        let version = i64::from(2 + self.round / self.days);
        let records = risks(1..=CONTESTED, self.round % self.days, version);
        self.fleet.publish_records(records).await?;
        self.round += 1;
        Ok(())
    }

    /// The removed rows are back, exactly once; the contested ones were neither inserted nor changed by the job.
    async fn check(&self, job: JobId) -> Result<()> {
        let progress = self.fleet.job_succeeds(job, PATIENCE).await?;
        let (written, read) = (&progress.written, progress.read.read);
        let (removed, all) = (u64::from((FUNDS - CONTESTED) * self.days), u64::from(FUNDS * self.days));
        ensure!(
            (written.inserted, written.updated, read) == (removed, 0, all),
            "{written:?} and {read} read, where {removed} of {all} were to be inserted"
        );
        self.fleet.caught_up(PATIENCE).await?;
        self.fleet
            .check_tables(Some(FeedConfig::only_funds(FUNDS)), Vec::new())
            .await?;
        Ok(())
    }

    /// How many of the removed rows are there.
    async fn back(&self) -> Result<u64> {
        let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM t_ai_risk WHERE fund_code > ?")
            .bind(Fund(CONTESTED).fund_code())
            .fetch_one(&self.fleet.pool)
            .await?;
        Ok(rows.unsigned_abs())
    }
}

fn asked() -> Asked {
    Asked {
        per_second: Some(900),
        ..Asked::default()
    }
}

/// Counts the tasks that a worker lost to another owner.
fn lost(fleet: &Fleet, worker: usize) -> usize {
    let log = fleet.whole_log(worker);
    log.lines().filter(|line| line.contains("\"outcome\":\"lost\"")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_two_workers_that_both_believe_they_own_a_task_write_it_once() -> Result<()> {
    // A task is lost when the other worker has nothing else to do at that moment, so leases run out until some were.
    const ENOUGH: usize = 5;
    let mut contest = Contest::prepare("owners-both", 90).await?;
    let first = contest.fleet.start_replay_workers(2).await?;
    let job = contest.begin(&asked()).await?;
    let mut expired = 0;
    wait_for("the job's end", PATIENCE, async || {
        contest.live().await?;
        let fleet = &contest.fleet;
        let progress = fleet.progress(job).await?;
        let lost = lost(fleet, first) + lost(fleet, first + 1);
        if lost < ENOUGH && progress.tasks_done < progress.tasks {
            // Whoever has a task goes on with it, and somebody else may claim it at once.
            let done =
                sqlx::query("UPDATE tasks SET lease_until = '2020-01-01' WHERE job_id = ? AND state = 'RUNNING'")
                    .bind(job.to_string())
                    .execute(&fleet.pool)
                    .await?;
            expired += usize::try_from(done.rows_affected())?;
        }
        ensure!(progress.tasks_done == progress.tasks, "{progress:?}");
        Ok(())
    })
    .await
    .with_context(|| contest.fleet.log_of(first))?;
    contest.check(job).await?;
    let lost = [first, first + 1].map(|worker| lost(&contest.fleet, worker));
    ensure!(
        lost.iter().sum::<usize>() >= 3,
        "{lost:?} tasks were lost\n{}",
        contest.fleet.log_of(first)
    );
    eprintln!(
        "{expired} leases ran out under their owners, who lost {lost:?} tasks; {} batches of live traffic",
        contest.round
    );
    contest.fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_a_frozen_worker_that_wakes_up_while_another_has_its_task_writes_nothing() -> Result<()> {
    const ROUNDS: usize = 4;
    let mut contest = Contest::prepare("owners-frozen", 90).await?;
    let first = contest.fleet.start_replay_workers(2).await?;
    let job = contest.begin(&asked()).await?;
    for number in 0..ROUNDS {
        let (frozen, other) = (first + number % 2, first + (number + 1) % 2);
        let fleet = &contest.fleet;
        let before = (lost(fleet, frozen), fleet.progress(job).await?);
        ensure!(before.1.tasks_done < before.1.tasks, "too little to do: {:?}", before.1);
        fleet.job_reads(job, 200, PATIENCE).await?;
        let held = owned(fleet, job).await?;
        contest.fleet.workers[frozen].signal(Signal::SIGSTOP)?;
        // Its leases run out, and the other one takes its tasks over.
        wait_for("the tasks of the frozen worker to be claimed", PATIENCE, async || {
            contest.live().await?;
            let now = owned(&contest.fleet, job).await?;
            let owners: std::collections::BTreeSet<_> = now.iter().map(|task| &task.1).collect();
            let taken = held
                .iter()
                .filter(|task| now.iter().any(|other| other.0 == task.0 && other.1 != task.1));
            ensure!(owners.len() <= 1 && taken.count() > 0, "{held:?}, now {now:?}");
            Ok(())
        })
        .await
        .with_context(|| contest.fleet.log_of(other))?;
        let fleet = &contest.fleet;
        // In every second round the other one lets go before, so that only the frozen one could write.
        let is_paused = number % 2 == 1;
        if is_paused {
            fleet.ask(job, Event::Pause).await?;
            fleet.job_is(job, JobState::Paused, PATIENCE).await?;
        }
        let written = fleet.batches(job).await?;
        contest.fleet.workers[frozen].signal(Signal::SIGCONT)?;
        wait_for("the frozen worker to find out", PATIENCE, async || {
            contest.live().await?;
            ensure!(lost(&contest.fleet, frozen) > before.0, "it has not yet");
            Ok(())
        })
        .await
        .with_context(|| contest.fleet.log_of(frozen))?;
        let fleet = &contest.fleet;
        if is_paused {
            let after = fleet.batches(job).await?;
            ensure!(after == written, "{} batches came from a former owner", after - written);
            fleet.ask(job, Event::Resume).await?;
        }
    }
    contest.check(job).await?;
    let lost = [first, first + 1].map(|worker| lost(&contest.fleet, worker));
    eprintln!(
        "{ROUNDS} times frozen; they lost {lost:?} tasks; {} batches of live traffic",
        contest.round
    );
    contest.fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_workers_killed_at_random_moments_beside_live_traffic_leave_exact_counts() -> Result<()> {
    let rounds = rounds(3)?;
    let mut contest = Contest::prepare("owners-killed", 40 + 14 * rounds).await?;
    let first = contest.fleet.start_replay_workers(2).await?;
    let job = contest.begin(&asked()).await?;
    let mut random = ChaCha8Rng::seed_from_u64(47);
    for number in 0..rounds {
        let killed = first + usize::try_from(number % 2)?;
        contest.live().await?;
        let records = 1 + u64::from(random.next_u32() % 600);
        contest.fleet.job_reads(job, records, PATIENCE).await?;
        contest.fleet.workers[killed].kill()?;
        let progress = contest.fleet.progress(job).await?;
        ensure!(progress.tasks_done < progress.tasks, "too little to do: {progress:?}");
        contest.live().await?;
        contest.fleet.workers[killed].start()?;
    }
    contest.fleet.unlimit(job).await?;
    contest.check(job).await?;
    let begun: usize = [first, first + 1]
        .map(|worker| contest.fleet.whole_log(worker).matches("task begins").count())
        .iter()
        .sum();
    let taken = begun - usize::try_from(contest.fleet.progress(job).await?.tasks)?;
    ensure!(taken > 0, "no killed worker had a task");
    eprintln!(
        "{rounds} kills, {taken} tasks taken over; {} batches of live traffic; {} rows inserted, exactly",
        contest.round,
        contest.back().await?
    );
    contest.fleet.stop().await
}

/// Holds rows of a day that a new job comes to, and that live traffic does not write: whoever comes to them waits with its
/// transaction open. Returns the connection that holds them when somebody waits.
async fn block(contest: &Contest, job: &Asked, day: i8) -> Result<(MySqlConnection, JobId)> {
    let mut blocker = MySqlConnection::connect(&contest.fleet.isolation.mysql_url()).await?;
    sqlx::query("BEGIN").execute(&mut blocker).await?;
    sqlx::query(
        "INSERT INTO t_ai_risk (fund_code, alert_date, risk_level, risk_score, source_time, source_position) \
         SELECT fund_code, ?, 0, 0, '2000-01-01', '' FROM t_fund_basic_info WHERE fund_code > ?",
    )
    .bind((jiff::civil::date(2000, 1, 1) + jiff::Span::new().days(day)).to_string())
    .bind(Fund(CONTESTED).fund_code())
    .execute(&mut blocker)
    .await?;
    let job = contest.begin(job).await?;
    wait_for("a batch to wait for a row", PATIENCE, async || {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%mark_fund_risk%' AND TIME_MS > 200 \
             AND DB = DATABASE()",
        )
        .fetch_one(&contest.fleet.pool)
        .await?;
        ensure!(waiting > 0, "none waits");
        Ok(())
    })
    .await
    .with_context(|| contest.fleet.all_logs())?;
    Ok((blocker, job))
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_a_worker_frozen_in_a_transaction_beyond_its_lease_writes_nothing_when_it_wakes() -> Result<()> {
    let mut contest = Contest::prepare("owners-transaction", 20).await?;
    let first = contest.fleet.start_replay_workers(1).await?;
    let (mut blocker, job) = block(
        &contest,
        &Asked {
            lanes: 1,
            ..Asked::default()
        },
        2,
    )
    .await?;
    contest.fleet.workers[first].signal(Signal::SIGSTOP)?;
    sqlx::query("ROLLBACK").execute(&mut blocker).await?;

    // Its transaction is open on the server. Another takes over once the lease is up and the session was ended.
    for _ in 0..5 {
        contest.live().await?;
    }
    contest.fleet.start_replay_workers(1).await?;
    contest.check(job).await?;
    contest.fleet.workers[first].signal(Signal::SIGCONT)?;
    wait_for("the frozen worker to find out", PATIENCE, async || {
        contest.live().await?;
        ensure!(lost(&contest.fleet, first) > 0, "it has not yet");
        Ok(())
    })
    .await
    .with_context(|| contest.fleet.log_of(first))?;
    contest.check(job).await?;
    eprintln!("{} batches of live traffic", contest.round);
    contest.fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_a_worker_frozen_in_a_transaction_writes_nothing_after_its_job_was_cancelled() -> Result<()> {
    let mut contest = Contest::prepare("owners-cancelled", 60).await?;
    let worker = contest.fleet.start_replay_workers(1).await?;
    let (mut blocker, job) = block(&contest, &Asked::default(), 40).await?;
    contest.fleet.workers[worker].signal(Signal::SIGSTOP)?;
    contest.fleet.ask(job, Event::Cancel).await?;
    sqlx::query("ROLLBACK").execute(&mut blocker).await?;
    contest.live().await?;
    contest.fleet.job_is(job, JobState::Cancelled, PATIENCE).await?;
    let (counted, rows) = (
        contest.fleet.progress(job).await?.written.inserted,
        contest.back().await?,
    );
    ensure!(counted == rows, "{counted} rows were counted, and {rows} are there");
    ensure!(rows > 0, "nothing was written before");

    contest.fleet.workers[worker].signal(Signal::SIGCONT)?;
    wait_for("the worker to find out", PATIENCE, async || {
        contest.live().await?;
        let log = contest.fleet.whole_log(worker);
        let count = |what: &str| log.lines().filter(|line| line.contains(what)).count();
        let (begun, ended) = (count("task begins"), count("task ended"));
        ensure!(begun > 0 && ended == begun, "{ended} of {begun} tasks ended");
        Ok(())
    })
    .await
    .with_context(|| contest.fleet.log_of(worker))?;
    contest.fleet.caught_up(PATIENCE).await?;
    let (after, written) = (contest.back().await?, contest.fleet.progress(job).await?.written);
    ensure!(after == rows, "{} rows were written after the end", after - rows);
    ensure!(
        written.inserted == counted,
        "the counts changed after the end: {written:?}"
    );
    // All of the contested rows are there, as live traffic wrote them.
    let newest: i64 = sqlx::query_scalar("SELECT CAST(SUM(risk_level) AS SIGNED) FROM t_ai_risk WHERE fund_code <= ?")
        .bind(Fund(CONTESTED).fund_code())
        .fetch_one(&contest.fleet.pool)
        .await?;
    let expected = i64::from(CONTESTED * (contest.days + contest.round));
    ensure!(newest == expected, "versions add up to {newest}, not {expected}");
    eprintln!(
        "cancelled at {rows} rows, exactly as counted; {} batches of live traffic",
        contest.round
    );
    contest.fleet.stop().await
}

/// The running tasks of a job with their owners.
async fn owned(fleet: &Fleet, job: JobId) -> Result<Vec<(u32, String)>> {
    Ok(
        sqlx::query_as("SELECT task_number, owner FROM tasks WHERE job_id = ? AND state = 'RUNNING'")
            .bind(job.to_string())
            .fetch_all(&fleet.pool)
            .await?,
    )
}
