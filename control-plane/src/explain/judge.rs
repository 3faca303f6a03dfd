//! What became of a record, concluded from what is known of it. Pure: the whole order of the conclusions is here.

use reprise_shared::ingest_state::deferred;

use super::evidence::{Content, Evidence, Filter, Letter, RowEvidence, Standing, Stored};
use super::order::{Newer, Order, order};

/// What became of a record or of one of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The whitelist did not let it through.
    Filtered,
    /// It is what the table holds.
    Written,
    /// The table holds a newer one.
    Superseded,
    /// The table held a newer one already when it was processed.
    Stale,
    /// It was passed over because its type was stopped.
    Deferred,
    /// It is a dead letter.
    DeadLettered,
    /// It is a tombstone, or matches no type.
    Skipped,
    /// It was not processed yet.
    Pending,
    /// Kafka has deleted it.
    Expired,
    /// It was processed, but the table holds nothing of it.
    Missing,
}

/// What became of one row.
#[derive(Clone, Debug)]
pub(super) enum RowFinding {
    Written,
    Newer {
        stored: Stored,
        order: Order,
    },
    /// The table holds no row of the key, or one that is older.
    Missing {
        older: bool,
    },
    Letter(Letter),
}

impl RowFinding {
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Written => Outcome::Written,
            Self::Newer {
                order: Order::Before, ..
            } => Outcome::Stale,
            Self::Newer { .. } => Outcome::Superseded,
            Self::Missing { .. } => Outcome::Missing,
            Self::Letter(_) => Outcome::DeadLettered,
        }
    }
}

/// What became of a record.
#[derive(Clone, Debug)]
pub(super) enum Finding {
    Tombstone,
    Unmatched,
    Pending,
    Deferred(deferred::Interval),
    /// Nothing says what the whitelist said, and the table holds nothing: it was filtered, as far as can be known.
    Filtered,
    Letter(Letter),
    /// At least one row, or a record without rows.
    Rows(Vec<RowFinding>),
}

impl Finding {
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Tombstone | Self::Unmatched => Outcome::Skipped,
            Self::Pending => Outcome::Pending,
            Self::Deferred(_) => Outcome::Deferred,
            Self::Filtered => Outcome::Filtered,
            Self::Letter(_) => Outcome::DeadLettered,
            Self::Rows(rows) => together(rows.iter().map(RowFinding::outcome)),
        }
    }

    /// Returns the letter: the record's, or the first of its rows'.
    pub(super) fn letter(&self) -> Option<&Letter> {
        match self {
            Self::Letter(letter) => Some(letter),
            Self::Rows(rows) => rows.iter().find_map(|row| match row {
                RowFinding::Letter(letter) => Some(letter),
                RowFinding::Written | RowFinding::Newer { .. } | RowFinding::Missing { .. } => None,
            }),
            Self::Tombstone | Self::Unmatched | Self::Pending | Self::Deferred(_) | Self::Filtered => None,
        }
    }
}

/// Takes the outcomes of a record's rows together: first what somebody has to do something about, then what the table
/// shows. A record without rows was written in full.
fn together(rows: impl Iterator<Item = Outcome>) -> Outcome {
    let rank = |outcome: &Outcome| match outcome {
        Outcome::DeadLettered => 4,
        Outcome::Missing => 3,
        Outcome::Written => 2,
        Outcome::Superseded => 1,
        Outcome::Stale
        | Outcome::Filtered
        | Outcome::Deferred
        | Outcome::Skipped
        | Outcome::Pending
        | Outcome::Expired => 0,
    };
    rows.max_by_key(rank).unwrap_or(Outcome::Written)
}

/// Concludes what became of a record.
///
/// What stands in the table with this very source was written, whatever else is said: by a replay, or a moment ago,
/// before the ledger was told. Then come the things on record about this record alone, then its place, then the filter.
pub(super) fn judge(evidence: &Evidence) -> Finding {
    let rows = match &evidence.content {
        Content::Rows { rows, .. } => rows.iter().map(|row| judge_row(row, evidence)).collect(),
        Content::Tombstone | Content::Unmatched | Content::Faulty(_) => Vec::new(),
    };
    let is_there = rows.iter().any(|row| matches!(row, RowFinding::Written));
    if is_there {
        return Finding::Rows(rows);
    }
    let letter = evidence.letter.as_ref();
    if let Some(letter) = letter.filter(|letter| !letter.is_redriven()) {
        return Finding::Letter(letter.clone());
    }
    match &evidence.standing {
        Standing::Ahead { .. } | Standing::NotAccepted | Standing::Lost | Standing::BeforeStart(_) => {
            return Finding::Pending;
        }
        Standing::Covered | Standing::Hole => {}
    }
    let may_be_deferred = evidence.ranges.is_empty() || evidence.ranges.iter().any(|range| range.records.deferred > 0);
    if let Some(interval) = evidence.deferred.as_ref().filter(|_| may_be_deferred) {
        return Finding::Deferred(interval.clone());
    }
    match &evidence.content {
        Content::Tombstone => return Finding::Tombstone,
        Content::Unmatched => return Finding::Unmatched,
        Content::Faulty(_) | Content::Rows { .. } => {}
    }
    match &evidence.filter {
        Filter::Filtered(_) | Filter::AllFiltered(_) => return Finding::Filtered,
        Filter::Unknown(_) if rows.iter().all(|row| matches!(row, RowFinding::Missing { .. })) => {
            return Finding::Filtered;
        }
        Filter::Passed(_) | Filter::Unknown(_) => {}
    }
    if let Content::Faulty(class) = evidence.content {
        return Finding::Letter(letter.cloned().unwrap_or_else(|| Letter::gone(class)));
    }
    // Where the ledger has a hole, nothing says that the record was processed.
    let nothing_known = evidence.standing == Standing::Hole && evidence.ranges.is_empty();
    if nothing_known && !rows.is_empty() && rows.iter().all(|row| matches!(row, RowFinding::Missing { .. })) {
        return Finding::Pending;
    }
    Finding::Rows(rows)
}

fn judge_row(row: &RowEvidence, evidence: &Evidence) -> RowFinding {
    let (version, position, stored) = match row {
        RowEvidence::Letter(letter) => return RowFinding::Letter(letter.clone()),
        RowEvidence::Row {
            version,
            position,
            stored,
            ..
        } => (*version, *position, stored),
    };
    let Some(stored) = stored else {
        return RowFinding::Missing { older: false };
    };
    let (mine, theirs) = (
        (version, position.as_bytes().as_slice()),
        (stored.guard.version, stored.guard.position.as_slice()),
    );
    if theirs.1 == mine.1 {
        return RowFinding::Written;
    }
    if theirs < mine {
        return RowFinding::Missing { older: true };
    }
    let newer = Newer {
        position: stored.position(),
        ranges: &stored.ranges,
        written_at_once: stored.written_at_once,
    };
    RowFinding::Newer {
        order: order(position, &evidence.ranges, newer),
        stored: stored.clone(),
    }
}

#[cfg(test)]
mod tests;
