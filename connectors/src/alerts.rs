//! The webhook: `POST /v1/alerts` takes what Alertmanager (version 4) and Grafana (version 1)
//! send, and `POST /api/v2/alerts` what Prometheus sends to an Alertmanager.
//!
//! A group comes again with all its alerts every few minutes; each alert goes to the engine
//! once for each fingerprint, start and status. That an alert is resolved proves nothing: the
//! alert of a node that dies resolves because its series ends.
//!
//! Alertmanager sends again on 5xx and drops on any 4xx, 429 included. So what a later try
//! could mend is answered with 503, and 400 is only for what is no alert at all.

mod body;
mod seen;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use rhizome_engine::event::{Alert, Input};
use rhizome_engine::time::Clock;
use serde::Serialize;

use crate::auth::Right;
use crate::delivery::{Delivery, Inlet};
use crate::http::{bounded, push_back};
use crate::listen::require;
pub use body::{BadAlert, BadBody, Body, read_api_v2, read_webhook};
use seen::Seen;

/// The webhook. Clones share it.
#[derive(Clone)]
pub struct Alerts(Arc<Inner>);

struct Inner {
    inlet: Inlet,
    clock: Arc<dyn Clock>,
    seen: Mutex<Seen>,
    counts: Arc<Counts>,
}

/// What came by the webhook so far.
#[derive(Debug, Default)]
pub struct Counts {
    /// Alerts handed to the engine.
    pub accepted: AtomicU64,
    /// Alerts that had come before.
    pub duplicates: AtomicU64,
    /// Alerts, or whole bodies, that could not be read.
    pub rejected: AtomicU64,
    /// Alerts that the sender left out (`max_alerts`).
    pub truncated: AtomicU64,
    /// Posts answered with 503.
    pub pushed_back: AtomicU64,
}

/// The answer to a post.
#[derive(Debug, Serialize)]
struct Answer {
    accepted: u64,
    duplicates: u64,
    truncated: u64,
    rejected: Vec<BadAlert>,
}

impl Alerts {
    /// A webhook that hands over through `inlet`.
    pub fn new(inlet: Inlet, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            inlet,
            clock,
            seen: Mutex::default(),
            counts: Arc::default(),
        }))
    }

    /// Both endpoints, to be mounted on a server of [`crate::listen`].
    pub fn router(&self) -> Router {
        let router = Router::new()
            .route("/v1/alerts", post(webhook))
            .route("/api/v2/alerts", post(api_v2))
            .with_state(self.clone());
        require(Right::Alert, bounded(router))
    }

    /// What came so far, to be looked at from elsewhere.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.0.counts)
    }
}

async fn webhook(State(alerts): State<Alerts>, body: Bytes) -> Response {
    alerts.0.take(read_webhook(&body))
}

async fn api_v2(State(alerts): State<Alerts>, body: Bytes) -> Response {
    let now = alerts.0.clock.now().wall;
    alerts.0.take(read_api_v2(&body, now))
}

impl Inner {
    /// Hands over what is new of a body, and says what became of it.
    fn take(&self, body: Result<Body, BadBody>) -> Response {
        let body = match body {
            Ok(body) => body,
            Err(error) => {
                self.counts.rejected.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "an alert webhook could not be read");
                return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response();
            }
        };
        let Body {
            alerts,
            rejected,
            truncated,
        } = body;
        let nothing_usable = alerts.is_empty() && !rejected.is_empty();
        let (mut accepted, mut duplicates) = (0, 0);
        for alert in alerts {
            match self.hand_over(alert) {
                Handed::Over => accepted += 1,
                Handed::Duplicate => duplicates += 1,
                // Those before it are remembered: sent again, they are duplicates.
                Handed::Refused => {
                    self.counts.pushed_back.fetch_add(1, Ordering::Relaxed);
                    self.count(accepted, duplicates, 0, 0);
                    return push_back("the engine is behind: send again later\n");
                }
            }
        }
        self.count(accepted, duplicates, rejected.len() as u64, truncated);
        if truncated > 0 {
            tracing::warn!(
                truncated,
                "an alert webhook left alerts out: raise `max_alerts`"
            );
        }
        let status = if nothing_usable {
            StatusCode::BAD_REQUEST
        } else {
            StatusCode::OK
        };
        let answer = Answer {
            accepted,
            duplicates,
            truncated,
            rejected,
        };
        (status, Json(answer)).into_response()
    }

    fn hand_over(&self, alert: Alert) -> Handed {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Seen::key(&alert);
        if seen.contains(&key) {
            return Handed::Duplicate;
        }
        // Remembered only once it is handed over: what is pushed back must come again.
        match self.inlet.try_send(Delivery::new(Input::Alert(alert))) {
            Ok(()) => {
                seen.insert(key);
                Handed::Over
            }
            Err(_) => Handed::Refused,
        }
    }

    fn count(&self, accepted: u64, duplicates: u64, rejected: u64, truncated: u64) {
        for (count, by) in [
            (&self.counts.accepted, accepted),
            (&self.counts.duplicates, duplicates),
            (&self.counts.rejected, rejected),
            (&self.counts.truncated, truncated),
        ] {
            count.fetch_add(by, Ordering::Relaxed);
        }
    }
}

/// What became of an alert.
enum Handed {
    Over,
    Duplicate,
    Refused,
}

#[cfg(test)]
mod tests;
