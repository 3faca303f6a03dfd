//! YAML text as a tree. A key that stands twice is a fault with its place; serde would end at the first.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};
use serde_norway::{Mapping, Value};

use super::faults::{Collector, YamlPath};

/// Reads the text; `None` when it is not YAML at all.
pub(super) fn read(text: &str, faults: &mut Collector) -> Option<Value> {
    match serde_norway::from_str::<Node>(text) {
        Ok(node) => Some(node.into_value(&YamlPath::root(), faults)),
        Err(error) => {
            faults.add(
                &YamlPath::root(),
                format!("is not YAML: {error}"),
                "correct the syntax there",
            );
            None
        }
    }
}

/// Like [`Value`], with mappings as they were written.
enum Node {
    Scalar(Value),
    List(Vec<Node>),
    Mapping(Vec<(Value, Node)>),
}

impl Node {
    fn into_value(self, path: &YamlPath, faults: &mut Collector) -> Value {
        match self {
            Self::Scalar(value) => value,
            Self::List(nodes) => Value::Sequence(
                nodes
                    .into_iter()
                    .enumerate()
                    .map(|(index, node)| node.into_value(&path.element(index), faults))
                    .collect(),
            ),
            Self::Mapping(entries) => {
                let mut seen = HashSet::new();
                let mut mapping = Mapping::new();
                for (key, node) in entries {
                    let Value::String(name) = key else {
                        faults.add(
                            path,
                            format!("has the key {}", inline(&key)),
                            "quote keys that are not plain text",
                        );
                        continue;
                    };
                    let place = path.key(&name);
                    let value = node.into_value(&place, faults);
                    if seen.insert(name.clone()) {
                        mapping.insert(Value::String(name), value);
                    } else {
                        faults.add(&place, "stands twice", "keep one of the two");
                    }
                }
                Value::Mapping(mapping)
            }
        }
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(value) => format!("{value:?}"),
        Value::Sequence(_) => "[…]".to_owned(),
        Value::Mapping(_) => "{…}".to_owned(),
        Value::Tagged(value) => value.tag.to_string(),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any YAML value")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Number(value.into())))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Number(value.into())))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Number(value.into())))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(Value::String(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Mapping(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Err(A::Error::custom("tags such as !name have no meaning here"))
    }
}
