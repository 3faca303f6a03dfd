//! Plans of replays against the topic itself: what their tasks let through, what they say is missing, what is refused.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use reprise_proto::v1::job_service_client::JobServiceClient;
use reprise_proto::v1::whitelist_service_client::WhitelistServiceClient;
use reprise_proto::v1::*;
use reprise_shared::jobs::{self, JobId};
use reprise_shared::whitelist::Version;
use reprise_tests::control::{ControlPlane, refused};
use reprise_tests::feed::{DataTypeMix, Feed, FeedConfig};
use reprise_tests::fleet::{Fleet, Options, PATIENCE};
use reprise_tests::oracle::visit_topic;
use reprise_tests::wait::blocking;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

type Client = JobServiceClient<Channel>;

const TYPES: [&str; 3] = ["fund_basic", "fund_risk", "fund_valuation"];

fn feed(seed: u64, records: u64) -> FeedConfig {
    FeedConfig {
        seed,
        records: Some(records),
        funds: 40,
        step_ms: 100,
        mix: DataTypeMix {
            basic: 1,
            valuation: 4,
            risk: 4,
        },
        ..FeedConfig::default()
    }
}

/// A feed whose records' times are out of order.
async fn publish(fleet: &Fleet, seed: u64, records: u64) -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let later = i64::try_from(seed * records * 100)?;
    let records = Feed::new(feed(seed, records))?.map(|mut record| {
        record.timestamp_ms += later + random.random_range(-20_000..20_000);
        record
    });
    fleet.publish_records(records.collect()).await?;
    fleet.caught_up(PATIENCE).await
}

/// One record of the topic.
#[derive(Clone, Debug)]
struct Record {
    partition: u32,
    offset: u64,
    data_type: String,
    id: String,
    time: i64,
}

async fn records(fleet: &Fleet) -> Result<Vec<Record>> {
    let (brokers, topic) = (fleet.isolation.kafka_brokers().to_owned(), fleet.topic.clone());
    blocking("read the topic", Duration::from_secs(60), move || {
        let mut records = Vec::new();
        visit_topic(&brokers, &topic, |record| {
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            records.push(Record {
                partition: record.partition.0.into(),
                offset: record.offset.0,
                data_type: text(record.data_type),
                id: text(record.key),
                time: record.time.unwrap_or(-1),
            });
        })?;
        Ok(records)
    })
    .await
}

/// A topic whose records were judged by three versions of the whitelist.
struct World {
    fleet: Fleet,
    server: ControlPlane,
    client: Client,
    records: Vec<Record>,
    /// The ends of the partitions at each version, with whom it let through; in order.
    phases: Vec<(Version, Vec<u64>, BTreeSet<String>)>,
    now: BTreeSet<String>,
}

fn ids(numbers: std::ops::Range<usize>, all: &[String]) -> Vec<String> {
    all[numbers].to_vec()
}

