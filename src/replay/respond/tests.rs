use std::ops::Range;

use super::*;
use crate::{inventory::Source, store::hash::NixHash};

const SIZE: u64 = 1000;
const DATE: &str = "Tue, 02 Jan 2024 00:00:00 GMT";

fn entry(status: u16, headers: &[(&str, &str)]) -> Entry {
    let mut entry = Entry { status, ..Entry::get("http://h/a".parse().unwrap()) };
    for (name, value) in headers {
        entry.headers.append(name, value).unwrap();
    }
    let hash = Some(NixHash::sha256(b""));
    entry.body = Some(Body { hash, size: Some(SIZE), name: None, source: Source::Fetch(None) });
    entry
}

fn recorded() -> Entry {
    let headers = [
        ("accept-ranges", "bytes"),
        ("cache-control", "max-age=60"),
        ("content-digest", "sha-256=:x:"),
        ("content-type", "application/gzip"),
        ("etag", r#""a""#),
        ("last-modified", DATE),
        ("vary", "accept"),
        ("x-custom", "1"),
        ("x-custom", "2"),
    ];
    entry(200, &headers)
}

fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, value.parse().unwrap());
    }
    map
}

fn ask(entry: &Entry, method: Method, request: &[(&'static str, &str)]) -> ResponsePlan {
    respond(entry, SIZE, &method, &map(request))
}

/// Names and values in order of name.
fn fields(plan: &ResponsePlan) -> Vec<String> {
    let mut fields: Vec<String> =
        plan.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    fields.sort();
    fields
}

#[test]
fn a_get_gets_what_was_recorded_and_the_length() {
    let plan = ask(&recorded(), Method::GET, &[]);
    assert_eq!((plan.status, plan.body.clone(), plan.is_whole), (StatusCode::OK, BodyPlan::Bytes(0..SIZE), true));
    let mut expected: Vec<String> = recorded()
        .headers
        .iter()
        .flat_map(|(name, values)| values.into_iter().map(move |value| format!("{name}: {value}")))
        .collect();
    expected.push("content-length: 1000".to_owned());
    expected.sort();
    assert_eq!(fields(&plan), expected);
}

#[test]
fn a_head_gets_the_same_fields_and_no_bytes() {
    let (head, get) = (ask(&recorded(), Method::HEAD, &[]), ask(&recorded(), Method::GET, &[]));
    assert_eq!((fields(&head), head.status), (fields(&get), get.status));
    assert_eq!((head.body, head.is_whole), (BodyPlan::None, false));
    let ranged = ask(&recorded(), Method::HEAD, &[("range", "bytes=0-1")]);
    assert_eq!((ranged.status, fields(&ranged)), (StatusCode::OK, fields(&get)));
}

#[test]
fn a_recorded_head_keeps_the_length_that_it_was_told_or_none() {
    let told = Entry { method: Method::HEAD, body: None, ..entry(200, &[("content-length", "77")]) };
    assert_eq!(fields(&respond(&told, 0, &Method::HEAD, &HeaderMap::new())), ["content-length: 77"]);
    let untold = Entry { method: Method::HEAD, body: None, ..entry(200, &[]) };
    assert!(fields(&respond(&untold, 0, &Method::HEAD, &HeaderMap::new())).is_empty());
}

#[test]
fn a_recorded_length_or_framing_of_another_answer_is_not_believed() {
    let entry = entry(200, &[("content-length", "5"), ("transfer-encoding", "chunked"), ("connection", "close")]);
    assert_eq!(fields(&ask(&entry, Method::GET, &[])), ["content-length: 1000"]);
}

#[test]
fn statuses_without_content_have_neither_bytes_nor_length() {
    for status in [204, 304] {
        let plan = ask(&entry(status, &[("content-length", "5"), ("x", "1")]), Method::GET, &[]);
        assert_eq!((plan.status.as_u16(), &plan.body), (status, &BodyPlan::None));
        assert_eq!(fields(&plan), ["x: 1"]);
        assert!(plan.is_whole);
    }
}

#[test]
fn errors_are_answered_with_their_bodies_whatever_was_asked() {
    let conditions = [("range", "bytes=0-1"), ("if-none-match", "*"), ("if-match", r#""x""#)];
    for status in [301, 404, 410, 500] {
        let plan = ask(&entry(status, &[("etag", r#""a""#)]), Method::GET, &conditions);
        assert_eq!((plan.status.as_u16(), plan.body), (status, BodyPlan::Bytes(0..SIZE)));
    }
    assert_eq!(ask(&entry(101, &[]), Method::GET, &[]).status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(ask(&entry(7, &[]), Method::GET, &[]).status, StatusCode::INTERNAL_SERVER_ERROR);
}

#[test]
fn who_asks_for_less_gets_less_and_the_recorded_answer_is_not_used_up() {
    let asked: [(&[_], u16, BodyPlan); 4] = [
        (&[("if-none-match", r#""a""#)], 304, BodyPlan::None),
        (&[("if-match", r#""x""#)], 412, BodyPlan::Bytes(0..0)),
        (&[("range", "bytes=10-19")], 206, BodyPlan::Bytes(10..20)),
        (&[("range", "bytes=1000-")], 416, BodyPlan::Bytes(0..0)),
    ];
    for (fields, status, body) in asked {
        let plan = ask(&recorded(), Method::GET, fields);
        assert_eq!((plan.status.as_u16(), plan.body, plan.is_whole), (status, body, false), "{fields:?}");
    }
    let plan = ask(&recorded(), Method::GET, &[("range", "bytes=0-0,-2")]);
    assert!(matches!(plan.body, BodyPlan::Multipart { .. }) && !plan.is_whole, "{plan:?}");
}

#[test]
fn preconditions_of_a_post_are_not_evaluated() {
    let post = Entry { method: Method::POST, ..recorded() };
    let plan = ask(&post, Method::POST, &[("if-none-match", r#""a""#), ("range", "bytes=0-1")]);
    assert_eq!((plan.status, plan.body), (StatusCode::OK, BodyPlan::Bytes(0..SIZE)));
}

#[test]
fn a_replaced_body_loses_what_was_said_about_the_old_bytes() {
    let stale =
        [("etag", r#""a""#), ("last-modified", DATE), ("digest", "x"), ("x-checksum-sha1", "x"), ("content-md5", "x")];
    let kept = [("content-type", "text/plain"), ("x-check", "1")];
    let pinned = entry(200, &[&stale[..], &kept[..]].concat());
    assert_eq!(ask(&pinned, Method::GET, &[]).headers.len(), 8);
    for (hash, size) in [(None, None), (None, Some(SIZE)), (pinned.body.as_ref().unwrap().hash, None)] {
        let mut replaced = pinned.clone();
        let body = replaced.body.as_mut().unwrap();
        (body.hash, body.size) = (hash, size);
        let plan = ask(&replaced, Method::GET, &[("if-none-match", r#""a""#)]);
        assert_eq!(plan.status, StatusCode::OK);
        assert_eq!(fields(&plan), ["content-length: 1000", "content-type: text/plain", "x-check: 1"]);
    }
}

#[test]
fn a_redirect_has_its_location_as_recorded_and_no_bytes() {
    let mut hop = Hop { status: 307, location: "//cdn/ä?x=1".to_owned(), headers: Headers::default() };
    hop.headers.append("x-linked-etag", "1").unwrap();
    let plan = redirect(&recorded(), &hop, &Method::GET);
    assert_eq!((plan.status.as_u16(), &plan.body, plan.is_whole), (307, &BodyPlan::Bytes(0..0), false));
    assert_eq!(plan.headers["location"].as_bytes(), "//cdn/ä?x=1".as_bytes());
    assert_eq!(
        (&plan.headers["content-length"], &plan.headers["x-linked-etag"]),
        (&"0".parse().unwrap(), &"1".parse().unwrap())
    );
    assert_eq!(redirect(&recorded(), &hop, &Method::HEAD).body, BodyPlan::None);

    let odd = Hop { location: "/a\r\nb".to_owned(), ..hop };
    assert_eq!(redirect(&recorded(), &odd, &Method::GET).headers["location"], "/a%0D%0Ab");
}

proptest::proptest! {
    #[test]
    fn the_length_that_is_told_is_the_length_that_is_sent(
        status in proptest::sample::select(vec![200u16, 203, 204, 206, 302, 304, 404, 500]),
        method in proptest::sample::select(vec![Method::GET, Method::HEAD, Method::POST]),
        range in proptest::option::of("bytes=[0-9]{0,3}-[0-9]{0,4}(,[0-9]{1,3}-[0-9]{0,4}){0,3}"),
        if_range in proptest::option::of(proptest::sample::select(vec![r#""a""#, r#""b""#, DATE])),
        if_none_match in proptest::option::of(proptest::sample::select(vec!["*", r#""a""#, r#""b""#])),
    ) {
        let entry = Entry { status, method: if method == Method::POST { Method::POST } else { Method::GET }, ..recorded() };
        let mut headers = HeaderMap::new();
        for (name, value) in [("range", range.as_deref()), ("if-range", if_range), ("if-none-match", if_none_match)] {
            if let Some(value) = value {
                headers.insert(name, value.parse().unwrap());
            }
        }
        let plan = respond(&entry, SIZE, &method, &headers);
        let within = |range: &Range<u64>| range.start <= range.end && range.end <= SIZE;
        let sent = match &plan.body {
            BodyPlan::None => None,
            BodyPlan::Bytes(range) => {
                proptest::prop_assert!(within(range));
                Some(range.end - range.start)
            }
            BodyPlan::Multipart { parts, end } => {
                proptest::prop_assert!(parts.iter().all(|(_, range)| within(range)));
                let parts = parts.iter().map(|(head, range)| head.len() as u64 + range.end - range.start);
                Some(parts.sum::<u64>() + end.len() as u64)
            }
        };
        let told = plan.headers.get(CONTENT_LENGTH).map(|value| value.to_str().unwrap().parse::<u64>().unwrap());
        if method != Method::HEAD {
            proptest::prop_assert_eq!(sent, told);
            proptest::prop_assert_eq!(told.is_none(), matches!(plan.status.as_u16(), 204 | 304));
        } else {
            proptest::prop_assert_eq!(sent, None);
        }
    }
}
