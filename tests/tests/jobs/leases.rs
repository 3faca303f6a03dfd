//! Who may run a task, and who may write.

use std::time::Duration;

use anyhow::{Context as _, Result};
use reprise_shared::jobs::{self, Event, JobState, NewJob, Phase, ReadCounts, TaskState, Wanted, WriteCounts, lanes};
use reprise_shared::leases::Epoch;
use reprise_shared::position::Offset;
use reprise_tests::kernel::Stopwatch;
use reprise_tests::wait::wait_for;
use reprise_tests::whitelist::start;
use sqlx::{Connection as _, Executor as _};

use crate::world::{LEASE, LIMIT, World, claim, job_of, job_with, slice};

fn read(read: u64) -> ReadCounts {
    ReadCounts {
        read,
        ..ReadCounts::default()
    }
}

const ONE_ROW: WriteCounts = WriteCounts {
    inserted: 1,
    updated: 0,
    unchanged: 0,
    stale: 0,
    superseded: 0,
    dead_lettered: 0,
    deleted: 0,
    missing: 0,
    different: 0,
    older: 0,
};

#[tokio::test]
async fn i5_a_former_owner_enters_no_lane_and_says_nothing_any_more() -> Result<()> {
    let world = World::start("jobs_i5").await?;
    let id = world.create(&job_with(1)).await?;
    let pool = world.database.pool();
    let former = world.claim("frozen").await?;
    assert_eq!(
        (former.epoch, former.attempts, former.checkpoint),
        (Epoch(1), 1, Offset(0))
    );
    let mut lane = world.connect().await?;
    assert!(lanes::enter(&mut lane, former.task, 0, former.epoch).await?);
    jobs::checkpoint(pool, &former, Offset(40), &read(30), "").await?;
    assert!(claim(&world.database, "early").await?.is_none(), "the lease holds");

    world.freeze_owners().await?;
    let owner = world.claim("new").await?;
    assert_eq!((owner.epoch, owner.attempts), (Epoch(2), 1), "the checkpoint had moved");
    assert_eq!((owner.checkpoint, owner.read), (Offset(40), read(30)));
    assert_eq!(world.epochs(owner.task).await?, [2, 2, 2]);

    // The former owner wakes up.
    for number in 0..2 {
        assert!(!lanes::enter(&mut lane, former.task, number, former.epoch).await?);
        assert!(lanes::enter(&mut lane, owner.task, number, owner.epoch).await?);
    }
    assert!(!jobs::renew(&mut lane, &former, "frozen", LEASE).await?);
    assert!(jobs::renew(&mut lane, &owner, "new", LEASE).await?);
    let before = world.task(owner.task).await?;
    assert_eq!(
        jobs::checkpoint(pool, &former, Offset(90), &read(90), "x").await?,
        Wanted::Lost
    );
    jobs::release(&world.database, &former, Offset(90), &read(90), Some("late")).await?;
    assert!(!jobs::finish(&world.database, &former, Offset(100), &read(90)).await?);
    assert!(!jobs::fail_task(&world.database, &former, "LATE", "late").await?);
    assert_eq!(world.task(owner.task).await?, before);

    assert!(jobs::finish(&world.database, &owner, Offset(100), &read(80)).await?);
    assert_eq!(world.settle(id).await?, JobState::Succeeded);
    let task = world.task(owner.task).await?;
    assert_eq!(
        (task.state, task.checkpoint, task.read),
        (TaskState::Done, Offset(100), read(80))
    );
    assert!(
        !lanes::enter(&mut lane, owner.task, 0, owner.epoch).await?,
        "what is done stays as it is"
    );
    Ok(())
}

