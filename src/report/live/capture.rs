//! A capture that goes on.

use std::{path::PathBuf, sync::Arc};

use serde_json::{Value, json};

use super::{Live, Metric};
use crate::{
    capture::{Stopwatch, TimedRequest},
    inventory::{self, Inventory},
    report::{LastRuns, Page},
};

/// The capture whose times `stopwatch` takes.
#[derive(Debug)]
pub struct LiveCapture {
    /// The inventory that it adds to.
    pub inventory: PathBuf,
    /// Its times.
    pub stopwatch: Arc<Stopwatch>,
}

impl Live for LiveCapture {
    fn page(&self) -> Result<String, String> {
        let inventory = match self.inventory.exists() {
            true => inventory::read(&self.inventory).map_err(|error| error.to_string())?,
            false => Inventory::default(),
        };
        let runs = LastRuns { capture: Some(self.stopwatch.timeline()), ..LastRuns::of(&self.inventory) };
        let page = Page::new(self.inventory.display().to_string(), &inventory, runs, None);
        Page { live: Some("capture"), ..page }.to_html().map_err(|error| error.to_string())
    }

    fn news(&self, since: &mut u64) -> Option<Value> {
        let (changed, last, length) = self.stopwatch.changes(*since);
        let is_idle = last == *since && changed.is_empty();
        *since = last;
        (!is_idle).then(|| json!({ "length": length, "requests": changed }))
    }

    fn metrics(&self) -> Vec<Metric> {
        let requests = self.stopwatch.timeline().requests;
        let count = |is: fn(&TimedRequest) -> bool| requests.iter().filter(|request| is(request)).count() as u64;
        vec![
            Metric {
                name: "buildproxy_captured_requests_total",
                help: "Requests that origins were asked, by what became of them.",
                kind: "counter",
                values: vec![
                    ("outcome=\"recorded\"", count(|request| request.bytes.is_some())),
                    ("outcome=\"left-out\"", count(|request| request.problem.is_some())),
                ],
            },
            Metric {
                name: "buildproxy_captured_body_bytes_total",
                help: "Bytes of the bodies that were recorded.",
                kind: "counter",
                values: vec![("", requests.iter().filter_map(|request| request.bytes).sum())],
            },
            Metric {
                name: "buildproxy_running_requests",
                help: "Requests whose answers are not whole yet.",
                kind: "gauge",
                values: vec![("", count(|request| request.end.is_none()))],
            },
        ]
    }
}
