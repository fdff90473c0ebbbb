//! Zigzag variable-length integers, as Avro and Kafka's record format write them.
//!
//! Source: the Avro specification, "Binary encoding", `int` and `long`.

/// The most bytes an encoded `i64` takes.
pub const MAX_LEN: usize = 10;

/// The length that says null where bytes may be null: in packed headers and packed schedules, never in Avro.
pub const NULL_LEN: i64 = -1;

/// Appends `value` to `out`.
#[inline]
pub fn write(out: &mut Vec<u8>, value: i64) {
    each_byte(value, |byte| out.push(byte));
}

/// Appends `bytes` to `out`, with their length before them.
#[inline]
pub fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

/// Writes `value` to the front of `out`, which has room for it, and gives its length in bytes.
pub fn put(out: &mut [u8], value: i64) -> usize {
    let mut len = 0;
    each_byte(value, |byte| {
        out[len] = byte;
        len += 1;
    });
    len
}

/// The byte that [`write()`] appends for `value`, if it is only one.
#[must_use]
#[inline]
pub fn single_byte(value: i64) -> Option<u8> {
    u8::try_from(to_zigzag(value)).ok().filter(|byte| byte & MORE == 0)
}

/// Bytes that [`write()`] appends for `value`.
#[must_use]
pub fn len(value: i64) -> usize {
    let at_least_one = to_zigzag(value) | 1; // for zero takes a byte too
    (64 - at_least_one.leading_zeros() as usize).div_ceil(7)
}

#[inline]
fn each_byte(value: i64, mut give: impl FnMut(u8)) {
    let mut rest = to_zigzag(value);
    while rest >= u64::from(MORE) {
        give(rest as u8 | MORE);
        rest >>= 7;
    }
    give(rest as u8);
}

/// Reads one integer from the front of `input` and moves `input` past it.
///
/// `None` when `input` ends inside the integer or the integer does not fit an `i64` (more than ten bytes, or bits
/// above the 64th); `input` is then left where it was.
#[must_use]
#[inline]
pub fn read(input: &mut &[u8]) -> Option<i64> {
    let (value, end) = read_at(input, 0)?;
    *input = &input[end..];
    Some(value)
}

/// The integer that begins at `input[at]`, and where it ends; `None` as [`read`].
#[must_use]
#[inline]
pub fn read_at(input: &[u8], at: usize) -> Option<(i64, usize)> {
    let byte = *input.get(at)?;
    if byte & (MORE | NEGATIVE) == 0 { Some((i64::from(byte >> 1), at + 1)) } else { read_long_at(input, at) }
}

/// [`read_at`], quickest for a time between 1970 and 2039, in milliseconds: those take six bytes, which hold 2⁴¹ of them.
///
/// Where one part of a record ends the next begins, and nothing is read before that is known. So a branch that the
/// processor foresees (the integer takes six bytes) costs less than the computation it saves.
#[must_use]
#[inline]
pub fn read_time_at(input: &[u8], at: usize) -> Option<(i64, usize)> {
    const SIX_BYTES: u64 = 0x0000_ffff_ffff_ffff;
    const FIVE_GO_ON: u64 = EACH_MORE & (SIX_BYTES >> 8);
    if let Some(word) = input.get(at..)?.first_chunk() {
        let word = u64::from_le_bytes(*word);
        if word & EACH_MORE & SIX_BYTES == FIVE_GO_ON {
            return Some((from_zigzag(join_sevens(word & SIX_BYTES)), at + 6));
        }
    }
    read_at(input, at)
}

/// The bytes whose length begins at `input[at]`, and where they end; `None` as [`read`], and for a length that is
/// negative or reaches beyond the end of `input`.
#[must_use]
#[inline]
pub fn read_bytes_at(input: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let (len, start) = read_len_at(input, at)?;
    Some((input.get(start..)?.get(..len)?, start + len))
}

/// Where the bytes end whose length begins at `input[at]`; `None` as [`read_bytes_at`].
#[must_use]
#[inline]
pub fn skip_bytes_at(input: &[u8], at: usize) -> Option<usize> {
    let (len, start) = read_len_at(input, at)?;
    (len <= input.len() - start).then_some(start + len)
}

/// [`read_at`] for lengths: nearly all take a byte or two, which are told apart here, at the place of the call.
#[inline]
fn read_len_at(input: &[u8], at: usize) -> Option<(usize, usize)> {
    let low = *input.get(at)?;
    if low & (MORE | NEGATIVE) == 0 {
        return Some((usize::from(low >> 1), at + 1));
    }
    let high = *input.get(at + 1)?;
    if low & NEGATIVE == 0 && high & MORE == 0 {
        // Seven bits of each; the lowest of all is the sign, and shifted out.
        return Some((usize::from((low & !MORE) >> 1) | usize::from(high) << 6, at + 2));
    }
    let (len, end) = read_long_at(input, at)?;
    Some((usize::try_from(len).ok()?, end))
}

/// The bit of a byte that says that another follows.
const MORE: u8 = 0x80;

/// The bit of the first byte that says that the integer is negative: in zigzag, the lowest is the sign.
const NEGATIVE: u8 = 1;

/// [`MORE`] in each byte of a word.
const EACH_MORE: u64 = u64::from_ne_bytes([MORE; 8]);

