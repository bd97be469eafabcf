//! What scripts see at the top level of a policy file: signals and the builders of rules.
//!
//! Host functions never stop a file that is being loaded: they note what is wrong and hand on a
//! broken value, so that an operator reads all errors at once. Bodies see `body.rs`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rhai::{
    Array, Dynamic, Engine, EvalAltResult, FnPtr, ImmutableString, NativeCallContext, Position,
};

use crate::decision::Rung;
use crate::time::parse_duration;
use crate::window::{MetricSlot, Stat};

use super::body::Running;
use super::draft::{Draft, DraftCondition, DraftKind, Loading};
use super::tree::{Comparison, Condition, Number, SignalUse, SignalValue, Truth};
use super::{Interrupt, Signal, vocabulary};

/// A failed call, as Rhai hands it on.
pub(super) type Raised = Box<EvalAltResult>;

/// A window with a sample in this share of its panes is covered (I30).
const COVERED: f64 = 0.80;
/// The shortest and longest window: a sample or two, and what memory per node allows.
const WINDOW: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(86_400));
/// The shortest and longest silence: below a second it is the network that is judged.
const SILENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(86_400));
/// The longest hold and cooldown. A longer one is a slip of the pen.
const LONGEST_WAIT: Duration = Duration::from_secs(7 * 86_400);
/// The longest name of a metric, pool, alert or status.
const LONGEST_NAME: usize = 256;

/// What the functions of the host share. One load or one run at a time.
#[derive(Debug, Default)]
pub(super) struct Host {
    state: Mutex<State>,
    turn: Mutex<()>,
}

/// Where the host is.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) loading: Option<Loading>,
    pub(super) running: Option<Running>,
    pub(super) interrupt: Option<Interrupt>,
    pub(super) printed: Vec<String>,
}

/// A rule under construction, as a Rhai value.
#[derive(Debug, Clone, Copy)]
pub(super) struct RuleHandle(usize);

/// An error of a host function at `at`.
pub(super) fn raise(message: impl Into<String>, at: Position) -> Raised {
    Box::new(EvalAltResult::ErrorRuntime(message.into().into(), at))
}

impl Host {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no other load or run goes on.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn interrupted(&self) -> bool {
        self.state()
            .interrupt
            .as_ref()
            .is_some_and(Interrupt::is_due)
    }

    /// Calls `act` with the load that goes on; an error in a body, where none does.
    pub(super) fn loading<T>(
        &self,
        at: Position,
        act: impl FnOnce(&mut Loading) -> T,
    ) -> Result<T, Raised> {
        match &mut self.state().loading {
            Some(loading) => Ok(act(loading)),
            None => Err(raise(
                "rules and conditions are made at the top level of the file; in a body read \
                 values as in `pool.mean(\"cpu\", \"5m\")`",
                at,
            )),
        }
    }
}

/// Registers signals and builders.
pub(super) fn register(engine: &mut Engine, host: &Arc<Host>) {
    engine
        .register_type_with_name::<SignalValue>("Signal")
        .register_type_with_name::<Condition>("Condition")
        .register_type_with_name::<RuleHandle>("Rule");
    register_windows(engine, host);
    register_flags(engine, host);
    register_kinds(engine, host);
    register_times(engine, host);
    register_conditions(engine, host);
}

type Context<'a> = NativeCallContext<'a>;
type Text = ImmutableString;

fn register_windows(engine: &mut Engine, host: &Arc<Host>) {
    for (name, stat) in vocabulary::STATS {
        let host = Arc::clone(host);
        engine.register_fn(
            name,
            move |context: Context<'_>,
                  metric: Text,
                  window: Text|
                  -> Result<SignalValue, Raised> {
                let at = context.call_position();
                host.loading(at, |loading| {
                    window_signal(loading, at, name, stat, &metric, &window)
                })
            },
        );
    }
    let here = Arc::clone(host);
    engine.register_fn(
        "covered",
        move |context: Context<'_>, metric: Text, window: Text| -> Result<Condition, Raised> {
            let at = context.call_position();
            here.loading(at, |loading| {
                let signal =
                    window_signal(loading, at, "covered", Stat::Coverage, &metric, &window);
                loading.used(signal.made);
                let bound = Arc::new(Number::Constant(COVERED));
                let tree = Truth::Compare(Comparison::GreaterOrEqual, signal.tree, bound);
                loading.condition(at, tree, 3)
            })
        },
    );
    let here = Arc::clone(host);
    engine.register_fn(
        "watch",
        move |context: Context<'_>, metric: Text, window: Text| -> Result<(), Raised> {
            let at = context.call_position();
            here.loading(at, |loading| {
                if let Some(window) = window_length(loading, at, &metric, &window) {
                    loading.watch(&metric, window);
                }
            })
        },
    );
}

