//! `DelayQueue` of tokio-util, and a table by ID, as its documentation shows it.

use std::future::poll_fn;
use std::sync::LazyLock;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Builder, EnterGuard, Runtime};
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, advance};
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

use super::{ById, Id, Item, Message, Pending, table};

/// The queue panics for more, measured from its beginning.
const FURTHEST_MS: i64 = (1 << 36) - 1;

/// The only clock the queue goes by. It stands still unless it is told to go on.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("it needs nothing")
});

/// Schedules in a `DelayQueue`.
pub struct TokioQueue {
    queue: DelayQueue<Id>,
    by_id: ById<Entry>,
    /// The times at which the set began, by either clock.
    origin: Instant,
    origin_ms: i64,
    now_ms: i64,
    /// The queue sets timers of the runtime whenever its next due time changes.
    _inside: EnterGuard<'static>,
}

struct Entry {
    due_ms: i64,
    key: Key,
    message: Message,
}

impl TokioQueue {
    fn instant(&self, ms: i64) -> Instant {
        self.origin + Duration::from_millis((ms - self.origin_ms).clamp(0, FURTHEST_MS) as u64)
    }
}

impl Pending for TokioQueue {
    const NAME: &'static str = "tokio DelayQueue";
    type Due = Id;

    fn with_expected(expected: usize, now_ms: i64) -> Self {
        let inside = RUNTIME.enter();
        Self {
            queue: DelayQueue::with_capacity(expected),
            by_id: table(expected),
            origin: Instant::now(),
            origin_ms: now_ms,
            now_ms,
            _inside: inside,
        }
    }

    fn insert(&mut self, item: &Item<'_>) {
        let id = Id::from(item.id);
        let key = self.queue.insert_at(id.clone(), self.instant(item.due_ms));
        self.by_id.insert(id, Entry { due_ms: item.due_ms, key, message: Message::of(item) });
    }

    fn replace(&mut self, item: &Item<'_>) {
        let when = self.instant(item.due_ms);
        let entry = self.by_id.get_mut(item.id).expect("it is held");
        entry.due_ms = item.due_ms;
        entry.message = Message::of(item);
        self.queue.reset_at(&entry.key, when);
    }

    fn cancel(&mut self, id: &[u8]) -> bool {
        let Some(entry) = self.by_id.remove(id) else { return false };
        self.queue.remove(&entry.key);
        true
    }

    fn due(&mut self, now_ms: i64, limit: usize, out: &mut Vec<Id>) {
        let passed = Duration::from_millis((now_ms - self.now_ms) as u64);
        self.now_ms = now_ms;
        let queue = &mut self.queue;
        // Unconstrained, or the runtime would want its turn after every 128.
        RUNTIME.block_on(unconstrained(async {
            if !passed.is_zero() {
                advance(passed).await;
            }
            poll_fn(|context| {
                for _ in 0..limit {
                    let Poll::Ready(Some(expired)) = queue.poll_expired(context) else { break };
                    out.push(expired.into_inner());
                }
                Poll::Ready(())
            })
            .await;
        }));
    }

    fn read<'a>(&'a self, due: &'a Id) -> Item<'a> {
        let entry = &self.by_id[&**due];
        entry.message.item(due, entry.due_ms)
    }

    fn settle(&mut self, due: Id) {
        self.by_id.remove(&*due);
    }

    fn len(&self) -> usize {
        self.by_id.len()
    }
}
