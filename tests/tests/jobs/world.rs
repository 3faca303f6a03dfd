//! A database of one's own with the store of jobs, and workers that are no more than their claims.

use std::time::Duration;

use anyhow::{Context as _, Result};
use reprise_shared::clock::Clock;
use reprise_shared::jobs::{
    self, Claim, Event, Job, JobId, JobState, Kind, Mode, NewJob, Progress, Refused, Slice, Task, TaskId, Worker,
};
use reprise_shared::mysql::{self, Connector, Database, Session};
use reprise_shared::position::{Offset, Partition, TopicGeneration, TopicId, TopicName, TopicPartition};
use reprise_shared::whitelist::Version;
use reprise_tests::env::Isolation;
use reprise_tests::wait::{Seen, wait_for};
use sqlx::AssertSqlSafe;
use sqlx::mysql::MySqlConnection;

/// The hash of the catalog that the workers of these tests have.
pub(crate) const HASH: &str = "c0ffee";
pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) isolation: Isolation,
    pub(crate) database: Database,
}

impl World {
    pub(crate) async fn start(name: &str) -> Result<Self> {
        let isolation = Isolation::new(name).await?;
        let database = open(&isolation, Duration::from_secs(5))?;
        mysql::migrate(database.pool()).await?;
        Ok(Self { isolation, database })
    }

    /// A pool of its own, as another process would have; `lock_wait` as its sessions have it, in whole seconds.
    pub(crate) fn process(&self, lock_wait: Duration) -> Result<Database> {
        open(&self.isolation, lock_wait)
    }

    /// A lane's connection.
    pub(crate) async fn connect(&self) -> Result<MySqlConnection> {
        let session = Session {
            lock_wait_timeout: Duration::from_secs(3),
            wait_timeout: Duration::from_secs(60),
            statement_cache: 10,
        };
        Ok(Connector::new(&self.isolation.mysql_url().into(), session)?
            .connect()
            .await?)
    }

    pub(crate) async fn create(&self, job: &NewJob) -> Result<JobId> {
        let id = JobId::random();
        self.create_as(id, job).await?;
        Ok(id)
    }

    pub(crate) async fn create_as(&self, id: JobId, job: &NewJob) -> sqlx::Result<()> {
        let job = job.clone();
        let created = self.database.tx("test_create", move |connection| {
            let job = job.clone();
            Box::pin(async move { jobs::create(connection, id, &job).await })
        });
        created.await
    }

    pub(crate) async fn ask(
        &self,
        id: JobId,
        event: Event,
        revision: Option<u64>,
    ) -> sqlx::Result<Result<Job, Refused>> {
        let asked = self.database.tx("test_ask", move |connection| {
            Box::pin(async move { jobs::ask(connection, id, event, revision).await })
        });
        asked.await
    }

    pub(crate) async fn update(
        &self,
        id: JobId,
        revision: Option<u64>,
        priority: Option<i16>,
        limit: Option<Option<u64>>,
    ) -> sqlx::Result<Result<Job, Refused>> {
        let updated = self.database.tx("test_update", move |connection| {
            Box::pin(async move { jobs::update(connection, id, revision, priority, limit).await })
        });
        updated.await
    }

    /// Asks for something that is allowed.
    pub(crate) async fn asked(&self, id: JobId, event: Event) -> Result<Job> {
        self.ask(id, event, None)
            .await?
            .map_err(|refused| anyhow::anyhow!("{refused:?}"))
    }

    pub(crate) async fn claim(&self, owner: &str) -> Result<Claim> {
        claim(&self.database, owner).await?.context("nothing to claim")
    }

    pub(crate) async fn job(&self, id: JobId) -> Result<Job> {
        jobs::job(self.database.pool(), id).await?.context("no such job")
    }

    pub(crate) async fn state(&self, id: JobId) -> Result<JobState> {
        Ok(self.job(id).await?.state)
    }

    pub(crate) async fn settle(&self, id: JobId) -> Result<JobState> {
        Ok(jobs::settle(&self.database, id).await?)
    }

    pub(crate) async fn task(&self, id: TaskId) -> Result<Task> {
        let after = id.number.checked_sub(1);
        let mut found = jobs::tasks(self.database.pool(), id.job, after, 1).await?;
        found.pop().context("no such task")
    }

    pub(crate) async fn tasks(&self, id: JobId) -> Result<Vec<Task>> {
        Ok(jobs::tasks(self.database.pool(), id, None, 10_000).await?)
    }

