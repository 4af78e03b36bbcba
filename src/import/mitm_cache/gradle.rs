//! The shorter form that nixpkgs has of lock files for Gradle (`pkgs/development/tools/build-managers/gradle` there).
//!
//! It nests the parts of URLs: the names on the way to a hash, joined by `/`, are the URL but for its last extension, and
//! `REPOSITORY#NAME/VERSION` stands for `REPOSITORY/NAME/VERSION/NAME-VERSION`, as Maven lays repositories out. In place of
//! a hash there can be what is known of a `maven-metadata.xml`. `nix/inventory/gradle.nix` reads the same.

use std::collections::BTreeMap;

use serde_json::Value;

use super::metadata::Metadata;

/// An answer that the shorter form stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expanded {
    /// A file by its hash.
    Hash(String),
    /// All of it.
    Text(String),
}

/// What is below one name of the shorter form, and the names on the way.
#[derive(Debug, Default)]
pub struct Shorter<'a> {
    leaves: BTreeMap<String, Leaf<'a>>,
}

#[derive(Debug)]
enum Leaf<'a> {
    Hash(&'a str),
    Metadata(Metadata<'a>),
    Wrong(&'static str),
}

impl<'a> Shorter<'a> {
    /// Adds what lies below `prefix`.
    pub fn add(&mut self, prefix: &str, value: &'a Value) {
        let Some(members) = value.as_object().filter(|members| !members.is_empty()) else {
            self.leaves.insert(prefix.to_owned(), Leaf::Wrong("it is none of what lock files have"));
            return;
        };
        // Where two are the same URL, the last in the order of the names counts, as for Nix.
        for (name, value) in members.iter().collect::<BTreeMap<_, _>>() {
            let leaf = match value {
                Value::String(hash) => Leaf::Hash(hash),
                Value::Object(of) if of.contains_key("groupId") => Leaf::Metadata(Metadata::new(of)),
                other => {
                    self.add(&format!("{prefix}/{name}"), other);
                    continue;
                }
            };
            match expanded(prefix) {
                Some(url) => self.leaves.insert(format!("{url}.{name}"), leaf),
                None => self.leaves.insert(
                    format!("{prefix}.{name}"),
                    Leaf::Wrong("what is behind `#` is not the name and the version of an artifact"),
                ),
            };
        }
    }

    /// All answers by their URLs, or why there is none.
    pub fn expand(&self) -> BTreeMap<String, Result<Expanded, String>> {
        // What has a wrong name is no file of a repository.
        let is_file = |leaf: &Leaf| !matches!(leaf, Leaf::Wrong(_));
        let urls: Vec<&str> =
            self.leaves.iter().filter(|(_, leaf)| is_file(leaf)).map(|(url, _)| url.as_str()).collect();
        let answer = |url: &str, leaf: &Leaf| match leaf {
            Leaf::Hash(hash) => Ok(Expanded::Hash((*hash).to_owned())),
            Leaf::Metadata(metadata) => metadata.write(url, &urls).map(Expanded::Text),
            Leaf::Wrong(reason) => Err((*reason).to_owned()),
        };
        self.leaves.iter().map(|(url, leaf)| (url.clone(), answer(url, leaf))).collect()
    }
}

/// The URL, but for its last extension, that `text` is the short form of.
fn expanded(text: &str) -> Option<String> {
    let Some((repository, artifact)) = text.rsplit_once('#') else { return Some(text.to_owned()) };
    let (name, rest) = artifact.split_once('/')?;
    let (version, rest) = rest.split_once('/').map_or((rest, None), |(version, rest)| (version, Some(rest)));
    let (is_snapshot, classifier) = match rest {
        Some("SNAPSHOT") => (true, None),
        Some(rest) => match rest.strip_prefix("SNAPSHOT/") {
            Some(classifier) => (true, Some(classifier)),
            None => (false, Some(rest)),
        },
        None => (false, None),
    };
    // A snapshot's folder has no time and number, which its file has.
    let time_and_number = version.rmatch_indices('-').nth(1).filter(|_| is_snapshot);
    let folder = time_and_number.map_or(version.to_owned(), |(dash, _)| format!("{}-SNAPSHOT", &version[..dash]));
    let folder = format!("/{name}/{folder}/");
    let classifier = classifier.map_or(String::new(), |classifier| format!("-{classifier}"));
    Some(format!("{}{folder}{name}-{version}{classifier}", repository.replace('#', &folder)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_a_hash_sign_is_laid_out_as_maven_does() {
        for (short, url) in [
            ("m2#org/x/lib/1.0", "m2/org/x/org-x-lib/1.0"),
            ("m2/org/x#lib/1.0", "m2/org/x/lib/1.0/lib-1.0"),
            ("m2/org#lib/1.0/sources", "m2/org/lib/1.0/lib-1.0-sources"),
            ("m2/org#lib/1.0-2024.1-7/SNAPSHOT", "m2/org/lib/1.0-SNAPSHOT/lib-1.0-2024.1-7"),
            ("m2/org#lib/1.0-2024.1-7/SNAPSHOT/all", "m2/org/lib/1.0-SNAPSHOT/lib-1.0-2024.1-7-all"),
            ("m2/org#lib/1.0/SNAPSHOTS", "m2/org/lib/1.0/lib-1.0-SNAPSHOTS"),
            ("plain/a", "plain/a"),
        ] {
            assert_eq!(expanded(short).as_deref(), Some(url), "{short}");
        }
        assert_eq!(expanded("m2/org#lib"), None);
    }
}
