//! What people ask of a job that is there: pause, resume, cancel, retry, another rate or priority.

use std::sync::Arc;

use reprise_proto::v1;
use reprise_shared::jobs::{self, Event, Job, JobId, JobState, Mode, Refused, reasons};
use serde_json::{Value, json};
use sqlx::mysql::MySqlConnection;

use super::{Asked, Error, Jobs, Shown, earlier, etag, keep, rehearsed};
use crate::audit;
use crate::config::Role;

/// What changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A move of its state.
    Move(Event),
    /// Rate (`Some(None)`: no limit) and priority.
    Update {
        /// Records a second.
        max_records_per_second: Option<Option<u64>>,
        /// Higher goes first.
        priority: Option<i16>,
    },
}

impl Jobs {
    /// Changes a job.
    ///
    /// # Errors
    /// See [`Error`]; only [`Error::Mysql`] leaves open whether the change was made.
    pub async fn change(&self, id: JobId, change: Change, asked: Asked) -> Result<v1::Job, Error> {
        let (work, shown) = (Arc::new(asked), self.0.shown);
        let made = self.0.database.tx("change_job", move |connection| {
            let work = Arc::clone(&work);
            Box::pin(async move { apply(connection, id, change, &work, shown).await })
        });
        rehearsed(made.await)
    }

    /// Lets a failed or cancelled job go on, or plans it anew where its catalog is not there any more.
    ///
    /// # Errors
    /// See [`Error`]; only [`Error::Mysql`] leaves open whether the change was made.
    pub async fn retry(&self, id: JobId, asked: Asked) -> Result<v1::Job, Error> {
        let job = jobs::job(self.0.database.pool(), id)
            .await?
            .ok_or(Error::NoSuchJob(id))?;
        let needs_admin = job.mode == Mode::Overwrite || job.clean_first;
        if needs_admin && asked.role < Role::Admin {
            return Err(Error::NeedsAdmin(vec!["it overwrites or deletes rows".to_owned()]));
        }
        if job.state == JobState::Failed && job.reason == reasons::CATALOG_CHANGED {
            return self.create_again(&job, asked).await;
        }
        self.change(id, Change::Move(Event::Retry), asked).await
    }
}

async fn apply(
    connection: &mut MySqlConnection,
    id: JobId,
    change: Change,
    asked: &Asked,
    shown: Shown,
) -> Result<v1::Job, Error> {
    if let Some(answer) = earlier(connection, asked).await? {
        return Ok(answer);
    }
    let before = jobs::job(&mut *connection, id).await?.ok_or(Error::NoSuchJob(id))?;
    let (changed, event) = match change {
        Change::Move(event) => (jobs::ask(connection, id, event, asked.revision).await?, Some(event)),
        Change::Update {
            max_records_per_second,
            priority,
        } => {
            let updated = jobs::update(connection, id, asked.revision, priority, max_records_per_second);
            (updated.await?, None)
        }
    };
    let after = changed.map_err(|refused| match refused {
        Refused::NotFound => Error::NoSuchJob(id),
        Refused::Revision { current } => Error::EtagMismatch { current: etag(current) },
        Refused::State { current } => Error::State { id, current, event },
    })?;
    let event = audit::Event {
        principal: asked.key.principal.clone(),
        method: asked.key.method.clone(),
        target: format!("jobs/{id}"),
        before: summary(&before),
        after: summary(&after),
        outcome: audit::Outcome::Done,
        reason: String::new(),
        request_id: Some(asked.key.request_id.clone()).filter(|id| !id.is_empty()),
    };
    audit::record(connection, &event).await?;
    keep(connection, asked, shown(&after)).await
}

/// Refuses a change of a job that somebody changed since the caller read it.
pub(super) fn check_revision(job: &Job, asked: &Asked) -> Result<(), Error> {
    match asked.revision {
        Some(revision) if revision != job.revision => Err(Error::EtagMismatch {
            current: etag(job.revision),
        }),
        _ => Ok(()),
    }
}

fn summary(job: &Job) -> Value {
    json!({
        "state": job.state.as_str(), "priority": job.priority, "max_records_per_second": job.max_records_per_second,
    })
}
