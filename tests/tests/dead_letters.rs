//! The dead-letter store and the schema on a real server.

use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use reprise_shared::clock::Clock;
use reprise_shared::dead_letters::{
    Count, NewLetter, Origin, RecordBytes, State, close, count, find_resolvable, get, get_record, headers_json, insert,
};
use reprise_shared::fault::FaultClass;
use reprise_shared::mysql::{
    Config, Connector, Database, MigrationError, check_schema, migrate, migrate_demo, server_identity,
};
use reprise_shared::position::{Offset, Partition, RowNumber, TopicId, TopicName};
use reprise_tests::sink::chunks::catalog;
use reprise_tests::sink::server::TestDatabase;
use sqlx::mysql::MySqlConnection;

struct Source {
    topic_id: TopicId,
    topic: TopicName,
    payload: Vec<u8>,
}

impl Source {
    fn new() -> Self {
        let topic_id = TopicId::new("AAAAAAAAAAAAAAAAAAAAAA");
        Self {
            topic_id,
            topic: TopicName::new("funds"),
            payload: b"{\"a\":\xff}".to_vec(),
        }
    }

    fn letter(&self, offset: u64, row: RowNumber, class: FaultClass) -> NewLetter<'_> {
        NewLetter {
            data_type: "fund",
            row,
            class,
            error: "made by a test",
            missed: (class == FaultClass::LookupMiss).then_some(("code", "P1")),
            job_id: "",
            record: RecordBytes {
                topic_id: &self.topic_id,
                topic: &self.topic,
                partition: Partition(3),
                offset: Offset(offset),
                timestamp: 1_700_000_000_123,
                key: Some(&[0, 1, 255]),
                headers: headers_json([(b"h".as_slice(), Some([0xff].as_slice()))]),
                payload: Some(&self.payload),
                payload_size: self.payload.len(),
            },
        }
    }

    fn origin(&self, offset: u64, row: RowNumber) -> Origin {
        let (data_type, topic_id) = ("fund".to_owned(), self.topic_id.clone());
        Origin {
            data_type,
            topic_id,
            partition: Partition(3),
            offset: Offset(offset),
            row,
        }
    }
}

async fn ready() -> Result<(TestDatabase, MySqlConnection, Source)> {
    let database = TestDatabase::shared().await?;
    let connection = Connector::new(&database.url, TestDatabase::session())?
        .connect()
        .await?;
    Ok((database, connection, Source::new()))
}

fn now() -> Timestamp {
    Clock::system().now()
}

