//! A sum that is kept by difference is what a look at every member finds, to the last bit.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::event::{Batch, Form, Input, SourceName};
use crate::guard::tests::ill::{OTHER, happens};
use crate::lab::{Lab, Plan, on_engine_stack};

const POLICY: &str = r#"
scale_up("workers").when(mean("cpu", "1m") > 0.9 or stddev("cpu", "5m") > 0.4
    or slope("cpu", "1m") > 1.0 or last("cpu", "1m") > 0.99).then(|pool| pool.add(1, "busy"));
scale_up("workers").when(count("cpu", "5m") > 1000 or ewma("cpu", "5m") > 0.9
    or rate("cpu", "1m") > 0.5 or max("cpu", "1m") > 0.999 or p95("cpu", "5m") > 0.99)
    .then(|pool| pool.add(1, "busy"));
scale_down("workers").when(mean("cpu", "5m") < 0.01 and covered("cpu", "5m"));
"#;

/// What each signal of the policy says of the pool, by difference and by looking at everybody.
fn both(lab: &mut Lab) -> Vec<(Option<u64>, Option<u64>)> {
    let sight = lab.engine.world.sight(lab.now);
    let pool = PoolSlot(0);
    let policies = Arc::clone(lab.engine.rules.policies());
    let mut sums = std::mem::take(&mut lab.engine.rules.sums);
    let pairs = (0..).zip(policies.signals()).map(|(index, signal)| {
        let mut reader = SumReader {
            reader: PoolReader { sight, pool },
            sums: &mut sums,
        };
        let by_difference = reader.value(index, signal).map(f64::to_bits);
        let whole = PoolReader { sight, pool }.read(index, signal).value;
        within_span(&mut sums, sight, index, signal, whole);
        (by_difference, whole.map(f64::to_bits))
    });
    let pairs = pairs.collect();
    lab.engine.rules.sums = sums;
    pairs
}

/// What is told of the pool without a look at its samples rules no value out.
fn within_span(sums: &mut Sums, sight: Sight<'_>, index: u32, signal: &Signal, value: Option<f64>) {
    let Signal::Window {
        metric,
        stat: stat @ (Stat::Mean | Stat::Last | Stat::Ewma),
        window,
        ..
    } = signal
    else {
        return;
    };
    let asked = Asked {
        metric: *metric,
        stat: *stat,
        window: *window,
    };
    let span = sums.span(sight, PoolSlot(0), index, asked);
    if let (Some(value), Some((least, greatest))) = (value, span) {
        assert!(
            (least..=greatest).contains(&value),
            "{signal:?} is {value}, not from {least} to {greatest}"
        );
    }
}

fn speaks(lab: &mut Lab, node: usize, value: f64, late: u64) {
    let mut batch = Batch::new(SourceName::Kafka, lab.now.wall);
    let time = lab.now.wall.minus(Duration::from_millis(late));
    let name = &lab.nodes[node % lab.nodes.len()].name;
    batch.push_record(name, time, None);
    batch.push_sample("cpu", "", Form::Value, value);
    lab.step(Input::Batch(batch));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_sum_by_difference_is_the_sum(
        events in prop::collection::vec(
            (0..26_u8, 0..6_usize, 0..40_000_u64, prop_oneof![0.0..1.0, -1e3..1e3, 1e12..1e17]),
            1..60,
        ),
    ) {
        let seen = on_engine_stack(move || {
            let mut lab = Lab::new(Plan {
                policy: POLICY,
                others: vec![OTHER],
                ..Plan::default()
            });
            lab.forgiving = true;
            lab.run(40);
            let mut seen = both(&mut lab);
            for (what, node, wait, value) in events {
                if what < 13 {
                    happens(&mut lab, what, node);
                } else {
                    speaks(&mut lab, node, value, wait);
                }
                // Not each change is followed at once.
                if node % 2 == 0 {
                    seen.extend(both(&mut lab));
                }
                if what % 3 == 0 {
                    lab.now = lab.now.plus(Duration::from_millis(wait));
                    lab.step(Input::Tick);
                }
                seen.extend(both(&mut lab));
            }
            seen
        });
        for (by_difference, whole) in seen {
            prop_assert_eq!(by_difference, whole);
        }
    }
}