async fn world(name: &str) -> Result<World> {
    let options = Options {
        settings: [("ingest.segment_records", "1000"), ("ingest.heartbeat", "1s")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..Options::default()
    };
    let mut fleet = Fleet::new(name, options).await?;
    fleet.seed(&feed(1, 0)).await?;
    let settings = vec![
        ("catalog", fleet.catalog_path().display().to_string()),
        ("rate_limit.per_second", "0".to_owned()),
        ("jobs.max_slice", "400".to_owned()),
        ("jobs.keep_every", "200ms".to_owned()),
    ];
    let server = ControlPlane::start_on(&fleet.isolation, settings).await?;
    server.ready().await?;
    fleet.start_workers(1).await?;
    let all: Vec<String> = sqlx::query_scalar("SELECT performance_id FROM t_fund_basic_info ORDER BY performance_id")
        .fetch_all(&fleet.pool)
        .await?;
    let mut world = World {
        client: Client::new(server.channel()),
        fleet,
        server,
        records: Vec::new(),
        phases: Vec::new(),
        now: BTreeSet::new(),
    };
    world.whitelist(&ids(0..10, &all), &[]).await?;
    world.phase(1).await?;
    world.whitelist(&ids(10..20, &all), &[]).await?;
    world.phase(2).await?;
    world.whitelist(&[], &ids(5..15, &all)).await?;
    world.phase(3).await?;
    world.whitelist(&ids(18..30, &all), &[]).await?;
    world.records = records(&world.fleet).await?;
    Ok(world)
}

impl World {
    /// Changes the whitelist and waits until the worker judges by it.
    async fn whitelist(&mut self, added: &[String], removed: &[String]) -> Result<()> {
        let mut client = WhitelistServiceClient::new(self.server.channel());
        let after = if removed.is_empty() {
            let request = AddWhitelistEntriesRequest {
                ids: added.to_vec(),
                ..AddWhitelistEntriesRequest::default()
            };
            client.add_whitelist_entries(request).await?.into_inner().whitelist
        } else {
            let request = RemoveWhitelistEntriesRequest {
                ids: removed.to_vec(),
                ..RemoveWhitelistEntriesRequest::default()
            };
            client.remove_whitelist_entries(request).await?.into_inner().whitelist
        };
        let version = Version(after.context("no list")?.version);
        self.fleet.whitelist_applied(version, PATIENCE).await?;
        self.now.extend(added.iter().cloned());
        self.now.retain(|id| !removed.contains(id));
        self.phases.push((version, Vec::new(), self.now.clone()));
        Ok(())
    }

    async fn phase(&mut self, seed: u64) -> Result<()> {
        publish(&self.fleet, seed, 3_000).await?;
        let ends = self
            .fleet
            .positions()
            .await?
            .into_iter()
            .map(|(_, end)| u64::try_from(end));
        let ends = ends.collect::<Result<_, _>>()?;
        self.phases.last_mut().context("no version")?.1 = ends;
        Ok(())
    }

    /// The version that judged a record, and whom it let through.
    fn judged(&self, record: &Record) -> Option<&(Version, Vec<u64>, BTreeSet<String>)> {
        let partition = record.partition as usize;
        let mut phases = self.phases.iter();
        phases.find(|(_, ends, _)| ends.get(partition).is_some_and(|end| record.offset < *end))
    }

    async fn plan(&mut self, spec: JobSpec) -> Result<(String, JobPlan)> {
        let planned = self
            .client
            .plan_job(PlanJobRequest { spec: Some(spec) })
            .await?
            .into_inner();
        Ok((planned.plan_token, planned.plan.context("no plan")?))
    }

    async fn create(&mut self, plan_token: String) -> Result<Job, Status> {
        let request = CreateJobRequest {
            plan_token,
            ..CreateJobRequest::default()
        };
        let created = self.client.create_job(request).await?.into_inner();
        created.job.ok_or_else(|| Status::internal("no job"))
    }

    /// Creates the job of a plan and returns how often its tasks let each record through.
    async fn let_through(&mut self, token: String) -> Result<BTreeMap<(String, u32, u64), usize>> {
        let job = self.create(token).await?;
        let id = JobId::parse(&job.job_id).context("no id")?;
        let pool = &self.fleet.pool;
        let tasks = jobs::tasks(pool, id, None, 100_000).await?;
        let mut lists: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
        for filter in tasks.iter().filter_map(|task| task.slice.filter) {
            if let Entry::Vacant(place) = lists.entry(filter) {
                let ids = jobs::filters::filter(pool, id, filter).await?;
                ensure!(!ids.is_empty(), "an empty list lets nobody through and is no task's");
                place.insert(ids.into_iter().collect());
            }
        }
        let mut counts = BTreeMap::new();
        for task in &tasks {
            let slice = &task.slice;
            ensure!(slice.end.0 - slice.start.0 <= 400, "{slice:?} is too long");
            let from = slice.record_time_from.map_or(i64::MIN, |time| time.as_millisecond());
            let to = slice.record_time_to.map_or(i64::MAX, |time| time.as_millisecond());
            for record in &self.records {
                let is_read = record.partition == u32::from(slice.topic_partition.partition.0)
                    && (slice.start.0..slice.end.0).contains(&record.offset)
                    && record.data_type == slice.data_type;
                let passes = slice.filter.is_none_or(|filter| lists[&filter].contains(&record.id));
                if is_read && passes && (from..to).contains(&record.time) {
                    *counts.entry(key(record)).or_default() += 1;
                }
            }
        }
        let cancel = CancelJobRequest {
            job_id: job.job_id,
            ..CancelJobRequest::default()
        };
        self.client.cancel_job(cancel).await?;
        Ok(counts)
    }

    /// Plans, creates, and compares with what a rule lets through; returns the plan.
    async fn check(&mut self, what: &str, spec: JobSpec, rule: impl Fn(&Self, &Record) -> bool) -> Result<JobPlan> {
        let types = match &spec.work {
            Some(job_spec::Work::Replay(replay)) => replay.data_types.clone(),
            _ => Vec::new(),
        };
        let (token, plan) = self.plan(spec).await?;
        let found = self.let_through(token).await?;
        let expected = self.records.iter().filter(|record| types.contains(&record.data_type));
        let expected: BTreeMap<_, _> = expected
            .filter(|record| rule(self, record))
            .map(|record| (key(record), 1))
            .collect();
        let differing = expected.iter().find(|(key, count)| found.get(*key) != Some(*count));
        let more = found.iter().find(|(key, _)| !expected.contains_key(*key));
        ensure!(
            differing.is_none() && more.is_none(),
            "{what}: {} records instead of {}, first {differing:?} and {more:?}; {plan:?}",
            found.len(),
            expected.len()
        );
        eprintln!(
            "{what}: {} records, {} tasks, estimate {}, not covered {}",
            found.len(),
            plan.task_count,
            plan.estimated_records,
            plan.uncovered_positions
        );
        Ok(plan)
    }

    async fn end(mut self) -> Result<()> {
        self.server.stop().await?;
        self.fleet.stop().await
    }
}

fn key(record: &Record) -> (String, u32, u64) {
    (record.data_type.clone(), record.partition, record.offset)
}

fn spec(replay: ReplaySpec) -> JobSpec {
    JobSpec {
        work: Some(job_spec::Work::Replay(replay)),
        ..JobSpec::default()
    }
}

fn replay(data_types: &[&str], records: replay_spec::Records) -> ReplaySpec {
    ReplaySpec {
        data_types: data_types.iter().map(ToString::to_string).collect(),
        records: Some(records),
        ..ReplaySpec::default()
    }
}

fn offsets(asked: &[(u32, u64, u64)]) -> replay_spec::Records {
    let partitions = asked.iter().map(|(partition, start, end)| PartitionOffsets {
        topic: String::new(),
        partition: *partition,
        offsets: Some(OffsetInterval {
            start: *start,
            end: *end,
        }),
    });
    replay_spec::Records::Offsets(ReplayOffsets {
        partitions: partitions.collect(),
    })
}

fn time(milliseconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp {
        seconds: milliseconds.div_euclid(1_000),
        nanos: i32::try_from(milliseconds.rem_euclid(1_000) * 1_000_000).expect("below a second"),
    })
}

