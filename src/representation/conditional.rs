//! Conditional requests (RFC 9110 §13), evaluated against the validators of a representation.
//!
//! An entity tag is compared as it was recorded, even where the origin left out its quotes. `Last-Modified` counts as a
//! strong validator: a recorded answer never changes (RFC 9110 §8.8.2.2). Without a recorded validator nothing is
//! invented, so lists of entity tags match nothing and dates are ignored.

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, header};

/// What a conditional request comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answer as if there were no condition.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
}

/// Evaluates the preconditions of a `GET` or `HEAD` whose unconditional answer is 2xx with the headers `recorded`, in
/// the order of RFC 9110 §13.2.2.
pub fn evaluate(request: &HeaderMap, recorded: &HeaderMap) -> Outcome {
    let etag = entity_tag(recorded);
    // Steps 1 and 2.
    let if_match = listed(request, header::IF_MATCH, |tag| etag.is_some_and(|etag| tag.equals_strongly(etag)));
    let if_unmodified_since = || since(request, recorded, header::IF_UNMODIFIED_SINCE).map(|modified| !modified);
    if if_match.or_else(if_unmodified_since) == Some(false) {
        return Outcome::PreconditionFailed;
    }
    // Steps 3 and 4.
    let if_none_match = listed(request, header::IF_NONE_MATCH, |tag| etag.is_some_and(|etag| tag.equals_weakly(etag)));
    let if_modified_since = || since(request, recorded, header::IF_MODIFIED_SINCE);
    if if_none_match.map(|matched| !matched).or_else(if_modified_since) == Some(false) {
        return Outcome::NotModified;
    }
    Outcome::Proceed
}

/// Step 5: whether `If-Range` lets `Range` count (RFC 9110 §13.1.5). Without the header it does.
pub fn allows_range(request: &HeaderMap, recorded: &HeaderMap) -> bool {
    let mut fields = request.get_all(header::IF_RANGE).iter();
    let (field, more) = (fields.next(), fields.next());
    let Some(text) = field else { return true };
    let Some(text) = text.to_str().ok().filter(|_| more.is_none()) else { return false };
    match httpdate::parse_http_date(text.trim()) {
        Ok(date) => recorded_date(recorded) == Some(date),
        Err(_) => entity_tag(recorded).is_some_and(|etag| EntityTag::of(text.as_bytes()).equals_strongly(etag)),
    }
}

/// An entity tag (RFC 9110 §8.8.3): the opaque part with its quotes.
#[derive(Debug, Clone, Copy)]
struct EntityTag<'a> {
    weak: bool,
    opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    fn of(field: &'a [u8]) -> Self {
        let field = field.trim_ascii();
        match field.strip_prefix(b"W/") {
            Some(opaque) => Self { weak: true, opaque },
            None => Self { weak: false, opaque: field },
        }
    }

    /// RFC 9110 §8.8.3.2.
    fn equals_strongly(self, other: Self) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }

    /// RFC 9110 §8.8.3.2.
    fn equals_weakly(self, other: Self) -> bool {
        self.opaque == other.opaque
    }
}

fn entity_tag(headers: &HeaderMap) -> Option<EntityTag<'_>> {
    headers.get(header::ETAG).map(|field| EntityTag::of(field.as_bytes()))
}

/// Whether a list of entity tags has one that `matches`, or is `*`; `None` without the header.
fn listed(request: &HeaderMap, name: HeaderName, matches: impl Fn(EntityTag<'_>) -> bool) -> Option<bool> {
    let mut fields = request.get_all(name).iter().peekable();
    fields.peek()?;
    Some(fields.any(|field| {
        let field = field.as_bytes();
        field.trim_ascii() == b"*" || Tags(field).any(&matches)
    }))
}

/// The entity tags of a list; a comma within quotes separates nothing.
struct Tags<'a>(&'a [u8]);

impl<'a> Iterator for Tags<'a> {
    type Item = EntityTag<'a>;

    fn next(&mut self) -> Option<EntityTag<'a>> {
        let start = self.0.iter().position(|byte| !matches!(byte, b',' | b' ' | b'\t'))?;
        let rest = &self.0[start..];
        let mut quoted = false;
        let end = rest.iter().position(|&byte| {
            quoted ^= byte == b'"';
            byte == b',' && !quoted
        });
        let (tag, rest) = rest.split_at(end.unwrap_or(rest.len()));
        self.0 = rest;
        Some(EntityTag::of(tag))
    }
}

/// Whether the answer was modified after the date in the header `name`. `None` where the header is absent or no date,
/// or where no modification date was recorded: then the condition is ignored.
fn since(request: &HeaderMap, recorded: &HeaderMap, name: HeaderName) -> Option<bool> {
    let mut fields = request.get_all(name).iter();
    let (field, None) = (fields.next()?, fields.next()) else { return None };
    let date = httpdate::parse_http_date(field.to_str().ok()?.trim()).ok()?;
    Some(recorded_date(recorded)? > date)
}

