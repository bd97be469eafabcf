//! What the body of a rule sees and may do: a pool, a node or an alert, and proposals about it.
//!
//! A body changes nothing. What it asks for is gathered and goes to the planner when the body
//! has ended well; a body that fails asks for nothing (I33).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rhai::{Dynamic, Engine, ImmutableString, NativeCallContext, Position};

use crate::decision::{Direction, Rung};
use crate::event::Alert;
use crate::names::NodeName;
use crate::time::parse_duration;
use crate::window::{Reading, Stat};

use super::error::clean;
use super::host::{Host, Raised, raise};
use super::{BodyAsk, PoolFacts, vocabulary};

/// Proposals of one run. More is a loop gone wrong; the guard would refuse them anyway.
pub(super) const MAX_ASKS: usize = 16;
/// The most nodes that a body may name. The planner holds it against the pool's own bounds.
const MAX_NODES: f64 = 100_000.0;
/// Characters of a reason that are kept.
const LONGEST_WHY: usize = 300;
/// A window with a sample in this share of its panes is covered (I30).
const COVERED: f64 = 0.80;

/// What one run has asked for.
#[derive(Debug, Default)]
pub(super) struct Running {
    pub(super) asks: Vec<BodyAsk>,
}

/// A window that bodies of a file read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BodySignal {
    pub(super) index: u32,
    pub(super) stat: Stat,
    pub(super) metric: Arc<str>,
    pub(super) window: Duration,
}

/// The values of those windows as they were when the run began.
#[derive(Debug)]
pub(super) struct Values {
    pub(super) signals: Arc<[BodySignal]>,
    pub(super) readings: Vec<Reading>,
    /// Whether a value was asked for that there is not: a condition is then unknown.
    pub(super) missing: AtomicBool,
}

/// `pool` in the body of a scale rule.
#[derive(Debug, Clone)]
pub(super) struct PoolHandle {
    pub(super) facts: Arc<PoolFacts>,
    pub(super) direction: Direction,
    pub(super) values: Arc<Values>,
}

/// `node` in the body of a heal rule, or one that `node("name")` names.
#[derive(Debug, Clone)]
pub(super) struct NodeHandle {
    pub(super) name: NodeName,
    /// Nothing of a node that an alert named: the planner finds its pool.
    pub(super) pool: Option<Arc<PoolFacts>>,
    pub(super) ladder: Arc<[Rung]>,
    pub(super) values: Arc<Values>,
}

/// `alert` in the body of an alert rule.
#[derive(Debug, Clone)]
pub(super) struct AlertHandle {
    pub(super) alert: Arc<Alert>,
}

type Context<'a> = NativeCallContext<'a>;
type Text = ImmutableString;

impl Host {
    fn ask(&self, at: Position, ask: BodyAsk) -> Result<(), Raised> {
        let mut state = self.state();
        let Some(running) = &mut state.running else {
            return Err(raise("proposals are made in the body of a rule", at));
        };
        if running.asks.len() >= MAX_ASKS {
            return Err(raise(
                format!("the body asks for more than {MAX_ASKS} things in one run"),
                at,
            ));
        }
        running.asks.push(ask);
        Ok(())
    }
}

impl Values {
    fn read(
        &self,
        at: Position,
        of: (&str, Stat),
        metric: &str,
        window: &str,
    ) -> Result<Reading, Raised> {
        let length = parse_duration(window).map_err(|error| raise(error.to_string(), at))?;
        let place = self.signals.iter().position(|signal| {
            signal.stat == of.1 && &*signal.metric == metric && signal.window == length
        });
        place
            .and_then(|place| self.readings.get(place).copied())
            .ok_or_else(|| {
                raise(
                    format!(
                        "the window `{window}` of `{}` is not kept: name it at the top level with \
                         `watch({metric:?}, {window:?})`",
                        clean(metric, 80)
                    ),
                    at,
                )
            })
    }

    fn value(
        &self,
        at: Position,
        of: (&str, Stat),
        metric: &str,
        window: &str,
    ) -> Result<f64, Raised> {
        let reading = self.read(at, of, metric, window)?;
        let value = match of.1 {
            Stat::Coverage => Some(reading.value.unwrap_or(reading.coverage)),
            _ => reading.value,
        };
        // Missing is not zero, and `()` would compare as false in silence: the run ends here.
        value.filter(|value| value.is_finite()).ok_or_else(|| {
            self.missing.store(true, Ordering::Relaxed);
            raise(
                format!(
                    "`{}({metric:?}, {window:?})` has no value now; ask `covered({metric:?}, \
                     {window:?})` before",
                    of.0
                ),
                at,
            )
        })
    }
}

/// Registers pools, nodes and alerts.
pub(super) fn register(engine: &mut Engine, host: &Arc<Host>) {
    engine
        .register_type_with_name::<PoolHandle>("Pool")
        .register_type_with_name::<NodeHandle>("Node")
        .register_type_with_name::<AlertHandle>("Alert");
    register_getters(engine);
    register_values(engine);
    register_target(engine);
    register_sizes(engine, host);
    register_healing(engine, host);
    register_alerts(engine);
}

