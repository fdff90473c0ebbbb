//! An entry: everything about one schedule, packed into one run of bytes.
//!
//! Layout, integers little-endian, lengths and the topic as zigzag varints:
//!
//! | field | bytes |
//! |---|---|
//! | due time | 8 |
//! | offset of the record in the log | 8 |
//! | [place](Place) | 1 |
//! | stamp | 1 |
//! | format | 1 |
//! | length of the ID | varint |
//! | number of the destination topic | varint |
//! | length of the key | varint |
//! | length of the value, or −1 for null | varint |
//! | length of the headers, packed | varint |
//! | length of the record's own headers, packed | varint |
//! | ID, key, value, headers, the record's own headers | |
//!
//! What a look-up, a hint or a batch asks is in front, mostly in one cache line with the front of the ID.

use super::hint::Hint;
use super::topics::TopicId;
use crate::schedule::{Format, Headers, varint};

/// Where a schedule is, that is, who has to let it go before it may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Place {
    /// No schedule: the bytes are free.
    Free = 0,
    /// Nowhere: on its way from one place to another, or waiting for the bulk load to finish.
    Unfiled = 1,
    /// In the wheel: a hint there leads to it.
    Waiting = 2,
    /// In the line of ready schedules: a hint there leads to it.
    Line = 3,
    /// Among the ready schedules that came out of order.
    OutOfLine = 4,
    /// Handed out in a batch.
    InFlight = 5,
    /// Set aside until its retry time.
    Aside = 6,
    /// Set aside until a newer record replaces or removes it.
    Held = 7,
}

impl Place {
    const ALL: [Self; 8] = [
        Self::Free,
        Self::Unfiled,
        Self::Waiting,
        Self::Line,
        Self::OutOfLine,
        Self::InFlight,
        Self::Aside,
        Self::Held,
    ];
}

const OFFSET_AT: usize = 8;
const PLACE_AT: usize = 16;
const STAMP_AT: usize = 17;
const FORMAT_AT: usize = 18;
const LENGTHS_AT: usize = 19;

/// How many lengths there are, the topic counted as one.
const LENGTHS: usize = 6;

/// The bytes in front that are the arena's to use while a place is [`Free`](Place::Free).
pub(super) const FREE_BYTES: usize = PLACE_AT;

/// What an entry holds, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    pub(super) due_ms: i64,
    pub(super) offset: i64,
    pub(super) format: Format,
    pub(super) id: &'a [u8],
    pub(super) topic: TopicId,
    pub(super) key: &'a [u8],
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Headers<'a>,
    pub(super) record_headers: Headers<'a>,
}

impl Parts<'_> {
    /// Bytes of what people put in: ID, key, value and both runs of headers; not the topic's name.
    pub(super) fn content_bytes(&self) -> usize {
        self.id.len()
            + self.key.len()
            + self.value.map_or(0, <[u8]>::len)
            + self.headers.as_packed().len()
            + self.record_headers.as_packed().len()
    }

    /// Bytes of the entry.
    pub(super) fn packed_bytes(&self) -> usize {
        LENGTHS_AT + self.lengths().iter().map(|&len| varint::len(len)).sum::<usize>() + self.content_bytes()
    }

    /// Writes the entry to the front of `bytes`, which are at least [`packed_bytes`](Self::packed_bytes) long. Its
    /// place and its stamp stay what they were there.
    pub(super) fn pack(&self, bytes: &mut [u8]) {
        bytes[..OFFSET_AT].copy_from_slice(&self.due_ms.to_le_bytes());
        bytes[OFFSET_AT..PLACE_AT].copy_from_slice(&self.offset.to_le_bytes());
        bytes[FORMAT_AT] = self.format as u8;
        let mut at = LENGTHS_AT;
        for len in self.lengths() {
            at += varint::put(&mut bytes[at..], len);
        }
        let value = self.value.unwrap_or_default();
        for part in [self.id, self.key, value, self.headers.as_packed(), self.record_headers.as_packed()] {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        debug_assert_eq!(at, self.packed_bytes(), "the length of an entry was computed wrong");
    }

    fn lengths(&self) -> [i64; LENGTHS] {
        [
            self.id.len() as i64,
            i64::from(self.topic.number()),
            self.key.len() as i64,
            self.value.map_or(-1, |value| value.len() as i64),
            self.headers.as_packed().len() as i64,
            self.record_headers.as_packed().len() as i64,
        ]
    }
}

/// Reads everything.
pub(super) fn parts(bytes: &[u8]) -> Parts<'_> {
    let mut rest = &bytes[LENGTHS_AT..];
    let [id, topic, key, value, headers, record_headers]: [i64; LENGTHS] =
        std::array::from_fn(|_| take_varint(&mut rest));
    let mut take = |len: i64| {
        let (part, tail) = rest.split_at(len as usize);
        rest = tail;
        part
    };
    Parts {
        due_ms: due_ms(bytes),
        offset: offset(bytes),
        format: if bytes[FORMAT_AT] == Format::Avro as u8 { Format::Avro } else { Format::Json },
        id: take(id),
        topic: TopicId::from_number(topic as u32),
        key: take(key),
        value: (value >= 0).then(|| take(value)),
        headers: Headers::from_trusted(take(headers)),
        record_headers: Headers::from_trusted(take(record_headers)),
    }
}

