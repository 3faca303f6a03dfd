//! The one visit of a payload: it walks a tree of pointers beside the JSON and notes where each named value stands.
//!
//! Values are noted as their raw text, so numbers never pass through a float. Nothing is judged here except JSON
//! itself: what is missing, doubled or out of reach is noted too and becomes a fault only where a column needs it.

mod slot;
#[cfg(test)]
mod tests;

use jiter::{Jiter, JiterError, JiterErrorType, JsonErrorType, Peek};
use serde::de::IgnoredAny;
use smallvec::SmallVec;

pub(super) use self::slot::{Kind, Slot};
use super::trie::{Node, NodeId, SlotId, Trie};
use crate::fault::{Fault, FaultClass};

/// What jiter says of a number with more than 4,300 digits before the point.
const TOO_MANY_DIGITS: JiterErrorType = JiterErrorType::JsonError(JsonErrorType::NumberOutOfRange);

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
            text,
            base: 0,
            json: Jiter::new(text.as_bytes()),
            item,
            max_items,
        };
        let root = Root { trie: record, base: 0 };
        walk.whole(root).map_err(|error| error.into_fault(text))
    }
}

/// The text is not JSON.
#[derive(Clone, Copy, Debug)]
struct NotJson;

impl NotJson {
    /// Says what is wrong with the text, in `serde_json`'s words.
    fn into_fault(self, text: &str) -> Fault {
        let message = match serde_json::from_str::<IgnoredAny>(text) {
            Err(error) => format!("the payload is not JSON: {error}"),
            Ok(IgnoredAny) => "the payload is not JSON".to_owned(),
        };
        Fault::new(FaultClass::NotJson, message)
    }
}

impl From<JiterError> for NotJson {
    fn from(_: JiterError) -> Self {
        Self
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
    text: &'w str,
    /// Where in the text `json` began.
    base: usize,
    json: Jiter<'w>,
    item: Option<&'w Trie>,
    max_items: usize,
}

impl<'w> Walk<'w> {
    /// Passes the whole text.
    fn whole(&mut self, root: Root<'w>) -> Result<(), NotJson> {
        let peek = self.json.peek()?;
        self.value(root, Trie::ROOT, peek)?;
        Ok(self.json.finish()?)
    }

    /// Passes a value that pointers name or pass through.
    fn value(&mut self, root: Root<'w>, node: NodeId, peek: Peek) -> Result<(), NotJson> {
        let node = root.trie.node(node);
        let kind = Kind::by_first_byte(peek.into_inner()).ok_or(NotJson)?;
        let start = self.at();
        let mut plain = false;
        match kind {
            Kind::Object | Kind::Array if node.below.is_empty() => self.skip(peek)?,
            Kind::Object | Kind::Array => {
                if let Some(slot) = node.rows {
                    // What has both rows and members is passed twice.
                    let again = (!node.children.is_empty()).then(|| (self.base, self.json.clone()));
                    self.rows(root, slot, kind, peek)?;
                    if let Some(again) = again {
                        (self.base, self.json) = again;
                    }
                }
                if !node.children.is_empty() {
                    match kind {
                        Kind::Object => self.members(root, node)?,
                        _ => self.elements(root, node, peek)?,
                    }
                }
            }
            _ => {
                plain = self.scalar(peek)?;
                if kind != Kind::Null {
                    self.note(root, &node.below, Slot::Blocked(kind));
                }
            }
        }
        if let Some(slot) = node.slot {
            // A payload has less than 4 GiB, `check` sees to it.
            let (start, end) = (start as u32, self.at() as u32);
            self.note(root, &[slot], Slot::At { start, end, plain });
        }
        Ok(())
    }

    /// Passes an object and looks at the members that pointers go on to.
    fn members(&mut self, root: Root<'w>, node: &'w Node) -> Result<(), NotJson> {
        let mut seen: SmallVec<[u64; 1]> = SmallVec::from_elem(0, node.children.len().div_ceil(64));
        // Where the next member probably stands among the named ones.
        let mut hint = 0;
        let mut name = self.json.known_object()?;
        while let Some(member) = name {
            let place = node.child(member, hint);
            let peek = self.json.peek()?;
            if let Some(place) = place {
                let child = node.children[place].node;
                let (word, bit) = (place / 64, 1 << (place % 64));
                if seen[word] & bit == 0 {
                    seen[word] |= bit;
                    hint = place + 1;
                    self.value(root, child, peek)?;
                } else {
                    self.skip(peek)?;
                    self.note_whole(root, child, Slot::Duplicate);
                }
            } else {
                self.skip(peek)?;
            }
            name = self.json.next_key()?;
        }
        Ok(())
    }

