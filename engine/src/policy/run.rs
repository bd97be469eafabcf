//! Runs closures of policies: bodies, and conditions that are not native.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rhai::{CallFnOptions, Dynamic, FnPtr, Scope};

use crate::decision::{Direction, Evidence, Observed, Rung};

use super::body::{AlertHandle, Ladder, NodeHandle, PoolHandle, Running, Values};
use super::error::{PolicyError, explain};
use super::load::{Loaded, Parts, Script, Scripts, or_else};
use super::{
    BodyAsk, Interrupt, PoolFacts, Rule, RuleKind, Signal, SignalReader, Subject, Verdict,
    vocabulary,
};

/// How deep, and how many, captured values are copied before each run. Two closures that
/// capture each other's like double at each step, and no limit of Rhai's counts that.
const COPY_DEPTH: usize = 32;
const MAX_COPIED: usize = 4_000;

pub(super) const CAPTURED_TOO_MUCH: &str =
    "the closure captures too much: keep what it needs in its own lines";

/// Runs the body of a rule, or does what its kind does without one.
pub(super) fn body<R: SignalReader>(
    loaded: &Loaded,
    rule: usize,
    subject: &Subject,
    reader: &mut R,
    interrupt: &Interrupt,
) -> Result<Vec<BodyAsk>, PolicyError> {
    let (Some(known), Some(parts)) = (loaded.rules.get(rule), loaded.parts.get(rule)) else {
        return Ok(Vec::new());
    };
    match &parts.body {
        None => Ok(without_body(known, parts, subject)),
        Some(script) => {
            let called = call(loaded, (known, parts), script, subject, reader, interrupt);
            called.map(|ran| ran.asks).map_err(|failed| failed.error)
        }
    }
}

/// Asks the closure that is a rule's condition.
pub(super) fn condition<R: SignalReader>(
    loaded: &Loaded,
    rule: usize,
    subject: &Subject,
    reader: &mut R,
    interrupt: &Interrupt,
) -> Result<Verdict, PolicyError> {
    let (Some(known), Some(parts)) = (loaded.rules.get(rule), loaded.parts.get(rule)) else {
        return Ok(Verdict::Unknown);
    };
    let super::Asked::Closure(script) = &parts.asked else {
        return Ok(Verdict::Unknown);
    };
    match call(loaded, (known, parts), script, subject, reader, interrupt) {
        Err(failed) if failed.missing => Ok(Verdict::Unknown),
        Err(failed) => Err(failed.error),
        Ok(ran) => match ran.result.as_bool() {
            Ok(_) if !ran.asks.is_empty() => Err(PolicyError::at(
                &parts.file,
                script.at,
                "a condition asks for nothing: propose in `.then`",
            )),
            Ok(holds) => Ok(Verdict::of(holds)),
            Err(kind) => Err(PolicyError::at(
                &parts.file,
                script.at,
                format!("the closure of `.when` gives `{kind}` where a bool is needed"),
            )),
        },
    }
}

/// The windows that a closure may read, as they are.
pub(super) fn evidence<R: SignalReader>(
    loaded: &Loaded,
    script: &Script,
    reader: &mut R,
) -> Evidence {
    let values = script.reads.iter().filter_map(|read| {
        let signal = loaded.signals.get(read.index as usize)?;
        let reading = reader.read(read.index, signal);
        let (name, _) = vocabulary::STATS
            .iter()
            .find(|(_, stat)| *stat == read.stat)?;
        let window = crate::time::format_duration(read.window);
        Some(Observed {
            signal: format!("{name}({:?}, {window:?})", &*read.metric).into(),
            value: reading.value.filter(|value| value.is_finite()),
            coverage: Some(reading.coverage),
            bound: None,
        })
    });
    Evidence {
        values: values.collect(),
        ..Evidence::default()
    }
}

fn without_body(rule: &Rule, parts: &Parts, subject: &Subject) -> Vec<BodyAsk> {
    let why = format!("the condition of {} held", rule.id);
    let resize = |pool: &PoolFacts, by: i64| BodyAsk::Resize {
        pool: pool.name.clone(),
        to: i64::from(pool.size).saturating_add(by).max(0),
        why: why.clone(),
    };
    match (&rule.kind, subject) {
        (RuleKind::ScaleUp(_), Subject::Pool(pool)) => vec![resize(pool, 1)],
        (RuleKind::ScaleDown(_), Subject::Pool(pool)) => vec![resize(pool, -1)],
        (RuleKind::Heal { .. }, Subject::Node { name, .. }) => vec![BodyAsk::Heal {
            node: name.clone(),
            ladder: parts.ladder.clone(),
            why,
        }],
        // A subject of another kind, and an alert rule, which always has a body.
        _ => Vec::new(),
    }
}

struct Ran {
    asks: Vec<BodyAsk>,
    result: Dynamic,
}

struct Failed {
    error: PolicyError,
    /// A value that the script read was missing.
    missing: bool,
}

