//! The reader of checkpoints: whatever the bytes are, it neither panics nor makes room for what is not there, and what it
//! gives is what was written, in order: all of it, or what comes before a refusal.
//!
//! Each input is read as a file; as a plan for a file that was written and then damaged; and as a plan for one whose checksums
//! are right, but which no writer wrote.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use kafka_message_scheduler::checkpoint::{Decoder, Encoder, Kept, Moment, Stand};
use kafka_message_scheduler::schedule::{DueTime, Format, Headers, HeadersBuf, Schedule, varint};
use kms_fuzz::Name;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    read(input);
    if let Ok(plan) = Damaged::arbitrary_take_rest(Unstructured::new(input)) {
        damaged(&plan);
    }
    if let Ok(blocks) = Vec::<Forged>::arbitrary_take_rest(Unstructured::new(input)) {
        forged(&blocks);
    }
});

/// All that a file gives, and whether it is said to be complete.
fn read(file: &[u8]) -> (Vec<Written>, bool) {
    let mut given = Vec::new();
    let is_complete = read_into(file, &mut given).is_ok();
    (given, is_complete)
}

/// A refusal's text is made, too, for that must not panic either.
fn read_into(file: &[u8], given: &mut Vec<Written>) -> Result<(), String> {
    let mut decoder = Decoder::open(file).map_err(|refusal| refusal.to_string())?;
    while let Some(block) = decoder.next_block().map_err(|refusal| refusal.to_string())? {
        let before = given.len();
        for kept in block.schedules() {
            given.push(Written::of(&kept.map_err(|refusal| refusal.to_string())?));
        }
        assert_eq!(given.len() - before, block.count());
    }
    assert!(decoder.next_block().is_ok_and(|block| block.is_none()), "it ends once");
    Ok(())
}

/// A schedule that owns its parts.
#[derive(Arbitrary, Clone, Debug, PartialEq)]
struct Written {
    id: Vec<u8>,
    offset: i64,
    is_json: bool,
    time: i64,
    topic: String,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    record_headers: Vec<(String, Option<Vec<u8>>)>,
    held: bool,
}

