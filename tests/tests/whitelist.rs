//! The whitelist on a real Redis (I7): no lost notice, cut connection, emptied or restored server lets a worker
//! miss a change or take "nothing known" for "everything goes through".

use std::time::Duration;

use anyhow::Result;
use reprise_shared::catalog::TypeIndex;
use reprise_shared::clock::Clock;
use reprise_shared::redis::Redis;
use reprise_shared::whitelist::{
    Answer, Change, ChangeId, Config, Content, Edit, Expect, Handle, Head, Keys, Scope, Status, Version, Watcher,
    Writer,
};
use reprise_tests::env::Servers;
use reprise_tests::servers::Server as _;
use reprise_tests::wait::wait_for;
use reprise_tests::whitelist::ONE_POLL;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

#[path = "support/redis.rs"]
mod support;
use support::{OwnServer, command, open};

const BASIC: TypeIndex = TypeIndex(0);
const RISK: TypeIndex = TypeIndex(1);

struct Worker {
    handle: Handle,
    task: JoinHandle<()>,
    _stop: DropGuard,
}

#[expect(clippy::disallowed_methods, reason = "a test's watcher ends with the test")]
fn watch(redis: &Redis) -> Worker {
    let names = vec!["fund_basic".to_owned(), "fund_risk".to_owned()];
    let (watcher, handle) = Watcher::new(redis.clone(), names, Config::default(), Clock::system());
    let stop = CancellationToken::new();
    let task = tokio::spawn(watcher.run(stop.clone()));
    Worker {
        handle,
        task,
        _stop: stop.drop_guard(),
    }
}

/// Starts a server of this test's own that holds version `version`, the id `a`, and a worker that follows it.
async fn followed(version: u64) -> Result<(OwnServer, Redis, Writer, Worker)> {
    let server = Servers::own().redis().await?;
    let redis = open(server.endpoint());
    let writer = writer(&redis);
    writer.initialise(&content(version, ["a"])).await?;
    let worker = watch(&redis);
    worker.reaches(version, ONE_POLL).await;
    Ok((server, redis, writer, worker))
}

impl Worker {
    fn allows(&self, data_type: TypeIndex, id: &str) -> bool {
        self.handle
            .current()
            .expect("a known whitelist")
            .allows(data_type, id.as_bytes())
    }

    /// Waits until the worker holds a version, and returns how long that took.
    async fn reaches(&self, version: u64, limit: Duration) -> Duration {
        let begun = Instant::now();
        let never = CancellationToken::new();
        let wanted = self
            .handle
            .wait_until(&never, |state| state.applied >= Some(Version(version)));
        assert!(
            timeout(limit, wanted).await.is_ok(),
            "version {version} not within {limit:?}: {:?}",
            self.handle.state()
        );
        begun.elapsed()
    }

    async fn shows(&self, status: Status, limit: Duration) {
        let what = format!("{status:?}");
        let shown = wait_for(&what, limit, async || {
            let now = self.handle.status();
            if now == status { Ok(()) } else { Err(format!("{now:?}")) }
        });
        shown.await.expect("the status is shown in time");
    }
}

fn head(version: u64) -> Head {
    Head {
        version: Version(version),
        change_id: ChangeId::new(format!("change-{version}")),
    }
}

fn content<'a>(version: u64, ids: impl IntoIterator<Item = &'a str>) -> Content {
    let mut content = Content::new(head(version));
    content.global.extend(ids.into_iter().map(str::to_owned));
    content
}

fn add(version: u64, scope: Scope, ids: &[&str]) -> Change {
    let added = ids.iter().map(ToString::to_string).collect();
    Change {
        id: head(version).change_id,
        scope,
        edit: Edit::Update { added, removed: vec![] },
    }
}

fn writer(redis: &Redis) -> Writer {
    Writer::new(redis.clone(), Writer::DEFAULT_MAX_NOTICE_IDS)
}

async fn apply(writer: &Writer, version: u64, change: &Change) -> Result<Answer> {
    Ok(writer.apply(change, Version(version - 1), Version(version)).await?)
}

