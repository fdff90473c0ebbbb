//! Who is to blame: one message, one destination, or nobody.

use std::time::{Duration, Instant};

use kafka_message_scheduler::kafka::{Kind, SendError, Transactions};
use kafka_message_scheduler::schedule::Headers;
use rdkafka::types::RDKafkaRespErr;

use crate::calls::{Call, Calls, Outcome};
use crate::cluster::{Cluster, DESTINATION};

const FORBIDDEN: &str = "forbidden";

/// A transaction is open, and the producer knows two destinations, of which it may no longer write to one.
fn forbidden_in_a_transaction() -> (Cluster, Calls) {
    let cluster = Cluster::start(1);
    cluster.create_topic(FORBIDDEN, 1, 1).unwrap();
    let mut calls = cluster.calls();
    calls.up_to(Call::Send);
    for topic in [DESTINATION, FORBIDDEN] {
        calls.producer.check_destination(topic).unwrap();
    }
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.topic_error(FORBIDDEN, refused).unwrap();
    (cluster, calls)
}

/// The transaction has failed, and no message but `culprit` is said to be why. Mostly not even that is, unless librdkafka
/// happens to ask about the topic meanwhile.
#[track_caller]
fn assert_nobody_else_is_named(calls: &mut Calls, culprit: usize) {
    match calls.failures() {
        Ok(named) => assert_eq!(named, [(culprit, SendError::NotAuthorized)]),
        Err(outcome) => {
            assert_eq!(outcome, Outcome::Failed(Kind::Abortable));
            assert_eq!(calls.producer.failures(), []);
        }
    }
}

#[test]
fn a_destination_that_fells_a_transaction_is_named_when_its_message_is_alone() {
    let (_cluster, mut calls) = forbidden_in_a_transaction();

    // Together: all of them fall, and nobody is named who is not it.
    for (tag, destination) in [DESTINATION, FORBIDDEN, DESTINATION].into_iter().enumerate() {
        calls.send(destination, b"value", tag).unwrap();
    }
    assert_nobody_else_is_named(&mut calls, 1);
    calls.succeed(Call::Abort);

    // One at a time.
    calls.succeed(Call::Append);
    calls.send(DESTINATION, b"value", 1).unwrap();
    assert_eq!(calls.failures(), Ok(vec![]));
    match calls.send(FORBIDDEN, b"value", 2) {
        Ok(()) => assert_eq!(calls.failures(), Ok(vec![(2, SendError::NotAuthorized)])),
        // It was named above, and is asked about again since.
        Err(error) => assert_eq!(error, SendError::NotAuthorized),
    }
    calls.succeed(Call::Abort);

    // Without it.
    assert_eq!(calls.producer.check_destination(FORBIDDEN), Err(SendError::NotAuthorized));
    calls.whole_transaction();
}

/// Nor does it have to be waited for: one that is handed over in the very moment when librdkafka gives the others up stays
/// in its queue, until its time-out.
#[test]
fn a_message_that_comes_when_the_transaction_has_failed_is_not_to_blame() {
    for _ in 0..10 {
        let (_cluster, mut calls) = forbidden_in_a_transaction();
        calls.send(FORBIDDEN, b"value", 0).unwrap();
        // The answer comes while these are handed over.
        let started = Instant::now();
        for tag in 1.. {
            assert_eq!(calls.send(DESTINATION, b"value", tag), Ok(()), "message {tag}");
            if started.elapsed() > Duration::from_millis(50) {
                break;
            }
        }
        assert_nobody_else_is_named(&mut calls, 0);
        calls.succeed(Call::Abort);
        calls.whole_transaction();
    }
}

#[test]
fn a_message_that_is_too_large_is_refused_at_once_and_the_others_go() {
    let cluster = Cluster::start(1);
    let mut calls = cluster.calls();
    calls.up_to(Call::Send);
    calls.send(DESTINATION, b"before", 1).unwrap();
    assert_eq!(calls.send(DESTINATION, &vec![0; 2_000_000], 2), Err(SendError::TooLarge));
    calls.send(DESTINATION, b"after", 3).unwrap();
    assert_eq!(calls.failures(), Ok(vec![]));
    calls.succeed(Call::Commit);
    assert_eq!(cluster.offsets_of(DESTINATION).len(), 2);
}

#[test]
fn an_own_record_that_is_too_large_wants_an_abort() {
    let cluster = Cluster::start(1);
    let mut calls = cluster.calls();
    calls.succeed(Call::Fence);
    calls.producer.begin().unwrap();
    let error = calls.producer.append(&vec![b'k'; 2_000_000], None, Headers::default()).unwrap_err();
    assert_eq!(error.kind, Kind::Abortable, "{error}");
    calls.go_on_after(Call::Append, &Outcome::Failed(error.kind));
}

#[test]
fn a_destination_is_asked_about_before_it_is_tried() {
    let cluster = Cluster::start(1);
    let mut calls = cluster.calls();
    calls.succeed(Call::Fence);
    let errors = [
        ("missing", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, SendError::UnknownTopic),
        (FORBIDDEN, RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, SendError::NotAuthorized),
        ("misnamed", RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION, SendError::IllegalName),
    ];
    for (topic, code, error) in errors {
        cluster.create_topic(topic, 1, 1).unwrap();
        cluster.topic_error(topic, code).unwrap();
        assert_eq!(calls.producer.check_destination(topic), Err(error), "{topic}");
    }
    cluster.create_topic("leaderless", 2, 1).unwrap();
    cluster.partition_leader("leaderless", 1, None).unwrap();
    assert_eq!(calls.producer.check_destination("leaderless"), Err(SendError::NoLeader));
    assert_eq!(calls.producer.check_destination("two words"), Err(SendError::IllegalName));

    // What nobody answers is no fault of the destination's.
    cluster.broker_down(-1).unwrap();
    let unanswered = calls.producer.check_destination("unknown").unwrap_err();
    assert!(unanswered.is_transient() && !unanswered.concerns_topic(), "{unanswered:?}");
    cluster.broker_up(-1).unwrap();
    calls.whole_transaction();
}
