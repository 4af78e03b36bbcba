//! The compiled form of an inventory: its text, and beside it the request index for one system, ready to be used.
//!
//! TOML (or JSON) stays the truth: the text is in the file as it was, and an entry is read from its place in it when it is
//! first asked for. Who wants all of the inventory reads the text. So there is no second schema, and what is compiled
//! can be thrown away and made again at any time.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | [`MAGIC`] |
//! | 4 | the version of this form |
//! | 4 | how many numbers there are |
//! | 4 × 4 | lengths of the texts in bytes: the inventory, its rules, the system, URLs that it does not spell out |
//! | 8 | XXH3 of everything else: what is before it, then what is behind it |
//! | … | the texts, one behind the other |
//! | 4 each | the numbers: the index's tables, see `index/stored.rs` |
//!
//! All numbers are little-endian. The same inventory gives the same bytes on every machine.

use std::io::{self, Read};

use xxhash_rust::xxh3::Xxh3Default;

/// What a compiled inventory starts with. It is no UTF-8, and whoever changes line ends changes it.
pub const MAGIC: [u8; 8] = *b"\x89bpx\r\n\x1a\n";
/// What has to change with everything that is stored, with the hash of URLs, and with the reader of entries.
const VERSION: u32 = 1;
/// Bytes before the texts.
pub const HEADER_LENGTH: usize = 40;
/// Bytes of the header that come before the checksum.
const BEFORE_CHECKSUM: usize = HEADER_LENGTH - 8;

/// Why a compiled inventory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompiledError {
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[source] io::Error),
    /// Another buildproxy made it.
    #[error("this is a compiled inventory of version {found}, and this buildproxy reads version {VERSION}")]
    Version {
        /// The version in the file.
        found: u32,
    },
    /// It ends early, or goes on.
    #[error("this compiled inventory has not the length that it says: it was cut, or something was added")]
    Length,
    /// Its bytes are others than were written.
    #[error("this compiled inventory is damaged: its checksum is wrong")]
    Checksum,
    /// Its checksum is right and what it says is not possible.
    #[error("this compiled inventory contradicts itself")]
    Inconsistent,
}

/// What a compiled inventory is made of.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The inventory as it was read.
    pub text: String,
    /// A text with its rules and no entry.
    pub rules: String,
    /// The Nix system whose entries the index has.
    pub system: String,
    /// URLs that the text does not spell out, one behind the other.
    pub urls: String,
    /// The tables of the index.
    pub numbers: Vec<u32>,
}

