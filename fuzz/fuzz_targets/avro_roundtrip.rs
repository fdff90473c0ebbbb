//! Avro there and back: any schedule is written and read as it was, and so is whatever a record that is accepted says.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use kafka_message_scheduler::schedule::Format;
use kms_fuzz::Sample;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Ok(sample) = Sample::decode(Format::Avro, input) {
        sample.assert_survives(Format::Avro);
    }
    if let Ok(sample) = Sample::arbitrary_take_rest(Unstructured::new(input)) {
        let decoded = Sample::decode(Format::Avro, &sample.encode(Format::Avro));
        assert_eq!(decoded, Ok(sample.with_last_of_each_header()));
    }
});
