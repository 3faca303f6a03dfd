//! WhitelistService: which ids are let through.

mod change;
mod convert;
mod failure;

use std::time::Duration;

use reprise_proto::v1::whitelist_service_server::WhitelistService;
use reprise_proto::v1::*;
use reprise_shared::telemetry::chain;
use tokio::time::Instant;
use tonic::{Request, Response, Status, async_trait};

use super::changes::Changes;
use super::error::{Error, ErrorReason, quoted};
use super::fields::Fields;
use super::paging::Page;
use crate::guard::Deadline;
use crate::kafka::Kafka;
use crate::whitelist::{Action, Convergence, List, Scope, Store, Version};

/// What is kept of a caller's time for the answer that a wait ends with.
const FOR_THE_ANSWER: Duration = Duration::from_millis(500);
/// While somebody waits, Kafka is asked this often who the workers are.
const ASK_FOR_MEMBERS_EVERY: Duration = Duration::from_secs(1);
/// Some of the ids of a change are shown, at most so many of each kind.
const MOST_SAMPLED: usize = 10;
/// A prefix of ids has at most so many bytes, as an id.
const LONGEST_PREFIX: usize = 128;

/// Answers from a [`Store`].
#[derive(Clone)]
pub struct Service {
    store: Store,
    kafka: Kafka,
    changes: Changes,
}

impl Service {
    /// Makes it.
    pub fn new(store: Store, kafka: Kafka, changes: Changes) -> Self {
        Self { store, kafka, changes }
    }

    /// Waits until every worker has applied a version, at most so long, and tells how things stand then, and whether
    /// Kafka told who the members of the workers' group are.
    async fn converge(&self, version: Version, wait: Duration) -> Result<(Convergence, bool), Error> {
        let deadline = Instant::now() + wait;
        loop {
            // Members come and go while somebody waits.
            let members = self.kafka.members().await;
            if let Err(error) = &members {
                tracing::warn!(error = %chain(error), "ask for the members of the workers' group");
            }
            let (expected, members_known) = members.map_or((Vec::new(), false), |members| (members, true));
            let left = deadline.saturating_duration_since(Instant::now());
            let reached =
                self.store
                    .wait_converged(version, &expected, left.min(ASK_FOR_MEMBERS_EVERY), |convergence| {
                        members_known && convergence.is_applied()
                    });
            let convergence = reached.await.map_err(failure::answer)?;
            let is_reached = members_known && convergence.is_applied();
            if is_reached || deadline <= Instant::now() {
                return Ok((convergence, members_known));
            }
        }
    }

    /// Finds the list of a data type, and the global list.
    async fn list(&self, data_type: &str) -> Result<(List, List), Error> {
        let mut lists = self.store.lists().await.map_err(failure::answer)?;
        let global = lists.remove(0);
        if data_type.is_empty() {
            return Ok((global.clone(), global));
        }
        let scope = convert::scope(data_type);
        let own = lists.into_iter().find(|list| list.scope == scope);
        match own {
            Some(own) => Ok((own, global)),
            None if self.store.knows(data_type) => Ok((
                List {
                    scope,
                    entries: 0,
                    version: Version(0),
                    changed_at: None,
                    etag: global.etag,
                },
                global,
            )),
            None => {
                let message = format!(
                    "there is no data type {}; ListDataTypes lists them, and an empty data_type means the global list",
                    quoted(data_type)
                );
                Err(Error::new(ErrorReason::NotFound, message).with("data_type", data_type))
            }
        }
    }
}

#[async_trait]
impl WhitelistService for Service {
    async fn get_whitelist(
        &self,
        request: Request<GetWhitelistRequest>,
    ) -> Result<Response<GetWhitelistResponse>, Status> {
        let request = request.into_inner();
        let (list, global) = self.list(&request.data_type).await?;
        Ok(Response::new(GetWhitelistResponse {
            whitelist: Some(convert::whitelist(&list, &global)),
        }))
    }

    async fn list_whitelist_entries(
        &self,
        request: Request<ListWhitelistEntriesRequest>,
    ) -> Result<Response<ListWhitelistEntriesResponse>, Status> {
        let request = request.into_inner();
        let (name, prefix) = (&request.data_type, &request.id_prefix);
        let mut fields = Fields::new();
        let filters = ["entries", name, prefix];
        let page = Page::<String>::read(&mut fields, request.page_size, &request.page_token, &filters);
        fields.text("id_prefix", prefix, LONGEST_PREFIX);
        fields.finish()?;
        self.list(name).await?;
        let scope = convert::scope(name);
        let read = self.store.entries(&scope, prefix, page.after.as_deref(), page.size);
        let read = read.await.map_err(failure::answer)?;
        Ok(Response::new(ListWhitelistEntriesResponse {
            entries: read.entries.into_iter().map(convert::entry).collect(),
            next_page_token: read.next_after.map(|last| page.token(last)).unwrap_or_default(),
            version: read.version.0,
        }))
    }

