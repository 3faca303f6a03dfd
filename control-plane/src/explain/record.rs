//! A record as it stands in Kafka, and what it is: its type, its id, its rows. Pure, and by the workers' own code.

use jiff::Timestamp;
use reprise_shared::catalog::{TypeIndex, Unmatched};
use reprise_shared::decode::{Drafts, Limits, Plans, RecordSource};
use reprise_shared::fault::FaultClass;
use reprise_shared::matching::Match;
use reprise_shared::position::{Offset, TopicGeneration, TopicPartition};

/// A record of Kafka.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) at: TopicPartition,
    pub(super) offset: Offset,
    /// Kafka's time in milliseconds since 1970; `None` when it has none.
    pub(super) time: Option<i64>,
    pub(super) key: Option<Vec<u8>>,
    /// `None` for a tombstone.
    pub(super) payload: Option<Vec<u8>>,
    /// What its headers say of its type.
    pub(super) matched: Match,
}

/// What a record is, as far as it tells by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is of this type.
    Type(TypeIndex),
    /// It matches no type, and its topic says whether that is a fault.
    Unmatched(Unmatched),
    /// The field that would tell its type cannot be read.
    Unreadable(FaultClass),
}

/// A record that was decoded as its type says.
#[derive(Debug)]
pub(super) struct Decoded {
    /// The id of the payload.
    pub(super) id: String,
    /// The rows, their lookups not resolved, and their faults.
    pub(super) drafts: Drafts,
}

impl Record {
    /// Finds the record's type.
    pub(super) fn kind(&self, plans: &Plans, limits: &Limits) -> Kind {
        let topics = &plans.catalog().topics;
        let declared = topics.iter().find(|topic| topic.name == self.at.topic);
        let unmatched = Kind::Unmatched(declared.map_or(Unmatched::DeadLetter, |topic| topic.unmatched));
        match (self.matched, &self.payload, plans.matcher(&self.at.topic)) {
            (Match::Type(data_type), ..) => Kind::Type(data_type),
            (Match::ByField, Some(payload), Some(matcher)) => match matcher.find(payload, limits) {
                Ok(Some(found)) => Kind::Type(found.index),
                Ok(None) => unmatched,
                Err(fault) => Kind::Unreadable(fault.class),
            },
            (Match::None | Match::ByField, ..) => unmatched,
        }
    }

    /// Returns the key as the filter takes it: an empty one is none.
    pub(super) fn filter_key(&self) -> Option<&[u8]> {
        self.key.as_deref().filter(|key| !key.is_empty())
    }

    /// Tells whether this is a record of an id: by its key where that is trusted, else by its payload.
    pub(super) fn is_of(&self, data_type: TypeIndex, id: &str, by_key: bool, plans: &Plans, limits: &Limits) -> bool {
        if by_key && self.matched == Match::Type(data_type) && self.filter_key().is_some() {
            return self.filter_key() == Some(id.as_bytes());
        }
        if self.kind(plans, limits) != Kind::Type(data_type) {
            return false;
        }
        match &self.payload {
            Some(payload) => plans
                .decoder(data_type)
                .id(payload, limits)
                .is_ok_and(|found| found == id),
            // A tombstone has no id but its key.
            None => self.filter_key() == Some(id.as_bytes()),
        }
    }

    /// Decodes the record as its type says.
    ///
    /// # Errors
    /// The class of the fault that leaves it without rows.
    pub(super) fn decode(
        &self,
        data_type: TypeIndex,
        generation: TopicGeneration,
        by_key: bool,
        now: Timestamp,
        plans: &Plans,
        limits: &Limits,
    ) -> Result<Decoded, FaultClass> {
        let source = RecordSource {
            generation,
            partition: self.at.partition,
            offset: self.offset,
            timestamp: self.time.unwrap_or(-1),
            key: self.key.as_deref(),
            in_key: by_key,
        };
        let mut drafts = Drafts::default();
        let payload = self.payload.as_deref().unwrap_or_default();
        plans
            .decoder(data_type)
            .decode(&source, payload, now, limits, &mut drafts)
            .map_err(|fault| fault.class)?;
        Ok(Decoded {
            id: drafts.id().to_owned(),
            drafts,
        })
    }

    /// Returns the id for the answer: the payload's, else the key where the type says that it is the id.
    pub(super) fn id(&self, data_type: TypeIndex, plans: &Plans, limits: &Limits) -> Option<String> {
        let payload = self.payload.as_deref();
        let id = payload.and_then(|payload| plans.decoder(data_type).id(payload, limits).ok());
        let in_key = plans.catalog().data_type(data_type).in_key;
        let key = || self.filter_key().filter(|_| in_key).map(String::from_utf8_lossy);
        id.or_else(key).map(|id| id.into_owned())
    }
}