#[tokio::test]
async fn i2_redelivery_counts_attempts_and_keeps_the_latest_error() -> Result<()> {
    let (database, mut connection, source) = ready().await?;
    let first = source.letter(7, RowNumber(2), FaultClass::TooLong);
    let again = NewLetter {
        error: "another",
        class: FaultClass::OutOfRange,
        ..first.clone()
    };
    let sibling = source.letter(7, RowNumber(5), FaultClass::BadTime);
    insert(&mut connection, &[first, sibling], now(), 1 << 20).await?;
    insert(&mut connection, &[again], now(), 1 << 20).await?;
    let letter = get(database.database.pool(), &source.origin(7, RowNumber(2)))
        .await?
        .expect("it is stored");
    assert_eq!(
        (letter.class.as_str(), letter.error.as_str(), letter.attempts),
        ("OUT_OF_RANGE", "another", 2)
    );
    assert_eq!(letter.state, State::Parked);
    let record = get_record(database.database.pool(), &source.topic_id, Partition(3), Offset(7))
        .await?
        .expect("once");
    assert_eq!(record.payload.as_deref(), Some(source.payload.as_slice()));
    assert_eq!((record.key, record.whole), (Some(vec![0, 1, 255]), true));
    assert_eq!(record.time.as_deref(), Some("2023-11-14 22:13:20.123"));
    assert_eq!(record.headers, r#"[{"name":"h","value_hex":"ff"}]"#);
    assert_eq!(database.number("SELECT COUNT(*) FROM dead_letter_records").await?, 1);
    let counts = count(database.database.pool()).await?;
    let parked = |class: &str| Count {
        data_type: "fund".into(),
        class: class.into(),
        state: State::Parked,
        letters: 1,
    };
    assert_eq!(counts, [parked("BAD_TIME"), parked("OUT_OF_RANGE")]);
    Ok(())
}

#[tokio::test]
async fn a_discarded_letter_stays_so_and_a_redriven_one_opens_again() -> Result<()> {
    let (database, mut connection, source) = ready().await?;
    for (offset, state, then) in [
        (1, State::Discarded, State::Discarded),
        (2, State::Redriven, State::Parked),
    ] {
        let letter = source.letter(offset, RowNumber::RECORD, FaultClass::NotJson);
        insert(&mut connection, std::slice::from_ref(&letter), now(), 1 << 20).await?;
        let origin = source.origin(offset, RowNumber::RECORD);
        let stored = get(&mut connection, &origin).await?.expect("it is stored");
        assert_eq!(close(database.database.pool(), &[stored.id], state, now()).await?, 1);
        assert_eq!(
            close(database.database.pool(), &[stored.id], state, now()).await?,
            0,
            "it is closed already"
        );
        insert(&mut connection, &[letter], now(), 1 << 20).await?;
        assert_eq!(get(&mut connection, &origin).await?.expect("it is stored").state, then);
    }
    Ok(())
}

#[tokio::test]
async fn i6_large_payloads_go_in_several_statements_and_a_larger_one_is_cut() -> Result<()> {
    let (database, mut connection, mut source) = ready().await?;
    source.payload = vec![b'x'; 100_000];
    let letters: Vec<_> = (0..20)
        .map(|offset| source.letter(offset, RowNumber(0), FaultClass::TooLong))
        .collect();
    insert(&mut connection, &letters, now(), 250_000).await?;
    let mut cut = source.letter(99, RowNumber(0), FaultClass::RecordTooLarge);
    cut.record.payload_size = 5_000_000;
    insert(&mut connection, &[cut], now(), 50_000).await?;
    assert_eq!(
        database
            .number("SELECT COUNT(*) FROM dead_letter_records WHERE LENGTH(payload) = 100000")
            .await?,
        20
    );
    let record = get_record(&mut connection, &source.topic_id, Partition(3), Offset(99))
        .await?
        .expect("it is stored");
    assert!(!record.whole && record.payload_size == 5_000_000);
    assert!(
        record
            .payload
            .is_some_and(|payload| (40_000..50_000).contains(&payload.len()))
    );
    Ok(())
}

#[tokio::test]
async fn lookup_misses_are_found_when_their_key_exists() -> Result<()> {
    let (database, mut connection, source) = ready().await?;
    database.run("CREATE TABLE t_fund (code VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY, name VARCHAR(20))").await?;
    insert(
        &mut connection,
        &[source.letter(5, RowNumber::RECORD, FaultClass::LookupMiss)],
        now(),
        1 << 20,
    )
    .await?;
    let catalog = catalog(1);
    let pool = database.database.pool();
    assert!(find_resolvable(pool, &catalog.lookups[0], 0, 10).await?.is_empty());
    database
        .run("INSERT INTO t_fund VALUES ('P1', 'one'), ('P2', 'two')")
        .await?;
    let found = find_resolvable(pool, &catalog.lookups[0], 0, 10).await?;
    assert_eq!(
        (found.len(), found[0].offset, found[0].lookup_key.as_str()),
        (1, Offset(5), "P1")
    );
    assert_eq!(close(pool, &[found[0].id], State::Redriven, now()).await?, 1);
    assert!(find_resolvable(pool, &catalog.lookups[0], 0, 10).await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_processes_may_migrate_at_once_and_an_older_schema_is_refused() -> Result<()> {
    let database = TestDatabase::shared().await?;
    for table in database
        .texts("SELECT CONCAT(table_name) FROM information_schema.tables WHERE table_schema = DATABASE()")
        .await?
    {
        database.run(format!("DROP TABLE `{table}`")).await?;
    }
    let refused = check_schema(database.database.pool())
        .await
        .expect_err("nothing is there");
    assert!(
        matches!(&refused, MigrationError::Older { missing } if missing.contains(&1)),
        "{refused}"
    );
    assert!(refused.to_string().contains("migrate"), "{refused}");
    let mut processes = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let config = Config {
            url: database.url.clone(),
            ..Config::default()
        };
        let own = Database::new(&config, Clock::system())?;
        processes.spawn(async move {
            migrate(own.pool()).await?;
            migrate_demo(own.pool()).await
        });
    }
    for outcome in processes.join_all().await {
        outcome?;
    }
    check_schema(database.database.pool()).await?;
    Ok(())
}

#[tokio::test]
async fn named_transactions_are_tried_again_and_leave_nothing_open() -> Result<()> {
    let (database, mut connection, _) = ready().await?;
    database
        .run("CREATE TABLE t (id INT PRIMARY KEY, n INT NOT NULL)")
        .await?;
    let mut tries = 0;
    let tx = database.database.tx("try_twice", |connection| {
        tries += 1;
        let first = tries == 1;
        Box::pin(async move {
            sqlx::query("INSERT INTO t VALUES (1, 1)")
                .execute(&mut *connection)
                .await?;
            let signal = "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213";
            if first {
                sqlx::raw_sql(signal).execute(&mut *connection).await.map(|_| ())
            } else {
                Ok(())
            }
        })
    });
    let done: Result<(), sqlx::Error> = tx.await;
    done?;
    assert_eq!((tries, database.number("SELECT COUNT(*) FROM t").await?), (2, 1));

    // A caller that goes away in the middle leaves no transaction behind, neither open nor to the next user.
    let hung = database.database.tx("hang", |connection| {
        Box::pin(async move {
            sqlx::query("UPDATE t SET n = 2 WHERE id = 1")
                .execute(&mut *connection)
                .await?;
            std::future::pending::<Result<(), sqlx::Error>>().await
        })
    });
    let _ = tokio::time::timeout(Duration::from_millis(200), hung).await;
    let next = database.database.tx("next", |connection| {
        Box::pin(async move {
            sqlx::query("UPDATE t SET n = n + 10 WHERE id = 1")
                .execute(connection)
                .await
                .map(|_| ())
        })
    });
    let done: Result<(), sqlx::Error> = next.await;
    done?;
    assert_eq!(database.number("SELECT n FROM t").await?, 11);
    let first = server_identity(&mut connection).await?;
    assert_eq!(server_identity(&mut connection).await?, first);
    assert!(!first.id.is_empty() && !first.version.is_empty());
    Ok(())
}
