//! The schedule topic is all there is: what an instance finds there it delivers, what was delivered it does not repeat.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::stage::{Format, Stage, await_metric, await_not_ready};
use crate::support::client::{NewRecord, unique};
use crate::support::kms::Kms;
use crate::support::{http, now_ms};

#[test]
fn what_was_fired_or_cancelled_is_not_replayed() {
    let stage = Stage::json(2);
    let ids: Vec<_> = (0..40).map(|number| format!("id-{number}")).collect();
    {
        let mut kms = stage.start();
        for id in &ids {
            stage.put(id, &stage.plan(id));
        }
        for id in &ids[..10] {
            stage.put(format!("cancelled {id}"), &stage.plan(id).due_in(1_500));
            stage.cancel(format!("cancelled {id}"));
        }
        stage.put("waits", &stage.plan("waits").due_much_later());
        stage.await_messages(ids.len());
        assert!(kms.sigterm_and_wait().success());
    }

    // First with everything still in the log, then with nothing left of a schedule but its tombstone.
    for compacted in [false, true] {
        if compacted {
            stage.client.force_compaction(&stage.topic().name);
            let left = stage.records_of(stage.topic(), &ids[0]);
            assert!(
                left.iter().all(|record| record.value.is_none()),
                "the schedule is compacted away: {left:?}"
            );
        }
        let mut kms = stage.start();
        stage.finish().assert_clean();
        await_metric(&kms, "kms_schedules_pending", &[], 1.0);
        assert!(kms.sigterm_and_wait().success());
    }
}

#[test]
fn what_is_written_while_the_scheduler_is_down_fires_when_it_is_back() {
    let stage = Stage::json(2);
    {
        let mut kms = stage.start();
        stage.put("first", &stage.plan("first"));
        stage.put("cancelled meanwhile", &stage.plan("cancelled meanwhile").due_in(2_000));
        stage.await_messages(1);
        assert!(kms.sigterm_and_wait().success());
    }
    stage.put("due meanwhile", &stage.plan("due meanwhile"));
    stage.put("due later", &stage.plan("due later").due_in(2_500));
    stage.put("first", &stage.plan("first"));
    stage.cancel("cancelled meanwhile");

    let _kms = stage.start();
    stage.await_messages(4);
    let verdict = stage.finish();
    verdict.assert_clean();
    assert_eq!(verdict.right, 6);
}

#[test]
fn what_is_written_while_eight_partitions_load_is_delivered_once() {
    const PARTITIONS: i32 = 8;
    const RECORDS: usize = 20_000;
    let stage = Stage::avro(PARTITIONS);
    let topic = stage.topic();
    // Of the records there to load most wait, many are replaced or cancelled, and a few are due.
    let ballast = stage.plan("ballast").due_much_later();
    let mut records = Vec::new();
    for partition in 0..PARTITIONS {
        for number in 0..RECORDS {
            let id = format!("ballast-{}", number % (RECORDS / 2));
            let record = if number % 10 == 9 {
                NewRecord::to(&topic.name).key(id)
            } else {
                topic.record(id, &ballast)
            };
            records.push(record.partition(partition));
        }
    }
    for (place, number) in stage.client.produce(&records).iter().zip(0..) {
        if number % 10 != 9 {
            stage.note(place, format!("ballast-{}", number % RECORDS % (RECORDS / 2)), &ballast);
        }
    }
    drop(records);
    let due = |wave: &str, partition| {
        let id = format!("{wave}-{partition}");
        stage.put_on(topic, partition, &id, &stage.plan(&id));
    };
    (0..PARTITIONS).for_each(|partition| due("loaded", partition));

    let mut kms = Kms::start(&stage.settings());
    let live = AtomicBool::new(false);
    let waves = thread::scope(|threads| {
        let writing = threads.spawn(|| {
            let mut waves = 0;
            while !live.load(Ordering::Relaxed) {
                (0..PARTITIONS).for_each(|partition| due(&format!("wave-{waves}"), partition));
                waves += 1;
            }
            waves
        });
        kms.wait_ready();
        live.store(true, Ordering::Relaxed);
        writing.join().unwrap()
    });
    assert!(waves > 2, "writing goes on during the load");
    let written = PARTITIONS as usize * (waves + 1);
    stage.await_messages(written);
    let verdict = stage.finish();
    verdict.assert_clean();
    assert_eq!(verdict.right, written + PARTITIONS as usize);
}

