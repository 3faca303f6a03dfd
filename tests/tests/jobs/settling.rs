//! What jobs come to, who is tried first, and whose catalog may claim.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures::future::try_join_all;
use reprise_shared::jobs::{self, Claim, Event, JobId, JobState, NewJob, ReadCounts, Unsettled, reasons};
use reprise_shared::mysql::Database;
use reprise_shared::position::Offset;
use reprise_tests::whitelist::start;
use tokio::sync::Barrier;

use crate::world::{HASH, World, claim, job_of, job_with, worker};

async fn finish(database: &Database, claim: &Claim) -> sqlx::Result<bool> {
    jobs::finish(database, claim, claim.slice.end, &ReadCounts::default()).await
}

#[tokio::test]
async fn a_job_without_anything_to_do_succeeds_at_once() -> Result<()> {
    let world = World::start("jobs_empty").await?;
    let id = world.create(&job_of(Vec::new())).await?;
    let unsettled = async || jobs::unsettled(world.database.pool(), None, 10).await;
    assert_eq!(unsettled().await?, [Unsettled { id, is_asked: false }]);
    assert_eq!(world.settle(id).await?, JobState::Succeeded);
    assert_eq!(unsettled().await?, []);
    let unknown = jobs::settle(&world.database, JobId::random()).await;
    assert!(matches!(unknown, Err(sqlx::Error::RowNotFound)), "{unknown:?}");
    Ok(())
}

#[tokio::test]
async fn every_job_is_found_to_be_settled_however_many_there_are() -> Result<()> {
    let world = World::start("jobs_pages").await?;
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(world.create(&job_with(1)).await?);
    }
    // Somebody works on these two, so that asking leaves them to be settled.
    let mut asked = Vec::new();
    for event in [Event::Pause, Event::Cancel] {
        let claim = world.claim("w").await?;
        world.asked(claim.task.job, event).await?;
        asked.push(claim.task.job);
    }
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = jobs::unsettled(world.database.pool(), after, 2).await?;
        assert!(page.len() <= 2, "{page:?}");
        let Some(last) = page.last().copied() else { break };
        after = Some(last);
        found.extend(page);
    }
    let (first, rest) = found.split_at(2);
    assert!(
        first.iter().all(|one| one.is_asked && asked.contains(&one.id)),
        "{found:?}"
    );
    assert!(rest.iter().all(|one| !one.is_asked), "{found:?}");
    let mut seen: Vec<JobId> = found.iter().map(|one| one.id).collect();
    seen.sort_unstable();
    ids.sort_unstable();
    assert_eq!(seen, ids);
    let census = jobs::census(world.database.pool()).await?;
    assert_eq!((census.waiting, census.running), (5, 0), "{census:?}");
    let of = |state| {
        census
            .jobs
            .iter()
            .find(|(known, _)| *known == state)
            .map(|(_, count)| *count)
    };
    let counted = [
        JobState::Pending,
        JobState::Pausing,
        JobState::Cancelling,
        JobState::Failed,
    ]
    .map(of);
    assert_eq!(counted, [Some(5), Some(1), Some(1), None], "{census:?}");
    Ok(())
}

#[tokio::test]
async fn four_processes_that_settle_at_once_come_to_one_result() -> Result<()> {
    let world = World::start("jobs_settle").await?;
    for round in 0..10 {
        let id = world.create(&job_with(2)).await?;
        let claims = [world.claim("a").await?, world.claim("b").await?];
        let is_failed = round % 2 == 1;
        finish(&world.database, &claims[0]).await?;
        if is_failed {
            jobs::fail_task(&world.database, &claims[1], "POISON", "row 7").await?;
        } else {
            finish(&world.database, &claims[1]).await?;
        }
        let before = world.job(id).await?.revision;
        let barrier = Arc::new(Barrier::new(4));
        let settled = (0..4).map(|_| {
            let (database, barrier) = (world.process(Duration::from_secs(5)), barrier.clone());
            start(async move {
                let database = database?;
                // Every process has its connection before the first one begins.
                drop(database.pool().acquire().await?);
                barrier.wait().await;
                anyhow::Ok(jobs::settle(&database, id).await?)
            })
        });
        let expected = if is_failed {
            JobState::Failed
        } else {
            JobState::Succeeded
        };
        for state in try_join_all(settled).await? {
            assert_eq!(state?, expected);
        }
        let job = world.job(id).await?;
        assert_eq!((job.state, job.revision), (expected, before + 1), "moved exactly once");
        assert!(job.started_at.is_some() && job.finished_at >= job.started_at);
    }
    Ok(())
}

#[tokio::test]
async fn a_worker_that_died_between_claim_and_start_leaves_nothing_behind() -> Result<()> {
    let world = World::start("jobs_begin").await?;
    let id = world.create(&job_with(1)).await?;
    world.claim("a").await?;
    // As if its second statement had never come.
    world
        .sql("UPDATE jobs SET state = 'PENDING', started_at = NULL")
        .await?;
    assert_eq!(world.settle(id).await?, JobState::Running);
    assert!(world.job(id).await?.started_at.is_some());
    Ok(())
}

