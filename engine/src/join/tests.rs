//! Joins on what collectd really sent, in any order, and the traps by name.

use proptest::prelude::*;

use super::*;

const NODE: NodeSlot = NodeSlot(3);
const START: i64 = 1_795_333_370_000;

#[derive(Debug, Clone, PartialEq)]
struct Owned {
    form: Form,
    part: String,
    time: i64,
    value: f64,
}

impl Owned {
    fn new(form: Form, part: &str, time: i64, value: f64) -> Self {
        Self {
            form,
            part: part.to_owned(),
            time,
            value,
        }
    }
}

fn push_all<'a>(joins: &mut Joins, parts: impl IntoIterator<Item = &'a Owned>) -> Vec<Joined> {
    let mut out = Vec::new();
    for part in parts {
        let sample = PartSample {
            form: part.form,
            part: &part.part,
            time: Timestamp(part.time),
            value: part.value,
            interval: Some(Duration::from_secs(10)),
        };
        joins.push(NODE, sample, &mut out);
    }
    out
}

/// `(time, value)` of what came out, in order of time.
fn sorted(out: &[Joined]) -> Vec<(i64, f64)> {
    let mut out: Vec<_> = out
        .iter()
        .map(|it| (it.time.millis() - START, it.value))
        .collect();
    out.sort_by_key(|(time, _)| *time);
    out
}

const STATES: [&str; 8] = [
    "user",
    "system",
    "wait",
    "nice",
    "interrupt",
    "softirq",
    "steal",
    "idle",
];

/// A stream of what an agent reads every 10 s: `cores` cores whose idle share is by the hundred.
fn stream(form: Form, cores: usize, idle: &[u64]) -> Vec<Owned> {
    let mut counters = vec![[1_000_000_u64; 8]; cores];
    let mut parts = Vec::new();
    for (n, idle) in idle.iter().enumerate() {
        let time = START + n as i64 * 10_000 + 191;
        for (core, counter) in counters.iter_mut().enumerate() {
            for (state, name) in STATES.iter().enumerate() {
                // Each core is a little busier than the one before.
                let idle = idle.saturating_sub(core as u64);
                let share = match *name {
                    "idle" => idle,
                    "user" => 100 - idle,
                    _ => 0,
                };
                counter[state] += share * 10;
                let value = match form {
                    Form::CpuCounter => counter[state] as f64,
                    _ => share as f64,
                };
                let part = format!("{core}/{name}");
                // The reading takes a few milliseconds, as captured.
                parts.push(Owned::new(
                    form,
                    &part,
                    time + (state as i64 * 10) / 7,
                    value,
                ));
            }
        }
    }
    parts
}

fn wanted(cores: usize, idle: &[u64], skip: usize) -> Vec<(i64, f64)> {
    let time = |n: usize| n as i64 * 10_000 + 201;
    let busy = |idle: u64| {
        let idle = (0..cores as u64).map(|core| idle.saturating_sub(core));
        idle.map(|idle| (100 - idle) as f64 / 100.0).sum::<f64>() / cores as f64
    };
    let all = idle
        .iter()
        .enumerate()
        .map(|(n, idle)| (time(n), busy(*idle)));
    all.skip(skip).collect()
}

fn near(out: &[(i64, f64)], wanted: &[(i64, f64)]) -> bool {
    out.len() == wanted.len()
        && out
            .iter()
            .zip(wanted)
            .all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-9)
}

const IDLE: [u64; 12] = [80, 20, 33, 90, 15, 50, 62, 71, 88, 95, 40, 17];

#[test]
fn cores_and_states_come_to_one_ratio() {
    for (form, skip) in [
        (Form::CpuPercent, 0),
        (Form::CpuRate, 0),
        (Form::CpuCounter, 1),
    ] {
        for cores in [1, 2, 8] {
            let out = push_all(&mut Joins::default(), &stream(form, cores, &IDLE));
            assert!(out.iter().all(|it| it.metric == "cpu"));
            let out = sorted(&out);
            let wanted = wanted(cores, &IDLE, skip);
            assert!(near(&out, &wanted), "{form:?} {cores}: {out:?}\n{wanted:?}");
        }
    }
}

