//! Chaos: one trouble after another, at random moments, while schedules fall due and others change them; then the judge.
//!
//! `./test` runs each scenario once. `./chaos --minutes 60` goes on, with new random numbers each time, and says what
//! came of each (see the script for what can be chosen).

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::scene::{Dice, Scene, alone, payload};
use crate::support::broker::Broker;
use crate::support::client::{Isolation, Seen, unique};
use crate::support::kms::{Kms, Settings};
use crate::support::{PATIENCE, now_ms};

const PARTITIONS: i32 = 6;
/// Schedules in a round beside what the traffic writes, and within how many milliseconds they fall due.
const SCHEDULES: usize = 20_000;
const WINDOW_MS: i64 = 12_000;
/// More instances than this do not run at a time.
const INSTANCES: usize = 3;

const STATE_DIR: &str = "KMS_STATE__DIR";

type Trouble = fn(&mut Round<'_>);

/// What can be asked for by name. The last makes all of the others' troubles, in random order.
const SCENARIOS: [(&str, &[Trouble]); 9] = [
    ("kills", &[kill]),
    ("freezes", &[freeze]),
    ("broker-outages", &[stop_broker, kill_broker]),
    ("coming-and-going", &[come_or_go]),
    ("more-partitions", &[add_a_partition, come_or_go]),
    ("compaction", &[compact, kill]),
    ("foreign-transactions", &[foreign_transaction, kill]),
    ("deleted-records", &[delete_what_is_done, freeze]),
    (
        "everything",
        &[
            kill,
            freeze,
            stop_broker,
            kill_broker,
            come_or_go,
            add_a_partition,
            compact,
            foreign_transaction,
            delete_what_is_done,
        ],
    ),
];

#[test]
fn each_scenario_loses_doubles_and_hastens_nothing() {
    let _turn = alone();
    let mut broker = Broker::private();
    let reports = SCENARIOS.map(|(name, _)| run(&mut broker, name, 1));
    println!("{}", Report::HEAD);
    for report in reports {
        println!("{report}");
    }
}

/// For as long as `./chaos` was told to.
#[test]
#[ignore = "takes as long as it is told to; ./chaos asks for it"]
fn for_as_long_as_asked() {
    let number = |name: &str| {
        let value = std::env::var(name).ok()?;
        Some(value.parse::<u64>().unwrap_or_else(|_| panic!("{name}: {value:?} is no number")))
    };
    let minutes = number("KMS_CHAOS_MINUTES").expect("./chaos sets KMS_CHAOS_MINUTES");
    let chosen = std::env::var("KMS_CHAOS_SCENARIOS").unwrap_or_default();
    let chosen: Vec<&str> = match chosen.split_whitespace().collect::<Vec<_>>() {
        none if none.is_empty() => SCENARIOS.iter().map(|(name, _)| *name).collect(),
        some => some,
    };
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let mut broker = Broker::private();
    println!("{}", Report::HEAD);
    for seed in number("KMS_CHAOS_SEED").unwrap_or(1).. {
        for name in &chosen {
            println!("{}", run(&mut broker, name, seed));
        }
        if Instant::now() >= end {
            break;
        }
    }
}

/// What came of a round in which nothing was wrong.
struct Report {
    scenario: &'static str,
    seed: u64,
    troubles: usize,
    right: usize,
    took: Duration,
}

impl Report {
    const HEAD: &'static str =
        "| scenario | seed | troubles | messages, all right | seconds |\n|---|---|---|---|---|";
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { scenario, seed, troubles, right, took } = self;
        write!(f, "| {scenario} | {seed} | {troubles} | {right} | {} |", took.as_secs())
    }
}

/// One scenario from start to judgement.
struct Round<'b> {
    broker: &'b mut Broker,
    scene: Scene,
    settings: Settings,
    /// Where instances keep checkpoints: whoever starts finds what one that is gone has left.
    disks: TempDir,
    instances: Vec<Kms>,
    dice: Dice,
}

