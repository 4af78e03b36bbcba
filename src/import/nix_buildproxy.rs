//! `proxy_content.nix` of nix-buildproxy: `{ fetchurl }: [ { url, file, status_code, headers } ]`.
//!
//! It is a Nix function, so Nix evaluates it, with a `fetchurl` that gives back what it was called with. It may be somebody
//! else's: it reads nothing but the files of its own folder, and asks nobody.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::listed::{List, Listed, ListedBody};
use crate::{
    store::{hash::NixHash, nixbase32, path::StorePathName},
    url::NormalizedUrl,
};

/// What Nix is asked for: the list as JSON.
const EXPRESSION: &str = include_str!("proxy-content.nix");

#[derive(Deserialize)]
struct Content {
    url: String,
    file: Option<ContentFile>,
    status_code: u16,
    headers: BTreeMap<String, String>,
}

/// Where the bytes are: what `fetchurl` was called with, or a file.
#[derive(Deserialize)]
#[serde(untagged)]
enum ContentFile {
    Path { path: PathBuf },
    Fetch(Box<Fetchurl>),
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Fetchurl {
    url: Option<String>,
    urls: Vec<String>,
    name: Option<String>,
    hash: Option<String>,
    sha256: Option<String>,
    sha512: Option<String>,
    output_hash: Option<String>,
    output_hash_algo: Option<String>,
}

/// Evaluates the file at `path`.
///
/// # Errors
/// Where there is no Nix, or what it said.
pub fn read(path: &Path) -> Result<List, String> {
    let path = fs::canonicalize(path).map_err(|error| error.to_string())?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut readable = OsString::from("list=");
    readable.push(folder);
    let mut nix = Command::new("nix-instantiate");
    nix.args(["--eval", "--strict", "--json", "--argstr", "file"]).arg(&path).args(["-E", EXPRESSION]);
    // What the search path names can be read.
    nix.args(["--option", "restrict-eval", "true", "-I"]).arg(readable).env_remove("NIX_PATH");
    // No store at all: evaluating builds and copies nothing.
    nix.env("NIX_REMOTE", "dummy://");
    let output = nix.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            "it is a Nix function, and `nix-instantiate`, which evaluates it, is not in PATH\n\nhint: import it where Nix is; \
             mkBuildproxy also takes it as it is"
                .to_owned()
        }
        _ => format!("cannot run `nix-instantiate`: {error}"),
    })?;
    if !output.status.success() {
        return Err(format!("Nix cannot evaluate it:\n{}", String::from_utf8_lossy(&output.stderr).trim_end()));
    }
    let contents: Vec<Content> = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("it is no list of answers, as nix-buildproxy writes it: {error}"))?;
    Ok(list(contents, folder))
}

fn list(contents: Vec<Content>, folder: &Path) -> List {
    let mut list = List::default();
    for content in contents {
        match listed(&content, folder) {
            Ok(answer) => list.add(&content.url, answer),
            Err(reason) => list.drop(&content.url, reason),
        }
    }
    list
}

/// `path` without links, where it is below `folder`: another could be a file of the user's own.
fn inside(folder: &Path, path: &Path) -> Result<PathBuf, String> {
    let file = fs::canonicalize(path).map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    match file.starts_with(folder) {
        true => Ok(file),
        false => Err(format!("its file {} is outside the list's folder {}", path.display(), folder.display())),
    }
}

fn listed(content: &Content, folder: &Path) -> Result<Listed, String> {
    let url: NormalizedUrl = content.url.parse().map_err(|error| format!("{error}"))?;
    let status = StatusCode::from_u16(content.status_code).map_err(|error| format!("`status_code`: {error}"))?;
    let body = match &content.file {
        None => ListedBody::Empty,
        Some(ContentFile::Path { path }) => ListedBody::File(inside(folder, path)?),
        Some(ContentFile::Fetch(fetch)) => {
            let urls: Vec<String> = fetch.url.iter().chain(&fetch.urls).cloned().collect();
            let hash = fetch.pinned()?;
            let name = fetch.name.as_ref().map(StorePathName::new).transpose().map_err(|error| error.to_string())?;
            let name = name.unwrap_or_else(|| url.store_path_name());
            ListedBody::Hash { urls: if urls.is_empty() { vec![content.url.clone()] } else { urls }, name, hash }
        }
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &content.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is not a header name"))?;
        let value = HeaderValue::from_str(value)
            .map_err(|_| format!("header `{name}` has a value that HTTP does not allow"))?;
        headers.append(name, value);
    }
    // It is the length of what was sent, which can be another than that of the file: decoded bodies were kept.
    headers.remove(header::CONTENT_LENGTH);
    Ok(Listed { url, status, headers, body })
}

impl Fetchurl {
    fn pinned(&self) -> Result<NixHash, String> {
        let algo = self.output_hash_algo.as_deref();
        let hashes = [
            (None, &self.hash),
            (Some("sha256"), &self.sha256),
            (Some("sha512"), &self.sha512),
            (algo, &self.output_hash),
        ];
        let found =
            hashes.into_iter().find_map(|(algo, hash)| Some((algo, hash.as_ref().filter(|hash| !hash.is_empty())?)));
        let (algo, hash) = found.ok_or("its `fetchurl` has no `hash`, `sha256` or `sha512`")?;
        match algo {
            Some(algo) if !hash.starts_with(&format!("{algo}-")) => old_hash(algo, hash),
            _ => hash.parse().ok(),
        }
        .ok_or_else(|| format!("`{hash}` is no hash of sha256 or sha512"))
    }
}

/// A hash in one of the forms that Nix has without SRI: base16, nix32 or base64, with or without `ALGO:`.
fn old_hash(algo: &str, text: &str) -> Option<NixHash> {
    fn digest<const N: usize>(text: &str) -> Option<[u8; N]> {
        let base16 = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        let base64 = || BASE64.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        base16.or_else(|| nixbase32::decode(text)).or_else(base64)
    }
    let text = text.strip_prefix(algo).and_then(|rest| rest.strip_prefix(':')).unwrap_or(text);
    match algo {
        "sha256" => digest(text).map(NixHash::Sha256),
        "sha512" => digest(text).map(NixHash::Sha512),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_read_in_every_form_of_nix() {
        let hash = NixHash::sha256(b"x");
        let pinned = |fetch: Fetchurl| fetch.pinned();
        for text in [hash.to_hex(), hash.to_nix32(), format!("sha256:{}", hash.to_nix32()), hash.to_string()] {
            assert_eq!(pinned(Fetchurl { sha256: Some(text), ..Fetchurl::default() }), Ok(hash));
        }
        let base64 = hash.to_string().replace("sha256-", "");
        let output = |algo: &str| Fetchurl {
            output_hash: Some(base64.clone()),
            output_hash_algo: Some(algo.to_owned()),
            ..Fetchurl::default()
        };
        assert_eq!(pinned(output("sha256")), Ok(hash));
        assert!(pinned(output("sha1")).is_err());
        assert!(
            pinned(Fetchurl { hash: Some(String::new()), ..Fetchurl::default() }).unwrap_err().contains("no `hash`")
        );
    }
}
