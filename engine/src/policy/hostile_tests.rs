//! Scripts that try to hurt the process, and texts that are hardly scripts at all: each is
//! refused, ended in time, or harmless; none panics, aborts or hangs.

#![allow(
    clippy::disallowed_methods,
    reason = "whether a deadline is kept is measured against the clock"
)]

use std::time::Instant;

use proptest::prelude::*;

use super::tests::{alert, file, on_engine_stack, pool};
use super::*;

/// The deadline of one run. On a busy machine and in a debug build all is several times slower
/// than where 50 ms is set.
const DEADLINE: Duration = Duration::from_millis(250);

/// Hostile top levels.
const FILES: &[&str] = &[
    "eval(\"1\")",
    "let e = \"eval(e)\"; eval(e)",
    "import \"secrets\" as s;",
    "import \"/etc/passwd\" as s; s::x",
    "export let x = 1;",
    "loop {}",
    "while true { }",
    "for i in 0..1_000_000_000 { }",
    "for i in 0..9223372036854775807 { }",
    "do { } until false;",
    "fn f() { f() } f()",
    "fn f(n) { f(n + 1) + f(n + 2) } f(0)",
    "let f = |x| x; let g = |x| f.call(x); g.call(1)",
    "sleep(100)",
    "sleep(0.5)",
    "timestamp()",
    "exit()",
    "exit(1)",
    "return;",
    "throw \"no\";",
    "throw #{a: [1, #{b: 2}]};",
    "/* never closed",
    "/* /* half */ closed",
    "\"never closed",
    "`never ${ closed",
    "let a = []; loop { a.push(a); }",
    "let a = []; for i in 0..5000 { a = [a]; } print(a);",
    "let a = []; for i in 0..900 { a = [a]; } print(a); debug(a); a == a",
    "let a = []; let b = []; for i in 0..900 { a = [a]; b = [b]; } if a == b { print(\"same\"); }",
    "let m = #{}; for i in 0..900 { m = #{a: m}; } print(m); m.to_json()",
    "let s = \"x\"; loop { s += s; }",
    "let s = \"x\"; s.pad(1_000_000_000, \"y\");",
    "let a = []; a.pad(1_000_000_000, 0);",
    "blob(1_000_000_000)",
    "let a = []; for i in 0..999 { a.push(i); } loop { a.sort(|x, y| y - x); }",
    "let a = [3, 1, 2]; a.sort(|x, y| throw \"no\"); print(a);",
    "let a = []; for i in 0..999 { a.push(i); } loop { a.reverse(); }",
    "let a = []; for i in 0..999 { a.push(\"x\"); } loop { a.index_of(\"y\"); }",
    "let s = \"\"; for i in 0..16000 { s += \"a\"; } loop { s.index_of(\"aaaaaab\"); }",
    "let s = \"\"; for i in 0..16000 { s += \"a\"; } loop { s.replace(\"a\", \"bb\"); }",
    "let s = \"\"; for i in 0..16000 { s += \"a,\"; } loop { s.split(\",\"); }",
    "let s = \"\"; for i in 0..8000 { s += \"[\"; } parse_json(s)",
    "parse_json(\"{\\\"a\\\":1e999}\")",
    "let a = []; for i in 0..999 { a.push(i); } a.map(|x| a.map(|y| a.map(|z| z)))",
    "let a = []; for i in 0..999 { a.push(i); } a.reduce(|x, y| [x, y])",
    "let f = |x| 1; for i in 0..5000 { f = f.curry(f); }",
    "let f = |x| 1; for i in 0..40 { let g = f; let h = f; f = |x| g.call(x) + h.call(x); } scale_up(\"w\").when(size() > 1).then(f);",
    "let s = \"\"; for i in 0..16000 { s += \"a\"; } let a = []; for i in 0..999 { a.push(i); } a.map(|x| a.map(|y| s + \"x\"))",
    "let x = 1; for i in 0..100 { x *= 1000000; }",
    "1 / 0",
    "1 % 0",
    "-9223372036854775808 / -1",
    "9223372036854775807 + 1",
    "2 ** 1000000",
    "1 << 1000",
    "let a = [1]; a[9223372036854775807]",
    "let a = [1]; a[-9223372036854775807]",
    "let s = \"abc\"; s[99]",
    "let x = 1; x[70] = true;",
    "print(\"x\"); for i in 0..100000 { print(\"line\"); }",
    "this",
    "let a = [1, 2]; for x in a { a.push(x); }",
    "try { loop {} } catch { loop {} }",
    "scale_up(\"w\").when(size() > 1).when(size() > 2)",
    "let c = size() > 1; for i in 0..100000 { c = c and c; } scale_up(\"w\").when(c);",
    "let s = size(); for i in 0..100000 { s = s + 1; } scale_up(\"w\").when(s > 1);",
    "for i in 0..100000 { scale_up(\"w\").when(size() > i); }",
    "for i in 0..100000 { mean(\"m\" + i, \"5m\"); }",
    "scale_up(\"w\").when(mean(\"cpu\", \"99999999999d\") > 1)",
    "scale_up(\"w\").when(mean(\"\", \"5m\") > 1)",
    "scale_up(\"w\").when(size() > 1.0 / 0.0)",
    "scale_up(\"w\").when(|pool| loop {}).cooldown(\"3m\")",
    "scale_up(\"w\").when(|a, b| true)",
    "scale_up(\"w\").when(Fn(\"eval\"))",
    "heal(\"w\").when(silent(\"60s\")).ladder([\"explode\"])",
    "heal(\"w\").when(silent(\"60s\")).ladder([])",
    "on_alert(\"a\").then(|| 1)",
    "((((((((((((((((((((((((((((((((((((((((((((((((((1))))))))))))))))))))))))))))))))))))))))))))))))))",
    "fn a(){} fn b(){} let x = a() + b();",
    "switch 1 { 0..9223372036854775807 => 1 }",
    "let x = \"${}\"; let y = `${`${`${1}`}`}`;",
    "global::x",
    "type_of(1).type_of.type_of",
];

