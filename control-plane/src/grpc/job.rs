//! JobService: what is processed again.

mod failure;
mod moves;
mod plan;
mod show;
mod spec;
mod watch;

use reprise_proto::v1::job_service_server::JobService;
use reprise_proto::v1::*;
use reprise_shared::jobs::{self, Event, JobId, JobsFilter};
use tonic::{Request, Response, Status, async_trait};

use self::moves::Move;
use super::changes::Changes;
use super::error::{Error, quoted};
use super::fields::Fields;
use super::paging::Page;
use super::principal;
use crate::guard::Caller;
use crate::jobs::change::Change;
use crate::jobs::watch::Watches;
use crate::jobs::{Asked, Jobs};
use crate::requests::RequestKey;

pub use self::show::job as shown;

/// Answers from [`Jobs`].
#[derive(Clone)]
pub struct Service {
    jobs: Jobs,
    watches: Watches,
    changes: Changes,
}

#[async_trait]
impl JobService for Service {
    type WatchJobStream = watch::Stream;

    async fn plan_job(&self, request: Request<PlanJobRequest>) -> Result<Response<PlanJobResponse>, Status> {
        let principal = principal(&request);
        let mut fields = Fields::new();
        let planner = self.jobs.planner();
        let ask = spec::ask(
            &mut fields,
            request.into_inner().spec,
            planner.catalog(),
            planner.config(),
        );
        fields.finish()?;
        let ask = ask.ok_or_else(Error::internal)?;
        let kept = self.jobs.plan(&ask, &principal).await.map_err(failure::answer)?;
        Ok(Response::new(plan::answer(kept)))
    }

    async fn create_job(&self, request: Request<CreateJobRequest>) -> Result<Response<CreateJobResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let mut fields = Fields::new();
        fields.request_id(&request.request_id);
        let token = uuid::Uuid::parse_str(&request.plan_token);
        let token = fields.take(
            "plan_token",
            token.map_err(|_| "is not the plan_token of a plan; PlanJob returns it"),
        );
        fields.finish()?;
        let token = token.ok_or_else(Error::internal)?;
        let asked = asked(
            &caller,
            "CreateJob",
            &request,
            &request.request_id,
            None,
            request.validate_only,
        );
        let jobs = self.jobs.clone();
        let made = async move { jobs.create(token, asked).await.map_err(failure::answer) };
        let job = Some(self.changes.make(made).await?);
        Ok(Response::new(CreateJobResponse { job }))
    }

    async fn get_job(&self, request: Request<GetJobRequest>) -> Result<Response<GetJobResponse>, Status> {
        let id = only_id(&request.into_inner().job_id)?;
        let snapshot = self.jobs.snapshot(id).await.map_err(failure::answer)?;
        let rate = show::average(&self.jobs, &snapshot);
        let job = Some(show::whole(&snapshot, rate));
        Ok(Response::new(GetJobResponse { job }))
    }

    async fn list_jobs(&self, request: Request<ListJobsRequest>) -> Result<Response<ListJobsResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::new();
        let states = format!("{:?}", request.states);
        let filters = ["jobs", &request.created_by, &states];
        let page = Page::<(i64, String)>::read(&mut fields, request.page_size, &request.page_token, &filters);
        let filter = JobsFilter {
            states: spec::states(&mut fields, &request.states),
            created_by: Some(request.created_by).filter(|name| !name.is_empty()),
            ..JobsFilter::default()
        };
        let after = page.after.as_ref().and_then(show::cursor);
        fields.finish()?;
        let found = self.jobs.list(&filter, after, limit(page.size)).await;
        let mut found = found.map_err(failure::answer)?;
        let next_page_token = page.cut(&mut found, show::place);
        Ok(Response::new(ListJobsResponse {
            jobs: found.iter().map(show::job).collect(),
            next_page_token,
        }))
    }

    async fn watch_job(&self, request: Request<WatchJobRequest>) -> Result<Response<watch::Stream>, Status> {
        let id = only_id(&request.into_inner().job_id)?;
        let follower = self.watches.follow(id).await.map_err(failure::not_followed)?;
        Ok(Response::new(watch::stream(follower)))
    }

    async fn update_job(&self, request: Request<UpdateJobRequest>) -> Result<Response<UpdateJobResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let mut fields = Fields::new();
        let id = job_id(&mut fields, &request.job_id);
        fields.request_id(&request.request_id);
        let revision = etag(&mut fields, &request.etag);
        let priority = request
            .priority
            .and_then(|priority| spec::priority(&mut fields, "priority", priority));
        if request.priority.is_none() && request.max_records_per_second.is_none() {
            fields.refuse("priority", "or max_records_per_second is required");
        }
        fields.finish()?;
        let change = Change::Update {
            max_records_per_second: request.max_records_per_second.map(spec::rate),
            priority,
        };
        let asked = asked(
            &caller,
            "UpdateJob",
            &request,
            &request.request_id,
            revision,
            request.validate_only,
        );
        let job = Some(self.change(id, change, asked).await?);
        Ok(Response::new(UpdateJobResponse { job }))
    }

    async fn pause_job(&self, request: Request<PauseJobRequest>) -> Result<Response<PauseJobResponse>, Status> {
        let caller = caller(&request)?;
        let (id, asked) = checked(&caller, &request.into_inner())?;
        let job = Some(self.change(Some(id), Change::Move(Event::Pause), asked).await?);
        Ok(Response::new(PauseJobResponse { job }))
    }

    async fn resume_job(&self, request: Request<ResumeJobRequest>) -> Result<Response<ResumeJobResponse>, Status> {
        let caller = caller(&request)?;
        let (id, asked) = checked(&caller, &request.into_inner())?;
        let job = Some(self.change(Some(id), Change::Move(Event::Resume), asked).await?);
        Ok(Response::new(ResumeJobResponse { job }))
    }

    async fn cancel_job(&self, request: Request<CancelJobRequest>) -> Result<Response<CancelJobResponse>, Status> {
        let caller = caller(&request)?;
        let (id, asked) = checked(&caller, &request.into_inner())?;
        let job = Some(self.change(Some(id), Change::Move(Event::Cancel), asked).await?);
        Ok(Response::new(CancelJobResponse { job }))
    }

    async fn retry_job(&self, request: Request<RetryJobRequest>) -> Result<Response<RetryJobResponse>, Status> {
        let caller = caller(&request)?;
        let (id, asked) = checked(&caller, &request.into_inner())?;
        let jobs = self.jobs.clone();
        let made = async move { jobs.retry(id, asked).await.map_err(failure::answer) };
        let job = Some(self.changes.make(made).await?);
        Ok(Response::new(RetryJobResponse { job }))
    }

    async fn list_tasks(&self, request: Request<ListTasksRequest>) -> Result<Response<ListTasksResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::new();
        let id = job_id(&mut fields, &request.job_id);
        let filters = ["tasks", request.job_id.as_str()];
        let page = Page::<u32>::read(&mut fields, request.page_size, &request.page_token, &filters);
        fields.finish()?;
        let id = id.ok_or_else(Error::internal)?;
        let found = self.jobs.tasks(id, page.after, limit(page.size)).await;
        let mut tasks: Vec<Task> = found.map_err(failure::answer)?.into_iter().map(show::task).collect();
        let next_page_token = page.cut(&mut tasks, |task| task.number);
        Ok(Response::new(ListTasksResponse { tasks, next_page_token }))
    }

    async fn list_mismatches(
        &self,
        request: Request<ListMismatchesRequest>,
    ) -> Result<Response<ListMismatchesResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::new();
        let id = job_id(&mut fields, &request.job_id);
        let filters = ["mismatches", request.job_id.as_str()];
        let page = Page::<(String, [u8; 32])>::read(&mut fields, request.page_size, &request.page_token, &filters);
        fields.finish()?;
        let id = id.ok_or_else(Error::internal)?;
        let found = self.jobs.mismatches(id, page.after.as_ref(), limit(page.size)).await;
        let mut found: Vec<jobs::Mismatch> = found.map_err(failure::answer)?;
        let next_page_token = page.cut(&mut found, |last| (last.data_type.clone(), last.key_digest));
        Ok(Response::new(ListMismatchesResponse {
            mismatches: found.into_iter().map(show::mismatch).collect(),
            next_page_token,
        }))
    }
}

