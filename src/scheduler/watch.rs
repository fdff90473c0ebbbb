//! Watches the schedule topics from outside: missing ones, ones that were deleted and created again, ones whose
//! configuration loses schedules.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::kafka::observer::Observer;

use super::supervisor::Reload;

const EVERY: Duration = Duration::from_secs(10);
const ASK: Duration = Duration::from_secs(5);
const CONFIGURATION_EVERY_ROUNDS: u32 = 60;
/// How often the thread looks whether it should end.
const TICK: Duration = Duration::from_millis(200);

/// What the thread watches, and whom it tells.
pub struct Watched {
    /// The schedule topics.
    pub topics: Vec<String>,
    /// Asks the cluster.
    pub observer: Arc<Observer>,
    /// Where to ask for a topic to be loaded anew.
    pub reloads: Sender<Reload>,
    /// Asks how long the topics keep tombstones and warns about their configuration.
    pub check_configuration: Box<dyn Fn() + Send>,
}

/// Runs until `stop`: asks about every topic now and then.
#[allow(clippy::disallowed_methods, reason = "an own thread that only watches; nothing waits for it")]
fn watch(watched: &Watched, stop: &AtomicBool) {
    let mut known: HashMap<&str, Seen> = HashMap::new();
    let mut round = 0u32;
    while !stop.load(Ordering::Relaxed) {
        let mut changed = round.is_multiple_of(CONFIGURATION_EVERY_ROUNDS);
        for topic in &watched.topics {
            if let Some(seen) = look(topic, &watched.observer) {
                let before = known.insert(topic, seen.clone());
                compare(topic, before.as_ref(), &seen, &watched.reloads);
                changed |= seen == Seen::Missing || before.as_ref() != Some(&seen);
            }
        }
        if changed {
            (watched.check_configuration)();
        }
        round = round.wrapping_add(1);
        let mut waited = Duration::ZERO;
        while waited < EVERY && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(TICK);
            waited += TICK;
        }
    }
}

/// What the cluster says of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Missing,
    There { id: String, partitions: usize },
}

/// `None`: the cluster does not answer; nothing is known then, and nothing concluded.
fn look(topic: &str, observer: &Observer) -> Option<Seen> {
    match observer.partition_count(topic, ASK) {
        Ok(None) => Some(Seen::Missing),
        Ok(Some(partitions)) => observer.topic_id(topic, ASK).ok().map(|id| Seen::There { id, partitions }),
        Err(error) => {
            tracing::debug!("{error}");
            None
        }
    }
}

fn compare(topic: &str, before: Option<&Seen>, now: &Seen, reloads: &Sender<Reload>) {
    match (before, now) {
        (None | Some(Seen::There { .. }), Seen::Missing) => tracing::warn!(
            topic,
            "the schedule topic does not exist; waiting for it (`kms topics create` makes it, or set topics.create = true)"
        ),
        (Some(Seen::Missing), Seen::There { partitions, .. }) => {
            tracing::info!(topic, partitions, "the schedule topic is there now");
        }
        (Some(Seen::There { id: old, partitions: fewer }), Seen::There { id, partitions }) => {
            if old != id {
                let reason = format!("the topic was deleted and created again (ID {old}, now {id})");
                let reload = Reload { topic: topic.to_owned(), partition: None, reason };
                if reloads.send(reload).is_err() {
                    tracing::debug!(topic, "nobody is left to load the topic anew");
                }
            } else if fewer < partitions {
                tracing::info!(topic, partitions, was = fewer, "the schedule topic has more partitions");
            }
        }
        (None, Seen::There { .. }) | (Some(Seen::Missing), Seen::Missing) => {}
    }
}

/// A handle to the watching thread, which ends soon after this is dropped. Nothing waits for it: it may be in the
/// middle of a question to a cluster that does not answer.
pub struct Watch {
    stop: Arc<AtomicBool>,
}

impl Watch {
    /// Starts the thread.
    #[allow(clippy::disallowed_methods, reason = "an own thread that only watches; nothing waits for it")]
    pub fn start(watched: Watched) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        std::thread::Builder::new().name("watch".to_owned()).spawn(move || watch(&watched, &stopping))?;
        Ok(Self { stop })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
