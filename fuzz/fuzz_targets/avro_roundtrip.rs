//! Avro there and back: any schedule is written and read as it was, and so is whatever a record that is accepted says.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use kafka_message_scheduler::codec::Scratch;
use kafka_message_scheduler::schedule::Format;
use kms_fuzz::Sample;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    // One scratch for all, as in production: what one record leaves there must not show in the next.
    let mut scratch = Scratch::default();
    if let Ok(sample) = Sample::decode(Format::Avro, input, &mut scratch) {
        sample.assert_survives(Format::Avro, &mut scratch);
    }
    if let Ok(sample) = Sample::arbitrary_take_rest(Unstructured::new(input)) {
        let record = sample.encode(Format::Avro);
        let decoded = Sample::decode(Format::Avro, &record, &mut scratch);
        assert_eq!(decoded, Ok(sample.with_last_of_each_header()));
    }
});
