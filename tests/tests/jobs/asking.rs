//! What people ask of jobs, and what they are refused.

use std::time::Duration;

use anyhow::Result;
use reprise_shared::jobs::{
    self, Event, JobId, JobState, ReadCounts, Refused, TIME_TO_LET_GO, TaskState, Wanted, lanes,
};
use reprise_shared::position::Offset;
use reprise_tests::kernel::Stopwatch;
use reprise_tests::wait::wait_for;
use reprise_tests::whitelist::start;
use sqlx::Connection as _;

use crate::world::{LIMIT, World, claim, job_with};

const NOTHING: ReadCounts = ReadCounts {
    read: 0,
    filtered: 0,
    skipped: 0,
    bytes: 0,
};

#[tokio::test]
async fn what_a_state_does_not_allow_is_refused_with_that_state_and_changes_nothing() -> Result<()> {
    let world = World::start("jobs_illegal").await?;
    let id = world.create(&job_with(1)).await?;
    let mut refused = 0;
    for state in JobState::ALL {
        for event in Event::ALL {
            world
                .sql(&format!(
                    "UPDATE jobs SET state = '{}', asked_at = UTC_TIMESTAMP(3)",
                    state.as_str()
                ))
                .await?;
            world.sql("UPDATE tasks SET state = 'PENDING'").await?;
            let before = world.job(id).await?;
            let by_people = matches!(event, Event::Pause | Event::Resume | Event::Cancel | Event::Retry);
            match state.after(*event).filter(|_| by_people) {
                None => {
                    let expected = Err(Refused::State { current: *state });
                    assert_eq!(world.ask(id, *event, None).await?, expected, "{event:?}");
                    assert_eq!(world.job(id).await?, before, "{event:?}");
                    refused += 1;
                }
                Some(_) => {
                    let after = world.asked(id, *event).await?;
                    // Nobody runs a task, so nobody has to be waited for.
                    let expected = match event {
                        Event::Pause => JobState::Paused,
                        Event::Cancel => JobState::Cancelled,
                        _ => JobState::Pending,
                    };
                    assert_eq!(after.state, expected, "{state:?} {event:?}");
                    assert!(after.revision > before.revision);
                }
            }
        }
    }
    assert_eq!(refused, 9 * 9 - 10);
    for state in [JobState::Succeeded, JobState::Failed] {
        world
            .sql(&format!("UPDATE jobs SET state = '{}'", state.as_str()))
            .await?;
        let expected = Err(Refused::State { current: state });
        assert_eq!(world.update(id, None, Some(1), None).await?, expected);
    }
    Ok(())
}

#[tokio::test]
async fn a_job_that_was_changed_since_it_was_read_is_not_changed_by_revision() -> Result<()> {
    let world = World::start("jobs_revision").await?;
    let id = world.create(&job_with(1)).await?;
    let read = world.job(id).await?.revision;
    let changed = world.update(id, Some(read), Some(5), None).await?.expect("the same");
    assert!(changed.revision > read);
    let expected = Err(Refused::Revision {
        current: changed.revision,
    });
    assert_eq!(world.ask(id, Event::Cancel, Some(read)).await?, expected);
    assert_eq!(world.update(id, Some(read), Some(6), None).await?, expected);
    assert_eq!(world.job(id).await?, changed);
    let paused = world
        .ask(id, Event::Pause, Some(changed.revision))
        .await?
        .expect("the same");
    assert_eq!(paused.state, JobState::Paused);
    let unknown = JobId::random();
    assert_eq!(world.ask(unknown, Event::Pause, None).await?, Err(Refused::NotFound));
    assert_eq!(
        world.update(unknown, None, Some(1), None).await?,
        Err(Refused::NotFound)
    );
    Ok(())
}

