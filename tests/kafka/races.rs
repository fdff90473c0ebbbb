//! Storms: thousands of updates and cancels that meet the firing of what they change.
//!
//! Each storm prints a line of figures: `./test --test kafka -- --nocapture races` shows them.

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::Duration;

use crate::scene::{Dice, Scene, payload, sleep_until, write_at};
use crate::support::at_least_once::{Version, versions};
use crate::support::client::{Foreign, NewRecord, Seen, unique};
use crate::support::history::Write;
use crate::support::kms::{Kms, Settings};
use crate::support::{PATIENCE, now_ms, poll_until};

const KEYS: usize = 3_000;
/// How many of them fall due a second.
const RATE: usize = 500;
/// Each is changed that much before or after its first version is due, at most.
const AIM_MS: i64 = 30;
/// Of so many transactions of others, one is aborted.
const ABORTED_ONE_IN: usize = 4;

#[test]
fn an_update_at_the_firing_instant_wins_or_comes_after() {
    let together = Storm { together: 100, ..Storm::new("race-update", Changes::Updates) };
    together.rage().in_exactly_once();
}

#[test]
fn a_cancel_at_the_firing_instant_wins_or_comes_after() {
    Storm::new("race-cancel", Changes::Cancels).rage().in_exactly_once();
}

#[test]
fn a_change_at_the_firing_instant_of_small_batches_wins_or_comes_after() {
    let small = Storm { max_count: Some(5), ..Storm::new("race-small", Changes::Either) };
    small.rage().in_exactly_once();
}

#[test]
fn a_transaction_around_the_firing_instant_wins_or_comes_after() {
    let foreign = Storm { in_transactions: true, ..Storm::new("race-transaction", Changes::Either) };
    foreign.rage().in_exactly_once();
}

#[test]
fn a_transaction_around_the_firing_instant_of_small_batches_wins_or_comes_after() {
    let storm = Storm::new("race-transaction-small", Changes::Either);
    Storm { in_transactions: true, max_count: Some(5), ..storm }.rage().in_exactly_once();
}

#[test]
fn at_least_once_an_update_at_the_firing_instant_is_written_again() {
    let storm = Storm::new("race-plain-update", Changes::Updates);
    Storm { delivery: "at-least-once", ..storm }.rage().in_at_least_once();
}

#[test]
fn at_least_once_a_change_at_the_firing_instant_of_small_batches_is_not_lost() {
    let storm = Storm::new("race-plain-small", Changes::Either);
    Storm { delivery: "at-least-once", max_count: Some(5), ..storm }.rage().in_at_least_once();
}

/// What a storm is made of.
#[derive(Clone, Copy)]
struct Storm {
    name: &'static str,
    changes: Changes,
    /// By producers of transactions that are open around the firing instant.
    in_transactions: bool,
    /// Schedules due at the same instant; then the firing is a batch, and takes a while.
    together: usize,
    /// The largest batch; `None`: the default, which is thousands.
    max_count: Option<usize>,
    delivery: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Changes {
    Updates,
    Cancels,
    Either,
}

/// What became of a schedule's first version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Update,
    Cancel,
    /// Its transaction was aborted.
    None,
}

impl Storm {
    fn new(name: &'static str, changes: Changes) -> Self {
        Self {
            name,
            changes,
            in_transactions: false,
            together: 25,
            max_count: None,
            delivery: "exactly-once",
        }
    }

    /// The change that is written to the `n`-th schedule.
    fn written(self, n: usize) -> Change {
        match self.changes {
            Changes::Updates => Change::Update,
            Changes::Either if n.is_multiple_of(2) => Change::Update,
            Changes::Cancels | Changes::Either => Change::Cancel,
        }
    }

    /// The change that lasts.
    fn change(self, n: usize) -> Change {
        let aborted = self.in_transactions && is_aborted(n / self.together);
        if aborted { Change::None } else { self.written(n) }
    }

    /// Lets all schedules fall due, and changes each about then.
    fn rage(self) -> Raged {
        let scene = Scene::new(self.name, 2);
        let mut settings = scene.settings().delivery(self.delivery);
        if let Some(max_count) = self.max_count {
            settings = settings.env("KMS_BATCH__MAX_COUNT", &max_count.to_string());
        }
        let kms = Kms::start_ready(&settings);
        let start_ms = now_ms() + 1_500;
        let raged = Raged { storm: self, scene, settings, kms, start_ms };
        let first: Vec<_> = (0..KEYS).map(|n| raged.scene.schedule(&key(n), 1, raged.due_ms(n))).collect();
        raged.scene.client.produce(&first);
        if self.in_transactions {
            raged.write_in_transactions();
        } else {
            raged.write_plainly();
        }
        raged
    }
}

