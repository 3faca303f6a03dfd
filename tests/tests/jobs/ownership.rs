//! Attempts, releases, missing positions, and what an owner is told to do.

use anyhow::Result;
use reprise_shared::jobs::{
    self, Event, JobState, Missing, MissingReason, NewJob, ReadCounts, TaskState, Wanted, lanes, reasons,
};
use reprise_shared::position::Offset;

use crate::world::{World, claim, job_of, job_with, partition, slice};

const NOTHING: ReadCounts = ReadCounts {
    read: 0,
    filtered: 0,
    skipped: 0,
    bytes: 0,
};

#[tokio::test]
async fn a_task_in_good_hands_uses_up_no_attempts() -> Result<()> {
    let world = World::start("jobs_release").await?;
    world.create(&job_with(1)).await?;
    for round in 0..8 {
        let owner = world.claim("a").await?;
        assert_eq!((owner.attempts, owner.checkpoint), (1, Offset(0)), "round {round}");
        // Twice, as after an answer that was lost.
        for _ in 0..2 {
            jobs::release(&world.database, &owner, Offset(0), &NOTHING, None).await?;
        }
        let task = world.task(owner.task).await?;
        assert_eq!(
            (task.state, task.attempts, task.lease_until),
            (TaskState::Pending, 0, None)
        );
        let mut lane = world.connect().await?;
        assert!(
            !lanes::enter(&mut lane, owner.task, 0, owner.epoch).await?,
            "I5: it let go"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_task_that_comes_no_further_fails_its_job_at_the_sixth_claim_while_others_go_on() -> Result<()> {
    let world = World::start("jobs_attempts").await?;
    let poisoned = world.create(&job_of(vec![slice(0, 0, 100), slice(1, 0, 100)])).await?;
    let healthy = world.create(&job_with(1)).await?;
    let of_poisoned = async |attempt: u32| -> Result<()> {
        let mut owner = world.claim("a").await?;
        while (owner.task.job, owner.task.number) != (poisoned, 0) {
            owner = world.claim("b").await?;
        }
        assert_eq!(owner.attempts, attempt);
        match attempt {
            1..=3 => jobs::release(&world.database, &owner, Offset(0), &NOTHING, Some("row 7 is poison")).await?,
            // Killed without a word.
            _ => world.freeze_owners().await?,
        }
        Ok(())
    };
    for attempt in 1..=2 {
        of_poisoned(attempt).await?;
    }
    // Coming further gives all attempts back.
    world
        .sql("UPDATE tasks SET lease_until = NULL, state = 'PENDING', owner = ''")
        .await?;
    let mut further = world.claim("a").await?;
    while further.task.job != poisoned || further.task.number != 0 {
        further = world.claim("b").await?;
    }
    assert_eq!(further.attempts, 3);
    let wanted = jobs::checkpoint(world.database.pool(), &further, Offset(1), &NOTHING, "").await?;
    assert!(matches!(wanted, Wanted::Run { .. }));
    assert_eq!(world.task(further.task).await?.attempts, 0);
    world
        .sql("UPDATE tasks SET checkpoint = 0, lease_until = NULL, state = 'PENDING', owner = ''")
        .await?;
    for attempt in 1..=5 {
        of_poisoned(attempt).await?;
        world
            .sql("UPDATE tasks SET lease_until = NULL, state = 'PENDING', owner = ''")
            .await?;
    }

    // Whoever looks next finds the job failed, and something else to do.
    let next = world.claim("c").await?;
    assert_eq!(next.task.job, healthy);
    let job = world.job(poisoned).await?;
    assert_eq!(
        (job.state, job.reason.as_str()),
        (JobState::Failed, reasons::ATTEMPTS_EXHAUSTED)
    );
    assert_eq!(
        job.detail,
        "task 0 (fund_risk fund-data:0, [0, 100)): 5 attempts came no further than position 0; the last error: row 7 is poison"
    );
    assert!(job.finished_at.is_some());
    assert!(claim(&world.database, "d").await?.is_none());
    assert_eq!(world.state(healthy).await?, JobState::Running);

    let again = world.asked(poisoned, Event::Retry).await?;
    assert_eq!(
        (again.state, again.reason.as_str(), again.finished_at),
        (JobState::Pending, "", None)
    );
    let owner = world.claim("e").await?;
    assert_eq!((owner.task.job, owner.task.number, owner.attempts), (poisoned, 0, 1));
    Ok(())
}

#[tokio::test]
async fn a_task_that_cannot_go_on_fails_its_job_with_its_reason_and_fences_the_others() -> Result<()> {
    let world = World::start("jobs_fail").await?;
    let id = world.create(&job_with(3)).await?;
    let (bad, other) = (world.claim("a").await?, world.claim("b").await?);
    let detail = "é".repeat(2_000);
    for _ in 0..2 {
        assert!(jobs::fail_task(&world.database, &bad, reasons::DATA_EXPIRED, &detail).await?);
    }
    assert_eq!(world.settle(id).await?, JobState::Failed);
    let job = world.job(id).await?;
    assert_eq!(job.reason, reasons::DATA_EXPIRED);
    assert!(
        job.detail.starts_with("task 0 (fund_risk fund-data:0, [0, 100)): éé"),
        "{}",
        job.detail
    );
    assert_eq!(job.detail.chars().count(), 1_000);
    let mut lane = world.connect().await?;
    for owner in [&bad, &other] {
        assert!(!lanes::enter(&mut lane, owner.task, 0, owner.epoch).await?);
    }
    let states: Vec<_> = world.tasks(id).await?.iter().map(|task| task.state).collect();
    assert_eq!(states, [TaskState::Failed, TaskState::Pending, TaskState::Pending]);
    Ok(())
}

fn gone(start: u64, end: u64) -> Missing {
    Missing {
        data_type: "fund_risk".to_owned(),
        topic_partition: partition(0),
        start: Offset(start),
        end: Offset(end),
        reason: MissingReason::Expired,
    }
}

#[tokio::test]
async fn i9_what_is_missing_is_on_record_exactly_and_makes_the_job_partial() -> Result<()> {
    let world = World::start("jobs_missing").await?;
    let id = world
        .create(&NewJob {
            allow_partial: true,
            ..job_with(1)
        })
        .await?;
    let owner = world.claim("a").await?;
    let (database, pool) = (&world.database, world.database.pool());
    // Work before the interval may be in flight, so the checkpoint stays behind it.
    for _ in 0..2 {
        assert!(jobs::note_missing(database, &owner, &gone(40, 60), Offset(60)).await?);
    }
    assert_eq!(world.task(owner.task).await?.checkpoint, Offset(0));
    jobs::checkpoint(pool, &owner, Offset(60), &NOTHING, "").await?;
    // A checkpoint that is behind moves nothing back.
    jobs::checkpoint(pool, &owner, Offset(50), &ReadCounts { read: 9, ..NOTHING }, "").await?;
    let task = world.task(owner.task).await?;
    assert_eq!((task.checkpoint, task.read), (Offset(60), NOTHING));
    // Nothing is in flight: it goes on behind the interval at once, and the log is cut again meanwhile.
    assert!(jobs::note_missing(database, &owner, &gone(60, 70), Offset(70)).await?);
    assert!(jobs::note_missing(database, &owner, &gone(60, 80), Offset(80)).await?);
    assert_eq!(world.task(owner.task).await?.checkpoint, Offset(80));
    assert_eq!(jobs::missing(pool, id).await?, [gone(40, 80)]);

    world.freeze_owners().await?;
    let next = world.claim("b").await?;
    assert_eq!(next.checkpoint, Offset(80));
    assert!(
        !jobs::note_missing(database, &owner, &gone(80, 100), Offset(100)).await?,
        "I5"
    );
    assert!(jobs::finish(database, &next, Offset(100), &NOTHING).await?);
    assert_eq!(world.settle(id).await?, JobState::Partial);
    assert_eq!(jobs::missing(pool, id).await?, [gone(40, 80)]);
    Ok(())
}

#[tokio::test]
async fn tasks_share_the_limit_of_their_job_as_it_is_now() -> Result<()> {
    let world = World::start("jobs_limit").await?;
    let id = world.create(&job_with(3)).await?;
    let (first, _second) = (world.claim("a").await?, world.claim("b").await?);
    let told = async || jobs::checkpoint(world.database.pool(), &first, Offset(0), &NOTHING, "").await;
    let run = |limit| Wanted::Run {
        max_records_per_second: limit,
    };
    assert_eq!(told().await?, run(None));
    let limited = world
        .update(id, None, Some(7), Some(Some(1_000)))
        .await?
        .expect("allowed");
    assert_eq!((limited.priority, limited.max_records_per_second), (7, Some(1_000)));
    assert_eq!(told().await?, run(Some(500)));
    world.freeze_owners().await?;
    let same = world
        .update(id, Some(limited.revision), Some(3), None)
        .await?
        .expect("allowed");
    assert_eq!((same.priority, same.max_records_per_second), (3, Some(1_000)));
    assert_eq!(told().await?, run(Some(1_000)), "no other task runs under a lease");
    let free = world.update(id, None, None, Some(None)).await?.expect("allowed");
    assert_eq!((free.max_records_per_second, told().await?), (None, run(None)));
    world.asked(id, Event::Pause).await?;
    assert_eq!(told().await?, Wanted::LetGo);
    Ok(())
}
