//! Standard base64, with or without padding: what a lenient producer may write and nothing else.
//!
//! Refused are the URL-safe alphabet, line breaks and any other foreign character, and padding that is incomplete or
//! in excess. Bits of the last character that carry nothing need not be zero. These are the rules of Java's basic
//! decoder, with which schedules were read before.
//!
//! Long texts go to vector code (the `base64-simd` crate), short ones, which most keys and headers are, through a table
//! here: the crate prepares longer than a short text takes, and wants to know where it ends.

use ::base64::alphabet;
use ::base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64_simd::{STANDARD, STANDARD_NO_PAD};

/// Standard base64 of what is no record, and in no hurry: padding is written, and optional when reading.
pub const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The text is not base64.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotBase64;

/// Appends `bytes` to `out` as padded base64.
pub(super) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    STANDARD.encode_append(bytes, out);
}

/// Appends what `text` encodes up to the first quote to `out`; gives how many bytes that took, the quote too.
///
/// `out` is as it was when there is no quote or what comes before it is not base64. Short texts are not searched for
/// the quote first: it ends the decoding by being no base64.
#[inline(never)]
pub(super) fn decode_quoted(text: &[u8], out: &mut Vec<u8>) -> Result<usize, NotBase64> {
    let start = out.len();
    let bulk = if is_long(text) { decode_bulk(text, out)? } else { 0 };
    let Some(len) = decode_rest(&text[bulk..], out) else {
        out.truncate(start);
        return Err(NotBase64);
    };
    Ok(bulk + len)
}

/// From this length on, vector code is faster, all its preparations included.
const LONG: usize = 64;

/// Whether the quote is no nearer than that. Looks at each of the bytes, for without a way out the compiler makes a few
/// vector comparisons of it.
fn is_long(text: &[u8]) -> bool {
    let quotes = |chunk: &[u8; LONG]| chunk.iter().fold(0, |any, &byte| any | u8::from(byte == b'"'));
    text.first_chunk().is_some_and(|chunk| quotes(chunk) == 0)
}

/// Decodes all of a long text but its last few groups; gives how much of `text` that was.
///
/// The vector code takes 32 characters at a time, as long as six more follow. It is given so many that eight are left when
/// it is done, for what it leaves it decodes one by one: the others, up to 35, are for [`decode_rest`], which is quicker.
/// At least one whole group is among them, for that may be padded.
#[inline(never)]
fn decode_bulk(text: &[u8], out: &mut Vec<u8>) -> Result<usize, NotBase64> {
    const STEP: usize = 32;
    const LEFT: usize = 2 * GROUP;
    let len = LONG + memchr::memchr(b'"', &text[LONG..]).ok_or(NotBase64)?;
    let bulk = (len - LEFT - GROUP) / STEP * STEP + LEFT;
    STANDARD_NO_PAD.decode_append(&text[..bulk], out).map_err(|_| NotBase64)?;
    Ok(bulk)
}

/// Characters of a whole group, which encode three bytes.
const GROUP: usize = 4;

/// Decodes groups up to the quote; gives how many bytes of `text` that took. On a fault, `out` keeps what it got.
///
/// Four groups at a time while there are so many, for that is twelve bytes, three words that are written at once; then one
/// by one; then what is less than a group or padded, and the quote. What is foreign ends either loop, the quote too, and
/// is looked at closely only in the end.
#[inline]
fn decode_rest(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    let (fours, _) = text.as_chunks::<{ 4 * GROUP }>();
    for chars in fours {
        let (groups, _) = chars.as_chunks();
        let [a, b, c, d] = [bits(groups[0]), bits(groups[1]), bits(groups[2]), bits(groups[3])];
        if (a | b | c | d) & FOREIGN != 0 {
            break;
        }
        // Three bytes of each, side by side.
        let words = [a | b << 24, b >> 8 | c << 16, c >> 16 | d << 8].map(u32::to_le_bytes);
        out.extend_from_slice(words.as_flattened());
        at += chars.len();
    }
    while let Some(chars) = text.get(at..).and_then(<[u8]>::first_chunk::<GROUP>) {
        let bits = bits(*chars);
        if bits & FOREIGN != 0 {
            break;
        }
        let [bytes @ .., _] = bits.to_le_bytes();
        out.extend_from_slice(&bytes);
        at += chars.len();
    }
    let rest = text.get(at..)?;
    // A short last group is filled up with zero bits, of which the bytes are then dropped.
    let (group, padded_len) = match rest {
        [b'"', ..] => return Some(at + 1),
        [a, b, b'"', ..] => ([*a, *b, b'A', b'A'], 2),
        [a, b, b'=', b'=', b'"', ..] => ([*a, *b, b'A', b'A'], 4),
        [a, b, c, b'"', ..] => ([*a, *b, *c, b'A'], 3),
        [a, b, c, b'=', b'"', ..] => ([*a, *b, *c, b'A'], 4),
        _ => return None,
    };
    let bits = bits(group);
    if bits & FOREIGN != 0 {
        return None;
    }
    let [first, second, ..] = bits.to_le_bytes();
    out.push(first);
    let has_third_character = rest[2] != b'"' && rest[2] != b'=';
    if has_third_character {
        out.push(second);
    }
    Some(at + padded_len + 1)
}

