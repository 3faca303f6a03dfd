//! All data types of a catalog, compiled for decoding.

use std::sync::Arc;

use super::{Decoder, FieldMatcher, PlanError};
use crate::catalog::{Catalog, LookupIndex, TypeIndex};
use crate::position::TopicName;

/// The catalog compiled for decoding; shared by all threads.
#[derive(Debug)]
pub struct Plans {
    catalog: Arc<Catalog>,
    decoders: Vec<Decoder>,
    lookups: Vec<Vec<LookupIndex>>,
    by_field: Vec<(TopicName, FieldMatcher)>,
}

impl Plans {
    /// Compiles a catalog.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn compile(catalog: Arc<Catalog>) -> Result<Self, PlanError> {
        let decoders = catalog.data_types.iter().map(Decoder::new).collect::<Result<_, _>>()?;
        let lookups = catalog.data_types.iter().map(|data_type| data_type.lookups()).collect();
        let by_field = catalog
            .topics
            .iter()
            .filter_map(|topic| {
                Some((
                    topic.name.clone(),
                    FieldMatcher::new(catalog.types_of_topic(&topic.name))?,
                ))
            })
            .collect();
        Ok(Self {
            catalog,
            decoders,
            lookups,
            by_field,
        })
    }

    /// Returns the catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Returns the decoder of a type.
    pub fn decoder(&self, data_type: TypeIndex) -> &Decoder {
        &self.decoders[data_type.0]
    }

    /// Returns the lookups of a type.
    pub fn lookups(&self, data_type: TypeIndex) -> &[LookupIndex] {
        &self.lookups[data_type.0]
    }

    /// Returns what tells the types of a topic by a field, where it has such types.
    pub fn matcher(&self, topic: &TopicName) -> Option<&FieldMatcher> {
        self.by_field
            .iter()
            .find(|(name, _)| name == topic)
            .map(|(_, matcher)| matcher)
    }
}