#[test]
fn memory_is_used_by_the_sum_of_its_states() {
    // As captured: 14 records of one instant on four partitions.
    let states = [
        ("used", 970_420_224.0),
        ("free", 19_287_240_704.0),
        ("slab_recl", 385_347_584.0),
        ("slab_unrecl", 44_490_752.0),
        ("cached", 4_497_780_736.0),
        ("buffered", 91_230_208.0),
    ];
    let mut joins = Joins::default();
    let mut parts = Vec::new();
    for n in 0..5 {
        for (state, bytes) in states {
            parts.push(Owned::new(
                Form::MemoryBytes,
                state,
                START + n * 2_000 + 191,
                bytes,
            ));
        }
    }
    let out = push_all(&mut joins, &parts);
    assert_eq!(out.len(), 5);
    for it in out {
        assert_eq!(it.metric, "memory");
        // collectd's own percentage of the same instant.
        assert!(
            (it.value - 0.038_392_175_819_147).abs() < 1e-12,
            "{}",
            it.value
        );
    }
    // Used alone is no ratio.
    let parts: Vec<_> = (0..9)
        .map(|n| Owned::new(Form::MemoryBytes, "used", START + n * 10_000, 5.0))
        .collect();
    assert!(push_all(&mut Joins::default(), &parts).is_empty());
}

#[test]
fn the_captured_instant_of_two_cores_gives_one_value() {
    // Values of collectd's defaults at ….338; the first report of each is null and not here.
    let captured = [
        ("1/nice", 49.512_556_684_219_6),
        ("0/softirq", 0.0),
        ("1/softirq", 0.500_110_201_373_725),
        ("0/idle", 0.0),
        ("0/user", 26.497_111_702_291_2),
        ("0/interrupt", 0.0),
        ("1/interrupt", 0.0),
        ("1/idle", 0.0),
        ("1/system", 17.504_824_790_315_6),
        ("1/wait", 0.0),
        ("0/nice", 63.016_166_424_676_9),
        ("1/steal", 1.000_209_184_806_12),
        ("1/user", 31.497_558_968_260_9),
        ("0/system", 10.999_140_913_176_2),
        ("0/wait", 0.0),
        ("0/steal", 0.0),
    ];
    let mut parts = Vec::new();
    for n in 0..6 {
        for (part, value) in captured {
            parts.push(Owned::new(
                Form::CpuRate,
                part,
                START + n * 2_000 + 338,
                value,
            ));
        }
    }
    let out = push_all(&mut Joins::default(), &parts);
    assert_eq!(out.len(), 6);
    assert!(out.iter().all(|it| it.value == 1.0), "{out:?}");
}

#[test]
fn a_total_needs_no_cores_and_percents_no_other_state() {
    let mut parts = Vec::new();
    for n in 0..6 {
        let time = START + n * 10_000;
        parts.push(Owned::new(Form::CpuPercent, "/user", time, 19.5));
        parts.push(Owned::new(Form::CpuPercent, "/idle", time + 1, 17.5));
    }
    let out = push_all(&mut Joins::default(), &parts);
    assert_eq!(out.len(), 6);
    assert!(out.iter().all(|it| it.value == 0.825), "{out:?}");
    // `ReportByState false` sends what is not idle.
    for part in &mut parts {
        part.part = "/active".to_owned();
    }
    let out = push_all(&mut Joins::default(), parts.iter().step_by(2));
    assert!(
        out.iter().all(|it| it.value == 0.195) && out.len() == 6,
        "{out:?}"
    );
}

