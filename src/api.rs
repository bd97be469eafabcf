//! The program's HTTP side: probes, metrics, status, `why`, and operators' orders.
//!
//! It reads what the engine shows and hands in wishes; it never decides. The server in front
//! (`rhizome_connectors::listen`) asks who is there and what they may do.

mod history;
mod orders;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use rhizome_connectors::auth::Right;
use rhizome_connectors::listen::require;
use rhizome_engine::event::Target;
use rhizome_engine::names::{NodeName, PoolName};
use rhizome_engine::status::{Status, Why};
use rhizome_engine::time::{Clock, parse_duration};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::gate::ProgramGate;
use crate::handle::{CallError, EngineHandle};
use crate::metrics::Metrics;
use crate::policies::Policies;

pub use history::Told;
pub(crate) use history::{about_target, at as record_time};
pub(crate) use orders::plain;
pub use orders::{Order, OrderAnswer};

/// How long the engine may take to answer before `/livez` says that it hangs. The longest
/// honest step is a journal sync on a slow disk (5 s in the fault matrix).
const ALIVE_WITHIN: Duration = Duration::from_secs(15);

/// How long a scrape waits for fresh figures before it is given the last ones.
const FRESH_WITHIN: Duration = Duration::from_secs(1);

/// How long any other answer of the engine is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Records of the journal that `why` shows at most, the newest.
const HISTORY_SHOWN: usize = 200;

/// What the endpoints need. Clones share it.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    engine: EngineHandle,
    gate: Arc<ProgramGate>,
    policies: Arc<Policies>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    pools: BTreeSet<PoolName>,
    state: PathBuf,
    dry_run: bool,
    stopping: AtomicBool,
    /// `why` reads the journal's file: one at a time, so that nobody fills the memory by asking.
    reads: Semaphore,
}

/// The parts that the endpoints need.
pub struct Parts {
    /// The way to the engine.
    pub engine: EngineHandle,
    /// The gate, which a pause closes at once.
    pub gate: Arc<ProgramGate>,
    /// The policies.
    pub policies: Arc<Policies>,
    /// The numbers.
    pub metrics: Arc<Metrics>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The pools of the configuration.
    pub pools: BTreeSet<PoolName>,
    /// The folder of the journal.
    pub state: PathBuf,
    /// Whether nothing is called that changes anything.
    pub dry_run: bool,
}

/// The answer of `/v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The program's version.
    pub version: String,
    /// Whether nothing is called that changes anything.
    pub dry_run: bool,
    /// Why the policies' folder as it is now does not run; nothing if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policies_refused: Option<String>,
    /// What the engine shows of itself.
    #[serde(flatten)]
    pub engine: Status,
}

/// The answer of `/v1/why`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhyReport {
    /// What the rules say now; nothing for a node that is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<Why>,
    /// What the journal holds about it, oldest first.
    pub history: Vec<Told>,
}

/// An error, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong and what to do, for a person.
    pub error: String,
}

impl Api {
    /// Endpoints of these parts.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            engine: parts.engine,
            gate: parts.gate,
            policies: parts.policies,
            metrics: parts.metrics,
            clock: parts.clock,
            pools: parts.pools,
            state: parts.state,
            dry_run: parts.dry_run,
            stopping: AtomicBool::new(false),
            reads: Semaphore::new(1),
        }))
    }

    /// From now on `/readyz` says no: the program ends.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::SeqCst);
    }

    /// The endpoints, each behind the right that it needs.
    pub fn router(&self) -> Router {
        let probes = Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz));
        let reads = Router::new()
            .route("/metrics", get(metrics))
            .route("/v1/status", get(status))
            .route("/v1/why", get(why));
        let orders = Router::new().route("/v1/{verb}", post(orders::order));
        probes
            .with_state(self.clone())
            .merge(require(Right::Read, reads.with_state(self.clone())))
            .merge(require(Right::Operate, orders.with_state(self.clone())))
    }
}

