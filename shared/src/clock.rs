//! The clock that everything takes its time from, so that tests can move it.
