use super::*;
use crate::inventory::{Headers, Hop};

const ANYBODY: Seen = Seen { anonymous: true, changed: false };

fn entry(path: &str, headers: &[(&str, &str)]) -> Entry {
    let mut entry = Entry::get(format!("https://h.test/{path}").parse().unwrap());
    headers.iter().for_each(|(name, value)| entry.headers.append(name, value).unwrap());
    entry
}

fn why(path: &str, headers: &[(&str, &str)]) -> Why {
    Why::of(&entry(path, headers), ANYBODY)
}

#[test]
fn what_nix_cannot_ask_for_is_kept_whatever_else_is_known() {
    let immutable = [("cache-control", "public, immutable")];
    let plain = || entry("a-1.0.tar", &immutable);
    assert_eq!(Why::of(&plain(), ANYBODY), Why::Immutable);
    assert_eq!(Why::of(&Entry { method: Method::POST, ..plain() }, ANYBODY), Why::Method);
    assert_eq!(Why::of(&Entry { status: 404, ..plain() }, ANYBODY), Why::Status);
    assert_eq!(Why::of(&Entry { url_match: UrlMatch::Prefix, ..plain() }, ANYBODY), Why::Prefix);
    let keyed = [("accept".to_owned(), "a/b".to_owned())].into();
    assert_eq!(Why::of(&Entry { request_headers: keyed, ..plain() }, ANYBODY), Why::RequestHeaders);
    assert_eq!(why("a", &[("content-encoding", "gzip")]), Why::ContentCoding);
    assert_eq!(why("a", &[("content-encoding", "identity")]), Why::File);
    assert_eq!(Why::of(&plain(), Seen { anonymous: false, ..ANYBODY }), Why::Personal);
    assert_eq!(Why::of(&plain(), Seen { changed: true, ..ANYBODY }), Why::Changing);
}

#[test]
fn answers_of_real_kinds_get_the_rule_that_was_made_for_them() {
    let json = ("content-type", "application/json; charset=utf-8");
    let html = ("content-type", "text/html; charset=utf-8");
    let text = ("content-type", "text/plain");
    let xml = ("content-type", "text/xml");
    let age = |value| ("cache-control", value);
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let cases: &[(&str, Headers, Why)] = &[
        // GitHub's archives, whose servers let nobody cache them.
        ("o/r/tar.gz/refs/tags/v1.0", &[age("max-age=0, private, must-revalidate")], Why::File),
        ("o/r/archive/refs/heads/main.tar.gz", &[], Why::Moving),
        // Files of a repository: by tag, by branch, by commit.
        ("o/r/v1.0/x.cmake", &[text, age("max-age=300")], Why::File),
        ("o/r/main/x.cmake", &[text, age("max-age=300")], Why::Moving),
        ("o/r/0123456789abcdef0123456789abcdef01234567/x.json", &[json, age("max-age=300")], Why::Digest),
        // PyPI, npm, cargo, Go.
        ("simple/requests/", &[html, age("max-age=600, public")], Why::Page),
        ("simple/requests", &[html], Why::Page),
        ("lodash.merge", &[json, age("public, max-age=300")], Why::Api),
        ("lodash/-/lodash-4.17.21.tgz", &[age("public, immutable, max-age=31557600")], Why::Immutable),
        ("se/rd/serde", &[text], Why::Index),
        ("se/rd/serde", &[age("public,max-age=600")], Why::Index),
        ("config.json", &[json], Why::Index),
        ("install", &[text], Why::Api),
        ("o/r/v1.0/LICENSE", &[text], Why::File),
        ("versions.txt", &[text, age("max-age=60")], Why::ShortLived),
        ("versions.txt", &[text, age("max-age=86400")], Why::File),
        ("crates/serde/serde-1.0.0.crate", &[("content-type", "application/gzip")], Why::File),
        ("m/@v/v1.2.3.info", &[json, age("public, max-age=10800")], Why::File),
        ("m/@v/v1.2.3.mod", &[text, age("public, max-age=600")], Why::File),
        ("m/@v/list", &[text], Why::Index),
        ("m/@latest", &[json], Why::Moving),
        // Maven, Debian.
        ("g/a/1.0/a-1.0.pom", &[xml], Why::File),
        ("g/a/1.0-SNAPSHOT/a-1.0-20240101.120000-1.jar", &[], Why::Snapshot),
        ("g/a/maven-metadata.xml", &[xml], Why::Index),
        ("pool/main/f/foo/foo_1.0.deb", &[], Why::File),
        ("dists/bookworm/InRelease", &[], Why::Index),
        // An archive whose name says nothing, and pages in its place.
        ("foo.tar.gz", &[age("no-cache")], Why::File),
        ("foo-1.0.tar.gz", &[html], Why::Page),
        ("docs/page.html", &[html], Why::File),
        ("data/list.json", &[json], Why::File),
        ("data/list.json", &[json, age("no-cache")], Why::ShortLived),
        ("bucket/?prefix=a", &[("content-type", "application/xml")], Why::Api),
        // What servers say of themselves.
        (
            "r.git/info/refs?service=git-upload-pack",
            &[("content-type", "application/x-git-upload-pack-advertisement")],
            Why::Git,
        ),
        ("a.tar", &[age("No-Store")], Why::NoStore),
        ("a.tar?X-Amz-Signature=ab", &[], Why::Signed),
    ];
    for (path, headers, expected) in cases {
        assert_eq!(why(path, headers), *expected, "{path} {headers:?}");
    }
}

