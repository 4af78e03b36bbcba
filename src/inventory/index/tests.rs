use http::HeaderMap;

use super::*;
use crate::inventory::{MatchRules, UrlMatch, request_body::BodyForm};

fn url(text: &str) -> NormalizedUrl {
    text.parse().unwrap()
}

fn get(text: &str) -> Entry {
    Entry::get(url(text))
}

fn post(text: &str, body: &str) -> Entry {
    Entry { method: Method::POST, request_body: Some(BodyDigest::of_bytes(body.as_bytes())), ..get(text) }
}

fn chain(mut entry: Entry, hops: &[(u16, &str)]) -> Entry {
    entry.redirects = hops
        .iter()
        .map(|(status, location)| Hop { status: *status, location: (*location).to_owned(), headers: <_>::default() })
        .collect();
    entry
}

fn variant(mut entry: Entry, headers: &[(&str, &str)]) -> Entry {
    entry.request_headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    entry
}

fn index(entries: Vec<Entry>) -> Index {
    index_ignoring(&[], entries)
}

fn index_ignoring(patterns: &[&str], entries: Vec<Entry>) -> Index {
    let inventory = Inventory { match_rules: MatchRules::ignoring(patterns), entries };
    Index::new(Arc::new(inventory), "x86_64-linux").unwrap()
}

fn digested(digest: Option<BodyDigest>) -> RequestBody {
    Vec::from_iter(digest).into()
}

/// Entry and step of every answer, with the rank.
type Found = (Vec<(usize, u32)>, bool);

fn ask_with(
    index: &Index,
    method: Method,
    at: &str,
    body: &str,
    headers: &[(&str, &str)],
) -> Result<Found, MissReason> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    let body = digested((!body.is_empty()).then(|| BodyDigest::of_bytes(body.as_bytes())));
    let found = index.look_up(&RequestKey { method: &method, url: &url(at), headers: &map, body })?;
    Ok((found.visits.iter().map(|visit| (visit.entry.index(), visit.step)).collect(), found.first_rank))
}

fn ask(index: &Index, method: Method, at: &str) -> Result<Found, MissReason> {
    ask_with(index, method, at, "", &[])
}

fn own(visits: &[(usize, u32)]) -> Result<Found, MissReason> {
    Ok((visits.to_vec(), true))
}

fn led(visits: &[(usize, u32)]) -> Result<Found, MissReason> {
    Ok((visits.to_vec(), false))
}

#[test]
fn an_empty_inventory_answers_nothing() {
    let index = index(vec![]);
    assert_eq!(ask(&index, Method::GET, "http://h/"), Err(MissReason::NoSuchUrl));
    assert_eq!(index.entries().count() + index.recorded_urls().count(), 0);
}

#[test]
fn entries_with_one_key_are_a_sequence_in_the_order_of_the_file() {
    let index = index(vec![get("http://h/b"), get("http://h/a"), get("http://h/b"), get("http://h/c")]);
    assert_eq!(ask(&index, Method::GET, "http://h/b"), own(&[(0, 0), (2, 0)]));
    assert_eq!(ask(&index, Method::GET, "http://h/a"), own(&[(1, 0)]));
    let next = |id| index.next_in_sequence(EntryId(id)).map(EntryId::index);
    assert_eq!([next(0), next(1), next(2)], [Some(2), None, None]);
}

#[test]
fn ignored_query_parameters_are_left_out_of_entries_and_requests_alike() {
    let index = index_ignoring(&["X-Amz-*", "_"], vec![get("http://h/a?X-Amz-Date=1&v=2"), get("http://h/b?v=1")]);
    assert_eq!(ask(&index, Method::GET, "http://h/a?v=2&X-Amz-Date=9&_=77"), own(&[(0, 0)]));
    assert_eq!(ask(&index, Method::GET, "http://h/b?v=1&_=3"), own(&[(1, 0)]));
    assert_eq!(ask(&index, Method::GET, "http://h/a?v=3"), Err(MissReason::NoSuchUrl));
    let urls: Vec<&str> = index.recorded_urls().map(|(url, _)| url).collect();
    assert_eq!(urls, ["http://h/a?v=2", "http://h/b?v=1"]);
}

