//! The collector: `POST /v1/events` takes what a metrics topic would, without a broker.
//!
//! One object, an array, a line each, a Telegraf batch, line protocol, collectd's
//! `write_http`; gzip or not. A post is one batch: it is taken whole or, when the engine is
//! behind, answered with 503 and nothing of it is kept. What was wrong is in the answer,
//! record by record.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use rhizome_engine::event::{Input, SourceName, SourceReport};
use rhizome_engine::time::{Clock, Timestamp};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use crate::auth::Right;
use crate::deadletter::DeadLetters;
use crate::decode::{BadRecord, DecodeOptions, Decoder, Scope};
use crate::delivery::{Delivery, Inlet, SendError};
use crate::listen::require;

/// Bytes of a post as sent: 4,000 records and more.
pub const MAX_BODY: usize = 1 << 20;

/// Bytes of a post once unpacked. gzip makes a thousandth of zeros; records shrink tenfold.
pub const MAX_UNPACKED: usize = 8 << 20;

/// Posts in hand at once. With [`MAX_UNPACKED`] this bounds the memory that bodies can take.
pub const MAX_POSTS: usize = 32;

/// How long a post may take from the end of its header to its answer.
const POST_TIMEOUT: Duration = Duration::from_secs(15);

/// How often the collector says how well it hears: well within the 30 s after which a source
/// counts as not heard.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// The collector. Clones share it.
#[derive(Clone)]
pub struct Collector(Arc<Inner>);

struct Inner {
    inlet: Inlet,
    clock: Arc<dyn Clock>,
    options: DecodeOptions,
    dead_letters: DeadLetters,
    posts: Semaphore,
    counts: Arc<Counts>,
}

/// What came by the collector so far.
#[derive(Debug, Default)]
pub struct Counts {
    /// Records handed to the engine.
    pub accepted: AtomicU64,
    /// Records and values put aside.
    pub rejected: AtomicU64,
    /// Posts answered with 503.
    pub pushed_back: AtomicU64,
}

/// The answer to a post.
#[derive(Debug, Serialize)]
struct Answer {
    accepted: usize,
    /// How much was wrong; `rejected` and `dropped_values` list the first of it.
    complaints: usize,
    rejected: Vec<Complaint>,
    dropped_values: Vec<Complaint>,
}

#[derive(Debug, Serialize)]
struct Complaint {
    index: usize,
    reason: &'static str,
    detail: String,
}

impl Collector {
    /// A collector that hands over through `inlet`.
    pub fn new(
        inlet: Inlet,
        clock: Arc<dyn Clock>,
        options: DecodeOptions,
        dead_letters: DeadLetters,
    ) -> Self {
        let options = DecodeOptions {
            max_bytes: MAX_UNPACKED,
            ..options
        };
        Self(Arc::new(Inner {
            inlet,
            clock,
            options,
            dead_letters,
            posts: Semaphore::new(MAX_POSTS),
            counts: Arc::default(),
        }))
    }

    /// `POST /v1/events`, to be mounted on a server of [`crate::listen`].
    pub fn router(&self) -> Router {
        let router = Router::new()
            .route("/v1/events", post(events))
            .with_state(self.clone());
        let router = bounded(router).layer(from_fn_with_state(self.clone(), one_of_few));
        require(Right::Ingest, router)
    }

    /// What came so far, to be looked at from elsewhere.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.0.counts)
    }

    /// How well the collector hears: it listens. Whether agents come by it is judged by the
    /// engine's guard, which knows how often they do.
    pub fn report(&self) -> SourceReport {
        SourceReport {
            source: SourceName::Collector,
            flowing: true,
            lag: Duration::ZERO,
            // Nothing can be read again: agents send anew, and until they have, windows are thin.
            refilled: false,
            trouble: String::new(),
        }
    }

    /// Hands the engine a report every few seconds until `stop`.
    pub async fn keep_reporting(&self, stop: CancellationToken) {
        loop {
            // A full queue is no reason to wait: the next report is not far.
            let report = Input::Source(self.report());
            if let Err(SendError::Stopped(_)) = self.0.inlet.try_send(Delivery::new(report)) {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.clock.sleep(REPORT_EVERY) => {}
            }
        }
    }
}

/// The bounds on a body that the collector and the webhook share.
///
/// A time-out is answered with 503 and not 408: senders retry the first and drop the second.
pub(crate) fn bounded(router: Router) -> Router {
    router
        .layer(DefaultBodyLimit::max(MAX_UNPACKED))
        .layer(RequestDecompressionLayer::new())
        .layer(RequestBodyLimitLayer::new(MAX_BODY))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            POST_TIMEOUT,
        ))
}

/// 503, and when to come again.
pub(crate) fn push_back(why: &'static str) -> Response {
    let mut answer = (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    answer
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

async fn one_of_few(State(collector): State<Collector>, request: Request, next: Next) -> Response {
    match collector.0.posts.try_acquire() {
        Ok(_post) => next.run(request).await,
        Err(_) => {
            let pushed_back = &collector.0.counts.pushed_back;
            pushed_back.fetch_add(1, Ordering::Relaxed);
            push_back("too many posts at once: send again later\n")
        }
    }
}

async fn events(State(collector): State<Collector>, body: Bytes) -> Response {
    let collector = &collector.0;
    let now = collector.clock.now();
    let mut batch = collector.inlet.batch(SourceName::Collector, now.wall);
    let mut decoder = Decoder::new(collector.options.clone());
    let accepted = decoder.decode(&body, &mut batch);
    if accepted == 0 {
        collector.inlet.give_back(batch);
        collector.complain(now.wall, &decoder, &body);
        let answer = Answer::new(0, &decoder);
        return (StatusCode::BAD_REQUEST, Json(answer)).into_response();
    }
    if let Err(error) = collector.inlet.try_send(Delivery::new(Input::Batch(batch))) {
        if let SendError::Full(delivery) | SendError::Stopped(delivery) = error
            && let Input::Batch(batch) = delivery.input
        {
            collector.inlet.give_back(batch);
        }
        let pushed_back = &collector.counts.pushed_back;
        pushed_back.fetch_add(1, Ordering::Relaxed);
        return push_back("the engine is behind: send again later\n");
    }
    let counted = &collector.counts.accepted;
    counted.fetch_add(accepted as u64, Ordering::Relaxed);
    collector.complain(now.wall, &decoder, &body);
    (StatusCode::ACCEPTED, Json(Answer::new(accepted, &decoder))).into_response()
}

impl Inner {
    /// Counts what was wrong with a post, once it is sure that the post does not come again.
    fn complain(&self, at: Timestamp, decoder: &Decoder, body: &[u8]) {
        let rejected = &self.counts.rejected;
        rejected.fetch_add(decoder.bad_total() as u64, Ordering::Relaxed);
        self.dead_letters
            .note(at, SourceName::Collector, None, decoder, body);
    }
}

impl Answer {
    fn new(accepted: usize, decoder: &Decoder) -> Self {
        let of = |scope| {
            let bad = decoder.bad().iter().filter(move |bad| bad.scope == scope);
            bad.map(Complaint::from).collect()
        };
        Self {
            accepted,
            complaints: decoder.bad_total(),
            rejected: of(Scope::Record),
            dropped_values: of(Scope::Value),
        }
    }
}

impl From<&BadRecord> for Complaint {
    fn from(bad: &BadRecord) -> Self {
        Self {
            index: bad.index,
            reason: bad.reason.as_str(),
            detail: bad.detail.clone(),
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