#[tokio::test]
async fn a_claim_waits_for_the_open_batch_of_a_former_owner() -> Result<()> {
    let world = World::start("jobs_open_batch").await?;
    world.create(&job_with(1)).await?;
    let former = world.claim("slow").await?;
    jobs::checkpoint(world.database.pool(), &former, Offset(30), &read(30), "").await?;
    let mut lane = world.connect().await?;
    let mut batch = lane.begin().await?;
    assert!(lanes::enter(&mut batch, former.task, 1, former.epoch).await?);
    lanes::count(&mut batch, former.task, 1, &ONE_ROW).await?;
    // It comes further while its lease runs out, and is in the middle of its next batch when another looks.
    jobs::checkpoint(world.database.pool(), &former, Offset(50), &read(50), "").await?;
    world.freeze_owners().await?;
    let database = world.database.clone();
    let claiming = start(async move { claim(&database, "new").await });
    world.waits_for_a_lock("fence_lanes", || claiming.is_finished()).await?;
    batch.commit().await?;
    let owner = claiming.await??.context("claimed")?;
    assert_eq!(
        (owner.epoch, owner.checkpoint, owner.read),
        (Epoch(2), Offset(50), read(50))
    );
    // What was committed before the claim counts, and nothing that comes after it.
    assert_eq!(world.task(owner.task).await?.written.inserted, 1);
    assert!(!lanes::enter(&mut lane, former.task, 1, former.epoch).await?);
    Ok(())
}

#[tokio::test]
async fn a_claim_passes_over_a_task_that_somebody_is_at() -> Result<()> {
    let world = World::start("jobs_skip").await?;
    let id = world.create(&job_with(2)).await?;
    let mut other = world.connect().await?;
    let mut busy = other.begin().await?;
    sqlx::query("SELECT 1 FROM tasks WHERE job_id = ? AND task_number = 0 FOR UPDATE")
        .bind(id.to_string())
        .fetch_one(&mut *busy)
        .await?;
    assert_eq!(world.claim("a").await?.task.number, 1);
    assert!(claim(&world.database, "b").await?.is_none(), "nothing to claim now");
    busy.rollback().await?;
    assert_eq!(world.claim("b").await?.task.number, 0);
    Ok(())
}

#[tokio::test]
async fn a_batch_that_stays_open_for_too_long_leaves_nothing_to_claim_and_no_error() -> Result<()> {
    let world = World::start("jobs_stuck_batch").await?;
    let id = world.create(&job_with(1)).await?;
    let former = world.claim("stuck").await?;
    let mut lane = world.connect().await?;
    let mut batch = lane.begin().await?;
    assert!(lanes::enter(&mut batch, former.task, 0, former.epoch).await?);
    world.freeze_owners().await?;
    let process = world.process(Duration::from_secs(1))?;
    let watch = Stopwatch::start()?;
    assert!(claim(&process, "new").await?.is_none());
    let waited = watch.elapsed()?;
    println!("the claim gave up after {waited:?}");
    assert!(
        waited < Duration::from_secs(3),
        "{waited:?}: it is not tried again at once"
    );
    // The same for whoever settles: the job is left as it is for the next time.
    world.asked(id, Event::Cancel).await?;
    assert_eq!(jobs::settle(&process, id).await?, JobState::Cancelling);
    assert_eq!(world.epochs(former.task).await?, [1, 1, 1]);
    batch.rollback().await?;
    assert_eq!(jobs::settle(&process, id).await?, JobState::Cancelled);
    assert_eq!(world.epochs(former.task).await?, [2, 2, 2]);
    Ok(())
}

