//! What Nix has registered of a store path, as `nix path-info --json` tells it.
//!
//! Its shape has changed: up to 2.18 an array of objects with `path`; since then a map by path; with `--json-format 2` (2.33) a
//! map by base name below `info`, with content addresses as objects.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::store::{
    hash::NixHash,
    path::{STORE_DIR, StorePath},
};

/// What the database of Nix says of a store path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The hash of its archive; `None` where it is of an algorithm that is not known here.
    pub nar_hash: Option<NixHash>,
    /// The content address, where it has one, in the words of the database: `fixed:sha256:<nix32>`, `fixed:r:…`, `text:…`.
    pub content_address: Option<String>,
}

/// The registrations in what `nix path-info --json` printed; `None` where it has none of the shapes that are known.
pub(super) fn read(json: &str) -> Option<HashMap<StorePath, Registration>> {
    let mut found = HashMap::new();
    match serde_json::from_str(json).ok()? {
        Value::Array(list) => {
            for value in &list {
                let Value::Object(object) = value else { return None };
                add(&mut found, object.get("path")?.as_str()?, object)?;
            }
        }
        Value::Object(mut map) => {
            let info = match map.remove("info") {
                Some(Value::Object(info)) => info,
                Some(_) => return None,
                None => map,
            };
            for (path, value) in &info {
                match value {
                    Value::Null => {} // not valid
                    Value::Object(object) => add(&mut found, path, object)?,
                    _ => return None,
                }
            }
        }
        _ => return None,
    }
    Some(found)
}

/// Adds what `object` says of `path`, a whole one or its base name.
fn add(found: &mut HashMap<StorePath, Registration>, path: &str, object: &Map<String, Value>) -> Option<()> {
    if object.get("valid") == Some(&Value::Bool(false)) {
        return Some(());
    }
    let base = path.strip_prefix(STORE_DIR).map_or(path, |rest| rest.trim_start_matches('/'));
    let nar_hash = hash(object.get("narHash")?);
    let content_address = match object.get("ca") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Object(structured)) => Some(in_words(structured)?),
        Some(_) => return None,
    };
    found.insert(StorePath::from_base_name(base).ok()?, Registration { nar_hash, content_address });
    Some(())
}

/// A content address that is an object, in the words of the database.
fn in_words(object: &Map<String, Value>) -> Option<String> {
    let method = match object.get("method")?.as_str()? {
        "flat" => "fixed:",
        "nar" => "fixed:r:",
        "git" => "fixed:git:",
        "text" => "text:",
        _ => return None,
    };
    let hash = hash(object.get("hash")?)?;
    Some(format!("{method}{}:{}", hash.algo().as_str(), hash.to_nix32()))
}

/// The content address of a fixed output that is one file.
pub fn flat_content_address(hash: &NixHash) -> String {
    format!("fixed:{}:{}", hash.algo().as_str(), hash.to_nix32())
}

/// A hash as text in any spelling, or as an object with `algorithm`, `format` and `hash`.
fn hash(value: &Value) -> Option<NixHash> {
    match value {
        Value::String(text) => NixHash::parse_any(text, None).ok(),
        Value::Object(object) => {
            let field = |name: &str| object.get(name)?.as_str();
            NixHash::parse_any(field("hash")?, Some(field("algorithm")?.parse().ok()?)).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "c3wmyv6cr8ljaaf6l0qa40gl94iwifyy-w";
    const ADDRESS: &str = "fixed:sha256:19xqkh72crbcba7flwxyi3n293vav6d7qkzkh2v4zfyi4iia8vj8";
    const NAR: &str = "sha256-LiIM2gyu9bKxAHgIKzpePeiGgHwZByccRXO5X/iuC0k=";

    fn expected() -> HashMap<StorePath, Registration> {
        let registration =
            Registration { nar_hash: Some(NAR.parse().unwrap()), content_address: Some(ADDRESS.to_owned()) };
        HashMap::from([(StorePath::from_base_name(PATH).unwrap(), registration)])
    }

    /// Printed by 2.8, 2.34, and 2.34 with `--json-format 2`; shortened.
    #[test]
    fn every_shape_says_the_same() {
        let array = format!(
            r#"[{{"path":"/nix/store/{PATH}","narHash":"{NAR}","narSize":120,"references":[],"ca":"{ADDRESS}"}},
                {{"path":"/nix/store/wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww-x","valid":false}}]"#
        );
        let map = format!(
            r#"{{"/nix/store/{PATH}":{{"ca":"{ADDRESS}","deriver":null,"narHash":"{NAR}","version":1}},
                "/nix/store/wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww-x":null}}"#
        );
        let by_name = format!(
            r#"{{"info":{{"{PATH}":{{"ca":{{"hash":"sha256-SG6kYiTRu0+2gPNPfJrZao8k7Ii+c+qOWmxlJg6cuKc=",
                "method":"flat"}},"narHash":"{NAR}","version":2}}}},"storeDir":"/nix/store","version":2}}"#
        );
        for json in [array, map, by_name] {
            assert_eq!(read(&json), Some(expected()), "{json}");
        }
        assert_eq!(read("[]"), Some(HashMap::new()));
    }

    #[test]
    fn hashes_are_read_in_every_spelling() {
        let nar: NixHash = NAR.parse().unwrap();
        let object = |hash: &str| serde_json::json!({"algorithm": "sha256", "format": "any", "hash": hash});
        for value in [
            Value::from(NAR),
            Value::from(format!("sha256:{}", nar.to_hex())),
            Value::from(format!("sha256:{}", nar.to_nix32())),
            object(&nar.to_hex()),
            object(NAR.trim_start_matches("sha256-")),
        ] {
            assert_eq!(hash(&value), Some(nar), "{value}");
        }
        for value in ["", "sha256", "sha256:zz", "md5:1B2M2Y8AsgTpgAmY7PhCfg=="] {
            assert_eq!(hash(&Value::from(value)), None, "{value}");
        }
    }

    #[test]
    fn another_shape_is_none_that_is_guessed_at() {
        for json in ["", "1", "[1]", r#"{"info":3}"#, r#"[{"narHash":"x"}]"#, r#"{"/nix/store/short":{"narHash":"x"}}"#]
        {
            assert_eq!(read(json), None, "{json}");
        }
        let unaddressed = format!(r#"[{{"path":"/nix/store/{PATH}","narHash":"{NAR}"}}]"#);
        let registrations = read(&unaddressed).unwrap();
        assert_eq!(registrations.values().next().unwrap().content_address, None);
    }
}