#[test]
fn the_method_is_part_of_the_key_and_head_is_answered_from_get() {
    let head = |at: &str| Entry { method: Method::HEAD, ..get(at) };
    let index = index(vec![get("http://h/g"), head("http://h/h"), head("http://h/both"), get("http://h/both")]);
    assert_eq!(ask(&index, Method::HEAD, "http://h/g"), own(&[(0, 0)]));
    assert_eq!(ask(&index, Method::HEAD, "http://h/h"), own(&[(1, 0)]));
    assert_eq!(ask(&index, Method::HEAD, "http://h/both"), own(&[(2, 0)]));
    assert_eq!(ask(&index, Method::GET, "http://h/both"), own(&[(3, 0)]));
    let other = |recorded| Err(MissReason::OtherMethod { recorded });
    assert_eq!(ask(&index, Method::GET, "http://h/h"), other(vec![Method::HEAD]));
    assert_eq!(ask(&index, Method::POST, "http://h/both"), other(vec![Method::GET, Method::HEAD]));
    assert_eq!(ask(&index, Method::OPTIONS, "http://h/g"), other(vec![Method::GET]));
}

#[test]
fn the_request_body_is_part_of_the_key() {
    let index = index(vec![
        post("http://h/api", "one"),
        post("http://h/api", "two"),
        Entry { method: Method::POST, ..get("http://h/empty") },
        get("http://h/get"),
    ]);
    let posted = |at: &str, body: &str| ask_with(&index, Method::POST, at, body, &[]);
    assert_eq!(posted("http://h/api", "one"), own(&[(0, 0)]));
    assert_eq!(posted("http://h/api", "two"), own(&[(1, 0)]));
    assert_eq!(posted("http://h/empty", ""), own(&[(2, 0)]));
    assert!(matches!(posted("http://h/api", "three"), Err(MissReason::OtherBody { recorded }) if recorded.len() == 2));
    assert!(matches!(posted("http://h/api", ""), Err(MissReason::OtherBody { .. })));
    assert_eq!(posted("http://h/empty", "x"), Err(MissReason::OtherBody { recorded: vec![None] }));
    let get_with_body = ask_with(&index, Method::GET, "http://h/get", "x", &[]);
    assert_eq!(get_with_body, Err(MissReason::OtherBody { recorded: vec![None] }));

    let unhashed = RequestKey {
        method: &Method::POST,
        url: &url("http://h/empty"),
        headers: &HeaderMap::new(),
        body: RequestBody::Unhashed,
    };
    assert!(matches!(index.look_up(&unhashed), Err(MissReason::OtherBody { .. })));

    assert!(index.depends_on_body(&Method::POST, &url("http://h/api")));
    for (method, at) in [(Method::GET, "http://h/api"), (Method::POST, "http://h/empty"), (Method::POST, "http://h/x")]
    {
        assert!(!index.depends_on_body(&method, &url(at)), "{method} {at}");
    }
}

#[test]
fn variants_are_chosen_by_their_request_headers() {
    let at = "http://h/npm";
    let index = index(vec![
        variant(get(at), &[("accept", "application/json")]),
        variant(get(at), &[("accept", "application/json"), ("x-lang", "de")]),
        variant(get(at), &[("accept", "")]),
        variant(get(at), &[("accept", "a, b")]),
    ]);
    let with = |headers: &[(&str, &str)]| ask_with(&index, Method::GET, at, "", headers);
    assert_eq!(with(&[("accept", " application/json ")]), own(&[(0, 0)]));
    assert_eq!(with(&[("accept", "application/json"), ("x-lang", "de")]), own(&[(1, 0)]));
    assert_eq!(with(&[("x-lang", "de")]), own(&[(2, 0)]));
    assert_eq!(with(&[("accept", "a"), ("accept", "b")]), own(&[(3, 0)]));
    let Err(MissReason::OtherVariant { recorded }) = with(&[("accept", "text/html")]) else { panic!() };
    assert_eq!(recorded.len(), 4);
}

#[test]
fn a_chain_answers_its_own_url_and_every_location() {
    let index = index(vec![chain(get("http://h/a/b"), &[(302, "../c"), (307, "//cdn/d?s=1#x")])]);
    assert_eq!(ask(&index, Method::GET, "http://h/a/b"), own(&[(0, 0)]));
    assert_eq!(ask(&index, Method::GET, "http://h/c"), led(&[(0, 1)]));
    assert_eq!(ask(&index, Method::HEAD, "http://cdn/d?s=1"), led(&[(0, 2)]));
    let answer = |at: &str| {
        let key =
            RequestKey { method: &Method::GET, url: &url(at), headers: &HeaderMap::new(), body: RequestBody::Empty };
        let answer = index.answer(index.look_up(&key).unwrap().visits[0]);
        answer.hop().map_or_else(|| answer.entry.status.to_string(), |hop| hop.location.clone())
    };
    assert_eq!(
        [answer("http://h/a/b"), answer("http://h/c"), answer("http://cdn/d?s=1")],
        ["../c", "//cdn/d?s=1#x", "200"]
    );
}

