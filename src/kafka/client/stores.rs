//! Key and trust stores: what Java deployments have, turned into what librdkafka takes.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use openssl::pkcs12::{ParsedPkcs12_2, Pkcs12};
use openssl::provider::Provider;
use rdkafka::ClientConfig;

use crate::config::{Kafka, Secret};

/// Why a store is of no use.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be read.
    #[error("cannot read the {store} {path}: {source}")]
    Read {
        /// Key store or trust store.
        store: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A format of Java's own.
    #[error(
        "the {store} {path} is a {kind} store, which only Java reads; convert it with: keytool -importkeystore \
         -srckeystore {path} -destkeystore {} -deststoretype PKCS12", path.with_extension("p12").display()
    )]
    Java {
        /// Key store or trust store.
        store: &'static str,
        /// The file.
        path: PathBuf,
        /// JKS or JCEKS.
        kind: &'static str,
    },
    /// Neither of the formats that are understood.
    #[error("the {store} {path} is neither PKCS12 nor PEM")]
    Unrecognised {
        /// Key store or trust store.
        store: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Wrong password, most likely.
    #[error("cannot open the {store} {path}: {why}; is {password} right?")]
    Open {
        /// Key store or trust store.
        store: &'static str,
        /// The file.
        path: PathBuf,
        /// The setting of its password.
        password: &'static str,
        /// What OpenSSL says.
        why: String,
    },
    /// It opens, but what it is there for is missing.
    #[error("the {store} {path} holds no {missing}")]
    Incomplete {
        /// Key store or trust store.
        store: &'static str,
        /// The file.
        path: PathBuf,
        /// What was looked for.
        missing: &'static str,
    },
}

/// Points `config` at the stores of the settings.
pub(super) fn apply(kafka: &Kafka, config: &mut ClientConfig) -> Result<(), StoreError> {
    if let Some(store) = Store::read("key store", "KEYSTORE_PASSWORD", &kafka.keystore_location)? {
        let (path, password) = (store.path.to_string_lossy(), &kafka.keystore_password);
        if store.is_pem {
            config.set("ssl.certificate.location", &*path).set("ssl.key.location", &*path);
            if !password.is_empty() {
                config.set("ssl.key.password", password.reveal());
            }
        } else {
            let opened = store.open(password)?;
            if opened.pkey.is_none() || opened.cert.is_none() {
                return Err(store.holds_no("private key with its certificate"));
            }
            config.set("ssl.keystore.location", &*path).set("ssl.keystore.password", password.reveal());
        }
    }
    if let Some(store) = Store::read("trust store", "TRUSTSTORE_PASSWORD", &kafka.truststore_location)? {
        if store.is_pem {
            config.set("ssl.ca.location", store.path.to_string_lossy());
        } else {
            config.set("ssl.ca.pem", store.certificates(&kafka.truststore_password)?);
        }
    }
    Ok(())
}

/// A store as it lies on disk, in a format that is understood.
struct Store<'a> {
    what: &'static str,
    password_setting: &'static str,
    path: &'a Path,
    bytes: Vec<u8>,
    is_pem: bool,
}

impl<'a> Store<'a> {
    /// `None` when no path is set.
    fn read(
        what: &'static str,
        password_setting: &'static str,
        path: &'a Path,
    ) -> Result<Option<Self>, StoreError> {
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        let bytes = std::fs::read(path).map_err(|source| StoreError::Read {
            store: what,
            path: path.into(),
            source,
        })?;
        let java = |kind| StoreError::Java { store: what, path: path.into(), kind };
        let is_pem = match bytes.as_slice() {
            [0xfe, 0xed, 0xfe, 0xed, ..] => return Err(java("JKS")),
            [0xce, 0xce, 0xce, 0xce, ..] => return Err(java("JCEKS")),
            // An ASN.1 sequence, which a PKCS12 file is.
            [0x30, ..] => false,
            other if other.windows(11).any(|window| window == b"-----BEGIN ") => true,
            _ => return Err(StoreError::Unrecognised { store: what, path: path.into() }),
        };
        Ok(Some(Self { what, password_setting, path, bytes, is_pem }))
    }

    fn open(&self, password: &Secret) -> Result<ParsedPkcs12_2, StoreError> {
        let parse = || Pkcs12::from_der(&self.bytes)?.parse2(password.reveal());
        // A NUL would end the password early in C; no store has such a one.
        let opened = if password.reveal().contains('\0') {
            Err("the password has a NUL character".to_owned())
        } else {
            parse().or_else(|_| {
                allow_legacy_encryption();
                parse().map_err(|errors| {
                    errors
                        .errors()
                        .last()
                        .and_then(openssl::error::Error::reason)
                        .unwrap_or("unknown error")
                        .to_owned()
                })
            })
        };
        opened.map_err(|why| StoreError::Open {
            store: self.what,
            path: self.path.into(),
            password: self.password_setting,
            why,
        })
    }

