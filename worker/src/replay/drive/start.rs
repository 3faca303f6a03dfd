//! What a task is started with: what MySQL knows of it, its pipeline, and its readers.

use std::collections::BTreeSet;
use std::sync::Arc;

use reprise_shared::catalog::TypeIndex;
use reprise_shared::dead_letters;
use reprise_shared::ingest_state::stops;
use reprise_shared::jobs::{self, Claim, Kind};
use reprise_shared::kafka::client::consumer_config;
use reprise_shared::ledger;
use reprise_shared::position::Offset;
use tokio_util::sync::CancellationToken;

use super::{Drive, Progress, Stop, attempt};
use crate::chunk::Stretch;
use crate::replay::consumer::{Logging, TaskConsumer};
use crate::replay::control::Control;
use crate::replay::delivered::Delivered;
use crate::replay::end::Reading;
use crate::replay::judge::{TaskJudge, snapshot};
use crate::replay::pacer::Pacer;
use crate::replay::pipeline::Pipeline;
use crate::replay::reader::{self, Reader};
use crate::replay::rebuild::Rebuilt;
use crate::replay::workshop::Workshop;
use crate::sink::task::keeps_letters;
use crate::source::intake::{Intake, Open};
use crate::source::partition;
use crate::types::retry;

/// The client library wants a name; without a subscription or a commit, no group ever exists.
const NO_GROUP: &str = "reprise-replay";
/// So many records with open letters are known of a slice at most; the others' letters stay open.
const MOST_LETTERS: u32 = 200_000;

impl Drive {
    /// Starts everything of a task but its reader.
    pub(in crate::replay) async fn new(
        workshop: &Arc<Workshop>,
        claim: &Claim,
        lost: &CancellationToken,
        shutdown: &CancellationToken,
    ) -> Result<Self, Stop> {
        let slice = &claim.slice;
        let known = retry("read what a task needs", || Known::read(workshop, claim));
        let known = shutdown.run_until_cancelled(known).await.ok_or(Stop::LetGo)?;
        let (ids, open_letters) = (known.ids, Arc::new(known.open_letters));
        let (data_type, judge) = match claim.kind {
            Kind::Replay => {
                let data_type = data_type(workshop, claim)?;
                let window = (
                    slice.record_time_from.map(jiff::Timestamp::as_millisecond),
                    slice.record_time_to.map(jiff::Timestamp::as_millisecond),
                );
                let trusts_key = workshop.catalog.data_type(data_type).in_key && !known.in_key_off;
                let judge = TaskJudge::new(data_type, ids.as_deref(), window, trusts_key);
                let watched = keeps_letters(claim.mode).then(|| Arc::clone(&open_letters));
                (Some(data_type), judge.watching(watched.unwrap_or_default()))
            }
            Kind::Rebuild => (None, TaskJudge::of_all()),
        };
        let ids = Arc::new(snapshot(&workshop.names, data_type, ids));
        let rebuilt = (claim.kind == Kind::Rebuild).then(|| rebuilt(workshop, claim));
        let control = Arc::new(Control::new(
            claim.mode,
            workshop.lookup_changes.clone(),
            workshop.live_first.clone(),
        ));
        let pipeline = Pipeline::start(
            workshop,
            claim,
            data_type,
            judge.clone(),
            &open_letters,
            (&control, lost),
        )
        .map_err(attempt)?;
        let pacer = Pacer::default();
        let decisions = workshop.live_first.decisions();
        pacer.set(claim.max_records_per_second, workshop.live_first.decision().speed);
        let mut ticks = tokio::time::interval(workshop.config.replay.checkpoint);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        Ok(Self {
            workshop: Arc::clone(workshop),
            claim: claim.clone(),
            data_type,
            rebuilt,
            ahead: Progress {
                position: claim.checkpoint,
                read: claim.read,
            },
            judge,
            ids,
            control,
            pipeline,
            delivered: Delivered::starting_at(claim.checkpoint),
            pacer,
            share: claim.max_records_per_second,
            decisions,
            lost: lost.clone(),
            stop: CancellationToken::new(),
            ticks,
            entry: workshop.running.enter(claim.task, slice, claim.checkpoint),
        })
    }

