//! Deferred intervals become jobs: what was passed over while a type was stopped is replayed once its interval is closed.
//!
//! Each interval becomes one LIVE job; which replica is first is decided by the interval's own row. It stays owed until
//! its job has SUCCEEDED.

use std::collections::BTreeMap;
use std::sync::Arc;

use reprise_shared::ingest_state::deferred::{self, Closed};
use reprise_shared::jobs::{self, JobId};
use reprise_shared::position::TopicName;

use super::create::{insert, new_job};
use super::{Asked, Error, Jobs};
use crate::config::Role;
use crate::planner::ask::{Ask, PartitionOffsets, Records, Replay, Work};
use crate::planner::draft::{Draft, Missing};
use crate::planner::{self, Plan};
use crate::requests::RequestKey;

/// Who asks for these jobs.
const PRINCIPAL: &str = "reprise";
/// What they are recorded as.
const METHOD: &str = "deferred intervals";
/// So many intervals are looked at in one go.
const MOST: u32 = 100;

impl Jobs {
    /// Creates the job of each closed interval that has none, and marks those as settled whose job succeeded. Returns how
    /// many jobs were created.
    ///
    /// # Errors
    /// Something does not answer; the next call goes on.
    pub async fn replay_deferred(&self) -> Result<usize, Error> {
        let pool = self.0.database.pool();
        deferred::settle(pool).await?;
        let mut created = 0;
        for closed in deferred::closed(pool, MOST).await? {
            if self.planner().catalog().find_data_type(&closed.data_type).is_none() {
                tracing::warn!(
                    data_type = closed.data_type,
                    deferred.id = closed.id,
                    "a deferred interval is owed of a data type that the catalog does not have"
                );
                continue;
            }
            match self.plan_deferred(&closed).await {
                Ok(plan) => created += usize::from(self.create_deferred(&closed, plan).await?),
                // Somebody has to do something about these; the others go on.
                Err(Error::Plan(
                    error
                    @ (planner::Error::NotAccepted { .. } | planner::Error::Refused(_) | planner::Error::Table(_)),
                )) => {
                    tracing::warn!(data_type = closed.data_type, deferred.id = closed.id, %error, "a deferred interval cannot be planned yet");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(created)
    }

    async fn plan_deferred(&self, closed: &Closed) -> Result<Plan, Error> {
        let ask = ask_of(closed);
        let mut plan = self.planner().plan(&ask).await?;
        let is_of_former = |slice: &planner::draft::Slice| slice.topic_id != closed.topic_id;
        let accepted = self.accepted_id(&closed.partition.topic).await?;
        if accepted.is_none_or(|accepted| accepted != closed.topic_id) || plan.draft.slices.iter().any(is_of_former) {
            // The records went with the former incarnation of the topic.
            plan.draft = Draft {
                missing: vec![Missing {
                    data_type: closed.data_type.clone(),
                    topic: closed.partition.topic.clone(),
                    partition: closed.partition.partition,
                    start: closed.start,
                    end: closed.end,
                    recreated: true,
                }],
                ..Draft::default()
            };
        }
        Ok(plan)
    }

    async fn accepted_id(&self, topic: &TopicName) -> Result<Option<reprise_shared::position::TopicId>, Error> {
        let accepted = reprise_shared::ingest_state::topics::accepted(self.0.database.pool(), topic).await?;
        Ok(accepted.map(|accepted| accepted.topic_id))
    }

    /// Creates the job of an interval; tells whether nobody else had.
    async fn create_deferred(&self, closed: &Closed, plan: Plan) -> Result<bool, Error> {
        let asked = Asked {
            key: RequestKey::new(PRINCIPAL.to_owned(), METHOD, "", &()),
            role: Role::Admin,
            revision: None,
            validate_only: false,
        };
        let (id, interval, shown) = (JobId::random(), closed.id, self.0.shown);
        let work = Arc::new((new_job(&plan, &asked, &self.0.config), plan, asked));
        let created = self.0.database.tx("create_deferred_job", move |connection| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (new, plan, asked) = &*work;
                // An earlier try of this transaction may have been committed without an answer.
                if jobs::job(&mut *connection, id).await?.is_some() {
                    return Ok(true);
                }
                if !deferred::take(connection, interval, &id.to_string()).await? {
                    return Ok(false);
                }
                insert(connection, id, new, plan, asked, shown).await?;
                Ok::<_, Error>(true)
            })
        });
        let created = created.await?;
        if created {
            tracing::info!(
                job.id = %id, data_type = closed.data_type, partition = %closed.partition, start = closed.start.0,
                end = closed.end.0, "a job replays what was deferred"
            );
        }
        Ok(created)
    }
}

fn ask_of(closed: &Closed) -> Ask {
    Ask {
        work: Work::Replay(Replay {
            data_types: vec![closed.data_type.clone()],
            records: Records::Offsets(vec![PartitionOffsets {
                topic: closed.partition.topic.clone(),
                partition: closed.partition.partition,
                start: closed.start,
                end: closed.end,
            }]),
            ids: Vec::new(),
            lookup_values: Vec::new(),
            ignore_whitelist: false,
            mode: jobs::Mode::Live,
            clean_first: false,
        }),
        max_records_per_second: None,
        priority: 0,
        // What is left is replayed; the interval stays owed, since the job does not succeed then.
        allow_partial: true,
        labels: BTreeMap::from([("deferred".to_owned(), closed.id.to_string())]),
    }
}
