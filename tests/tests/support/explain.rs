//! Asking ExplainRecord about records that a real worker processed.

use anyhow::{Context as _, Result, ensure};
use reprise_control_plane::whitelist::{self, Action, Caller, Request, Scope, Store, Version};
use reprise_proto::v1::explain_record_request::Records;
use reprise_proto::v1::offset_range_service_client::OffsetRangeServiceClient;
use reprise_proto::v1::*;
use reprise_shared::clock::Clock;
use reprise_shared::heartbeat;
use reprise_shared::mysql::{self, Database};
use reprise_tests::control::ControlPlane;
use reprise_tests::feed::{DataType, Fund, Made, moment};
use reprise_tests::fleet::Fleet;
use tonic::Status;
use tonic::transport::Channel;

pub(crate) type Client = OffsetRangeServiceClient<Channel>;

pub(crate) fn position(topic: &str, partition: u32, offset: u64) -> ExplainRecordRequest {
    ExplainRecordRequest {
        records: Some(Records::Position(RecordPosition {
            topic: topic.to_owned(),
            partition,
            offset,
        })),
    }
}

/// Asks for the records of an id from one second after the feeds' start to another.
pub(crate) fn of_id(data_type: DataType, fund: Fund, seconds: (i64, i64)) -> ExplainRecordRequest {
    let time = |seconds| {
        Some(prost_types::Timestamp {
            seconds: moment(seconds).as_second(),
            nanos: 0,
        })
    };
    ExplainRecordRequest {
        records: Some(Records::Id(RecordsOfId {
            data_type: data_type.name().to_owned(),
            id: fund.performance_id(),
            times: Some(TimeWindow {
                start_time: time(seconds.0),
                end_time: time(seconds.1),
            }),
        })),
    }
}

pub(crate) async fn ask(client: &Client, request: ExplainRecordRequest) -> Result<ExplainRecordResponse, Status> {
    Ok(client.clone().explain_record(request).await?.into_inner())
}

pub(crate) async fn ask_one(client: &Client, topic: &str, partition: u32, offset: u64) -> Result<RecordExplanation> {
    let answer = ask(client, position(topic, partition, offset)).await;
    let mut answer = answer.with_context(|| format!("explain {partition}/{offset}"))?;
    ensure!(answer.records.len() == 1 && !answer.truncated, "{answer:?}");
    answer.records.pop().context("one record")
}

/// Starts a control plane over a fleet's servers and catalog.
pub(crate) async fn control(fleet: &Fleet, settings: &[(&'static str, &str)]) -> Result<(ControlPlane, Client)> {
    let mut all = vec![("catalog", fleet.catalog_path().display().to_string())];
    all.extend(settings.iter().map(|(key, value)| (*key, (*value).to_owned())));
    let control = ControlPlane::start_on(&fleet.isolation, all).await?;
    control.ready().await?;
    let client = Client::new(control.channel());
    Ok((control, client))
}

pub(crate) fn whitelist(fleet: &Fleet) -> Result<Store> {
    let config = mysql::Config {
        url: fleet.isolation.mysql_url().into(),
        ..mysql::Config::default()
    };
    Ok(Store::new(whitelist::Parts {
        database: Database::new(&config, Clock::system())?,
        redis: fleet.redis.clone(),
        type_names: DataType::ALL.map(|data_type| data_type.name().to_owned()).to_vec(),
        config: whitelist::Config::default(),
        heartbeat_interval: heartbeat::Store::DEFAULT_INTERVAL,
        clock: Clock::system(),
    }))
}

pub(crate) async fn allow(store: &Store, funds: impl IntoIterator<Item = Fund>) -> Result<Version> {
    let caller = Caller {
        principal: "test".to_owned(),
        method: "WhitelistService/Test".to_owned(),
    };
    let ids = funds.into_iter().map(Fund::performance_id);
    let request = Request::new(Action::Add, Scope::Global, ids);
    Ok(store.change(&caller, request).await?.version)
}

pub(crate) async fn send(fleet: &Fleet, records: Vec<Made>) -> Result<()> {
    let wanted = records.len() as u64;
    let report = fleet
        .publish_records(records.into_iter().map(|made| made.record).collect())
        .await?;
    ensure!(report.counts.delivered == wanted, "{report:?}");
    Ok(())
}
