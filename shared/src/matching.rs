//! Which data type a record is of, as far as its headers tell.

use crate::catalog::{Catalog, Matcher, TypeIndex, Unmatched};
use crate::position::TopicName;

/// How the records of one topic are told apart, compiled from the catalog.
#[derive(Clone, Debug)]
pub struct TopicPlan {
    /// The topic.
    pub name: TopicName,
    /// What happens to records that match no type.
    pub unmatched: Unmatched,
    headers: Vec<HeaderRule>,
    only: Option<TypeIndex>,
    by_field: bool,
}

/// A header value that marks a type.
#[derive(Clone, Debug)]
struct HeaderRule {
    name: Box<[u8]>,
    equals: Box<[u8]>,
    data_type: TypeIndex,
}

/// What a record's headers say of its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// It is of this type.
    Type(TypeIndex),
    /// It matches no type.
    None,
    /// A field of the payload decides.
    ByField,
}

impl TopicPlan {
    /// Compiles the plans of all topics of a catalog.
    pub fn compile(catalog: &Catalog) -> Vec<Self> {
        catalog
            .topics
            .iter()
            .map(|topic| {
                let mut plan = Self {
                    name: topic.name.clone(),
                    unmatched: topic.unmatched,
                    headers: Vec::new(),
                    only: None,
                    by_field: false,
                };
                for (index, data_type) in catalog.types_of_topic(&topic.name) {
                    match &data_type.matcher {
                        None => plan.only = Some(index),
                        Some(Matcher::Header { name, equals }) => {
                            plan.headers.push(HeaderRule {
                                name: name.as_bytes().into(),
                                equals: equals.as_bytes().into(),
                                data_type: index,
                            });
                        }
                        Some(Matcher::Field { .. }) => plan.by_field = true,
                    }
                }
                plan
            })
            .collect()
    }

    /// Starts matching one record.
    pub fn begin(&self) -> Matching<'_> {
        Matching {
            plan: self,
            found: None,
        }
    }
}

/// The matching of one record: feed it every header, then ask.
#[derive(Debug)]
pub struct Matching<'a> {
    plan: &'a TopicPlan,
    found: Option<TypeIndex>,
}

impl Matching<'_> {
    /// Looks at one header. The last header of a name counts.
    pub fn header(&mut self, name: &[u8], value: Option<&[u8]>) {
        for rule in &self.plan.headers {
            if *rule.name == *name {
                if value == Some(&*rule.equals) {
                    self.found = Some(rule.data_type);
                    return;
                }
                if self.found == Some(rule.data_type) {
                    self.found = None;
                }
            }
        }
    }

    /// Returns the answer after all headers.
    pub fn finish(self) -> Match {
        match (self.plan.only.or(self.found), self.plan.by_field) {
            (Some(data_type), _) => Match::Type(data_type),
            (None, true) => Match::ByField,
            (None, false) => Match::None,
        }
    }
}
