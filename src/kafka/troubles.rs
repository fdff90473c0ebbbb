//! What is said about errors that a client meets again and again.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What keeps going wrong is said once in a while: librdkafka repeats itself twenty times a second.
#[derive(Default)]
pub(super) struct Troubles {
    /// Why the last connection failed, in librdkafka's words.
    connection: Option<String>,
    said: Vec<(Option<RDKafkaErrorCode>, u64)>,
}

/// How long the same trouble is not said again.
const SAID_FOR_MS: u64 = 30_000;

impl Troubles {
    /// Takes in what librdkafka says about an error, beside the error that a poll then returns.
    pub(super) fn heard(&mut self, error: &KafkaError, reason: &str) {
        // That all brokers are down counts them, and so hides the reason that came before it.
        if is_unreachable(error) && error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            let reason = reason.split_once(" (after ").map_or(reason, |(what, _)| what);
            self.connection = Some(reason.to_owned());
        }
    }

    /// What to say about `error` at `now_ms` (monotonic); `None`: it was said a moment ago.
    pub(super) fn sentence(&mut self, error: &KafkaError, now_ms: u64) -> Option<String> {
        let unreachable = is_unreachable(error);
        let kind = if unreachable { None } else { error.rdkafka_error_code() };
        self.said.retain(|(_, at_ms)| now_ms < at_ms + SAID_FOR_MS);
        if self.said.iter().any(|(said, _)| *said == kind) {
            return None;
        }
        self.said.push((kind, now_ms));
        Some(if unreachable {
            let reason = self.connection.take().unwrap_or_else(|| "all connections are down".to_owned());
            format!("cannot reach a broker, trying again until one answers: {reason}")
        } else {
            format!("consumer group: {error}")
        })
    }
}

/// Whether no broker could be reached, which mends itself when one can.
#[must_use]
pub fn is_unreachable(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve | Code::OperationTimedOut)
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use RDKafkaErrorCode as Code;

    #[test]
    fn a_broker_out_of_reach_is_said_once_in_a_while_and_why() {
        let mut troubles = Troubles::default();
        let (refused, down) =
            (Code::BrokerTransportFailure, KafkaError::MessageConsumption(Code::AllBrokersDown));
        troubles.heard(
            &KafkaError::Global(refused),
            "k:1/bootstrap: Connect to ipv4#10.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)",
        );
        troubles.heard(&KafkaError::Global(Code::AllBrokersDown), "1/1 brokers are down");
        let said = troubles.sentence(&KafkaError::MessageConsumption(refused), 0).unwrap();
        assert!(said.ends_with("10.0.0.1:1 failed: Connection refused"), "{said}");
        assert_eq!(troubles.sentence(&down, 1), None);
        assert!(troubles.sentence(&down, SAID_FOR_MS).is_some());
    }

    #[test]
    fn one_trouble_does_not_hide_another() {
        let mut troubles = Troubles::default();
        let error = KafkaError::MessageConsumption;
        assert!(troubles.sentence(&error(Code::AllBrokersDown), 0).is_some());
        assert!(troubles.sentence(&error(Code::GroupAuthorizationFailed), 0).is_some());
        assert!(troubles.sentence(&error(Code::TopicAuthorizationFailed), 0).is_some());
        assert_eq!(troubles.sentence(&error(Code::GroupAuthorizationFailed), 0), None);
    }
}
