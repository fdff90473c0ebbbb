//! What an instance answers over HTTP: metrics and health on one address, the API on another.

pub mod api;
mod connections;
mod dashboard;
mod health;
mod samples;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::{Router, routing::get};
use axum_server::Handle;
use axum_server::tls_openssl::{OpenSSLAcceptor, OpenSSLConfig};
use openssl::ssl::{AlpnError, SslAcceptor, SslFiletype, SslMethod, select_next_proto};
use tokio::net::TcpListener;

use crate::config::AdminTls;
use crate::scheduler::status::Status;
use crate::telemetry::Metrics;
use crate::version::Version;
use connections::Doorkeeper;

/// What the answers are about.
#[derive(Clone, Debug)]
pub struct Observed {
    /// What the shards publish.
    pub status: Arc<Status>,
    /// The metrics of the same.
    pub metrics: Arc<Metrics>,
    /// How long a shard's thread may show no sign of life.
    pub stalled_after: Duration,
}

/// Why HTTP is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {listen}: {source}; choose another address with {choose}")]
    Bind {
        /// The address of the settings.
        listen: SocketAddr,
        /// What sets it.
        choose: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The certificate or its key.
    #[error(
        "cannot use the certificate {certificate} with the key {key}: {source}; admin.tls.certificate and admin.tls.key name PEM files"
    )]
    Tls {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of its key.
        key: PathBuf,
        /// What OpenSSL says.
        source: openssl::error::ErrorStack,
    },
    /// The listener broke.
    #[error("serving HTTP failed: {0}")]
    Serve(std::io::Error),
}

/// A client that has not sent a request so long after it connected, or after its last one, is hung up on.
const REQUEST_PATIENCE: Duration = Duration::from_secs(15);
/// Answers that are under way when serving ends get so long.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Takes the address of metrics and health, so that a start fails early if it cannot. Port 0 takes a free one: see the
/// listener's own address, or the log.
pub async fn bind(listen: SocketAddr) -> Result<TcpListener, ServeError> {
    let listener = take(listen, "metrics.listen (of the demo: --metrics)").await?;
    tracing::info!("metrics and health are served on http://{}", address(&listener, listen));
    Ok(listener)
}

/// Takes the address of the API, which is served by this scheme.
pub async fn bind_api(listen: SocketAddr, scheme: &str) -> Result<TcpListener, ServeError> {
    let listener = take(listen, "admin.listen (of the demo: --admin), or serve none: `none`").await?;
    tracing::info!("the admin API and the dashboard are served on {scheme}://{}", address(&listener, listen));
    Ok(listener)
}

async fn take(listen: SocketAddr, choose: &'static str) -> Result<TcpListener, ServeError> {
    TcpListener::bind(listen).await.map_err(|source| ServeError::Bind { listen, choose, source })
}

fn address(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}

/// What the admin API is encrypted with, if it is.
pub fn tls(settings: &AdminTls) -> Result<Option<OpenSSLConfig>, ServeError> {
    let acceptor = || {
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
        builder.set_certificate_chain_file(&settings.certificate)?;
        builder.set_private_key_file(&settings.key, SslFiletype::PEM)?;
        builder.check_private_key()?;
        builder.set_alpn_select_callback(|_, offered| {
            select_next_proto(b"\x08http/1.1", offered).ok_or(AlpnError::NOACK)
        });
        Ok(OpenSSLConfig::from_acceptor(Arc::new(builder.build())))
    };
    settings.is_set().then(acceptor).transpose().map_err(|source| ServeError::Tls {
        certificate: settings.certificate.clone(),
        key: settings.key.clone(),
        source,
    })
}

#[allow(clippy::disallowed_methods, reason = "the task that waits for the end ends with it")]
/// Answers until `shutdown` is done, then finishes the answers that were begun.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<OpenSSLConfig>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let handle = Handle::new();
    let stop = handle.clone();
    tokio::spawn(async move {
        shutdown.await;
        stop.graceful_shutdown(Some(LAST_ANSWERS));
    });
    let listener = listener.into_std().map_err(ServeError::Serve)?;
    let mut server = axum_server::from_tcp(listener)
        .map_err(ServeError::Serve)?
        .handle(handle)
        .http1_only()
        .first_request_timeout(REQUEST_PATIENCE);
    server.http_builder().http1().header_read_timeout(REQUEST_PATIENCE);
    let service = router.into_make_service();
    let door = Doorkeeper::new();
    match tls {
        None => server.acceptor(door).serve(service).await,
        Some(config) => server.acceptor(OpenSSLAcceptor::new(config).acceptor(door)).serve(service).await,
    }
    .map_err(ServeError::Serve)
}

/// The dashboard, and the API that it uses.
pub fn console(api: api::Api) -> Router {
    api::router(api).merge(dashboard::router())
}

/// `/metrics`, `/health/live`, `/health/ready`, `/version`.
pub fn router(observed: Observed) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/version", get(async || Json(Version::current())))
        .fallback(async || {
            (StatusCode::NOT_FOUND, "There is: /metrics /health/live /health/ready /version\n")
        })
        .with_state(observed)
}

async fn metrics(State(observed): State<Observed>) -> Response {
    match observed.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[tokio::test]
    async fn it_serves_on_a_free_port_until_told_to_stop() {
        let status = Arc::new(Status::new());
        status.counters("s").fired.add(3);
        let metrics = Arc::new(Metrics::of(&status).unwrap());
        let observed = Observed { status, metrics, stalled_after: Duration::from_mins(1) };
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, router(observed), None, async { drop(stopped.await) }));

        for (path, wanted) in [
            ("/metrics", "kms_schedules_fired_total{"),
            ("/version", "\"librdkafka\":"),
            ("/health/live", "200 OK"),
            ("/nothing", "404 Not Found"),
        ] {
            let answer = tokio::task::spawn_blocking(move || ask(address, path)).await.unwrap();
            assert!(answer.contains(wanted), "{path}: {answer}");
        }

        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).is_err());
    }

    #[tokio::test]
    async fn a_taken_address_is_named() {
        let first = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let taken = first.local_addr().unwrap();
        let message = bind(taken).await.unwrap_err().to_string();
        assert!(message.contains(&taken.to_string()) && message.contains("metrics.listen"), "{message}");
    }
}
