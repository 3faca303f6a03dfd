//! `docs/api.md` as a test: its commands are run, and what they print is what the document says they print.
//!
//! A block marked `sh` is one command, and the block after it is its output: `json` of a call that is answered, `text`
//! of one that is refused. In outputs `…` stands for whatever is there.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

/// How long one command may take.
const LIMIT: Duration = Duration::from_secs(60);

/// One command of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The line where it begins.
    pub line: usize,
    /// The command.
    pub command: String,
    /// Whether the call is refused.
    pub is_refused: bool,
    /// What it prints.
    pub output: String,
}

/// What a command printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    /// Whether it succeeded.
    pub succeeded: bool,
    /// Both of its outputs.
    pub text: String,
}

/// Finds all commands with their outputs.
///
/// # Errors
/// A command without an output.
pub fn examples(document: &str) -> Result<Vec<Example>> {
    let mut examples = Vec::new();
    let mut command: Option<(usize, String)> = None;
    for (line, kind, text) in blocks(document) {
        match (kind.as_str(), command.take()) {
            ("sh", None) => command = Some((line, text)),
            ("json" | "text", Some((line, command))) => examples.push(Example {
                line,
                command,
                is_refused: kind == "text",
                output: text,
            }),
            (_, Some((line, _))) => anyhow::bail!("the command in line {line} has no output"),
            (_, None) => {}
        }
    }
    ensure!(command.is_none(), "the last command has no output");
    Ok(examples)
}

