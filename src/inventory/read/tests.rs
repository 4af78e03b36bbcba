use super::*;
use crate::inventory::Source;

const HASH: &str = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

fn error(text: &str) -> SyntaxError {
    parse(text).unwrap_err()
}

#[test]
fn every_source_is_read() {
    let body = |source: &str| {
        let text = format!(
            "version = 1\n[[entry]]\nurl = \"http://h/a\"\n\
             body = {{ hash = \"{HASH}\", size = 0, name = \"a\"{source} }}\n"
        );
        parse(&text).unwrap().entries[0].body.clone().unwrap().source
    };
    assert_eq!(body(""), Source::Fetch(None));
    assert_eq!(body(", fetch = \"http://m/a\""), Source::Fetch(Some("http://m/a".to_owned())));
    assert_eq!(body(", file = \"inventory.bodies/a\""), Source::File("inventory.bodies/a".to_owned()));
    assert_eq!(body(", text = \"x\""), Source::Text("x".to_owned()));
    let path = Source::StorePath { path: "/nix/store/x".to_owned(), nar_hash: None };
    assert_eq!(body(", store-path = \"/nix/store/x\""), path);
}

#[test]
fn an_unknown_key_names_its_line_and_the_nearest_key() {
    let error = error("version = 1\n\n[[entry]]\nurl = \"http://h/\"\nheadrs = {}\n");
    assert_eq!((error.line, error.column), (5, 1));
    assert_eq!(error.message, "unknown key `headrs`");
    assert!(error.hint.unwrap().starts_with("did you mean `headers`?"));
}

#[test]
fn json_errors_name_line_and_nearest_key_too() {
    let error = error("{ \"version\": 1,\n  \"entri\": [] }");
    assert_eq!((error.line, error.message.as_str()), (2, "unknown key `entri`"));
    assert!(error.hint.unwrap().contains("`entry`"));
}

