//! What is counted with: inventories like those that captures write.

use buildproxy::{
    Entry, Inventory, MatchRules, NormalizedUrl, counted::Index, inventory_to_toml as to_toml, parse_inventory as parse,
};
use http::HeaderMap;

/// An entry of each common kind. `NUMBER` stands for the entry's own.
const KINDS: &str = r#"
version = 1

[match]
ignore-query = ["X-Amz-*", "_"]

[[entry]]
url = "https://registry.example.org/packages/left-pad/-/left-pad-NUMBER.tgz"
body = { hash = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", size = 48211, name = "left-pad.tgz" }
[entry.headers]
accept-ranges = "bytes"
cache-control = "public, max-age=31536000, immutable"
content-type = "application/octet-stream"
etag = '"5f3d2a71-bc53"'
last-modified = "Tue, 02 Jan 2024 00:00:00 GMT"

[[entry]]
url = "https://github.com/owner/repository/releases/download/vNUMBER/source.tar.gz"
redirects = [ { status = 302, location = "https://objects.example.net/release-assets/NUMBER?X-Amz-Date=20240102T000000Z&X-Amz-Signature=6a09e667f3bcc908b2fb1366ea957d3e" } ]
body = { hash = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", size = 1048576, name = "source.tar.gz" }
[entry.headers]
content-type = "application/gzip"
etag = '"0x8DC0B2E3"'

[[entry]]
method = "POST"
url = "https://api.example.org/v1/resolve?page=NUMBER&lang=en"
request-body = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
request-headers = { accept = "application/json" }
status = 404
body = { hash = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", size = 24, text = "{ \"error\": \"not found\" }" }
[entry.headers]
content-type = "application/json"
vary = "accept"
"#;

/// How many look-ups are counted together, so that the luck of one hash is not what is counted.
const LOOK_UPS: usize = 100;

/// `size` entries of every kind.
pub fn inventory(size: usize) -> Inventory {
    let mut inventory = parse(KINDS).unwrap();
    let kinds = std::mem::take(&mut inventory.entries);
    inventory.entries = (0..size).zip(kinds.iter().cycle()).map(|(number, kind)| numbered(kind, number)).collect();
    inventory
}

fn numbered(kind: &Entry, number: usize) -> Entry {
    let fill = |text: &str| text.replace("NUMBER", &number.to_string());
    let mut entry = kind.clone();
    entry.url = fill(kind.url.as_str()).parse().unwrap();
    for hop in &mut entry.redirects {
        hop.location = fill(&hop.location);
    }
    entry
}

/// The text of an inventory as people have it.
pub fn toml(size: usize) -> String {
    to_toml(&inventory(size))
}

/// The same as Nix hands it to replay.
pub fn json(size: usize) -> String {
    let value: serde_json::Value = toml::from_str(&toml(size)).unwrap();
    value.to_string()
}

/// An index and requests that it answers.
pub struct LookUps {
    index: Index,
    urls: Vec<NormalizedUrl>,
}

impl LookUps {
    /// Among `size` entries, `LOOK_UPS` are looked up by what `asked` makes of them.
    fn new(size: usize, rules: MatchRules, asked: impl Fn(&Entry) -> Option<String>) -> Self {
        let mut inventory = inventory(size);
        inventory.match_rules = rules;
        let matching: Vec<String> = inventory.entries.iter().filter_map(asked).collect();
        let urls = matching.iter().step_by(matching.len() / LOOK_UPS).take(LOOK_UPS);
        let urls = urls.map(|url| url.parse().unwrap()).collect();
        Self { index: Index::new(inventory.into(), "x86_64-linux").unwrap(), urls }
    }

    /// Requests for the entries' own URLs.
    pub fn of_entries(size: usize) -> Self {
        Self::new(size, MatchRules::default(), |entry| entry.redirects.is_empty().then(|| entry.url.to_string()))
    }

    /// Requests for what redirects lead to.
    pub fn of_hops(size: usize) -> Self {
        Self::new(size, MatchRules::default(), |entry| entry.redirects.first().map(|hop| hop.location.clone()))
    }

    /// The same with another signature, which `ignore-query` makes no difference of.
    pub fn of_other_signatures(size: usize) -> Self {
        let rules = parse(KINDS).unwrap().match_rules;
        Self::new(size, rules, |entry| {
            entry.redirects.first().map(|hop| hop.location.replace("X-Amz-Signature=", "X-Amz-Signature=f0"))
        })
    }

    /// Looks all of them up.
    pub fn run(&self) {
        let headers = HeaderMap::new();
        for url in &self.urls {
            assert!(self.index.answers(url, &headers), "{url}");
        }
    }
}