#[tokio::test]
async fn a_change_is_conditional_on_the_version_and_the_same_again_is_harmless() -> Result<()> {
    let server = Servers::own().redis().await?;
    let redis = open(server.endpoint());
    let writer = writer(&redis);
    let change = add(2, Scope::Global, &["b"]);
    assert_eq!(apply(&writer, 2, &change).await?, Answer::Unknown);
    assert!(matches!(
        writer.initialise(&content(1, ["a"])).await?,
        Answer::Applied {
            version: Version(1),
            ..
        }
    ));
    assert_eq!(
        writer.initialise(&content(7, [])).await?,
        Answer::Conflict { current: Version(1) }
    );
    for _ in 0..2 {
        assert!(matches!(
            apply(&writer, 2, &change).await?,
            Answer::Applied {
                version: Version(2),
                ..
            }
        ));
    }
    let late = add(99, Scope::Global, &["late"]);
    assert_eq!(
        apply(&writer, 2, &late).await?,
        Answer::Conflict { current: Version(2) }
    );
    assert!(
        writer.apply(&late, Version(2), Version(2)).await.is_err(),
        "a version never stays or goes back"
    );

    let risk = Scope::Type("fund_risk".to_owned());
    apply(&writer, 3, &add(3, risk.clone(), &["r", "s"])).await?;
    let mut expected = content(3, ["a", "b"]);
    expected.list_mut(risk.clone()).extend(["r".to_owned(), "s".to_owned()]);
    assert_eq!(writer.content().await?, Some(expected));

    let removed = Edit::Update {
        added: vec![],
        removed: vec!["r".to_owned(), "s".to_owned()],
    };
    apply(
        &writer,
        4,
        &Change {
            id: head(4).change_id,
            scope: risk,
            edit: removed,
        },
    )
    .await?;
    assert_eq!(
        writer.content().await?,
        Some(content(4, ["a", "b"])),
        "an emptied list is no list"
    );
    Ok(())
}

#[tokio::test]
async fn a_key_of_the_wrong_kind_refuses_a_change_before_anything_is_written() -> Result<()> {
    let server = Servers::own().redis().await?;
    let redis = open(server.endpoint());
    let writer = writer(&redis);
    writer.initialise(&content(1, ["a"])).await?;
    let keys = Keys::new(redis.prefix());
    command(&server, &["SET", &keys.list(&Scope::Type("fund_risk".to_owned())), "x"]).await?;
    let refused = apply(&writer, 2, &add(2, Scope::Type("fund_risk".to_owned()), &["r"])).await;
    assert!(refused.is_err());
    assert_eq!(writer.head().await?, Some(head(1)));
    Ok(())
}

#[tokio::test]
async fn a_hundred_thousand_ids_go_in_one_change_and_reach_a_worker() -> Result<()> {
    let server = Servers::own().redis().await?;
    let redis = open(server.endpoint());
    let writer = writer(&redis);
    writer.initialise(&content(1, [])).await?;
    let worker = watch(&redis);
    worker.reaches(1, ONE_POLL).await;
    assert!(
        worker.allows(BASIC, "anything"),
        "a list that is known to be empty lets everything through"
    );
    let ids: Vec<_> = (0..100_000).map(|number| format!("0P{number:08}")).collect();
    let change = Change {
        id: head(2).change_id,
        scope: Scope::Global,
        edit: Edit::Replace(ids),
    };
    apply(&writer, 2, &change).await?;
    println!("100,000 ids held after {:?}", worker.reaches(2, ONE_POLL).await);
    assert!(worker.allows(BASIC, "0P00099999") && !worker.allows(BASIC, "0P00100000"));
    assert_eq!(worker.handle.current().expect("known").len(), 100_000);
    Ok(())
}

#[tokio::test]
async fn a_burst_of_a_thousand_changes_ends_in_the_same_set_everywhere() -> Result<()> {
    let server = Servers::own().redis().await?;
    let redis = open(server.endpoint());
    let writer = writer(&redis);
    writer.initialise(&content(1, ["seed"])).await?;
    let workers = [watch(&redis), watch(&redis)];
    for worker in &workers {
        worker.reaches(1, ONE_POLL).await;
    }
    for version in 2..=1_001 {
        let id = format!("id-{}", version % 300);
        let scope = if version % 7 == 0 {
            Scope::Type("fund_risk".to_owned())
        } else {
            Scope::Global
        };
        let (added, removed) = if version % 3 == 0 {
            (vec![], vec![id])
        } else {
            (vec![id], vec![])
        };
        apply(
            &writer,
            version,
            &Change {
                id: head(version).change_id,
                scope,
                edit: Edit::Update { added, removed },
            },
        )
        .await?;
    }
    let truth = writer.content().await?.expect("known");
    for worker in &workers {
        println!(
            "1,000 changes: the last one held after {:?}",
            worker.reaches(1_001, ONE_POLL).await
        );
        let held = worker.handle.current().expect("known");
        assert_eq!(held.len(), truth.global.len() + truth.types["fund_risk"].len());
        assert!(truth.global.iter().all(|id| held.allows(BASIC, id.as_bytes())));
        assert!(
            truth.types["fund_risk"]
                .iter()
                .all(|id| held.allows(RISK, id.as_bytes()))
        );
    }
    Ok(())
}

#[tokio::test]
async fn i7_with_every_notice_lost_a_change_is_held_within_one_poll() -> Result<()> {
    let (server, _, writer, worker) = followed(1).await?;
    // The writer's own publishing is forbidden, so nobody is told; the subscription itself stays up.
    command(&server, &["ACL", "SETUSER", "default", "-publish"]).await?;
    for version in 2..=3 {
        let answer = apply(&writer, version, &add(version, Scope::Global, &["b"])).await?;
        assert_eq!(
            answer,
            Answer::Applied {
                version: Version(version),
                notified: None
            }
        );
        println!(
            "held without a notice after {:?}",
            worker.reaches(version, ONE_POLL).await
        );
    }
    assert!(worker.allows(BASIC, "b"));
    Ok(())
}

