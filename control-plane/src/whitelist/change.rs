//! One request under the lock.

use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use reprise_shared::whitelist::{Change, ChangeId, Content, Edit, Expect, Head, Scope};
use sqlx::mysql::MySqlConnection;
use tokio::time::Instant;

use super::error::{Error, Violation};
use super::plan::{plan, removable};
use super::push::{Call, Pushed, push};
use super::record::{Effect, Effects, Kind, Record, State};
use super::request::{Action, Caller, Outcome, Request, RequestDigest};
use super::settle::{Settlement, head_of, intend, next, settle};
use super::store::Shared;
use super::{entries, finish, history};

/// A request on its way. The same work may be tried several times: its change id tells what an earlier try did.
pub(super) struct Work {
    pub(super) change_id: ChangeId,
    pub(super) kind: Kind,
    pub(super) caller: Caller,
    pub(super) request: Request,
    pub(super) digest: RequestDigest,
    /// Whether an intent may have been committed, so that an error leaves the outcome open.
    pub(super) intended: AtomicBool,
}

/// What one try came to. Its transaction is committed, whichever it is.
pub(super) enum Step {
    Done(Outcome),
    /// Something else was put right first.
    Again,
    Refused(Error),
}

/// Where a request meets the whitelist.
struct Place {
    head: Head,
    now: Timestamp,
    /// Neither MySQL nor Redis ever had a version.
    is_empty: bool,
}

/// Tries a request in the transaction of `connection`. An error rolls back; called again, this goes on where the
/// earlier try ended.
pub(super) async fn step(
    shared: &Shared,
    work: &Work,
    deadline: Instant,
    connection: &mut MySqlConnection,
) -> Result<Step, Error> {
    let place = match settle(shared, connection, deadline, reprise_shared::whitelist::Version(0)).await? {
        Settlement::Repaired(_) => return Ok(Step::Again),
        Settlement::Unable { base, now, reason } => {
            if let Some(step) = earlier(shared, work, connection).await? {
                return Ok(step);
            }
            let record = Record {
                base_version: base,
                ..work.record(now, &Effects::default(), 0)
            };
            history::insert(connection, &record, &Effects::default()).await?;
            finish::give_up(connection, &record, State::Failed, &reason).await?;
            return Ok(Step::Refused(failed(work, reason)));
        }
        Settlement::Agree { head, now } => Place {
            head,
            now,
            is_empty: false,
        },
        Settlement::Empty { head, now } => Place {
            head,
            now,
            is_empty: true,
        },
    };
    if let Some(step) = earlier(shared, work, connection).await? {
        return Ok(step);
    }
    match prepare(shared, work, &place, connection).await? {
        Ok((record, effects)) => make(shared, work, &place, record, effects, deadline, connection).await,
        Err(error) => Ok(Step::Refused(error)),
    }
}

/// Says what a request would do, without the lock.
pub(super) async fn rehearse(shared: &Shared, work: &Work, connection: &mut MySqlConnection) -> Result<Outcome, Error> {
    let (head, now) = super::head::look(&mut *connection).await?;
    let is_empty = head.version.0 == 0;
    let place = Place { head, now, is_empty };
    let (record, effects) = prepare(shared, work, &place, connection).await??;
    let mut outcome = Outcome::of(&record, &effects, shared.config.max_reported_ids, false);
    outcome.change_id = None;
    Ok(outcome)
}

/// Finds what this work, or an earlier request with its request id, did already.
async fn earlier(shared: &Shared, work: &Work, connection: &mut MySqlConnection) -> Result<Option<Step>, Error> {
    if let Some(own) = history::find(&mut *connection, &work.change_id).await? {
        return Ok(Some(told(shared, work, &own, false, connection).await?));
    }
    let Some(request_id) = &work.request.request_id else {
        return Ok(None);
    };
    let found = history::find_request(&mut *connection, &work.caller.principal, request_id).await?;
    match found {
        Some(record) if record.digest != work.digest => {
            Ok(Some(Step::Refused(Error::RequestIdReused(request_id.clone()))))
        }
        Some(record) => Ok(Some(told(shared, work, &record, true, connection).await?)),
        None => Ok(None),
    }
}

async fn told(
    shared: &Shared,
    work: &Work,
    record: &Record,
    repeated: bool,
    connection: &mut MySqlConnection,
) -> Result<Step, Error> {
    Ok(match record.state {
        State::Applied => {
            let effects = history::effects(connection, &record.change_id).await?;
            let max_ids = shared.config.max_reported_ids;
            Step::Done(Outcome::of(record, &effects, max_ids, repeated))
        }
        State::Failed => Step::Refused(failed(work, record.failure.clone())),
        State::Intent | State::Unknown => Step::Refused(Error::Unknown {
            change_id: record.change_id.clone(),
            reason: record.failure.clone(),
        }),
    })
}

fn failed(work: &Work, reason: String) -> Error {
    Error::Failed {
        change_id: work.change_id.clone(),
        reason,
    }
}

