//! Zigzag variable-length integers, as Avro and Kafka's record format write them.
//!
//! Source: the Avro specification, "Binary encoding", `int` and `long`.

/// The most bytes an encoded `i64` takes.
pub const MAX_LEN: usize = 10;

/// Appends `value` to `out`.
pub fn write(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Writes `value` to the front of `out`, which has room for it, and gives its length in bytes.
pub fn put(out: &mut [u8], value: i64) -> usize {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    let mut len = 0;
    while rest >= 0x80 {
        out[len] = rest as u8 | 0x80;
        rest >>= 7;
        len += 1;
    }
    out[len] = rest as u8;
    len + 1
}

/// Bytes that [`write()`] appends for `value`.
#[must_use]
pub fn len(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (zigzag | 1).leading_zeros() as usize).div_ceil(7)
}

/// Reads one integer from the front of `input` and moves `input` past it.
///
/// `None` when `input` ends inside the integer or the integer does not fit an `i64` (more than ten bytes, or bits
/// above the 64th); `input` is then left where it was.
#[must_use]
pub fn read(input: &mut &[u8]) -> Option<i64> {
    let mut zigzag = 0u64;
    for (i, &byte) in input.iter().take(MAX_LEN).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if i == MAX_LEN - 1 && bits > 1 {
            return None;
        }
        zigzag |= bits << (7 * i);
        if byte < 0x80 {
            *input = &input[i + 1..];
            return Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value: i64, tail: Vec<u8>) {
            let mut bytes = Vec::new();
            write(&mut bytes, value);
            prop_assert_eq!(bytes.len(), len(value));
            let mut room = [0; MAX_LEN];
            let put_len = put(&mut room, value);
            prop_assert_eq!(&room[..put_len], bytes.as_slice());
            bytes.extend_from_slice(&tail);
            let mut input = bytes.as_slice();
            prop_assert_eq!(read(&mut input), Some(value));
            prop_assert_eq!(input, tail.as_slice());
        }
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
