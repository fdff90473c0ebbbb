//! A hierarchical timing wheel over epoch milliseconds: which entry is due next.
//!
//! Eleven levels, each a ring of 128 slots; a slot of one level spans 64 of the level below. Of its ring a level uses
//! two windows of 64 slots: the window that the wheel's time is in, and the next.
//!
//! | level | a slot spans | a window spans |
//! |---|---|---|
//! | 0 | 1 ms | 64 ms |
//! | 1 | 64 ms | 4.1 s |
//! | 2 | 4.1 s | 4.4 min |
//! | 3 | 4.4 min | 4.7 h |
//! | 4 | 4.7 h | 12 days |
//! | 5 | 12 days | 2.2 years |
//! | 6 | 2.2 years | 139 years |
//! | 7 … 10 | | every `i64` |
//!
//! A hint is filed in the lowest level whose two windows reach its due time. Why two: with one, the hints of a slot
//! could only move down when its time has come, all at once, and twelve days' worth of schedules would hold up what is
//! due in that very millisecond. With two, they may move down one whole slot ahead, a few at a time, whenever there is
//! nothing better to do ([`Wheel::prepare`]): so at the boundary there is nothing left to do.
//!
//! By the first occupied slot of each level, found by one bitmap a level, time hops from slot to slot however far it
//! goes. Times before 1970 are simply past.
//!
//! The hierarchy is Varghese and Lauck's (SOSP 1987).

mod slot;

use super::hint::Hint;
use super::hint_list::{CHUNK_HINTS, Chunks, List};
use slot::{LEVELS, RING, Slot};

/// What a chunk costs a sweep beside its hints, as many as it has: it is taken off the list and put back.
const SWEPT_CHUNK_LOOKS: usize = 16;

/// What giving a segment of chunks back to the system costs, in hints that are filed in that time: some 30 µs.
const UNMAPPING_LOOKS: usize = 200;

/// When a hint leaves a slot of this level or of one below, its entry is asked for within seconds: so it is read ahead.
const LAST_READ_AHEAD_LEVEL: usize = 2;

/// The entries that the hints of a wheel name.
pub trait Entries {
    /// When the entry is due, epoch milliseconds; `None` if the hint is stale.
    fn due_ms(&self, hint: Hint) -> Option<i64>;
    /// Told that the entries of these hints will be asked for soon.
    fn read_ahead(&self, hints: &[Hint]);
    /// Takes hints whose time has come. Some may be stale; the others' entries are due at exactly `due_ms`.
    fn expire(&mut self, hints: &[Hint], due_ms: i64);
}

/// What became of a hint that was to be filed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filed {
    /// It is in the wheel.
    Waiting,
    /// It is due by the wheel's time and is not kept.
    Expired,
}

/// The wheel: a list of hints a slot.
///
/// Invariants ([`check_invariants`](Self::check_invariants) holds them):
/// - a hint that is not stale is due within the span of its slot, and not before `elapsed`;
/// - its slot is in one of the two windows of its level;
/// - a bit of `occupied` is set exactly where the slot's list is not empty;
/// - `first` and `prepare_at` are what the bits say.
pub struct Wheel {
    /// The wheel's time; it never goes back.
    elapsed: u64,
    occupied: [u128; LEVELS],
    /// Level by level, slot by slot.
    lists: Box<[List]>,
    chunks: Chunks,
    len: usize,
    /// The occupied slot that starts first.
    first: Option<Slot>,
    /// When the first occupied slot of an upper level may be drained ahead of time; the end of time if there is none.
    prepare_at: u64,
    sweep: Sweep,
}

/// How far the search for stale hints has come.
#[derive(Clone, Copy, Debug, Default)]
struct Sweep {
    list: usize,
    /// Chunks of that list still to be looked at.
    chunks_left: usize,
}

impl Wheel {
    /// An empty wheel whose time is `start_ms`.
    #[must_use]
    pub fn new(start_ms: i64) -> Self {
        Self {
            elapsed: on_wheel(start_ms),
            occupied: [0; LEVELS],
            lists: vec![List::EMPTY; LEVELS * RING].into_boxed_slice(),
            chunks: Chunks::new(),
            len: 0,
            first: None,
            prepare_at: u64::MAX,
            sweep: Sweep::default(),
        }
    }

