//! The migration as the chart runs it: a process of the real program, and several of them at once.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reprise_shared::clock::Clock;
use reprise_shared::mysql::{self, Database};
use reprise_tests::cluster::binary;
use reprise_tests::env::Isolation;
use reprise_tests::wait::blocking;
use sqlx::migrate::Migrator;
use sqlx::mysql::MySqlPool;

const PROCESSES: usize = 4;

fn pool(isolation: &Isolation) -> Result<MySqlPool> {
    let config = mysql::Config {
        url: isolation.mysql_url().into(),
        max_connections: 2,
        ..mysql::Config::default()
    };
    Ok(Database::new(&config, Clock::system())?.pool().clone())
}

/// Runs so many migrations at once and returns what each wrote; all have to succeed.
async fn migrate(isolation: &Isolation, processes: usize) -> Result<Vec<String>> {
    let program = binary("reprise-control-plane")?;
    let catalog = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/catalog.yaml");
    let url = isolation.mysql_url();
    blocking("migrate", Duration::from_secs(60), move || {
        let mut running = Vec::new();
        for _ in 0..processes {
            let mut command = Command::new(&program);
            command.args(["migrate", "--demo-tables", "--set", &format!("catalog={catalog}")]);
            command.env("REPRISE_MYSQL__URL", &url);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            running.push(command.spawn().context("start a migration")?);
        }
        let mut told = Vec::new();
        for process in running {
            let output = process.wait_with_output().context("wait for a migration")?;
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            ensure!(output.status.success(), "a migration failed: {said}");
            told.push(said);
        }
        Ok(told)
    })
    .await
}

/// Everything that the schema is: tables, columns, indexes, and which migrations are on record.
async fn schema(pool: &MySqlPool) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for question in [
        "SELECT CAST(CONCAT_WS(' ', 'table', table_name, engine, table_collation) AS BINARY) FROM information_schema.tables \
         WHERE table_schema = DATABASE() ORDER BY 1",
        "SELECT CAST(CONCAT_WS(' ', 'column', table_name, ordinal_position, column_name, column_type, is_nullable, \
         column_default, extra, collation_name) AS BINARY) FROM information_schema.columns \
         WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position",
        "SELECT CAST(CONCAT_WS(' ', 'index', table_name, index_name, seq_in_index, column_name, non_unique) AS BINARY) \
         FROM information_schema.statistics WHERE table_schema = DATABASE() ORDER BY 1",
        "SELECT CAST(CONCAT_WS(' ', 'migration', version, description, success, HEX(checksum)) AS BINARY) FROM _sqlx_migrations \
         ORDER BY version",
        "SELECT CAST(CONCAT_WS(' ', 'demo', version, description, success, HEX(checksum)) AS BINARY) FROM _sqlx_demo_migrations \
         ORDER BY version",
    ] {
        let rows: Vec<Vec<u8>> = sqlx::query_scalar(question).fetch_all(pool).await.context(question)?;
        lines.extend(rows.iter().map(|row| String::from_utf8_lossy(row).into_owned()));
    }
    Ok(lines)
}

/// The schema as one process alone makes it.
async fn made_by_one() -> Result<Vec<String>> {
    let isolation = Isolation::new("migration-one").await?;
    migrate(&isolation, 1).await?;
    let made = schema(&pool(&isolation)?).await?;
    ensure!(
        made.iter().any(|line| line.contains("t_fund_valuation_replay")),
        "{made:#?}"
    );
    Ok(made)
}

fn compare(found: &[String], right: &[String]) -> Result<()> {
    let missing: Vec<&String> = right.iter().filter(|line| !found.contains(line)).collect();
    let more: Vec<&String> = found.iter().filter(|line| !right.contains(line)).collect();
    ensure!(found == right, "the schema lacks {missing:#?} and has {more:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn four_processes_at_once_make_the_schema_that_one_makes() -> Result<()> {
    let right = made_by_one().await?;
    let isolation = Isolation::new("migration-four").await?;
    let told = migrate(&isolation, PROCESSES).await?;
    compare(&schema(&pool(&isolation)?).await?, &right)?;
    let made = |told: &str| told.matches("made a table for isolated rows").count();
    let all: usize = told.iter().map(|one| made(one)).sum();
    ensure!(all == 3, "three tables were made {all} times:\n{}", told.join("\n"));
    // Once more, over what is there.
    migrate(&isolation, PROCESSES).await?;
    compare(&schema(&pool(&isolation)?).await?, &right)
}

#[tokio::test(flavor = "multi_thread")]
async fn four_processes_at_once_bring_every_older_schema_to_this_version() -> Result<()> {
    let right = made_by_one().await?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/migrations");
    let all = Migrator::new(folder.as_path()).await.context("read the migrations")?;
    let versions: Vec<i64> = all.iter().map(|migration| migration.version).collect();
    for older in &versions[..versions.len() - 1] {
        let isolation = Isolation::new("migration-older").await?;
        let pool = pool(&isolation)?;
        // What a former version of the program had embedded.
        let until = all.iter().filter(|migration| migration.version <= *older).cloned();
        let mut former = Migrator::with_migrations(until.collect());
        former.set_locking(false);
        former.run(&pool).await?;
        let refused = mysql::check_schema(&pool).await;
        ensure!(
            refused.is_err(),
            "a schema at version {older} is not older than this program"
        );
        migrate(&isolation, PROCESSES).await?;
        mysql::check_schema(&pool).await?;
        compare(&schema(&pool).await?, &right).with_context(|| format!("from version {older}"))?;
    }
    Ok(())
}
