//! What a URL says of how long its bytes stay the same.

use std::sync::LazyLock;

use regex::Regex;

use crate::url::NormalizedUrl;

/// How a URL names what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// By what it is: a digest, a commit, or a moment.
    Digest,
    /// By what is newest, or by a branch.
    Moving,
    /// By a version.
    Version,
    /// By nothing of these.
    Plain,
}

/// Segments that stand for what is newest: what is below them goes with the next release, also where it names a version.
const NEWEST: [&str; 6] = ["latest", "latest-stable", "nightly", "newest", "current", "snapshots"];

/// Segments that are usual names of branches.
const BRANCHES: [&str; 7] = ["master", "main", "develop", "devel", "trunk", "head", "tip"];

/// Names of the lists that package repositories replace with each release: Maven, Debian, RPM, Alpine, conda, NuGet,
/// Composer, Helm, Go, and what tells clients of cargo where a registry is.
const INDEXES: [&str; 15] = [
    "maven-metadata.xml",
    "packages",
    "sources",
    "release",
    "inrelease",
    "repomd.xml",
    "apkindex.tar",
    "repodata.json",
    "current_repodata.json",
    "index.json",
    "index.yaml",
    "packages.json",
    "package_index.json",
    "config.json",
    "list",
];

/// What follows a name where the file is compressed, or is a digest or signature of that.
const SUFFIXES: [&str; 11] =
    [".gz", ".xz", ".bz2", ".zst", ".sha1", ".sha256", ".sha512", ".md5", ".asc", ".sig", ".gpg"];

/// Query parameters that only a signature has, in lower case.
const SIGNATURES: [&str; 6] = ["x-amz-signature", "x-goog-signature", "signature", "sig", "__token__", "hdnea"];

/// A digest or commit in hexadecimal, of SHA-1 or longer, also of PyPI, which cuts four digits off; an SRI or OCI digest; a
/// moment, as snapshot archives have them.
static DIGEST: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r"(?i)(?:^|[^0-9a-z])[0-9a-f]{40,}(?:$|[^0-9a-z])|sha(?:256|384|512)[:-][0-9a-z+/_=-]{40,}|/[0-9]{8}t[0-9]{6}z/",
    )
});

/// `1.2`, `1_80_0`, `20240131`.
static VERSION: LazyLock<Regex> =
    LazyLock::new(|| compiled(r"[0-9]+\.[0-9]+|[0-9]+_[0-9]+_[0-9]+|(?:^|[^0-9])(?:19|20)[0-9]{6}(?:$|[^0-9])"));

/// Extensions of archives, which forges make of branches.
static ARCHIVE: LazyLock<Regex> = LazyLock::new(|| compiled(r"\.(?:zip|tgz|tbz2?|txz|7z|tar(?:\.[a-z0-9]+)?)$"));

#[allow(clippy::expect_used)]
fn compiled(pattern: &str) -> Regex {
    // The patterns are the constants above, and every test of this file compiles all of them.
    Regex::new(pattern).expect("the pattern is one")
}

/// How `url` names what is there.
pub fn of(url: &NormalizedUrl) -> Naming {
    let segments: Vec<String> = url.path().split('/').map(decoded).collect();
    let path = segments.join("/");
    if DIGEST.is_match(&path) || url.query().is_some_and(|query| DIGEST.is_match(query)) {
        return Naming::Digest;
    }
    let is_newest = segments.iter().any(|segment| is_newest(segment)) || newest_in_query(url);
    // A branch is a name in a repository, which may well hold files that name versions: `pool/main/f/foo_1.0.deb`.
    let branch = segments.iter().rposition(|segment| is_branch(segment));
    let is_of_branch = branch.is_some_and(|at| !segments[at + 1..].iter().any(|rest| VERSION.is_match(rest)));
    if is_newest || is_of_branch || path.contains("/refs/heads/") {
        return Naming::Moving;
    }
    if VERSION.is_match(&path) || url.query().is_some_and(|query| VERSION.is_match(query)) {
        return Naming::Version;
    }
    Naming::Plain
}