impl Written {
    fn of(kept: &Kept<'_>) -> Self {
        let pairs = |headers: Headers<'_>| {
            headers.iter().map(|header| (header.name.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        };
        Self {
            id: kept.id.to_vec(),
            offset: kept.offset,
            is_json: kept.format == Format::Json,
            time: kept.schedule.due.epoch_ms(),
            topic: kept.schedule.topic.to_owned(),
            key: kept.schedule.key.to_vec(),
            value: kept.schedule.value.map(<[u8]>::to_vec),
            headers: pairs(kept.schedule.headers),
            record_headers: pairs(kept.record_headers),
            held: kept.held,
        }
    }

    fn push_to(&self, encoder: &mut Encoder) {
        let packed = |pairs: &[(String, Option<Vec<u8>>)]| {
            let mut buf = HeadersBuf::new();
            for (name, value) in pairs {
                buf.push(name, value.as_deref());
            }
            buf
        };
        let (headers, record_headers) = (packed(&self.headers), packed(&self.record_headers));
        encoder.push(&Kept {
            id: &self.id,
            offset: self.offset,
            format: if self.is_json { Format::Json } else { Format::Avro },
            schedule: Schedule {
                due: DueTime::from_epoch_ms(self.time),
                topic: &self.topic,
                key: &self.key,
                value: self.value.as_deref(),
                headers: headers.as_headers(),
            },
            record_headers: record_headers.as_headers(),
            held: self.held,
        });
    }
}

fn encode(schedules: &[Written]) -> Vec<u8> {
    let stand = Stand {
        topic: "schedules".to_owned(),
        partition: 0,
        topic_id: "id".to_owned(),
        offset: 17,
        leader_epoch: Some(3),
        hash_seed: 5,
        schedules: schedules.len() as u64,
        taken: Moment { wall_ms: 1, boot: None },
        log_start: 0,
        tombstone_retention_ms: 3_600_000,
        read_as: String::new(),
    };
    let mut encoder = Encoder::new(&stand);
    let mut file = Vec::new();
    for schedule in schedules {
        schedule.push_to(&mut encoder);
        while let Some(bytes) = encoder.take() {
            file.extend_from_slice(&bytes);
            encoder.recycle(bytes);
        }
    }
    file.extend(encoder.finish());
    file
}

/// What was written, and what befell it.
#[derive(Arbitrary, Debug)]
struct Damaged {
    schedules: Vec<Planned>,
    damages: Vec<Damage>,
}

#[derive(Arbitrary, Debug)]
struct Planned {
    schedule: Written,
    topic: Option<Name>,
    /// Now and then large, so that there are several blocks.
    size: u8,
}

/// From which size on a schedule is large.
const LARGE: u8 = 240;

#[derive(Arbitrary, Debug)]
enum Damage {
    Flip {
        at: u32,
        mask: u8,
    },
    Cut {
        at: u32,
    },
    Insert {
        at: u32,
        bytes: Vec<u8>,
    },
    /// A part is gone, or is there once more.
    Remove {
        at: u32,
        len: u16,
    },
    Repeat {
        at: u32,
        len: u16,
    },
    /// From somewhere on, it is another file of the same.
    Splice {
        at: u32,
    },
}

fn damaged(plan: &Damaged) {
    let schedules: Vec<_> = plan.schedules.iter().take(16).map(Planned::schedule).collect();
    let whole = encode(&schedules);
    let mut file = whole.clone();
    for damage in &plan.damages {
        damage.befall(&mut file, &schedules);
    }
    let (given, is_complete) = read(&file);
    assert!(given.len() <= schedules.len() && given == schedules[..given.len()], "something else was given");
    if file == whole {
        assert!(is_complete && given.len() == schedules.len(), "a whole file is refused");
    } else if is_complete {
        // All of it may have been replaced by another file of the same.
        assert_eq!(given.len(), schedules.len(), "what is missing is not missed");
    }
}

impl Planned {
    fn schedule(&self) -> Written {
        let mut schedule = self.schedule.clone();
        if let Some(topic) = &self.topic {
            schedule.topic = topic.text();
        }
        if self.size >= LARGE {
            schedule.value.get_or_insert_default().resize(100 << 10, self.size);
        }
        schedule
    }
}

impl Damage {
    fn befall(&self, file: &mut Vec<u8>, schedules: &[Written]) {
        if file.is_empty() {
            return;
        }
        let place = |at: u32| at as usize % file.len();
        match *self {
            Self::Flip { at, mask } => {
                let at = place(at);
                file[at] ^= mask;
            }
            Self::Cut { at } => file.truncate(place(at)),
            Self::Insert { at, ref bytes } => {
                let at = place(at);
                file.splice(at..at, bytes.iter().copied());
            }
            Self::Remove { at, len } => {
                let at = place(at);
                let end = file.len().min(at + usize::from(len));
                file.drain(at..end);
            }
            Self::Repeat { at, len } => {
                let at = place(at);
                let end = file.len().min(at + usize::from(len));
                let part = file[at..end].to_vec();
                file.splice(at..at, part);
            }
            Self::Splice { at } => {
                let at = place(at);
                let other = encode(schedules);
                file.truncate(at);
                file.extend(other.iter().skip(at));
            }
        }
    }
}

/// Part of a file whose checksums are right, and which no writer wrote.
#[derive(Arbitrary, Debug)]
enum Forged {
    /// A pair of blocks, nearly right.
    Pair { heads: Vec<Head>, lies: [Lies; 2], excess: Option<Vec<u8>> },
    /// A block that says anything.
    Block { kind: u8, content: Vec<u8>, lies: Lies },
    /// An end mark, nearly right.
    End { lies: Lies },
}

/// What a frame says instead of what is right.
#[derive(Arbitrary, Debug, Default)]
struct Lies {
    sequence: Option<u32>,
    payload_at: Option<u64>,
    count: Option<u32>,
    len: Option<u32>,
}

/// A schedule, nearly right.
#[derive(Arbitrary, Debug)]
struct Head {
    numbers: [u8; 16],
    flags: u8,
    topic: Topic,
    id: Vec<u8>,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    headers: [Run; 2],
    /// One of the lengths, or the topic's number, is another.
    lie: Option<(u8, i64)>,
}

#[derive(Arbitrary, Debug)]
enum Topic {
    New(Vec<u8>),
    Known(u8),
}

#[derive(Arbitrary, Debug)]
enum Run {
    Headers(Vec<(Name, Option<Vec<u8>>)>),
    Bytes(Vec<u8>),
}

fn forged(parts: &[Forged]) {
    let mut file = Forgery::new();
    for part in parts.iter().take(16) {
        match part {
            Forged::Pair { heads, lies, excess } => file.push_pair(heads, lies, excess.as_deref()),
            Forged::Block { kind, content, lies } => {
                let content_at = (file.bytes.len() + FRAME_LEN) as u64;
                file.push_block(u32::from(kind % 5), content, content_at, 0, lies);
            }
            Forged::End { lies } => file.push_end(lies),
        }
    }
    file.push_end(&Lies::default());
    let (given, _) = read(&file.bytes);
    // What is taken for a schedule is one: it can be written, and is read again.
    assert_eq!(read(&encode(&given)), (given, true));
}

/// The layout once more.
const FRAME_LEN: usize = 48;

struct Frame {
    kind: u32,
    sequence: u32,
    identity: [u8; 16],
    payload_at: u64,
    count: u32,
    len: u32,
}

impl Frame {
    fn bytes(&self, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.kind.to_le_bytes());
        bytes.extend(self.sequence.to_le_bytes());
        bytes.extend(self.identity);
        bytes.extend(self.payload_at.to_le_bytes());
        bytes.extend(self.count.to_le_bytes());
        bytes.extend(self.len.to_le_bytes());
        bytes.extend(crc32fast::hash(content).to_le_bytes());
        let check = crc32fast::hash(&bytes);
        bytes.extend(check.to_le_bytes());
        assert_eq!(bytes.len(), FRAME_LEN);
        bytes
    }
}

