//! The whitelist as callers and workers meet it when Redis is emptied, restored, deaf, refusing, or out of reach, and
//! when two callers want different things under one name.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use reprise_proto::v1::audit_service_client::AuditServiceClient;
use reprise_proto::v1::whitelist_service_client::WhitelistServiceClient;
use reprise_proto::v1::*;
use reprise_shared::redis::{KeyPrefix, Redis, Settings};
use reprise_shared::whitelist::{Keys, Scope, Version, Writer};
use reprise_tests::control::{ControlPlane, PATIENCE, refused};
use reprise_tests::env::{Isolation, Private, Servers};
use reprise_tests::fleet::endpoints_with;
use reprise_tests::kernel::Stopwatch;
use reprise_tests::servers::{self, Server as _};
use reprise_tests::wait::wait_for;
use reprise_tests::whitelist::ONE_POLL;
use sqlx::mysql::{MySqlConnection, MySqlPool};
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Channel;

#[path = "support/held.rs"]
mod held;
#[path = "support/whitelist_stack.rs"]
mod whitelist_stack;
#[path = "support/wire.rs"]
mod wire;

use held::{connect, held};
use whitelist_stack::{Stack, WORKERS, ids};
use wire::{Loss, Wire};

type Client = WhitelistServiceClient<Channel>;

/// An emptied or restored Redis is healed within this time.
const HEALED: Duration = Duration::from_secs(5);

fn add(ids: &[&str]) -> AddWhitelistEntriesRequest {
    AddWhitelistEntriesRequest {
        ids: ids.iter().map(ToString::to_string).collect(),
        ..AddWhitelistEntriesRequest::default()
    }
}

async fn entry_count(client: &Client) -> Result<u64> {
    let answer = client.clone().get_whitelist(GetWhitelistRequest::default()).await?;
    Ok(answer.into_inner().whitelist.context("no whitelist")?.entry_count)
}

/// The changes of all lists, newest first.
async fn changes(client: &Client) -> Result<Vec<WhitelistVersion>> {
    let request = ListWhitelistVersionsRequest::default();
    let answer = client.clone().list_whitelist_versions(request).await?;
    Ok(answer.into_inner().versions)
}

