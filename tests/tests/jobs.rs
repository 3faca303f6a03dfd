//! The store of jobs on a real server: what is kept, who may run what, who may write, and what a job comes to.

#[path = "jobs/asking.rs"]
mod asking;
#[path = "jobs/crowds.rs"]
mod crowds;
#[path = "jobs/keeping.rs"]
mod keeping;
#[path = "jobs/leases.rs"]
mod leases;
#[path = "jobs/ownership.rs"]
mod ownership;
#[path = "jobs/reading.rs"]
mod reading;
#[path = "jobs/settling.rs"]
mod settling;
#[path = "jobs/world.rs"]
mod world;
