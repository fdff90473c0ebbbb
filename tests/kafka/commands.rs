//! The command lane of a shard, in this process: every answer is held against the log and the destination.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kafka_message_scheduler::config::{Settings, Sources};
use kafka_message_scheduler::kafka::clock::SystemClock;
use kafka_message_scheduler::kafka::observer::{Observer, TopicIds};
use kafka_message_scheduler::kafka::{Clock as _, client};
use kafka_message_scheduler::schedule::Format;
use kafka_message_scheduler::scheduler::command::{Action, Answer, Command};
use kafka_message_scheduler::scheduler::desk::{Desk, Lane};
use kafka_message_scheduler::scheduler::settings::{ShardSettings, TopicFacts};
use kafka_message_scheduler::scheduler::status::Status;
use kafka_message_scheduler::scheduler::supervisor::{Blueprint, Supervisor};
use tokio::sync::oneshot::Receiver;

use crate::scene::{Dice, Scene, payload, schedule, sleep_until, write_at};
use crate::support::client::{Isolation, Seen, unique};
use crate::support::{PATIENCE, now_ms, poll_until};

#[test]
fn a_cancel_is_done_or_says_that_nothing_is_pending() {
    let scene = Scene::new("command-cancel", 1);
    let shard = InProcess::start(&scene, &[]);
    let due_ms = now_ms() + 2_000;
    scene.client.produce(&[scene.schedule("pending", 1, due_ms)]);
    shard.await_found("pending");

    assert_eq!(shard.ask("unknown", Action::Cancel), Answer::NotPending);
    let Answer::Done { offset } = shard.ask("pending", Action::Cancel) else { panic!("it is pending") };
    assert_eq!(shard.ask("pending", Action::Cancel), Answer::NotPending, "it is cancelled");
    assert_eq!(shard.ask("pending", Action::Get), Answer::NotPending);
    let written = record_at(&scene, offset);
    assert_eq!((written.key_text().as_str(), written.value.as_deref()), ("pending", None));
    assert!(written.headers.is_empty(), "a cancel is no acknowledgement of a firing: {written:?}");

    sleep_until(due_ms);
    scene.pass_sentinels();
    shard.stop();
    assert_eq!(scene.count_of(&payload("pending", 1)), 0);
    scene.assert_everything_fired_once(&scene.settings());
}

#[test]
fn a_put_creates_and_replaces_where_it_says() {
    let scene = Scene::new("command-put", 1);
    let shard = InProcess::start(&scene, &[]);
    let due_ms = now_ms() + 1_500;
    let put =
        |version| Action::Put { value: schedule(&scene.destination, "put", version, due_ms).into_bytes() };
    for version in 1..=2 {
        let Answer::Done { offset } = shard.ask("put", put(version)) else { panic!("it is a schedule") };
        let written = record_at(&scene, offset);
        assert_eq!(written.key_text(), "put");
        assert_eq!(written.value, Some(schedule(&scene.destination, "put", version, due_ms).into_bytes()));
        let Answer::Found(found) = shard.ask("put", Action::Get) else { panic!("it is pending") };
        assert_eq!((found.offset, found.due_ms, found.topic), (offset, due_ms, scene.destination.clone()));
    }
    let end = scene.client.watermarks(&scene.schedules, 0).high;
    let refused = shard.ask("garbage", Action::Put { value: b"{\"time\":".to_vec() });
    assert!(matches!(refused, Answer::Refused(_)), "{refused:?}");
    let late = shard.submit("late", put(1), 0).blocking_recv().unwrap();
    assert_eq!(late, Answer::Expired);
    assert_eq!(scene.client.watermarks(&scene.schedules, 0).high, end, "nothing was written");

    scene.await_payload(&payload("put", 2));
    shard.stop();
    scene.assert_everything_fired_once(&scene.settings());
    assert_eq!(scene.count_of(&payload("put", 1)), 0, "it was replaced");
}

