//! The values of Avro's binary encoding, one after the other; and what is wrong where there is none.

use crate::codec::unique::Name;
use crate::codec::{AvroFault, AvroPlace, DecodeError};
use crate::schedule::varint;

/// Takes one value after the other from the front of a record.
///
/// Never lent to a function that is not inlined, which takes it by value: or its place in the record would be kept in
/// memory, a detour of some nanoseconds for each value (measured).
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    record: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    #[inline(always)]
    pub(super) fn new(record: &'a [u8]) -> Self {
        Self { record, at: 0 }
    }

    /// In bytes from the front of the record.
    #[inline(always)]
    pub(super) fn at(self) -> usize {
        self.at
    }

    /// What was read from `start` on.
    #[inline(always)]
    pub(super) fn since(self, start: usize) -> &'a [u8] {
        &self.record[start..self.at]
    }

    #[inline(always)]
    pub(super) fn time<E: Refusal>(&mut self, place: AvroPlace) -> Result<i64, E> {
        let (time, end) =
            varint::read_time_at(self.record, self.at).ok_or_else(|| E::no_long(*self, place))?;
        self.at = end;
        Ok(time)
    }

    #[inline(always)]
    pub(super) fn long<E: Refusal>(&mut self, place: AvroPlace) -> Result<i64, E> {
        let (long, end) = varint::read_at(self.record, self.at).ok_or_else(|| E::no_long(*self, place))?;
        self.at = end;
        Ok(long)
    }

    #[inline(always)]
    pub(super) fn bytes<E: Refusal>(&mut self, place: AvroPlace) -> Result<&'a [u8], E> {
        let (bytes, end) =
            varint::read_bytes_at(self.record, self.at).ok_or_else(|| E::no_bytes(*self, place))?;
        self.at = end;
        Ok(bytes)
    }

    #[inline(always)]
    pub(super) fn skip_bytes<E: Refusal>(&mut self, place: AvroPlace) -> Result<(), E> {
        self.at = varint::skip_bytes_at(self.record, self.at).ok_or_else(|| E::no_bytes(*self, place))?;
        Ok(())
    }

    #[inline(always)]
    pub(super) fn text<E: Refusal>(&mut self, place: AvroPlace) -> Result<&'a str, E> {
        let start = *self;
        let bytes = self.bytes(place)?;
        std::str::from_utf8(bytes).map_err(|_| E::new(start, place, AvroFault::NotUtf8))
    }

    #[inline(always)]
    pub(super) fn name<E: Refusal>(&mut self, place: AvroPlace) -> Result<Name<'a>, E> {
        let start = *self;
        let bytes = self.bytes(place)?;
        Name::read(bytes).ok_or_else(|| E::new(start, place, AvroFault::NotUtf8))
    }

    #[inline(always)]
    pub(super) fn nullable_bytes<E: Refusal>(&mut self, place: AvroPlace) -> Result<Option<&'a [u8]>, E> {
        let start = *self;
        match self.long(place)? {
            NULL_BRANCH => Ok(None),
            BYTES_BRANCH => self.bytes(place).map(Some),
            branch => Err(E::new(start, place, AvroFault::NoSuchBranch(branch))),
        }
    }
}

/// The branches of the union of null and bytes.
pub(super) const NULL_BRANCH: i64 = 0;
pub(super) const BYTES_BRANCH: i64 = 1;

/// What a reader says of a datum it refuses: at first only that it does, for telling why costs good data too.
pub(super) trait Refusal {
    /// The reader stands where the faulty part begins.
    fn new(reader: Reader<'_>, place: AvroPlace, fault: AvroFault) -> Self;

    /// Why there is no integer.
    fn no_long(reader: Reader<'_>, place: AvroPlace) -> Self;

    /// Why there are no bytes with their length.
    fn no_bytes(reader: Reader<'_>, place: AvroPlace) -> Self;
}

/// That a datum is refused, and nothing more.
pub(super) struct Refused;

impl Refusal for Refused {
    fn new(_: Reader<'_>, _: AvroPlace, _: AvroFault) -> Self {
        Self
    }

    fn no_long(_: Reader<'_>, _: AvroPlace) -> Self {
        Self
    }

    fn no_bytes(_: Reader<'_>, _: AvroPlace) -> Self {
        Self
    }
}

impl Refusal for DecodeError {
    fn new(reader: Reader<'_>, place: AvroPlace, fault: AvroFault) -> Self {
        let maybe_framed = reader.record.first() == Some(&0);
        Self::InvalidAvro { place, at: reader.at, fault, maybe_framed }
    }

    fn no_long(reader: Reader<'_>, place: AvroPlace) -> Self {
        let rest = &reader.record[reader.at..];
        let cut = rest.len() < varint::MAX_LEN && rest.iter().all(|&byte| byte >= 0x80);
        Self::new(reader, place, if cut { AvroFault::Cut } else { AvroFault::TooWide })
    }

    fn no_bytes(reader: Reader<'_>, place: AvroPlace) -> Self {
        let fault = match varint::read_at(reader.record, reader.at) {
            None => return Self::no_long(reader, place),
            Some((len @ ..0, _)) => AvroFault::NegativeLength(len),
            Some((len, end)) => AvroFault::PastEnd { len, left: reader.record.len() - end },
        };
        Self::new(reader, place, fault)
    }
}
