//! The whitelist under faults: Redis emptied, restored, ahead, refusing, frozen; processes that die between two steps;
//! several replicas at work. MySQL and Redis must end as one, and no worker may ever let everything through.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reprise_control_plane::audit;
use reprise_control_plane::whitelist::{
    Action, Config, Convergence, Error, Outcome, Reconciler, Record, Repair, Request, Scope, State, Store, Version,
};
use reprise_shared::clock::Clock;
use reprise_shared::heartbeat::{self, Heartbeat, Role};
use reprise_shared::whitelist::{Answer, Change, ChangeId, Content, Edit, Head, Status};
use reprise_tests::servers::Server as _;
use reprise_tests::wait::wait_for;
use reprise_tests::whitelist::{ONE_POLL, Watching, World, caller, of_type, start, with_request_id};
use sqlx::Connection as _;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

#[path = "support/held.rs"]
mod support;
use support::{Held, held};

fn add(ids: &[&str]) -> Request {
    Request::new(Action::Add, Scope::Global, ids.iter().copied())
}

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(ToString::to_string).collect()
}

/// A replica that gives a change 3 s; one call to Redis takes at most 2 s of them.
fn hurried(world: &World) -> Result<Store> {
    world.replica_with(Config {
        change_deadline: Duration::from_secs(3),
        ..Config::default()
    })
}

async fn make(store: &Store, request: Request) -> Result<Outcome> {
    Ok(store.change(&caller("ann"), request).await?)
}

fn beside(store: &Store, request: Request) -> tokio::task::JoinHandle<Result<Outcome, Error>> {
    let store = store.clone();
    start(async move { store.change(&caller("ann"), request).await })
}

