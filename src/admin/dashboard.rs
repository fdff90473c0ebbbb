//! The dashboard: a page that asks the API, embedded in the binary.
//!
//! Its files hold no secrets and are given to whoever asks; what they show is the API's, which asks for the token.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

/// A path, its content type, and what lies there.
type Asset = (&'static str, &'static str, &'static str);

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

const ASSETS: &[Asset] = &[
    ("/", HTML, include_str!("dashboard/index.html")),
    ("/dashboard.css", CSS, include_str!("dashboard/dashboard.css")),
    ("/uplot.css", CSS, include_str!("dashboard/uplot.css")),
    ("/dashboard.js", SCRIPT, include_str!("dashboard/dashboard.js")),
    ("/dashboard-api.js", SCRIPT, include_str!("dashboard/dashboard-api.js")),
    ("/dashboard-charts.js", SCRIPT, include_str!("dashboard/dashboard-charts.js")),
    ("/dashboard-dom.js", SCRIPT, include_str!("dashboard/dashboard-dom.js")),
    ("/dashboard-edit.js", SCRIPT, include_str!("dashboard/dashboard-edit.js")),
    ("/dashboard-many.js", SCRIPT, include_str!("dashboard/dashboard-many.js")),
    ("/dashboard-overview.js", SCRIPT, include_str!("dashboard/dashboard-overview.js")),
    ("/dashboard-partitions.js", SCRIPT, include_str!("dashboard/dashboard-partitions.js")),
    ("/dashboard-recent.js", SCRIPT, include_str!("dashboard/dashboard-recent.js")),
    ("/dashboard-schedule.js", SCRIPT, include_str!("dashboard/dashboard-schedule.js")),
    ("/dashboard-schedules.js", SCRIPT, include_str!("dashboard/dashboard-schedules.js")),
    ("/dashboard-theme.js", SCRIPT, include_str!("dashboard/dashboard-theme.js")),
    ("/uplot.js", SCRIPT, include_str!("dashboard/uplot.js")),
    ("/favicon.svg", SVG, include_str!("dashboard/favicon.svg")),
];

/// Nothing but these files may run, and nowhere but here may they ask.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn router() -> Router {
    ASSETS.iter().fold(Router::new(), |router, &(path, kind, content)| {
        router.route(path, get(async move || serve(kind, content)))
    })
}

fn serve(kind: &'static str, content: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        // After an update of the binary the page is that of the new one.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, content)
}
