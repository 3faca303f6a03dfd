use reprise_shared::dead_letters::State;
use reprise_shared::fault::FaultClass;
use reprise_shared::ledger::{Millis, Range, RunId, Source};
use reprise_shared::position::{Offset, Partition, RowNumber, SourcePosition, TopicGeneration, TopicId};
use reprise_shared::tally::{RecordCounts, RowCounts};
use reprise_shared::whitelist::Version;

use super::*;
use crate::explain::table::Guard;
use crate::explain::whitelists::Judged;

fn at(offset: u64, row: u32) -> SourcePosition {
    SourcePosition::new(TopicGeneration(0), Partition(0), Offset(offset), RowNumber(row))
}

fn range(records: RecordCounts) -> Range {
    Range {
        run: RunId::new("run"),
        segment: Offset(0),
        start: Offset(0),
        end: Offset(100),
        records,
        rows: RowCounts::default(),
        first_record: None,
        last_record: None,
        first_processed: Millis(0),
        last_processed: Millis(0),
        whitelist: Some(Version(1)),
        topic_id: TopicId::new("t"),
        source: Source::Live,
    }
}

fn stored(version: i64, position: &[u8]) -> Option<Stored> {
    Some(Stored {
        guard: Guard {
            version,
            version_text: String::new(),
            position: position.to_vec(),
        },
        ranges: Vec::new(),
        written_at_once: false,
    })
}

fn row(number: u32, stored: Option<Stored>) -> RowEvidence {
    RowEvidence::Row {
        version: 5,
        position: at(7, number),
        stored,
    }
}

fn rows(rows: Vec<RowEvidence>) -> Content {
    Content::Rows { rows, left_out: 0 }
}

/// A record at 7 that was processed, and whose only row is not in the table.
fn evidence() -> Evidence {
    Evidence {
        standing: Standing::Covered,
        ranges: vec![range(RecordCounts {
            processed: 1,
            ..RecordCounts::default()
        })],
        deferred: None,
        letter: None,
        filter: Filter::Passed(Some(Version(1))),
        content: rows(vec![row(0, None)]),
    }
}

fn letter(state: State) -> Option<Letter> {
    Some(Letter {
        id: Some(3),
        class: "LOOKUP_MISS".to_owned(),
        state: Some(state),
    })
}

fn interval() -> Option<deferred::Interval> {
    Some(deferred::Interval {
        data_type: "fund".to_owned(),
        partition: 0,
        start: Offset(0),
        end: Offset(50),
        open: true,
        reason: "OPERATOR".to_owned(),
    })
}

fn outcome(change: impl FnOnce(&mut Evidence)) -> Outcome {
    let mut evidence = evidence();
    change(&mut evidence);
    judge(&evidence).outcome()
}

fn filtered() -> Filter {
    Filter::Filtered(Judged {
        version: Version(1),
        passed: false,
        by_own_list: false,
    })
}

#[test]
fn what_the_table_holds_with_this_source_was_written_whatever_else_is_said() {
    let there = |evidence: &mut Evidence| evidence.content = rows(vec![row(0, stored(5, at(7, 0).as_bytes()))]);
    assert_eq!(outcome(there), Outcome::Written);
    let otherwise = outcome(|evidence| {
        there(evidence);
        evidence.standing = Standing::Ahead {
            committed: None,
            stop: None,
        };
        evidence.letter = letter(State::Parked);
        evidence.deferred = interval();
        evidence.filter = filtered();
    });
    assert_eq!(otherwise, Outcome::Written);
}

#[test]
fn a_row_is_compared_by_version_and_then_by_position() {
    let against = |version, position: &[u8]| {
        let held = rows(vec![row(0, stored(version, position))]);
        outcome(|evidence| evidence.content = held)
    };
    assert_eq!(against(6, at(1, 0).as_bytes()), Outcome::Superseded);
    assert_eq!(against(5, at(8, 0).as_bytes()), Outcome::Superseded);
    assert_eq!(against(5, at(6, 0).as_bytes()), Outcome::Missing);
    assert_eq!(against(4, at(8, 0).as_bytes()), Outcome::Missing);
    // A backfilled row stands below all rows of Kafka of its version.
    assert_eq!(against(5, &[0]), Outcome::Missing);
    assert_eq!(against(6, &[0]), Outcome::Superseded);
}

