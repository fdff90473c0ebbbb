//! The merging of sources, with a memory of where each value came from.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::{ConfigError, DEFAULTS, Properties, Settings};

/// What a setting's text is turned into, as its default shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
    Switch,
    List,
    Properties,
}

impl Kind {
    fn of(value: &Value) -> Self {
        match value {
            Value::String(_) => Self::Text,
            Value::Integer(_) => Self::Integer,
            Value::Boolean(_) => Self::Switch,
            Value::Array(_) => Self::List,
            Value::Table(_) => Self::Properties,
            Value::Float(_) | Value::Datetime(_) => unreachable!("no default is of such a kind"),
        }
    }

    /// The kind of a value in a file; `None` for one that no setting has.
    fn of_written(value: &Value) -> Option<Self> {
        (!matches!(value, Value::Float(_) | Value::Datetime(_))).then(|| Self::of(value))
    }

    fn wanted(self) -> &'static str {
        match self {
            Self::Text => "a text in quotes is wanted",
            Self::Integer => "a whole number is wanted",
            Self::Switch => "true or false is wanted",
            Self::List => "a list of texts is wanted",
            Self::Properties => "a table of properties is wanted",
        }
    }
}

/// The values so far: complete from the beginning, since the first layer is the defaults.
pub(super) struct Layers {
    /// Dotted path of each setting.
    kinds: BTreeMap<String, Kind>,
    merged: Table,
    /// Of each setting that is not at its default; a single property has an entry of its own.
    origins: BTreeMap<(String, Option<String>), String>,
}

impl Layers {
    pub(super) fn of_defaults() -> Self {
        let merged: Table = DEFAULTS.parse().expect("the defaults are TOML");
        let mut kinds = BTreeMap::new();
        collect_kinds("", &merged, &mut kinds);
        Self { kinds, merged, origins: BTreeMap::new() }
    }

