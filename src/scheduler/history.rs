//! What happened to schedules lately, for people: the newest events of each kind, in memory.
//!
//! A shard's history is its own thread's. It is bounded, and costs next to nothing where much happens: of what falls out
//! at once nothing is written, and the memory of an old event serves the new one.

use std::collections::VecDeque;

use super::command::Recall;
use super::status::{Label, labels};

labels! {
    /// What happened to a schedule.
    EventKind {
        /// It was delivered.
        Fired = "fired",
        /// It was cancelled while it was pending.
        Cancelled = "cancelled",
        /// Another record of its ID took its place while it was pending.
        Replaced = "replaced",
        /// A record that is no schedule.
        Rejected = "rejected",
        /// It was overdue and removed without delivery, on request.
        Skipped = "skipped",
    }
}

/// Events of a kind that a shard remembers.
pub(super) const REMEMBERED: usize = 256;
/// Of an ID, a topic or a reason, so many bytes are remembered: an ID may have a megabyte.
const TEXT_BYTES: usize = 1_024;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Ascends from event to event of a shard, from 1.
    pub number: u64,
    /// What it was.
    pub kind: EventKind,
    /// When, epoch milliseconds; of what was read, when it was read.
    pub at_ms: i64,
    /// The schedule ID, of which no more than 1,024 bytes are kept.
    pub id: Vec<u8>,
    /// Where the record lies: of what was fired, the schedule; else what made it happen.
    pub offset: i64,
    /// When the schedule was due, or, if it was replaced, is due now; epoch milliseconds. Not known of what is gone.
    pub due_ms: Option<i64>,
    /// Its destination.
    pub topic: String,
    /// Why a record was rejected.
    pub reason: String,
}

/// What is known of a schedule when something happens to it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Happening<'a> {
    pub(super) at_ms: i64,
    pub(super) id: &'a [u8],
    pub(super) offset: i64,
    pub(super) due_ms: Option<i64>,
    pub(super) topic: &'a str,
    pub(super) reason: &'a str,
}

/// The newest events of a shard.
#[derive(Debug, Default)]
pub(super) struct History {
    by_kind: [VecDeque<Event>; EventKind::ALL.len()],
    last_number: u64,
}

impl History {
    /// Remembers an event, in the place of the oldest of its kind if there are many.
    pub(super) fn remember(&mut self, kind: EventKind, happening: &Happening<'_>) {
        let events = &mut self.by_kind[kind.index()];
        let mut event =
            if events.len() < REMEMBERED { None } else { events.pop_front() }.unwrap_or_else(|| Event {
                number: 0,
                kind,
                at_ms: 0,
                id: Vec::new(),
                offset: 0,
                due_ms: None,
                topic: String::new(),
                reason: String::new(),
            });
        self.last_number += 1;
        event.number = self.last_number;
        event.at_ms = happening.at_ms;
        event.id.clear();
        event.id.extend_from_slice(&happening.id[..happening.id.len().min(TEXT_BYTES)]);
        event.offset = happening.offset;
        event.due_ms = happening.due_ms;
        set(&mut event.topic, happening.topic);
        set(&mut event.reason, happening.reason);
        events.push_back(event);
    }

    /// What is asked for, newest first.
    pub(super) fn recall(&self, recall: &Recall) -> Vec<Event> {
        let kinds = EventKind::ALL.iter().filter(|&&kind| recall.kind.is_none_or(|wanted| wanted == kind));
        let mut found: Vec<&Event> = kinds
            .flat_map(|kind| {
                let newest_first = self.by_kind[kind.index()].iter().rev();
                let new = newest_first.take_while(|event| event.number > recall.after);
                new.filter(|event| event.id.starts_with(&recall.prefix)).take(recall.limit)
            })
            .collect();
        found.sort_unstable_by_key(|event| std::cmp::Reverse(event.number));
        found.into_iter().take(recall.limit).cloned().collect()
    }
}

fn set(text: &mut String, to: &str) {
    text.clear();
    text.push_str(&to[..to.floor_char_boundary(TEXT_BYTES)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> Recall {
        Recall { kind: None, prefix: Vec::new(), after: 0, limit: usize::MAX }
    }

    fn remember(history: &mut History, kind: EventKind, id: &str) {
        history.remember(kind, &Happening { id: id.as_bytes(), topic: "t", ..Happening::default() });
    }

    fn ids(events: &[Event]) -> Vec<&str> {
        events.iter().map(|event| std::str::from_utf8(&event.id).unwrap_or("?")).collect()
    }

    #[test]
    fn the_newest_come_first_whatever_their_kind() {
        let mut history = History::default();
        remember(&mut history, EventKind::Fired, "a");
        remember(&mut history, EventKind::Cancelled, "b");
        remember(&mut history, EventKind::Fired, "ac");
        assert_eq!(ids(&history.recall(&everything())), ["ac", "b", "a"]);
        assert_eq!(ids(&history.recall(&Recall { limit: 2, ..everything() })), ["ac", "b"]);
        assert_eq!(
            ids(&history.recall(&Recall { kind: Some(EventKind::Fired), ..everything() })),
            ["ac", "a"]
        );
        assert_eq!(ids(&history.recall(&Recall { prefix: b"a".to_vec(), ..everything() })), ["ac", "a"]);
        assert_eq!(ids(&history.recall(&Recall { after: 2, ..everything() })), ["ac"]);
    }

    #[test]
    fn many_of_a_kind_push_out_their_own_only() {
        let mut history = History::default();
        remember(&mut history, EventKind::Rejected, "rare");
        for number in 0..3 * REMEMBERED {
            remember(&mut history, EventKind::Fired, &format!("id-{number}"));
        }
        let events = history.recall(&everything());
        assert_eq!(events.len(), REMEMBERED + 1);
        let newest = format!("id-{}", 3 * REMEMBERED - 1);
        assert_eq!((ids(&events)[0], ids(&events)[REMEMBERED]), (&newest[..], "rare"));
    }

    #[test]
    fn what_is_long_is_cut() {
        let mut history = History::default();
        let (id, reason) = (vec![b'x'; 1 << 20], "\u{fc}".repeat(TEXT_BYTES));
        let happening = Happening { id: &id, reason: &reason, ..Happening::default() };
        history.remember(EventKind::Rejected, &happening);
        let events = history.recall(&everything());
        assert_eq!((events[0].id.len(), events[0].reason.len()), (TEXT_BYTES, TEXT_BYTES));
    }

    #[test]
    fn an_event_says_nothing_of_the_one_whose_place_it_takes() {
        let mut history = History::default();
        let first =
            Happening { id: b"old", due_ms: Some(1), topic: "t", reason: "r", ..Happening::default() };
        history.remember(EventKind::Rejected, &first);
        for _ in 0..REMEMBERED {
            history.remember(EventKind::Rejected, &Happening { id: b"n", ..Happening::default() });
        }
        let newest = history.recall(&Recall { limit: 1, ..everything() });
        assert_eq!((newest[0].due_ms, &newest[0].topic[..], &newest[0].reason[..]), (None, "", ""));
    }
}
