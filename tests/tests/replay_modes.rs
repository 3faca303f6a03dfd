//! What each mode writes, and what it leaves alone.

use anyhow::{Result, ensure};
use reprise_shared::clock::Clock;
use reprise_shared::jobs::{MismatchKind, Mode, mismatches};
use reprise_shared::mysql::{self, Database};
use reprise_shared::{catalog, isolated};
use reprise_tests::feed::FeedConfig;
use reprise_tests::fleet::{Asked, Fleet, Options, PATIENCE};
use reprise_tests::oracle::dump_table;

const TABLE: &str = "t_fund_valuation";

fn options() -> Options {
    let settings = [("replay.live_first.floor_rate", "4000000000"), ("replay.poll", "100ms")];
    Options {
        settings: settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..Options::default()
    }
}

fn feed() -> FeedConfig {
    FeedConfig {
        records: Some(6_000),
        funds: 100,
        disorder: 0.1,
        duplicates: 0.05,
        equal_versions: 0.05,
        ..FeedConfig::default()
    }
}

fn asked(mode: Mode) -> Asked {
    Asked {
        mode,
        ..Asked::default()
    }
}

/// Fills the tables by a LIVE replay.
async fn filled(name: &str) -> Result<Fleet> {
    let mut fleet = Fleet::new(name, options()).await?;
    fleet.seed(&feed()).await?;
    fleet.publish(feed()).await?;
    fleet.start_replay_workers(1).await?;
    let job = fleet.replay("fund_valuation", &asked(Mode::Live)).await?;
    fleet.job_succeeds(job, PATIENCE).await?;
    Ok(fleet)
}

