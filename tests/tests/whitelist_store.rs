//! The whitelist's store: what requests do, and what is on record afterwards, in MySQL, Redis and a worker.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::{join_all, try_join_all};
use reprise_control_plane::audit;
use reprise_control_plane::whitelist::{
    Action, Config, Effect, Error, Kind, Outcome, Request, Scope, State, Store, Version,
};
use reprise_shared::clock::Clock;
use reprise_shared::whitelist::{Change, ChangeId, Edit, Handle};
use reprise_tests::wait::wait_for;
use reprise_tests::whitelist::{Lists, World, caller, lists_of, of_type, with_request_id};
use tokio_util::sync::CancellationToken;

fn add(ids: &[&str]) -> Request {
    Request::new(Action::Add, Scope::Global, ids.iter().copied())
}

fn remove(ids: &[&str]) -> Request {
    Request::new(Action::Remove, Scope::Global, ids.iter().copied())
}

fn replace(ids: &[&str]) -> Request {
    Request::new(Action::Replace, Scope::Global, ids.iter().copied())
}

fn numbered(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| format!("0P{number:08}")).collect()
}

fn counts(outcome: &Outcome) -> (u64, u64, u64, u64) {
    (
        outcome.added,
        outcome.already_present,
        outcome.removed,
        outcome.not_present,
    )
}

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn adding_and_removing_are_idempotent_and_tell_what_happened() -> Result<()> {
    let world = World::start("wl_idempotent").await?;
    let (store, who) = (world.replica()?, caller("ann"));
    let first = store.change(&who, add(&["a", "b", "b"])).await?;
    assert_eq!(
        (first.version, counts(&first), first.entries),
        (Version(1), (2, 0, 0, 0), 2)
    );
    let second = store.change(&who, add(&["b", "c"])).await?;
    assert_eq!(
        (second.version, counts(&second), second.entries),
        (Version(2), (1, 1, 0, 0), 3)
    );
    assert_eq!(
        (&second.ids.added[..], &second.ids.already_present[..]),
        (&["c".to_owned()][..], &["b".to_owned()][..])
    );
    let nothing = store.change(&who, add(&["a"])).await?;
    assert_eq!(
        (nothing.version, nothing.made_version, counts(&nothing)),
        (Version(2), false, (0, 1, 0, 0))
    );
    let removed = store.change(&who, remove(&["a", "x"])).await?;
    assert_eq!((removed.version, counts(&removed)), (Version(3), (0, 0, 1, 1)));
    let replaced = store.change(&who, replace(&["c", "d"])).await?;
    assert_eq!((replaced.version, counts(&replaced)), (Version(4), (1, 1, 1, 0)));

    // A type's own list replaces the global one, until it is emptied on request.
    let risk = of_type("fund_risk");
    store
        .change(&who, Request::new(Action::Add, risk.clone(), ["r"]))
        .await?;
    let watcher = world.watch();
    watcher.reaches(Version(5)).await?;
    assert!(watcher.allows("fund_risk", "r") && !watcher.allows("fund_risk", "c"));
    assert!(watcher.allows("fund_basic", "c") && !watcher.allows("fund_basic", "r"));
    let check = store
        .check(Some("fund_risk"), &["r".to_owned(), "c".to_owned()])
        .await?;
    assert_eq!((check.decided_by, check.version), (risk.clone(), Version(5)));
    assert_eq!(
        check.verdicts.iter().map(|verdict| verdict.allowed).collect::<Vec<_>>(),
        [true, false]
    );
    let mut empty = Request::new(Action::Remove, risk.clone(), ["r"]);
    assert!(matches!(
        store.change(&who, empty.clone()).await,
        Err(Error::WouldBeUnrestricted { .. })
    ));
    empty.allow_unrestricted = true;
    store.change(&who, empty).await?;
    watcher.reaches(Version(6)).await?;
    assert!(watcher.allows("fund_risk", "c"));
    assert_eq!(
        store.check(Some("fund_risk"), &["c".to_owned()]).await?.decided_by,
        Scope::Global
    );
    let (version, lists) = world.same().await?;
    assert_eq!((version, &lists[""], lists.len()), (Version(6), &set(&["c", "d"]), 1));
    let list = store.list(&Scope::Global).await?;
    assert_eq!((list.entries, list.version, list.etag), (2, Version(4), Version(6)));
    Ok(())
}