/// Hostile bodies of a scale rule.
const BODIES: &[&str] = &[
    "pool.resize_to(1000000, \"many\")",
    "pool.resize_to(-1, \"few\")",
    "pool.resize_to(0.0 / 0.0, \"nan\")",
    "pool.resize_to(1.0 / 0.0, \"inf\")",
    "pool.resize_to(-1.0 / 0.0, \"-inf\")",
    "pool.resize_to(1e300, \"large\")",
    "pool.resize_to(9223372036854775807, \"large\")",
    "pool.resize_to(\"5\", \"text\")",
    "pool.resize_to((), \"nothing\")",
    "pool.resize_to(5, ())",
    "pool.resize_to(5, 5)",
    "pool.add(-1, \"back\")",
    "pool.add(0.0 / 0.0, \"nan\")",
    "pool.remove(1, \"other way\")",
    "loop { pool.add(1, \"again\") }",
    "for i in 0..100000 { pool.resize_to(i, \"again\") }",
    "loop {}",
    "try { loop {} } catch { loop {} }",
    "let a = []; for i in 0..900 { a = [a]; } pool.resize_to(5, a)",
    "pool.size = 100",
    "pool.resize(5)",
    "pool.target(\"cpu\", \"5m\", 0)",
    "pool.target(\"cpu\", \"5m\", -0.5)",
    "pool.target(\"cpu\", \"5m\", 0.0 / 0.0)",
    "pool.mean(\"cpu\", \"5m\") > \"80%\"",
    "pool > 3",
    "mean(\"cpu\", \"5m\") > 0.5",
    "scale_up(\"other\")",
    "node(\"worker-1\").replace(\"mine\")",
    "node(()).replace(\"mine\")",
    "exit()",
    "sleep(10)",
    "eval(\"1\")",
    "print(\"\\x1b[2J\\n\")",
    "Fn(\"mean\").call(pool, \"other\", \"5m\")",
    "fn_that_is_not()",
];

struct Cpu;

impl SignalReader for Cpu {
    fn read(&mut self, _: u32, _: &Signal) -> Reading {
        Reading {
            value: Some(0.5),
            coverage: 1.0,
        }
    }
}

/// How long this thread has computed. What it waits for a core on a busy machine is no fault of
/// a script's; where the system does not tell, the clock has to do.
fn computed(since: Instant) -> Duration {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .map_or_else(|| since.elapsed(), Duration::from_nanos)
}

/// Loads `text` and runs every closure of it once; the longest of these, and what was asked.
fn run(text: &str) -> (Duration, Vec<BodyAsk>) {
    let begun = Instant::now();
    let before = computed(begun);
    let interrupt = Interrupt::new(move || begun.elapsed() > DEADLINE);
    let loaded = PolicySet::load_within(&[file(text)], &interrupt);
    let mut longest = computed(begun).saturating_sub(before);
    let mut asks = Vec::new();
    if let Ok(set) = loaded {
        let subjects = [
            Subject::Pool(pool(3, 3)),
            Subject::Node {
                name: "worker-1".into(),
                pool: pool(3, 3),
            },
            alert(&[("node", "worker-1")]),
        ];
        for rule in 0..set.rules().len() {
            for subject in &subjects {
                let begun = Instant::now();
                let before = computed(begun);
                let interrupt = Interrupt::new(move || begun.elapsed() > DEADLINE);
                let held = set.run_condition(rule, subject, &mut Cpu, &interrupt);
                if held == Ok(Verdict::True) {
                    let ran = set.run_body(rule, subject, &mut Cpu, &interrupt);
                    asks.extend(ran.unwrap_or_default());
                }
                longest = longest.max(computed(begun).saturating_sub(before));
            }
        }
        assert!(set.take_printed().len() <= 64);
    }
    (longest, asks)
}

