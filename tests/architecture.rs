//! Holds the arrows of `docs/ARCHITECTURE.md`: which room of `src/` may use which.
//!
//! Reads the sources, not the types, so it says what a person sees: a path that begins with `crate::`, with `super::`
//! or with the name of a dependency. Test modules may use what they like.
#![allow(clippy::unwrap_used, reason = "a file that cannot be read is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A top-level module and what it may use.
struct Room {
    name: &'static str,
    /// Other rooms.
    rooms: &'static [&'static str],
    /// Dependencies. `Pure` also bars the clock, threads, files, the network and random hashing of `std`.
    crates: Crates,
}

enum Crates {
    Pure(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}
use Crates::{AllBut, Pure};

const ROOMS: &[Room] = &[
    Room { name: "allocator", rooms: &[], crates: Pure(&["libmimalloc_sys"]) },
    Room { name: "prefetch", rooms: &[], crates: Pure(&[]) },
    Room { name: "schedule", rooms: &[], crates: Pure(&[]) },
    Room {
        name: "engine",
        rooms: &["prefetch", "schedule"],
        crates: Pure(&["slab", "hashbrown", "foldhash", "memmap2", "zerocopy"]),
    },
    Room {
        name: "codec",
        rooms: &["schedule"],
        crates: Pure(&["apache_avro", "base64", "base64_simd", "memchr", "serde", "serde_json", "thiserror"]),
    },
    Room { name: "checkpoint", rooms: &["schedule"], crates: AllBut(RDKAFKA) },
    Room { name: "config", rooms: &["schedule"], crates: AllBut(RDKAFKA) },
    // Observes what the shards publish (`scheduler::status`).
    Room {
        name: "telemetry",
        rooms: &["config", "schedule", "scheduler", "version"],
        crates: AllBut(RDKAFKA),
    },
    Room { name: "kafka", rooms: &["config", "prefetch", "schedule"], crates: AllBut(&[]) },
    Room {
        name: "scheduler",
        rooms: &["checkpoint", "codec", "config", "engine", "kafka", "schedule"],
        crates: AllBut(RDKAFKA),
    },
    // Asks shards by message, never touches them: neither their engine nor their Kafka.
    Room {
        name: "admin",
        rooms: &["codec", "config", "schedule", "scheduler", "telemetry", "version"],
        crates: AllBut(RDKAFKA),
    },
    // Puts an instance together: the only place that knows all of the others.
    Room {
        name: "instance",
        rooms: &["admin", "checkpoint", "config", "kafka", "schedule", "scheduler", "telemetry"],
        crates: AllBut(RDKAFKA),
    },
    // Short-lived clients of commands are plain uses of the `rdkafka` crate.
    Room {
        name: "cli",
        rooms: &[
            "admin",
            "codec",
            "config",
            "instance",
            "kafka",
            "schedule",
            "scheduler",
            "telemetry",
            "version",
        ],
        crates: AllBut(&[]),
    },
    Room { name: "version", rooms: &[], crates: AllBut(&[]) },
];

/// Only the adapter speaks to librdkafka.
const RDKAFKA: &[&str] = &["rdkafka", "rdkafka_sys"];

/// What a pure room must not take from `std`: the path's beginning, or its last name.
const IMPURE_MODULES: &[&str] = &["env", "fs", "net", "os", "process", "thread"];
const IMPURE_NAMES: &[&str] = &["Instant", "SystemTime", "RandomState", "HashMap", "HashSet"];

#[test]
fn arrows_point_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dependencies = dependencies(&fs::read_to_string(root.join("Cargo.toml")).unwrap());
    let files = rust_files(&root.join("src"));
    assert!(files.len() > 3, "the sources are elsewhere");
    let mut test_only = BTreeSet::new();
    let mut found = Vec::new();
    for path in &files {
        let text = fs::read_to_string(path).unwrap();
        let module = module_of(path.strip_prefix(root.join("src")).unwrap());
        let source = Source::read(&text, &module);
        test_only.extend(
            source.test_modules.iter().map(|name| [module.as_slice(), std::slice::from_ref(name)].concat()),
        );
        let breaches = breaches(&module, &source, &dependencies);
        found.extend(
            breaches.into_iter().map(|breach| (module.clone(), format!("{}: {breach}", path.display()))),
        );
    }
    found.retain(|(module, _)| !test_only.iter().any(|test| module.starts_with(test)));
    let found: Vec<_> = found.into_iter().map(|(_, breach)| breach).collect();
    assert!(found.is_empty(), "the architecture is broken:\n  {}", found.join("\n  "));
}

