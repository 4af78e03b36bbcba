//! Canonical writing: the same inventory is always the same bytes, in TOML 1.0 as Nix reads it.
//!
//! Entries are sorted by URL (without the parameters that do not count), method, request headers, request body and
//! systems; a sequence keeps its order. Defaults are left out. Inline tables stay on one line, headers come last in an entry.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::Path,
};

use http::Method;
use toml_writer::TomlStringBuilder;

use super::{
    entry::{Body, Entry, Headers, Hop, Inventory, Source, UrlMatch},
    key::Keys,
    read::VERSION,
    rules::{MatchRules, Rewrite},
    whole_file::write_output,
};
use crate::text::is_deceptive;

/// The canonical text of `inventory`.
pub fn to_toml(inventory: &Inventory) -> String {
    let mut entries: Vec<&Entry> = inventory.entries.iter().collect();
    let keys = Keys::new(&inventory.match_rules);
    entries.sort_by_cached_key(|entry| (keys.of(entry), entry.systems.iter().collect::<BTreeSet<_>>()));
    toml_of(&inventory.match_rules, entries)
}

/// A text of `inventory` that has its entries in their order.
pub(super) fn to_toml_in_order(inventory: &Inventory) -> String {
    toml_of(&inventory.match_rules, inventory.entries.iter().collect())
}

fn toml_of(match_rules: &MatchRules, entries: Vec<&Entry>) -> String {
    let mut text = format!("version = {VERSION}\n");
    if *match_rules != MatchRules::default() {
        let _ = write!(text, "\n{}", toml_of_rules(match_rules));
    }
    for entry in entries {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{}", toml_of_entry(entry));
    }
    text
}

/// Writes `inventory` to `path` so that the file there is a whole one at any moment. An equal file is left alone.
///
/// # Errors
/// Where the folder cannot be written to; the old file is then unchanged.
pub fn write(inventory: &Inventory, path: &Path) -> io::Result<()> {
    let text = to_toml(inventory);
    if fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    write_output(path, |mut file| file.write_all(text.as_bytes()))
}

/// The `[match]` table.
pub fn toml_of_rules(rules: &MatchRules) -> String {
    let mut text = "[match]\n".to_owned();
    if !rules.ignore_query.is_empty() {
        let patterns: Vec<String> = rules.ignore_query.iter().map(|pattern| pattern.glob().to_owned()).collect();
        text.push_str(&format!("ignore-query = {}\n", array(&patterns)));
    }
    if !rules.rewrite.is_empty() {
        text.push_str(&format!("rewrite = {}\n", array_of_tables(rules.rewrite.iter().map(toml_of_rewrite).collect())));
    }
    text
}

/// One rule of `rewrite`.
pub(super) fn toml_of_rewrite(rule: &Rewrite) -> String {
    inline_table([("from", string(rule.from.as_str())), ("to", string(&rule.to))])
}

/// One `[[entry]]`.
pub fn toml_of_entry(entry: &Entry) -> String {
    let mut text = "[[entry]]\n".to_owned();
    let mut line = |key: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{key} = {value}");
    };
    if entry.method != Method::GET {
        line("method", string(entry.method.as_str()));
    }
    line("url", string(entry.url.as_str()));
    if entry.url_match == UrlMatch::Prefix {
        line("match", string("prefix"));
    }
    if let Some(digest) = entry.request_body {
        line("request-body", string(&digest.hash.to_string()));
        if let Some(form) = digest.form.name() {
            line("request-body-as", string(form));
        }
    }
    if !entry.request_headers.is_empty() {
        line("request-headers", inline_table(entry.request_headers.iter().map(|(name, value)| (name, string(value)))));
    }
    if !entry.systems.is_empty() {
        line("systems", array(&entry.systems));
    }
    if !entry.redirects.is_empty() {
        line("redirects", redirects(&entry.redirects));
    }
    if entry.status != 200 {
        line("status", entry.status.to_string());
    }
    if let Some(body) = &entry.body {
        line("body", inline_table(body_fields(body)));
    }
    if !entry.headers.is_empty() {
        text.push_str("[entry.headers]\n");
        for (name, values) in entry.headers.iter() {
            let _ = writeln!(text, "{} = {}", key(name), header_value(&values));
        }
    }
    text
}

