//! What the brakes hold over time: storms, blindness, clocks and lists.

use std::time::Duration;

use super::{two_die, warm};
use crate::action::ActionKind;
use crate::decision::Reason;
use crate::event::{SourceName, SourceReport};
use crate::journal::{Brake, Domain, Record};
use crate::lab::{BEGIN, Lab, Plan, on_engine_stack};
use crate::names::PoolName;

#[test]
fn i10_in_a_pool_of_two_a_node_is_healed_only_behind_a_fence() {
    // Rows: nodes in the pool, what is asked of the dead one's VM first.
    for (nodes, first) in [(3, "reboot_server"), (2, "stop_server"), (1, "stop_server")] {
        on_engine_stack(move || {
            let mut plan = Plan {
                nodes,
                ..Plan::default()
            };
            plan.pool.min = 1;
            let mut lab = Lab::new(plan);
            lab.bystander = true;
            warm(&mut lab);
            let name = format!("w{nodes}");
            lab.die(&name);
            lab.run(90);
            assert_eq!(lab.decided(), [format!("reboot {name}")]);
            let asked: Vec<_> = lab.actions.iter().map(|action| &action.kind).collect();
            assert_eq!(asked.len(), 1, "{asked:?}");
            assert_eq!(asked[0].name(), first, "in a pool of {nodes}");

            // It stays at that, however long, until the VM is confirmed off.
            lab.obedient = true;
            lab.run(60);
            let rebooted = |lab: &Lab| {
                let reboot = |record: &Record| match record {
                    Record::Intent { action, .. } => {
                        let kind = &action.kind;
                        matches!(
                            kind,
                            ActionKind::RebootServer { .. } | ActionKind::StartServer { .. }
                        )
                    }
                    _ => false,
                };
                lab.records.iter().any(reboot)
            };
            assert_eq!(rebooted(&lab), nodes == 3);
            lab.node(&name).status = crate::event::ServerStatus::Shutoff;
            lab.run(20);
            assert!(rebooted(&lab));
        });
    }
}

#[test]
fn i12_a_source_that_answers_and_brings_nothing_is_blindness() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        warm(&mut lab);
        // The broker or collector is well; the agents, or what is before it, are not.
        for node in &mut lab.nodes {
            node.agent = false;
        }
        lab.node("w3").kubelet = false;
        lab.run(120);
        assert_eq!(lab.reasons(), [], "nobody is silent while nothing is heard");
        let brakes = |lab: &Lab, on: bool| {
            let brake = |record: &&Record| match record {
                Record::Brake { brake, on: is, .. } => {
                    *is == on && *brake == Brake::Blind(SourceName::Kafka)
                }
                _ => false,
            };
            lab.records.iter().filter(brake).count()
        };
        assert_eq!((brakes(&lab, true), brakes(&lab, false)), (1, 0));
        // Back but for one that is dead: what was silent until now counts from now.
        for node in lab.nodes.iter_mut().filter(|node| node.name != "w3") {
            node.agent = true;
        }
        let back = lab.now;
        while lab.decided().is_empty() {
            if let [refusal, ..] = lab.refusals()[..] {
                assert_eq!(refusal.reason, Reason::SightReturning);
                assert!(refusal.at.since(back.wall) >= Duration::from_secs(60));
            }
            lab.run(1);
        }
        assert!(lab.now.mono.since(back.mono) >= Duration::from_secs(300));
        assert_eq!(brakes(&lab, false), 1);
        assert_eq!(lab.decided(), ["reboot w3"]);
    });
}

