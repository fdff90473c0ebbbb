//! The scene of a fault: a schedule topic, a destination, schedulers that come and go, and the judge at the end.
//!
//! Every record is read back from the log as JSON and every message as it arrived, so the judge sees what Kafka has,
//! not what a test believes it wrote.
#![allow(unreachable_pub, reason = "a module of a test binary has no outside")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::judged;
use crate::support::at_least_once::{Fired, judge_at_least_once};
use crate::support::broker::Broker;
use crate::support::client::{Client, Isolation, NewRecord, Place, Reader, Seen, unique};
use crate::support::history::{History, Record, Verdict, Write, payload_id};
use crate::support::kms::{Kms, Settings};
use crate::support::rng::Rng;
use crate::support::{PATIENCE, now_ms, poll_until};

/// A schedule topic and a destination, both unique to a test, and everything that happens on them.
pub struct Scene {
    pub client: Client,
    pub schedules: String,
    pub destination: String,
    bootstrap: String,
    group: String,
    arrivals: Reader,
    /// Records that compaction or deletion may have taken out of the log since.
    kept: Mutex<BTreeMap<Place, Seen>>,
}

impl Scene {
    /// On the broker that all tests share.
    pub fn new(name: &str, partitions: i32) -> Self {
        Self::on(Broker::shared(), name, partitions)
    }

    /// On the broker at `bootstrap`.
    pub fn on(bootstrap: &str, name: &str, partitions: i32) -> Self {
        let client = Client::new(bootstrap);
        let (schedules, destination) = (unique(name), unique(&format!("{name}-messages")));
        client.create_schedule_topic(&schedules, partitions);
        client.create_destination_topic(&destination, 4);
        let arrivals = client.reader(&[&destination]);
        let group = unique("group");
        Self {
            client,
            bootstrap: bootstrap.to_owned(),
            schedules,
            destination,
            group,
            arrivals,
            kept: Mutex::default(),
        }
    }

    /// Where the broker is.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// A scheduler of this topic. The group misses it soon when it is silent, which keeps the tests short; it is safe
    /// either way.
    pub fn settings(&self) -> Settings {
        Settings::new(&self.bootstrap, &self.group)
            .json_topics(&self.schedules)
            .env("KMS_KAFKA_PROPERTIES", "session.timeout.ms=2000;heartbeat.interval.ms=400")
    }

    /// The `version`-th schedule of `key`; each has a payload of its own.
    pub fn schedule(&self, key: &str, version: usize, due_ms: i64) -> NewRecord {
        NewRecord::to(&self.schedules).key(key).value(schedule(&self.destination, key, version, due_ms))
    }

    /// A cancel of `key`.
    pub fn cancel(&self, key: &str) -> NewRecord {
        NewRecord::to(&self.schedules).key(key)
    }

    /// What has arrived so far.
    pub fn arrived(&self) -> Vec<Seen> {
        self.arrivals.seen()
    }

    /// Waits until `count` messages have arrived in all.
    #[track_caller]
    pub fn await_arrivals(&self, count: usize) {
        let seen = self.arrivals.collect(PATIENCE, |seen| seen.len() >= count).len();
        assert!(seen >= count, "{seen} of {count} messages arrived in {PATIENCE:?}");
    }

    /// Waits until a message of this payload has arrived.
    #[track_caller]
    pub fn await_payload(&self, payload: &str) {
        let is_it = |seen: &Seen| seen.value.as_deref() == Some(payload.as_bytes());
        let seen = self.arrivals.collect(PATIENCE, |seen| seen.iter().any(is_it));
        assert!(seen.iter().any(is_it), "{payload} did not arrive in {PATIENCE:?}");
    }

    /// How often a message of this payload has arrived so far.
    pub fn count_of(&self, payload: &str) -> usize {
        self.arrived().iter().filter(|seen| seen.value.as_deref() == Some(payload.as_bytes())).count()
    }

    /// Waits until everything due by `until_ms` has arrived and is settled in the log.
    #[track_caller]
    pub fn await_settled(&self, until_ms: i64) {
        let mut verdict = Verdict::default();
        let settled = poll_until(PATIENCE, || {
            verdict = self.verdict(until_ms);
            (verdict.lost.is_empty() && verdict.unsettled.is_empty()).then_some(())
        });
        assert!(settled.is_some(), "not settled in {PATIENCE:?}: {verdict}");
    }

    /// Forces compaction; the judge still knows what goes.
    pub fn compact(&self) {
        self.keep();
        self.client.force_compaction(&self.schedules);
    }

