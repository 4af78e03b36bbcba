//! The `Range` request header (RFC 9110 §14): which bytes of a body a client asks for.

use std::ops::Range;

use http::{HeaderMap, HeaderValue, header::RANGE};

/// Ranges that one request can have. More are no download but an attack or a mistake, and are answered with the whole
/// (RFC 9110 §14.2). The block-wise downloaders (zsync, zchunk) stay below.
const MAX_RANGES: usize = 256;

/// Bytes that a request's `Range` header selects of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// No header, one that RFC 9110 lets a server ignore, or so many bytes that the whole is no more.
    Whole,
    /// Nothing of it lies within the body: 416.
    Unsatisfiable,
    /// One range, never empty.
    One(Range<u64>),
    /// At least two ranges in the order asked for, none of them empty: `multipart/byteranges`.
    Many(Vec<Range<u64>>),
}

/// Reads the `Range` header for a body of `size` bytes.
pub fn select(headers: &HeaderMap, size: u64) -> Selection {
    let mut fields = headers.get_all(RANGE).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return Selection::Whole;
    };
    let Some(asked) = parse(field) else {
        return Selection::Whole;
    };
    let mut ranges: Vec<Range<u64>> = asked.iter().filter_map(|spec| spec.within(size)).collect();
    let total = ranges.iter().fold(0u64, |sum, range| sum.saturating_add(range.end - range.start));
    match ranges.len() {
        // An empty body has no first byte to refuse (RFC 9110 §14.1.2 and §14.2), and clients ask every file so.
        0 if size == 0 && asked.iter().any(Spec::takes_the_start) => Selection::Whole,
        0 => Selection::Unsatisfiable,
        1 => Selection::One(ranges.remove(0)),
        _ if total > size => Selection::Whole,
        _ => Selection::Many(ranges),
    }
}

/// One range as written. Numbers too large for `u64` lie beyond the end of any body.
#[derive(Debug, Clone, Copy)]
enum Spec {
    /// `first-last`, or `first-` with no last.
    From(u64, Option<u64>),
    /// `-length`.
    Last(u64),
}

impl Spec {
    fn takes_the_start(&self) -> bool {
        matches!(self, Self::From(0, _) | Self::Last(_))
    }

    /// The bytes of it that a body of `size` has.
    fn within(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(first, last) => first..last.map_or(size, |last| last.saturating_add(1).min(size)),
            Self::Last(length) => size.saturating_sub(length)..size,
        };
        (!range.is_empty()).then_some(range)
    }
}

/// `None` is a header to ignore: another unit, a syntax error, a last byte before the first, too many ranges.
fn parse(field: &HeaderValue) -> Option<Vec<Spec>> {
    let (unit, set) = field.to_str().ok()?.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    // RFC 9110 §5.6.1.2: empty list elements are skipped.
    let specs = set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty());
    let specs: Vec<Spec> = specs.take(MAX_RANGES + 1).map(parse_one).collect::<Option<_>>()?;
    (1..=MAX_RANGES).contains(&specs.len()).then_some(specs)
}

fn parse_one(spec: &str) -> Option<Spec> {
    let (first, last) = spec.split_once('-')?;
    match (first, last) {
        ("", length) => Some(Spec::Last(number(length)?)),
        (first, "") => Some(Spec::From(number(first)?, None)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Spec::From(first, Some(last)))
        }
    }
}

fn number(digits: &str) -> Option<u64> {
    let valid = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    valid.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select_in(size: u64, field: &str) -> Selection {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, field.parse().unwrap());
        select(&headers, size)
    }

    #[test]
    fn single_ranges() {
        for (size, field, expected) in [
            (100, "bytes=0-0", 0..1),
            (100, "bytes=0-99", 0..100),
            (100, "bytes=0-", 0..100),
            (100, "bytes=99-", 99..100),
            (100, "bytes=50-1000", 50..100),
            (100, "bytes=-1", 99..100),
            (100, "bytes=-100", 0..100),
            (100, "bytes=-1000", 0..100),
            (100, "BYTES= 5-9", 5..10),
            (100, "bytes=,, 5-9 ,", 5..10),
            (100, "bytes=5-99999999999999999999999", 5..100),
            (100, "bytes=-99999999999999999999999", 0..100),
            (100, "bytes=5-9,200-300", 5..10),
            (u64::MAX, "bytes=0-18446744073709551615", 0..u64::MAX),
        ] {
            assert_eq!(select_in(size, field), Selection::One(expected), "{field} of {size}");
        }
    }

    #[test]
    fn several_ranges_keep_their_order() {
        for (field, expected) in [
            ("bytes=0-0,-1", vec![0..1, 99..100]),
            ("bytes=50-59, 10-19 ,\t0-4", vec![50..60, 10..20, 0..5]),
            ("bytes=0-9,5-14", vec![0..10, 5..15]),
            ("bytes=0-9,100-,90-", vec![0..10, 90..100]),
        ] {
            assert_eq!(select_in(100, field), Selection::Many(expected), "{field}");
        }
    }

    #[test]
    fn ranges_beyond_the_end_are_unsatisfiable() {
        for (size, field) in [
            (100, "bytes=100-"),
            (100, "bytes=100-200"),
            (100, "bytes=-0"),
            (100, "bytes=200-300,400-"),
            (100, "bytes=99999999999999999999999-"),
            (0, "bytes=1-"),
            (0, "bytes=1-5,7-"),
        ] {
            assert_eq!(select_in(size, field), Selection::Unsatisfiable, "{field} of {size}");
        }
    }

    #[test]
    fn the_start_of_an_empty_body_is_its_whole() {
        for field in ["bytes=0-", "bytes=0-0", "bytes=-5", "bytes=1-,0-"] {
            assert_eq!(select_in(0, field), Selection::Whole, "{field}");
        }
    }

    #[test]
    fn what_rfc_9110_lets_a_server_ignore_is_answered_with_the_whole() {
        let many = format!("bytes={}", vec!["0-0"; MAX_RANGES + 1].join(","));
        for field in [
            "bytes=9-5",
            "bytes=0-4,9-5",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=+1-2",
            "bytes=1-2-3",
            "bytes 0-1",
            "bytes =0-1",
            "items=0-1",
            "0-1",
            "bytes=0-,0-",
            "bytes=0-59,20-79,0-1",
            &many,
        ] {
            assert_eq!(select_in(100, field), Selection::Whole, "{field}");
        }
        let mut twice = HeaderMap::new();
        twice.append(RANGE, "bytes=0-1".parse().unwrap());
        twice.append(RANGE, "bytes=2-3".parse().unwrap());
        assert_eq!(select(&twice, 100), Selection::Whole);
        assert_eq!(select(&HeaderMap::new(), 100), Selection::Whole);
    }

    proptest::proptest! {
        #[test]
        fn no_header_selects_bytes_that_are_not_there(size in 0..1000u64, field in "bytes=[0-9,-]{0,20}") {
            let ranges = match select_in(size, &field) {
                Selection::One(range) => vec![range],
                Selection::Many(ranges) => {
                    proptest::prop_assert!(ranges.len() > 1);
                    ranges
                }
                Selection::Whole | Selection::Unsatisfiable => vec![],
            };
            proptest::prop_assert!(ranges.iter().all(|range| !range.is_empty() && range.end <= size));
            proptest::prop_assert!(ranges.iter().map(|range| range.end - range.start).sum::<u64>() <= size);
        }
    }
}
