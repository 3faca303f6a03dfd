//! Plans that are kept, and the jobs that are made of them.

use std::sync::Arc;

use jiff::Timestamp;
use reprise_proto::v1;
use reprise_shared::jobs::{self, JobId, Kind, Mode, NewJob, Overlap};
use reprise_shared::whitelist::Version;
use serde_json::{Value, json};
use sqlx::mysql::MySqlConnection;
use uuid::Uuid;

use super::{Asked, Error, Jobs, earlier, keep, rehearsed};
use crate::audit::{self, Event};
use crate::config::Role;
use crate::planner::ask::{Ask, Work};
use crate::planner::pins::Outdated;
use crate::planner::{self, Plan};

/// A kept plan has at most so many bytes: it goes to MySQL in one packet, of which some servers take 16 MiB.
const LARGEST_PLAN: usize = 12 << 20;

/// A plan with its token.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What CreateJob takes.
    pub token: Uuid,
    /// Until when.
    pub expires_at: Timestamp,
    /// The plan.
    pub plan: Plan,
    /// Unfinished jobs on the same positions.
    pub overlaps: Vec<Overlap>,
}

impl Jobs {
    /// Makes a plan and keeps it.
    ///
    /// # Errors
    /// Why there is none, or MySQL does not answer.
    pub async fn plan(&self, ask: &Ask, principal: &str) -> Result<Kept, Error> {
        let plan = self.0.planner.plan(ask).await?;
        let overlaps = self.overlaps(&plan).await?;
        let ttl = self.0.config.plan_ttl;
        let (token, bytes) = (Uuid::now_v7(), stored(&plan)?);
        let (_, now) = self.0.planner.head().await?;
        jobs::keep_plan(self.0.database.pool(), token, principal, &bytes, ttl).await?;
        Ok(Kept {
            token,
            expires_at: now.checked_add(ttl).unwrap_or(Timestamp::MAX),
            plan,
            overlaps,
        })
    }

    /// Makes the job of a plan.
    ///
    /// # Errors
    /// See [`Error`]; only [`Error::Mysql`] leaves open whether it was made.
    pub async fn create(&self, token: Uuid, asked: Asked) -> Result<v1::Job, Error> {
        let mut connection = self.0.database.pool().acquire().await.map_err(Error::Mysql)?;
        let found = jobs::load_plan(&mut connection, token).await?;
        drop(connection);
        let plan = match found {
            // It may have become the job of this very request.
            None => None,
            Some(bytes) => Some(self.checked(read(&bytes)?, asked.role).await?),
        };
        let work = Arc::new((plan.map(|plan| (new_job(&plan, &asked, &self.0.config), plan)), asked));
        let (id, shown) = (JobId::random(), self.0.shown);
        let made = self.0.database.tx("create_job", move |connection| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (made, asked) = &*work;
                if let Some(answer) = earlier(connection, asked).await? {
                    return Ok(answer);
                }
                // An earlier try of this transaction may have been committed without an answer.
                if let Some(job) = jobs::job(&mut *connection, id).await? {
                    return Ok(shown(&job));
                }
                let (new, plan) = made.as_ref().ok_or(Error::NoSuchPlan)?;
                jobs::load_plan(connection, token).await?.ok_or(Error::NoSuchPlan)?;
                check_whitelist(connection, plan.whitelist_version).await?;
                let answer = insert(connection, id, new, plan, asked, shown).await?;
                jobs::drop_plan(connection, token).await?;
                keep(connection, asked, answer).await
            })
        });
        rehearsed(made.await)
    }

    /// Plans an ask anew and makes a job of it, in the place of one that failed because the catalog had changed.
    ///
    /// # Errors
    /// See [`Error`]; only [`Error::Mysql`] leaves open whether it was made.
    pub(super) async fn create_again(&self, failed: &jobs::Job, asked: Asked) -> Result<v1::Job, Error> {
        let mut ask: Ask = serde_json::from_str(&failed.spec).map_err(|source| Error::Stored {
            what: format!("job {}", failed.id),
            source,
        })?;
        ask.priority = failed.priority;
        ask.max_records_per_second = failed.max_records_per_second;
        ask.labels.insert("retry-of".to_owned(), failed.id.to_string());
        let plan = self.0.planner.plan(&ask).await?;
        check_role(&plan, asked.role)?;
        let new = new_job(&plan, &asked, &self.0.config);
        let (work, failed) = (Arc::new((new, plan, asked)), failed.id);
        let (id, shown) = (JobId::random(), self.0.shown);
        let made = self.0.database.tx("retry_job_anew", move |connection| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (new, plan, asked) = &*work;
                if let Some(answer) = earlier(connection, asked).await? {
                    return Ok(answer);
                }
                if let Some(job) = jobs::job(&mut *connection, id).await? {
                    return Ok(shown(&job));
                }
                let now = jobs::job(&mut *connection, failed)
                    .await?
                    .ok_or(Error::NoSuchJob(failed))?;
                super::change::check_revision(&now, asked)?;
                let answer = insert(connection, id, new, plan, asked, shown).await?;
                keep(connection, asked, answer).await
            })
        });
        rehearsed(made.await)
    }

    /// Checks role, catalog, topics and logs of a kept plan.
    async fn checked(&self, plan: Plan, role: Role) -> Result<Plan, Error> {
        check_role(&plan, role)?;
        match self.0.planner.refresh(plan).await? {
            Ok(plan) => Ok(plan),
            Err(Outdated::Catalog) => Err(Error::Outdated(
                "the catalog declares its data types otherwise since it was planned".to_owned(),
            )),
            Err(Outdated::Topic(topic)) => Err(Error::Outdated(format!(
                "topic {topic} was deleted and created again since it was planned"
            ))),
        }
    }
}