#[test]
fn the_answer_to_a_cancel_at_the_firing_instant_is_true() {
    const KEYS: usize = 400;
    const TOGETHER: usize = 20;
    let scene = Scene::new("command-race", 1);
    let shard = InProcess::start(&scene, &[]);
    let key = |n: usize| format!("key-{n}");
    let start_ms = now_ms() + 1_000;
    let due_ms = |n: usize| start_ms + 100 * (n / TOGETHER) as i64;
    scene.client.produce(&(0..KEYS).map(|n| scene.schedule(&key(n), 1, due_ms(n))).collect::<Vec<_>>());
    let mut dice = Dice::new(9);
    let mut asked: Vec<(i64, usize)> = (0..KEYS).map(|n| (due_ms(n) + dice.roll(-40..20), n)).collect();
    asked.sort_unstable();
    let answers: Vec<(usize, Receiver<Answer>)> = asked
        .into_iter()
        .map(|(at_ms, n)| {
            sleep_until(at_ms);
            (n, shard.submit(&key(n), Action::Cancel, u64::MAX))
        })
        .collect();
    let answers: HashMap<usize, Answer> =
        answers.into_iter().map(|(n, answer)| (n, answer.blocking_recv().unwrap())).collect();
    shard.stop();
    scene.assert_everything_fired_once(&scene.settings());

    let mut done = 0;
    for (n, answer) in answers {
        let delivered = scene.count_of(&payload(&key(n), 1));
        match answer {
            Answer::Done { .. } => {
                done += 1;
                assert_eq!(delivered, 0, "{} was cancelled, it says", key(n));
            }
            Answer::NotPending => assert_eq!(delivered, 1, "{} was not pending, so it had fired", key(n)),
            other => panic!("{}: {other:?}", key(n)),
        }
    }
    assert!((1..KEYS).contains(&done), "{done} of {KEYS} cancels were in time; some should be and some not");
}

/// Each schedule meets a cancel or a put by the lane when it is due, and two in three an update of somebody else, too.
#[test]
fn every_answer_is_true_in_a_storm_of_commands_and_updates() {
    const KEYS: usize = 900;
    const TOGETHER: usize = 10;
    let scene = Scene::new("command-storm", 1);
    let shard = InProcess::start(&scene, &[]);
    let key = |n: usize| format!("key-{n}");
    let start_ms = now_ms() + 1_000;
    let due_ms = |n: usize| start_ms + 160 * (n / TOGETHER) as i64;
    let second_due_ms = due_ms(KEYS) + 6_000;
    let put = |n| schedule(&scene.destination, &key(n), 3, second_due_ms).into_bytes();
    let is_put = |n: usize| n.is_multiple_of(2);
    scene.client.produce(&(0..KEYS).map(|n| scene.schedule(&key(n), 1, due_ms(n))).collect::<Vec<_>>());

    let mut dice = Dice::new(11);
    let updates: Vec<_> = (0..KEYS)
        .filter(|n| !n.is_multiple_of(3))
        .map(|n| (due_ms(n) + dice.roll(-30..30), scene.schedule(&key(n), 2, second_due_ms)))
        .collect();
    let of_others = updates.len();
    let mut asked: Vec<(i64, usize)> = (0..KEYS).map(|n| (due_ms(n) + dice.roll(-30..30), n)).collect();
    asked.sort_unstable();
    let log_end = || scene.client.watermarks(&scene.schedules, 0).high;
    let answers: Vec<Answered> = thread::scope(|scope| {
        scope.spawn(|| write_at(&scene.client, updates));
        let (questions, unanswered) = mpsc::channel::<(usize, i64, Receiver<Answer>)>();
        let answers = scope.spawn(|| {
            let unanswered = unanswered.into_iter();
            let answered = unanswered.map(|(n, asked, answer)| {
                let answer = answer.blocking_recv().expect("every command is answered");
                Answered { n, answer, between: asked..=log_end() }
            });
            answered.collect()
        });
        for (at_ms, n) in asked {
            sleep_until(at_ms);
            let end = log_end();
            let action = if is_put(n) { Action::Put { value: put(n) } } else { Action::Cancel };
            questions.send((n, end, shard.submit(&key(n), action, u64::MAX))).unwrap();
        }
        drop(questions);
        answers.join().unwrap()
    });
    scene.await_settled(due_ms(KEYS));
    shard.stop();
    scene.compact();
    sleep_until(second_due_ms);
    scene.assert_everything_fired_once(&scene.settings());

    let mut logs: HashMap<String, Vec<Seen>> = HashMap::new();
    for seen in scene.committed() {
        logs.entry(seen.key_text()).or_default().push(seen);
    }
    for answered in &answers {
        let n = answered.n;
        answered.assert_true(&logs[&key(n)], is_put(n).then(|| put(n)).as_deref());
    }
    let count = |of_puts: bool, is_done: bool| {
        let is_counted = |answered: &&Answered| {
            is_put(answered.n) == of_puts && matches!(answered.answer, Answer::Done { .. }) == is_done
        };
        answers.iter().filter(is_counted).count()
    };
    let [puts, cancelled, nothing_to_cancel] = [count(true, true), count(false, true), count(false, false)];
    let arrived: HashSet<String> = scene.arrived().iter().map(Seen::value_text).collect();
    let fired = (0..KEYS).filter(|n| arrived.contains(&payload(&key(*n), 1))).count();
    println!(
        "command-storm: {KEYS} schedules, {of_others} updates of others, {puts} puts, {cancelled} cancels done, \
         {nothing_to_cancel} with nothing pending; {fired} first versions had fired, every answer true, lost 0, stale 0"
    );
    assert_eq!((puts, cancelled + nothing_to_cancel), (KEYS / 2, KEYS / 2));
    assert!(cancelled > 0 && nothing_to_cancel > 0, "some cancels should be in time and some not");
}

