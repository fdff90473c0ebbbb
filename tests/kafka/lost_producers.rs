//! Producers that Kafka accepts no longer: their partition was taken over, the time of their transaction was over, or
//! Kafka has forgotten them. What the mock cluster cannot do; the rest is in `tests/producer_errors/`.

use kafka_message_scheduler::kafka::producer::Mode;
use kafka_message_scheduler::kafka::{Kind, SendError};

use crate::calls::{Call, Calls, Outcome, for_each};
use crate::scene::{Scene, payload};
use crate::support::broker::Broker;
use crate::support::client::{Client, Isolation, unique};
use crate::support::kms::Kms;
use crate::support::{PATIENCE, now_ms, poll_until};

/// A schedule topic and a destination, and the producers of its shard, one owner after the other.
struct Partition {
    client: Client,
    topic: String,
    destination: String,
}

impl Partition {
    fn new() -> Self {
        let client = Client::new(Broker::shared());
        let (topic, destination) = (unique("owned"), unique("owned-messages"));
        client.create_schedule_topic(&topic, 1);
        client.create_destination_topic(&destination, 1);
        Self { client, topic, destination }
    }

    fn owner(&self, timeout: &str) -> Calls {
        Calls::new(Broker::shared(), &self.topic, &self.destination, Mode::Transactional, timeout)
    }

    /// Only these records of the shard's own are ever seen, and a message for each of them.
    fn assert_committed(&self, own_offsets: &[i64]) {
        self.client.await_stable(&[&self.topic, &self.destination], PATIENCE);
        let own = self.client.read_topic(&self.topic, Isolation::ReadCommitted);
        assert_eq!(own.iter().map(|seen| seen.offset).collect::<Vec<_>>(), own_offsets);
        let messages = self.client.read_topic(&self.destination, Isolation::ReadCommitted);
        assert_eq!(messages.len(), own_offsets.len());
    }
}

#[test]
fn whoever_lost_the_partition_is_told_at_the_next_call() {
    for_each([Call::Append, Call::Send, Call::Commit, Call::Abort], |call| {
        let partition = Partition::new();
        let mut old = partition.owner("10s");
        old.up_to(call);
        let mut new = partition.owner("10s");
        new.succeed(Call::Fence);
        assert_eq!(old.make(call), Outcome::Failed(Kind::Fenced), "{call:?}");
        new.whole_transaction();
        partition.assert_committed(&new.own_offsets);
    });
}

/// Kafka answers as if somebody had taken over, and does not say that nobody has.
#[test]
fn whoever_was_too_slow_for_the_time_out_is_told_at_the_next_call() {
    for_each([Call::Send, Call::Commit, Call::Abort], |call| {
        let partition = Partition::new();
        let mut owner = partition.owner("1s");
        owner.up_to(call);
        let marks = partition.client.watermarks(&partition.topic, 0);
        assert!(marks.stable < marks.high, "{call:?}: its transaction is open");
        partition.client.await_stable(&[&partition.topic], PATIENCE);
        assert_eq!(owner.make(call), Outcome::Failed(Kind::Fenced), "{call:?}");
        owner.succeed(Call::Fence);
        owner.whole_transaction();
        partition.assert_committed(&owner.own_offsets[1..]);
    });
}

