//! The engine: what is pending in a shard, and what is due.
//!
//! **Architecture invariant:** the engine is pure. It has no clock, no I/O, no randomness, no threads, no Kafka and no
//! async: times and seeds come in as arguments, so a run can be repeated to the byte.
//!
//! [`PendingSet`] joins the parts, each of which knows only its own idea:
//!
//! | part | what it knows |
//! |---|---|
//! | `entry` | everything about one schedule, packed into one run of bytes |
//! | `arena` | where the entries are: blocks of memory by size, each named by a `u32` |
//! | `memory` | memory straight from the system |
//! | `topics` | the names of destinations, each kept once |
//! | `hasher` | the keyed hash of IDs and names of topics |
//! | `index` | from the hash of an ID to its entry |
//! | `hint` | eight bytes that say where to look when a time comes |
//! | `hint_list` | lists of hints, in chunks |
//! | `wheel` | which entry is due next |
//! | `ready` | the entries that are due, oldest first |
//!
//! Code is generated file by file. So what is small and is called from another file for each schedule is `#[inline]`:
//! without the mark some of it becomes a call, as `scripts/instructions` shows.

mod arena;
mod entry;
mod hasher;
mod hint;
mod hint_list;
mod index;
mod memory;
mod pending;
mod ready;
pub mod shard;
mod topics;
mod wheel;

// The wheel by itself is public for its bench only.
pub use hint::Hint;
pub use pending::{BatchLimits, EntryState, Handle, ListCursor, PendingSet, Upserted, View};
pub use wheel::{Entries, Filed, Wheel};
