//! When conditions are looked at, and that the same records give the same decisions.

use std::time::Duration;

use proptest::prelude::*;

use crate::event::{Batch, Form, Input, SourceName, Wish};
use crate::journal::Record;
use crate::lab::{Lab, Plan, on_engine_stack, policies};
use crate::names::PoolName;
use crate::time::Now;

#[test]
fn silence_is_found_within_a_tenth_of_a_second_and_never_before() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        lab.run(401);
        let heard = lab.now.plus(Duration::from_millis(370));
        lab.now = heard;
        let mut batch = Batch::new(SourceName::Kafka, lab.now.wall);
        batch.push_record("w3", lab.now.wall, None);
        lab.step(Input::Batch(batch));
        lab.die("w3");
        lab.node("w3").kubelet = false;
        let mut listed = lab.now;
        let mut wake = lab.step(Input::Tick).unwrap();
        let mut steps = 0;
        let found = loop {
            let due = wake.since(lab.now.mono);
            lab.now = lab.now.plus(due);
            if lab.now.mono.since(listed.mono) >= Duration::from_secs(9) {
                // The others go on speaking, and sources go on reporting.
                listed = lab.now;
                lab.round();
            }
            wake = lab.step(Input::Tick).unwrap();
            assert!(wake > lab.now.mono, "the next wake-up lies ahead");
            steps += 1;
            assert!(steps < 10_000, "the engine spins");
            if !lab.decided().is_empty() || !lab.refusals().is_empty() {
                break lab.now;
            }
        };
        let silent = found.mono.since(heard.mono);
        assert!(
            (60_000..=60_100).contains(&silent.as_millis()),
            "found after {silent:?}"
        );
    });
}

#[test]
fn nobody_is_silent_while_the_input_does_not_flow() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        lab.run(400);
        lab.sources.insert(SourceName::Kafka, false);
        lab.die("w3");
        lab.run(600);
        assert!(lab.decided().is_empty());
        assert!(lab.refusals().is_empty(), "it is not even proposed");
    });
}

#[test]
fn one_sample_starts_nothing() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        lab.cpu(None);
        lab.run(400);
        let mut batch = Batch::new(SourceName::Kafka, lab.now.wall);
        for node in &lab.nodes {
            batch.push_record(&node.name, lab.now.wall, None);
            batch.push_sample("cpu", "", Form::Value, 0.0);
        }
        lab.step(Input::Batch(batch));
        lab.run(300);
        assert!(lab.decided().is_empty(), "{:?}", lab.decided());
    });
}

#[test]
fn missing_is_not_zero() {
    on_engine_stack(|| {
        // Not even `covered` stands between a missing value and a removal here.
        let mut lab = Lab::new(Plan {
            policy: r#"scale_down("workers").when(mean("cpu", "1m") < 0.2);"#,
            ..Plan::default()
        });
        lab.run(400);
        lab.cpu(None);
        lab.run(900);
        assert!(lab.decided().is_empty(), "{:?}", lab.decided());
        assert!(lab.refusals().is_empty(), "it is not even proposed");
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            lab.cpu(Some(value));
            lab.run(300);
        }
        assert!(lab.decided().is_empty(), "{:?}", lab.decided());
    });
}

/// Everything that leaves the engine, as bytes.
fn bytes(lab: &Lab) -> String {
    serde_json::to_string(&(&lab.records, &lab.actions)).unwrap()
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let run = |reload: bool| {
        on_engine_stack(move || {
            let mut lab = Lab::new(Plan::default());
            lab.run(350);
            if reload {
                lab.step(Input::Policies(policies(crate::lab::POLICY)));
            }
            lab.run(50);
            lab.cpu(Some(0.95));
            lab.run(200);
            lab.die("w3");
            lab.run(200);
            bytes(&lab)
        })
    };
    let first = run(false);
    assert!(first.contains("add "), "something happens");
    assert_eq!(first, run(false));
    assert_eq!(first, run(true), "the same policies again change nothing");
}

/// Plays ten minutes of load in which records come late, twice and in another order.
fn decisions(order: Vec<(u8, u8)>, busy_from: u64) -> Vec<String> {
    on_engine_stack(move || {
        let mut lab = Lab::new(Plan::default());
        lab.cpu(None);
        let mut waiting: Vec<(Now, usize, Now)> = Vec::new();
        for second in 0..900u64 {
            if second.is_multiple_of(10) {
                for node in 0..lab.nodes.len() {
                    let place = (second as usize / 10 * 6 + node) % order.len().max(1);
                    let (late, twice) = order.get(place).copied().unwrap_or_default();
                    // Up to eight seconds late, so that it is in before the next is due.
                    let comes = lab.now.plus(Duration::from_secs(u64::from(late % 9)));
                    waiting.push((comes, node, lab.now));
                    if twice % 3 == 0 {
                        waiting.push((comes.plus(Duration::from_secs(1)), node, lab.now));
                    }
                }
            }
            let now = lab.now;
            let (due, rest): (Vec<_>, Vec<_>) = waiting
                .into_iter()
                .partition(|(comes, _, _)| comes.mono <= now.mono);
            waiting = rest;
            let mut batch = Batch::new(SourceName::Kafka, now.wall);
            for (_, node, time) in due.into_iter().rev() {
                let since = time.wall.since(crate::lab::BEGIN.wall).as_secs();
                let busy = since >= busy_from;
                batch.push_record(&format!("w{}", node + 1), time.wall, None);
                let value = if busy { 0.95 } else { 0.5 };
                batch.push_sample("cpu", "", Form::Value, value);
            }
            lab.step(Input::Batch(batch));
            lab.run(1);
        }
        lab.decided().into_iter().map(ToOwned::to_owned).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// I28: what comes late, twice or in another order leads to the same decisions.
    #[test]
    fn order_and_doubles_change_no_decision(
        order in proptest::collection::vec((any::<u8>(), any::<u8>()), 1..64),
        busy in 300u64..500,
    ) {
        let clean = decisions(vec![(0, 1)], busy);
        prop_assert!(!clean.is_empty());
        prop_assert_eq!(decisions(order, busy), clean);
    }
}

#[test]
fn another_policy_starts_its_hold_anew() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan {
            policy: r#"scale_up("workers").when(mean("cpu", "1m") > 0.75).for_at_least("60s");"#,
            ..Plan::default()
        });
        lab.cpu(Some(0.9));
        lab.run(50);
        let text = r#"scale_up("workers").when(mean("cpu", "1m") > 0.7).for_at_least("60s");"#;
        lab.step(Input::Policies(policies(text)));
        lab.run(55);
        assert!(lab.decided().is_empty());
        lab.run(10);
        assert!(!lab.decided().is_empty());
        let hash = |record: &&Record| matches!(record, Record::Policies { .. });
        assert_eq!(lab.journal.iter().filter(hash).count(), 2);
    });
}

