//! From schedules to the bytes of a checkpoint.
//!
//! This runs on the shard's thread, so it copies each part once, into a block that the near caches hold, and allocates
//! nothing that it does not get back.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::ops::Range;

use foldhash::quality::FixedState;
use hashbrown::HashTable;
use zerocopy::IntoBytes;

use super::format::{self, BLOCK_BYTES, EndMark, Fixed, Frame, Identity, Kind, LENGTHS, Opening, Spot};
use super::{Kept, Stand};
use crate::schedule::{Format, varint};

/// Buffers that are kept to be filled again.
const SPARES: usize = 4;

/// Turns schedules into the bytes of a checkpoint, block by block.
///
/// ```
/// use kafka_message_scheduler::checkpoint::{Decoder, Encoder, Kept, Moment, Stand};
/// use kafka_message_scheduler::schedule::{DueTime, Format, Headers, Schedule};
///
/// let stand = Stand {
///     topic: "schedules".to_owned(),
///     partition: 0,
///     topic_id: "x6-M4GZdQ_6vJ3kVgBm5Lg".to_owned(),
///     offset: 8,
///     leader_epoch: None,
///     hash_seed: 42,
///     schedules: 1,
///     taken: Moment { wall_ms: 1_767_225_600_000, boot: None },
///     log_start: 0,
///     tombstone_retention_ms: 3_600_000,
///     read_as: String::new(),
/// };
/// let due = DueTime::from_epoch_ms(1_000);
/// let schedule =
///     Schedule { due, topic: "orders", key: b"order-7", value: None, headers: Headers::default() };
/// let (format, record_headers) = (Format::Avro, Headers::default());
/// let kept = Kept { id: b"reminder-7", offset: 7, format, schedule, record_headers, held: false };
///
/// let mut encoder = Encoder::new(&stand);
/// encoder.push(&kept);
/// let mut file = Vec::new();
/// while let Some(bytes) = encoder.take() {
///     file.extend(&bytes);
///     encoder.recycle(bytes);
/// }
/// file.extend(encoder.finish());
///
/// let mut decoder = Decoder::open(&file[..])?;
/// assert_eq!(decoder.stand(), &stand);
/// let block = decoder.next_block()?.expect("there is a schedule");
/// assert_eq!(block.schedules().next().expect("the first")?, kept);
/// assert!(decoder.next_block()?.is_none());
/// # Ok::<(), kafka_message_scheduler::checkpoint::Refusal>(())
/// ```
pub struct Encoder {
    identity: Identity,
    /// The number of the next frame.
    sequence: u32,
    /// Bytes of the file in front of what is being filled.
    position: u64,
    heads: Filling,
    payloads: Filling,
    /// Schedules in the two.
    count: u32,
    topics: Topics,
    /// Schedules in all blocks before.
    schedules: u64,
    /// Of all frames so far.
    frames_check: crc32fast::Hasher,
    /// What is to be taken, in order.
    full: VecDeque<Vec<u8>>,
    spares: Vec<Vec<u8>>,
    block_bytes: usize,
}

impl Encoder {
    /// An encoder for the schedules of this stand.
    #[must_use]
    pub fn new(stand: &Stand) -> Self {
        Self::with_blocks_of(BLOCK_BYTES, stand)
    }

    pub(super) fn with_blocks_of(block_bytes: usize, stand: &Stand) -> Self {
        let identity = random_identity();
        let packed = format::pack_stand(stand);
        let mut first = Vec::with_capacity(block_bytes);
        first.extend_from_slice(Opening::new(identity, &packed).as_bytes());
        first.extend_from_slice(&packed);
        Self {
            identity,
            sequence: 0,
            position: 0,
            heads: Filling::behind(first),
            payloads: Filling::behind(Vec::with_capacity(block_bytes)),
            count: 0,
            topics: Topics::new(identity),
            schedules: 0,
            frames_check: crc32fast::Hasher::new(),
            full: VecDeque::new(),
            spares: Vec::new(),
            block_bytes,
        }
    }

    /// Adds a schedule.
    pub fn push(&mut self, kept: &Kept<'_>) {
        let schedule = &kept.schedule;
        let payload = [
            schedule.key,
            schedule.value.unwrap_or_default(),
            schedule.headers.as_packed(),
            kept.record_headers.as_packed(),
        ];
        let payload_bytes: usize = payload.iter().map(|part| part.len()).sum();
        let at_most = MAX_NUMBERS_BYTES + schedule.topic.len() + kept.id.len() + payload_bytes;
        if self.count > 0 && self.filled_bytes() + at_most > self.block_bytes {
            self.seal();
        }
        let topic = self.topics.find(schedule.topic, &self.heads.bytes);
        push_numbers(kept, topic.unwrap_or(self.topics.next_number()), &mut self.heads.bytes);
        if topic.is_none() {
            self.topics.add(schedule.topic, &mut self.heads.bytes);
        }
        self.heads.bytes.extend_from_slice(kept.id);
        for part in payload {
            self.payloads.bytes.extend_from_slice(part);
        }
        self.count += 1;
        if self.filled_bytes() >= self.block_bytes {
            self.seal();
        }
    }