fn run(broker: &mut Broker, name: &str, seed: u64) -> Report {
    let started = Instant::now();
    let known = SCENARIOS.iter().find(|(known, _)| *known == name);
    let (name, troubles) = known.unwrap_or_else(|| panic!("there is no scenario {name:?}"));
    let scene = Scene::on(broker.bootstrap(), &format!("chaos-{name}"), PARTITIONS);
    scene.keep_young_records();
    // Small batches, so that there are many transactions to be disturbed.
    let settings = scene
        .settings()
        .env("KMS_BATCH__MAX_COUNT", "200")
        .env("KMS_STATE__CHECKPOINT_INTERVAL", "300ms")
        .env("KMS_STATE__CHECKPOINT_AFTER", "500");
    let disks = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory can be made");
    let mut round = Round { broker, scene, settings, disks, instances: Vec::new(), dice: Dice::new(seed) };
    for _ in 0..2 {
        round.start_instance();
    }
    round.instances.iter_mut().for_each(Kms::wait_ready);

    let start_ms = now_ms() + 1_000;
    let scheduled: Vec<_> = (0..SCHEDULES)
        .map(|n| round.scene.schedule(&format!("wave-{n}"), 1, start_ms + round.dice.roll(0..WINDOW_MS)))
        .collect();
    round.scene.client.produce(&scheduled);
    let traffic = round.scene.traffic();
    let mut made = 0;
    while now_ms() < start_ms + WINDOW_MS {
        round.pause(200..1_500);
        troubles[round.dice.roll(0..troubles.len() as i64) as usize](&mut round);
        round.replace_who_ended();
        made += 1;
    }
    traffic.stop();
    let right = round.judge();
    Report { scenario: name, seed, troubles: made, right, took: started.elapsed() }
}

impl Round<'_> {
    /// Lets everything due fire, loads the log once more, and judges; how many messages were right.
    fn judge(mut self) -> usize {
        if self.instances.is_empty() {
            self.start_instance();
        }
        self.scene.await_settled(i64::MAX);
        for mut kms in self.instances.drain(..) {
            assert_eq!(kms.sigterm_and_wait().code(), Some(0), "an instance does not stop in good order");
        }
        self.scene.compact();
        self.scene.assert_everything_fired_once(&self.settings)
    }

    fn pause(&mut self, range_ms: std::ops::Range<i64>) {
        thread::sleep(Duration::from_millis(self.dice.roll(range_ms) as u64));
    }

    fn start_instance(&mut self) {
        let used: Vec<_> = self.instances.iter().filter_map(|kms| kms.settings().get(STATE_DIR)).collect();
        let disk = (0..=used.len())
            .map(|number| self.disks.path().join(number.to_string()).display().to_string())
            .find(|disk| !used.contains(&disk.as_str()));
        let disk = disk.expect("one more than are used");
        self.instances.push(Kms::start(&self.settings.clone().env(STATE_DIR, &disk)));
    }

    /// Takes one of the instances out, if there is any.
    fn take_one(&mut self) -> Option<Kms> {
        let count = self.instances.len() as i64;
        (count > 0).then(|| self.instances.swap_remove(self.dice.roll(0..count) as usize))
    }

    /// An instance may end by itself when it was frozen or had no broker for long; whoever runs it starts it again.
    fn replace_who_ended(&mut self) {
        for kms in &mut self.instances {
            if kms.wait(Duration::ZERO).is_some() {
                *kms = Kms::start(&kms.settings().clone());
            }
        }
    }
}

fn kill(round: &mut Round<'_>) {
    let Some(mut kms) = round.take_one() else { return round.start_instance() };
    kms.kill9();
    round.pause(0..1_000);
    round.start_instance();
}

/// For longer than a session, or not.
fn freeze(round: &mut Round<'_>) {
    let Some(mut kms) = round.take_one() else { return round.start_instance() };
    kms.sigstop();
    round.pause(300..5_000);
    kms.sigcont();
    round.instances.push(kms);
}

fn stop_broker(round: &mut Round<'_>) {
    round.broker.stop();
    round.pause(0..1_000);
    round.broker.restart();
}

fn kill_broker(round: &mut Round<'_>) {
    round.broker.kill();
    round.pause(0..1_000);
    round.broker.restart();
}

fn come_or_go(round: &mut Round<'_>) {
    let comes = round.instances.len() < INSTANCES && round.dice.roll(0..2) == 0;
    match (!comes).then(|| round.take_one()).flatten() {
        Some(mut kms) => assert_eq!(kms.sigterm_and_wait().code(), Some(0), "it does not stop in good order"),
        None => round.start_instance(),
    }
}