    /// Every certificate of the store, in PEM.
    fn certificates(&self, password: &Secret) -> Result<String, StoreError> {
        let opened = self.open(password)?;
        let mut pem = String::new();
        for certificate in opened.ca.iter().flatten().chain(opened.cert.iter().map(AsRef::as_ref)) {
            let bytes = certificate.to_pem().unwrap_or_default();
            pem.push_str(&String::from_utf8_lossy(&bytes));
        }
        if pem.is_empty() { Err(self.holds_no("certificate")) } else { Ok(pem) }
    }

    fn holds_no(&self, missing: &'static str) -> StoreError {
        StoreError::Incomplete { store: self.what, path: self.path.into(), missing }
    }
}

/// Stores made by Java 8 are encrypted with RC2-40, which OpenSSL 3 keeps apart. Loaded for the whole process, so
/// that librdkafka, which shares this OpenSSL, opens the key store too.
fn allow_legacy_encryption() {
    static LEGACY: OnceLock<Option<Provider>> = OnceLock::new();
    LEGACY.get_or_init(|| Provider::try_load(None, "legacy", true).ok());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{consumer, producer};
    use super::*;
    use crate::config::{Settings, Sources};
    use openssl::x509::X509;
    use rdkafka::consumer::BaseConsumer;

    fn golden(name: &str) -> String {
        format!("{}/tests/golden/stores/{name}", env!("CARGO_MANIFEST_DIR"))
    }

    fn configured(key: &str, trust: &str, password: &str) -> Result<ClientConfig, super::super::ClientError> {
        let path = |name: &str| if name.is_empty() { String::new() } else { golden(name) };
        let environment = [
            ("SECURITY_PROTOCOL", "SSL".to_owned()),
            ("KEYSTORE_LOCATION", path(key)),
            ("KEYSTORE_PASSWORD", password.to_owned()),
            ("TRUSTSTORE_LOCATION", path(trust)),
            ("TRUSTSTORE_PASSWORD", password.to_owned()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
        consumer(&Settings::load(&Sources { environment, ..Sources::default() }).unwrap().settings, 1)
    }

    #[test]
    fn trust_stores_of_keytool_become_pem() {
        for store in ["trust.p12", "trust-legacy.p12"] {
            let config = configured("", store, "changeit").unwrap();
            let pem = config.get("ssl.ca.pem").unwrap();
            let mut names: Vec<String> = X509::stack_from_pem(pem.as_bytes())
                .unwrap()
                .iter()
                .map(|c| c.subject_name().entries().next().unwrap().data().to_string().unwrap())
                .collect();
            names.sort();
            assert_eq!(names, ["one.example", "two.example"], "{store}");
            config.create::<BaseConsumer>().unwrap();
        }
    }

    #[test]
    fn key_stores_of_keytool_open_in_librdkafka() {
        for store in ["key.p12", "key-legacy.p12"] {
            configured(store, "trust.p12", "changeit").unwrap().create::<BaseConsumer>().unwrap();
        }
    }

    #[test]
    fn pem_files_are_passed_on() {
        let config = configured("trust.pem", "trust.pem", "changeit").unwrap();
        assert_eq!(config.get("ssl.ca.location"), Some(golden("trust.pem").as_str()));
        assert_eq!(config.get("ssl.key.location"), Some(golden("trust.pem").as_str()));
        assert_eq!(config.get("ssl.key.password"), Some("changeit"));
    }

    #[test]
    fn host_names_are_checked_unless_the_user_says_otherwise() {
        let config = configured("", "trust.p12", "changeit").unwrap();
        assert_eq!(config.get("ssl.endpoint.identification.algorithm"), Some("https"));
        let environment = [
            ("SECURITY_PROTOCOL", "SSL"),
            ("KMS_KAFKA_PROPERTIES", "ssl.endpoint.identification.algorithm=none"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let settings = Settings::load(&Sources { environment, ..Sources::default() }).unwrap().settings;
        assert_eq!(producer(&settings).unwrap().get("ssl.endpoint.identification.algorithm"), Some("none"));
    }

    #[test]
    fn a_store_of_no_use_is_refused_with_the_remedy() {
        for (key, trust, password, parts) in [
            ("trust.jks", "", "changeit", ["key store", "-deststoretype PKCS12"]),
            ("", "trust.jks", "changeit", ["trust store", "trust.p12 -deststoretype PKCS12"]),
            ("", "trust.p12", "wrong", ["trust.p12", "TRUSTSTORE_PASSWORD"]),
            ("", "trust-legacy.p12", "wrong", ["trust-legacy.p12", "TRUSTSTORE_PASSWORD"]),
            ("key.p12", "", "wrong", ["key.p12", "KEYSTORE_PASSWORD"]),
            ("trust.p12", "", "changeit", ["trust.p12", "no private key"]),
            ("", "README.md", "changeit", ["README.md", "neither PKCS12 nor PEM"]),
            ("", "absent.p12", "changeit", ["cannot read", "absent.p12"]),
        ] {
            let message = configured(key, trust, password).unwrap_err().to_string();
            for part in parts {
                assert!(message.contains(part), "`{part}` is missing in: {message}");
            }
        }
    }
}
