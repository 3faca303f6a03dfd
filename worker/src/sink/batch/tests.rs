use std::collections::BTreeMap;

use proptest::prelude::*;
use reprise_shared::fault::FaultClass;
use reprise_shared::position::{Offset, Partition, RowNumber, SourcePosition, TopicGeneration};
use reprise_shared::row::CellWriter;

use super::*;

fn row(key: u8, version: i64, offset: u64) -> Row {
    let position = SourcePosition::new(TopicGeneration(0), Partition(0), Offset(offset), RowNumber(0));
    // Longer than the prefix that sorting looks at first, and equal in it.
    let key = format!("same-sixteen-byte{key:03}").into_bytes().into_boxed_slice();
    Row {
        key,
        version,
        position,
        cells: CellWriter::default().take(),
    }
}

fn fault() -> Fault {
    Fault::new(FaultClass::TooLong, "too long")
}

fn sealed(rows: &[Row]) -> Batch<Row> {
    let mut batch = Batch::with_capacity(4);
    for row in rows {
        // Hashes that collide: equal hashes must not make equal keys.
        batch.push(u64::from(row.key[19] % 3), row.clone());
    }
    batch.seal();
    batch
}

type Model = BTreeMap<Box<[u8]>, (Option<usize>, Vec<usize>)>;

/// Per key: the newest good row, and the bad ones that are newer, from newest to oldest.
fn model(rows: &[Row], bad: &[bool]) -> Model {
    let mut keys: BTreeMap<Box<[u8]>, Vec<usize>> = BTreeMap::new();
    for (place, row) in rows.iter().enumerate() {
        keys.entry(row.key.clone()).or_default().push(place);
    }
    let newest_good = |mut places: Vec<usize>| {
        places.sort_by_key(|place| std::cmp::Reverse((rows[*place].version, rows[*place].position)));
        let winner = places.iter().position(|place| !bad[*place]);
        let refused = places[..winner.unwrap_or(places.len())].to_vec();
        (winner.map(|winner| places[winner]), refused)
    };
    keys.into_iter()
        .map(|(key, places)| (key, newest_good(places)))
        .collect()
}

fn winners(batch: &Batch<Row>) -> Vec<Option<usize>> {
    (0..batch.slots()).map(|slot| batch.place(Slot(slot))).collect()
}

proptest! {
    #[test]
    fn i2_the_newest_good_row_of_each_key_is_written_in_key_order(
        spec in proptest::collection::vec((0_u8..6, 0_i64..4, any::<bool>()), 0..40),
        order: u64,
    ) {
        // Offsets are distinct, as in Kafka; they arrive in any order.
        let rows = spec.iter().enumerate();
        let mut rows: Vec<(Row, bool)> =
            rows.map(|(offset, (key, version, bad))| (row(*key, *version, offset as u64), *bad)).collect();
        rows.sort_by_key(|(row, _)| row.position.offset().0.wrapping_mul(order | 1));
        let (rows, bad): (Vec<Row>, Vec<bool>) = rows.into_iter().unzip();
        let expected = model(&rows, &bad);

        let mut batch = sealed(&rows);
        let before = winners(&batch);
        for _ in 0..2 {
            for slot in (0..batch.slots()).map(Slot) {
                while batch.place(slot).is_some_and(|place| bad[place]) {
                    batch.reject(slot, fault());
                }
            }
            prop_assert_eq!(winners(&batch), expected.values().map(|(winner, _)| *winner).collect::<Vec<_>>());
            let refused: Vec<_> = batch.rejects().iter().map(|reject| reject.row).collect();
            prop_assert_eq!(refused, expected.values().flat_map(|(_, refused)| refused.clone()).collect::<Vec<_>>());
            for (place, fate) in batch.fates().into_iter().enumerate() {
                let (winner, refused) = &expected[&rows[place].key];
                let right = match (*winner == Some(place), refused.contains(&place)) {
                    (true, _) => Fate::Written,
                    (false, true) => Fate::DeadLettered,
                    (false, false) => Fate::Superseded,
                };
                prop_assert_eq!(fate, right);
            }
            batch.reset();
            prop_assert_eq!(winners(&batch), before.clone());
        }
    }
}

#[test]
fn one_key_sent_a_thousand_times_is_one_row_to_write() {
    let rows: Vec<_> = (0..1_000).map(|offset| row(1, 7, offset)).collect();
    let batch = sealed(&rows);
    assert_eq!((batch.keys(), batch.slots(), batch.place(Slot(0))), (1, 1, Some(999)));
}
