//! Plans of replays against the topic itself: what their tasks let through, what they say is missing, what is refused.

#[path = "job_plans/bad_requests.rs"]
mod bad_requests;
#[path = "job_plans/exact.rs"]
mod exact;
#[path = "job_plans/pins.rs"]
mod pins;
#[path = "support/listed.rs"]
mod listed;
#[path = "job_plans/world.rs"]
mod world;