fn times(start: i64, end: i64, basis: TimeBasis) -> replay_spec::Records {
    replay_spec::Records::Times(ReplayTimes {
        window: Some(TimeWindow {
            start_time: time(start),
            end_time: time(end),
        }),
        time_basis: basis.into(),
        max_disorder: None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_let_through_exactly_the_records_that_were_asked_for() -> Result<()> {
    let mut world = world("plan-exact").await?;
    let asked = [(0, 100, 900), (2, 0, 50_000), (2, 3, 40), (3, 700, 701)];
    let is_asked = move |record: &Record| {
        let within = |(partition, start, end): &(u32, u64, u64)| {
            *partition == record.partition && (*start..*end).contains(&record.offset)
        };
        asked.iter().any(within)
    };
    let by_offsets = spec(replay(&["fund_risk", "fund_basic"], offsets(&asked)));
    let plan = world
        .check("offsets", by_offsets, move |world, record| {
            is_asked(record) && world.now.contains(&record.id)
        })
        .await?;
    ensure!(
        plan.uncovered_positions == 0 && plan.notes.iter().any(|note| note.contains("not to 50000")),
        "{plan:?}"
    );
    let everything = spec(ReplaySpec {
        ignore_whitelist: true,
        ..replay(&["fund_valuation"], offsets(&asked))
    });
    world
        .check("offsets without the whitelist", everything, move |_, record| {
            is_asked(record)
        })
        .await?;

    // Codes and names, shown with their ids; ids replace the whitelist.
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT performance_id, fund_code, fund_name FROM t_fund_basic_info ORDER BY performance_id DESC LIMIT 2",
    )
    .fetch_all(&world.fleet.pool)
    .await?;
    let values = vec![rows[0].1.clone(), rows[1].2.clone(), "no such fund".to_owned()];
    let by_values = spec(ReplaySpec {
        lookup_values: vec![LookupValues {
            lookup: "fund_code".to_owned(),
            values,
        }],
        ids: vec!["0P-unknown".to_owned()],
        ..replay(
            &TYPES,
            offsets(&[(0, 0, 9_000), (1, 0, 9_000), (2, 0, 9_000), (3, 0, 9_000)]),
        )
    });
    let wanted: Vec<String> = rows.iter().map(|row| row.0.clone()).collect();
    let plan = world
        .check("fund codes and names", by_values, move |_, record| {
            wanted.contains(&record.id)
        })
        .await?;
    let resolved: Vec<usize> = plan.resolved_values.iter().map(|value| value.ids.len()).collect();
    ensure!(
        plan.resolved_values.len() == 3 && resolved.iter().sum::<usize>() >= 2 && resolved.contains(&0),
        "{plan:?}"
    );

    windows(&mut world).await?;
    catch_ups(&mut world).await?;
    comparisons(&mut world).await?;
    world.end().await
}

/// Random windows by record time, each with an estimate.
async fn windows(world: &mut World) -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let all = || world.records.iter().map(|record| record.time);
    let (first, last) = (all().min().context("no record")?, all().max().context("no record")?);
    for number in 0..12 {
        let start = random.random_range(first - 10_000..last);
        let end = start + random.random_range(1_000..400_000);
        let window = spec(ReplaySpec {
            ignore_whitelist: true,
            ..replay(&TYPES, times(start, end, TimeBasis::Record))
        });
        let within = move |_: &World, record: &Record| (start..end).contains(&record.time);
        let plan = world.check(&format!("window {number}"), window, within).await?;
        ensure!(plan.uncovered_positions == 0, "{plan:?}");
        let exact = world.records.iter().filter(|record| within(world, record)).count() as u64;
        // Small windows lie within one range of the ledger or two.
        if exact > 1_000 {
            let error = plan.estimated_records.abs_diff(exact);
            ensure!(error * 10 <= exact, "estimated {} of {exact}", plan.estimated_records);
        }
    }
    let future = spec(replay(&TYPES, times(last + 1, last + 60_000, TimeBasis::Record)));
    let plan = world.check("a window in the future", future, |_, _| false).await?;
    ensure!(plan.task_count == 0, "{plan:?}");
    // Everything was processed between now and a day ago.
    let processed = spec(replay(
        &["fund_risk"],
        times(1_000, 32_503_680_000_000, TimeBasis::Processed),
    ));
    world
        .check("everything by processing time", processed, |world, record| {
            world.now.contains(&record.id)
        })
        .await?;
    Ok(())
}

async fn catch_ups(world: &mut World) -> Result<()> {
    let versions: Vec<Version> = world.phases.iter().map(|(version, ..)| *version).collect();
    for since in versions {
        let catch_up = replay_spec::Records::CatchUp(ReplayCatchUp { since_version: since.0 });
        let late = move |world: &World, record: &Record| {
            let judged = world
                .judged(record)
                .is_some_and(|(version, _, list)| *version >= since && !list.contains(&record.id));
            judged && world.now.contains(&record.id)
        };
        world
            .check(
                &format!("catch-up since {}", since.0),
                spec(replay(&TYPES, catch_up)),
                late,
            )
            .await?;
    }
    Ok(())
}

async fn comparisons(world: &mut World) -> Result<()> {
    let everything = offsets(&[(0, 0, 9_000), (1, 0, 9_000), (2, 0, 9_000), (3, 0, 9_000)]);
    for mode in [ReplayMode::Verify, ReplayMode::Repair] {
        let compare = spec(ReplaySpec {
            mode: mode.into(),
            ..replay(&TYPES, everything.clone())
        });
        let was_let_through = |world: &World, record: &Record| {
            world
                .judged(record)
                .is_some_and(|(_, _, list)| list.contains(&record.id))
        };
        world.check(mode.as_str_name(), compare, was_let_through).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_what_kafka_has_deleted_is_refused_or_missing_exactly() -> Result<()> {
    let mut world = world("plan-expired").await?;
    world.fleet.delete_records(1, 333).await?;
    let asked = || replay(&["fund_risk"], offsets(&[(0, 10, 200), (1, 100, 600)]));
    let status = world.plan_refused(spec(asked())).await?;
    refused(&status, Code::FailedPrecondition, "DATA_EXPIRED", ":1 [100, 333)")?;

    let partly = JobSpec {
        allow_partial: true,
        ..spec(asked())
    };
    let (token, plan) = world.plan(partly.clone()).await?;
    let missing = |missing: &[JobMissing]| -> Vec<(u32, u64, u64)> {
        let bounds = |one: &JobMissing| one.offsets.map_or((0, 0), |offsets| (offsets.start, offsets.end));
        missing
            .iter()
            .map(|one| (one.partition, bounds(one).0, bounds(one).1))
            .collect()
    };
    ensure!(missing(&plan.missing) == [(1, 100, 333)], "{plan:?}");
    // More goes between plan and creation.
    let strict = spec(replay(&["fund_risk"], offsets(&[(1, 400, 600)])));
    let (strict, _) = world.plan(strict).await?;
    world.fleet.delete_records(1, 450).await?;
    let status = world.create(strict).await.expect_err("it is deleted");
    refused(&status, Code::FailedPrecondition, "DATA_EXPIRED", ":1 [400, 450)")?;
    let job = world.create(token).await?;
    let got = world
        .client
        .get_job(GetJobRequest { job_id: job.job_id })
        .await?
        .into_inner();
    let found = missing(&got.job.context("no job")?.missing);
    ensure!(found == [(1, 100, 450)], "{found:?}");

    // By record time: the ledger knows what was deleted, whatever the window.
    let times_of = |partition: u32, offset: u64| {
        let found = world
            .records
            .iter()
            .find(|record| (record.partition, record.offset) == (partition, offset));
        found.map_or(0, |record| record.time)
    };
    let (start, end) = (times_of(1, 0) - 60_000, times_of(1, 600));
    let window = spec(replay(&["fund_risk"], times(start, end, TimeBasis::Record)));
    let status = world.plan_refused(window).await?;
    refused(&status, Code::FailedPrecondition, "DATA_EXPIRED", ", 450)")?;
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_holds_only_for_the_whitelist_that_it_was_made_with() -> Result<()> {
    let mut world = world("plan-pins").await?;
    let asked = || spec(replay(&["fund_risk"], offsets(&[(0, 10, 200)])));
    let (token, first) = world.plan(asked()).await?;
    world.whitelist(&["0P-new".to_owned()], &[]).await?;
    let status = world.create(token.clone()).await.expect_err("the whitelist changed");
    refused(&status, Code::Aborted, "PLAN_OUTDATED", "plan again")?;
    let listed = world.client.list_jobs(ListJobsRequest::default()).await?.into_inner();
    ensure!(listed.jobs.is_empty(), "{listed:?}");
    let (token, second) = world.plan(asked()).await?;
    ensure!(
        second.whitelist_version == first.whitelist_version + 1 && second.overlaps.is_empty(),
        "{second:?}"
    );
    let job = world.create(token).await?;
    let (_, third) = world.plan(asked()).await?;
    ensure!(
        third.overlaps.len() == 1 && third.overlaps[0].job_id == job.job_id,
        "{third:?}"
    );
    let rated = JobSpec {
        max_records_per_second: 19,
        ..asked()
    };
    let (_, rated) = world.plan(rated).await?;
    ensure!(rated.duration_at_rate.map(|time| time.seconds) == Some(10), "{rated:?}");
    world.end().await
}

impl World {
    async fn plan_refused(&mut self, spec: JobSpec) -> Result<Status> {
        let planned = self.client.plan_job(PlanJobRequest { spec: Some(spec) }).await;
        planned.err().context("the plan was made")
    }
}

/// The fields that a request is refused for.
fn fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.clone());
    violations
        .unwrap_or_default()
        .into_iter()
        .map(|violation| violation.field)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_with_every_fault() -> Result<()> {
    let mut world = world("plan-bad").await?;
    let bad = [
        (
            spec(ReplaySpec {
                ids: vec![String::new(), "\u{7}".to_owned()],
                ..replay(&["fund_nav"], offsets(&[(0, 9, 3), (70_000, 0, 1)]))
            }),
            vec![
                "spec.replay.data_types[0]",
                "spec.replay.offsets.partitions[0].offsets",
                "spec.replay.offsets.partitions[1].partition",
                "spec.replay.ids[0]",
                "spec.replay.ids[1]",
            ],
        ),
        (
            spec(replay(&["fund_risk"], offsets(&[(3, 0, 5), (4, 0, 5), (9, 0, 5)]))),
            vec![
                "spec.replay.offsets.partitions[1].partition",
                "spec.replay.offsets.partitions[2].partition",
            ],
        ),
        (
            spec(ReplaySpec {
                ids: vec!["x".to_owned(); 1_000_000],
                ..replay(&["fund_risk"], offsets(&vec![(0, 1, 2); 10_000]))
            }),
            vec!["spec.replay.offsets.partitions", "spec.replay.ids"],
        ),
        (
            spec(replay(&["fund_risk"], times(5_000, 4_000, TimeBasis::Record))),
            vec!["spec.replay.times.window"],
        ),
        (JobSpec::default(), vec!["spec.work"]),
    ];
    for (spec, expected) in bad {
        let status = world.plan_refused(spec).await?;
        ensure!(status.code() == Code::InvalidArgument, "{status:?}");
        ensure!(fields(&status) == expected, "{:?}", fields(&status));
        eprintln!("{}", status.message());
    }
    world.end().await
}