fn register_flags(engine: &mut Engine, host: &Arc<Host>) {
    type Make = fn(Duration) -> Signal;
    let lasting: [(&str, Make); 2] = [("silent", Signal::Silent), ("not_ready", Signal::NotReady)];
    for (name, make) in lasting {
        let host = Arc::clone(host);
        engine.register_fn(
            name,
            move |context: Context<'_>, length: Text| -> Result<SignalValue, Raised> {
                let at = context.call_position();
                host.loading(at, |loading| {
                    let Some(length_of) = duration(loading, at, &length, SILENCE) else {
                        return loading.broken(at);
                    };
                    loading.signal(at, make(length_of), format!("{name}({length:?})"), true)
                })
            },
        );
    }
    let here = Arc::clone(host);
    engine.register_fn(
        "vm_status",
        move |context: Context<'_>, status: Text| -> Result<SignalValue, Raised> {
            let at = context.call_position();
            here.loading(at, |loading| {
                let known = !status.is_empty()
                    && status.chars().all(|c| c.is_ascii_uppercase() || c == '_');
                if !known {
                    loading.error(
                        at,
                        format!("`{status}` is no status: write it as Nova does, as in `ERROR`"),
                    );
                    return loading.broken(at);
                }
                let signal = Signal::VmStatus(status.to_string());
                loading.signal(at, signal, format!("vm_status({status:?})"), true)
            })
        },
    );
    for (name, signal, flag) in [
        ("unschedulable_pods", Signal::UnschedulablePods, false),
        ("fits_on_fewer", Signal::FitsOnFewer, true),
        ("size", Signal::Size, false),
        ("ready_nodes", Signal::ReadyNodes, false),
    ] {
        let host = Arc::clone(host);
        engine.register_fn(
            name,
            move |context: Context<'_>| -> Result<SignalValue, Raised> {
                let at = context.call_position();
                host.loading(at, |loading| {
                    loading.signal(at, signal.clone(), format!("{name}()"), flag)
                })
            },
        );
    }
}

fn register_kinds(engine: &mut Engine, host: &Arc<Host>) {
    for (name, kind) in [
        ("scale_up", DraftKind::ScaleUp),
        ("scale_down", DraftKind::ScaleDown),
        ("heal", DraftKind::Heal),
        ("on_alert", DraftKind::OnAlert),
    ] {
        let host = Arc::clone(host);
        engine.register_fn(
            name,
            move |context: Context<'_>, of: Text| -> Result<RuleHandle, Raised> {
                let at = context.call_position();
                host.loading(at, |loading| {
                    check_name(loading, at, &of);
                    RuleHandle(loading.rule(Draft::new(kind, of.as_str(), at)))
                })
            },
        );
    }
}

fn register_times(engine: &mut Engine, host: &Arc<Host>) {
    type Slot = fn(&mut Draft) -> &mut Option<(Duration, Position)>;
    let times: [(&str, Slot); 2] = [
        ("for_at_least", |draft| &mut draft.hold),
        ("cooldown", |draft| &mut draft.cooldown),
    ];
    for (name, slot) in times {
        let host = Arc::clone(host);
        engine.register_fn(
            name,
            move |context: Context<'_>,
                  rule: RuleHandle,
                  length: Text|
                  -> Result<RuleHandle, Raised> {
                let at = context.call_position();
                host.loading(at, |loading| {
                    let length = duration(loading, at, &length, (Duration::ZERO, LONGEST_WAIT));
                    if name == "for_at_least" && loading.kind(rule.0) == Some(DraftKind::OnAlert) {
                        loading.error(at, "`on_alert` has no hold: use `for:` in the alert's rule");
                    }
                    if let (Some(length), Some(draft)) = (length, loading.draft(rule.0)) {
                        let before = slot(draft).replace((length, at));
                        loading.once(before.is_some(), name, at);
                    }
                    rule
                })
            },
        );
    }
    let here = Arc::clone(host);
    engine.register_fn(
        "ladder",
        move |context: Context<'_>, rule: RuleHandle, rungs: Array| -> Result<RuleHandle, Raised> {
            let at = context.call_position();
            here.loading(at, |loading| {
                set_ladder(loading, at, rule, &rungs);
                rule
            })
        },
    );
}

fn register_conditions(engine: &mut Engine, host: &Arc<Host>) {
    let here = Arc::clone(host);
    engine.register_fn(
        "when",
        move |context: Context<'_>,
              rule: RuleHandle,
              asked: Dynamic|
              -> Result<RuleHandle, Raised> {
            let at = context.call_position();
            here.loading(at, |loading| {
                if let Some(condition) = asked_for(loading, at, asked) {
                    set_condition(loading, at, rule, condition);
                }
                rule
            })
        },
    );
    let here = Arc::clone(host);
    engine.register_fn(
        "then",
        move |context: Context<'_>,
              rule: RuleHandle,
              body: Dynamic|
              -> Result<RuleHandle, Raised> {
            let at = context.call_position();
            here.loading(at, |loading| {
                match body.try_cast::<FnPtr>() {
                    None => loading.error(at, "`.then` takes a closure: `.then(|pool| ...)`"),
                    Some(body) => {
                        if let Some(draft) = loading.draft(rule.0) {
                            let before = draft.body.replace((body, at));
                            loading.once(before.is_some(), "then", at);
                        }
                    }
                }
                rule
            })
        },
    );
}