/// A file that is being forged.
struct Forgery {
    bytes: Vec<u8>,
    identity: [u8; 16],
    sequence: u32,
    schedules: u64,
    frames: crc32fast::Hasher,
}

impl Forgery {
    fn new() -> Self {
        const END_LEN: usize = FRAME_LEN + 12;
        let mut bytes = encode(&[]);
        bytes.truncate(bytes.len() - END_LEN);
        let identity = bytes[16..32].try_into().expect("the head's");
        Self { bytes, identity, sequence: 0, schedules: 0, frames: crc32fast::Hasher::new() }
    }

    fn push_pair(&mut self, heads: &[Head], [first, second]: &[Lies; 2], excess: Option<&[u8]>) {
        let (mut head_bytes, mut payloads, mut topics) = (Vec::new(), Vec::new(), 0);
        for head in heads {
            head.write(&mut head_bytes, &mut payloads, &mut topics);
        }
        payloads.extend_from_slice(excess.unwrap_or_default());
        let payload_at = (self.bytes.len() + FRAME_LEN + head_bytes.len() + FRAME_LEN) as u64;
        let count = heads.len() as u32;
        self.push_block(1, &head_bytes, payload_at, count, first);
        self.push_block(2, &payloads, payload_at, count, second);
        self.schedules += u64::from(count);
    }

    fn push_end(&mut self, lies: &Lies) {
        let content =
            [&self.schedules.to_le_bytes()[..], &self.frames.clone().finalize().to_le_bytes()].concat();
        let content_at = (self.bytes.len() + FRAME_LEN) as u64;
        self.push_block(3, &content, content_at, 0, lies);
    }

    fn push_block(&mut self, kind: u32, content: &[u8], payload_at: u64, count: u32, lies: &Lies) {
        let frame = Frame {
            kind,
            sequence: lies.sequence.unwrap_or(self.sequence),
            identity: self.identity,
            payload_at: lies.payload_at.unwrap_or(payload_at),
            count: lies.count.unwrap_or(count),
            len: lies.len.unwrap_or(content.len() as u32),
        };
        let frame = frame.bytes(content);
        if kind != 3 {
            self.frames.update(&frame);
        }
        self.sequence += 1;
        self.bytes.extend(frame);
        self.bytes.extend_from_slice(content);
    }
}

impl Head {
    fn write(&self, heads: &mut Vec<u8>, payloads: &mut Vec<u8>, topics: &mut i64) {
        heads.extend(self.numbers);
        heads.push(if self.flags < 250 { self.flags & 3 } else { self.flags });
        let [headers, record_headers] = self.headers.each_ref().map(Run::bytes);
        let (number, name) = match &self.topic {
            Topic::Known(number) if *topics > 0 => (i64::from(*number) % *topics, None),
            Topic::Known(_) => (0, Some(&[][..])),
            Topic::New(name) => (*topics, Some(&name[..])),
        };
        let value_len = self.value.as_ref().map_or(-1, |value| value.len() as i64);
        let [id_len, key_len] = [&self.id, &self.key].map(|part| part.len() as i64);
        let [headers_len, own_len] = [&headers, &record_headers].map(|part| part.len() as i64);
        let mut lengths = [id_len, number, key_len, value_len, headers_len, own_len];
        if let Some((which, lie)) = self.lie {
            lengths[usize::from(which) % 6] = lie;
        }
        for len in lengths {
            varint::write(heads, len);
        }
        if let Some(name) = name {
            varint::write_bytes(heads, name);
            *topics += 1;
        }
        heads.extend_from_slice(&self.id);
        for part in [&self.key, self.value.as_ref().unwrap_or(&Vec::new()), &headers, &record_headers] {
            payloads.extend_from_slice(part);
        }
    }
}

impl Run {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Headers(pairs) => {
                let mut buf = HeadersBuf::new();
                for (name, value) in pairs {
                    buf.push(&name.text(), value.as_deref());
                }
                buf.as_headers().as_packed().to_vec()
            }
            Self::Bytes(bytes) => bytes.clone(),
        }
    }
}
