//! The digest of a request's body, the part of the request key that tells one POST from another.
//!
//! Clients compress bodies as they like (git does above 1,024 bytes), and not always to the same bytes. So the body is
//! hashed decoded: `Content-Encoding: gzip` and `deflate` are undone as the bytes pass, in constant memory. Where that
//! fails, or with any other coding, the hash is that of the bytes as they came.

use std::io::{self, Write};

use flate2::write::{MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header::CONTENT_ENCODING};

use crate::store::hash::{HashAlgo, Hasher, NixHash};

/// Hashes a request body as its bytes pass.
pub struct RequestDigest {
    raw: Sink,
    decoder: Option<Decoder>,
}

enum Decoder {
    Gzip(MultiGzDecoder<Sink>),
    Zlib(ZlibDecoder<Sink>),
}

/// Counts and hashes what is written to it.
struct Sink {
    hasher: Hasher,
    length: u64,
}

impl RequestDigest {
    /// For a request with these header fields.
    pub fn new(headers: &HeaderMap) -> Self {
        let mut codings = headers.get_all(CONTENT_ENCODING).iter();
        let decoder = match (codings.next().and_then(|coding| coding.to_str().ok()), codings.next()) {
            (Some(coding), None) => Decoder::of(coding.trim()),
            _ => None,
        };
        Self { raw: Sink::new(), decoder }
    }

    /// Adds bytes as they came.
    pub fn update(&mut self, data: &[u8]) {
        self.raw.add(data);
        if self.decoder.as_mut().is_some_and(|decoder| decoder.write_all(data).is_err()) {
            self.decoder = None;
        }
    }

    /// The hash of the decoded body; `None` where it is empty.
    pub fn finish(self) -> Option<NixHash> {
        if self.raw.length == 0 {
            return None;
        }
        let decoded = self.decoder.and_then(|decoder| decoder.finish().ok());
        decoded.unwrap_or(self.raw).finish()
    }
}

impl Decoder {
    fn of(coding: &str) -> Option<Self> {
        match coding.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Some(Self::Gzip(MultiGzDecoder::new(Sink::new()))),
            "deflate" => Some(Self::Zlib(ZlibDecoder::new(Sink::new()))),
            _ => None,
        }
    }

    fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(decoder) => decoder.write_all(data),
            Self::Zlib(decoder) => decoder.write_all(data),
        }
    }

    fn finish(self) -> io::Result<Sink> {
        match self {
            Self::Gzip(decoder) => decoder.finish(),
            Self::Zlib(decoder) => decoder.finish(),
        }
    }
}

impl Sink {
    fn new() -> Self {
        Self { hasher: Hasher::new(HashAlgo::Sha256), length: 0 }
    }

    fn add(&mut self, data: &[u8]) {
        self.hasher.update(data);
        self.length += data.len() as u64;
    }

    fn finish(self) -> Option<NixHash> {
        (self.length > 0).then(|| self.hasher.finish())
    }
}

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.add(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };

    use super::*;

    fn hash_of(coding: &str, bytes: &[u8]) -> Option<NixHash> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, coding.parse().unwrap());
        let mut hasher = RequestDigest::new(&headers);
        bytes.chunks(7).for_each(|chunk| hasher.update(chunk));
        hasher.finish()
    }

    fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn plain() -> Vec<u8> {
        (0..20_000u32).flat_map(|n| (n % 577).to_le_bytes()).collect()
    }

    #[test]
    fn compressed_bodies_have_the_hash_of_what_they_say() {
        let (plain, expected) = (plain(), Some(NixHash::sha256(&plain())));
        assert_eq!(hash_of("identity", &plain), expected);
        assert_eq!(hash_of("gzip", &gzip(&plain, 1)), expected);
        assert_eq!(hash_of(" X-GZIP ", &gzip(&plain, 9)), expected);
        assert_eq!(hash_of("deflate", &zlib(&plain)), expected);
        let members = [gzip(&plain[..100], 6), gzip(&plain[100..], 6)].concat();
        assert_eq!(hash_of("gzip", &members), expected);
    }

    #[test]
    fn what_does_not_decode_has_the_hash_of_its_bytes() {
        let raw = |bytes: &[u8]| Some(NixHash::sha256(bytes));
        let (gz, zl) = (gzip(&plain(), 6), zlib(&plain()));
        let mut deflate = DeflateEncoder::new(Vec::new(), Compression::best());
        deflate.write_all(&plain()).unwrap();
        let deflate = deflate.finish().unwrap();
        let damaged: Vec<u8> = [&gz[..gz.len() - 8], &[0; 8]].concat();
        for (coding, bytes) in [
            ("gzip", &b"not gzip"[..]),
            ("gzip", &gz[..5]),
            ("gzip", &gz[..gz.len() / 2]),
            ("gzip", &gz[..gz.len() - 1]),
            ("gzip", &damaged),
            ("deflate", &zl[..zl.len() / 2]),
            ("deflate", &zl[..zl.len() - 1]),
            ("deflate", &deflate),
            ("br", &gz),
            ("gzip, gzip", &gz),
        ] {
            assert_eq!(hash_of(coding, bytes), raw(bytes), "{coding}, {} bytes", bytes.len());
        }
    }

    #[test]
    fn nothing_is_nothing_whatever_the_coding() {
        for (coding, bytes) in [("identity", vec![]), ("gzip", vec![]), ("gzip", gzip(b"", 6)), ("deflate", zlib(b""))]
        {
            assert_eq!(hash_of(coding, &bytes), None, "{coding}");
        }
    }
}
