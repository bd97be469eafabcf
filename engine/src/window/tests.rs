//! The windows against a naive model, in any order, and the traps by name.

use std::time::Duration;

use model::Model;
use proptest::prelude::*;

use super::*;

mod model;
mod traces;
mod traps;

const STATS: [Stat; 11] = [
    Stat::Mean,
    Stat::Max,
    Stat::Min,
    Stat::P95,
    Stat::StdDev,
    Stat::Ewma,
    Stat::Slope,
    Stat::Rate,
    Stat::Count,
    Stat::Last,
    Stat::Coverage,
];

const LATENESS: Duration = Duration::from_mins(10);

fn plan(seconds: &[u64]) -> WindowPlan {
    let windows = seconds.iter().map(|s| Duration::from_secs(*s)).collect();
    WindowPlan {
        metrics: vec![("cpu".to_owned(), windows)],
    }
}

const CPU: MetricSlot = MetricSlot(0);

/// A record as it is pushed: at `now`, with this event time.
#[derive(Debug, Clone, Copy)]
struct Record {
    now: Timestamp,
    sample: Sample,
}

fn intervals() -> impl Strategy<Value = Option<Duration>> {
    prop_oneof![
        Just(None),
        prop::sample::select(vec![2_000, 10_000, 30_000, 60_000, 3_600_000])
            .prop_map(|ms| Some(Duration::from_millis(ms))),
    ]
}

/// How far before its arrival a sample was taken, in milliseconds.
fn delays() -> impl Strategy<Value = i64> {
    prop_oneof![
        8 => 0_i64..400,
        3 => 0_i64..30_000,
        1 => 0_i64..1_000_000,
        1 => -70_000_i64..0,
        2 => Just(0_i64),
    ]
}

/// Time between two arrivals, in milliseconds.
fn steps() -> impl Strategy<Value = i64> {
    prop_oneof![
        2 => Just(0_i64),
        4 => 0_i64..1_500,
        8 => 8_000_i64..12_000,
        2 => 25_000_i64..65_000,
        1 => 0_i64..2_000_000,
    ]
}

/// A stream of records; one in five is a duplicate of an earlier one, perhaps with another value.
fn records(values: BoxedStrategy<f64>) -> impl Strategy<Value = Vec<Record>> {
    let one = (
        steps(),
        delays(),
        values,
        0_usize..5,
        any::<prop::sample::Index>(),
    );
    (intervals(), prop::collection::vec(one, 1..160)).prop_map(|(interval, steps)| {
        let mut now = 1_700_000_003_217_i64;
        let mut records: Vec<Record> = Vec::new();
        for (step, delay, value, kind, which) in steps {
            now += step;
            let mut time = Timestamp(now - delay);
            if kind == 0 && !records.is_empty() {
                time = which.get(&records).sample.time;
            }
            records.push(Record {
                now: Timestamp(now),
                sample: Sample {
                    time,
                    value,
                    interval,
                },
            });
        }
        records
    })
}

fn ratios() -> BoxedStrategy<f64> {
    (0_i32..=10_000).prop_map(|v| f64::from(v) / 1e4).boxed()
}

fn any_values() -> BoxedStrategy<f64> {
    prop_oneof![
        4 => 0.0..1.0_f64,
        2 => -200.0..200.0_f64,
        1 => -1e12..1e12_f64,
        1 => (0_i32..1_000_000).prop_map(f64::from),
    ]
    .boxed()
}

fn lengths() -> impl Strategy<Value = Vec<u64>> {
    prop::sample::select(vec![
        vec![60, 300, 900],
        vec![5, 45, 300],
        vec![1, 600],
        vec![3_600, 60],
        vec![25],
        vec![86_400, 60],
    ])
}

fn check(windows: &Windows, model: &Model, slot: NodeSlot, seconds: &[u64], now: Timestamp) {
    for seconds in seconds {
        let window = Duration::from_secs(*seconds);
        for stat in STATS {
            let read = windows.read(slot, CPU, stat, window, now);
            let wanted = model.read(stat, window, now);
            within_bounds(windows, slot, stat, window, now);
            let bound = match stat {
                Stat::Count | Stat::Coverage => 0.0,
                // Two samples may be one tick apart, which magnifies what rounding took.
                Stat::Slope | Stat::Rate => 2e-5 * model.scale(),
                _ => 1e-6 * model.scale(),
            };
            let near = match (read.value, wanted.value) {
                (Some(read), Some(wanted)) => (read - wanted).abs() <= bound,
                (read, wanted) => read == wanted,
            };
            assert!(
                near && (read.coverage - wanted.coverage).abs() < 1e-12,
                "{stat:?} over {seconds} s at {now}: {read:?} instead of {wanted:?}"
            );
        }
    }
}

