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
const TEXT: &str = "text/plain; charset=utf-8";

const ASSETS: &[Asset] = &[
    ("/dashboard-api.js", SCRIPT, include_str!("dashboard/dashboard-api.js")),
    ("/dashboard-bytes.js", SCRIPT, include_str!("dashboard/dashboard-bytes.js")),
    ("/dashboard-cancel-many.js", SCRIPT, include_str!("dashboard/dashboard-cancel-many.js")),
    ("/dashboard-changes.js", SCRIPT, include_str!("dashboard/dashboard-changes.js")),
    ("/dashboard-charts.js", SCRIPT, include_str!("dashboard/dashboard-charts.js")),
    ("/dashboard-content.js", SCRIPT, include_str!("dashboard/dashboard-content.js")),
    ("/dashboard-dom.js", SCRIPT, include_str!("dashboard/dashboard-dom.js")),
    ("/dashboard-due.js", SCRIPT, include_str!("dashboard/dashboard-due.js")),
    ("/dashboard-form.js", SCRIPT, include_str!("dashboard/dashboard-form.js")),
    ("/dashboard-format.js", SCRIPT, include_str!("dashboard/dashboard-format.js")),
    ("/dashboard-live.js", SCRIPT, include_str!("dashboard/dashboard-live.js")),
    ("/dashboard-over-time.js", SCRIPT, include_str!("dashboard/dashboard-over-time.js")),
    ("/dashboard-overview.js", SCRIPT, include_str!("dashboard/dashboard-overview.js")),
    ("/dashboard-partitions.js", SCRIPT, include_str!("dashboard/dashboard-partitions.js")),
    ("/dashboard-recent.js", SCRIPT, include_str!("dashboard/dashboard-recent.js")),
    ("/dashboard-route.js", SCRIPT, include_str!("dashboard/dashboard-route.js")),
    ("/dashboard-schedule.js", SCRIPT, include_str!("dashboard/dashboard-schedule.js")),
    ("/dashboard-schedules.js", SCRIPT, include_str!("dashboard/dashboard-schedules.js")),
    ("/dashboard-theme.js", SCRIPT, include_str!("dashboard/dashboard-theme.js")),
    ("/dashboard-time.js", SCRIPT, include_str!("dashboard/dashboard-time.js")),
    ("/dashboard-walk.js", SCRIPT, include_str!("dashboard/dashboard-walk.js")),
    ("/dashboard.css", CSS, include_str!("dashboard/dashboard.css")),
    ("/dashboard.js", SCRIPT, include_str!("dashboard/dashboard.js")),
    ("/favicon.svg", SVG, include_str!("dashboard/favicon.svg")),
    ("/", HTML, include_str!("dashboard/index.html")),
    ("/uplot-license.txt", TEXT, include_str!("dashboard/uplot-license.txt")),
    ("/uplot.css", CSS, include_str!("dashboard/uplot.css")),
    ("/uplot.js", SCRIPT, include_str!("dashboard/uplot.js")),
];

/// Nothing but these files may run, nowhere but here may they ask, and no text may become markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

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
