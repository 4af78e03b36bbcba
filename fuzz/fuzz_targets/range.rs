//! Part of a body: which bytes a `Range` header selects, and the answer's head that says so. The input is the body's size
//! and the header, with a space between.

#![no_main]

use buildproxy_fuzz::{
    inventory::Entry,
    range::{Selection, select},
    replay::respond::{BodyPlan, ResponsePlan, respond},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Some((size, field)) = text.split_once(' ') else { return };
    // An inventory has no larger sizes than TOML has numbers.
    let (Ok(size), Ok(field)) = (size.parse().map(i64::unsigned_abs), field.parse()) else { return };
    let headers = HeaderMap::from_iter([(header::RANGE, field)]);
    let selection = select(&headers, size);
    match &selection {
        Selection::Whole | Selection::Unsatisfiable => {}
        Selection::One(range) => assert!(!range.is_empty() && range.end <= size, "{range:?} of {size}"),
        Selection::Many(ranges) => {
            assert!((2..=256).contains(&ranges.len()), "{} ranges", ranges.len());
            assert!(ranges.iter().all(|range| !range.is_empty() && range.end <= size), "{ranges:?} of {size}");
            let sum: u128 = ranges.iter().map(|range| u128::from(range.end - range.start)).sum();
            assert!(sum <= u128::from(size), "{ranges:?} are more than the whole of {size}");
        }
    }
    let Ok(url) = "http://h.test/file".parse() else { return };
    check(&respond(&Entry::get(url), size, &Method::GET, &headers), &selection, size);
});

fn check(plan: &ResponsePlan, selection: &Selection, size: u64) {
    let text = |name| plan.headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default().to_owned());
    let content_range = text(header::CONTENT_RANGE);
    let length = match &plan.body {
        BodyPlan::None => 0,
        BodyPlan::Bytes(range) => range.end - range.start,
        BodyPlan::Multipart { parts, end } => {
            let bytes = parts.iter().map(|(_, range)| range.end - range.start).sum::<u64>();
            bytes + (parts.iter().map(|(head, _)| head.len()).sum::<usize>() + end.len()) as u64
        }
    };
    assert_eq!(text(header::CONTENT_LENGTH), Some(length.to_string()));
    match selection {
        Selection::Whole => {
            assert_eq!((plan.status, content_range), (StatusCode::OK, None));
            assert_eq!(plan.body, BodyPlan::Bytes(0..size));
        }
        Selection::Unsatisfiable => {
            assert_eq!(plan.status, StatusCode::RANGE_NOT_SATISFIABLE);
            assert_eq!(content_range, Some(format!("bytes */{size}")));
        }
        Selection::One(range) => {
            assert_eq!(plan.status, StatusCode::PARTIAL_CONTENT);
            assert_eq!(content_range, Some(format!("bytes {}-{}/{size}", range.start, range.end - 1)));
            assert_eq!(plan.body, BodyPlan::Bytes(range.clone()));
        }
        Selection::Many(ranges) => {
            assert_eq!((plan.status, content_range), (StatusCode::PARTIAL_CONTENT, None));
            let BodyPlan::Multipart { parts, .. } = &plan.body else { panic!("no multipart: {plan:?}") };
            assert_eq!(&parts.iter().map(|(_, range)| range.clone()).collect::<Vec<_>>(), ranges);
        }
    }
}
