//! The classification, at a glance: a table for each call. A line says which request is answered with what, and what
//! the call comes to; then that is done which the outcome asks for, and a whole transaction has to succeed.

use std::mem::discriminant;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use kafka_message_scheduler::kafka::producer::Mode;
use kafka_message_scheduler::kafka::{Kind, SendError};
use rdkafka::types::{RDKafkaApiKey as Request, RDKafkaErrorCode as Code};

use crate::calls::{Call, Outcome};
use crate::cluster::{Cluster, DESTINATION, OWN};
use Comes::{Abortable, AskedAgain, AskedAgainLate, Fatal, Fenced, Mended, Refused};

/// The request that is answered with an error, the error, and what comes of it.
type Line = (Request, Code, Comes);

#[derive(Clone, Debug)]
enum Comes {
    /// librdkafka asks again by itself, and the call succeeds.
    AskedAgain,
    /// The same, but so late that the first request may still be under way: the producer has to be replaced.
    AskedAgainLate,
    /// librdkafka mends it by other requests, and the call succeeds.
    Mended,
    Abortable,
    Fatal,
    Fenced,
    /// The message, and only that, is to blame.
    Refused(SendError),
}

#[test]
fn fence() {
    check_all(
        Mode::Transactional,
        Call::Fence,
        &[
            (Request::FindCoordinator, Code::CoordinatorNotAvailable, AskedAgain),
            (Request::FindCoordinator, Code::CoordinatorLoadInProgress, AskedAgain),
            (Request::FindCoordinator, Code::BrokerTransportFailure, AskedAgain),
            (Request::FindCoordinator, Code::Unknown, AskedAgain),
            (Request::FindCoordinator, Code::TransactionalIdAuthorizationFailed, Fatal),
            (Request::InitProducerId, Code::NotCoordinator, AskedAgain),
            (Request::InitProducerId, Code::CoordinatorNotAvailable, AskedAgain),
            (Request::InitProducerId, Code::CoordinatorLoadInProgress, AskedAgain),
            // The predecessor's transaction is being ended.
            (Request::InitProducerId, Code::ConcurrentTransactions, AskedAgain),
            (Request::InitProducerId, Code::BrokerTransportFailure, AskedAgain),
            (Request::InitProducerId, Code::Unknown, AskedAgain),
            (Request::InitProducerId, Code::TransactionalIdAuthorizationFailed, Fatal),
            (Request::InitProducerId, Code::ClusterAuthorizationFailed, Fatal),
            (Request::InitProducerId, Code::InvalidTransactionTimeout, Fatal),
            (Request::InitProducerId, Code::InvalidProducerEpoch, Fenced),
            (Request::InitProducerId, Code::ProducerFenced, Fenced),
        ],
    );
}

