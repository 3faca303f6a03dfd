//! The sandbox: real Kafka, MySQL and Redis, reprise's own binaries on top, and what tests need to use them.
//!
//! Reading order: [`wait`], then [`servers`] (real servers), [`cluster`] (reprise's own processes), [`env`](mod@env)
//! (what a test stands on) and [`sandbox`] (the program behind `./dev`).

pub mod cluster;
pub mod env;
pub mod sandbox;
pub mod servers;
pub mod wait;
