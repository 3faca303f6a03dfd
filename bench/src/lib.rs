//! Measures reprise on this machine. Every figure that has a bar is a ratio of two passes of one run, taken in turns
//! (A B A B), because absolute numbers move by a third between runs.
//!
//! Reading order: [`ingest`], [`control`] and [`replay`] say what is measured, one file a figure ([`b1`], [`b2`], …); [`ground`] is what they
//! stand on; [`drain`], [`ceiling`] and [`bare`] are the passes; [`steps`] is what `callgrind` counts.

pub mod ingest;
pub mod replay;
pub mod results;

pub mod b1;
pub mod b10;
pub mod b11;
pub mod b12;
pub mod b2;
pub mod b4;
pub mod b5;
pub mod b6;
pub mod b7;
pub mod b9;

pub mod bare;
pub mod ceiling;
pub mod control;
pub mod drain;
pub mod ground;
pub mod jobs;
pub mod only;
pub mod process;
pub mod steps;
