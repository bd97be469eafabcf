//! The few that are looked at each second are all that a look at everybody finds.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use crate::cluster::{Kind, PoolSlot};
use crate::event::{Batch, Input, Observation, ServerStatus, SourceName};
use crate::guard::Guard;
use crate::lab::{Lab, Plan, on_engine_stack, pool, vm};
use crate::names::{NodeName, PoolName};
use crate::window::NodeSlot;

/// A pool beside the one that is looked at, and after it in order.
pub(crate) const OTHER: &str = "yards";

/// What half of the nodes stand on.
const ZONE: &str = "z1";

/// Something that happens to a node, or to the world.
pub(crate) fn happens(lab: &mut Lab, what: u8, node: usize) {
    let node = node % lab.nodes.len();
    let name = lab.nodes[node].name.clone();
    match what {
        0 => lab.nodes[node].agent ^= true,
        1 => lab.nodes[node].kubelet ^= true,
        2 => {
            let status = &mut lab.nodes[node].status;
            *status = match status {
                ServerStatus::Active => ServerStatus::Error,
                ServerStatus::Error => ServerStatus::Shutoff,
                _ => ServerStatus::Active,
            };
        }
        3 => lab.nodes[node].listed ^= true,
        4 => {
            let gone = Observation::ServerGone(vm(&name));
            lab.step(Input::Observation(gone));
        }
        5 => {
            let uid = format!("uid-{name}");
            let name = NodeName::new(&name);
            lab.step(Input::Observation(Observation::NodeGone { name, uid }));
        }
        6..=8 => {
            let source = [
                SourceName::Kafka,
                SourceName::Kubernetes,
                SourceName::Openstack,
            ][usize::from(what - 6)];
            let flows = lab.sources.entry(source).or_insert(true);
            *flows ^= true;
        }
        9 | 10 => {
            let by = Duration::from_secs(100);
            let wall = lab.now.wall;
            lab.now.wall = if what == 9 {
                wall.plus(by)
            } else {
                wall.minus(by)
            };
            lab.step(Input::Tick);
        }
        11 => lab.restart(),
        12 => {
            // Marked for the other pool, or back.
            let other = PoolName::new(OTHER);
            let is = &mut lab.nodes[node].pool;
            *is = if *is == other { pool() } else { other };
            lab.list();
        }
        13 => {
            let mut batch = Batch::new(SourceName::Kafka, lab.now.wall);
            let interval = Duration::from_secs(5 + 20 * node as u64);
            batch.push_record(&name, lab.now.wall, Some(interval));
            lab.step(Input::Batch(batch));
        }
        _ => lab.round(),
    }
}

/// Who is ill by the few, and by a look at everybody.
fn both(lab: &Lab) -> (Vec<u32>, Vec<u32>) {
    let guard = lab.engine.guard(lab.now);
    let settings = &guard.sight.settings.pools[&pool()];
    let few = guard.ill(PoolSlot(0), settings);
    let all = by_all(&guard, PoolSlot(0));
    let number = |slots: Vec<NodeSlot>| slots.iter().map(|slot| slot.0).collect();
    (number(few), number(all))
}

/// Who is ill in the pool, by a look at everybody.
fn by_all(guard: &Guard<'_>, pool: PoolSlot) -> Vec<NodeSlot> {
    let cluster = guard.sight.cluster;
    let settings = guard.sight.pool_settings(pool).unwrap();
    let ill = |slot: &NodeSlot| guard.is_ill(*slot, cluster.member(*slot).unwrap(), settings);
    let all = cluster.in_pool(pool).iter().copied();
    all.filter(ill).collect()
}

