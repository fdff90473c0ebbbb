//! The admin API of a running instance, as commands use it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

use super::UsageError;
use crate::config::Secret;

/// Longer than the API takes about anything.
const LONGEST: Duration = Duration::from_mins(1);
/// A page has a megabyte of content, or one schedule; base64 and escapes make it more.
const LARGEST: u64 = 64 << 20;
/// What a path or a parameter may have as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Which instance is asked.
#[derive(Debug, Args)]
pub(super) struct AdminArgs {
    /// The admin API of a running instance
    #[arg(long, value_name = "URL", env = "KMS_ADMIN_URL", default_value = "http://127.0.0.1:9402")]
    admin: String,
    /// Its token, if it has one
    #[arg(long, value_name = "TOKEN", env = "KMS_ADMIN__TOKEN", hide_env_values = true, value_parser = secret)]
    token: Option<Secret>,
    /// Trust the certificates of this file, PEM, and no others [default: those the system trusts]
    #[arg(long, value_name = "FILE", env = "KMS_ADMIN_CA")]
    admin_ca: Option<PathBuf>,
}

/// Which instance is asked, and about which schedule topic.
#[derive(Debug, Args)]
pub(super) struct ApiArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// The schedule topic [default: the first one that the instance has]
    #[arg(long, value_name = "TOPIC")]
    pub(super) schedule_topic: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[allow(clippy::unnecessary_wraps, reason = "what clap calls")]
fn secret(text: &str) -> Result<Secret, String> {
    Ok(text.into())
}

/// The path of a schedule.
pub(super) fn schedule_path(id: &str) -> String {
    format!("/api/schedules/{}", utf8_percent_encode(id, ESCAPED))
}

impl ApiArgs {
    pub(super) fn get(&self, path: &str, parameters: &[(&str, String)]) -> anyhow::Result<Value> {
        self.admin.ask("GET", path, self.schedule_topic.as_deref(), parameters, None)
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.admin.ask("POST", path, self.schedule_topic.as_deref(), &[], Some(body))
    }
}

impl AdminArgs {
    pub(super) fn ask(
        &self,
        method: &str,
        path: &str,
        schedule_topic: Option<&str>,
        parameters: &[(&str, String)],
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let base = self.admin.trim_end_matches('/');
        if !base.starts_with("http://") && !base.starts_with("https://") {
            let message =
                format!("--admin, or KMS_ADMIN_URL, has to begin with http:// or https://, and is `{base}`");
            return Err(UsageError(message).into());
        }
        let topic = schedule_topic.map(|topic| ("schedule_topic", topic.to_owned()));
        let query: Vec<String> = parameters
            .iter()
            .cloned()
            .chain(topic)
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(&value, ESCAPED)))
            .collect();
        let separator = if query.is_empty() { "" } else { "?" };
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{base}{path}{separator}{}", query.join("&")));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {}", token.reveal()));
        }
        if body.is_some() {
            request = request.header("Content-Type", "application/json");
        }
        let request = request
            .body(body.map(Value::to_string).unwrap_or_default())
            .map_err(|error| UsageError(format!("cannot ask `{base}`: {error}")))?;
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(LONGEST))
            .tls_config(self.tls()?)
            .build()
            .into();
        let mut answer = agent.run(request).with_context(|| {
            format!("no answer from {base}; is an instance running there (its setting admin.listen)?")
        })?;
        let status = answer.status();
        let text = answer
            .body_mut()
            .with_config()
            .limit(LARGEST)
            .read_to_string()
            .with_context(|| format!("the answer of {base} broke off"))?;
        let json: Option<Value> = serde_json::from_str(&text).ok();
        match json {
            Some(json) if status.is_success() => Ok(json),
            Some(json) => Err(refusal(&json)),
            None => anyhow::bail!("{base} answers {status}, and no JSON: it is no admin API of kms"),
        }
    }
}

impl AdminArgs {
    fn tls(&self) -> anyhow::Result<TlsConfig> {
        let roots = match &self.admin_ca {
            None => RootCerts::PlatformVerifier,
            Some(file) => {
                let wrong = |why: String| UsageError(format!("--admin-ca {}: {why}", file.display()));
                let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
                let certificates: Vec<_> = parse_pem(&pem)
                    .filter_map(|item| match item {
                        Ok(PemItem::Certificate(certificate)) => Some(certificate),
                        _ => None,
                    })
                    .collect();
                if certificates.is_empty() {
                    return Err(wrong("there is no certificate in it, in PEM".to_owned()).into());
                }
                RootCerts::from(certificates)
            }
        };
        Ok(TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(roots).build())
    }
}

/// What an error of the API says.
fn refusal(error: &Value) -> anyhow::Error {
    let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    let (code, message, hint) = (text("code"), text("message"), text("hint"));
    let hint =
        if code == "unauthorized" { "give it with --token or KMS_ADMIN__TOKEN".to_owned() } else { hint };
    let message = match hint.as_str() {
        "" => message,
        hint => format!("{message}; {hint}"),
    };
    if code.starts_with("invalid_") { UsageError(message).into() } else { anyhow::anyhow!(message) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ids_are_escaped_in_paths() {
        assert_eq!(schedule_path("order-17"), "/api/schedules/order-17");
        assert_eq!(schedule_path("a/b?c \u{fc}"), "/api/schedules/a%2Fb%3Fc%20%C3%BC");
        assert_eq!(schedule_path("~_w"), "/api/schedules/~_w");
    }

    #[test]
    fn what_is_refused_is_said_with_its_hint() {
        let error = refusal(&json!({"code": "busy", "message": "it is busy", "hint": "wait"}));
        assert_eq!(error.to_string(), "it is busy; wait");
        assert!(!error.is::<UsageError>());
        assert!(refusal(&json!({"code": "invalid_id", "message": "no"})).is::<UsageError>());
    }
}