#[test]
fn a_source_is_given_three_intervals_of_the_fastest_agent() {
    let settings = settings();
    let second = Duration::from_secs;
    // Rows: the intervals that its agents tell of, seconds without a record, whether it flows.
    let rows: [(&[u64], u64, bool); 6] = [
        (&[], 30, true),
        (&[], 31, false),
        (&[60], 180, true),
        (&[60], 181, false),
        (&[60, 10], 31, false),
        // No agent's word is believed beyond two minutes.
        (&[3600], 361, false),
    ];
    for (intervals, quiet, flows) in rows {
        let mut brakes = crate::guard::Brakes::new(BEGIN);
        brakes.delivered(BEGIN, &settings, SourceName::Kafka, told(intervals));
        brakes.report(BEGIN, &settings, good());
        for reported in (10..quiet).step_by(10) {
            brakes.report(BEGIN.plus(second(reported)), &settings, good());
        }
        let later = BEGIN.plus(second(quiet));
        brakes.report(later, &settings, good());
        let since = flows.then_some(BEGIN);
        assert_eq!(
            brakes.flowing_since(&settings),
            since,
            "{intervals:?}, {quiet} s"
        );
        assert_eq!(brakes.heard(later, &settings)[0].flowing, flows);
        // What comes after a gap begins the flow anew.
        brakes.delivered(later, &settings, SourceName::Kafka, told(intervals));
        brakes.report(later, &settings, good());
        let since = if flows { BEGIN } else { later };
        assert_eq!(brakes.flowing_since(&settings), Some(since));
    }
}

#[test]
fn a_start_waits_for_the_first_record_and_is_no_return_from_blindness() {
    on_engine_stack(|| {
        // Rows: seconds until agents speak again after the restart, whether that was blindness.
        for (quiet, blind) in [(20, false), (50, true)] {
            let mut lab = Lab::new(Plan::default());
            warm(&mut lab);
            for node in &mut lab.nodes {
                node.agent = false;
            }
            lab.restart();
            lab.run(quiet);
            for node in lab.nodes.iter_mut().filter(|node| node.name != "w3") {
                node.agent = true;
            }
            lab.node("w3").kubelet = false;
            lab.run(120);
            let closed = |record: &Record| matches!(record, Record::Brake { on: true, .. });
            assert_eq!(lab.records.iter().any(closed), blind, "{quiet}");
            assert_eq!(lab.decided().is_empty(), blind, "{quiet}");
        }
    });
}

#[test]
fn agents_that_become_slower_are_given_more_time_after_a_while() {
    let settings = settings();
    let mut brakes = crate::guard::Brakes::new(BEGIN);
    brakes.delivered(BEGIN, &settings, SourceName::Kafka, told(&[10]));
    brakes.report(BEGIN, &settings, good());
    let mut flowed = Vec::new();
    for minute in 1..=15 {
        for ago in [50, 40, 30, 20, 10, 0] {
            let now = BEGIN.plus(Duration::from_secs(60 * minute - ago));
            brakes.report(now, &settings, good());
        }
        let now = BEGIN.plus(Duration::from_secs(60 * minute));
        flowed.push(brakes.flowing_since(&settings).is_some());
        brakes.delivered(now, &settings, SourceName::Kafka, told(&[60]));
    }
    assert_eq!(
        flowed.iter().position(|flows| *flows),
        Some(10),
        "{flowed:?}"
    );
    assert!(flowed.iter().skip(10).all(|flows| *flows));
}

fn settings() -> crate::settings::Settings {
    crate::settings::Settings {
        cluster: String::new(),
        pools: std::collections::BTreeMap::new(),
        limits: crate::settings::Limits::default(),
        lateness: Duration::ZERO,
        heartbeat_sources: vec![SourceName::Kafka],
        pause_sources: Vec::new(),
    }
}

fn good() -> SourceReport {
    SourceReport {
        source: SourceName::Kafka,
        flowing: true,
        lag: Duration::ZERO,
        refilled: true,
        trouble: String::new(),
    }
}

/// The shortest of the intervals, in seconds.
fn told(intervals: &[u64]) -> Option<Duration> {
    intervals.iter().copied().min().map(Duration::from_secs)
}

#[test]
fn after_a_storm_every_timer_starts_at_zero() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        warm(&mut lab);
        two_die(&mut lab);
        let w4 = lab.node("w4");
        w4.agent = true;
        w4.kubelet = true;
        let mut over = None;
        for _ in 0..600 {
            lab.run(1);
            let off = |record: &Record| {
                matches!(
                    record,
                    Record::Brake {
                        brake: Brake::Storm(_),
                        on: false,
                        ..
                    }
                )
            };
            if over.is_none() && lab.records.iter().any(off) {
                over = Some(lab.now);
                assert!(lab.decided().is_empty(), "at once: {:?}", lab.decided());
            }
            if !lab.decided().is_empty() {
                break;
            }
        }
        let waited = lab.now.mono.since(over.unwrap().mono);
        assert_eq!(lab.decided(), ["reboot w3"]);
        assert!((60..=75).contains(&waited.as_secs()), "{waited:?}");
    });
}