#[test]
fn append() {
    check_all(
        Mode::Transactional,
        Call::Append,
        &[
            (Request::AddPartitionsToTxn, Code::NotCoordinator, AskedAgain),
            (Request::AddPartitionsToTxn, Code::CoordinatorNotAvailable, AskedAgain),
            (Request::AddPartitionsToTxn, Code::CoordinatorLoadInProgress, AskedAgain),
            // The markers of the transaction before are still being written.
            (Request::AddPartitionsToTxn, Code::ConcurrentTransactions, AskedAgain),
            (Request::AddPartitionsToTxn, Code::UnknownTopicOrPartition, AskedAgain),
            (Request::AddPartitionsToTxn, Code::BrokerTransportFailure, AskedAgain),
            (Request::AddPartitionsToTxn, Code::InvalidProducerEpoch, Fenced),
            (Request::AddPartitionsToTxn, Code::ProducerFenced, Fenced),
            (Request::AddPartitionsToTxn, Code::InvalidTransactionalState, Fatal),
            (Request::AddPartitionsToTxn, Code::TransactionalIdAuthorizationFailed, Fatal),
            // The cluster has forgotten the transactional ID, which was idle for days. Nobody is to blame.
            (Request::AddPartitionsToTxn, Code::InvalidProducerIdMapping, Fatal),
            (Request::AddPartitionsToTxn, Code::UnknownProducerId, Fatal),
            // Nobody's schedule is to blame for a schedule topic that may not be written to.
            (Request::AddPartitionsToTxn, Code::TopicAuthorizationFailed, Fatal),
            (Request::AddPartitionsToTxn, Code::Unknown, Abortable),
            (Request::Produce, Code::NotLeaderForPartition, AskedAgain),
            (Request::Produce, Code::LeaderNotAvailable, AskedAgain),
            (Request::Produce, Code::UnknownTopicOrPartition, AskedAgain),
            (Request::Produce, Code::NotEnoughReplicas, AskedAgain),
            (Request::Produce, Code::NotEnoughReplicasAfterAppend, AskedAgain),
            (Request::Produce, Code::KafkaStorageError, AskedAgain),
            (Request::Produce, Code::RequestTimedOut, AskedAgain),
            (Request::Produce, Code::InvalidMessage, AskedAgain),
            (Request::Produce, Code::BrokerTransportFailure, AskedAgain),
            (Request::Produce, Code::InvalidProducerEpoch, Fenced),
            (Request::Produce, Code::ProducerFenced, Fenced),
            (Request::Produce, Code::OutOfOrderSequenceNumber, Fatal),
            (Request::Produce, Code::UnknownProducerId, Fatal),
            (Request::Produce, Code::InvalidProducerIdMapping, Fatal),
            (Request::Produce, Code::InvalidTransactionalState, Fatal),
            // It is written, but where? The offset would be needed.
            (Request::Produce, Code::DuplicateSequenceNumber, Fatal),
            (Request::Produce, Code::TopicAuthorizationFailed, Fatal),
            (Request::Produce, Code::MessageSizeTooLarge, Abortable),
            (Request::Produce, Code::InvalidRecord, Abortable),
        ],
    );
}

#[test]
fn send() {
    check_all(
        Mode::Transactional,
        Call::Send,
        &[
            (Request::AddPartitionsToTxn, Code::NotCoordinator, AskedAgain),
            (Request::AddPartitionsToTxn, Code::ConcurrentTransactions, AskedAgain),
            (Request::AddPartitionsToTxn, Code::UnknownTopicOrPartition, AskedAgain),
            (Request::AddPartitionsToTxn, Code::BrokerTransportFailure, AskedAgain),
            (Request::AddPartitionsToTxn, Code::ProducerFenced, Fenced),
            (Request::AddPartitionsToTxn, Code::InvalidTransactionalState, Fatal),
            (Request::AddPartitionsToTxn, Code::InvalidProducerIdMapping, Fatal),
            (Request::AddPartitionsToTxn, Code::TopicAuthorizationFailed, Refused(SendError::NotAuthorized)),
            (Request::AddPartitionsToTxn, Code::Unknown, Refused(SendError::Other(String::new()))),
            (Request::Produce, Code::NotLeaderForPartition, AskedAgain),
            (Request::Produce, Code::NotEnoughReplicas, AskedAgain),
            (Request::Produce, Code::BrokerTransportFailure, AskedAgain),
            (Request::Produce, Code::InvalidProducerEpoch, Fenced),
            (Request::Produce, Code::ProducerFenced, Fenced),
            (Request::Produce, Code::OutOfOrderSequenceNumber, Fatal),
            (Request::Produce, Code::UnknownProducerId, Fatal),
            (Request::Produce, Code::InvalidTransactionalState, Fatal),
            (Request::Produce, Code::MessageSizeTooLarge, Refused(SendError::TooLarge)),
            (Request::Produce, Code::MessageBatchTooLarge, Refused(SendError::TooLarge)),
            (Request::Produce, Code::TopicAuthorizationFailed, Refused(SendError::NotAuthorized)),
            (Request::Produce, Code::InvalidRecord, Refused(SendError::Other(String::new()))),
            (Request::Produce, Code::PolicyViolation, Refused(SendError::Other(String::new()))),
        ],
    );
}