/// `latest` alone, with an `@` in front, as CDNs of npm and Go's proxies have it, or at the end of a file's name.
fn is_newest(segment: &str) -> bool {
    let stem = stem(segment);
    NEWEST.contains(&stem)
        || segment.split('@').skip(1).any(|tag| ["latest", "next"].contains(&tag))
        || ["-latest", "_latest", ".latest", ":latest"].iter().any(|end| stem.ends_with(end))
}

/// The name of a branch alone, or, of an archive, before the extension: `master.tar.gz`, `project-master.zip`.
fn is_branch(segment: &str) -> bool {
    let stem = stem(segment);
    let is_archive = stem.len() < segment.len();
    let ends = |branch: &str| is_archive && stem.strip_suffix(branch).is_some_and(|rest| rest.ends_with('-'));
    BRANCHES.contains(&stem) || BRANCHES.iter().any(|branch| ends(branch))
}

/// Whether a parameter's whole value is such a name: `?ref=main`, `?version=latest`.
fn newest_in_query(url: &NormalizedUrl) -> bool {
    let query = url.query().unwrap_or_default();
    let values = query.split('&').filter_map(|parameter| parameter.split_once('=')).map(|(_, value)| decoded(value));
    values.into_iter().any(|value| {
        let name = value.rsplit('/').next().unwrap_or_default();
        NEWEST.contains(&value.as_str()) || BRANCHES.contains(&name) || value.starts_with("refs/heads/")
    })
}

/// A name without the extension of an archive.
fn stem(segment: &str) -> &str {
    ARCHIVE.find(segment).map_or(segment, |extension| &segment[..extension.start()])
}

fn decoded(part: &str) -> String {
    percent_encoding::percent_decode_str(part).decode_utf8_lossy().to_ascii_lowercase()
}

fn last_segment(url: &NormalizedUrl) -> String {
    decoded(url.path().rsplit('/').next().unwrap_or_default())
}

/// Whether the URL itself has a signature: one that a client was told to ask, which works for some minutes.
pub fn is_signed(url: &NormalizedUrl) -> bool {
    let query = url.query().unwrap_or_default();
    let names = query.split('&').filter_map(|parameter| parameter.split_once('=')).map(|(name, _)| decoded(name));
    names.into_iter().any(|name| SIGNATURES.contains(&name.as_str()))
}

/// A version of Maven that stands for the newest build, and what is kept of it.
pub fn is_maven_snapshot(url: &NormalizedUrl) -> bool {
    let path = decoded(url.path());
    path.contains("-snapshot/") || path.contains("-snapshot.")
}

/// Whether the URL is that of a package repository's list, or of a digest or signature of one.
pub fn is_index(url: &NormalizedUrl) -> bool {
    let mut name = last_segment(url);
    while let Some(end) = SUFFIXES.iter().find(|suffix| name.ends_with(**suffix)) {
        name.truncate(name.len() - end.len());
    }
    // `list` is one only where Go's proxies have it; `index.json` and the like of a version are that version's.
    let is_known = INDEXES.contains(&name.as_str()) && (name != "list" || url.path().ends_with("/@v/list"));
    let is_of_version = name.ends_with(".json") && of(url) == Naming::Version;
    is_known && !is_of_version || is_index_of_cargo(url)
}

/// `se/rd/serde`, `3/l/log`, `2/cc`: the versions of one crate, one a line, in a sparse index of cargo.
fn is_index_of_cargo(url: &NormalizedUrl) -> bool {
    let path = decoded(url.path());
    let mut segments = path.rsplit('/');
    let (name, last, first) = (segments.next().unwrap_or_default(), segments.next(), segments.next());
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    is_name
        && match (name.len(), first, last) {
            (1, _, Some("1")) | (2, _, Some("2")) => true,
            (3, Some("3"), Some(last)) => *last == name[..1],
            (4.., Some(first), Some(last)) => *first == name[..2] && *last == name[2..4],
            _ => false,
        }
}

/// What is behind the last dot of the last segment, in lower case.
pub fn extension(url: &NormalizedUrl) -> Option<String> {
    last_segment(url).rsplit_once('.').map(|(_, extension)| extension.to_owned())
}

