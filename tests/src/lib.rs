//! The sandbox: real Kafka, MySQL and Redis, reprise's own binaries on top, and what tests need to use them.
//!
//! Reading order: [`wait`], then [`servers`] (real servers), [`cluster`] (reprise's own processes), [`control`] and
//! [`jobs`] (a control plane and its callers), [`stage`] (all of it), [`env`](mod@env) (what a test stands on), [`feed`]
//! (what upstream sends), [`oracle`] (what the tables must hold) and [`sandbox`] (the program behind `./dev`).

pub mod api_doc;
pub mod chart;
pub mod cluster;
pub mod control;
pub mod env;
pub mod feed;
pub mod fleet;
pub mod image;
pub mod jobs;
pub mod kernel;
pub mod oracle;
pub mod privileges;
pub mod sandbox;
pub mod servers;
pub mod sink;
pub mod stage;
pub mod tools;
pub mod wait;
pub mod whitelist;
