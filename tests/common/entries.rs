//! An inventory as a test reads it: by a TOML parser and nothing of the program's own.

use std::{fs, path::Path};

use toml::{Table, Value};

pub struct Entries(pub Vec<Entry>);

pub struct Entry(Table);

impl Entries {
    #[track_caller]
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("no inventory: {error}"));
        let mut table: Table = text.parse().unwrap_or_else(|error| panic!("not TOML: {error}\n{text}"));
        assert_eq!(table.get("version"), Some(&Value::Integer(1)), "{text}");
        let entries = match table.remove("entry") {
            None => Vec::new(),
            Some(Value::Array(entries)) => entries,
            Some(other) => panic!("`entry` is {other}"),
        };
        Self(entries.into_iter().map(|entry| Entry(entry.try_into().unwrap())).collect())
    }

    /// The entries for `url`, in the order of the file.
    pub fn of(&self, url: &str) -> Vec<&Entry> {
        self.0.iter().filter(|entry| entry.text("url") == url).collect()
    }

    /// The one entry for `url`.
    #[track_caller]
    pub fn one(&self, url: &str) -> &Entry {
        let found = self.of(url);
        assert_eq!(found.len(), 1, "entries for {url} among {:?}", self.urls());
        found[0]
    }

    pub fn urls(&self) -> Vec<&str> {
        self.0.iter().map(|entry| entry.text("url")).collect()
    }
}

impl Entry {
    /// The value under a path of keys, such as `["body", "hash"]`.
    pub fn get(&self, path: &[&str]) -> Option<&Value> {
        let (last, folders) = path.split_last()?;
        let mut table = &self.0;
        for key in folders {
            table = table.get(*key)?.as_table()?;
        }
        table.get(*last)
    }

    /// The text under `key`, empty where there is none.
    pub fn text(&self, key: &str) -> &str {
        self.get(&[key]).and_then(Value::as_str).unwrap_or_default()
    }

    pub fn status(&self) -> i64 {
        self.get(&["status"]).map_or(200, |value| value.as_integer().expect("a number as status"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.get(&["headers", name]).and_then(Value::as_str)
    }

    /// The text under `key` of the body.
    pub fn body(&self, key: &str) -> Option<&str> {
        self.get(&["body", key]).and_then(Value::as_str)
    }

    pub fn size(&self) -> Option<i64> {
        self.get(&["body", "size"]).and_then(Value::as_integer)
    }

    /// `fetch`, `file`, `text` or `store-path`.
    pub fn source(&self) -> &str {
        ["file", "text", "store-path"].into_iter().find(|key| self.body(key).is_some()).unwrap_or("fetch")
    }

    /// Status and Location of each hop.
    pub fn hops(&self) -> Vec<(i64, String)> {
        let hops = self.get(&["redirects"]).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let hop = |hop: &Value| (hop["status"].as_integer().unwrap(), hop["location"].as_str().unwrap().to_owned());
        hops.iter().map(hop).collect()
    }
}
