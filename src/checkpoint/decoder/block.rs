//! A pair of blocks, and the schedules in it.

use zerocopy::FromBytes;

use super::super::format::{Fixed, LENGTHS};
use super::super::{Kept, Refusal};
use crate::schedule::{DueTime, Format, Headers, Schedule, varint};

/// Some hundreds or thousands of schedules, in the memory of the [`Decoder`](super::Decoder) that read them.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// Where in the file it begins.
    at: u64,
    count: u32,
    heads: &'a [u8],
    payloads: &'a [u8],
}

impl<'a> Block<'a> {
    pub(super) fn new(at: u64, count: u32, heads: &'a [u8], payloads: &'a [u8]) -> Self {
        Self { at, count, heads, payloads }
    }

    /// How many schedules there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// The schedules in the order in which they were written.
    ///
    /// Their checksums fit, so a refusal here means that whoever wrote the file did not keep to its layout. Nothing follows
    /// on one.
    #[must_use]
    pub fn schedules(&self) -> Schedules<'a> {
        let Self { at, count: left, heads, payloads } = *self;
        Schedules { at, left, heads, payloads, topics: Vec::new(), is_over: false }
    }
}

/// The schedules of a [`Block`].
#[derive(Debug)]
pub struct Schedules<'a> {
    at: u64,
    left: u32,
    /// What is still to be read, and its payloads.
    heads: &'a [u8],
    payloads: &'a [u8],
    /// The names of destinations so far, by number.
    topics: Vec<&'a str>,
    is_over: bool,
}

impl<'a> Iterator for Schedules<'a> {
    type Item = Result<Kept<'a>, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = if self.left > 0 {
            self.left -= 1;
            self.take()
        } else if self.heads.is_empty() && self.payloads.is_empty() {
            return None;
        } else {
            Err("it has more bytes than schedules")
        };
        self.is_over = next.is_err();
        Some(next.map_err(|what| Refusal::Contradictory { at: self.at, what }))
    }
}

/// What is wrong, for a person.
type Fault = &'static str;

impl<'a> Schedules<'a> {
    fn take(&mut self) -> Result<Kept<'a>, Fault> {
        let (fixed, rest) = Fixed::read_from_prefix(self.heads).map_err(|_| CUT)?;
        if fixed.flags & !(Fixed::JSON | Fixed::HELD) != 0 {
            return Err("a schedule has a flag that means nothing");
        }
        let (mut lengths, mut at) = ([0; LENGTHS], 0);
        for len in &mut lengths {
            (*len, at) = varint::read_at(rest, at).ok_or(CUT)?;
        }
        let [id, topic, key, value, headers, record_headers] = lengths;
        self.heads = &rest[at..];
        let topic = self.topic(topic)?;
        Ok(Kept {
            id: take(&mut self.heads, id)?,
            offset: fixed.offset.get(),
            format: if fixed.flags & Fixed::JSON == 0 { Format::Avro } else { Format::Json },
            schedule: Schedule {
                due: DueTime::from_epoch_ms(fixed.due_ms.get()),
                topic,
                key: take(&mut self.payloads, key)?,
                value: match value {
                    varint::NULL_LEN => None,
                    len => Some(take(&mut self.payloads, len)?),
                },
                headers: take_headers(&mut self.payloads, headers)?,
            },
            record_headers: take_headers(&mut self.payloads, record_headers)?,
            held: fixed.flags & Fixed::HELD != 0,
        })
    }

    /// The name of the topic with this number; the next number names one that was not there before.
    fn topic(&mut self, number: i64) -> Result<&'a str, Fault> {
        let number = usize::try_from(number).map_err(|_| "a topic has a number below zero")?;
        if let Some(name) = self.topics.get(number) {
            return Ok(name);
        }
        if number > self.topics.len() {
            return Err("a topic has a number that none was named for");
        }
        let (bytes, end) = varint::read_bytes_at(self.heads, 0).ok_or(CUT)?;
        let name = std::str::from_utf8(bytes).map_err(|_| "the name of a topic is not UTF-8")?;
        self.heads = &self.heads[end..];
        self.topics.push(name);
        Ok(name)
    }
}

const CUT: Fault = "it has fewer bytes than its schedules";

