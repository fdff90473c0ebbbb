//! The Avro schema of schedules, for producers.

use apache_avro::Schema;

/// The schema `uk.sky.scheduler.kafka.avro.AvroSchedule`, as indented JSON text.
#[must_use]
pub fn avro_schema() -> String {
    let schema = Schema::parse_str(SCHEMA).expect("the schema is a constant and tested");
    serde_json::to_string_pretty(&schema).expect("a schema is JSON")
}

const SCHEMA: &str = r#"{
    "type": "record",
    "name": "AvroSchedule",
    "namespace": "uk.sky.scheduler.kafka.avro",
    "doc": "A message and the time to deliver it. The record's key is the schedule's ID; a null value cancels it.",
    "fields": [
        {"name": "time", "type": "long", "doc": "When to deliver, in milliseconds since the Unix epoch."},
        {"name": "topic", "type": "string", "doc": "The topic to deliver to."},
        {"name": "key", "type": "bytes", "doc": "The key of the message."},
        {"name": "value", "type": ["null", "bytes"], "doc": "The value of the message; null delivers a delete."},
        {"name": "headers", "type": {"type": "map", "values": "bytes"}, "doc": "The headers of the message."}
    ]
}"#;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_printed_schema_has_the_five_fields_in_order() {
        let Schema::Record(record) = Schema::parse_str(&avro_schema()).unwrap() else {
            panic!("not a record")
        };
        assert_eq!(record.name.to_string(), "uk.sky.scheduler.kafka.avro.AvroSchedule");
        let names: Vec<_> = record.fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["time", "topic", "key", "value", "headers"]);
    }

    #[test]
    fn the_printed_schema_is_that_of_the_golden_vectors() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/avro.json")).unwrap();
        let golden = Schema::parse(&vectors["schema"]).unwrap();
        assert_eq!(Schema::parse_str(&avro_schema()).unwrap().canonical_form(), golden.canonical_form());
    }
}