#[test]
fn a_direct_entry_wins_over_a_chain_that_leads_to_its_url() {
    let index = index(vec![chain(get("http://h/a"), &[(302, "/b")]), get("http://h/b"), get("http://h/b")]);
    assert_eq!(ask(&index, Method::GET, "http://h/b"), own(&[(1, 0), (2, 0)]));
    // Under a header that the direct entry does not answer, the chain still does.
    let index =
        self::index(vec![chain(get("http://h/a"), &[(302, "/b")]), variant(get("http://h/b"), &[("accept", "x")])]);
    assert_eq!(ask(&index, Method::GET, "http://h/b"), led(&[(0, 1)]));
}

#[test]
fn the_method_behind_a_redirect_follows_rfc_9110() {
    let index = index(vec![
        chain(post("http://h/303", "x"), &[(303, "/after-303")]),
        chain(post("http://h/302", "x"), &[(302, "/after-302"), (302, "/later")]),
        chain(post("http://h/307", "x"), &[(307, "/after-307")]),
        chain(Entry { method: Method::HEAD, ..get("http://h/head") }, &[(303, "/after-head")]),
        chain(Entry { method: Method::PUT, ..get("http://h/put") }, &[(301, "/after-put"), (303, "/made")]),
    ]);
    let posted = |at: &str| ask_with(&index, Method::POST, at, "x", &[]);
    assert_eq!(ask(&index, Method::GET, "http://h/after-303"), led(&[(0, 1)]));
    assert!(matches!(posted("http://h/after-303"), Err(MissReason::OtherMethod { .. })));
    assert_eq!(ask(&index, Method::GET, "http://h/after-302"), led(&[(1, 1)]));
    assert!(matches!(posted("http://h/after-302"), Err(MissReason::OtherMethod { .. })));
    assert_eq!(ask(&index, Method::GET, "http://h/later"), led(&[(1, 2)]));
    assert_eq!(posted("http://h/after-307"), led(&[(2, 1)]));
    assert!(matches!(ask(&index, Method::GET, "http://h/after-307"), Err(MissReason::OtherMethod { .. })));
    assert_eq!(ask(&index, Method::HEAD, "http://h/after-head"), led(&[(3, 1)]));
    assert!(ask(&index, Method::GET, "http://h/after-head").is_err());
    assert_eq!(ask(&index, Method::PUT, "http://h/after-put"), led(&[(4, 1)]));
    assert_eq!(ask(&index, Method::GET, "http://h/made"), led(&[(4, 2)]));
}

#[test]
fn a_chain_that_comes_back_is_one_sequence_of_its_own() {
    let index = index(vec![
        chain(get("http://h/login"), &[(302, "/login"), (302, "/x"), (302, "/login")]),
        chain(post("http://h/form", "x"), &[(303, "/form")]),
    ]);
    assert_eq!(ask(&index, Method::GET, "http://h/login"), own(&[(0, 0), (0, 1), (0, 3)]));
    assert!(index.is_revisiting(EntryId(0)));
    assert_eq!(ask(&index, Method::GET, "http://h/form"), led(&[(1, 1)]));
    assert!(!index.is_revisiting(EntryId(1)));
}

#[test]
fn a_location_that_leads_out_of_http_ends_the_chain() {
    let index = index(vec![chain(get("http://h/a"), &[(302, "ftp://h/b"), (302, "/c")])]);
    assert_eq!(ask(&index, Method::GET, "http://h/a"), own(&[(0, 0)]));
    assert_eq!(ask(&index, Method::GET, "http://h/c"), Err(MissReason::NoSuchUrl));
}

#[test]
fn entries_for_other_systems_do_not_answer_but_are_named() {
    let on = |system: &str| Entry { systems: vec![system.to_owned()], ..get("http://h/a") };
    let index =
        index(vec![on("aarch64-linux"), on("x86_64-linux"), Entry { url: url("http://h/b"), ..on("armv7l-linux") }]);
    assert_eq!(ask(&index, Method::GET, "http://h/a"), own(&[(1, 0)]));
    let recorded = vec!["armv7l-linux".to_owned()];
    assert_eq!(ask(&index, Method::GET, "http://h/b"), Err(MissReason::OtherSystem { recorded }));
    assert_eq!(index.entries().map(EntryId::index).collect::<Vec<_>>(), [1]);
    assert!(index.sequence_of(EntryId(0)).is_empty());
}

