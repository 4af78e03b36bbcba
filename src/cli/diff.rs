//! `buildproxy diff`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{DONE, FOUND, USAGE, describe, output};
use crate::{
    inventory::{self, Amount, Diff as Difference, FieldChange, Inventory, Step, Totals, diff},
    text::printable,
};

/// Show what differs between two inventories, request by request
#[derive(clap::Args)]
#[command(after_help = "Examples:
  buildproxy diff old.toml new.toml
  git difftool --no-prompt --extcmd 'buildproxy diff' main -- inventory.toml

Says every difference in what the inventories mean: what any system is answered, and by which rules. The order of \
entries, and one entry for two systems or two with the same answer, are none. An absent file can be given as \
/dev/null, as git does. Exit code 0: they mean the same; 1: they differ.")]
pub struct Diff {
    /// The inventory before
    #[arg(value_name = "A")]
    before: PathBuf,
    /// The inventory after
    #[arg(value_name = "B")]
    after: PathBuf,
    /// Print the differences as JSON
    #[arg(long)]
    json: bool,
}

impl Diff {
    pub fn run(self) -> u8 {
        self.try_run().unwrap_or_else(|code| code)
    }

    fn try_run(self) -> Result<u8, u8> {
        let (before, after) = (read(&self.before)?, read(&self.after)?);
        let found = diff(&before, &after);
        if self.json {
            output::json(&serde_json::json!({
                "same": found.is_empty(), "match": found.rules, "entries": found.entries, "totals": found.totals(),
            }));
        } else if !found.is_empty() {
            output::data(&text(&found));
        }
        Ok(if found.is_empty() { DONE } else { FOUND })
    }
}

fn read(path: &Path) -> Result<Inventory, u8> {
    if path == Path::new("/dev/null") {
        return Ok(Inventory::default());
    }
    inventory::read(path).map_err(|error| {
        output::error(&error);
        USAGE
    })
}

/// The rules, the hosts with what changed of each, the sums.
fn text(found: &Difference) -> String {
    let mut text = String::new();
    if !found.rules.is_empty() {
        text.push_str(&format!("{}\n", output::in_data("[match]", "1")));
        found.rules.iter().for_each(|change| text.push_str(&field(change, "  ")));
        text.push('\n');
    }
    let mut hosts: BTreeMap<&str, Vec<&Step>> = BTreeMap::new();
    for step in &found.entries {
        hosts.entry(step.entry().url.authority()).or_default().push(step);
    }
    for (host, steps) in hosts {
        text.push_str(&format!("{}\n", output::in_data(&printable(host), "1")));
        steps.iter().for_each(|step| text.push_str(&lines(step)));
        text.push('\n');
    }
    text + &totals(&found.totals(), found.rules.len())
}

fn lines(step: &Step) -> String {
    let entry = step.entry();
    let (sign, colour) = match step {
        Step::Added(_) => ("+", "32"),
        Step::Removed(_) => ("-", "31"),
        Step::Changed { .. } => ("~", "33"),
    };
    let head = format!("  {} {}", output::in_data(sign, colour), describe::request(entry));
    match step {
        Step::Added(_) | Step::Removed(_) => format!("{head}\n      {}\n", describe::answer(entry)),
        Step::Changed { fields, .. } => {
            let fields: String = fields.iter().map(|change| field(change, "      ")).collect();
            format!("{head}{}\n{fields}", describe::variant(entry))
        }
    }
}

/// `etag: "a" → "b"`; what is absent on a side is told by a sign.
fn field(change: &FieldChange, indent: &str) -> String {
    let value = |value: &String| match (change.field.as_str(), value.parse()) {
        ("size", Ok(size)) => format!("{value} ({})", output::bytes(size)),
        _ => printable(value),
    };
    let name = printable(&change.field);
    match (&change.before, &change.after) {
        (Some(before), Some(after)) => format!("{indent}{name}: {} → {}\n", value(before), value(after)),
        (None, Some(after)) => format!("{indent}{} {name}: {}\n", output::in_data("+", "32"), value(after)),
        (Some(before), None) => format!("{indent}{} {name}: {}\n", output::in_data("-", "31"), value(before)),
        (None, None) => String::new(),
    }
}

/// `+3 entries, 12 MiB; -1 entry, 3 KiB; 2 changed, 5 MiB → 6 MiB`.
fn totals(totals: &Totals, rules: usize) -> String {
    let amount = |sign: &str, amount: Amount| {
        let entries = output::count(amount.entries, "entry", "entries");
        (amount.entries > 0).then(|| format!("{sign}{entries}, {}", output::bytes(amount.bytes)))
    };
    let changed = |before: Amount, after: Amount| {
        let bytes = match (output::bytes(before.bytes), output::bytes(after.bytes)) {
            (before, after) if before == after => after,
            (before, after) => format!("{before} → {after}"),
        };
        (after.entries > 0).then(|| format!("{} changed, {bytes}", after.entries))
    };
    let parts = [
        amount("+", totals.added),
        amount("-", totals.removed),
        changed(totals.changed_before, totals.changed_after),
        (rules > 0).then(|| output::count(rules, "changed rule", "changed rules")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ") + "\n"
}