#[tokio::test]
async fn i8_an_invalid_call_is_told_all_its_faults_and_changes_nothing() -> Result<()> {
    let world = World::start("wl_invalid").await?;
    let (store, who) = (world.replica()?, caller("ann"));
    // Without any version, the list of a type alone would open the global one.
    let risk = Request::new(Action::Add, of_type("fund_risk"), ["r"]);
    let before = world.dump().await?;
    let refused = store.change(&who, risk).await;
    assert!(matches!(refused, Err(Error::WouldBeUnrestricted { .. })), "{refused:?}");
    assert_eq!(world.dump().await?, before);

    store.change(&who, add(&["a"])).await?;
    let before = world.dump().await?;
    let past = Request {
        expires_at: Some(Clock::system().now()),
        ..add(&["c"])
    };
    for (request, fields) in [
        (add(&["ok", "", "x\u{0}", " y"]), &["ids[1]", "ids[2]", "ids[3]"][..]),
        (add(&[]), &["ids"]),
        (past, &["expire_time"]),
        (Request::new(Action::Add, of_type("no_type"), ["c"]), &["data_type"]),
    ] {
        let Err(Error::Invalid(violations)) = store.change(&who, request).await else {
            panic!("{fields:?} were accepted")
        };
        let found: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(found, fields, "{violations:?}");
    }
    assert_eq!(world.dump().await?, before);
    Ok(())
}

#[tokio::test]
async fn i8_a_refused_call_changes_nothing() -> Result<()> {
    let world = World::start("wl_refused").await?;
    let config = Config {
        max_entries: 5,
        ..Config::default()
    };
    let (store, who) = (world.replica_with(config)?, caller("ann"));
    store.change(&who, with_request_id(add(&["a", "b"]), "first")).await?;
    let before = world.dump().await?;
    let rehearsed = |request| Request {
        validate_only: true,
        ..request
    };
    let for_version = |version, request| Request {
        etag: Some(Version(version)),
        ..request
    };
    for (request, reason) in [
        (remove(&["a", "b"]), "WHITELIST_WOULD_BE_UNRESTRICTED"),
        (replace(&[]), "WHITELIST_WOULD_BE_UNRESTRICTED"),
        (for_version(7, add(&["c"])), "WHITELIST_CHANGED"),
        (with_request_id(add(&["c"]), "first"), "REQUEST_ID_REUSED"),
        (add(&["c", "d", "e", "f"]), "WHITELIST_TOO_LARGE"),
        (rehearsed(remove(&["a", "b"])), "WHITELIST_WOULD_BE_UNRESTRICTED"),
        (rehearsed(for_version(9, add(&["c"]))), "WHITELIST_CHANGED"),
    ] {
        let error = store.change(&who, request.clone()).await.expect_err(reason);
        println!("{}: {error}", error.reason());
        assert!(
            error.reason() == reason && error.is_certainly_unchanged(),
            "{request:?}: {error:?}"
        );
    }
    let outcome = store.change(&who, rehearsed(add(&["a", "c"]))).await?;
    assert_eq!((&outcome.change_id, counts(&outcome)), (&None, (1, 1, 0, 0)));
    assert_eq!(world.dump().await?, before);
    Ok(())
}

