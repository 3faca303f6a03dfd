//! `health`: asks a control plane by gRPC whether it serves, for tests of a deployment.

use std::time::Duration;

use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// One try may take this long.
const ONE_TRY: Duration = Duration::from_secs(5);
/// The time between two tries.
const BETWEEN_TRIES: Duration = Duration::from_millis(500);

/// Why a control plane does not count as healthy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not a URL.
    #[error("the address is not a URL such as http://127.0.0.1:8090")]
    Address(#[source] tonic::transport::Error),
    /// Nothing was heard in all the time.
    #[error("there was no answer")]
    NoAnswer,
    /// Nobody answers there.
    #[error("connect")]
    Connect(#[source] tonic::transport::Error),
    /// The call failed.
    #[error("the call failed: {0}")]
    Call(tonic::Status),
    /// It answers, and does not serve.
    #[error("it does not serve: {0}")]
    NotServing(&'static str),
}

/// Asks until the answer is SERVING. After `patience` the last try tells why it is not. Cancel-safe.
///
/// # Errors
/// What the last try met; an address that cannot be used is an error at once.
pub async fn wait_until_serving(address: &str, patience: Duration) -> Result<(), Error> {
    let endpoint = Endpoint::from_shared(address.to_owned())
        .map_err(Error::Address)?
        .connect_timeout(ONE_TRY)
        .timeout(ONE_TRY);
    let mut last = Error::NoAnswer;
    let asking = async {
        while let Err(error) = ask(&endpoint).await {
            last = error;
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
    };
    if tokio::time::timeout(patience, asking).await.is_ok() {
        return Ok(());
    }
    Err(last)
}

async fn ask(endpoint: &Endpoint) -> Result<(), Error> {
    let channel = endpoint.connect().await.map_err(Error::Connect)?;
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
    match answer.map_err(Error::Call)?.into_inner().status() {
        ServingStatus::Serving => Ok(()),
        other => Err(Error::NotServing(other.as_str_name())),
    }
}