    /// The next bytes of the file, a block, if one is full: to be asked until there is none.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        self.full.pop_front()
    }

    /// Takes a buffer back, to be filled again.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        // One that was for a single large schedule would be kept for nothing.
        if self.spares.len() < SPARES && buffer.capacity() <= 2 * self.block_bytes {
            buffer.clear();
            self.spares.push(buffer);
        }
    }

    /// The rest of the file: what was not taken yet, the last block, and the end mark.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.seal();
        }
        let mut rest = self.full.pop_front().unwrap_or_default();
        for block in &self.full {
            rest.extend_from_slice(block);
        }
        let before = &self.heads.bytes[..self.heads.frame_at]; // the file's head, if there is no block
        rest.extend_from_slice(before);
        let mark =
            EndMark { schedules: self.schedules.into(), frames_check: self.frames_check.finalize().into() };
        let content_at = self.position + (before.len() + Frame::LEN) as u64;
        let spot = Spot { identity: self.identity, sequence: self.sequence };
        rest.extend_from_slice(Frame::new(Kind::End, spot, content_at, 0, mark.as_bytes()).as_bytes());
        rest.extend_from_slice(mark.as_bytes());
        rest
    }

    /// Bytes of the blocks that are being filled, without the file's head.
    fn filled_bytes(&self) -> usize {
        self.heads.bytes.len() - self.heads.frame_at + self.payloads.bytes.len()
    }

    /// Ends the blocks that are being filled, and begins the next.
    fn seal(&mut self) {
        let [next_heads, next_payloads] = [(); 2].map(|()| Filling::behind(self.empty_buffer()));
        let heads = std::mem::replace(&mut self.heads, next_heads);
        let payloads = std::mem::replace(&mut self.payloads, next_payloads);
        let payload_at = self.position + (heads.bytes.len() + Frame::LEN) as u64;
        self.close(heads, Kind::Heads, payload_at);
        self.close(payloads, Kind::Payloads, payload_at);
        self.schedules += u64::from(self.count);
        self.count = 0;
        self.topics.clear();
    }

    fn close(&mut self, mut block: Filling, kind: Kind, payload_at: u64) {
        let spot = Spot { identity: self.identity, sequence: self.sequence };
        let frame = Frame::new(kind, spot, payload_at, self.count, block.content());
        block.put_frame(&frame);
        self.frames_check.update(frame.as_bytes());
        self.sequence += 1;
        self.position += block.bytes.len() as u64;
        self.full.push_back(block.bytes);
    }

    fn empty_buffer(&mut self) -> Vec<u8> {
        self.spares.pop().unwrap_or_else(|| Vec::with_capacity(self.block_bytes))
    }
}

/// A block that is being filled: what may be in front of it, room for its frame, and its content.
struct Filling {
    bytes: Vec<u8>,
    frame_at: usize,
}

impl Filling {
    fn behind(mut bytes: Vec<u8>) -> Self {
        let frame_at = bytes.len();
        bytes.resize(frame_at + Frame::LEN, 0);
        Self { bytes, frame_at }
    }

    fn content(&self) -> &[u8] {
        &self.bytes[self.frame_at + Frame::LEN..]
    }

    fn put_frame(&mut self, frame: &Frame) {
        self.bytes[self.frame_at..][..Frame::LEN].copy_from_slice(frame.as_bytes());
    }
}

/// The most bytes that the numbers of a head take, and the length of a topic's name.
const MAX_NUMBERS_BYTES: usize = Fixed::LEN + (LENGTHS + 1) * varint::MAX_LEN;

/// Appends the numbers of a head, lengths and all.
fn push_numbers(kept: &Kept<'_>, topic: u32, heads: &mut Vec<u8>) {
    let schedule = &kept.schedule;
    let json = if kept.format == Format::Json { Fixed::JSON } else { 0 };
    let held = if kept.held { Fixed::HELD } else { 0 };
    let fixed =
        Fixed { due_ms: schedule.due.epoch_ms().into(), offset: kept.offset.into(), flags: json | held };
    let lengths: [i64; LENGTHS] = [
        kept.id.len() as i64,
        topic.into(),
        schedule.key.len() as i64,
        schedule.value.map_or(varint::NULL_LEN, |value| value.len() as i64),
        schedule.headers.as_packed().len() as i64,
        kept.record_headers.as_packed().len() as i64,
    ];
    let mut numbers = [0; MAX_NUMBERS_BYTES];
    numbers[..Fixed::LEN].copy_from_slice(fixed.as_bytes());
    let mut end = Fixed::LEN;
    for len in lengths {
        end += varint::put(&mut numbers[end..], len);
    }
    heads.extend_from_slice(&numbers[..end]);
}

