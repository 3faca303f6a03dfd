//! What those read who ask: pages of jobs and tasks, progress, overlaps.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use reprise_shared::jobs::{
    self, Event, JobId, JobState, JobsFilter, Kind, Mode, NewJob, ReadCounts, WriteCounts, lanes,
};
use reprise_shared::position::Offset;
use sqlx::Connection as _;

use crate::world::{World, claim, job_of, job_with, partition, slice};

#[tokio::test]
async fn jobs_and_tasks_are_listed_in_pages() -> Result<()> {
    let world = World::start("jobs_pages").await?;
    let mut ids = Vec::new();
    for number in 0..7_u16 {
        let job = NewJob {
            labels: format!(
                r#"{{"team":"{}","n":"{number}"}}"#,
                if number < 3 { "a\\\"b" } else { "c" }
            ),
            created_by: if number % 2 == 0 { "ann" } else { "bob" }.to_owned(),
            mode: if number == 4 { Mode::Repair } else { Mode::Live },
            ..job_with(1)
        };
        ids.push(world.create(&job).await?);
    }
    // Two that were created in the same millisecond.
    world
        .sql("UPDATE jobs SET created_at = '2026-01-01 00:00:00.001'")
        .await?;
    let pool = world.database.pool();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = jobs::jobs(pool, &JobsFilter::default(), after, 3).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.cursor());
        found.extend(page.iter().map(|job| job.id));
    }
    ids.reverse();
    assert_eq!(found, ids);
    ids.reverse();

    world.asked(ids[1], Event::Cancel).await?;
    let listed = async |filter: JobsFilter| -> Result<BTreeSet<JobId>> {
        Ok(jobs::jobs(pool, &filter, None, 100)
            .await?
            .iter()
            .map(|job| job.id)
            .collect())
    };
    let of = |numbers: &[usize]| numbers.iter().map(|number| ids[*number]).collect::<BTreeSet<_>>();
    let by_state = JobsFilter {
        states: vec![JobState::Cancelled, JobState::Failed],
        ..JobsFilter::default()
    };
    assert_eq!(listed(by_state).await?, of(&[1]));
    let by_all = JobsFilter {
        kind: Some(Kind::Replay),
        mode: Some(Mode::Live),
        data_type: Some("fund_risk".to_owned()),
        created_by: Some("ann".to_owned()),
        labels: vec![("team".to_owned(), "a\"b".to_owned())],
        ..JobsFilter::default()
    };
    assert_eq!(listed(by_all.clone()).await?, of(&[0, 2]));
    let no_type = JobsFilter {
        data_type: Some("fund".to_owned()),
        ..by_all
    };
    assert_eq!(listed(no_type).await?, of(&[]));

    let large = world.create(&job_with(1_203)).await?;
    let (mut numbers, mut after) = (Vec::new(), None);
    loop {
        let page = jobs::tasks(pool, large, after, 500).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id.number);
        numbers.extend(page.iter().map(|task| task.id.number));
    }
    assert_eq!(numbers, (0..1_203).collect::<Vec<_>>());
    assert_eq!(
        world.number("SELECT COUNT(*) FROM task_lanes").await?,
        7 * 2 + 1_203 * 2
    );
    Ok(())
}

#[tokio::test]
async fn counts_add_up_over_lanes_tasks_and_partitions() -> Result<()> {
    let world = World::start("jobs_progress").await?;
    let id = world
        .create(&job_of(vec![slice(0, 0, 100), slice(0, 100, 150), slice(1, 10, 20)]))
        .await?;
    let first = world.claim("a").await?;
    let counts = WriteCounts {
        inserted: 1,
        updated: 2,
        unchanged: 3,
        stale: 4,
        superseded: 5,
        dead_lettered: 6,
        deleted: 7,
        missing: 8,
        different: 9,
        older: 10,
    };
    let mut connection = world.connect().await?;
    for lane in [0, 1, 1] {
        let mut batch = connection.begin().await?;
        assert!(lanes::enter(&mut batch, first.task, lane, first.epoch).await?);
        lanes::count(&mut batch, first.task, lane, &counts).await?;
        batch.commit().await?;
    }
    let read = ReadCounts {
        read: 40,
        filtered: 5,
        skipped: 6,
        bytes: 7_000,
    };
    jobs::checkpoint(world.database.pool(), &first, Offset(60), &read, "MySQL is slow").await?;
    let second = world.claim("b").await?;
    jobs::finish(&world.database, &second, Offset(150), &read).await?;

    let progress = world.progress(id).await?;
    assert_eq!((progress.read.read, progress.read.bytes), (80, 14_000));
    assert_eq!((progress.written.inserted, progress.written.older), (3, 30));
    assert_eq!((progress.tasks, progress.tasks_done, progress.tasks_running), (3, 1, 1));
    assert_eq!((progress.positions, progress.positions_done), (160, 110));
    assert_eq!(progress.hold_reasons, ["MySQL is slow"]);
    let partitions: Vec<_> = progress
        .partitions
        .iter()
        .map(|one| (one.topic_partition.clone(), one.positions_done, one.position, one.end))
        .collect();
    let expected = [
        (partition(0), 110, Some(Offset(60)), Offset(150)),
        (partition(1), 0, Some(Offset(10)), Offset(20)),
    ];
    assert_eq!(partitions, expected);
    let task = world.task(first.task).await?;
    assert_eq!(
        (task.read, task.written.unchanged, task.written.superseded),
        (read, 9, 15)
    );
    assert_eq!((task.owner.as_str(), task.hold_reason.as_str()), ("a", "MySQL is slow"));
    assert_eq!(world.progress(JobId::random()).await?, jobs::Progress::default());
    Ok(())
}

#[tokio::test]
async fn a_plan_learns_which_unfinished_jobs_it_overlaps() -> Result<()> {
    let world = World::start("jobs_overlap").await?;
    let id = world.create(&job_of(vec![slice(0, 0, 100), slice(1, 0, 100)])).await?;
    let pool = world.database.pool();
    let mut other_type = slice(0, 0, 100);
    other_type.data_type = "fund_basic".to_owned();
    for apart in [slice(0, 100, 200), slice(2, 0, 100), other_type.clone()] {
        assert_eq!(jobs::overlapping(pool, &[apart]).await?, []);
    }
    other_type.data_type.clear();
    assert_eq!(
        jobs::overlapping(pool, &[other_type]).await?.len(),
        1,
        "all types of the topic"
    );
    let found = jobs::overlapping(pool, &[slice(0, 99, 200), slice(1, 50, 60)]).await?;
    assert_eq!(found.iter().map(|one| one.job).collect::<Vec<_>>(), [id, id]);
    assert_eq!(
        (found[0].start, found[0].end, found[0].state),
        (Offset(0), Offset(100), JobState::Pending)
    );
    // What is done does not count any more.
    let claimed = claim(&world.database, "a").await?.context("a task")?;
    jobs::checkpoint(pool, &claimed, Offset(70), &ReadCounts::default(), "").await?;
    assert_eq!(jobs::overlapping(pool, &[slice(0, 0, 70)]).await?, []);
    world.asked(id, Event::Cancel).await?;
    world.freeze_owners().await?;
    world.settle(id).await?;
    assert_eq!(jobs::overlapping(pool, &[slice(0, 0, 100)]).await?, []);
    Ok(())
}
