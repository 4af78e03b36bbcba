//! A replay that goes on.

use std::{path::PathBuf, sync::Arc};

use serde_json::{Value, json};

use super::{Live, Metric};
use crate::{
    inventory,
    replay::Replayer,
    report::{LastRuns, Page},
};

/// The replay of an inventory.
pub struct LiveReplay {
    /// Its file.
    pub inventory: PathBuf,
    /// What answers from it.
    pub replayer: Arc<Replayer>,
}

impl LiveReplay {
    /// Of what may be many entries only some, and their number.
    fn report(&self) -> Value {
        let report = self.replayer.summary();
        json!({ "report": report, "used": report.entries_answered, "unused": report.entries_unused })
    }
}

impl Live for LiveReplay {
    fn page(&self) -> Result<String, String> {
        let inventory = inventory::read(&self.inventory).map_err(|error| error.to_string())?;
        let runs =
            LastRuns { replay: serde_json::to_value(self.replayer.summary()).ok(), ..LastRuns::of(&self.inventory) };
        let page = Page::new(self.inventory.display().to_string(), &inventory, runs, None);
        Page { live: Some("replay"), ..page }.to_html().map_err(|error| error.to_string())
    }

    fn news(&self, since: &mut u64) -> Option<Value> {
        let asked = self.replayer.asked();
        let is_idle = asked == *since;
        *since = asked;
        (!is_idle).then(|| self.report())
    }

    fn metrics(&self) -> Vec<Metric> {
        let report = self.replayer.summary();
        let entries = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        vec![
            Metric {
                name: "buildproxy_replayed_requests_total",
                help: "Requests, by whether an entry answered them.",
                kind: "counter",
                values: vec![
                    ("outcome=\"answered\"", report.requests_answered),
                    ("outcome=\"missed\"", report.requests_missed),
                ],
            },
            Metric {
                name: "buildproxy_entries",
                help: "Entries, by whether a request asked for them.",
                kind: "gauge",
                values: vec![
                    ("state=\"used\"", entries(report.entries_answered)),
                    ("state=\"unused\"", entries(report.entries_unused)),
                ],
            },
            Metric {
                name: "buildproxy_broken_bodies",
                help: "Entries whose bodies are missing or damaged.",
                kind: "gauge",
                values: vec![("", entries(report.broken_bodies.len()))],
            },
        ]
    }
}
