//! The decode stage: chunks in, rows and letters out. Runs on threads of its own, since it is the work that costs.
//!
//! Chunks are independent here: whatever order they are decoded in, the guard puts rows in order (I2). A lookup that
//! cannot be loaded holds its chunk until it can (I4).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use jiff::Timestamp;
use reprise_shared::catalog::{LookupIndex, TypeIndex, Unmatched};
use reprise_shared::clock::Clock;
use reprise_shared::decode::{Drafts, Limits, Plans, RecordSource};
use reprise_shared::enrich::{Front, Lookups, Value};
use reprise_shared::fault::{Fault, FaultClass};
use reprise_shared::filter::Verdict;
use reprise_shared::position::{Offset, RowNumber, TopicName};
use reprise_shared::row::Row;
use reprise_shared::telemetry::chain;
use smallvec::SmallVec;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::chunk::{Chunk, Record, RecordIndex};
use crate::judge::{Admission, Judge};
use crate::lanes::Lanes;
use crate::metrics;
use crate::outcome::Outcome;
use crate::piece::{Letter, PendingRow, Piece};
use crate::types::Types;

/// A lookup that could not be loaded is tried again after this long.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// What a decode thread is connected to.
#[derive(Clone)]
pub struct Stage<J = Types> {
    /// The compiled catalog.
    pub plans: Arc<Plans>,
    /// Who decides over records.
    pub judge: J,
    /// Lookups.
    pub lookups: Lookups,
    /// Where rows and letters go.
    pub lanes: Lanes,
    /// The bound on what is in flight.
    pub budget: Arc<Budget>,
    /// Limits of one payload.
    pub limits: Limits,
    /// Time.
    pub clock: Clock,
    /// The runtime that loads lookups.
    pub runtime: Handle,
    /// Ends a wait for lookups or room.
    pub shutdown: CancellationToken,
}

/// A record that passed the filter, with what its lookups say.
struct Admitted<'a> {
    index: RecordIndex,
    record: Record<'a>,
    data_type: TypeIndex,
    id: Cow<'a, str>,
    /// The id was taken from the Kafka key. Decided once a record: the fleet may lose its trust in keys meanwhile, and
    /// then a record must not be looked up by its key and written without comparing the two.
    in_key: bool,
    /// One per lookup of the type.
    values: SmallVec<[Value; 1]>,
}

/// A fault, with the type that it is counted for.
struct Refused {
    data_type: Option<TypeIndex>,
    fault: Fault,
    missed: Option<(LookupIndex, String)>,
}

impl Refused {
    fn new(data_type: Option<TypeIndex>, fault: Fault) -> Self {
        Self {
            data_type,
            fault,
            missed: None,
        }
    }
}

/// What a decode thread reuses from chunk to chunk.
#[derive(Default)]
struct Scratch {
    front: Front,
    drafts: Drafts,
    rows: Vec<Row>,
}

impl<J: Judge> Stage<J> {
    /// Decodes chunks until the source is gone, or until shutdown while it waits.
    pub fn run(self, chunks: &Receiver<Arc<Chunk>>) {
        let mut scratch = Scratch::default();
        for chunk in chunks {
            if self.wait_for_room().is_none() {
                return;
            }
            let mut outcome = Outcome::default();
            let Some(pieces) = self.decode(&chunk, &mut outcome, &mut scratch) else {
                return;
            };
            chunk.count(|counted| counted.merge(&outcome));
            chunk.expect(pieces.len());
            self.budget.take_rows(pieces.len());
            chunk.decoded();
            self.lanes.push(pieces);
        }
    }

    /// Returns the offsets of a chunk's records that pass the judge, and counts all of its records. A record whose id
    /// cannot be read does not pass.
    pub(crate) fn passing(&self, chunk: &Chunk, outcome: &mut Outcome) -> Vec<Offset> {
        let mut passing = Vec::new();
        for (index, record) in chunk.records() {
            let data_type = match self.admit(chunk, index, record, outcome) {
                Ok(None) => continue,
                Ok(Some(admitted)) => {
                    passing.push(record.offset);
                    Some(admitted.data_type)
                }
                Err(refused) => refused.data_type,
            };
            let tally = outcome.saw(data_type, record.offset, record.timestamp);
            tally.records.processed += 1;
        }
        passing
    }

