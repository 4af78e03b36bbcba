//! `buildproxy report`.

use std::path::{Path, PathBuf};

use super::{Common, DONE, FAILED, USAGE, output};
use crate::{
    inventory::{self, diff},
    report::{DiffView, LastRuns, Page},
};

/// Make a page that shows the inventory, its last capture and its last replay
#[derive(clap::Args)]
#[command(after_help = "Examples:
  buildproxy report -o report.html
  buildproxy report --diff old.toml -o review.html

The page is one file that loads nothing: entries to search and sort, redirect chains, bytes by host, the timeline of \
the last capture, the misses and unused entries of the last replay.")]
pub struct Report {
    /// Where the page goes [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Show what is different from this inventory, too
    #[arg(long, value_name = "FILE")]
    diff: Option<PathBuf>,
}

impl Report {
    pub fn run(self, common: &Common) -> u8 {
        self.try_run(common).unwrap_or_else(|code| code)
    }

    fn try_run(self, common: &Common) -> Result<u8, u8> {
        let inventory = common.read_inventory()?;
        let before = match &self.diff {
            None => None,
            Some(path) => Some(inventory::read(path).map_err(|error| {
                output::error(&error);
                USAGE
            })?),
        };
        let differences = before
            .as_ref()
            .zip(self.diff.as_deref())
            .map(|(before, path)| DiffView::new(path.display().to_string(), diff(before, &inventory)));
        let runs = LastRuns::of(&common.inventory_file());
        let page = Page::new(common.inventory.display().to_string(), &inventory, runs, differences);
        let html = page.to_html().map_err(|error| {
            output::error(&error);
            FAILED
        })?;
        self.write(&html)?;
        Ok(DONE)
    }

    fn write(&self, html: &str) -> Result<(), u8> {
        let Some(path) = &self.output else {
            output::data(html);
            return Ok(());
        };
        inventory::write_atomically(path, &mut html.as_bytes()).map_err(|error| {
            output::error(&format!("cannot write {}: {error}", Path::display(path)));
            FAILED
        })
    }
}
