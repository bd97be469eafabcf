//! What a native condition costs, with the rule that `mean > a or max > b and covered` stands for.
//!
//! Run with `cargo bench -p rhizome-engine --bench policy`.

#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "a benchmark is no API, and stops when its policy does not load"
)]

use divan::{Bencher, black_box};
use rhizome_engine::policy::{
    Interrupt, PolicySet, PoolFacts, Signal, SignalReader, SourceFile, Subject,
};
use rhizome_engine::window::Reading;

const POLICY: &str = r#"
    scale_up("workers")
        .when(mean("cpu", "5m") > 0.75 and max("cpu", "1m") < 0.99
            or mean("memory", "5m") > 0.80 and p95("memory", "5m") - mean("memory", "5m") < 0.1
            or stddev("cpu", "5m") > 0.3 and covered("cpu", "5m"))
        .then(|pool| pool.resize_to(pool.target("cpu", "5m", 0.60), "busy"));
"#;

fn main() {
    divan::main();
}

struct Fixed;

impl SignalReader for Fixed {
    fn read(&mut self, index: u32, _: &Signal) -> Reading {
        Reading {
            value: Some(f64::from(index).mul_add(0.1, 0.3)),
            coverage: 1.0,
        }
    }
}

fn policies() -> PolicySet {
    let file = SourceFile {
        name: "bench.rhai".to_owned(),
        text: POLICY.to_owned(),
    };
    PolicySet::load(&[file]).expect("the policy loads")
}

#[divan::bench]
fn native_condition_of_three_branches(bencher: Bencher<'_, '_>) {
    let set = policies();
    bencher.bench_local(|| black_box(&set).verdict(black_box(0), &mut Fixed));
}

#[divan::bench]
fn body(bencher: Bencher<'_, '_>) {
    let set = policies();
    let interrupt = Interrupt::never();
    let subject = Subject::Pool(PoolFacts {
        name: "workers".into(),
        size: 7,
        ready: 7,
        min: 1,
        max: 20,
    });
    bencher.bench_local(|| set.run_body(black_box(0), &subject, &mut Fixed, &interrupt));
}

#[divan::bench]
fn load(bencher: Bencher<'_, '_>) {
    bencher.bench_local(policies);
}