/// Decides what the request does; the inner error refuses it.
async fn prepare(
    shared: &Shared,
    work: &Work,
    place: &Place,
    connection: &mut MySqlConnection,
) -> Result<Result<(Record, Effects), Error>, Error> {
    let request = &work.request;
    if let Some(expected) = request.etag.filter(|expected| *expected != place.head.version) {
        let current = place.head.version;
        return Ok(Err(Error::EtagMismatch { expected, current }));
    }
    if request.expires_at.is_some_and(|expires_at| expires_at <= place.now) {
        let problem = format!("is not after now ({}, by the database's clock)", place.now);
        let field = "expire_time".to_owned();
        return Ok(Err(Error::Invalid(vec![Violation { field, problem }])));
    }
    let mut request = request.clone();
    if work.kind == Kind::Expire {
        // Chosen here, under the lock, so that an entry that was prolonged meanwhile stays.
        let due = entries::due(&mut *connection, &request.scope, shared.config.max_due).await?;
        request.ids = removable(due, entries::size(&mut *connection, &request.scope).await?);
    }
    let named = (request.action != Action::Replace).then_some(request.ids.as_slice());
    let current = entries::current(connection, &request.scope, named).await?;
    let entries_before = current.entries;
    let effects = match plan(&request, current) {
        Ok(effects) => effects,
        Err(error) => return Ok(Err(error)),
    };
    let mut record = work.record(place.now, &effects, entries_before);
    record.base_version = place.head.version;
    if place.is_empty && request.scope != Scope::Global && record.added > 0 && !request.allow_unrestricted {
        // The first version makes the global list known, and it would be empty.
        let (scope, entries) = (Scope::Global, 0);
        return Ok(Err(Error::WouldBeUnrestricted { scope, entries }));
    }
    if record.added > record.removed {
        let total = entries::total(&mut *connection).await?;
        let entries = (total + record.added).saturating_sub(record.removed);
        let max = shared.config.max_entries;
        if entries > max as u64 {
            return Ok(Err(Error::TooManyEntries { entries, max }));
        }
    }
    Ok(Ok((record, effects)))
}

/// Makes the change: intent, Redis, outcome.
async fn make(
    shared: &Shared,
    work: &Work,
    place: &Place,
    mut record: Record,
    effects: Effects,
    deadline: Instant,
    connection: &mut MySqlConnection,
) -> Result<Step, Error> {
    let is_first = place.is_empty && record.kind == Kind::Replace;
    if record.added + record.removed == 0 && !is_first {
        record.state = State::Applied;
        record.finished_at = Some(place.now);
        if record.kind != Kind::Expire {
            finish::complete_without_version(connection, &record, &effects, place.now).await?;
        }
    } else {
        let last = history::last(connection).await?.and_then(|last| last.version);
        record.version = Some(next(
            last.map_or(place.head.version, |last| last.max(place.head.version)),
        ));
        work.intended.store(true, Ordering::Relaxed);
        intend(shared, &record, &effects).await?;
        let call = call(shared, place, &record, &effects);
        let (state, reason) = match push(&shared.writer, &call, deadline).await {
            Pushed::Applied => (State::Applied, String::new()),
            Pushed::Refused(reason) => (State::Failed, reason),
            Pushed::Diverged => (State::Failed, "Redis changed meanwhile".to_owned()),
            Pushed::Unknown(reason) => (State::Unknown, reason),
        };
        if state != State::Applied {
            finish::give_up(connection, &record, state, &reason).await?;
            record.state = state;
            record.failure = reason;
            return told(shared, work, &record, false, connection).await;
        }
        finish::complete(connection, &record, &effects, place.now).await?;
    }
    let outcome = Outcome::of(&record, &effects, shared.config.max_reported_ids, false);
    Ok(Step::Done(outcome))
}

fn call(shared: &Shared, place: &Place, record: &Record, effects: &Effects) -> Call {
    let ids = |effect| effects.ids(effect).cloned().collect::<Vec<String>>();
    if place.is_empty {
        // The first version has its ids from the beginning: an empty one before it would let everything through.
        let mut content = Content::new(head_of(record));
        content.list_mut(record.scope.clone()).extend(ids(Effect::Added));
        content.types.retain(|_, list| !list.is_empty());
        return Call::Fill {
            content,
            expect: Expect::Missing,
        };
    }
    let (added, removed) = (ids(Effect::Added), ids(Effect::Removed));
    let is_too_large_for_a_notice = added.len() + removed.len() > shared.config.max_notice_ids;
    let edit = if record.kind == Kind::Replace && is_too_large_for_a_notice {
        let kept = ids(Effect::Refreshed).into_iter().chain(ids(Effect::Untouched));
        Edit::Replace(added.into_iter().chain(kept).collect())
    } else {
        Edit::Update { added, removed }
    };
    Call::Change {
        change: Change {
            id: record.change_id.clone(),
            scope: record.scope.clone(),
            edit,
        },
        expected: place.head.version,
        new: head_of(record).version,
    }
}

impl Work {
    /// Returns the removal of a list's due entries.
    pub(super) fn expiry(scope: Scope) -> Self {
        let request = Request::new(Action::Remove, scope, [""; 0]);
        Self {
            kind: Kind::Expire,
            ..Self::new(Caller::system(), request)
        }
    }

    pub(super) fn new(caller: Caller, request: Request) -> Self {
        Self {
            change_id: super::settle::new_change_id(),
            kind: match request.action {
                Action::Add => Kind::Add,
                Action::Remove => Kind::Remove,
                Action::Replace => Kind::Replace,
            },
            caller,
            digest: request.digest(),
            request,
            intended: AtomicBool::new(false),
        }
    }

    fn record(&self, now: Timestamp, effects: &Effects, entries_before: u64) -> Record {
        let (caller, request) = (&self.caller, &self.request);
        Record {
            change_id: self.change_id.clone(),
            version: None,
            base_version: reprise_shared::whitelist::Version(0),
            kind: self.kind,
            scope: request.scope.clone(),
            state: State::Intent,
            failure: String::new(),
            principal: caller.principal.clone(),
            request_id: request.request_id.clone(),
            digest: self.digest.clone(),
            method: caller.method.clone(),
            note: request.note.clone(),
            expires_at: request.expires_at,
            added: effects.count(Effect::Added),
            removed: effects.count(Effect::Removed),
            refreshed: effects.count(Effect::Refreshed),
            untouched: effects.count(Effect::Untouched),
            entries_before,
            created_at: now,
            finished_at: None,
        }
    }
}
