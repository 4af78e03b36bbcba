//! The answer to a request that nothing answers: what was asked, why it is a miss, what comes nearest, what to do.

use std::{collections::BTreeMap, fmt};

use http::{HeaderMap, Method, Uri};

use super::nearest::{self, Difference, Near};
use crate::{
    inventory::index::{Index, MissReason, RequestBody, RequestKey, field_value},
    text::printable,
    url::{NormalizedUrl, UrlError, without_userinfo},
};

/// A request that nothing answers.
#[derive(Debug)]
pub struct Miss {
    /// The request's method.
    pub method: Method,
    /// The request's URL, without userinfo.
    pub url: String,
    /// Why.
    pub cause: Cause,
    near: Vec<Near>,
    details: Vec<String>,
}

/// Why a request is a miss.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// What it asks for is no http or https URL.
    #[error("this is no URL that can be recorded")]
    NotAUrl(#[source] UrlError),
    /// The inventory has no entry for it.
    #[error(transparent)]
    NotRecorded(#[from] MissReason),
}

impl Miss {
    /// A request for something that is no URL.
    pub fn not_a_url(method: &Method, uri: &Uri, error: UrlError) -> Self {
        let url = without_userinfo(&uri.to_string());
        Self { method: method.clone(), url, cause: Cause::NotAUrl(error), near: Vec::new(), details: Vec::new() }
    }

    /// A request that `index` refused for `reason`.
    pub fn not_recorded(index: &Index, asked: &RequestKey<'_>, reason: MissReason) -> Self {
        let near = if reason == MissReason::NoSuchUrl { nearest::nearest(index, asked.url) } else { Vec::new() };
        let mut details = details(asked, &reason);
        details.extend(near.iter().flat_map(|near| lines_about(index, asked.method, near)));
        let (method, url) = (asked.method.clone(), asked.url.to_string());
        Self { method, url, cause: reason.into(), near, details }
    }

    /// The recorded URL that comes nearest, where nothing was recorded for the one that was asked.
    pub fn nearest(&self) -> Option<&str> {
        self.near.first().map(|near| near.url.as_str())
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        let names = self.near.first().map_or_else(Vec::new, only_query_parameters);
        if !names.is_empty() {
            let names = names.iter().map(|name| format!("\"{}\"", printable(name))).collect::<Vec<_>>().join(", ");
            return format!(
                "where these parameters do not matter, add them to the inventory: `[match]`, `ignore-query = [{names}]`; \
                 else record this request: run `buildproxy capture` again"
            );
        }
        match self.cause {
            Cause::NotAUrl(_) => "only http and https are recorded and replayed".to_owned(),
            Cause::NotRecorded(_) => {
                "record it: run `buildproxy capture` again with the command that asks for this".to_owned()
            }
        }
    }
}

/// The text that the client gets.
impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "buildproxy: no recorded answer\n")?;
        writeln!(f, "  {} {}\n", printable(self.method.as_str()), printable(&self.url))?;
        writeln!(f, "{}{}", self.cause, if self.details.is_empty() { "." } else { ":" })?;
        for line in &self.details {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "\nhint: {}", self.hint())
    }
}

/// The names of the query parameters where nothing else differs.
fn only_query_parameters(near: &Near) -> Vec<&str> {
    let names = near.differences.iter().map(|difference| match difference {
        Difference::Query { name, .. } => Some(name.as_str()),
        _ => None,
    });
    names.collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// A nearby URL and what differs, a line each.
fn lines_about(index: &Index, asked: &Method, near: &Near) -> Vec<String> {
    let entry = index.entry(near.entry);
    let mut lines = vec![format!("nearest: {} {}", entry.method, printable(&near.url))];
    lines.extend(near.differences.iter().map(|difference| format!("  {difference}")));
    let stands_in = asked == Method::HEAD && entry.method == Method::GET;
    if entry.method != *asked && !stands_in && entry.redirects.is_empty() {
        lines.push(format!("  recorded with the method {}", entry.method));
    }
    lines
}

/// What the entries of this very URL are like.
fn details(asked: &RequestKey<'_>, reason: &MissReason) -> Vec<String> {
    match reason {
        MissReason::OtherBody { recorded } => recorded
            .iter()
            .map(|body| format!("recorded with {}, asked with {}", body_text((*body).into()), body_text(asked.body)))
            .collect(),
        MissReason::OtherVariant { recorded } => {
            recorded.iter().flat_map(|headers| variant_lines(headers, asked.headers)).collect()
        }
        MissReason::NoSuchUrl | MissReason::OtherMethod { .. } | MissReason::OtherSystem { .. } => Vec::new(),
    }
}

fn body_text(body: RequestBody) -> String {
    match body {
        RequestBody::Empty => "an empty body".to_owned(),
        RequestBody::Hash(hash) => format!("a body of hash {hash}"),
        RequestBody::Unhashed => "a body".to_owned(),
    }
}

/// The headers in which a recorded variant differs from what was asked.
fn variant_lines(recorded: &BTreeMap<String, String>, asked: &HeaderMap) -> Vec<String> {
    let value = |value: &str| printable(&format!("{value:?}"));
    recorded
        .iter()
        .map(|(name, recorded)| (name, recorded, field_value(asked, name)))
        .filter(|(_, recorded, asked)| recorded.trim() != asked)
        .map(|(name, recorded, asked)| {
            format!("{}: recorded with {}, asked with {}", printable(name), value(recorded), value(&asked))
        })
        .collect()
}

/// Parses a request target, which the proxy made absolute.
///
/// # Errors
/// Where it is no http or https URL.
pub fn asked_url(uri: &Uri) -> Result<NormalizedUrl, UrlError> {
    uri.to_string().parse()
}