#[test]
fn a_hold_sets_one_timer_however_many_records_come() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan {
            policy: r#"heal("workers").when(mean("cpu", "1m") > 0.1).for_at_least("1h")
                .ladder(["reboot"]);"#,
            ..Plan::default()
        });
        lab.run(600);
        let timers = lab.engine.rules.timer_count();
        // Of the look, of the hold, and of the hold that began before the input flowed.
        assert!(timers <= 3 * lab.nodes.len(), "{timers} timers");
    });
}

#[test]
fn a_body_heals_only_the_node_that_its_rule_looked_at() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan {
            policy: r#"heal("workers").when(silent("60s"))
                .then(|seen| node("w5").reboot("neighbour"));"#,
            ..Plan::default()
        });
        lab.run(400);
        // One witness of w5, and a rule that was true of w3 alone.
        lab.die("w3");
        lab.node("w5").kubelet = false;
        lab.forgiving = true;
        lab.run(120);
        assert!(lab.decided().is_empty(), "{:?}", lab.decided());
        assert!(!lab.failures.is_empty());
        assert!(lab.failures.iter().all(|said| said.contains("`w5`")));
    });
}

/// Seconds from the first of a high load to the decision, if the policy is another 40 s after it.
fn decided_after(reloaded: &'static str) -> usize {
    const BUSY: &str = r#"scale_up("workers").when(mean("cpu", "1m") > 0.75)
        .for_at_least("2m").then(|pool| pool.add(1, "busy"));"#;
    on_engine_stack(move || {
        let mut lab = Lab::new(Plan {
            policy: BUSY,
            ..Plan::default()
        });
        lab.run(400);
        lab.cpu(Some(0.95));
        for second in 0..400 {
            if second == 100 {
                lab.step(Input::Policies(policies(reloaded)));
            }
            lab.run(1);
            if !lab.decided().is_empty() {
                return second;
            }
        }
        usize::MAX
    })
}

#[test]
fn a_reload_keeps_the_hold_times_of_rules_that_stay() {
    let moved = r#"
        heal("workers").when(silent("60s")).ladder(["reboot"]);

        scale_up("workers").when(mean("cpu", "1m") > 0.75)
        .for_at_least("2m").then(|pool| pool.add(2, "very busy"));"#;
    let other = r#"scale_up("workers").when(mean("cpu", "1m") > 0.76)
        .for_at_least("2m").then(|pool| pool.add(1, "busy"));"#;
    let kept = decided_after(moved);
    assert!((120..200).contains(&kept), "{kept}: it moved and stays");
    let anew = decided_after(other);
    assert!((220..300).contains(&anew), "{anew}: it asks something else");
}

#[test]
fn a_reload_keeps_the_hold_times_of_a_node() {
    const HOT: &str = r#"heal("workers").when(mean("cpu", "1m") > 0.9).for_at_least("5m")
        .then(|node| node.reboot("hot"));"#;
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan {
            policy: HOT,
            ..Plan::default()
        });
        lab.run(400);
        lab.node("w3").cpu = Some(0.99);
        lab.run(200);
        lab.step(Input::Policies(policies(&format!("// A word.\n{HOT}"))));
        lab.run(200);
        assert_eq!(lab.refusals().len(), 1, "one witness, five minutes after");
    });
}

#[test]
fn what_stands_for_a_node_falls_when_it_is_marked_for_another_pool() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan {
            others: vec!["yards"],
            ..Plan::default()
        });
        lab.run(400);
        lab.wish(Wish::Pause { pool: None });
        lab.die("w3");
        lab.run(90);
        assert!(!lab.engine.rules.is_quiet(), "its silence stands");
        lab.node("w3").pool = PoolName::new("yards");
        lab.run(11);
        assert!(lab.engine.rules.is_quiet(), "no rule of the pool it is in");
        lab.wish(Wish::Resume { pool: None });
        lab.run(600);
        let treated = lab.decided().iter().any(|what| what.ends_with(" w3"));
        assert!(!treated, "{:?}", lab.decided());
    });
}
