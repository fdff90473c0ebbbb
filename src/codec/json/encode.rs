//! A schedule as JSON.

use super::swar;
use crate::codec::base64;
use crate::schedule::Schedule;

/// Appends `schedule` to `out`, without blanks and with every field.
#[inline(never)]
pub(in crate::codec) fn encode(schedule: &Schedule<'_>, out: &mut Vec<u8>) {
    const AROUND: usize = 96; // names, punctuation and the time, with room to spare
    let raw_len = schedule.topic.len() + schedule.key.len() + schedule.value.map_or(0, <[u8]>::len);
    out.reserve(AROUND + (raw_len + schedule.headers.as_packed().len()).div_ceil(3) * 4);

    out.extend_from_slice(b"{\"time\":");
    serde_json::to_writer(&mut *out, &schedule.due.epoch_ms()).expect(MEMORY);
    out.extend_from_slice(b",\"topic\":");
    write_string(out, schedule.topic);
    out.extend_from_slice(b",\"key\":");
    write_base64(out, schedule.key);
    out.extend_from_slice(b",\"value\":");
    match schedule.value {
        None => out.extend_from_slice(b"null"),
        Some(value) => write_base64(out, value),
    }
    out.extend_from_slice(b",\"headers\":{");
    for (i, header) in schedule.headers.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(out, header.name);
        out.push(b':');
        write_base64(out, header.value.unwrap_or_default());
    }
    out.extend_from_slice(b"}}");
}

const MEMORY: &str = "writing to memory does not fail";

fn write_string(out: &mut Vec<u8>, text: &str) {
    if swar::is_plain(text.as_bytes()) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, text).expect(MEMORY);
    }
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    base64::encode(bytes, out);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use crate::codec::sample::Sample;
    use crate::schedule::Format;

    #[test]
    fn the_encoding_is_plain() {
        let sample = Sample {
            time: -5,
            topic: "t\"é".into(),
            key: b"k".to_vec(),
            value: None,
            headers: vec![("a".into(), b"1".to_vec()), ("\n".into(), vec![])],
        };
        let expected =
            r#"{"time":-5,"topic":"t\"é","key":"aw==","value":null,"headers":{"a":"MQ==","\n":""}}"#;
        assert_eq!(sample.encode(Format::Json), expected.as_bytes());
    }
}
