//! Rhai's operators on signals and conditions: each pair of operands gives a tree or an error.
//!
//! Rhai answers a comparison that is not registered for its two types with a bool, in silence:
//! `signal > "80%"` would be false for ever. So every operator is registered for every pair in
//! which a type of ours stands, in both orders, and what makes no sense says what to write.

use std::any::TypeId;
use std::sync::Arc;

use rhai::{
    Array, Blob, Dynamic, Engine, FnPtr, ImmutableString, Map, NativeCallContext, Position,
};

use super::body::{AlertHandle, NodeHandle, PoolHandle};
use super::draft::Loading;
use super::host::{Host, Raised, RuleHandle, raise};
use super::tree::{Arithmetic, Comparison, Condition, Number, SignalValue, Truth};

/// Operators between two operands, but for `&&`, `||` and `??`, which cannot be overloaded.
pub(super) const BINARY: [&str; 20] = [
    "<", "<=", ">", ">=", "==", "!=", "+", "-", "*", "/", "%", "**", "&", "|", "^", "<<", ">>",
    "and", "or", "..",
];
/// Operators before one operand.
pub(super) const UNARY: [&str; 3] = ["!", "-", "+"];

/// As `||` and `&&` bind.
const PRECEDENCE_OR: u8 = 30;
const PRECEDENCE_AND: u8 = 60;

/// One side of an operator.
enum Operand {
    Signal(SignalValue),
    Condition(Condition),
    Constant(f64),
    Bool,
    Text(ImmutableString),
    Other(String),
}

/// Registers `and`, `or` and every pair of operands.
pub(super) fn register(engine: &mut Engine, host: &Arc<Host>) -> Result<(), String> {
    engine.register_custom_operator("or", PRECEDENCE_OR)?;
    engine.register_custom_operator("and", PRECEDENCE_AND)?;
    let ours = [
        TypeId::of::<SignalValue>(),
        TypeId::of::<Condition>(),
        TypeId::of::<RuleHandle>(),
        TypeId::of::<PoolHandle>(),
        TypeId::of::<NodeHandle>(),
        TypeId::of::<AlertHandle>(),
    ];
    let theirs = plain_types();
    for name in BINARY {
        for left in ours.iter().chain(&theirs) {
            for right in ours.iter().chain(&theirs) {
                let is_ours = ours.contains(left) || ours.contains(right);
                if is_ours || name == "and" || name == "or" {
                    binary(engine, host, name, [*left, *right]);
                }
            }
        }
    }
    for name in UNARY {
        for operand in ours {
            unary(engine, host, name, operand);
        }
    }
    Ok(())
}

/// Rhai's own types, and at the end any other.
fn plain_types() -> Vec<TypeId> {
    vec![
        TypeId::of::<i64>(),
        TypeId::of::<f64>(),
        TypeId::of::<bool>(),
        TypeId::of::<ImmutableString>(),
        TypeId::of::<char>(),
        TypeId::of::<()>(),
        TypeId::of::<Array>(),
        TypeId::of::<Blob>(),
        TypeId::of::<Map>(),
        TypeId::of::<FnPtr>(),
        TypeId::of::<std::ops::Range<i64>>(),
        TypeId::of::<std::ops::RangeInclusive<i64>>(),
        TypeId::of::<Dynamic>(),
    ]
}

fn binary(engine: &mut Engine, host: &Arc<Host>, name: &'static str, types: [TypeId; 2]) {
    let host = Arc::clone(host);
    engine.register_raw_fn(
        name,
        types,
        move |context: NativeCallContext<'_>, operands: &mut [&mut Dynamic]| {
            let at = context.call_position();
            let [left, right] = operands else {
                return Err(raise(format!("`{name}` takes two operands"), at));
            };
            let (left, right) = (operand(left), operand(right));
            apply(&host, name, at, &left, &right)
        },
    );
}

fn unary(engine: &mut Engine, host: &Arc<Host>, name: &'static str, of: TypeId) {
    let host = Arc::clone(host);
    engine.register_raw_fn(
        name,
        [of],
        move |context: NativeCallContext<'_>, operands: &mut [&mut Dynamic]| {
            let at = context.call_position();
            let [only] = operands else {
                return Err(raise(format!("`{name}` takes one operand"), at));
            };
            let only = operand(only);
            in_load(&host, at, &[&only], |loading| {
                apply_unary(loading, name, at, &only)
            })
        },
    );
}

