//! Writes the inputs that fuzzing starts from, `corpus/<target>/seed-*`: records of the golden vectors where a target
//! reads records, and plain pseudo-random bytes where it reads plans.
//!
//! ```sh
//! cd fuzz && cargo run --example seeds
//! ```

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kafka_message_scheduler::schedule::HeadersBuf;
use serde_json::Value;

/// Longer records are for the tests.
const MAX_LEN: usize = 200;

fn main() -> std::io::Result<()> {
    let avro = golden("avro.json", |case| {
        case["datum"].as_str().map(|datum| STANDARD.decode(datum).expect("base64"))
    });
    let json = golden("json.json", |case| case["text"].as_str().map(|text| text.as_bytes().to_vec()));
    write("avro_differential", &avro)?;
    write("avro_roundtrip", &avro)?;
    write("json_decode", &json)?;
    write("headers", &header_runs())?;
    write("checkpoint", &noise(&[40, 120, 400, 1_200]))?;
    write("pending_ops", &noise(&[17, 170, 340, 510, 680, 850]))?;
    write("wheel_times", &noise(&[16, 64, 128, 256, 512, 1024]))
}

/// A name and an input.
type Seed = (String, Vec<u8>);

fn golden(file: &str, record_of: impl Fn(&Value) -> Option<Vec<u8>>) -> Vec<Seed> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(file);
    let vectors: Value = serde_json::from_slice(&fs::read(path).expect("golden vectors")).expect("JSON");
    let cases = vectors["cases"].as_array().expect("cases").iter();
    let seed = |case: &Value| {
        let name = case["name"].as_str().expect("a case has a name");
        record_of(case).filter(|record| record.len() <= MAX_LEN).map(|record| (name.to_owned(), record))
    };
    cases.filter_map(seed).collect()
}

fn header_runs() -> Vec<Seed> {
    let run = |pairs: &[(&str, Option<&[u8]>)]| {
        let mut buf = HeadersBuf::new();
        for (name, value) in pairs {
            buf.push(name, *value);
        }
        buf.as_headers().as_packed().to_vec()
    };
    let names: Vec<_> = (0..20).map(|n| format!("h{}", n % 18)).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), Some(&b"v"[..]))).collect();
    vec![
        ("one".into(), run(&[("h", Some(b"v"))])),
        ("null and empty".into(), run(&[("n", None), ("", Some(b""))])),
        ("the same name twice".into(), run(&[("h", Some(b"1")), ("é", Some(b"2")), ("h", None)])),
        ("many".into(), run(&many)),
    ]
}

fn noise(lens: &[usize]) -> Vec<Seed> {
    lens.iter().map(|&len| (len.to_string(), bytes(len))).collect()
}

/// `SplitMix64`, seeded with the length.
fn bytes(len: usize) -> Vec<u8> {
    let mut state = len as u64;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn write(target: &str, seeds: &[Seed]) -> std::io::Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&dir)?;
    for (name, seed) in seeds {
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        fs::write(dir.join(format!("seed-{name}")), seed)?;
    }
    Ok(())
}
