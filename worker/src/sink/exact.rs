//! One try to put a task's batch through, on one connection: fenced, and with exact counts.
//!
//! In one transaction: the lane's fence → markers, which lock or create every key in key order → what is stored →
//! the write → dead letters → the lane's counters. A VERIFY reads and reports instead of writing.

use std::collections::{BTreeSet, HashMap};

use reprise_shared::dead_letters;
use reprise_shared::jobs::{self, Mode, WriteCounts};
use reprise_shared::mysql::errors::{self, Class, Phase};
use reprise_shared::position::Offset;
use reprise_shared::row::Row;

use super::attempt::{Context, Failure, roll_back, run, unrelated, write_spans};
use super::batch::Slot;
use super::compare::{Standing, Stored, count_verified, count_written};
use super::connection::LaneConnection;
use super::mismatch;
use super::task::TaskSink;
use super::work::Work;
use crate::piece::PendingRow;

/// Records whose letters one statement closes.
const MOST_LETTERS_AT_ONCE: usize = 500;

/// Writes and commits, or says why not. Dropping the future leaves the connection in an unknown state: drop it too.
pub(super) async fn attempt(
    connection: &mut LaneConnection,
    work: &mut Work,
    context: &Context<'_>,
    sink: &TaskSink,
) -> Result<(), Failure> {
    let task = &sink.task;
    let mut counts = loop {
        run(connection, "/* task_lane */ BEGIN").await?;
        let entered = jobs::lanes::enter(&mut connection.inner, task.id, context.lane, task.epoch).await;
        if !entered.map_err(unrelated)? {
            return Err(Failure::Fenced);
        }
        let outcome = match task.mode {
            Mode::Verify => Some(verify(connection, work, sink).await?),
            Mode::Live | Mode::Overwrite | Mode::Isolated | Mode::Repair => {
                write(connection, work, context, sink).await?
            }
        };
        match outcome {
            Some(counts) => break counts,
            // A row was refused whose marker was taken already. The same again, without that row.
            None => roll_back(connection).await?,
        }
    };
    if let Some(breaker) = context.breaker
        && breaker.would_trip(context.clock.monotonic(), work.load())
    {
        return Err(Failure::Breaker { load: work.load() });
    }
    let letters = work.new_letters(context.catalog, &sink.job);
    counts.dead_lettered += letters.len() as u64;
    let placed = (0..work.batch.slots()).filter(|slot| work.batch.place(Slot(*slot)).is_some());
    counts.superseded = (work.batch.rows().len() - placed.count() - work.batch.rejects().len()) as u64;
    if task.keeps_letters() && !letters.is_empty() {
        let limit = connection.packet / 2;
        let stored = dead_letters::insert(&mut connection.inner, &letters, context.clock.now(), limit).await;
        stored.map_err(unrelated)?;
    }
    close_letters(connection, work, context, sink).await?;
    let counted = jobs::lanes::count(&mut connection.inner, task.id, context.lane, &counts).await;
    counted.map_err(unrelated)?;
    run(connection, "/* task_lane */ COMMIT").await
}

/// Closes the letters of records that become rows with this batch.
async fn close_letters(
    connection: &mut LaneConnection,
    work: &Work,
    context: &Context<'_>,
    sink: &TaskSink,
) -> Result<(), Failure> {
    let open = &sink.task.open_letters;
    let settles = sink.task.keeps_letters() && !open.is_empty();
    let Some(first) = work.batch.rows().first().filter(|_| settles) else {
        return Ok(());
    };
    let offsets: BTreeSet<Offset> = work
        .batch
        .rows()
        .iter()
        .map(|row| row.chunk.record(row.record).offset)
        .collect();
    let covered: Vec<Offset> = offsets.intersection(open).copied().collect();
    let stretch = &first.chunk.stretch;
    let place = (&stretch.topic_id, stretch.topic_partition.partition);
    for part in covered.chunks(MOST_LETTERS_AT_ONCE) {
        let now = context.clock.now();
        let connection = &mut connection.inner;
        let closed = dead_letters::close_processed(connection, &sink.job, &sink.data_type, place, part, now).await;
        closed.map_err(unrelated)?;
    }
    Ok(())
}

/// Writes the batch's rows. `None`: a row was refused only after its key had got a marker, so the transaction must begin
/// anew.
async fn write(
    connection: &mut LaneConnection,
    work: &mut Work,
    context: &Context<'_>,
    sink: &TaskSink,
) -> Result<Option<WriteCounts>, Failure> {
    let all = vec![(0, work.batch.slots())];
    write_spans(connection, work, &sink.marker, context.limit, all.clone()).await?;
    let refused = work.batch.rejects().len();
    let mut counts = WriteCounts::default();
    for found in standings(work, sink, &read(connection, work, sink).await?) {
        count_written(&mut counts, found.standing, sink.task.replaces());
    }
    if counts.inserted + counts.updated > 0 {
        write_spans(connection, work, &sink.upsert, context.limit, all).await?;
    }
    Ok((work.batch.rejects().len() == refused).then_some(counts))
}

/// Compares the batch's rows with what is stored and reports what differs.
async fn verify(connection: &mut LaneConnection, work: &Work, sink: &TaskSink) -> Result<WriteCounts, Failure> {
    let stored = read(connection, work, sink).await?;
    let mut counts = WriteCounts::default();
    let mut found = Vec::new();
    for one in standings(work, sink, &stored) {
        // MySQL refused it, and that is on record: then it is not stored, and should not be.
        let refused = matches!(one.standing, Standing::Absent | Standing::Older)
            && sink
                .task
                .open_letters
                .contains(&one.pending.chunk.record(one.pending.record).offset);
        if refused {
            counts.dead_lettered += 1;
            continue;
        }
        count_verified(&mut counts, one.standing);
        found.extend(mismatch::of(sink, &one.pending.row, one.standing, one.stored));
    }
    if !found.is_empty() {
        let task = &sink.task;
        let reported = jobs::mismatches::report(&mut connection.inner, task.id.job, &found, task.max_mismatches).await;
        reported.map_err(unrelated)?;
    }
    Ok(counts)
}

/// Reads what is stored under the batch's keys.
async fn read(
    connection: &mut LaneConnection,
    work: &Work,
    sink: &TaskSink,
) -> Result<HashMap<Vec<String>, Stored>, Failure> {
    let rows: Vec<&Row> = winners(work).map(|pending| &pending.row).collect();
    let stored = sink.stored.read(&mut connection.inner, &rows).await;
    stored.map_err(|error| match errors::classify(&error, Phase::Running) {
        Class::Schema => Failure::Schema { error },
        _ => unrelated(error),
    })
}

/// A row that stands for a key, and how it stands to what is stored there.
struct Found<'a> {
    pending: &'a PendingRow,
    standing: Standing,
    stored: Option<&'a Stored>,
}

/// Compares each row that stands for a key with what is stored under it.
fn standings<'a>(
    work: &'a Work,
    sink: &'a TaskSink,
    stored: &'a HashMap<Vec<String>, Stored>,
) -> impl Iterator<Item = Found<'a>> {
    let columns = sink.stored.columns();
    winners(work).map(move |pending| {
        let stored = stored.get(&columns.key_of(&pending.row));
        Found {
            pending,
            standing: columns.compare(&pending.row, stored),
            stored,
        }
    })
}

fn winners(work: &Work) -> impl Iterator<Item = &PendingRow> {
    let slots = (0..work.batch.slots()).map(Slot);
    slots.filter_map(|slot| work.batch.row(slot))
}
