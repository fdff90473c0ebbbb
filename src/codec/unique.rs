//! Headers of which each name comes once: the last value wins, at its own place.

use crate::schedule::{HeaderSpan, Headers};

/// Runs up to this length are compared pair by pair; longer ones are sorted, so that a record made of nothing but
/// headers costs n log n.
const FEW: usize = 16;

/// A header's name that was checked.
#[derive(Clone, Copy)]
pub(super) struct Name<'a> {
    bytes: &'a [u8],
    /// Its first and its last eight bytes in one word: with the length, all by which names usually differ.
    digest: u64,
}

impl<'a> Name<'a> {
    /// `None` when `bytes` is not UTF-8. Names are short and nearly always ASCII, where `std`'s check of UTF-8 takes
    /// a byte at a time and would be most of the work that there is for a header.
    #[inline(always)]
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let [first, last] = ends(bytes);
        let between = match bytes.get(8..) {
            Some(rest) => rest.as_chunks().0.iter().fold(0, |all, word| all | u64::from_le_bytes(*word)),
            None => 0,
        };
        let is_ascii = (first | last | between) & HIGH_BITS == 0;
        (is_ascii || is_utf8(bytes)).then_some(Self { bytes, digest: digest([first, last]) })
    }

    /// A name that was checked elsewhere.
    #[inline(always)]
    pub(super) fn of_text(bytes: &'a [u8]) -> Self {
        Self { bytes, digest: digest(ends(bytes)) }
    }
}

/// The bits of a word that no ASCII byte has.
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// Rotated, or the same byte at both places would cancel itself out: all of them, in a name of eight bytes or less.
#[inline(always)]
fn digest([first, last]: [u64; 2]) -> u64 {
    first ^ last.rotate_left(29)
}

/// The first and the last eight bytes, which may overlap; the whole in both when there are no eight.
///
/// Of four to seven bytes, the first four and the last four overlap likewise: two reads, where copying byte by byte would
/// take a branch or a loop for each length.
#[inline(always)]
fn ends(bytes: &[u8]) -> [u64; 2] {
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return [u64::from_le_bytes(*first), u64::from_le_bytes(*last)];
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return [u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32; 2];
    }
    [bytes.iter().fold(0, |all, &byte| all << 8 | u64::from(byte)); 2]
}

#[cold]
#[inline(never)]
fn is_utf8(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok()
}

/// The names that were seen, roughly: it is quicker to look at few records again than to compare the names of all.
///
/// A Bloom filter of 512 bits and one hash: never a wrong no, and a wrong yes (which costs [`last_of_each`] a look) for one
/// in twelve of the records that have ten headers, for 45 pairs of names have one chance in 512 each.
#[derive(Default)]
pub(super) struct Names([u64; FILTER_WORDS]);

const FILTER_WORDS: usize = 8;

impl Names {
    /// Whether the name may have been seen before.
    #[inline(always)]
    pub(super) fn see(&mut self, name: Name<'_>) -> bool {
        // Fibonacci hashing (Knuth, volume 3, 6.4): of the product with 2⁶⁴ divided by the golden ratio, the highest bits
        // depend on all of the factor's. Nine of them number the filter's bits.
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        const SLOT_BITS: u32 = (FILTER_WORDS as u32 * u64::BITS).ilog2();
        let key = name.digest ^ name.bytes.len() as u64;
        let slot = (key.wrapping_mul(GOLDEN) >> (u64::BITS - SLOT_BITS)) as usize;
        let (word, bit) = (&mut self.0[slot / 64], 1 << (slot % 64));
        let seen = *word & bit != 0;
        *word |= bit;
        seen
    }
}

/// Reused memory of [`last_of_each`].
#[derive(Debug, Default)]
pub(super) struct Scratch {
    spans: Vec<HeaderSpan>,
    kept: Vec<u8>,
}

