//! The layout of a checkpoint's file, version 1.
//!
//! ```text
//! head ‖ block of heads ‖ block of payloads ‖ block of heads ‖ block of payloads ‖ … ‖ end mark
//! ```
//!
//! Integers are little-endian and unsigned unless it says otherwise. A *varint* is a zigzag varint
//! ([`varint`]), a *text* is a varint, the number of bytes, and so many bytes of UTF-8. Checksums are CRC-32 (of IEEE 802.3).
//!
//! **Head**, what the file is:
//!
//! | field | bytes |
//! |---|---|
//! | `kms-ckpt` | 8 |
//! | version of the format | 4 |
//! | length of the stand | 4 |
//! | the file's identity, random | 16 |
//! | checksum of all before and of the stand | 4 |
//! | [stand](Stand): topic | text |
//! | partition, signed | 4 |
//! | ID of the topic | text |
//! | offset, signed | 8 |
//! | whether the leader epoch is known, 0 or 1; the epoch, signed | 1 + 4 |
//! | seed of the set's hash | 8 |
//! | about how many schedules follow | 8 |
//! | when it was taken: by the wall clock, epoch milliseconds, signed | 8 |
//! | whether the other clock is known, 0 or 1; which start of the machine; milliseconds since | 1 + 16 + 8 |
//! | where the log began, signed | 8 |
//! | how long the topic kept tombstones, milliseconds | 8 |
//! | how records were read | text |
//!
//! **Frame**, in front of every block and of the end mark:
//!
//! | field | bytes |
//! |---|---|
//! | kind: 1 heads, 2 payloads, 3 end mark | 4 |
//! | its number in the file, from 0 | 4 |
//! | the file's identity | 16 |
//! | where in the file the payloads of this pair of blocks begin, behind their frame; in the end mark, where its content begins | 8 |
//! | schedules in the block; in the end mark 0 | 4 |
//! | length of the content | 4 |
//! | checksum of the content | 4 |
//! | checksum of the frame up to here | 4 |
//!
//! **Content of a block of heads**, for each schedule what a look-up, the wheel and a batch have to know:
//!
//! | field | bytes |
//! |---|---|
//! | due time, epoch milliseconds, signed | 8 |
//! | offset of its record, signed | 8 |
//! | flags: 1 it was written as JSON, 2 it is held | 1 |
//! | length of the ID | varint |
//! | number of the destination topic, in the order in which the block names them | varint |
//! | length of the key | varint |
//! | length of the value, or −1 for null | varint |
//! | length of the headers, packed ([`Headers`](crate::schedule::Headers)) | varint |
//! | length of the record's own headers, packed | varint |
//! | name of the topic, if its number is the next that has no name yet | text |
//! | ID | |
//!
//! **Content of a block of payloads**: for each schedule of the heads before it, in their order, key, value, headers and the
//! record's own headers. So the heads alone say where in the file each payload lies: what is only due much later may be left
//! there, and be read when its time comes.
//!
//! **Content of the end mark**: how many schedules the file has (8), and the checksum of all frames before, one after the
//! other (4). Nothing follows.
//!
//! A pair of blocks has some [`BLOCK_BYTES`] together: whoever writes it keeps it in the near caches. A schedule that is
//! larger has a pair of blocks to itself.

use zerocopy::byteorder::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Boot, Moment, Stand};
use crate::schedule::varint;

/// Each change of the layout takes the next.
pub(super) const VERSION: u32 = 1;

/// What a pair of blocks has at most, unless it is for a single schedule.
pub(super) const BLOCK_BYTES: usize = 256 << 10;

/// No stand is longer: names of topics have 249 characters at most.
pub(super) const MAX_STAND_BYTES: usize = 4 << 10;

const MAGIC: [u8; 8] = *b"kms-ckpt";

/// What tells the blocks of one file from those of all others.
pub(super) type Identity = [u8; 16];

/// The part of the head in front of the stand.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Opening {
    magic: [u8; 8],
    version: U32,
    stand_len: U32,
    pub(super) identity: Identity,
    check: U32,
}

/// What may be wrong with an opening before its checksum is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    Magic,
    Version(u32),
}

