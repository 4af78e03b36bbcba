//! Store paths: names, digests, and how the path of a fixed output or of a text follows from its hash
//! (`src/libstore/path.cc` and `src/libstore/store-dir-config.cc` of Nix).

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::{
    hash::{HashAlgo, NixHash},
    nixbase32,
};

/// The store directory whose name is part of every digest. Nix calls it the logical store directory.
pub const STORE_DIR: &str = "/nix/store";

/// Longest name of any store object.
const MAX_OBJECT_NAME_LENGTH: usize = 211;

/// What the name of a derivation ends in, and of nothing else.
const DERIVATION_SUFFIX: &str = ".drv";

/// A name that Nix accepts behind the digest of a store path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorePathName(String);

/// Why Nix would refuse a store path name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The name is empty.
    #[error("a store path name cannot be empty")]
    Empty,
    /// The name starts with a dot.
    #[error("store path name `{0}` starts with a dot")]
    LeadingDot(String),
    /// The name is one of a derivation (`src/libstore/derivations.cc` of Nix refuses it for an output).
    #[error("store path name `{0}` ends in `.drv`, which Nix keeps for derivations")]
    Derivation(String),
    /// The name is longer than Nix allows for a derivation's output.
    #[error("store path name `{0}` is longer than {max} characters", max = StorePathName::MAX_LENGTH)]
    TooLong(String),
    /// A character outside `[0-9A-Za-z+._?=-]`.
    #[error("store path name `{name}` has the character {character:?}; Nix allows only letters, digits and +-._?=")]
    BadCharacter {
        /// The whole name.
        name: String,
        /// The first character that is not allowed.
        character: char,
    },
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_' | '?' | '=')
}

/// Whether Nix takes `name` for that of a store object (`checkName` in `src/libstore/path.cc`). The newest rule on dots:
/// versions before it allow every leading dot or none.
fn is_object_name(name: &str) -> bool {
    let first = name.split('-').next();
    (1..=MAX_OBJECT_NAME_LENGTH).contains(&name.len())
        && !matches!(first, Some("." | ".."))
        && name.chars().all(is_name_character)
}

impl StorePathName {
    /// Most characters of a name: Nix allows 211 and `.drv` still has to fit behind it.
    pub const MAX_LENGTH: usize = 207;

