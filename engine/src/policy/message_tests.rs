//! What operators are told: mistakes, doubts, and the library that they copy.

use super::tests::{load, on_engine_stack};
use super::*;

/// Everything wrong with `text`, as `line:column message`.
fn errors(text: &str) -> Vec<String> {
    let errors = load(text).map(|_| ()).unwrap_err();
    let shown = errors
        .iter()
        .map(|e| format!("{}:{} {}", e.line, e.column, e.message));
    shown.collect()
}

#[test]
fn each_mistake_is_told_with_its_place_and_what_to_write() {
    let cases = [
        (
            "scale_up(\"w\").when(means(\"cpu\", \"5m\") > 1)",
            "1:20 no function `means`: did you mean `mean`?",
        ),
        (
            "scale_up(\"w\")\n  .when(size() > 1)\n  .colldown(\"3m\");",
            "3:4 no function `colldown`: did you mean `cooldown`?",
        ),
        (
            "scale_up(\"w\").when(size() > 1).then(|pool| pool.resize_too(1, \"x\"))",
            "1:49 no function `resize_too`: did you mean `resize_to`?",
        ),
        (
            "scale_up(\"w\").when(mean(\"cpu\", \"5x\") > 1)",
            "1:20 `5x` is not a duration",
        ),
        (
            "scale_up(\"w\").when(mean(\"cpu\", 5) > 1)",
            "1:20 `mean` does not take",
        ),
        (
            "scale_up(\"w\").when(mean(\"cpu\", \"5m\") > \"80%\")",
            "1:38 `>` on a signal and the text `80%`: write a number",
        ),
        (
            "scale_up(\"w\").when(mean(\"cpu\", \"5m\") == 1)",
            "1:38 `==` on a measured value",
        ),
        (
            "scale_up(\"w\").when(size() > 1 && size() < 5)",
            "a condition is not a bool",
        ),
        (
            "scale_up(\"w\").when(mean(\"cpu\", \"5m\"))",
            "compare the value",
        ),
        ("scale_up(\"w\").when(1 > 0)", "this is a plain bool"),
        ("scale_up(\"w\")", "1:1 the rule has no condition"),
        (
            "heal(\"w\").when(silent(\"60s\"))",
            "1:1 `heal` needs a ladder",
        ),
        ("on_alert(\"a\")", "1:1 `on_alert` needs a body"),
        (
            "on_alert(\"a\").when(size() > 1).then(|a| 1)",
            "`on_alert` has no `.when`",
        ),
        (
            "scale_up(\"w\").when(size() > 1).then(|| 1)",
            "with one parameter",
        ),
        (
            "scale_up(\"w\").when(size() > 1).then(|a, b| 1)",
            "with one parameter",
        ),
        (
            "scale_up(\"w\").when(size() > 1).then(Fn(\"to_string\"))",
            "with one parameter",
        ),
        (
            "scale_up(\"w\").when(size() > 1).when(size() > 2)",
            "the rule has a `.when` already",
        ),
        ("let a = size() > 1;", "1:16 no rule uses this"),
        (
            "heal(\"w\").when(silent(\"60s\")).ladder([\"replace\", \"reboot\"])",
            "from the gentlest",
        ),
        (
            "let w = \"5m\"; scale_up(\"w\").when(size() > 1).then(|pool| pool.add(pool.mean(\"cpu\", w), \"x\"))",
            "which window `mean` reads cannot be seen",
        ),
        (
            "let a = 1; fn f(x) { a + x } scale_up(\"w\").when(size() > f(1))",
            "no variable `a`",
        ),
        ("scale_up(\"w\").when(size() > 1) scale_up(\"v\")", "1:"),
        (
            "heal(\"w\").when(vm_status(\"error\")).ladder([\"reboot\"])",
            "write it as Nova does",
        ),
    ];
    for (text, wanted) in cases {
        let told = errors(text);
        assert!(
            told.iter().any(|told| told.contains(wanted)),
            "{text}\n{told:#?}"
        );
    }
}

#[test]
fn a_function_that_there_is_not_is_told_once() {
    let cases: [(&str, &[&str]); 5] = [
        (
            "scale_up(\"w\").when(means(\"cpu\", \"5m\") > 1);",
            &["1:20 no function `means`: did you mean `mean`?"],
        ),
        (
            "scale_up(\"w\")\n  .when(size() > 1)\n  .colldown(\"3m\");",
            &["3:4 no function `colldown`: did you mean `cooldown`?"],
        ),
        (
            "fn busy() { means(\"cpu\", \"5m\") > 1 }\nscale_up(\"w\").when(busy());",
            &["1:13 no function `means`: did you mean `mean`?"],
        ),
        (
            "scale_up(\"w\").when(means(\"cpu\", \"5m\") > 1);\nscale_up(\"v\").when(maxx(\"cpu\", \"5m\") > 1);",
            &["1:20 no function `means`", "2:20 no function `maxx`"],
        ),
        // One that there is, wrongly used, is told by the run.
        (
            "scale_up(\"w\").when(mean(\"cpu\", 5) > 1);",
            &["1:20 `mean` does not take"],
        ),
    ];
    for (text, wanted) in cases {
        let told = errors(text);
        assert_eq!(told.len(), wanted.len(), "{text}\n{told:#?}");
        for (told, wanted) in told.iter().zip(wanted) {
            assert!(told.starts_with(wanted), "{text}\n{told}");
        }
    }
}