#[tokio::test]
async fn i5_the_worker_of_a_cancelled_job_wakes_up_and_writes_nothing() -> Result<()> {
    let world = World::start("jobs_cancelled").await?;
    let id = world.create(&job_with(2)).await?;
    let frozen = world.claim("frozen").await?;
    let mut lane = world.connect().await?;
    lane.execute("SET wait_timeout = 2").await?;
    lane.execute("BEGIN").await?;
    assert!(lanes::enter(&mut lane, frozen.task, 0, frozen.epoch).await?);
    lanes::count(&mut lane, frozen.task, 0, &ONE_ROW).await?;
    assert_eq!(world.asked(id, Event::Cancel).await?.state, JobState::Cancelling);
    // Frozen in the middle of a batch: it is cancelled once the server has ended the silent session.
    wait_for("the job to be cancelled", LIMIT, async || {
        match world.settle(id).await {
            Ok(JobState::Cancelled) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    assert!(lane.execute("COMMIT").await.is_err(), "the session is gone");
    let mut lane = world.connect().await?;
    assert!(!lanes::enter(&mut lane, frozen.task, 0, frozen.epoch).await?);
    let checkpoint = jobs::checkpoint(world.database.pool(), &frozen, Offset(10), &read(10), "").await?;
    assert_eq!(checkpoint, Wanted::Lost);
    assert!(!jobs::finish(&world.database, &frozen, Offset(100), &read(10)).await?);
    assert_eq!(world.progress(id).await?.written, WriteCounts::default());
    assert!(
        world
            .tasks(id)
            .await?
            .iter()
            .all(|task| task.state == TaskState::Cancelled)
    );
    assert!(claim(&world.database, "new").await?.is_none());

    // Tried again, it begins where its checkpoints are, and the frozen one still writes nothing.
    assert_eq!(world.asked(id, Event::Retry).await?.state, JobState::Pending);
    let owner = world.claim("new").await?;
    assert_eq!((owner.task, owner.checkpoint), (frozen.task, Offset(0)));
    assert!(!lanes::enter(&mut lane, frozen.task, 0, frozen.epoch).await?);
    assert!(lanes::enter(&mut lane, owner.task, 0, owner.epoch).await?);
    Ok(())
}

#[tokio::test]
async fn a_lease_is_renewed_by_the_clock_of_the_database() -> Result<()> {
    let world = World::start("jobs_renew").await?;
    world.create(&job_with(1)).await?;
    let owner = world.claim("a").await?;
    let mut connection = world.connect().await?;
    // It ran out, and nobody came: the owner still is the owner.
    world.freeze_owners().await?;
    assert!(jobs::renew(&mut connection, &owner, "a", LEASE).await?);
    assert!(claim(&world.database, "b").await?.is_none());
    assert!(!jobs::renew(&mut connection, &owner, "b", LEASE).await?);
    let left = world
        .number("SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(3), lease_until) FROM tasks")
        .await?;
    assert!((25..=30).contains(&left), "{left} s");
    Ok(())
}

#[tokio::test]
async fn a_job_that_cleans_first_is_cleaned_and_then_written_by_whoever_comes() -> Result<()> {
    let world = World::start("jobs_clean").await?;
    let id = world
        .create(&NewJob {
            clean_first: true,
            ..job_of(vec![slice(0, 10, 20), slice(0, 20, 30)])
        })
        .await?;
    let cleaner = world.claim("a").await?;
    let other = world.claim("other").await?;
    assert_eq!((other.task.number, other.phase), (1, Phase::Clean));
    assert_eq!((cleaner.phase, cleaner.clean_first), (Phase::Clean, true));
    jobs::checkpoint(world.database.pool(), &cleaner, Offset(15), &read(5), "").await?;
    assert_eq!(world.progress(id).await?.positions_done, 0);
    let early = jobs::finish(&world.database, &cleaner, Offset(19), &read(9)).await;
    assert!(matches!(early, Err(sqlx::Error::InvalidArgument(_))), "{early:?}");
    // Twice, as after an answer that was lost.
    for _ in 0..2 {
        assert!(jobs::finish(&world.database, &cleaner, Offset(20), &read(10)).await?);
    }
    assert_eq!(world.settle(id).await?, JobState::Running);
    let mut lane = world.connect().await?;
    assert!(!lanes::enter(&mut lane, cleaner.task, 0, cleaner.epoch).await?);

    // Nobody writes while another slice may still delete; whoever comes cleans that one.
    assert!(claim(&world.database, "b").await?.is_none());
    world.freeze_owners().await?;
    let other = world.claim("b").await?;
    assert_eq!((other.task.number, other.phase), (1, Phase::Clean));
    assert!(jobs::finish(&world.database, &other, Offset(30), &read(10)).await?);

    let writer = world.claim("b").await?;
    assert_eq!(writer.task, cleaner.task);
    assert_eq!(
        (writer.phase, writer.checkpoint, writer.read),
        (Phase::Write, Offset(10), read(0))
    );
    assert!(!jobs::finish(&world.database, &cleaner, Offset(20), &read(10)).await?);
    for _ in 0..2 {
        assert!(jobs::finish(&world.database, &writer, Offset(20), &read(10)).await?);
    }
    let last = world.claim("b").await?;
    assert!(jobs::finish(&world.database, &last, Offset(30), &read(10)).await?);
    assert_eq!(world.settle(id).await?, JobState::Succeeded);
    Ok(())
}