#[test]
fn commit() {
    check_all(
        Mode::Transactional,
        Call::Commit,
        &[
            (Request::EndTxn, Code::NotCoordinator, AskedAgainLate),
            (Request::EndTxn, Code::CoordinatorNotAvailable, AskedAgainLate),
            (Request::EndTxn, Code::CoordinatorLoadInProgress, AskedAgainLate),
            (Request::EndTxn, Code::ConcurrentTransactions, AskedAgainLate),
            (Request::EndTxn, Code::BrokerTransportFailure, AskedAgainLate),
            (Request::EndTxn, Code::InvalidProducerEpoch, Fenced),
            (Request::EndTxn, Code::ProducerFenced, Fenced),
            (Request::EndTxn, Code::InvalidTransactionalState, Fatal),
            (Request::EndTxn, Code::TransactionalIdAuthorizationFailed, Fatal),
            (Request::EndTxn, Code::ClusterAuthorizationFailed, Fatal),
            (Request::EndTxn, Code::InvalidProducerIdMapping, Fatal),
            (Request::EndTxn, Code::UnknownProducerId, Fatal),
            (Request::EndTxn, Code::Unknown, Abortable),
        ],
    );
}

#[test]
fn abort() {
    check_all(
        Mode::Transactional,
        Call::Abort,
        &[
            (Request::EndTxn, Code::NotCoordinator, AskedAgainLate),
            (Request::EndTxn, Code::CoordinatorNotAvailable, AskedAgainLate),
            (Request::EndTxn, Code::CoordinatorLoadInProgress, AskedAgainLate),
            (Request::EndTxn, Code::ConcurrentTransactions, AskedAgainLate),
            (Request::EndTxn, Code::BrokerTransportFailure, AskedAgainLate),
            (Request::EndTxn, Code::InvalidProducerEpoch, Fenced),
            (Request::EndTxn, Code::ProducerFenced, Fenced),
            (Request::EndTxn, Code::InvalidTransactionalState, Fatal),
            (Request::EndTxn, Code::TransactionalIdAuthorizationFailed, Fatal),
            // A new epoch is fetched, which ends the transaction as well.
            (Request::EndTxn, Code::InvalidProducerIdMapping, Mended),
            (Request::EndTxn, Code::UnknownProducerId, Mended),
            (Request::EndTxn, Code::Unknown, Abortable),
        ],
    );
}

#[test]
fn at_least_once_fence() {
    check_all(
        Mode::Plain,
        Call::Fence,
        &[
            // Transactions are not to be had: then there is nobody to fence.
            (Request::FindCoordinator, Code::TransactionalIdAuthorizationFailed, Mended),
            (Request::InitProducerId, Code::TransactionalIdAuthorizationFailed, Mended),
        ],
    );
}

#[test]
fn at_least_once_send() {
    check_all(
        Mode::Plain,
        Call::Send,
        &[
            (Request::Produce, Code::NotLeaderForPartition, AskedAgain),
            (Request::Produce, Code::NotEnoughReplicas, AskedAgain),
            (Request::Produce, Code::BrokerTransportFailure, AskedAgain),
            // It is written already; nobody needs its offset.
            (Request::Produce, Code::DuplicateSequenceNumber, Mended),
            (Request::Produce, Code::UnknownProducerId, Mended),
            (Request::Produce, Code::OutOfOrderSequenceNumber, Fatal),
            (Request::Produce, Code::MessageSizeTooLarge, Refused(SendError::TooLarge)),
            (Request::Produce, Code::TopicAuthorizationFailed, Refused(SendError::NotAuthorized)),
            (Request::Produce, Code::InvalidRecord, Refused(SendError::Other(String::new()))),
        ],
    );
}

#[test]
fn at_least_once_append() {
    check_all(
        Mode::Plain,
        Call::Append,
        &[
            (Request::Produce, Code::NotLeaderForPartition, AskedAgain),
            (Request::Produce, Code::NotEnoughReplicas, AskedAgain),
            (Request::Produce, Code::BrokerTransportFailure, AskedAgain),
            (Request::Produce, Code::OutOfOrderSequenceNumber, Fatal),
            (Request::Produce, Code::DuplicateSequenceNumber, Fatal),
            (Request::Produce, Code::MessageSizeTooLarge, Abortable),
            // Its message is sent already: it had better wait before it is sent again.
            (Request::Produce, Code::TopicAuthorizationFailed, Abortable),
            (Request::Produce, Code::InvalidRecord, Abortable),
        ],
    );
}

