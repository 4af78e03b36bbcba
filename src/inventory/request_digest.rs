//! The digest of a request body, the part of the request key that tells one POST from another.
//!
//! It is that of the decoded body (`Content-Encoding` undone), so that a client that compresses in another way next time
//! still asks for the same.

use std::io::{self, Write};

use flate2::write::{MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header};

use crate::store::hash::{HashAlgo, Hasher, NixHash};

/// Where the bytes of a request body go to be hashed.
struct Sink(Hasher);

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.update(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Decoder {
    Identity,
    Gzip(Box<MultiGzDecoder<Sink>>),
    Deflate(Box<ZlibDecoder<Sink>>),
    /// The coding was not what the header said: only the raw digest is left.
    Failed,
}

/// Hashes a request body, raw and decoded at once.
pub struct RequestDigest {
    raw: Sink,
    decoder: Decoder,
    size: u64,
}

impl RequestDigest {
    /// A digest for a body with the `Content-Encoding` of `headers`.
    pub fn new(headers: &HeaderMap) -> Self {
        let sink = || Sink(Hasher::new(HashAlgo::Sha256));
        let coding = headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let decoder = match coding.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Decoder::Gzip(Box::new(MultiGzDecoder::new(sink()))),
            "deflate" => Decoder::Deflate(Box::new(ZlibDecoder::new(sink()))),
            _ => Decoder::Identity,
        };
        Self { raw: sink(), decoder, size: 0 }
    }

    /// Adds bytes as they came.
    pub fn update(&mut self, data: &[u8]) {
        self.size += data.len() as u64;
        self.raw.0.update(data);
        let decoded = match &mut self.decoder {
            Decoder::Gzip(decoder) => decoder.write_all(data),
            Decoder::Deflate(decoder) => decoder.write_all(data),
            Decoder::Identity | Decoder::Failed => Ok(()),
        };
        if decoded.is_err() {
            self.decoder = Decoder::Failed;
        }
    }

    /// The digest; `None` for an empty body.
    pub fn finish(self) -> Option<NixHash> {
        if self.size == 0 {
            return None;
        }
        let decoded = match self.decoder {
            Decoder::Gzip(decoder) => decoder.finish().ok(),
            Decoder::Deflate(decoder) => decoder.finish().ok(),
            Decoder::Identity | Decoder::Failed => None,
        };
        Some(decoded.unwrap_or(self.raw).0.finish())
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn digest(coding: Option<&str>, data: &[u8]) -> Option<NixHash> {
        let mut headers = HeaderMap::new();
        coding.map(|coding| headers.insert(header::CONTENT_ENCODING, coding.parse().unwrap()));
        let mut digest = RequestDigest::new(&headers);
        data.chunks(7).for_each(|chunk| digest.update(chunk));
        digest.finish()
    }

    #[test]
    fn a_body_has_one_digest_however_it_is_coded() {
        let text = b"want 1234\nwant 5678\n".repeat(10);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&text).unwrap();
        let coded = encoder.finish().unwrap();
        assert_eq!(digest(Some("gzip"), &coded), Some(NixHash::sha256(&text)));
        assert_eq!(digest(None, &text), Some(NixHash::sha256(&text)));
        assert_eq!(digest(Some("gzip"), &text), Some(NixHash::sha256(&text)), "not gzip after all");
        assert_eq!(digest(Some("gzip"), &coded[..coded.len() - 3]), Some(NixHash::sha256(&coded[..coded.len() - 3])));
        assert_eq!(digest(None, b""), None);
    }
}