    /// Forces compaction while others write. What they write stays in the log for the topic's `min.compaction.lag.ms`
    /// ([`keep_young_records`](Self::keep_young_records) has set it), long enough for a witness to have seen it.
    pub fn compact_under_traffic(&self) {
        let lag = self.client.own_configs(&self.schedules).remove("min.compaction.lag.ms");
        assert!(
            lag.is_some_and(|lag| lag != "0"),
            "the judge could not know what the broker compacts meanwhile"
        );
        let witness = self.client.reader(&[&self.schedules]);
        self.compact();
        // What is too young to be gone by now, also when the segments that were closed for this are cleaned later.
        self.keep();
        self.kept.lock().unwrap().extend(witness.seen().into_iter().map(|seen| (seen.place(), seen)));
    }

    /// From now on compaction leaves the records of the last seconds alone.
    pub fn keep_young_records(&self) {
        self.client.change_configs(&self.schedules, &[("min.compaction.lag.ms", "2000")]);
    }

    /// Remembers what the log holds now, and returns that, in order of partition and offset.
    pub fn keep(&self) -> Vec<Seen> {
        let now = self.client.read_topic(&self.schedules, Isolation::ReadCommitted);
        self.kept.lock().unwrap().extend(now.iter().map(|seen| (seen.place(), seen.clone())));
        now
    }

    /// Every committed record of the schedule topic, those that are gone from the log by now too.
    pub fn committed(&self) -> Vec<Seen> {
        self.keep();
        self.kept.lock().unwrap().values().cloned().collect()
    }

    /// Judges what happened until now; schedules due by `until_ms` should have fired.
    pub fn verdict(&self, until_ms: i64) -> Verdict {
        self.history(until_ms).judge()
    }

    /// What happened until now, for a judge; schedules due by `until_ms` should have fired.
    pub fn history(&self, until_ms: i64) -> History {
        // The log first: what fires in between is then missing a tombstone, not a message.
        let records = self.committed().iter().filter_map(record).collect();
        let arrived = self.client.read_topic(&self.destination, Isolation::ReadCommitted);
        History { records, messages: arrived.into_iter().map(judged::message).collect(), until_ms }
    }

    /// What the tombstones say was fired.
    pub fn fired(&self) -> Fired {
        let mut fired = Fired::new();
        for seen in self.committed() {
            if let Some(says) = seen.header("kms-fired") {
                let says = String::from_utf8_lossy(says);
                let version = says.rsplit(':').next().and_then(|offset| offset.parse().ok());
                let version = version.unwrap_or_else(|| panic!("{says} ends with an offset"));
                fired.entry((seen.partition, version)).or_insert(seen.offset);
            }
        }
        fired
    }

    /// The end of every test, once its schedulers are gone: lets one more instance load what the log says, lets
    /// everything that would fire (again) fire, and judges. Returns how many messages were right.
    #[track_caller]
    pub fn assert_everything_fired_once(&self, settings: &Settings) -> usize {
        let mut last = Kms::start_ready(settings);
        self.await_settled(i64::MAX);
        self.pass_sentinels();
        assert_eq!(last.sigterm_and_wait().code(), Some(0), "the last instance stops in good order");
        self.client.await_stable(&[&self.schedules, &self.destination], PATIENCE);
        let verdict = self.verdict(i64::MAX);
        verdict.assert_clean();
        println!("{}: {} messages right", self.schedules, verdict.right);
        verdict.right
    }

    /// The same at-least-once, where nothing crashed. What was changed too late may have come all the same.
    #[track_caller]
    pub fn assert_nothing_lost_nor_doubled(&self, settings: &Settings) {
        let mut last = Kms::start_ready(settings);
        self.pass_sentinels();
        let mut verdict = Verdict::default();
        // What was overtaken is written again first.
        poll_until(PATIENCE, || {
            verdict = judge_at_least_once(&self.history(i64::MAX), &self.fired());
            verdict.lost.is_empty().then_some(())
        });
        assert_eq!(last.sigterm_and_wait().code(), Some(0), "the last instance stops in good order");
        verdict.stale.clear();
        verdict.assert_clean();
    }

    /// Sends one schedule through every partition. A shard fires in order of due times, so when these have arrived,
    /// everything that was due before has too.
    #[track_caller]
    pub fn pass_sentinels(&self) {
        self.pass_sentinels_due(now_ms());
    }

    /// The same, for schedulers whose clock says `due_ms`.
    #[track_caller]
    pub fn pass_sentinels_due(&self, due_ms: i64) {
        let keys: Vec<String> =
            (0..self.client.partitions(&self.schedules)).map(|_| unique("sentinel")).collect();
        let sentinels: Vec<_> = keys
            .iter()
            .zip(0..)
            .map(|(key, partition)| self.schedule(key, 1, due_ms).partition(partition))
            .collect();
        self.client.produce(&sentinels);
        for key in &keys {
            self.await_payload(&payload(key, 1));
        }
    }

    /// Starts writing schedules that are due within moments, and changing some of them when they are, on a thread of
    /// its own.
    pub fn traffic(&self) -> Traffic {
        self.traffic_of("traffic")
    }

