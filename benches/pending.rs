//! The pending set beside its peers, at sizes at which every touch is a cache miss:
//! `cargo bench -p kms-benches --bench pending`.
//!
//! Each set is built once, with every schedule replaced once in random order, and then measured in a steady state. 64 bytes
//! of content a schedule (ID 16, key 8, value 40), due at random within thirty days. Each is in a process of its own, so
//! that none finds the memory as another left it. Nothing else should run on the machine.
//!
//! Arguments go to Criterion: `-- 'cancel/(kms|BTreeMap)/1000000$'` builds and measures just those.
//!
//! | variable | |
//! |---|---|
//! | `KMS_BENCH_SIZES` | sizes instead of `100000,1000000,10000000` |
//! | `KMS_BENCH_50M` | `1` adds 50,000,000; needs 20 GB |
#![allow(missing_docs, clippy::disallowed_methods, reason = "a program that measures")]

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use kms_benches::check::check;
use kms_benches::peers::{Heap, Kms, Nexus, Pending, QuadWheel, SlabWheel, Sorted, TokioQueue};
use kms_benches::workload::World;

const PEERS: [Peer; 8] = [
    Peer::of::<Kms<true>>(),
    Peer::of::<Kms<false>>(),
    Peer::of::<TokioQueue>(),
    Peer::of::<Sorted>(),
    Peer::of::<Heap>(),
    Peer::of::<QuadWheel>(),
    Peer::of::<SlabWheel>(),
    Peer::of::<Nexus>(),
];

/// What `cargo test --benches` runs everything with, once.
const TEST_SIZE: usize = 2_000;

/// Tells a process which peer to measure, by its place, and at which size.
const ONLY: &str = "KMS_BENCH_ONLY";

struct Peer {
    check: fn(),
    measure: fn(&mut Criterion, usize),
}

impl Peer {
    const fn of<P: Pending>() -> Self {
        Self { check: check::<P>, measure: measure::<P> }
    }
}

fn main() -> ExitCode {
    if let Ok(only) = std::env::var(ONLY) {
        let (peer, size) = only.split_once(' ').expect("set below");
        run(&PEERS[peer.parse::<usize>().expect("set below")], size.parse().expect("set below"));
        return ExitCode::SUCCESS;
    }
    for peer in &PEERS {
        (peer.check)();
    }
    // Without --bench, Criterion takes it for a test, too.
    if !std::env::args().any(|argument| argument == "--bench") {
        for peer in &PEERS {
            run(peer, TEST_SIZE);
        }
        return ExitCode::SUCCESS;
    }
    for size in sizes() {
        for peer in 0..PEERS.len() {
            let itself = std::env::current_exe().expect("it is running");
            let process = Command::new(itself)
                .args(std::env::args_os().skip(1))
                .env(ONLY, format!("{peer} {size}"))
                .status();
            if !process.is_ok_and(|status| status.success()) {
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn run(peer: &Peer, size: usize) {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    (peer.measure)(&mut criterion, size);
    criterion.final_summary();
}

/// Does an operation that often, and says how long it took.
type Operation<P> = fn(&mut World<P>, usize) -> Duration;

/// Every operation on one set, which is built when the first is asked for and gone before the next set.
fn measure<P: Pending>(criterion: &mut Criterion, size: usize) {
    let mut world = None;
    let operations: [(&str, Operation<P>); 5] = [
        ("insert", World::insert),
        ("replace", World::replace),
        ("cancel", World::cancel),
        ("due_settle", World::due_settle),
        ("mixed", World::mixed),
    ];
    for (name, operation) in operations {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new(P::NAME, size), |bencher| {
            let world = world.get_or_insert_with(|| build::<P>(size));
            bencher.iter_custom(|count| operation(world, count as usize));
        });
        group.finish();
    }
    if let Some(world) = world {
        assert_eq!(world.len(), size, "{} did not keep its size", P::NAME);
    }
}

fn build<P: Pending>(size: usize) -> World<P> {
    let (before, started) = (resident_bytes(), Instant::now());
    let world = World::new(size);
    let seconds = started.elapsed().as_secs_f64();
    // Less what the workload itself keeps, four bytes a place.
    let grown = resident_bytes() as f64 - before as f64 - 4.0 * size as f64;
    println!(
        "\n{}: {size} inserted and replaced in {seconds:.1} s; {:.0} bytes of memory each",
        P::NAME,
        grown / size as f64
    );
    world
}

fn sizes() -> Vec<usize> {
    let mut sizes = match std::env::var("KMS_BENCH_SIZES") {
        Ok(list) => list.split(',').map(|size| size.trim().parse().expect("a number")).collect(),
        Err(_) => vec![100_000, 1_000_000, 10_000_000],
    };
    if std::env::var("KMS_BENCH_50M").is_ok_and(|wanted| wanted == "1") {
        sizes.push(50_000_000);
    }
    sizes
}

/// Resident memory of this process; zero where there is no /proc.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<usize>().ok()).unwrap_or(0) * 1_024
}
