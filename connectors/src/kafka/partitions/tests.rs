use proptest::prelude::*;

use super::*;

fn found(low: i64, high: i64) -> Found {
    Found {
        low,
        high,
        committed: None,
        committed_topic_id: None,
        topic_id: Some("id-1".into()),
        floor: Floor::At(low),
        snapshot: None,
    }
}

struct Row {
    name: &'static str,
    found: Found,
    start: i64,
    live_from: i64,
    skipped: i64,
    committed: bool,
    surprise: Option<Surprise>,
}

fn row(name: &'static str, found: Found, start: i64, live_from: i64) -> Row {
    Row {
        name,
        found,
        start,
        live_from,
        skipped: 0,
        committed: false,
        surprise: None,
    }
}

fn rows() -> Vec<Row> {
    vec![
        row("an empty topic is live at once", found(0, 0), 0, 0),
        row(
            "without a commit all that is there only refills",
            found(10, 90),
            10,
            90,
        ),
        Row {
            committed: true,
            ..row(
                "what lies before the commit refills, what comes after is live",
                Found {
                    committed: Some(60),
                    floor: Floor::At(30),
                    ..found(10, 90)
                },
                30,
                60,
            )
        },
        Row {
            skipped: 30,
            ..row(
                "a backlog older than every window is not read",
                Found {
                    committed: Some(20),
                    floor: Floor::At(50),
                    ..found(10, 90)
                },
                50,
                50,
            )
        },
        Row {
            skipped: 70,
            ..row(
                "a backlog that is all older than every window is not read at all",
                Found {
                    committed: Some(20),
                    floor: Floor::AllOlder,
                    ..found(10, 90)
                },
                90,
                90,
            )
        },
        Row {
            committed: true,
            ..row(
                "a cluster that cannot look up times is read from the beginning",
                Found {
                    committed: Some(60),
                    floor: Floor::Unknown,
                    ..found(10, 90)
                },
                10,
                60,
            )
        },
        Row {
            committed: true,
            ..row(
                "a snapshot saves reading what its windows hold",
                Found {
                    committed: Some(60),
                    snapshot: Some(55),
                    ..found(10, 90)
                },
                55,
                60,
            )
        },
        Row {
            committed: true,
            ..row(
                "a snapshot ahead of the commit hides nothing that is undecided",
                Found {
                    committed: Some(60),
                    snapshot: Some(80),
                    ..found(10, 90)
                },
                60,
                60,
            )
        },
        Row {
            committed: true,
            ..row(
                "a snapshot of offsets that are not there is not believed",
                Found {
                    committed: Some(60),
                    snapshot: Some(95),
                    ..found(10, 90)
                },
                10,
                60,
            )
        },
        Row {
            surprise: Some(Surprise::Lost { records: 15 }),
            ..row(
                "committed offset below the low watermark: go on at the first that is left",
                Found {
                    committed: Some(25),
                    floor: Floor::At(40),
                    ..found(40, 90)
                },
                40,
                40,
            )
        },
        Row {
            surprise: Some(Surprise::BeyondEnd {
                position: 100,
                high: 30,
            }),
            ..row(
                "a topic cut off below the commit only refills",
                Found {
                    committed: Some(100),
                    ..found(0, 30)
                },
                0,
                30,
            )
        },
        Row {
            surprise: Some(Surprise::Recreated),
            ..row(
                "a topic made anew, and longer than before, is known by its id",
                Found {
                    committed: Some(100),
                    committed_topic_id: Some("id-0".into()),
                    snapshot: Some(100),
                    ..found(0, 150)
                },
                0,
                150,
            )
        },
        Row {
            committed: true,
            ..row(
                "low = high: a partition emptied by retention goes on at its high offset",
                Found {
                    committed: Some(55),
                    floor: Floor::AllOlder,
                    ..found(55, 55)
                },
                55,
                55,
            )
        },
    ]
}

#[test]
fn where_to_begin() {
    for row in rows() {
        let plan = plan(&row.found);
        let expected = Plan {
            start: row.start,
            live_from: row.live_from,
            committed: row.committed,
            skipped: row.skipped,
            surprise: row.surprise,
        };
        assert_eq!(plan, expected, "{}", row.name);
    }
}

proptest! {
    #[test]
    fn wherever_it_begins_nothing_undecided_and_young_is_passed_over(
        low in 0_i64..100,
        length in 0_i64..100,
        committed in prop::option::of(0_i64..250),
        floor in 0_i64..250,
        by_time in 0_usize..3,
        snapshot in prop::option::of(0_i64..250),
        same_topic: bool,
    ) {
        let floor = [Floor::At(floor), Floor::AllOlder, Floor::Unknown][by_time];
        let found = Found {
            low,
            high: low + length,
            committed,
            committed_topic_id: Some(if same_topic { "id-1" } else { "id-0" }.into()),
            topic_id: Some("id-1".into()),
            floor,
            snapshot,
        };
        let plan = plan(&found);
        prop_assert!((found.low..=found.high).contains(&plan.start));
        prop_assert!(plan.start <= plan.live_from && plan.live_from <= found.high);
        prop_assert!(plan.skipped >= 0);
        let usable = committed
            .filter(|offset| same_topic && (low..=found.high).contains(offset));
        if let Some(committed) = usable {
            // Undecided records that any window can still take are all live.
            prop_assert!(plan.live_from - plan.skipped == committed);
        }
    }
}