fn call<R: SignalReader>(
    loaded: &Loaded,
    (rule, parts): (&Rule, &Parts),
    script: &Script,
    subject: &Subject,
    reader: &mut R,
    interrupt: &Interrupt,
) -> Result<Ran, Failed> {
    let failed = |at, message: String| Failed {
        error: PolicyError::at(&parts.file, or_else(at, script.at), message),
        missing: false,
    };
    let Some(Scripts { engine, host }) = &loaded.scripts else {
        return Err(failed(script.at, "the policies are not loaded".to_owned()));
    };
    let values = Arc::new(read(loaded, script, reader));
    let ladder: Arc<[Rung]> = Arc::from(parts.ladder.as_slice());
    let Some(handle) = handle(rule, subject, Arc::clone(&values), &ladder) else {
        let message = "the rule was run for another kind of subject".to_owned();
        return Err(failed(script.at, message));
    };
    let Some(mut arguments) = unshared(&script.captured) else {
        return Err(failed(script.at, CAPTURED_TOO_MUCH.to_owned()));
    };
    arguments.push(handle);

    let _turn = host.turn();
    {
        let mut state = host.state();
        state.running = Some(Running::default());
        state.interrupt = Some(interrupt.clone());
    }
    let options = CallFnOptions::new()
        .eval_ast(false)
        .with_tag(Ladder(ladder));
    let result = engine.call_fn_with_options::<Dynamic>(
        options,
        &mut Scope::new(),
        &script.ast,
        &script.name,
        arguments,
    );
    let running = {
        let mut state = host.state();
        state.interrupt = None;
        state.running.take().unwrap_or_default()
    };
    match result {
        Ok(result) => Ok(Ran {
            asks: running.asks,
            result,
        }),
        Err(error) => {
            let (at, message) = explain(&error);
            Err(Failed {
                missing: values.missing.load(Ordering::Relaxed),
                ..failed(at, message)
            })
        }
    }
}

/// What the closure may read, as it is now: while it runs, nothing else is read.
fn read<R: SignalReader>(loaded: &Loaded, script: &Script, reader: &mut R) -> Values {
    let readings = script.reads.iter().map(|read| {
        let signal = loaded.signals.get(read.index as usize);
        signal
            .map(|signal: &Signal| reader.read(read.index, signal))
            .unwrap_or_default()
    });
    Values {
        readings: readings.collect(),
        signals: Arc::clone(&script.reads),
        missing: AtomicBool::new(false),
    }
}

fn handle(
    rule: &Rule,
    subject: &Subject,
    values: Arc<Values>,
    ladder: &Arc<[Rung]>,
) -> Option<Dynamic> {
    let pool = |facts: &PoolFacts, direction| {
        Dynamic::from(PoolHandle {
            facts: Arc::new(facts.clone()),
            direction,
            values: Arc::clone(&values),
        })
    };
    match (&rule.kind, subject) {
        (RuleKind::ScaleUp(_), Subject::Pool(facts)) => Some(pool(facts, Direction::Up)),
        (RuleKind::ScaleDown(_), Subject::Pool(facts)) => Some(pool(facts, Direction::Down)),
        (RuleKind::Heal { .. }, Subject::Node { name, pool }) => Some(Dynamic::from(NodeHandle {
            name: name.clone(),
            pool: Some(Arc::new(pool.clone())),
            ladder: Arc::clone(ladder),
            values: Arc::clone(&values),
        })),
        (RuleKind::OnAlert(_), Subject::Alert(alert)) => Some(Dynamic::from(AlertHandle {
            alert: Arc::new(alert.clone()),
        })),
        _ => None,
    }
}

/// Copies of what a closure captured that share nothing with it; none if it captured too much.
///
/// A closure that counts its own runs would give another answer after a restart and in replay:
/// every run begins with the values that the load left.
pub(super) fn unshared(captured: &[Dynamic]) -> Option<Vec<Dynamic>> {
    let mut left = MAX_COPIED;
    captured
        .iter()
        .map(|value| copy(value, COPY_DEPTH, &mut left))
        .collect()
}

fn copy(value: &Dynamic, depth: usize, left: &mut usize) -> Option<Dynamic> {
    *left = left.checked_sub(1)?;
    let deeper = depth.checked_sub(1)?;
    let flat = value.flatten_clone();
    if let Some(items) = flat.read_lock::<rhai::Array>() {
        let items: Option<rhai::Array> =
            items.iter().map(|item| copy(item, deeper, left)).collect();
        return items.map(Dynamic::from);
    }
    if let Some(items) = flat.read_lock::<rhai::Map>() {
        let items: Option<rhai::Map> = items
            .iter()
            .map(|(key, item)| Some((key.clone(), copy(item, deeper, left)?)))
            .collect();
        return items.map(Dynamic::from);
    }
    if let Some(closure) = flat.read_lock::<FnPtr>() {
        let mut closure = closure.clone();
        let captured: Option<Vec<Dynamic>> = closure
            .iter_curry()
            .map(|item| copy(item, deeper, left))
            .collect();
        closure.set_curry(captured?);
        return Some(Dynamic::from(closure));
    }
    drop(flat);
    Some(value.flatten_clone())
}
