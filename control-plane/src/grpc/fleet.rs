//! FleetService: the workers, what they read and how far they are.

mod convert;
mod ingest;

use std::collections::HashMap;

use reprise_proto::v1::fleet_service_server::FleetService;
use reprise_proto::v1::*;
use reprise_shared::catalog::LookupIndex;
use tonic::{Request, Response, Status, async_trait};

use super::changes::Changes;
use super::error::{Error, ErrorReason};
use super::fields::Fields;
use super::names;
use super::paging::Page;
use super::{principal, store_failed};
use crate::fleet::Fleet;
use crate::ingest::Ingest;

/// So many keys of a lookup can be refreshed by one call.
const MOST_KEYS: usize = 1_000;
/// A key of a lookup has at most so many bytes.
const LONGEST_KEY: usize = 1_024;

/// Answers from a [`Fleet`], and stops and resumes.
#[derive(Clone)]
pub struct Service {
    fleet: Fleet,
    ingest: Ingest,
    changes: Changes,
}

#[async_trait]
impl FleetService for Service {
    async fn list_workers(
        &self,
        request: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::new();
        let page = Page::<String>::read(&mut fields, request.page_size, &request.page_token, &["workers"]);
        fields.finish()?;
        let fleet = self.fleet.workers().await.map_err(store_failed)?;
        let after = |id: &str| page.after.as_deref().is_none_or(|after| id > after);
        let workers = fleet.workers.into_iter().filter(|worker| after(&worker.worker));
        let mut workers: Vec<_> = workers.take(page.size + 1).map(convert::worker).collect();
        let next_page_token = page.cut(&mut workers, |worker| worker.worker_id.clone());
        Ok(Response::new(ListWorkersResponse {
            workers,
            next_page_token,
            unreadable_worker_ids: fleet.unreadable,
            catalog_hash: self.fleet.catalog().hash.clone(),
        }))
    }

    async fn list_data_types(
        &self,
        request: Request<ListDataTypesRequest>,
    ) -> Result<Response<ListDataTypesResponse>, Status> {
        let request = request.into_inner();
        let catalog = self.fleet.catalog();
        let mut fields = Fields::new();
        // A place counts for one catalog only.
        let page = Page::<usize>::read(&mut fields, request.page_size, &request.page_token, &[&catalog.hash]);
        fields.finish()?;
        let mut states = self.fleet.type_states().await.map_err(store_failed)?;
        let mut owed = self.fleet.owed().await.map_err(store_failed)?;
        let first = page.after.map_or(0, |after| after.saturating_add(1));
        let types = catalog.data_types.iter().enumerate().skip(first).take(page.size + 1);
        let mut types: Vec<_> = types
            .map(|(place, data_type)| {
                let (state, owed) = (states.remove(&data_type.name), owed.remove(&data_type.name));
                (place, convert::data_type(data_type, state, owed.unwrap_or_default()))
            })
            .collect();
        let next_page_token = page.cut(&mut types, |(place, _)| *place);
        Ok(Response::new(ListDataTypesResponse {
            data_types: types.into_iter().map(|(_, data_type)| data_type).collect(),
            next_page_token,
            catalog_hash: catalog.hash.clone(),
        }))
    }

    async fn get_lag(&self, request: Request<GetLagRequest>) -> Result<Response<GetLagResponse>, Status> {
        let request = request.into_inner();
        let name = &request.data_type;
        let mut fields = Fields::new();
        let page = Page::<(String, u16)>::read(&mut fields, request.page_size, &request.page_token, &["lag", name]);
        let catalog = self.fleet.catalog();
        let data_type = catalog.find_data_type(name).map(|index| catalog.data_type(index));
        if !name.is_empty() && data_type.is_none() {
            fields.refuse("data_type", names::no_data_type(catalog, name));
        }
        fields.finish()?;
        let lags = self
            .fleet
            .lags(data_type.map(|data_type| &data_type.topic))
            .await
            .map_err(store_failed)?;
        let stopped = match data_type {
            Some(_) => self.fleet.type_states().await.map_err(store_failed)?,
            None => HashMap::new(),
        };
        let stopped = stopped.get(name).is_some_and(|state| state.stopped);
        let known: Vec<u64> = lags.iter().filter_map(crate::fleet::Lag::offsets).collect();
        let unknown_partitions = u32::try_from(lags.len() - known.len()).unwrap_or(u32::MAX);
        let place = |lag: &PartitionLag| (lag.topic.clone(), u16::try_from(lag.partition).unwrap_or(u16::MAX));
        let lags = lags.into_iter().map(|lag| convert::lag(lag, stopped));
        let lags = lags.filter(|lag| page.after.as_ref().is_none_or(|after| place(lag) > *after));
        let mut partitions: Vec<_> = lags.take(page.size + 1).collect();
        let next_page_token = page.cut(&mut partitions, place);
        Ok(Response::new(GetLagResponse {
            partitions,
            next_page_token,
            total_lag: known.into_iter().fold(0, u64::saturating_add),
            unknown_partitions,
        }))
    }

    async fn refresh_lookup(
        &self,
        request: Request<RefreshLookupRequest>,
    ) -> Result<Response<RefreshLookupResponse>, Status> {
        let principal = principal(&request);
        let request = request.into_inner();
        let lookup = self.lookup(&request)?;
        if request.validate_only {
            return Ok(Response::new(RefreshLookupResponse::default()));
        }
        let fleet = self.fleet.clone();
        let refresh = async move {
            let told = fleet
                .refresh_lookup(lookup, request.keys, principal, request.request_id)
                .await;
            told.map_err(store_failed)
        };
        let told = self.changes.make(refresh).await?;
        Ok(Response::new(RefreshLookupResponse {
            workers_told: u32::try_from(told).unwrap_or(u32::MAX),
        }))
    }

    async fn pause_ingest(
        &self,
        request: Request<PauseIngestRequest>,
    ) -> Result<Response<PauseIngestResponse>, Status> {
        let principal = principal(&request);
        let paused = ingest::pause(&self.ingest, &self.changes, principal, request.into_inner()).await?;
        Ok(Response::new(paused))
    }

    async fn resume_ingest(
        &self,
        request: Request<ResumeIngestRequest>,
    ) -> Result<Response<ResumeIngestResponse>, Status> {
        let principal = principal(&request);
        let resumed = ingest::resume(&self.ingest, &self.changes, principal, request.into_inner()).await?;
        Ok(Response::new(resumed))
    }
}

impl Service {
    /// Makes it.
    pub fn new(fleet: Fleet, ingest: Ingest, changes: Changes) -> Self {
        Self { fleet, ingest, changes }
    }

    /// Checks a refresh and finds its lookup.
    fn lookup(&self, request: &RefreshLookupRequest) -> Result<LookupIndex, Error> {
        let mut fields = Fields::new();
        fields.require("lookup", &request.lookup);
        fields.request_id(&request.request_id);
        if request.keys.len() > MOST_KEYS {
            let problem = format!(
                "has {} keys; at most {MOST_KEYS} are taken, and none means all",
                request.keys.len()
            );
            fields.refuse("keys", problem);
        }
        for (place, key) in request.keys.iter().enumerate() {
            fields.text(&format!("keys[{place}]"), key, LONGEST_KEY);
        }
        fields.finish()?;
        let mut lookups = self.fleet.catalog().lookups.iter();
        lookups
            .position(|lookup| lookup.name == request.lookup)
            .map(LookupIndex)
            .ok_or_else(|| {
                let message = names::no_lookup(self.fleet.catalog(), &request.lookup);
                Error::new(ErrorReason::NotFound, message).with("lookup", &request.lookup)
            })
    }
}