#[tokio::test]
async fn i7_without_any_subscription_the_poll_goes_on() -> Result<()> {
    let server = Servers::own().redis().await?;
    command(&server, &["ACL", "SETUSER", "default", "-subscribe"]).await?;
    let redis = open(server.endpoint());
    let writer = writer(&redis);
    writer.initialise(&content(1, ["a"])).await?;
    let worker = watch(&redis);
    worker.reaches(1, ONE_POLL).await;
    apply(&writer, 2, &add(2, Scope::Global, &["b"])).await?;
    worker.reaches(2, ONE_POLL).await;
    Ok(())
}

#[tokio::test]
async fn i7_cut_subscriptions_are_opened_again_and_no_message_ends_the_watcher() -> Result<()> {
    let (server, redis, writer, worker) = followed(1).await?;
    let channel = Keys::new(redis.prefix()).changes();
    for version in 2..=12 {
        command(&server, &["CLIENT", "KILL", "TYPE", "pubsub"]).await?;
        apply(
            &writer,
            version,
            &add(version, Scope::Global, &[&format!("id-{version}")]),
        )
        .await?;
        for nonsense in [
            "",
            "{",
            r#"{"version":-1}"#,
            r#"{"version":9999,"change_id":"x","scope":"?","added":[]}"#,
        ] {
            command(&server, &["PUBLISH", &channel, nonsense]).await?;
        }
        worker.reaches(version, ONE_POLL).await;
    }
    assert!(!worker.task.is_finished());
    assert!((2..=12).all(|version| worker.allows(BASIC, &format!("id-{version}"))));
    Ok(())
}

#[tokio::test]
async fn i7_an_emptied_redis_is_never_read_as_everything_goes_through() -> Result<()> {
    let (mut server, redis, writer, worker) = followed(5).await?;

    command(&server, &["FLUSHALL"]).await?;
    worker.shows(Status::Unknown, ONE_POLL).await;
    assert!(worker.allows(BASIC, "a") && !worker.allows(BASIC, "b"));
    let newcomer = watch(&redis);
    newcomer.shows(Status::Unknown, ONE_POLL).await;
    assert!(newcomer.handle.current().is_none(), "nothing known, nothing judged");

    server.kill()?;
    worker.shows(Status::Unreachable, ONE_POLL).await;
    assert!(!worker.allows(BASIC, "b") && worker.handle.age() > Some(Duration::ZERO));
    server.start_again().await?;
    worker.shows(Status::Unknown, ONE_POLL).await;

    let healed = content(6, ["a", "b"]);
    assert!(matches!(
        writer.replace(&healed, Expect::MissingOr(Version(5))).await?,
        Answer::Applied { .. }
    ));
    for worker in [&worker, &newcomer] {
        worker.reaches(6, ONE_POLL).await;
        assert!(worker.allows(BASIC, "b") && !worker.allows(BASIC, "c"));
        assert_eq!(worker.handle.status(), Status::Ok);
    }
    Ok(())
}

#[tokio::test]
async fn i7_a_redis_that_stops_answering_is_noticed_and_followed_again_when_it_is_back() -> Result<()> {
    let (mut server, _, writer, worker) = followed(1).await?;
    server.pause()?;
    worker.shows(Status::Unreachable, Duration::from_secs(20)).await;
    assert!(worker.allows(BASIC, "a") && !worker.allows(BASIC, "b"));
    server.resume()?;
    apply(&writer, 2, &add(2, Scope::Global, &["b"])).await?;
    println!(
        "held after the server was back for {:?}",
        worker.reaches(2, ONE_POLL).await
    );
    worker.shows(Status::Ok, ONE_POLL).await;
    Ok(())
}

#[tokio::test]
async fn i7_a_restored_older_copy_is_ignored_until_it_is_healed() -> Result<()> {
    let (server, _, writer, worker) = followed(5).await?;

    command(&server, &["FLUSHALL"]).await?;
    writer.initialise(&content(3, ["old"])).await?;
    worker.shows(Status::Regressed, ONE_POLL).await;
    assert!(worker.allows(BASIC, "a") && !worker.allows(BASIC, "old"));
    assert_eq!(worker.handle.applied_version(), Some(Version(5)));

    assert!(matches!(
        writer.replace(&content(6, ["a"]), Expect::Version(Version(3))).await?,
        Answer::Applied {
            version: Version(6),
            ..
        }
    ));
    worker.reaches(6, ONE_POLL).await;

    // The same version once more, but of another change: what the store holds is taken.
    command(&server, &["FLUSHALL"]).await?;
    let mut other = content(6, ["other"]);
    other.head.change_id = ChangeId::new("another-change");
    writer.initialise(&other).await?;
    wait_for("the store's content", ONE_POLL, async || {
        worker.allows(BASIC, "other").then_some(())
    })
    .await?;
    Ok(())
}
