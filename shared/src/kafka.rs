//! What the services need of Kafka beyond rdkafka's own surface.

pub mod calls;
pub mod client;
pub mod describe;
pub mod headers;