    /// Passes an array and looks at the elements that pointers go on to.
    fn elements(&mut self, root: Root<'w>, node: &'w Node, peek: Peek) -> Result<(), NotJson> {
        for child in node.children.iter().filter(|child| !child.is_element()) {
            self.note_whole(root, child.node, Slot::Blocked(Kind::Array));
        }
        if !node.has_elements() {
            return self.skip(peek);
        }
        let mut element = self.json.known_array()?;
        let mut indexes = 0..;
        while let (Some(peek), Some(index)) = (element, indexes.next()) {
            match node.element(index) {
                Some(child) => self.value(root, child.node, peek)?,
                None => self.skip(peek)?,
            }
            element = self.json.array_step()?;
        }
        Ok(())
    }

    /// Passes the value that `rows` points to, an array or an object: each element is a root of its own.
    fn rows(&mut self, root: Root<'w>, slot: SlotId, kind: Kind, peek: Peek) -> Result<(), NotJson> {
        let (Kind::Array, Some(trie)) = (kind, self.item) else {
            self.note(root, &[slot], Slot::Blocked(kind));
            return self.skip(peek);
        };
        self.note(root, &[slot], Slot::Rows);
        let mut element = self.json.known_array()?;
        while let Some(peek) = element {
            if self.found.items == self.max_items {
                self.found.too_many = true;
                self.skip(peek)?;
            } else {
                let base = self.found.slots.len();
                self.found.slots.resize(base + trie.slots(), Slot::Absent);
                self.value(Root { trie, base }, Trie::ROOT, peek)?;
                self.found.items += 1;
            }
            element = self.json.array_step()?;
        }
        Ok(())
    }

    /// Passes any value. Not by `known_skip`, which gives up at 200 levels; `check` bounds how deep this goes.
    fn skip(&mut self, peek: Peek) -> Result<(), NotJson> {
        match peek {
            Peek::Object => {
                let mut more = self.json.next_object_bytes()?.is_some();
                while more {
                    let peek = self.json.peek()?;
                    self.skip(peek)?;
                    more = self.json.next_key_bytes()?.is_some();
                }
            }
            Peek::Array => {
                let mut element = self.json.known_array()?;
                while let Some(peek) = element {
                    self.skip(peek)?;
                    element = self.json.array_step()?;
                }
            }
            _ => drop(self.scalar(peek)?),
        }
        Ok(())
    }

    /// Passes a value that is neither array nor object. Returns whether it is a string without escapes.
    fn scalar(&mut self, peek: Peek) -> Result<bool, NotJson> {
        if peek == Peek::String {
            let start = self.json.current_index();
            // Every escape is longer than what it stands for.
            let length = self.json.known_str()?.len();
            return Ok(start + length + 2 == self.json.current_index());
        }
        match self.json.known_skip(peek) {
            Err(error) if error.error_type == TOO_MANY_DIGITS => self.long_number(),
            result => Ok(result?),
        }?;
        Ok(false)
    }

    /// Passes a number that has more digits before the point than jiter takes: from the last of them it is a number
    /// too.
    fn long_number(&mut self) -> Result<(), NotJson> {
        let number = &self.text.as_bytes()[self.at()..];
        let before_digits = usize::from(number.starts_with(b"-"));
        let digits = number
            .iter()
            .skip(before_digits)
            .take_while(|byte| byte.is_ascii_digit());
        self.base = self.at() + before_digits + digits.count() - 1;
        self.json = Jiter::new(&self.text.as_bytes()[self.base..]);
        Ok(self.json.next_skip()?)
    }

    /// Returns how many bytes were read.
    fn at(&self) -> usize {
        self.base + self.json.current_index()
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