/// What the source of `module` uses and must not.
fn breaches(module: &[String], source: &Source, dependencies: &BTreeSet<String>) -> Vec<String> {
    let Some(name) = module.first() else { return Vec::new() }; // main.rs and lib.rs join the rooms.
    let Some(room) = ROOMS.iter().find(|room| room.name == name) else {
        return vec![format!(
            "`{name}` is no room of tests/architecture.rs; give it its line there and in the docs"
        )];
    };
    source.paths.iter().filter_map(|path| breach(room, path, dependencies)).collect()
}

fn breach(room: &Room, path: &[String], dependencies: &BTreeSet<String>) -> Option<String> {
    let name = room.name;
    let [first, rest @ ..] = path else { return None };
    if first == "crate" {
        let used = rest.first()?.as_str();
        let known = ROOMS.iter().any(|room| room.name == used);
        return if used == name || room.rooms.contains(&used) {
            None
        } else if known {
            Some(format!("`{name}` may not use `{used}`, but names `{}`", path.join("::")))
        } else {
            Some(format!("`{}` goes around the rooms: name the room it comes from", path.join("::")))
        };
    }
    if ["std", "core", "alloc"].contains(&first.as_str()) {
        let impure = rest.first().is_some_and(|module| IMPURE_MODULES.contains(&module.as_str()))
            || rest.iter().any(|part| IMPURE_NAMES.contains(&part.as_str()));
        let pure = matches!(room.crates, Pure(_));
        return (pure && impure).then(|| format!("`{name}` is pure, but names `{}`", path.join("::")));
    }
    let barred = match room.crates {
        Pure(allowed) => dependencies.contains(first) && !allowed.contains(&first.as_str()),
        AllBut(barred) => barred.contains(&first.as_str()),
    };
    barred.then(|| format!("`{name}` may not use the crate `{first}`, but names `{}`", path.join("::")))
}

/// The names under which the manifest's dependencies appear in code.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let manifest: toml::Table = manifest.parse().unwrap();
    let names = |table: &str| {
        manifest.get(table).and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys)
    };
    let mut all: BTreeSet<_> =
        names("dependencies").chain(names("dev-dependencies")).map(|name| name.replace('-', "_")).collect();
    all.extend(RDKAFKA.iter().map(|name| (*name).to_owned()));
    all
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// `engine/wheel.rs` → `[engine, wheel]`; `main.rs` and `lib.rs` → `[]`.
fn module_of(file: &Path) -> Vec<String> {
    let mut module: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if module.last().is_some_and(|last| last == "mod") || module == ["main"] || module == ["lib"] {
        module.pop();
    }
    module
}

/// What a file says outside its tests.
struct Source {
    /// Every path it names, `super` resolved to `crate`, the groups of `use` taken apart.
    paths: Vec<Vec<String>>,
    /// Modules it declares for tests only.
    test_modules: Vec<String>,
}

impl Source {
    fn read(text: &str, module: &[String]) -> Self {
        let mut test_modules = Vec::new();
        let tokens = without_tests(&tokens(text), &mut test_modules);
        let mut paths = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            if !is_name(&tokens[at]) {
                at += 1;
                continue;
            }
            let (begin, known) = (at, paths.len());
            at = take_path(&tokens, begin, &[], &mut paths);
            // A word alone is a name of this file, unless it is imported.
            if paths[known..].iter().all(|path| path.len() == 1) && (begin == 0 || tokens[begin - 1] != "use")
            {
                paths.truncate(known);
            }
        }
        let paths = paths.into_iter().map(|path| resolve(path, module)).collect();
        Self { paths, test_modules }
    }
}