fn is_aborted(transaction: usize) -> bool {
    transaction % ABORTED_ONE_IN == ABORTED_ONE_IN - 1
}

/// A storm that is over but for its aftermath: the updates are not due yet.
struct Raged {
    storm: Storm,
    scene: Scene,
    settings: Settings,
    kms: Kms,
    start_ms: i64,
}

impl Raged {
    /// When the first version of the `n`-th schedule is due.
    fn due_ms(&self, n: usize) -> i64 {
        let Storm { together, .. } = self.storm;
        self.start_ms + (n / together * together * 1_000 / RATE) as i64
    }

    /// When all updates are: late enough that the log can be compacted before.
    fn second_due_ms(&self) -> i64 {
        self.due_ms(KEYS) + 6_000
    }

    fn record(&self, n: usize) -> NewRecord {
        match self.storm.written(n) {
            Change::Update => self.scene.schedule(&key(n), 2, self.second_due_ms()),
            Change::Cancel | Change::None => self.scene.cancel(&key(n)),
        }
    }

    fn write_plainly(&self) {
        let mut dice = Dice::new(1);
        let changes = (0..KEYS).map(|n| (self.due_ms(n) + dice.roll(-AIM_MS..AIM_MS), self.record(n)));
        write_at(&self.scene.client, changes.collect());
    }

    /// One transaction for all that is due at one instant. Two producers take turns, so that the transactions overlap.
    fn write_in_transactions(&self) {
        let timeout = Duration::from_secs(30);
        let foreign = [(); 2].map(|()| self.scene.client.foreign(&unique("foreign"), timeout));
        thread::scope(|scope| {
            for (turn, foreign) in foreign.iter().enumerate() {
                scope.spawn(move || {
                    let mut dice = Dice::new(turn as u64);
                    for transaction in (turn..KEYS / self.storm.together).step_by(2) {
                        self.write_transaction(transaction, foreign, &mut dice);
                    }
                });
            }
        });
    }

    fn write_transaction(&self, transaction: usize, foreign: &Foreign, dice: &mut Dice) {
        let keys = transaction * self.storm.together..(transaction + 1) * self.storm.together;
        let due_ms = self.due_ms(keys.start);
        let changes: Vec<_> = keys.map(|n| self.record(n)).collect();
        sleep_until(due_ms + dice.roll(-AIM_MS..AIM_MS / 3));
        foreign.begin();
        foreign.produce(&changes).unwrap();
        sleep_until(due_ms + dice.roll(-AIM_MS / 3..AIM_MS));
        if is_aborted(transaction) { foreign.abort() } else { foreign.commit() }.unwrap();
    }

    /// What the log says decides: an update is lost in no case, and a first version fires or does not.
    fn in_exactly_once(mut self) {
        self.scene.await_settled(self.due_ms(KEYS));
        let at_first = self.arrived();
        self.come_back_compacted();
        self.scene.assert_everything_fired_once(&self.settings);

        let arrived = self.arrived();
        let (mut in_time, mut late) = (0, 0);
        for n in 0..KEYS {
            let (first, change) = (arrived.of(n, 1), self.storm.change(n));
            assert_eq!(arrived.of(n, 2), usize::from(change == Change::Update), "the update of {}", key(n));
            assert_eq!(first, at_first.of(n, 1), "the first version of {} at the restart", key(n));
            match change {
                Change::None => assert_eq!(first, 1, "{} was never changed", key(n)),
                _ if first == 0 => in_time += 1,
                _ => late += 1,
            }
        }
        self.report(in_time, &format!("{late} too late, lost 0, stale 0"));
        assert!(in_time > 0 && late > 0, "some changes should be in time and some not: {in_time}, {late}");
    }

