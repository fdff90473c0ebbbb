//! Wall clocks that are set while schedules fall due.
//!
//! What *early* means here: a scheduler goes by the clock of its own machine, so that clock is the judge, not the
//! broker's, by which messages are stamped. A message was early if that clock did not show its due time when it was
//! sent. Nobody outside knows the moment, only that it was not long before the message arrived ([`IN_HAND`]). So a
//! message is called early if the clock showed its due time at no moment in between. That is more lenient than the clock
//! at its arrival alone only just after a step back, and rightly so: what was sent just before the step was due.
//!
//! The clock is the scheduler's alone (`support::fake_clock`). Mostly it goes from an hour behind to the truth and back,
//! as a broker takes no records that are stamped far ahead of its own time.

use std::time::{Duration, Instant};

use crate::rebalances::await_shares;
use crate::scene::{Dice, Scene, sleep_until};
use crate::stage::await_metric;
use crate::support::client::unique;
use crate::support::fake_clock::FakeClock;
use crate::support::history::Verdict;
use crate::support::kms::{Kms, Settings};
use crate::support::{PATIENCE, now_ms, poll_until};

const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;
/// From the last look at the clock until the broker has the message, at most.
const IN_HAND: Duration = Duration::from_millis(500);

#[test]
fn a_step_forward_fires_what_it_makes_due_at_once_and_once() {
    let test = Test::new("clock-forward", 2, -HOUR_MS);
    let mut kms = Kms::start_ready(&test.settings);
    let now = test.clock.now_ms();
    test.write("now", 20, |n| now + n * 100);
    test.write("within", 300, |n| now + MINUTE_MS + n * 11_000);
    test.write("beyond", 20, |n| now + HOUR_MS + 10 * MINUTE_MS + n);
    test.await_arrived("now", 20);
    test.pass_sentinels();
    assert_eq!(test.arrived("within"), 0);

    let began = Instant::now();
    test.clock.step(HOUR_MS);
    test.await_arrived("within", 300);
    println!("300 schedules arrived {:?} after a step forward by an hour", began.elapsed());
    kms.await_line("the clock was set forward by 3600.0 s", PATIENCE);
    test.pass_sentinels();
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    assert_eq!(test.finish(), 320);
    assert_eq!(test.arrived("beyond"), 0);
}

/// Nothing can be fired while another producer's transaction is open on the partition.
#[test]
fn a_step_back_makes_what_was_ready_wait() {
    step_back_while_held_up("2s", |test, kms, _| {
        kms.await_line("waiting for another producer's open transaction", PATIENCE);
        assert_eq!(test.arrived("ready"), 0);
    });
}

/// A batch that is taken in hand waits for that transaction, too, before it is decided: for half of its own time-out.
#[test]
fn a_step_back_makes_what_was_taken_in_hand_wait() {
    step_back_while_held_up("30s", |test, _, end| {
        let in_hand = || (test.end_of_log() > end).then_some(());
        assert!(poll_until(PATIENCE, in_hand).is_some(), "no tombstone was appended");
    });
}

/// Sets the clock forward, so that schedules fall due, and back when `until_held_up` returns, which is told where the log
/// ended before.
fn step_back_while_held_up(transaction_timeout: &str, until_held_up: impl Fn(&Test, &Kms, i64)) {
    let test = Test::new("clock-back", 1, -2 * HOUR_MS);
    let mut kms =
        Kms::start_ready(&test.settings.clone().env("KMS_TRANSACTION__TIMEOUT", transaction_timeout));
    let now = test.clock.now_ms();
    test.write("before", 50, |_| now);
    test.write("ready", 100, |n| now + 30 * MINUTE_MS + n);
    test.await_arrived("before", 50);
    let foreign = test.scene.client.foreign(&unique("foreign"), Duration::from_mins(1));
    foreign.begin();
    let places = foreign.produce(&[test.scene.cancel("foreign").partition(0)]).unwrap();
    test.clock.step(HOUR_MS);
    kms.await_line("the clock was set forward by 3600.0 s", PATIENCE);
    until_held_up(&test, &kms, places[0].offset + 1);

    test.clock.step(-HOUR_MS);
    kms.await_line("the clock was set back by 3600.0 s", PATIENCE);
    let now = test.clock.now_ms();
    test.write("after", 50, |n| now + n * 40);
    foreign.abort().unwrap();
    test.await_arrived("after", 50);
    test.pass_sentinels();
    assert_eq!(test.arrived("ready"), 0, "by the clock as it is now they are not due");
    test.clock.set_off_by(0);
    test.await_arrived("ready", 100);
    test.pass_sentinels();
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    assert_eq!(test.finish(), 200);
}

#[test]
fn small_steps_back_and_forth_double_and_hasten_nothing() {
    const COUNT: usize = 800;
    let test = Test::new("clock-steps", 2, 0);
    let mut kms = Kms::start_ready(&test.settings);
    let start_ms = now_ms() + 500;
    let end_ms = start_ms + 4_000;
    test.write("steps", COUNT, |n| start_ms + n * 5);
    let mut dice = Dice::new(4);
    let mut steps = 0;
    while now_ms() < end_ms {
        // Towards the truth if it is far off, else either way.
        let step_ms = dice.roll(50..501);
        let back = match test.clock.offset_ms() {
            300.. => true,
            ..=-300 => false,
            _ => dice.roll(0..2) == 0,
        };
        test.clock.step(if back { -step_ms } else { step_ms });
        steps += 1;
        sleep_until(now_ms() + dice.roll(20..120));
    }
    test.clock.set_off_by(0);
    test.await_arrived("steps", COUNT);
    println!("{steps} steps while {COUNT} schedules fell due");
    test.pass_sentinels();
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    assert_eq!(test.finish(), COUNT);
}

