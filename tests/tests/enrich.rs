//! Lookups on a real MariaDB.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use reprise_shared::catalog::{Catalog, Lookup, LookupIndex};
use reprise_shared::clock::Clock;
use reprise_shared::enrich::{Error, Limits, Lookups, Value};
use reprise_shared::supervise::{OnCancel, OnError, Supervisor};
use sqlx::mysql::MySqlPoolOptions;
use sqlx::{AssertSqlSafe, MySqlPool};
use tokio_util::sync::CancellationToken;

const FUND_CODE: LookupIndex = LookupIndex(0);

/// A database of its own, with one lookup over it.
struct Fixture {
    pool: MySqlPool,
    database: String,
    clock: Clock,
    supervisor: Supervisor,
    lookups: Lookups,
}

impl Fixture {
    async fn new() -> Self {
        Self::with(|_| {}, Limits::default()).await
    }

    async fn with(adjust: impl FnOnce(&mut Lookup), limits: Limits) -> Self {
        let server = reprise_tests::env::mysql_server().expect("MYSQL_URL names the server");
        let database = format!("enrich_{}", uuid::Uuid::now_v7().simple());
        let root = MySqlPool::connect(&server).await.expect("the server answers");
        execute(&root, &format!("CREATE DATABASE {database}")).await;
        let url = format!("{}/{database}", server.trim_end_matches('/'));
        let pool = MySqlPoolOptions::new()
            .max_connections(4)
            .connect(&url)
            .await
            .expect("the database answers");
        create_table(&pool).await;
        let mut lookup = Lookup {
            name: "fund_code".to_owned(),
            table: "t_fund_basic_info".to_owned(),
            key: "performance_id".to_owned(),
            value: "fund_code".to_owned(),
            search: Vec::new(),
            ttl: Duration::from_secs(3_600),
            refresh_after: Duration::from_secs(2_700),
            negative_ttl: Duration::from_secs(30),
            capacity: 100_000,
            preload: true,
        };
        adjust(&mut lookup);
        let catalog = Catalog {
            lookups: vec![lookup],
            topics: Vec::new(),
            data_types: Vec::new(),
            hash: String::new(),
        };
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let supervisor = Supervisor::new(CancellationToken::new());
        let lookups = Lookups::new(&catalog, pool.clone(), clock.clone(), supervisor.clone(), limits);
        Self {
            pool,
            database,
            clock,
            supervisor,
            lookups,
        }
    }

    async fn put(&self, id: &str, code: &str) {
        sqlx::query("REPLACE INTO t_fund_basic_info VALUES (?, ?)")
            .bind(id)
            .bind(code)
            .execute(&self.pool)
            .await
            .expect("a row");
    }

    async fn resolve(&self, keys: &[&str]) -> Result<Vec<Value>, Error> {
        self.lookups.resolve(FUND_CODE, keys).await
    }

    async fn one(&self, key: &str) -> Option<String> {
        self.resolve(&[key]).await.expect("an answer")[0]
            .as_deref()
            .map(str::to_owned)
    }

    async fn close(self) {
        self.supervisor.stop(Duration::from_secs(5)).await;
        execute(&self.pool, &format!("DROP DATABASE {}", self.database)).await;
        self.pool.close().await;
    }
}

async fn execute(pool: &MySqlPool, statement: &str) {
    sqlx::query(AssertSqlSafe(statement.to_owned()))
        .execute(pool)
        .await
        .expect(statement);
}

/// The collation takes no notice of case and of trailing spaces, which lookups must.
async fn create_table(pool: &MySqlPool) {
    execute(
        pool,
        "CREATE TABLE t_fund_basic_info (
            performance_id VARCHAR(64) COLLATE utf8mb4_general_ci NOT NULL PRIMARY KEY,
            fund_code VARCHAR(64) COLLATE utf8mb4_bin NULL)",
    )
    .await;
}

/// How many SELECTs all connections of the pool have executed.
async fn selects(pool: &MySqlPool) -> u64 {
    let mut connections = Vec::new();
    for _ in 0..pool.options().get_max_connections() {
        connections.push(pool.acquire().await.expect("a connection"));
    }
    let mut sum = 0;
    for connection in &mut connections {
        let (_, count): (String, String) = sqlx::query_as("SHOW SESSION STATUS LIKE 'Com_select'")
            .fetch_one(&mut **connection)
            .await
            .expect("a counter");
        sum += count.parse::<u64>().expect("a number");
    }
    sum
}

async fn wait_until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waited = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waited)
        .await
        .unwrap_or_else(|_| panic!("not within 10 s: {what}"));
}

