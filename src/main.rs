//! The program `kms`.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    kafka_message_scheduler::allocator::give_back_at_once();
    kafka_message_scheduler::cli::main()
}