/// Reads the path that begins at `at` and appends it, or its branches, to `paths`; gives where it ends.
fn take_path(tokens: &[String], mut at: usize, before: &[String], paths: &mut Vec<Vec<String>>) -> usize {
    let mut path = before.to_vec();
    let token = |at: usize| tokens.get(at).map_or("", String::as_str);
    while is_name(token(at)) {
        path.push(token(at).to_owned());
        at += 1;
        if token(at) != "::" {
            break;
        }
        at += 1;
    }
    if token(at) != "{" || tokens.get(at.wrapping_sub(1)).is_none_or(|previous| previous != "::") {
        paths.push(path);
        return at;
    }
    at += 1;
    while at < tokens.len() && token(at) != "}" {
        at = if is_name(token(at)) { take_path(tokens, at, &path, paths) } else { at + 1 };
    }
    at + 1
}

/// Turns `super::…` as seen from `module` into `crate::…`.
///
/// Inside an inline module this goes one level too far up; such modules, tests apart, are not this project's way.
fn resolve(path: Vec<String>, module: &[String]) -> Vec<String> {
    let ups = path.iter().skip(usize::from(path[0] == "self")).take_while(|part| *part == "super").count();
    if ups == 0 {
        return path;
    }
    let base = module[..module.len().saturating_sub(ups)].iter().cloned();
    let rest = path.into_iter().skip_while(|part| part == "self" || part == "super");
    std::iter::once("crate".to_owned()).chain(base).chain(rest).collect()
}

/// Drops every item under `#[cfg(test)]`, noting the modules among them that lie in files of their own.
fn without_tests(tokens: &[String], test_modules: &mut Vec<String>) -> Vec<String> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].iter().zip(MARK).all(|(token, mark)| token == mark) || tokens.len() - at < MARK.len()
        {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += MARK.len();
        let mut depth = 0;
        let item = &tokens[at..];
        let end = item.iter().position(|token| {
            depth += i32::from(token == "{") - i32::from(token == "}");
            depth == 0 && (token == "}" || token == ";")
        });
        let end = end.unwrap_or(item.len() - 1);
        if let Some([_, name, semicolon]) = item[..=end].windows(3).find(|window| window[0] == "mod")
            && semicolon == ";"
        {
            test_modules.push(name.clone());
        }
        at += end + 1;
    }
    kept
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The words and signs of Rust source, without comments, strings, characters and lifetimes.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        let next = chars.get(at + 1).copied().unwrap_or(' ');
        let word = |at: usize| chars[at..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
        at += match c {
            '/' if next == '/' => chars[at..].iter().take_while(|c| **c != '\n').count(),
            '/' if next == '*' => block_comment(&chars[at..]),
            '"' => string(&chars[at..]),
            'r' | 'b' | 'c' if raw_string(&chars[at..]).is_some() => raw_string(&chars[at..]).unwrap_or(1),
            '\'' => character_or_lifetime(&chars[at..]),
            ':' if next == ':' => {
                tokens.push("::".to_owned());
                2
            }
            c if c.is_alphanumeric() || c == '_' => {
                let len = word(at);
                tokens.push(chars[at..at + len].iter().collect());
                len
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(c.to_string());
                }
                1
            }
        };
    }
    tokens
}

