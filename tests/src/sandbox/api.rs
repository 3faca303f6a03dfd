//! The stack's control plane, as an operator calls it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use reprise_proto::v1::job_service_client::JobServiceClient;
use reprise_proto::v1::whitelist_service_client::WhitelistServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::state::EndpointsFile;

/// How long a call may take; waiting for all workers is the longest.
const LIMIT: Duration = Duration::from_secs(60);

/// The whitelist's service.
pub(super) type Whitelist = WhitelistServiceClient<InterceptedService<Channel, Token>>;
/// The jobs' service.
pub(super) type Jobs = JobServiceClient<InterceptedService<Channel, Token>>;

/// Sends a token with each call.
#[derive(Clone, Debug)]
pub(super) struct Token(MetadataValue<Ascii>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// Makes a client of a stack's control plane, which connects with its first call.
pub(super) fn whitelist(endpoints: &EndpointsFile) -> Result<Whitelist> {
    let (channel, token) = operator(endpoints)?;
    Ok(WhitelistServiceClient::with_interceptor(channel, token))
}

/// Makes a client of a stack's control plane, which connects with its first call.
pub(super) fn jobs(endpoints: &EndpointsFile) -> Result<Jobs> {
    let (channel, token) = operator(endpoints)?;
    Ok(JobServiceClient::with_interceptor(channel, token))
}

fn operator(endpoints: &EndpointsFile) -> Result<(Channel, Token)> {
    let address = endpoints
        .control_plane
        .as_ref()
        .context("the stack has no control plane: start it anew with ./dev up")?;
    let token = endpoints.tokens.get("operator").context("the stack has no token")?;
    let channel = Endpoint::from_shared(format!("http://{address}"))?
        .timeout(LIMIT)
        .connect_lazy();
    let token = Token(format!("Bearer {token}").parse().context("the stack's token")?);
    Ok((channel, token))
}
