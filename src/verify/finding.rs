//! What is wrong, where, and what to do about it.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::store::hash::NixHash;

/// One thing that is wrong with an inventory or its bodies.
///
/// Printed, it is a line for people; serialised, an object with `entry`, `url`, `kind`, the kind's own fields and the
/// same line as `message`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The entry, counted from 0 in the order of the file; `None` where it is about the whole inventory. A body that
    /// several entries share is reported with the first.
    pub entry: Option<usize>,
    /// The entry's URL; empty where there is no entry.
    pub url: String,
    /// What is wrong.
    pub kind: FindingKind,
}

/// What can be wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
#[non_exhaustive]
pub enum FindingKind {
    /// A body is not where it has to be, or its path leads elsewhere.
    BodyNotFound {
        /// What is missing, where it was looked for, what to do.
        reason: String,
    },
    /// A body's file, or the tree around it, is there but cannot be read.
    BodyUnreadable {
        /// The file, and what the system said.
        reason: String,
    },
    /// A body has another size than recorded.
    WrongSize {
        /// The body's file, or `text`.
        file: String,
        /// Its size in bytes.
        size: u64,
        /// The recorded size in bytes.
        expected: u64,
        /// What to do.
        remedy: String,
    },
    /// A body has another hash than recorded.
    WrongHash {
        /// The body's file, or `text`.
        file: String,
        /// Its hash.
        hash: NixHash,
        /// The recorded hash.
        expected: NixHash,
        /// What to do.
        remedy: String,
    },
    /// A store path has another NAR hash than recorded.
    WrongNarHash {
        /// The store path.
        path: String,
        /// Its NAR hash.
        hash: NixHash,
        /// The recorded NAR hash.
        expected: NixHash,
        /// What to do.
        remedy: String,
    },
    /// A store path is in the Nix store's folder, but Nix has not registered it.
    NotRegistered {
        /// The store path.
        path: String,
        /// What to do.
        remedy: String,
    },
    /// Nix has registered another NAR hash than a store path has.
    WrongRegistration {
        /// The store path's place.
        path: String,
        /// The NAR hash that it has.
        hash: NixHash,
        /// The registered NAR hash.
        registered: NixHash,
        /// What to do.
        remedy: String,
    },
    /// Nix has registered another content address than the one that hash and name of a body give.
    WrongContentAddress {
        /// The store path.
        path: String,
        /// The registered content address.
        registered: String,
        /// The one that it has to have.
        expected: String,
        /// What to do.
        remedy: String,
    },
    /// A body lacks what it needs so that its bytes can be found and checked.
    NotPinned {
        /// The absent keys.
        missing: Vec<&'static str>,
    },
    /// An entry gives the answer of the one before it in its sequence.
    RepeatsPrevious {
        /// The entry before it.
        previous: usize,
    },
    /// Two entries with one key are for different systems, but not for disjoint ones.
    OverlappingSystems {
        /// The other entry.
        other: usize,
        /// The systems that both are for.
        systems: Vec<String>,
    },
    /// Two redirect chains meet at a URL and differ in its answer.
    HopDisagrees {
        /// The URL where they meet.
        hop: String,
        /// The other entry.
        other: usize,
        /// The other entry's URL.
        other_url: String,
    },
    /// Redirects lead back to where they started.
    RedirectLoop {
        /// The URLs on the way; the last is the first again.
        urls: Vec<String>,
    },
    /// A hop's `location` is no URL that a client could follow.
    BadLocation {
        /// The `location`.
        location: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A status that a final response cannot have.
    BadStatus {
        /// The status code.
        status: u16,
    },
    /// A status that does not redirect.
    BadHopStatus {
        /// The status code.
        status: u16,
    },
    /// `fetch`, though Nix would not get the same bytes.
    NotFetchable {
        /// Why not.
        reasons: Vec<String>,
    },
    /// What looks like a long-lived key.
    Secret {
        /// What it looks like.
        what: &'static str,
        /// The part of the entry.
        place: String,
    },
    /// A store path name that Nix refuses.
    BadName {
        /// The name.
        name: String,
        /// The rule that it breaks.
        reason: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.entry.is_some() {
            write!(f, "{}: ", self.url)?;
        }
        write!(f, "{}", self.kind)
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct View<'a> {
            entry: Option<usize>,
            url: &'a str,
            message: String,
            #[serde(flatten)]
            kind: &'a FindingKind,
        }
        let Self { entry, url, kind } = self;
        View { entry: *entry, url, message: self.to_string(), kind }.serialize(serializer)
    }
}

