//! Many at once: nobody gets the same task, nothing is lost or counted twice, and no lock comes out as an error.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::future::try_join_all;
use reprise_shared::jobs::{
    self, Claim, Event, JobId, JobState, NewJob, ReadCounts, TaskState, Wanted, WriteCounts, lanes,
};
use reprise_shared::mysql::Database;
use reprise_shared::position::Offset;
use reprise_tests::whitelist::start;
use sqlx::Connection as _;
use sqlx::mysql::MySqlConnection;
use tokio_util::sync::CancellationToken;

use crate::world::{World, claim, job_of, job_with, slice};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_workers_at_once_never_get_the_same_task() -> Result<()> {
    const TASKS: u16 = 150;
    let world = World::start("jobs_claimers").await?;
    let ids = [
        world.create(&job_with(TASKS)).await?,
        world.create(&job_with(TASKS)).await?,
    ];
    let begun = tokio::time::Instant::now();
    let workers = (0..8).map(|number| {
        let database = world.process(Duration::from_secs(5));
        start(async move {
            let database = database?;
            let mut claimed: Vec<Claim> = Vec::new();
            while let Some(claim) = claim(&database, &format!("worker-{number}")).await? {
                let read = ReadCounts {
                    read: 100,
                    ..ReadCounts::default()
                };
                assert!(jobs::finish(&database, &claim, Offset(100), &read).await?, "{claim:?}");
                jobs::settle(&database, claim.task.job).await?;
                claimed.push(claim);
            }
            anyhow::Ok(claimed)
        })
    });
    let mut by_worker = Vec::new();
    for claimed in try_join_all(workers).await? {
        by_worker.push(claimed?);
    }
    println!(
        "{} tasks in {:?}, by worker: {:?}",
        2 * TASKS,
        begun.elapsed(),
        by_worker.iter().map(Vec::len).collect::<Vec<_>>()
    );
    let mut times = BTreeMap::new();
    for claim in by_worker.iter().flatten() {
        *times.entry(claim.task).or_insert(0) += 1;
        assert_eq!((claim.epoch.0, claim.attempts), (1, 1));
    }
    assert_eq!(times.len(), usize::from(2 * TASKS));
    assert!(times.values().all(|count| *count == 1));
    for id in ids {
        // Whoever was last to end a task may have settled before the one before it.
        assert_eq!(world.settle(id).await?, JobState::Succeeded);
        let progress = world.progress(id).await?;
        assert_eq!(
            (progress.tasks_done, progress.read.read),
            (u32::from(TASKS), 100 * u64::from(TASKS))
        );
    }
    Ok(())
}

const POSITIONS: u64 = 20;

/// What a worker does to a table that has one row for each position: insert it, or find it there.
async fn write(lane: &mut MySqlConnection, claim: &Claim, position: u64) -> sqlx::Result<bool> {
    let number = u8::from(position % 2 == 1);
    let mut batch = lane.begin().await?;
    if !lanes::enter(&mut batch, claim.task, number, claim.epoch).await? {
        batch.rollback().await?;
        return Ok(false);
    }
    let written = sqlx::query("INSERT IGNORE INTO target (job_id, partition_number, position) VALUES (?, ?, ?)")
        .bind(claim.task.job.to_string())
        .bind(claim.slice.topic_partition.partition.0)
        .bind(position)
        .execute(&mut *batch)
        .await?;
    sqlx::query("INSERT INTO batches (job_id, task_number, epoch) VALUES (?, ?, ?)")
        .bind(claim.task.job.to_string())
        .bind(claim.task.number)
        .bind(claim.epoch.0)
        .execute(&mut *batch)
        .await?;
    let counts = WriteCounts {
        inserted: written.rows_affected(),
        unchanged: 1 - written.rows_affected(),
        ..WriteCounts::default()
    };
    lanes::count(&mut batch, claim.task, number, &counts).await?;
    batch.commit().await?;
    Ok(true)
}