#[test]
fn a_command_behind_an_open_transaction_waits_for_it_and_a_stop_does_not() {
    let scene = Scene::new("command-blocked", 1);
    let shard = InProcess::start(&scene, &[("KMS_TRANSACTION__TIMEOUT", "2s")]);
    let foreign = scene.client.foreign(&unique("foreign"), Duration::from_mins(1));
    let due_ms = now_ms() + 60_000;
    scene.client.produce(&[scene.schedule("cancelled", 1, due_ms), scene.schedule("replaced", 1, due_ms)]);
    shard.await_found("replaced");
    foreign.begin();
    foreign.produce(&[scene.cancel("cancelled")]).unwrap();
    let of_cancelled = shard.submit("cancelled", Action::Cancel, u64::MAX);
    let of_replaced = shard.submit("replaced", Action::Cancel, u64::MAX);
    let expired = shard.submit("replaced", Action::Cancel, SystemClock::new().monotonic_ms() + 100);
    // It waits behind both; while it is answered, they cannot be.
    assert_eq!(expired.blocking_recv().unwrap(), Answer::Expired);
    assert!(!of_cancelled.is_terminated() && !of_replaced.is_terminated());
    foreign.commit().unwrap();
    assert_eq!(of_cancelled.blocking_recv().unwrap(), Answer::NotPending, "the transaction had cancelled it");
    assert!(matches!(of_replaced.blocking_recv().unwrap(), Answer::Done { .. }));

    scene.client.produce(&[scene.schedule("kept", 1, now_ms() + 3_000)]);
    shard.await_found("kept");
    foreign.begin();
    foreign.produce(&[scene.schedule("foreign", 1, now_ms())]).unwrap();
    let unanswered = shard.submit("kept", Action::Cancel, u64::MAX);
    let stopping = thread::spawn(move || shard.stop());
    let stopped = poll_until(Duration::from_secs(15), || stopping.is_finished().then_some(()));
    assert!(stopped.is_some(), "a command that cannot be decided keeps the shard from stopping");
    assert!(unanswered.blocking_recv().is_err(), "nobody knows");
    foreign.commit().unwrap();
    scene.assert_everything_fired_once(&scene.settings());
    assert_eq!(scene.count_of(&payload("kept", 1)), 1, "an undecided cancel did nothing");
}

/// What was asked about the `n`-th schedule, the answer, and the ends of the log before the one and after the other.
struct Answered {
    n: usize,
    answer: Answer,
    between: RangeInclusive<i64>,
}

