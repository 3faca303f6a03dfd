//! Topic ids, which rdkafka 0.39 does not expose: one call to librdkafka's `DescribeTopics`.
//!
//! A topic that was deleted and re-created is read on from the old offset without any error, and commits against it
//! succeed. Only its id tells.

#![expect(
    unsafe_code,
    reason = "the one place that calls librdkafka directly; each block says why it is sound"
)]

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;

use crate::position::{TopicId, TopicName};

/// What the broker says of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Described {
    /// It exists.
    Topic {
        /// Its id.
        id: TopicId,
        /// Its number of partitions.
        partitions: usize,
    },
    /// It does not exist (yet, or any more).
    Missing,
}

/// Why topics could not be described. All are transient but [`Error::Name`] and [`Error::Refused`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A topic name holds a NUL byte.
    #[error("topic name {0:?} holds a NUL byte")]
    Name(String),
    /// No answer in time.
    #[error("no answer to DescribeTopics within {0:?}")]
    TimedOut(Duration),
    /// The call as a whole failed.
    #[error("describe topics")]
    Call(#[source] RDKafkaErrorCode),
    /// One topic could not be described, for a reason other than that it does not exist.
    #[error("describe topic {topic}")]
    Refused {
        /// The topic.
        topic: TopicName,
        /// What the broker answered.
        #[source]
        source: RDKafkaErrorCode,
    },
}

/// Owns a native object and frees it with its own function.
struct Owned<T>(NonNull<T>, unsafe extern "C" fn(*mut T));

impl<T> Owned<T> {
    fn new(pointer: *mut T, free: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        NonNull::new(pointer).map(|pointer| Self(pointer, free))
    }

    fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from librdkafka, is not null, is owned by this value alone and is freed once, by
        // the function that librdkafka names for its type.
        unsafe { (self.1)(self.0.as_ptr()) }
    }
}

/// Asks the broker for the ids of `topics`. Blocks for at most `limit`; call it on a thread that may block.
pub fn describe_topics<C: ClientContext>(
    client: &Client<C>,
    topics: &[TopicName],
    limit: Duration,
) -> Result<HashMap<TopicName, Described>, Error> {
    let names = topics
        .iter()
        .map(|topic| CString::new(topic.as_str()).map_err(|_| Error::Name(topic.to_string())))
        .collect::<Result<Vec<_>, _>>()?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let failed = Error::Call(RDKafkaErrorCode::Fail);

    // SAFETY: the client outlives this call; `pointers` and the strings behind it outlive the collection's making,
    // which copies them; all objects are freed by `Owned`, the event before the queue (reverse order of making).
    let (queue, collection) = unsafe {
        (
            Owned::new(
                native::rd_kafka_queue_new(client.native_ptr()),
                native::rd_kafka_queue_destroy,
            ),
            Owned::new(
                native::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()),
                native::rd_kafka_TopicCollection_destroy,
            ),
        )
    };
    let (Some(queue), Some(collection)) = (queue, collection) else {
        return Err(failed);
    };
    let milliseconds = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: client, collection and queue are alive; null options mean librdkafka's defaults; the answer arrives on
    // the queue, which `rd_kafka_queue_poll` waits on for at most the limit.
    let event = unsafe {
        native::rd_kafka_DescribeTopics(
            client.native_ptr(),
            collection.as_ptr(),
            std::ptr::null(),
            queue.as_ptr(),
        );
        Owned::new(
            native::rd_kafka_queue_poll(queue.as_ptr(), milliseconds),
            native::rd_kafka_event_destroy,
        )
    };
    let Some(event) = event else {
        return Err(Error::TimedOut(limit));
    };
    // SAFETY: the event is alive.
    let code = RDKafkaErrorCode::from(unsafe { native::rd_kafka_event_error(event.as_ptr()) });
    if code != RDKafkaErrorCode::NoError {
        return Err(Error::Call(code));
    }
    // SAFETY: the event is alive and is the answer to DescribeTopics; a null result is handled.
    let result = unsafe { native::rd_kafka_event_DescribeTopics_result(event.as_ptr()) };
    if result.is_null() {
        return Err(failed);
    }
    let mut count = 0;
    // SAFETY: the result lives as long as the event; librdkafka returns an array of `count` valid pointers.
    let described = unsafe {
        let array = native::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if array.is_null() {
            &[]
        } else {
            std::slice::from_raw_parts(array, count)
        }
    };
    described.iter().map(|&topic| describe_one(topic)).collect()
}

fn describe_one(topic: *const native::rd_kafka_TopicDescription_t) -> Result<(TopicName, Described), Error> {
    // SAFETY: `topic` is an element of a live result; every string returned lives as long as the result and is
    // copied here; the error is never null and an unset one has code NO_ERROR.
    unsafe {
        let name = TopicName::new(CStr::from_ptr(native::rd_kafka_TopicDescription_name(topic)).to_string_lossy());
        let error = native::rd_kafka_TopicDescription_error(topic);
        let code = RDKafkaErrorCode::from(native::rd_kafka_error_code(error));
        match code {
            RDKafkaErrorCode::NoError => {}
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                return Ok((name, Described::Missing));
            }
            source => return Err(Error::Refused { topic: name, source }),
        }
        let id = native::rd_kafka_TopicDescription_topic_id(topic);
        let text = native::rd_kafka_Uuid_base64str(id);
        if text.is_null() {
            return Err(Error::Refused {
                topic: name,
                source: RDKafkaErrorCode::Fail,
            });
        }
        let id = TopicId::new(CStr::from_ptr(text).to_string_lossy());
        let mut partitions = 0;
        native::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
        Ok((name, Described::Topic { id, partitions }))
    }
}