#[test]
fn a_restart_does_not_shorten_the_wait_after_blindness() {
    on_engine_stack(|| {
        for restart_while_blind in [true, false] {
            let mut lab = Lab::new(Plan::default());
            warm(&mut lab);
            lab.sources.insert(SourceName::Kafka, false);
            lab.run(60);
            lab.die("w3");
            if restart_while_blind {
                lab.restart();
            }
            lab.sources.insert(SourceName::Kafka, true);
            lab.run(30);
            if !restart_while_blind {
                lab.restart();
            }
            lab.run(250);
            assert!(lab.decided().is_empty(), "{:?}", lab.decided());
            assert!(lab.reasons().contains(&Reason::SightReturning));
            lab.run(60);
            assert_eq!(lab.decided(), ["reboot w3"]);
        }
    });
}

#[test]
fn a_day_of_the_wall_clock_makes_nobody_silent() {
    on_engine_stack(|| {
        for day in [86_400_000, -86_400_000] {
            let mut plan = Plan {
                nodes: 1,
                ..Plan::default()
            };
            plan.pool.min = 1;
            plan.pool.max = 1;
            let mut lab = Lab::new(plan);
            lab.run(405);
            lab.now.wall.0 += day;
            // The first thing after the jump is a record, before any tick.
            lab.step(crate::event::Input::Tick);
            lab.run(900);
            assert!(lab.decided().is_empty(), "{day}: {:?}", lab.decided());
            let on = |record: &&Record| {
                matches!(
                    record,
                    Record::Brake {
                        brake: Brake::Clock,
                        ..
                    }
                )
            };
            assert_eq!(lab.records.iter().filter(on).count(), 2, "on and off");
        }
    });
}

#[test]
fn an_empty_list_after_a_restart_makes_no_machine() {
    on_engine_stack(|| {
        for kubernetes in [true, false] {
            let mut plan = Plan::default();
            plan.pool.kubernetes = kubernetes;
            plan.pool.min = 6;
            let mut lab = Lab::new(plan);
            warm(&mut lab);
            for node in &mut lab.nodes {
                node.listed = false;
            }
            lab.restart();
            // Less than the two looks, thirty seconds apart, that make it believable.
            lab.run(25);
            assert!(lab.decided().is_empty(), "{:?}", lab.decided());
            for node in &mut lab.nodes {
                node.listed = true;
            }
            lab.run(120);
            assert!(lab.decided().is_empty(), "{:?}", lab.decided());
        }
    });
}

#[test]
fn a_list_that_agents_contradict_is_never_believed() {
    on_engine_stack(|| {
        let mut plan = Plan::default();
        plan.pool.kubernetes = false;
        plan.pool.min = 6;
        let mut lab = Lab::new(plan);
        warm(&mut lab);
        for node in &mut lab.nodes {
            node.listed = false;
        }
        lab.run(900);
        assert!(lab.decided().is_empty(), "{:?}", lab.decided());
    });
}

#[test]
fn a_report_after_a_long_silence_begins_the_flow_anew() {
    // Rows: seconds between two good reports, whether the flow goes on through them.
    for (seconds, goes_on) in [(29, true), (31, false)] {
        let settings = settings();
        let mut brakes = crate::guard::Brakes::new(BEGIN);
        let later = BEGIN.plus(Duration::from_secs(seconds));
        for now in [BEGIN, later] {
            brakes.delivered(now, &settings, SourceName::Kafka, told(&[60]));
            brakes.report(now, &settings, good());
        }
        let since = if goes_on { BEGIN } else { later };
        assert_eq!(brakes.flowing_since(&settings), Some(since));
    }
}