#[test]
fn the_rules_that_took_part_are_named() {
    let rewrite = crate::inventory::Rewrite { from: "^http://m/".parse().unwrap(), to: "http://h/".to_owned() };
    let match_rules = MatchRules { rewrite: vec![rewrite], ..MatchRules::ignoring(&["t", "u"]) };
    let prefix = Entry { url_match: UrlMatch::Prefix, ..get("http://h/p") };
    let json = BodyDigest { form: BodyForm::Json, ..BodyDigest::of_bytes(b"{}") };
    let posted = Entry { method: Method::POST, request_body: Some(json), ..get("http://h/j") };
    let led = chain(get("http://h/from"), &[(302, "/to?t=5")]);
    let entries = vec![get("http://h/a?t=1"), prefix, posted, led];
    let index = Index::new(Arc::new(Inventory { match_rules, entries }), "any").unwrap();
    let used = |method: Method, at: &str, body: Option<BodyDigest>| {
        let (at, headers) = (url(at), HeaderMap::new());
        let key = RequestKey { method: &method, url: &at, headers: &headers, body: digested(body) };
        let visit = index.look_up(&key).unwrap().visits[0];
        index.used_rules(&at, visit).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(used(Method::GET, "http://h/a?t=1", None), "ignore-query t");
    assert_eq!(used(Method::GET, "http://h/a?u=1", None), "ignore-query t, ignore-query u");
    assert_eq!(used(Method::GET, "http://m/a", None), "rewrite 1, ignore-query t");
    assert_eq!(used(Method::GET, "http://h/to", None), "ignore-query t");
    assert_eq!(used(Method::GET, "http://h/p", None), "match prefix");
    assert_eq!(used(Method::POST, "http://h/j", Some(json)), "request-body-as json");
}

proptest::proptest! {
    #[test]
    fn prefixes_answer_as_a_scan_would(
        recorded in proptest::collection::vec(("[ab]{0,4}", proptest::bool::ANY), 0..20),
        asked in "[ab]{0,5}",
    ) {
        let entry = |(path, is_prefix): &(String, bool)| Entry {
            url_match: if *is_prefix { UrlMatch::Prefix } else { UrlMatch::Exact },
            ..get(&format!("http://h/{path}"))
        };
        let best = recorded
            .iter()
            .filter(|(path, is_prefix)| *path == asked || (*is_prefix && asked.starts_with(path.as_str())))
            .min_by_key(|(path, is_prefix)| (*is_prefix, Reverse(path.len())));
        let expected: Vec<(usize, u32)> =
            (0..recorded.len()).filter(|&at| Some(&recorded[at]) == best).map(|at| (at, 0)).collect();
        let index = index(recorded.iter().map(entry).collect());
        let found = ask(&index, Method::GET, &format!("http://h/{asked}"));
        proptest::prop_assert_eq!(found.map_or(vec![], |found| found.0), expected);
    }

    #[test]
    fn the_index_finds_what_a_scan_finds(
        recorded in proptest::collection::vec((0..3usize, 0..6usize, 0..3usize), 0..40),
        asked in (0..3usize, 0..6usize, 0..3usize),
    ) {
        let entry = |(method, path, body): (usize, usize, usize)| Entry {
            method: [Method::GET, Method::POST, Method::PUT][method].clone(),
            request_body: (body > 0).then(|| BodyDigest::of_bytes(&[body as u8])),
            ..get(&format!("http://h/{path}"))
        };
        let entries: Vec<Entry> = recorded.iter().copied().map(entry).collect();
        let wanted = entry(asked);
        let scanned: Vec<usize> = entries.iter().enumerate().filter(|(_, e)| **e == wanted).map(|(i, _)| i).collect();
        let index = index(entries);
        let headers = HeaderMap::new();
        let key = RequestKey { method: &wanted.method, url: &wanted.url, headers: &headers, body: digested(wanted.request_body) };
        let found: Vec<usize> =
            index.look_up(&key).map_or(vec![], |found| found.visits.iter().map(|v| v.entry.index()).collect());
        proptest::prop_assert_eq!(found, scanned);
    }
}

#[test]
fn an_inventory_that_is_too_large_is_said_to_be() {
    assert_eq!(IndexError::TooLarge.to_string(), "the inventory has more than four billion answers");
}
