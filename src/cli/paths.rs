//! `buildproxy paths`.

use serde::Serialize;

use super::{Common, DONE, output};
use crate::inventory::{Body, Entry, Source};

/// Print URL, hash and store path of every body
#[derive(clap::Args)]
#[command(after_help = "Example:
  buildproxy paths | while read -r url hash path; do …; done

One line a body, in three fields. A body that is no store file has `-` for its path.")]
pub struct Paths {
    /// Print a JSON array instead of lines
    #[arg(long)]
    json: bool,
}

/// One line.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Row {
    method: String,
    url: String,
    hash: Option<String>,
    size: Option<u64>,
    source: &'static str,
    store_path: Option<String>,
}

impl Paths {
    pub fn run(self, common: &Common) -> u8 {
        let inventory = match common.read_inventory() {
            Ok(inventory) => inventory,
            Err(code) => return code,
        };
        let rows: Vec<Row> =
            inventory.entries.iter().filter_map(|entry| Some(row(entry, entry.body.as_ref()?))).collect();
        if self.json {
            output::json(&rows);
        } else {
            let field = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
            let lines = rows.iter().map(|row| format!("{} {} {}\n", row.url, field(&row.hash), field(&row.store_path)));
            output::data(&lines.collect::<String>());
        }
        DONE
    }
}

fn row(entry: &Entry, body: &Body) -> Row {
    let store_path = || body.store_path().map(|path| path.to_absolute_path());
    let (source, store_path) = match &body.source {
        Source::Fetch(_) => ("fetch", store_path()),
        Source::File(_) => ("file", store_path()),
        Source::Text(_) => ("text", None),
        Source::StorePath { path, .. } => ("store-path", Some(path.clone())),
    };
    Row {
        method: entry.method.to_string(),
        url: entry.url.to_string(),
        hash: body.hash.map(|hash| hash.to_string()),
        size: body.size,
        source,
        store_path,
    }
}