fn register_getters(engine: &mut Engine) {
    engine
        .register_get("name", |pool: &mut PoolHandle| pool.facts.name.to_string())
        .register_get("size", |pool: &mut PoolHandle| i64::from(pool.facts.size))
        .register_get("ready", |pool: &mut PoolHandle| i64::from(pool.facts.ready))
        .register_get("min", |pool: &mut PoolHandle| i64::from(pool.facts.min))
        .register_get("max", |pool: &mut PoolHandle| i64::from(pool.facts.max))
        .register_get("name", |node: &mut NodeHandle| node.name.to_string())
        .register_get("pool", |node: &mut NodeHandle| match &node.pool {
            Some(pool) => Dynamic::from(pool.name.to_string()),
            None => Dynamic::UNIT,
        })
        .register_get("name", |alert: &mut AlertHandle| alert.alert.name.clone())
        .register_get("summary", |alert: &mut AlertHandle| {
            clean(&alert.alert.summary, LONGEST_WHY)
        });
}

fn register_values(engine: &mut Engine) {
    for (name, stat) in vocabulary::STATS {
        engine.register_fn(
            name,
            move |context: Context<'_>, pool: &mut PoolHandle, metric: Text, window: Text| {
                let at = context.call_position();
                pool.values.value(at, (name, stat), &metric, &window)
            },
        );
        engine.register_fn(
            name,
            move |context: Context<'_>, node: &mut NodeHandle, metric: Text, window: Text| {
                let at = context.call_position();
                node.values.value(at, (name, stat), &metric, &window)
            },
        );
    }
    engine.register_fn(
        "covered",
        |context: Context<'_>, pool: &mut PoolHandle, metric: Text, window: Text| {
            covered(&pool.values, context.call_position(), &metric, &window)
        },
    );
    engine.register_fn(
        "covered",
        |context: Context<'_>, node: &mut NodeHandle, metric: Text, window: Text| {
            covered(&node.values, context.call_position(), &metric, &window)
        },
    );
}

fn covered(values: &Values, at: Position, metric: &str, window: &str) -> Result<bool, Raised> {
    let reading = values.read(at, ("coverage", Stat::Coverage), metric, window)?;
    Ok(reading.value.unwrap_or(reading.coverage) >= COVERED)
}

fn register_target(engine: &mut Engine) {
    engine.register_fn(
        "target",
        |context: Context<'_>,
         pool: &mut PoolHandle,
         metric: Text,
         window: Text,
         wanted: Dynamic| {
            let at = context.call_position();
            let mean = pool
                .values
                .value(at, ("mean", Stat::Mean), &metric, &window)?;
            let wanted = amount(at, &wanted, "the value wanted per node")?;
            target(&pool.facts, pool.direction, mean, wanted).map_err(|why| raise(why, at))
        },
    );
}

/// The number of nodes at which the mean of a value that nodes share would be `wanted`.
///
/// Nodes that are not ready count as carrying nothing when nodes are added and as carrying
/// `wanted` when nodes are removed, as the Horizontal Pod Autoscaler does: nodes on their way
/// are not ordered twice, and a silent node is not taken for an idle one.
pub(super) fn target(
    pool: &PoolFacts,
    direction: Direction,
    mean: f64,
    wanted: f64,
) -> Result<i64, String> {
    if wanted <= 0.0 {
        return Err(format!(
            "`{wanted}` cannot be reached: write a value above zero"
        ));
    }
    if mean < 0.0 {
        return Err(format!("a mean of {mean} is no load to share out"));
    }
    let absent = match direction {
        Direction::Down => pool.size.saturating_sub(pool.ready),
        Direction::Up | Direction::Either => 0,
    };
    whole(f64::from(pool.ready) * mean / wanted + f64::from(absent))
}

/// `nodes` rounded up, but for what only the arithmetic of floats has added: 7 * 0.6 / 0.6 is
/// 7.000000000000001 and means seven.
fn whole(nodes: f64) -> Result<i64, String> {
    /// Far above the rounding of a few operations, far below a share of a node that matters.
    const NOISE: f64 = 1e-9;
    if !nodes.is_finite() || !(0.0..=MAX_NODES).contains(&nodes) {
        return Err(format!("`{nodes}` is no number of nodes"));
    }
    let nearest = nodes.round();
    let rounded = if (nodes - nearest).abs() <= NOISE * nearest.max(1.0) {
        nearest
    } else {
        nodes.ceil()
    };
    #[allow(
        clippy::cast_possible_truncation,
        reason = "whole, and at most MAX_NODES"
    )]
    Ok(rounded as i64)
}

