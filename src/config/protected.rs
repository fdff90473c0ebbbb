//! librdkafka properties that are not the user's to set.

/// Why `property` may not be set, or what to set instead; `None` if it may.
pub(super) fn reason(property: &str) -> Option<&'static str> {
    Some(match property {
        "isolation.level" => {
            "a tombstone of an aborted transaction must never be seen, so readers stay read_committed"
        }
        "enable.auto.commit" | "auto.commit.enable" | "enable.auto.offset.store" => {
            "the schedule topic itself says what was delivered, not committed offsets"
        }
        "auto.offset.reset" => "a position out of range must be noticed and the partition loaded again",
        "enable.partition.eof" => "the end of a partition is how a load is known to be complete",
        "partition.assignment.strategy" | "group.protocol" => {
            "taking partitions over rests on the cooperative-sticky assignor"
        }
        "enable.idempotence" | "acks" | "request.required.acks" => {
            "a delivery counts only when all replicas have it, once"
        }
        "delivery.report.only.error" => "the offsets of delivered records are needed to verify a transaction",
        "retry.backoff.ms" | "retry.backoff.max.ms" => "a hidden retry is recognised by how long it takes",
        "partitioner" => "messages must go to the partition that a Java producer would choose for their key",
        "batch.size" | "batch.num.messages" => {
            "what a transaction writes to its own topic must be one record batch; set batch.max_own_bytes"
        }
        "transactional.id" => "each partition has its own; set transactional_id_prefix",
        "transaction.timeout.ms" => "set transaction.timeout",
        "group.id" => "set kafka.group_id",
        "group.instance.id" => "set kafka.instance_id",
        "bootstrap.servers" | "metadata.broker.list" => "set kafka.brokers",
        "security.protocol" => "set kafka.security_protocol",
        _ => return None,
    })
}
