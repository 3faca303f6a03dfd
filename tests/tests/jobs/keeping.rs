//! What is stored is what is read, in pages, and goes in bounded steps.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use reprise_shared::jobs::{
    self, Event, JobId, JobState, Kind, Mismatch, MismatchKind, Missing, MissingReason, Mode, NewJob, Phase, TaskState,
    filters, mismatches,
};
use reprise_shared::position::Offset;
use reprise_tests::whitelist::start;
use sqlx::Connection as _;
use uuid::Uuid;

use crate::world::{World, job_of, job_with, partition, slice};

fn numbered(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| format!("0P{number:08}\"é")).collect()
}

fn gone(data_type: &str, number: u16, start: u64, end: u64) -> Missing {
    Missing {
        data_type: data_type.to_owned(),
        topic_partition: partition(number),
        start: Offset(start),
        end: Offset(end),
        reason: MissingReason::Expired,
    }
}

#[tokio::test]
async fn a_job_is_read_back_as_it_was_created() -> Result<()> {
    let world = World::start("jobs_create").await?;
    let mut filtered = slice(2, 1 << 40, (1 << 40) + 5);
    filtered.filter = Some(1);
    filtered.record_time_from = Some("2026-01-02T03:04:05.678Z".parse()?);
    filtered.record_time_to = Some("2026-01-02T04:00:00Z".parse()?);
    let new = NewJob {
        kind: Kind::Replay,
        mode: Mode::Verify,
        spec: r#"{"ids":["é"]}"#.to_owned(),
        labels: r#"{"why":"a bug"}"#.to_owned(),
        data_types: vec!["fund_risk".to_owned(), "fund_basic".to_owned()],
        allow_partial: true,
        priority: -3,
        max_records_per_second: Some(5_000),
        filters: vec![Vec::new(), numbered(0..2_500)],
        missing: vec![gone("fund_risk", 0, 0, 10), gone("fund_risk", 0, 10, 20)],
        lanes: 3,
        ..job_of(vec![slice(0, 20, 100), filtered.clone()])
    };
    let id = world.create(&new).await?;
    let job = world.job(id).await?;
    assert_eq!(
        (job.id, job.kind, job.mode, job.state),
        (id, new.kind, new.mode, JobState::Pending)
    );
    assert_eq!(
        (&job.spec, &job.labels, &job.data_types),
        (&new.spec, &new.labels, &new.data_types)
    );
    assert_eq!(
        (&job.catalog_hash, job.whitelist_version),
        (&new.catalog_hash, new.whitelist_version)
    );
    assert_eq!((job.clean_first, job.allow_partial, job.priority), (false, true, -3));
    assert_eq!(
        (job.max_records_per_second, job.estimated_records, job.revision),
        (Some(5_000), 100, 1)
    );
    assert_eq!(
        (job.created_by.as_str(), job.started_at, job.finished_at),
        ("ann", None, None)
    );

    let tasks = world.tasks(id).await?;
    assert_eq!(
        tasks.iter().map(|task| task.slice.clone()).collect::<Vec<_>>(),
        new.slices
    );
    assert!(
        tasks
            .iter()
            .all(|task| task.state == TaskState::Pending && task.phase == Phase::Write)
    );
    assert_eq!(tasks[1].checkpoint, filtered.start);
    let pool = world.database.pool();
    assert_eq!(filters::filter(pool, id, 1).await?, new.filters[1]);
    assert_eq!(filters::filter(pool, id, 0).await?, Vec::<String>::new());
    assert_eq!(jobs::missing(pool, id).await?, [gone("fund_risk", 0, 0, 20)]);
    let claimed = world.claim("a").await?;
    assert_eq!(
        (claimed.lanes, claimed.mode, claimed.allow_partial),
        (3, Mode::Verify, true)
    );
    assert_eq!(claimed.slice, new.slices[0]);

    // Again, as after a commit whose answer was lost.
    world.create_as(id, &new).await?;
    assert_eq!(world.tasks(id).await?.len(), 2);
    assert_eq!(jobs::job(pool, JobId::random()).await?, None);
    Ok(())
}

