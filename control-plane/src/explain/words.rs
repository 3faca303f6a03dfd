//! A finding in words: what happened, and what to do about it. Pure. No payload, no error text of a letter.

mod expired;

use std::fmt::Write as _;

use jiff::Timestamp;
use reprise_shared::dead_letters::State;
use reprise_shared::ledger::{Interval, Millis};
use reprise_shared::position::{Offset, SourcePosition, TopicPartition};

pub(super) use self::expired::{expired, expired_in, expired_letter};
use super::evidence::{Content, Evidence, Filter, Letter, Standing, Stored};
use super::judge::{Finding, Outcome, RowFinding};
use super::order::{Order, processed};
use crate::grpc::error::quoted;

/// What a finding is about.
#[derive(Clone, Debug)]
pub(super) struct Subject<'s> {
    pub(super) at: &'s TopicPartition,
    pub(super) offset: Offset,
    /// What Kafka has of the partition.
    pub(super) log: Interval,
    /// The type's name; empty when none matched.
    pub(super) data_type: &'s str,
    /// The table of the type.
    pub(super) table: &'s str,
    pub(super) id: Option<&'s str>,
}

/// Says what became of a record.
pub(super) fn words(subject: &Subject<'_>, evidence: &Evidence, finding: &Finding) -> String {
    match finding {
        Finding::Tombstone => "Its value is null (a tombstone). Tombstones are counted and skipped: they write no row \
             and delete none. If something should change, upstream has to send a record with a value."
            .to_owned(),
        Finding::Unmatched => format!(
            "It matches no data type of topic {}, and the catalog says to skip such records. If it should have been \
             processed, compare the header or field that tells its type with the catalog's `match`.",
            subject.at.topic
        ),
        Finding::Pending => pending(subject, &evidence.standing),
        Finding::Deferred(interval) => format!(
            "Data type {} was stopped ({}) when the record came, so it was passed over: positions [{}, {}) of the \
             partition are owed to a replay{}. Resume the type with FleetService.ResumeIngest.",
            subject.data_type,
            interval.reason,
            interval.start,
            interval.end,
            if interval.open {
                ", and their number still grows"
            } else {
                ""
            }
        ),
        Finding::Filtered => filtered(subject, evidence),
        Finding::Letter(letter) => format!("It is a dead letter {}", of_letter(letter)),
        Finding::Rows(rows) => of_rows(subject, evidence, rows),
    }
}

fn pending(subject: &Subject<'_>, standing: &Standing) -> String {
    let Subject { at, offset, log, .. } = subject;
    let replay = "Replay it if it should be written; a replay never puts an old value over a new one.";
    match standing {
        Standing::Ahead { committed, stop } => {
            let read = match committed {
                Some(committed) => format!("ingest has committed position {committed}"),
                None => "ingest has not committed any position".to_owned(),
            };
            let next = match stop {
                Some(stop) => format!("The partition is stopped ({stop}): resume it with FleetService.ResumeIngest."),
                None => "Its turn comes when what is before it is done; FleetService.GetLag shows how fast.".to_owned(),
            };
            format!(
                "It was not processed yet: in partition {} {read}, and the log ends at {}. {next}",
                at.partition, log.end
            )
        }
        Standing::NotAccepted => format!(
            "No ingest worker has accepted topic {} as it is now: it is new, or was deleted and created again. Nothing \
             of it was processed yet. FleetService.GetLag shows whether its partitions are stopped, and \
             FleetService.ResumeIngest accepts a re-created topic.",
            at.topic
        ),
        Standing::Lost => format!(
            "An operator accepted the positions around {offset} as missing when the partition was resumed, so it was \
             passed over. {replay}"
        ),
        Standing::BeforeStart(start) => format!(
            "Ingest first began to read the partition at position {start}, above this record, so it was never \
             processed. {replay}"
        ),
        Standing::Hole | Standing::Covered => format!(
            "Ingest has committed a position above it, but nothing is on record about it: the ledger has a hole here \
             (Redis lost it), and the table holds nothing of it. {replay}"
        ),
    }
}

fn filtered(subject: &Subject<'_>, evidence: &Evidence) -> String {
    let id = subject
        .id
        .map_or("its id".to_owned(), |id| format!("id {}", quoted(id)));
    let what_to_do = "If it is wanted, add it with WhitelistService.AddWhitelistEntries and replay the record.";
    match &evidence.filter {
        Filter::Filtered(judged) => {
            let list = if judged.by_own_list {
                format!("the list of {}", subject.data_type)
            } else {
                "the global list".to_owned()
            };
            format!(
                "It was judged by version {} of the whitelist, and {list} did not have {id}, so it was filtered. \
                 {what_to_do}",
                judged.version
            )
        }
        Filter::AllFiltered(version) => format!(
            "It was judged by version {version} of the whitelist, whose ids are not on record, and all records of its \
             range were filtered; so {id} was not on it. {what_to_do}"
        ),
        Filter::Unknown(version) => format!(
            "It was judged by version {version} of the whitelist, whose ids are not on record. Some records of its \
             range were filtered, and the table holds nothing of this one, so it was most likely filtered, too. \
             {what_to_do}"
        ),
        Filter::Passed(_) => what_to_do.to_owned(),
    }
}

