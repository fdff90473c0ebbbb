//! Brokers that do not answer in time, go away for a while, or hand the coordination over.

use std::time::{Duration, Instant};

use kafka_message_scheduler::kafka::producer::Mode;
use kafka_message_scheduler::kafka::{Kind, SendError};

use crate::calls::{Call, Calls, Outcome, SLICE, for_each};
use crate::cluster::{Cluster, DESTINATION, OWN};

const ALL_BROKERS: i32 = -1;
/// Longer than any test.
const FOR_EVER: Duration = Duration::from_hours(1);
const CALLS: [Call; 5] = [Call::Fence, Call::Append, Call::Send, Call::Commit, Call::Abort];

/// Prepares a call while all is well, so that only its waiting meets what comes then.
fn prepare(cluster: &Cluster, call: Call) -> Calls {
    let mut calls = cluster.calls();
    calls.up_to(call);
    calls.start(call).unwrap();
    calls
}

#[track_caller]
fn assert_asks_to_be_made_again(calls: &mut Calls, call: Call) {
    let error = calls.attempt(call, Duration::from_millis(100)).expect_err("nobody answered");
    assert_eq!(error.kind, Kind::Retriable, "{call:?}: {error}");
}

#[test]
fn a_call_that_is_not_answered_in_time_is_made_again_and_succeeds() {
    for_each(CALLS, |call| {
        let cluster = Cluster::start(1);
        let mut calls = prepare(&cluster, call);
        cluster.broker_round_trip_time(ALL_BROKERS, FOR_EVER).unwrap();
        for _ in 0..3 {
            assert_asks_to_be_made_again(&mut calls, call);
        }
        cluster.broker_round_trip_time(ALL_BROKERS, Duration::ZERO).unwrap();
        let outcome = calls.finish(call);
        assert!(matches!(outcome, Outcome::Done | Outcome::DoneLate), "{call:?} came to {outcome:?}");
        calls.go_on_after(call, &outcome);
        assert_eq!(calls.own_offsets, cluster.offsets_of(OWN), "{call:?}: written once");
    });
}

#[test]
fn a_call_succeeds_when_the_broker_is_back() {
    for_each(CALLS, |call| {
        let cluster = Cluster::start(1);
        let mut calls = prepare(&cluster, call);
        cluster.broker_down(ALL_BROKERS).unwrap();
        assert_asks_to_be_made_again(&mut calls, call);
        cluster.broker_up(ALL_BROKERS).unwrap();
        let outcome = calls.finish(call);
        assert!(matches!(outcome, Outcome::Done | Outcome::DoneLate), "{call:?} came to {outcome:?}");
        calls.go_on_after(call, &outcome);
    });
}

/// librdkafka may have asked for the end a second time by then, and the first request could end the next transaction.
#[test]
fn an_end_that_took_long_wants_a_new_producer() {
    for_each([Call::Commit, Call::Abort], |call| {
        let cluster = Cluster::start(1);
        let mut calls = prepare(&cluster, call);
        cluster.broker_round_trip_time(ALL_BROKERS, FOR_EVER).unwrap();
        // Counted from the first of the calls, none of which is long.
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(800) {
            let error = calls.attempt(call, SLICE).expect_err("nobody answered");
            assert_eq!(error.kind, Kind::Retriable, "{call:?}: {error}");
        }
        cluster.broker_round_trip_time(ALL_BROKERS, Duration::ZERO).unwrap();
        assert_eq!(calls.finish(call), Outcome::DoneLate, "{call:?}");
        calls.go_on_after(call, &Outcome::DoneLate);
    });
}

#[test]
fn an_end_that_was_quick_wants_no_new_producer() {
    let cluster = Cluster::start(1);
    for call in [Call::Commit, Call::Abort] {
        // A machine with much else to do may be slow once.
        let quick = (0..5).any(|_| {
            let mut calls = prepare(&cluster, call);
            let outcome = calls.finish(call);
            calls.go_on_after(call, &outcome);
            outcome == Outcome::Done
        });
        assert!(quick, "every {call:?} was late");
    }
}

/// librdkafka gives a record up when its transaction would have timed out.
#[test]
fn own_records_that_could_not_be_sent_in_time_want_a_new_producer() {
    for_each([Mode::Transactional, Mode::Plain], |mode| {
        let cluster = Cluster::start(1);
        let mut calls = cluster.calls_in(mode, "1s");
        calls.up_to(Call::Append);
        calls.start(Call::Append).unwrap();
        cluster.broker_down(ALL_BROKERS).unwrap();
        let outcome = calls.finish(Call::Append);
        assert_eq!(outcome, Outcome::Failed(Kind::Fatal), "{mode:?}: it is no fault of the records");
        cluster.broker_up(ALL_BROKERS).unwrap();
        calls.go_on_after(Call::Append, &outcome);
    });
}

#[test]
fn a_message_that_could_not_be_sent_in_time_is_not_to_blame() {
    for_each([Mode::Transactional, Mode::Plain], |mode| {
        let cluster = Cluster::start(1);
        let mut calls = cluster.calls_in(mode, "1s");
        calls.up_to(Call::Send);
        calls.start(Call::Send).unwrap();
        cluster.broker_down(ALL_BROKERS).unwrap();
        let outcome = calls.finish(Call::Send);
        let Outcome::Refused(error) = &outcome else { panic!("{mode:?}: it came to {outcome:?}") };
        assert!(error.is_transient() && matches!(error, SendError::Unavailable(_)), "{mode:?}: {error:?}");
        cluster.broker_up(ALL_BROKERS).unwrap();
        calls.go_on_after(Call::Send, &outcome);
    });
}

#[test]
fn a_coordinator_that_moves_is_found_before_each_call() {
    for_each(CALLS, |call| {
        let cluster = Cluster::start(2);
        cluster.move_coordinator(1);
        let mut calls = cluster.calls();
        // A transaction with the first coordinator, and half of another.
        calls.succeed(Call::Fence);
        calls.whole_transaction();
        calls.up_to(call);
        cluster.move_coordinator(2);
        let outcome = calls.make(call);
        assert!(matches!(outcome, Outcome::Done | Outcome::DoneLate), "{call:?} came to {outcome:?}");
        calls.go_on_after(call, &outcome);
        assert_eq!(calls.own_offsets, cluster.offsets_of(OWN), "{call:?}: written once");
    });
}

#[test]
fn a_coordinator_that_dies_is_replaced_by_its_successor() {
    for_each(CALLS, |call| {
        let cluster = Cluster::start(2);
        for topic in [OWN, DESTINATION] {
            cluster.partition_leader(topic, 0, Some(2)).unwrap();
        }
        cluster.move_coordinator(1);
        let mut calls = prepare(&cluster, call);
        cluster.broker_down(1).unwrap();
        cluster.move_coordinator(2);
        let outcome = calls.finish(call);
        assert!(matches!(outcome, Outcome::Done | Outcome::DoneLate), "{call:?} came to {outcome:?}");
        calls.go_on_after(call, &outcome);
    });
}