    fn wait_for_room(&self) -> Option<()> {
        if !self.budget.is_full_of_rows() {
            return Some(());
        }
        self.runtime
            .block_on(self.shutdown.run_until_cancelled(self.budget.room_for_rows()))
    }

    /// Decodes one chunk. `None` when shutdown ended a wait for lookups: the chunk never completes.
    fn decode(&self, chunk: &Arc<Chunk>, outcome: &mut Outcome, scratch: &mut Scratch) -> Option<Vec<Piece>> {
        let mut pieces = Vec::with_capacity(chunk.len());
        let mut admitted = Vec::with_capacity(chunk.len());
        for (index, record) in chunk.records() {
            match self.admit(chunk, index, record, outcome) {
                Ok(Some(one)) => admitted.push(one),
                Ok(None) => {}
                Err(refused) => pieces.push(self.refuse(chunk, index, &record, refused, outcome)),
            }
        }
        self.enrich(&mut admitted, &mut scratch.front)?;
        let now = self.clock.now();
        for one in &admitted {
            match self.decode_one(chunk, one, now, scratch) {
                Ok(()) => self.accept(chunk, one, scratch, outcome, &mut pieces),
                Err(refused) => pieces.push(self.refuse(chunk, one.index, &one.record, refused, outcome)),
            }
        }
        Some(pieces)
    }

