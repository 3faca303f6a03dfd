//! The check of the target tables against a real server: one table per fault, and the shipped tables pass.
//!
//! Needs `MYSQL_URL`, a user who may create databases.

use std::path::Path;

use anyhow::{Context, Result};
use reprise_shared::catalog::tables::{self, Error};
use reprise_shared::catalog::{self, Catalog};
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, MySqlPool};

/// A database that lives as long as its test.
struct Database {
    name: String,
    options: MySqlConnectOptions,
    pool: MySqlPool,
}

impl Database {
    async fn create() -> Result<Self> {
        let url = reprise_tests::env::mysql_server()?;
        let options: MySqlConnectOptions = url.parse()?;
        let name = format!("catalog_tables_{}", uuid::Uuid::now_v7().simple());
        let mut connection = MySqlConnection::connect_with(&options).await?;
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE `{name}` CHARACTER SET utf8mb4")))
            .execute(&mut connection)
            .await?;
        let pool = MySqlPoolOptions::new()
            .max_connections(2)
            .connect_with(options.clone().database(&name))
            .await?;
        Ok(Self { name, options, pool })
    }

    async fn run(&self, sql: &str) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&self.pool)
            .await
            .with_context(|| format!("run {sql}"))?;
        Ok(())
    }

    async fn drop(self) -> Result<()> {
        self.pool.close().await;
        let mut connection = MySqlConnection::connect_with(&self.options).await?;
        sqlx::raw_sql(AssertSqlSafe(format!("DROP DATABASE `{}`", self.name)))
            .execute(&mut connection)
            .await?;
        Ok(())
    }

    /// Checks the tables and returns the faults as they are shown.
    async fn faults(&self, catalog: &Catalog) -> Result<Vec<String>> {
        match tables::check(&self.pool, catalog).await {
            Ok(()) => Ok(Vec::new()),
            Err(Error::Faults(faults)) => Ok(faults.0.iter().map(ToString::to_string).collect()),
            Err(error) => Err(error.into()),
        }
    }
}

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn shipped_catalog() -> Result<Catalog> {
    Ok(catalog::load(&repository().join("config/catalog.yaml"))?)
}

async fn with_shipped_tables() -> Result<Database> {
    let database = Database::create().await?;
    let ddl = std::fs::read_to_string(repository().join("shared/migrations/demo/0001_fund_tables.sql"))?;
    database.run(&ddl).await?;
    Ok(database)
}

#[tokio::test]
async fn the_shipped_tables_fit_the_shipped_catalog() -> Result<()> {
    let database = with_shipped_tables().await?;
    assert_eq!(database.faults(&shipped_catalog()?).await?, [""; 0]);
    database.drop().await
}

#[tokio::test]
async fn tables_that_do_not_exist_are_all_named() -> Result<()> {
    let database = Database::create().await?;
    let faults = database.faults(&shipped_catalog()?).await?;
    let tables: Vec<_> = faults
        .iter()
        .filter_map(|fault| fault.split_once(": does not exist; CREATE TABLE"))
        .collect();
    let names: Vec<_> = tables.iter().map(|(table, _)| *table).collect();
    assert_eq!(names, ["t_ai_risk", "t_fund_basic_info", "t_fund_valuation"]);
    database.drop().await
}

#[tokio::test]
async fn the_statement_that_a_missing_table_comes_with_creates_a_table_that_fits() -> Result<()> {
    let database = with_shipped_tables().await?;
    database.run("DROP TABLE t_fund_basic_info").await?;
    let faults = database.faults(&shipped_catalog()?).await?;
    let (_, statement) = faults[0].split_once("; ").context("a remedy")?;
    database.run(statement).await?;
    assert_eq!(database.faults(&shipped_catalog()?).await?, [""; 0]);
    database.drop().await
}

#[tokio::test]
async fn a_url_without_a_database_is_told_so() -> Result<()> {
    let database = Database::create().await?;
    let pool = MySqlPoolOptions::new()
        .max_connections(1)
        .connect_with(database.options.clone())
        .await?;
    assert!(matches!(
        tables::check(&pool, &shipped_catalog()?).await,
        Err(Error::NoDatabase)
    ));
    pool.close().await;
    database.drop().await
}

