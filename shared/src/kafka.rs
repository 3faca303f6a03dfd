//! What the services need of Kafka beyond rdkafka's own surface.