/// `run` itself when no name comes twice, otherwise a copy of it in `scratch` without the headers that a later one
/// of the same name overrides.
#[cold]
#[inline(never)]
pub(super) fn last_of_each<'a>(run: Headers<'a>, scratch: &'a mut Scratch) -> Headers<'a> {
    let Scratch { spans, kept } = scratch;
    let packed = run.as_packed();
    spans.clear();
    spans.extend(run.spans());
    if spans.len() <= FEW && is_distinct(packed, spans) {
        return run;
    }
    let count = spans.len();
    let name = |span: &HeaderSpan| &packed[span.name.clone()];
    // Of each name the last comes first, which is the one that `dedup_by` keeps.
    spans.sort_unstable_by(|a, b| name(a).cmp(name(b)).then(b.start.cmp(&a.start)));
    spans.dedup_by(|next, kept| name(next) == name(kept));
    if spans.len() == count {
        return run;
    }
    spans.sort_unstable_by_key(|span| span.start);
    kept.clear();
    for span in spans {
        kept.extend_from_slice(&packed[span.start..span.end]);
    }
    Headers::from_trusted(kept)
}

/// Compares pair by pair.
fn is_distinct(packed: &[u8], spans: &[HeaderSpan]) -> bool {
    spans.iter().enumerate().all(|(i, span)| {
        spans[..i].iter().all(|earlier| packed[earlier.name.clone()] != packed[span.name.clone()])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Header, HeadersBuf};
    use proptest::prelude::*;

    /// Names from a small set, so that most runs hold duplicates; long enough to take both ways.
    fn run() -> impl Strategy<Value = Vec<(String, Option<Vec<u8>>)>> {
        prop::collection::vec(("[a-c]{0,2}", any::<Option<Vec<u8>>>()), 0..2 * FEW)
    }

    proptest! {
        #[test]
        fn the_last_of_each_name_stays_where_it_stood(pairs in run()) {
            let mut buf = HeadersBuf::new();
            for (name, value) in &pairs {
                buf.push(name, value.as_deref());
            }
            let expected: Vec<_> = pairs
                .iter()
                .enumerate()
                .filter(|(i, (name, _))| pairs[i + 1..].iter().all(|(later, _)| later != name))
                .map(|(_, (name, value))| Header { name, value: value.as_deref() })
                .collect();
            let mut scratch = Scratch::default();
            let unique: Vec<_> = last_of_each(buf.as_headers(), &mut scratch).iter().collect();
            prop_assert_eq!(unique, expected);
        }

        #[test]
        fn a_name_is_text_if_it_is_utf8(bytes: Vec<u8>, text in ".{0,40}", at: prop::sample::Index, byte: u8) {
            let mut damaged = format!("{text}.").into_bytes();
            let at = at.index(damaged.len());
            damaged[at] = byte;
            for bytes in [text.as_bytes(), &damaged, &bytes] {
                prop_assert_eq!(Name::read(bytes).is_some(), std::str::from_utf8(bytes).is_ok());
            }
        }

        #[test]
        fn a_name_that_was_seen_is_never_taken_for_a_new_one(names in prop::collection::vec(".{0,30}", 1..30)) {
            let mut seen = Names::default();
            for name in &names {
                seen.see(Name::of_text(name.as_bytes()));
            }
            for name in &names {
                prop_assert!(seen.see(Name::read(name.as_bytes()).expect("is text")));
            }
        }
    }

    #[test]
    fn no_byte_of_a_name_is_overlooked() {
        for (len, at) in (0..40).flat_map(|len| (0..len).map(move |at| (len, at))) {
            let mut bytes = vec![b'a'; len];
            bytes[at] = 0xff;
            assert!(Name::read(&bytes).is_none(), "byte {at} of {len}");
        }
    }

    #[test]
    fn ordinary_names_are_told_apart() {
        let names = [
            "content-type",
            "traceparent",
            "tracestate",
            "x-request-id",
            "x-tenant-id",
            "x-source",
            "x-retry-count",
            "x-schema-id",
            "x-created-at",
            "x-user-agent",
            "a",
            "b",
            "ab",
            "ba",
            "h1",
            "h2",
            "",
        ];
        let mut seen = Names::default();
        let again = names.iter().filter(|name| seen.see(Name::of_text(name.as_bytes()))).count();
        assert!(again <= 1, "{again} names of {} are taken for one that was seen", names.len());
    }

    #[test]
    fn headers_without_duplicates_are_not_copied() {
        for count in [0, 1, FEW, FEW + 1, 1000] {
            let buf: HeadersBuf = (0..count).map(|i| (format!("h{i}"), "v")).collect();
            let mut scratch = Scratch::default();
            let unique = last_of_each(buf.as_headers(), &mut scratch);
            assert_eq!(unique.as_packed().as_ptr(), buf.as_headers().as_packed().as_ptr(), "{count} headers");
        }
    }
}
