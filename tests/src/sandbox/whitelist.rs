//! `whitelist`: shows and changes the whitelist, through the control plane.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use reprise_proto::v1::{
    AddWhitelistEntriesRequest, GetWhitelistRequest, GetWhitelistStatusRequest, ListWhitelistEntriesRequest,
    RemoveWhitelistEntriesRequest, ReplaceWhitelistRequest,
};
use tonic::{Response, Status};

use super::api::{self, Whitelist};
use super::screen::{number, say, table};
use super::stack::Stack;
use super::state::EndpointsFile;

/// How many ids `show` lists of each list.
const SHOWN: i32 = 20;

/// What to do with the whitelist.
#[derive(Debug, Subcommand)]
pub(super) enum Arguments {
    /// Make these ids the whole list.
    Set(Ids),
    /// Add ids to the list.
    Add(Ids),
    /// Remove ids from the list.
    Remove(Ids),
    /// Show version and lists.
    Show,
}

/// Ids and the list that they are for.
#[derive(Debug, clap::Args)]
pub(super) struct Ids {
    /// Performance ids, for example 0P00000001.
    ids: Vec<String>,
    /// A file with more ids, one a line.
    #[arg(long)]
    file: Option<PathBuf>,
    /// The list of this data type, which replaces the global list for it; the global list when left out.
    #[arg(long = "type")]
    data_type: Option<String>,
    /// Let the list become empty. An empty list lets everything through.
    #[arg(long)]
    allow_unrestricted: bool,
}

pub(super) async fn run(folder: &Path, arguments: Arguments) -> Result<ExitCode> {
    let stack = Stack::open(folder)?;
    let mut client = stack.whitelist()?;
    match arguments {
        Arguments::Set(ids) => {
            let request = ReplaceWhitelistRequest {
                ids: ids.read()?,
                data_type: ids.data_type(),
                allow_unrestricted: ids.allow_unrestricted,
                ..ReplaceWhitelistRequest::default()
            };
            let answer = told(client.replace_whitelist(request).await)?;
            changed(answer.whitelist, answer.added, answer.removed)?;
        }
        Arguments::Add(ids) => {
            let request = AddWhitelistEntriesRequest {
                ids: ids.read()?,
                data_type: ids.data_type(),
                ..AddWhitelistEntriesRequest::default()
            };
            let answer = told(client.add_whitelist_entries(request).await)?;
            changed(answer.whitelist, answer.added, 0)?;
        }
        Arguments::Remove(ids) => {
            let request = RemoveWhitelistEntriesRequest {
                ids: ids.read()?,
                data_type: ids.data_type(),
                allow_unrestricted: ids.allow_unrestricted,
                ..RemoveWhitelistEntriesRequest::default()
            };
            let answer = told(client.remove_whitelist_entries(request).await)?;
            changed(answer.whitelist, 0, answer.removed)?;
        }
        Arguments::Show => show(&stack, &mut client).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the first version, empty, where there is none: then everything goes through.
pub(super) async fn initialise(endpoints: &EndpointsFile) -> Result<()> {
    let mut client = api::whitelist(endpoints)?;
    if get(&mut client, "").await?.version == 0 {
        replace(&mut client, Vec::new()).await?;
    }
    Ok(())
}

/// Makes the global list hold exactly these ids, or let everything through, and returns the version that this made.
pub(super) async fn replace(client: &mut Whitelist, ids: Vec<String>) -> Result<u64> {
    let request = ReplaceWhitelistRequest {
        allow_unrestricted: ids.is_empty(),
        ids,
        ..ReplaceWhitelistRequest::default()
    };
    let answer = told(client.replace_whitelist(request).await)?;
    Ok(answer.whitelist.context("the answer has no whitelist")?.version)
}

/// Looks whether every worker has applied a version, for at most `wait`.
pub(super) async fn is_applied(client: &mut Whitelist, version: u64, wait: Duration) -> Result<bool> {
    let request = GetWhitelistStatusRequest {
        version,
        wait: Some(prost_types::Duration::try_from(wait)?),
    };
    let status = told(client.get_whitelist_status(request).await)?;
    Ok(status.applied_everywhere && !status.workers.is_empty())
}

/// Returns one list without its entries.
pub(super) async fn get(client: &mut Whitelist, data_type: &str) -> Result<reprise_proto::v1::Whitelist> {
    let request = GetWhitelistRequest {
        data_type: data_type.to_owned(),
    };
    let answer = told(client.get_whitelist(request).await)?;
    answer.whitelist.context("the answer has no whitelist")
}

/// Returns the answer; what a refused call says is made for people.
fn told<T>(answer: Result<Response<T>, Status>) -> Result<T> {
    match answer {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) => bail!("{}: {}", status.code(), status.message()),
    }
}

fn changed(list: Option<reprise_proto::v1::Whitelist>, added: u64, removed: u64) -> Result<()> {
    let list = list.context("the answer has no whitelist")?;
    say(format_args!(
        "version {}: {} ids, {} added, {} removed",
        list.version,
        number(list.entry_count),
        number(added),
        number(removed)
    ));
    Ok(())
}

async fn show(stack: &Stack, client: &mut Whitelist) -> Result<()> {
    let types = stack.catalog.data_types.iter().map(|data_type| data_type.name.as_str());
    let mut rows = Vec::new();
    for name in std::iter::once("").chain(types) {
        let list = get(client, name).await?;
        if name.is_empty() {
            say(format_args!("version {}", list.version));
        } else if list.entry_count == 0 {
            continue;
        }
        let request = ListWhitelistEntriesRequest {
            data_type: name.to_owned(),
            page_size: SHOWN,
            ..ListWhitelistEntriesRequest::default()
        };
        let page = told(client.list_whitelist_entries(request).await)?;
        let mut ids: Vec<&str> = page.entries.iter().map(|entry| entry.id.as_str()).collect();
        if ids.is_empty() {
            ids.push("(empty: everything goes through)");
        } else if !page.next_page_token.is_empty() {
            ids.push("…");
        }
        let name = if name.is_empty() {
            "global".to_owned()
        } else {
            format!("type {name}")
        };
        rows.push(vec![name, number(list.entry_count), ids.join(" ")]);
    }
    table(&["list", "ids", ""], rows);
    Ok(())
}

impl Ids {
    fn data_type(&self) -> String {
        self.data_type.clone().unwrap_or_default()
    }

    fn read(&self) -> Result<Vec<String>> {
        let mut ids = self.ids.clone();
        if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            ids.extend(
                text.lines()
                    .map(str::trim)
                    .filter(|id| !id.is_empty())
                    .map(str::to_owned),
            );
        }
        Ok(ids)
    }
}
