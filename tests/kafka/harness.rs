//! The harness itself: what other tests rely on is shown to hold here.

use std::time::Duration;

use crate::support::broker::Broker;
use crate::support::client::{Client, FILLER_KEY, Isolation, NewRecord, Seen, unique};
use crate::support::{PATIENCE, now_ms};

#[test]
fn records_come_back_as_they_were_produced() {
    let client = Client::new(Broker::shared());
    let topic = unique("plain");
    client.create_destination_topic(&topic, 2);
    let started_ms = now_ms();
    let places = client.produce(&[
        NewRecord::to(&topic).partition(1).key("k").value("v").header("a", Some(b"1")).header("a", None),
        NewRecord::to(&topic).partition(1).key([0xff, 0]),
        NewRecord::to(&topic).partition(0).value(""),
    ]);
    assert_eq!(places.iter().map(|p| (p.partition, p.offset)).collect::<Vec<_>>(), [(1, 0), (1, 1), (0, 0)]);

    let mut seen = client.collect(&[&topic], PATIENCE, |seen| seen.len() == 3);
    seen.sort_by_key(|seen| (-seen.partition, seen.offset));
    assert_eq!(seen.iter().map(Seen::place).collect::<Vec<_>>(), places);
    assert_eq!(seen[0].key.as_deref(), Some(&b"k"[..]));
    assert_eq!(seen[0].value.as_deref(), Some(&b"v"[..]));
    assert_eq!(seen[0].headers, [("a".to_owned(), Some(b"1".to_vec())), ("a".to_owned(), None)]);
    assert_eq!((seen[1].key.as_deref(), seen[1].value.as_deref()), (Some(&[0xff, 0][..]), None));
    assert_eq!((seen[2].key.as_deref(), seen[2].value.as_deref()), (None, Some(&b""[..])));
    for seen in &seen {
        assert!(seen.timestamp_ms >= started_ms && seen.arrived_ms >= seen.timestamp_ms, "{seen:?}");
    }
}

#[test]
fn only_committed_transactions_are_visible_to_read_committed() {
    let client = Client::new(Broker::shared());
    let topic = unique("transactions");
    client.create_topic(&topic, 1, &[]);
    let record = |value: &str| [NewRecord::to(&topic).partition(0).key("k").value(value)];
    let foreign = client.foreign(&unique("foreign"), Duration::from_mins(1));
    foreign.begin();
    foreign.produce(&record("committed")).unwrap();
    foreign.commit().unwrap();
    foreign.begin();
    let aborted = foreign.produce(&record("aborted")).unwrap();
    foreign.abort().unwrap();
    client.produce(&record("plain"));
    client.await_stable(&[&topic], PATIENCE);
    foreign.begin();
    let open = foreign.produce(&record("open")).unwrap();
    client.produce(&record("behind the open one"));

    let values = |isolation| {
        let seen = client.read_topic(&topic, isolation);
        seen.iter().map(Seen::value_text).collect::<Vec<_>>()
    };
    assert_eq!(values(Isolation::ReadCommitted), ["committed", "plain"]);
    assert_eq!(
        values(Isolation::ReadUncommitted),
        ["committed", "aborted", "plain", "open", "behind the open one"]
    );
    let marks = client.watermarks(&topic, 0);
    assert_eq!((marks.low, marks.stable, marks.high), (0, open[0].offset, open[0].offset + 2), "{aborted:?}");

    foreign.abort().unwrap();
    client.await_stable(&[&topic], PATIENCE);
    assert_eq!(values(Isolation::ReadCommitted), ["committed", "plain", "behind the open one"]);
}

#[test]
fn a_transaction_left_open_ends_by_its_timeout() {
    let client = Client::new(Broker::shared());
    let topic = unique("left-open");
    client.create_topic(&topic, 1, &[]);
    let foreign = client.foreign(&unique("foreign"), Duration::from_secs(1));
    foreign.begin();
    foreign.produce(&[NewRecord::to(&topic).partition(0).key("k").value("v")]).unwrap();
    foreign.leave_open();
    assert_eq!(client.watermarks(&topic, 0).stable, 0, "the transaction is still open");
    client.await_stable(&[&topic], PATIENCE);
    assert_eq!(client.read_topic(&topic, Isolation::ReadCommitted), []);
}

#[test]
fn compaction_can_be_forced() {
    let client = Client::new(Broker::shared());
    let topic = unique("compacted");
    client.create_schedule_topic(&topic, 2);
    let settings = client.own_configs(&topic);
    let record = |partition, key: &str| NewRecord::to(&topic).partition(partition).key(key);
    let places = client.produce(&[
        record(0, "twice").value("old"),
        record(0, "once").value("only"),
        record(0, "cancelled").value("gone"),
        record(0, "twice").value("new"),
        record(0, "cancelled"),
        record(1, "twice").value("in another partition"),
    ]);

    client.force_compaction(&topic);

    let left = |partition| -> Vec<(i64, String)> {
        let seen = client.read_partition(&topic, partition, Isolation::ReadUncommitted);
        let mine = seen.iter().filter(|seen| seen.key_text() != FILLER_KEY);
        mine.map(|seen| (seen.offset, seen.key_text())).collect()
    };
    assert_eq!(
        left(0),
        [
            (places[1].offset, "once".to_owned()),
            (places[3].offset, "twice".to_owned()),
            (places[4].offset, "cancelled".to_owned()),
        ]
    );
    assert_eq!(left(1).len(), 1);
    assert_eq!(client.own_configs(&topic), settings, "the topic's settings are as before");
}

#[test]
fn records_can_be_deleted_and_partitions_added() {
    let client = Client::new(Broker::shared());
    let topic = unique("deleted");
    client.create_topic(&topic, 1, &[]);
    client.produce(&vec![NewRecord::to(&topic).partition(0).value("v"); 3]);
    client.delete_records(&topic, 0, 2);
    assert_eq!(client.watermarks(&topic, 0).low, 2);
    client.add_partitions(&topic, 3);
    assert_eq!(client.partitions(&topic), 3);
    client.produce(&[NewRecord::to(&topic).partition(2).value("v")]);
    client.delete_topic(&topic);
    assert_eq!(client.partitions(&topic), 0);
}

#[test]
fn a_private_broker_keeps_its_records_over_stop_and_crash() {
    let mut broker = Broker::private();
    let client = Client::new(broker.bootstrap());
    client.create_topic("kept", 1, &[]);
    let record = [NewRecord::to("kept").partition(0).value("v")];
    assert_eq!(client.produce(&record)[0].offset, 0);
    broker.stop();
    broker.restart();
    assert_eq!(client.produce(&record)[0].offset, 1);
    broker.kill();
    broker.restart();
    assert_eq!(client.produce(&record)[0].offset, 2);
    assert_eq!(client.read_topic("kept", Isolation::ReadCommitted).len(), 3);
}
