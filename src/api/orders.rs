//! Operators' orders: `POST /v1/pause` and its like become wishes, which go through planner
//! and guard like any other proposal and are journaled with who and why.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use rhizome_connectors::auth::Who;
use rhizome_engine::Answer;
use rhizome_engine::decision::Reason;
use rhizome_engine::event::{OperatorRequest, Target, Wish};
use rhizome_engine::names::{NodeName, PoolName};
use rhizome_engine::time::parse_duration;
use serde::{Deserialize, Serialize};

use super::{Api, Inner, answer, bad};

/// The longest text of an order, in characters: it goes into the journal as it is.
const MAX_TEXT: usize = 500;

/// The longest maintenance: a node forgotten for longer is a node nobody looks after.
const MAX_MAINTENANCE: std::time::Duration = std::time::Duration::from_secs(7 * 86_400);

/// The body of an order. Which keys are needed depends on the verb.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Order {
    /// The same key twice is one order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Who asks, as the client says; who is authenticated is journaled besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// Why, for whoever reads the journal.
    pub why: String,
    /// The pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Of `scale`: how many nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// Of `cancel`: which operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Of `protect`: whether it is taken off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub off: Option<bool>,
    /// Of `maintenance`: for how long; `0s` ends it.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub length: Option<String>,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderAnswer {
    /// Whether it took effect or is under way.
    pub granted: bool,
    /// Why not, from the closed set of reasons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// In words.
    pub text: String,
    /// The key that it was taken under.
    pub key: String,
}

/// Takes an order.
pub(super) async fn order(
    State(Api(api)): State<Api>,
    who: Option<Extension<Who>>,
    Path(verb): Path<String>,
    body: Bytes,
) -> Response {
    let request = match request(&api, who.as_deref(), &verb, &body) {
        Ok(request) => request,
        Err(error) => return bad(&error),
    };
    let key = request.key.clone();
    // A pause bites before the engine has had its turn: that is what it is for. What ends it is
    // the journal's record, which the gate follows, or a newer pause could be lifted here.
    if let Wish::Pause { pool } = &request.wish {
        api.gate.set_paused(pool.as_ref(), true);
    }
    let answer = match answer(api.engine.wish(request)).await {
        Ok(answer) => answer,
        Err(unavailable) => return unavailable,
    };
    let (code, answer) = match answer {
        Answer::Granted(text) => {
            let answer = OrderAnswer {
                granted: true,
                reason: None,
                text,
                key,
            };
            (StatusCode::OK, answer)
        }
        Answer::Refused(reason, text) => {
            let code = match reason {
                Reason::Unknown => StatusCode::NOT_FOUND,
                _ => StatusCode::CONFLICT,
            };
            let answer = OrderAnswer {
                granted: false,
                reason: Some(reason.as_str().to_owned()),
                text,
                key,
            };
            (code, answer)
        }
    };
    (code, Json(answer)).into_response()
}

fn request(
    api: &Inner,
    who: Option<&Who>,
    verb: &str,
    body: &[u8],
) -> Result<OperatorRequest, String> {
    let order: Order =
        serde_json::from_slice(body).map_err(|error| format!("the body is no order: {error}"))?;
    if order.why.trim().is_empty() {
        return Err("say `why`: whoever reads the journal will want to know".to_owned());
    }
    let wish = wish(verb, &order)?;
    let unknown = match &wish {
        Wish::Pause { pool: Some(pool) } => !api.pools.contains(pool),
        _ => false,
    };
    if unknown {
        let known: Vec<_> = api.pools.iter().map(|pool| format!("`{pool}`")).collect();
        return Err(format!(
            "there is no such pool; there are: {}",
            known.join(", ")
        ));
    }
    let claimed = order.who.as_deref().map(plain).unwrap_or_default();
    let name = who.map_or("anybody", |who| who.name.as_str());
    let who = if claimed.is_empty() {
        name.to_owned()
    } else {
        format!("{name} ({claimed})")
    };
    Ok(OperatorRequest {
        key: order.key.as_deref().map_or_else(|| fresh_key(api), plain),
        who,
        why: plain(&order.why),
        wish,
    })
}

fn wish(verb: &str, order: &Order) -> Result<Wish, String> {
    let need = |value: &Option<String>, key: &str| {
        value
            .clone()
            .ok_or_else(|| format!("`{verb}` needs `{key}`"))
    };
    let pool = || need(&order.pool, "pool").map(PoolName::new);
    let node = || need(&order.node, "node").map(NodeName::new);
    let target = || match (&order.node, &order.pool) {
        (Some(node), None) => Ok(Target::Node(NodeName::new(node))),
        (None, Some(pool)) => Ok(Target::Pool(PoolName::new(pool))),
        _ => Err(format!("`{verb}` needs one `node` or one `pool`")),
    };
    let wish = match verb {
        "pause" => Wish::Pause {
            pool: order.pool.as_ref().map(PoolName::new),
        },
        "resume" => Wish::Resume {
            pool: order.pool.as_ref().map(PoolName::new),
        },
        "scale" => Wish::Scale {
            pool: pool()?,
            size: order.size.ok_or("`scale` needs `size`")?,
        },
        "replace" => Wish::Replace { node: node()? },
        "cancel" => Wish::Cancel {
            operation: need(&order.operation, "operation")?
                .parse()
                .map_err(|error| format!("{error}"))?,
        },
        "protect" => Wish::Protect {
            node: node()?,
            on: !order.off.unwrap_or(false),
        },
        "adopt" => Wish::Adopt { target: target()? },
        "maintenance" => {
            let target = target()?;
            let length =
                parse_duration(&need(&order.length, "for")?).map_err(|error| error.to_string())?;
            if length > MAX_MAINTENANCE {
                return Err("a maintenance may be `7d` long at most".to_owned());
            }
            Wish::Maintenance { target, length }
        }
        _ => {
            return Err(format!(
                "`{verb}` is no order: there are `pause`, `resume`, `scale`, `replace`, `cancel`, `protect`, `adopt` and `maintenance`"
            ));
        }
    };
    Ok(wish)
}

/// A key for an order that came without one.
fn fresh_key(api: &Inner) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{next}", api.clock.now().wall.millis())
}

/// The text without what could write on a terminal, and not too long.
pub(crate) fn plain(text: &str) -> String {
    text.trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_TEXT)
        .collect()
}