/// Lines that are checked at a time: each of them mostly waits.
const AT_A_TIME: usize = 24;

fn check_all(mode: Mode, call: Call, lines: &[Line]) {
    let next = AtomicUsize::new(0);
    let complaints = Mutex::new(Vec::new());
    thread::scope(|threads| {
        for _ in 0..AT_A_TIME {
            threads.spawn(|| {
                while let Some(line) = lines.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let checked = catch_unwind(AssertUnwindSafe(|| check(mode, call, line)));
                    if let Err(complaint) = checked.unwrap_or_else(|_| Err("panicked, see above".to_owned()))
                    {
                        complaints.lock().unwrap().push(format!("{:?} {:?}: {complaint}", line.0, line.1));
                    }
                }
            });
        }
    });
    let complaints = complaints.into_inner().unwrap();
    assert!(complaints.is_empty(), "{call:?} ({mode:?}):\n  {}", complaints.join("\n  "));
}

fn check(mode: Mode, call: Call, (request, code, comes): &Line) -> Result<(), String> {
    let cluster = Cluster::start(1);
    let mut calls = cluster.calls_in(mode, "10s");
    calls.up_to(call);
    let written_before = cluster.offsets_of(DESTINATION).len();
    cluster.answer(*request, &[*code]);
    let outcome = calls.make(call);
    let wanted = match comes {
        AskedAgain | Mended => Outcome::Done,
        AskedAgainLate => Outcome::DoneLate,
        Abortable => Outcome::Failed(Kind::Abortable),
        Fatal => Outcome::Failed(Kind::Fatal),
        Fenced => Outcome::Failed(Kind::Fenced),
        Refused(error) => Outcome::Refused(error.clone()),
    };
    // What takes another request may be late or not.
    let is_mended = matches!((comes, &outcome), (Mended, Outcome::DoneLate));
    if !is_mended && !is_alike(&outcome, &wanted) {
        return Err(format!("comes to {outcome:?}, not {wanted:?}"));
    }
    if matches!(comes, AskedAgain) {
        // What was asked for twice was written once.
        let own = cluster.offsets_of(OWN);
        if calls.own_offsets != own {
            return Err(format!("the own records are at {own:?}, not {:?}", calls.own_offsets));
        }
        let written = cluster.offsets_of(DESTINATION).len() - written_before;
        if written != usize::from(call == Call::Send) {
            return Err(format!("{written} messages were written"));
        }
    }
    calls.go_on_after(call, &outcome);
    if matches!(comes, AskedAgain | AskedAgainLate) {
        check_asked_again(mode, call, *request, *code)?;
    }
    Ok(())
}

/// A line may say "asked again" only if the second answer decides.
fn check_asked_again(mode: Mode, call: Call, request: Request, code: Code) -> Result<(), String> {
    let last_word = match request {
        Request::Produce => Code::InvalidRecord,
        Request::EndTxn => Code::InvalidProducerEpoch,
        _ => Code::TransactionalIdAuthorizationFailed,
    };
    let cluster = Cluster::start(1);
    let mut calls = cluster.calls_in(mode, "10s");
    calls.up_to(call);
    cluster.answer(request, &[code, last_word]);
    match calls.make(call) {
        done @ (Outcome::Done | Outcome::DoneLate) => {
            Err(format!("comes to {done:?}, although asking again was answered with {last_word:?}"))
        }
        Outcome::Failed(_) | Outcome::Refused(_) => Ok(()),
    }
}

/// The same, whatever an error of its own kind says.
fn is_alike(outcome: &Outcome, wanted: &Outcome) -> bool {
    match (outcome, wanted) {
        (Outcome::Refused(one), Outcome::Refused(other)) => discriminant(one) == discriminant(other),
        _ => outcome == wanted,
    }
}