#[test]
fn json_errors_show_where_the_key_or_the_value_begins() {
    for (entry, column) in [
        (r#"{ "urk": "http://h/a" }"#, 3),
        (r#"{ "url": "ftp://h/a" }"#, 10),
        (r#"{ "url": "http://h/a", "status": 99 }"#, 34),
        (r#"{ "url": "http://h/a", "body": { "size": 0 } , "status": 200 }"#, 32),
        (r#"{ "url": "http://h/a", "body": { "size": 0 } }"#, 32),
        (r#"{ "url": "http://h/ä", "headers": { "a": "b", "c": "d\u0001" } }"#, 52),
        (r#"{ "method": "PUT" }"#, 1),
        (r#"{ "url": }"#, 10),
    ] {
        let error = error(&format!("{{ \"version\": 1, \"entry\": [\n{entry}\n] }}"));
        assert_eq!((error.line, error.column), (2, column), "{entry}: {error}");
    }
}

#[test]
fn another_version_is_the_message_even_when_its_keys_are_unknown() {
    let error = error("version = 2\nnews = true\n");
    assert_eq!(error.message, "this is an inventory of version 2");
    assert_eq!(error.line, 1);
    assert_eq!(self::error("[[entry]]\nurl = \"http://h/\"\n").message, "the key `version` is missing");
}

#[test]
fn wrong_values_name_their_line() {
    for (key, message) in [
        ("url = \"ftp://h/\"", "not an http or https URL"),
        ("url = 3", "invalid type"),
        ("url = \"http://h/\"\nstatus = 99", "status of a final response"),
        ("url = \"http://h/\"\nrequest-body = \"sha256-x\"", "32 bytes"),
        ("url = \"http://h/\"\nmethod = \"G T\"", "not a method"),
        ("url = \"http://h/\"\nmatch = \"suffix\"", "unknown variant"),
        ("url = \"http://h/\"\nrequest-body-as = \"json\"", "is missing"),
        ("url = \"http://h/\"\nrequest-body-as = \"xml\"", "no form"),
        ("url = \"http://h/\"\n[entry.headers]\na = \"b\\nc\"", "does not allow"),
        ("url = \"http://h/\"\n[entry.headers]\na = 1", "array of strings"),
        ("url = \"http://h/\"\nbody = { size = 1 }", "no `hash`"),
        ("url = \"http://h/\"\nbody = { store-path = \"/\", size = 9223372036854775808 }", "can count"),
        ("url = \"http://h/\"\nbody = { text = \"\", file = \"\" }", "one source"),
        (
            "url = \"http://h/\"\nbody = { hash = \"sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\", size = 0, file = \"a\\u001b\" }",
            "U+001B",
        ),
        ("url = \"http://h/\"\nbody = { store-path = \"/nix/store/a\\u202eb\" }", "U+202E"),
        ("url = \"http://h/\"\nsystems = [\"a\\nb\"]", "U+000A"),
        ("url = \"http://h/\"\nredirects = [{ status = 200, location = \"/\" }]", "status of a redirect"),
    ] {
        let error = error(&format!("version = 1\n[[entry]]\n{key}\n"));
        assert!(error.message.contains(message), "{key}: {error}");
        assert!((2..=5).contains(&error.line), "{key}: {error}");
    }
}

/// A row of a table in docs/inventory.md: a key, and what its absence means.
fn rows<'a>(page: &'a str, heading: &str) -> Vec<(&'a str, &'a str)> {
    let section = page.split_once(&format!("\n{heading}\n")).unwrap().1.split("\n#").next().unwrap();
    let cells = section.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split(" | ").collect::<Vec<_>>()));
    cells.map(|cells| (cells[0].trim_end_matches('`'), cells[2])).collect()
}

#[test]
fn the_documentation_says_what_the_absence_of_each_key_means() {
    let page = include_str!("../../../docs/inventory.md");
    let hash = "\"sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"";
    let url = "version = 1\n[[entry]]\nurl = \"http://h/\"\n";
    // Heading; what stands before the keys, between and behind them; keys that have to be there, with values.
    type Table<'a> = (&'a str, &'a str, &'a str, &'a str, &'a [(&'a str, &'a str)]);
    let tables: [Table; 6] = [
        ("## At the top", "", "\n", "", &[("version", "1")]),
        ("## `[match]`", "version = 1\n[match]\n", "\n", "", &[]),
        ("### A rule of `rewrite`", "version = 1\n[match]\nrewrite = [{", ",", "}]", &[("from", "'a'"), ("to", "'b'")]),
        ("## `[[entry]]`", "version = 1\n[[entry]]\n", "\n", "", &[("url", "'http://h/'")]),
        (
            "### A hop of `redirects`",
            &format!("{url}redirects = [{{"),
            ",",
            "}]",
            &[("status", "302"), ("location", "'/'")],
        ),
        ("### `body`", &format!("{url}body = {{"), ",", "}", &[("hash", hash), ("size", "0"), ("name", "'n'")]),
    ];
    let mut defaults = 0;
    for (heading, before, between, behind, needed) in tables {
        let with = |keys: &[(&str, &str)]| {
            let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key} = {value}")).collect();
            parse(&format!("{before}{}{behind}", keys.join(between)))
        };
        for (key, absent) in rows(page, heading) {
            let others: Vec<_> = needed.iter().copied().filter(|(name, _)| *name != key).collect();
            let found = with(&others);
            if absent.starts_with("has to be there") {
                assert!(found.unwrap_err().message.contains(&format!("`{key}`")), "{heading}: {key}");
            } else if let Some(value) = absent.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) {
                defaults += 1;
                assert_eq!(with(&[&others[..], &[(key, value)]].concat()).unwrap(), found.unwrap(), "{heading}: {key}");
            } else {
                assert!(found.is_ok(), "{heading}: {key}");
            }
            if absent.contains("but with `store-path`") {
                assert!(with(&[("store-path", "'/nix/store/0n990026bqr402n0pk3lwy5r2saxyh84-t'")]).is_ok(), "{key}");
            }
        }
    }
    assert!(defaults >= 9, "only {defaults} defaults found: the search is broken");
}

#[test]
fn of_a_long_line_the_part_around_the_place_is_shown() {
    let text = format!("{{\"version\": 1, \"entry\": [{}{{\"urk\": 1}}]}}", "{\"url\": \"http://h/\"},".repeat(1000));
    let error = error(&text);
    let shown = error.to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert!(error.column > 20_000 && lines[2].contains("…") && lines[2].contains("\"urk\""), "{shown}");
    assert!(shown.len() < 1000, "{shown}");
    let place = lines[2].chars().nth(lines[3].chars().count() - 1);
    assert!(place.is_some_and(|place| "\"urk:".contains(place)), "{place:?} in {shown}");
}