    /// Hints in the wheel, stale ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no hint is in the wheel.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The wheel's time: what is due by then is no longer in it.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.elapsed as i64
    }

    /// Puts a hint where `due_ms`, the due time it was made with, belongs.
    pub fn file(&mut self, hint: Hint, due_ms: i64) -> Filed {
        let due = on_wheel(due_ms);
        if due <= self.elapsed {
            return Filed::Expired;
        }
        self.push(due, hint);
        Filed::Waiting
    }

    /// The earliest time at which [`advance`](Self::advance) may have something to do: never later than the first
    /// due time, earlier only where [`prepare`](Self::prepare) has not caught up or a hint is stale.
    #[must_use]
    pub fn next_wake_ms(&self) -> Option<i64> {
        self.first.map(|slot| slot.start.max(self.elapsed) as i64)
    }

    /// The earliest time at which [`prepare`](Self::prepare) may have something to do.
    #[must_use]
    pub fn next_prepare_ms(&self) -> Option<i64> {
        (self.prepare_at != u64::MAX).then(|| self.prepare_at.max(self.elapsed) as i64)
    }

    /// Moves time to `now_ms`, or as far as `budget` hints allow, and gives those that expire to `entries`, in the
    /// order of their due times. Takes what it uses off `budget`; a chunk of up to 63 hints is finished even if the
    /// budget is not that large.
    ///
    /// Returns true when nothing due by `now_ms` is left in the wheel; if false, a later call goes on from there. A
    /// time before the wheel's changes nothing: what is in the wheel is due later.
    pub fn advance(&mut self, now_ms: i64, budget: &mut usize, entries: &mut impl Entries) -> bool {
        let now = on_wheel(now_ms);
        while let Some(slot) = self.first
            && slot.start <= now
        {
            if *budget == 0 {
                return false;
            }
            // Where a slot is not empty yet, what remains in it may be due at its start: time stays there until then.
            self.elapsed = self.elapsed.max(slot.start);
            *budget = budget.saturating_sub(self.drain_chunk(slot, entries));
        }
        self.elapsed = self.elapsed.max(now);
        true
    }

    /// Moves hints down that may be moved ahead of time, up to about `budget` of them, which it takes off `budget`.
    ///
    /// Returns true when nothing is left to move until time goes on.
    pub fn prepare(&mut self, budget: &mut usize, entries: &mut impl Entries) -> bool {
        if self.prepare_at > self.elapsed {
            return true;
        }
        for level in 1..LEVELS {
            let next = Slot::of(level, self.elapsed).next();
            while self.is_occupied(next.list()) {
                if *budget == 0 {
                    return false;
                }
                *budget = budget.saturating_sub(self.drain_chunk(next, entries));
            }
        }
        true
    }

    /// Goes round the slots and drops those hints that are not `is_current`, looking at about `budget` of them, fewer where
    /// slots have but a few, which it takes off `budget`. Before it asks for some, it tells `read_ahead`.
    ///
    /// Returns true when it has been round since it last said so, or the wheel is empty.
    pub fn sweep(
        &mut self,
        budget: &mut usize,
        read_ahead: impl Fn(&[Hint]),
        is_current: impl Fn(Hint) -> bool,
    ) -> bool {
        while *budget > 0 {
            if self.sweep.chunks_left == 0 {
                self.sweep.list += 1;
                if self.sweep.list >= self.lists.len() {
                    self.sweep.list = 0;
                }
                *budget -= 1; // an empty list costs a look, too
                self.sweep.chunks_left = self.lists[self.sweep.list].len().div_ceil(CHUNK_HINTS);
                if self.sweep.list == 0 {
                    return true;
                }
                continue;
            }
            if self.lists[self.sweep.list].is_empty() {
                self.sweep.chunks_left = 0; // drained since the last call
                continue;
            }
            self.sweep.chunks_left -= 1;
            *budget = budget.saturating_sub(self.sweep_chunk(self.sweep.list, &read_ahead, &is_current));
        }
        false
    }

    /// How many hints, stale ones included, are in slots that start by `until_ms`: those due by then, and the later
    /// ones of the slots that `until_ms` falls into. At most one pass over the slots.
    #[must_use]
    pub fn count_until(&self, until_ms: i64) -> usize {
        let until = on_wheel(until_ms);
        let occupied = (0..self.lists.len()).filter(|&list| self.is_occupied(list));
        occupied
            .filter(|&list| Slot::of_list(list, self.elapsed).start <= until)
            .map(|list| self.lists[list].len())
            .sum()
    }

    /// Every hint, stale ones included, in no order that means anything.
    pub fn hints(&self) -> impl Iterator<Item = Hint> {
        let occupied = (0..self.lists.len()).filter(|&list| self.is_occupied(list));
        occupied.flat_map(|list| self.lists[list].iter(&self.chunks))
    }

    /// Bytes of the wheel and its hints.
    #[must_use]
    pub fn allocated_bytes(&self) -> usize {
        size_of_val(&*self.lists) + self.chunks.allocated_bytes()
    }

    /// Panics where the wheel contradicts itself or the entries, whose due times `due_ms` gives as
    /// [`Entries::due_ms`], for tests. Gives the hints that are not stale and in the right slot: each entry that waits
    /// has to be among them.
    pub fn check_invariants(&self, due_ms: impl Fn(Hint) -> Option<i64>) -> Vec<Hint> {
        let mut current = Vec::new();
        for (number, list) in self.lists.iter().enumerate() {
            assert_eq!(self.is_occupied(number), !list.is_empty(), "the bit of list {number} is wrong");
            let slot = Slot::of_list(number, self.elapsed);
            assert!(list.is_empty() || slot.last() >= self.elapsed, "a slot of the past is occupied");
            for hint in list.iter(&self.chunks) {
                let Some(due_ms) = due_ms(hint) else { continue };
                let due = on_wheel(due_ms);
                // A stale hint may look current where stamps have come round; in another slot it leads nowhere.
                if slot.contains(due) {
                    assert!(due >= self.elapsed, "{hint:?} is overdue");
                    current.push(hint);
                }
            }
        }
        assert_eq!(
            self.first.map(|slot| slot.start),
            self.look_ahead().0.map(|slot| slot.start),
            "the first slot"
        );
        assert!(self.first.is_none_or(|slot| self.is_occupied(slot.list())), "the first slot is empty");
        assert_eq!(self.prepare_at, self.look_ahead().1, "when to prepare");
        self.chunks.check_invariants(self.lists.iter());
        assert_eq!(self.lists.iter().map(List::len).sum::<usize>(), self.len, "the wheel's length is wrong");
        current
    }

    /// Notes that a list has become empty. O(levels).
    fn note_emptied(&mut self, list: usize) {
        self.occupied[list / RING] &= !(1 << (list % RING));
        (self.first, self.prepare_at) = self.look_ahead();
    }

    /// What `first` and `prepare_at` should be.
    fn look_ahead(&self) -> (Option<Slot>, u64) {
        let levels = self.occupied.iter().enumerate();
        let firsts = levels.filter_map(|(level, &occupied)| Slot::first_of(level, occupied, self.elapsed));
        firsts.fold((None, u64::MAX), |(first, prepare_at), slot| {
            let first = Some(first.filter(|first: &Slot| first.start <= slot.start).unwrap_or(slot));
            (first, prepare_at.min(slot.prepare_at()))
        })
    }

    fn is_occupied(&self, list: usize) -> bool {
        self.occupied[list / RING] >> (list % RING) & 1 == 1
    }

    /// Adds a hint that is due at `due`, later than now.
    fn push(&mut self, due: u64, hint: Hint) {
        let slot = Slot::for_due(due, self.elapsed);
        let list = slot.list();
        self.occupied[slot.level] |= 1 << (list % RING);
        self.lists[list].push(&mut self.chunks, hint);
        self.len += 1;
        self.prepare_at = self.prepare_at.min(slot.prepare_at());
        if self.first.is_none_or(|first| slot.start < first.start) {
            self.first = Some(slot);
        }
    }

    /// Files a chunk of the slot anew, nearer to its time. Returns what that cost: as many as it had hints, at least.
    fn drain_chunk(&mut self, slot: Slot, entries: &mut impl Entries) -> usize {
        let list = slot.list();
        let mut taken = [Hint::NONE; CHUNK_HINTS];
        let (hints, cost) = self.pop_chunk(list, &mut taken);
        if self.lists[list].is_empty() {
            self.note_emptied(list);
        }
        if slot.level == 0 {
            entries.expire(hints, slot.start as i64);
            return cost;
        }
        if slot.level <= LAST_READ_AHEAD_LEVEL || !slot.is_in_hint() {
            entries.read_ahead(hints);
        }
        for &hint in &*hints {
            let Some(due) = due_in(slot, hint, entries) else { continue };
            if due <= self.elapsed {
                entries.expire(&[hint], due as i64);
            } else {
                self.push(due, hint);
            }
        }
        cost
    }

    /// Puts what is not stale of the list's first chunk at its end. Returns what that cost: as many as it had hints, at
    /// least.
    fn sweep_chunk(
        &mut self,
        list: usize,
        read_ahead: impl Fn(&[Hint]),
        is_current: impl Fn(Hint) -> bool,
    ) -> usize {
        let mut taken = [Hint::NONE; CHUNK_HINTS];
        let (hints, cost) = self.pop_chunk(list, &mut taken);
        read_ahead(hints);
        // Without a branch on what is likely to be found: it would be guessed wrong all the time.
        let mut kept = 0;
        for at in 0..hints.len() {
            let hint = hints[at];
            hints[kept] = hint;
            kept += usize::from(is_current(hint));
        }
        self.lists[list].extend(&mut self.chunks, &hints[..kept]);
        self.len += kept;
        if self.lists[list].is_empty() {
            self.note_emptied(list);
        }
        cost + SWEPT_CHUNK_LOOKS
    }

    /// Takes the first chunk off a list. Returns its hints and what that cost: as many as there are, at least.
    fn pop_chunk<'t>(&mut self, list: usize, taken: &'t mut [Hint; CHUNK_HINTS]) -> (&'t mut [Hint], usize) {
        let given_back = self.chunks.given_back();
        let hints = self.lists[list].pop_chunk(&mut self.chunks, taken);
        self.len -= hints.len();
        let cost = hints.len() + (self.chunks.given_back() - given_back) * UNMAPPING_LOOKS;
        (hints, cost)
    }
}

