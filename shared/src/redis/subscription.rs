//! One subscribed channel on a connection of its own, with a bounded queue.
//!
//! The client library's pub/sub connection keeps what was not yet read in an unbounded queue. This one takes pushed
//! messages (RESP3) into a bounded queue and drops those that do not fit, which the reader is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, PushInfo, PushKind, Value};
use tokio::sync::mpsc;

use super::Error;

const CALL: &str = "subscribe";

/// What a subscription reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message, as it was published.
    Message(Vec<u8>),
    /// Messages were dropped because too many were waiting.
    Overflow,
    /// The connection is gone. It does not come back: open another subscription.
    Closed,
}

/// A subscription to one channel. Dropping it closes the connection.
pub struct Subscription {
    connection: MultiplexedConnection,
    messages: mpsc::Receiver<Vec<u8>>,
    overflowed: Arc<AtomicBool>,
    limit: Duration,
}

impl Subscription {
    /// Connects and subscribes; on return, every message published from now on reaches this subscription.
    pub(super) async fn open(
        client: &Client,
        channel: &str,
        capacity: usize,
        connect_limit: Duration,
        limit: Duration,
    ) -> Result<Self, Error> {
        let (sender, messages) = mpsc::channel(capacity.max(1));
        let overflowed = Arc::new(AtomicBool::new(false));
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(connect_limit))
            .set_response_timeout(Some(limit))
            .set_push_sender(receive_into(sender, Arc::clone(&overflowed)));
        let work = async {
            let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
            connection.subscribe(channel).await?;
            Ok(connection)
        };
        let whole = connect_limit + limit;
        let connection = tokio::time::timeout(whole, work)
            .await
            .map_err(|_| Error::TimedOut {
                call: CALL,
                limit: whole,
            })?
            .map_err(|source| Error::Call { call: CALL, source })?;
        // The connection holds the only other reference to the sender, so the queue closes with it.
        drop(config);
        Ok(Self {
            connection,
            messages,
            overflowed,
            limit,
        })
    }

    /// Waits for the next event. Cancel-safe: a dropped wait loses nothing.
    pub async fn next(&mut self) -> Event {
        if self.overflowed.swap(false, Ordering::AcqRel) {
            return Event::Overflow;
        }
        match self.messages.recv().await {
            Some(message) => Event::Message(message),
            None => Event::Closed,
        }
    }

    /// Returns a message that is already waiting.
    pub fn next_waiting(&mut self) -> Option<Vec<u8>> {
        self.messages.try_recv().ok()
    }

    /// Asks the server for a sign of life: a black-holed connection never reports that it is closed.
    pub async fn ping(&mut self) -> Result<(), Error> {
        let command = redis::cmd("PING");
        match tokio::time::timeout(self.limit, command.query_async::<Value>(&mut self.connection)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(source)) => Err(Error::Call { call: "ping", source }),
            Err(_) => Err(Error::TimedOut {
                call: "ping",
                limit: self.limit,
            }),
        }
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Subscription")
            .field("waiting", &self.messages.len())
            .finish_non_exhaustive()
    }
}

/// Makes the callback that the connection's own task calls for each push; it must not block.
fn receive_into(
    sender: mpsc::Sender<Vec<u8>>,
    overflowed: Arc<AtomicBool>,
) -> impl Fn(PushInfo) -> Result<(), redis::aio::SendError> + Send + Sync + 'static {
    // Taken out at the disconnection, which closes the queue: the reader then learns of it after the last message.
    let sender = parking_lot::Mutex::new(Some(sender));
    move |push| {
        let mut sender = sender.lock();
        match push.kind {
            PushKind::Disconnection => *sender = None,
            PushKind::Message => {
                // A push is [channel, payload].
                if let (Some(queue), Some(Value::BulkString(payload))) = (&*sender, push.data.into_iter().nth(1))
                    && let Err(mpsc::error::TrySendError::Full(_)) = queue.try_send(payload)
                {
                    overflowed.store(true, Ordering::Release);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: &str) -> PushInfo {
        let data = vec![
            Value::BulkString(b"channel".to_vec()),
            Value::BulkString(payload.as_bytes().to_vec()),
        ];
        PushInfo {
            kind: PushKind::Message,
            data,
        }
    }

    #[tokio::test]
    async fn a_full_queue_drops_messages_and_says_so_and_a_disconnection_comes_after_the_last_message() {
        let (sender, mut messages) = mpsc::channel(2);
        let overflowed = Arc::new(AtomicBool::new(false));
        let receive = receive_into(sender, Arc::clone(&overflowed));
        for payload in ["a", "b"] {
            receive(message(payload)).expect("always taken");
        }
        assert!(!overflowed.load(Ordering::Acquire));
        receive(message("c")).expect("always taken");
        assert!(overflowed.load(Ordering::Acquire));
        receive(PushInfo {
            kind: PushKind::Disconnection,
            data: vec![],
        })
        .expect("always taken");
        let mut read = Vec::new();
        while let Some(payload) = messages.recv().await {
            read.push(payload);
        }
        assert_eq!(read, [b"a", b"b"]);
    }
}