/// [`read_at`] for integers of any size.
///
/// Of up to eight bytes, it looks at all of them at once. Little-endian, whatever the machine: the first byte is in the
/// lowest bits, so the lowest bit of `last` is in the integer's last byte.
#[inline(never)]
fn read_long_at(input: &[u8], at: usize) -> Option<(i64, usize)> {
    let input = &input[at..];
    if let Some(word) = input.first_chunk() {
        let word = u64::from_le_bytes(*word);
        let last = !word & EACH_MORE; // of each byte, whether none follows it
        if last != 0 {
            let len = last.trailing_zeros() as usize / 8 + 1;
            let up_to_last = last ^ (last - 1); // all bits up to the lowest that is set, the highest of its byte
            return Some((from_zigzag(join_sevens(word & up_to_last)), at + len));
        }
    }
    let mut zigzag = 0u64;
    for (i, &byte) in input.iter().take(MAX_LEN).enumerate() {
        let bits = u64::from(byte & !MORE);
        if i == MAX_LEN - 1 && bits > 1 {
            return None; // nine bytes hold 63 bits, which leaves one to the tenth
        }
        zigzag |= bits << (7 * i);
        if byte & MORE == 0 {
            return Some((from_zigzag(zigzag), at + i + 1));
        }
    }
    None
}

/// Drops the highest bit of each of the eight bytes and puts the others side by side: in three steps instead of eight, for
/// each moves the upper half of every pair down to the lower, first of bytes, then of pairs of bytes, then of the word.
const fn join_sevens(word: u64) -> u64 {
    let sevens = word & !EACH_MORE;
    let pairs = (sevens & 0x007f_007f_007f_007f) | ((sevens & 0x7f00_7f00_7f00_7f00) >> 1);
    let fours = (pairs & 0x0000_3fff_0000_3fff) | ((pairs & 0x3fff_0000_3fff_0000) >> 2);
    (fours & 0x0fff_ffff) | ((fours & 0x0fff_ffff_0000_0000) >> 4)
}

/// 0, −1, 1, −2 … as 0, 1, 2, 3 …: the sign goes to the lowest bit, and inverts the others, so that what is near zero takes
/// few bytes on both sides of it.
const fn to_zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const fn from_zigzag(zigzag: u64) -> i64 {
    (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The specification, in the fewest words: seven bits a byte, the lowest first, the high bit while more follow.
    fn reference(input: &[u8]) -> Option<(i64, usize)> {
        let len = input.iter().position(|byte| byte & 0x80 == 0)? + 1;
        let bits = input[..len]
            .iter()
            .rev()
            .try_fold(0u128, |bits, byte| (bits < 1 << 100).then_some(bits << 7 | u128::from(byte & 0x7f)))?;
        let zigzag = u64::try_from(bits).ok().filter(|_| len <= MAX_LEN)?;
        Some(((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64), len))
    }

    /// Integers of any length, one behind the other, perhaps cut; and any bytes.
    fn inputs() -> impl Strategy<Value = Vec<u8>> {
        let integer = (any::<u64>(), 0..64u32).prop_map(|(bits, shift)| {
            let mut bytes = Vec::new();
            write(&mut bytes, (bits >> shift) as i64 * if bits & 1 == 0 { 1 } else { -1 });
            bytes
        });
        let integers = prop::collection::vec(integer, 0..6).prop_map(|integers| integers.concat());
        let high = prop::collection::vec(0x80u8.., 0..12);
        prop_oneof![integers, (high, any::<Vec<u8>>()).prop_map(|(high, any)| [high, any].concat())]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20 * ProptestConfig::default().cases))]

        #[test]
        fn all_ways_of_reading_agree(input in inputs(), at: prop::sample::Index) {
            let at = at.index(input.len() + 1);
            let expected = reference(&input[at..]).map(|(value, len)| (value, at + len));
            prop_assert_eq!(read_at(&input, at), expected);
            prop_assert_eq!(read_time_at(&input, at), expected);
            let bytes = expected.and_then(|(len, start)| {
                let end = start.checked_add(usize::try_from(len).ok()?)?;
                Some((input.get(start..end)?, end))
            });
            prop_assert_eq!(read_bytes_at(&input, at), bytes);
            prop_assert_eq!(skip_bytes_at(&input, at), bytes.map(|(_, end)| end));
        }
    }

    #[test]
    fn nothing_is_read_behind_the_end() {
        for at in [0, 1, 2, usize::MAX] {
            assert_eq!(read_at(&[0x80], at), None);
            assert_eq!(read_time_at(&[0x80], at), None);
            assert_eq!(read_bytes_at(&[0x80], at), None);
            assert_eq!(skip_bytes_at(&[0x80], at), None);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value: i64, tail: Vec<u8>) {
            let mut bytes = Vec::new();
            write(&mut bytes, value);
            prop_assert_eq!(bytes.len(), len(value));
            let mut room = [0; MAX_LEN];
            let put_len = put(&mut room, value);
            prop_assert_eq!(&room[..put_len], bytes.as_slice());
            prop_assert_eq!(single_byte(value), if let [byte] = bytes[..] { Some(byte) } else { None });
            bytes.extend_from_slice(&tail);
            let mut input = bytes.as_slice();
            prop_assert_eq!(read(&mut input), Some(value));
            prop_assert_eq!(input, tail.as_slice());
        }
    }

    #[test]
    fn a_byte_holds_sixty_four_integers_of_each_sign() {
        assert_eq!([-65, -64, 63, 64].map(|value| single_byte(value).is_some()), [false, true, true, false]);
    }

    #[test]
    fn the_extremes_take_ten_bytes() {
        assert_eq!(len(i64::MIN), MAX_LEN);
        assert_eq!(len(i64::MAX), MAX_LEN);
        assert_eq!(len(0), 1);
        assert_eq!(len(-1), 1);
        assert_eq!(len(64), 2);
    }

    #[test]
    fn an_integer_cut_short_or_too_wide_is_refused() {
        for bad in [
            &[][..],
            &[0x80][..],
            &[0xff; 9][..],
            &[0xff; 11][..],
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02][..],
        ] {
            let mut input = bad;
            assert_eq!(read(&mut input), None);
            assert_eq!(input, bad);
        }
    }
}