/// A time as the wheel counts it: before 1970 is past in any case.
fn on_wheel(ms: i64) -> u64 {
    ms.max(0) as u64
}

/// When the entry of a hint in `slot` is due; `None` if the slot is too wide for the hint alone to say it and the
/// hint is stale.
fn due_in(slot: Slot, hint: Hint, entries: &impl Entries) -> Option<u64> {
    if slot.is_in_hint() {
        return Some(slot.at(hint.lower_due().into()));
    }
    let due = on_wheel(entries.due_ms(hint)?);
    slot.contains(due).then_some(due)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::slot::shift;
    use super::slot::tests::edges;
    use super::*;
    use proptest::prelude::*;

    /// Entries that are nothing but due times; a removed one is `None`.
    #[derive(Clone, Default)]
    struct Dues {
        due_ms: Vec<Option<i64>>,
        expired: Vec<u32>,
    }

    impl Dues {
        fn new(dues_ms: &[i64]) -> Self {
            Self { due_ms: dues_ms.iter().copied().map(Some).collect(), expired: Vec::new() }
        }

        /// Files the entry `name`.
        fn file(&self, wheel: &mut Wheel, name: u32) -> Filed {
            let due_ms = self.due_ms[name as usize].unwrap();
            wheel.file(Hint::new(name, 0, due_ms), due_ms)
        }
    }

    impl Entries for Dues {
        fn due_ms(&self, hint: Hint) -> Option<i64> {
            self.due_ms[hint.name() as usize]
        }

        fn read_ahead(&self, hints: &[Hint]) {
            assert!(!hints.is_empty());
        }

        fn expire(&mut self, hints: &[Hint], due_ms: i64) {
            for &hint in hints {
                if let Some(own_ms) = self.due_ms[hint.name() as usize] {
                    assert_eq!(own_ms, due_ms, "expired at the wrong time");
                    self.expired.push(hint.name());
                }
            }
        }
    }

    fn advance(wheel: &mut Wheel, entries: &mut Dues, now_ms: i64) -> Vec<u32> {
        let mut budget = 1_000_000;
        assert!(wheel.advance(now_ms, &mut budget, entries));
        entries.check(wheel);
        std::mem::take(&mut entries.expired)
    }

    impl Dues {
        /// Checks the wheel; once expired, an entry is not waiting any more.
        fn check(&mut self, wheel: &Wheel) {
            for &name in &self.expired {
                self.due_ms[name as usize] = None;
            }
            wheel.check_invariants(|hint| self.due_ms(hint));
        }
    }

    #[test]
    fn every_edge_expires_when_it_is_due_and_not_before() {
        let edges = edges();
        for &start_ms in &edges {
            for &due_ms in &edges {
                for &now_ms in &edges {
                    let mut entries = Dues::new(&[due_ms]);
                    let mut wheel = Wheel::new(start_ms);
                    if entries.file(&mut wheel, 0) == Filed::Expired {
                        assert!(due_ms <= start_ms.max(0), "{due_ms} came early at {start_ms}");
                        continue;
                    }
                    let wake_ms = wheel.next_wake_ms().unwrap();
                    assert!(wake_ms <= due_ms, "waking at {wake_ms} for {due_ms}");
                    let expired = !advance(&mut wheel, &mut entries, now_ms).is_empty();
                    assert_eq!(expired, due_ms <= now_ms, "{due_ms} from {start_ms} at {now_ms}");
                    assert_eq!(wheel.next_wake_ms().is_none(), expired);
                }
            }
        }
    }

    #[test]
    fn waking_when_told_meets_each_due_time_after_a_few_hops() {
        for prepares in [false, true] {
            let edges = edges();
            let mut entries = Dues::new(&edges);
            let mut wheel = Wheel::new(0);
            let mut waiting: Vec<_> = (0..edges.len() as u32).collect();
            waiting.retain(|&name| entries.file(&mut wheel, name) == Filed::Waiting);
            let mut hops = 0;
            while let Some(wake_ms) = wheel.next_wake_ms() {
                let prepare_ms = wheel.next_prepare_ms().filter(|_| prepares);
                let now_ms = prepare_ms.map_or(wake_ms, |prepare_ms| prepare_ms.min(wake_ms));
                let expired = advance(&mut wheel, &mut entries, now_ms);
                assert!(!prepares || wheel.prepare(&mut 1_000, &mut entries));
                entries.check(&wheel);
                let rest = waiting.split_off(expired.len());
                assert_eq!(waiting, expired, "out of order at {now_ms}");
                assert!(expired.iter().all(|&name| edges[name as usize] == wake_ms));
                assert!(!prepares || wake_ms > now_ms || !expired.is_empty(), "woken in vain");
                waiting = rest;
                hops += 1;
                assert!(hops < edges.len() * (LEVELS + 2), "waking too often");
            }
            assert!(waiting.is_empty());
        }
    }

    #[test]
    fn what_was_prepared_leaves_nothing_to_do_at_the_boundary() {
        // Two weeks of schedules, one a minute; then the boundary of a slot that spans twelve days.
        let boundary_ms = 1_000 << shift(5);
        let dues: Vec<i64> = (0..20_000).map(|minute| boundary_ms + minute * 60_000).collect();
        let mut entries = Dues::new(&dues);
        let mut wheel = Wheel::new(boundary_ms - (5 << shift(5)));
        for name in 0..dues.len() as u32 {
            entries.file(&mut wheel, name);
        }
        loop {
            let ahead_ms = wheel.next_prepare_ms().unwrap();
            if ahead_ms >= boundary_ms {
                break;
            }
            assert!(wheel.advance(ahead_ms, &mut 0, &mut entries), "nothing is due yet");
            while !wheel.prepare(&mut 100, &mut entries) {}
            entries.check(&wheel);
        }
        let mut budget = 1_000;
        assert!(wheel.advance(boundary_ms, &mut budget, &mut entries));
        assert_eq!((entries.expired.len(), budget), (1, 999), "the boundary costs what is due at it");
    }

    #[test]
    fn a_jump_to_the_end_of_time_passes_every_entry() {
        let dues: Vec<i64> = (0..500).map(|i| i64::MAX / 500 * i + i).collect();
        let mut entries = Dues::new(&dues);
        let mut wheel = Wheel::new(-1);
        let waiting: Vec<u32> =
            (0..500).filter(|&name| entries.file(&mut wheel, name) == Filed::Waiting).collect();
        assert_eq!(advance(&mut wheel, &mut entries, i64::MAX), waiting);
        assert!(wheel.is_empty());
    }

    #[test]
    fn what_is_due_together_comes_in_the_order_it_was_filed() {
        let mut entries = Dues::new(&[5_000; 200]);
        let mut wheel = Wheel::new(0);
        for name in 0..200 {
            entries.file(&mut wheel, name);
        }
        assert_eq!(advance(&mut wheel, &mut entries, 9_999), (0..200).collect::<Vec<_>>());
    }

    #[test]
    fn a_budget_is_exceeded_by_less_than_a_chunk() {
        let mut entries = Dues::new(&[5_000; 1_000]);
        let mut wheel = Wheel::new(0);
        for name in 0..1_000 {
            entries.file(&mut wheel, name);
        }
        let is_about_100 = |count: usize| (100..100 + CHUNK_HINTS).contains(&count);
        assert!(wheel.advance(4_950, &mut 0, &mut entries), "nothing is due yet");
        assert!(!wheel.prepare(&mut 100, &mut entries));
        let moved = wheel.lists[Slot::of(0, 5_000).list()].len();
        assert!(is_about_100(moved), "{moved} were moved down");
        while !wheel.prepare(&mut 100, &mut entries) {}
        let mut budget = 100;
        assert!(!wheel.advance(5_000, &mut budget, &mut entries));
        assert!(is_about_100(entries.expired.len()), "{} expired", entries.expired.len());
        assert_eq!(budget, 0);
    }

    #[test]
    fn a_hint_of_long_ago_does_not_follow_its_entry_to_another_slot() {
        // Of slots this wide the entry is asked, and its stamp may have come round in the meantime.
        let [then_ms, now_ms] = [5 << shift(5), 9 << shift(5)];
        let mut entries = Dues::new(&[then_ms]);
        let mut wheel = Wheel::new(0);
        entries.file(&mut wheel, 0);
        entries.due_ms[0] = Some(now_ms);
        assert!(wheel.advance(then_ms, &mut 100, &mut entries));
        assert!(wheel.is_empty() && entries.expired.is_empty());
    }

    #[test]
    fn slots_are_counted_by_their_start() {
        let entries = Dues::new(&[1, 63, 64, 127, 128, 4_096, 1 << 48]);
        let mut wheel = Wheel::new(0);
        for name in 0..7 {
            entries.file(&mut wheel, name);
        }
        let counts = [0, 1, 63, 64, 126, 127, 128, 4_095, 4_096, 1 << 47, 1 << 48];
        let counts = counts.map(|until_ms| wheel.count_until(until_ms));
        assert_eq!(counts, [0, 1, 2, 3, 3, 4, 5, 5, 6, 6, 7]);
    }

    #[test]
    fn a_sweep_drops_what_is_stale_and_nothing_else() {
        let dues: Vec<i64> = (0..5_000).map(|i| 1 + i * i * 37).collect();
        let mut entries = Dues::new(&dues);
        let mut wheel = Wheel::new(0);
        for name in 0..5_000 {
            entries.file(&mut wheel, name);
        }
        for name in (0..5_000).filter(|name| name % 5 != 0) {
            entries.due_ms[name] = None;
        }
        let mut calls = 0;
        while !wheel.sweep(&mut 100, |_| (), |hint| entries.due_ms(hint).is_some()) {
            entries.check(&wheel);
            calls += 1;
        }
        assert!(calls > 20, "{calls} calls");
        assert_eq!(wheel.len(), 1_000);
        let expected: Vec<u32> = (0..5_000).filter(|name| name % 5 == 0).collect();
        assert_eq!(advance(&mut wheel, &mut entries, i64::MAX), expected);
        assert!(wheel.sweep(&mut 10_000, |_| (), |_| true), "an empty wheel is swept at once");
    }

    fn due_time() -> impl Strategy<Value = i64> {
        let spread = (0..63u32, -2..200i64).prop_map(|(power, off)| (1i64 << power).saturating_add(off));
        prop_oneof![3 => 0..300i64, 3 => spread, 1 => any::<i64>()]
    }

    proptest! {
        /// Whatever the budget, the wheel gives what a sorted list gives, and in that order.
        #[test]
        fn the_wheel_is_a_sorted_list(
            start_ms in 0..200i64,
            dues in prop::collection::vec(due_time(), 1..60),
            copies in 1..130u32,
            mut times in prop::collection::vec((due_time(), 0..80usize, any::<prop::sample::Index>()), 0..60),
        ) {
            // A few due times many times over, so that a slot has more than a chunk.
            let dues: Vec<i64> = dues.iter().copied().chain((1..copies).map(|_| dues[0])).collect();
            let mut entries = Dues::new(&dues);
            let mut wheel = Wheel::new(start_ms);
            let mut waiting: Vec<u32> = (0..dues.len() as u32).collect();
            waiting.retain(|&name| entries.file(&mut wheel, name) == Filed::Waiting);
            for name in 0..dues.len() as u32 {
                if !waiting.contains(&name) {
                    entries.due_ms[name as usize] = None;
                }
            }
            times.sort_unstable_by_key(|&(now_ms, ..)| now_ms);
            let mut last_ms = i64::MIN;
            for (now_ms, budget, victim) in times {
                let mut left = budget;
                let done = wheel.advance(now_ms, &mut left, &mut entries);
                entries.check(&wheel);
                for name in std::mem::take(&mut entries.expired) {
                    prop_assert!(dues[name as usize] <= now_ms, "early");
                    prop_assert!(dues[name as usize] >= last_ms, "out of order");
                    last_ms = dues[name as usize];
                    waiting.retain(|&other| other != name);
                }
                let first_ms = waiting.iter().map(|&name| dues[name as usize]).min();
                prop_assert!(!done || first_ms.is_none_or(|first_ms| first_ms > now_ms), "left behind");
                prop_assert!(done || left == 0, "stopped with budget left");
                if let Some(first_ms) = first_ms {
                    prop_assert!(wheel.next_wake_ms().unwrap() <= first_ms, "waking late");
                }
                let mut left = budget;
                let prepared = wheel.prepare(&mut left, &mut entries);
                prop_assert!(prepared || left == 0);
                entries.check(&wheel);
                prop_assert!(entries.expired.is_empty(), "nothing expires by preparing");
                if prepared && let (Some(ahead_ms), Some(wake_ms)) = (wheel.next_prepare_ms(), wheel.next_wake_ms()) {
                    prop_assert!(ahead_ms > wheel.now_ms() || wake_ms == wheel.now_ms(), "never done preparing");
                }
                if !waiting.is_empty() {
                    let victim = waiting.swap_remove(victim.index(waiting.len()));
                    entries.due_ms[victim as usize] = None;
                    wheel.sweep(&mut budget.clone(), |_| (), |hint| entries.due_ms(hint).is_some());
                    entries.check(&wheel);
                }
            }
        }
    }
}