fn block_comment(chars: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => depth += 1,
            ('*', Some('/')) => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(chars: &[char]) -> usize {
    let mut at = 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The length of `r"…"`, `br#"…"#` and the like; `None` when no raw string begins here.
fn raw_string(chars: &[char]) -> Option<usize> {
    let prefix = chars.iter().take_while(|c| ['b', 'c'].contains(*c)).count();
    if prefix > 1 || chars.get(prefix) != Some(&'r') {
        return None;
    }
    let hashes = chars[prefix + 1..].iter().take_while(|c| **c == '#').count();
    let open = prefix + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let inside = chars[open + 1..].windows(close.len()).position(|window| window == close)?;
    Some(open + 1 + inside + close.len())
}

fn character_or_lifetime(chars: &[char]) -> usize {
    match (chars.get(1), chars.get(2)) {
        (Some('\\'), _) => 3 + chars[3..].iter().take_while(|c| **c != '\'').count() + 1,
        (Some(_), Some('\'')) => 3,
        _ => 1 + chars[1..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count(),
    }
}

mod canaries {
    use super::*;

    fn found_in(module: &[&str], text: &str) -> Vec<String> {
        let module: Vec<String> = module.iter().map(|part| (*part).to_owned()).collect();
        let dependencies = dependencies("[dependencies]\nrdkafka = '1'\nslab = '1'\ntokio = '1'");
        breaches(&module, &Source::read(text, &module), &dependencies)
    }

    #[test]
    fn planted_breaches_are_found() {
        for (module, text) in [
            (&["engine"][..], "use crate::kafka;"),
            (&["engine", "wheel"], "use crate::{schedule::DueTime, kafka::{Log, Clock}};"),
            (&["engine", "wheel"], "use super::super::kafka::Log;"),
            (&["engine", "wheel", "slot"], "use super::super::super::kafka::Log;"),
            (&["engine"], "fn f() { crate::kafka::f() }"),
            (&["engine"], "use rdkafka::Message;"),
            (&["engine"], "use rdkafka as harmless;"),
            (&["engine"], "pub(super) use tokio::sync::mpsc as m;"),
            (&["engine"], "fn now() -> u64 { std::time::Instant::now() }"),
            (&["engine"], "use std::{fmt, thread};"),
            (&["engine"], "use std::collections::{BTreeMap, HashMap};"),
            (&["engine"], "use crate::Log;"),
            (&["codec", "json"], "use crate::engine::X;"),
            (&["schedule"], "use crate::codec::X;"),
            (&["kafka"], "use crate::scheduler::X;"),
            (&["kafka"], "use crate::engine::X;"),
            (&["scheduler"], "use crate::cli::X;"),
            (&["scheduler"], "use rdkafka::X;"),
            (&["admin", "api"], "use crate::engine::X;"),
            (&["attic"], ""),
        ] {
            assert_eq!(
                found_in(module, text).len(),
                1 + usize::from(text.contains("{Log")),
                "{module:?}: {text}"
            );
        }
    }

    #[test]
    fn what_is_allowed_and_what_is_not_code_is_left_alone() {
        for (module, text) in [
            (
                &["engine", "wheel"][..],
                "use super::hint::Hint; use crate::{engine::index, schedule::DueTime};",
            ),
            (
                &["engine", "wheel", "slot"],
                "use super::Wheel; use super::super::entry; use crate::engine::hint::Hint;",
            ),
            (&["engine"], "use std::{fmt, collections::BTreeMap, time::Duration}; use slab::Slab;"),
            (
                &["engine"],
                "// use crate::kafka;\n/* use crate::kafka; /* nested */ */ const S: &str = \"crate::kafka\";",
            ),
            (
                &["engine"],
                "const S: &str = r#\"\"crate::kafka\"#; const C: char = '\"'; fn f<'a>(kafka: &'a str) {}",
            ),
            (&["engine"], "#[cfg(test)]\nmod tests { use crate::kafka::X; fn f() { {} } }\n"),
            (&["engine"], "fn tokio() { tokio }"),
            (&["scheduler"], "use crate::{engine::X, kafka::Y, codec, schedule}; use std::thread;"),
            (&["cli", "run"], "use crate::{scheduler::X, admin::Y};"),
            (&[], "pub mod engine; use rdkafka::X;"),
        ] {
            assert_eq!(found_in(module, text), [] as [String; 0], "{module:?}: {text}");
        }
    }

    #[test]
    fn code_after_tests_still_counts() {
        let text = "#[cfg(test)]\n#[path = \"x.rs\"]\nmod tests;\n#[cfg(test)] use proptest::X;\nuse crate::kafka::X;";
        assert_eq!(found_in(&["engine"], text).len(), 1);
        assert_eq!(Source::read(text, &["engine".to_owned()]).test_modules, ["tests"]);
    }
}
