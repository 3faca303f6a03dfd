//! The flags that every service takes for its configuration.

use std::path::PathBuf;

use clap::Args;

/// Flags for a configuration; put into a service's own with `#[command(flatten)]`.
#[derive(Clone, Debug, Default, Args)]
pub struct Flags {
    /// The configuration file; without it, the one that REPRISE_CONFIG names, else defaults alone.
    #[arg(long, value_name = "PATH")]
    pub config: Option<PathBuf>,

    /// Sets one key over file and environment, for example --set mysql.connect_timeout=5s; may be repeated.
    ///
    /// Not for secrets: other users of the machine can read a process's flags.
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    pub set: Vec<(String, String)>,

    /// Checks the configuration, says what is wrong with it, and ends.
    #[arg(long)]
    pub check_config: bool,

    /// Prints the configuration with its defaults, without secrets, and ends.
    #[arg(long)]
    pub dump_config: bool,
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, for example mysql.connect_timeout=5s".to_owned()),
    }
}