fn check_role(plan: &Plan, role: Role) -> Result<(), Error> {
    if plan.needs_admin.is_empty() || role >= Role::Admin {
        Ok(())
    } else {
        Err(Error::NeedsAdmin(plan.needs_admin.clone()))
    }
}

async fn check_whitelist(connection: &mut MySqlConnection, planned: Version) -> Result<(), Error> {
    let now: u64 = sqlx::query_scalar("/* pinned_whitelist */ SELECT version FROM whitelist_head WHERE id = 1")
        .fetch_one(connection)
        .await?;
    if now == planned.0 {
        return Ok(());
    }
    Err(Error::Outdated(format!(
        "the whitelist is at version {now}, and it was planned with version {}",
        planned.0
    )))
}

/// Inserts a job and its audit event, within the caller's transaction.
pub(super) async fn insert(
    connection: &mut MySqlConnection,
    id: JobId,
    new: &NewJob,
    plan: &Plan,
    asked: &Asked,
    shown: super::Shown,
) -> Result<v1::Job, Error> {
    jobs::create(connection, id, new).await?;
    let job = jobs::job(&mut *connection, id).await?.ok_or(Error::NoSuchJob(id))?;
    let event = Event {
        principal: asked.key.principal.clone(),
        method: asked.key.method.clone(),
        target: format!("jobs/{id}"),
        before: Value::Null,
        after: summary(plan, new),
        outcome: audit::Outcome::Done,
        reason: String::new(),
        request_id: Some(asked.key.request_id.clone()).filter(|id| !id.is_empty()),
    };
    audit::record(connection, &event).await?;
    let mut answer = shown(&job);
    if asked.validate_only {
        // There is no such job, so nobody should look for it.
        answer.job_id.clear();
        answer.etag.clear();
    }
    Ok(answer)
}

/// Makes the job of a plan, as the store takes it.
pub(super) fn new_job(plan: &Plan, asked: &Asked, config: &super::Config) -> NewJob {
    let replay = plan.ask.replay();
    let json = |value: Result<String, serde_json::Error>| value.unwrap_or_default();
    NewJob {
        kind: match &plan.ask.work {
            Work::Replay(_) => Kind::Replay,
            Work::Rebuild(_) => Kind::Rebuild,
        },
        mode: replay.map_or(Mode::Live, |replay| replay.mode),
        spec: json(serde_json::to_string(&plan.ask)),
        labels: json(serde_json::to_string(&plan.ask.labels)),
        data_types: plan.data_types.clone(),
        catalog_hash: plan.catalog_hash.clone(),
        whitelist_version: plan.whitelist_version,
        clean_first: replay.is_some_and(|replay| replay.clean_first),
        allow_partial: plan.ask.allow_partial,
        priority: plan.ask.priority,
        max_records_per_second: plan.ask.max_records_per_second,
        estimated_records: plan.draft.records(),
        created_by: asked.key.principal.clone(),
        slices: plan.draft.slices.iter().cloned().map(jobs::Slice::from).collect(),
        filters: plan.draft.filters.clone(),
        missing: plan.draft.missing.iter().cloned().map(jobs::Missing::from).collect(),
        lanes: config.task_lanes,
    }
}

fn summary(plan: &Plan, new: &NewJob) -> Value {
    json!({
        "kind": new.kind.as_str(), "mode": new.mode.as_str(), "data_types": new.data_types,
        "tasks": new.slices.len(), "positions": plan.draft.positions(), "clean_first": new.clean_first,
        "allow_partial": new.allow_partial, "priority": new.priority,
        "max_records_per_second": new.max_records_per_second, "whitelist_version": new.whitelist_version.0,
    })
}

fn stored(plan: &Plan) -> Result<Vec<u8>, Error> {
    let bytes = serde_json::to_vec(plan).map_err(|source| Error::Stored {
        what: "a plan".to_owned(),
        source,
    })?;
    if bytes.len() > LARGEST_PLAN {
        let (bytes, most) = (bytes.len(), LARGEST_PLAN);
        return Err(planner::Error::TooLarge { bytes, most }.into());
    }
    Ok(bytes)
}

fn read(bytes: &[u8]) -> Result<Plan, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::Stored {
        what: "a plan".to_owned(),
        source,
    })
}
