//! The rights that `docs/operating.md` lists for a replay worker are enough for jobs of every kind and mode, and no more.

use anyhow::{Context as _, Result, ensure};
use reprise_shared::jobs::{Kind, Mode};
use reprise_shared::ledger::Keys;
use reprise_shared::position::{Partition, TopicName, TopicPartition};
use reprise_shared::redis::Limit;
use reprise_shared::{catalog, isolated};
use reprise_tests::fleet::{Asked, Fleet, Options, PATIENCE, feed_of_all_kinds, sum_of};
use reprise_tests::privileges::{Role, Users, tells_of_a_lack};
use sqlx::AssertSqlSafe;

const TYPES: [&str; 3] = ["fund_basic", "fund_valuation", "fund_risk"];

fn options() -> Options {
    let settings = [
        ("replay.live_first.floor_rate", "4000000000"),
        ("replay.live_first.latency_cut", "20s"),
        ("replay.live_first.latency_hold", "60s"),
        ("replay.poll", "100ms"),
    ];
    Options {
        settings: settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..Options::default()
    }
}

async fn execute(fleet: &Fleet, sql: &'static str) -> Result<u64> {
    Ok(sqlx::query(sql).execute(&fleet.pool).await?.rows_affected())
}

/// Runs a job of each type, and returns how many rows they were about.
async fn run(fleet: &Fleet, asked: &Asked) -> Result<u64> {
    let mut rows = 0;
    for data_type in TYPES {
        let job = fleet.replay(data_type, asked).await?;
        let progress = fleet.job_succeeds(job, PATIENCE).await;
        let progress = progress.with_context(|| format!("{data_type}: {asked:?}"))?;
        rows += sum_of(&progress.written);
    }
    Ok(rows)
}

/// Jobs of every kind and mode, with something to do for each.
async fn run_all(fleet: &Fleet) -> Result<()> {
    let asked = |mode| Asked {
        mode,
        ..Asked::default()
    };
    ensure!(run(fleet, &asked(Mode::Live)).await? > 0);
    ensure!(fleet.count("dead_letters").await? > 0, "nothing was dead-lettered");
    ensure!(run(fleet, &asked(Mode::Isolated)).await? > 0);
    let isolated = fleet.count("t_fund_valuation_replay").await?;
    let live = fleet.count("t_fund_valuation").await?;
    ensure!(isolated == live, "{isolated} isolated rows and {live} others");

    execute(fleet, "DELETE FROM t_fund_valuation LIMIT 3").await?;
    execute(fleet, "UPDATE t_ai_risk SET risk_level = risk_level + 1 LIMIT 3").await?;
    run(fleet, &asked(Mode::Verify)).await?;
    let reported = fleet.count("job_mismatches").await?;
    ensure!(reported == 6, "six rows were damaged, {reported} are reported");
    run(fleet, &asked(Mode::Repair)).await?;
    let cleaning = Asked {
        clean_first: true,
        ..Asked::default()
    };
    ensure!(run(fleet, &cleaning).await? > 0);
    ensure!(run(fleet, &asked(Mode::Overwrite)).await? > 0);
    let rebuild = Asked {
        kind: Kind::Rebuild,
        ..Asked::default()
    };
    let job = fleet.replay("", &rebuild).await?;
    fleet.job_succeeds(job, PATIENCE).await?;
    let coverage = Keys::new(fleet.redis.prefix().clone()).coverage(&TopicPartition {
        topic: TopicName::new(&fleet.topic),
        partition: Partition(0),
    });
    let mut count = redis::cmd("ZCARD");
    let count = fleet
        .redis
        .query::<u64>("look at the ledger", Limit::Ordinary, count.arg(coverage));
    ensure!(count.await? > 0, "nothing was rebuilt");

    // A slice with a hole: the worker notes what is missing.
    fleet.delete_records(0, 100).await?;
    let partial = Asked {
        allow_partial: true,
        ..Asked::default()
    };
    let hole = fleet.slice("fund_risk", 0, 0..200).await?;
    let job = fleet.replay_slices(vec![hole], &partial).await?;
    fleet.job_ends(job, PATIENCE).await?;
    ensure!(fleet.missing(job).await? == [(0, 0, 100, "EXPIRED")]);
    Ok(())
}

/// One example of what its user may not, for each store.
async fn check_refusals(users: &Users, prefix: &str) -> Result<()> {
    for statement in [
        "DELETE FROM jobs",
        "INSERT INTO tasks (job_id) VALUES ('')",
        "DELETE FROM dead_letters",
        "DELETE FROM whitelist_entries",
        "UPDATE type_states SET stopped = 0",
        "DELETE FROM t_ai_risk_replay",
        "CREATE TABLE more (id INT PRIMARY KEY)",
    ] {
        users.refused_by_mysql(statement).await?;
    }
    users.refused_by_redis("KEYS *").await?;
    users.refused_by_redis("GET other:key").await?;
    users
        .refused_by_redis(&format!("SADD {prefix}:{{whitelist}}:global F1"))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_workers_work_with_the_documented_rights_and_no_more() -> Result<()> {
    let mut fleet = Fleet::new("least-replay", options()).await?;
    isolated::make_tables(&fleet.pool, &catalog::load(&fleet.catalog_path())?).await?;
    let users = Users::make(Role::Replay, &fleet.isolation).await?;
    fleet.set("mysql.url", &users.mysql_url);
    fleet.set("redis.url", &users.redis_url);
    let feed = feed_of_all_kinds(Some(3_000), 5);
    fleet.seed(&feed).await?;
    fleet.publish(feed).await?;
    fleet.start_replay_workers(1).await?;
    let worked = run_all(&fleet).await;
    let log = fleet.whole_log(0);
    worked.with_context(|| log.clone())?;
    check_refusals(&users, &fleet.isolation.key_prefix()).await?;
    fleet.stop().await?;
    ensure!(!tells_of_a_lack(&log), "the worker lacked a right:\n{log}");
    users.drop().await
}

#[tokio::test]
async fn the_rights_of_keda_are_enough_for_the_charts_question() -> Result<()> {
    let fleet = Fleet::new("least-keda", options()).await?;
    let users = Users::make(Role::Keda, &fleet.isolation).await?;
    let rendered = reprise_tests::chart::Chart::open()
        .await?
        .render(&reprise_tests::chart::case("keda"), &[])?;
    let scaled = rendered.object("ScaledObject", "replay")?;
    let question = scaled["spec"]["triggers"][0]["metadata"]["query"]
        .as_str()
        .context("a question")?;
    let count = async || -> Result<i64> {
        let mut connection = <sqlx::MySqlConnection as sqlx::Connection>::connect(&users.mysql_url).await?;
        let asked = sqlx::query_scalar(AssertSqlSafe(question.to_owned()));
        Ok(asked.fetch_one(&mut connection).await?)
    };
    ensure!(count().await? == 0, "tasks before there is a job");
    fleet.publish(feed_of_all_kinds(Some(100), 5)).await?;
    fleet.replay("fund_risk", &Asked::default()).await?;
    let tasks = count().await?;
    ensure!(tasks == 4, "a job over four partitions comes to {tasks} tasks");
    users.refused_by_mysql("SELECT * FROM whitelist_entries").await?;
    users.drop().await
}
