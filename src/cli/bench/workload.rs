//! What is scheduled: IDs, keys and values are computed from a number, so that nothing has to be remembered of millions
//! of them, and a message says by its key which one it is.

use crate::codec;
use crate::schedule::{DueTime, Format, Headers, Schedule};

/// Bytes of an ID: a number in hexadecimal digits.
pub(super) const ID_BYTES: usize = 16;
/// Bytes of a message's key: the ID and the version.
pub(super) const KEY_BYTES: usize = ID_BYTES + 1;

/// Makes IDs look random: consecutive numbers would be easier to compress and to find than what users have.
const SCATTER: u64 = 0x9e37_79b9_7f4a_7c15;
/// `SCATTER * GATHER == 1`, modulo 2^64.
const GATHER: u64 = 0xf1de_83e1_9937_733d;

/// The ID of the schedule with this number.
pub(super) fn id(number: u64) -> [u8; ID_BYTES] {
    let scattered = number.wrapping_mul(SCATTER);
    std::array::from_fn(|digit| {
        let nibble = (scattered >> (60 - 4 * digit)) as usize & 0xf;
        b"0123456789abcdef"[nibble]
    })
}

/// The key of the message that a version of the schedule with this number delivers.
pub(super) fn key(number: u64, version: u8) -> [u8; KEY_BYTES] {
    let mut key = [b'0' + version; KEY_BYTES];
    key[..ID_BYTES].copy_from_slice(&id(number));
    key
}

/// Number and version of a message's schedule; `None` if it is none of ours.
pub(super) fn read_key(key: &[u8]) -> Option<(u64, u8)> {
    let (version, id) = key.split_last().filter(|(_, id)| id.len() == ID_BYTES)?;
    let scattered = id.iter().try_fold(0, |number: u64, digit| {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(nibble))
    })?;
    Some((scattered.wrapping_mul(GATHER), version.checked_sub(b'0')?))
}

/// Writes schedules, and the messages they deliver, into memory that is kept.
pub(super) struct Workload {
    format: Format,
    destination: String,
    value: Vec<u8>,
    record: Vec<u8>,
}

impl Workload {
    pub(super) fn new(format: Format, destination: &str, value_bytes: u32) -> Self {
        let value = vec![0; value_bytes as usize];
        Self { format, destination: destination.to_owned(), value, record: Vec::new() }
    }

    /// The value of the message with this number.
    pub(super) fn value(&mut self, number: u64) -> &[u8] {
        fill(&mut self.value, number);
        &self.value
    }

    /// The record that schedules it.
    pub(super) fn record(&mut self, number: u64, version: u8, due_ms: i64) -> &[u8] {
        fill(&mut self.value, number);
        let schedule = Schedule {
            due: DueTime::from_epoch_ms(due_ms),
            topic: &self.destination,
            key: &key(number, version),
            value: Some(&self.value),
            headers: Headers::default(),
        };
        self.record.clear();
        codec::encode(self.format, &schedule, &mut self.record);
        &self.record
    }
}

/// Sixteen letters, at random by the number: half a byte of information a byte.
fn fill(value: &mut [u8], number: u64) {
    for (part, chunk) in value.chunks_mut(8).enumerate() {
        let letters =
            (mix(number.wrapping_mul(SCATTER) ^ part as u64) & 0x0f0f_0f0f_0f0f_0f0f) + 0x6161_6161_6161_6161;
        chunk.copy_from_slice(&letters.to_le_bytes()[..chunk.len()]);
    }
}

/// A number that looks random by another (the finaliser of `SplitMix64`).
pub(super) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(SCATTER);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::codec::Scratch;

    #[test]
    fn a_key_says_which_schedule_it_is_of() {
        for number in [0, 1, 2, 12_345_678, u64::MAX] {
            for version in [0, 1, 9] {
                assert_eq!(read_key(&key(number, version)), Some((number, version)));
            }
        }
        for foreign in [&b""[..], b"0", b"0123456789abcdeg0", b"0123456789abcdef", b"0123456789abcdef\x00"] {
            assert_eq!(read_key(foreign), None, "{foreign:?}");
        }
    }

    #[test]
    fn a_record_schedules_the_message_of_its_number() {
        for format in [Format::Avro, Format::Json] {
            let mut workload = Workload::new(format, "orders", 100);
            let value = workload.value(7).to_vec();
            let record = workload.record(7, 1, 1_000).to_vec();
            let mut scratch = Scratch::default();
            let schedule = codec::decode(format, &record, &mut scratch).unwrap();
            assert_eq!((schedule.due.epoch_ms(), schedule.topic), (1_000, "orders"));
            assert_eq!((schedule.key, schedule.value), (&key(7, 1)[..], Some(&value[..])));
            assert_ne!(workload.value(8), value, "values differ");
        }
    }

    #[test]
    fn values_are_letters_of_any_length() {
        for len in [0, 1, 7, 8, 9, 100] {
            let mut workload = Workload::new(Format::Avro, "orders", len);
            let value = workload.value(3);
            assert_eq!(value.len(), len as usize);
            assert!(value.iter().all(u8::is_ascii_lowercase), "{value:?}");
        }
    }
}