#[tokio::test]
async fn i8_an_accepted_change_is_on_record() -> Result<()> {
    let world = World::start("wl_record").await?;
    let store = world.replica()?;
    let noted = Request {
        note: "since the merger".to_owned(),
        ..with_request_id(add(&["a", "b"]), "r-1")
    };
    let made = store.change(&caller("ann"), noted).await?;
    store.change(&caller("bob"), remove(&["a"])).await?;

    let events = audit::list(world.database.pool(), &audit::Filter::default(), None, 10).await?;
    let [second, first] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(
        (first.event.principal.as_str(), first.event.request_id.as_deref()),
        ("ann", Some("r-1"))
    );
    assert_eq!(
        (first.event.target.as_str(), first.event.outcome),
        ("whitelist/global", audit::Outcome::Done)
    );
    assert_eq!(
        (&first.event.before["entries"], &first.event.after["entries"]),
        (&0.into(), &2.into())
    );
    assert_eq!(first.event.after["note"], "since the merger");
    assert_eq!(
        (&second.event.before["entries"], &second.event.after["entries"]),
        (&2.into(), &1.into())
    );
    assert_eq!(
        (&second.event.after["version"], second.event.principal.as_str()),
        (&2.into(), "bob")
    );

    let page = store.entries(&Scope::Global, "", None, 10).await?;
    let [entry] = &page.entries[..] else { panic!("{page:?}") };
    assert_eq!(
        (entry.id.as_str(), entry.added_by.as_str(), entry.note.as_str()),
        ("b", "ann", "since the merger")
    );
    let age = Clock::system().now().duration_since(entry.added_at);
    assert!(age.as_secs().abs() < 60, "{age:?}");

    let versions = store.versions(None, 10).await?.records;
    assert_eq!(
        versions.iter().map(|record| record.kind).collect::<Vec<_>>(),
        [Kind::Remove, Kind::Add]
    );
    assert!(
        versions
            .iter()
            .all(|record| record.state == State::Applied && record.finished_at.is_some())
    );
    assert_eq!(
        store
            .ids_of(made.change_id.as_ref().context("made")?, Effect::Added)
            .await?,
        ["a", "b"]
    );

    // Another note is no other version, and on record all the same.
    let renoted = Request {
        note: "for ever".to_owned(),
        ..add(&["b"])
    };
    let outcome = store.change(&caller("cid"), renoted).await?;
    assert_eq!((outcome.made_version, outcome.version), (false, Version(2)));
    let entry = store.entries(&Scope::Global, "", None, 10).await?.entries.remove(0);
    assert_eq!((entry.added_by.as_str(), entry.note.as_str()), ("ann", "for ever"));
    let event = audit::list(world.database.pool(), &audit::Filter::default(), None, 1)
        .await?
        .remove(0)
        .event;
    assert_eq!(
        (event.principal.as_str(), &event.after["refreshed"]),
        ("cid", &1.into())
    );
    Ok(())
}

#[tokio::test]
async fn the_same_request_id_is_one_change_also_when_two_replicas_get_it_at_once() -> Result<()> {
    let world = World::start("wl_request_id").await?;
    let replicas = [world.replica()?, world.replica()?];
    let who = caller("ann");
    replicas[0].change(&who, add(&["seed"])).await?;
    for round in 0..10_u64 {
        let request = with_request_id(add(&[&format!("id-{round}")]), &format!("round-{round}"));
        let tries = (0..8).map(|number| replicas[number % 2].change(&who, request.clone()));
        let outcomes = try_join_all(tries).await?;
        assert_eq!(outcomes.iter().filter(|outcome| !outcome.repeated).count(), 1);
        for outcome in &outcomes {
            assert_eq!((outcome.version, outcome.added), (Version(round + 2), 1));
        }
        let other = with_request_id(add(&["another"]), &format!("round-{round}"));
        let error = replicas[0].change(&who, other).await.expect_err("reused");
        assert!(matches!(error, Error::RequestIdReused(_)));
    }
    // Another caller's id is another id.
    let same_id = with_request_id(add(&["bob's"]), "round-1");
    assert!(!replicas[1].change(&caller("bob"), same_id).await?.repeated);
    // Long after, and although the list has changed since, the first outcome is told.
    replicas[0].change(&who, remove(&["id-3"])).await?;
    let told = replicas[1]
        .change(&who, with_request_id(add(&["id-3"]), "round-3"))
        .await?;
    assert!(told.repeated && told.version == Version(5) && told.ids.added == ["id-3"]);
    let (version, lists) = world.same().await?;
    assert_eq!((version, lists[""].len()), (Version(13), 11));
    assert_eq!(world.number("SELECT COUNT(*) FROM audit_events").await?, 13);
    Ok(())
}

