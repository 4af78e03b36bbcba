//! An entry as the page shows it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::inventory::{Body, Entry, Headers, Reason, Source, UrlMatch};

/// One entry; what is absent is left out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryView<'a> {
    method: &'a str,
    url: &'a str,
    status: u16,
    hops: Vec<HopView<'a>>,
    headers: BTreeMap<&'a str, Vec<&'a str>>,
    /// The media type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    media_type: Option<&'a str>,
    /// Whether there is a body.
    body: bool,
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'static str>,
    /// The file beside the inventory, or the URL that the body is fetched from.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<&'a str>,
    /// The store path.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    systems: &'a [String],
    /// Whether the entry is for every URL that starts with its own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    prefix: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_headers: Option<&'a BTreeMap<String, String>>,
}

#[derive(Debug, Serialize)]
struct HopView<'a> {
    status: u16,
    location: &'a str,
}

impl<'a> EntryView<'a> {
    /// `entry`, the source of whose body has the `why`.
    pub fn new(entry: &'a Entry, why: Option<Reason>) -> Self {
        let body = entry.body.as_ref();
        let (source, place, text) = match body.map(|body| &body.source) {
            None => (None, None, None),
            Some(Source::Fetch(url)) => (Some("fetch"), url.as_deref(), None),
            Some(Source::File(file)) => (Some("file"), Some(file.as_str()), None),
            Some(Source::Text(text)) => (Some("text"), None, Some(text.as_str())),
            Some(Source::StorePath { .. }) => (Some("store-path"), None, None),
        };
        Self {
            method: entry.method.as_str(),
            url: entry.url.as_str(),
            status: entry.status,
            hops: entry.redirects.iter().map(|hop| HopView { status: hop.status, location: &hop.location }).collect(),
            headers: headers(&entry.headers),
            media_type: entry.headers.get("content-type"),
            body: body.is_some(),
            size: entry.body_size(),
            hash: body.and_then(|body| body.hash).map(|hash| hash.to_string()),
            source,
            place,
            path: body.and_then(path),
            text,
            why: why.map(|why| why.reason),
            systems: &entry.systems,
            prefix: entry.url_match == UrlMatch::Prefix,
            request_body: entry.request_body.map(|digest| digest.to_string()),
            request_headers: Some(&entry.request_headers).filter(|headers| !headers.is_empty()),
        }
    }
}

fn headers(headers: &Headers) -> BTreeMap<&str, Vec<&str>> {
    headers.iter().collect()
}

fn path(body: &Body) -> Option<String> {
    match &body.source {
        Source::StorePath { path, .. } => Some(path.clone()),
        Source::Text(_) => None,
        Source::Fetch(_) | Source::File(_) => body.store_path().map(|path| path.to_absolute_path()),
    }
}