/// What is done to the shipped tables, and the beginnings of the faults that follow, all of them.
const FAULTS: &[(&str, &[&str])] = &[
    (
        "ALTER TABLE t_ai_risk DROP COLUMN message",
        &["t_ai_risk.message: does not exist; ALTER TABLE `t_ai_risk` ADD COLUMN"],
    ),
    (
        "ALTER TABLE t_ai_risk DROP PRIMARY KEY, ADD PRIMARY KEY (alert_date, fund_code)",
        &["t_ai_risk: has the primary key (alert_date, fund_code), not (fund_code, alert_date); ALTER TABLE"],
    ),
    (
        "ALTER TABLE t_ai_risk DROP PRIMARY KEY",
        &["t_ai_risk: has no primary key; ALTER TABLE"],
    ),
    (
        "ALTER TABLE t_ai_risk DROP PRIMARY KEY, ADD PRIMARY KEY (fund_code(8), alert_date)",
        &["t_ai_risk: has the primary key (fund_code(8), alert_date), not"],
    ),
    (
        "ALTER TABLE t_fund_valuation ADD UNIQUE INDEX by_nav (unit_nav, nav_date)",
        &["t_fund_valuation: has a second unique index, by_nav (unit_nav, nav_date), by which an upsert"],
    ),
    (
        "ALTER TABLE t_ai_risk DROP COLUMN source_time",
        &["t_ai_risk.source_time: does not exist"],
    ),
    (
        "ALTER TABLE t_ai_risk DROP COLUMN source_position",
        &["t_ai_risk.source_position: does not exist"],
    ),
    (
        "ALTER TABLE t_ai_risk MODIFY source_time DATETIME(3) NULL, MODIFY source_position VARBINARY(16) NULL",
        &[
            "t_ai_risk.source_position: takes NULL",
            "t_ai_risk.source_time: takes NULL",
        ],
    ),
    (
        "ALTER TABLE t_ai_risk MODIFY source_position BINARY(16) NOT NULL",
        &["t_ai_risk.source_position: is binary(16), not VARBINARY(16)"],
    ),
    (
        "ALTER TABLE t_ai_risk MODIFY source_time DATETIME NOT NULL",
        &["t_ai_risk.source_time: is datetime, not DATETIME(3)"],
    ),
    (
        "ALTER TABLE t_ai_risk MODIFY fund_code VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL",
        &["t_ai_risk.fund_code: has the collation utf8mb4_general_ci, in which different keys are equal"],
    ),
    (
        "ALTER TABLE t_ai_risk MODIFY fund_code VARCHAR(15) CHARACTER SET ascii COLLATE ascii_bin NOT NULL",
        &[
            "t_ai_risk.fund_code: is varchar(15), shorter than t_fund_basic_info.fund_code that the lookup fund_code reads",
        ],
    ),
    (
        "ALTER TABLE t_ai_risk MODIFY message VARCHAR(499) NULL",
        &["t_ai_risk.message: is varchar(499), which does not hold string(500)"],
    ),
    (
        "ALTER TABLE t_ai_risk MODIFY message TINYTEXT NULL",
        &["t_ai_risk.message: is tinytext, which does not hold string(500)"],
    ),
    ("ALTER TABLE t_ai_risk MODIFY message TEXT NULL", &[]),
    (
        "ALTER TABLE t_ai_risk MODIFY risk_level INT UNSIGNED NOT NULL",
        &["t_ai_risk.risk_level: is int"],
    ),
    (
        "ALTER TABLE t_ai_risk MODIFY risk_score DECIMAL(10,3) NOT NULL",
        &["t_ai_risk.risk_score: is decimal(10,3), which does not hold decimal(10,4)"],
    ),
    (
        "ALTER TABLE t_ai_risk MODIFY volatility DECIMAL(12,8) NOT NULL",
        &["t_ai_risk.volatility: is NOT NULL, and optional in the catalog"],
    ),
    (
        "ALTER TABLE t_ai_risk ADD COLUMN region VARCHAR(9) NOT NULL",
        &["t_ai_risk.region: is NOT NULL without a default, and nothing writes it"],
    ),
    (
        "ALTER TABLE t_ai_risk ADD COLUMN region VARCHAR(9) NOT NULL DEFAULT 'NULL'",
        &[],
    ),
    (
        "ALTER TABLE t_ai_risk ADD COLUMN written_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)",
        &[],
    ),
    (
        "CREATE TRIGGER risk_audit BEFORE UPDATE ON t_ai_risk FOR EACH ROW SET NEW.message = 'x'",
        &["t_ai_risk: has the trigger risk_audit, which may change rows behind the guard; DROP TRIGGER"],
    ),
    (
        "ALTER TABLE t_ai_risk DROP COLUMN message, ADD COLUMN message VARCHAR(500) AS (CONCAT(risk_level, '')) STORED",
        &["t_ai_risk.message: is computed by the server"],
    ),
    (
        "ALTER TABLE t_ai_risk ENGINE = MyISAM",
        &["t_ai_risk: is stored by MyISAM, which has no transactions"],
    ),
    (
        "RENAME TABLE t_ai_risk TO t_other; CREATE VIEW t_ai_risk AS SELECT * FROM t_other",
        &["t_ai_risk: is a view; name a table of its own"],
    ),
    (
        "ALTER TABLE t_fund_basic_info DROP COLUMN fund_code",
        &["t_fund_basic_info.fund_code: does not exist; ALTER TABLE"],
    ),
    (
        "ALTER TABLE t_fund_basic_info DROP PRIMARY KEY, ADD PRIMARY KEY (performance_id, fund_code)",
        &[
            "t_fund_basic_info: has the primary key (performance_id, fund_code), not (performance_id)",
            "t_fund_basic_info.performance_id: is not unique by itself, so the lookup fund_code may find two values",
        ],
    ),
];

