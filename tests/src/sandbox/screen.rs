//! What the sandbox's commands show: headings, aligned numbers, and one live line.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _, stderr, stdout};
use std::time::Duration;

use comfy_table::{Cell, CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reprise_shared::clock::Clock;

/// How often the live line is drawn where it can be replaced.
const REDRAW: Duration = Duration::from_millis(100);
/// How often a plain line is written where it cannot.
const PLAIN: Duration = Duration::from_secs(2);

/// Writes a line to standard output. A reader that has gone away is no fault of the command.
pub(super) fn say(line: impl Display) {
    let _gone = writeln!(stdout(), "{line}");
}

/// Begins a part of the output.
pub(super) fn heading(text: &str) {
    let bold = if stdout().is_terminal() {
        ("\u{1b}[1m", "\u{1b}[0m")
    } else {
        ("", "")
    };
    say(format_args!("\n{}{text}{}", bold.0, bold.1));
}

/// Writes a count with its thousands apart.
pub(super) fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes a table, without a line of names when all are empty. A column of numbers stands right, all else left.
pub(super) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let mut rows: Vec<Vec<String>> = rows.into_iter().collect();
    if rows.is_empty() {
        return say("  none");
    }
    let is_number = |text: &str| text == "-" || text.starts_with(|first: char| first.is_ascii_digit());
    let right: Vec<bool> = (0..header.len())
        .map(|column| {
            rows.iter()
                .all(|row| row.get(column).is_none_or(|text| is_number(text)))
        })
        .collect();
    if header.iter().any(|name| !name.is_empty()) {
        rows.insert(0, header.iter().map(|name| (*name).to_owned()).collect());
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    for row in rows {
        table.add_row(row.into_iter().zip(&right).map(|(text, right)| {
            let alignment = if *right {
                CellAlignment::Right
            } else {
                CellAlignment::Left
            };
            Cell::new(text).set_alignment(alignment)
        }));
    }
    for line in table.to_string().lines() {
        say(format_args!(" {}", line.trim_end()));
    }
}

/// One line that is drawn over and over on a terminal, and a plain line now and then elsewhere.
pub(super) struct Live {
    bar: Option<ProgressBar>,
    clock: Clock,
    drawn: Option<Duration>,
}

impl Live {
    /// Begins with nothing of `total` done; `None` when there is no end.
    pub(super) fn new(total: Option<u64>) -> Self {
        let style = match total {
            Some(_) => ProgressStyle::with_template("  {bar:14} {percent:>3}% {wide_msg}"),
            None => ProgressStyle::with_template("  {spinner} {wide_msg}"),
        };
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self {
            bar,
            clock: Clock::system(),
            drawn: None,
        }
    }

    /// Shows how far it is, unless that was shown a moment ago.
    pub(super) fn show(&mut self, done: u64, text: impl FnOnce() -> String) {
        let now = self.clock.monotonic();
        let pause = if self.bar.is_some() { REDRAW } else { PLAIN };
        if self.drawn.is_some_and(|drawn| now.saturating_sub(drawn) < pause) {
            return;
        }
        self.drawn = Some(now);
        match &self.bar {
            Some(bar) => {
                bar.set_position(done);
                bar.set_message(text());
            }
            None => say(format_args!("  {}", text())),
        }
    }

    /// Writes a line that stays above the live one.
    pub(super) fn note(&self, line: impl Display) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(format_args!("  {line}"))),
            None => say(format_args!("  {line}")),
        }
    }

    /// Ends the live line and leaves a last one in its place.
    pub(super) fn end(self, line: impl Display) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        say(format_args!("  {line}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        let texts = [0, 7, 999, 1_000, 12_345, 1_234_567].map(number);
        assert_eq!(texts, ["0", "7", "999", "1,000", "12,345", "1,234,567"]);
    }
}
