//! The rights that `docs/operating.md` lists for each role are enough for all that the role does, and no more.

use anyhow::{Context as _, Result, ensure};
use reprise_proto::v1::explain_record_request::Records;
use reprise_proto::v1::fleet_service_client::FleetServiceClient;
use reprise_proto::v1::offset_range_service_client::OffsetRangeServiceClient;
use reprise_proto::v1::resolve_offsets_request::Known;
use reprise_proto::v1::resume_ingest_request::Target;
use reprise_proto::v1::whitelist_service_client::WhitelistServiceClient;
use reprise_proto::v1::*;
use reprise_shared::clock::Clock;
use reprise_shared::mysql::{self, Database};
use reprise_shared::{catalog, isolated};
use reprise_tests::control::{plain, process};
use reprise_tests::env::Isolation;
use reprise_tests::feed::FeedConfig;
use reprise_tests::fleet::{Fleet, Options, PATIENCE, feed_of_all_kinds, sum};
use reprise_tests::privileges::{Role, Users, tells_of_a_lack};
use reprise_tests::wait::wait_for;
use tonic::transport::Channel;

const TYPE: &str = "fund_risk";

/// Puts a range on record that is old enough to be purged.
async fn plant_old_range(fleet: &Fleet) -> Result<()> {
    let key = format!("{}:offsets:{TYPE}:{{{}:0}}", fleet.isolation.key_prefix(), fleet.topic);
    let member = r#"{"run":"old","segment":0,"start":0,"end":1,"records":{},"rows":{},"first_processed":1,"last_processed":1,"topic_id":"AAAAAAAAAAAAAAAAAAAAAQ","source":"live"}"#;
    let mut connection = redis::Client::open(fleet.isolation.redis_url())?
        .get_multiplexed_async_connection()
        .await?;
    let mut add = redis::cmd("ZADD");
    add.arg(key).arg(0).arg(member).exec_async(&mut connection).await?;
    Ok(())
}

/// All kinds of calls about offsets.
async fn ask_about_offsets(channel: &Channel, fleet: &Fleet) -> Result<()> {
    let mut offsets = OffsetRangeServiceClient::new(channel.clone());
    let request = ListOffsetRangesRequest {
        data_type: TYPE.to_owned(),
        ..ListOffsetRangesRequest::default()
    };
    let listed = offsets.list_offset_ranges(request).await?.into_inner();
    ensure!(!listed.ranges.is_empty(), "no ranges");
    let request = ResolveOffsetsRequest {
        data_type: TYPE.to_owned(),
        partitions: vec![0],
        known: Some(Known::Offsets(OffsetInterval { start: 0, end: 100 })),
        ..ResolveOffsetsRequest::default()
    };
    offsets.resolve_offsets(request).await?;
    let request = AuditCoverageRequest {
        topic: fleet.topic.clone(),
        ..AuditCoverageRequest::default()
    };
    offsets.audit_coverage(request).await?;
    for offset in 0..40 {
        let position = RecordPosition {
            topic: fleet.topic.clone(),
            partition: 0,
            offset,
        };
        let request = ExplainRecordRequest {
            records: Some(Records::Position(position)),
        };
        let explained = offsets.explain_record(request).await?.into_inner();
        ensure!(!explained.records.is_empty(), "offset {offset} is not explained");
    }
    plant_old_range(fleet).await?;
    let request = PurgeOffsetRangesRequest {
        request_id: "a-purge".to_owned(),
        ..PurgeOffsetRangesRequest::default()
    };
    let purged = offsets.purge_offset_ranges(request).await?.into_inner();
    ensure!(purged.removed == 1, "{purged:?}");
    Ok(())
}

/// A change of the whitelist that reaches the worker.
async fn change_whitelist(channel: &Channel) -> Result<()> {
    let mut whitelist = WhitelistServiceClient::new(channel.clone());
    let ids = || ["F1", "F2"].map(str::to_owned).into();
    let add = AddWhitelistEntriesRequest {
        ids: ids(),
        request_id: "an-addition".to_owned(),
        ..AddWhitelistEntriesRequest::default()
    };
    whitelist.add_whitelist_entries(add).await?;
    let replace = ReplaceWhitelistRequest {
        ids: ids(),
        data_type: TYPE.to_owned(),
        ..ReplaceWhitelistRequest::default()
    };
    whitelist.replace_whitelist(replace).await?;
    for data_type in ["", TYPE] {
        let remove = RemoveWhitelistEntriesRequest {
            ids: ids(),
            data_type: data_type.to_owned(),
            allow_unrestricted: true,
            ..RemoveWhitelistEntriesRequest::default()
        };
        whitelist.remove_whitelist_entries(remove).await?;
    }
    whitelist
        .list_whitelist_versions(ListWhitelistVersionsRequest::default())
        .await?;
    let wait = GetWhitelistStatusRequest {
        wait: Some(prost_types::Duration { seconds: 20, nanos: 0 }),
        ..GetWhitelistStatusRequest::default()
    };
    let status = whitelist.get_whitelist_status(wait).await?.into_inner();
    ensure!(status.applied_everywhere && status.workers.len() == 1, "{status:?}");
    Ok(())
}

