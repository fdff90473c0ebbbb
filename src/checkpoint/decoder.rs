//! From the bytes of a checkpoint back to its schedules, whatever the bytes are.

mod block;

use std::io::{self, Read};

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::format::{self, EndMark, Frame, Identity, Kind, MAX_STAND_BYTES, Opening, Spot, Unknown, VERSION};
use super::{Refusal, Stand};
pub use block::{Block, Schedules};

/// As many bytes are made room for before they are there, whatever a length says.
const STEP_BYTES: usize = 1 << 20;

/// Reads a checkpoint from its beginning to its end.
///
/// What it gives out is what was written: a block's checksums fit, and it is in its place in its file. Only at the end is
/// it known that this was all: whoever used what was given before a refusal has to throw it away.
pub struct Decoder<R> {
    source: Source<R>,
    stand: Stand,
    identity: Identity,
    /// The number of the next frame.
    sequence: u32,
    /// Schedules given out.
    schedules: u64,
    /// Of all frames so far.
    frames_check: crc32fast::Hasher,
    heads: Content,
    payloads: Content,
    is_at_end: bool,
}

impl<R: Read> Decoder<R> {
    /// Reads the head of a checkpoint.
    pub fn open(source: R) -> Result<Self, Refusal> {
        let mut source = Source { inner: source, position: 0 };
        let mut opening = Opening::new_zeroed();
        source.fill(opening.as_mut_bytes())?;
        let stand_len = opening.stand_len().map_err(|unknown| match unknown {
            Unknown::Magic => Refusal::NotACheckpoint,
            Unknown::Version(found) => Refusal::OtherVersion { found, known: VERSION },
        })?;
        if stand_len > MAX_STAND_BYTES {
            return Err(Refusal::Damaged { at: 0 });
        }
        let mut packed = vec![0; stand_len];
        source.fill(&mut packed)?;
        if !opening.is_intact(&packed) {
            return Err(Refusal::Damaged { at: 0 });
        }
        let stand = format::unpack_stand(&packed)
            .ok_or(Refusal::Contradictory { at: 0, what: "its head is not laid out as it should be" })?;
        Ok(Self {
            source,
            stand,
            identity: opening.identity,
            sequence: 0,
            schedules: 0,
            frames_check: crc32fast::Hasher::new(),
            heads: Content::default(),
            payloads: Content::default(),
            is_at_end: false,
        })
    }

    /// What the checkpoint stands for.
    pub fn stand(&self) -> &Stand {
        &self.stand
    }

    /// The next schedules, some hundreds or thousands, all of whose checksums fit. `None` after the end mark, and only if the
    /// file is complete.
    pub fn next_block(&mut self) -> Result<Option<Block<'_>>, Refusal> {
        if self.is_at_end {
            return Ok(None);
        }
        let at = self.source.position;
        let heads = self.next_frame()?;
        match heads.kind() {
            Some(Kind::Heads) => {}
            Some(Kind::End) => {
                self.end(at, &heads)?;
                return Ok(None);
            }
            Some(Kind::Payloads) | None => return Err(Refusal::Misplaced { at }),
        }
        self.heads.read(&mut self.source, &heads, at)?;
        let second_at = self.source.position;
        let payloads = self.next_frame()?;
        let payload_at = self.source.position;
        let belong_together = payloads.kind() == Some(Kind::Payloads)
            && payloads.count() == heads.count()
            && [heads, payloads].iter().all(|frame| frame.payload_at() == payload_at);
        if !belong_together {
            return Err(Refusal::Misplaced { at: second_at });
        }
        self.payloads.read(&mut self.source, &payloads, second_at)?;
        self.schedules += u64::from(heads.count());
        Ok(Some(Block::new(at, heads.count(), self.heads.bytes(), self.payloads.bytes())))
    }

    fn next_frame(&mut self) -> Result<Frame, Refusal> {
        let at = self.source.position;
        let mut frame = Frame::new_zeroed();
        self.source.fill(frame.as_mut_bytes())?;
        if !frame.is_intact() {
            return Err(Refusal::Damaged { at });
        }
        if !frame.is_of(Spot { identity: self.identity, sequence: self.sequence }) {
            return Err(Refusal::Misplaced { at });
        }
        self.sequence = self.sequence.wrapping_add(1);
        if frame.kind() != Some(Kind::End) {
            self.frames_check.update(frame.as_bytes());
        }
        Ok(frame)
    }

    /// Reads the end mark, whose frame is at `at`, and makes sure that this was all.
    fn end(&mut self, at: u64, frame: &Frame) -> Result<(), Refusal> {
        if frame.payload_at() != self.source.position || frame.count() > 0 {
            return Err(Refusal::Misplaced { at });
        }
        self.heads.read(&mut self.source, frame, at)?;
        let expected = EndMark {
            schedules: self.schedules.into(),
            frames_check: self.frames_check.clone().finalize().into(),
        };
        if EndMark::read_from_bytes(self.heads.bytes()).ok() != Some(expected) {
            return Err(Refusal::Contradictory { at, what: "it does not end with what it had before" });
        }
        let end_at = self.source.position;
        match self.source.fill(&mut [0]) {
            Err(Refusal::CutShort { .. }) => {
                self.is_at_end = true;
                Ok(())
            }
            Err(refusal) => Err(refusal),
            Ok(()) => Err(Refusal::Overlong { at: end_at }),
        }
    }
}

