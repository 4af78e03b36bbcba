//! What a client that asked for less gets of a whole answer.
//!
//! Origins are asked for the whole representation, without conditions. So a client's `Range` and its preconditions are
//! evaluated here, by the rules that replay has for recorded answers.

use std::ops::Range;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::replay::{
    conditional::{self, Outcome},
    range::{self, Selection},
};

/// What a client gets of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Share {
    /// All of it.
    Whole,
    /// These bytes of a body whose size is known: 206.
    Part(Range<u64>),
    /// A head with this status alone: 304, 412 or 416.
    Head(StatusCode),
}

/// Decides what of an answer with `status` and `answer` fields goes to a client that sent `method` and `asked`
/// (RFC 9110 §13.2.2, §14.2). Several ranges, and ranges of a body whose size is not known, get the whole: a server may
/// ignore the field.
pub fn of(method: &Method, asked: &HeaderMap, status: StatusCode, answer: &HeaderMap) -> Share {
    if !matches!(*method, Method::GET | Method::HEAD) || !status.is_success() {
        return Share::Whole;
    }
    match conditional::evaluate(asked, answer) {
        Outcome::NotModified => return Share::Head(StatusCode::NOT_MODIFIED),
        Outcome::PreconditionFailed => return Share::Head(StatusCode::PRECONDITION_FAILED),
        Outcome::Proceed => {}
    }
    let is_ranged = *method == Method::GET && status == StatusCode::OK && conditional::allows_range(asked, answer);
    let Some(size) = content_length(answer).filter(|_| is_ranged) else {
        return Share::Whole;
    };
    match range::select(asked, size) {
        Selection::One(range) => Share::Part(range),
        Selection::Unsatisfiable => Share::Head(StatusCode::RANGE_NOT_SATISFIABLE),
        Selection::Whole | Selection::Many(_) => Share::Whole,
    }
}

impl Share {
    /// The head that goes with it, made from that of the whole answer.
    pub fn head(&self, status: StatusCode, whole: &HeaderMap) -> (StatusCode, HeaderMap) {
        let mut headers = whole.clone();
        let size = content_length(whole).unwrap_or(0);
        let mut set = |name, text: String| {
            // Digits and fixed words: always a field value.
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(name, value);
            }
        };
        match self {
            Self::Whole => (status, headers),
            Self::Part(range) => {
                set(header::CONTENT_RANGE, format!("bytes {}-{}/{size}", range.start, range.end - 1));
                set(header::CONTENT_LENGTH, (range.end - range.start).to_string());
                (StatusCode::PARTIAL_CONTENT, headers)
            }
            Self::Head(status) => {
                if *status == StatusCode::RANGE_NOT_SATISFIABLE {
                    set(header::CONTENT_RANGE, format!("bytes */{size}"));
                }
                headers.remove(header::CONTENT_LENGTH);
                (*status, headers)
            }
        }
    }

    /// What of `data`, which starts at byte `position` of the body, goes to the client.
    pub fn select(&self, position: u64, length: usize) -> Range<usize> {
        let within = |byte: u64| usize::try_from(byte.saturating_sub(position)).map_or(length, |at| at.min(length));
        match self {
            Self::Whole => 0..length,
            Self::Part(range) => within(range.start)..within(range.end),
            Self::Head(_) => 0..0,
        }
    }
}

/// The number of bytes that the answer announces.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(header::HeaderName, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn ranges_and_conditions_are_answered_from_the_whole() {
        let answer = map(&[(header::CONTENT_LENGTH, "100"), (header::ETAG, "\"x\"")]);
        let share = |fields: &[_]| of(&Method::GET, &map(fields), StatusCode::OK, &answer);
        assert_eq!(share(&[]), Share::Whole);
        assert_eq!(share(&[(header::RANGE, "bytes=10-19")]), Share::Part(10..20));
        assert_eq!(share(&[(header::RANGE, "bytes=0-0,5-6")]), Share::Whole);
        assert_eq!(share(&[(header::RANGE, "bytes=100-")]), Share::Head(StatusCode::RANGE_NOT_SATISFIABLE));
        assert_eq!(share(&[(header::IF_NONE_MATCH, "\"x\"")]), Share::Head(StatusCode::NOT_MODIFIED));
        assert_eq!(share(&[(header::RANGE, "bytes=1-2"), (header::IF_RANGE, "\"y\"")]), Share::Whole);
        let unknown = of(&Method::GET, &map(&[(header::RANGE, "bytes=1-2")]), StatusCode::OK, &HeaderMap::new());
        assert_eq!(unknown, Share::Whole);
    }

    #[test]
    fn a_part_is_cut_out_of_the_chunks_as_they_pass() {
        let part = Share::Part(10..20);
        assert_eq!(part.select(0, 8), 8..8);
        assert_eq!(part.select(8, 8), 2..8);
        assert_eq!(part.select(16, 8), 0..4);
        assert_eq!(part.select(24, 8), 0..0);
        assert_eq!(part.select(0, 100), 10..20);
    }

    #[test]
    fn the_head_of_a_part_says_which() {
        let whole = map(&[(header::CONTENT_LENGTH, "100")]);
        let (status, headers) = Share::Part(10..20).head(StatusCode::OK, &whole);
        assert_eq!(status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(
            (&headers["content-range"], &headers["content-length"]),
            (&"bytes 10-19/100".parse().unwrap(), &"10".parse().unwrap())
        );
    }
}
