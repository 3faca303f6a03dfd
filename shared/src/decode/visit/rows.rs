//! The visitor of the array of rows: each element is walked beside the tree of items.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Kind, Slot, SlotId, Trie, Value};

/// The visitor of the value that `rows` points to.
pub(super) struct Rows<'a, 'w> {
    pub(super) value: Value<'a, 'w>,
    pub(super) slot: SlotId,
}

impl Rows<'_, '_> {
    fn block<E>(mut self, kind: Kind) -> Result<(), E> {
        self.value.note(self.slot, Slot::Blocked(kind));
        Ok(())
    }
}

impl<'de> Visitor<'de> for Rows<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        self.value.note(self.slot, Slot::Rows);
        let Some(trie) = self.value.walk.item else {
            while elements.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        loop {
            let walk = &mut *self.value.walk;
            if walk.found.items == walk.max_items {
                let mut more = false;
                while elements.next_element::<IgnoredAny>()?.is_some() {
                    more = true;
                }
                walk.found.too_many = more;
                return Ok(());
            }
            let base = walk.found.slots.len();
            walk.found.slots.resize(base + trie.slots(), Slot::Absent);
            if elements
                .next_element_seed(Value {
                    walk,
                    trie,
                    node: Trie::ROOT,
                    base,
                })?
                .is_none()
            {
                self.value.walk.found.slots.truncate(base);
                return Ok(());
            }
            self.value.walk.found.items += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.block(Kind::Object)
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