fn operand(value: &Dynamic) -> Operand {
    if let Some(signal) = value.read_lock::<SignalValue>() {
        return Operand::Signal(signal.clone());
    }
    if let Some(condition) = value.read_lock::<Condition>() {
        return Operand::Condition(condition.clone());
    }
    if let Ok(whole) = value.as_int() {
        // Exact up to 2^53, which no count of nodes reaches.
        #[allow(clippy::cast_precision_loss, reason = "bounds of policies are small")]
        return Operand::Constant(whole as f64);
    }
    if let Ok(float) = value.as_float() {
        return Operand::Constant(float);
    }
    if value.is_bool() {
        return Operand::Bool;
    }
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return Operand::Text(text.clone());
    }
    Operand::Other(name_of(value).to_owned())
}

/// What a value is called in an error.
fn name_of(value: &Dynamic) -> &'static str {
    match () {
        () if value.is::<RuleHandle>() => "a rule",
        () if value.is::<PoolHandle>() => "a pool",
        () if value.is::<NodeHandle>() => "a node",
        () if value.is::<AlertHandle>() => "an alert",
        () if value.is_unit() => "`()`, which is nothing",
        () if value.is_array() => "an array",
        () if value.is_map() => "a map",
        () if value.is_char() => "a character",
        () if value.is_fnptr() => "a closure",
        () => "this value",
    }
}

impl Operand {
    fn said(&self) -> String {
        match self {
            Self::Signal(_) => "a signal".to_owned(),
            Self::Condition(_) => "a condition".to_owned(),
            Self::Constant(_) => "a number".to_owned(),
            Self::Bool => "a bool".to_owned(),
            Self::Text(_) => "a text".to_owned(),
            Self::Other(name) => name.clone(),
        }
    }

    fn is_tree(&self) -> bool {
        matches!(self, Self::Signal(_) | Self::Condition(_))
    }

    fn made(&self) -> Option<usize> {
        match self {
            Self::Signal(signal) => Some(signal.made),
            Self::Condition(condition) => Some(condition.made),
            _ => None,
        }
    }
}

/// Runs `act` within the load that goes on. In a body there is none, and in neither is an
/// operator on a pool, a node, an alert or a rule anything but an error.
fn in_load(
    host: &Host,
    at: Position,
    operands: &[&Operand],
    act: impl FnOnce(&mut Loading) -> Result<Dynamic, String>,
) -> Result<Dynamic, Raised> {
    if !operands.iter().any(|operand| operand.is_tree()) {
        let said: Vec<String> = operands.iter().map(|operand| operand.said()).collect();
        let hint = if operands
            .iter()
            .all(|operand| matches!(operand, Operand::Bool))
        {
            ": `and` and `or` join conditions; between bools write `&&` or `||`"
        } else {
            ": write what of it is meant, as in `pool.size`"
        };
        return Err(raise(
            format!("no such operator on {}{hint}", said.join(" and ")),
            at,
        ));
    }
    host.loading(at, |loading| {
        for made in operands.iter().filter_map(|operand| operand.made()) {
            loading.used(made);
        }
        act(loading).unwrap_or_else(|message| {
            loading.error(at, message);
            Dynamic::from(loading.broken_condition(at))
        })
    })
}

fn apply(
    host: &Host,
    name: &str,
    at: Position,
    left: &Operand,
    right: &Operand,
) -> Result<Dynamic, Raised> {
    in_load(host, at, &[left, right], |loading| {
        if let Some(comparison) = comparison_of(name) {
            return compare(loading, at, comparison, left, right).map(Dynamic::from);
        }
        if let Some(arithmetic) = arithmetic_of(name) {
            return calculate(loading, at, (arithmetic, name), left, right).map(Dynamic::from);
        }
        match name {
            "and" | "or" => {
                let size = size(left) + size(right) + 1;
                let (left, right) = (truth(name, left)?, truth(name, right)?);
                let tree = if name == "and" {
                    Truth::And(left, right)
                } else {
                    Truth::Or(left, right)
                };
                Ok(Dynamic::from(loading.condition(at, tree, size)))
            }
            "==" | "!=" => Err(equality(name, left, right)),
            "&" | "|" | "^" => Err(format!("`{name}` on conditions: write `and` or `or`")),
            _ => Err(format!(
                "`{name}` between {} and {}: signals know `+`, `-`, `*`, `/` and comparisons",
                left.said(),
                right.said()
            )),
        }
    })
}

