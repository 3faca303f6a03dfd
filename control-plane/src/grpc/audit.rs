//! AuditService: who did what, and when.

use jiff::Timestamp;
use reprise_proto::v1::audit_service_server::AuditService;
use reprise_proto::v1::*;
use sqlx::mysql::MySqlPool;
use tonic::{Request, Response, Status, async_trait};

use super::away;
use super::fields::{Fields, timestamp};
use super::paging::Page;
use crate::audit::{self, Filter, Outcome, Recorded};

/// What a filter names has at most so many bytes.
const LONGEST_NAME: usize = 1_024;

/// Answers from the audit log.
#[derive(Clone)]
pub struct Service(pub MySqlPool);

#[async_trait]
impl AuditService for Service {
    async fn list_audit_events(
        &self,
        request: Request<ListAuditEventsRequest>,
    ) -> Result<Response<ListAuditEventsResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::new();
        let filter = filter(&mut fields, &request);
        let filters = format!("{filter:?}");
        let page = Page::<u64>::read(
            &mut fields,
            request.page_size,
            &request.page_token,
            &["audit", &filters],
        );
        fields.finish()?;
        let events = audit::list(&self.0, &filter, page.after, page.size + 1).await;
        let mut events = events.map_err(|error| away("mysql", &error))?;
        let next_page_token = page.cut(&mut events, |event| event.id);
        Ok(Response::new(ListAuditEventsResponse {
            events: events.into_iter().map(event).collect(),
            next_page_token,
        }))
    }
}

fn filter(fields: &mut Fields, request: &ListAuditEventsRequest) -> Filter {
    let mut name = |field: &str, text: &str| {
        fields.text(field, text, LONGEST_NAME);
        Some(text.to_owned()).filter(|text| !text.is_empty())
    };
    let (principal, method, target) = (
        name("principal", &request.principal),
        name("method", &request.method),
        name("target", &request.target),
    );
    let outcome = match AuditEventOutcome::try_from(request.outcome) {
        Ok(AuditEventOutcome::Unspecified) => None,
        Ok(AuditEventOutcome::Done) => Some(Outcome::Done),
        Ok(AuditEventOutcome::Failed) => Some(Outcome::Failed),
        Ok(AuditEventOutcome::Unknown) => Some(Outcome::Unknown),
        Ok(AuditEventOutcome::Denied) => Some(Outcome::Denied),
        Err(_) => {
            fields.refuse("outcome", "is none of AuditEventOutcome");
            None
        }
    };
    let since = fields.time("start_time", request.start_time);
    let until = fields.time("end_time", request.end_time);
    if since
        .zip(until)
        .is_some_and(|(since, until): (Timestamp, Timestamp)| since >= until)
    {
        fields.refuse("end_time", "has to be after start_time");
    }
    Filter {
        principal,
        method,
        target,
        outcome,
        since,
        until,
    }
}

fn event(recorded: Recorded) -> AuditEvent {
    let event = recorded.event;
    let outcome = match event.outcome {
        Outcome::Done => AuditEventOutcome::Done,
        Outcome::Failed => AuditEventOutcome::Failed,
        Outcome::Unknown => AuditEventOutcome::Unknown,
        Outcome::Denied => AuditEventOutcome::Denied,
    };
    AuditEvent {
        event_id: recorded.id.to_string(),
        event_time: Some(timestamp(recorded.happened_at)),
        principal: event.principal,
        method: event.method,
        target: event.target,
        outcome: outcome.into(),
        reason: event.reason,
        request_id: event.request_id.unwrap_or_default(),
        before_json: event.before.to_string(),
        after_json: event.after.to_string(),
    }
}
