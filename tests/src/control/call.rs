//! Calls any method by its path, with any message.

use anyhow::{Context as _, Result};
use http::uri::PathAndQuery;
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

/// Calls a method with an empty message, and looks at nothing of its answer but whether it is one.
pub async fn call(channel: &Channel, path: &str, token: Option<&str>) -> Result<(), Status> {
    send(channel, path, token, ()).await
}

/// Calls a method with a message, and looks at nothing of its answer but whether it is one.
pub async fn send<M>(channel: &Channel, path: &str, token: Option<&str>, message: M) -> Result<(), Status>
where
    M: Message + Send + Sync + 'static,
{
    let mut request = Request::new(message);
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse();
        let value = value.map_err(|_| Status::internal("the test's token is no header"))?;
        request.metadata_mut().insert("authorization", value);
    }
    let path = PathAndQuery::try_from(path).map_err(|_| Status::internal("the test's path is none"))?;
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready()
        .await
        .map_err(|error| Status::unavailable(format!("{error:?}")))?;
    // An answer of any other kind is read as one whose fields are all unknown, and a stream up to its first message.
    let codec = ProstCodec::<M, ()>::default();
    let mut answer = grpc.server_streaming(request, path, codec).await?.into_inner();
    answer.message().await.map(drop)
}

/// Returns the reason that a failure carries for programs.
///
/// # Errors
/// It carries none, or not of our domain.
pub fn reason(status: &Status) -> Result<String> {
    let details = status.get_error_details();
    let info = details
        .error_info()
        .with_context(|| format!("no error info in {status:?}"))?;
    anyhow::ensure!(info.domain == "reprise", "the domain is {}", info.domain);
    Ok(info.reason.clone())
}

/// Checks a refusal's code and reason, and that its message holds a text.
///
/// # Errors
/// It is another one.
pub fn refused(status: &Status, code: Code, why: &str, message: &str) -> Result<()> {
    anyhow::ensure!(
        status.code() == code && reason(status)? == why && status.message().contains(message),
        "{status:?}"
    );
    eprintln!("{code:?} {why}: {}", status.message());
    Ok(())
}

/// Begins a call and never sends its message, so that it stays in work until somebody ends it. Returns how it ended.
pub async fn hang(channel: Channel, path: &'static str) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready()
        .await
        .map_err(|error| Status::unavailable(format!("{error:?}")))?;
    let messages = Request::new(futures::stream::pending::<()>());
    let codec = ProstCodec::<(), ()>::default();
    grpc.client_streaming(messages, PathAndQuery::from_static(path), codec)
        .await
        .map(drop)
}