#[tokio::test]
async fn each_fault_of_a_table_is_found_alone() -> Result<()> {
    let catalog = shipped_catalog()?;
    for (change, expected) in FAULTS {
        let database = with_shipped_tables().await?;
        database.run(change).await?;
        let faults = database.faults(&catalog).await?;
        let agree = faults.len() == expected.len()
            && faults
                .iter()
                .zip(*expected)
                .all(|(fault, beginning)| fault.starts_with(beginning));
        assert!(agree, "after {change}: {faults:#?}");
        database.drop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn all_faults_are_found_at_once_and_their_statements_mend_the_table() -> Result<()> {
    let catalog = shipped_catalog()?;
    let database = with_shipped_tables().await?;
    let change = "ALTER TABLE t_ai_risk DROP PRIMARY KEY, ADD PRIMARY KEY (alert_date, fund_code),
        ADD UNIQUE INDEX by_level (risk_level), MODIFY source_position BINARY(16) NULL, MODIFY source_time DATETIME NULL,
        MODIFY risk_level SMALLINT NOT NULL, MODIFY volatility DOUBLE NOT NULL, DROP COLUMN message,
        MODIFY fund_code VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL, ENGINE = MyISAM";
    database.run(change).await?;
    let faults = database.faults(&catalog).await?;
    assert_eq!(faults.len(), 12, "{faults:#?}");
    for fault in &faults {
        let (_, statement) = fault.split_once("; ").context("a remedy")?;
        database.run(statement).await?;
    }
    assert_eq!(database.faults(&catalog).await?, [""; 0]);
    database.drop().await
}

const SHARED: &str = r#"
data_types:
  nav:
    topic: nav
    id: { field: /code }
    table: t_shared
    key: [code]
    version: { field: /time, type: "datetime(3)", zone: UTC, column: nav_time, position_column: nav_place }
    columns:
      code: { field: /code, type: string(16) }
      nav: { field: /nav, type: "decimal(20,8)" }
  rank:
    topic: rank
    id: { field: /code }
    table: t_shared
    key: [code]
    version: { field: /number, type: bigint, column: rank_number, position_column: rank_place }
    columns:
      code: { field: /code, type: string(16) }
      rank: { field: /rank, type: int }
"#;

#[tokio::test]
async fn what_types_share_a_table_may_leave_out_has_a_default() -> Result<()> {
    let catalog = catalog::parse("catalog.yaml", SHARED)?;
    let database = Database::create().await?;
    let faults = database.faults(&catalog).await?;
    let (_, statement) = faults[0].split_once("; ").context("a remedy")?;
    database.run(statement).await?;
    assert_eq!(database.faults(&catalog).await?, [""; 0]);

    let change = "ALTER TABLE t_shared MODIFY nav DECIMAL(20,8) NOT NULL, MODIFY nav_time DATETIME(3) NOT NULL,
        MODIFY nav_place VARBINARY(16) NOT NULL DEFAULT 'x', MODIFY rank_number BIGINT NOT NULL DEFAULT 0,
        MODIFY rank_place VARBINARY(16) NOT NULL, MODIFY `rank` INT NOT NULL DEFAULT 0";
    database.run(change).await?;
    let faults = database.faults(&catalog).await?;
    let beginnings = [
        "t_shared.nav: is NOT NULL without a default, and other data types insert rows without it",
        "t_shared.nav_place: has the default \"x\", which is not the least value",
        "t_shared.nav_time: has no default, and other data types insert rows without it",
        "t_shared.rank_number: has the default \"0\", which is not the least value",
        "t_shared.rank_place: has no default, and other data types insert rows without it",
    ];
    assert_eq!(faults.len(), beginnings.len(), "{faults:#?}");
    for (fault, beginning) in faults.iter().zip(beginnings) {
        assert!(fault.starts_with(beginning), "{fault}");
    }
    for fault in &faults {
        let (_, statement) = fault.split_once("; ").context("a remedy")?;
        database.run(statement).await?;
    }
    assert_eq!(database.faults(&catalog).await?, [""; 0]);
    database.drop().await
}
