# `just` lists these; each also works typed by hand.

default:
    @just --list

# Format and lints, as CI has them.
check:
    cargo fmt --check
    cargo clippy --locked --workspace --all-targets -- -D warnings

# Every test, with a Kafka of its own. Arguments go to cargo.
test *args:
    ./test {{ args }}

# Everything that a merge needs.
ci:
    .ci/run

# Plants faults in the fire path and sees the simulation find them.
canaries *args:
    scripts/canaries {{ args }}

# Fuzz a target or `all` for some seconds, or run a target on a failing input.
fuzz TARGET *args:
    scripts/fuzz {{ TARGET }} {{ args }}

# Watches the demo with a real Prometheus, its rules and the queries of the dashboard.
monitoring *args:
    scripts/check-monitoring {{ args }}

# What schemathesis makes up, to the admin API of the demo.
api:
    scripts/test-api

# The dashboard in a real browser.
dashboard:
    scripts/test-dashboard

bench *args:
    cargo bench {{ args }}

# Counts the instructions of hot operations and compares; --accept commits to the new counts.
instructions *args:
    scripts/instructions {{ args }}

fmt:
    cargo fmt

# The documentation, warnings being errors.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
