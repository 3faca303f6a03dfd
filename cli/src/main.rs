//! `reprisectl`: parses its arguments and runs.

use clap::Parser as _;
use reprise_cli::{Arguments, run};

fn main() {
    run(&Arguments::parse(), &mut std::io::stdout());
}