#[tokio::test]
async fn a_job_that_is_failed_from_outside_takes_its_tasks_with_it() -> Result<()> {
    let world = World::start("jobs_fail_outside").await?;
    let id = world.create(&job_with(2)).await?;
    let owner = world.claim("a").await?;
    for _ in 0..2 {
        let state = jobs::fail(&world.database, id, "PLAN_GONE", "the topic is gone").await?;
        assert_eq!(state, JobState::Failed);
    }
    let job = world.job(id).await?;
    assert_eq!(
        (job.reason.as_str(), job.detail.as_str()),
        ("PLAN_GONE", "the topic is gone")
    );
    assert_eq!(world.epochs(owner.task).await?, [2, 2, 2]);
    assert!(!finish(&world.database, &owner).await?);
    Ok(())
}

#[tokio::test]
async fn workers_go_to_the_highest_priority_and_are_shared_between_equals() -> Result<()> {
    let world = World::start("jobs_fair").await?;
    let large = world.create(&job_with(40)).await?;
    let small = world.create(&job_with(4)).await?;
    let urgent = world
        .create(&NewJob {
            priority: 1,
            ..job_with(2)
        })
        .await?;
    let mut order = Vec::new();
    let mut claims = Vec::new();
    for _ in 0..8 {
        let claim = world.claim("a").await?;
        order.push(claim.task.job);
        claims.push(claim);
    }
    assert_eq!(order, [urgent, urgent, large, small, large, small, large, small]);
    let numbers: Vec<u32> = claims.iter().map(|claim| claim.task.number).collect();
    assert_eq!(numbers, [0, 1, 0, 0, 1, 1, 2, 2]);
    // Six workers that each run one task after the other: the small job is done long before the large one.
    let mut done_of_large = 0;
    while world.state(small).await? != JobState::Succeeded {
        let claim = claims.remove(0);
        finish(&world.database, &claim).await?;
        world.settle(claim.task.job).await?;
        done_of_large += u32::from(claim.task.job == large);
        claims.extend(claim_one(&world).await?);
    }
    println!("{done_of_large} of 40 tasks of the large job were done when the small one ended");
    assert!(done_of_large <= 8);
    // Priority counts also when it comes late.
    world.update(large, None, Some(9), None).await?.expect("allowed");
    world
        .create(&NewJob {
            priority: 5,
            ..job_with(1)
        })
        .await?;
    assert_eq!(world.claim("a").await?.task.job, large);
    Ok(())
}

async fn claim_one(world: &World) -> sqlx::Result<Option<Claim>> {
    claim(&world.database, "a").await
}

#[tokio::test]
async fn workers_with_another_catalog_claim_nothing_and_the_job_fails_when_there_are_no_others() -> Result<()> {
    let world = World::start("jobs_catalog").await?;
    let id = world.create(&job_with(2)).await?;
    let database = &world.database;
    let other = async || jobs::claim(database, &worker("other"), |_| Some("another".to_owned())).await;
    let none = async || jobs::claim(database, &worker("none"), |_| None).await;
    let since = async || {
        let sql = "SELECT COUNT(*) FROM jobs WHERE unclaimed_since IS NOT NULL";
        world.number(sql).await
    };
    let long_ago = "UPDATE jobs SET unclaimed_since = DATE_SUB(unclaimed_since, INTERVAL 10 MINUTE)";
    assert!(other().await?.is_none() && none().await?.is_none());
    assert_eq!((since().await?, world.settle(id).await?), (1, JobState::Pending));

    // One that has the right catalog comes in time: the others' refusals count for nothing.
    world.sql(long_ago).await?;
    let seen = std::sync::Mutex::new(Vec::new());
    let right_worker = worker("right");
    let right = jobs::claim(database, &right_worker, |names| {
        seen.lock().expect("no panic").push(names.to_vec());
        Some(HASH.to_owned())
    });
    let claimed = right.await?.expect("claimed");
    assert_eq!(*seen.lock().expect("no panic"), [["fund_risk"]]);
    assert_eq!((since().await?, world.settle(id).await?), (0, JobState::Running));
    // While it runs a task, the job does not fail, however long others refuse the rest.
    assert!(other().await?.is_none());
    world.sql(long_ago).await?;
    assert_eq!(world.settle(id).await?, JobState::Running);
    jobs::release(database, &claimed, Offset(0), &ReadCounts::default(), None).await?;
    assert_eq!(world.settle(id).await?, JobState::Failed);
    let job = world.job(id).await?;
    assert_eq!(job.reason, reasons::CATALOG_CHANGED);
    assert!(
        job.detail.starts_with("for 600 s only workers with another catalog"),
        "{}",
        job.detail
    );
    Ok(())
}
