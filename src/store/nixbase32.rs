//! Nix's own base32: its alphabet leaves out `e`, `o`, `t`, `u`, and digits run from the last byte to the
//! first (`src/libutil/base-nix-32.cc` of Nix).

const ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// The number of characters that `bytes` bytes take.
pub const fn encoded_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

/// Encodes `input` as Nix prints it in store paths and hashes.
pub fn encode(input: &[u8]) -> String {
    (0..encoded_len(input.len()))
        .rev()
        .map(|n| {
            let (byte, shift) = (n * 5 / 8, n * 5 % 8);
            let low = u16::from(input[byte]);
            let high = u16::from(input.get(byte + 1).copied().unwrap_or(0));
            char::from(ALPHABET[usize::from(((high << 8 | low) >> shift) & 0x1f)])
        })
        .collect()
}

/// Decodes `input` to exactly `N` bytes; `None` where a character, the length or the unused leading bits
/// are wrong.
pub fn decode<const N: usize>(input: &str) -> Option<[u8; N]> {
    if input.len() != encoded_len(N) {
        return None;
    }
    let mut output = [0u8; N];
    for (n, c) in input.bytes().rev().enumerate() {
        let digit = u16::try_from(ALPHABET.iter().position(|&a| a == c)?).ok()?;
        let (byte, shift) = (n * 5 / 8, n * 5 % 8);
        let [high, low] = (digit << shift).to_be_bytes();
        output[byte] |= low;
        match output.get_mut(byte + 1) {
            Some(next) => *next |= high,
            None if high != 0 => return None,
            None => {}
        }
    }
    Some(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_sha256_is_encoded_as_nix_hash_prints_it() {
        let digest = data_encoding::HEXLOWER
            .decode(b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
            .unwrap();
        assert_eq!(encode(&digest), "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73");
    }

    #[test]
    fn decoding_refuses_wrong_lengths_letters_and_stray_bits() {
        assert_eq!(decode::<2>("0000"), Some([0, 0]));
        assert_eq!(decode::<2>("000"), None);
        assert_eq!(decode::<2>("000e"), None);
        assert_eq!(decode::<2>("z000"), None, "bits beyond the last byte");
    }

    proptest::proptest! {
        #[test]
        fn decoding_undoes_encoding(bytes: [u8; 20], long: [u8; 32]) {
            proptest::prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
            proptest::prop_assert_eq!(decode(&encode(&long)), Some(long));
        }
    }
}