#[tokio::test]
async fn what_no_plan_may_contain_is_refused_and_leaves_nothing() -> Result<()> {
    let world = World::start("jobs_invalid").await?;
    let mut unknown_list = slice(0, 0, 1);
    unknown_list.filter = Some(0);
    let bad = [
        job_of(vec![slice(0, 5, 5)]),
        job_of(vec![unknown_list]),
        NewJob {
            lanes: 0,
            ..job_with(1)
        },
        NewJob {
            lanes: jobs::MAX_LANES + 1,
            ..job_with(1)
        },
    ];
    for job in bad {
        let refused = world.create_as(JobId::random(), &job).await;
        assert!(matches!(refused, Err(sqlx::Error::InvalidArgument(_))), "{refused:?}");
    }
    assert_eq!(world.number("SELECT COUNT(*) FROM jobs").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_list_of_100_000_ids_is_kept_in_small_rows() -> Result<()> {
    let world = World::start("jobs_filter").await?;
    let ids = numbered(0..100_000);
    let mut wanted = slice(0, 0, 10);
    wanted.filter = Some(1);
    let begun = tokio::time::Instant::now();
    let id = world
        .create(&NewJob {
            filters: vec![vec!["other".to_owned()], ids.clone()],
            ..job_of(vec![wanted])
        })
        .await?;
    let created = begun.elapsed();
    assert_eq!(filters::filter(world.database.pool(), id, 1).await?, ids);
    let largest = world.number("SELECT MAX(LENGTH(ids)) FROM job_filters").await?;
    println!(
        "created in {created:?}, read in {:?}, the largest row: {largest} bytes",
        begun.elapsed() - created
    );
    assert!(largest < 128 << 10);
    assert_eq!(filters::filter(world.database.pool(), id, 0).await?, ["other"]);
    Ok(())
}

#[tokio::test]
async fn a_plan_becomes_one_job_or_expires() -> Result<()> {
    let world = World::start("jobs_plans").await?;
    let pool = world.database.pool();
    let plan = Uuid::now_v7();
    for _ in 0..2 {
        jobs::keep_plan(pool, plan, "ann", br#"{"a":1}"#, Duration::from_secs(60)).await?;
    }
    let take = |plan: Uuid| {
        let database = world.database.clone();
        start(async move {
            let taken = database.tx("test_take", move |connection| {
                Box::pin(async move {
                    let found = jobs::load_plan(connection, plan).await?;
                    jobs::drop_plan(connection, plan).await?;
                    Ok::<_, sqlx::Error>(found)
                })
            });
            taken.await
        })
    };
    let mut connection = world.connect().await?;
    let mut first = connection.begin().await?;
    let found = jobs::load_plan(&mut first, plan).await?;
    assert_eq!(found.as_deref(), Some(&br#"{"a":1}"#[..]));
    let second = take(plan);
    world.waits_for_a_lock("load_plan", || second.is_finished()).await?;
    jobs::drop_plan(&mut first, plan).await?;
    first.commit().await?;
    assert_eq!(second.await??, None, "one plan, one job");

    let old = Uuid::now_v7();
    jobs::keep_plan(pool, old, "ann", b"{}", Duration::from_secs(60)).await?;
    world.sql("UPDATE job_plans SET expires_at = '2020-01-01'").await?;
    assert_eq!(take(old).await??, None);
    let other = Uuid::now_v7();
    jobs::keep_plan(pool, other, "ann", b"{}", Duration::from_secs(60)).await?;
    world.sql("UPDATE job_plans SET expires_at = '2020-01-01'").await?;
    jobs::keep_plan(pool, Uuid::now_v7(), "ann", b"{}", Duration::from_secs(60)).await?;
    assert_eq!(
        world.number("SELECT COUNT(*) FROM job_plans").await?,
        1,
        "what expired is forgotten"
    );
    Ok(())
}

fn mismatch(key: u8, kind: MismatchKind, position: u8) -> Mismatch {
    Mismatch {
        data_type: "fund_risk".to_owned(),
        key_digest: [key; 32],
        kind,
        row_key: format!(r#"{{"k":{key}}}"#),
        differences: format!("{{\"at\":{position}}}"),
        source_position: vec![position; 16],
        stored_position: (kind != MismatchKind::Missing).then(|| vec![1; 16]),
    }
}

#[tokio::test]
async fn of_what_is_found_about_a_row_the_newest_stays_up_to_a_limit() -> Result<()> {
    use MismatchKind::{Different, Missing, Older};
    let world = World::start("jobs_mismatches").await?;
    let job = world.create(&job_with(1)).await?;
    let mut connection = world.connect().await?;
    let first = [
        mismatch(2, Older, 5),
        mismatch(1, Missing, 3),
        mismatch(2, Different, 6),
    ];
    mismatches::report(&mut connection, job, &first, 3).await?;
    let older = [mismatch(2, Missing, 4), mismatch(1, Different, 9)];
    mismatches::report(&mut connection, job, &older, 3).await?;
    // There is room for one more; what is known already is still brought up to date.
    let more = [mismatch(3, Missing, 1), mismatch(4, Missing, 1), mismatch(2, Older, 7)];
    mismatches::report(&mut connection, job, &more, 3).await?;
    let pool = world.database.pool();
    let all = mismatches::mismatches(pool, job, None, 10).await?;
    let expected = [
        mismatch(1, Different, 9),
        mismatch(2, Older, 7),
        mismatch(3, Missing, 1),
    ];
    assert_eq!(all, expected);
    let after = ("fund_risk".to_owned(), [1; 32]);
    assert_eq!(
        mismatches::mismatches(pool, job, Some(&after), 1).await?,
        [mismatch(2, Older, 7)]
    );
    let many: Vec<_> = (0..=255).map(|key| mismatch(key, Missing, 200)).collect();
    let other = world.create(&job_with(1)).await?;
    mismatches::report(&mut connection, other, &many, 1_000).await?;
    assert_eq!(mismatches::mismatches(pool, other, None, 1_000).await?.len(), 256);
    Ok(())
}

#[tokio::test]
async fn jobs_that_ended_long_ago_go_in_bounded_steps() -> Result<()> {
    let world = World::start("jobs_purge").await?;
    let old = world
        .create(&NewJob {
            filters: vec![numbered(0..3_000)],
            missing: vec![gone("fund_risk", 0, 0, 10)],
            ..job_with(1_500)
        })
        .await?;
    let (young, running) = (world.create(&job_with(1)).await?, world.create(&job_with(1)).await?);
    for id in [old, young] {
        world.asked(id, Event::Cancel).await?;
    }
    let (hour, none) = (Duration::from_secs(3_600), BTreeSet::new());
    assert_eq!(
        jobs::purge_finished(&world.database, hour, 10, &none).await?,
        jobs::Purged::default()
    );
    world
        .sql(&format!(
            "UPDATE jobs SET finished_at = '2020-01-01' WHERE job_id = '{old}'"
        ))
        .await?;
    // Nobody finds, and so nobody tries again, what is being removed, also when the purge broke off.
    world
        .sql(&format!(
            "UPDATE jobs SET purged_at = '2020-01-01' WHERE job_id = '{old}'"
        ))
        .await?;
    assert_eq!(jobs::job(world.database.pool(), old).await?, None);
    assert_eq!(world.ask(old, Event::Retry, None).await?, Err(jobs::Refused::NotFound));
    let both = tokio::try_join!(
        jobs::purge_finished(&world.database, hour, 10, &none),
        jobs::purge_finished(&world.database, hour, 10, &none)
    )?;
    println!("{both:?}");
    assert_eq!(both.0.jobs + both.1.jobs, 1);
    assert_eq!(both.0.rows + both.1.rows, 1 + 3 + 1 + 1_500 * 3);
    for table in ["job_filters", "job_missing", "tasks", "task_lanes"] {
        let left = world
            .number(&format!("SELECT COUNT(*) FROM {table} WHERE job_id = '{old}'"))
            .await?;
        assert_eq!(left, 0, "{table}");
    }
    assert_eq!(world.state(young).await?, JobState::Cancelled);
    assert_eq!(world.tasks(running).await?.len(), 1);
    Ok(())
}