impl Answered {
    /// Holds the answer against the log of its key, whose records of the lane are this put or any cancel.
    fn assert_true(&self, log: &[Seen], put: Option<&[u8]>) {
        let is_of_lane = |seen: &&Seen| seen.headers.is_empty() && seen.value.as_deref() == put;
        let of_lane: Vec<i64> = log.iter().filter(is_of_lane).map(|seen| seen.offset).collect();
        let pending_at = |end: i64| {
            let before = log.iter().filter(|seen| seen.offset < end);
            before.max_by_key(|seen| seen.offset).is_some_and(|seen| seen.value.is_some())
        };
        match self.answer {
            Answer::Done { offset } => {
                assert_eq!(of_lane, [offset], "{log:#?}");
                assert!(self.between.contains(&offset), "{} is not in {:?}", offset, self.between);
                assert!(
                    put.is_some() || pending_at(offset),
                    "there was nothing to cancel at {offset}: {log:#?}"
                );
            }
            Answer::NotPending => {
                assert!(of_lane.is_empty() && put.is_none(), "{log:#?}");
                let ends = log.iter().map(|seen| seen.offset + 1).filter(|end| self.between.contains(end));
                assert!(
                    std::iter::once(*self.between.start()).chain(ends).any(|end| !pending_at(end)),
                    "it was pending all the time from {:?}: {log:#?}",
                    self.between
                );
            }
            ref other => panic!("{other:?}"),
        }
    }
}

/// An instance in this process, with the lane into its only partition.
struct InProcess {
    lane: Lane,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl InProcess {
    fn start(scene: &Scene, environment: &[(&str, &str)]) -> Self {
        let own = [
            ("KAFKA_BROKERS", scene.bootstrap()),
            ("JSON_SCHEDULE_TOPICS", scene.schedules.as_str()),
            ("CONSUMER_GROUP_ID", &unique("in-process")),
        ];
        let environment =
            own.iter().chain(environment).map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let settings = Settings::load(&Sources { environment, ..Sources::default() }).unwrap().settings;
        let settings = Arc::new(settings);
        let of_shards = ShardSettings::new(&settings, Format::Json, None, &Arc::<TopicFacts>::default());
        let reader = client::reader(&settings, client::Isolation::ReadUncommitted).unwrap();
        let status = Arc::new(Status::new());
        let observer = Observer::new(&reader, TopicIds::Known).unwrap();
        let desk = Arc::new(Desk::new(Arc::clone(&observer)));
        let blueprint = Blueprint {
            settings: HashMap::from([(scene.schedules.clone(), Arc::new(of_shards))]),
            producer: client::producer(&settings).unwrap(),
            transactional_id_prefix: settings.transactional_id_prefix.clone(),
            observer,
            status: Arc::clone(&status),
            desk: Arc::clone(&desk),
            state: None,
        };
        let supervisor = Supervisor::start(&client::consumer(&settings, 1).unwrap(), blueprint).unwrap();
        let lane = poll_until(PATIENCE, || {
            supervisor.poll().unwrap();
            desk.lane(&scene.schedules, 0)
        });
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                while !stop.load(Ordering::Relaxed) {
                    supervisor.poll().unwrap();
                }
                supervisor.stop();
            }
        });
        let started = Self { lane: lane.expect("the partition is assigned"), stop, thread: Some(thread) };
        assert!(poll_until(PATIENCE, || status.ready().then_some(())).is_some(), "it goes live");
        started
    }

    fn submit(&self, id: &str, action: Action, deadline_ms: u64) -> Receiver<Answer> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let command = Command { id: id.into(), action, deadline_ms, answer };
        self.lane.submit(command).unwrap();
        answered
    }

    fn ask(&self, id: &str, action: Action) -> Answer {
        self.submit(id, action, u64::MAX).blocking_recv().expect("every command is answered")
    }

    /// Waits until the shard has read the schedule.
    fn await_found(&self, id: &str) {
        let found = || matches!(self.ask(id, Action::Get), Answer::Found(_)).then_some(());
        assert!(poll_until(PATIENCE, found).is_some(), "{id} is not pending");
    }

    fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("it is stopped once").join().unwrap();
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        // After a failure; the thread ends by itself.
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The committed record at this offset.
fn record_at(scene: &Scene, offset: i64) -> Seen {
    let committed = scene.client.read_partition(&scene.schedules, 0, Isolation::ReadCommitted);
    committed.into_iter().find(|seen| seen.offset == offset).expect("a record lies there")
}