fn chain(first: &str, locations: &[&str]) -> Entry {
    let hop = |location: &&str| Hop { status: 302, location: (*location).to_owned(), headers: Headers::default() };
    Entry { redirects: locations.iter().map(hop).collect(), ..entry(first, &[]) }
}

#[test]
fn a_chain_that_starts_at_what_moves_is_fetched_from_where_it_names_a_version() {
    let signed = "https://cdn.test/9f8e?X-Amz-Signature=ab";
    let latest = chain("o/r/releases/latest/download/x", &["/o/r/releases/download/v1.2/x", signed]);
    assert_eq!(Why::of(&latest, ANYBODY), Why::PinnedByRedirect);
    assert_eq!(pinned_by_redirect(&latest).unwrap().as_str(), "https://h.test/o/r/releases/download/v1.2/x");
    assert_eq!(Why::of(&chain("latest", &[signed]), ANYBODY), Why::Moving, "no version");
    assert_eq!(Why::of(&chain("latest", &["/x-1.2.tar?sig=1"]), ANYBODY), Why::Moving, "a query can be a signature");
    assert_eq!(Why::of(&chain("x.tar", &[signed]), ANYBODY), Why::File, "the first URL outlives the signed one");
    assert_eq!(pinned_by_redirect(&chain("x.tar", &["/x-1.2.tar"])), None);
}

#[test]
fn every_rule_is_listed_once_in_order_and_only_the_first_ones_are_about_the_request() {
    assert!(Why::ALL.is_sorted() && Why::ALL.iter().collect::<std::collections::HashSet<_>>().len() == Why::ALL.len());
    let posted = Entry { method: Method::POST, status: 500, ..entry("latest", &[("cache-control", "no-store")]) };
    assert_eq!(Why::not_askable(&posted).collect::<Vec<_>>(), [Why::Method, Why::Status]);
    for why in Why::ALL {
        assert_eq!(serde_json::to_value(why).unwrap(), why.name());
    }
}

#[test]
fn several_answers_of_one_system_are_changing_ones() {
    let on = |system: &str| Entry { systems: vec![system.to_owned()], ..entry("a", &[]) };
    let all = |entries| Why::of_all(&Inventory { entries, ..Inventory::default() });
    assert_eq!(all(vec![entry("a", &[]), entry("b", &[]), entry("a", &[])]), [Why::Changing, Why::File, Why::Changing]);
    assert_eq!(all(vec![on("x"), on("y")]), [Why::File, Why::File]);
}

/// docs/sources.md has a table with a row for each rule: its name, what becomes of the body, its reason, and the evidence.
#[test]
fn the_documentation_has_the_rules_in_their_order_with_their_reasons() {
    let text = include_str!("../../../docs/sources.md");
    let rules = text.split("\n## ").find(|section| section.starts_with("The rules")).unwrap();
    let rows = rules.lines().filter(|line| line.starts_with("| `"));
    let cells: Vec<Vec<&str>> = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect();
    let expected =
        Why::ALL.map(|why| (format!("`{}`", why.name()), if why.fetches() { "fetch" } else { "keep" }, why.reason()));
    let found: Vec<_> = cells.iter().map(|cells| (cells[0].to_owned(), cells[1], cells[2])).collect();
    assert_eq!(found, expected);
    assert!(cells.iter().all(|cells| cells.len() == 4 && cells[3].len() > 20), "each has its evidence");
}