    /// Makes a reader from a position on.
    pub(super) fn reader(&self, start: Offset) -> Result<Reader<TaskJudge>, Stop> {
        let (workshop, slice) = (&self.workshop, &self.claim.slice);
        let replay = &workshop.config.replay;
        let plan = workshop
            .topic(&slice.topic_partition.topic)
            .ok_or_else(|| Stop::Fault {
                reason: "UNKNOWN_TOPIC",
                detail: format!("the catalog has no topic {}", slice.topic_partition.topic),
            })?;
        let kibibytes = (replay.fetch_ahead.as_u64() / 1_024).to_string();
        let consumer: TaskConsumer = consumer_config(&workshop.config.kafka, NO_GROUP)
            .set("enable.partition.eof", "true")
            .set("queued.max.messages.kbytes", kibibytes)
            .create_with_context(Logging)
            .map_err(attempt)?;
        let wiring = reader::Wiring {
            delivered: self.delivered.clone(),
            chunks: self.pipeline.chunks.clone(),
            budget: Arc::clone(&self.pipeline.budget),
            pacer: self.pacer.clone(),
            ids: Arc::clone(&self.ids),
            clock: workshop.clock.clone(),
            stop: self.stop.clone(),
            call: replay.kafka_call,
        };
        let open = Open {
            partition: slice.topic_partition.clone(),
            epoch: partition::Epoch(0),
            stretch: Arc::new(Stretch {
                topic_partition: slice.topic_partition.clone(),
                topic_id: slice.topic_id.clone(),
                generation: slice.generation,
                abandoned: false.into(),
            }),
            plan,
            expected: start,
            builder: None,
        };
        let intake = Intake::new(self.judge.clone(), workshop.limits.max_payload);
        let reading = Reading::new(start, slice.end, replay.lost_after);
        Ok(Reader::new(consumer, wiring, intake, open, reading))
    }
}

fn data_type(workshop: &Workshop, claim: &Claim) -> Result<TypeIndex, Stop> {
    let name = &claim.slice.data_type;
    workshop.catalog.find_data_type(name).ok_or_else(|| Stop::Fault {
        reason: "UNKNOWN_TYPE",
        detail: format!("the catalog has no data type {name:?}"),
    })
}

/// What MySQL knows of a task beside its claim.
struct Known {
    /// The ids that pass; `None`: all.
    ids: Option<Vec<String>>,
    /// Records of the slice that have open letters.
    open_letters: BTreeSet<Offset>,
    /// Somebody found out that the type's Kafka key is not its id.
    in_key_off: bool,
}

impl Known {
    async fn read(workshop: &Workshop, claim: &Claim) -> sqlx::Result<Self> {
        let (pool, slice) = (workshop.database.pool(), &claim.slice);
        let ids = match slice.filter {
            Some(filter) => Some(jobs::filters::filter(pool, claim.task.job, filter).await?),
            None => None,
        };
        let states = stops::type_states(pool).await?;
        let place = (&slice.topic_id, slice.topic_partition.partition);
        let offsets = claim.checkpoint..slice.end;
        let open_letters = dead_letters::open_offsets(pool, &slice.data_type, place, offsets, MOST_LETTERS).await?;
        Ok(Self {
            ids,
            open_letters: open_letters.into_iter().collect(),
            in_key_off: states
                .iter()
                .any(|state| state.data_type == slice.data_type && state.in_key_off),
        })
    }
}

fn rebuilt(workshop: &Workshop, claim: &Claim) -> Rebuilt {
    let ingest = &workshop.config.ingest;
    let limits = ledger::Limits {
        seal_after: ingest.segment_time,
        seal_records: ingest.segment_records,
        ..ledger::Limits::default()
    };
    Rebuilt::new(
        claim,
        &workshop.catalog,
        workshop.redis.clone(),
        limits,
        workshop.clock.clone(),
    )
}
