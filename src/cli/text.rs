//! What people write on a command line, and how bytes are shown to them.

use std::time::Duration;

use base64::Engine as _;
use jiff::Timestamp;

use crate::codec::BASE64;
use crate::kafka::Clock;
use crate::kafka::clock::SystemClock;
use crate::schedule::DueTime;

/// `name=value`; the value may hold further equals signs.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("write name=value".into()),
    }
}

/// A moment with its offset, as RFC 3339 has it.
pub(super) fn moment(text: &str) -> Result<DueTime, String> {
    text.parse::<Timestamp>().map(|moment| DueTime::from_epoch_ms(moment.as_millisecond())).map_err(|_| {
        "write a moment with its offset, like 2030-12-24T18:00:00+01:00 or 2030-12-24T17:00:00Z".into()
    })
}

/// A duration like `90m` or `1h 30m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write a duration, like 90m, 10s or 1d 12h".into())
}

/// Standard base64.
pub(super) fn base64(text: &str) -> Result<Vec<u8>, String> {
    BASE64.decode(text).map_err(|_| "this is not standard base64".into())
}

pub(super) fn to_base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// The moment `wait` from now; `None` beyond what a schedule can say.
pub(super) fn from_now(wait: Duration) -> Option<DueTime> {
    let wait_ms = i64::try_from(wait.as_millis()).ok()?;
    SystemClock::new().now_ms().checked_add(wait_ms).map(DueTime::from_epoch_ms)
}

/// RFC 3339 in UTC, or plain milliseconds for moments outside the calendar.
pub(super) fn show_moment(epoch_ms: i64) -> String {
    Timestamp::from_millisecond(epoch_ms)
        .map_or_else(|_| format!("{epoch_ms} ms"), |moment| format!("{moment:.3}"))
}

/// Bytes on one line: the text they are, or `base64:` and their base64.
pub(super) fn show_bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.into(),
        _ => format!("base64:{}", to_base64(bytes)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn moments_need_an_offset() {
        assert_eq!(moment("1970-01-01T01:00:01.5+01:00").unwrap().epoch_ms(), 1_500);
        assert_eq!(moment("1969-12-31T23:59:59Z").unwrap().epoch_ms(), -1_000);
        for wrong in ["2030-12-24T18:00:00", "2030-12-24", "tomorrow", "90m", "", "2030-13-01T00:00:00Z"] {
            assert!(moment(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("90m").unwrap(), Duration::from_mins(90));
        assert_eq!(duration("1h 30m").unwrap(), Duration::from_mins(90));
        for wrong in ["90", "-5s", "", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_too_far_off_to_say_is_refused() {
        assert_eq!(from_now(Duration::MAX), None);
        assert!(from_now(Duration::ZERO).unwrap().epoch_ms() > 1_700_000_000_000);
    }

    #[test]
    fn pairs_split_at_the_first_equals_sign() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(pair("a="), Ok(("a".into(), String::new())));
        assert!(pair("=b").is_err() && pair("ab").is_err());
    }

    #[test]
    fn padding_is_optional() {
        assert_eq!(base64("aGk=").unwrap(), b"hi");
        assert_eq!(base64("aGk").unwrap(), b"hi");
        assert!(base64("a-_=").is_err());
    }

    #[test]
    fn bytes_are_shown_so_that_a_terminal_is_safe() {
        assert_eq!(show_bytes("Grüße".as_bytes()), "Grüße");
        assert_eq!(show_bytes(b"\x1b[2J"), "base64:G1sySg==");
        assert_eq!(show_bytes(&[0xff]), "base64:/w==");
    }

    #[test]
    fn moments_are_shown_in_utc() {
        assert_eq!(show_moment(1_500), "1970-01-01T00:00:01.500Z");
        assert_eq!(show_moment(i64::MAX), format!("{} ms", i64::MAX));
    }
}
