//! `buildproxy verify`.

use super::{Common, DONE, FOUND, bars::Bar, output, refetch};
use crate::{
    inventory::{self, Entry, Inventory},
    store::regular,
    verify::{self, Finding},
};

/// Check every body against its hash and store path, and the inventory against itself
#[derive(clap::Args)]
#[command(after_help = "Examples:
  buildproxy verify -i inventory.toml
  buildproxy verify --refetch --fix   keep what origins do not give any more

Exit code 0 where all is well, 1 where something was found: all of it is listed, not only the first.")]
pub struct Verify {
    /// Ask the origins again, without credentials, whether they still give what the inventory pins
    #[arg(long)]
    refetch: bool,
    /// Rewrite the inventory: what is changed or gone is fetched from where its redirects name a version and the bytes are
    /// the same, else kept beside the inventory, where its bytes are still in a store; prints the diff
    #[arg(long, requires = "refetch")]
    fix: bool,
    /// Print the findings as JSON on stdout
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub fn run(self, common: &Common) -> u8 {
        self.try_run(common).unwrap_or_else(|code| code)
    }

    fn try_run(self, common: &Common) -> Result<u8, u8> {
        let (inventory, refused_names) = read(common)?;
        let total = inventory.entries.iter().filter_map(Entry::body_size).sum();
        let progress = Bar::new("verifying", Some(total), common.quiet);
        let mut findings = refused_names;
        findings.extend(verify::verify(&inventory, &common.body_files(), &progress.counter()));
        drop(progress);
        say(&findings, inventory.entries.len(), common);
        let mut asked = if self.refetch { refetch::ask(&inventory, common)? } else { Vec::new() };
        let fixed = if self.fix { refetch::fix(&inventory, &mut asked, common) } else { Ok(String::new()) };
        // What the origins said is worth the time that it took, whatever became of the repair.
        refetch::report(&asked, common.quiet);
        let diff = fixed?;
        if self.json {
            output::json(&serde_json::json!({
                "entries": inventory.entries.len(), "findings": findings, "refetch": asked, "diff": diff,
            }));
        } else {
            output::text(&diff);
        }
        let found = findings.len() + asked.iter().filter(|one| refetch::is_finding(one)).count();
        if !common.quiet {
            let entries = output::count(inventory.entries.len(), "entry", "entries");
            let result = match found {
                0 => format!("{entries}, {}: all good", output::bytes(total)),
                n => format!("{entries}: {}", output::count(n, "finding", "findings")),
            };
            output::done("verified", result);
        }
        Ok(if found == 0 { DONE } else { FOUND })
    }
}

/// Says what was found, each with the line of the inventory in which its entry begins.
fn say(findings: &[Finding], entries: usize, common: &Common) {
    let text = (!findings.is_empty()).then(|| regular::read(&common.inventory_file(), inventory::LONGEST).ok());
    let text = text.flatten().and_then(|bytes| String::from_utf8(bytes).ok());
    // Where a text looks like an entry, none of the lines can be believed.
    let lines = text.map(|text| inventory::entry_lines(&text)).filter(|lines| lines.len() == entries);
    for finding in findings {
        let line = finding.entry.and_then(|entry| lines.as_ref()?.get(entry));
        let place = line.map(|line| format!("{}:{line}: ", common.inventory.display())).unwrap_or_default();
        output::error(&format!("{place}{finding}"));
    }
}

/// The inventory, and what is wrong with its names: a reason for others not to read it, but for `verify` to say so.
fn read(common: &Common) -> Result<(Inventory, Vec<Finding>), u8> {
    if let Ok(inventory) = inventory::read(&common.inventory) {
        return Ok((inventory, Vec::new()));
    }
    let bytes = regular::read(&common.inventory_file(), inventory::LONGEST).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    match text.and_then(|text| verify::read_despite_names(&text)) {
        Some(found) => Ok(found),
        // Once more, for its message.
        None => common.read_inventory().map(|inventory| (inventory, Vec::new())),
    }
}
