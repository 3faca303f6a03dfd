//! The one visit of a payload: it walks a tree of pointers beside the JSON and notes where each named value stands.
//!
//! Values are noted as their raw text, so numbers never pass through a float. Nothing is judged here except JSON
//! itself: what is missing, doubled or out of reach is noted too and becomes a fault only where a column needs it.

mod rows;
mod slot;

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use self::rows::Rows;
pub(super) use self::slot::{Kind, Slot};
use super::trie::{Node, NodeId, SlotId, Trie};
use crate::fault::{Fault, FaultClass};

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
    /// A number beyond a float's range where a pointer goes on stops the first, quick pass, which lets `serde_json`
    /// read such values. It is JSON all the same, so the second pass takes the text of each value before it looks
    /// inside, and its word counts.
    pub(super) fn visit(
        &mut self,
        text: &str,
        record: &Trie,
        item: Option<&Trie>,
        max_items: usize,
    ) -> Result<(), Fault> {
        if self.pass(text, record, item, max_items, false).is_ok() {
            return Ok(());
        }
        self.pass(text, record, item, max_items, true)
            .map_err(|error| Fault::new(FaultClass::NotJson, format!("the payload is not JSON: {error}")))
    }

    fn pass(
        &mut self,
        text: &str,
        record: &Trie,
        item: Option<&Trie>,
        max_items: usize,
        raw_first: bool,
    ) -> Result<(), serde_json::Error> {
        self.slots.clear();
        self.slots.resize(record.slots(), Slot::Absent);
        (self.record_slots, self.item_slots) = (record.slots(), item.map_or(0, Trie::slots));
        (self.items, self.too_many) = (0, false);
        let mut walk = Walk {
            found: self,
            text_start: text.as_ptr() as usize,
            item,
            max_items,
            raw_first,
        };
        let mut deserializer = serde_json::Deserializer::from_str(text);
        Value {
            walk: &mut walk,
            trie: record,
            node: Trie::ROOT,
            base: 0,
        }
        .deserialize(&mut deserializer)?;
        deserializer.end()
    }
}

struct Walk<'w> {
    found: &'w mut Found,
    text_start: usize,
    item: Option<&'w Trie>,
    max_items: usize,
    raw_first: bool,
}

/// A value that pointers name or pass through; also the visitor of its inside.
struct Value<'a, 'w> {
    walk: &'a mut Walk<'w>,
    trie: &'w Trie,
    node: NodeId,
    /// Where the slots of this record or item begin.
    base: usize,
}

impl<'w> Value<'_, 'w> {
    fn node(&self) -> &'w Node {
        self.trie.node(self.node)
    }

    fn note(&mut self, slot: SlotId, what: Slot) {
        self.walk.found.slots[self.base + slot.0] = what;
    }

    /// Notes that nothing below can be reached.
    fn block<E>(mut self, kind: Kind) -> Result<(), E> {
        for &slot in &self.node().below {
            self.note(slot, Slot::Blocked(kind));
        }
        Ok(())
    }

    fn child(&mut self, node: NodeId) -> Value<'_, 'w> {
        Value {
            walk: self.walk,
            trie: self.trie,
            node,
            base: self.base,
        }
    }

    /// Notes that a member stands twice.
    fn double(&mut self, node: NodeId) {
        let node = self.trie.node(node);
        for &slot in node.slot.iter().chain(&node.below) {
            self.note(slot, Slot::Duplicate);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<(), D::Error> {
        let node = self.node();
        let both = node.rows.is_some() && !node.children.is_empty();
        if node.slot.is_none() && !both && !self.walk.raw_first {
            return match node.rows {
                Some(slot) => deserializer.deserialize_any(Rows { value: self, slot }),
                None => deserializer.deserialize_any(self),
            };
        }
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        if let Some(slot) = node.slot {
            let start = raw.as_ptr() as usize - self.walk.text_start;
            let place = |offset| u32::try_from(offset).map_err(|_| D::Error::custom("a payload beyond 4 GiB"));
            let (start, end) = (place(start)?, place(start + raw.len())?);
            self.note(slot, Slot::At { start, end });
        }
        if node.below.is_empty() {
            return Ok(());
        }
        match Kind::of(raw) {
            Kind::Null => Ok(()),
            Kind::Object | Kind::Array => {
                let inside = || serde_json::Deserializer::from_str(raw);
                if let Some(slot) = node.rows {
                    let value = Value {
                        walk: self.walk,
                        trie: self.trie,
                        node: self.node,
                        base: self.base,
                    };
                    inside()
                        .deserialize_any(Rows { value, slot })
                        .map_err(D::Error::custom)?;
                }
                if node.children.is_empty() {
                    return Ok(());
                }
                inside().deserialize_any(self).map_err(D::Error::custom)
            }
            other => self.block(other),
        }
    }
}

impl<'de> Visitor<'de> for Value<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let node = self.node();
        let mut seen: SmallVec<[u64; 2]> = SmallVec::from_elem(0, node.children.len().div_ceil(64));
        let mut hint = 0;
        while let Some(place) = map.next_key_seed(Name { node, hint })? {
            let Some(place) = place else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let child = node.children[place].node;
            let (word, bit) = (place / 64, 1 << (place % 64));
            if seen[word] & bit == 0 {
                seen[word] |= bit;
                hint = place + 1;
                map.next_value_seed(self.child(child))?;
            } else {
                map.next_value::<IgnoredAny>()?;
                self.double(child);
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        let node = self.node();
        if !node.has_elements() {
            while elements.next_element::<IgnoredAny>()?.is_some() {}
            // The slot of `rows` is this value's own business.
            for child in &node.children {
                self.child(child.node).block_whole();
            }
            return Ok(());
        }
        for child in node.children.iter().filter(|child| !child.is_element()) {
            self.child(child.node).block_whole();
        }
        for index in 0.. {
            let more = match node.element(index) {
                Some(child) => elements.next_element_seed(self.child(child.node))?,
                None => elements.next_element::<IgnoredAny>()?.map(|_| ()),
            };
            if more.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.block(Kind::Boolean)
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.block(Kind::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.block(Kind::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.block(Kind::Number)
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.block(Kind::String)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

impl Value<'_, '_> {
    /// Notes that neither this value nor anything below can be reached, because an array stands above.
    fn block_whole(mut self) {
        let node = self.node();
        for &slot in node.slot.iter().chain(&node.below) {
            self.note(slot, Slot::Blocked(Kind::Array));
        }
    }
}

/// A member's name, to be found among the named ones.
struct Name<'n> {
    node: &'n Node,
    hint: usize,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.node.child(name, self.hint))
    }
}