    /// The dotted path of every setting.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.kinds.keys().map(String::as_str)
    }

    /// Merges a settings file called `origin`.
    pub(super) fn merge_file(&mut self, origin: &str, text: &str) -> Result<(), ConfigError> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
            origin: origin.into(),
            line: 1 + error.span().map_or(0, |span| text[..span.start].matches('\n').count()),
            // Only the message: the text of the line may hold a password.
            why: error.message().into(),
        })?;
        self.merge_table("", table, origin)
    }

    /// Sets one setting from text, as variables and flags have it.
    pub(super) fn set(&mut self, key: &str, text: &str, origin: &str) -> Result<(), ConfigError> {
        let Some(&kind) = self.kinds.get(key) else {
            return Err(self.unknown(key, origin));
        };
        let invalid = |why: String| ConfigError::Invalid { origin: origin.into(), key: key.into(), why };
        let value = match kind {
            Kind::Text => Value::String(text.into()),
            Kind::Integer => Value::Integer(
                text.trim()
                    .replace('_', "")
                    .parse()
                    .map_err(|_| invalid(format!("`{text}` is no whole number")))?,
            ),
            Kind::Switch => Value::Boolean(match text.trim().to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => true,
                "false" | "no" | "off" | "0" => false,
                _ => return Err(invalid(format!("`{text}` is neither true nor false"))),
            }),
            Kind::List => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Value::Array(items.map(|item| Value::String(item.into())).collect())
            }
            Kind::Properties => Value::Table(parse_properties(text).map_err(invalid)?),
        };
        self.put(key, kind, value, origin)
    }

    /// Where the value of a setting, or of one property of it, came from.
    pub(super) fn origin(&self, key: &str, property: Option<&str>) -> String {
        let origin = self.origins.get(&(key.into(), property.map(Into::into)));
        origin.cloned().unwrap_or_else(|| "defaults".into())
    }

    /// The merged value of a text setting.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        let mut names = key.split('.');
        let first = self.merged.get(names.next()?)?;
        names.try_fold(first, |value, name| value.get(name))?.as_str()
    }

    /// All of it, typed.
    pub(super) fn settings(&self) -> Result<Settings, ConfigError> {
        serde_path_to_error::deserialize(Value::Table(self.merged.clone())).map_err(|error| {
            let path = error.path().to_string();
            let key = self.kinds.keys().find(|key| path.starts_with(key.as_str())).cloned().unwrap_or(path);
            let why = error.inner().message().to_owned();
            ConfigError::Invalid { origin: self.origin(&key, None), key, why }
        })
    }

    /// The setting whose name is most like `key`, and how much, from 0 to 1.
    pub(super) fn nearest(&self, key: &str) -> (&str, f64) {
        let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
        // A right name at a wrong level is the likelier slip than a misspelt one.
        let likeness = |known: &str| {
            let whole = strsim::jaro_winkler(key, known);
            whole.max(0.95 * strsim::jaro_winkler(&last(key), &last(known)))
        };
        let known = self.keys().map(|known| (known, likeness(known)));
        known.max_by(|(_, a), (_, b)| a.total_cmp(b)).expect("there are settings")
    }

    fn merge_table(&mut self, prefix: &str, table: Table, origin: &str) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key = format!("{prefix}{name}");
            match (self.kinds.get(&key), value) {
                (Some(&kind), value) if Kind::of_written(&value) == Some(kind) => {
                    self.put(&key, kind, value, origin)?;
                }
                (Some(kind), _) => {
                    return Err(ConfigError::Invalid {
                        origin: origin.into(),
                        key,
                        why: kind.wanted().into(),
                    });
                }
                (None, Value::Table(inner))
                    if self.keys().any(|known| known.starts_with(&format!("{key}."))) =>
                {
                    self.merge_table(&format!("{key}."), inner, origin)?;
                }
                (None, value) => return Err(self.unknown(&first_leaf(key, &value), origin)),
            }
        }
        Ok(())
    }

    fn put(&mut self, key: &str, kind: Kind, value: Value, origin: &str) -> Result<(), ConfigError> {
        let mut path: Vec<&str> = key.split('.').collect();
        let name = path.pop().expect("a key has a name");
        let table = path.into_iter().fold(&mut self.merged, |table, level| {
            table.get_mut(level).and_then(Value::as_table_mut).expect("the defaults have every table")
        });
        self.origins.insert((key.into(), None), origin.into());
        if kind != Kind::Properties {
            table.insert(name.into(), value);
            return Ok(());
        }
        // Property by property: a later layer overrides single ones and leaves the others.
        let properties: Properties = value.try_into().map_err(|error: toml::de::Error| {
            ConfigError::Invalid { origin: origin.into(), key: key.into(), why: error.message().into() }
        })?;
        let merged = table.get_mut(name).and_then(Value::as_table_mut).expect("properties are a table");
        for (property, value) in properties.iter() {
            merged.insert(property.into(), Value::String(value.into()));
            self.origins.insert((key.into(), Some(property.into())), origin.into());
        }
        Ok(())
    }

    fn unknown(&self, key: &str, origin: &str) -> ConfigError {
        ConfigError::UnknownKey {
            origin: origin.into(),
            key: key.into(),
            nearest: self.nearest(key).0.into(),
        }
    }
}

/// The first setting in a table that is not known: more of a name to find the nearest known one by.
fn first_leaf(key: String, value: &Value) -> String {
    match value.as_table().and_then(|table| table.iter().next()) {
        Some((name, inner)) => first_leaf(format!("{key}.{name}"), inner),
        None => key,
    }
}

fn collect_kinds(prefix: &str, table: &Table, kinds: &mut BTreeMap<String, Kind>) {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        match value {
            Value::Table(inner) if name != "properties" => collect_kinds(&format!("{key}."), inner, kinds),
            leaf => drop(kinds.insert(key, Kind::of(leaf))),
        }
    }
}

/// `name=value;name=value`; `\;` and `\\` stand for a semicolon and a backslash in a value.
fn parse_properties(text: &str) -> Result<Table, String> {
    let mut pairs = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let last = pairs.last_mut().expect("never empty");
        match char {
            '\\' => match chars.next_if(|next| matches!(next, ';' | '\\')) {
                Some(escaped) => last.push(escaped),
                None => last.push('\\'),
            },
            ';' => pairs.push(String::new()),
            other => last.push(other),
        }
    }
    let mut table = Table::new();
    for (index, pair) in pairs.iter().enumerate().filter(|(_, pair)| !pair.trim().is_empty()) {
        // Not quoted: it may be the second half of a password with a bare semicolon.
        let (name, value) =
            pair.split_once('=').ok_or_else(|| format!("entry {} is not name=value", index + 1))?;
        table.insert(name.trim().into(), Value::String(value.trim().into()));
    }
    Ok(table)
}
