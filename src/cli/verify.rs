//! `buildproxy verify`.

use super::{Common, DONE, FOUND, block_on, output};
use crate::{
    fetch::{self, FetchError},
    inventory::{self, Entry, Inventory},
    verify::{self, Finding},
};

/// Check every body against its hash and store path, and the inventory against itself
#[derive(clap::Args)]
#[command(after_help = "Example:
  buildproxy verify -i inventory.toml

Exit code 0 where all is well, 1 where something was found: all of it is listed, not only the first.")]
pub struct Verify {
    /// Ask the origins again, without credentials, whether they still give what the inventory pins
    #[arg(long)]
    refetch: bool,
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
        let progress = output::progress(total, "verifying", common.quiet);
        let mut findings = refused_names;
        findings.extend(verify::verify(&inventory, &common.body_files(), &|bytes| progress.inc(bytes)));
        progress.finish_and_clear();
        let changes = if self.refetch { refetch(&inventory, common)? } else { Vec::new() };
        if self.json {
            let changes: Vec<String> = changes.iter().map(FetchError::to_string).collect();
            output::json(&serde_json::json!({
                "entries": inventory.entries.len(), "findings": findings, "refetch": changes,
            }));
        }
        findings.iter().for_each(|finding| output::error(finding));
        changes.iter().for_each(|change| output::error(change));
        let found = findings.len() + changes.len();
        if !common.quiet {
            let entries = output::count(inventory.entries.len(), "entry", "entries");
            output::say(match found {
                0 => format!("{} {entries}, {}: all good", output::bold("verified"), output::bytes(total)),
                n => format!("{} {entries}: {}", output::bold("verified"), output::count(n, "finding", "findings")),
            });
        }
        Ok(if found == 0 { DONE } else { FOUND })
    }
}

/// The inventory, and what is wrong with its names: a reason for others not to read it, but for `verify` to say so.
fn read(common: &Common) -> Result<(Inventory, Vec<Finding>), u8> {
    if let Ok(inventory) = inventory::read(&common.inventory) {
        return Ok((inventory, Vec::new()));
    }
    let text = std::fs::read_to_string(&common.inventory).ok();
    match text.and_then(|text| verify::read_despite_names(&text)) {
        Some(found) => Ok(found),
        // Once more, for its message.
        None => common.read_inventory().map(|inventory| (inventory, Vec::new())),
    }
}

/// What the origins do not give any more.
fn refetch(inventory: &Inventory, common: &Common) -> Result<Vec<FetchError>, u8> {
    let wanted = fetch::all(inventory);
    let progress = output::progress(wanted.iter().map(|one| one.size).sum(), "asking again", common.quiet);
    let origin = super::fetch::anonymous_origin()?;
    let bar = progress.clone();
    let results = block_on(async { Ok(fetch::check(wanted, &origin, move |bytes| bar.inc(bytes)).await) })?;
    progress.finish_and_clear();
    Ok(results.into_iter().filter_map(Result::err).collect())
}