/// 200 while the engine's thread goes round: else the process is to be started again.
async fn livez(State(Api(api)): State<Api>) -> Response {
    match tokio::time::timeout(ALIVE_WITHIN, api.engine.counters()).await {
        Ok(Ok(_)) => (StatusCode::OK, "ok\n").into_response(),
        // A full queue of calls is an engine that was asked too much, not one that hangs;
        // the calls that fill it time out if it does.
        Ok(Err(CallError::Busy)) => (StatusCode::OK, "busy\n").into_response(),
        Ok(Err(CallError::Stopped)) => unavailable("the engine has stopped"),
        Err(_) => unavailable("the engine does not answer"),
    }
}

/// 200 while events and orders are taken, whatever else is ill: that is told by `/v1/status`.
async fn readyz(State(Api(api)): State<Api>) -> Response {
    if api.stopping.load(Ordering::SeqCst) {
        return unavailable("the program is stopping");
    }
    match tokio::time::timeout(FRESH_WITHIN, api.engine.counters()).await {
        Ok(Ok(_)) => (StatusCode::OK, "ok\n").into_response(),
        Ok(Err(error)) => unavailable(&error.to_string()),
        Err(_) => unavailable("the engine is busy"),
    }
}

async fn metrics(State(Api(api)): State<Api>) -> Response {
    if let Ok(Ok(overview)) = tokio::time::timeout(FRESH_WITHIN, api.engine.overview()).await {
        api.metrics.set_engine(overview);
    }
    api.metrics.set_gate_held(api.gate.held());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], api.metrics.encode()).into_response()
}

async fn status(State(Api(api)): State<Api>) -> Result<Json<StatusReport>, Response> {
    let engine = answer(api.engine.status()).await?;
    Ok(Json(StatusReport {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        dry_run: api.dry_run,
        policies_refused: api.policies.refused().map(|text| text.to_string()),
        engine,
    }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WhyQuery {
    node: Option<String>,
    pool: Option<String>,
    since: Option<String>,
}

async fn why(
    State(Api(api)): State<Api>,
    Query(query): Query<WhyQuery>,
) -> Result<Json<WhyReport>, Response> {
    let target = match (&query.node, &query.pool) {
        (Some(node), None) => Target::Node(NodeName::new(node)),
        (None, Some(pool)) => Target::Pool(PoolName::new(pool)),
        _ => return Err(bad("name one `node` or one `pool`")),
    };
    let since = match query.since.as_deref().map(parse_duration) {
        Some(Ok(length)) => Some(api.clock.now().wall.minus(length)),
        Some(Err(error)) => return Err(bad(&error.to_string())),
        None => None,
    };
    let now = answer(api.engine.why(target.clone())).await?;
    let Ok(_turn) = api.reads.acquire().await else {
        return Err(unavailable("the program is stopping"));
    };
    let (folder, about) = (api.state.clone(), target.clone());
    let read = move || history::read(&folder, &about, since, HISTORY_SHOWN);
    let history = tokio::task::spawn_blocking(read).await.unwrap_or_default();
    // What stopped everything is no sign that the name ever was.
    let named = history.iter().any(|told| !history::of_all(&told.record));
    if now.is_none() && !named {
        let name = match &target {
            Target::Node(name) => format!("node `{name}`"),
            Target::Pool(name) => format!("pool `{name}`"),
        };
        let error = format!(
            "there is no {name}, and the journal says nothing of it: `rhizome status` lists what there is"
        );
        return Err((StatusCode::NOT_FOUND, Json(Problem { error })).into_response());
    }
    Ok(Json(WhyReport { now, history }))
}

/// Waits for the engine, but not for ever.
async fn answer<T>(call: impl Future<Output = Result<T, CallError>>) -> Result<T, Response> {
    match tokio::time::timeout(ANSWER_WITHIN, call).await {
        Ok(answer) => answer.map_err(|error| unavailable(&error.to_string())),
        Err(_) => Err(unavailable("the engine is busy: try again")),
    }
}

fn bad(error: &str) -> Response {
    let error = error.to_owned();
    (StatusCode::BAD_REQUEST, Json(Problem { error })).into_response()
}

fn unavailable(error: &str) -> Response {
    let error = error.to_owned();
    (StatusCode::SERVICE_UNAVAILABLE, Json(Problem { error })).into_response()
}
