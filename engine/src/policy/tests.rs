//! Tests of the policies as a whole; each file of the room has its own beside these.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::window::Reading;

/// Reads values by the text of the signal.
#[derive(Default)]
pub(super) struct Table {
    values: BTreeMap<String, Reading>,
    pub(super) reads: usize,
}

impl Table {
    pub(super) fn new(values: &[(&str, f64)]) -> Self {
        let mut table = Self::default();
        for (name, value) in values {
            table.values.insert(
                (*name).to_owned(),
                Reading {
                    value: Some(*value),
                    coverage: 1.0,
                },
            );
        }
        table
    }
}

impl SignalReader for Table {
    fn read(&mut self, _: u32, signal: &Signal) -> Reading {
        self.reads += 1;
        let key = match signal {
            Signal::Window {
                name, stat, window, ..
            } => format!("{stat:?} {name} {}", window.as_secs()),
            other => format!("{other:?}"),
        };
        self.values.get(&key).copied().unwrap_or_default()
    }
}

pub(super) fn file(text: &str) -> SourceFile {
    SourceFile {
        name: "test.rhai".to_owned(),
        text: text.to_owned(),
    }
}

/// Loads on a thread with the stack that the engine's thread has.
pub(super) fn load(text: &str) -> Result<PolicySet, Vec<PolicyError>> {
    let files = [file(text)];
    on_engine_stack(move || PolicySet::load(&files))
}

pub(super) fn on_engine_stack<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new()
        .stack_size(16 * 1024 * 1024)
        .spawn(act)
        .unwrap()
        .join()
        .unwrap()
}

#[test]
fn a_condition_is_a_tree_and_missing_values_never_act() {
    let set = load(
        r#"scale_up("workers")
            .when(mean("cpu", "5m") > 0.75 or unschedulable_pods() > 0)
            .for_at_least("1m").cooldown("3m");"#,
    )
    .unwrap();
    assert_eq!(set.rules().len(), 1);
    let rule = &set.rules()[0];
    assert_eq!(rule.id.as_str(), "test.rhai:1");
    assert_eq!(rule.hold, Duration::from_secs(60));
    assert_eq!(rule.cooldown, Duration::from_secs(180));
    assert!(rule.native);
    let cases: [(&[(&str, f64)], Verdict); 6] = [
        (&[("Mean cpu 300", 0.8)], Verdict::True),
        (&[("Mean cpu 300", 0.7)], Verdict::Unknown),
        (
            &[("Mean cpu 300", 0.7), ("UnschedulablePods", 0.0)],
            Verdict::False,
        ),
        (&[("UnschedulablePods", 1.0)], Verdict::True),
        (&[], Verdict::Unknown),
        (
            &[("Mean cpu 300", f64::NAN), ("UnschedulablePods", 0.0)],
            Verdict::Unknown,
        ),
    ];
    for (values, wanted) in cases {
        assert_eq!(
            set.verdict(0, &mut Table::new(values)),
            wanted,
            "{values:?}"
        );
    }
}

pub(super) fn pool(size: u32, ready: u32) -> PoolFacts {
    PoolFacts {
        name: "workers".into(),
        size,
        ready,
        min: 1,
        max: 20,
    }
}

fn node() -> Subject {
    Subject::Node {
        name: "worker-1".into(),
        pool: pool(3, 3),
    }
}

pub(super) fn alert(labels: &[(&str, &str)]) -> Subject {
    Subject::Alert(Alert {
        name: "NodeDiskFailing".to_owned(),
        firing: true,
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        summary: "disk\u{1b}[31m is failing\n".to_owned(),
        fingerprint: "f".to_owned(),
        starts_at: crate::time::Timestamp(0),
    })
}

/// Runs the body of the only rule of `text`.
fn body(
    text: &str,
    subject: &Subject,
    values: &[(&str, f64)],
) -> Result<Vec<BodyAsk>, PolicyError> {
    let set = load(text).unwrap();
    let (subject, mut table) = (subject.clone(), Table::new(values));
    on_engine_stack(move || set.run_body(0, &subject, &mut table, &Interrupt::never()))
}

#[test]
fn without_a_body_each_kind_does_its_own() {
    let asks = |text: &str, subject: &Subject| match &body(text, subject, &[]).unwrap()[..] {
        [BodyAsk::Resize { to, .. }] => format!("to {to}"),
        [BodyAsk::Heal { node, ladder, .. }] => format!("{node} {ladder:?}"),
        other => format!("{other:?}"),
    };
    let three = Subject::Pool(pool(3, 3));
    assert_eq!(
        asks("scale_up(\"workers\").when(size() < 5)", &three),
        "to 4"
    );
    assert_eq!(
        asks("scale_down(\"workers\").when(size() > 2)", &three),
        "to 2"
    );
    assert_eq!(
        asks(
            "heal(\"workers\").when(silent(\"60s\")).ladder([\"reboot\", \"replace\"])",
            &node()
        ),
        "worker-1 [Reboot, Replace]"
    );
}