fn take<'a>(rest: &mut &'a [u8], len: i64) -> Result<&'a [u8], Fault> {
    let len = usize::try_from(len).map_err(|_| "a length is below zero")?;
    let (part, tail) = rest.split_at_checked(len).ok_or(CUT)?;
    *rest = tail;
    Ok(part)
}

fn take_headers<'a>(rest: &mut &'a [u8], len: i64) -> Result<Headers<'a>, Fault> {
    Headers::parse(take(rest, len)?).ok_or("headers are not laid out as they should be")
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;
    use proptest::prelude::*;

    /// A head with these flags and lengths, and no bytes behind.
    fn head(flags: u8, lengths: [i64; LENGTHS]) -> Vec<u8> {
        let fixed = Fixed { due_ms: 5.into(), offset: 6.into(), flags };
        let mut head = fixed.as_bytes().to_vec();
        for len in lengths {
            varint::write(&mut head, len);
        }
        head
    }

    /// What reading ends with, after how many schedules.
    fn outcome(count: u32, heads: &[u8], payloads: &[u8]) -> (usize, Option<String>) {
        let mut schedules = Block::new(17, count, heads, payloads).schedules();
        let read = schedules.by_ref().take_while(Result::is_ok).count();
        assert!(schedules.next().is_none(), "something follows on a refusal");
        let refusal = Block::new(17, count, heads, payloads).schedules().find_map(Result::err);
        (read, refusal.map(|refusal| refusal.to_string()))
    }

    #[test]
    fn what_no_writer_writes_is_refused_with_the_reason() {
        let named = [&head(0, [0, 0, 0, 0, 0, 0])[..], &[2, b't']].concat();
        assert_eq!(outcome(1, &named, b""), (1, None));
        let again = [&named[..], &head(3, [0, 0, 0, -1, 0, 0])].concat();
        assert_eq!(outcome(2, &again, b""), (2, None));
        let cases: &[(&[u8], &[u8], &str)] = &[
            (&[named.clone(), vec![0]].concat(), b"", "more bytes"),
            (&named, b"x", "more bytes"),
            (&named[..10], b"", "fewer bytes"),
            (&named[..20], b"", "fewer bytes"),
            (&named[..named.len() - 1], b"", "fewer bytes"),
            (&head(4, [0; LENGTHS]), b"", "flag"),
            (&head(0, [0, -1, 0, 0, 0, 0]), b"", "number below zero"),
            (&head(0, [0, 1, 0, 0, 0, 0]), b"", "none was named"),
            (&[&head(0, [0; LENGTHS])[..], &[2, 0xff]].concat(), b"", "UTF-8"),
            (&[&head(0, [-1, 0, 0, 0, 0, 0])[..], &[2, b't']].concat(), b"", "below zero"),
            (&[&head(0, [1, 0, 0, 0, 0, 0])[..], &[2, b't']].concat(), b"", "fewer bytes"),
            (&[&head(0, [0, 0, 2, 0, 0, 0])[..], &[2, b't']].concat(), b"x", "fewer bytes"),
            (&[&head(0, [0, 0, 0, -2, 0, 0])[..], &[2, b't']].concat(), b"", "below zero"),
            (&[&head(0, [0, 0, 0, i64::MAX, 0, 0])[..], &[2, b't']].concat(), b"", "fewer bytes"),
            (&[&head(0, [0, 0, 0, 0, 1, 0])[..], &[2, b't']].concat(), b"x", "headers"),
            (&[&head(0, [0, 0, 0, 0, 0, 1])[..], &[2, b't']].concat(), b"x", "headers"),
        ];
        for (heads, payloads, reason) in cases {
            let (_, refusal) = outcome(1, heads, payloads);
            assert!(refusal.as_ref().is_some_and(|text| text.contains(reason)), "{reason}: {refusal:?}");
            assert!(refusal.is_some_and(|text| text.contains("at byte 17")), "{reason}");
        }
    }

    proptest! {
        #[test]
        fn no_content_makes_it_panic(count in 0..50u32, heads: Vec<u8>, payloads: Vec<u8>) {
            outcome(count, &heads, &payloads);
        }

        #[test]
        fn nor_does_any_with_lengths(
            lengths: [i8; LENGTHS],
            heads: Vec<u8>,
            payloads: Vec<u8>,
        ) {
            outcome(1, &[head(0, lengths.map(i64::from)), heads].concat(), &payloads);
        }
    }
}
