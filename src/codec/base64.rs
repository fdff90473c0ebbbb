//! Standard base64, with or without padding: what a lenient producer may write and nothing else.
//!
//! Refused are the URL-safe alphabet, line breaks and any other foreign character, and padding that is incomplete or
//! in excess. Bits of the last character that carry nothing need not be zero. These are the rules of Java's basic
//! decoder, with which schedules were read before.

use base64_simd::{STANDARD, STANDARD_NO_PAD};

/// The text is not base64.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotBase64;

/// Appends `bytes` to `out` as padded base64.
pub(super) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    STANDARD.encode_append(bytes, out);
}

/// Appends what `text` encodes to `out`; `out` is as it was when `text` is not base64.
pub(super) fn decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), NotBase64> {
    let unpadded = strip_padding(text);
    let (whole, tail) = unpadded.split_at(unpadded.len() / 4 * 4);
    let start = out.len();
    let decoded = decode_whole(whole, out).and_then(|()| decode_tail(tail, out));
    if decoded.is_err() {
        out.truncate(start);
    }
    decoded
}

/// How many bytes `text` encodes, if it is base64.
pub(super) fn decoded_len(text: &[u8]) -> usize {
    strip_padding(text).len() * 3 / 4
}

/// Only padding that completes a group is padding; elsewhere `=` is left, to be refused as a foreign character.
fn strip_padding(text: &[u8]) -> &[u8] {
    if !text.len().is_multiple_of(4) {
        return text;
    }
    match text {
        [unpadded @ .., b'=', b'='] | [unpadded @ .., b'='] => unpadded,
        _ => text,
    }
}

/// Groups of four characters: no padding, no unused bits.
fn decode_whole(text: &[u8], out: &mut Vec<u8>) -> Result<(), NotBase64> {
    STANDARD_NO_PAD.decode_append(text, out).map_err(|_| NotBase64)
}

/// The last, short group: filled up with zero bits, of which the bytes are then dropped.
fn decode_tail(tail: &[u8], out: &mut Vec<u8>) -> Result<(), NotBase64> {
    if tail.is_empty() {
        return Ok(());
    }
    if tail.len() == 1 {
        return Err(NotBase64);
    }
    let mut group = [b'A'; 4];
    group[..tail.len()].copy_from_slice(tail);
    let start = out.len();
    decode_whole(&group, out)?;
    out.truncate(start + tail.len() - 1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::base64::Engine as _;
    use ::base64::alphabet::STANDARD as ALPHABET;
    use ::base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    use proptest::prelude::*;

    fn decoded(text: &[u8]) -> Option<Vec<u8>> {
        let mut out = b"before".to_vec();
        let result = decode(text, &mut out);
        assert_eq!(&out[..6], b"before");
        assert!(result.is_ok() || out.len() == 6, "a refused text leaves no trace");
        result.ok().map(|()| out.split_off(6))
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_with_and_without_padding(bytes: Vec<u8>) {
            let mut text = Vec::new();
            encode(&bytes, &mut text);
            prop_assert_eq!(decoded_len(&text), bytes.len());
            let expected = Some(bytes);
            prop_assert_eq!(&decoded(&text), &expected);
            let unpadded: Vec<u8> = text.into_iter().filter(|&c| c != b'=').collect();
            prop_assert_eq!(decoded_len(&unpadded), expected.as_ref().map_or(0, Vec::len));
            prop_assert_eq!(decoded(&unpadded), expected);
        }

        /// Against another implementation: a text that it accepts padded or unpadded, and no other.
        #[test]
        fn accepts_what_a_padded_or_an_unpadded_decoder_accepts(text in "[A-Da-d0-1+/=_\\-\n]{0,9}|[A-Za-z0-9+/]{0,90}={0,3}") {
            let oracle = |mode| {
                let config = GeneralPurposeConfig::new()
                    .with_decode_padding_mode(mode)
                    .with_decode_allow_trailing_bits(true);
                GeneralPurpose::new(&ALPHABET, config).decode(&text).ok()
            };
            let expected = oracle(DecodePaddingMode::RequireCanonical).or(oracle(DecodePaddingMode::RequireNone));
            prop_assert_eq!(decoded(text.as_bytes()), expected);
        }
    }

    #[test]
    fn misplaced_padding_is_refused() {
        for bad in [
            "=", "==", "===", "====", "A", "A=", "A==", "A===", "AA=", "AAA==", "AA=A", "AAAA=", "AAAA====",
            "AA==AAAA",
        ] {
            assert_eq!(decoded(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(decoded(b""), Some(vec![]));
    }

    #[test]
    fn unused_bits_do_not_matter() {
        assert_eq!(decoded(b"/x=="), Some(vec![0xff]));
        assert_eq!(decoded(b"//9"), Some(vec![0xff, 0xff]));
    }
}