fn apply_unary(
    loading: &mut Loading,
    name: &str,
    at: Position,
    of: &Operand,
) -> Result<Dynamic, String> {
    match (name, of) {
        ("!", _) => {
            let inner = truth("!", of)?;
            let condition = loading.condition(at, Truth::Not(inner), size(of) + 1);
            Ok(Dynamic::from(condition))
        }
        (_, Operand::Signal(signal)) => {
            let tree = Number::Negated(Arc::clone(&signal.tree));
            let value = match name {
                "-" => loading.value(at, tree, false, signal.size + 1),
                _ => signal.clone(),
            };
            Ok(Dynamic::from(value))
        }
        _ => Err(format!("`{name}` before {}: it is no number", of.said())),
    }
}

fn compare(
    loading: &mut Loading,
    at: Position,
    comparison: Comparison,
    left: &Operand,
    right: &Operand,
) -> Result<Condition, String> {
    let symbol = comparison.symbol();
    let sides = (number(symbol, left)?, number(symbol, right)?);
    let tree = Truth::Compare(comparison, sides.0, sides.1);
    Ok(loading.condition(at, tree, size(left) + size(right) + 1))
}

fn calculate(
    loading: &mut Loading,
    at: Position,
    (arithmetic, symbol): (Arithmetic, &str),
    left: &Operand,
    right: &Operand,
) -> Result<SignalValue, String> {
    let sides = (number(symbol, left)?, number(symbol, right)?);
    let tree = Number::Arithmetic(arithmetic, sides.0, sides.1);
    Ok(loading.value(at, tree, false, size(left) + size(right) + 1))
}

fn comparison_of(name: &str) -> Option<Comparison> {
    Some(match name {
        "<" => Comparison::Less,
        "<=" => Comparison::LessOrEqual,
        ">" => Comparison::Greater,
        ">=" => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

fn arithmetic_of(name: &str) -> Option<Arithmetic> {
    Some(match name {
        "+" => Arithmetic::Add,
        "-" => Arithmetic::Subtract,
        "*" => Arithmetic::Multiply,
        "/" => Arithmetic::Divide,
        _ => return None,
    })
}

fn size(operand: &Operand) -> usize {
    match operand {
        Operand::Signal(signal) => signal.size,
        Operand::Condition(condition) => condition.size,
        _ => 1,
    }
}

fn number(symbol: &str, operand: &Operand) -> Result<Arc<Number>, String> {
    match operand {
        Operand::Signal(signal) => Ok(Arc::clone(&signal.tree)),
        Operand::Constant(value) if value.is_finite() => Ok(Arc::new(Number::Constant(*value))),
        Operand::Constant(value) => Err(format!("`{value}` is no number to work with")),
        Operand::Condition(condition) if matches!(*condition.tree, Truth::Broken) => {
            Ok(Arc::new(Number::Broken))
        }
        Operand::Condition(_) => Err(format!(
            "`{symbol}` on a condition, which is true or false already: join conditions with \
             `and` or `or`"
        )),
        Operand::Text(text) => Err(format!(
            "`{symbol}` on a signal and the text `{}`: write a number, as in `0.80`",
            super::error::clean(text, 40)
        )),
        Operand::Bool => Err(format!(
            "`{symbol}` on a signal and a bool: write the condition bare, or `!` before it"
        )),
        Operand::Other(name) => Err(format!("`{symbol}` on a signal and {name}: write a number")),
    }
}

fn truth(symbol: &str, operand: &Operand) -> Result<Arc<Truth>, String> {
    match operand {
        Operand::Condition(condition) => Ok(Arc::clone(&condition.tree)),
        Operand::Signal(signal) if signal.flag => {
            Ok(Arc::new(Truth::Flag(Arc::clone(&signal.tree))))
        }
        Operand::Signal(_) => Err(format!(
            "`{symbol}` on a signal: compare it first, as in `mean(\"cpu\", \"5m\") > 0.75`"
        )),
        other => Err(format!(
            "`{symbol}` on a condition and {}: both sides are conditions",
            other.said()
        )),
    }
}

fn equality(name: &str, left: &Operand, right: &Operand) -> String {
    let has_condition = [left, right]
        .iter()
        .any(|operand| matches!(operand, Operand::Condition(_)));
    let is_flag = [left, right]
        .iter()
        .any(|operand| matches!(operand, Operand::Signal(signal) if signal.flag));
    if has_condition || is_flag {
        format!(
            "`{name}` on a condition: write it bare, or `!` before it, and join with `and`, `or`"
        )
    } else {
        format!("`{name}` on a measured value is hardly ever true: write `<`, `<=`, `>` or `>=`")
    }
}