fn body_fields(body: &Body) -> Vec<(&'static str, String)> {
    let mut fields = Vec::new();
    fields.extend(body.hash.map(|hash| ("hash", string(&hash.to_string()))));
    fields.extend(body.size.map(|size| ("size", size.to_string())));
    fields.extend(body.name.as_ref().map(|name| ("name", string(name.as_str()))));
    match &body.source {
        Source::Fetch(url) => fields.extend(url.as_ref().map(|url| ("fetch", string(url)))),
        Source::File(file) => fields.push(("file", string(file))),
        Source::Text(content) => fields.push(("text", string(content))),
        Source::StorePath { path, nar_hash } => {
            fields.push(("store-path", string(path)));
            fields.extend(nar_hash.map(|hash| ("nar-hash", string(&hash.to_string()))));
        }
    }
    fields
}

fn redirects(hops: &[Hop]) -> String {
    let hop = |hop: &Hop| {
        let mut fields = vec![("status", hop.status.to_string()), ("location", string(&hop.location))];
        if !hop.headers.is_empty() {
            fields.push(("headers", headers_inline(&hop.headers)));
        }
        inline_table(fields)
    };
    array_of_tables(hops.iter().map(hop).collect())
}

/// One table stays on the line, several have a line each.
fn array_of_tables(tables: Vec<String>) -> String {
    match &tables[..] {
        [one] => format!("[{one}]"),
        several => format!("[\n{}]", several.iter().map(|one| format!("  {one},\n")).collect::<String>()),
    }
}

fn headers_inline(headers: &Headers) -> String {
    inline_table(headers.iter().map(|(name, values)| (name, header_value(&values))))
}

/// A header's value, or its values where it repeats.
pub(super) fn header_value(values: &[&str]) -> String {
    match values {
        [one] => string(one),
        several => array(several),
    }
}

fn inline_table<K: AsRef<str>>(fields: impl IntoIterator<Item = (K, String)>) -> String {
    let fields: Vec<String> =
        fields.into_iter().map(|(name, value)| format!("{} = {value}", key(name.as_ref()))).collect();
    format!("{{ {} }}", fields.join(", "))
}

fn array(values: &[impl AsRef<str>]) -> String {
    format!("[{}]", values.iter().map(|value| string(value.as_ref())).collect::<Vec<_>>().join(", "))
}

fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare { name.to_owned() } else { string(name) }
}

