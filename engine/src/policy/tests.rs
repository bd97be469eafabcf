//! Tests of the policies as a whole; each file of the room has its own beside these.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::window::Reading;

/// Reads values by the text of the signal.
#[derive(Default)]
struct Table {
    values: BTreeMap<String, Reading>,
    reads: usize,
}

impl Table {
    fn new(values: &[(&str, f64)]) -> Self {
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

fn file(text: &str) -> SourceFile {
    SourceFile {
        name: "test.rhai".to_owned(),
        text: text.to_owned(),
    }
}

/// Loads on a thread with the stack that the engine's thread has.
fn load(text: &str) -> Result<PolicySet, Vec<PolicyError>> {
    let files = [file(text)];
    on_engine_stack(move || PolicySet::load(&files))
}

fn on_engine_stack<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
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

fn pool(size: u32, ready: u32) -> PoolFacts {
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

fn alert(labels: &[(&str, &str)]) -> Subject {
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
