//! Why a body is fetched again or kept: the rules, in the order in which they are asked, each with its reason.
//!
//! The first rule that applies decides. What is kept for nothing makes a repository larger; what is fetched for nothing breaks
//! builds later. So text, which is small, is kept where there is doubt, and archives, which are not, are fetched.
//! `docs/sources.md` has the rules as a table, with what each was seen on.

mod reason;

pub use reason::Reason;

use super::{
    entry::{Entry, Inventory, UrlMatch},
    key::Keys,
    naming::{self, Naming},
};
use crate::url::NormalizedUrl;
use http::Method;

/// The longest time, in seconds, for which an answer may be reused that says of itself that it changes soon: package
/// indexes say 60 to 600, documentation and files of repositories 300 to 3,600.
const SOON: u64 = 3600;

/// A rule, by the name that `paths --why` and docs/sources.md give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Another method than `GET`.
    Method,
    /// The request had a body.
    RequestBody,
    /// Another status than 200.
    Status,
    /// The entry is for all URLs that start with its own.
    Prefix,
    /// The answer depends on request headers.
    RequestHeaders,
    /// The body has a content coding.
    ContentCoding,
    /// The answer depended on something that only this client had or asked for, or its end is not certain.
    Personal,
    /// One request got several answers.
    Changing,
    /// What a git server answers.
    Git,
    /// `Cache-Control: no-store`.
    NoStore,
    /// The URL itself has a signature that expires.
    Signed,
    /// The URL moves, but the chain passes one that names a version.
    PinnedByRedirect,
    /// The URL is that of whatever is newest, or of a branch.
    Moving,
    /// A snapshot of Maven.
    Snapshot,
    /// `Cache-Control: immutable`.
    Immutable,
    /// The URL names a digest, a commit or a moment.
    Digest,
    /// The index of a package repository.
    Index,
    /// An HTML page.
    Page,
    /// A text under a URL that names no file.
    Api,
    /// A text that its server says is soon another one.
    ShortLived,
    /// None of the above.
    File,
}

/// What is known of an entry beside what it says itself.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Whether everybody gets this answer, as far as the capture could tell.
    pub anonymous: bool,
    /// Whether the request got other answers, too.
    pub changed: bool,
}

impl Why {
    /// All rules, in their order.
    pub const ALL: [Self; 21] = [
        Self::Method,
        Self::RequestBody,
        Self::Status,
        Self::Prefix,
        Self::RequestHeaders,
        Self::ContentCoding,
        Self::Personal,
        Self::Changing,
        Self::Git,
        Self::NoStore,
        Self::Signed,
        Self::PinnedByRedirect,
        Self::Moving,
        Self::Snapshot,
        Self::Immutable,
        Self::Digest,
        Self::Index,
        Self::Page,
        Self::Api,
        Self::ShortLived,
        Self::File,
    ];

    /// The first rule that applies to `entry`.
    pub fn of(entry: &Entry, seen: Seen) -> Self {
        Self::ALL.into_iter().find(|why| why.applies(entry, seen)).unwrap_or(Self::File)
    }

    /// The same for every entry of `inventory`, as far as it can be told from that.
    pub fn of_all(inventory: &Inventory) -> Vec<Self> {
        let keys = Keys::new(&inventory.match_rules).of_all(inventory);
        let mut counts = std::collections::HashMap::new();
        let of_system = |entry: &Entry| entry.systems.clone();
        for (key, entry) in keys.iter().zip(&inventory.entries) {
            *counts.entry((key, of_system(entry))).or_insert(0) += 1;
        }
        let entries = keys.iter().zip(&inventory.entries);
        let of =
            |(key, entry)| Self::of(entry, Seen { anonymous: true, changed: counts[&(key, of_system(entry))] > 1 });
        entries.map(of).collect()
    }

    /// Those rules that apply to `entry` because `fetchurl` would send another request, or not keep its answer.
    pub fn not_askable(entry: &Entry) -> impl Iterator<Item = Self> {
        let known = Seen { anonymous: true, changed: false };
        Self::ALL.into_iter().filter(Self::is_about_the_request).filter(move |why| why.applies(entry, known))
    }

    fn is_about_the_request(&self) -> bool {
        *self <= Self::ContentCoding
    }

    /// Whether a body under this rule is fetched again.
    pub fn fetches(self) -> bool {
        matches!(self, Self::PinnedByRedirect | Self::Immutable | Self::Digest | Self::File)
    }

    fn applies(self, entry: &Entry, seen: Seen) -> bool {
        let url = &entry.url;
        match self {
            Self::Method => entry.method != Method::GET,
            Self::RequestBody => entry.request_body.is_some(),
            Self::Status => entry.status != 200,
            Self::Prefix => entry.url_match == UrlMatch::Prefix,
            Self::RequestHeaders => !entry.request_headers.is_empty(),
            Self::ContentCoding => {
                entry.headers.get("content-encoding").is_some_and(|coding| !coding.eq_ignore_ascii_case("identity"))
            }
            Self::Personal => !seen.anonymous,
            Self::Changing => seen.changed,
            Self::Git => kind(entry).starts_with("application/x-git-"),
            Self::NoStore => says(entry, "no-store"),
            Self::Signed => naming::is_signed(url),
            Self::PinnedByRedirect => pinned_by_redirect(entry).is_some(),
            Self::Moving => naming::of(url) == Naming::Moving,
            Self::Snapshot => naming::is_maven_snapshot(url),
            Self::Immutable => says(entry, "immutable"),
            Self::Digest => naming::of(url) == Naming::Digest,
            Self::Index => naming::is_index(url),
            Self::Page => kind(entry) == "text/html" && !naming::has_extension(url, &["html", "htm", "xhtml"]),
            Self::Api => match is_json_or_xml(&kind(entry)) {
                true => !names_document(url, &kind(entry)),
                // Files without an extension there are, in repositories of which a version is named: `LICENSE`.
                false => is_text(entry) && naming::extension(url).is_none() && naming::of(url) == Naming::Plain,
            },
            Self::ShortLived => {
                is_text(entry) && naming::of(url) == Naming::Plain && lifetime(entry).is_some_and(|time| time <= SOON)
            }
            Self::File => true,
        }
    }