/// Where the bytes come from, and how many came.
struct Source<R> {
    inner: R,
    position: u64,
}

impl<R: Read> Source<R> {
    /// Reads exactly as many bytes as there is room for.
    fn fill(&mut self, mut room: &mut [u8]) -> Result<(), Refusal> {
        while !room.is_empty() {
            match self.inner.read(room) {
                Ok(0) => return Err(Refusal::CutShort { at: self.position }),
                Ok(len) => {
                    self.position += len as u64;
                    room = &mut room[len..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Refusal::Unreadable(error)),
            }
        }
        Ok(())
    }
}

/// The content of a block, read into the same memory again and again.
#[derive(Default)]
struct Content {
    memory: Vec<u8>,
    len: usize,
}

impl Content {
    fn bytes(&self) -> &[u8] {
        &self.memory[..self.len]
    }

    /// Reads what follows the frame, which is at `at`.
    fn read<R: Read>(&mut self, source: &mut Source<R>, frame: &Frame, at: u64) -> Result<(), Refusal> {
        self.len = 0;
        while self.len < frame.len() {
            let end = frame.len().min(self.len + STEP_BYTES);
            if self.memory.len() < end {
                self.memory.resize(end, 0);
            }
            source.fill(&mut self.memory[self.len..end])?;
            self.len = end;
        }
        if frame.fits(self.bytes()) { Ok(()) } else { Err(Refusal::Damaged { at }) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::encoder::Encoder;
    use super::super::samples::{Sample, decode, encode, encode_in_pieces, read_all, stand};
    use super::*;
    use proptest::prelude::*;

    /// Bytes of a pair of blocks that holds a few small schedules.
    const SMALL: usize = 400;

    /// A file of several blocks, and what is in it.
    fn small_file() -> (Vec<u8>, Vec<Sample>) {
        let samples: Vec<_> = (0..20).map(Sample::small).collect();
        (encode(Encoder::with_blocks_of(SMALL, &stand()), &samples), samples)
    }

    /// Panics unless the file is refused, having given nothing that is not in `samples` in this order.
    fn assert_refused(file: &[u8], samples: &[Sample], what: &str) -> Refusal {
        let (_, read, refusal) = decode(file);
        assert!(read.len() <= samples.len() && read == samples[..read.len()], "{what}: other content");
        refusal.unwrap_or_else(|| panic!("{what}: it is not refused"))
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_refused() {
        let (file, samples) = small_file();
        for len in 0..file.len() {
            let refusal = assert_refused(&file[..len], &samples, &format!("cut at {len}"));
            assert!(matches!(refusal, Refusal::CutShort { at } if at == len as u64), "{refusal:?}");
        }
    }

    #[test]
    fn a_file_with_any_bit_changed_is_refused() {
        let (mut file, samples) = small_file();
        for at in 0..file.len() {
            for bit in 0..8 {
                file[at] ^= 1 << bit;
                let refusal = assert_refused(&file, &samples, &format!("bit {bit} of byte {at}"));
                match at {
                    0..8 => assert!(matches!(refusal, Refusal::NotACheckpoint), "{refusal:?}"),
                    8..12 => assert!(matches!(refusal, Refusal::OtherVersion { .. }), "{refusal:?}"),
                    _ => {}
                }
                file[at] ^= 1 << bit;
            }
        }
    }

    #[test]
    fn a_block_in_another_place_or_of_another_file_is_refused() {
        let samples: Vec<_> = (0..20).map(Sample::small).collect();
        let pieces = || encode_in_pieces(Encoder::with_blocks_of(SMALL, &stand()), &samples);
        let [mine, others] = [pieces(), pieces()];
        assert!(mine.len() > 4);
        let is_misplaced = |pieces: &[Vec<u8>], what: &str| {
            let refusal = assert_refused(&pieces.concat(), &samples, what);
            assert!(matches!(refusal, Refusal::Misplaced { .. }), "{what}: {refusal:?}");
        };
        for at in 1..mine.len() {
            let changed = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
                let mut changed = mine.clone();
                change(&mut changed);
                changed
            };
            is_misplaced(&changed(&|file| file[at] = others[at].clone()), &format!("{at} of another file"));
            if at > 1 {
                is_misplaced(
                    &changed(&|file| file.swap(at - 1, at)),
                    &format!("{at} and the one before swapped"),
                );
            }
            if at + 1 < mine.len() {
                is_misplaced(&changed(&|file| _ = file.remove(at)), &format!("without {at}"));
                is_misplaced(&changed(&|file| file.insert(at, mine[at].clone())), &format!("{at} twice"));
            }
        }
    }

    #[test]
    fn what_goes_on_behind_its_end_is_refused() {
        let (file, samples) = small_file();
        let refusal = assert_refused(&[&file[..], b"x"].concat(), &samples, "one byte more");
        assert!(matches!(refusal, Refusal::Overlong { at } if at == file.len() as u64), "{refusal:?}");
    }

    #[test]
    fn a_file_without_schedules_is_complete() {
        let file = encode(Encoder::new(&stand()), &[]);
        assert!(matches!(decode(&file), (Some(_), read, None) if read.is_empty()));
        let mut decoder = Decoder::open(&file[..]).unwrap();
        for _ in 0..3 {
            assert!(decoder.next_block().unwrap().is_none(), "and stays so");
        }
    }

    #[test]
    fn it_is_no_matter_in_what_pieces_the_bytes_come() {
        /// A few bytes at a time, and none every other time.
        struct Dribble<'a>(&'a [u8], bool);
        impl Read for Dribble<'_> {
            fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
                self.1 = !self.1;
                if self.1 {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                let len = room.len().min(7);
                self.0.read(&mut room[..len])
            }
        }
        let (file, samples) = small_file();
        let (read, refusal) = read_all(&mut Decoder::open(Dribble(&file, false)).unwrap());
        assert!(refusal.is_none() && read == samples, "{refusal:?}");
    }