#[tokio::test]
async fn a_pause_waits_until_the_last_worker_has_let_go() -> Result<()> {
    let world = World::start("jobs_pause").await?;
    let id = world.create(&job_with(3)).await?;
    let (first, second) = (world.claim("a").await?, world.claim("b").await?);
    assert_eq!(world.asked(id, Event::Pause).await?.state, JobState::Pausing);
    assert!(claim(&world.database, "c").await?.is_none());
    for owner in [&first, &second] {
        assert_eq!(world.settle(id).await?, JobState::Pausing);
        let wanted = jobs::checkpoint(world.database.pool(), owner, Offset(20), &NOTHING, "").await?;
        assert_eq!(wanted, Wanted::LetGo);
        jobs::release(&world.database, owner, Offset(25), &NOTHING, None).await?;
    }
    assert_eq!(world.settle(id).await?, JobState::Paused);
    assert_eq!(world.asked(id, Event::Resume).await?.state, JobState::Pending);
    let owner = world.claim("c").await?;
    assert_eq!((owner.checkpoint, owner.attempts), (Offset(25), 1));
    assert_eq!(world.state(id).await?, JobState::Running);
    Ok(())
}

#[tokio::test]
async fn i5_a_worker_that_does_not_let_go_is_fenced_within_two_seconds() -> Result<()> {
    let world = World::start("jobs_pause_fence").await?;
    for (event, end, task_state) in [
        (Event::Pause, JobState::Paused, TaskState::Pending),
        (Event::Cancel, JobState::Cancelled, TaskState::Cancelled),
    ] {
        let id = world.create(&job_with(1)).await?;
        let owner = world.claim("deaf").await?;
        let mut lane = world.connect().await?;
        let (begun, watch) = (tokio::time::Instant::now(), Stopwatch::start()?);
        world.asked(id, event).await?;
        wait_for("the job to come to rest", LIMIT, async || {
            // It goes on writing all the time.
            let entered = lanes::enter(&mut lane, owner.task, 0, owner.epoch).await;
            match (world.settle(id).await, entered) {
                (Ok(state), Ok(_)) if state == end => Ok(()),
                (state, entered) => Err(format!("{state:?} {entered:?}")),
            }
        })
        .await?;
        let took = watch.elapsed()?;
        println!("{event:?} was through after {took:?}");
        assert!(begun.elapsed() >= TIME_TO_LET_GO, "{:?}", begun.elapsed());
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert!(!lanes::enter(&mut lane, owner.task, 0, owner.epoch).await?);
        assert_eq!(world.task(owner.task).await?.state, task_state);
    }
    Ok(())
}

#[tokio::test]
async fn i5_a_claim_waits_for_a_pause_that_is_being_made() -> Result<()> {
    let world = World::start("jobs_pause_claim").await?;
    let id = world.create(&job_with(1)).await?;
    let mut connection = world.connect().await?;
    let mut pause = connection.begin().await?;
    let paused = jobs::ask(&mut pause, id, Event::Pause, None).await?.expect("allowed");
    assert_eq!(paused.state, JobState::Paused);
    let database = world.database.clone();
    let claiming = start(async move { claim(&database, "a").await });
    world
        .waits_for_a_lock("claimable_job", || claiming.is_finished())
        .await?;
    pause.commit().await?;
    assert!(claiming.await??.is_none(), "a task of a paused job was claimed");
    Ok(())
}

#[tokio::test]
async fn what_is_resumed_before_anybody_let_go_runs_on() -> Result<()> {
    let world = World::start("jobs_resume").await?;
    let id = world.create(&job_with(1)).await?;
    let owner = world.claim("a").await?;
    world.asked(id, Event::Pause).await?;
    assert_eq!(world.asked(id, Event::Resume).await?.state, JobState::Pending);
    let wanted = jobs::checkpoint(world.database.pool(), &owner, Offset(10), &NOTHING, "").await?;
    assert!(matches!(wanted, Wanted::Run { .. }));
    assert_eq!(world.settle(id).await?, JobState::Running);
    // All done in the last moment: there is nothing left to pause.
    world.asked(id, Event::Pause).await?;
    assert!(jobs::finish(&world.database, &owner, Offset(100), &NOTHING).await?);
    assert_eq!(world.settle(id).await?, JobState::Succeeded);
    Ok(())
}