/// Watches over a worker: does it ever let an id through that was never on a list?
struct Guard {
    watching: Arc<Watching>,
    was_open: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Guard {
    fn over(world: &World) -> Self {
        let watching = Arc::new(world.watch());
        let was_open = Arc::new(AtomicBool::new(false));
        let (looked_at, seen) = (Arc::clone(&watching), Arc::clone(&was_open));
        let task = start(async move {
            loop {
                if looked_at.allows("fund_basic", "nobody") {
                    seen.store(true, Ordering::Relaxed);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        Self {
            watching,
            was_open,
            task,
        }
    }

    fn check(&self) {
        assert!(!self.was_open.load(Ordering::Relaxed), "everything was let through");
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn only_record(store: &Store, state: State) -> Result<Record> {
    let records = store.versions(None, 100).await?.records;
    let mut found = records.into_iter().filter(|record| record.state == state);
    match (found.next(), found.next()) {
        (Some(record), None) => Ok(record),
        other => bail!("not one change is {state:?}: {other:?}"),
    }
}

/// What an older copy held, put in place past the store.
async fn restore(world: &World, version: u64, ids: &[&str]) -> Result<()> {
    world.command(&["FLUSHALL"]).await?;
    let mut content = Content::new(Head {
        version: Version(version),
        change_id: ChangeId::new(format!("restored-{version}")),
    });
    content.global.extend(ids.iter().map(ToString::to_string));
    world.writer().initialise(&content).await?;
    Ok(())
}

#[tokio::test]
async fn i7_whatever_happens_to_redis_it_heals_above_every_version_and_never_opens() -> Result<()> {
    let mut world = World::start("wl_heal").await?;
    let store = world.replica()?;
    make(&store, add(&["a", "b"])).await?;
    make(&store, Request::new(Action::Add, of_type("fund_risk"), ["r"])).await?;
    let guard = Guard::over(&world);
    guard.watching.reaches(Version(2)).await?;
    let lists = world.same().await?.1;
    let mut highest = Version(2);
    for fault in [
        "flushed",
        "no head",
        "older",
        "ahead",
        "another of the same version",
        "restarted",
        "opened",
        "one list lost",
        "one id lost",
    ] {
        match fault {
            "flushed" => drop(world.command(&["FLUSHALL"]).await?),
            "no head" => drop(world.command(&["DEL", &world.keys().head()]).await?),
            "older" => restore(&world, 1, &["a"]).await?,
            "ahead" => restore(&world, highest.0 + 10, &["a", "b", "c"]).await?,
            "another of the same version" => restore(&world, highest.0, &["z"]).await?,
            "opened" => restore(&world, highest.0 - 1, &[]).await?,
            "one list lost" => drop(world.command(&["DEL", &world.keys().list(&Scope::Global)]).await?),
            "one id lost" => drop(
                world
                    .command(&["SREM", &world.keys().list(&Scope::Global), "a"])
                    .await?,
            ),
            _ => {
                world.server.kill()?;
                world.server.start_again().await?;
            }
        }
        let in_redis = world.writer().head().await?.map_or(Version(0), |head| head.version);
        let repairs = store.reconcile().await?.repairs;
        let [Repair::Healed(version)] = repairs[..] else {
            bail!("{fault}: {repairs:?}")
        };
        assert_eq!(version, highest.max(in_redis).next(), "{fault}");
        highest = version;
        assert_eq!(world.same().await?, (version, lists.clone()), "{fault}");
        guard.watching.reaches(version).await.context(fault)?;
        assert!(
            guard.watching.allows("fund_basic", "a") && guard.watching.allows("fund_risk", "r"),
            "{fault}"
        );
        assert!(
            !guard.watching.allows("fund_basic", "z") && !guard.watching.allows("fund_risk", "a"),
            "{fault}"
        );
        assert_eq!(store.reconcile().await?.repairs, [], "{fault}");
    }
    guard.check();

    // A change heals as well, before it is made.
    world.command(&["FLUSHALL"]).await?;
    let made = make(&store, add(&["c"])).await?;
    assert_eq!(made.version, Version(highest.0 + 2));
    assert_eq!(world.same().await?.1[""], set(&["a", "b", "c"]));
    guard.watching.reaches(made.version).await?;
    guard.check();
    Ok(())
}

#[tokio::test]
async fn i7_the_reconciler_heals_by_itself_and_workers_follow_within_one_poll() -> Result<()> {
    let world = World::start("wl_loop").await?;
    let store = world.replica()?;
    make(&store, add(&["a"])).await?;
    let guard = Guard::over(&world);
    guard.watching.reaches(Version(1)).await?;
    let stop = CancellationToken::new();
    let loops: Vec<_> = (0..3)
        .map(|_| Ok(start(Reconciler::new(world.replica()?).run(stop.clone()))))
        .collect::<Result<_>>()?;
    world.command(&["FLUSHALL"]).await?;
    let begun = tokio::time::Instant::now();
    wait_for("redis to be healed", ONE_POLL, async || world.same().await.map(drop)).await?;
    guard.watching.reaches(Version(2)).await?;
    println!("healed and held after {:?}", begun.elapsed());
    assert_eq!(world.same().await?.0, Version(2), "three reconcilers heal once");
    stop.cancel();
    for task in loops {
        timeout(Duration::from_secs(5), task).await??;
    }
    guard.check();
    Ok(())
}

/// Makes Redis refuse a change of the list that is returned.
async fn refuse(world: &mut World, fault: &str) -> Result<Scope> {
    match fault {
        "full" => drop(world.command(&["CONFIG", "SET", "maxmemory", "1"]).await?),
        "read-only" => drop(world.command(&["REPLICAOF", "127.0.0.1", "1"]).await?),
        // The wrong kind of key is on the way of a list of its own.
        "script error" => drop(
            world
                .command(&["SET", &world.keys().list(&of_type("fund_risk")), "1"])
                .await?,
        ),
        "no permission" => drop(world.command(&["ACL", "SETUSER", "default", "-evalsha"]).await?),
        _ => world.server.kill()?,
    }
    Ok(match fault {
        "script error" => of_type("fund_risk"),
        _ => Scope::Global,
    })
}

async fn accept_again(world: &mut World, fault: &str) -> Result<()> {
    match fault {
        "full" => drop(world.command(&["CONFIG", "SET", "maxmemory", "0"]).await?),
        "read-only" => drop(world.command(&["REPLICAOF", "NO", "ONE"]).await?),
        "script error" => drop(
            world
                .command(&["DEL", &world.keys().list(&of_type("fund_risk"))])
                .await?,
        ),
        "no permission" => drop(world.command(&["ACL", "SETUSER", "default", "+evalsha"]).await?),
        _ => world.server.start_again().await?,
    }
    Ok(())
}

/// What Redis holds, as far as it can be asked under this fault.
async fn copy_under(world: &World, fault: &str) -> Result<Option<Held>> {
    if fault == "dead" {
        return Ok(None);
    }
    let all = held(world.server.endpoint(), &world.isolation.key_prefix()).await?;
    assert!(all.contains_key(&world.keys().head()), "{fault}: {all:?}");
    Ok(Some(all))
}

/// Checks that a refused id is let through neither by a worker from before nor by one that reads everything now.
async fn nobody_lets_through(world: &World, fault: &str, watcher: &Watching, id: &str) -> Result<()> {
    let version = world.truth().await?.0;
    let newcomer = world.watch();
    let mut workers = vec![watcher];
    // Reading everything takes a script, too.
    if !matches!(fault, "no permission" | "dead") {
        newcomer.reaches(version).await.context(fault.to_owned())?;
        workers.push(&newcomer);
    }
    for worker in workers {
        assert_eq!(worker.handle.applied_version(), Some(version), "{fault}");
        assert!(worker.allows("fund_basic", "a"), "{fault}");
        let lets_through = ["fund_basic", "fund_risk"].map(|data_type| worker.allows(data_type, id));
        assert_eq!(lets_through, [false; 2], "{fault}");
    }
    Ok(())
}

#[tokio::test]
async fn i8_a_change_that_redis_refuses_is_on_record_as_failed_and_changes_nothing() -> Result<()> {
    let mut world = World::start("wl_refusing").await?;
    let store = world.replica()?;
    make(&store, add(&["a"])).await?;
    let watcher = world.watch();
    watcher.reaches(Version(1)).await?;
    for fault in ["full", "read-only", "script error", "no permission", "dead"] {
        let scope = refuse(&mut world, fault).await?;
        let before = (world.truth().await?, copy_under(&world, fault).await?);
        let id = format!("{fault}'s");
        nobody_lets_through(&world, fault, &watcher, &id).await?;
        let request = with_request_id(Request::new(Action::Add, scope, [&id]), &fault.replace(' ', "-"));
        let error = store.change(&caller("ann"), request.clone()).await.expect_err(fault);
        println!("{fault}: {error}");
        let Error::Failed { change_id, .. } = &error else {
            bail!("{fault}: {error:?}")
        };
        assert!(error.is_certainly_unchanged());
        // Nothing of it is anywhere, before anybody heals anything.
        let after = (world.truth().await?, copy_under(&world, fault).await?);
        assert_eq!(after, before, "{fault}");
        nobody_lets_through(&world, fault, &watcher, &id).await?;
        let record = store.record(change_id).await?.context("on record")?;
        assert_eq!((record.state, record.request_id), (State::Failed, None), "{fault}");
        let event = audit::list(world.database.pool(), &audit::Filter::default(), None, 1)
            .await?
            .remove(0)
            .event;
        assert_eq!(
            (event.outcome, event.request_id.is_some()),
            (audit::Outcome::Failed, true),
            "{fault}"
        );
        accept_again(&mut world, fault).await?;
        // Nothing was changed, so the same request may be made now.
        let made = make(&store, request).await.context(fault)?;
        assert!(!made.repeated && made.ids.added == [id.clone()], "{fault}");
        let (version, lists) = world.same().await?;
        assert!(lists.values().any(|list| list.contains(&id)), "{fault}");
        watcher.reaches(version).await.context(fault)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_heal_that_redis_refuses_for_long_is_tried_again_as_one_change() -> Result<()> {
    let world = World::start("wl_long").await?;
    let store = world.replica()?;
    make(&store, add(&["a"])).await?;
    world.command(&["FLUSHALL"]).await?;
    world.command(&["CONFIG", "SET", "maxmemory", "1"]).await?;
    for _ in 0..5 {
        assert!(matches!(store.reconcile().await, Err(Error::CannotHeal(_))));
    }
    assert_eq!(world.number("SELECT COUNT(*) FROM whitelist_changes").await?, 2);
    world.command(&["CONFIG", "SET", "maxmemory", "0"]).await?;
    assert_eq!(store.reconcile().await?.repairs, [Repair::Healed(Version(2))]);
    assert_eq!(world.same().await?.0, Version(2));
    assert_eq!(
        world
            .number("SELECT COUNT(*) FROM whitelist_changes WHERE state <> 'applied'")
            .await?,
        0
    );
    Ok(())
}

#[tokio::test]
async fn a_lost_answer_is_read_back() -> Result<()> {
    let world = World::start("wl_lost").await?;
    let store = world.replica_with(Config {
        change_deadline: Duration::from_secs(20),
        ..Config::default()
    })?;
    make(&store, add(&["a"])).await?;
    world.hold_writes().await?;
    let mut change = beside(&store, add(&["b"]));
    world.holds_one().await?;
    // Longer than one call may take: its answer is lost, and the change still knows no outcome.
    assert!(timeout(Duration::from_millis(2_500), &mut change).await.is_err());
    world.let_writes().await?;
    let outcome = change.await??;
    assert_eq!((outcome.version, outcome.added), (Version(2), 1));
    assert_eq!(
        world.same().await?,
        (Version(2), [(String::new(), set(&["a", "b"]))].into())
    );
    Ok(())
}

#[tokio::test]
async fn an_unknown_outcome_is_settled_and_told_to_whoever_asks_again() -> Result<()> {
    let mut world = World::start("wl_unknown").await?;
    let (store, other) = (hurried(&world)?, hurried(&world)?);
    make(&store, add(&["a"])).await?;
    let guard = Guard::over(&world);
    guard.watching.reaches(Version(1)).await?;
    let request = with_request_id(add(&["b"]), "lost");
    world.hold_writes().await?;
    let change = beside(&store, request.clone());
    world.holds_one().await?;
    world.server.pause()?;
    let error = change.await?.expect_err("redis is frozen");
    println!("{error}");
    assert!(matches!(error, Error::Unknown { .. }) && !error.is_certainly_unchanged());
    let record = only_record(&store, State::Unknown).await?;
    assert_eq!(world.truth().await?.0, Version(1));

    // While nobody knows, the same request is not made again, and no other one is made at all.
    let again = other
        .change(&caller("ann"), request.clone())
        .await
        .expect_err("still frozen");
    assert!(matches!(again, Error::Unknown { .. }), "{again:?}");
    let third = other
        .change(&caller("ann"), add(&["c"]))
        .await
        .expect_err("still frozen");
    assert!(matches!(third, Error::Failed { .. }), "{third:?}");
    assert!(matches!(store.reconcile().await, Err(Error::CannotHeal(_))));

    world.server.resume()?;
    world.let_writes().await?;
    wait_for("the unknown change to be settled", ONE_POLL, async || {
        other.reconcile().await.map_err(|error| error.to_string())
    })
    .await?;
    let settled = store.record(&record.change_id).await?.context("on record")?;
    let (version, lists) = world.same().await?;
    println!("settled as {:?}, version {version}", settled.state);
    assert_eq!(lists[""].contains("b"), settled.state == State::Applied);
    assert!(!settled.state.is_unfinished());
    let told = make(&other, request).await?;
    assert_eq!(told.repeated, settled.state == State::Applied);
    let (version, lists) = world.same().await?;
    assert_eq!(lists[""], set(&["a", "b"]));
    guard.watching.reaches(version).await?;
    guard.check();
    Ok(())
}

#[tokio::test]
async fn i8_a_crash_between_the_intent_and_redis_fails_the_change_for_good() -> Result<()> {
    let mut world = World::start("wl_crash_intent").await?;
    let (store, other) = (hurried(&world)?, hurried(&world)?);
    make(&store, add(&["a"])).await?;
    let guard = Guard::over(&world);
    guard.watching.reaches(Version(1)).await?;
    world.hold_writes().await?;
    let change = beside(&store, with_request_id(add(&["b"]), "crashed"));
    world.holds_one().await?;
    change.abort();
    // What it held back is gone with the server; its successor is empty.
    world.server.kill()?;
    world.server.start_again().await?;
    let record = only_record(&other, State::Intent).await?;
    let repairs = other.reconcile().await?.repairs;
    assert_eq!(repairs, [Repair::Healed(Version(3))], "2 is the crashed one's");
    assert_eq!(only_record(&other, State::Failed).await?.change_id, record.change_id);
    assert_eq!(world.same().await?, (Version(3), [(String::new(), set(&["a"]))].into()));
    // The call itself, arriving after all.
    let late = Change {
        id: record.change_id.clone(),
        scope: Scope::Global,
        edit: Edit::Update {
            added: vec!["b".to_owned()],
            removed: vec![],
        },
    };
    let answer = world
        .writer()
        .apply(&late, record.base_version, record.version.context("a version")?)
        .await?;
    assert_eq!(answer, Answer::Conflict { current: Version(3) });
    guard.watching.reaches(Version(3)).await?;
    guard.check();
    assert_eq!(
        make(&other, with_request_id(add(&["b"]), "crashed")).await?.version,
        Version(4)
    );
    Ok(())
}

#[tokio::test]
async fn a_crashed_change_that_redis_never_got_is_fenced_off() -> Result<()> {
    let world = World::start("wl_fence").await?;
    let (store, other) = (hurried(&world)?, hurried(&world)?);
    make(&store, add(&["a"])).await?;
    // The process dies with its intent committed; Redis is well, and the call is lost with its connection.
    world.hold_writes().await?;
    let change = beside(&store, add(&["b"]));
    world.holds_one().await?;
    change.abort();
    world
        .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
        .await?;
    world.let_writes().await?;
    let record = only_record(&other, State::Intent).await?;
    assert_eq!(other.reconcile().await?.repairs, [Repair::Healed(Version(3))]);
    let late = Change {
        id: record.change_id.clone(),
        scope: Scope::Global,
        edit: Edit::Update {
            added: vec!["b".to_owned()],
            removed: vec![],
        },
    };
    let answer = world.writer().apply(&late, Version(1), Version(2)).await?;
    assert_eq!(answer, Answer::Conflict { current: Version(3) });
    assert_eq!(world.same().await?, (Version(3), [(String::new(), set(&["a"]))].into()));
    // What a worker would have judged by, had the call arrived before the fence, is known all the same.
    assert_eq!(store.content_at(Version(2)).await?.global, set(&["a", "b"]));
    Ok(())
}

#[tokio::test]
async fn a_crash_between_redis_and_the_commit_is_finished_by_another_replica() -> Result<()> {
    let world = World::start("wl_crash_commit").await?;
    let (store, other) = (world.replica()?, world.replica()?);
    make(&store, add(&["a"])).await?;
    for (round, id) in ["b", "c"].into_iter().enumerate() {
        let made = world.truth().await?.0.next();
        // Another session holds what the change writes last, so Redis has it and MySQL has not.
        let mut blocker = sqlx::MySqlConnection::connect(&world.isolation.mysql_url()).await?;
        let insert = "BEGIN; INSERT INTO whitelist_entries (scope, entry_id, added_by, added_at) VALUES ('', 'b', '', NOW()), ('', 'c', '', NOW()) ON DUPLICATE KEY UPDATE note = note";
        sqlx::raw_sql(insert).execute(&mut blocker).await?;
        let request = Request {
            note: "noted".to_owned(),
            ..with_request_id(add(&[id]), id)
        };
        let change = beside(&store, request.clone());
        wait_for("redis to have the change", ONE_POLL, async || {
            let head = world.writer().head().await.map_err(|error| error.to_string())?;
            head.filter(|head| head.version == made).ok_or("not yet".to_owned())
        })
        .await?;
        change.abort();
        assert!(change.await.is_err(), "it was made before it could crash");
        blocker.close().await?;
        assert_eq!(world.truth().await?.0.next(), made, "MySQL has it before its time");
        if round == 0 {
            let repairs = other.reconcile().await?.repairs;
            assert!(matches!(repairs[..], [Repair::Finished(_)]), "{repairs:?}");
        }
        // Asked again, the outcome is told, and a change that was not yet finished is finished first.
        let told = make(&other, request).await?;
        assert!(
            told.repeated && told.version == made && told.ids.added == [id],
            "{told:?}"
        );
        let (version, lists) = world.same().await?;
        assert!(version == made && lists[""].contains(id));
        let entries = store.entries(&Scope::Global, "", None, 10).await?.entries;
        let entry = entries.iter().find(|entry| entry.id == id).context("an entry")?;
        assert_eq!((entry.added_by.as_str(), entry.note.as_str()), ("ann", "noted"));
        let event = audit::list(world.database.pool(), &audit::Filter::default(), None, 1)
            .await?
            .remove(0)
            .event;
        assert_eq!(
            (event.outcome, event.request_id.as_deref()),
            (audit::Outcome::Done, Some(id))
        );
    }
    Ok(())
}

#[tokio::test]
async fn i7_a_crash_of_the_very_first_change_opens_nothing() -> Result<()> {
    let mut world = World::start("wl_first").await?;
    let store = hurried(&world)?;
    let guard = Guard::over(&world);
    world.hold_writes().await?;
    let change = beside(&store, add(&["a"]));
    world.holds_one().await?;
    change.abort();
    world.server.kill()?;
    world.server.start_again().await?;
    let repairs = store.reconcile().await?.repairs;
    assert!(matches!(repairs[..], [Repair::Failed(_)]), "{repairs:?}");
    assert_eq!(world.writer().head().await?, None);
    let made = make(&store, add(&["b"])).await?;
    assert_eq!(made.version, Version(2));
    guard.watching.reaches(Version(2)).await?;
    assert!(guard.watching.allows("fund_basic", "b"));
    guard.check();
    world.same().await?;
    Ok(())
}

#[tokio::test]
async fn replicas_and_reconcilers_agree_while_redis_is_emptied_and_restored_again_and_again() -> Result<()> {
    let world = World::start("wl_chaos").await?;
    let stop = CancellationToken::new();
    let quick = || {
        world.replica_with(Config {
            reconcile_every: Duration::from_millis(50),
            change_deadline: Duration::from_secs(5),
            ..Config::default()
        })
    };
    let replicas = [quick()?, quick()?];
    make(&replicas[0], add(&["seed"])).await?;
    let guard = Guard::over(&world);
    guard.watching.reaches(Version(1)).await?;
    let loops: Vec<_> = replicas
        .iter()
        .map(|replica| start(Reconciler::new(replica.clone()).run(stop.clone())))
        .collect();
    let lane = |lane: usize, store: Store| async move {
        for number in 0..60 {
            let request = with_request_id(add(&[&format!("{lane}-{number}")]), &format!("{lane}-{number}"));
            loop {
                match store.change(&caller("ann"), request.clone()).await {
                    Ok(_) => break,
                    Err(Error::Failed { .. } | Error::Unknown { .. } | Error::Busy) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    };
    let mut lanes: Vec<_> = (0..4)
        .map(|number| start(lane(number, replicas[number % 2].clone())))
        .collect();
    let mut faults = 0;
    while lanes.iter().any(|lane| !lane.is_finished()) {
        let version = world.truth().await?.0;
        match faults % 3 {
            0 => drop(world.command(&["FLUSHALL"]).await?),
            1 => restore(&world, version.0.saturating_sub(3).max(1), &["older"]).await?,
            // Forgotten behind our back, as a failover does that lost the last write.
            _ => drop(
                world
                    .command(&["HSET", &world.keys().head(), "change_id", "lost"])
                    .await?,
            ),
        }
        faults += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for lane in lanes.drain(..) {
        lane.await??;
    }
    let (version, lists) = wait_for("MySQL and Redis to agree", ONE_POLL, async || world.same().await).await?;
    stop.cancel();
    for task in loops {
        task.await?;
    }
    println!("{faults} faults, 240 changes, version {version}");
    assert_eq!(lists[""].len(), 241);
    guard.watching.reaches(version).await?;
    assert_eq!(guard.watching.handle.status(), Status::Ok);
    assert!(lists[""].iter().all(|id| guard.watching.allows("fund_basic", id)));
    guard.check();
    assert!(replicas[0].status().await?.is_in_sync());
    Ok(())
}

fn heartbeat_of(worker: &str, applied: Option<u64>, oldest_in_flight: Option<u64>) -> Heartbeat {
    let now = Clock::system().now();
    Heartbeat {
        worker: worker.to_owned(),
        role: Role::Ingest,
        host: "host".to_owned(),
        pid: 1,
        started: now,
        sent_at: now,
        catalog_hash: String::new(),
        whitelist: heartbeat::Whitelist {
            status: Status::Ok,
            applied: applied.map(Version),
            oldest_in_flight: oldest_in_flight.map(Version),
            age_ms: Some(3),
        },
        partitions: vec![],
        partitions_left_out: 0,
    }
}

#[tokio::test]
async fn i7_when_both_stores_were_restored_workers_that_are_ahead_are_overtaken() -> Result<()> {
    let world = World::start("wl_floor").await?;
    let store = world.replica()?;
    make(&store, add(&["a"])).await?;
    let heartbeats = heartbeat::Store::new(world.redis.clone(), Duration::from_secs(60));
    heartbeats.send(heartbeat_of("w", Some(500), None)).await?;
    assert_eq!(store.reconcile().await?.repairs, [Repair::Healed(Version(501))]);
    assert_eq!(
        world.same().await?,
        (Version(501), [(String::new(), set(&["a"]))].into())
    );
    assert_eq!(store.reconcile().await?.repairs, []);
    assert_eq!(make(&store, add(&["b"])).await?.version, Version(502));
    Ok(())
}

#[tokio::test]
async fn i7_which_version_each_worker_holds_can_be_asked_and_waited_for() -> Result<()> {
    let world = World::start("wl_converge").await?;
    let store = world.replica()?;
    let version = make(&store, add(&["a"])).await?.version;
    let heartbeats = heartbeat::Store::new(world.redis.clone(), Duration::from_secs(60));
    let short = Duration::from_millis(300);
    assert!(store.convergence(version, &[]).await?.is_drained(), "there is nobody");

    heartbeats.send(heartbeat_of("one", Some(1), None)).await?;
    heartbeats.send(heartbeat_of("two", Some(0), None)).await?;
    let seen = store
        .wait_converged(version, &[], short, Convergence::is_applied)
        .await?;
    assert!(!seen.is_applied());
    assert_eq!(
        seen.laggards().map(|member| member.worker.as_str()).collect::<Vec<_>>(),
        ["two"]
    );

    // The wait ends with the heartbeat that makes it true, and drained is more than applied.
    let waiting = {
        let store = store.clone();
        start(async move {
            store
                .wait_converged(version, &[], Duration::from_secs(30), Convergence::is_applied)
                .await
        })
    };
    heartbeats.send(heartbeat_of("two", Some(1), Some(0))).await?;
    let begun = tokio::time::Instant::now();
    assert!(waiting.await??.is_applied() && begun.elapsed() < Duration::from_secs(5));
    let seen = store
        .wait_converged(version, &[], short, Convergence::is_drained)
        .await?;
    assert!(seen.is_applied() && !seen.is_drained());
    heartbeats.send(heartbeat_of("two", Some(1), Some(1))).await?;
    assert!(store.convergence(version, &[]).await?.is_drained());

    // A member of the group that is not heard of, and one that fell silent, stand in the way.
    let expected = ["three".to_owned()];
    assert!(!store.convergence(version, &expected).await?.is_applied());
    heartbeat::Store::new(world.redis.clone(), Duration::from_millis(1))
        .send(heartbeat_of("four", Some(1), None))
        .await?;
    wait_for("the heartbeat to expire", ONE_POLL, async || {
        let seen = store
            .convergence(version, &[])
            .await
            .map_err(|error| error.to_string())?;
        let laggards: Vec<_> = seen.laggards().map(|member| member.worker.clone()).collect();
        if laggards == ["four"] {
            Ok(())
        } else {
            Err(format!("{laggards:?}"))
        }
    })
    .await?;
    heartbeats.leave("four").await?;
    assert!(store.convergence(version, &[]).await?.is_drained());
    Ok(())
}
