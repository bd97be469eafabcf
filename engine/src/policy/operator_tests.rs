//! Every operator on every pair of operands, both ways round, in the engine as it is shipped:
//! each gives a tree or an error with a place, and never a bool in silence.

use std::sync::Arc;

use rhai::{Dynamic, Scope};

use super::body::{AlertHandle, NodeHandle, PoolHandle, Values};
use super::draft::Loading;
use super::load::{Scripts, scripts};
use super::operators::{BINARY, UNARY};
use super::tests::{load, on_engine_stack};
use super::tree::{Condition, SignalValue};
use super::*;
use crate::decision::Direction;

/// Operands of ours, as a script writes them.
const OURS: [(&str, &str); 6] = [
    ("signal", "mean(\"cpu\", \"5m\")"),
    ("flag", "silent(\"60s\")"),
    ("condition", "(size() > 1)"),
    ("rule", "heal(\"workers\")"),
    ("pool", "a_pool"),
    ("node", "a_node"),
];

/// Operands of every type of Rhai.
const THEIRS: [(&str, &str); 15] = [
    ("int", "1"),
    ("negative", "(-1)"),
    ("float", "0.5"),
    ("true", "true"),
    ("false", "false"),
    ("text", "\"80%\""),
    ("character", "'c'"),
    ("unit", "()"),
    ("array", "[1]"),
    ("map", "#{a: 1}"),
    ("closure", "|x| x"),
    ("blob", "blob(3)"),
    ("range", "(0..3)"),
    ("inclusive range", "(0..=3)"),
    ("alert", "an_alert"),
];

/// What became of one operator.
#[derive(Debug, PartialEq)]
enum Became {
    Number,
    Condition,
    Error(String),
}

fn try_out(scripts: &Scripts, text: &str) -> Became {
    scripts.host.state().loading = Some(Loading::default());
    let mut scope = handles();
    let result = scripts.engine.eval_with_scope::<Dynamic>(&mut scope, text);
    let told = scripts.host.state().loading.take().unwrap().errors;
    match result {
        Err(error) => {
            let (at, message) = error::explain(&error);
            assert!(!at.is_none(), "{text}: no place for {message}");
            Became::Error(message)
        }
        Ok(value) => {
            if let Some((at, message)) = told.first() {
                assert!(!at.is_none(), "{text}: no place for {message}");
                return Became::Error(message.clone());
            }
            match () {
                () if value.is::<SignalValue>() => Became::Number,
                () if value.is::<Condition>() => Became::Condition,
                () => panic!("{text}: silently {value:?}"),
            }
        }
    }
}

fn handles() -> Scope<'static> {
    let values = || {
        Arc::new(Values {
            signals: Arc::from([]),
            readings: Vec::new(),
            missing: std::sync::atomic::AtomicBool::new(false),
        })
    };
    let mut scope = Scope::new();
    scope.push(
        "a_pool",
        PoolHandle {
            facts: Arc::new(super::tests::pool(3, 3)),
            direction: Direction::Up,
            values: values(),
        },
    );
    scope.push(
        "a_node",
        NodeHandle {
            name: "worker-1".into(),
            pool: None,
            ladder: Arc::from([]),
            values: values(),
        },
    );
    let Subject::Alert(alert) = super::tests::alert(&[]) else {
        panic!("an alert")
    };
    scope.push(
        "an_alert",
        AlertHandle {
            alert: Arc::new(alert),
        },
    );
    scope
}

#[test]
fn each_pair_of_operands_gives_a_tree_or_an_error_with_a_place() {
    on_engine_stack(|| {
        let scripts = scripts().unwrap();
        let mut tried = 0;
        for (left_name, left) in OURS {
            for (right_name, right) in OURS.iter().chain(&THEIRS) {
                for operator in BINARY {
                    for (text, sides) in [
                        (
                            format!("({left}) {operator} ({right})"),
                            (left_name, *right_name),
                        ),
                        (
                            format!("({right}) {operator} ({left})"),
                            (*right_name, left_name),
                        ),
                    ] {
                        let became = try_out(&scripts, &text);
                        assert_eq!(
                            kind(&became),
                            expected(operator, sides),
                            "{text}: {became:?}"
                        );
                        tried += 1;
                    }
                }
            }
        }
        assert_eq!(tried, 6 * 21 * 20 * 2);
    });
}