impl Opening {
    pub(super) fn new(identity: Identity, stand: &[u8]) -> Self {
        let (version, stand_len) = (VERSION.into(), (stand.len() as u32).into());
        let mut opening = Self { magic: MAGIC, version, stand_len, identity, check: 0.into() };
        opening.check = opening.checksum(stand).into();
        opening
    }

    /// The length of the stand that follows.
    pub(super) fn stand_len(&self) -> Result<usize, Unknown> {
        if self.magic != MAGIC {
            return Err(Unknown::Magic);
        }
        if self.version != VERSION {
            return Err(Unknown::Version(self.version.get()));
        }
        Ok(self.stand_len.get() as usize)
    }

    /// Whether its checksum fits, with this stand.
    pub(super) fn is_intact(&self, stand: &[u8]) -> bool {
        self.check == self.checksum(stand)
    }

    fn checksum(&self, stand: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(before_check(self.as_bytes()));
        hasher.update(stand);
        hasher.finalize()
    }
}

/// What a frame is in front of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    Heads = 1,
    Payloads = 2,
    End = 3,
}

/// What is in front of each block.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Frame {
    kind: U32,
    sequence: U32,
    identity: Identity,
    payload_at: U64,
    count: U32,
    len: U32,
    content_check: U32,
    check: U32,
}

/// Where a frame belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) identity: Identity,
    pub(super) sequence: u32,
}

impl Frame {
    pub(super) const LEN: usize = size_of::<Self>();

    pub(super) fn new(kind: Kind, spot: Spot, payload_at: u64, count: u32, content: &[u8]) -> Self {
        let mut frame = Self {
            kind: (kind as u32).into(),
            sequence: spot.sequence.into(),
            identity: spot.identity,
            payload_at: payload_at.into(),
            count: count.into(),
            len: u32::try_from(content.len()).expect("no record is as large as 2 GiB").into(),
            content_check: crc32fast::hash(content).into(),
            check: 0.into(),
        };
        frame.check = frame.checksum().into();
        frame
    }

    /// Whether its own checksum fits.
    pub(super) fn is_intact(&self) -> bool {
        self.check == self.checksum()
    }

    /// Whether it was written there.
    pub(super) fn is_of(&self, spot: Spot) -> bool {
        self.identity == spot.identity && self.sequence == spot.sequence
    }

    pub(super) fn kind(&self) -> Option<Kind> {
        [Kind::Heads, Kind::Payloads, Kind::End].into_iter().find(|&kind| self.kind == kind as u32)
    }

    /// Where in the file the payloads begin.
    pub(super) fn payload_at(&self) -> u64 {
        self.payload_at.get()
    }

    /// Schedules in the block.
    pub(super) fn count(&self) -> u32 {
        self.count.get()
    }

    /// Bytes that follow.
    pub(super) fn len(&self) -> usize {
        self.len.get() as usize
    }

    /// Whether these are the bytes that followed.
    pub(super) fn fits(&self, content: &[u8]) -> bool {
        self.content_check == crc32fast::hash(content)
    }

    /// A frame of heads that says that so many bytes follow.
    #[cfg(test)]
    pub(super) fn claiming(len: u32, spot: Spot) -> Self {
        let mut frame = Self { len: len.into(), ..Self::new(Kind::Heads, spot, 0, 1, &[]) };
        frame.check = frame.checksum().into();
        frame
    }

    fn checksum(&self) -> u32 {
        crc32fast::hash(before_check(self.as_bytes()))
    }
}

fn before_check(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len() - size_of::<U32>()]
}

/// What a head of a schedule begins with.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Fixed {
    pub(super) due_ms: I64,
    pub(super) offset: I64,
    pub(super) flags: u8,
}

impl Fixed {
    pub(super) const LEN: usize = size_of::<Self>();
    pub(super) const JSON: u8 = 1;
    pub(super) const HELD: u8 = 2;
}

/// How many lengths a head has, the topic counted as one.
pub(super) const LENGTHS: usize = 6;

/// The content of the end mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct EndMark {
    pub(super) schedules: U64,
    pub(super) frames_check: U32,
}