    /// Checks `name` against the rules of every Nix for a fixed output. Other store objects can have more names.
    ///
    /// # Errors
    /// The first rule that `name` breaks.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.starts_with('.') {
            return Err(NameError::LeadingDot(name));
        }
        if let Some(character) = name.chars().find(|&c| !is_name_character(c)) {
            return Err(NameError::BadCharacter { name, character });
        }
        if name.ends_with(DERIVATION_SUFFIX) {
            return Err(NameError::Derivation(name));
        }
        if name.len() > Self::MAX_LENGTH {
            return Err(NameError::TooLong(name));
        }
        Ok(Self(name))
    }

    /// Makes any text a valid name: what Nix refuses becomes `-`, leading dots go, the rest is cut at 207;
    /// `source` where nothing is left.
    pub fn sanitized(text: &str) -> Self {
        let name: String = text
            .trim_start_matches('.')
            .chars()
            .map(|c| if is_name_character(c) { c } else { '-' })
            .take(Self::MAX_LENGTH)
            .collect();
        match name.strip_suffix(DERIVATION_SUFFIX) {
            Some(stem) => Self(format!("{stem}-drv")),
            None if name.is_empty() => Self("source".to_owned()),
            None => Self(name),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StorePathName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for StorePathName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for StorePathName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// `<digest>-<name>`, without the store directory in front; kept as that text, which is what files are opened by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorePath(String);

/// Bytes of the text before the name: 32 characters of nix32 and a dash.
const BEFORE_NAME: usize = 33;

/// Why a text is no store path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a store path: it has to look like {STORE_DIR}/<32 characters of nix32>-<name>")]
pub struct StorePathError(String);

impl StorePath {
    /// Reads `<digest>-<name>` of any store object. Its name can be one that no fixed output has: a derivation's, one
    /// with a leading dot, one of up to 211 characters.
    ///
    /// # Errors
    /// Where the digest is not 32 characters of nix32 or Nix refuses the name.
    pub fn from_base_name(text: &str) -> Result<Self, StorePathError> {
        let error = || StorePathError(text.to_owned());
        let (digest, name) = text.split_at_checked(BEFORE_NAME).ok_or_else(error)?;
        let digest: Option<[u8; 20]> = digest.strip_suffix('-').and_then(nixbase32::decode);
        if digest.is_none() || !is_object_name(name) {
            return Err(error());
        }
        Ok(Self(text.to_owned()))
    }

    fn of(digest: &[u8; 20], name: &StorePathName) -> Self {
        Self(format!("{}-{name}", nixbase32::encode(digest)))
    }

    /// The name behind the digest.
    pub fn name(&self) -> StorePathName {
        // It was checked before it became part of a path.
        StorePathName(self.0[BEFORE_NAME..].to_owned())
    }

    /// The path under the store directory `store_dir`.
    pub fn to_path(&self, store_dir: &Path) -> PathBuf {
        let mut path = PathBuf::with_capacity(store_dir.as_os_str().len() + 1 + self.0.len());
        path.push(store_dir);
        path.push(&self.0);
        path
    }

    /// The path under `/nix/store`, as Nix prints it.
    pub fn to_absolute_path(&self) -> String {
        format!("{STORE_DIR}/{self}")
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a fixed output's content is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileIngestionMethod {
    /// The bytes of one file: `fetchurl`.
    Flat,
    /// The NAR of a file or a directory: `fetchzip`, `nix-store --add`.
    Recursive,
}

/// The store path of a fixed output, as `makeFixedOutputPath` of Nix computes it.
pub fn build_ca_path(name: &StorePathName, method: FileIngestionMethod, hash: &NixHash) -> StorePath {
    let hex = hash.to_hex();
    let fingerprint = match (method, hash.algo()) {
        (FileIngestionMethod::Recursive, HashAlgo::Sha256) => {
            format!("source:sha256:{hex}:{STORE_DIR}:{name}")
        }
        (method, algo) => {
            let prefix = if method == FileIngestionMethod::Recursive { "r:" } else { "" };
            let inner = NixHash::sha256(format!("fixed:out:{prefix}{}:{hex}:", algo.as_str()).as_bytes());
            format!("output:out:sha256:{}:{STORE_DIR}:{name}", inner.to_hex())
        }
    };
    of_fingerprint(&fingerprint, name)
}

/// The store path of a text that refers to other store objects, as `builtins.toFile` and `addTextToStore` of Nix
/// compute it. The order of `references` does not matter, nor does naming one twice.
pub fn build_text_path<'a>(
    name: &StorePathName,
    content: &[u8],
    references: impl IntoIterator<Item = &'a StorePath>,
) -> StorePath {
    let mut fingerprint = "text:".to_owned();
    for reference in references.into_iter().collect::<BTreeSet<_>>() {
        fingerprint.push_str(&format!("{STORE_DIR}/{reference}:"));
    }
    fingerprint.push_str(&format!("sha256:{}:{STORE_DIR}:{name}", NixHash::sha256(content).to_hex()));
    of_fingerprint(&fingerprint, name)
}

/// `makeStorePath` of Nix.
fn of_fingerprint(fingerprint: &str, name: &StorePathName) -> StorePath {
    StorePath::of(&compress_hash(&Sha256::digest(fingerprint.as_bytes()).into()), name)
}

/// Folds a digest to 20 bytes by XOR (`compressHash` in `src/libutil/hash.cc` of Nix).
fn compress_hash(digest: &[u8; 32]) -> [u8; 20] {
    let mut folded = [0; 20];
    for (i, byte) in digest.iter().enumerate() {
        folded[i % 20] ^= byte;
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nix_refuses_are_refused() {
        assert_eq!(StorePathName::new(""), Err(NameError::Empty));
        assert!(matches!(StorePathName::new(".a"), Err(NameError::LeadingDot(_))));
        assert!(matches!(StorePathName::new("a b"), Err(NameError::BadCharacter { character: ' ', .. })));
        assert!(matches!(StorePathName::new("a".repeat(208)), Err(NameError::TooLong(_))));
        assert!(StorePathName::new("a".repeat(207)).is_ok());
        assert!(matches!(StorePathName::new("foo.drv"), Err(NameError::Derivation(_))));
        assert_eq!(StorePathName::sanitized("foo.drv").as_str(), "foo-drv");
        assert_eq!(StorePathName::sanitized("..drv").as_str(), "drv");
    }

    #[test]
    fn a_store_path_reads_back_what_it_prints() {
        let name = StorePathName::new("x-1.0.tar.gz").unwrap();
        let path = build_ca_path(&name, FileIngestionMethod::Flat, &NixHash::sha256(b"x"));
        assert_eq!(StorePath::from_base_name(&path.to_string()), Ok(path));
        assert!(StorePath::from_base_name("short").is_err());
        assert!(StorePath::from_base_name("0000000000000000000000000000000e-x").is_err());
        assert!(StorePath::from_base_name("ääääääääääääääääääääääääääääääää-x").is_err());
    }

    #[test]
    fn a_store_path_of_others_can_have_any_name_that_nix_allows() {
        let read = |name: &str| StorePath::from_base_name(&format!("{}-{name}", "0".repeat(32)));
        for name in ["x.drv", ".gitignore", "...", "..a-b", "-", &"a".repeat(211)] {
            assert_eq!(read(name).map(|path| path.name().to_string()), Ok(name.to_owned()));
        }
        for name in ["", ".", "..", ".-a", "..-a", "a b", "a/b", "é", &"a".repeat(212)] {
            assert!(read(name).is_err(), "{name}");
        }
    }

    /// What `builtins.toFile` of Nix 2.8 gives; more of them are compared in the integration tests.
    #[test]
    fn a_text_has_the_path_that_nix_gives_it() {
        let name = |name| StorePathName::new(name).unwrap();
        let (a, b) = (build_text_path(&name("a"), b"x", []), build_text_path(&name("b"), b"y", []));
        assert_eq!(a.to_absolute_path(), "/nix/store/12wigjpizrn8axaqxj288q1b751qmwya-a");
        let content = format!("{} {}", a.to_absolute_path(), b.to_absolute_path());
        let both = |references: &[&StorePath]| {
            build_text_path(&name("both"), content.as_bytes(), references.iter().copied()).to_absolute_path()
        };
        assert_eq!(both(&[&a, &b]), "/nix/store/1h4rlfpw9g5lpyhdng4fb05cnpqngyl5-both");
        assert_eq!(both(&[&b, &a, &b]), both(&[&a, &b]));
        assert_ne!(both(&[&a]), both(&[&a, &b]));
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_made_a_valid_name(text in "(.{0,250}|.{0,5}\\.drv)") {
            let name = StorePathName::sanitized(&text);
            proptest::prop_assert_eq!(StorePathName::new(name.as_str()), Ok(name.clone()));
        }
    }
}
