//! Everything about a schedule that is only read, packed into one allocation behind a thin pointer.
//!
//! Layout, integers in the machine's order, lengths as zigzag varints:
//!
//! | field | bytes |
//! |---|---|
//! | length of all of it | 4 |
//! | offset of the record | 8 |
//! | format | 1 |
//! | ID | length, bytes |
//! | number of the destination topic | varint |
//! | key | length, bytes |
//! | value | length or −1 for null, bytes |
//! | headers | length, packed |
//! | the record's own headers | packed, to the end |
//!
//! Three `Vec`s or `Bytes` and a list of headers would cost some 150 bytes and four allocations a schedule.

// The thin pointer: a fat one would widen every node by a quarter.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use super::topics::TopicId;
use crate::schedule::{Format, Headers, varint};

const LEN_BYTES: usize = size_of::<u32>();
const OFFSET_END: usize = LEN_BYTES + size_of::<i64>();
const FIXED_BYTES: usize = OFFSET_END + 1;

/// What a payload holds, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts<'a> {
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

    fn packed_bytes(&self) -> usize {
        let lens = [self.id.len(), self.key.len(), self.headers.as_packed().len()];
        FIXED_BYTES
            + lens.iter().map(|&len| varint::len(len as i64)).sum::<usize>()
            + varint::len(self.value.map_or(-1, |value| value.len() as i64))
            + varint::len(i64::from(self.topic.number()))
            + self.content_bytes()
    }
}

/// An owned packed payload.
///
/// Invariant: the pointer came from `Box::<[u8]>::into_raw`, its first four bytes hold that box's length, and nothing
/// else owns it.
#[derive(Debug)]
pub(super) struct Payload(NonNull<u8>);

// SAFETY: a payload owns its bytes alone and shares nothing, like the `Box<[u8]>` it stands for.
unsafe impl Send for Payload {}

impl Payload {
    pub(super) fn pack(parts: &Parts<'_>) -> Self {
        let len = parts.packed_bytes();
        let len_prefix = u32::try_from(len).expect("a Kafka record is smaller than 2 GiB");
        let mut packed = Vec::with_capacity(len);
        packed.extend_from_slice(&len_prefix.to_ne_bytes());
        packed.extend_from_slice(&parts.offset.to_ne_bytes());
        packed.push(parts.format as u8);
        push_bytes(&mut packed, parts.id);
        varint::write(&mut packed, i64::from(parts.topic.number()));
        push_bytes(&mut packed, parts.key);
        match parts.value {
            Some(value) => push_bytes(&mut packed, value),
            None => varint::write(&mut packed, -1),
        }
        push_bytes(&mut packed, parts.headers.as_packed());
        packed.extend_from_slice(parts.record_headers.as_packed());
        // In release builds, too: the length that is written is the length that is freed.
        assert_eq!(packed.len(), len, "the length of a payload was computed wrong");
        let packed = Box::leak(packed.into_boxed_slice());
        Self(NonNull::from(packed).cast())
    }

    /// The offset of the record that carried the schedule.
    pub(super) fn offset(&self) -> i64 {
        i64::from_ne_bytes(self.bytes()[LEN_BYTES..OFFSET_END].try_into().expect("eight bytes"))
    }

    pub(super) fn id(&self) -> &[u8] {
        take_bytes(&mut &self.bytes()[FIXED_BYTES..]).expect("an ID is never null")
    }

    pub(super) fn parts(&self) -> Parts<'_> {
        let bytes = self.bytes();
        let mut rest = &bytes[FIXED_BYTES..];
        Parts {
            offset: self.offset(),
            format: if bytes[OFFSET_END] == Format::Avro as u8 { Format::Avro } else { Format::Json },
            id: take_bytes(&mut rest).expect("an ID is never null"),
            topic: TopicId::from_number(take_varint(&mut rest) as u32),
            key: take_bytes(&mut rest).expect("a key is never null"),
            value: take_bytes(&mut rest),
            headers: Headers::from_trusted(take_bytes(&mut rest).expect("headers are never null")),
            record_headers: Headers::from_trusted(rest),
        }
    }

    /// Bytes of the allocation.
    pub(super) fn len(&self) -> usize {
        // SAFETY: the allocation is at least four bytes long and the first four are initialised; `[u8; 4]` has no
        // alignment to keep.
        u32::from_ne_bytes(unsafe { self.0.cast::<[u8; LEN_BYTES]>().read() }) as usize
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: by the invariant the pointer leads to `len` initialised bytes in one allocation; they are never
        // written again, and live until `drop`, which needs `self` mutably.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr(), self.len()) }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        let bytes = std::ptr::slice_from_raw_parts_mut(self.0.as_ptr(), self.len());
        // SAFETY: by the invariant this is the box that was leaked in `pack`, of that length, owned by nothing else;
        // `drop` runs once.
        drop(unsafe { Box::from_raw(bytes) });
    }
}

fn push_bytes(packed: &mut Vec<u8>, bytes: &[u8]) {
    varint::write(packed, bytes.len() as i64);
    packed.extend_from_slice(bytes);
}

fn take_varint(rest: &mut &[u8]) -> i64 {
    varint::read(rest).expect("packed by `pack`")
}

/// `None` for null.
fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_varint(rest)).ok()?;
    let (bytes, tail) = rest.split_at(len);
    *rest = tail;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use super::*;
    use crate::schedule::HeadersBuf;
    use proptest::prelude::*;

    proptest! {
        #[test]
        #[cfg_attr(miri, ignore = "makes strings by regular expression")]
        fn what_is_packed_is_read_back(
            offset: i64,
            json: bool,
            topic: u32,
            id: Vec<u8>,
            key: Vec<u8>,
            value: Option<Vec<u8>>,
            headers: Vec<(String, Vec<u8>)>,
            record_headers: Vec<(String, Vec<u8>)>,
        ) {
            let headers: HeadersBuf = headers.into_iter().collect();
            let record_headers: HeadersBuf = record_headers.into_iter().collect();
            let parts = Parts {
                offset,
                format: if json { Format::Json } else { Format::Avro },
                id: &id,
                topic: TopicId::from_number(topic),
                key: &key,
                value: value.as_deref(),
                headers: headers.as_headers(),
                record_headers: record_headers.as_headers(),
            };
            let payload = Payload::pack(&parts);
            prop_assert_eq!(payload.parts(), parts);
            prop_assert_eq!(payload.id(), &id[..]);
            prop_assert_eq!(payload.offset(), offset);
            prop_assert!(payload.len() >= parts.content_bytes());
        }
    }

    #[test]
    fn a_small_schedule_costs_few_bytes_more_than_its_content() {
        let parts = Parts {
            offset: i64::MAX,
            format: Format::Avro,
            id: &[1; 16],
            topic: TopicId::from_number(3),
            key: &[2; 8],
            value: Some(&[3; 40]),
            headers: Headers::default(),
            record_headers: Headers::default(),
        };
        assert_eq!(Payload::pack(&parts).len() - parts.content_bytes(), 18);
    }

    #[test]
    fn a_payload_may_be_dropped_on_another_thread() {
        let parts = Parts {
            offset: 1,
            format: Format::Json,
            id: b"id",
            topic: TopicId::from_number(0),
            key: b"",
            value: None,
            headers: Headers::default(),
            record_headers: Headers::default(),
        };
        let payload = Payload::pack(&parts);
        std::thread::spawn(move || assert_eq!(payload.id(), b"id")).join().unwrap();
    }
}