#[test]
fn nothing_comes_of_part_of_the_cores() {
    let parts = stream(Form::CpuPercent, 4, &IDLE);
    // Core 2 is on a partition that stands still.
    let (late, flowing): (Vec<_>, Vec<_>) = parts
        .into_iter()
        .partition(|part| part.part.starts_with("2/"));
    let mut joins = Joins::default();
    let out = push_all(&mut joins, &flowing);
    assert!(
        out.is_empty(),
        "core 2 has a hole's benefit of the doubt: {out:?}"
    );
    assert!(
        push_all(&mut joins, &late).is_empty(),
        "the set has just grown"
    );
    let mut more = stream(Form::CpuPercent, 4, &IDLE);
    for part in &mut more {
        part.time += 120_000;
    }
    let out = sorted(&push_all(&mut joins, &more));
    let all = wanted(4, &[IDLE, IDLE].concat(), 0);
    assert!(near(&out, &all), "all come out once it moves: {out:?}");
    // Later too, once the set is known.
    let mut joins = Joins::default();
    let parts = stream(Form::CpuPercent, 4, &[IDLE, IDLE].concat());
    let known = parts.len() / 2;
    push_all(&mut joins, &parts[..known]);
    let rest = || parts[known..].iter();
    let flowing = push_all(
        &mut joins,
        rest().filter(|part| !part.part.starts_with("3/")),
    );
    assert!(flowing.is_empty());
    let late = push_all(
        &mut joins,
        rest().filter(|part| part.part.starts_with("3/")),
    );
    assert_eq!(late.len(), IDLE.len());
}

#[test]
fn a_part_sent_twice_changes_nothing() {
    let parts = stream(Form::CpuRate, 2, &IDLE);
    let once = sorted(&push_all(&mut Joins::default(), &parts));
    let mut joins = Joins::default();
    let twice = push_all(&mut joins, parts.iter().flat_map(|part| [part, part]));
    assert_eq!(sorted(&twice), once);
    assert!(
        push_all(&mut joins, &parts).is_empty(),
        "all of it was known"
    );
}

#[test]
fn a_machine_that_booted_gives_no_negative_growth() {
    let mut parts = stream(Form::CpuCounter, 2, &IDLE[..6]);
    let fresh = stream(Form::CpuCounter, 2, &IDLE[6..]);
    for mut part in fresh {
        part.time += 60_000;
        part.value -= 1_000_000.0;
        parts.push(part);
    }
    let out = sorted(&push_all(&mut Joins::default(), &parts));
    let times: Vec<_> = out.iter().map(|(time, _)| time / 10_000).collect();
    assert_eq!(
        times,
        [1, 2, 3, 4, 5, 7, 8, 9, 10, 11],
        "the first after the boot is not there"
    );
    assert!(near(&out[5..], &wanted(2, &IDLE, 7)), "{out:?}");
}

#[test]
fn a_lost_report_of_counters_is_not_averaged_over() {
    let mut parts = stream(Form::CpuCounter, 1, &IDLE);
    parts.retain(|part| (part.time - START) / 10_000 != 6);
    let out = sorted(&push_all(&mut Joins::default(), &parts));
    let times: Vec<_> = out.iter().map(|(time, _)| time / 10_000).collect();
    assert_eq!(times, [1, 2, 3, 4, 5, 8, 9, 10, 11]);
}

#[test]
fn a_machine_that_came_back_with_other_cores_is_learned_anew() {
    for (before, after) in [(2, 4), (4, 2)] {
        let mut joins = Joins::default();
        push_all(&mut joins, &stream(Form::CpuPercent, before, &IDLE));
        let mut parts = stream(Form::CpuPercent, after, &[IDLE, IDLE].concat());
        for part in &mut parts {
            part.time += 300_000;
        }
        let out = sorted(&push_all(&mut joins, &parts));
        let wanted = wanted(after, &[IDLE, IDLE].concat(), 0);
        assert!(out.len() >= 20, "{before} to {after}: {}", out.len());
        for (time, value) in out {
            let index = ((time - 300_000) / 10_000) as usize;
            assert!(
                (value - wanted[index].1).abs() < 1e-9,
                "{before} to {after} at {time}"
            );
        }
    }
}