#[test]
fn a_letter_counts_until_it_is_redriven() {
    for (state, expected) in [
        (State::Retrying, Outcome::DeadLettered),
        (State::Parked, Outcome::DeadLettered),
        (State::Discarded, Outcome::DeadLettered),
        (State::Redriven, Outcome::Missing),
    ] {
        assert_eq!(
            outcome(|evidence| evidence.letter = letter(state)),
            expected,
            "{state:?}"
        );
    }
    let purged = outcome(|evidence| evidence.content = Content::Faulty(FaultClass::NotJson));
    assert_eq!(purged, Outcome::DeadLettered);
}

#[test]
fn what_was_not_reached_is_pending_whatever_it_is() {
    let standings = [
        Standing::Ahead {
            committed: Some(Offset(7)),
            stop: None,
        },
        Standing::Lost,
        Standing::BeforeStart(Offset(9)),
        Standing::NotAccepted,
    ];
    for standing in standings {
        let contents = [
            Content::Tombstone,
            Content::Unmatched,
            Content::Faulty(FaultClass::NotJson),
            rows(vec![row(0, stored(6, at(1, 0).as_bytes()))]),
        ];
        for content in contents {
            let found = outcome(|evidence| {
                evidence.standing = standing.clone();
                evidence.content = content;
                evidence.ranges.clear();
            });
            assert_eq!(found, Outcome::Pending, "{standing:?}");
        }
    }
}

#[test]
fn a_hole_of_the_ledger_proves_nothing_but_what_the_table_shows_counts() {
    let hole = |evidence: &mut Evidence| {
        evidence.standing = Standing::Hole;
        evidence.ranges.clear();
        evidence.filter = Filter::Passed(None);
    };
    assert_eq!(outcome(hole), Outcome::Pending);
    let newer = rows(vec![row(0, stored(6, at(1, 0).as_bytes()))]);
    let found = outcome(|evidence| {
        hole(evidence);
        evidence.content = newer;
    });
    assert_eq!(found, Outcome::Superseded);
}

#[test]
fn an_interval_that_was_passed_over_counts_unless_the_ranges_say_otherwise() {
    assert_eq!(outcome(|evidence| evidence.deferred = interval()), Outcome::Missing);
    let deferred = outcome(|evidence| {
        evidence.deferred = interval();
        evidence.ranges[0].records.deferred = 1;
    });
    assert_eq!(deferred, Outcome::Deferred);
    let unknown = outcome(|evidence| {
        evidence.deferred = interval();
        evidence.ranges.clear();
    });
    assert_eq!(unknown, Outcome::Deferred);
}

#[test]
fn a_whitelist_that_is_not_on_record_leaves_it_to_the_table() {
    assert_eq!(outcome(|evidence| evidence.filter = filtered()), Outcome::Filtered);
    let unknown = || Filter::Unknown(Version(1));
    assert_eq!(outcome(|evidence| evidence.filter = unknown()), Outcome::Filtered);
    let newer = rows(vec![row(0, stored(6, at(1, 0).as_bytes()))]);
    let found = outcome(|evidence| {
        evidence.filter = unknown();
        evidence.content = newer;
    });
    assert_eq!(found, Outcome::Superseded);
}

#[test]
fn rows_are_taken_together_by_what_somebody_has_to_do() {
    let written = || row(0, stored(5, at(7, 0).as_bytes()));
    let superseded = || row(1, stored(6, at(1, 0).as_bytes()));
    let refused = || RowEvidence::Letter(Letter::gone(FaultClass::BadTime));
    let of = |all| outcome(|evidence| evidence.content = rows(all));
    assert_eq!(of(Vec::new()), Outcome::Written);
    assert_eq!(of(vec![superseded(), written()]), Outcome::Written);
    assert_eq!(of(vec![written(), row(2, None), superseded()]), Outcome::Missing);
    assert_eq!(of(vec![written(), row(2, None), refused()]), Outcome::DeadLettered);
    // A later row of the same record.
    assert_eq!(of(vec![row(0, stored(5, at(7, 1).as_bytes()))]), Outcome::Superseded);
}