fn recorded_date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(header::LAST_MODIFIED)?.to_str().ok()?.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::{Outcome::*, *};

    const BEFORE: &str = "Mon, 01 Jan 2024 00:00:00 GMT";
    const DATE: &str = "Tue, 02 Jan 2024 00:00:00 GMT";
    const DATE_RFC_850: &str = "Tuesday, 02-Jan-24 00:00:00 GMT";
    const AFTER: &str = "Wed, 03 Jan 2024 00:00:00 GMT";

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn preconditions_come_to_what_rfc_9110_says() {
        let both = [("etag", r#""a""#), ("last-modified", DATE)];
        let weak = [("etag", r#"W/"a""#)];
        let dated = [("last-modified", DATE)];
        let bare = [("etag", "a-b")];
        let comma = [("etag", r#""a,b""#)];
        type Fields<'a> = &'a [(&'static str, &'a str)];
        let table: &[(Fields<'_>, Fields<'_>, Outcome)] = &[
            // Nothing asked.
            (&both, &[], Proceed),
            (&[], &[], Proceed),
            // If-Match: strong comparison.
            (&both, &[("if-match", r#""a""#)], Proceed),
            (&both, &[("if-match", "*")], Proceed),
            (&both, &[("if-match", r#""x", "a""#)], Proceed),
            (&both, &[("if-match", r#""x""#), ("if-match", r#""a""#)], Proceed),
            (&both, &[("if-match", r#""x""#)], PreconditionFailed),
            (&both, &[("if-match", r#"W/"a""#)], PreconditionFailed),
            (&weak, &[("if-match", r#"W/"a""#)], PreconditionFailed),
            (&weak, &[("if-match", r#""a""#)], PreconditionFailed),
            (&dated, &[("if-match", r#""a""#)], PreconditionFailed),
            (&dated, &[("if-match", "*")], Proceed),
            // If-Unmodified-Since, and only without If-Match.
            (&both, &[("if-unmodified-since", DATE)], Proceed),
            (&both, &[("if-unmodified-since", AFTER)], Proceed),
            (&both, &[("if-unmodified-since", BEFORE)], PreconditionFailed),
            (&both, &[("if-unmodified-since", BEFORE), ("if-match", r#""a""#)], Proceed),
            (&both, &[("if-unmodified-since", "yesterday")], Proceed),
            (&weak, &[("if-unmodified-since", BEFORE)], Proceed),
            // If-None-Match: weak comparison, lists, commas in quotes, tags without quotes.
            (&both, &[("if-none-match", r#""a""#)], NotModified),
            (&both, &[("if-none-match", r#"W/"a""#)], NotModified),
            (&weak, &[("if-none-match", r#""a""#)], NotModified),
            (&both, &[("if-none-match", "*")], NotModified),
            (&[], &[("if-none-match", "*")], NotModified),
            (&both, &[("if-none-match", r#""x" ,, W/"a""#)], NotModified),
            (&both, &[("if-none-match", r#""x""#), ("if-none-match", r#""a""#)], NotModified),
            (&both, &[("if-none-match", r#""x""#)], Proceed),
            (&both, &[("if-none-match", "a")], Proceed),
            (&both, &[("if-none-match", "")], Proceed),
            (&dated, &[("if-none-match", r#""a""#)], Proceed),
            (&comma, &[("if-none-match", r#""x", "a,b""#)], NotModified),
            (&comma, &[("if-none-match", r#""a"#)], Proceed),
            (&bare, &[("if-none-match", "a-b")], NotModified),
            (&bare, &[("if-none-match", r#""a-b""#)], Proceed),
            // If-Modified-Since, and only without If-None-Match.
            (&both, &[("if-modified-since", DATE)], NotModified),
            (&both, &[("if-modified-since", DATE_RFC_850)], NotModified),
            (&both, &[("if-modified-since", AFTER)], NotModified),
            (&both, &[("if-modified-since", BEFORE)], Proceed),
            (&both, &[("if-modified-since", "0")], Proceed),
            (&both, &[("if-modified-since", DATE), ("if-modified-since", DATE)], Proceed),
            (&weak, &[("if-modified-since", AFTER)], Proceed),
            (&both, &[("if-modified-since", AFTER), ("if-none-match", r#""x""#)], Proceed),
            (&both, &[("if-modified-since", BEFORE), ("if-none-match", r#""a""#)], NotModified),
            // The order: a failed If-Match decides before anything else.
            (&both, &[("if-match", r#""x""#), ("if-none-match", r#""a""#)], PreconditionFailed),
            (&both, &[("if-match", r#""a""#), ("if-none-match", r#""a""#)], NotModified),
            (&both, &[("if-unmodified-since", BEFORE), ("if-modified-since", AFTER)], PreconditionFailed),
            (&both, &[("if-unmodified-since", DATE), ("if-modified-since", DATE)], NotModified),
        ];
        for (recorded, request, expected) in table {
            assert_eq!(evaluate(&map(request), &map(recorded)), *expected, "{request:?} of {recorded:?}");
        }
    }

    #[test]
    fn if_range_compares_strongly() {
        let both = map(&[("etag", r#""a""#), ("last-modified", DATE)]);
        let weak = map(&[("etag", r#"W/"a""#)]);
        for (recorded, if_range, expected) in [
            (&both, r#""a""#, true),
            (&both, r#""x""#, false),
            (&both, r#"W/"a""#, false),
            (&weak, r#"W/"a""#, false),
            (&both, DATE, true),
            (&both, DATE_RFC_850, true),
            (&both, BEFORE, false),
            (&both, AFTER, false),
            (&weak, DATE, false),
            (&weak, "nonsense", false),
        ] {
            assert_eq!(allows_range(&map(&[("if-range", if_range)]), recorded), expected, "{if_range} of {recorded:?}");
        }
        assert!(allows_range(&HeaderMap::new(), &HeaderMap::new()));
        assert!(!allows_range(&map(&[("if-range", r#""a""#), ("if-range", r#""a""#)]), &both));
    }
}