/// The three bytes that a group encodes, the first in the lowest bits; [`FOREIGN`] is set besides when a character is
/// foreign to base64. Four look-ups and no branch: the table has shifted each character's six bits to where they go.
#[inline]
fn bits(group: [u8; GROUP]) -> u32 {
    let [a, b, c, d] = group.map(usize::from);
    PLACES[0][a] | PLACES[1][b] | PLACES[2][c] | PLACES[3][d]
}

/// A bit above the three bytes, so that it survives when the parts of groups are put together.
const FOREIGN: u32 = 1 << 24;

/// What each character stands for at each of the four places of a group: four kilobytes, of which a text that is base64
/// touches a third.
static PLACES: [[u32; 256]; GROUP] = {
    let alphabet = STANDARD.charset();
    let mut places = [[FOREIGN; 256]; GROUP];
    let mut value = 0;
    while value < alphabet.len() {
        let mut place = 0;
        while place < GROUP {
            // The first character's bits are the highest of the first byte. With the three bytes at the upper end of the
            // word, swapping puts the first into the lowest bits, as `to_le_bytes` wants it, and the empty one on top.
            let bytes = (value as u32) << (8 + 18 - 6 * place);
            places[place][alphabet[value] as usize] = bytes.swap_bytes();
            place += 1;
        }
        value += 1;
    }
    places
};

#[cfg(test)]
mod tests {
    use super::*;
    use ::base64::Engine as _;
    use ::base64::alphabet::STANDARD as ALPHABET;
    use ::base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    use proptest::prelude::*;

    fn decoded(text: &[u8]) -> Option<Vec<u8>> {
        let mut out = b"before".to_vec();
        let quoted = [text, b"\"AAAA"].concat();
        let result = decode_quoted(&quoted, &mut out);
        assert_eq!(&out[..6], b"before");
        assert!(result.is_ok() || out.len() == 6, "a refused text leaves no trace");
        result.ok().map(|len| {
            assert_eq!(len, text.len() + 1);
            out.split_off(6)
        })
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_with_and_without_padding(bytes: Vec<u8>) {
            let mut text = Vec::new();
            encode(&bytes, &mut text);
            let expected = Some(bytes);
            prop_assert_eq!(&decoded(&text), &expected);
            let unpadded: Vec<u8> = text.into_iter().filter(|&c| c != b'=').collect();
            prop_assert_eq!(decoded(&unpadded), expected);
        }

        /// Against another implementation: a text that it accepts padded or unpadded, and no other.
        #[test]
        fn accepts_what_a_padded_or_an_unpadded_decoder_accepts(text in "[A-Da-d0-1+/=_\\-\n]{0,9}|[A-Za-z0-9+/]{0,200}={0,3}") {
            let oracle = |mode| {
                let config = GeneralPurposeConfig::new()
                    .with_decode_padding_mode(mode)
                    .with_decode_allow_trailing_bits(true);
                GeneralPurpose::new(&ALPHABET, config).decode(&text).ok()
            };
            let expected = oracle(DecodePaddingMode::RequireCanonical).or(oracle(DecodePaddingMode::RequireNone));
            prop_assert_eq!(decoded(text.as_bytes()), expected);
        }

        #[test]
        fn a_foreign_character_is_refused_wherever_it_stands(
            text in "([A-Za-z0-9+/]{4}){1,60}",
            at: prop::sample::Index,
            foreign in "[^A-Za-z0-9+/\"=]",
        ) {
            let at = at.index(text.len());
            let text = format!("{}{foreign}{}", &text[..at], &text[at + 1..]);
            prop_assert_eq!(decoded(text.as_bytes()), None);
        }
    }

    #[test]
    fn a_text_without_a_quote_is_refused() {
        for len in [0, 1, 4, 16, 63, 64, 65, 200] {
            let mut out = Vec::new();
            assert_eq!(decode_quoted(&vec![b'A'; len], &mut out), Err(NotBase64), "{len}");
            assert!(out.is_empty());
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
