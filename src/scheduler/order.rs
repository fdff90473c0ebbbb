//! What the owner of a shard's thread tells it.

use std::sync::atomic::{AtomicU8, Ordering};

/// The strictest order given so far.
#[derive(Debug, Default)]
pub struct Control(AtomicU8);

/// An order to a shard's thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// Go on.
    Run,
    /// Finish what is open, then end.
    Drain,
    /// End at once; the partition is somebody else's.
    Drop,
}

impl Control {
    /// Gives an order; a stricter one given before stands.
    pub fn give(&self, order: Order) {
        self.0.fetch_max(order as u8, Ordering::Relaxed);
    }

    pub(super) fn order(&self) -> Order {
        match self.0.load(Ordering::Relaxed) {
            0 => Order::Run,
            1 => Order::Drain,
            _ => Order::Drop,
        }
    }
}
