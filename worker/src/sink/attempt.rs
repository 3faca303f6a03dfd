//! One try to put a batch through, on one connection.
//!
//! A refused value undoes only its statement, so the culprits are searched inside the transaction, by halving, and
//! everything else is written by the same commit. Every other error leaves the transaction to be rolled back.

use reprise_shared::catalog::Catalog;
use reprise_shared::dead_letters;
use reprise_shared::fault::{Fault, FaultClass};
use reprise_shared::mysql::errors::{self, Class, Phase};
use sqlx::Executor;

use super::batch::Slot;
use super::breaker::{Breaker, Load};
use super::connection::LaneConnection;
use super::exact;
use super::statement::Upsert;
use super::task::TaskSink;
use super::work::Work;
use reprise_shared::clock::Clock;

/// Why a try did not commit.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server or the network said so.
    Driver {
        error: sqlx::Error,
        /// Transient, deadlock or unknown.
        class: Class,
    },
    /// A statement was, or may have been, too large for the way to the server.
    Size {
        slots: usize,
        slot: Slot,
        bytes: usize,
        certain: bool,
        error: Option<sqlx::Error>,
    },
    /// Table and catalog disagree.
    Schema { error: sqlx::Error },
    /// The breaker tripped.
    Breaker { load: Load },
    /// The task belongs to another owner: nothing may be written any more.
    Fenced,
}

/// What a try needs beside connection and work.
pub(super) struct Context<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) clock: &'a Clock,
    /// Absent for letters of records that matched no type.
    pub(super) upsert: Option<&'a Upsert>,
    pub(super) breaker: Option<&'a Breaker>,
    /// Bytes of one statement at most.
    pub(super) limit: usize,
    /// The task that is written for, if it is not live traffic.
    pub(super) task: Option<&'a TaskSink>,
    /// The lane's number, which is that of its fence row.
    pub(super) lane: u8,
}

/// Writes and commits, or says why not. Dropping the future leaves the connection in an unknown state: drop it too.
pub(super) async fn attempt(
    connection: &mut LaneConnection,
    work: &mut Work,
    context: &Context<'_>,
) -> Result<(), Failure> {
    if let Some(task) = context.task {
        return exact::attempt(connection, work, context, task).await;
    }
    let slots = work.batch.slots();
    let mut spans = Vec::new();
    if let Some(upsert) = context.upsert
        && work.letters.is_empty()
        && work.batch.rejects().is_empty()
        && slots > 0
        && next_size(work, upsert, 0, slots, context.limit) == slots
        && fits(connection, work, upsert, 0)
    {
        // One statement is a transaction by itself, which saves two round trips.
        match write(connection, work, upsert, 0, slots).await {
            Ok(()) => return Ok(()),
            Err(error) => match refused(connection, work, upsert, (0, slots), error)? {
                _ if slots > 1 => spans.extend(halves(0, slots)),
                _ => spans.push((0, slots)),
            },
        }
    } else if slots > 0 {
        spans.push((0, slots));
    }
    run(connection, "/* lane */ BEGIN").await?;
    if let Some(upsert) = context.upsert {
        write_spans(connection, work, upsert, context.limit, spans).await?;
    }
    if let Some(breaker) = context.breaker
        && breaker.would_trip(context.clock.monotonic(), work.load())
    {
        return Err(Failure::Breaker { load: work.load() });
    }
    let letters = work.new_letters(context.catalog, "");
    if !letters.is_empty() {
        let limit = connection.packet / 2;
        let stored = dead_letters::insert(&mut connection.inner, &letters, context.clock.now(), limit).await;
        stored.map_err(unrelated)?;
    }
    run(connection, "/* lane */ COMMIT").await
}

