//! `buildproxy paths`.

use serde::Serialize;

use super::{Common, DONE, output};
use crate::inventory::{Body, Entry, Reason, Source, Why};

/// Print URL, hash and store path of every body
#[derive(clap::Args)]
#[command(after_help = "Example:
  buildproxy paths | while read -r url hash path; do …; done

One line a body, in three fields. A body that is no store file has `-` for its path. With --why each line ends with \
the body's source and the rule that it is for, in words; `!` marks a body whose source is another one than the rules \
of docs/sources.md would choose.")]
pub struct Paths {
    /// Print a JSON array instead of lines
    #[arg(long)]
    json: bool,
    /// Say for each body where its bytes come from, and why
    #[arg(long)]
    why: bool,
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
    /// The first rule for sources that applies to the entry, and what it says.
    #[serde(flatten)]
    why: Option<Reason>,
}

impl Paths {
    pub fn run(self, common: &Common) -> u8 {
        let inventory = match common.read_inventory() {
            Ok(inventory) => inventory,
            Err(code) => return code,
        };
        let rules = Why::of_all(&inventory);
        let row = |(entry, rule): (&Entry, Why)| {
            let body = entry.body.as_ref()?;
            Some(Row { why: self.why.then(|| Reason::new(body, rule)), ..row(entry, body) })
        };
        let rows: Vec<Row> = inventory.entries.iter().zip(rules).filter_map(row).collect();
        if self.json {
            output::json(&rows);
        } else {
            let field = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
            let end = |row: &Row| row.why.as_ref().map(|reason| why(row.source, reason)).unwrap_or_default();
            let lines = rows
                .iter()
                .map(|row| format!("{} {} {}{}\n", row.url, field(&row.hash), field(&row.store_path), end(row)));
            output::text(&lines.collect::<String>());
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
        why: None,
    }
}

/// The end of a line: the source, and the rule in words.
fn why(source: &str, reason: &Reason) -> String {
    let mark = if reason.by_rule { "" } else { "! " };
    format!("  # {source}: {mark}{}", reason.reason)
}
