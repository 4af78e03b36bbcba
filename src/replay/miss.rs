//! The answer to a request that nothing answers: what was asked, why it is a miss, what comes nearest, what to do.

use std::{collections::BTreeMap, fmt};

use http::{HeaderMap, Method, Uri, uri::PathAndQuery};

use super::{
    nearest::{self, Near},
    suggestion::suggestion,
};
use crate::{
    credentials,
    inventory::{
        index::{Index, MissReason, RequestBody, RequestKey, field_value},
        request_body::BodyDigest,
    },
    text::printable,
    url::{NormalizedUrl, UrlError},
};

/// Differences that are shown of one URL.
const DIFFERENCES: usize = 6;

/// A request that nothing answers.
#[derive(Debug)]
pub struct Miss {
    /// The request's method.
    pub method: Method,
    /// The request's URL, without credentials.
    pub url: String,
    /// Why.
    pub cause: Cause,
    near: Vec<Near>,
    details: Vec<String>,
    suggestion: Option<String>,
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
        let url = credentials::hidden_in(&uri.to_string()).0;
        let (near, details) = (Vec::new(), Vec::new());
        Self { method: method.clone(), url, cause: Cause::NotAUrl(error), near, details, suggestion: None }
    }

    /// A request that `index` refused for `reason`.
    pub fn not_recorded(index: &Index, asked: &RequestKey<'_>, reason: MissReason) -> Self {
        let near = if reason == MissReason::NoSuchUrl { nearest::nearest(index, asked.url) } else { Vec::new() };
        let mut details = details(asked, &reason);
        details.extend(near.iter().flat_map(|near| lines_about(index, asked.method, near)));
        let suggestion = suggestion(index, asked, &reason, &near);
        let secrets = credentials::shown_in(asked.url);
        // Logs of builds are kept, and read by many.
        let hidden = |text: String| secrets.replaced_in(&text).unwrap_or(text);
        let whole = asked.url.to_string();
        let url = hidden(credentials::hidden_in(&whole).0);
        let details = details.into_iter().map(hidden).collect();
        let suggestion = suggestion.map(|text| hidden(text.replace(&whole, &url)));
        Self { method: asked.method.clone(), url, cause: reason.into(), near, details, suggestion }
    }

    /// The recorded URL that comes nearest, where nothing was recorded for the one that was asked.
    pub fn nearest(&self) -> Option<&str> {
        self.near.first().map(|near| near.url.as_str())
    }

    /// What differs from what was recorded, a line each.
    pub fn details(&self) -> &[String] {
        &self.details
    }

    /// What to paste into the inventory where this request is to be answered like the one that comes nearest: a rule
    /// or an entry.
    pub fn suggestion(&self) -> Option<&str> {
        self.suggestion.as_deref()
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        let only_parameters = self.near.first().is_some_and(|near| near.only_query_parameters().is_some());
        match (&self.cause, &self.suggestion) {
            (Cause::NotAUrl(_), _) => "only http and https are recorded and replayed",
            (Cause::NotRecorded(MissReason::NoSuchUrl), Some(_)) if only_parameters => {
                "where these parameters do not matter, put the rule below into the inventory's `[match]`; \
                 else record this request: run `buildproxy capture` again"
            }
            (Cause::NotRecorded(MissReason::NoSuchUrl), Some(_)) => {
                "where both URLs mean the same, put the rule below into the inventory's `[match]`; \
                 else record this request: run `buildproxy capture` again"
            }
            (Cause::NotRecorded(_), Some(_)) => {
                "record it: run `buildproxy capture` again with the command that asks for this; \
                 or, where the answer is the same, put the entry below into the inventory"
            }
            (Cause::NotRecorded(_), None) => {
                "record it: run `buildproxy capture` again with the command that asks for this"
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
        writeln!(f, "\nhint: {}", self.hint())?;
        self.suggestion.iter().try_for_each(|suggestion| write!(f, "\n{suggestion}"))
    }
}

/// A nearby URL and what differs, a line each.
fn lines_about(index: &Index, asked: &Method, near: &Near) -> Vec<String> {
    let entry = index.peek(near.entry);
    let mut lines = vec![format!("nearest: {} {}", entry.method, printable(&near.url))];
    lines.extend(near.differences.iter().take(DIFFERENCES).map(|difference| format!("  {difference}")));
    if near.differences.len() > DIFFERENCES {
        lines.push(format!("  and {} more differences", near.differences.len() - DIFFERENCES));
    }
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
            .map(|body| {
                format!("recorded with {}, asked with {}", recorded_body(body.as_ref()), asked_body(&asked.body))
            })
            .collect(),
        MissReason::OtherVariant { recorded } => {
            recorded.iter().flat_map(|headers| variant_lines(headers, asked.headers)).collect()
        }
        MissReason::NoSuchUrl | MissReason::OtherMethod { .. } | MissReason::OtherSystem { .. } => Vec::new(),
    }
}

fn recorded_body(body: Option<&BodyDigest>) -> String {
    body.map_or_else(|| "an empty body".to_owned(), |digest| format!("a body of hash {digest}"))
}

fn asked_body(body: &RequestBody) -> String {
    match body {
        RequestBody::Empty => recorded_body(None),
        RequestBody::Digests(digests) => {
            let digests: Vec<String> = digests.iter().map(ToString::to_string).collect();
            format!("a body of hash {}", digests.join(", "))
        }
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
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return uri.to_string().parse() };
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    // The same text as the formatter makes, which takes as long as all else together.
    [scheme, "://", authority.as_str(), path].concat().try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_url_of_ours_is_a_miss_that_says_so() {
        let asked = Uri::from_static("ftp://h/a");
        let miss = Miss::not_a_url(&Method::GET, &asked, "ftp://h/a".parse::<NormalizedUrl>().unwrap_err());
        assert_eq!(
            miss.to_string(),
            "buildproxy: no recorded answer\n\n  GET ftp://h/a\n\nthis is no URL that can be recorded.\n\nhint: only http and \
             https are recorded and replayed\n"
        );
    }
}
