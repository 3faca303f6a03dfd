//! The program behind `./dev`: see [`reprise_tests::sandbox`].

use std::process::ExitCode;

use clap::Parser as _;
use reprise_tests::sandbox::{self, Arguments};

#[tokio::main]
async fn main() -> ExitCode {
    match sandbox::run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