    async fn add_whitelist_entries(
        &self,
        request: Request<AddWhitelistEntriesRequest>,
    ) -> Result<Response<AddWhitelistEntriesResponse>, Status> {
        let origin = change::Origin::of(&request, "WhitelistService/AddWhitelistEntries");
        let request = request.into_inner();
        let mut fields = Fields::new();
        let expires_at = fields.time("expire_time", request.expire_time);
        let asked = change::Asked {
            ids: request.ids,
            note: request.note,
            expires_at,
            etag: request.etag,
            request_id: request.request_id,
            validate_only: request.validate_only,
            allow_unrestricted: false,
        };
        let (outcome, whitelist) = self
            .change(origin, Action::Add, &request.data_type, asked, fields)
            .await?;
        Ok(Response::new(AddWhitelistEntriesResponse {
            whitelist: Some(whitelist),
            added: outcome.added,
            already_present: outcome.already_present,
            refreshed: outcome.refreshed,
        }))
    }

    async fn remove_whitelist_entries(
        &self,
        request: Request<RemoveWhitelistEntriesRequest>,
    ) -> Result<Response<RemoveWhitelistEntriesResponse>, Status> {
        let origin = change::Origin::of(&request, "WhitelistService/RemoveWhitelistEntries");
        let request = request.into_inner();
        let asked = change::Asked {
            ids: request.ids,
            note: request.note,
            expires_at: None,
            etag: request.etag,
            request_id: request.request_id,
            validate_only: request.validate_only,
            allow_unrestricted: request.allow_unrestricted,
        };
        let name = &request.data_type;
        let (outcome, whitelist) = self.change(origin, Action::Remove, name, asked, Fields::new()).await?;
        Ok(Response::new(RemoveWhitelistEntriesResponse {
            whitelist: Some(whitelist),
            removed: outcome.removed,
            not_present: outcome.not_present,
        }))
    }

    async fn replace_whitelist(
        &self,
        request: Request<ReplaceWhitelistRequest>,
    ) -> Result<Response<ReplaceWhitelistResponse>, Status> {
        let origin = change::Origin::of(&request, "WhitelistService/ReplaceWhitelist");
        let request = request.into_inner();
        let asked = change::Asked {
            ids: request.ids,
            note: request.note,
            expires_at: None,
            etag: request.etag,
            request_id: request.request_id,
            validate_only: request.validate_only,
            allow_unrestricted: request.allow_unrestricted,
        };
        let name = &request.data_type;
        let (outcome, whitelist) = self.change(origin, Action::Replace, name, asked, Fields::new()).await?;
        Ok(Response::new(ReplaceWhitelistResponse {
            whitelist: Some(whitelist),
            added: outcome.added,
            removed: outcome.removed,
            unchanged: outcome.already_present,
        }))
    }

    async fn check_whitelist(
        &self,
        request: Request<CheckWhitelistRequest>,
    ) -> Result<Response<CheckWhitelistResponse>, Status> {
        let request = request.into_inner();
        let data_type = Some(request.data_type.as_str()).filter(|name| !name.is_empty());
        let checked = self
            .store
            .check(data_type, &request.ids)
            .await
            .map_err(failure::answer)?;
        Ok(Response::new(convert::checks(checked)))
    }

    async fn list_whitelist_versions(
        &self,
        request: Request<ListWhitelistVersionsRequest>,
    ) -> Result<Response<ListWhitelistVersionsResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::new();
        let page = Page::<u64>::read(&mut fields, request.page_size, &request.page_token, &["versions"]);
        fields.finish()?;
        let read = self.store.versions(page.after.map(Version), page.size).await;
        let read = read.map_err(failure::answer)?;
        let samples = self.store.samples(&read.records, MOST_SAMPLED).await;
        let mut samples = samples.map_err(failure::answer)?;
        let versions = read.records.into_iter().map(|record| {
            let sample = samples.remove(&record.change_id).unwrap_or_default();
            convert::version(record, sample)
        });
        Ok(Response::new(ListWhitelistVersionsResponse {
            versions: versions.collect(),
            next_page_token: read.next_before.map(|last| page.token(last.0)).unwrap_or_default(),
        }))
    }

    async fn get_whitelist_status(
        &self,
        request: Request<GetWhitelistStatusRequest>,
    ) -> Result<Response<GetWhitelistStatusResponse>, Status> {
        let deadline = request.extensions().get::<Deadline>().copied();
        let request = request.into_inner();
        let mut fields = Fields::new();
        let wait = fields.duration("wait", request.wait).unwrap_or_default();
        fields.finish()?;
        let current = self.store.status().await.map_err(failure::answer)?;
        let head = current.head.version;
        let version = if request.version == 0 {
            head
        } else {
            Version(request.version)
        };
        if version > head {
            let message = format!("the whitelist has no version {version} yet; the current one is {head}");
            return Err(Error::new(ErrorReason::NotFound, message).with("version", head).into());
        }
        let left = deadline.map(|Deadline(at)| at.saturating_duration_since(Instant::now()));
        let wait = wait.min(left.unwrap_or(Duration::MAX).saturating_sub(FOR_THE_ANSWER));
        let (convergence, members_known) = self.converge(version, wait).await?;
        // What waiting took may have changed it.
        let now = if wait.is_zero() {
            current
        } else {
            self.store.status().await.map_err(failure::answer)?
        };
        Ok(Response::new(convert::status(&now, convergence, members_known)))
    }
}

/// The list that a request names.
fn scope_name(scope: &Scope) -> String {
    match scope {
        Scope::Global => String::new(),
        Scope::Type(name) => name.clone(),
    }
}