/// A suspended machine finds, when it goes on, that its wall clock is far ahead and its monotonic clock is not.
#[test]
fn a_machine_that_was_suspended_fires_what_fell_due_meanwhile_once() {
    let test = Test::new("clock-suspended", 2, -HOUR_MS);
    let mut kms = Kms::start_ready(&test.settings);
    let now = test.clock.now_ms();
    test.write("now", 20, |_| now);
    test.write("soon", 100, |n| now + 5_000 + n);
    test.write("meanwhile", 200, |n| now + MINUTE_MS + n * 16_000);
    test.await_arrived("now", 20);
    kms.sigstop();
    // Longer than the group waits for it.
    sleep_until(now_ms() + 3_000);
    test.clock.step(HOUR_MS);
    kms.sigcont();
    test.await_arrived("soon", 100);
    test.await_arrived("meanwhile", 200);
    kms.wait_ready();
    test.pass_sentinels();
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    assert_eq!(test.finish(), 320);
}

/// librdkafka waits for times of the wall clock; left alone, its threads would stand still for the hour that the clock
/// was set back by, and with them the heartbeats of the group.
#[test]
fn a_step_back_takes_nobody_out_of_the_group() {
    const PARTITIONS: i32 = 4;
    let test = Test::new("clock-group", PARTITIONS, 0);
    let mut first = Kms::start_ready(&test.settings);
    test.clock.step(-HOUR_MS);
    // Who joins gets a share at once if the others are heard of, and everything once they are not.
    let mut second = Kms::start(&test.settings);
    await_shares(&[&first, &second], PARTITIONS);
    let taken = first.metric("kms_fences_total", &[]);
    assert_eq!(
        taken,
        Some(f64::from(PARTITIONS)),
        "it was out of the group and had to take partitions again"
    );
    let now = test.clock.now_ms();
    test.write("after", 100, |n| now + n * 5);
    test.await_arrived("after", 100);
    test.clock.step(HOUR_MS);
    for kms in [&mut first, &mut second] {
        assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    }
    assert_eq!(test.finish(), 100);
}

/// A broker takes no record that is stamped more than an hour ahead of its own time.
#[test]
fn what_a_clock_far_ahead_set_aside_is_delivered_when_the_clock_is_right() {
    let test = Test::new("clock-ahead", 1, 2 * HOUR_MS);
    let mut kms = Kms::start_ready(&test.settings.clone().env("KMS_RETRY__INITIAL", "5s"));
    let now = now_ms();
    test.write("due", 4, |_| now);
    test.write("in an hour", 2, |n| now + HOUR_MS + n);
    await_metric(&kms, "kms_schedules_set_aside", &[], 6.0);
    assert_eq!(test.arrived("due"), 0);
    test.clock.set_off_by(0);
    test.await_arrived("due", 4);
    test.pass_sentinels();
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    assert_eq!(test.finish(), 4);
}

/// Schedulers with a clock that is set, and what they are given to do.
struct Test {
    scene: Scene,
    clock: FakeClock,
    settings: Settings,
}

impl Test {
    fn new(name: &str, partitions: i32, offset_ms: i64) -> Self {
        let scene = Scene::new(name, partitions);
        let clock = FakeClock::off_by(offset_ms);
        let settings = clock.settings(scene.settings());
        Self { scene, clock, settings }
    }

    /// Writes schedules whose IDs begin with `name`.
    fn write(&self, name: &str, count: usize, due_ms: impl Fn(i64) -> i64) {
        let schedule = |n| self.scene.schedule(&format!("{name}-{n}"), 1, due_ms(n as i64));
        self.scene.client.produce(&(0..count).map(schedule).collect::<Vec<_>>());
    }

    /// How many messages of schedules of that name have arrived.
    fn arrived(&self, name: &str) -> usize {
        let is_of = |key: String| key.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
        self.scene.arrived().iter().filter(|seen| is_of(seen.key_text())).count()
    }

    #[track_caller]
    fn await_arrived(&self, name: &str, count: usize) {
        let enough = poll_until(PATIENCE, || (self.arrived(name) >= count).then_some(()));
        assert!(enough.is_some(), "{} of {count} {name} arrived in {PATIENCE:?}", self.arrived(name));
    }

    /// When these have arrived, so has everything that is due by the clock as it is now.
    #[track_caller]
    fn pass_sentinels(&self) {
        self.scene.pass_sentinels_due(self.clock.now_ms());
    }

    fn end_of_log(&self) -> i64 {
        self.scene.client.watermarks(&self.scene.schedules, 0).high
    }

    /// Lets an instance with the true time fire what is left or would fire again, and judges. Returns how many messages
    /// were right, sentinels left out.
    #[track_caller]
    fn finish(&self) -> usize {
        assert_eq!(self.clock.offset_ms(), 0, "the last instance has the same time");
        let mut last = Kms::start_ready(&self.scene.settings());
        self.pass_sentinels();
        assert_eq!(last.sigterm_and_wait().code(), Some(0));
        self.scene.client.await_stable(&[&self.scene.schedules, &self.scene.destination], PATIENCE);
        let verdict = self.verdict();
        verdict.assert_clean();
        let sentinels = self.arrived("sentinel");
        println!("{}: {} messages right", self.scene.schedules, verdict.right - sentinels);
        verdict.right - sentinels
    }

    fn verdict(&self) -> Verdict {
        let mut history = self.scene.history(self.clock.now_ms());
        for message in &mut history.messages {
            message.seen_at_ms = self.clock.latest_shown(message.seen_at_ms, IN_HAND);
        }
        history.judge()
    }
}
