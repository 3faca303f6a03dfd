//! What is known of one record, before anything is concluded from it. Plain data.

use reprise_shared::dead_letters::State;
use reprise_shared::fault::FaultClass;
use reprise_shared::ingest_state::deferred;
use reprise_shared::ledger::{Coverage, CoverageKind, Range};
use reprise_shared::position::{Offset, SourcePosition, TopicId};
use reprise_shared::whitelist::Version;

use super::table::Guard;
use super::whitelists::Judged;

/// Whether live traffic came past a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The position has a durable outcome.
    Covered,
    /// Nothing came as far yet.
    Ahead {
        /// The position that the workers' group committed.
        committed: Option<Offset>,
        /// Why the partition does not move, if it is stopped.
        stop: Option<String>,
    },
    /// An operator accepted that it is missing.
    Lost,
    /// Reading first began above it.
    BeforeStart(Offset),
    /// The workers committed a position above it, but the ledger has a hole there.
    Hole,
    /// No worker accepted this incarnation of the topic yet.
    NotAccepted,
}

impl Standing {
    /// Judges an offset by the members of its partition's coverage that hold it, and by the committed position.
    pub(super) fn of(
        offset: Offset,
        topic_id: &TopicId,
        coverage: &[Coverage],
        first_start: Option<Offset>,
        committed: Option<Offset>,
    ) -> Self {
        let held = |kinds: &[CoverageKind]| {
            let mut members = coverage.iter();
            members.any(|member| {
                let holds = member.start <= offset && offset < member.end;
                holds && member.topic_id == *topic_id && kinds.contains(&member.kind)
            })
        };
        if held(&[CoverageKind::Live, CoverageKind::Attested]) {
            Self::Covered
        } else if held(&[CoverageKind::Lost]) {
            Self::Lost
        } else if let Some(start) = first_start.filter(|start| offset < *start) {
            Self::BeforeStart(start)
        } else if committed.is_some_and(|committed| offset < committed) {
            Self::Hole
        } else {
            Self::Ahead { committed, stop: None }
        }
    }
}

/// What the whitelist that judged a record said of it.
#[derive(Clone, Debug)]
pub(super) enum Filter {
    /// It let the record through, or the record was processed under none that is known.
    Passed(Option<Version>),
    /// It did not.
    Filtered(Judged),
    /// Its version is not on record any more, and the range's counts leave both open.
    Unknown(Version),
    /// All records of the range were filtered, but the list itself is not on record any more.
    AllFiltered(Version),
}

impl Filter {
    /// Returns the version that judged the record.
    pub(super) fn version(&self) -> Option<Version> {
        match self {
            Self::Passed(version) => *version,
            Self::Filtered(judged) => Some(judged.version),
            Self::Unknown(version) | Self::AllFiltered(version) => Some(*version),
        }
    }
}

/// A dead letter of a record or row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Letter {
    /// Its number; `None` when it is not on record any more.
    pub(super) id: Option<u64>,
    pub(super) class: String,
    pub(super) state: Option<State>,
}

impl Letter {
    /// A fault whose letter is not on record.
    pub(super) fn gone(class: FaultClass) -> Self {
        Self {
            id: None,
            class: class.as_str().to_owned(),
            state: None,
        }
    }

    /// Tells whether it went through the pipeline again, and so says nothing of what became of it.
    pub(super) fn is_redriven(&self) -> bool {
        self.state == Some(State::Redriven)
    }
}

/// The stored row of a key, and when its own record was processed.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) guard: Guard,
    /// The ranges that hold its record; none when that is not of this incarnation of the topic.
    pub(super) ranges: Vec<Range>,
    /// See [`super::order::Newer`].
    pub(super) written_at_once: bool,
}

impl Stored {
    /// Returns its place in Kafka; `None` for a backfilled row.
    pub(super) fn position(&self) -> Option<SourcePosition> {
        SourcePosition::from_bytes(&self.guard.position)
    }
}

/// One row of a record.
#[derive(Clone, Debug)]
pub(super) enum RowEvidence {
    /// It is, or was, a dead letter.
    Letter(Letter),
    /// It can be written; this is what the table holds for its key.
    Row {
        version: i64,
        position: SourcePosition,
        stored: Option<Stored>,
    },
}

/// What a record consists of.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Nothing: its value is null.
    Tombstone,
    /// It matches no type, and its topic says to skip such records.
    Unmatched,
    /// A fault leaves it without rows.
    Faulty(FaultClass),
    /// Rows, and how many more there are that were not looked at.
    Rows { rows: Vec<RowEvidence>, left_out: usize },
}

/// All that is known of one record.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    pub(super) standing: Standing,
    /// The ranges of its type that hold it, of this incarnation of the topic.
    pub(super) ranges: Vec<Range>,
    /// The interval in which it was passed over.
    pub(super) deferred: Option<deferred::Interval>,
    /// The letter of the record as a whole.
    pub(super) letter: Option<Letter>,
    pub(super) filter: Filter,
    pub(super) content: Content,
}
