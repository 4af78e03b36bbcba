//! The digests of a request's body, in every form in which an entry may have it compared.
//!
//! Clients compress bodies as they like (git does above 1,024 bytes), and not always to the same bytes. So the body is
//! hashed decoded: `Content-Encoding: gzip` and `deflate` are undone as the bytes pass. Where that fails, or with any
//! other coding, the digests are those of the bytes as they came.
//!
//! The bytes are hashed in constant memory. The other forms need a body as a whole: one of more than
//! [`MAX_CANONICAL`] bytes has none.

use std::io::{self, Write};

use flate2::write::{MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header::CONTENT_ENCODING};

use super::{BodyDigest, BodyForm};
use crate::store::hash::{HashAlgo, Hasher, NixHash};

/// Longest decoded body that is compared in another form than its bytes, in bytes.
pub const MAX_CANONICAL: usize = 4 << 20;

/// Hashes a request body as its bytes pass.
pub struct RequestDigest {
    raw: Sink,
    decoder: Option<Decoder>,
}

enum Decoder {
    Gzip(MultiGzDecoder<Sink>),
    Zlib(ZlibDecoder<Sink>),
}

/// Counts and hashes what is written to it, and keeps it while it is short.
struct Sink {
    hasher: Hasher,
    length: u64,
    start: Vec<u8>,
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

    /// The first bytes of the body so far, decoded where that works.
    pub fn start(&self) -> &[u8] {
        match &self.decoder {
            Some(Decoder::Gzip(decoder)) => &decoder.get_ref().start,
            Some(Decoder::Zlib(decoder)) => &decoder.get_ref().start,
            None => &self.raw.start,
        }
    }

    /// The digests of the decoded body: of its bytes first, then in each form that it has. None where it is empty.
    pub fn finish(self) -> Vec<BodyDigest> {
        if self.raw.length == 0 {
            return Vec::new();
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
        Self { hasher: Hasher::new(HashAlgo::Sha256), length: 0, start: Vec::new() }
    }

    fn add(&mut self, data: &[u8]) {
        self.hasher.update(data);
        self.length += data.len() as u64;
        let free = MAX_CANONICAL - self.start.len();
        self.start.extend_from_slice(&data[..free.min(data.len())]);
    }

    fn finish(self) -> Vec<BodyDigest> {
        if self.length == 0 {
            return Vec::new();
        }
        let whole = Some(self.start).filter(|start| start.len() as u64 == self.length).unwrap_or_default();
        let canonical = BodyForm::CANONICAL.into_iter().filter(|_| !whole.is_empty()).filter_map(|form| {
            let hash = NixHash::sha256(&form.canonical(&whole)?);
            Some(BodyDigest { form, hash })
        });
        let bytes = BodyDigest { form: BodyForm::Bytes, hash: self.hasher.finish() };
        std::iter::once(bytes).chain(canonical).collect()
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
        digests(coding, bytes).first().map(|digest| digest.hash)
    }

    fn digests(coding: &str, bytes: &[u8]) -> Vec<BodyDigest> {
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
    fn a_body_is_compared_in_every_form_that_it_has() {
        let forms =
            |bytes: &[u8]| digests("gzip", &gzip(bytes, 6)).iter().map(|digest| digest.form).collect::<Vec<_>>();
        assert_eq!(forms(b"{}"), [BodyForm::Bytes, BodyForm::Form, BodyForm::Json]);
        assert_eq!(forms(b"0000"), [BodyForm::Bytes, BodyForm::Form, BodyForm::Git]);
        assert_eq!(forms(b"\xff\xff"), [BodyForm::Bytes]);
        let digest = |bytes: &[u8]| digests("identity", bytes).into_iter().find(|digest| digest.form == BodyForm::Json);
        assert!(digest(b"[1, 2]").is_some_and(|one| Some(one) == digest(b"[1,2]")));
    }

    #[test]
    fn a_body_that_is_too_long_is_compared_by_its_bytes_alone() {
        let text = |spaces: usize| format!("[{}]", " ".repeat(spaces)).into_bytes();
        assert_eq!(digests("identity", &text(MAX_CANONICAL - 2)).len(), 3);
        assert_eq!(digests("identity", &text(MAX_CANONICAL - 1)).len(), 1);
    }

    #[test]
    fn nothing_is_nothing_whatever_the_coding() {
        for (coding, bytes) in [("identity", vec![]), ("gzip", vec![]), ("gzip", gzip(b"", 6)), ("deflate", zlib(b""))]
        {
            assert_eq!(hash_of(coding, &bytes), None, "{coding}");
        }
    }
}
