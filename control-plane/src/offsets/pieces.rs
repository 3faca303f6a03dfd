//! What is known of each position of an interval. Pure.

use std::collections::BTreeMap;

use reprise_shared::ledger::{Interval, holes, union};
use reprise_shared::position::Offset;

/// What is known of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Every delivered record in it has a durable outcome.
    Covered,
    /// A rebuild read it and found every outcome.
    Attested,
    /// An operator accepted that it is missing.
    Lost,
    /// Kafka has deleted it, and nothing is on record.
    Expired,
    /// Nothing is on record.
    Hole,
    /// Records of a stopped type were passed over.
    Deferred,
}

/// One interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The positions.
    pub interval: Interval,
    /// What is known of them.
    pub state: State,
    /// The stopped type of deferred ones.
    pub data_type: Option<String>,
}

/// What is on record of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnRecord {
    /// Covered by live traffic.
    pub live: Vec<Interval>,
    /// Attested by a rebuild.
    pub attested: Vec<Interval>,
    /// Accepted as missing.
    pub lost: Vec<Interval>,
    /// Passed over, by type.
    pub deferred: BTreeMap<String, Vec<Interval>>,
}

impl OnRecord {
    /// Divides `within` by what is known. Of several things that are known of a position, an outcome counts before its
    /// absence; deferred intervals stand beside the others. By start, without gaps.
    pub fn pieces(&self, within: Interval, log_start: Offset) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut rest = holes(within, []);
        for (state, known) in [
            (State::Covered, &self.live),
            (State::Attested, &self.attested),
            (State::Lost, &self.lost),
        ] {
            for asked in std::mem::take(&mut rest) {
                pieces.extend(common(asked, known).map(|interval| piece(interval, state)));
                rest.extend(holes(asked, known.iter().copied()));
            }
        }
        for hole in rest {
            let (expired, missing) = (
                Interval::new(hole.start, hole.end.min(log_start)),
                Interval::new(hole.start.max(log_start), hole.end),
            );
            pieces.extend([piece(expired, State::Expired), piece(missing, State::Hole)]);
        }
        for (data_type, known) in &self.deferred {
            pieces.extend(common(within, known).map(|interval| Piece {
                data_type: Some(data_type.clone()),
                ..piece(interval, State::Deferred)
            }));
        }
        pieces.retain(|piece| !piece.interval.is_empty());
        pieces.sort_by(|one, other| {
            let key = |piece: &Piece| (piece.interval.start, piece.state, piece.interval.end);
            key(one)
                .cmp(&key(other))
                .then_with(|| one.data_type.cmp(&other.data_type))
        });
        pieces
    }
}

/// Tells whether nothing is missing: no hole, nothing lost.
pub fn is_whole(pieces: &[Piece]) -> bool {
    !pieces
        .iter()
        .any(|piece| matches!(piece.state, State::Hole | State::Lost))
}

fn common(within: Interval, known: &[Interval]) -> impl Iterator<Item = Interval> {
    let clip = |known: &Interval| Interval::new(known.start.max(within.start), known.end.min(within.end));
    union(known.iter().map(clip)).into_iter()
}

fn piece(interval: Interval, state: State) -> Piece {
    Piece {
        interval,
        state,
        data_type: None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn interval((start, end): (u64, u64)) -> Interval {
        Interval::new(Offset(start), Offset(end))
    }

    fn told(pieces: &[Piece]) -> Vec<(u64, u64, State)> {
        let told = pieces.iter();
        told.map(|piece| (piece.interval.start.0, piece.interval.end.0, piece.state))
            .collect()
    }

    #[test]
    fn an_outcome_counts_before_its_absence_and_deferred_stands_beside() {
        use State::{Attested, Covered, Deferred, Expired, Hole, Lost};
        let known = OnRecord {
            live: [(0, 10), (20, 40), (30, 50)].map(interval).to_vec(),
            attested: vec![interval((45, 60))],
            lost: vec![interval((55, 70))],
            deferred: [("fund_risk".to_owned(), [(25, 28), (28, 35)].map(interval).to_vec())].into(),
        };
        let pieces = known.pieces(interval((5, 90)), Offset(15));
        assert_eq!(
            told(&pieces),
            [
                (5, 10, Covered),
                (10, 15, Expired),
                (15, 20, Hole),
                (20, 50, Covered),
                (25, 35, Deferred),
                (50, 60, Attested),
                (60, 70, Lost),
                (70, 90, Hole),
            ]
        );
        assert_eq!(pieces[4].data_type.as_deref(), Some("fund_risk"));
        assert!(!is_whole(&pieces));
        assert!(is_whole(&known.pieces(interval((0, 15)), Offset(15))));
        assert_eq!(known.pieces(interval((7, 7)), Offset(15)), []);
    }

    proptest! {
        #[test]
        fn every_position_is_told_once_beside_deferred(
            live in prop::collection::vec((0_u64..60, 0_u64..60), 0..6),
            attested in prop::collection::vec((0_u64..60, 0_u64..60), 0..3),
            lost in prop::collection::vec((0_u64..60, 0_u64..60), 0..3),
            from in 0_u64..60, to in 0_u64..60, log_start in 0_u64..60,
        ) {
            let list = |pairs: Vec<(u64, u64)>| pairs.into_iter().map(interval).collect::<Vec<_>>();
            let known = OnRecord {
                live: list(live), attested: list(attested), lost: list(lost), ..OnRecord::default()
            };
            let pieces = known.pieces(interval((from, to)), Offset(log_start));
            let mut position = from;
            for piece in &pieces {
                prop_assert_eq!(piece.interval.start.0, position);
                position = piece.interval.end.0;
                let of = |known: &[Interval]| known.iter().any(|known| known.start <= piece.interval.start
                    && piece.interval.start < known.end);
                let expected = if of(&known.live) { State::Covered } else if of(&known.attested) { State::Attested }
                    else if of(&known.lost) { State::Lost } else if piece.interval.start.0 < log_start { State::Expired }
                    else { State::Hole };
                prop_assert_eq!(piece.state, expected);
            }
            prop_assert_eq!(position, to.max(from));
        }
    }
}