fn texts(values: &[Value]) -> Vec<Option<&str>> {
    values.iter().map(|value| value.as_deref()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_come_in_the_order_of_the_keys_and_are_asked_for_once() {
    let fixture = Fixture::new().await;
    fixture.put("P1", "F1").await;
    fixture.put("P2", "F2").await;
    let before = selects(&fixture.pool).await;

    let values = fixture.resolve(&["P2", "none", "P1", "P2"]).await.expect("an answer");
    assert_eq!(texts(&values), [Some("F2"), None, Some("F1"), Some("F2")]);
    assert_eq!(selects(&fixture.pool).await - before, 1);

    assert_eq!(
        fixture.lookups.peek(FUND_CODE, "P1").expect("cached").as_deref(),
        Some("F1")
    );
    assert_eq!(fixture.lookups.peek(FUND_CODE, "none").expect("cached"), None);
    assert!(fixture.lookups.peek(FUND_CODE, "other").is_none());
    fixture.resolve(&["P1", "P2", "none"]).await.expect("an answer");
    fixture.resolve(&[]).await.expect("an answer");
    assert_eq!(selects(&fixture.pool).await - before, 1);
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_only_the_collation_takes_for_equal_are_other_keys() {
    let fixture = Fixture::new().await;
    fixture.put("Abc", "F1").await;

    let values = fixture.resolve(&["abc", "Abc ", "Abc"]).await.expect("an answer");

    assert_eq!(texts(&values), [None, None, Some("F1")]);
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_miss_is_asked_again_after_its_own_time_and_a_value_after_its_ttl() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.one("P1").await, None);
    fixture.put("P1", "F1").await;

    fixture.clock.advance(Duration::from_secs(29));
    assert_eq!(fixture.one("P1").await, None);
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(fixture.one("P1").await.as_deref(), Some("F1"));

    fixture.put("P1", "F2").await;
    fixture.clock.advance(Duration::from_secs(3_599));
    assert_eq!(fixture.one("P1").await.as_deref(), Some("F1"));
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(fixture.one("P1").await.as_deref(), Some("F2"));
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_callers_that_miss_one_key_send_one_query() {
    let fixture = Fixture::new().await;
    fixture.put("P1", "F1").await;
    let before = selects(&fixture.pool).await;
    let mut lock = fixture.pool.acquire().await.expect("a connection");
    sqlx::query("LOCK TABLES t_fund_basic_info WRITE")
        .execute(&mut *lock)
        .await
        .expect("the table's lock");

    // The first caller goes away while its query waits for the table; nobody else may suffer from that.
    let gone = tokio::time::timeout(Duration::from_millis(50), fixture.resolve(&["P1"])).await;
    assert!(gone.is_err(), "the table is locked");
    let callers = join_all((0..100).map(|_| fixture.resolve(&["P1"])));
    let unlock = async {
        sqlx::query("UNLOCK TABLES")
            .execute(&mut *lock)
            .await
            .expect("the table is free");
        drop(lock);
    };
    let (answers, ()) = tokio::join!(callers, unlock);

    assert!(
        answers
            .into_iter()
            .all(|answer| texts(&answer.expect("an answer")) == [Some("F1")])
    );
    assert_eq!(selects(&fixture.pool).await - before, 1);
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_misses_take_one_query_for_a_thousand() {
    let fixture = Fixture::new().await;
    fixture.put("P2499", "F").await;
    let keys: Vec<String> = (0..2_500).map(|number| format!("P{number}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let before = selects(&fixture.pool).await;

    let values = fixture.resolve(&keys).await.expect("an answer");

    assert_eq!(values.iter().flatten().count(), 1);
    assert_eq!(values[2_499].as_deref(), Some("F"));
    assert_eq!(selects(&fixture.pool).await - before, 3);
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_is_an_error_and_is_not_remembered() {
    let fixture = Fixture::new().await;
    execute(&fixture.pool, "DROP TABLE t_fund_basic_info").await;
    let error = fixture.resolve(&["P1"]).await.expect_err("there is no table");
    assert!(matches!(error, Error::Query { .. }), "{error:?}");
    assert!(fixture.lookups.peek(FUND_CODE, "P1").is_none());

    create_table(&fixture.pool).await;
    fixture.put("P1", "F1").await;
    assert_eq!(fixture.one("P1").await.as_deref(), Some("F1"));
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_table_is_an_error_in_time() {
    let limits = Limits {
        load_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let fixture = Fixture::with(|_| {}, limits).await;
    let mut lock = fixture.pool.acquire().await.expect("a connection");
    sqlx::query("LOCK TABLES t_fund_basic_info WRITE")
        .execute(&mut *lock)
        .await
        .expect("the table's lock");

    let error = fixture.resolve(&["P1"]).await.expect_err("the table is locked");

    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    sqlx::query("UNLOCK TABLES")
        .execute(&mut *lock)
        .await
        .expect("the table is free");
    drop(lock);
    assert_eq!(fixture.one("P1").await, None);
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalidation_drops_values_and_misses() {
    let fixture = Fixture::new().await;
    fixture.put("P1", "F1").await;
    fixture.resolve(&["P1", "P2"]).await.expect("an answer");
    fixture.put("P1", "G1").await;
    fixture.put("P2", "G2").await;

    fixture.lookups.invalidate(FUND_CODE, ["P1", "P2"]);
    assert_eq!(
        texts(&fixture.resolve(&["P1", "P2"]).await.expect("an answer")),
        [Some("G1"), Some("G2")]
    );

    fixture.put("P1", "H1").await;
    fixture.lookups.invalidate_all(FUND_CODE);
    assert_eq!(fixture.one("P1").await.as_deref(), Some("H1"));
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalidation_wins_over_a_load_that_began_before_it() {
    let fixture = Fixture::new().await;
    fixture.put("P1", "F1").await;
    let mut lock = fixture.pool.acquire().await.expect("a connection");
    sqlx::query("LOCK TABLES t_fund_basic_info WRITE")
        .execute(&mut *lock)
        .await
        .expect("the table's lock");
    let keys = ["P1"];
    let mut load = Box::pin(fixture.resolve(&keys));
    let begun = tokio::time::timeout(Duration::from_millis(100), &mut load).await;
    assert!(begun.is_err(), "the table is locked");

    fixture.lookups.invalidate(FUND_CODE, ["P1"]);
    sqlx::query("UNLOCK TABLES")
        .execute(&mut *lock)
        .await
        .expect("the table is free");
    drop(lock);

    assert_eq!(texts(&load.await.expect("an answer")), [Some("F1")]);
    assert!(
        fixture.lookups.peek(FUND_CODE, "P1").is_none(),
        "what the load brought is not cached"
    );
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_is_due_is_served_and_loaded_anew_in_the_background() {
    let fixture = Fixture::new().await;
    let shutdown = fixture.supervisor.shutdown_token();
    let lookups = fixture.lookups.clone();
    fixture
        .supervisor
        .spawn("refresh", OnError::ShutDown, OnCancel::Wait, async move {
            lookups.run(shutdown).await;
            Ok::<_, std::convert::Infallible>(())
        });
    let keys: Vec<String> = (0..500).map(|number| format!("P{number}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for key in &keys {
        fixture.put(key, "old").await;
    }
    fixture.resolve(&keys).await.expect("an answer");
    execute(&fixture.pool, "UPDATE t_fund_basic_info SET fund_code = 'new'").await;
    let before = selects(&fixture.pool).await;

    fixture.clock.advance(Duration::from_secs(2_700));
    assert!(
        fixture
            .resolve(&keys)
            .await
            .expect("an answer")
            .iter()
            .all(|value| value.as_deref() == Some("old"))
    );
    let all_new = async || {
        keys.iter()
            .all(|key| fixture.lookups.peek(FUND_CODE, key).flatten().as_deref() == Some("new"))
    };
    wait_until("all values are new", all_new).await;

    let queries = selects(&fixture.pool).await - before;
    assert!(queries <= 2, "{queries} queries for 500 keys that were due at once");
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preload_reads_the_table_by_pages_and_then_nothing_is_asked() {
    let fixture = Fixture::new().await;
    execute(
        &fixture.pool,
        "INSERT INTO t_fund_basic_info SELECT CONCAT('P', seq), CONCAT('F', seq) FROM seq_0_to_9999",
    )
    .await;
    let before = selects(&fixture.pool).await;

    assert_eq!(fixture.lookups.preload().await.expect("an answer"), 10_000);

    // Two full pages, and the one that finds the end.
    assert_eq!(selects(&fixture.pool).await - before, 3);
    let keys: Vec<String> = (0..10_000).map(|number| format!("P{number}")).collect();
    for (number, key) in keys.iter().enumerate() {
        let value = fixture.lookups.peek(FUND_CODE, key).expect("cached");
        assert_eq!(value, Some(Arc::from(format!("F{number}"))));
    }
    assert_eq!(selects(&fixture.pool).await - before, 3);
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preload_stops_at_the_capacity() {
    let limits = Limits {
        preload_page: 400,
        ..Limits::default()
    };
    let fixture = Fixture::with(|lookup| lookup.capacity = 1_000, limits).await;
    execute(
        &fixture.pool,
        "INSERT INTO t_fund_basic_info SELECT CONCAT('P', seq), 'F' FROM seq_0_to_4999",
    )
    .await;

    assert_eq!(fixture.lookups.preload().await.expect("an answer"), 1_000);
    fixture.close().await;
}