/// A basic string on one line, as every version of TOML has it. What would show it as something else than it is, to those who
/// review it, is spelled out.
fn string(value: &str) -> String {
    use toml_writer::TomlWrite;
    let mut text = String::with_capacity(value.len() + 2);
    // Writing to a String cannot fail.
    let _ = text.value(TomlStringBuilder::new(value).as_basic());
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if is_plain || !text.contains(is_deceptive) {
        return text;
    }
    let mut shown = String::with_capacity(text.len() + 6);
    for character in text.chars() {
        match u32::from(character) {
            code @ ..=0xffff if is_deceptive(character) => shown.push_str(&format!("\\u{code:04X}")),
            code if is_deceptive(character) => shown.push_str(&format!("\\U{code:08X}")),
            _ => shown.push(character),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inventory::{
            merge_capture, read,
            request_body::{BodyDigest, BodyForm},
        },
        store::{hash::NixHash, path::StorePathName},
    };

    fn body(source: Source) -> Option<Body> {
        let name = matches!(source, Source::Fetch(_)).then(|| StorePathName::new("a.tar").unwrap());
        Some(Body { hash: Some(NixHash::sha256(b"x")), size: Some(1), name, source })
    }

    fn sample() -> Inventory {
        let mut chain = Entry::get("http://h/b".parse().unwrap());
        let hop = |location: &str| Hop { status: 302, location: location.to_owned(), headers: Headers::default() };
        chain.redirects = vec![hop("/c?sig=\"x\""), hop("/d")];
        chain.redirects[0].headers.append("etag", "\"q\"").unwrap();
        chain.body = body(Source::Fetch(None));
        let mut post = Entry::get("http://h/a".parse().unwrap());
        post.method = Method::POST;
        post.status = 404;
        post.url_match = UrlMatch::Prefix;
        post.request_body = Some(BodyDigest { form: BodyForm::Json, ..BodyDigest::of_bytes(b"q") });
        post.request_headers.insert("accept".to_owned(), "a/b".to_owned());
        post.systems = vec!["x86_64-linux".to_owned()];
        post.body = body(Source::Text("not \"found\"\n\tat all ä".to_owned()));
        post.headers.append("x.odd", "1").unwrap();
        post.headers.append("link", "a").unwrap();
        post.headers.append("link", "b").unwrap();
        let rewrite = |from: &str, to: &str| Rewrite { from: from.parse().unwrap(), to: to.to_owned() };
        let rewrite = vec![rewrite("^http://m[0-9]\\.test/", "http://h/"), rewrite("/[0-9]+/", "/$0/")];
        let match_rules = MatchRules { rewrite, ..MatchRules::ignoring(&["X-*"]) };
        Inventory { match_rules, entries: vec![chain, post] }
    }

    #[test]
    fn what_is_written_reads_back_and_writes_the_same() {
        let text = to_toml(&sample());
        let read = read::parse(&text).unwrap();
        assert_eq!(to_toml(&read), text);
        let mut expected = sample();
        expected.entries.reverse();
        assert_eq!(read, expected);
    }

    #[test]
    fn the_text_is_the_documented_one() {
        let hash = NixHash::sha256(b"x");
        let request = NixHash::sha256(b"q");
        let expected = format!(
            r#"version = 1

[match]
ignore-query = ["X-*"]
rewrite = [
  {{ from = "^http://m[0-9]\\.test/", to = "http://h/" }},
  {{ from = "/[0-9]+/", to = "/$0/" }},
]

[[entry]]
method = "POST"
url = "http://h/a"
match = "prefix"
request-body = "{request}"
request-body-as = "json"
request-headers = {{ accept = "a/b" }}
systems = ["x86_64-linux"]
status = 404
body = {{ hash = "{hash}", size = 1, text = "not \"found\"\n\tat all ä" }}
[entry.headers]
link = ["a", "b"]
"x.odd" = "1"

[[entry]]
url = "http://h/b"
redirects = [
  {{ status = 302, location = "/c?sig=\"x\"", headers = {{ etag = "\"q\"" }} }},
  {{ status = 302, location = "/d" }},
]
body = {{ hash = "{hash}", size = 1, name = "a.tar" }}
"#
        );
        assert_eq!(to_toml(&sample()).replace("\\t", "\t"), expected.replace("\\t", "\t"));
    }

    #[test]
    fn a_sequence_keeps_its_order_whatever_its_ignored_parameters() {
        let entry = |url: &str, status: u16| Entry { status, ..Entry::get(url.parse().unwrap()) };
        let entries = vec![entry("http://h/a?sig=2", 404), entry("http://h/a?sig=1", 200), entry("http://h/", 200)];
        let inventory = Inventory { match_rules: MatchRules::ignoring(&["sig"]), entries };
        let statuses: Vec<_> = read::parse(&to_toml(&inventory)).unwrap().entries.iter().map(|e| e.status).collect();
        assert_eq!(statuses, [200, 404, 200]);
    }

    #[test]
    fn captures_on_several_systems_give_the_same_bytes_in_any_order() {
        let mut theirs = Entry::get("http://h/a".parse().unwrap());
        theirs.systems = vec!["armv7l-linux".to_owned()];
        let old = Inventory { entries: vec![theirs], ..Inventory::default() };
        let capture = |old: &Inventory, system: &str, status: u16| {
            let captured = vec![Entry { status, ..Entry::get("http://h/a".parse().unwrap()) }];
            merge_capture(old, captured, &[], system, false).0
        };
        let one = capture(&capture(&old, "x86_64-linux", 404), "aarch64-linux", 403);
        let other = capture(&capture(&old, "aarch64-linux", 403), "x86_64-linux", 404);
        assert_eq!(to_toml(&one), to_toml(&other));
    }

    #[test]
    fn what_could_deceive_a_reviewer_is_spelled_out() {
        let mut inventory = sample();
        let deceptive = "a\u{202e}b\u{9b}c\u{7f}d\u{e0041}e\u{1b}";
        inventory.entries[1].body = body(Source::Text(deceptive.to_owned()));
        let text = to_toml(&inventory);
        assert!(text.contains(r#"text = "a\u202Eb\u009Bc\u007Fd\U000E0041e\u001B""#), "{text}");
        let again = read::parse(&text).unwrap();
        assert!(again.entries.iter().any(|entry| entry.body == inventory.entries[1].body));
    }

    /// Any text, with much of what looks like an escape.
    const TEXT: &str = r#"([\\"'\r\n\t]|u0000|U00000000|u00e9|x41|e|(?s:.)){0,30}"#;

    proptest::proptest! {
        #[test]
        fn any_text_survives_writing_and_reading(content in TEXT, location in "[ -~]{1,30}") {
            let mut inventory = sample();
            inventory.entries[1].body = body(Source::Text(content.replace('\0', "")));
            inventory.entries[0].redirects[0].location = location;
            let text = to_toml(&inventory);
            proptest::prop_assert_eq!(to_toml(&read::parse(&text).unwrap()), text);
        }
    }
}
