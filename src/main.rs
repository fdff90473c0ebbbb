//! The `kms` program.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    use kafka_message_scheduler::config::{Settings, Sources};
    let settings = Settings::load(&Sources::of_process(None, Vec::new()))?.settings;
    kafka_message_scheduler::telemetry::start_log(&settings.logging);
    kafka_message_scheduler::instance::run(settings, Default::default())
}