/// Writes spans of slots in key order. A span whose statement is refused is cut until the culprit stands alone.
pub(super) async fn write_spans(
    connection: &mut LaneConnection,
    work: &mut Work,
    upsert: &Upsert,
    limit: usize,
    mut spans: Vec<(usize, usize)>,
) -> Result<(), Failure> {
    spans.reverse();
    while let Some((start, end)) = spans.pop() {
        // A key whose rows were all refused has nothing left to write, and statements do not reach over it.
        let Some(start) = (start..end).find(|slot| work.batch.place(Slot(*slot)).is_some()) else {
            continue;
        };
        let run_end = (start..end)
            .find(|slot| work.batch.place(Slot(*slot)).is_none())
            .unwrap_or(end);
        let size = next_size(work, upsert, start, run_end, limit);
        if start + size < end {
            spans.push((start + size, end));
        }
        if size == 1 && !fits(connection, work, upsert, start) {
            let bytes = work.bytes(upsert, start);
            return Err(Failure::Size {
                slots: 1,
                slot: Slot(start),
                bytes,
                certain: true,
                error: None,
            });
        }
        let Err(error) = write(connection, work, upsert, start, size).await else {
            continue;
        };
        let fault = refused(connection, work, upsert, (start, start + size), error)?;
        if size > 1 {
            spans.extend(halves(start, start + size).into_iter().rev());
        } else if work.batch.reject(Slot(start), fault) {
            spans.push((start, start + 1));
        }
    }
    Ok(())
}

fn halves(start: usize, end: usize) -> [(usize, usize); 2] {
    let middle = start + (end - start).div_ceil(2);
    [(start, middle), (middle, end)]
}

fn next_size(work: &Work, upsert: &Upsert, start: usize, end: usize, limit: usize) -> usize {
    let sizes = (start..end).map(|slot| work.bytes(upsert, slot));
    upsert.fitting(sizes, end - start, limit)
}

/// Tells whether the row in a slot fits into one packet of this connection at all.
fn fits(connection: &LaneConnection, work: &Work, upsert: &Upsert, slot: usize) -> bool {
    work.bytes(upsert, slot) < connection.packet
}

async fn write(
    connection: &mut LaneConnection,
    work: &Work,
    upsert: &Upsert,
    start: usize,
    size: usize,
) -> Result<(), sqlx::Error> {
    let slots = start..start + size;
    let bytes = slots.clone().map(|slot| work.bytes(upsert, slot)).sum();
    let rows = slots.map(|slot| {
        let pending = work
            .batch
            .row(Slot(slot))
            .expect("spans hold only slots that have a row");
        &pending.row
    });
    let arguments = upsert.bind(rows, bytes)?;
    sqlx::query_with(upsert.sql(size), arguments)
        .execute(&mut connection.inner)
        .await
        .map(|_| ())
}

/// Decides what an upsert's error means: the fault of some row in it, or the end of this try.
fn refused(
    connection: &LaneConnection,
    work: &Work,
    upsert: &Upsert,
    (start, end): (usize, usize),
    error: sqlx::Error,
) -> Result<Fault, Failure> {
    let class = errors::classify(&error, Phase::Running);
    let bytes = (start..end).map(|slot| work.bytes(upsert, slot)).sum();
    let size = |certain, error| Failure::Size {
        slots: end - start,
        slot: Slot(start),
        bytes,
        certain,
        error,
    };
    match class {
        Class::Data(fault) => Ok(Fault::new(fault, errors::describe(&error))),
        Class::Size => Err(size(true, Some(error))),
        Class::Schema => Err(Failure::Schema { error }),
        // An outage must never be taken for size: only what is larger than half of the limit can be.
        Class::Transient if errors::is_connection_lost(&error) && bytes > connection.packet / 2 => {
            Err(size(false, Some(error)))
        }
        Class::Transient | Class::Deadlock | Class::Unknown => Err(Failure::Driver { error, class }),
    }
}

pub(super) async fn run(connection: &mut LaneConnection, sql: &'static str) -> Result<(), Failure> {
    connection.inner.execute(sql).await.map(|_| ()).map_err(unrelated)
}

/// Takes back what this try wrote.
pub(super) async fn roll_back(connection: &mut LaneConnection) -> Result<(), Failure> {
    connection.roll_back().await.map_err(unrelated)
}

/// An error of a statement that carries no row: never data, size or schema of a type.
pub(super) fn unrelated(error: sqlx::Error) -> Failure {
    let class = match errors::classify(&error, Phase::Running) {
        class @ (Class::Transient | Class::Deadlock | Class::Unknown) => class,
        Class::Size | Class::Data(_) | Class::Schema => Class::Unknown,
    };
    Failure::Driver { error, class }
}

/// The fault of a row that no packet can carry.
pub(super) fn too_large(bytes: usize, packet: usize) -> Fault {
    let message = format!("the row takes about {bytes} bytes and max_allowed_packet is {packet}");
    Fault::new(FaultClass::RowTooLarge, message)
}
