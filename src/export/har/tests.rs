use super::*;
use crate::{
    inventory::{Hop, request_body::BodyForm},
    store::hash::NixHash,
};

fn text_entry(url: &str, text: &str) -> Entry {
    let source = Source::Text(text.to_owned());
    let hash = Some(NixHash::sha256(text.as_bytes()));
    let body = Some(Body { hash, size: Some(text.len() as u64), name: None, source });
    Entry { body, ..Entry::get(url.parse().unwrap()) }
}

fn files(folder: &std::path::Path) -> BodyFiles {
    let stores = crate::store::Stores::new(None, crate::store::embedded::EmbeddedStore::new(folder.join("store")));
    BodyFiles { inventory_dir: folder.to_owned(), stores }
}

#[test]
fn a_chain_is_one_exchange_a_hop_and_a_file_of_any_length_is_base64() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..CHUNK * 2 + 7).map(|n| (n % 251) as u8).collect();
    std::fs::write(folder.path().join("b"), &bytes).unwrap();
    let mut entry = Entry::get("http://h/a?x=%20y&z".parse().unwrap());
    entry.redirects = vec![Hop { status: 302, location: "/b".to_owned(), headers: Headers::default() }];
    let source = Source::File("b".to_owned());
    entry.body = Some(Body { hash: Some(NixHash::sha256(&bytes)), size: Some(bytes.len() as u64), name: None, source });
    let inventory = Inventory { entries: vec![entry], ..Inventory::default() };
    let mut output = Vec::new();
    assert_eq!(write(&mut output, &inventory, "x", Some(&files(folder.path()))).unwrap(), [""; 0]);
    let har: Value = serde_json::from_slice(&output).unwrap();
    let entries = har["log"]["entries"].as_array().unwrap();
    let urls: Vec<_> = entries.iter().map(|entry| entry["request"]["url"].as_str().unwrap()).collect();
    assert_eq!(urls, ["http://h/a?x=%20y&z", "http://h/b"]);
    assert_eq!(entries[0]["request"]["queryString"], json!([{"name": "x", "value": " y"}, {"name": "z", "value": ""}]));
    assert_eq!(entries[0]["response"]["redirectURL"], "/b");
    let text = entries[1]["response"]["content"]["text"].as_str().unwrap();
    assert_eq!(BASE64.decode(text.as_bytes()).unwrap(), bytes);
}

#[test]
fn what_har_cannot_say_is_told() {
    let mut entry = text_entry("http://h/a", "x");
    entry.request_body = Some(BodyDigest { form: BodyForm::Json, ..BodyDigest::of_bytes(b"q") });
    entry.request_headers.insert("accept".to_owned(), "a".to_owned());
    entry.url_match = UrlMatch::Prefix;
    entry.systems = vec!["x".to_owned()];
    let other = Entry { systems: vec!["y".to_owned()], ..entry.clone() };
    let inventory = Inventory { match_rules: MatchRules::ignoring(&["_"]), entries: vec![entry, other] };
    let remarks = write(io::sink(), &inventory, "x", None).unwrap();
    assert_eq!(remarks.len(), 6, "{remarks:?}");
}

#[test]
fn nothing_is_written_where_bodies_are_missing() {
    let folder = tempfile::tempdir().unwrap();
    let mut entry = text_entry("http://h/a", "x");
    entry.body.as_mut().unwrap().source = Source::File("absent".to_owned());
    let inventory = Inventory { entries: vec![entry.clone(), entry], ..Inventory::default() };
    let mut output = Vec::new();
    let error = write(&mut output, &inventory, "x", Some(&files(folder.path()))).unwrap_err();
    assert!(matches!(error, ExportError::Bodies(lines) if lines.len() == 2));
    assert!(output.is_empty());
    write(&mut output, &inventory, "x", None).unwrap();
    assert!(!output.is_empty());
}
