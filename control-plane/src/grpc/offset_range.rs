//! OffsetRangeService: which offsets were processed, and when.

mod convert;

use reprise_proto::v1::offset_range_service_server::OffsetRangeService;
use reprise_proto::v1::resolve_offsets_request::Known;
use reprise_proto::v1::*;
use reprise_shared::catalog::DataType;
use reprise_shared::position::{Partition, TopicName};
use tonic::{Request, Response, Status, async_trait};

use super::changes::Changes;
use super::error::{Error, ErrorReason};
use super::explain;
use super::fields::Fields;
use super::names;
use super::paging::Page;
use super::{away, principal};
use crate::explain::Explainer;
use crate::kafka;
use crate::offsets::list::{Place, Query};
use crate::offsets::purge::Purge;
use crate::offsets::{self, Offsets, audit, resolve};
use crate::requests::RequestKey;

/// Answers from [`Offsets`] and an [`Explainer`].
#[derive(Clone)]
pub struct Service {
    offsets: Offsets,
    changes: Changes,
    explainer: Explainer,
}

#[async_trait]
impl OffsetRangeService for Service {
    async fn list_offset_ranges(
        &self,
        request: Request<ListOffsetRangesRequest>,
    ) -> Result<Response<ListOffsetRangesResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::new();
        let filters = format!(
            "{:?} {:?} {:?} {}",
            request.partitions, request.offsets, request.times, request.time_basis
        );
        let filters = ["ranges", request.data_type.as_str(), &filters];
        let page = Page::<Place>::read(&mut fields, request.page_size, &request.page_token, &filters);
        let data_type = self.data_type(&mut fields, &request.data_type);
        let partitions = convert::partitions(&mut fields, &request.partitions);
        let within = convert::interval(&mut fields, request.offsets);
        let window = convert::window(&mut fields, request.times);
        let basis = convert::basis(&mut fields, request.time_basis);
        if let Some(data_type) = data_type
            && !partitions.is_empty()
        {
            let there = self.offsets.accepted_partitions(&data_type.topic).await.map_err(failed);
            check_partitions(&mut fields, &data_type.topic, &partitions, there)?;
        }
        fields.finish()?;
        let data_type = data_type.ok_or_else(Error::internal)?;
        let query = Query {
            data_type: data_type.name.clone(),
            topic: data_type.topic.clone(),
            partitions,
            within: within.unwrap_or(convert::ALL),
            times: window.map(|window| (basis, window)),
        };
        let listed = self
            .offsets
            .list(&query, page.after.as_ref(), page.size)
            .await
            .map_err(failed)?;
        let range = |(partition, range)| convert::range(data_type, partition, range);
        Ok(Response::new(ListOffsetRangesResponse {
            ranges: listed.ranges.into_iter().map(range).collect(),
            next_page_token: listed.next.map(|last| page.token(last)).unwrap_or_default(),
        }))
    }

    async fn resolve_offsets(
        &self,
        request: Request<ResolveOffsetsRequest>,
    ) -> Result<Response<ResolveOffsetsResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::new();
        let data_type = self.data_type(&mut fields, &request.data_type);
        let partitions = convert::partitions(&mut fields, &request.partitions);
        let basis = convert::basis(&mut fields, request.time_basis);
        let known = convert::known(&mut fields, request.known, &partitions);
        if let Some(data_type) = data_type {
            self.check_at_broker(&mut fields, &data_type.topic, &partitions).await?;
        }
        fields.finish()?;
        let (data_type, known) = data_type.zip(known).ok_or_else(Error::internal)?;
        let question = resolve::Question {
            data_type: data_type.name.clone(),
            topic: data_type.topic.clone(),
            partitions,
            basis,
        };
        let resolved = match known {
            convert::Known::Times(window) => {
                let found = self.offsets.offsets_of(&question, window).await.map_err(failed)?;
                let times = match request.known {
                    Some(Known::Times(times)) => Some(times),
                    Some(Known::Offsets(_)) | None => None,
                };
                let found = found.into_iter();
                found
                    .map(|found| convert::offsets(&data_type.topic, found, times))
                    .collect()
            }
            convert::Known::Offsets(partition, within) => {
                let found = self
                    .offsets
                    .times_of(&question, partition, within)
                    .await
                    .map_err(failed)?;
                vec![convert::times(&data_type.topic, partition, within, found)]
            }
        };
        Ok(Response::new(ResolveOffsetsResponse { resolved }))
    }

    async fn audit_coverage(
        &self,
        request: Request<AuditCoverageRequest>,
    ) -> Result<Response<AuditCoverageResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::new();
        let filters = format!("{:?} {:?}", request.partitions, request.offsets);
        let filters = ["coverage", request.topic.as_str(), &filters];
        let page = Page::<Partition>::read(&mut fields, request.page_size, &request.page_token, &filters);
        let topic = self.topic(&mut fields, &request.topic);
        let partitions = convert::partitions(&mut fields, &request.partitions);
        let within = convert::interval(&mut fields, request.offsets);
        if let Some(topic) = &topic {
            self.check_at_broker(&mut fields, topic, &partitions).await?;
        }
        fields.finish()?;
        let question = audit::Question {
            topic: topic.ok_or_else(Error::internal)?,
            partitions,
            within,
        };
        let (audited, more) = self
            .offsets
            .audit(&question, page.after, page.size)
            .await
            .map_err(failed)?;
        let last = audited.last().map(|last| last.partition);
        let next = last.filter(|_| more).map(|last| page.token(last));
        Ok(Response::new(AuditCoverageResponse {
            partitions: audited
                .into_iter()
                .map(|found| convert::coverage(&question.topic, found))
                .collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn purge_offset_ranges(
        &self,
        request: Request<PurgeOffsetRangesRequest>,
    ) -> Result<Response<PurgeOffsetRangesResponse>, Status> {
        let principal = principal(&request);
        let request = request.into_inner();
        let mut fields = Fields::new();
        if !request.data_type.is_empty() {
            self.data_type(&mut fields, &request.data_type);
        }
        let older_than = convert::older_than(&mut fields, request.older_than);
        fields.request_id(&request.request_id);
        fields.finish()?;
        let method = "OffsetRangeService/PurgeOffsetRanges";
        let purge = Purge {
            request: RequestKey::new(principal, method, &request.request_id, &request),
            data_type: Some(request.data_type).filter(|name| !name.is_empty()),
            older_than,
        };
        let purged = if request.validate_only {
            self.offsets.count_old(&purge).await.map_err(failed)?
        } else {
            let offsets = self.offsets.clone();
            let purged = async move { offsets.purge(&purge).await.map_err(failed) };
            self.changes.make(purged).await?
        };
        Ok(Response::new(offsets::purge::answer(purged)))
    }

    async fn explain_record(
        &self,
        request: Request<ExplainRecordRequest>,
    ) -> Result<Response<ExplainRecordResponse>, Status> {
        let explained = explain::explain(&self.explainer, request.into_inner()).await?;
        Ok(Response::new(explained))
    }
}

impl Service {
    /// Makes it.
    pub fn new(offsets: Offsets, changes: Changes, explainer: Explainer) -> Self {
        Self {
            offsets,
            changes,
            explainer,
        }
    }

    fn data_type(&self, fields: &mut Fields, name: &str) -> Option<&DataType> {
        let found = self.offsets.data_type(name);
        if name.is_empty() {
            fields.refuse("data_type", "is required");
        } else if found.is_none() {
            fields.refuse("data_type", names::no_data_type(self.offsets.catalog(), name));
        }
        found
    }

    fn topic(&self, fields: &mut Fields, name: &str) -> Option<TopicName> {
        let mut types = self.offsets.catalog().data_types.iter();
        let found = types.find(|data_type| data_type.topic.as_str() == name);
        if name.is_empty() {
            fields.refuse("topic", "is required");
        } else if found.is_none() {
            fields.refuse("topic", names::no_topic(self.offsets.catalog(), name));
        }
        found.map(|data_type| data_type.topic.clone())
    }

    /// Refuses partitions that the broker does not know.
    async fn check_at_broker(
        &self,
        fields: &mut Fields,
        topic: &TopicName,
        partitions: &[Partition],
    ) -> Result<(), Error> {
        if partitions.is_empty() {
            return Ok(());
        }
        let there = self.offsets.partitions(topic).await.map_err(failed);
        check_partitions(fields, topic, partitions, there.map(Some))
    }
}

/// Refuses partitions that a topic does not have. What is wrong already is told before that a store does not answer.
fn check_partitions(
    fields: &mut Fields,
    topic: &TopicName,
    partitions: &[Partition],
    there: Result<Option<usize>, Error>,
) -> Result<(), Error> {
    match there {
        Ok(Some(count)) => {
            for (place, partition) in partitions.iter().enumerate() {
                if usize::from(partition.0) >= count {
                    let problem = format!("is {partition}; topic {topic} has {count} partitions, from 0 on");
                    fields.refuse(format!("partitions[{place}]"), problem);
                }
            }
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(error) => {
            std::mem::take(fields).finish()?;
            Err(error)
        }
    }
}

/// Turns the failure of a question into an answer.
fn failed(error: offsets::Error) -> Error {
    let message = match &error {
        offsets::Error::Redis(_) => return away("redis", &error),
        offsets::Error::Mysql(_) => return away("mysql", &error),
        offsets::Error::Kafka(kafka::Error::TopicMissing(topic)) => {
            let message = format!("kafka has no topic {topic}; it has to be created, or the catalog names a wrong one");
            return Error::new(ErrorReason::NotFound, message).with("topic", topic);
        }
        offsets::Error::Kafka(_) => return away("kafka", &error),
        offsets::Error::TooMuch { .. } => {
            format!("{error}; ask for a part of it by offsets, or purge old ranges, or raise the limit (offsets.…)")
        }
        offsets::Error::PurgeRuns => {
            "a purge is running; try again when it has ended (its own request_id then gets its result)".to_owned()
        }
        offsets::Error::RequestIdReused => {
            let message = format!("{error}; use a new one for each request");
            return Error::new(ErrorReason::RequestIdReused, message);
        }
        offsets::Error::Unfinished { removed, .. } => {
            let message = format!("{error}; what is left can be removed by the same call again");
            return Error::new(ErrorReason::OutcomeUnknown, message).with("removed", removed);
        }
    };
    Error::new(ErrorReason::WrongState, message)
}
