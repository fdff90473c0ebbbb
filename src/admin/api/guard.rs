//! Who may do what: the token, pages of other origins, read-only instances; and headers that keep browsers from guessing.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::error::{self, ApiError};
use crate::config::Admin;

/// What browsers say of who asks.
const SEC_FETCH_SITE: header::HeaderName = header::HeaderName::from_static("sec-fetch-site");

pub(super) async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let mut response = match check(&api.settings.admin, request.method(), request.headers()) {
        Ok(()) => match api.requests.try_acquire() {
            Ok(_permit) => next.run(request).await,
            Err(_) => too_many().into_response(),
        },
        Err(error) => error.into_response(),
    };
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn too_many() -> ApiError {
    let message = "as many requests are being answered as this instance answers at a time";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error::BUSY, message).hint("ask again in a moment")
}

fn check(admin: &Admin, method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    if admin.token.is_empty() {
        // A page whose name was made to resolve to this machine would ask in its own name.
        if !is_loopback(host) {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "wrong_host",
                "without admin.token this is for localhost alone, and the request names another host",
            )
            .hint("ask for http://localhost, or set admin.token"));
        }
    } else if !text(header::AUTHORIZATION).is_some_and(|given| has_token(given, admin.token.reveal())) {
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", "the token is missing or wrong")
            .hint("send the header `Authorization: Bearer TOKEN` with what admin.token is"));
    }
    // Of pages, only the dashboard asks; others could read nothing, but keep the instance busy.
    if text(SEC_FETCH_SITE).is_some_and(|site| !["same-origin", "none"].contains(&site)) {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "foreign_origin",
            "a page of another origin may not ask",
        ));
    }
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    if admin.read_only {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "read_only",
            "this instance changes nothing (admin.read_only)",
        ));
    }
    if let Some(origin) = text(header::ORIGIN)
        && origin.split_once("://").is_none_or(|(_, of)| of != host)
    {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "foreign_origin",
            "a page of another origin may change nothing",
        ));
    }
    // Pages of other origins can send anything but this without being asked first.
    let is_json = |given: &str| given.split(';').next().is_some_and(|kind| kind.trim() == "application/json");
    if matches!(*method, Method::PUT | Method::POST) && !text(header::CONTENT_TYPE).is_some_and(is_json) {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not_json",
            "what changes something has the content type application/json",
        )
        .hint("send the header `Content-Type: application/json`, also where there is no body"));
    }
    Ok(())
}

fn has_token(given: &str, token: &str) -> bool {
    let Some((scheme, given)) = given.split_once(' ') else { return false };
    scheme.eq_ignore_ascii_case("bearer")
        && given.len() == token.len()
        && openssl::memcmp::eq(given.as_bytes(), token.as_bytes())
}

/// Whether a host header names this machine, for itself.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::AdminTls;

    const LOCAL: (header::HeaderName, &str) = (header::HOST, "localhost:9402");
    const JSON: (header::HeaderName, &str) = (header::CONTENT_TYPE, "application/json; charset=utf-8");

    fn admin(token: &str, read_only: bool) -> Admin {
        Admin { listen: None, token: token.into(), read_only, tls: AdminTls::default() }
    }

    /// The status of what is refused; 200 for none.
    fn refusal(admin: &Admin, method: &Method, headers: &[(header::HeaderName, &str)]) -> u16 {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect();
        check(admin, method, &headers).map_or_else(|error| error.into_response().status().as_u16(), |()| 200)
    }

    #[test]
    fn without_a_token_it_is_for_this_machine_alone() {
        for (host, status) in [
            ("localhost", 200),
            ("LOCALHOST:9402", 200),
            ("127.0.0.1:9402", 200),
            ("[::1]:9402", 200),
            ("rebound.example:9402", 403),
            ("localhost.example", 403),
            ("", 403),
        ] {
            assert_eq!(refusal(&admin("", false), &Method::GET, &[(header::HOST, host)]), status, "{host}");
        }
    }

    #[test]
    fn a_token_has_to_be_given_whole() {
        for (given, status) in [
            ("Bearer right", 200),
            ("bearer right", 200),
            ("Bearer righ", 401),
            ("Bearer right ", 401),
            ("right", 401),
        ] {
            let headers = [(header::HOST, "kms.example"), (header::AUTHORIZATION, given)];
            assert_eq!(refusal(&admin("right", false), &Method::GET, &headers), status, "{given}");
        }
        assert_eq!(refusal(&admin("right", false), &Method::GET, &[LOCAL]), 401);
    }

    #[test]
    fn writes_are_json_of_the_same_origin_and_not_read_only() {
        let writer = admin("", false);
        let origin = |of| (header::ORIGIN, of);
        for (headers, status) in [
            (&[LOCAL, JSON][..], 200),
            (&[LOCAL], 415),
            (&[LOCAL, (header::CONTENT_TYPE, "text/plain")], 415),
            (&[LOCAL, JSON, origin("http://localhost:9402")], 200),
            (&[LOCAL, JSON, origin("http://localhost:1")], 403),
            (&[LOCAL, JSON, origin("https://elsewhere.example")], 403),
            (&[LOCAL, JSON, origin("null")], 403),
        ] {
            assert_eq!(refusal(&writer, &Method::PUT, headers), status, "{headers:?}");
        }
        assert_eq!(refusal(&writer, &Method::DELETE, &[LOCAL]), 200, "it has no body");
        assert_eq!(refusal(&admin("", true), &Method::DELETE, &[LOCAL]), 403);
        assert_eq!(refusal(&admin("", true), &Method::GET, &[LOCAL]), 200);
    }
}