#[tokio::test]
async fn a_hundred_thousand_ids_are_replaced_in_one_call() -> Result<()> {
    let world = World::start("wl_large").await?;
    let store = world.replica_with(Config::default())?;
    let who = caller("ann");
    let ids = numbered(0..100_000);
    let change = |ids: &[String]| Request::new(Action::Replace, Scope::Global, ids.iter().cloned());
    store.change(&who, add(&["seed"])).await?;
    let watcher = world.watch();
    for (what, ids) in [
        ("100,000 ids onto a list of one", ids.clone()),
        ("100,000 others", numbered(100_000..200_000)),
        ("the same again", numbered(100_000..200_000)),
        ("all but one the same", numbered(100_001..200_001)),
    ] {
        let begun = tokio::time::Instant::now();
        let outcome = store.change(&who, change(&ids)).await?;
        println!("{what}: {:?}, {:?}", begun.elapsed(), counts(&outcome));
        watcher.reaches(outcome.version).await?;
        let (version, lists) = world.same().await?;
        assert_eq!(version, outcome.version);
        assert_eq!(lists[""], ids.iter().cloned().collect());
        let held = watcher.handle.current().context("held")?;
        assert!(held.len() == 100_000 && ids.iter().all(|id| watcher.allows("fund_basic", id)));
    }
    let mut after = None;
    let mut listed = 0;
    loop {
        let page = store.entries(&Scope::Global, "", after.as_deref(), 1_000).await?;
        listed += page.entries.len();
        after = page.next_after;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(listed, 100_000);
    let begun = tokio::time::Instant::now();
    let before = lists_of(store.content_at(Version(2)).await?);
    println!("the content of version 2: {:?}", begun.elapsed());
    assert_eq!(before[""], ids.into_iter().collect());
    let largest = world
        .number("SELECT MAX(LENGTH(ids)) FROM whitelist_change_ids")
        .await?;
    println!("the largest row of a delta: {largest} bytes");
    assert!(largest < 1 << 20);
    Ok(())
}

#[tokio::test]
async fn a_burst_of_a_thousand_changes_by_two_replicas_ends_in_the_same_set_everywhere() -> Result<()> {
    let world = World::start("wl_burst").await?;
    let replicas = [world.replica()?, world.replica()?];
    let who = caller("ann");
    replicas[0].change(&who, add(&["seed"])).await?;
    let watcher = world.watch();
    watcher.reaches(Version(1)).await?;
    let stop = CancellationToken::new();
    let versions = follow(watcher.handle.clone(), stop.clone());
    // Each of the 20 lanes removes now and then what it added before, so that every change has an effect.
    let change = |number: u64| {
        let is_removal = (number / 20) % 3 == 2;
        let (action, id) = if is_removal {
            (Action::Remove, number - 20)
        } else {
            (Action::Add, number)
        };
        let scope = if id.is_multiple_of(7) {
            of_type("fund_risk")
        } else {
            Scope::Global
        };
        let mut request = Request::new(action, scope, [format!("id-{id}")]);
        request.allow_unrestricted = true;
        request
    };
    let begun = tokio::time::Instant::now();
    let burst = async {
        let lane = |lane: u64| {
            let (replica, who) = (&replicas[usize::from(lane % 2 == 1)], &who);
            async move {
                let mut made = Vec::new();
                for number in (lane..1_000).step_by(20) {
                    made.push(replica.change(who, change(number)).await?);
                }
                Ok::<_, Error>(made)
            }
        };
        let outcomes = try_join_all((0..20).map(lane)).await;
        stop.cancel();
        outcomes
    };
    let (outcomes, seen) = tokio::join!(burst, versions);
    let outcomes: Vec<Outcome> = outcomes?.into_iter().flatten().collect();
    let made: BTreeSet<Version> = outcomes
        .iter()
        .filter(|outcome| outcome.made_version)
        .map(|outcome| outcome.version)
        .collect();
    println!(
        "1,000 changes in {:?}, {} versions, {seen} seen by the watcher",
        begun.elapsed(),
        made.len()
    );
    assert_eq!(
        made,
        (2..=1_001).map(Version).collect(),
        "a version is missing or stands twice"
    );
    let (version, lists) = world.same().await?;
    watcher.reaches(version).await?;
    let held = watcher.handle.current().context("held")?;
    assert_eq!(held.len(), lists.values().map(BTreeSet::len).sum::<usize>());
    assert!(lists[""].iter().all(|id| watcher.allows("fund_basic", id)));
    assert!(lists["fund_risk"].iter().all(|id| watcher.allows("fund_risk", id)));

    check_history(&replicas[1], &made, &lists).await
}

/// Counts the versions that a worker holds one after the other, and checks that none goes back.
async fn follow(handle: Handle, stop: CancellationToken) -> u64 {
    let mut last = Version(0);
    let mut seen = 0;
    while let Some(state) = handle.wait_until(&stop, |state| state.applied != Some(last)).await {
        let applied = state.applied.expect("held since before");
        assert!(applied > last, "the version went back from {last} to {applied}");
        last = applied;
        seen += 1;
    }
    seen
}

/// Checks that the history alone tells what every version held.
async fn check_history(store: &Store, made: &BTreeSet<Version>, lists: &Lists) -> Result<()> {
    let mut folded = Lists::new();
    folded.entry(String::new()).or_default().insert("seed".to_owned());
    for version in made {
        let page = store.versions(Some(version.next()), 1).await?;
        let record = page.records.first().context("a record")?;
        let name = match &record.scope {
            Scope::Global => String::new(),
            Scope::Type(name) => name.clone(),
        };
        let list = folded.entry(name).or_default();
        list.extend(store.ids_of(&record.change_id, Effect::Added).await?);
        for id in store.ids_of(&record.change_id, Effect::Removed).await? {
            list.remove(&id);
        }
        if version.0 % 150 == 0 {
            let mut expected = folded.clone();
            expected.retain(|_, list| !list.is_empty());
            let content = lists_of(store.content_at(*version).await?);
            assert_eq!(content, expected, "version {version}");
        }
    }
    assert_eq!(folded, *lists);
    Ok(())
}

async fn store_record(world: &World, version: Version) -> Result<reprise_control_plane::whitelist::Record> {
    let page = world.replica()?.versions(Some(Version(version.0 + 1)), 1).await?;
    page.records.into_iter().next().context("a record")
}

#[tokio::test]
async fn due_entries_are_removed_but_never_the_last_one() -> Result<()> {
    let world = World::start("wl_expiry").await?;
    let (store, who) = (world.replica()?, caller("ann"));
    let until = |ids: &[&str], milliseconds: u64| Request {
        expires_at: Some(Clock::system().now() + Duration::from_millis(milliseconds)),
        ..add(ids)
    };
    store.change(&who, add(&["stays"])).await?;
    store.change(&who, until(&["soon-1", "soon-2"], 700)).await?;
    store.change(&who, until(&["later"], 60_000)).await?;
    // What is prolonged before it is due stays.
    store.change(&who, until(&["soon-2"], 60_000)).await?;
    let watcher = world.watch();
    watcher.reaches(Version(3)).await?;
    let expired = wait_for("the entry to be removed", Duration::from_secs(10), async || {
        let done = store.reconcile().await.map_err(|error| error.to_string())?;
        if done.expired > 0 {
            Ok(done.expired)
        } else {
            Err("nothing is due".to_owned())
        }
    })
    .await?;
    assert_eq!(expired, 1);
    let (version, lists) = world.same().await?;
    assert_eq!(lists[""], set(&["stays", "soon-2", "later"]));
    watcher.reaches(version).await?;
    assert!(!watcher.allows("fund_basic", "soon-1") && watcher.allows("fund_basic", "later"));
    let record = store_record(&world, version).await?;
    assert_eq!(
        (record.kind, record.principal.as_str(), record.removed),
        (Kind::Expire, "system", 1)
    );

    // All of a list is due: the entry that expires last stays, and is shown, until there is another.
    world
        .sql("UPDATE whitelist_entries SET expires_at = '2020-01-01' WHERE entry_id <> 'later'")
        .await?;
    world
        .sql("UPDATE whitelist_entries SET expires_at = '2020-01-02' WHERE entry_id = 'later'")
        .await?;
    assert_eq!(store.reconcile().await?.expired, 2);
    let (version, lists) = world.same().await?;
    assert_eq!(lists[""], set(&["later"]));
    let rows = world.number("SELECT COUNT(*) FROM whitelist_changes").await?;
    for _ in 0..3 {
        assert_eq!(store.reconcile().await?.expired, 0);
    }
    assert_eq!(store.status().await?.overdue, 1);
    assert_eq!(
        world.number("SELECT COUNT(*) FROM whitelist_changes").await?,
        rows,
        "nothing is recorded for nothing"
    );
    watcher.reaches(version).await?;
    assert!(watcher.allows("fund_basic", "later") && !watcher.allows("fund_basic", "anything"));
    store.change(&who, add(&["new"])).await?;
    assert_eq!(store.reconcile().await?.expired, 1);
    assert_eq!(world.same().await?.1[""], set(&["new"]));
    assert_eq!(store.status().await?.overdue, 0);
    Ok(())
}

#[tokio::test]
async fn lists_are_read_in_pages() -> Result<()> {
    let world = World::start("wl_pages").await?;
    let (store, who) = (world.replica()?, caller("ann"));
    assert_eq!(store.list(&Scope::Global).await?.etag, Version(0));
    for number in 0..7 {
        store
            .change(
                &who,
                add(&[&format!("id-{number}"), &format!("Id-{number}"), &format!("é-{number}")]),
            )
            .await?;
    }
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = store.entries(&Scope::Global, "", after.as_deref(), 5).await?;
        assert!(page.entries.len() <= 5);
        ids.extend(page.entries.into_iter().map(|entry| entry.id));
        after = page.next_after;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(ids.len(), 21);
    assert!(ids.is_sorted());
    let (mut versions, mut before) = (Vec::new(), None);
    loop {
        let page = store.versions(before, 3).await?;
        versions.extend(page.records.into_iter().filter_map(|record| record.version));
        before = page.next_before;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(versions, (1..=7).rev().map(Version).collect::<Vec<_>>());
    assert!(matches!(
        store.content_at(Version(8)).await,
        Err(Error::NoSuchVersion(_))
    ));
    let lists = store.lists().await?;
    assert_eq!((lists.len(), lists[0].entries), (1, 21));
    Ok(())
}

#[tokio::test]
async fn concurrent_changes_of_one_etag_are_one_change() -> Result<()> {
    let world = World::start("wl_etag").await?;
    let replicas = [world.replica()?, world.replica()?];
    let who = caller("ann");
    replicas[0].change(&who, add(&["seed"])).await?;
    let tries = (0..10).map(|number| {
        let request = Request {
            etag: Some(Version(1)),
            ..add(&[&format!("id-{number}")])
        };
        let (replica, who) = (&replicas[number % 2], &who);
        async move { replica.change(who, request).await }
    });
    let outcomes = join_all(tries).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(
        outcomes
            .iter()
            .flat_map(|outcome| outcome.as_ref().err())
            .all(|error| matches!(error, Error::EtagMismatch { .. }))
    );
    assert_eq!(world.same().await?.0, Version(2));
    Ok(())
}

#[tokio::test]
async fn what_redis_had_before_there_was_a_history_is_taken_over() -> Result<()> {
    let world = World::start("wl_import").await?;
    let store = world.replica()?;
    // Nothing anywhere: nothing is known, and nothing is written.
    assert_eq!(store.reconcile().await?.repairs, []);
    assert_eq!(world.writer().head().await?, None);

    let writer = world.writer();
    let mut content = reprise_shared::whitelist::Content::new(reprise_shared::whitelist::Head {
        version: Version(41),
        change_id: ChangeId::new("older"),
    });
    content.list_mut(Scope::Global).extend(numbered(0..2_500));
    content.list_mut(of_type("fund_risk")).insert("r".to_owned());
    writer.initialise(&content).await?;
    let change = Change {
        id: ChangeId::new("older-2"),
        scope: Scope::Global,
        edit: Edit::Update {
            added: vec!["more".to_owned()],
            removed: vec![],
        },
    };
    writer.apply(&change, Version(41), Version(42)).await?;
    let watcher = world.watch();
    watcher.reaches(Version(42)).await?;
    let made = store.change(&caller("ann"), add(&["after"])).await?;
    assert_eq!(made.version, Version(44), "43 is the import");
    let (version, lists) = world.same().await?;
    assert_eq!(
        (version, lists[""].len(), &lists["fund_risk"]),
        (Version(44), 2_502, &set(&["r"]))
    );
    watcher.reaches(Version(44)).await?;
    assert!(!watcher.allows("fund_basic", "nobody") && watcher.allows("fund_basic", "more"));
    assert_eq!(lists_of(store.content_at(Version(43)).await?)[""].len(), 2_501);
    Ok(())
}
