//! The one visit of a payload: it walks a tree of pointers beside the JSON and notes where each named value stands.
//!
//! Values are noted as their raw text, so numbers never pass through a float. Nothing is judged here except JSON
//! itself: what is missing, doubled or out of reach is noted too and becomes a fault only where a column needs it.

mod slot;

use smallvec::SmallVec;

pub(super) use self::slot::{Kind, Slot};
use super::scan::{NotJson, Scanner};
use super::trie::{Node, NodeId, SlotId, Trie};
use crate::fault::Fault;

/// What the visit found: the record's slots, then those of each item; memory is kept between records.
#[derive(Debug, Default)]
pub(super) struct Found {
    slots: Vec<Slot>,
    record_slots: usize,
    item_slots: usize,
    items: usize,
    /// There were more items than allowed; the rest were not noted.
    pub(super) too_many: bool,
}

impl Found {
    /// Returns what stands at a pointer of the record.
    pub(super) fn record(&self, slot: SlotId) -> Slot {
        self.slots[slot.0]
    }

    /// Returns what stands at a pointer of an item.
    pub(super) fn item(&self, item: usize, slot: SlotId) -> Slot {
        self.slots[self.record_slots + item * self.item_slots + slot.0]
    }

    /// Returns how many items `rows` has.
    pub(super) fn items(&self) -> usize {
        self.items
    }

    /// Visits a whole payload.
    ///
    /// # Errors
    /// When it is not JSON.
    pub(super) fn visit(
        &mut self,
        text: &str,
        record: &Trie,
        item: Option<&Trie>,
        max_items: usize,
    ) -> Result<(), Fault> {
        self.slots.clear();
        self.slots.resize(record.slots(), Slot::Absent);
        (self.record_slots, self.item_slots) = (record.slots(), item.map_or(0, Trie::slots));
        (self.items, self.too_many) = (0, false);
        let mut walk = Walk {
            found: self,
            json: Scanner::new(text),
            item,
            max_items,
        };
        let root = Root { trie: record, base: 0 };
        walk.value(root, Trie::ROOT)
            .and_then(|()| walk.json.end())
            .map_err(|error| error.into_fault(text))
    }
}

/// The record, or an item.
#[derive(Clone, Copy)]
struct Root<'w> {
    trie: &'w Trie,
    /// Where its slots begin.
    base: usize,
}

struct Walk<'w> {
    found: &'w mut Found,
    json: Scanner<'w>,
    item: Option<&'w Trie>,
    max_items: usize,
}

impl<'w> Walk<'w> {
    /// Passes a value that pointers name or pass through.
    fn value(&mut self, root: Root<'w>, node: NodeId) -> Result<(), NotJson> {
        let node = root.trie.node(node);
        let kind = self.json.kind()?;
        let start = self.json.at();
        let mut plain = false;
        match kind {
            Kind::Object | Kind::Array if node.below.is_empty() => self.json.skip_nested()?,
            Kind::Object | Kind::Array => {
                if let Some(slot) = node.rows {
                    self.rows(root, slot, kind)?;
                }
                if !node.children.is_empty() {
                    self.json.go_back(start);
                    match kind {
                        Kind::Object => self.members(root, node)?,
                        _ => self.elements(root, node)?,
                    }
                }
            }
            _ => {
                plain = self.json.scalar(kind)?;
                if kind != Kind::Null {
                    self.note(root, &node.below, Slot::Blocked(kind));
                }
            }
        }
        if let Some(slot) = node.slot {
            // A payload has less than 4 GiB, `check` sees to it.
            let (start, end) = (start as u32, self.json.at() as u32);
            self.note(root, &[slot], Slot::At { start, end, plain });
        }
        Ok(())
    }

    /// Passes an object and looks at the members that pointers go on to.
    fn members(&mut self, root: Root<'w>, node: &'w Node) -> Result<(), NotJson> {
        let mut seen: SmallVec<[u64; 1]> = SmallVec::from_elem(0, node.children.len().div_ceil(64));
        // Where the next member probably stands among the named ones.
        let mut hint = 0;
        self.json.enter();
        let mut first = true;
        while self.json.more(first, b'}')? {
            first = false;
            let place = match node.children.get(hint) {
                Some(child) if self.json.take_name(&child.quoted) => Some(hint),
                _ => node.child(&self.json.name()?),
            };
            let Some(place) = place else {
                self.json.skip()?;
                continue;
            };
            let child = node.children[place].node;
            let (word, bit) = (place / 64, 1 << (place % 64));
            if seen[word] & bit == 0 {
                seen[word] |= bit;
                hint = place + 1;
                self.value(root, child)?;
            } else {
                self.json.skip()?;
                self.note_whole(root, child, Slot::Duplicate);
            }
        }
        Ok(())
    }

    /// Passes an array and looks at the elements that pointers go on to.
    fn elements(&mut self, root: Root<'w>, node: &'w Node) -> Result<(), NotJson> {
        for child in node.children.iter().filter(|child| !child.is_element()) {
            self.note_whole(root, child.node, Slot::Blocked(Kind::Array));
        }
        if !node.has_elements() {
            return self.json.skip();
        }
        self.json.enter();
        for index in 0.. {
            if !self.json.more(index == 0, b']')? {
                break;
            }
            match node.element(index) {
                Some(child) => self.value(root, child.node)?,
                None => self.json.skip()?,
            }
        }
        Ok(())
    }

    /// Passes the value that `rows` points to, an array or an object: each element is a root of its own.
    fn rows(&mut self, root: Root<'w>, slot: SlotId, kind: Kind) -> Result<(), NotJson> {
        let (Kind::Array, Some(trie)) = (kind, self.item) else {
            self.note(root, &[slot], Slot::Blocked(kind));
            return self.json.skip();
        };
        self.note(root, &[slot], Slot::Rows);
        self.json.enter();
        let mut first = true;
        while self.json.more(first, b']')? {
            first = false;
            if self.found.items == self.max_items {
                self.found.too_many = true;
                self.json.skip()?;
                continue;
            }
            let base = self.found.slots.len();
            self.found.slots.resize(base + trie.slots(), Slot::Absent);
            self.value(Root { trie, base }, Trie::ROOT)?;
            self.found.items += 1;
        }
        Ok(())
    }

    fn note(&mut self, root: Root<'_>, slots: &[SlotId], what: Slot) {
        for slot in slots {
            self.found.slots[root.base + slot.0] = what;
        }
    }

    /// Notes what became of a value and of all below it.
    fn note_whole(&mut self, root: Root<'_>, node: NodeId, what: Slot) {
        let node = root.trie.node(node);
        self.note(root, node.slot.as_slice(), what);
        self.note(root, &node.below, what);
    }
}