#[test]
fn too_many_functions_are_counted_and_a_loop_makes_them_few() {
    let rule = |pool: &str, rule: u32| {
        format!("scale_up({pool}).when(size() < {rule}).then(|pool| pool.add({rule}, \"x\"));\n")
    };
    let mut each = String::new();
    for pool in 0..40 {
        for number in 1..=11 {
            each.push_str(&rule(&format!("\"pool-{pool}\""), number + 100 * pool));
        }
    }
    let told = errors(&each);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0].contains("the file has 440 closures and functions, and at most 64 may be"),
        "{told:#?}"
    );
    let names: Vec<_> = (0..40).map(|pool| format!("\"pool-{pool}\"")).collect();
    let looped = |rules: u32| {
        let rules: String = (1..=rules).map(|number| rule("name", number)).collect();
        format!("for name in [{}] {{\n{rules}}}", names.join(", "))
    };
    assert_eq!(load(&looped(5)).unwrap().rules().len(), 200);
    let told = errors(&looped(11));
    let too_many = "the file has 440 rules, and at most 200 may be";
    let of_it = told.iter().filter(|told| told.contains(too_many));
    assert_eq!(of_it.count(), 1, "{told:#?}");
}

#[test]
fn all_errors_of_all_files_are_told_at_once() {
    let bad = |name: &str, text: &str| SourceFile {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    let files = [
        bad(
            "a.rhai",
            "scale_up(\"w\").when(size() == 1)\n  .cooldown(\"soon\")\n  .for_at_least(\"x\");",
        ),
        bad("b.rhai", "let = ;"),
        bad(
            "c.rhai",
            "heal(\"w\").when(silent(\"60s\")).ladder([\"kick\"]);",
        ),
    ];
    let errors = on_engine_stack(move || PolicySet::load(&files))
        .map(|_| ())
        .unwrap_err();
    let places: Vec<_> = errors.iter().map(|e| (e.file.as_str(), e.line)).collect();
    assert_eq!(
        places,
        [
            ("a.rhai", 1),
            ("a.rhai", 2),
            ("a.rhai", 3),
            ("b.rhai", 1),
            ("c.rhai", 1)
        ],
        "{errors:#?}"
    );
}

#[test]
fn a_mistake_is_shown_with_its_line_and_a_caret() {
    let text = "scale_up(\"w\")\n\t.when(size() == 1);";
    let errors = load(text).map(|_| ()).unwrap_err();
    assert_eq!(
        errors[0].render(text),
        "error: `==` on a measured value is hardly ever true: write `<`, `<=`, `>` or `>=`\n \
         --> test.rhai:2:15\n  |\n2 |  .when(size() == 1);\n  |               ^\n"
    );
}

/// What is doubtful about `text`, with the pools `workers` and `batch`.
fn findings(text: &str) -> Vec<String> {
    let set = load(text).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let found = set.check(Some(&["workers".into(), "batch".into()]));
    let shown = found
        .iter()
        .map(|f| format!("{}:{} {}", f.line, f.column, f.message));
    shown.collect()
}

#[test]
fn doubts_are_told_with_a_place_and_a_witness() {
    let up = |question: &str| format!("scale_up(\"workers\").when({question}).cooldown(\"3m\");");
    let down =
        |question: &str| format!("scale_down(\"workers\").when({question}).cooldown(\"3m\");");
    let cases = [
        (
            up("mean(\"cpu\", \"5m\") > 0.9 and mean(\"cpu\", \"5m\") < 0.3"),
            "would have to be > 0.9 and < 0.3",
        ),
        (
            up("mean(\"cpu\", \"5m\") > 75"),
            "can never hold: `mean(\"cpu\", \"5m\")` would have to be > 75",
        ),
        (up("size() >= 0"), "holds whenever there is data"),
        (up("!(size() < 0)"), "holds whenever there is data"),
        (
            up("size() < 0 or covered(\"cpu\", \"5m\") and coverage(\"cpu\", \"5m\") < 0.5"),
            "can never hold",
        ),
        (
            up("mean(\"cpu\", \"5m\") > 0.5")
                + down("mean(\"cpu\", \"15m\") < 0.6 and covered(\"cpu\", \"15m\")").as_str(),
            "no gap to the scale_up rule at test.rhai:1: at `mean(\"cpu\", \"5m\")` = 0.55",
        ),
        (
            up("mean(\"cpu\", \"5m\") > 0.5")
                + down("mean(\"cpu\", \"15m\") < 0.5 and covered(\"cpu\", \"15m\")").as_str(),
            "no gap to the scale_up rule",
        ),
        (
            down("mean(\"cpu\", \"5m\") < 0.3"),
            "add `and covered(\"cpu\", \"5m\")`",
        ),
        (
            "heal(\"workers\").when(mean(\"load\", \"5m\") > 90).ladder([\"reboot\"]);".to_owned(),
            "add `and covered(\"load\", \"5m\")`",
        ),
        (
            "scale_up(\"worker\").when(size() < 3).cooldown(\"3m\");".to_owned(),
            "1:1 no pool `worker`: did you mean `workers`?",
        ),
        (
            "scale_up(\"workers\").when(size() < 3);".to_owned(),
            "has no cooldown",
        ),
        (
            "scale_up(\"workers\").when(size() < 3).for_at_least(\"5m\").cooldown(\"3m\");"
                .to_owned(),
            "shorter than the hold",
        ),
        (
            "scale_up(\"workers\").when(size() < 3).cooldown(\"90s\");".to_owned(),
            "1:38 the cooldown `1m30s` is shorter than a machine takes",
        ),
    ];
    for (text, wanted) in cases {
        let told = findings(&text);
        assert!(
            told.iter().any(|told| told.contains(wanted)),
            "{text}\n{told:#?}"
        );
    }
}

#[test]
fn what_is_well_meant_is_not_doubted() {
    for text in [
        r#"scale_up("workers").when(mean("cpu", "5m") > 0.75 or unschedulable_pods() > 0).for_at_least("1m").cooldown("3m");
           scale_down("workers").when(mean("cpu", "15m") < 0.35 and covered("cpu", "15m") and fits_on_fewer()).for_at_least("10m").cooldown("10m");"#,
        r#"heal("workers").when(silent("60s")).ladder(["reboot", "rebuild", "replace"]);"#,
        r#"scale_up("workers").when(mean("cpu", "5m") > 0.5).cooldown("3m");
           scale_down("batch").when(mean("cpu", "5m") < 0.6 and covered("cpu", "5m")).cooldown("3m");"#,
        r#"scale_up("workers").when(mean("cpu", "5m") * 100 > 90).cooldown("3m");"#,
    ] {
        assert_eq!(findings(text), Vec::<String>::new(), "{text}");
    }
}

/// The policies that operators copy.
const SHIPPED: [(&str, &str); 5] = [
    (
        "target-tracking-cpu.rhai",
        include_str!("../../../policies/target-tracking-cpu.rhai"),
    ),
    (
        "step-scaling-memory.rhai",
        include_str!("../../../policies/step-scaling-memory.rhai"),
    ),
    (
        "unschedulable-pods.rhai",
        include_str!("../../../policies/unschedulable-pods.rhai"),
    ),
    (
        "heartbeat-ladder.rhai",
        include_str!("../../../policies/heartbeat-ladder.rhai"),
    ),
    (
        "alert-replace.rhai",
        include_str!("../../../policies/alert-replace.rhai"),
    ),
];

#[test]
fn the_shipped_policies_load_alone_and_without_doubt() {
    for (name, text) in SHIPPED {
        let set = load(text).unwrap_or_else(|errors| panic!("{name}: {errors:#?}"));
        assert!(set.rules().iter().all(|rule| rule.native), "{name}");
        assert_eq!(findings(text), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn the_readme_lists_the_host_api_and_nothing_else() {
    let readme = include_str!("../../../policies/README.md");
    let listed: std::collections::BTreeSet<String> = readme
        .lines()
        .filter(|line| line.starts_with("| `"))
        .filter_map(|line| line.split('`').nth(1))
        .flat_map(|shown| {
            let head = shown.split('(').next().unwrap_or_default();
            head.rsplit('.').next().map(str::to_owned)
        })
        .collect();
    let scripts = load::scripts().unwrap();
    let mut registered: std::collections::BTreeSet<String> = scripts
        .engine
        .gen_fn_signatures(false)
        .iter()
        .filter_map(|signature| signature.split('(').next().map(str::to_owned))
        .map(|name| {
            name.trim_start_matches("get ")
                .trim_start_matches("get$")
                .to_owned()
        })
        .filter(|name| name.chars().all(|c| c.is_alphanumeric() || c == '_'))
        .filter(|name| !["sleep", "exit"].contains(&name.as_str()))
        .collect();
    registered.extend(["and".to_owned(), "or".to_owned()]);
    assert_eq!(listed, registered);
    for name in vocabulary::functions() {
        assert!(registered.contains(name), "`{name}` is said to exist");
    }
}