/// What a storm is told by, of a pool with so many allowed and of the zone: by the few, and by a
/// look at everybody.
fn storms(lab: &Lab, allowed: usize) -> [(Option<usize>, Option<usize>); 2] {
    let guard = lab.engine.guard(lab.now);
    let settings = &guard.sight.settings.pools[&pool()];
    let ill = by_all(&guard, PoolSlot(0)).len();
    let of_pool = (
        guard.more_ill_than(allowed, PoolSlot(0), settings),
        Some(ill).filter(|ill| *ill > allowed),
    );
    let zone: Arc<str> = ZONE.into();
    let in_zone = |slot: &NodeSlot| {
        let server = guard.sight.cluster.member(*slot).unwrap().server.as_ref();
        server.is_some_and(|server| server.zone.as_ref() == Some(&zone))
    };
    let pools = [PoolSlot(0), PoolSlot(1)];
    let ill = pools.iter().flat_map(|pool| by_all(&guard, *pool));
    let down = ill.filter(in_zone).count();
    let there = pools
        .iter()
        .flat_map(|pool| guard.sight.cluster.in_pool(*pool));
    let all = there.filter(|slot| in_zone(slot)).count();
    let of_zone = guard.ill_domain((Kind::Zone, &zone));
    [
        of_pool,
        (
            of_zone.map(|ill| ill.down),
            Some(down).filter(|down| *down >= 2 && down * 2 >= all),
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_storm_is_told_by_the_few_as_by_all(
        events in prop::collection::vec((0..14_u8, 0..6_usize, 1..25_000_u64), 1..40),
        allowed in 0..4_usize,
    ) {
        let seen = on_engine_stack(move || {
            let mut lab = Lab::new(Plan {
                others: vec![OTHER],
                ..Plan::default()
            });
            lab.forgiving = true;
            for node in lab.nodes.iter_mut().step_by(2) {
                node.zone = Some(ZONE.to_owned());
            }
            lab.run(40);
            let mut seen = Vec::new();
            for (what, node, wait) in events {
                happens(&mut lab, what, node);
                lab.now = lab.now.plus(Duration::from_millis(wait));
                lab.step(Input::Tick);
                seen.extend(storms(&lab, allowed));
                lab.round();
                seen.extend(storms(&lab, allowed));
            }
            seen
        });
        for (few, all) in seen {
            prop_assert_eq!(few, all);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_few_are_all_who_are_ill(
        events in prop::collection::vec((0..14_u8, 0..6_usize, 1..25_000_u64), 1..60),
    ) {
        let seen = on_engine_stack(move || {
            let mut lab = Lab::new(Plan {
                others: vec![OTHER],
                ..Plan::default()
            });
            lab.forgiving = true;
            lab.run(40);
            let mut seen = vec![both(&lab)];
            for (what, node, wait) in events {
                happens(&mut lab, what, node);
                seen.push(both(&lab));
                lab.now = lab.now.plus(Duration::from_millis(wait));
                lab.step(Input::Tick);
                seen.push(both(&lab));
                if wait % 3 > 0 {
                    lab.round();
                    seen.push(both(&lab));
                }
            }
            seen
        });
        for (few, all) in seen {
            prop_assert_eq!(few, all);
        }
    }
}

#[test]
fn who_is_ill_becomes_so_without_a_word_and_is_well_with_one() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        lab.run(100);
        assert_eq!(both(&lab), (vec![], vec![]));
        lab.node("w3").agent = false;
        lab.run(30);
        assert_eq!(both(&lab).0.len(), 1, "thirty seconds without a record");
        lab.node("w3").agent = true;
        lab.run(11);
        assert_eq!(both(&lab).0.len(), 0);
        lab.node("w5").kubelet = false;
        lab.run(60);
        assert_eq!(both(&lab).0.len(), 1, "its lease is overdue");
    });
}

/// Records of all nodes every so many seconds, for so long; w3's agent dies before the last
/// `silent` seconds of it. Says how many are ill in the end.
fn ill_at_pace(every: u64, told: bool, silent: u64) -> usize {
    let mut lab = Lab::new(Plan::default());
    for node in &mut lab.nodes {
        node.agent = false;
    }
    let end = 12 * every + silent;
    for second in 0..end {
        if second % every == 0 {
            let mut batch = Batch::new(SourceName::Kafka, lab.now.wall);
            for node in &lab.nodes {
                if node.name != "w3" || second <= end - silent {
                    let interval = told.then(|| Duration::from_secs(every));
                    batch.push_record(&node.name, lab.now.wall, interval);
                }
            }
            lab.step(Input::Batch(batch));
        }
        lab.run(1);
    }
    both(&lab).0.len()
}

#[test]
fn silence_is_judged_by_the_agents_own_rhythm() {
    on_engine_stack(|| {
        for (every, told, silent, wanted) in [
            // As ever: three intervals of ten seconds, and never less than that.
            (10, true, 29, 0),
            (10, true, 32, 1),
            (2, true, 29, 0),
            (2, true, 32, 1),
            // Agents that report every 60 s: none of the others is ill meanwhile.
            (60, true, 59, 0),
            (60, true, 178, 0),
            (60, true, 182, 1),
            (60, false, 178, 0),
            (60, false, 182, 1),
        ] {
            let found = ill_at_pace(every, told, silent);
            assert_eq!(found, wanted, "every {every} s, told: {told}, {silent} s");
        }
    });
}

#[test]
fn agents_that_report_once_a_minute_are_no_storm() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        for node in &mut lab.nodes {
            node.agent = false;
        }
        for second in 0..900 {
            // Each at a second of its own, as agents do.
            let mut batch = Batch::new(SourceName::Kafka, lab.now.wall);
            for (place, node) in (0..).zip(&lab.nodes) {
                if second % 60 == place * 9 {
                    let interval = Some(Duration::from_secs(60));
                    batch.push_record(&node.name, lab.now.wall, interval);
                }
            }
            lab.step(Input::Batch(batch));
            lab.run(1);
            // Before its first record nobody knows how often an agent reports.
            if second > 60 {
                assert_eq!(both(&lab).0, [0; 0], "second {second}");
            }
        }
    });
}
