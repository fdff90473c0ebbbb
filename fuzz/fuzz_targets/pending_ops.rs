//! The pending set against the model of `tests/pending_model.rs`, in steps that the fuzzer chooses.
#![no_main]

#[path = "../../tests/pending_model/model.rs"]
mod model;

use model::{Run, Step};

/// Looking at everything takes longer than a step does.
const CHECK_EVERY: usize = 16;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    Run::all(input.chunks_exact(STEP_LEN).map(step_of), CHECK_EVERY);
});

/// What to do, and two numbers to do it with.
const STEP_LEN: usize = 1 + 8 + 8;

fn step_of(bytes: &[u8]) -> Step {
    let number = |from: usize| u64::from_le_bytes(bytes[from..from + 8].try_into().expect("eight bytes"));
    (bytes[0], number(1), number(9))
}
