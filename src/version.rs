//! Which build this is.

use serde::Serialize;

/// Which build this is, as `/version`, the metric `kms_build_info` and `kms --version` say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// The program.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The commit it was built from, if the build set `KMS_GIT_COMMIT`.
    pub commit: Option<&'static str>,
    /// The version of librdkafka that it runs with.
    pub librdkafka: String,
}

impl Version {
    /// Of the running program.
    #[must_use]
    pub fn current() -> Self {
        let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
        Self {
            name: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("KMS_GIT_COMMIT").filter(|commit| !commit.is_empty()),
            librdkafka,
        }
    }
}