    /// The same, with IDs that begin with `name`: each name once.
    pub fn traffic_of(&self, name: &str) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            client: Client::new(&self.bootstrap),
            schedules: self.schedules.clone(),
            destination: self.destination.clone(),
            name: name.to_owned(),
            stop: Arc::clone(&stop),
        };
        Traffic { stop, thread: Some(thread::spawn(move || writer.run())) }
    }
}

/// The value of a schedule record.
pub fn schedule(destination: &str, key: &str, version: usize, due_ms: i64) -> String {
    json!({
        "time": due_ms,
        "topic": destination,
        "key": BASE64.encode(key),
        "value": BASE64.encode(payload(key, version)),
    })
    .to_string()
}

/// The payload of the `version`-th schedule of `key`.
pub fn payload(key: &str, version: usize) -> String {
    format!("{key}#{version}")
}

/// Held by a test that keeps both cores busy, so that two of them do not slow each other down.
pub fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed while it had the turn is no reason for the others to fail.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes each batch when its time has come (milliseconds since the Unix epoch), as well as the machine allows.
pub fn write_at(client: &Client, mut batches: Vec<(i64, NewRecord)>) {
    batches.sort_by_key(|(at_ms, _)| *at_ms);
    let mut batches = batches.into_iter().peekable();
    while let Some((next_ms, _)) = batches.peek() {
        sleep_until(*next_ms);
        let now = now_ms();
        let due: Vec<NewRecord> = std::iter::from_fn(|| batches.next_if(|(at_ms, _)| *at_ms <= now))
            .map(|(_, record)| record)
            .collect();
        client.produce(&due);
    }
}

/// The time of day is the event here.
pub fn sleep_until(at_ms: i64) {
    while let Ok(left_ms @ 1..) = u64::try_from(at_ms - now_ms()) {
        thread::sleep(Duration::from_millis(left_ms));
    }
}

/// Numbers that look random and are the same in every run.
pub struct Dice(Rng);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(Rng::new(seed))
    }

    /// One of `range`.
    pub fn roll(&mut self, range: std::ops::Range<i64>) -> i64 {
        range.start + self.0.below(range.end.abs_diff(range.start)) as i64
    }
}

/// A stream of schedules; ends when stopped or dropped.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<usize>>,
}

impl Traffic {
    /// Ends it; says how many schedules were written.
    pub fn stop(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("it is stopped once").join().expect("every record is accepted")
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed there.
            let _ = thread.join();
        }
    }
}

struct Writer {
    client: Client,
    schedules: String,
    destination: String,
    name: String,
    stop: Arc<AtomicBool>,
}

impl Writer {
    const TICK_MS: i64 = 50;
    const NEW_PER_TICK: usize = 20;

    fn run(&self) -> usize {
        let mut dice = Dice::new(7);
        let mut due_ms: Vec<i64> = Vec::new();
        let mut undecided = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let now = now_ms();
            let mut records = Vec::new();
            for _ in 0..Self::NEW_PER_TICK {
                due_ms.push(now + dice.roll(100..1_500));
                records.push(self.schedule(due_ms.len() - 1, 1, due_ms[due_ms.len() - 1]));
            }
            // One in six is replaced or cancelled about when it is due, so every fault meets races, too.
            for (n, due) in due_ms.iter().enumerate().skip(undecided) {
                // Once: ticks are no less apart than this is wide.
                if n % 6 == 0 && (-Self::TICK_MS / 2..Self::TICK_MS / 2).contains(&(*due - now)) {
                    records.push(match n % 12 {
                        0 => self.schedule(n, 2, now + dice.roll(200..1_000)),
                        _ => NewRecord::to(&self.schedules).key(self.key(n)),
                    });
                }
            }
            undecided = due_ms.len().saturating_sub(Self::NEW_PER_TICK * 40);
            self.client.produce(&records);
            sleep_until(now + Self::TICK_MS);
        }
        due_ms.len()
    }

    fn schedule(&self, n: usize, version: usize, due_ms: i64) -> NewRecord {
        let key = self.key(n);
        NewRecord::to(&self.schedules).key(&key).value(schedule(&self.destination, &key, version, due_ms))
    }

    fn key(&self, n: usize) -> String {
        format!("{}-{n}", self.name)
    }
}

/// What the judge is to know of a record of the schedule topic; nothing of one without a key.
fn record(seen: &Seen) -> Option<Record> {
    Some(judged::record(&seen.place(), seen.key.as_deref()?, write(seen)))
}

fn write(seen: &Seen) -> Write {
    let Some(value) = &seen.value else { return judged::null_value(seen) };
    let decode = || -> Option<Write> {
        let schedule: Value = serde_json::from_slice(value).ok()?;
        let payload = BASE64.decode(schedule["value"].as_str()?).ok()?;
        Some(Write::Schedule {
            due_ms: schedule["time"].as_i64()?,
            destination: schedule["topic"].as_str()?.to_owned(),
            payload_id: payload_id(Some(&payload)),
        })
    };
    decode().unwrap_or(Write::Invalid)
}