#[test]
fn i10_a_hypervisor_under_many_pools_is_a_storm_and_stays_one_until_it_was_calm() {
    on_engine_stack(|| {
        // Rows: nodes on the zone that fails, whether that is a storm.
        for (together, storm) in [(2, true), (1, false)] {
            let mut lab = Lab::new(Plan {
                others: vec!["db", "web"],
                nodes: 15,
                ..Plan::default()
            });
            lab.obedient = true;
            for (place, node) in lab.nodes.iter_mut().enumerate() {
                node.pool = PoolName::new(["workers", "db", "web"][place % 3]);
                node.zone = (place < together).then(|| "z1".to_owned());
            }
            warm(&mut lab);
            lab.die("w1");
            lab.die("w2");
            lab.run(120);
            let brakes = |lab: &Lab| -> Vec<bool> {
                let brakes = lab.records.iter().filter_map(|record| match record {
                    Record::Brake { brake, on, .. } => {
                        assert_eq!(*brake, Brake::Domain(Domain::Zone("z1".to_owned())));
                        Some(*on)
                    }
                    _ => None,
                });
                brakes.collect()
            };
            assert_eq!(brakes(&lab), vec![true; usize::from(storm)]);
            assert_eq!(lab.reasons().contains(&Reason::Storm), storm);
            if !storm {
                continue;
            }
            lab.node("w2").agent = true;
            lab.node("w2").kubelet = true;
            lab.run(250);
            assert_eq!(brakes(&lab), [true], "I11: not calm for long enough");
            assert_eq!(lab.decided(), [""; 0]);
            lab.run(60);
            assert_eq!(brakes(&lab), [true, false]);
            lab.run(120);
            assert_eq!(lab.decided(), ["reboot w1"]);
        }
    });
}

#[test]
fn i15_nodes_that_fail_one_after_another_are_a_storm_too() {
    on_engine_stack(|| {
        let mut plan = Plan {
            nodes: 10,
            ..Plan::default()
        };
        plan.pool.min = 5;
        plan.pool.max = 12;
        let mut lab = Lab::new(plan);
        lab.obedient = true;
        warm(&mut lab);
        for name in ["w1", "w2"] {
            lab.die(name);
            lab.run(75);
        }
        assert!(!lab.reasons().contains(&Reason::Storm), "two of ten may be");
        let begun = lab.decided().len();
        lab.die("w3");
        lab.run(75);
        assert!(
            lab.reasons().contains(&Reason::Storm),
            "w1 is under a heal and as ill as before: {:?}",
            lab.decided()
        );
        assert_eq!(lab.decided().len(), begun);
    });
}

/// Agents that post to the collector do not post again what they sent before a start.
#[test]
fn i14_with_the_collector_alone_windows_are_full_when_they_passed_or_were_kept() {
    let policy = r#"
        scale_down("workers").when(mean("cpu", "20m") < 0.01);
        heal("workers").when(silent("60s")).ladder(["reboot", "replace"]);
    "#;
    let started = move || {
        let mut lab = Lab::new(Plan {
            policy,
            agents_by: SourceName::Collector,
            ..Plan::default()
        });
        lab.run(600);
        lab.die("w3");
        lab.run(120);
        lab
    };
    on_engine_stack(move || {
        let mut lab = started();
        assert_eq!(lab.decided(), [""; 0], "ten minutes of twenty");
        assert!(lab.reasons().contains(&Reason::StartUp));
        lab.run(540);
        assert_eq!(lab.decided(), ["reboot w3"], "{:?}", lab.reasons());

        // Rows: whether the windows came back, how long the program was down, whether it heals.
        for (kept, down, heals) in [(true, 10, true), (true, 300, false), (false, 10, false)] {
            let mut lab = started();
            lab.node("w3").agent = true;
            lab.node("w3").kubelet = true;
            lab.run(700);
            let windows = lab.engine.windows_snapshot();
            lab.now = lab.now.plus(Duration::from_secs(down));
            lab.restart();
            if kept {
                lab.engine.restore_windows(&windows).unwrap();
            }
            lab.run(400);
            lab.die("w2");
            lab.run(120);
            let row = (kept, down);
            assert_eq!(lab.decided().contains(&"reboot w2"), heals, "{row:?}");
        }
    });
}
