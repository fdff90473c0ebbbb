//! The words that settings are written in: durations, secrets, properties, patterns of names.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use globset::{Glob, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// What is shown in place of a secret.
const MASK: &str = "********";

/// A text that is never shown: `Debug` and serialization mask it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn masked(&self) -> &'static str {
        if self.is_empty() { "" } else { MASK }
    }
}

impl<T: Into<String>> From<T> for Secret {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.masked())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.masked())
    }
}

/// Properties of librdkafka, by name. `Debug` and serialization mask those that hold secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// The properties in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn masked(&self) -> BTreeMap<&str, &str> {
        self.iter().map(|(name, value)| (name, if holds_secret(name) { MASK } else { value })).collect()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Properties {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.masked().fmt(f)
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.masked().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut properties = BTreeMap::new();
        flatten("", toml::Table::deserialize(deserializer)?, &mut properties).map_err(D::Error::custom)?;
        Ok(Self(properties))
    }
}

/// A dotted name that was not quoted came as nested tables; it means the same.
fn flatten(prefix: &str, table: toml::Table, into: &mut BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in table {
        let name = format!("{prefix}{name}");
        let text = match value {
            toml::Value::Table(inner) => {
                flatten(&format!("{name}."), inner, into)?;
                continue;
            }
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(yes) => yes.to_string(),
            toml::Value::Array(_) | toml::Value::Datetime(_) => {
                return Err(format!("the value of {name} must be a text, a number, true or false"));
            }
        };
        into.insert(name, text);
    }
    Ok(())
}

/// Errs on the side of masking: a URL hidden by its name does no harm, a password shown does.
fn holds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "passphrase", "secret", "token", "key.pem", "oauthbearer.config", "jaas"]
        .iter()
        .any(|word| name.contains(word))
}

/// Durations as people write them: `10s`, `500ms`, `1m 30s`.
pub(super) mod duration {
    use super::{Deserialize, Deserializer, Duration, Serializer};
    use serde::de::Error as _;

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(d)?;
        humantime::parse_duration(&text)
            .map_err(|_| D::Error::custom(format!("`{text}` is no duration; write 500ms, 10s or 1m 30s")))
    }

    pub(in crate::config) fn serialize<S: Serializer>(duration: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&humantime::format_duration(*duration))
    }
}

/// Sizes as people write them: `12GiB`, `512MB`, `1048576`. Nothing, or 0, is none.
/// An address to listen on, or `none`.
pub(super) mod optional_address {
    use std::net::SocketAddr;

    use super::{Deserialize, Deserializer, Serializer};
    use serde::de::Error as _;

    const NONE: &str = "none";

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<SocketAddr>, D::Error> {
        let text = String::deserialize(d)?;
        if text.is_empty() || text == NONE {
            return Ok(None);
        }
        let unreadable = |_| {
            D::Error::custom(format!("`{text}` is no address; write 127.0.0.1:9402 or [::1]:9402, or none"))
        };
        text.parse().map(Some).map_err(unreadable)
    }

    #[allow(clippy::ref_option, reason = "serde hands over the field as it is")]
    pub(in crate::config) fn serialize<S: Serializer>(
        address: &Option<SocketAddr>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        match address {
            Some(address) => s.collect_str(address),
            None => s.serialize_str(NONE),
        }
    }
}

/// A number of bytes; an empty text is none.
pub(super) mod size {
    use super::{Deserialize, Deserializer, Serializer};
    use serde::de::Error as _;

    /// Bytes of a unit; the first that divides a size is the one it is written in.
    const UNITS: [(&str, u64); 8] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("KB", 1_000),
    ];

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
        let text = String::deserialize(d)?;
        let bytes = parse(&text).ok_or_else(|| {
            D::Error::custom(format!("`{text}` is no size; write 12GiB, 512MB or a whole number of bytes"))
        })?;
        Ok((bytes > 0).then_some(bytes))
    }

    #[allow(clippy::ref_option, reason = "serde hands over the field as it is")]
    pub(in crate::config) fn serialize<S: Serializer>(size: &Option<u64>, s: S) -> Result<S::Ok, S::Error> {
        let Some(bytes) = *size else { return s.serialize_str("") };
        match UNITS.iter().find(|(_, unit)| bytes.is_multiple_of(*unit)) {
            Some((name, unit)) => s.collect_str(&format_args!("{}{name}", bytes / unit)),
            None => s.collect_str(&bytes),
        }
    }

    fn parse(text: &str) -> Option<u64> {
        let text = text.trim();
        if text.is_empty() {
            return Some(0);
        }
        let with_unit = UNITS.iter().find_map(|(name, unit)| Some((without(text, name)?, *unit)));
        let (number, unit) = with_unit.unwrap_or((without(text, "B").unwrap_or(text), 1));
        number.trim_end().replace('_', "").parse::<u64>().ok()?.checked_mul(unit)
    }

    /// The text before `end`, which is written in capitals or not.
    fn without<'a>(text: &'a str, end: &str) -> Option<&'a str> {
        let (before, found) = text.split_at_checked(text.len().checked_sub(end.len())?)?;
        found.eq_ignore_ascii_case(end).then_some(before)
    }
}

