//! Topic IDs, by `DescribeTopics`.

use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int};
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::types::RDKafkaRespErr;

use super::{ErrorCode, to_text};

/// What the cluster says of each topic: its ID, or why it cannot say.
pub(in crate::kafka) fn topic_ids<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topics: &[&str],
    wait: Duration,
) -> Result<HashMap<String, Result<String, ErrorCode>>, ErrorCode> {
    let names: Vec<CString> = topics.iter().filter_map(|t| CString::new(*t).ok()).collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let client = consumer.client().native_ptr();
    let wait_ms = c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX);
    let mut ids = HashMap::new();
    // SAFETY: every object is created, used and destroyed in this block while the consumer is alive; result objects
    // belong to the event and are read before it is destroyed; the names outlive the request.
    unsafe {
        let collection = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let options = sys::rd_kafka_AdminOptions_new(
            client,
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        let mut message = [0 as c_char; 256];
        sys::rd_kafka_AdminOptions_set_request_timeout(options, wait_ms, message.as_mut_ptr(), message.len());
        let queue = sys::rd_kafka_queue_new(client);
        sys::rd_kafka_DescribeTopics(client, collection, options, queue);
        let event = sys::rd_kafka_queue_poll(queue, wait_ms);
        let outcome = if event.is_null() {
            Err(RDKafkaRespErr::RD_KAFKA_RESP_ERR__TIMED_OUT)
        } else {
            match sys::rd_kafka_event_error(event) {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {
                    let mut count = 0;
                    let result = sys::rd_kafka_event_DescribeTopics_result(event);
                    let list = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
                    for index in 0..count {
                        let topic = *list.add(index);
                        let name = to_text(sys::rd_kafka_TopicDescription_name(topic));
                        let err = sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(topic));
                        let id = if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                            let id = sys::rd_kafka_TopicDescription_topic_id(topic);
                            Ok(as_kafka_writes(&to_text(sys::rd_kafka_Uuid_base64str(id))))
                        } else {
                            Err(err.into())
                        };
                        ids.insert(name, id);
                    }
                    Ok(())
                }
                err => Err(err),
            }
        };
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_queue_destroy(queue);
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_TopicCollection_destroy(collection);
        outcome.map_err(ErrorCode::from)?;
    }
    Ok(ids)
}

/// Kafka's own tools write IDs in the alphabet that is safe in names, librdkafka in the other.
fn as_kafka_writes(base64: &str) -> String {
    base64.replace('+', "-").replace('/', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_as_kafkas_tools_show_them() {
        assert_eq!(as_kafka_writes("Za/VMptsQmWGP702I+v9hg"), "Za_VMptsQmWGP702I-v9hg");
    }
}
