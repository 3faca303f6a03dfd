//! `whitelist`: shows and changes the whitelist, through the same calls on Redis as everyone.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Subcommand;
use reprise_shared::whitelist::{Answer, Change, ChangeId, Content, Edit, Scope, Version, Writer};

use super::prepare;
use super::screen::{number, say, table};
use super::stack::Stack;

/// How many ids `show` lists of each list.
const SHOWN: usize = 20;

/// What to do with the whitelist.
#[derive(Debug, Subcommand)]
pub(super) enum Arguments {
    /// Make the first version, empty, where there is none.
    Init,
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
    let writer = stack.whitelist();
    match arguments {
        Arguments::Init => match prepare::initialise(&writer).await? {
            None => say("the whitelist is initialised: version 1, empty, so everything goes through"),
            Some(version) => say(format_args!("the whitelist has version {version} already")),
        },
        Arguments::Set(ids) => change(&stack, &writer, &ids, Edit::Replace).await?,
        Arguments::Add(ids) => {
            let edit = |added| Edit::Update { added, removed: vec![] };
            change(&stack, &writer, &ids, edit).await?;
        }
        Arguments::Remove(ids) => {
            let edit = |removed| Edit::Update { added: vec![], removed };
            change(&stack, &writer, &ids, edit).await?;
        }
        Arguments::Show => show(&content(&writer).await?),
    }
    Ok(ExitCode::SUCCESS)
}

/// Changes one list and returns the version that this made.
pub(super) async fn apply(writer: &Writer, scope: Scope, edit: Edit) -> Result<Version> {
    let head = writer.head().await?.context("the whitelist is not initialised")?;
    let change = Change {
        id: ChangeId::new(uuid::Uuid::now_v7().to_string()),
        scope,
        edit,
    };
    match writer.apply(&change, head.version, head.version.next()).await? {
        Answer::Applied { version, .. } => Ok(version),
        Answer::Conflict { current } => bail!("someone else made version {current} at the same time: try again"),
        Answer::Unknown => bail!("the whitelist is not initialised"),
    }
}

async fn content(writer: &Writer) -> Result<Content> {
    let content = writer.content().await?;
    content.context("the whitelist is not initialised: nothing is read until `whitelist init`")
}

async fn change(stack: &Stack, writer: &Writer, arguments: &Ids, edit: impl FnOnce(Vec<String>) -> Edit) -> Result<()> {
    let scope = match &arguments.data_type {
        None => Scope::Global,
        Some(name) => {
            ensure!(
                stack.catalog.find_data_type(name).is_some(),
                "there is no data type {name}"
            );
            Scope::Type(name.clone())
        }
    };
    let given = arguments.read()?;
    let mut lists = content(writer).await?;
    let list = lists.list_mut(scope.clone());
    let before = list.len();
    let edit = edit(given);
    match &edit {
        Edit::Replace(ids) => *list = ids.iter().cloned().collect(),
        Edit::Update { added, removed } => {
            list.extend(added.iter().cloned());
            list.retain(|id| !removed.contains(id));
        }
    }
    let after = list.len();
    ensure!(
        after > 0 || arguments.allow_unrestricted,
        "the list would be empty, which lets everything through; if that is meant, add --allow-unrestricted"
    );
    let version = apply(writer, scope, edit).await?;
    say(format_args!(
        "version {version}: {} ids, {} before",
        number(after as u64),
        number(before as u64)
    ));
    Ok(())
}

impl Ids {
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

fn show(content: &Content) {
    say(format_args!("version {}", content.head.version));
    let global = ("global".to_owned(), &content.global);
    let types = content.types.iter().map(|(name, list)| (format!("type {name}"), list));
    let rows = std::iter::once(global).chain(types).map(|(name, list)| {
        let mut ids: Vec<&str> = list.iter().take(SHOWN).map(String::as_str).collect();
        if list.is_empty() {
            ids.push("(empty: everything goes through)");
        } else if list.len() > SHOWN {
            ids.push("…");
        }
        vec![name, number(list.len() as u64), ids.join(" ")]
    });
    table(&["list", "ids", ""], rows);
}