impl Service {
    /// Makes it.
    pub fn new(jobs: Jobs, watches: Watches, changes: Changes) -> Self {
        Self { jobs, watches, changes }
    }

    async fn change(&self, id: Option<JobId>, change: Change, asked: Asked) -> Result<Job, Error> {
        let id = id.ok_or_else(Error::internal)?;
        let jobs = self.jobs.clone();
        let made = async move { jobs.change(id, change, asked).await.map_err(failure::answer) };
        self.changes.make(made).await
    }
}

/// One more than a page holds tells whether there is a next one.
fn limit(size: usize) -> u32 {
    u32::try_from(size.saturating_add(1)).unwrap_or(u32::MAX)
}

fn caller<T>(request: &Request<T>) -> Result<Caller, Error> {
    let caller = request.extensions().get::<Caller>();
    caller.cloned().ok_or_else(Error::internal)
}

fn job_id(fields: &mut Fields, text: &str) -> Option<JobId> {
    let id = JobId::parse(text);
    if text.is_empty() {
        fields.refuse("job_id", "is required");
    } else if id.is_none() {
        fields.refuse(
            "job_id",
            format!(
                "{} is not the id of a job, which is a UUID; ListJobs lists them",
                quoted(text)
            ),
        );
    }
    id
}

fn only_id(text: &str) -> Result<JobId, Error> {
    let mut fields = Fields::new();
    let id = job_id(&mut fields, text);
    fields.finish()?;
    id.ok_or_else(Error::internal)
}

fn etag(fields: &mut Fields, text: &str) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let revision = text.parse().map_err(|_| "is not the etag of a job; GetJob returns it");
    fields.take("etag", revision)
}

fn asked(
    caller: &Caller,
    method: &str,
    message: &impl prost::Message,
    request_id: &str,
    revision: Option<u64>,
    validate_only: bool,
) -> Asked {
    let method = format!("JobService/{method}");
    Asked {
        key: RequestKey::new(caller.principal.to_string(), &method, request_id, message),
        role: caller.role,
        revision,
        validate_only,
    }
}

/// Checks the fields that all moves of a job have.
fn checked<M: Move>(caller: &Caller, request: &M) -> Result<(JobId, Asked), Error> {
    let mut fields = Fields::new();
    let id = job_id(&mut fields, request.job_id());
    fields.request_id(request.request_id());
    let revision = etag(&mut fields, request.etag());
    fields.finish()?;
    let id = id.ok_or_else(Error::internal)?;
    let (request_id, validate_only) = (request.request_id(), request.validate_only());
    Ok((
        id,
        asked(caller, M::METHOD, request, request_id, revision, validate_only),
    ))
}
