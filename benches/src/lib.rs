//! What the benches of the engine and the codec share: the allocator of the product.

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;