/// An open transaction hides everything behind it from the scheduler, cancels too. It has to wait, and say so.
#[test]
fn a_foreign_transaction_left_open_holds_a_takeover_back_and_nothing_fires_wrongly() {
    let stage = Stage::json(1);
    let topic = stage.topic();
    {
        let mut kms = stage.start();
        stage.put("fired before", &stage.plan("fired before"));
        stage.await_messages(1);
        assert!(kms.sigterm_and_wait().success());
    }
    let fired_before = stage.messages();
    let due_ms = now_ms() + 1_000;
    stage.put("cancelled behind", &stage.plan("cancelled behind").due_ms(due_ms));
    stage.put("replaced inside", &stage.plan("replaced inside").due_ms(due_ms));
    let foreign = stage.client.foreign(&unique("foreign"), Duration::from_mins(1));
    foreign.begin();
    let inside = stage.plan("replaced inside");
    let place = foreign.produce(&[topic.record("replaced inside", &inside)]).unwrap().remove(0);
    stage.cancel("cancelled behind");
    stage.put("scheduled behind", &stage.plan("scheduled behind"));

    let mut kms = Kms::start(&stage.settings());
    await_not_ready(&kms, &["transaction", "\"loading\"", &topic.name]);
    assert!(now_ms() > due_ms);
    assert_eq!(stage.messages(), fired_before, "nobody can know yet what to fire");
    assert_eq!(http::get(kms.metrics_address(), "/health/live").unwrap().status, 200);

    foreign.commit().unwrap();
    stage.note(&place, "replaced inside", &inside);
    kms.wait_ready();
    stage.await_messages(3);
    let verdict = stage.finish();
    verdict.assert_clean();
    assert_eq!(verdict.right, 4);
}

/// Behind the last record of such a partition lies a marker that no consumer is ever given.
#[test]
fn partitions_that_end_in_foreign_transactions_go_live() {
    let stage = Stage::with(&[Format::Avro], 4);
    let topic = stage.topic();
    let foreign = stage.client.foreign(&unique("foreign"), Duration::from_mins(1));
    let transaction = |partitions: &[i32], commit: bool| {
        foreign.begin();
        let plans: Vec<_> = partitions.iter().map(|partition| (*partition, stage.plan("in"))).collect();
        let record = |(partition, plan): &(i32, _)| topic.record("in", plan).partition(*partition);
        let places = foreign.produce(&plans.iter().map(record).collect::<Vec<_>>()).unwrap();
        if commit {
            foreign.commit().unwrap();
            for (place, (_, plan)) in places.iter().zip(&plans) {
                stage.note(place, "in", plan);
            }
        } else {
            foreign.abort().unwrap();
        }
    };
    stage.put_on(topic, 0, "plain", &stage.plan("plain"));
    stage.put_on(topic, 1, "plain", &stage.plan("plain"));
    // The last transaction of partition 0 is committed, that of 1 aborted, in 2 is nothing else, and 3 is empty.
    transaction(&[0, 1], true);
    transaction(&[1, 2], false);

    let _kms = stage.start();
    stage.await_messages(4);
    // A live shard meets the same.
    transaction(&[0, 3], true);
    transaction(&[0, 1, 2, 3], false);
    stage.await_messages(6);
    let verdict = stage.finish();
    verdict.assert_clean();
    assert_eq!(verdict.right, 10);
}