/// What `.when` was given, if that is something to ask.
fn asked_for(loading: &mut Loading, at: Position, asked: Dynamic) -> Option<DraftCondition> {
    if let Some(condition) = asked.read_lock::<Condition>() {
        loading.used(condition.made);
        return Some(DraftCondition::Tree(Arc::clone(&condition.tree)));
    }
    if let Some(signal) = asked.read_lock::<SignalValue>() {
        loading.used(signal.made);
        if signal.flag {
            return Some(DraftCondition::Tree(Arc::new(Truth::Flag(Arc::clone(
                &signal.tree,
            )))));
        }
        loading.error(
            at,
            "`.when` needs a question: compare the value, as in `mean(\"cpu\", \"5m\") > 0.75`",
        );
        return None;
    }
    if asked.is::<FnPtr>() {
        return asked.try_cast::<FnPtr>().map(DraftCondition::Closure);
    }
    let message = if asked.is_bool() {
        "`.when` takes a condition and this is a plain bool: a comparison of two constants, or \
         `&&`, `||`, `==` or `!=` where `and`, `or`, `<` or `>` belong"
            .to_owned()
    } else {
        format!(
            "`.when` takes a condition such as `mean(\"cpu\", \"5m\") > 0.75`, not `{}`",
            asked.type_name()
        )
    };
    loading.error(at, message);
    None
}

fn set_condition(loading: &mut Loading, at: Position, rule: RuleHandle, condition: DraftCondition) {
    if loading.kind(rule.0) == Some(DraftKind::OnAlert) {
        loading.error(
            at,
            "`on_alert` has no `.when`: the alert is its condition; look at its labels in `.then`",
        );
        return;
    }
    if let Some(draft) = loading.draft(rule.0) {
        let before = draft.condition.replace((condition, at));
        loading.once(before.is_some(), "when", at);
    }
}

fn set_ladder(loading: &mut Loading, at: Position, rule: RuleHandle, rungs: &[Dynamic]) {
    let mut ladder = Vec::new();
    for rung in rungs {
        let named = rung.read_lock::<Text>().and_then(|text| rung_of(&text));
        match named {
            Some(rung) if !ladder.contains(&rung) => ladder.push(rung),
            Some(rung) => loading.error(at, format!("`{}` is on the ladder twice", rung.as_str())),
            None => loading.error(
                at,
                format!("`{rung}` is no rung: there are `reboot`, `rebuild` and `replace`"),
            ),
        }
    }
    if rungs.is_empty() {
        loading.error(
            at,
            "the ladder has no rung: name one, as in `.ladder([\"replace\"])`",
        );
    }
    if matches!(
        loading.kind(rule.0),
        Some(DraftKind::ScaleUp | DraftKind::ScaleDown)
    ) {
        loading.error(at, "only `heal` and `on_alert` have a ladder");
    }
    if !ladder.is_sorted() {
        loading.error(
            at,
            "the ladder goes from the gentlest: `reboot`, `rebuild`, `replace`",
        );
    }
    if let Some(draft) = loading.draft(rule.0) {
        let before = draft.ladder.replace((ladder, at));
        loading.once(before.is_some(), "ladder", at);
    }
}

/// The rung of this name.
pub(super) fn rung_of(text: &str) -> Option<Rung> {
    [Rung::Reboot, Rung::Rebuild, Rung::Replace]
        .into_iter()
        .find(|rung| rung.as_str() == text)
}

fn window_signal(
    loading: &mut Loading,
    at: Position,
    name: &str,
    stat: Stat,
    metric: &str,
    window: &str,
) -> SignalValue {
    let Some(length) = window_length(loading, at, metric, window) else {
        return loading.broken(at);
    };
    let signal = Signal::Window {
        metric: MetricSlot(0),
        name: Arc::from(metric),
        stat,
        window: length,
    };
    loading.signal(at, signal, format!("{name}({metric:?}, {window:?})"), false)
}

fn window_length(
    loading: &mut Loading,
    at: Position,
    metric: &str,
    window: &str,
) -> Option<Duration> {
    check_name(loading, at, metric);
    duration(loading, at, window, WINDOW)
}

fn check_name(loading: &mut Loading, at: Position, name: &str) {
    let fits = !name.trim().is_empty()
        && name.len() <= LONGEST_NAME
        && !name.chars().any(char::is_control);
    if !fits {
        loading.error(
            at,
            format!("`{}` is no name", super::error::clean(name, 40)),
        );
    }
}

fn duration(
    loading: &mut Loading,
    at: Position,
    text: &str,
    (least, most): (Duration, Duration),
) -> Option<Duration> {
    match parse_duration(text) {
        Ok(length) if length < least || length > most => {
            loading.error(
                at,
                format!(
                    "`{text}` is out of bounds: between `{}` and `{}`",
                    crate::time::format_duration(least),
                    crate::time::format_duration(most)
                ),
            );
            None
        }
        Ok(length) => Some(length),
        Err(error) => {
            loading.error(at, error.to_string());
            None
        }
    }
}

/// The use of signal `index`, written as `label`.
pub(super) fn number(index: u32, label: String) -> Number {
    Number::Signal(SignalUse {
        index,
        label: Arc::from(label),
    })
}