fn add_a_partition(round: &mut Round<'_>) {
    let now = round.scene.client.partitions(&round.scene.schedules);
    if now < 2 * PARTITIONS {
        round.scene.client.add_partitions(&round.scene.schedules, now + 1);
    }
}

fn compact(round: &mut Round<'_>) {
    round.scene.compact_under_traffic();
}

/// Another producer changes schedules about when they fall due, and then commits, aborts, or is never heard of again.
fn foreign_transaction(round: &mut Round<'_>) {
    const CHANGES: usize = 30;
    let foreign = round.scene.client.foreign(&unique("foreign"), Duration::from_secs(3));
    let now = now_ms();
    let changes: Vec<_> = (0..CHANGES)
        .map(|_| {
            let key = format!("wave-{}", round.dice.roll(0..SCHEDULES as i64));
            match round.dice.roll(0..3) {
                0 => round.scene.cancel(&key),
                _ => round.scene.schedule(&key, now as usize, now + round.dice.roll(0..3_000)),
            }
        })
        .collect();
    foreign.begin();
    if foreign.produce(&changes).is_err() {
        return; // no broker
    }
    round.pause(0..300);
    // Whether it succeeds is the log's to say.
    match round.dice.roll(0..4) {
        0 => foreign.leave_open(),
        1 => drop(foreign.abort()),
        _ => drop(foreign.commit()),
    }
}

/// Deletes each partition's records up to the first that still means something.
fn delete_what_is_done(round: &mut Round<'_>) {
    let Scene { client, schedules, .. } = &round.scene;
    client.allow_deleting_records(schedules);
    let there = round.scene.keep();
    for partition in 0..client.partitions(schedules) {
        let stable = client.watermarks(schedules, partition).stable;
        let ours = || there.iter().filter(|seen| seen.partition == partition && seen.offset < stable);
        let last: HashMap<_, i64> = ours().map(|seen| (&seen.key, seen.offset)).collect();
        let matters = |seen: &&Seen| seen.value.is_some() && last[&seen.key] == seen.offset;
        let done = ours().find(matters).or_else(|| ours().next_back()).map_or(0, |seen| seen.offset);
        client.delete_records(schedules, partition, done);
    }
}

/// Who takes over from an instance that is gone, and how soon, with this many schedules pending.
const PENDING: usize = 100_000;

#[test]
fn what_was_pending_is_taken_over() {
    let _turn = alone();
    let scene = Scene::new("takeover", 4);
    let settings = scene.settings();
    let later_ms = now_ms() + 3_600_000;
    let pending: Vec<_> = (0..PENDING).map(|n| scene.schedule(&format!("later-{n}"), 1, later_ms)).collect();
    for part in pending.chunks(10_000) {
        scene.client.produce(part);
    }
    let mut owner = Kms::start_ready(&settings);
    let mut heir = Kms::start(&settings);
    crate::rebalances::await_shares(&[&owner, &heir], 4);
    let started = Instant::now();
    assert_eq!(owner.sigterm_and_wait().code(), Some(0));
    fires_everywhere(&scene, "after-a-stop");
    println!(
        "a graceful stop with {PENDING} pending: fires everywhere {:?} after SIGTERM",
        started.elapsed()
    );

    let mut owner = Kms::start(&settings);
    crate::rebalances::await_shares(&[&owner, &heir], 4);
    let started = Instant::now();
    owner.kill9();
    fires_everywhere(&scene, "after-a-kill");
    println!(
        "kill -9 with {PENDING} pending and a session time-out of 2 s: fires everywhere {:?} after it",
        started.elapsed()
    );
    assert_eq!(heir.sigterm_and_wait().code(), Some(0));
    scene.client.await_stable(&[&scene.schedules, &scene.destination], PATIENCE);
    scene.verdict(now_ms()).assert_clean();
    assert_eq!(scene.client.read_topic(&scene.destination, Isolation::ReadCommitted).len(), 8);
}

/// Waits until a schedule on each partition that is due now has been delivered.
fn fires_everywhere(scene: &Scene, name: &str) {
    let key = |partition: i32| format!("{name}-{partition}");
    let due_ms = now_ms();
    let records: Vec<_> =
        (0..4).map(|partition| scene.schedule(&key(partition), 1, due_ms).partition(partition)).collect();
    scene.client.produce(&records);
    (0..4).for_each(|partition| scene.await_payload(&payload(&key(partition), 1)));
}