/// Patterns of topic names, compiled: `*`, `?`, `[ab]`, `{one,two}`.
#[derive(Clone, Debug)]
pub struct Patterns {
    written: Vec<String>,
    compiled: GlobSet,
}

impl Patterns {
    /// Whether one of the patterns matches all of `topic`.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        self.compiled.is_match(topic)
    }

    fn compile(written: Vec<String>) -> Result<Self, globset::Error> {
        let mut set = GlobSetBuilder::new();
        for pattern in &written {
            set.add(Glob::new(pattern)?);
        }
        Ok(Self { compiled: set.build()?, written })
    }
}

impl PartialEq for Patterns {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Serialize for Patterns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::compile(Vec::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn secrets_do_not_show() {
        let properties = Properties::from_iter([
            ("sasl.username", "ann"),
            ("sasl.password", "hush"),
            ("ssl.key.pem", "hush"),
            ("SSL.Key.Password", "hush"),
            ("sasl.oauthbearer.client.secret", "hush"),
        ]);
        let shown = format!("{properties:?} {:?} {:?}", Secret::from("hush"), Secret::default());
        assert!(!shown.contains("hush"), "{shown}");
        assert!(shown.contains("ann") && shown.ends_with("\"\""), "{shown}");
    }

    #[test]
    fn dotted_names_need_no_quotes() {
        let bare: Properties = toml::from_str("session.timeout.ms = 6000\nsession.x = true").unwrap();
        let quoted: Properties =
            toml::from_str("\"session.timeout.ms\" = '6000'\n\"session.x\" = 'true'").unwrap();
        assert_eq!(bare, quoted);
        assert_eq!(bare.iter().next(), Some(("session.timeout.ms", "6000")));
    }

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    struct Bound {
        #[serde(with = "size")]
        size: Option<u64>,
    }

    #[test]
    fn sizes_are_understood_as_people_write_them() {
        for (written, bytes) in [
            ("12GiB", Some(12 << 30)),
            ("12 gib", Some(12 << 30)),
            ("512MB", Some(512_000_000)),
            ("3k", None),
            ("3kb", Some(3_000)),
            ("1_048_576", Some(1 << 20)),
            ("7B", Some(7)),
            ("99999999TiB", None),
            ("1.5GiB", None),
            ("-1GiB", None),
            ("GiB", None),
            ("ü", None),
        ] {
            let read = toml::from_str::<Bound>(&format!("size = '{written}'"));
            assert_eq!(read.ok().and_then(|read| read.size), bytes, "{written}");
        }
        for none in ["", "0", "0GiB"] {
            assert_eq!(toml::from_str::<Bound>(&format!("size = '{none}'")).unwrap().size, None);
        }
        let message = toml::from_str::<Bound>("size = 'lots'").unwrap_err().to_string();
        assert!(message.contains("`lots`") && message.contains("12GiB"), "{message}");
    }

    #[test]
    fn a_size_is_written_so_that_it_can_be_read_again() {
        for (size, written) in
            [(None, ""), (Some(12 << 30), "12GiB"), (Some(5_000), "5KB"), (Some(1_001), "1001")]
        {
            let text = toml::to_string(&Bound { size }).unwrap();
            assert_eq!(text.trim_end(), format!("size = \"{written}\""));
            assert_eq!(toml::from_str::<Bound>(&text).unwrap().size, size);
        }
    }

    #[test]
    fn a_pattern_matches_the_whole_name() {
        let patterns = Patterns::compile(vec!["__*".into(), "billing.{eu,us}".into()]).unwrap();
        for (topic, matches) in [
            ("__consumer_offsets", true),
            ("a__b", false),
            ("billing.eu", true),
            ("billing.eu.late", false),
            ("billingxeu", false),
        ] {
            assert_eq!(patterns.matches(topic), matches, "{topic}");
        }
    }
}