async fn change(fleet: &Fleet, sql: &'static str) -> Result<u64> {
    Ok(sqlx::query(sql).execute(&fleet.pool).await?.rows_affected())
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_reports_exactly_what_was_damaged_and_repair_changes_exactly_that() -> Result<()> {
    let mut fleet = filled("modes-verify").await?;
    let good = dump_table(&fleet.pool, TABLE).await?;
    let rows = good.lines().count() as u64;
    let removed = change(
        &fleet,
        "DELETE FROM t_fund_valuation WHERE fund_code < 'F00000005' LIMIT 7",
    )
    .await?;
    let damaged = change(
        &fleet,
        "UPDATE t_fund_valuation SET unit_nav = unit_nav + 1 WHERE nav_date = (SELECT * FROM \
         (SELECT MAX(nav_date) FROM t_fund_valuation) AS latest) ORDER BY fund_code LIMIT 11",
    )
    .await?;
    let aged = change(
        &fleet,
        "UPDATE t_fund_valuation SET source_time = '2001-01-01', source_position = x'00' WHERE nav_date = \
         (SELECT * FROM (SELECT MIN(nav_date) FROM t_fund_valuation) AS earliest) ORDER BY fund_code DESC LIMIT 5",
    )
    .await?;
    ensure!(removed > 0 && damaged > 0 && aged > 0, "{removed} {damaged} {aged}");
    let bad = dump_table(&fleet.pool, TABLE).await?;

    let verify = fleet.replay("fund_valuation", &asked(Mode::Verify)).await?;
    let written = fleet.job_succeeds(verify, PATIENCE).await?.written;
    ensure!(written.inserted + written.updated == 0, "{written:?}");
    ensure!(
        dump_table(&fleet.pool, TABLE).await? == bad,
        "a VERIFY wrote into the table"
    );
    let found = mismatches::mismatches(&fleet.pool, verify, None, 1_000).await?;
    let of = |kind| found.iter().filter(|one| one.kind == kind).count() as u64;
    ensure!(
        (
            of(MismatchKind::Missing),
            of(MismatchKind::Different),
            of(MismatchKind::Older)
        ) == (removed, damaged, aged),
        "{removed} removed, {damaged} damaged and {aged} aged, but found: {found:#?}"
    );
    let different = found.iter().find(|one| one.kind == MismatchKind::Different);
    let told = different.map_or("", |one| one.differences.as_str());
    ensure!(
        told.contains("unit_nav") && told.contains("expected") && !told.contains("source_time"),
        "{told}"
    );

    let repair = fleet.replay("fund_valuation", &asked(Mode::Repair)).await?;
    let written = fleet.job_succeeds(repair, PATIENCE).await?.written;
    ensure!(written.inserted == removed, "{written:?}, where {removed} were removed");
    ensure!(
        written.updated >= damaged + aged,
        "{written:?}, where {} were changed",
        damaged + aged
    );
    ensure!(
        dump_table(&fleet.pool, TABLE).await? == good,
        "the repaired table is not the one from before"
    );

    let verify = fleet.replay("fund_valuation", &asked(Mode::Verify)).await?;
    let written = fleet.job_succeeds(verify, PATIENCE).await?.written;
    ensure!(written.missing + written.different + written.older == 0, "{written:?}");
    ensure!(
        mismatches::mismatches(&fleet.pool, verify, None, 1_000)
            .await?
            .is_empty(),
        "mismatches"
    );
    eprintln!("{removed} missing, {damaged} different, {aged} older of {rows} rows, found and repaired");
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn isolated_rows_go_beside_the_live_table_one_set_for_each_job() -> Result<()> {
    let mut fleet = filled("modes-isolated").await?;
    let config = mysql::Config {
        url: fleet.isolation.mysql_url().into(),
        ..mysql::Config::default()
    };
    let database = Database::new(&config, Clock::system())?;
    let shipped = catalog::load(&fleet.catalog_path())?;
    let made = isolated::make_tables(database.pool(), &shipped).await?;
    ensure!(made.iter().all(|(_, made)| *made == isolated::Made::Now), "{made:?}");
    let again = isolated::make_tables(database.pool(), &shipped).await?;
    ensure!(
        again.iter().all(|(_, made)| *made == isolated::Made::Before),
        "{again:?}"
    );

    let live = dump_table(&fleet.pool, TABLE).await?;
    change(&fleet, "UPDATE t_fund_valuation SET unit_nav = 0").await?;
    let changed = dump_table(&fleet.pool, TABLE).await?;
    for _ in 0..2 {
        let job = fleet.replay("fund_valuation", &asked(Mode::Isolated)).await?;
        let written = fleet.job_succeeds(job, PATIENCE).await?.written;
        ensure!(written.inserted == live.lines().count() as u64, "{written:?}");
        let differing: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM t_fund_valuation_replay r JOIN t_fund_valuation t USING (fund_code, nav_date) \
             WHERE r.replay_job_id = ? AND r.source_position = t.source_position AND r.source_time = t.source_time \
             AND r.unit_nav <> 0",
        )
        .bind(job.to_string())
        .fetch_one(&fleet.pool)
        .await?;
        ensure!(
            differing.unsigned_abs() == written.inserted,
            "{differing} of {written:?}"
        );
    }
    ensure!(
        dump_table(&fleet.pool, TABLE).await? == changed,
        "an ISOLATED job wrote into the live table"
    );
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn overwrite_replaces_also_what_is_newer_and_live_does_not() -> Result<()> {
    let mut fleet = filled("modes-overwrite").await?;
    let rows = dump_table(&fleet.pool, TABLE).await?.lines().count() as u64;
    change(
        &fleet,
        "UPDATE t_fund_valuation SET source_time = '2099-01-01', unit_nav = 0",
    )
    .await?;
    let frozen = dump_table(&fleet.pool, TABLE).await?;
    let live = fleet.replay("fund_valuation", &asked(Mode::Live)).await?;
    let written = fleet.job_succeeds(live, PATIENCE).await?.written;
    ensure!(
        written.inserted + written.updated == 0 && written.stale > 0,
        "{written:?}"
    );
    ensure!(
        dump_table(&fleet.pool, TABLE).await? == frozen,
        "a newer row was replaced"
    );

    let overwrite = fleet.replay("fund_valuation", &asked(Mode::Overwrite)).await?;
    let written = fleet.job_succeeds(overwrite, PATIENCE).await?.written;
    ensure!(
        written.inserted == 0 && written.updated >= rows && written.stale == 0,
        "{written:?}"
    );
    let left: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM t_fund_valuation WHERE source_time > '2098-01-01' OR unit_nav = 0")
            .fetch_one(&fleet.pool)
            .await?;
    ensure!(left == 0, "{left} of {rows} rows were not replaced");
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn clean_first_deletes_what_the_records_left_and_nothing_else() -> Result<()> {
    let mut fleet = filled("modes-clean").await?;
    let good = dump_table(&fleet.pool, TABLE).await?;
    let rows = good.lines().count() as u64;
    // What live traffic wrote since: rows of other positions, one of them under a key of the slice.
    change(
        &fleet,
        "UPDATE t_fund_valuation SET source_position = x'00000003000000000FFFFFFF00000000', \
         source_time = '2098-01-01' ORDER BY fund_code, nav_date LIMIT 3",
    )
    .await?;
    change(&fleet, "UPDATE t_fund_valuation SET unit_nav = 0").await?;
    change(
        &fleet,
        "CREATE INDEX by_source_position ON t_fund_valuation (source_position)",
    )
    .await?;
    let clean = Asked {
        clean_first: true,
        slice: 500,
        ..Asked::default()
    };
    let job = fleet.replay("fund_valuation", &clean).await?;
    let progress = fleet.job_succeeds(job, PATIENCE).await?;
    let written = progress.written;
    // A slice that writes may come before another one that deletes, so some rows are deleted and written twice.
    ensure!(
        written.deleted >= rows - 3 && written.inserted >= rows - 3,
        "{written:?} of {rows} rows"
    );
    let kept: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM t_fund_valuation WHERE source_time = '2098-01-01' AND unit_nav = 0")
            .fetch_one(&fleet.pool)
            .await?;
    ensure!(kept == 3, "{kept} of 3 rows that live traffic wrote since are left");
    let zero: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM t_fund_valuation WHERE unit_nav = 0")
        .fetch_one(&fleet.pool)
        .await?;
    ensure!(zero == 3, "{zero} rows were not written anew");
    ensure!(
        dump_table(&fleet.pool, TABLE).await?.lines().count() as u64 == rows,
        "other rows than before"
    );
    fleet.stop().await
}
