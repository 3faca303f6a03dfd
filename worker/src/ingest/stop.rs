//! The orderly stop: one function, one deadline.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer;

use super::parts::Parts;
use crate::run::Error;
use crate::source::reader::Command;
use crate::source::rebalance::LiveConsumer;
use crate::thread;

/// Leaving the group may hang with the broker; the process ends all the same.
const LEAVE: Duration = Duration::from_secs(5);

/// Stops from the source to the database end, all under one limit: not ready → stop polling → drain, ledger and commit
/// (the reader waits for them) → leave the group → decode → lanes.
pub(super) async fn in_order(mut parts: Parts, limit: Duration) -> Result<(), Error> {
    parts.readiness.latch("shutdown").unready("shutting down");
    // A reader that has ended already needs no command.
    let _ = parts.commands.send(Command::ShutDown);
    let mut failed = None;
    let stopped = tokio::time::timeout(limit, async {
        failed = parts.reader.ended().await.err().map(Error::Reader);
        let leaving = leave(parts.consumer);
        let finishing = async {
            for decoder in &mut parts.decoders {
                if decoder.ended().await.is_err() {
                    failed.get_or_insert(Error::Decode);
                }
            }
            parts.lanes.close();
            for drained in &mut parts.lanes_drained {
                // A lane that is gone has nothing to finish.
                let _ = drained.await;
            }
        };
        tokio::join!(leaving, finishing, parts.beat.leave());
    })
    .await;
    if stopped.is_err() {
        tracing::warn!(
            ?limit,
            "not everything in flight was finished; the next owner does it again"
        );
    }
    parts.abandon.cancel();
    parts.lanes.close();
    failed.map_or(Ok(()), Err)
}

/// Drops the consumer, which leaves the group, on a thread of its own.
async fn leave(consumer: Arc<LiveConsumer>) {
    consumer.context().close();
    let dropping = thread::spawn("leave-group", move || {
        // The threads of admission, commit and check let go of it in a moment; whoever is last leaves the group.
        while Arc::strong_count(&consumer) > 1 {
            std::thread::sleep(Duration::from_millis(2));
        }
        drop(consumer);
        Ok::<(), std::convert::Infallible>(())
    });
    match dropping {
        Ok(mut dropping) => {
            if tokio::time::timeout(LEAVE, dropping.ended()).await.is_err() {
                tracing::warn!(limit = ?LEAVE, "leaving the group did not end; the broker notices by itself");
            }
        }
        Err(error) => tracing::warn!(%error, "no thread to leave the group on"),
    }
}