/// Whether a file that starts with `bytes` is meant to be a compiled inventory.
pub fn is_compiled(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// The file with these `parts`; `None` where one of them is four billion bytes or more.
pub fn write(parts: &Parts) -> Option<Vec<u8>> {
    let Parts { text, rules, system, urls, numbers } = parts;
    let texts = [text, rules, system, urls];
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(u32::try_from(numbers.len()).ok()?.to_le_bytes());
    for text in texts {
        bytes.extend(u32::try_from(text.len()).ok()?.to_le_bytes());
    }
    let mut checksum = Xxh3Default::new();
    checksum.update(&bytes);
    bytes.extend([0; 8]);
    texts.iter().for_each(|text| bytes.extend(text.as_bytes()));
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    checksum.update(&bytes[HEADER_LENGTH..]);
    bytes[BEFORE_CHECKSUM..HEADER_LENGTH].copy_from_slice(&checksum.digest().to_le_bytes());
    Some(bytes)
}

/// Reads what [`write`] made: `header` is its first [`HEADER_LENGTH`] bytes, `rest` gives the others.
///
/// # Errors
/// Where the file is not whole, not what was written, or of another version.
pub fn read(header: &[u8], rest: &mut impl Read) -> Result<Parts, CompiledError> {
    let field = |place: usize| {
        let bytes = header.get(place..place + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_le_bytes).ok_or(CompiledError::Length)
    };
    match field(8)? {
        VERSION => {}
        found => return Err(CompiledError::Version { found }),
    }
    let expected = header.get(BEFORE_CHECKSUM..HEADER_LENGTH).and_then(|bytes| bytes.try_into().ok());
    let expected = u64::from_le_bytes(expected.ok_or(CompiledError::Length)?);
    let mut checksum = Xxh3Default::new();
    checksum.update(&header[..BEFORE_CHECKSUM]);
    let mut texts: [Vec<u8>; 4] = Default::default();
    for (text, place) in texts.iter_mut().zip([16, 20, 24, 28]) {
        *text = take(rest, field(place)?.into())?;
        checksum.update(text);
    }
    let numbers = take(rest, 4 * u64::from(field(12)?))?;
    checksum.update(&numbers);
    if rest.read(&mut [0]).map_err(CompiledError::Io)? != 0 {
        return Err(CompiledError::Length);
    }
    if checksum.digest() != expected {
        return Err(CompiledError::Checksum);
    }
    let [text, rules, system, urls] = texts;
    let utf8 = |bytes| String::from_utf8(bytes).map_err(|_| CompiledError::Inconsistent);
    // Each chunk has its four bytes, so that nothing is made up here.
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
    let numbers = numbers.chunks_exact(4).map(number).collect();
    Ok(Parts { text: utf8(text)?, rules: utf8(rules)?, system: utf8(system)?, urls: utf8(urls)?, numbers })
}

/// The next `length` bytes. Memory is taken for what is there, not for what a damaged header says.
fn take(rest: &mut impl Read, length: u64) -> Result<Vec<u8>, CompiledError> {
    let mut bytes = Vec::new();
    // A file that was cut has a length of its own; reading stops there.
    rest.take(length).read_to_end(&mut bytes).map_err(CompiledError::Io)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(CompiledError::Length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Parts {
        Parts {
            text: "version = 1\n".to_owned(),
            rules: "version = 1\n[match]\n".to_owned(),
            system: "x86_64-linux".to_owned(),
            urls: "http://h/ä".to_owned(),
            numbers: vec![0, 1, u32::MAX, 7],
        }
    }

    fn read_all(bytes: &[u8]) -> Result<Parts, CompiledError> {
        let (header, mut rest) = bytes.split_at(bytes.len().min(HEADER_LENGTH));
        read(header, &mut rest)
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = write(&sample()).unwrap();
        assert!(is_compiled(&bytes));
        assert_eq!(read_all(&bytes).unwrap(), sample());
        assert_eq!(read_all(&write(&Parts::default()).unwrap()).unwrap(), Parts::default());
        assert!(String::from_utf8(bytes).is_err());
    }

    #[test]
    fn the_bytes_are_the_documented_ones() {
        let parts = Parts { system: "s".to_owned(), numbers: vec![258], ..Parts::default() };
        let bytes = write(&parts).unwrap();
        assert_eq!(bytes[..16], *b"\x89bpx\r\n\x1a\n\x01\0\0\0\x01\0\0\0");
        assert_eq!(bytes[16..32], *b"\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0");
        let checked = [&bytes[..32], &bytes[40..]].concat();
        assert_eq!(bytes[32..40], xxhash_rust::xxh3::xxh3_64(&checked).to_le_bytes());
        assert_eq!(bytes[40..], *b"s\x02\x01\0\0");
    }

    #[test]
    fn no_bit_can_change_and_no_byte_can_go_or_come() {
        let bytes = write(&sample()).unwrap();
        for place in MAGIC.len()..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[place] ^= 1 << bit;
                assert!(read_all(&damaged).is_err(), "bit {bit} of byte {place}");
            }
        }
        for length in MAGIC.len()..bytes.len() {
            assert!(matches!(read_all(&bytes[..length]), Err(CompiledError::Length)), "cut at {length}");
        }
        assert!(matches!(read_all(&[&bytes[..], b"\0"].concat()), Err(CompiledError::Length)));
    }

    #[test]
    fn another_version_is_the_message_whatever_else_is_different() {
        let mut bytes = write(&sample()).unwrap();
        bytes[8] = 9;
        assert!(matches!(read_all(&bytes[..16]), Err(CompiledError::Version { found: 9 })));
    }

    #[test]
    fn each_error_says_what_is_wrong_with_the_file() {
        for (error, text) in [
            (
                CompiledError::Length,
                "this compiled inventory has not the length that it says: it was cut, or something was added",
            ),
            (CompiledError::Checksum, "this compiled inventory is damaged: its checksum is wrong"),
            (CompiledError::Inconsistent, "this compiled inventory contradicts itself"),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}