fn of_letter(letter: &Letter) -> String {
    let class = &letter.class;
    match (letter.id, letter.state) {
        (Some(id), Some(State::Retrying)) => format!(
            "of class {class} (id {id}): a lookup has no value for its id. It resolves itself once the looked-up table \
             has one."
        ),
        (Some(id), Some(State::Parked)) => format!(
            "of class {class} (id {id}): DeadLetterService.GetDeadLetter shows what is wrong with it. Let upstream send \
             it right, or mend the catalog and redrive it."
        ),
        (Some(id), Some(State::Discarded)) => format!(
            "of class {class} (id {id}) that was discarded: somebody gave it up, or its id was filtered when it went \
             through again. Replay the record if it is wanted."
        ),
        (Some(id), Some(State::Redriven) | None) => {
            format!("of class {class} (id {id}) that went through the pipeline again and failed again.")
        }
        (None, _) => format!(
            "of class {class}, which is not on record any more: it was purged. What is wrong with it still is: let \
             upstream send it right, or mend the catalog and replay it."
        ),
    }
}

fn of_rows(subject: &Subject<'_>, evidence: &Evidence, rows: &[RowFinding]) -> String {
    let outcome = Finding::Rows(rows.to_vec()).outcome();
    let Some(first) = rows.iter().find(|row| row.outcome() == outcome) else {
        return "It was processed and has no rows, so there was nothing to write: its array is empty.".to_owned();
    };
    let left_out = match evidence.content {
        Content::Rows { left_out, .. } => left_out,
        Content::Tombstone | Content::Unmatched | Content::Faulty(_) => 0,
    };
    let one = of_row(subject, evidence, first);
    if rows.len() == 1 && left_out == 0 {
        return one;
    }
    let counts = [
        (Outcome::Written, "written"),
        (Outcome::Superseded, "superseded"),
        (Outcome::Stale, "stale"),
        (Outcome::Missing, "missing"),
        (Outcome::DeadLettered, "dead-lettered"),
    ];
    let counts = counts.map(|(outcome, name)| (rows.iter().filter(|row| row.outcome() == outcome).count(), name));
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    let mut text = format!("Of its {} rows: {}", rows.len() + left_out, counts.join(", "));
    if left_out > 0 {
        let _ = write!(text, ", {left_out} not looked at");
    }
    let _ = write!(text, ". The first {} one: {one}", name(outcome));
    text
}

fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Written => "written",
        Outcome::Superseded => "superseded",
        Outcome::Stale => "stale",
        Outcome::Missing => "missing",
        Outcome::DeadLettered => "dead-lettered",
        Outcome::Filtered | Outcome::Deferred | Outcome::Skipped | Outcome::Pending | Outcome::Expired => "such",
    }
}

fn of_row(subject: &Subject<'_>, evidence: &Evidence, row: &RowFinding) -> String {
    let table = subject.table;
    match row {
        RowFinding::Written => format!("Table {table} holds its row. There is nothing to do."),
        RowFinding::Newer { stored, order } => newer(subject, evidence, stored, *order),
        RowFinding::Missing { older } => format!(
            "It was processed, but table {table} {}. Something else than reprise removed or changed the row, or its id \
             has another looked-up key by now. Replay the record to have it written again.",
            if *older {
                "holds an older row of its key"
            } else {
                "has no row of its key"
            }
        ),
        RowFinding::Letter(letter) => format!("It is a dead letter {}", of_letter(letter)),
    }
}

fn newer(subject: &Subject<'_>, evidence: &Evidence, stored: &Stored, order: Order) -> String {
    let version = &stored.guard.version_text;
    let version = if version.is_empty() {
        String::new()
    } else {
        format!("version {version}, ")
    };
    let source = match stored.position() {
        Some(position) => format!("from {}", place(subject, position)),
        None => "not from Kafka but from a backfill".to_owned(),
    };
    let held = format!(
        "Table {} holds a newer row of its key: {version}{source}.",
        subject.table
    );
    let times = || {
        let (mine, theirs) = (processed(&evidence.ranges), processed(&stored.ranges));
        mine.zip(theirs).map_or(String::new(), |((from, _), (_, until))| {
            format!(" (processed by {}, this one from {} on)", time(until), time(from))
        })
    };
    let order = match order {
        Order::Before => format!(
            "It was stored already when this record was processed{}, so this one was late and changed nothing.",
            times()
        ),
        Order::After => "It was processed later than this record and took its place.".to_owned(),
        Order::SameRecord => "It is a later row of this same record.".to_owned(),
        Order::Unknown => "Whether it was there already when this record was processed cannot be told from the \
             ledger, so this one is called superseded and may have been stale."
            .to_owned(),
    };
    format!("{held} {order} There is nothing to do, unless the newer row is wrong.")
}

/// Names a place in Kafka.
fn place(subject: &Subject<'_>, position: SourcePosition) -> String {
    let mut text = format!(
        "topic {} (generation {}) partition {} offset {}",
        subject.at.topic,
        position.generation().0,
        position.partition(),
        position.offset()
    );
    if position.row().0 > 0 {
        let _ = write!(text, " row {}", position.row().0);
    }
    text
}

/// Writes a moment.
fn time(moment: Millis) -> String {
    Timestamp::from_millisecond(moment.0).map_or_else(|_| "an unknown time".to_owned(), |time| time.to_string())
}