async fn newest_event(channel: Channel) -> Result<AuditEvent> {
    let request = ListAuditEventsRequest::default();
    let events = AuditServiceClient::new(channel).list_audit_events(request).await?;
    events.into_inner().events.into_iter().next().context("no event")
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_a_running_control_plane_heals_an_emptied_and_a_restored_redis_and_nothing_passes_meanwhile() -> Result<()> {
    const LISTED: u32 = 1;
    /// Listed once, and so in the older copy.
    const FORMER: u32 = 11;
    const NEVER: u32 = 21;
    let mut stack = Stack::start("wl-running", &["+@all"]).await?;
    stack.replace([ids(LISTED), ids(FORMER)].concat()).await?;
    let older = stack.dump().await?;
    let mut version = stack.replace(ids(LISTED)).await?;
    stack.holds(version).await?;
    let writer = stack.writer();
    stack.has_just_been_compared().await?;
    for (round, (fault, copy)) in (1_u32..).zip([("emptied", &[][..]), ("restored", &older)]) {
        let watch = Stopwatch::start()?;
        stack.lose_all_but(copy).await?;
        stack.publish(&[LISTED, FORMER, NEVER], round.into()).await?;
        stack.each_filtered(f64::from(2 * round)).await?;
        let head = writer.head().await?;
        let is_newest = head.is_some_and(|head| head.version >= version);
        ensure!(!is_newest, "{fault}: healed before the records were judged");
        // One heal, above all that anybody knew.
        version = version.next();
        stack.holds(version).await?;
        let took = watch.elapsed()?;
        eprintln!("{fault}: healed and held by four workers after {took:?}");
        ensure!(took <= HEALED, "{fault}: healed and held only after {took:?}");
    }
    // What the workers say of themselves is what they do.
    stack.publish(&[LISTED], 3).await?;
    stack.fleet.caught_up(PATIENCE).await?;
    let judged_by = stack.last_judged_by().await?;
    ensure!(
        judged_by == [Some(version); WORKERS as usize],
        "judged by {judged_by:?}, not {version}"
    );
    let rows = stack.rows().await?;
    ensure!(rows == ids(LISTED), "rows of {rows:?}");
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_with_every_notice_lost_a_call_is_applied_by_four_workers_within_one_poll() -> Result<()> {
    let mut stack = Stack::start("wl-unheard", &["+@all", "-publish"]).await?;
    let channel = Keys::new(stack.fleet.redis.prefix()).changes();
    let mut root = connect(stack.redis.endpoint()).await?;
    let mut listener = redis::Client::open(stack.redis.endpoint())?.get_async_pubsub().await?;
    listener.subscribe(&channel).await?;
    for round in 0..2 {
        let watch = Stopwatch::start()?;
        let version = stack.replace(ids(1 + round)).await?;
        stack.holds(version).await?;
        let took = watch.elapsed()?;
        eprintln!("change {round}, without a notice: held by four workers after {took:?}");
        ensure!(took <= ONE_POLL, "held only after {took:?}");
        let mut count = redis::cmd("PUBSUB");
        count.arg("NUMSUB").arg(&channel);
        let (_, subscribed): (String, u32) = count.query_async(&mut root).await?;
        ensure!(
            subscribed == WORKERS + 1,
            "{subscribed} subscribers, not all workers and this test"
        );
    }
    // Nothing came before what this test says itself.
    let mut last = redis::cmd("PUBLISH");
    let _: u32 = last.arg(&channel).arg("the end").query_async(&mut root).await?;
    let heard = listener.on_message().next().await.context("the subscription ended")?;
    let text: String = heard.get_payload()?;
    ensure!(text == "the end", "a notice was not lost: {text}");
    stack.stop().await
}

/// Why Redis takes no change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Full,
    ReadOnly,
    ScriptError,
    Down,
}

impl Fault {
    const ALL: [Self; 4] = [Self::Full, Self::ReadOnly, Self::ScriptError, Self::Down];

    /// The list that is changed. The script fails on a key of the wrong kind, which no other list minds.
    fn data_type(self) -> &'static str {
        if self == Self::ScriptError { "fund_risk" } else { "" }
    }

    /// What the audit event says of it.
    fn reason(self) -> &'static str {
        match self {
            Self::Full => "OOM",
            Self::ReadOnly => "read only replica",
            Self::ScriptError => "wrong kind of value",
            Self::Down => "no connection",
        }
    }

    async fn begin(self, redis: &mut Private<servers::Redis>, keys: &Keys) -> Result<()> {
        let list = keys.list(&Scope::Type(self.data_type().to_owned()));
        match self {
            Self::Full => command(redis, &["CONFIG", "SET", "maxmemory", "1"]).await,
            Self::ReadOnly => command(redis, &["REPLICAOF", "127.0.0.1", "1"]).await,
            Self::ScriptError => command(redis, &["SET", &list, "x"]).await,
            Self::Down => redis.kill(),
        }
    }

    async fn end(self, redis: &mut Private<servers::Redis>, keys: &Keys) -> Result<()> {
        let list = keys.list(&Scope::Type(self.data_type().to_owned()));
        match self {
            Self::Full => command(redis, &["CONFIG", "SET", "maxmemory", "0"]).await,
            Self::ReadOnly => command(redis, &["REPLICAOF", "NO", "ONE"]).await,
            Self::ScriptError => command(redis, &["DEL", &list]).await,
            Self::Down => redis.start_again().await,
        }
    }
}