/// The ID alone.
pub(super) fn id(bytes: &[u8]) -> &[u8] {
    let mut rest = &bytes[LENGTHS_AT..];
    let len = take_varint(&mut rest) as usize;
    for _ in 1..LENGTHS {
        take_varint(&mut rest);
    }
    &rest[..len]
}

/// Epoch milliseconds.
pub(super) fn due_ms(bytes: &[u8]) -> i64 {
    i64::from_le_bytes(bytes[..OFFSET_AT].try_into().expect("eight bytes"))
}

/// The offset of the record that carried the schedule.
pub(super) fn offset(bytes: &[u8]) -> i64 {
    i64::from_le_bytes(bytes[OFFSET_AT..PLACE_AT].try_into().expect("eight bytes"))
}

pub(super) fn place(bytes: &[u8]) -> Place {
    Place::ALL[usize::from(bytes[PLACE_AT])]
}

pub(super) fn set_place(bytes: &mut [u8], place: Place) {
    bytes[PLACE_AT] = place as u8;
}

/// The number that the entry's hint has; it outlives the entry, so that no hint to it is taken for one to the next
/// entry in the same bytes.
pub(super) fn stamp(bytes: &[u8]) -> u8 {
    bytes[STAMP_AT]
}

pub(super) fn set_stamp(bytes: &mut [u8], stamp: u8) {
    bytes[STAMP_AT] = stamp;
}

/// Makes all hints to the entry stale, and gives the stamp for the next.
pub(super) fn renew_stamp(bytes: &mut [u8]) -> u8 {
    bytes[STAMP_AT] = bytes[STAMP_AT].wrapping_add(1);
    bytes[STAMP_AT]
}

/// Copies everything but the stamp.
pub(super) fn copy(from: &[u8], to: &mut [u8]) {
    let stamp = stamp(to);
    to[..from.len()].copy_from_slice(from);
    to[STAMP_AT] = stamp;
}

/// Whether a hint in `place` leads to this entry, and not to what was in its bytes before. The due time is compared as well:
/// stamps come round, and then no hint must lead to the wrong time.
pub(super) fn is_hinted(bytes: &[u8], hint: Hint, place: Place) -> bool {
    self::place(bytes) == place && Hint::new(hint.name(), stamp(bytes), due_ms(bytes)) == hint
}

fn take_varint(rest: &mut &[u8]) -> i64 {
    varint::read(rest).expect("packed by `pack`")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use super::*;
    use crate::schedule::HeadersBuf;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_packed_is_read_back(
            due_ms: i64,
            offset: i64,
            json: bool,
            topic: u32,
            id: Vec<u8>,
            key: Vec<u8>,
            value: Option<Vec<u8>>,
            headers: Vec<(String, Vec<u8>)>,
            record_headers: Vec<(String, Vec<u8>)>,
            room in 0..20usize,
        ) {
            let headers: HeadersBuf = headers.into_iter().collect();
            let record_headers: HeadersBuf = record_headers.into_iter().collect();
            let parts = Parts {
                due_ms,
                offset,
                format: if json { Format::Json } else { Format::Avro },
                id: &id,
                topic: TopicId::from_number(topic),
                key: &key,
                value: value.as_deref(),
                headers: headers.as_headers(),
                record_headers: record_headers.as_headers(),
            };
            let mut bytes = vec![0xee; parts.packed_bytes() + room];
            set_place(&mut bytes, Place::Held);
            let stamp_before = renew_stamp(&mut bytes);
            parts.pack(&mut bytes);
            prop_assert_eq!(super::parts(&bytes), parts);
            prop_assert_eq!(super::id(&bytes), &id[..]);
            prop_assert_eq!((super::due_ms(&bytes), super::offset(&bytes)), (due_ms, offset));
            prop_assert_eq!((place(&bytes), stamp(&bytes)), (Place::Held, stamp_before));
            prop_assert!(bytes[parts.packed_bytes()..].iter().all(|&byte| byte == 0xee));

            let mut other = vec![7; bytes.len()];
            copy(&bytes, &mut other);
            prop_assert_eq!(super::parts(&other), parts);
            prop_assert_eq!((place(&other), stamp(&other)), (Place::Held, 7));
        }
    }

    #[test]
    fn a_small_schedule_costs_few_bytes_more_than_its_content() {
        let parts = Parts {
            due_ms: i64::MAX,
            offset: i64::MAX,
            format: Format::Avro,
            id: &[1; 16],
            topic: TopicId::from_number(3),
            key: &[2; 8],
            value: Some(&[3; 40]),
            headers: Headers::default(),
            record_headers: Headers::default(),
        };
        assert_eq!(parts.packed_bytes() - parts.content_bytes(), 25);
    }

    #[test]
    fn every_place_is_kept() {
        let mut bytes = [0; LENGTHS_AT];
        assert_eq!(place(&bytes), Place::Free);
        for place in Place::ALL {
            set_place(&mut bytes, place);
            assert_eq!(super::place(&bytes), place);
        }
    }
}
