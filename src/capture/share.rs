//! What a client that asked for less gets of a whole answer.
//!
//! Origins are asked for the whole representation, without conditions. So a client's `Range` and its preconditions are
//! evaluated here, by the rules that replay has for recorded answers.

use std::ops::Range;

use http::{HeaderMap, Method, StatusCode, header};

use crate::{
    representation::{BodyPlan, Partial, Representation},
    url::NormalizedUrl,
};

/// What a client gets of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Share {
    /// All of it.
    Whole,
    /// These bytes of a body whose size is known, and another head.
    Part(Range<u64>, Partial),
}

/// Decides what of an answer with `status` and `answer` fields goes to a client that sent `method` and `asked`. Several
/// ranges get the whole: a server may ignore the field (RFC 9110 §14.2).
pub fn of(url: &NormalizedUrl, method: &Method, asked: &HeaderMap, status: StatusCode, answer: &HeaderMap) -> Share {
    let representation = Representation { url, status, headers: answer, size: content_length(answer) };
    match representation.partial(method, asked) {
        None | Some(Partial { body: BodyPlan::Multipart { .. }, .. }) => Share::Whole,
        Some(partial) => {
            let range = if let BodyPlan::Bytes(range) = &partial.body { range.clone() } else { 0..0 };
            Share::Part(range, partial)
        }
    }
}

impl Share {
    /// The head that goes with it, made from that of the whole answer.
    pub fn head(&self, status: StatusCode, whole: &HeaderMap) -> (StatusCode, HeaderMap) {
        match self {
            Self::Whole => (status, whole.clone()),
            Self::Part(_, partial) => (partial.status, partial.headers.clone()),
        }
    }

    /// What of `data`, which starts at byte `position` of the body, goes to the client.
    pub fn select(&self, position: u64, length: usize) -> Range<usize> {
        let within = |byte: u64| usize::try_from(byte.saturating_sub(position)).map_or(length, |at| at.min(length));
        match self {
            Self::Whole => 0..length,
            Self::Part(range, _) => within(range.start)..within(range.end),
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

    #[test]
    fn a_part_is_cut_out_of_the_chunks_as_they_pass() {
        let (mut asked, mut answer) = (HeaderMap::new(), HeaderMap::new());
        asked.insert(header::RANGE, "bytes=10-19".parse().unwrap());
        answer.insert(header::CONTENT_LENGTH, "100".parse().unwrap());
        let part = of(&"http://h/a".parse().unwrap(), &Method::GET, &asked, StatusCode::OK, &answer);
        assert_eq!(part.select(0, 8), 8..8);
        assert_eq!(part.select(8, 8), 2..8);
        assert_eq!(part.select(16, 8), 0..4);
        assert_eq!(part.select(24, 8), 0..0);
        assert_eq!(part.select(0, 100), 10..20);
    }
}