/// The best of a few tries is within twice the deadline: a neighbour on this machine may take
/// its time, a script may not.
fn keeps_the_deadline(text: &str) -> Vec<BodyAsk> {
    let mut last = Vec::new();
    for _ in 0..5 {
        let (longest, asks) = run(text);
        last = asks;
        if longest <= 2 * DEADLINE {
            return last;
        }
    }
    assert!(
        last.is_empty(),
        "past the deadline, and asked for {last:?}: {text}"
    );
    panic!("past twice the deadline: {:?} {text}", run(text).0);
}

fn scale_up_with(body: &str) -> String {
    format!("scale_up(\"workers\").when(size() > 1).cooldown(\"3m\").then(|pool| {{ {body} }});")
}

#[test]
fn no_hostile_file_hurts_the_process() {
    assert!(FILES.len() + BODIES.len() >= 100);
    on_engine_stack(|| {
        for text in FILES {
            let asks = keeps_the_deadline(text);
            assert!(asks.is_empty(), "{text}: {asks:?}");
            let nested = scale_up_with(text);
            let asks = keeps_the_deadline(&nested);
            assert!(asks.is_empty(), "{nested}: {asks:?}");
        }
    });
}

#[test]
fn no_hostile_body_asks_for_anything() {
    on_engine_stack(|| {
        for body in BODIES {
            let text = scale_up_with(body);
            let asks = keeps_the_deadline(&text);
            let harmless = *body == "node(\"worker-1\").replace(\"mine\")";
            assert!(asks.is_empty() || harmless, "{text}: {asks:?}");
        }
    });
}

#[test]
fn what_must_be_refused_at_load_is() {
    on_engine_stack(|| {
        for (text, why) in [
            ("eval(\"1\")", "eval"),
            ("import \"x\" as x;", "import"),
            ("sleep(1)", "cannot sleep"),
            ("timestamp()", "no function `timestamp`"),
            ("exit()", "rest of the file"),
            ("if true { return; }", "`return` at the top level"),
            ("let f = |x| 1; f.curry(f);", "`curry` is not allowed"),
            ("/* open", "never closed"),
            ("loop {}", "200000 operations"),
            (
                "let s = size(); for i in 0..999 { s += 1; } scale_up(\"w\").when(s > 1).cooldown(\"1m\");",
                "more than 256 parts",
            ),
        ] {
            let errors = PolicySet::load(&[file(text)]).map(|_| ()).unwrap_err();
            assert!(
                errors.iter().any(|e| e.message.contains(why)),
                "{text}: {errors:?}"
            );
        }
    });
}

#[test]
fn a_closure_that_counts_its_runs_begins_anew_each_time() {
    on_engine_stack(|| {
        let set = PolicySet::load(&[file(
            "let runs = 3; let inner = || { runs += 1; runs };
             scale_up(\"workers\").when(size() > 1).cooldown(\"3m\")
                .then(|pool| { runs += 1; inner.call(); pool.resize_to(runs, \"counted\") });",
        )])
        .unwrap();
        let subject = Subject::Pool(pool(3, 3));
        let first = set
            .run_body(0, &subject, &mut Cpu, &Interrupt::never())
            .unwrap();
        for _ in 0..3 {
            let again = set
                .run_body(0, &subject, &mut Cpu, &Interrupt::never())
                .unwrap();
            assert_eq!(again, first);
        }
    });
}

const VALID: &str = include_str!("../../../policies/heartbeat-ladder.rhai");
const LARGER: &str = include_str!("../../../policies/target-tracking-cpu.rhai");

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_text_loads_or_is_refused_with_places(text in "\\PC{0,200}") {
        loads_or_is_refused(text);
    }

    #[test]
    fn any_words_load_or_are_refused(words in proptest::collection::vec(
        proptest::sample::select(vec![
            "scale_up", "heal", "(", ")", "\"w\"", ".", "when", "then", "|", "pool", "{", "}", "mean",
            "\"cpu\"", ",", "\"5m\"", ">", "0.5", "and", "or", "!", ";", "let", "x", "=", "fn", "`",
            "${", "/*", "*/", "//", "\n", "'", "#{", "[", "]", "switch", "if", "loop", "-", "return",
        ]), 0..60)) {
        loads_or_is_refused(words.join(" "));
    }

    #[test]
    fn a_changed_policy_loads_or_is_refused(
        cut in any::<proptest::sample::Index>(),
        length in 0usize..12,
        put in "[ -~]{0,6}",
        larger in any::<bool>(),
    ) {
        let text: Vec<char> = if larger { LARGER } else { VALID }.chars().collect();
        let from = cut.index(text.len());
        let to = (from + length).min(text.len());
        let changed: String = text[..from].iter().copied().chain(put.chars()).chain(text[to..].iter().copied()).collect();
        loads_or_is_refused(changed);
    }
}

fn loads_or_is_refused(text: String) {
    on_engine_stack(move || {
        if let Err(errors) = PolicySet::load(&[file(&text)]) {
            assert!(!errors.is_empty());
            for error in errors {
                assert!(!error.render(&text).is_empty());
            }
        }
    });
}
