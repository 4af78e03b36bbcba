//! Every spelling of a hash that Nix reads and writes (`src/libutil/hash.cc` of Nix). Inventories have SRI alone.

use std::str::FromStr;

use data_encoding::{BASE64, BASE64_NOPAD, Encoding as Alphabet, HEXLOWER, HEXLOWER_PERMISSIVE, Specification};

use super::{HashAlgo, HashError, NixHash};
use crate::store::nixbase32;

/// How the bytes of a digest are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Lower-case hexadecimal digits.
    Base16,
    /// Nix's own base32.
    Nix32,
    /// The base64 of RFC 4648 §4, with padding.
    Base64,
}

impl Encoding {
    /// The number of characters of a digest by `algo`: all of them differ, so that a digest says how it is written.
    fn length(self, algo: HashAlgo) -> usize {
        let bytes = algo.digest_length();
        match self {
            Self::Base16 => 2 * bytes,
            Self::Nix32 => nixbase32::encoded_len(bytes),
            Self::Base64 => BASE64.encode_len(bytes),
        }
    }

    /// The way that `digest` is written, by its length.
    fn of(digest: &str, algo: HashAlgo) -> Option<Self> {
        [Self::Base16, Self::Nix32, Self::Base64].into_iter().find(|encoding| encoding.length(algo) == digest.len())
    }

    fn decode(self, digest: &str, algo: HashAlgo) -> Option<NixHash> {
        let bytes = match self {
            Self::Base16 => HEXLOWER_PERMISSIVE.decode(digest.as_bytes()).ok()?,
            Self::Nix32 => match algo {
                HashAlgo::Sha256 => nixbase32::decode::<32>(digest)?.to_vec(),
                HashAlgo::Sha512 => nixbase32::decode::<64>(digest)?.to_vec(),
            },
            Self::Base64 => decode_base64(digest)?,
        };
        NixHash::from_algo_and_digest(algo, &bytes)
    }

    /// What it is called, in Nix and in our errors.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base16 => "base16",
            Self::Nix32 => "nix32",
            Self::Base64 => "base64",
        }
    }
}

/// As Nix reads it: the first `=` is the end, line feeds and bits beyond the last byte do not count.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.split('=').next()?.split('\n').collect();
    let lenient: Alphabet =
        Specification { check_trailing_bits: false, ..BASE64_NOPAD.specification() }.encoding().ok()?;
    lenient.decode(digits.as_bytes()).ok()
}

impl FromStr for HashAlgo {
    type Err = HashError;

    fn from_str(name: &str) -> Result<Self, HashError> {
        match name {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            other => Err(HashError::UnknownAlgorithm(other.to_owned())),
        }
    }
}

impl NixHash {
    /// Reads a hash in any form that Nix reads: `ALGO-` with base64 (SRI), `ALGO:` with base16, nix32 or base64, or a
    /// digest alone in one of these where `algo` says by what (as `outputHashAlgo` does). The length tells them apart.
    ///
    /// The empty text, which Nix takes for the hash of zeros with a warning, is none here.
    ///
    /// # Errors
    /// Where the text is no such form, has another algorithm than `algo`, or one that is not supported.
    pub fn parse_any(text: &str, algo: Option<HashAlgo>) -> Result<Self, HashError> {
        let (named, digest, sri) = match (text.split_once(':'), text.split_once('-')) {
            (Some((named, digest)), _) => (Some(named), digest, false),
            (None, Some((named, digest))) => (Some(named), digest, true),
            (None, None) => (None, text, false),
        };
        let hash = || text.to_owned();
        let algo = match (named.map(str::parse).transpose()?, algo) {
            (Some(named), Some(algo)) if named != algo => {
                return Err(HashError::OtherAlgorithm { hash: hash(), expected: algo.as_str() });
            }
            (Some(algo), _) | (None, Some(algo)) => algo,
            (None, None) => return Err(HashError::NoAlgorithm(hash())),
        };
        let encoding = match sri {
            true => Encoding::Base64,
            false => Encoding::of(digest, algo).ok_or_else(|| HashError::wrong_length(text, algo))?,
        };
        encoding.decode(digest, algo).ok_or_else(|| HashError::BadCharacters {
            hash: hash(),
            algo: algo.as_str(),
            encoding: encoding.as_str(),
            expected: algo.digest_length(),
        })
    }

