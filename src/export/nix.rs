//! A Nix expression with a `fetchurl` for each body that can be downloaded.

use std::collections::BTreeMap;

use super::of_system;
use crate::{
    inventory::{Body, Inventory, Source},
    store::hash::NixHash,
};

/// `{ fetchurl }: { "URL" = fetchurl { … }; }` for what `inventory` has for `system`, and a remark on each entry that is
/// not in it.
pub fn to_fetchurl(inventory: &Inventory, system: &str) -> (String, Vec<String>) {
    let (entries, others) = of_system(inventory, system);
    let mut remarks: Vec<String> = others.into_iter().collect();
    let mut bodies: BTreeMap<&str, (&Body, &str, NixHash)> = BTreeMap::new();
    for entry in entries {
        let request = format!("{} {}", entry.method, entry.url);
        let Some(body) = &entry.body else {
            remarks.push(format!("{request}: it has no body"));
            continue;
        };
        let (Source::Fetch(from), Some(hash)) = (&body.source, body.hash) else {
            remarks.push(format!("{request}: its body cannot be downloaded again"));
            continue;
        };
        let url = entry.url.as_str();
        match bodies.get(url) {
            Some((_, _, other)) if *other != hash => {
                remarks.push(format!("{request}: there is another body for this URL already"));
            }
            Some(_) => {}
            None => {
                bodies.insert(url, (body, from.as_deref().unwrap_or(url), hash));
            }
        }
    }
    let mut text =
        "# Made by `buildproxy export --to fetchurl`: what can be downloaded of an inventory, by URL.\n".to_owned();
    text.push_str("{ fetchurl }:\n{\n");
    for (url, (body, from, hash)) in bodies {
        let name = body.name.as_ref().map_or("source", |name| name.as_str());
        text.push_str(&format!("  {} = fetchurl {{\n", string(url)));
        for (key, value) in [("url", from), ("name", name), ("hash", &hash.to_string())] {
            text.push_str(&format!("    {key} = {};\n", string(value)));
        }
        text.push_str("  };\n");
    }
    text.push_str("}\n");
    (text, remarks)
}

/// `text` as a string of Nix, in which nothing is evaluated.
fn string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            // Every dollar: where the next one is a brace, it would begin an expression.
            '"' | '\\' | '$' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Entry;

    fn entry(url: &str, source: Source) -> Entry {
        let url: crate::url::NormalizedUrl = url.parse().unwrap();
        let name = Some(url.store_path_name());
        let body = Some(Body { hash: Some(NixHash::sha256(b"x")), size: Some(1), name, source });
        Entry { body, ..Entry::get(url) }
    }

    #[test]
    fn each_url_has_one_fetchurl_and_the_rest_a_remark() {
        let mut other = entry("http://h/a", Source::Fetch(None));
        other.body.as_mut().unwrap().hash = Some(NixHash::sha256(b"y"));
        let elsewhere = entry("http://h/b", Source::Fetch(Some("http://m/${b}\"\\".to_owned())));
        let mut foreign = entry("http://h/c", Source::Fetch(None));
        foreign.systems = vec!["y".to_owned()];
        let first = entry("http://h/a", Source::Fetch(None));
        let entries = vec![
            first.clone(),
            first,
            other,
            elsewhere,
            foreign,
            entry("http://h/f", Source::Text("x".to_owned())),
            Entry::get("http://h/e".parse().unwrap()),
        ];
        let (text, remarks) = to_fetchurl(&Inventory { entries, ..Inventory::default() }, "x");
        assert_eq!(text.matches("= fetchurl {").count(), 2, "{text}");
        assert!(text.contains(r#"url = "http://m/\${b}\"\\";"#), "{text}");
        assert_eq!(remarks.len(), 4, "{remarks:?}");
    }
}