/// The destinations that the block of heads has named, in order.
struct Topics {
    /// Random: names come from producers, who might choose theirs to collide.
    hasher: FixedState,
    /// Where in the block each name stands.
    names: Vec<Range<usize>>,
    by_name: HashTable<u32>,
    /// The one that was asked for last: mostly there are few, and runs of the same.
    last: u32,
}

impl Topics {
    fn new(identity: Identity) -> Self {
        let seed = u128::from_le_bytes(identity) as u64;
        let hasher = FixedState::with_seed(seed);
        Self { hasher, names: Vec::new(), by_name: HashTable::new(), last: 0 }
    }

    /// The number of a name that the block has.
    fn find(&mut self, name: &str, heads: &[u8]) -> Option<u32> {
        let is_it = |names: &[Range<usize>], number: u32| {
            names.get(number as usize).is_some_and(|span| heads[span.clone()] == *name.as_bytes())
        };
        if !is_it(&self.names, self.last) {
            let hash = self.hasher.hash_one(name.as_bytes());
            self.last = *self.by_name.find(hash, |&number| is_it(&self.names, number))?;
        }
        Some(self.last)
    }

    /// The number of the name that is added next.
    fn next_number(&self) -> u32 {
        self.names.len() as u32
    }

    /// Appends a name that the block does not have.
    fn add(&mut self, name: &str, heads: &mut Vec<u8>) {
        varint::write_bytes(heads, name.as_bytes());
        let number = self.next_number();
        self.names.push(heads.len() - name.len()..heads.len());
        let Self { hasher, names, by_name, .. } = self;
        let hash_of = |number: u32| hasher.hash_one(&heads[names[number as usize].clone()]);
        by_name.insert_unique(hash_of(number), number, |&other| hash_of(other));
        self.last = number;
    }

    fn clear(&mut self) {
        self.names.clear();
        self.by_name.clear();
    }
}

#[allow(clippy::disallowed_types, reason = "what is random here tells files apart, and orders nothing")]
fn random_identity() -> Identity {
    let random = || u128::from(std::hash::RandomState::new().hash_one(0u8));
    (random() << 64 | random()).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Sample, any_sample, decode, encode, encode_in_pieces, stand};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            samples in prop::collection::vec(any_sample(), 0..40),
            block_bytes in prop_oneof![Just(1), 100..2_000usize, Just(BLOCK_BYTES)],
        ) {
            let file = encode(Encoder::with_blocks_of(block_bytes, &stand()), &samples);
            let (read_stand, read, refusal) = decode(&file);
            prop_assert!(refusal.is_none(), "{:?}", refusal);
            prop_assert_eq!(read_stand, Some(stand()));
            prop_assert_eq!(read, samples);
        }
    }

    #[test]
    fn a_schedule_that_is_larger_than_a_block_has_one_to_itself() {
        let large = |number| Sample { value: Some(vec![number as u8; 3 << 20]), ..Sample::small(number) };
        let samples = [Sample::small(1), large(2), Sample::small(3), Sample::small(4), large(5)];
        let pieces = encode_in_pieces(Encoder::new(&stand()), &samples);
        // A pair before the first large one, one for it, one behind it, and the last with the end mark.
        assert_eq!(pieces.len(), 2 + 2 + 2 + 2 + 1);
        let (_, read, refusal) = decode(&pieces.concat());
        assert!(refusal.is_none() && read == samples, "{refusal:?}");
    }

    #[test]
    fn no_piece_is_larger_than_a_block_unless_a_schedule_is() {
        let samples: Vec<_> = (0..20_000)
            .map(|n| Sample { value: Some(vec![0; n as usize % 400]), ..Sample::small(n) })
            .collect();
        let pieces = encode_in_pieces(Encoder::new(&stand()), &samples);
        let [pairs @ .., _] = &pieces[..] else { panic!("no piece") };
        assert!(pairs.len() > 10);
        for pair in pairs.chunks(2) {
            let bytes: usize = pair.iter().map(Vec::len).sum();
            assert!(bytes < BLOCK_BYTES + 200 && bytes > BLOCK_BYTES - 2_000, "{bytes}");
        }
    }

    #[test]
    fn buffers_are_filled_again_but_for_the_huge() {
        let mut encoder = Encoder::new(&stand());
        encoder.recycle(Vec::with_capacity(BLOCK_BYTES + 1));
        encoder.recycle(Vec::with_capacity(3 * BLOCK_BYTES));
        assert_eq!(encoder.spares.len(), 1);
        let buffer = encoder.empty_buffer();
        assert_eq!((buffer.capacity(), buffer.len()), (BLOCK_BYTES + 1, 0));
        for _ in 0..100 {
            encoder.recycle(vec![1; 10]);
        }
        assert_eq!(encoder.spares.len(), SPARES);
        assert!(encoder.spares.iter().all(Vec::is_empty));
    }

    #[test]
    fn two_files_of_the_same_have_different_identities() {
        let [one, other] = [(); 2].map(|()| encode(Encoder::new(&stand()), &[Sample::small(1)]));
        assert_eq!(one.len(), other.len());
        assert_ne!(one, other);
    }
}