/// The problem, and behind a colon or semicolon what to do about it. Entries are counted from 1 here, as people do.
impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BodyNotFound { reason } | Self::BodyUnreadable { reason } => f.write_str(reason),
            Self::WrongSize { file, size, expected, remedy } if size < expected => {
                write!(f, "{file} is short: {size} of {expected} bytes; {remedy}")
            }
            Self::WrongSize { file, size, expected, remedy } => {
                write!(f, "{file} is too long: {size} instead of {expected} bytes; {remedy}")
            }
            Self::WrongHash { file, hash, expected, remedy } => {
                write!(f, "{file} has hash {hash} instead of {expected}; {remedy}")
            }
            Self::WrongNarHash { path, hash, expected, remedy } => {
                write!(f, "{path} has NAR hash {hash} instead of {expected}; {remedy}")
            }
            Self::NotRegistered { path, remedy } => {
                write!(f, "{path} is in the Nix store's folder, but Nix has not registered it; {remedy}")
            }
            Self::WrongRegistration { path, hash, registered, remedy } => {
                write!(f, "{path} has NAR hash {hash}, but Nix has registered {registered}; {remedy}")
            }
            Self::WrongContentAddress { path, registered, expected, remedy } => {
                write!(
                    f,
                    "Nix has registered {path} with the content address {registered} instead of {expected}; {remedy}"
                )
            }
            Self::NotPinned { missing } => {
                write!(f, "the body has no {}: add what is missing, or capture it again", missing.join(" and no "))
            }
            Self::RepeatsPrevious { previous } => {
                write!(f, "the answer is that of entry {} before it: remove one of the two", previous + 1)
            }
            Self::OverlappingSystems { other, systems } => write!(
                f,
                "for {} entry {} answers the same request: give both the same `systems`, or disjoint ones",
                systems.join(", "),
                other + 1
            ),
            Self::HopDisagrees { hop, other, other_url } => write!(
                f,
                "its redirects pass {hop}, which entry {} ({other_url}) answers differently: capture both again, or add \
                 an entry for {hop}",
                other + 1
            ),
            Self::RedirectLoop { urls } => {
                write!(f, "redirects go round in a circle: {}; remove one of them", urls.join(" -> "))
            }
            Self::BadLocation { location, reason } => {
                write!(f, "no client can follow the redirect to `{location}`: {reason}; correct the location")
            }
            Self::BadStatus { status } => {
                write!(f, "status {status} cannot end a response: use one from 200 to 599")
            }
            Self::BadHopStatus { status } => {
                write!(f, "status {status} does not redirect: use 301, 302, 303, 307 or 308")
            }
            Self::NotFetchable { reasons } => write!(
                f,
                "Nix cannot fetch the body again, because {}: make it a `file` or `text` body, or name a URL to `fetch` \
                 that gives these bytes",
                reasons.join(" and ")
            ),
            Self::Secret { what, place } => write!(
                f,
                "{place} has what looks like {what}: if it is one, make it invalid at its issuer, since whoever has the \
                 inventory has it, and remove the entry"
            ),
            Self::BadName { name, reason } => {
                write!(f, "Nix refuses the name `{name}`: {reason}; by custom it is the last path segment of the URL")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_for_people_and_an_object_for_programs() {
        let kind =
            FindingKind::WrongSize { file: "f".to_owned(), size: 10, expected: 20, remedy: "replace it".to_owned() };
        let finding = Finding { entry: Some(2), url: "http://h/a".to_owned(), kind };
        let line = "http://h/a: f is short: 10 of 20 bytes; replace it";
        assert_eq!(finding.to_string(), line);
        let object = serde_json::json!({
            "entry": 2, "url": "http://h/a", "message": line, "kind": "wrong-size",
            "file": "f", "size": 10, "expected": 20, "remedy": "replace it",
        });
        assert_eq!(serde_json::to_value(&finding).unwrap(), object);
    }

    #[test]
    fn entries_are_counted_from_one_in_messages() {
        assert!(FindingKind::RepeatsPrevious { previous: 0 }.to_string().contains("entry 1 "));
        let kind = FindingKind::OverlappingSystems { other: 1, systems: vec!["a".to_owned(), "b".to_owned()] };
        assert!(kind.to_string().starts_with("for a, b entry 2 "));
    }

    #[test]
    fn what_the_reader_of_inventories_refuses_has_words_too() {
        let status = FindingKind::BadStatus { status: 99 };
        assert_eq!(status.to_string(), "status 99 cannot end a response: use one from 200 to 599");
        let not_pinned = FindingKind::NotPinned { missing: vec!["hash", "size"] };
        assert_eq!(
            not_pinned.to_string(),
            "the body has no hash and no size: add what is missing, or capture it again"
        );
    }
}
