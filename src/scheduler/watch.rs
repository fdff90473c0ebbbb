//! Watches the schedule topics from outside: missing ones, ones that were deleted and created again, ones whose
//! configuration loses schedules. And the clock, which others set.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::kafka::Clock as _;
use crate::kafka::clock::{ClockSteps, SystemClock};
use crate::kafka::observer::Observer;

use super::settings::TopicFacts;
use super::supervisor::Reload;

/// Often enough that shards need not ask by themselves before they write.
const EVERY: Duration = Duration::from_secs(1);
const ASK: Duration = Duration::from_secs(5);
const CONFIGURATION_EVERY_ROUNDS: u32 = 600;
/// How often the thread looks whether it should end.
const TICK: Duration = Duration::from_millis(200);

/// What the thread watches, and whom it tells.
pub struct Watched {
    /// The schedule topics, and where to put what is learnt of them.
    pub topics: HashMap<String, Arc<TopicFacts>>,
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
    let clock = SystemClock::new();
    let mut known: HashMap<&str, Seen> = HashMap::new();
    let mut ids: HashMap<&str, String> = HashMap::new();
    let mut steps = ClockSteps::default();
    let mut round = 0u32;
    while !stop.load(Ordering::Relaxed) {
        let mut changed = round.is_multiple_of(CONFIGURATION_EVERY_ROUNDS);
        for (topic, facts) in &watched.topics {
            let asked_ms = clock.monotonic_ms();
            if let Some(seen) = look(topic, &watched.observer) {
                let before = known.insert(topic, seen.clone());
                say_change(topic, before.as_ref(), &seen);
                if let Seen::There { id, .. } = &seen {
                    facts.set_id(id, asked_ms);
                    // Whether it was seen missing in between or not.
                    if let Some(old) = ids.insert(topic, id.clone()).filter(|old| old != id) {
                        ask_for_reload(topic, &old, id, &watched.reloads);
                    }
                }
                changed |= seen == Seen::Missing || before.as_ref() != Some(&seen);
            }
            changed |= facts.take_retention_wanted();
        }
        if changed {
            (watched.check_configuration)();
        }
        round = round.wrapping_add(1);
        let mut waited = Duration::ZERO;
        while waited < EVERY && !stop.load(Ordering::Relaxed) {
            if let Some(step_ms) = steps.look(&clock) {
                say_step(step_ms);
            }
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

fn ask_for_reload(topic: &str, old: &str, new: &str, reloads: &Sender<Reload>) {
    let reason = format!("the topic was deleted and created again (ID {old}, now {new})");
    if reloads.send(Reload { topic: topic.to_owned(), partition: None, reason }).is_err() {
        tracing::debug!(topic, "nobody is left to load the topic anew");
    }
}

/// Nothing has to be done about it. But whoever wonders why something came late, or early by another clock, wants to know.
fn say_step(step_ms: i64) {
    let seconds = step_ms.unsigned_abs() as f64 / 1_000.0;
    if step_ms < 0 {
        tracing::warn!("the clock was set back by {seconds:.1} s; what is not due by its new time waits");
    } else {
        tracing::warn!(
            "the clock was set forward by {seconds:.1} s, or the machine was suspended; what is due by its new time is \
             delivered"
        );
    }
}

fn say_change(topic: &str, before: Option<&Seen>, now: &Seen) {
    match (before, now) {
        (None | Some(Seen::There { .. }), Seen::Missing) => tracing::warn!(
            topic,
            "the schedule topic does not exist; waiting for it (`kms topics create` makes it, or set topics.create = true)"
        ),
        (Some(Seen::Missing), Seen::There { partitions, .. }) => {
            tracing::info!(topic, partitions, "the schedule topic is there now");
        }
        (Some(Seen::There { partitions: fewer, .. }), Seen::There { partitions, .. })
            if fewer < partitions =>
        {
            tracing::info!(topic, partitions, was = fewer, "the schedule topic has more partitions");
        }
        (_, Seen::There { .. }) | (Some(Seen::Missing), Seen::Missing) => {}
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