#[test]
fn what_was_read_before_a_partition_was_taken_away_is_not_read_or_decided_again() {
    let mut partitions = Partitions::default();
    held(&mut partitions, 0, 10, 20);
    let left = partitions.get("t", 0).unwrap();
    (left.next, left.stored, left.topic_id) = (80, 70, Some("id-1".into()));
    let committed = |offset| Found {
        committed: Some(offset),
        ..found(10, 90)
    };
    let begin = |mut found: Found| {
        found.recall(left);
        let plan = plan(&found);
        (plan.start, plan.live_from)
    };
    assert_eq!(begin(committed(60)), (70, 70), "our last commit was lost");
    assert_eq!(begin(committed(85)), (80, 85), "another member went on");
    let other = Found {
        topic_id: Some("id-2".into()),
        committed_topic_id: Some("id-1".into()),
        ..committed(60)
    };
    assert_eq!(begin(other), (10, 90), "it is another topic");
    let cut = Found {
        high: 50,
        ..committed(40)
    };
    assert_eq!(begin(cut), (10, 40), "it was cut off");
}

fn at(mono: u64) -> Now {
    Now {
        wall: Timestamp(1_000_000 + i64::try_from(mono).unwrap()),
        mono: Monotonic(mono),
    }
}

fn held(partitions: &mut Partitions, partition: i32, start: i64, live_from: i64) {
    let plan = Plan {
        start,
        live_from,
        committed: true,
        skipped: 0,
        surprise: None,
    };
    partitions.begin(&"t".into(), partition, &plan, None, at(0));
}

#[test]
fn an_ack_stores_what_is_new_and_ours() {
    let mut partitions = Partitions::default();
    held(&mut partitions, 0, 10, 50);
    let assignment = partitions.assignment();
    let stored = Acked::Store(None);
    assert_eq!(
        partitions.acknowledge("t", 0, 40, assignment),
        Acked::Behind
    );
    assert_eq!(
        partitions.acknowledge("t", 0, 50, assignment),
        Acked::Behind
    );
    assert_eq!(partitions.acknowledge("t", 0, 60, assignment), stored);
    assert_eq!(
        partitions.acknowledge("t", 0, 55, assignment),
        Acked::Behind
    );
    assert_eq!(partitions.acknowledge("t", 1, 60, assignment), Acked::Lost);
}

/// Fault B6: an offset commit for a partition that was lost.
#[test]
fn b6_an_ack_of_a_lost_partition_is_dropped_even_when_it_came_back() {
    let mut partitions = Partitions::default();
    held(&mut partitions, 0, 10, 10);
    held(&mut partitions, 1, 10, 10);
    let before = partitions.assignment();
    partitions.end("t", 0);
    assert_eq!(partitions.acknowledge("t", 0, 20, before), Acked::Lost);
    held(&mut partitions, 0, 15, 15);
    assert_eq!(partitions.acknowledge("t", 0, 20, before), Acked::Lost);
    let after = partitions.assignment();
    assert_eq!(
        partitions.acknowledge("t", 0, 20, after),
        Acked::Store(None)
    );
    // The other partition stayed, so what was read of it before is still good.
    assert_eq!(
        partitions.acknowledge("t", 1, 20, before),
        Acked::Store(None)
    );
}

#[test]
fn a_record_that_went_astray_is_read_again_though_the_end_was_seen() {
    let mut partitions = Partitions::default();
    held(&mut partitions, 0, 10, 20);
    let zero = partitions.get("t", 0).unwrap();
    zero.heard = true;
    zero.high = Some(20);
    zero.reach(20, at(1_000));
    zero.poison = Some(Poison::new(20));
    zero.go_back(12);
    assert_eq!((zero.next, &zero.poison), (12, &None));
    let progress = partitions.progress(at(60_000), Duration::from_secs(10));
    assert!(!progress.flowing && !progress.refilled, "{progress:?}");
    let zero = partitions.get("t", 0).unwrap();
    zero.go_back(15);
    assert_eq!(zero.next, 12, "never forward: that would skip records");
}

#[test]
fn flowing_means_every_partition_is_at_its_end_or_moving() {
    let stall = Duration::from_secs(10);
    let mut partitions = Partitions::default();
    assert!(!partitions.progress(at(0), stall).flowing, "none assigned");
    held(&mut partitions, 0, 10, 20);
    held(&mut partitions, 1, 10, 10);
    assert!(!partitions.progress(at(0), stall).flowing, "not heard yet");
    partitions.get("t", 1).unwrap().high = Some(10);
    let zero = partitions.get("t", 0).unwrap();
    zero.heard = true;
    zero.reach(15, at(1_000));
    zero.last_time = Timestamp(1_000_000 - 500);
    let progress = partitions.progress(at(2_000), stall);
    assert!(progress.flowing && !progress.refilled, "moving");
    assert_eq!(progress.lag, Duration::from_millis(2_500));
    assert!(
        !partitions.progress(at(11_001), stall).flowing,
        "it stands still before its end"
    );
    let zero = partitions.get("t", 0).unwrap();
    zero.reach(30, at(12_000));
    zero.high = Some(30);
    let progress = partitions.progress(at(60_000), stall);
    assert!(progress.flowing && progress.refilled, "at its end");
    assert_eq!(progress.lag, Duration::ZERO);
    partitions.get("t", 1).unwrap().trouble = "no right to read".into();
    assert!(!partitions.progress(at(60_000), stall).flowing);
}
