//! An entry in one line, for people.

use super::output;
use crate::{
    inventory::{Entry, Source},
    text::printable,
};

/// Method and URL.
pub fn request(entry: &Entry) -> String {
    printable(&format!("{} {}", entry.method, entry.url))
}

/// What tells the answers to one method and URL apart, in brackets; empty where nothing does.
pub fn variant(entry: &Entry) -> String {
    let parts = of_request(entry).into_iter().chain(of_systems(entry)).collect::<Vec<_>>();
    if parts.is_empty() { String::new() } else { printable(&format!(" ({})", parts.join(", "))) }
}

fn of_request(entry: &Entry) -> Vec<String> {
    let body = entry.request_body.map(|digest| format!("request-body {}", digest.hash));
    let headers = entry.request_headers.iter().map(|(name, value)| format!("request-header {name}: {value}"));
    body.into_iter().chain(headers).collect()
}

fn of_systems(entry: &Entry) -> Option<String> {
    (!entry.systems.is_empty()).then(|| format!("for {}", entry.systems.join(" and ")))
}

/// What tells one answer from another: status, size, source, hash, redirects, and whom it is for.
pub fn answer(entry: &Entry) -> String {
    let mut parts = vec![entry.status.to_string()];
    match &entry.body {
        None => parts.push("no body".to_owned()),
        Some(body) => {
            parts.extend(body.size.map(output::bytes));
            parts.push(match &body.source {
                Source::Fetch(None) => "fetch".to_owned(),
                Source::Fetch(Some(url)) => format!("fetch {url}"),
                Source::File(file) => format!("file {file}"),
                Source::Text(_) => "text".to_owned(),
                Source::StorePath { path, .. } => format!("store-path {path}"),
            });
            parts.extend(body.hash.map(|hash| hash.to_string()));
        }
    }
    match &entry.redirects[..] {
        [] => {}
        [one] => parts.push(format!("by way of {}", one.location)),
        several => parts.push(format!("by way of {} redirects, first {}", several.len(), several[0].location)),
    }
    parts.extend(of_request(entry));
    parts.extend(of_systems(entry));
    printable(&parts.join(", "))
}
