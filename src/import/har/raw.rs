//! What HAR files have in place of strings and counts.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Deserializer, de::Visitor};

/// A string of the file. mitmproxy, which is Python, has for each byte that is no UTF-8 half of a surrogate pair, which is
/// no text: it is that byte again here.
pub enum Raw {
    /// It is text.
    Text(String),
    /// It is not.
    Bytes(Vec<u8>),
}

impl Raw {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }

    /// As text, to show it or to look into it.
    pub fn to_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.as_bytes())
    }

    fn of(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|error| Self::Bytes(with_bytes(error.as_bytes())), Self::Text)
    }
}

/// `text` with bytes in place of the code points U+DC80 to U+DCFF, which are ED B2 80 to ED B3 BF.
fn with_bytes(mut text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    while let Some((&first, rest)) = text.split_first() {
        text = match text {
            [0xed, half @ (0xb2 | 0xb3), low @ 0x80..=0xbf, rest @ ..] => {
                bytes.push(if *half == 0xb2 { *low } else { *low + 0x40 });
                rest
            }
            _ => {
                bytes.push(first);
                rest
            }
        };
    }
    bytes
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Raw, E> {
                Ok(Raw::of(bytes.to_vec()))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Raw, E> {
                Ok(Raw::of(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

/// A number of the file that counts something; none where it says that it does not know.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn whole(number: Option<f64>) -> Option<u64> {
    // Up to 2^53 every whole number is exact.
    number.filter(|number| number.fract() == 0.0 && (0.0..9.0e15).contains(number)).map(|number| number as u64)
}