/// Stops a type, so that its records are deferred, and lets it go on.
async fn pause_and_resume(channel: &Channel, fleet: &Fleet) -> Result<()> {
    let mut client = FleetServiceClient::new(channel.clone());
    let request = RefreshLookupRequest {
        lookup: "fund_code".to_owned(),
        ..RefreshLookupRequest::default()
    };
    client.refresh_lookup(request).await?;
    client.list_workers(ListWorkersRequest::default()).await?;
    client.list_data_types(ListDataTypesRequest::default()).await?;
    client.get_lag(GetLagRequest::default()).await?;
    let request = PauseIngestRequest {
        data_type: TYPE.to_owned(),
        reason: "a test".to_owned(),
        request_id: "a-pause".to_owned(),
        ..PauseIngestRequest::default()
    };
    client.pause_ingest(request).await?;
    let shown = async |stopped: bool| {
        wait_for("the worker to follow", PATIENCE, async || {
            let metrics = fleet.metrics(0).await?;
            let shown = sum(&metrics, "reprise_type_stopped", &[("data_type", TYPE)]) > 0.0;
            ensure!(shown == stopped, "stopped: {shown}");
            Ok(())
        })
        .await
    };
    shown(true).await?;
    let more = FeedConfig {
        records: Some(500),
        seed: 2,
        funds: 100,
        ..FeedConfig::default()
    };
    fleet.publish(more).await?;
    fleet.catches_up_to_now().await?;
    ensure!(fleet.count("deferred").await? > 0, "nothing was deferred");
    let request = ResumeIngestRequest {
        target: Some(Target::DataType(TYPE.to_owned())),
        reason: "mended".to_owned(),
        ..ResumeIngestRequest::default()
    };
    client.resume_ingest(request).await?;
    shown(false).await
}

/// One example of what no user may, for each role and store.
async fn check_refusals(control: &Users, ingest: &Users, prefix: &str) -> Result<()> {
    control.refused_by_mysql("DELETE FROM audit_events").await?;
    control.refused_by_mysql("UPDATE t_ai_risk SET fund_code = ''").await?;
    control.refused_by_mysql("DROP TABLE leases").await?;
    ingest.refused_by_mysql("DELETE FROM whitelist_entries").await?;
    ingest.refused_by_mysql("DELETE FROM t_ai_risk").await?;
    ingest
        .refused_by_mysql("CREATE TABLE more (id INT PRIMARY KEY)")
        .await?;
    for users in [control, ingest] {
        users.refused_by_redis("KEYS *").await?;
        users.refused_by_redis("FLUSHALL").await?;
        users.refused_by_redis("GET other:key").await?;
    }
    ingest
        .refused_by_redis(&format!("SADD {prefix}:{{whitelist}}:global F1"))
        .await?;
    ingest
        .refused_by_redis(&format!("DEL {prefix}:{{whitelist}}:head"))
        .await?;
    control
        .refused_by_redis(&format!("ZADD {prefix}:coverage:{{t:0}} 1 x"))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_works_with_the_documented_rights_and_no_more() -> Result<()> {
    let mut options = Options::quick();
    for (key, value) in [
        ("ingest.type_states_poll", "500ms"),
        ("ingest.resolve_misses", "500ms"),
        ("ingest.whitelist_poll", "500ms"),
    ] {
        options.settings.push((key.to_owned(), value.to_owned()));
    }
    let mut fleet = Fleet::new("least-rights", options).await?;
    isolated::make_tables(&fleet.pool, &catalog::load(&fleet.catalog_path())?).await?;
    let control = Users::make(Role::Control, &fleet.isolation).await?;
    let ingest = Users::make(Role::Ingest, &fleet.isolation).await?;
    fleet.set("mysql.url", &ingest.mysql_url);
    fleet.set("redis.url", &ingest.redis_url);
    let feed = feed_of_all_kinds(Some(3_000), 1);
    fleet.seed(&feed).await?;
    fleet.publish(feed.clone()).await?;
    fleet.start_workers(1).await?;
    fleet.check_all(&feed, Vec::new()).await?;

    let logs = tempfile::tempdir()?;
    let settings = vec![
        ("catalog", fleet.catalog_path().display().to_string()),
        ("mysql.url", control.mysql_url.clone()),
        ("redis.url", control.redis_url.clone()),
    ];
    let (mut server, grpc) = process(&fleet.isolation, logs.path(), settings)?;
    server.start()?;
    server.ready(PATIENCE).await?;
    let channel = plain(grpc);
    let worked = async {
        change_whitelist(&channel).await.context("the whitelist")?;
        ask_about_offsets(&channel, &fleet).await.context("offsets")?;
        pause_and_resume(&channel, &fleet).await.context("a pause")
    };
    let worked = worked.await;
    let log = std::fs::read_to_string(logs.path().join("control-plane.log"))?;
    worked.with_context(|| log.clone())?;
    check_refusals(&control, &ingest, &fleet.isolation.key_prefix()).await?;
    server.stop().await?;
    fleet.stop().await?;

    for (whose, log) in [("control plane", log), ("worker", fleet.whole_log(0))] {
        ensure!(!tells_of_a_lack(&log), "the {whose} lacked a right:\n{log}");
    }
    control.drop().await?;
    ingest.drop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_is_made_with_the_rights_of_the_migration() -> Result<()> {
    let isolation = Isolation::new("least-migration").await?;
    let users = Users::make(Role::Migration, &isolation).await?;
    let config = mysql::Config {
        url: users.mysql_url.clone().into(),
        ..mysql::Config::default()
    };
    let database = Database::new(&config, Clock::system())?;
    mysql::migrate(database.pool()).await?;
    mysql::check_schema(database.pool()).await?;
    users.refused_by_mysql("DROP TABLE leases").await?;
    users.refused_by_mysql("CREATE USER 'another'@'%'").await?;
    users.drop().await
}
