//! What the benches of the engine and the codec share: the allocator of the product, the pending set's peers and the
//! work that all of them are given.

pub mod check;
pub mod peers;
pub mod shuffle;
pub mod workload;

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;