/// Records are numbered. The number of one that was refused is missing for the broker, whatever was aborted since.
#[test]
fn whoever_had_a_message_refused_needs_a_new_producer() {
    let partition = Partition::new();
    let max_bytes = [("max.message.bytes".to_owned(), "1000".to_owned())].into();
    partition.client.set_configs(&partition.destination, &max_bytes);
    let mut owner = partition.owner("10s");
    owner.up_to(Call::Send);
    let noise: Vec<u8> = (0..5_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    owner.send(&partition.destination, &noise, 1).unwrap();
    let failures = owner.failures();
    assert_eq!(failures, Ok(vec![(1, SendError::TooLarge)]));
    owner.succeed(Call::Abort);

    owner.succeed(Call::Append);
    assert_eq!(owner.make(Call::Send), Outcome::Failed(Kind::Fatal));
    owner.succeed(Call::Fence);
    owner.whole_transaction();
    partition.assert_committed(&owner.own_offsets[2..]);
}

#[test]
fn a_shard_that_stood_still_past_the_time_out_loses_and_doubles_nothing() {
    const KEYS: i64 = 20;
    let scene = Scene::new("stood-still", 1);
    let settings = scene
        .settings()
        .env("KMS_TRANSACTION__TIMEOUT", "4s")
        .env("KMS_KAFKA_PROPERTIES", "session.timeout.ms=60000;heartbeat.interval.ms=1000");
    let mut kms = Kms::start_ready(&settings);
    let foreign = scene.client.foreign(&unique("foreign"), PATIENCE);
    let due_ms = now_ms() + 1_500;
    let schedules: Vec<_> = (0..KEYS).map(|n| scene.schedule(&format!("key-{n}"), 1, due_ms)).collect();
    scene.client.produce(&schedules);
    // It keeps the scheduler's transaction open for half the time-out: nobody knows yet what it says of these keys.
    foreign.begin();
    foreign.produce(&[scene.cancel("key-0"), scene.schedule("key-1", 2, due_ms)]).unwrap();
    let end = scene.client.watermarks(&scene.schedules, 0).high;
    assert!(now_ms() < due_ms, "the transaction was opened too late to matter");
    let tombstones = || (scene.client.watermarks(&scene.schedules, 0).high >= end + KEYS).then_some(());
    poll_until(PATIENCE, tombstones).expect("the scheduler appends its tombstones");

    kms.sigstop();
    foreign.commit().unwrap();
    let marks = scene.client.watermarks(&scene.schedules, 0);
    assert!(marks.stable < marks.high, "its transaction is open");
    scene.client.await_stable(&[&scene.schedules], PATIENCE);
    kms.sigcont();

    let fenced =
        || kms.metric("kms_transactions_total", &[("outcome", "fenced")]).filter(|count| *count > 0.0);
    assert_eq!(poll_until(PATIENCE, fenced), Some(1.0), "it is told once");
    scene.await_settled(i64::MAX);
    let left = kms.log_lines().into_iter().find(|line| line.contains("gave up partitions"));
    assert_eq!(left, None, "it kept its partition all along");
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    let right = scene.assert_everything_fired_once(&settings);
    // All but the one that was cancelled, and the sentinel.
    assert_eq!(right as i64, KEYS - 1 + 1);
}

/// Kafka forgets a transactional ID that was not used for `transactional.id.expiration.ms`, a week by default.
#[test]
fn a_shard_that_was_idle_until_kafka_forgot_it_blames_no_schedule() {
    let broker = Broker::private_with(&[
        ("transactional.id.expiration.ms", "1000"),
        ("transaction.remove.expired.transaction.cleanup.interval.ms", "200"),
    ]);
    let scene = Scene::on(broker.bootstrap(), "forgotten", 1);
    // What is set aside is not tried again within this test.
    let settings = scene.settings().env("KMS_RETRY__INITIAL", "10m").env("KMS_RETRY__MAX", "10m");
    let mut kms = Kms::start_ready(&settings);
    scene.client.produce(&[scene.schedule("before", 1, now_ms())]);
    scene.await_payload(&payload("before", 1));
    let transactional_id = format!("kms:{}:0", scene.schedules);
    let forgotten = || {
        let ids = scene.client.read_topic("__transaction_state", Isolation::ReadUncommitted);
        ids.iter().any(|id| id.value.is_none() && id.key_text().contains(&transactional_id)).then_some(())
    };
    poll_until(PATIENCE, forgotten).expect("the broker forgets the transactional ID");

    scene.client.produce(&[scene.schedule("after", 1, now_ms())]);
    scene.await_payload(&payload("after", 1));
    let complaint = kms.log_lines().into_iter().find(|line| line.contains("cannot deliver a schedule"));
    assert_eq!(complaint, None);
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    scene.assert_everything_fired_once(&settings);
}
