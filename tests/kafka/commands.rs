//! The command lane of a shard, in this process: every answer is held against the log and the destination.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kafka_message_scheduler::config::{Settings, Sources};
use kafka_message_scheduler::kafka::clock::SystemClock;
use kafka_message_scheduler::kafka::observer::{Observer, TopicIds};
use kafka_message_scheduler::kafka::{Clock as _, client};
use kafka_message_scheduler::schedule::Format;
use kafka_message_scheduler::scheduler::command::{Action, Answer, Command};
use kafka_message_scheduler::scheduler::settings::{ShardSettings, TopicFacts};
use kafka_message_scheduler::scheduler::status::Status;
use kafka_message_scheduler::scheduler::supervisor::{Blueprint, Lane, Supervisor};
use tokio::sync::oneshot::Receiver;

use crate::scene::{Dice, Scene, payload, schedule, sleep_until};
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
    let end = scene.client.watermarks(&scene.schedules, 0);
    let refused = shard.ask("garbage", Action::Put { value: b"{\"time\":".to_vec() });
    assert!(matches!(refused, Answer::Refused(_)), "{refused:?}");
    let late = shard.submit("late", put(1), 0).blocking_recv().unwrap();
    assert_eq!(late, Answer::Expired);
    assert_eq!(scene.client.watermarks(&scene.schedules, 0), end, "nothing was written");

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
        let blueprint = Blueprint {
            settings: HashMap::from([(scene.schedules.clone(), Arc::new(of_shards))]),
            producer: client::producer(&settings).unwrap(),
            transactional_id_prefix: settings.transactional_id_prefix.clone(),
            observer: Observer::new(&reader, TopicIds::Known).unwrap(),
            status: Arc::clone(&status),
        };
        let supervisor = Supervisor::start(&client::consumer(&settings).unwrap(), blueprint).unwrap();
        let lane = poll_until(PATIENCE, || {
            supervisor.poll();
            supervisor.lane(&scene.schedules, 0)
        });
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                while !stop.load(Ordering::Relaxed) {
                    supervisor.poll();
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
        assert!(self.lane.submit(command), "the shard has ended");
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