/// The stand as it is written.
pub(super) fn pack_stand(stand: &Stand) -> Vec<u8> {
    let mut out = Vec::new();
    varint::write_bytes(&mut out, stand.topic.as_bytes());
    out.extend(stand.partition.to_le_bytes());
    varint::write_bytes(&mut out, stand.topic_id.as_bytes());
    out.extend(stand.offset.to_le_bytes());
    out.push(stand.leader_epoch.is_some().into());
    out.extend(stand.leader_epoch.unwrap_or_default().to_le_bytes());
    out.extend(stand.hash_seed.to_le_bytes());
    out.extend(stand.schedules.to_le_bytes());
    out.extend(stand.taken.wall_ms.to_le_bytes());
    out.push(stand.taken.boot.is_some().into());
    let boot = stand.taken.boot.unwrap_or(Boot { id: [0; 16], since_boot_ms: 0 });
    out.extend(boot.id);
    out.extend(boot.since_boot_ms.to_le_bytes());
    out.extend(stand.log_start.to_le_bytes());
    out.extend(stand.tombstone_retention_ms.to_le_bytes());
    varint::write_bytes(&mut out, stand.read_as.as_bytes());
    out
}

/// The stand that is written there; `None` if there is no such one.
pub(super) fn unpack_stand(bytes: &[u8]) -> Option<Stand> {
    let mut rest = Rest(bytes);
    let topic = rest.text()?;
    let partition = i32::from_le_bytes(rest.array()?);
    let topic_id = rest.text()?;
    let offset = i64::from_le_bytes(rest.array()?);
    let has_epoch = rest.flag()?;
    let leader_epoch = Some(i32::from_le_bytes(rest.array()?)).filter(|_| has_epoch);
    let hash_seed = u64::from_le_bytes(rest.array()?);
    let schedules = u64::from_le_bytes(rest.array()?);
    let wall_ms = i64::from_le_bytes(rest.array()?);
    let has_boot = rest.flag()?;
    let boot = Boot { id: rest.array()?, since_boot_ms: u64::from_le_bytes(rest.array()?) };
    let taken = Moment { wall_ms, boot: Some(boot).filter(|_| has_boot) };
    let log_start = i64::from_le_bytes(rest.array()?);
    let tombstone_retention_ms = u64::from_le_bytes(rest.array()?);
    let read_as = rest.text()?;
    let stand = Stand {
        topic,
        partition,
        topic_id,
        offset,
        leader_epoch,
        hash_seed,
        schedules,
        taken,
        log_start,
        tombstone_retention_ms,
        read_as,
    };
    rest.0.is_empty().then_some(stand)
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.array()? {
            [0] => Some(false),
            [1] => Some(true),
            [_] => None,
        }
    }

    fn text(&mut self) -> Option<String> {
        let (bytes, end) = varint::read_bytes_at(self.0, 0)?;
        self.0 = &self.0[end..];
        Some(std::str::from_utf8(bytes).ok()?.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::stand;
    use super::*;

    #[test]
    fn a_stand_is_read_as_it_was_written_or_not_at_all() {
        for has_all in [true, false] {
            let mut stand = stand();
            stand.leader_epoch = stand.leader_epoch.filter(|_| has_all);
            stand.taken.boot = stand.taken.boot.filter(|_| has_all);
            let packed = pack_stand(&stand);
            assert_eq!(unpack_stand(&packed).as_ref(), Some(&stand));
            for len in 0..packed.len() {
                assert_eq!(unpack_stand(&packed[..len]), None, "cut at {len}");
            }
            assert_eq!(unpack_stand(&[&packed[..], &[0]].concat()), None);
        }
    }

    #[test]
    fn the_longest_stand_has_room() {
        let (topic, topic_id) = ("t".repeat(249), "i".repeat(64));
        assert!(pack_stand(&Stand { topic, topic_id, ..stand() }).len() < MAX_STAND_BYTES / 4);
    }

    #[test]
    fn the_parts_have_the_lengths_that_the_table_says() {
        assert_eq!((size_of::<Opening>(), Frame::LEN, Fixed::LEN, size_of::<EndMark>()), (36, 48, 17, 12));
    }
}
