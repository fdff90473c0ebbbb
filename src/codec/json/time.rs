//! A schedule's time: any JSON notation of an integer, or a string of digits.

use std::num::IntErrorKind;

use super::Read;
use super::cursor::{Cursor, Malformed};
use crate::codec::{JsonFault, Scratch};

/// Reads the value that begins with `first` as epoch milliseconds.
#[inline(always)]
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    first: u8,
    scratch: &mut Scratch,
) -> Result<Read<i64>, Malformed> {
    if let Some(time) = cursor.plain_integer() {
        return Ok(Ok(time));
    }
    let (read, end) = read_unusual(*cursor, first, scratch)?;
    cursor.resume(end);
    Ok(read)
}

#[inline(never)]
fn read_unusual(
    mut cursor: Cursor<'_>,
    first: u8,
    scratch: &mut Scratch,
) -> Result<(Read<i64>, usize), Malformed> {
    let read = match first {
        b'-' | b'0'..=b'9' => parse_number(cursor.number()?),
        b'"' => match cursor.string()?.unescaped(&mut scratch.unescaped) {
            Ok(text) => parse_digits(text),
            Err(not_unicode) => Err(not_unicode.into()),
        },
        _ => cursor.skip_value(&mut scratch.open).map(|()| Err(JsonFault::NotIntegral))?,
    };
    Ok((read, cursor.at()))
}

fn parse_number(number: &[u8]) -> Result<i64, JsonFault> {
    let number = std::str::from_utf8(number).expect("a number is ASCII");
    number.parse::<i64>().or_else(|_| parse_scientific(number))
}

/// Reads a string of decimal digits.
fn parse_digits(text: &[u8]) -> Result<i64, JsonFault> {
    let text = std::str::from_utf8(text).map_err(|_| JsonFault::NotIntegral)?;
    text.parse::<i64>().map_err(|error| match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => JsonFault::OutOfRange,
        _ => JsonFault::NotIntegral,
    })
}

/// The integer that a JSON number of any notation denotes: exactly, for a `f64` is off by hundreds near the limits.
fn parse_scientific(number: &str) -> Result<i64, JsonFault> {
    const MOST_DIGITS: i64 = 19; // of an i64

    let (sign, unsigned) = number.strip_prefix('-').map_or((1, number), |unsigned| (-1, unsigned));
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let beyond = if exponent.starts_with('-') { i64::MIN } else { i64::MAX };
    let exponent = exponent.parse().unwrap_or(beyond);

    let digits = whole.bytes().chain(fraction.bytes());
    let leading_zeros = digits.clone().take_while(|&digit| digit == b'0').count();
    if leading_zeros == whole.len() + fraction.len() {
        return Ok(0);
    }
    let trailing_zeros = digits.clone().rev().take_while(|&digit| digit == b'0').count();
    let significant = whole.len() + fraction.len() - leading_zeros - trailing_zeros;
    // How many digits the integer has: those from the first significant one to the point, where the exponent puts it.
    let wanted = (whole.len() as i64 - leading_zeros as i64).saturating_add(exponent);
    if wanted < significant as i64 {
        return Err(JsonFault::NotIntegral);
    }
    if wanted > MOST_DIGITS {
        return Err(JsonFault::OutOfRange);
    }
    let magnitude = digits
        .skip(leading_zeros)
        .chain(std::iter::repeat(b'0'))
        .take(wanted as usize)
        .fold(0i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
    i64::try_from(sign * magnitude).map_err(|_| JsonFault::OutOfRange)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::sample::Sample;
    use crate::codec::{DecodeError, JsonPlace};
    use crate::schedule::Format;

    fn time_of(time: &str) -> Result<i64, JsonFault> {
        match Sample::decode(Format::Json, format!(r#"{{"time":{time},"topic":"t","key":""}}"#).as_bytes()) {
            Ok(sample) => Ok(sample.time),
            Err(DecodeError::InvalidJson { place: JsonPlace::Time, at: 8, fault }) => Err(fault),
            Err(other) => panic!("{time}: {other}"),
        }
    }

    #[test]
    fn a_time_is_any_notation_of_an_integer() {
        for (time, expected) in [
            ("0", 0),
            ("-0", 0),
            ("-0.0e-5", 0),
            ("0e99999999999999999999", 0),
            ("5.0", 5),
            ("1.7e12", 1_700_000_000_000),
            ("1.7E+12", 1_700_000_000_000),
            ("17000000000000e-1", 1_700_000_000_000),
            ("0.00005e5", 5),
            ("9223372036854775807", i64::MAX),
            ("9223372036854775807.000", i64::MAX),
            ("9.223372036854775807e18", i64::MAX),
            ("92233720368547758070e-1", i64::MAX),
            ("-9223372036854775808.0", i64::MIN),
            ("-9.223372036854775808e18", i64::MIN),
            (r#""-5""#, -5),
            (r#""9223372036854775807""#, i64::MAX),
            (r#""\u0035""#, 5),
        ] {
            assert_eq!(time_of(time), Ok(expected), "{time}");
        }
    }

    #[test]
    fn a_time_is_nothing_else() {
        use JsonFault::{NotIntegral, NotUnicode, OutOfRange};
        for (time, expected) in [
            ("1.5", NotIntegral),
            ("1700000000000.0000000001", NotIntegral),
            ("1e-1", NotIntegral),
            ("1e-99999999999999999999", NotIntegral),
            ("9223372036854775808", OutOfRange),
            ("9223372036854775808.0", OutOfRange),
            ("-9223372036854775809", OutOfRange),
            ("-9.223372036854775809e18", OutOfRange),
            ("1e19", OutOfRange),
            ("1e99999999999999999999", OutOfRange),
            ("null", NotIntegral),
            ("true", NotIntegral),
            ("[5]", NotIntegral),
            ("{}", NotIntegral),
            (r#""""#, NotIntegral),
            (r#"" 5""#, NotIntegral),
            (r#""5.0""#, NotIntegral),
            (r#""1.7e12""#, NotIntegral),
            (r#""9223372036854775808""#, OutOfRange),
            (r#""\ud800""#, NotUnicode),
        ] {
            assert_eq!(time_of(time), Err(expected), "{time}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4 * ProptestConfig::default().cases))]

        /// The point moved to any place, the exponent making up for it.
        #[test]
        fn a_time_is_exact_in_any_notation(time: i64, point in 0usize..25, zeros in 0usize..3) {
            let (sign, magnitude) = (if time < 0 { "-" } else { "" }, format!("{:020}", time.unsigned_abs()));
            let digits = format!("{magnitude}{}", "0".repeat(zeros));
            let point = point.clamp(1, digits.len());
            let exponent = magnitude.len() as i64 - point as i64;
            let whole = digits[..point].trim_start_matches('0');
            let whole = if whole.is_empty() { "0" } else { whole };
            let fraction = if point == digits.len() { "0" } else { &digits[point..] };
            prop_assert_eq!(time_of(&format!("{sign}{whole}.{fraction}e{exponent}")), Ok(time));
        }
    }
}
