//! Headers of which each name comes once: the last value wins, at its own place.

use crate::schedule::{Headers, varint};

/// Runs up to this length are compared pair by pair, without memory; longer ones are sorted, so that a record made of
/// nothing but headers costs n log n.
const FEW: usize = 16;

/// Reused memory of [`last_of_each`].
#[derive(Debug, Default)]
pub(super) struct Scratch {
    spans: Vec<Span>,
    kept: Vec<u8>,
}

/// `run` itself when no name comes twice, otherwise a copy of it in `scratch` without the headers that a later one
/// of the same name overrides.
pub(super) fn last_of_each<'a>(run: Headers<'a>, scratch: &'a mut Scratch) -> Headers<'a> {
    if is_short_and_distinct(run) {
        return run;
    }
    let Scratch { spans, kept } = scratch;
    let packed = run.as_packed();
    spans.clear();
    spans.extend(Spans { packed, next: 0 });
    let count = spans.len();
    spans.sort_unstable_by(|a, b| a.name(packed).cmp(b.name(packed)).then(b.start.cmp(&a.start)));
    spans.dedup_by(|later, first| later.name(packed) == first.name(packed));
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

fn is_short_and_distinct(run: Headers<'_>) -> bool {
    let mut names = [""; FEW];
    for (i, header) in run.iter().enumerate() {
        if i == FEW || names[..i].contains(&header.name) {
            return false;
        }
        names[i] = header.name;
    }
    true
}

/// Where in a packed run a header stands.
#[derive(Debug)]
struct Span {
    start: usize,
    name_start: usize,
    name_end: usize,
    end: usize,
}

impl Span {
    fn name<'a>(&self, packed: &'a [u8]) -> &'a [u8] {
        &packed[self.name_start..self.name_end]
    }
}

/// The spans of a well-formed run, in order.
struct Spans<'a> {
    packed: &'a [u8],
    next: usize,
}

impl Spans<'_> {
    /// Reads the length at `self.next` (null counts as 0) and moves behind it.
    fn take_len(&mut self) -> usize {
        let mut rest = &self.packed[self.next..];
        let len = varint::read(&mut rest).expect("a Headers is well-formed");
        self.next = self.packed.len() - rest.len();
        len.max(0) as usize
    }
}

impl Iterator for Spans<'_> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        if self.next == self.packed.len() {
            return None;
        }
        let start = self.next;
        let name_len = self.take_len();
        let name_start = self.next;
        let name_end = name_start + name_len;
        self.next = name_end;
        let value_len = self.take_len();
        self.next += value_len;
        Some(Span { start, name_start, name_end, end: self.next })
    }
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