#[test]
fn what_has_no_meaning_is_passed_over_and_all_is_bounded() {
    let mut joins = Joins::default();
    for (form, part, value) in [
        (Form::Value, "", 0.5),
        (Form::CpuPercent, "idle", 50.0),
        (Form::CpuPercent, "0/sleeping", 50.0),
        (Form::CpuPercent, "1024/idle", 50.0),
        (Form::CpuPercent, "x/idle", 50.0),
        (Form::CpuRate, "0/idle", -1.0),
        (Form::CpuRate, "0/idle", f64::NAN),
        (Form::MemoryBytes, "lent", 5.0),
    ] {
        let part = Owned::new(form, part, START, value);
        push_all(&mut joins, &[part]);
    }
    assert!(joins.bytes() <= 64, "{} bytes for nothing", joins.bytes());
    for n in 0..20_000_i64 {
        let core = (n * 7_919) % 2_000;
        let part = format!("{core}/{}", STATES[(n % 8) as usize]);
        push_all(
            &mut joins,
            &[Owned::new(Form::CpuRate, &part, START + n * 1_000, 1.0)],
        );
    }
    let bound = 2 * (WAITING_CELLS + 2 * CORES) * 24 + 64 * 1024;
    assert!(joins.bytes() < bound, "{} bytes", joins.bytes());
    joins.remove_node(NODE);
    assert!(joins.bytes() <= 64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Parts overtake each other by up to three reports, one in ten comes twice.
    #[test]
    fn order_does_not_show(
        form in prop::sample::select(vec![Form::CpuPercent, Form::CpuRate, Form::CpuCounter]),
        cores in 1_usize..6,
        idle in prop::collection::vec(10_u64..100, 8..30),
        delays in prop::collection::vec((0_i64..30_000, 0_u8..10), 2_048),
    ) {
        let parts = stream(form, cores, &idle);
        let in_order = sorted(&push_all(&mut Joins::default(), &parts));
        // All have come by the time of what follows, so that both know the set.
        let mut mixed: Vec<(i64, &Owned)> = Vec::new();
        for (part, (delay, again)) in parts.iter().zip(delays.iter().cycle()) {
            mixed.push((part.time + delay, part));
            if *again == 0 {
                mixed.push((part.time + 30_000 - delay, part));
            }
        }
        mixed.sort_by_key(|(arrival, _)| *arrival);
        let mixed = push_all(&mut Joins::default(), mixed.into_iter().map(|(_, part)| part));
        prop_assert_eq!(sorted(&mixed), in_order);
    }
}

#[test]
fn what_was_learnt_of_the_cores_outlives_a_restart() {
    let instant = |number: i64| {
        let time = START + number * 10_000;
        let parts = (0..4).flat_map(move |core| {
            STATES.iter().map(move |state| {
                let part = format!("{core}/{state}");
                Owned::new(Form::CpuRate, &part, time, 12.5)
            })
        });
        parts.collect::<Vec<_>>()
    };
    let mut joins = Joins::default();
    for number in 0..6 {
        push_all(&mut joins, &instant(number));
    }
    let bytes = joins.snapshot([NodeSlot(9), NODE].into_iter());
    let mut restored = Joins::restore(&bytes).unwrap();
    // The second of the snapshot's nodes is the second here.
    let mut moved = Joins::default();
    moved.nodes.resize_with(NODE.0 as usize, || None);
    moved.nodes.push(restored.nodes.swap_remove(1));
    assert_eq!(push_all(&mut moved, &instant(6)).len(), 1, "at once");
    assert_eq!(push_all(&mut Joins::default(), &instant(6)).len(), 0);
    let empty = Joins::restore(&[]).unwrap();
    assert!(empty.snapshot([NODE].into_iter()).is_empty());
}

#[test]
fn bytes_that_are_no_joins_are_refused() {
    let mut joins = Joins::default();
    push_all(
        &mut joins,
        &[Owned::new(Form::CpuPercent, "0/idle", START, 50.0)],
    );
    let bytes = joins.snapshot([NODE].into_iter());
    assert!(Joins::restore(&bytes).is_ok());
    for cut in 1..bytes.len() {
        assert!(Joins::restore(&bytes[..cut]).is_err(), "{cut}");
    }
    let large = [&[0xff; 3][..], &[0x7f, 1]].concat();
    assert!(Joins::restore(&large).is_err(), "a number of no node");
}