/// Fenced blocks: the line of their fence, their kind and their text.
fn blocks(document: &str) -> Vec<(usize, String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String, String)> = None;
    for (number, line) in (1..).zip(document.lines()) {
        match (line.strip_prefix("```"), &mut open) {
            (Some(kind), None) => open = Some((number, kind.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((.., text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

/// Runs a command with these variables, and with the programs in `tools` in the path.
///
/// # Errors
/// It could not be started, or took too long.
pub async fn run(command: &str, variables: &BTreeMap<&str, String>, tools: &Path) -> Result<Printed> {
    let mut shell = Command::new("sh");
    let script = format!("PATH=\"{}:$PATH\"; {command}", tools.display());
    shell
        .arg("-c")
        .arg(script)
        .envs(variables)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(LIMIT, shell.output())
        .await
        .with_context(|| format!("{command} took longer than {LIMIT:?}"))?
        .with_context(|| format!("run {command}"))?;
    let text = [output.stdout, output.stderr].concat();
    Ok(Printed {
        succeeded: output.status.success(),
        text: String::from_utf8_lossy(&text).into_owned(),
    })
}

/// Keeps what later commands of the document name: the token of a plan as `$PLAN`, the id of a job as `$JOB`.
pub fn keep(printed: &Printed, variables: &mut BTreeMap<&'static str, String>) {
    let Ok(value) = serde_json::from_str::<Value>(&printed.text) else {
        return;
    };
    for (name, kept) in [("PLAN", &value["planToken"]), ("JOB", &value["job"]["jobId"])] {
        if let Some(kept) = kept.as_str() {
            variables.insert(name, kept.to_owned());
        }
    }
}

/// Compares what a command printed with what the document says.
///
/// # Errors
/// They differ.
pub fn compare(example: &Example, printed: &Printed) -> Result<()> {
    let differs = || format!("line {}: {}\nprinted:\n{}", example.line, example.command, printed.text);
    ensure!(printed.succeeded != example.is_refused, differs());
    if example.is_refused {
        let (expected, found) = (example.output.trim_end().lines(), printed.text.trim_end().lines());
        ensure!(expected.clone().count() == found.clone().count(), differs());
        for (expected, found) in expected.zip(found) {
            ensure!(is_like(expected.trim(), found.trim()), "{expected:?}: {}", differs());
        }
        return Ok(());
    }
    let expected: Value = serde_json::from_str(&example.output).with_context(differs)?;
    let found: Value = serde_json::from_str(&printed.text).with_context(differs)?;
    is_value_like(&expected, &found).map_err(|place| anyhow::anyhow!("{place}: {}", differs()))
}

fn is_value_like(expected: &Value, found: &Value) -> Result<(), String> {
    let inside = |place: &str, result: Result<(), String>| result.map_err(|rest| format!("{place}.{rest}"));
    match (expected, found) {
        (Value::String(pattern), Value::String(text)) if is_like(pattern, text) => Ok(()),
        (Value::String(pattern), Value::Number(_) | Value::Bool(_)) if pattern == "…" => Ok(()),
        (Value::Array(patterns), Value::Array(values)) if patterns.len() == values.len() => {
            for (place, (pattern, value)) in patterns.iter().zip(values).enumerate() {
                inside(&place.to_string(), is_value_like(pattern, value))?;
            }
            Ok(())
        }
        (Value::Object(patterns), Value::Object(values)) if patterns.keys().eq(values.keys()) => {
            for (key, pattern) in patterns {
                inside(key, is_value_like(pattern, &values[key]))?;
            }
            Ok(())
        }
        _ if expected == found => Ok(()),
        _ => Err(format!(" expected {expected}, found {found}")),
    }
}

/// Tells whether a text is a pattern's, in which `…` stands for anything.
fn is_like(pattern: &str, text: &str) -> bool {
    let parts: Vec<&str> = pattern.split('…').collect();
    let [first, middle @ .., last] = parts.as_slice() else {
        return pattern == text;
    };
    let Some(mut rest) = text.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else {
        return false;
    };
    for part in middle {
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    true
}

/// Writes the document with other outputs, those of its examples in order. What changes from run to run becomes `…`.
pub fn with_outputs(document: &str, outputs: &[String]) -> String {
    let mut written = String::new();
    let (mut is_output, mut after_command) = (false, false);
    let mut outputs = outputs.iter();
    for line in document.lines() {
        if let Some(kind) = line.strip_prefix("```") {
            if is_output {
                is_output = false;
            } else if matches!(kind, "json" | "text") && after_command {
                (is_output, after_command) = (true, false);
                let output = outputs.next().map_or("", |output| output.trim_end());
                written.push_str(line);
                written.push('\n');
                written.push_str(output);
                written.push('\n');
                continue;
            } else if kind == "sh" {
                after_command = true;
            }
        } else if is_output {
            continue;
        }
        written.push_str(line);
        written.push('\n');
    }
    written
}

/// Replaces what changes from run to run: times, and the values of fields that are named here.
pub fn masked(text: &str) -> String {
    const FIELDS: [&str; 16] = [
        "age",
        "catalogHash",
        "change_id",
        "etag",
        "eventId",
        "host",
        "jobId",
        "job_id",
        "nextPageToken",
        "planToken",
        "processId",
        "workerId",
        "deadLetterId",
        "runId",
        "topicId",
        "workersTold",
    ];
    let mut masked = String::new();
    for line in text.lines() {
        // A time inside of words stands in brackets.
        let line = match (line.find("(20"), line.find("Z)")) {
            (Some(from), Some(to)) if from < to => format!("{}(…{}", &line[..from], &line[to + 1..]),
            _ => line.to_owned(),
        };
        let line = line.as_str();
        let field = line.trim_start().split_once(": ");
        let name = field.map(|(name, _)| name.trim_matches('"'));
        let value = field.map_or("", |(_, value)| value.trim_end_matches(','));
        let is_time = value.len() > 20 && value.starts_with("\"20") && value.ends_with("Z\"");
        if is_time || name.is_some_and(|name| FIELDS.contains(&name)) {
            let (before, _) = line.split_once(": ").unwrap_or((line, ""));
            let comma = if line.ends_with(',') { "," } else { "" };
            masked.push_str(&format!("{before}: \"…\"{comma}\n"));
        } else {
            masked.push_str(line);
            masked.push('\n');
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "# A\n```sh\nask\n```\n```json\n{\"a\": \"…\", \"b\": [1]}\n```\n```sh\nask more\n```\nno\n```text\nERROR: … is wrong\n```\n";

    #[test]
    fn commands_and_outputs_are_found_and_compared() {
        let found = examples(DOCUMENT).unwrap();
        assert_eq!((found.len(), found[0].command.as_str(), found[0].line), (2, "ask\n", 2));
        let printed = |succeeded, text: &str| Printed {
            succeeded,
            text: text.to_owned(),
        };
        compare(&found[0], &printed(true, "{\"a\": \"x\", \"b\": [1]}")).unwrap();
        compare(&found[0], &printed(true, "{\"a\": 3, \"b\": [1]}")).unwrap();
        for other in [
            "{\"a\": \"x\", \"b\": [2]}",
            "{\"a\": \"x\"}",
            "{\"a\": \"x\", \"b\": [1], \"c\": 1}",
        ] {
            compare(&found[0], &printed(true, other)).unwrap_err();
        }
        compare(&found[0], &printed(false, "{\"a\": \"x\", \"b\": [1]}")).unwrap_err();
        compare(&found[1], &printed(false, "ERROR: all is wrong\n")).unwrap();
        compare(&found[1], &printed(false, "ERROR: all is right\n")).unwrap_err();
        examples("```sh\nask\n```\n").unwrap_err();
    }

    #[test]
    fn outputs_are_replaced_in_order_and_masked() {
        let written = with_outputs(DOCUMENT, &["{}\n".to_owned(), "ERROR\n".to_owned()]);
        assert_eq!(
            written,
            "# A\n```sh\nask\n```\n```json\n{}\n```\n```sh\nask more\n```\nno\n```text\nERROR\n```\n"
        );
        assert_eq!(
            masked(
                "  \"time\": \"2026-01-02T03:04:05.123Z\",\n  \"etag\": \"7\"\n  \"a\": \"after now (2026-01-02T03:04:05Z); b\"\n"
            ),
            "  \"time\": \"…\",\n  \"etag\": \"…\"\n  \"a\": \"after now (…); b\"\n"
        );
    }
}