async fn command(redis: &Private<servers::Redis>, parts: &[&str]) -> Result<()> {
    let mut connection = connect(redis.endpoint()).await?;
    let mut command = redis::cmd(parts[0]);
    let done = command.arg(&parts[1..]).exec_async(&mut connection).await;
    done.with_context(|| parts.join(" "))
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_redis_refuses_a_write_and_nothing_is_changed() -> Result<()> {
    let mut redis = Servers::own().redis().await?;
    let endpoints = endpoints_with(|all| redis.endpoint().clone_into(&mut all.redis)).await?;
    let isolation = Isolation::on("wl-refusing", endpoints).await?;
    let server = ControlPlane::start_on(&isolation, Vec::new()).await?;
    server.ready().await?;
    let mut client = Client::new(server.channel());
    client.add_whitelist_entries(add(&["a"])).await?;
    let keys = Keys::new(&KeyPrefix::new(isolation.key_prefix())?);
    for fault in Fault::ALL {
        let list = GetWhitelistRequest {
            data_type: fault.data_type().to_owned(),
        };
        fault.begin(&mut redis, &keys).await?;
        let copy = async || match fault {
            Fault::Down => Ok(None),
            _ => held(redis.endpoint(), &isolation.key_prefix()).await.map(Some),
        };
        let before = (client.get_whitelist(list.clone()).await?.into_inner(), copy().await?);
        let request = AddWhitelistEntriesRequest {
            data_type: fault.data_type().to_owned(),
            request_id: format!("{fault:?}"),
            ..add(&[&format!("{fault:?}'s")])
        };
        let refusal = client.add_whitelist_entries(request.clone()).await;
        let status = refusal.err().with_context(|| format!("{fault:?}: it was made"))?;
        refused(&status, Code::Unavailable, "STORE_AWAY", "nothing was changed")?;
        let after = (client.get_whitelist(list).await?.into_inner(), copy().await?);
        ensure!(after == before, "{fault:?}: {before:?} became {after:?}");
        let event = newest_event(server.channel()).await?;
        eprintln!("{fault:?}: {}", event.reason);
        ensure!(
            event.outcome() == AuditEventOutcome::Failed
                && event.request_id == request.request_id
                && event.reason.contains(fault.reason()),
            "{fault:?}: {event:?}"
        );

        // Nothing was changed, so the same request may be made now.
        fault.end(&mut redis, &keys).await?;
        let made = client.add_whitelist_entries(request).await?.into_inner();
        ensure!((made.added, made.already_present) == (1, 0), "{fault:?}: {made:?}");
    }
    server.stop().await
}

/// A control plane whose way to Redis is a wire that loses answers, and a list of two ids.
struct Remote {
    wire: Wire,
    server: ControlPlane,
    client: Client,
    /// Past the wire.
    writer: Writer,
    _isolation: Isolation,
}

impl Remote {
    async fn start(name: &str) -> Result<Self> {
        let isolation = Isolation::new(name).await?;
        let address = isolation.redis_url().trim_start_matches("redis://");
        let wire = Wire::to(address.trim_end_matches('/')).await?;
        let settings = vec![
            ("redis.url", format!("redis://{}", wire.address())),
            ("whitelist.change_deadline", "3s".to_owned()),
        ];
        let server = ControlPlane::start_on(&isolation, settings).await?;
        server.ready().await?;
        let mut client = Client::new(server.channel());
        // Two of them, so that Redis knows both scripts by now.
        for id in ["a", "b"] {
            client.add_whitelist_entries(add(&[id])).await?;
        }
        let redis = Redis::open(Settings {
            prefix: KeyPrefix::new(isolation.key_prefix())?,
            ..Settings::new(isolation.redis_url())
        })?;
        Ok(Self {
            wire,
            server,
            client,
            writer: Writer::new(redis, Writer::DEFAULT_MAX_NOTICE_IDS),
            _isolation: isolation,
        })
    }

    /// Checks that Redis holds these ids as a version.
    async fn copy_is(&self, version: u64, ids: &[&str]) -> Result<()> {
        let copy = self.writer.content().await?.context("Redis holds nothing")?;
        let is_it = copy.head.version == Version(version) && copy.global.iter().eq(ids);
        ensure!(is_it, "Redis holds {copy:?}, not version {version} of {ids:?}");
        Ok(())
    }

    /// The versions and outcomes on record, newest first.
    async fn outcomes(&self) -> Result<Vec<(u64, WhitelistChangeOutcome)>> {
        let changes = changes(&self.client).await?;
        Ok(changes
            .iter()
            .map(|change| (change.version, change.outcome()))
            .collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_a_change_whose_answer_was_lost_on_the_way_is_read_back_and_made_once() -> Result<()> {
    use WhitelistChangeOutcome::Applied;
    let mut remote = Remote::start("wl-cut").await?;
    remote.wire.lose(Loss::OneAnswer, "cut off");
    let added = remote
        .client
        .add_whitelist_entries(add(&["cut off"]))
        .await?
        .into_inner();
    ensure!(remote.wire.lost() == 1, "{} answers were lost", remote.wire.lost());
    ensure!((added.added, added.already_present) == (1, 0), "{added:?}");
    remote.copy_is(3, &["a", "b", "cut off"]).await?;
    let outcomes = remote.outcomes().await?;
    ensure!(outcomes == [(3, Applied), (2, Applied), (1, Applied)], "{outcomes:?}");
    ensure!(entry_count(&remote.client).await? == 3);
    let event = newest_event(remote.server.channel()).await?;
    ensure!(event.outcome() == AuditEventOutcome::Done, "{event:?}");
    remote.server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_a_change_whose_answer_never_comes_is_unknown_and_is_settled_as_redis_has_it() -> Result<()> {
    use WhitelistChangeOutcome::{Applied, Unknown};
    let mut remote = Remote::start("wl-silence").await?;
    let request = AddWhitelistEntriesRequest {
        request_id: "unheard".to_owned(),
        ..add(&["unanswered"])
    };
    remote.wire.lose(Loss::AllAnswers, "unanswered");
    let status = remote.client.add_whitelist_entries(request.clone()).await;
    let status = status.err().context("an answer came")?;
    refused(&status, Code::Unavailable, "OUTCOME_UNKNOWN", "the same request_id")?;
    // Redis made it, and nobody knows.
    ensure!(remote.wire.lost() > 0, "no answer was lost");
    remote.copy_is(3, &["a", "b", "unanswered"]).await?;
    ensure!(entry_count(&remote.client).await? == 2, "it was written down unseen");
    let outcomes = remote.outcomes().await?;
    ensure!(outcomes == [(3, Unknown), (2, Applied), (1, Applied)], "{outcomes:?}");
    let event = newest_event(remote.server.channel()).await?;
    ensure!(
        event.outcome() == AuditEventOutcome::Unknown && event.request_id == "unheard",
        "{event:?}"
    );

    remote.wire.mend();
    wait_for("the change to be settled", PATIENCE, async || {
        let outcomes = remote.outcomes().await?;
        ensure!(outcomes == [(3, Applied), (2, Applied), (1, Applied)], "{outcomes:?}");
        Ok(())
    })
    .await?;
    remote.copy_is(3, &["a", "b", "unanswered"]).await?;
    let event = newest_event(remote.server.channel()).await?;
    ensure!(
        event.outcome() == AuditEventOutcome::Done && event.request_id == "unheard",
        "{event:?}"
    );
    let told = remote.client.add_whitelist_entries(request).await?.into_inner();
    let version = told.whitelist.as_ref().map(|list| list.version);
    ensure!((told.added, version) == (1, Some(3)), "{told:?}");
    ensure!(entry_count(&remote.client).await? == 3);
    remote.server.stop().await
}

/// Waits until so many of a database's transactions wait for a lock.
async fn wait_for_lock(pool: &MySqlPool, database: &str, count: i64) -> Result<()> {
    let query = "SELECT COUNT(*) FROM information_schema.INNODB_TRX JOIN information_schema.PROCESSLIST \
                 ON id = trx_mysql_thread_id WHERE trx_state = 'LOCK WAIT' AND db = ?";
    wait_for("calls to wait for the lock", PATIENCE, async || {
        let waiting: i64 = sqlx::query_scalar(query).bind(database).fetch_one(pool).await?;
        ensure!(waiting == count, "{waiting} wait, not {count}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_of_two_payloads_that_race_under_one_request_id_at_two_replicas_exactly_one_is_made() -> Result<()> {
    let isolation = Isolation::new("wl-race").await?;
    let replicas = [
        ControlPlane::start_on(&isolation, Vec::new()).await?,
        ControlPlane::start_on(&isolation, Vec::new()).await?,
    ];
    for replica in &replicas {
        replica.ready().await?;
    }
    let clients = [0, 1].map(|number: usize| Client::new(replicas[number].channel()));
    let pool = MySqlPool::connect(&isolation.mysql_url()).await?;
    let mut holder = MySqlConnection::connect(&isolation.mysql_url()).await?;
    let lock = "BEGIN; SELECT version FROM whitelist_head WHERE id = 1 FOR UPDATE";
    for round in 0..4_u64 {
        let request = |number: usize| AddWhitelistEntriesRequest {
            request_id: format!("round-{round}"),
            ..add(&[&format!("{round}-of-{number}")])
        };
        // Both have found nothing under their request id when they come to wait for the lock, in either order.
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut holder).await?;
        let mut calls = JoinSet::new();
        for (waiting, number) in (1..).zip(if round % 2 == 0 { [0, 1] } else { [1, 0] }) {
            let (mut client, request) = (clients[number].clone(), request(number));
            calls.spawn(async move { (number, client.add_whitelist_entries(request).await) });
            wait_for_lock(&pool, &isolation.database(), waiting).await?;
        }
        sqlx::raw_sql("COMMIT").execute(&mut holder).await?;
        let (mut won, mut lost) = (Vec::new(), Vec::new());
        while let Some(call) = calls.join_next().await {
            match call? {
                (number, Ok(answer)) => won.push((number, answer.into_inner())),
                (number, Err(status)) => lost.push((number, status)),
            }
        }
        let ([(winner, answer)], [(loser, status)]) = (&won[..], &lost[..]) else {
            anyhow::bail!("round {round}: not one of each: {won:?}, {lost:?}");
        };
        refused(status, Code::InvalidArgument, "REQUEST_ID_REUSED", "use a new one")?;
        let version = answer.whitelist.as_ref().map(|list| list.version);
        ensure!((answer.added, version) == (1, Some(round + 1)), "{answer:?}");
        // Whichever replica is asked says the same from now on.
        let again = clients[*loser].clone().add_whitelist_entries(request(*winner)).await?;
        ensure!(again.into_inner() == *answer, "{answer:?}");
        let again = clients[*winner].clone().add_whitelist_entries(request(*loser)).await;
        let status = again.err().context("the other payload was made as well")?;
        refused(&status, Code::InvalidArgument, "REQUEST_ID_REUSED", "use a new one")?;
        ensure!(entry_count(&clients[0]).await? == round + 1, "round {round}");
    }
    ensure!(changes(&clients[0]).await?.len() == 4, "a change was made twice");
    pool.close().await;
    for replica in replicas {
        replica.stop().await?;
    }
    Ok(())
}
