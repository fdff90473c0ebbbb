//! The engine: what is pending in a shard, and what is due.
//!
//! **Architecture invariant:** the engine is pure. It has no clock, no I/O, no randomness, no threads, no Kafka and no
//! async: times and seeds come in as arguments, so a run can be repeated to the byte.
//!
//! [`PendingSet`] joins the parts, each of which knows only its own idea:
//!
//! | part | what it knows |
//! |---|---|
//! | `slab` | nodes: one fixed 32-byte entry a schedule, named by a `u32` |
//! | `payload` | one packed allocation a schedule: everything about it that is only read |
//! | `topics` | the names of destinations, each kept once |
//! | `index` | from the hash of an ID to its node |
//! | `list` | doubly linked lists through the nodes |
//! | `wheel` | which node is due next |
//! | `ready` | the nodes that are due, oldest first |

mod index;
mod list;
mod payload;
mod pending;
mod ready;
pub mod shard;
mod slab;
mod topics;
mod wheel;

pub use pending::{BatchLimits, EntryState, Handle, ListCursor, PendingSet, Upserted, View};
