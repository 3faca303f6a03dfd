//! The rows of one type that go to MySQL in one transaction (pure).
//!
//! The newest (version, position) of each key wins. Losers stay behind their winner until the commit: when a winner
//! turns out bad, the next older row of its key takes its place. Winners are written in the order of their keys,
//! everywhere the same, so that no two lanes or workers can lock in a circle.

use hashbrown::HashTable;
use reprise_shared::fault::Fault;
use reprise_shared::row::Row;

const NONE: u32 = u32::MAX;

/// Which of two rows of one key is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wins {
    /// The greater (version, position).
    #[default]
    Newer,
    /// The greater position, whatever the versions say.
    Later,
}

impl Wins {
    fn wins(self, row: &Row, over: &Row) -> bool {
        match self {
            Self::Newer => row.is_newer_than(over),
            Self::Later => row.position > over.position,
        }
    }
}

/// The place of a key in a sealed batch; slots are in key order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(pub usize);

/// Gives the row of an entry: what a batch holds may carry more than the row.
pub trait AsRow {
    /// Returns the row.
    fn as_row(&self) -> &Row;
}

impl AsRow for Row {
    fn as_row(&self) -> &Row {
        self
    }
}

/// What became of a row of a committed batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A committed upsert carried it.
    Written,
    /// A newer row of its key was written.
    Superseded,
    /// It was refused.
    DeadLettered,
}

/// A row that was refused in this attempt.
#[derive(Clone, Debug)]
pub struct Reject {
    slot: usize,
    /// Its place in [`Batch::rows`].
    pub row: usize,
    /// Why.
    pub fault: Fault,
}

/// Rows of one type. Filled with [`Batch::push`], then sealed once.
#[derive(Debug)]
pub struct Batch<R> {
    wins: Wins,
    rows: Vec<R>,
    /// Per row, the next row of the list behind it: the losers of its key, in no order.
    behind: Vec<u32>,
    by_key: HashTable<(u64, u32)>,
    /// After sealing: per key in key order, the row that is to be written; `NONE` when all of them were refused.
    slots: Vec<u32>,
    rejects: Vec<Reject>,
}

impl<R: AsRow> Batch<R> {
    /// Makes an empty batch with room for this many rows, of which the newest of each key is written.
    pub fn with_capacity(rows: usize) -> Self {
        Self::new(rows, Wins::Newer)
    }

    /// Makes an empty batch with room for this many rows.
    pub fn new(rows: usize, wins: Wins) -> Self {
        Self {
            wins,
            rows: Vec::with_capacity(rows),
            behind: Vec::with_capacity(rows),
            by_key: HashTable::with_capacity(rows),
            slots: Vec::with_capacity(rows),
            rejects: Vec::new(),
        }
    }

    /// Adds a row. `hash` is of its key, by one function for all rows of the batch. At most 2³² − 1 rows.
    pub fn push(&mut self, hash: u64, row: R) {
        let place = u32::try_from(self.rows.len()).expect("a batch is bounded far below 2^32 rows");
        let known = self.by_key.find_mut(hash, |(_, other)| {
            self.rows[*other as usize].as_row().key == row.as_row().key
        });
        let behind = match known {
            None => {
                self.by_key.insert_unique(hash, (hash, place), |(hash, _)| *hash);
                NONE
            }
            Some((_, winner)) if self.wins.wins(row.as_row(), self.rows[*winner as usize].as_row()) => {
                std::mem::replace(winner, place)
            }
            Some((_, winner)) => std::mem::replace(&mut self.behind[*winner as usize], place),
        };
        self.rows.push(row);
        self.behind.push(behind);
    }

    /// Returns how many keys there are.
    pub fn keys(&self) -> usize {
        self.by_key.len()
    }

    /// Returns the rows in the order in which they were pushed.
    pub fn rows(&self) -> &[R] {
        &self.rows
    }

    /// Takes the rows in the order in which they were pushed.
    pub fn into_rows(self) -> Vec<R> {
        self.rows
    }

    /// Sorts the winners by key.
    pub fn seal(&mut self) {
        let rows = &self.rows;
        // Most comparisons end within the first 16 bytes, which then cost no access to the row.
        let mut order: Vec<(u128, u32)> = self
            .by_key
            .iter()
            .map(|(_, row)| (prefix(&rows[*row as usize].as_row().key), *row))
            .collect();
        let key = |row: u32| &rows[row as usize].as_row().key;
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| key(a.1).cmp(key(b.1))));
        self.slots = order.into_iter().map(|(_, row)| row).collect();
    }

    /// Returns the number of slots: one a key, whatever was refused meanwhile.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Returns the row that stands for a key now; `None` when all of its rows were refused.
    pub fn row(&self, slot: Slot) -> Option<&R> {
        self.rows.get(self.slots[slot.0] as usize)
    }

    /// Returns the place in [`Batch::rows`] of the row that stands for a key now.
    pub fn place(&self, slot: Slot) -> Option<usize> {
        let place = self.slots[slot.0];
        (place != NONE).then_some(place as usize)
    }

    /// Refuses the row that stands for a key; the next older row of the key takes its place. Tells whether there is
    /// one.
    pub fn reject(&mut self, slot: Slot, fault: Fault) -> bool {
        let row = self.slots[slot.0];
        if row == NONE {
            return false;
        }
        self.rejects.push(Reject {
            slot: slot.0,
            row: row as usize,
            fault,
        });
        let next = self.take_newest_behind(row);
        self.slots[slot.0] = next;
        next != NONE
    }

    /// Returns the rows that were refused since the batch was sealed or reset.
    pub fn rejects(&self) -> &[Reject] {
        &self.rejects
    }

    /// Takes back every refusal: the transaction was rolled back.
    pub fn reset(&mut self) {
        while let Some(reject) = self.rejects.pop() {
            let row = u32::try_from(reject.row).expect("a place of this batch");
            self.behind[reject.row] = std::mem::replace(&mut self.slots[reject.slot], row);
        }
    }

    /// Returns what became of each row, in the order of [`Batch::rows`], once the batch is committed.
    pub fn fates(&self) -> Vec<Fate> {
        let mut fates = vec![Fate::Superseded; self.rows.len()];
        for row in self.slots.iter().filter(|row| **row != NONE) {
            fates[*row as usize] = Fate::Written;
        }
        for reject in &self.rejects {
            fates[reject.row] = Fate::DeadLettered;
        }
        fates
    }

    /// Unlinks the newest row of the list behind `row` and puts the rest behind it.
    fn take_newest_behind(&mut self, row: u32) -> u32 {
        let first = std::mem::replace(&mut self.behind[row as usize], NONE);
        let (mut newest, mut before_newest, mut before, mut at) = (first, NONE, first, first);
        while at != NONE {
            if self
                .wins
                .wins(self.rows[at as usize].as_row(), self.rows[newest as usize].as_row())
            {
                (newest, before_newest) = (at, before);
            }
            before = at;
            at = self.behind[at as usize];
        }
        if newest != first {
            self.behind[before_newest as usize] = self.behind[newest as usize];
            self.behind[newest as usize] = first;
        }
        newest
    }
}

fn prefix(key: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    let length = key.len().min(16);
    bytes[..length].copy_from_slice(&key[..length]);
    u128::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests;