    /// An update is lost in no case, and nothing comes twice. A first version may fire although it was changed.
    fn in_at_least_once(mut self) {
        // When these have passed, all that was due before is acknowledged in the log.
        self.scene.pass_sentinels();
        // The newest record of each key is its change again, original or repeated: nothing is left to compaction.
        let written = poll_until(PATIENCE, || {
            let newest = self.newest_values();
            (0..KEYS).all(|n| self.is_change(n, newest[&key(n)].as_deref())).then_some(())
        });
        assert!(
            written.is_some(),
            "a change was overwritten by the tombstone of its predecessor and not written again"
        );
        assert!(now_ms() < self.second_due_ms(), "the updates fell due before the log could be looked at");
        self.come_back_compacted();

        // Nothing crashed, so the windows in which this mode doubles were not entered.
        self.scene.assert_nothing_lost_nor_doubled(&self.settings);

        let (history, fired) = (self.scene.history(i64::MAX), self.scene.fired());
        let came: HashSet<_> =
            history.messages.iter().map(|message| (&message.key, message.payload_id)).collect();
        let versions = versions(&history, &fired);
        let overtaken_by = |is_cancel: bool| {
            let came =
                versions.iter().filter(|version| came.contains(&(&version.record.key, version.payload_id)));
            came.filter_map(Version::change)
                .filter(|change| (change.write == Write::Delete) == is_cancel)
                .count()
        };
        let (by_updates, by_cancels) = (overtaken_by(false), overtaken_by(true));
        let arrived = self.arrived();
        for n in 0..KEYS {
            let update = usize::from(self.storm.change(n) == Change::Update);
            assert_eq!(arrived.of(n, 2), update, "the update of {}", key(n));
        }
        let first = (0..KEYS).filter(|n| arrived.of(*n, 1) > 0).count();
        let windows = by_updates + by_cancels;
        let repeated =
            self.scene.committed().iter().filter(|seen| seen.header("kms-repeats").is_some()).count();
        self.report(
            KEYS - first,
            &format!(
                "{} too late, {by_updates} replaced and {by_cancels} cancelled before their tombstone and delivered all the \
                 same, {repeated} updates written again, lost 0, doubled 0",
                first - windows,
            ),
        );
        assert!((1..KEYS).contains(&first), "some changes should be in time and some not, but {first} fired");
    }

    /// Stops the scheduler, has the log compacted, and waits until the updates are due.
    fn come_back_compacted(&mut self) {
        assert_eq!(self.kms.sigterm_and_wait().code(), Some(0));
        self.scene.compact();
        sleep_until(self.second_due_ms());
    }

    /// How often each payload has arrived.
    fn arrived(&self) -> Arrived {
        let mut counts = HashMap::new();
        for seen in self.scene.arrived() {
            *counts.entry(seen.value_text()).or_default() += 1;
        }
        Arrived(counts)
    }

    /// The value of each key's newest record.
    fn newest_values(&self) -> HashMap<String, Option<Vec<u8>>> {
        self.scene.committed().into_iter().map(|seen| (seen.key_text(), seen.value)).collect()
    }

    fn is_change(&self, n: usize, value: Option<&[u8]>) -> bool {
        match self.storm.written(n) {
            Change::Update => {
                let due = self.second_due_ms().to_string();
                value.is_some_and(|value| String::from_utf8_lossy(value).contains(&due))
            }
            Change::Cancel | Change::None => value.is_none(),
        }
    }

    fn report(&self, in_time: usize, rest: &str) {
        let Storm { name, changes, in_transactions, together, max_count, delivery } = self.storm;
        let aborted = (0..KEYS).filter(|n| self.storm.change(*n) == Change::None).count();
        let changes = match changes {
            Changes::Updates => "updates",
            Changes::Cancels => "cancels",
            Changes::Either => "updates and cancels",
        };
        let written = if in_transactions { "in transactions" } else { "written plainly" };
        let batches = max_count.map_or("large batches".to_owned(), |count| format!("batches of {count}"));
        println!(
            "{name}, {delivery}: {KEYS} {changes} {written}, {together} due at once, {batches}: {} within {AIM_MS} ms of \
             the due time, {aborted} aborted, {in_time} in time, {rest}",
            self.well_aimed(),
        );
    }

    /// How many committed changes were written within [`AIM_MS`] of the due time.
    fn well_aimed(&self) -> usize {
        let due_ms: HashMap<String, (usize, i64)> =
            (0..KEYS).map(|n| (key(n), (n, self.due_ms(n)))).collect();
        let mut seen_before = HashSet::new();
        let is_well_aimed = |seen: &Seen| {
            let Some((n, due_ms)) = due_ms.get(&seen.key_text()) else { return false };
            // Tombstones and repetitions have headers.
            let is_change = seen.headers.is_empty() && self.is_change(*n, seen.value.as_deref());
            is_change && seen_before.insert(*n) && (seen.timestamp_ms - due_ms).abs() <= AIM_MS
        };
        self.scene.committed().into_iter().filter(is_well_aimed).count()
    }
}

/// How often each payload arrived.
struct Arrived(HashMap<String, usize>);

impl Arrived {
    /// The `version`-th version of the `n`-th schedule.
    fn of(&self, n: usize, version: usize) -> usize {
        self.0.get(&payload(&key(n), version)).copied().unwrap_or_default()
    }
}

fn key(n: usize) -> String {
    format!("key-{n}")
}
