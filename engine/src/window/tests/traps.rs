//! Traps by name, and the figures that are promised.

use super::*;

const START: i64 = 1_700_000_000_000;

fn at(seconds: f64) -> Timestamp {
    Timestamp(START + (seconds * 1e3) as i64)
}

fn sample(seconds: f64, value: f64) -> Sample {
    Sample {
        time: at(seconds),
        value,
        interval: None,
    }
}

fn every(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

struct Fixture {
    windows: Windows,
    slot: NodeSlot,
}

impl Fixture {
    fn new() -> Self {
        let mut windows = Windows::new(&plan(&[60, 300, 900]), LATENESS);
        let slot = windows.add_node();
        Self { windows, slot }
    }

    fn push(&mut self, seconds: f64, value: f64) -> Pushed {
        let now = at(seconds);
        self.windows
            .push(self.slot, CPU, sample(seconds, value), now)
    }

    fn read(&self, stat: Stat, minutes: u64, now: f64) -> Option<f64> {
        let window = Duration::from_mins(minutes);
        self.windows
            .read(self.slot, CPU, stat, window, at(now))
            .value
    }

    fn coverage(&self, minutes: u64, now: f64) -> f64 {
        self.read(Stat::Coverage, minutes, now).unwrap()
    }
}

#[test]
fn what_becomes_of_a_sample() {
    let mut f = Fixture::new();
    let now = at(1_000.0);
    for (seconds, value, wanted) in [
        (990.0, 0.5, Pushed::Taken),
        (990.0, 0.4, Pushed::Duplicate),
        (990.0, 0.6, Pushed::Duplicate),
        (990.5, 0.7, Pushed::Taken),
        (990.2, 0.9, Pushed::Crowded),
        (400.0, 0.1, Pushed::Taken),
        (399.9, 0.1, Pushed::Late),
        (1_060.0, 0.2, Pushed::Taken),
        (1_060.1, 0.2, Pushed::Future),
        (980.0, f64::NAN, Pushed::Refused),
        (980.0, f64::INFINITY, Pushed::Refused),
    ] {
        let pushed = f.windows.push(f.slot, CPU, sample(seconds, value), now);
        assert_eq!(pushed, wanted, "at {seconds} s");
    }
    assert_eq!(f.read(Stat::Last, 1, 1_000.0), Some(0.7));
    assert_eq!(f.read(Stat::Count, 15, 1_000.0), Some(2.0));
    // The one from the future is seen once its pane runs.
    assert_eq!(f.read(Stat::Last, 1, 1_060.0), Some(0.2));
    let old = f.windows.refill(f.slot, CPU, sample(200.0, 0.3), now);
    assert_eq!(old, Pushed::Taken);
    assert_eq!(f.read(Stat::Count, 15, 1_000.0), Some(3.0));
    let unknown = f.windows.push(NodeSlot(9), CPU, sample(990.0, 0.5), now);
    assert_eq!(unknown, Pushed::Refused);
    let unknown = f
        .windows
        .push(f.slot, MetricSlot(9), sample(990.0, 0.5), now);
    assert_eq!(unknown, Pushed::Refused);
}

#[test]
fn decimals_stay_what_they_are() {
    // A policy that says `mean >= 0.9` must hold for samples of 0.9.
    for value in [0.9, 0.35, 0.1, 1.0, 0.7, 99.99, 0.0] {
        let mut f = Fixture::new();
        for n in 0..90 {
            f.push(f64::from(n) * 10.0, value);
        }
        for stat in [
            Stat::Mean,
            Stat::Max,
            Stat::Min,
            Stat::P95,
            Stat::Ewma,
            Stat::Last,
        ] {
            for minutes in [1, 5, 15] {
                assert_eq!(f.read(stat, minutes, 890.0), Some(value), "{stat:?}");
            }
        }
        assert_eq!(f.read(Stat::StdDev, 15, 890.0), Some(0.0));
        assert_eq!(f.read(Stat::Slope, 15, 890.0), Some(0.0));
    }
}

#[test]
fn bytes_and_counters_are_exact() {
    let mut f = Fixture::new();
    // More than 2^32, growing by 7 a second; a 32-bit float would not move at all.
    for n in 0..30 {
        f.push(f64::from(n) * 10.0, 1e12 + f64::from(n) * 70.0);
    }
    assert_eq!(f.read(Stat::Rate, 5, 290.0), Some(7.0));
    assert_eq!(f.read(Stat::Last, 5, 290.0), Some(1e12 + 29.0 * 70.0));
    let slope = f.read(Stat::Slope, 5, 290.0).unwrap();
    assert!((slope - 7.0).abs() < 1e-6, "{slope}");
}

#[test]
fn a_counter_that_begins_anew_is_not_negative() {
    let mut f = Fixture::new();
    for (n, value) in [100.0, 150.0, 200.0, 30.0, 80.0].into_iter().enumerate() {
        f.push(n as f64 * 10.0, value);
    }
    assert_eq!(
        f.read(Stat::Rate, 1, 40.0),
        Some((50.0 + 50.0 + 30.0 + 50.0) / 40.0)
    );
}

#[test]
fn missing_is_not_zero() {
    let mut f = Fixture::new();
    for stat in STATS {
        let none = match stat {
            Stat::Count | Stat::Coverage => Some(0.0),
            _ => None,
        };
        assert_eq!(f.read(stat, 5, 0.0), none, "{stat:?} of no samples");
    }
    f.push(0.0, 0.5);
    assert_eq!(f.read(Stat::Slope, 5, 0.0), None, "one point has no slope");
    assert_eq!(f.read(Stat::Rate, 5, 0.0), None, "one point has no rate");
    assert_eq!(
        f.read(Stat::Mean, 5, 400.0),
        None,
        "the sample has left the window"
    );
    let unplanned = f
        .windows
        .read(f.slot, CPU, Stat::Mean, Duration::from_mins(2), at(0.0));
    assert_eq!(unplanned, Reading::default());
}

#[test]
fn slow_agents_cover_their_windows_and_dead_ones_do_not() {
    for (interval, told) in [
        (10, None),
        (10, every(10)),
        (30, None),
        (30, every(30)),
        (60, None),
        (60, every(60)),
    ] {
        let mut f = Fixture::new();
        let mut last = 0.0;
        for n in 0..(1_200 / interval) {
            last = (n * interval) as f64 + 3.0;
            let sample = Sample {
                interval: told,
                ..sample(last, 0.5)
            };
            f.windows.push(f.slot, CPU, sample, at(last));
        }
        for minutes in [1, 5, 15] {
            assert_eq!(
                f.coverage(minutes, last),
                1.0,
                "{interval} s over {minutes} min"
            );
        }
        let dead = f.coverage(5, last + 180.0);
        assert!(
            (0.3..0.7).contains(&dead),
            "{interval} s agent dead for 3 min: {dead}"
        );
        assert_eq!(
            f.coverage(1, last + 180.0),
            0.0,
            "{interval} s agent dead for 3 min"
        );
    }
}

#[test]
fn lost_records_show_in_the_coverage() {
    let mut f = Fixture::new();
    for n in 0..90 {
        // Two losses in three, but the first minutes tell how often it reports.
        if n < 30 || n % 3 == 0 {
            f.push(f64::from(n) * 10.0, 0.5);
        }
    }
    assert!(f.coverage(5, 890.0) < 0.5, "{}", f.coverage(5, 890.0));
    // An agent cannot talk itself alive for an hour.
    let sample = Sample {
        interval: every(3_600),
        ..sample(900.0, 0.5)
    };
    f.windows.push(f.slot, CPU, sample, at(900.0));
    assert!(f.coverage(5, 1_200.0) <= 0.5);
}

#[test]
fn a_young_node_is_covered_as_far_as_it_was_there() {
    let mut f = Fixture::new();
    for n in 0..15 {
        f.push(f64::from(n) * 10.0, 0.5);
    }
    assert_eq!(f.coverage(1, 150.0), 1.0);
    assert_eq!(f.coverage(5, 150.0), 0.5);
}

#[test]
fn an_agent_that_sends_too_fast_costs_a_sample_a_second() {
    let mut f = Fixture::new();
    for n in 0..200_000 {
        f.push(f64::from(n) * 0.01, 0.5);
    }
    let count = f.read(Stat::Count, 15, 1_999.99).unwrap();
    assert!((900.0..=910.0).contains(&count), "{count}");
    let one = f.windows.bytes();
    // A chunk for each size that it grew through.
    assert!(one < 5 * 8_192 * 6 + 20_000, "{one} bytes");
}

#[test]
fn a_clock_set_back_does_not_blind_a_node() {
    let mut f = Fixture::new();
    f.push(86_400.0, 0.9);
    for n in 0..6 {
        assert_eq!(f.push(f64::from(n) * 10.0, 0.5), Pushed::Taken);
    }
    assert_eq!(f.read(Stat::Mean, 1, 50.0), Some(0.5));
    assert_eq!(f.read(Stat::Count, 1, 50.0), Some(6.0));
    // And one set ahead neither.
    f.push(864_000.0, 0.1);
    assert_eq!(f.read(Stat::Mean, 1, 864_000.0), Some(0.1));
}

#[test]
fn a_slot_is_used_again_and_empty() {
    let mut f = Fixture::new();
    f.push(0.0, 0.5);
    f.windows.heard(f.slot, at(0.0), at(0.0));
    let other = f.windows.add_node();
    f.windows.remove_node(f.slot);
    f.windows.remove_node(f.slot);
    assert_eq!(f.push(1.0, 0.5), Pushed::Refused);
    f.windows.heard(f.slot, at(1.0), at(1.0));
    assert_eq!(f.windows.last_heard(f.slot), None);
    let again = f.windows.add_node();
    assert_eq!(again, f.slot);
    assert_ne!(f.windows.add_node(), other);
    assert_eq!(f.windows.last_heard(again), None);
    assert_eq!(f.read(Stat::Count, 15, 1.0), Some(0.0));
}

#[test]
fn a_beat_from_the_future_counts_as_of_now() {
    let mut f = Fixture::new();
    f.windows.heard(f.slot, at(5_000.0), at(10.0));
    assert_eq!(f.windows.last_heard(f.slot), Some(at(10.0)));
    f.windows.heard(f.slot, at(9.0), at(20.0));
    assert_eq!(
        f.windows.last_heard(f.slot),
        Some(at(10.0)),
        "an older one takes nothing back"
    );
}

#[test]
fn a_pool_counts_its_silent_members() {
    let mut windows = Windows::new(&plan(&[60]), LATENESS);
    let slots: Vec<_> = (0..4).map(|_| windows.add_node()).collect();
    for n in 0..6 {
        let time = f64::from(n) * 10.0;
        for (slot, value) in slots.iter().zip([0.2, 0.4, 0.9]) {
            windows.push(*slot, CPU, sample(time, value), at(time));
        }
    }
    let window = Duration::from_mins(1);
    let read = |stat| windows.read_pool(&slots, CPU, stat, window, at(60.0));
    let mean = read(Stat::Mean);
    assert_eq!(mean.value, Some(0.5));
    assert_eq!(mean.coverage, 0.75, "the fourth is silent and counts");
    assert_eq!(read(Stat::Max).value, Some(0.9));
    assert_eq!(read(Stat::Min).value, Some(0.2));
    assert_eq!(read(Stat::P95).value, Some(0.9));
    assert_eq!(read(Stat::Count).value, Some(18.0));
    assert_eq!(read(Stat::Coverage).value, Some(0.75));
    assert_eq!(
        windows.read_pool(&[], CPU, Stat::Mean, window, at(60.0)),
        Reading::default()
    );
    let silent = windows.read_pool(&slots[3..], CPU, Stat::Mean, window, at(60.0));
    assert_eq!(silent, Reading::default());
}

#[test]
fn a_new_plan_keeps_what_stays() {
    let mut f = Fixture::new();
    for n in 0..90 {
        f.push(f64::from(n) * 10.0, f64::from(n % 10) / 10.0);
    }
    let before = f.read(Stat::Mean, 15, 890.0);
    let minutes = |list: &[u64]| list.iter().map(|m| Duration::from_mins(*m)).collect();
    let new = WindowPlan {
        metrics: vec![
            ("load".to_owned(), minutes(&[1])),
            ("cpu".to_owned(), minutes(&[15, 60])),
        ],
    };
    f.windows.replan(&new);
    assert_eq!(f.windows.metric_slot("load"), Some(MetricSlot(0)));
    let cpu = f.windows.metric_slot("cpu").unwrap();
    let read = |windows: &Windows, stat, m| {
        windows.read(f.slot, cpu, stat, Duration::from_mins(m), at(890.0))
    };
    assert_eq!(read(&f.windows, Stat::Mean, 15).value, before);
    assert_eq!(read(&f.windows, Stat::Count, 60).value, Some(90.0));
    assert_eq!(
        read(&f.windows, Stat::Coverage, 60).value,
        Some(0.25 - 1.0 / 360.0)
    );
    // Back to shorter windows, then to one without the metric.
    f.windows.replan(&plan(&[60, 300, 900]));
    assert_eq!(f.read(Stat::Mean, 15, 890.0), before);
    f.windows.replan(&WindowPlan::default());
    assert_eq!(f.windows.metric_slot("cpu"), None);
    f.windows.replan(&plan(&[60, 300, 900]));
    assert_eq!(f.read(Stat::Count, 15, 890.0), Some(0.0));
}

#[test]
fn a_snapshot_fits_another_plan_and_names_what_is_wrong() {
    let mut f = Fixture::new();
    for n in 0..90 {
        f.push(f64::from(n) * 10.0, f64::from(n) / 100.0);
    }
    let bytes = f.windows.snapshot(|_| Some("worker-1"));
    let other = plan(&[2, 300, 3_600]);
    let (restored, names) = Windows::restore(&other, LATENESS, &bytes).unwrap();
    assert_eq!(names, ["worker-1"]);
    let read = restored.read(f.slot, CPU, Stat::Last, Duration::from_mins(5), at(890.0));
    assert_eq!(read.value, Some(0.89));
    let mut newer = bytes.clone();
    newer[0] = 3;
    let error = Windows::restore(&other, LATENESS, &newer).unwrap_err();
    assert_eq!(error, SnapshotError::Version(3));
    let mut longer = bytes.clone();
    longer.push(0);
    let error = Windows::restore(&other, LATENESS, &longer).unwrap_err();
    assert_eq!(error, SnapshotError::Damaged(bytes.len()));
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "the figure is asked for, not only that it is kept"
)]
fn a_node_takes_less_than_1_260_bytes() {
    let minutes = |list: &[u64]| {
        list.iter()
            .map(|m| Duration::from_mins(*m))
            .collect::<Vec<_>>()
    };
    let plan = WindowPlan {
        metrics: vec![
            ("cpu".to_owned(), minutes(&[1, 5, 15])),
            ("memory".to_owned(), minutes(&[1, 5, 15])),
        ],
    };
    let mut windows = Windows::new(&plan, LATENESS);
    const NODES: u32 = 2_000;
    for _ in 0..NODES {
        windows.add_node();
    }
    for n in 0..200 {
        for node in 0..NODES {
            let time = f64::from(n) * 10.0 + f64::from(node % 100) / 10.0;
            for metric in [0, 1] {
                windows.push(
                    NodeSlot(node),
                    MetricSlot(metric),
                    sample(time, 0.5),
                    at(time),
                );
            }
        }
    }
    let each = windows.bytes() as f64 / f64::from(NODES);
    println!("{each:.0} bytes a node");
    assert!(each < 1_260.0, "{each:.0} bytes a node");
}