    /// The rule's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::RequestBody => "request-body",
            Self::Status => "status",
            Self::Prefix => "prefix",
            Self::RequestHeaders => "request-headers",
            Self::ContentCoding => "content-coding",
            Self::Personal => "personal",
            Self::Changing => "changing",
            Self::Git => "git",
            Self::NoStore => "no-store",
            Self::Signed => "signed",
            Self::PinnedByRedirect => "pinned-by-redirect",
            Self::Moving => "moving",
            Self::Snapshot => "snapshot",
            Self::Immutable => "immutable",
            Self::Digest => "digest",
            Self::Index => "index",
            Self::Page => "page",
            Self::Api => "api",
            Self::ShortLived => "short-lived",
            Self::File => "file",
        }
    }

    /// The reason, as part of a sentence that starts with what becomes of the body.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Method => "the request is no GET, and that is all that Nix sends",
            Self::RequestBody => "the request has a body, and Nix sends none",
            Self::Status => "the status is not 200, and Nix keeps nothing else",
            Self::Prefix => "the entry is for every URL that starts with its own",
            Self::RequestHeaders => "the answer depends on request headers that Nix does not send",
            Self::ContentCoding => "the body has a content coding, which newer Nix would decode",
            Self::Personal => {
                "the answer depends on who asks and how (credentials, a media type by name, only the newest, `Vary: *`), \
                 or its end is not certain"
            }
            Self::Changing => "the same request got several answers",
            Self::Git => "a git server packs anew for each request",
            Self::NoStore => "the server forbids to store it",
            Self::Signed => "the URL has a signature that expires",
            Self::PinnedByRedirect => "the URL moves on, but redirects to one that names a version",
            Self::Moving => "the URL is that of whatever is newest, or of a branch",
            Self::Snapshot => "a snapshot of Maven is replaced by the next one",
            Self::Immutable => "the server promises that it never changes",
            Self::Digest => "the URL names a digest, a commit or a moment",
            Self::Index => "the index of a package repository grows with each release",
            Self::Page => "an HTML page is made for each request",
            Self::Api => "text under a URL that names no file is a program's answer",
            Self::ShortLived => "a text without a version in its URL, which the server says is soon another one",
            Self::File => "a file under a URL of its own",
        }
    }
}

/// The URL by which the body of `entry` stays what it is although its own URL moves on: the first on the way of its
/// redirects that names a version or a digest, and has no query, which could be a signature.
pub fn pinned_by_redirect(entry: &Entry) -> Option<NormalizedUrl> {
    if naming::of(&entry.url) != Naming::Moving {
        return None;
    }
    let mut url = entry.url.clone();
    for hop in &entry.redirects {
        url = url.join(&hop.location).ok()?;
        if url.query().is_none() && matches!(naming::of(&url), Naming::Version | Naming::Digest) {
            return Some(url);
        }
    }
    None
}

/// The media type, in lower case, without its parameters.
fn kind(entry: &Entry) -> String {
    let kind = entry.headers.get("content-type").unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json_or_xml(kind: &str) -> bool {
    kind == "text/xml"
        || ["application/", "text/"].iter().filter_map(|start| kind.strip_prefix(start)).any(|name| {
            ["json", "xml"].contains(&name) || name.ends_with("+json") || name.ends_with("+xml") || name == "x-ndjson"
        })
}

/// Whether `url` names a file of this `kind`, rather than what a program is asked.
fn names_document(url: &NormalizedUrl, kind: &str) -> bool {
    match kind.contains("json") {
        // Of names with a dot there are many: npm has packages called `socket.io` and `lodash.merge`.
        true => naming::has_extension(
            url,
            &["json", "jsonl", "info", "map", "geojson", "ipynb", "lock", "har", "webmanifest", "sigstore", "gltf"],
        ),
        false => naming::extension(url).is_some_and(|extension| {
            !["php", "asp", "aspx", "cgi", "jsp"].contains(&extension.as_str())
                && extension.bytes().any(|byte| byte.is_ascii_alphabetic())
        }),
    }
}

fn is_text(entry: &Entry) -> bool {
    let kind = kind(entry);
    kind.starts_with("text/") || is_json_or_xml(&kind)
}

fn directives(entry: &Entry) -> impl Iterator<Item = String> {
    let lists = entry.headers.iter().filter(|(name, _)| *name == "cache-control").flat_map(|(_, values)| values);
    let all: Vec<String> =
        lists.flat_map(|list| list.split(',')).map(|directive| directive.trim().to_ascii_lowercase()).collect();
    all.into_iter()
}

/// Whether `Cache-Control` has the directive `name` (RFC 9111 §5.2.2, RFC 8246).
fn says(entry: &Entry, name: &str) -> bool {
    directives(entry).any(|directive| directive == name)
}

/// For how many seconds the answer may be reused without asking, where it says so.
fn lifetime(entry: &Entry) -> Option<u64> {
    let max_age = || directives(entry).find_map(|directive| directive.strip_prefix("max-age=")?.parse().ok());
    if says(entry, "no-cache") { Some(0) } else { max_age() }
}

#[cfg(test)]
mod tests;
