//! How the program is linked.

#[allow(clippy::disallowed_methods, reason = "cargo tells build scripts by the environment")]
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    if (target("OS"), target("ENV"), target("POINTER_WIDTH")) == ("linux".into(), "gnu".into(), "64".into()) {
        // To `src/kafka/ffi/wait.rs`, which says why.
        println!("cargo:rustc-link-arg-bins=-Wl,--wrap=cnd_timedwait,--wrap=pthread_cond_timedwait");
    }
}