/// Whether the extension is one of `known`.
pub fn has_extension(url: &NormalizedUrl, known: &[&str]) -> bool {
    extension(url).is_some_and(|extension| known.contains(&extension.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naming(path: &str) -> Naming {
        of(&format!("https://h.test/{path}").parse().unwrap())
    }

    #[test]
    fn what_is_newest_and_branches_move() {
        for path in [
            "o/r/releases/latest/download/x.tar.gz",
            "dist/latest/node-22.1.0.tar.gz",
            "o/r/archive/refs/heads/main.tar.gz",
            "o/r/archive/refs/heads/release-1.2.tar.gz",
            "o/r/archive/master.tar.gz",
            "o/r/archive/HEAD.zip",
            "o/r/tarball/main",
            "g/r/-/archive/master/r-master.tar.gz",
            "cgit/r.git/snapshot/r-master.tar.xz",
            "raw/o/r/main/cmake/file.cmake",
            "npm/react@latest/index.js",
            "mod/@latest",
            "tool-latest.zip",
            "nightly/tool.tar.gz",
            "plain/file?h=master",
            "file?ref=refs/heads/1.2",
            "download?version=latest",
        ] {
            assert_eq!(naming(path), Naming::Moving, "{path}");
        }
    }

    #[test]
    fn versions_digests_and_moments_do_not_move() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        for (path, expected) in [
            ("o/r/releases/download/v1.2.3/x.tar.gz".to_owned(), Naming::Version),
            ("debian/pool/main/f/foo/foo_1.0-1_amd64.deb".to_owned(), Naming::Version),
            ("boost_1_80_0.tar.gz".to_owned(), Naming::Version),
            ("data-20240131.csv".to_owned(), Naming::Version),
            (format!("raw/o/r/{commit}/main/x"), Naming::Digest),
            (format!("o/r/archive/{commit}.tar.gz"), Naming::Digest),
            (format!("packages/ab/cd/{}/x.whl", &(commit.to_owned() + commit)[..60]), Naming::Digest),
            ("archive/debian/20240131T000000Z/dists/sid/main/Packages.xz".to_owned(), Naming::Digest),
            (format!("v2/x/blobs/sha256:{commit}{}", &commit[..24]), Naming::Digest),
            ("static/main.js".to_owned(), Naming::Plain),
            ("x86_64/foo".to_owned(), Naming::Plain),
            ("webmaster.zip".to_owned(), Naming::Plain),
            ("latests/foo".to_owned(), Naming::Plain),
        ] {
            assert_eq!(naming(&path), expected, "{path}");
        }
    }

    #[test]
    fn indexes_are_known_by_name_whatever_their_suffix() {
        let index = |path: &str| is_index(&format!("https://h.test/{path}").parse().unwrap());
        for path in [
            "g/a/maven-metadata.xml.sha1",
            "dists/sid/main/binary-amd64/Packages.xz",
            "dists/sid/InRelease",
            "dists/sid/Release.gpg",
            "repodata/repomd.xml",
            "v3.20/main/x86_64/APKINDEX.tar.gz",
            "v3-flatcontainer/newtonsoft.json/index.json",
            "mod/@v/list",
            "index/se/rd/serde",
            "index/3/l/log",
            "index/2/cc",
            "index/config.json",
        ] {
            assert!(index(path), "{path}");
        }
        for path in [
            "list",
            "mod/@v/v1.0.0.info",
            "pkg@1.2.3/index.json",
            "se/rd/serde-1.0.tar",
            "a/b/abc",
            "release.tar.gz",
            "foo-1.0.jar.sha1",
        ] {
            assert!(!index(path), "{path}");
        }
    }

    #[test]
    fn a_signature_is_known_by_its_parameter() {
        let signed = |query: &str| is_signed(&format!("https://h.test/a?{query}").parse().unwrap());
        assert!(
            signed("X-Amz-Date=1&X-Amz-Signature=ab") && signed("se=1&sig=a%2F") && signed("Expires=1&Signature=x")
        );
        assert!(!signed("signature") && !signed("sigma=1") && !signed("v=1"));
    }
}