/// What is told without a look at the samples rules no value out.
fn within_bounds(windows: &Windows, slot: NodeSlot, stat: Stat, window: Duration, now: Timestamp) {
    let value = windows.value(slot, CPU, stat, window, now);
    let bounds = windows.bounds(slot, CPU, stat, window, now);
    if let (Some(value), Some((least, greatest))) = (value, bounds) {
        assert!(
            (least..=greatest).contains(&value),
            "{stat:?} over {window:?} is {value}, not from {least} to {greatest}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn every_reading_is_the_models(
        seconds in lengths(),
        records in records(any_values()),
        after in 0_i64..1_200_000,
    ) {
        let mut windows = Windows::new(&plan(&seconds), LATENESS);
        let slot = windows.add_node();
        let mut model = Model::new(&seconds, LATENESS);
        for (count, record) in records.iter().enumerate() {
            let pushed = windows.push(slot, CPU, record.sample, record.now);
            let taken = model.push(record.sample, record.now);
            prop_assert!(taken || matches!(pushed, Pushed::Late | Pushed::Future), "{pushed:?}");
            if count % 16 == 0 {
                check(&windows, &model, slot, &seconds, record.now);
            }
        }
        let now = records.last().unwrap().now;
        check(&windows, &model, slot, &seconds, now);
        check(&windows, &model, slot, &seconds, Timestamp(now.millis() + after));
    }

    #[test]
    fn order_does_not_show(
        seconds in lengths(),
        (ordered, shuffled) in records(ratios())
            .prop_flat_map(|records| (Just(records.clone()), Just(records).prop_shuffle())),
    ) {
        // Nothing is late for this bound, so that both streams have the same samples.
        let lateness = Duration::from_hours(24);
        let now = ordered.last().unwrap().now;
        let read = |records: &[Record]| {
            let mut windows = Windows::new(&plan(&seconds), lateness);
            let slot = windows.add_node();
            for record in records {
                // What came before its time was refused as it came; here all come at the end.
                if record.sample.time <= record.now.plus(FUTURE_BOUND) {
                    windows.push(slot, CPU, record.sample, now);
                }
            }
            all_readings(&windows, slot, &seconds, now)
        };
        prop_assert_eq!(read(&ordered), read(&shuffled));
        let mut live = Windows::new(&plan(&seconds), lateness);
        let slot = live.add_node();
        for record in &ordered {
            live.push(slot, CPU, record.sample, record.now);
        }
        prop_assert_eq!(all_readings(&live, slot, &seconds, now), read(&shuffled));
    }

    #[test]
    fn a_snapshot_brings_back_every_bit(
        seconds in lengths(),
        records in records(any_values()),
    ) {
        let mut windows = Windows::new(&plan(&seconds), LATENESS);
        let slot = windows.add_node();
        let silent = windows.add_node();
        for record in &records {
            windows.push(slot, CPU, record.sample, record.now);
            windows.heard(slot, record.sample.time, record.now);
        }
        let now = records.last().unwrap().now;
        let name = |slot: NodeSlot| Some(["one", "two"][slot.0 as usize]);
        let bytes = windows.snapshot(name);
        let (mut restored, names) = Windows::restore(&plan(&seconds), LATENESS, &bytes).unwrap();
        prop_assert_eq!(names, ["one", "two"]);
        prop_assert_eq!(restored.last_heard(slot), windows.last_heard(slot));
        prop_assert_eq!(restored.last_heard(silent), None);
        prop_assert_eq!(restored.snapshot(name), bytes);
        // And both go on alike.
        for record in &records {
            let later = Timestamp(record.now.millis() + 500_000);
            let sample = Sample { time: later, ..record.sample };
            prop_assert_eq!(
                restored.push(slot, CPU, sample, later.max(now)),
                windows.push(slot, CPU, sample, later.max(now))
            );
        }
        let now = now.plus(Duration::from_secs(500));
        prop_assert_eq!(
            all_readings(&restored, slot, &seconds, now),
            all_readings(&windows, slot, &seconds, now)
        );
    }

    #[test]
    fn bytes_that_are_no_snapshot_are_refused_without_a_panic(
        records in records(any_values()),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let plan = plan(&[60, 900]);
        let mut windows = Windows::new(&plan, LATENESS);
        let slot = windows.add_node();
        for record in &records {
            windows.push(slot, CPU, record.sample, record.now);
        }
        let mut bytes = windows.snapshot(|_| Some("one"));
        let short = cut.index(bytes.len());
        prop_assert!(Windows::restore(&plan, LATENESS, &bytes[..short]).is_err());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok((mut windows, _)) = Windows::restore(&plan, LATENESS, &bytes) {
            for record in &records {
                windows.push(NodeSlot(0), CPU, record.sample, record.now);
                all_readings(&windows, NodeSlot(0), &[60, 900], record.now);
            }
        }
    }
}

fn all_readings(
    windows: &Windows,
    slot: NodeSlot,
    seconds: &[u64],
    now: Timestamp,
) -> Vec<(Stat, u64, Option<u64>, u64)> {
    let mut all = Vec::new();
    for seconds in seconds {
        for stat in STATS {
            let window = Duration::from_secs(*seconds);
            within_bounds(windows, slot, stat, window, now);
            let read = windows.read(slot, CPU, stat, window, now);
            let value = read.value.map(f64::to_bits);
            all.push((stat, *seconds, value, read.coverage.to_bits()));
        }
    }
    all
}