    /// The digest alone, as `nix-hash` prints it.
    pub fn to_bare(&self, encoding: Encoding) -> String {
        let digest = self.digest_as_bytes();
        match encoding {
            Encoding::Base16 => HEXLOWER.encode(digest),
            Encoding::Nix32 => nixbase32::encode(digest),
            Encoding::Base64 => BASE64.encode(digest),
        }
    }

    /// `ALGO:` and the digest, as `narHash` is printed. SRI is what `Display` writes.
    pub fn to_prefixed(&self, encoding: Encoding) -> String {
        format!("{}:{}", self.algo().as_str(), self.to_bare(encoding))
    }
}

impl HashError {
    fn wrong_length(text: &str, algo: HashAlgo) -> Self {
        let [base16, nix32, base64] =
            [Encoding::Base16, Encoding::Nix32, Encoding::Base64].map(|encoding| encoding.length(algo));
        Self::WrongLength { hash: text.to_owned(), algo: algo.as_str(), base16, nix32, base64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE16: &str = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
    const NIX32: &str = "10a83a91g1r50bdw8g4hn47m7j7m6angpabwc80l9c16nx11cw9d";
    const BASE64: &str = "LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=";

    #[test]
    fn every_spelling_is_written_and_read() {
        let hash = NixHash::sha256(b"x");
        for (encoding, bare) in [(Encoding::Base16, BASE16), (Encoding::Nix32, NIX32), (Encoding::Base64, BASE64)] {
            assert_eq!(hash.to_bare(encoding), bare);
            assert_eq!(hash.to_prefixed(encoding), format!("sha256:{bare}"));
            assert_eq!(NixHash::parse_any(bare, Some(HashAlgo::Sha256)), Ok(hash));
            assert_eq!(NixHash::parse_any(&format!("sha256:{bare}"), None), Ok(hash));
        }
        assert_eq!(NixHash::parse_any(&hash.to_string(), None), Ok(hash));
        assert_eq!(NixHash::parse_any(&BASE16.to_uppercase(), Some(HashAlgo::Sha256)), Ok(hash));
        assert_eq!(NixHash::parse_any(&format!("sha256-{}", BASE64.trim_end_matches('=')), None), Ok(hash));
    }

    #[test]
    fn a_bad_spelling_says_what_is_wrong_and_what_is_read() {
        let message = |text: &str, algo| NixHash::parse_any(text, algo).unwrap_err().to_string();
        let sha256 = Some(HashAlgo::Sha256);
        assert!(message(BASE16, None).contains("does not say by which algorithm"));
        assert!(message(&format!("sha512:{BASE16}"), sha256).contains("has to be a sha256 hash"));
        assert!(message(&format!("md5:{BASE16}"), None).contains("`md5` is not supported"));
        assert!(message("sha256:abc", None).contains("64 characters of base16, 52 of nix32 or 44 of base64"));
        assert!(message("", sha256).contains("64 characters of base16"));
        assert!(message(&NIX32.to_uppercase(), sha256).contains("no nix32 of 32 bytes"));
        assert!(message(&BASE16.replace('2', "g"), sha256).contains("no base16 of 32 bytes"));
        assert!(message(&format!("sha256-{BASE16}"), None).contains("no base64 of 32 bytes"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(sha256[:-]|sha512[:-])?.{0,130}", sha512: bool) {
            let algo = if sha512 { HashAlgo::Sha512 } else { HashAlgo::Sha256 };
            if let Ok(hash) = NixHash::parse_any(&text, Some(algo)) {
                proptest::prop_assert_eq!(hash.algo(), algo);
            }
        }
    }
}
