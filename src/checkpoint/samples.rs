//! Schedules and stands for the tests.

use proptest::prelude::*;

use super::{Boot, Decoder, Encoder, Kept, Moment, Refusal, Stand};
use crate::schedule::{DueTime, Format, HeadersBuf, Schedule};

/// A [`Kept`] that owns its parts.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) id: Vec<u8>,
    pub(super) offset: i64,
    pub(super) is_json: bool,
    pub(super) due_ms: i64,
    pub(super) topic: String,
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: HeadersBuf,
    pub(super) record_headers: HeadersBuf,
    pub(super) held: bool,
}

impl Sample {
    /// A small one, all of whose parts are told by its number.
    pub(super) fn small(number: i64) -> Self {
        let byte = number as u8;
        Self {
            id: format!("id-{number}").into_bytes(),
            offset: number,
            is_json: number % 2 == 1,
            due_ms: 1_000_000 + number,
            topic: format!("topic-{}", number % 3),
            key: vec![byte; number as usize % 4],
            value: (number % 5 > 0).then(|| vec![byte; number as usize % 7]),
            headers: (0..number % 2).map(|_| ("name", [byte])).collect(),
            record_headers: (0..number % 3).map(|n| (format!("own-{n}"), [byte])).collect(),
            held: number % 4 == 3,
        }
    }

    pub(super) fn of(kept: &Kept<'_>) -> Self {
        let copy = |headers: crate::schedule::Headers<'_>| {
            let mut buf = HeadersBuf::new();
            headers.iter().for_each(|header| buf.push(header.name, header.value));
            buf
        };
        Self {
            id: kept.id.to_vec(),
            offset: kept.offset,
            is_json: kept.format == Format::Json,
            due_ms: kept.schedule.due.epoch_ms(),
            topic: kept.schedule.topic.to_owned(),
            key: kept.schedule.key.to_vec(),
            value: kept.schedule.value.map(<[u8]>::to_vec),
            headers: copy(kept.schedule.headers),
            record_headers: copy(kept.record_headers),
            held: kept.held,
        }
    }

    pub(super) fn as_kept(&self) -> Kept<'_> {
        Kept {
            id: &self.id,
            offset: self.offset,
            format: if self.is_json { Format::Json } else { Format::Avro },
            schedule: Schedule {
                due: DueTime::from_epoch_ms(self.due_ms),
                topic: &self.topic,
                key: &self.key,
                value: self.value.as_deref(),
                headers: self.headers.as_headers(),
            },
            record_headers: self.record_headers.as_headers(),
            held: self.held,
        }
    }
}

impl PartialEq for Sample {
    fn eq(&self, other: &Self) -> bool {
        self.as_kept() == other.as_kept()
    }
}

/// Any schedule; of the names few, so that they come again, or any.
pub(super) fn any_sample() -> impl Strategy<Value = Sample> {
    let headers = || {
        prop::collection::vec((any::<String>(), any::<Option<Vec<u8>>>()), 0..3).prop_map(|pairs| {
            let mut buf = HeadersBuf::new();
            for (name, value) in &pairs {
                buf.push(name, value.as_deref());
            }
            buf
        })
    };
    let topic = prop_oneof![3 => "[ab]?", 1 => any::<String>()];
    let text = (any::<Vec<u8>>(), topic, any::<Vec<u8>>(), any::<Option<Vec<u8>>>());
    let numbers = (any::<i64>(), any::<i64>(), any::<bool>(), any::<bool>());
    (text, numbers, headers(), headers()).prop_map(|(text, numbers, headers, record_headers)| {
        let (id, topic, key, value) = text;
        let (offset, due_ms, is_json, held) = numbers;
        Sample { id, offset, is_json, due_ms, topic, key, value, headers, record_headers, held }
    })
}

/// A stand in which every field says something.
pub(super) fn stand() -> Stand {
    Stand {
        topic: "schedules".to_owned(),
        partition: 3,
        topic_id: "x6-M4GZdQ_6vJ3kVgBm5Lg".to_owned(),
        offset: 1_234_567,
        leader_epoch: Some(17),
        hash_seed: 0x0123_4567_89ab_cdef,
        schedules: 40,
        taken: Moment {
            wall_ms: 1_767_225_600_000,
            boot: Some(Boot { id: [7; 16], since_boot_ms: 86_400_000 }),
        },
        log_start: 1_000,
        tombstone_retention_ms: 3_600_000,
        read_as: "Avro".to_owned(),
    }
}

/// The file of these schedules.
pub(super) fn encode(encoder: Encoder, samples: &[Sample]) -> Vec<u8> {
    encode_in_pieces(encoder, samples).concat()
}

/// The file of these schedules, in the pieces in which the encoder gives it.
pub(super) fn encode_in_pieces(mut encoder: Encoder, samples: &[Sample]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    for sample in samples {
        encoder.push(&sample.as_kept());
        pieces.extend(std::iter::from_fn(|| encoder.take()));
    }
    pieces.push(encoder.finish());
    pieces
}

/// All that a file gives, and the refusal it ends with, if it does.
pub(super) fn decode(file: &[u8]) -> (Option<Stand>, Vec<Sample>, Option<Refusal>) {
    match Decoder::open(file) {
        Ok(mut decoder) => {
            let stand = decoder.stand().clone();
            let (samples, refusal) = read_all(&mut decoder);
            (Some(stand), samples, refusal)
        }
        Err(refusal) => (None, Vec::new(), Some(refusal)),
    }
}

/// The schedules, and the refusal they end with, if they do.
pub(super) fn read_all<R: std::io::Read>(decoder: &mut Decoder<R>) -> (Vec<Sample>, Option<Refusal>) {
    let mut samples = Vec::new();
    loop {
        match decoder.next_block() {
            Ok(Some(block)) => {
                for kept in block.schedules() {
                    match kept {
                        Ok(kept) => samples.push(Sample::of(&kept)),
                        Err(refusal) => return (samples, Some(refusal)),
                    }
                }
            }
            Ok(None) => return (samples, None),
            Err(refusal) => return (samples, Some(refusal)),
        }
    }
}