#[test]
fn a_body_reads_windows_found_in_its_text() {
    let text = r#"scale_up("workers").when(size() < 9)
        .then(|pool| pool.resize_to(pool.target("cpu", "5m", 0.6), "busy"));"#;
    let set = load(text).unwrap();
    assert_eq!(
        set.plan().metrics,
        [("cpu".to_owned(), vec![Duration::from_secs(300)])]
    );
    let asks = body(text, &Subject::Pool(pool(7, 7)), &[("Mean cpu 300", 0.6)]).unwrap();
    assert_eq!(
        asks,
        [BodyAsk::Resize {
            pool: "workers".into(),
            to: 7,
            why: "busy".to_owned()
        }]
    );
    let missing = body(text, &Subject::Pool(pool(7, 7)), &[]).unwrap_err();
    assert_eq!((missing.line, missing.column), (2, 42));
    assert!(missing.message.contains("has no value now"), "{missing}");
}

#[test]
fn an_alert_names_its_node_and_a_missing_label_is_said() {
    let text = r#"on_alert("NodeDiskFailing")
        .then(|alert| node(alert.label("node")).replace(alert.summary));"#;
    let asks = body(text, &alert(&[("node", "worker-1")]), &[]).unwrap();
    assert_eq!(
        asks,
        [BodyAsk::Heal {
            node: "worker-1".into(),
            ladder: vec![Rung::Replace],
            why: "disk [31m is failing ".to_owned()
        }]
    );
    let error = body(text, &alert(&[]), &[]).unwrap_err();
    assert!(error.message.contains("no such label"), "{error}");
}

#[test]
fn the_sum_of_a_target_is_done_with_care() {
    let cases = [
        // ready, size, mean, wanted, up, down
        (7, 7, 0.6, 0.6, 7, 7),
        (3, 3, 0.9, 0.6, 5, 5),
        (10, 10, 0.3, 0.6, 5, 5),
        (5, 7, 0.9, 0.6, 8, 10),
        (0, 3, 0.9, 0.6, 0, 3),
        (3, 3, 0.0, 0.6, 0, 0),
        (3, 3, 0.601, 0.6, 4, 4),
    ];
    for (ready, size, mean, wanted, up, down) in cases {
        let facts = pool(size, ready);
        for (direction, nodes) in [
            (crate::decision::Direction::Up, up),
            (crate::decision::Direction::Down, down),
        ] {
            let got = body::target(&facts, direction, mean, wanted);
            assert_eq!(got, Ok(nodes), "{ready} of {size} at {mean}, {direction:?}");
        }
    }
    for ready in 1..200 {
        for percent in 1..=100 {
            let wanted = f64::from(percent) / 100.0;
            let got = body::target(
                &pool(ready, ready),
                crate::decision::Direction::Up,
                wanted,
                wanted,
            );
            assert_eq!(got, Ok(i64::from(ready)), "{ready} nodes at {wanted}");
        }
    }
    for (mean, wanted) in [(0.5, 0.0), (0.5, -1.0), (-0.5, 0.5), (1e300, 1e-300)] {
        assert!(body::target(&pool(3, 3), crate::decision::Direction::Up, mean, wanted).is_err());
    }
}

#[test]
fn resize_to_takes_whole_numbers_and_rounds_floats_up() {
    for (nodes, wanted) in [
        ("5", 5),
        ("4.2", 5),
        ("5.0", 5),
        ("7.000000000000001", 7),
        ("0", 0),
    ] {
        for kind in ["scale_up", "scale_down"] {
            let text = format!(
                "{kind}(\"workers\").when(size() > 1).then(|pool| pool.resize_to({nodes}, \"why\"));"
            );
            let asks = body(&text, &Subject::Pool(pool(3, 3)), &[]).unwrap();
            assert!(
                matches!(asks[..], [BodyAsk::Resize { to, .. }] if to == wanted),
                "{nodes}: {asks:?}"
            );
        }
    }
}

#[test]
fn a_pool_a_node_and_an_alert_show_what_they_are() {
    let text = r#"scale_up("workers").when(size() > 1).then(|pool| {
        let why = `${pool.name} ${pool.size} ${pool.ready} ${pool.min} ${pool.max}`;
        pool.add(2, why + " " + pool.covered("cpu", "5m") + " " + pool.max("cpu", "5m"));
    });"#;
    let values = [("Coverage cpu 300", 0.9), ("Max cpu 300", 0.75)];
    let asks = body(text, &Subject::Pool(pool(3, 2)), &values).unwrap();
    let [BodyAsk::Resize { to: 5, why, .. }] = &asks[..] else {
        panic!("{asks:?}")
    };
    assert_eq!(why, "workers 3 2 1 20 true 0.75");
    let text = r#"heal("workers").when(silent("60s")).ladder(["reboot", "rebuild"]).then(|node| {
        if node.pool == "workers" { node.heal(node.name) } else { node.replace("") }
    });"#;
    let asks = body(text, &node(), &[]).unwrap();
    let ladder = vec![Rung::Reboot, Rung::Rebuild];
    assert!(
        matches!(&asks[..], [BodyAsk::Heal { ladder: l, why, .. }] if *l == ladder && why == "worker-1")
    );
}