fn kind(became: &Became) -> &'static str {
    match became {
        Became::Number => "number",
        Became::Condition => "condition",
        Became::Error(_) => "error",
    }
}

/// The table: written out apart from the code that it checks.
fn expected(operator: &str, (left, right): (&str, &str)) -> &'static str {
    let number = |side| matches!(side, "signal" | "flag" | "int" | "negative" | "float");
    let truth = |side| matches!(side, "flag" | "condition");
    match operator {
        "<" | "<=" | ">" | ">=" if number(left) && number(right) => "condition",
        "+" | "-" | "*" | "/" if number(left) && number(right) => "number",
        "and" | "or" if truth(left) && truth(right) => "condition",
        _ => "error",
    }
}

#[test]
fn one_operand() {
    on_engine_stack(|| {
        let scripts = scripts().unwrap();
        for (name, operand) in OURS {
            for operator in UNARY {
                let became = try_out(&scripts, &format!("{operator}({operand})"));
                let wanted = match (operator, name) {
                    ("!", "flag" | "condition") => "condition",
                    ("-" | "+", "signal" | "flag") => "number",
                    _ => "error",
                };
                assert_eq!(kind(&became), wanted, "{operator}{name}: {became:?}");
            }
        }
    });
}

#[test]
fn assigning_operators_are_the_plain_ones() {
    on_engine_stack(|| {
        let scripts = scripts().unwrap();
        for (operator, wanted) in [
            ("+", "number"),
            ("-", "number"),
            ("*", "number"),
            ("/", "number"),
            ("%", "error"),
            ("**", "error"),
            ("&", "error"),
            ("|", "error"),
            ("^", "error"),
            ("<<", "error"),
        ] {
            for start in ["1", "0.5", "mean(\"cpu\", \"5m\")"] {
                let text = format!("let x = {start}; x {operator}= mean(\"memory\", \"5m\"); x");
                assert_eq!(kind(&try_out(&scripts, &text)), wanted, "{text}");
            }
        }
    });
}

#[test]
fn what_cannot_be_overloaded_is_refused_by_the_load() {
    for question in [
        "mean(\"cpu\", \"5m\") > 0.75 && size() > 1",
        "mean(\"cpu\", \"5m\") > 0.75 || size() > 1",
        "true || size() > 1",
        "false || size() > 1",
        "true && size() > 1",
        "false && size() > 1",
        "size() > 1 && true",
        "silent(\"60s\") || true",
        "switch (size() > 1) { _ => size() > 2 }",
        "if size() > 1 { size() > 2 } else { size() > 3 }",
        "true",
        "0.5 > 0.25",
        "mean(\"cpu\", \"5m\")",
        "size() in [1, 2]",
        "1 in size()",
        "(size() > 1) ?? true == true",
    ] {
        let text = format!("scale_up(\"workers\").when({question}).cooldown(\"3m\");");
        let errors = load(&text).map(|_| ()).unwrap_err();
        assert!(
            errors
                .iter()
                .all(|error| error.line == 1 && error.column > 0),
            "{question}: {errors:?}"
        );
    }
}

#[test]
fn conditions_on_lines_of_their_own_bind_as_one_would_wish() {
    let set = load(
        r#"
        let busy = mean("cpu", "5m") > 0.75;
        let full = mean("memory", "5m") * 100 > 80
            or last("disk", "1m") > 0.9
            and !silent("60s");
        scale_up("workers").when(busy or full).cooldown("3m");"#,
    )
    .unwrap();
    let verdict = |values: &[(&str, f64)]| set.verdict(0, &mut super::tests::Table::new(values));
    let calm = [
        ("Mean cpu 300", 0.1),
        ("Mean memory 300", 0.1),
        ("Last disk 60", 0.95),
        ("Silent(60s)", 1.0),
    ];
    assert_eq!(verdict(&calm), Verdict::False, "`and` binds before `or`");
    let mut loud = calm;
    loud[3].1 = 0.0;
    assert_eq!(verdict(&loud), Verdict::True);
    loud[2].1 = 0.5;
    assert_eq!(verdict(&loud), Verdict::False);
    loud[1].1 = 0.81;
    assert_eq!(verdict(&loud), Verdict::True);
}
