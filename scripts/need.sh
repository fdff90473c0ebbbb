# shellcheck shell=bash
# Sourced by the scripts that need tools from outside: notes what is missing, then installs it or says what to do.

missing_tools=()
missing_packages=()

# need COMMAND PACKAGE: COMMAND must be on the path; Debian's PACKAGE has it.
need() {
    command -v "$1" >/dev/null && return
    missing_tools+=("$1")
    missing_packages+=("$2")
}

# librdkafka, OpenSSL and zstd are compiled from source.
need_c_toolchain() {
    need cc gcc
    need c++ g++
    need make make
    need perl perl
}

# Ends the script with a sentence when a needed tool is missing and cannot be installed here.
satisfy_needs() {
    [ ${#missing_tools[@]} -eq 0 ] && return
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        echo "installing ${missing_packages[*]} (missing: ${missing_tools[*]})" >&2
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update && apt-get install -y --no-install-recommends "${missing_packages[@]}"; } >&2 ||
            { echo "error: apt-get could not install ${missing_packages[*]}; install them by hand" >&2; exit 1; }
        missing_tools=() missing_packages=()
        return
    fi
    echo "error: missing ${missing_tools[*]}; on Debian or Ubuntu: sudo apt-get install -y ${missing_packages[*]}" >&2
    exit 1
}

# Puts cargo on the path; Debian's is too old, so it comes from rustup, which reads rust-toolchain.toml.
need_cargo() {
    command -v cargo >/dev/null && return
    PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    command -v cargo >/dev/null && return
    if [ "$(id -u)" -ne 0 ]; then
        echo "error: missing cargo; install Rust as https://rustup.rs says" >&2
        exit 1
    fi
    need curl curl
    need update-ca-certificates ca-certificates
    satisfy_needs
    echo "installing Rust by rustup (missing: cargo)" >&2
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
        sh -s -- -y --no-modify-path --profile minimal --default-toolchain none >&2 ||
        { echo "error: rustup could not be installed; see https://rustup.rs" >&2; exit 1; }
}

# Puts cargo-fuzz where cargo finds it, which is in cargo's own home.
need_cargo_fuzz() {
    cargo fuzz --version >/dev/null 2>&1 && return
    echo "installing cargo-fuzz (missing)" >&2
    cargo install --locked cargo-fuzz >&2 ||
        { echo "error: cargo-fuzz could not be installed; see https://github.com/rust-fuzz/cargo-fuzz" >&2; exit 1; }
}