#[test]
fn a_closure_as_condition_is_not_native_and_missing_values_make_it_unknown() {
    let text = r#"scale_up("workers").when(|pool| pool.mean("cpu", "5m") > 0.5).cooldown("3m");
        heal("workers").when(|node| node.last("cpu", "1m")).ladder(["reboot"]);"#;
    let set = load(text).unwrap();
    assert!(!set.rules()[0].native);
    assert_eq!(
        set.verdict(0, &mut Table::new(&[("Mean cpu 300", 0.9)])),
        Verdict::Unknown
    );
    on_engine_stack(move || {
        let subject = Subject::Pool(pool(3, 3));
        let ask = |values: &[(&str, f64)]| {
            set.run_condition(0, &subject, &mut Table::new(values), &Interrupt::never())
        };
        assert_eq!(ask(&[("Mean cpu 300", 0.9)]), Ok(Verdict::True));
        assert_eq!(ask(&[("Mean cpu 300", 0.5)]), Ok(Verdict::False));
        assert_eq!(ask(&[]), Ok(Verdict::Unknown));
        assert_eq!(ask(&[("Mean cpu 300", f64::NAN)]), Ok(Verdict::Unknown));
        let mut table = Table::new(&[("Last cpu 60", 0.9)]);
        let error = set
            .run_condition(1, &node(), &mut table, &Interrupt::never())
            .unwrap_err();
        assert!(error.message.contains("where a bool is needed"), "{error}");
        let evidence = set.evidence(0, &mut Table::new(&[("Mean cpu 300", 0.9)]));
        assert_eq!(&*evidence.values[0].signal, "mean(\"cpu\", \"5m\")");
    });
}

#[test]
fn evidence_is_in_the_order_of_the_text_and_as_written() {
    let set = load(
        r#"scale_down("workers")
            .when(0.35 > mean("cpu", "300s") and covered("cpu", "5m") and fits_on_fewer()
                and max("cpu", "5m") * 2 < 1.5).cooldown("3m");"#,
    )
    .unwrap();
    let values = [
        ("Mean cpu 300", 0.2),
        ("Coverage cpu 300", 0.9),
        ("FitsOnFewer", 1.0),
    ];
    let evidence = set.evidence(0, &mut Table::new(&values));
    let shown: Vec<_> = evidence
        .values
        .iter()
        .map(|seen| (&*seen.signal, seen.value, seen.coverage, seen.bound))
        .collect();
    assert_eq!(
        shown,
        [
            ("mean(\"cpu\", \"300s\")", Some(0.2), Some(1.0), Some(0.35)),
            ("covered(\"cpu\", \"5m\")", Some(0.9), Some(1.0), Some(0.8)),
            ("fits_on_fewer()", Some(1.0), None, Some(0.0)),
            ("max(\"cpu\", \"5m\")", None, Some(0.0), None),
        ]
    );
}

#[test]
fn signals_and_windows_are_kept_once_for_all_files() {
    let text = r#"scale_up("a").when(mean("cpu", "5m") > 0.7).cooldown("3m");"#;
    let other = r#"scale_up("b").when(mean("cpu", "300s") > 0.8 or max("cpu", "1m") > 0.9).cooldown("3m");"#;
    let files = [
        file(text),
        SourceFile {
            name: "other.rhai".to_owned(),
            text: other.to_owned(),
        },
    ];
    let set = on_engine_stack(move || PolicySet::load(&files)).unwrap();
    assert_eq!(set.signals().len(), 2);
    let minutes = |m: u64| Duration::from_secs(60 * m);
    assert_eq!(
        set.plan().metrics,
        [("cpu".to_owned(), vec![minutes(1), minutes(5)])]
    );
    assert_eq!(set.rules()[1].id.as_str(), "other.rhai:1");
    assert_eq!(set.hash().len(), 64);
    assert_ne!(set.hash(), load(text).unwrap().hash());
}

#[test]
fn the_second_side_is_not_read_when_the_first_decides() {
    let set =
        load("scale_up(\"w\").when(size() > 1 or ready_nodes() > 1 and fits_on_fewer());").unwrap();
    for (values, reads) in [
        (vec![("Size", 2.0)], 1),
        (vec![("Size", 0.0), ("ReadyNodes", 0.0)], 2),
    ] {
        let mut table = Table::new(&values);
        set.verdict(0, &mut table);
        assert_eq!(table.reads, reads, "{values:?}");
    }
}

#[test]
fn rules_of_a_loop_have_names_of_their_own() {
    let set = load("for pool in [\"a\", \"b\"] {\n  scale_up(pool).when(size() < 3);\n}").unwrap();
    let ids: Vec<_> = set.rules().iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(ids, ["test.rhai:2", "test.rhai:2#2"]);
}
