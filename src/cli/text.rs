//! What people write on a command line, and how bytes are shown to them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};

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

/// A moment with its offset, as RFC 3339 has it, or with the name of its time zone.
pub(super) fn moment(text: &str) -> Result<DueTime, String> {
    let moment = match text.parse::<Timestamp>() {
        Ok(moment) => moment,
        Err(_) => moment_in_zone(text.trim())?,
    };
    Ok(DueTime::from_epoch_ms(moment.as_millisecond()))
}

/// `2030-12-24 18:00 Europe/Paris`
fn moment_in_zone(text: &str) -> Result<Timestamp, String> {
    const WRITE: &str = "write a moment with its offset or its time zone, like 2030-12-24T18:00:00+01:00, 2030-12-24T17:00:00Z or \
                         \"2030-12-24 18:00 Europe/Paris\"";
    let (time, zone) = text.rsplit_once(' ').ok_or(WRITE)?;
    let time: civil::DateTime = time.trim().parse().map_err(|_| WRITE)?;
    // A zone has letters, so that no part of a time is taken for one.
    if !zone.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return Err(WRITE.to_owned());
    }
    let zone = TimeZone::get(zone)
        .map_err(|_| format!("no time zone is called {zone}: write one like Europe/Paris, or UTC"))?;
    zone.to_ambiguous_timestamp(time).unambiguous().map_err(|_| {
        "the clocks there are changed at that time, so that it comes twice or never: write it with its offset".into()
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

/// The same, and how far off that is.
pub(super) fn show_due(epoch_ms: i64) -> String {
    format!(
        "{} ({})",
        show_moment(epoch_ms),
        show_distance(epoch_ms.saturating_sub(SystemClock::new().now_ms()))
    )
}

/// How far off something is: `in 1h 30m`, `2d 3h ago`; the two largest units.
fn show_distance(ms: i64) -> String {
    const UNITS: [(&str, u64); 5] = [("y", 31_536_000), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let mut left = ms.unsigned_abs() / 1_000;
    let mut parts = Vec::new();
    for (unit, seconds) in UNITS {
        if left >= seconds && parts.len() < 2 {
            parts.push(format!("{}{unit}", left / seconds));
        }
        left %= seconds;
    }
    let distance = if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") };
    if ms < 0 { format!("{distance} ago") } else { format!("in {distance}") }
}

/// An ID of the API on one line, so that commands take it as it is shown: text that a terminal would obey goes in base64, too.
pub(super) fn show_id(id: &str) -> String {
    if id.chars().any(char::is_control) { format!("~{}", URL_SAFE_NO_PAD.encode(id)) } else { id.to_owned() }
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
    fn moments_may_have_a_zone() {
        let winter = moment("2030-12-24T18:00:00+01:00").unwrap();
        for same in
            ["2030-12-24 18:00 Europe/Paris", "2030-12-24T18:00:00 Europe/Paris", "2030-12-24 17:00 UTC"]
        {
            assert_eq!(moment(same).unwrap(), winter, "{same}");
        }
        assert_eq!(moment("2030-07-01 12:00 Europe/Paris").unwrap(), moment("2030-07-01T10:00:00Z").unwrap());
        for (wrong, why) in [
            ("2030-12-24 18:00 Europe/Pariss", "no time zone"),
            ("2030-03-31 02:30 Europe/Paris", "never"),
            ("2030-10-27 02:30 Europe/Paris", "twice"),
            ("2030-12-24 18:00", "its offset or its time zone"),
        ] {
            assert!(moment(wrong).is_err_and(|said| said.contains(why)), "{wrong}");
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
        assert_eq!(
            (show_id("order-17"), show_id("\u{1b}[2J")),
            ("order-17".to_owned(), "~G1sySg".to_owned())
        );
    }

    #[test]
    fn distances_have_two_units() {
        for (ms, shown) in [
            (0, "in 0s"),
            (5_400_000, "in 1h 30m"),
            (-183_600_000, "2d 3h ago"),
            (86_400_999, "in 1d"),
            (90_061_000, "in 1d 1h"),
        ] {
            assert_eq!(show_distance(ms), shown);
        }
        assert!(show_distance(i64::MIN).ends_with("ago"));
    }

    #[test]
    fn moments_are_shown_in_utc() {
        assert_eq!(show_moment(1_500), "1970-01-01T00:00:01.500Z");
        assert_eq!(show_moment(i64::MAX), format!("{} ms", i64::MAX));
    }
}
