//! What an instance answers over HTTP: metrics and health on one address, the API on another.

pub mod api;
mod health;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::{Router, routing::get};
use tokio::net::TcpListener;

use crate::scheduler::status::Status;
use crate::telemetry::Metrics;
use crate::version::Version;

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
    /// The listener broke.
    #[error("serving HTTP failed: {0}")]
    Serve(std::io::Error),
}

/// Takes the address of metrics and health, so that a start fails early if it cannot. Port 0 takes a free one: see the
/// listener's own address, or the log.
pub async fn bind(listen: SocketAddr) -> Result<TcpListener, ServeError> {
    let listener = take(listen, "metrics.listen (of the demo: --metrics)").await?;
    tracing::info!("metrics and health are served on http://{}", address(&listener, listen));
    Ok(listener)
}

/// Takes the address of the API.
pub async fn bind_api(listen: SocketAddr) -> Result<TcpListener, ServeError> {
    let listener = take(listen, "admin.listen (of the demo: --admin), or serve none: `none`").await?;
    tracing::info!("the admin API is served on http://{}", address(&listener, listen));
    Ok(listener)
}

async fn take(listen: SocketAddr, choose: &'static str) -> Result<TcpListener, ServeError> {
    TcpListener::bind(listen).await.map_err(|source| ServeError::Bind { listen, choose, source })
}

fn address(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}

/// Answers until `shutdown` is done, then finishes the answers that were begun.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await.map_err(ServeError::Serve)
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
        let server = tokio::spawn(serve(listener, router(observed), async { drop(stopped.await) }));

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