    #[test]
    fn an_error_of_the_system_is_said_as_such() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the disk is gone"))
            }
        }
        let (file, samples) = small_file();
        let (read, refusal) = read_all(&mut Decoder::open(Read::chain(&file[..400], Broken)).unwrap());
        assert!(read.len() < samples.len());
        assert_eq!(refusal.unwrap().to_string(), "it cannot be read: the disk is gone");
    }

    #[test]
    fn a_length_makes_no_room_before_the_bytes_are_there() {
        let mut file = encode(Encoder::new(&stand()), &[]);
        file.truncate(file.len() - Frame::LEN - size_of::<EndMark>());
        let identity = Opening::read_from_prefix(&file).unwrap().0.identity;
        let frame = Frame::claiming(u32::MAX, Spot { identity, sequence: 0 });
        file.extend_from_slice(frame.as_bytes());
        file.extend(vec![0; 3 << 20]);
        let mut decoder = Decoder::open(&file[..]).unwrap();
        assert!(matches!(decoder.next_block(), Err(Refusal::CutShort { .. })));
        assert!(decoder.heads.memory.capacity() <= 8 << 20, "{}", decoder.heads.memory.capacity());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, keep: prop::sample::Index) {
            decode(&bytes);
            let (file, samples) = small_file();
            let damaged = [&file[..keep.index(file.len())], &bytes[..]].concat();
            let (_, read, refusal) = decode(&damaged);
            prop_assert!(refusal.is_some() || read == samples);
        }
    }
}