/// Runs one task as a worker does that fails in all kinds of ways.
async fn run(database: &Database, lane: &mut MySqlConnection, claim: &Claim) -> Result<()> {
    let (mut position, mut read) = (claim.checkpoint, claim.read);
    while position < claim.slice.end {
        if !write(lane, claim, position.0).await? {
            return Ok(());
        }
        position = position.next();
        read.read += 1;
        if rand::random_bool(0.3) {
            match jobs::checkpoint(database.pool(), claim, position, &read, "").await? {
                Wanted::Run { .. } => {}
                Wanted::Lost => return Ok(()),
                Wanted::LetGo if rand::random_bool(0.5) => {
                    return Ok(jobs::release(database, claim, position, &read, None).await?);
                }
                Wanted::LetGo => {}
            }
        }
        match rand::random_range(0..60) {
            // Killed: nobody hears of it until the lease has run out.
            0 => return Ok(()),
            1 => return Ok(jobs::release(database, claim, position, &read, Some("it broke")).await?),
            // Frozen: another may claim, and then this one wakes up.
            2 => {
                sqlx::query("UPDATE tasks SET lease_until = '2020-01-01' WHERE job_id = ? AND task_number = ?")
                    .bind(claim.task.job.to_string())
                    .bind(claim.task.number)
                    .execute(database.pool())
                    .await?;
            }
            _ => {}
        }
    }
    jobs::finish(database, claim, claim.slice.end, &read).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn i5_workers_keepers_and_people_at_once_lose_nothing_count_nothing_twice_and_meet_no_lock() -> Result<()> {
    let world = World::start("jobs_crowd").await?;
    world
        .sql(
            "CREATE TABLE target (job_id CHAR(36) NOT NULL, partition_number INT NOT NULL, position BIGINT NOT NULL, \
             PRIMARY KEY (job_id, partition_number, position)) ENGINE=InnoDB; \
             CREATE TABLE batches (number BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, job_id CHAR(36) NOT NULL, \
             task_number INT NOT NULL, epoch BIGINT NOT NULL) ENGINE=InnoDB",
        )
        .await?;
    let mut ids = Vec::new();
    for number in 0..3_i16 {
        let slices = (0..12).map(|number| slice(number, 0, POSITIONS)).collect();
        let job = NewJob {
            priority: number % 2,
            ..job_of(slices)
        };
        ids.push(world.create(&job).await?);
    }
    let stop = CancellationToken::new();
    let claimed = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for number in 0..6 {
        tasks.push(start(work(
            world.process(Duration::from_secs(1))?,
            world.process(Duration::from_secs(5))?,
            world.connect().await?,
            format!("worker-{number}"),
            claimed.clone(),
            stop.clone(),
        )));
    }
    for _ in 0..2 {
        tasks.push(start(keep(
            world.process(Duration::from_secs(1))?,
            world.process(Duration::from_secs(5))?,
            stop.clone(),
        )));
    }
    let begun = tokio::time::Instant::now();
    let asked = until_all_succeeded(&world, &ids).await?;
    stop.cancel();
    for ended in try_join_all(tasks).await? {
        ended?;
    }
    let claimed = claimed.load(Ordering::Relaxed);
    let batches = check(&world, &ids).await?;
    println!(
        "{claimed} claims of 36 tasks, {batches} batches, {asked} pauses and cancellations, {:?}",
        begun.elapsed()
    );
    Ok(())
}

/// A worker. It claims with sessions that wait for a second only: a wait that runs out has to be nobody's error.
async fn work(
    impatient: Database,
    database: Database,
    mut lane: MySqlConnection,
    name: String,
    claimed: Arc<AtomicU64>,
    stop: CancellationToken,
) -> Result<()> {
    while !stop.is_cancelled() {
        match claim(&impatient, &name).await.context("claim")? {
            Some(claim) => {
                claimed.fetch_add(1, Ordering::Relaxed);
                run(&database, &mut lane, &claim).await.context("run")?;
            }
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    Ok(())
}

/// A replica of the control plane.
async fn keep(impatient: Database, database: Database, stop: CancellationToken) -> Result<()> {
    // Those who were killed would have to be waited for otherwise.
    let run_out = "UPDATE tasks SET attempts = 0, lease_until = '2020-01-01' WHERE RAND() < 0.02 AND state = 'RUNNING'";
    while !stop.is_cancelled() {
        sqlx::query(run_out)
            .execute(database.pool())
            .await
            .context("let leases run out")?;
        for one in jobs::unsettled(impatient.pool(), None, 100)
            .await
            .context("unsettled")?
        {
            jobs::settle(&impatient, one.id).await.context("settle")?;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Pauses and cancels, less and less often, and lets go on what was, until everything is done.
async fn until_all_succeeded(world: &World, ids: &[JobId]) -> Result<u32> {
    let begun = tokio::time::Instant::now();
    let mut asked = 0;
    loop {
        let mut states = Vec::new();
        for id in ids {
            states.push(world.state(*id).await?);
        }
        if states.iter().all(|state| *state == JobState::Succeeded) {
            return Ok(asked);
        }
        if begun.elapsed() > Duration::from_secs(50) {
            bail!("not done: {states:?}");
        }
        if rand::random_range(0..40) > asked {
            asked += 1;
            let event = if asked % 3 == 0 { Event::Cancel } else { Event::Pause };
            // What the state does not allow by now is refused, which is no matter here.
            let _ = world
                .ask(ids[rand::random_range(0..3)], event, None)
                .await
                .context("ask")?;
        }
        for (id, state) in ids.iter().zip(states) {
            let event = match state {
                JobState::Paused => Event::Resume,
                JobState::Failed | JobState::Cancelled => Event::Retry,
                _ => continue,
            };
            let _ = world.ask(*id, event, None).await.context("ask to go on")?;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Returns the number of batches.
async fn check(world: &World, ids: &[JobId]) -> Result<i64> {
    for id in ids {
        for task in world.tasks(*id).await? {
            assert_eq!(
                (task.state, task.checkpoint),
                (TaskState::Done, Offset(POSITIONS)),
                "{task:?}"
            );
            // Exact, however often work was done again.
            assert_eq!(
                (task.read.read, task.written.inserted),
                (POSITIONS, POSITIONS),
                "{task:?}"
            );
            assert_eq!(task.lease_until, None);
            let epochs = world.epochs(task.id).await?;
            assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
        }
    }
    let rows = world.number("SELECT COUNT(*) FROM target").await?;
    assert_eq!(rows, 3 * 12 * i64::try_from(POSITIONS)?);
    // Nobody wrote after somebody with a higher epoch had.
    let late = "SELECT COUNT(*) FROM (SELECT epoch, MAX(epoch) OVER (PARTITION BY job_id, task_number ORDER BY number) \
                AS highest FROM batches) b WHERE epoch < highest";
    assert_eq!(world.number(late).await?, 0, "batches of former owners");
    world.number("SELECT COUNT(*) FROM batches").await
}
