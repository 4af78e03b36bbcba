//! `buildproxy verify`.

use super::{Common, DONE, FOUND, output};
use crate::verify;

/// Check every body against its hash and store path, and the inventory against itself
#[derive(clap::Args)]
#[command(after_help = "Example:
  buildproxy verify -i inventory.toml

Exit code 0 where all is well, 1 where something was found: all of it is listed, not only the first.")]
pub struct Verify {
    /// Print the findings as JSON on stdout
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub fn run(self, common: &Common) -> u8 {
        let inventory = match common.read_inventory() {
            Ok(inventory) => inventory,
            Err(code) => return code,
        };
        let total = inventory.entries.iter().filter_map(crate::inventory::Entry::body_size).sum();
        let progress = output::progress(total, "verifying", common.quiet);
        let findings = verify::verify(&inventory, &common.body_files(), &|bytes| progress.inc(bytes));
        progress.finish_and_clear();
        if self.json {
            output::json(&serde_json::json!({ "entries": inventory.entries.len(), "findings": findings }));
        }
        for finding in &findings {
            output::error(finding);
        }
        if !common.quiet {
            let entries = output::count(inventory.entries.len(), "entry", "entries");
            output::say(match findings.len() {
                0 => format!("{} {entries}, {}: all good", output::bold("verified"), output::bytes(total)),
                n => format!("{} {entries}: {}", output::bold("verified"), output::count(n, "finding", "findings")),
            });
        }
        if findings.is_empty() { DONE } else { FOUND }
    }
}