fn amount(at: Position, value: &Dynamic, what: &str) -> Result<f64, Raised> {
    if let Ok(whole) = value.as_int() {
        #[allow(
            clippy::cast_precision_loss,
            reason = "bounded by MAX_NODES right after"
        )]
        return Ok(whole as f64);
    }
    match value.as_float() {
        Ok(float) if float.is_finite() => Ok(float),
        Ok(float) => Err(raise(format!("`{float}` is no number for {what}"), at)),
        Err(kind) => Err(raise(format!("{what} is a number, not `{kind}`"), at)),
    }
}

fn register_sizes(engine: &mut Engine, host: &Arc<Host>) {
    let here = Arc::clone(host);
    engine.register_fn(
        "resize_to",
        move |context: Context<'_>, pool: &mut PoolHandle, nodes: Dynamic, why: Dynamic| {
            let at = context.call_position();
            let nodes = amount(at, &nodes, "the number of nodes")?;
            let to = whole(nodes).map_err(|why| raise(why, at))?;
            resize(&here, at, pool, to, &why)
        },
    );
    for (name, direction) in [("add", Direction::Up), ("remove", Direction::Down)] {
        let host = Arc::clone(host);
        engine.register_fn(
            name,
            move |context: Context<'_>, pool: &mut PoolHandle, nodes: Dynamic, why: Dynamic| {
                let at = context.call_position();
                let nodes = amount(at, &nodes, "the number of nodes")?;
                let nodes = whole(nodes).map_err(|why| raise(why, at))?;
                if pool.direction != direction {
                    return Err(raise(
                        format!("`{name}` in the other kind of rule: this one cannot do that"),
                        at,
                    ));
                }
                let size = i64::from(pool.facts.size);
                let to = match direction {
                    Direction::Down => size.saturating_sub(nodes).max(0),
                    _ => size.saturating_add(nodes),
                };
                resize(&host, at, pool, to, &why)
            },
        );
    }
}

fn resize(
    host: &Host,
    at: Position,
    pool: &PoolHandle,
    to: i64,
    why: &Dynamic,
) -> Result<(), Raised> {
    let ask = BodyAsk::Resize {
        pool: pool.facts.name.clone(),
        to,
        why: reason(at, why)?,
    };
    host.ask(at, ask)
}

fn reason(at: Position, why: &Dynamic) -> Result<String, Raised> {
    match why.read_lock::<Text>() {
        Some(text) => Ok(clean(&text, LONGEST_WHY)),
        None if why.is_unit() => Err(raise(
            "the reason is `()`, which is nothing: the alert has no such label",
            at,
        )),
        None => Err(raise(
            format!("the reason is a text, not `{}`", why.type_name()),
            at,
        )),
    }
}

fn register_healing(engine: &mut Engine, host: &Arc<Host>) {
    for (name, rung) in [
        ("heal", None),
        ("reboot", Some(Rung::Reboot)),
        ("rebuild", Some(Rung::Rebuild)),
        ("replace", Some(Rung::Replace)),
    ] {
        let host = Arc::clone(host);
        engine.register_fn(
            name,
            move |context: Context<'_>, node: &mut NodeHandle, why: Dynamic| {
                let at = context.call_position();
                let ladder = rung.map_or_else(|| node.ladder.to_vec(), |rung| vec![rung]);
                if ladder.is_empty() {
                    return Err(raise(
                        "the rule has no ladder: add `.ladder([\"reboot\", \"replace\"])`, or say \
                         `node.replace(why)`",
                        at,
                    ));
                }
                let ask = BodyAsk::Heal {
                    node: node.name.clone(),
                    ladder,
                    why: reason(at, &why)?,
                };
                host.ask(at, ask)
            },
        );
    }
}

fn register_alerts(engine: &mut Engine) {
    engine.register_fn("label", |alert: &mut AlertHandle, name: Text| {
        let label = alert.alert.labels.get(name.as_str());
        label.map_or(Dynamic::UNIT, |label| Dynamic::from(label.clone()))
    });
    engine.register_fn(
        "node",
        |context: Context<'_>, name: Dynamic| -> Result<NodeHandle, Raised> {
            let at = context.call_position();
            if name.is_unit() {
                return Err(raise(
                    "`node` was given `()`, which is nothing: the alert has no such label",
                    at,
                ));
            }
            let text = name
                .read_lock::<Text>()
                .filter(|text| !text.trim().is_empty());
            let Some(text) = text else {
                return Err(raise("`node` takes the name of a node, as a text", at));
            };
            let ladder = match context.tag().and_then(|tag| tag.read_lock::<Ladder>()) {
                Some(ladder) => Arc::clone(&ladder.0),
                None => Arc::from([]),
            };
            Ok(NodeHandle {
                name: NodeName::new(clean(&text, LONGEST_WHY)),
                pool: None,
                ladder,
                values: Arc::new(Values {
                    signals: Arc::from([]),
                    readings: Vec::new(),
                    missing: AtomicBool::new(false),
                }),
            })
        },
    );
}

/// The ladder of the rule whose body runs: travels as the tag of its run.
#[derive(Debug, Clone)]
pub(super) struct Ladder(pub(super) Arc<[Rung]>);
