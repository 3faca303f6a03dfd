//! Which data type a record of a topic belongs to, where a field of the record tells.

use std::borrow::Cow;

use super::trie::{SlotId, Trie};
use super::value::{Named, named, string};
use super::visit::Found;
use super::{Limits, check, id_of};
use crate::catalog::{DataType, Matcher, TypeIndex};
use crate::fault::Fault;

/// The data types of one topic that are recognised by a field, compiled.
#[derive(Clone, Debug)]
pub struct FieldMatcher {
    trie: Trie,
    types: Vec<MatchedType>,
}

#[derive(Clone, Debug)]
struct MatchedType {
    index: TypeIndex,
    field: SlotId,
    pointer: String,
    equals: String,
    id: SlotId,
    id_pointer: String,
}

/// The data type of a record, and its id: the filter of such a type always needs it.
#[derive(Debug)]
pub struct Matched<'p> {
    /// The data type.
    pub index: TypeIndex,
    /// The record's id, borrowed when it has no escapes; a fault of it is a dead letter of this data type.
    pub id: Result<Cow<'p, str>, Fault>,
}

impl FieldMatcher {
    /// Compiles the data types of one topic, in catalog order; those that are not recognised by a field are left out.
    /// `None` when there is no such type.
    pub fn new<'d>(types: impl IntoIterator<Item = (TypeIndex, &'d DataType)>) -> Option<Self> {
        let mut trie = Trie::new();
        let types: Vec<_> = types
            .into_iter()
            .filter_map(|(index, data_type)| match &data_type.matcher {
                Some(Matcher::Field { pointer, equals }) => Some(MatchedType {
                    index,
                    field: trie.insert(pointer),
                    pointer: super::plan::text(pointer),
                    equals: equals.clone(),
                    id: trie.insert(&data_type.id),
                    id_pointer: super::plan::text(&data_type.id),
                }),
                Some(Matcher::Header { .. }) | None => None,
            })
            .collect();
        (!types.is_empty()).then_some(Self { trie, types })
    }

    /// Finds the first data type, in catalog order, whose field has the declared value. A field that is missing, out
    /// of reach or no string matches nothing.
    ///
    /// # Errors
    /// When the payload is not JSON, or breaks a limit, or a field that tells the type stands twice.
    pub fn find<'p>(&self, payload: &'p [u8], limits: &Limits) -> Result<Option<Matched<'p>>, Fault> {
        let payload = check::text(payload, limits)?;
        let mut found = Found::default();
        found.visit(payload, &self.trie, None, 0)?;
        let mut last: Option<(SlotId, Option<Cow<'p, str>>)> = None;
        for data_type in &self.types {
            // Types of one topic nearly always share the field, so its value is read once.
            let value = match &mut last {
                Some((slot, value)) if *slot == data_type.field => value,
                other => {
                    let value = value_of(found.record(data_type.field), &data_type.pointer, payload)?;
                    &mut other.insert((data_type.field, value)).1
                }
            };
            if value.as_deref() == Some(&*data_type.equals) {
                let id = id_of(found.record(data_type.id), &data_type.id_pointer, payload);
                return Ok(Some(Matched {
                    index: data_type.index,
                    id,
                }));
            }
        }
        Ok(None)
    }
}

/// Reads the value of a field that tells the type.
fn value_of<'p>(slot: super::visit::Slot, pointer: &str, payload: &'p str) -> Result<Option<Cow<'p, str>>, Fault> {
    use super::visit::Slot;
    match slot {
        Slot::Duplicate => named(slot, pointer, payload).map(|_| None),
        Slot::At { .. } => match named(slot, pointer, payload)? {
            Named::Raw(raw) => Ok(string(raw).ok()),
            Named::Nothing => Ok(None),
        },
        Slot::Absent | Slot::Blocked(_) | Slot::Rows => Ok(None),
    }
}
