//! What is seen of a schedule from outside, and walking over all of them.

use super::PendingSet;
use crate::engine::entry::{self, Place};
use crate::engine::index::Turn;
use crate::schedule::{DueTime, Format, Headers, Schedule};

/// One schedule of the set, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View<'a> {
    /// The key of the record that carried the schedule.
    pub id: &'a [u8],
    /// The offset of that record.
    pub offset: i64,
    /// How that record was written.
    pub format: Format,
    /// What the schedule is waiting for.
    pub state: EntryState,
    /// The schedule itself.
    pub schedule: Schedule<'a>,
    /// The headers of the record itself, not of the message to deliver.
    pub record_headers: Headers<'a>,
}

/// What a schedule in the set is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryState {
    /// For its due time, or for a place in a batch.
    Pending,
    /// For the outcome of the batch that it was handed out in.
    InFlight,
    /// For its retry time, or for a newer record.
    SetAside,
}

impl EntryState {
    /// The state of an entry.
    pub(super) fn of(bytes: &[u8]) -> Self {
        match entry::place(bytes) {
            Place::Free | Place::Unfiled | Place::Waiting | Place::Line | Place::OutOfLine => Self::Pending,
            Place::InFlight => Self::InFlight,
            Place::Aside | Place::Held => Self::SetAside,
        }
    }
}

/// Where a walk over the set goes on; the default is its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListCursor(pub(super) Turn);

impl ListCursor {
    /// As a number, for whoever has to keep it outside of the process. It means something to this set alone.
    #[must_use]
    pub fn to_bits(self) -> u32 {
        self.0.to_bits()
    }

    /// The cursor that was this number; any number is one, somewhere.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        Self(Turn::from_bits(bits))
    }
}

impl PendingSet {
    /// Gives up to `budget` schedules, in no order that means anything, to `f`, until that returns false, and returns where to
    /// go on, `None` at the end. A call looks at some five thousand schedules at most, whatever the budget, and where several
    /// have the same hash it gives all of them.
    ///
    /// What stays in the set during the walk is given exactly once, though not always in the same version.
    pub fn list(
        &self,
        cursor: ListCursor,
        budget: usize,
        f: &mut dyn FnMut(View<'_>) -> bool,
    ) -> Option<ListCursor> {
        if budget == 0 {
            return Some(cursor);
        }
        let mut found = Vec::new();
        let rest = self.index.walk(cursor.0, &mut |turn, name| found.push((turn, name)));
        let mut next = rest;
        if found.len() > budget {
            let (_, &mut (last, _), _) = found.select_nth_unstable(budget - 1);
            // The next few may have the same hash as the last, and then the same turn.
            found.retain(|&(turn, _)| turn <= last);
            next = last.next();
        }
        found.sort_unstable();
        let mut enough_at = None;
        for (turn, name) in found {
            if let Some(last) = enough_at
                && turn > last
            {
                next = last.next();
                break;
            }
            if !f(self.view_of(name)) {
                enough_at = Some(turn);
            }
        }
        next.map(ListCursor)
    }

    /// What is to be seen of the entry at `name`.
    pub(super) fn view_of(&self, name: u32) -> View<'_> {
        let bytes = &self.entries[name];
        let parts = entry::parts(bytes);
        View {
            id: parts.id,
            offset: parts.offset,
            format: parts.format,
            state: EntryState::of(bytes),
            schedule: Schedule {
                due: DueTime::from_epoch_ms(parts.due_ms),
                topic: self.topics.name(parts.topic),
                key: parts.key,
                value: parts.value,
                headers: parts.headers,
            },
            record_headers: parts.record_headers,
        }
    }
}
