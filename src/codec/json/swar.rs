//! Eight bytes of a text at a time, in one register ("SIMD within a register"): what records are mostly made of, plain
//! strings and a time, takes a few steps for each eight bytes instead of some for each one.
//!
//! A word holds its bytes little-endian, whatever the machine: the first one in the lowest bits. So the first byte of
//! which something is true is where the lowest bit is set that says so, and carries and borrows go from a byte to the
//! ones behind it.
//!
//! Source of the comparisons of all bytes of a word: Warren, "Hacker's Delight", 6-1.

const EACH: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x80 * EACH;

/// The string whose content is at the front of `text`, up to its closing quote, if it is plain: ASCII and no escapes. (And
/// if its end is not among the last few bytes of `text`, which are no whole word.)
#[inline(always)]
pub(super) fn plain_string(text: &[u8]) -> Option<&[u8]> {
    let (words, _) = text.as_chunks();
    for (i, word) in words.iter().enumerate() {
        let stops = stops(u64::from_le_bytes(*word));
        if stops != 0 {
            let len = i * size_of::<u64>() + first_marked(stops);
            return if *text.get(len)? == b'"' { text.get(..len) } else { None };
        }
    }
    None
}

/// Whether a string can be written as it is: ASCII, and nothing to escape.
pub(super) fn is_plain(string: &[u8]) -> bool {
    let (words, rest) = string.as_chunks();
    let is_stop = |byte: &u8| matches!(byte, 0..0x20 | b'"' | b'\\' | 0x80..);
    words.iter().all(|word| stops(u64::from_le_bytes(*word)) == 0) && !rest.iter().any(is_stop)
}

/// The bytes at which a string is no longer plain, each marked by its high bit: quotes, backslashes, control characters,
/// and what is not ASCII. Bytes behind the first of them may be marked wrongly.
///
/// What is not ASCII has its high bit set already. Of the others, a byte minus `n` has it set just when the byte is less
/// than `n`: less than 0x20 is a control character, and less than 1 is what became zero when all were xored with a quote.
/// Only a byte that is less borrows from the one behind it, so up to the first stop there is no wrong mark.
#[inline(always)]
const fn stops(word: u64) -> u64 {
    let quotes = word ^ (b'"' as u64 * EACH);
    let backslashes = word ^ (b'\\' as u64 * EACH);
    let below = word.wrapping_sub(0x20 * EACH) | quotes.wrapping_sub(EACH) | backslashes.wrapping_sub(EACH);
    (below | word) & HIGH_BITS
}

/// Where the first byte is of which the high bit is set; 8 if there is none.
#[inline(always)]
const fn first_marked(high_bits: u64) -> usize {
    high_bits.trailing_zeros() as usize / 8
}

/// The integer at the front of `text` and how many digits it has, if it is plain: sixteen at most, which is more than a
/// time has, and nothing but digits. (And if it is not at the end of `text`.)
#[inline(always)]
pub(super) fn plain_integer(text: &[u8]) -> Option<(i64, usize)> {
    let first = Digits::of(*text.first_chunk()?);
    let (value, len) = if first.len < 8 {
        (first.value, first.len)
    } else {
        let then = Digits::of(*text.get(8..)?.first_chunk()?);
        (first.value * POWERS_OF_TEN[then.len] + then.value, 8 + then.len)
    };
    let is_whole = match text.get(len)? {
        b'0'..=b'9' | b'.' | b'e' | b'E' => false,
        _ => len == 1 || (len > 1 && text[0] != b'0'),
    };
    is_whole.then_some((value, len))
}

const POWERS_OF_TEN: [i64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// The digits at the front of eight bytes.
struct Digits {
    value: i64,
    len: usize,
}

impl Digits {
    #[inline(always)]
    fn of(bytes: [u8; 8]) -> Self {
        // The digits are 0x30 to 0x39. Xored with 0x30 they are what they stand for, and all other bytes are ten or more.
        let digits = u64::from_le_bytes(bytes) ^ (u64::from(b'0') * EACH);
        // Ten and 0x76 is 0x80, so this marks what is no digit; as only that carries, rightly up to the first.
        let foreign = (digits | digits.wrapping_add(0x76 * EACH)) & HIGH_BITS;
        let len = first_marked(foreign);
        // Shifted up, zeros come before the digits and make them eight, and what is behind them is gone. Without a digit all
        // is gone: a shift by the whole word, which is undefined for `<<`.
        let eight = digits.checked_shl(64 - 8 * len as u32).unwrap_or_default();
        // Neighbours are joined, the first of two being the higher: digits to pairs, these to fours, these to one. What
        // the other neighbours make of it (the second with the third) is masked out.
        let pairs = (eight * 10 + (eight >> 8)) & 0x00ff_00ff_00ff_00ff;
        let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
        Self { value: ((fours * 10_000 + (fours >> 32)) & 0xffff_ffff) as i64, len }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_plain_string_ends_at_the_first_stop(
            plain in "[ !#-\\[\\]-~\u{7f}]{0,20}",
            stop in prop_oneof![Just(b'"'), Just(b'\\'), 0..0x20u8, 0x80u8..],
            behind in prop::collection::vec(any::<u8>(), 8..20),
        ) {
            let text = [plain.as_bytes(), &[stop], &behind].concat();
            prop_assert_eq!(plain_string(&text), (stop == b'"').then_some(plain.as_bytes()));
        }

        #[test]
        fn a_plain_string_needs_no_escape(text: String) {
            let quoted = serde_json::to_string(&text).expect("writing to memory does not fail");
            prop_assert_eq!(is_plain(text.as_bytes()), text.is_ascii() && quoted.len() == text.len() + 2);
        }
    }

    #[test]
    fn no_byte_of_a_string_is_overlooked() {
        for (at, byte) in (0..24).flat_map(|at| (0..=u8::MAX).map(move |byte| (at, byte))) {
            let mut text = [b'a'; 24];
            text[at] = byte;
            let is_stop = matches!(byte, 0..0x20 | b'"' | b'\\' | 0x80..);
            assert_eq!(is_plain(&text), !is_stop, "{byte:#x} at {at}");
        }
    }

    #[test]
    fn a_time_is_a_plain_integer() {
        for digits in ["0", "7", "1767225600000", "9999999999999999"] {
            let text = format!("{digits},\"topic\":\"orders\"");
            assert_eq!(plain_integer(text.as_bytes()), digits.parse().ok().map(|time| (time, digits.len())));
        }
    }
}