    pub(crate) async fn progress(&self, id: JobId) -> Result<Progress> {
        Ok(jobs::progress(self.database.pool(), id).await?)
    }

    pub(crate) async fn sql(&self, statement: &str) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(self.database.pool())
            .await
            .context(statement.to_owned())?;
        Ok(())
    }

    pub(crate) async fn number(&self, statement: &str) -> Result<i64> {
        sqlx::query_scalar(AssertSqlSafe(statement.to_owned()))
            .fetch_one(self.database.pool())
            .await
            .context(statement.to_owned())
    }

    /// Waits until a statement that begins with this comment waits for a lock.
    pub(crate) async fn waits_for_a_lock(&self, comment: &str, is_over: impl Fn() -> bool) -> Result<()> {
        let sql = format!(
            "SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT' \
             AND trx_query LIKE '/* {comment} */%'"
        );
        wait_for(&format!("{comment} to wait"), LIMIT, async || {
            let waiting = self.number(&sql).await;
            match (is_over(), waiting) {
                (true, _) => Seen::Never(anyhow::anyhow!("it did not wait")),
                (false, Ok(1..)) => Seen::Ready(()),
                (false, waiting) => Seen::NotYet(format!("{waiting:?}")),
            }
        })
        .await
    }

    /// Lets all leases run out, as if their owners had been frozen for an hour.
    pub(crate) async fn freeze_owners(&self) -> Result<()> {
        self.sql("UPDATE tasks SET lease_until = DATE_SUB(lease_until, INTERVAL 1 HOUR)")
            .await
    }

    /// The epochs of a task and of its lanes.
    pub(crate) async fn epochs(&self, task: TaskId) -> Result<Vec<u64>> {
        Ok(sqlx::query_scalar(
            "SELECT epoch FROM tasks WHERE job_id = ? AND task_number = ? \
             UNION ALL SELECT epoch FROM task_lanes WHERE job_id = ? AND task_number = ?",
        )
        .bind(task.job.to_string())
        .bind(task.number)
        .bind(task.job.to_string())
        .bind(task.number)
        .fetch_all(self.database.pool())
        .await?)
    }
}

fn open(isolation: &Isolation, lock_wait: Duration) -> Result<Database> {
    let config = mysql::Config {
        url: isolation.mysql_url().into(),
        lock_wait_timeout: lock_wait,
        max_connections: 16,
        ..mysql::Config::default()
    };
    Ok(Database::new(&config, Clock::system())?)
}

pub(crate) fn worker(id: &str) -> Worker {
    Worker {
        id: id.to_owned(),
        lease: LEASE,
        max_attempts: 5,
    }
}

/// Claims as a worker whose catalog is the jobs' own.
pub(crate) async fn claim(database: &Database, owner: &str) -> sqlx::Result<Option<Claim>> {
    jobs::claim(database, &worker(owner), |_| Some(HASH.to_owned())).await
}

pub(crate) fn partition(number: u16) -> TopicPartition {
    TopicPartition {
        topic: TopicName::new("fund-data"),
        partition: Partition(number),
    }
}

pub(crate) fn slice(number: u16, start: u64, end: u64) -> Slice {
    Slice {
        data_type: "fund_risk".to_owned(),
        topic_partition: partition(number),
        topic_id: TopicId::new("AAAAAAAAAAAAAAAAAAAAAA"),
        generation: TopicGeneration(3),
        start: Offset(start),
        end: Offset(end),
        filter: None,
        record_time_from: None,
        record_time_to: None,
    }
}

pub(crate) fn job_of(slices: Vec<Slice>) -> NewJob {
    NewJob {
        kind: Kind::Replay,
        mode: Mode::Live,
        spec: "{}".to_owned(),
        labels: "{}".to_owned(),
        data_types: vec!["fund_risk".to_owned()],
        catalog_hash: HASH.to_owned(),
        whitelist_version: Version(7),
        clean_first: false,
        allow_partial: false,
        priority: 0,
        max_records_per_second: None,
        estimated_records: 100,
        created_by: "ann".to_owned(),
        slices,
        filters: Vec::new(),
        missing: Vec::new(),
        lanes: 2,
    }
}

/// A job of so many tasks of 100 positions each.
pub(crate) fn job_with(tasks: u16) -> NewJob {
    job_of((0..tasks).map(|number| slice(number, 0, 100)).collect())
}