    /// Finds a record's type and id and judges it. `None`: it is counted and done.
    fn admit<'a>(
        &self,
        chunk: &'a Chunk,
        index: RecordIndex,
        record: Record<'a>,
        outcome: &mut Outcome,
    ) -> Result<Option<Admitted<'a>>, Refused> {
        if let (true, Some(data_type)) = (record.audit_only, record.data_type) {
            self.audit(&record, data_type)?;
            outcome
                .saw(Some(data_type), record.offset, record.timestamp)
                .records
                .filtered += 1;
            return Ok(None);
        }
        if record.data_type.is_none()
            && record.payload_size > self.limits.max_payload
            && self.judge.admission(None) == Admission::Skip
        {
            outcome.saw(None, record.offset, record.timestamp).records.skipped += 1;
            return Ok(None);
        }
        if record.payload_size > self.limits.max_payload {
            let (size, limit) = (record.payload_size, self.limits.max_payload);
            let message = format!("the payload has {size} bytes; expected at most {limit}");
            return Err(Refused::new(
                record.data_type,
                Fault::new(FaultClass::RecordTooLarge, message),
            ));
        }
        let payload = record.payload.unwrap_or_default();
        let in_key = record
            .data_type
            .is_some_and(|data_type| self.judge.trusts_key(data_type));
        let Some((data_type, id)) = self.identify(chunk, &record, payload, in_key)? else {
            outcome.saw(None, record.offset, record.timestamp).records.skipped += 1;
            return Ok(None);
        };
        let admission = self.judge.admission(Some(data_type));
        if admission != Admission::Take {
            let records = &mut outcome.saw(Some(data_type), record.offset, record.timestamp).records;
            match admission {
                Admission::Defer => records.deferred += 1,
                Admission::Count => records.processed += 1,
                Admission::Take | Admission::Skip => records.skipped += 1,
            }
            return Ok(None);
        }
        // A trusted key was judged at the source, and so was the time of a record whose headers tell its type.
        let in_time = || self.judge.judge_time(record.timestamp);
        let by_id = || self.judge.judge(&chunk.whitelist, data_type, id.as_bytes());
        if !in_key && (in_time() == Verdict::Filtered || by_id() == Verdict::Filtered) {
            outcome
                .saw(Some(data_type), record.offset, record.timestamp)
                .records
                .filtered += 1;
            return Ok(None);
        }
        Ok(Some(Admitted {
            index,
            record,
            data_type,
            id,
            in_key,
            values: SmallVec::new(),
        }))
    }

    /// Finds the type and the id of a record: by its key where that may be trusted, else from its payload. `None`: it
    /// matches no type, and its topic says to skip such records.
    fn identify<'a>(
        &self,
        chunk: &Chunk,
        record: &Record<'a>,
        payload: &'a [u8],
        in_key: bool,
    ) -> Result<Option<(TypeIndex, Cow<'a, str>)>, Refused> {
        let topic = &chunk.stretch.topic_partition.topic;
        match record.data_type {
            Some(data_type) if in_key => Ok(Some((
                data_type,
                String::from_utf8_lossy(record.key.unwrap_or_default()),
            ))),
            Some(data_type) => {
                let id = self.plans.decoder(data_type).id(payload, &self.limits);
                Ok(Some((
                    data_type,
                    id.map_err(|fault| Refused::new(Some(data_type), fault))?,
                )))
            }
            None => {
                let found = match self.plans.matcher(topic) {
                    Some(matcher) => match matcher.find(payload, &self.limits) {
                        Ok(found) => found,
                        Err(_) if self.judge.admission(None) == Admission::Skip => return Ok(None),
                        Err(fault) => return Err(Refused::new(None, fault)),
                    },
                    None => None,
                };
                let Some(matched) = found else {
                    return self.unmatched(topic);
                };
                match matched.id {
                    Ok(id) => Ok(Some((matched.index, id))),
                    Err(_) if self.judge.admission(Some(matched.index)) == Admission::Skip => Ok(None),
                    Err(fault) => Err(Refused::new(Some(matched.index), fault)),
                }
            }
        }
    }

    /// Decides over a record that matches no type: skip it (`None`) or refuse it.
    fn unmatched<T>(&self, topic: &TopicName) -> Result<Option<T>, Refused> {
        if self.judge.admission(None) == Admission::Skip {
            return Ok(None);
        }
        let declared = self
            .plans
            .catalog()
            .topics
            .iter()
            .find(|declared| declared.name == *topic);
        match declared.map(|declared| declared.unmatched) {
            Some(Unmatched::Skip) => Ok(None),
            Some(Unmatched::DeadLetter) | None => {
                let message = format!("the record matches no data type of topic {topic}");
                Err(Refused::new(None, Fault::new(FaultClass::Unmatched, message)))
            }
        }
    }

    /// Checks that key and id of a filtered record agree. A payload that has no readable id proves nothing, whatever
    /// else is wrong with it.
    fn audit(&self, record: &Record<'_>, data_type: TypeIndex) -> Result<(), Refused> {
        let (key, payload) = (record.key.unwrap_or_default(), record.payload.unwrap_or_default());
        match self.plans.decoder(data_type).id(payload, &self.limits) {
            Ok(id) if id.as_bytes() != key => {
                let key = String::from_utf8_lossy(key);
                let message = format!("the Kafka key is {key:.40?}, the id in the payload is {id:.40?}");
                Err(Refused::new(
                    Some(data_type),
                    Fault::new(FaultClass::KeyMismatch, message),
                ))
            }
            _ => Ok(()),
        }
    }

    /// Finds the lookup values of all records. `None` when shutdown ended the wait.
    fn enrich(&self, admitted: &mut [Admitted<'_>], front: &mut Front) -> Option<()> {
        front.begin(&self.lookups);
        let mut misses: Vec<(LookupIndex, usize, usize)> = Vec::new();
        for (place, one) in admitted.iter_mut().enumerate() {
            for &lookup in self.plans.lookups(one.data_type) {
                let known = front.peek(&self.lookups, lookup, &one.id);
                if known.is_none() {
                    misses.push((lookup, place, one.values.len()));
                }
                one.values.push(known.flatten());
            }
        }
        misses.sort_unstable();
        for of_one in misses.chunk_by(|a, b| a.0 == b.0) {
            let keys: Vec<String> = of_one
                .iter()
                .map(|(_, place, _)| admitted[*place].id.to_string())
                .collect();
            let values = self.load(of_one[0].0, &keys)?;
            for ((_, place, number), value) in of_one.iter().zip(values) {
                admitted[*place].values[*number] = value;
            }
        }
        Some(())
    }

    /// Loads lookup values, again and again until MySQL answers: an outage is not a miss.
    fn load(&self, lookup: LookupIndex, keys: &[String]) -> Option<Vec<Value>> {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        loop {
            match self
                .runtime
                .block_on(self.shutdown.run_until_cancelled(self.lookups.resolve(lookup, &keys)))?
            {
                Ok(values) => return Some(values),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "lookup: the chunk waits");
                    // A timer must be made inside the runtime, and this thread is outside of it.
                    let pause = async { tokio::time::sleep(RETRY_AFTER).await };
                    self.runtime.block_on(self.shutdown.run_until_cancelled(pause))?;
                }
            }
        }
    }

    /// Decodes one record into `scratch.rows` and `scratch.drafts`' row faults.
    fn decode_one(
        &self,
        chunk: &Chunk,
        one: &Admitted<'_>,
        now: Timestamp,
        scratch: &mut Scratch,
    ) -> Result<(), Refused> {
        let source = RecordSource {
            generation: chunk.stretch.generation,
            partition: chunk.stretch.topic_partition.partition,
            offset: one.record.offset,
            timestamp: one.record.timestamp,
            key: one.record.key,
            in_key: one.in_key,
        };
        let refused = |fault| Refused::new(Some(one.data_type), fault);
        let payload = one.record.payload.unwrap_or_default();
        let decoder = self.plans.decoder(one.data_type);
        decoder
            .decode(&source, payload, now, &self.limits, &mut scratch.drafts)
            .map_err(refused)?;
        let lookups = self.plans.lookups(one.data_type);
        let missing = one.values.iter().position(Option::is_none);
        if let Some(place) = missing.filter(|_| !scratch.drafts.is_empty()) {
            let name = &self.plans.catalog().lookup(lookups[place]).name;
            let message = format!("lookup {name} has no value for id {:.40?}", one.id);
            return Err(Refused {
                missed: Some((lookups[place], one.id.to_string())),
                ..refused(Fault::new(FaultClass::LookupMiss, message))
            });
        }
        let value = |lookup| {
            let place = lookups.iter().position(|known| *known == lookup);
            place.and_then(|place| one.values[place].as_deref()).unwrap_or_default()
        };
        scratch.rows.clear();
        scratch.drafts.complete(value, &mut scratch.rows).map_err(refused)
    }

    /// Turns a decoded record into pieces.
    fn accept(
        &self,
        chunk: &Arc<Chunk>,
        one: &Admitted<'_>,
        scratch: &mut Scratch,
        outcome: &mut Outcome,
        pieces: &mut Vec<Piece>,
    ) {
        let faults = scratch.drafts.take_row_faults();
        if scratch.rows.is_empty() && faults.is_empty() {
            self.judge.yields_nothing(one.record.offset);
        }
        let tally = outcome.saw(Some(one.data_type), one.record.offset, one.record.timestamp);
        tally.records.processed += 1;
        tally.produced += (scratch.rows.len() + faults.len()) as u64;
        let (data_type, record) = (one.data_type, one.index);
        pieces.extend(scratch.rows.drain(..).map(|row| {
            Piece::Row(PendingRow {
                row,
                data_type,
                chunk: Arc::clone(chunk),
                record,
            })
        }));
        for (row, fault) in faults {
            self.count_letter(Some(data_type), fault.class);
            let data_type = Some(data_type);
            pieces.push(Piece::Letter(Letter {
                data_type,
                chunk: Arc::clone(chunk),
                record,
                row,
                fault,
                missed: None,
            }));
        }
    }

    /// Turns a refused record into a letter.
    fn refuse(
        &self,
        chunk: &Arc<Chunk>,
        index: RecordIndex,
        record: &Record<'_>,
        refused: Refused,
        outcome: &mut Outcome,
    ) -> Piece {
        let Refused {
            data_type,
            fault,
            missed,
        } = refused;
        outcome
            .saw(data_type, record.offset, record.timestamp)
            .records
            .dead_lettered += 1;
        // A missing key says nothing of the other keys.
        let has_key = record.key.is_some_and(|key| !key.is_empty());
        if let (FaultClass::KeyMismatch, Some(data_type), true) = (fault.class, data_type, has_key) {
            self.judge.key_disagrees(data_type);
        }
        self.count_letter(data_type, fault.class);
        let row = RowNumber::RECORD;
        Piece::Letter(Letter {
            data_type,
            chunk: Arc::clone(chunk),
            record: index,
            row,
            fault,
            missed,
        })
    }

    fn count_letter(&self, data_type: Option<TypeIndex>, class: FaultClass) {
        let name = data_type.map_or("", |index| self.plans.catalog().data_type(index).name.as_str());
        metrics::dead_letter(name, class.as_str());
    }
}
