//! Replays run for exactly the records that were asked for: every record of the topic becomes a row of its own, so the
//! rows that a job leaves name the records that it took.

#[path = "replay_selected/selections.rs"]
mod selections;
#[path = "support/listed.rs"]
mod listed;
#[path = "replay_selected/world.rs"]
mod world;
