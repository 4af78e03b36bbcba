//! A conditional request gets the recorded answer, or a 206, 304, 412 or 416 that its own fields ask for.

#![no_main]

use buildproxy_fuzz::{
    inventory::Entry,
    replay::respond::{BodyPlan, respond},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use libfuzzer_sys::fuzz_target;

/// The fields that make a request conditional, by the letter that stands for them in a line of the input. `e`, `l` and `t`
/// are the ETag, the date and the status of the recorded answer.
const FIELDS: [(&str, HeaderName); 6] = [
    ("m", header::IF_MATCH),
    ("n", header::IF_NONE_MATCH),
    ("s", header::IF_MODIFIED_SINCE),
    ("u", header::IF_UNMODIFIED_SINCE),
    ("r", header::IF_RANGE),
    ("g", header::RANGE),
];

fuzz_target!(|text: &str| {
    let Ok(url) = "http://h.test/file".parse() else { return };
    let (mut entry, mut asked, size) = (Entry::get(url), HeaderMap::new(), 1000);
    for line in text.lines() {
        let Some((letter, value)) = line.split_once(' ') else { continue };
        match letter {
            "e" => drop(entry.headers.append("etag", value)),
            "l" => drop(entry.headers.append("last-modified", value)),
            "t" => entry.status = value.parse().unwrap_or(200).clamp(200, 599),
            _ => {
                let field = FIELDS.iter().find(|(known, _)| *known == letter);
                if let (Some((_, name)), Ok(value)) = (field, HeaderValue::from_str(value)) {
                    asked.append(name, value);
                }
            }
        }
    }
    check(&entry, &asked, size);
});

fn check(entry: &Entry, asked: &HeaderMap, size: u64) {
    let whole = respond(entry, size, &Method::GET, &HeaderMap::new());
    let plan = respond(entry, size, &Method::GET, asked);
    let status = plan.status;
    assert_eq!(whole.status.as_u16(), entry.status);
    assert!(plan.is_whole || matches!(status.as_u16(), 206 | 304 | 412 | 416), "{status}");
    assert!(!plan.is_whole || plan == whole, "an answer that is whole is the recorded one");
    assert!(plan.is_whole || entry.status / 100 == 2, "only of what was found: {} became {status}", entry.status);
    match status {
        _ if plan.is_whole => {}
        StatusCode::NOT_MODIFIED => {
            assert!(asked.contains_key(header::IF_NONE_MATCH) || asked.contains_key(header::IF_MODIFIED_SINCE));
            assert_eq!(plan.body, BodyPlan::None);
            let is_recorded = |(name, value): (&HeaderName, &HeaderValue)| {
                whole.headers.get_all(name).iter().any(|recorded| recorded == value)
            };
            assert!(plan.headers.iter().all(is_recorded), "{:?}", plan.headers);
        }
        StatusCode::PRECONDITION_FAILED => {
            assert!(asked.contains_key(header::IF_MATCH) || asked.contains_key(header::IF_UNMODIFIED_SINCE));
        }
        _ => assert!(asked.contains_key(header::RANGE), "{status}"),
    }
    let lengths = plan.headers.get_all(header::CONTENT_LENGTH).iter().count();
    assert!(lengths <= 1, "{:?}", plan.headers);

    // `HEAD` is told the same of conditions (RFC 9110 §13.2.1), and nothing of ranges (§14.2).
    let mut without_range = asked.clone();
    without_range.remove(header::RANGE);
    let get = respond(entry, size, &Method::GET, &without_range);
    let head = respond(entry, size, &Method::HEAD, asked);
    assert_eq!(head.status, get.status);
    assert!(head.body == BodyPlan::None || head.body == BodyPlan::Bytes(0..0), "{:?}", head.body);

    // A client that has the very answer keeps it, and may go on with it.
    let tag = entry.headers.get("etag").filter(|tag| entry.status == 200 && is_strong(tag));
    if let Some(tag) = tag.and_then(|tag| HeaderValue::from_str(tag).ok()) {
        let ask = |name| respond(entry, size, &Method::GET, &HeaderMap::from_iter([(name, tag.clone())])).status;
        assert_eq!(ask(header::IF_NONE_MATCH), StatusCode::NOT_MODIFIED, "{tag:?}");
        assert_eq!(ask(header::IF_MATCH), StatusCode::OK, "{tag:?}");
    }
}

/// Whether `tag` is one as RFC 9110 §8.8.3 writes it, without what would make it a list.
fn is_strong(tag: &str) -> bool {
    let opaque = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    opaque.is_some_and(|opaque| opaque.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',')))
}
