//! Random loads, deaths, outages, restarts and lost answers, by seed, with the invariants
//! checked after every second and the peace at the end.
//!
//! `RHIZOME_SEEDS=2000 cargo test simulation` plays more of them; a seed that fails is named,
//! and `RHIZOME_SEED=n` plays it alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rhizome::scenario::{Builds, Fate, Happening, Rehearsal, Scenario, Series};
use rhizome_engine::action::{Action, ActionKind};
use rhizome_engine::event::{SourceName, Target};
use rhizome_engine::journal::Record;
use rhizome_engine::names::{NodeName, PoolName, VmId};
use rhizome_engine::policy::SourceFile;
use rhizome_engine::remediation::Phase;
use rhizome_engine::settings::PoolSettings;
use rhizome_engine::time::{Timestamp, format_duration};

use crate::support::{Dice, on_engine_stack};

/// Seeds of an ordinary run: about ten seconds in a debug build.
const SEEDS: u64 = 12;

/// Trouble is over by then; the rest is for things to settle.
const TROUBLE: u64 = 60 * 60;

/// I36 allows fifteen minutes; a create that hangs, its build and its join take their own.
const PEACE: Duration = Duration::from_secs(75 * 60);

const MAX: u32 = 8;
const MIN: u32 = 3;

const POLICY: &str = r#"
scale_up("workers").when(mean("cpu", "5m") > 0.75).for_at_least("1m").cooldown("3m")
    .then(|pool| pool.resize_to(pool.target("cpu", "5m", 0.60), "busy"));
scale_down("workers").when(mean("cpu", "5m") < 0.35 and covered("cpu", "5m"))
    .for_at_least("2m").cooldown("5m");
heal("workers").when(silent("60s")).ladder(["reboot", "replace"]);
"#;

fn scenario(dice: &mut Dice) -> Scenario {
    let workers = PoolName::new("workers");
    let names: Vec<_> = (1..=4).map(|n| NodeName::new(format!("w{n}"))).collect();
    let mut values = Vec::new();
    while values.len() < 360 {
        let load = [0.2, 0.45, 0.55, 0.9][usize::try_from(dice.below(4)).unwrap()];
        let length = 20 + usize::try_from(dice.below(80)).unwrap();
        values.extend(std::iter::repeat_n(Some(load), length));
    }
    values.truncate(360);
    values.extend(std::iter::repeat_n(Some(0.5), 500));
    let mut events = Vec::new();
    for _ in 0..3 + dice.below(6) {
        let at = 300 + dice.below(TROUBLE - 900);
        let until = at + 10 + dice.below(400);
        let name = names[usize::try_from(dice.below(4)).unwrap()].clone();
        let (begin, end) = match dice.below(9) {
            0 => (Happening::Die(name), None),
            1 => (Happening::Break(name), None),
            2 => (Happening::Die(name.clone()), Some(Happening::Back(name))),
            3 => (
                Happening::AgentDies(name.clone()),
                Some(Happening::Back(name)),
            ),
            4 => (Happening::Restart, Some(Happening::Restart)),
            5 => (
                Happening::EmptyList(true),
                Some(Happening::EmptyList(false)),
            ),
            6 => (
                Happening::Builds(Builds::Fail),
                Some(Happening::Builds(Builds::Well)),
            ),
            _ => {
                let sources = [
                    SourceName::Kafka,
                    SourceName::Openstack,
                    SourceName::Kubernetes,
                ];
                let source = sources[usize::try_from(dice.below(3)).unwrap()];
                (
                    Happening::Source(source, false),
                    Some(Happening::Source(source, true)),
                )
            }
        };
        events.push((Duration::from_secs(at), begin));
        events.extend(end.map(|end| (Duration::from_secs(until), end)));
    }
    events.sort_by_key(|(at, _)| *at);
    Scenario {
        pools: BTreeMap::from([(
            workers.clone(),
            PoolSettings {
                min: MIN,
                max: MAX,
                ..PoolSettings::default()
            },
        )]),
        nodes: BTreeMap::from([(workers.clone(), names)]),
        every: Duration::from_secs(10),
        series: vec![Series {
            metric: "cpu".to_owned(),
            of: Target::Pool(workers),
            values,
        }],
        events,
        run_on: PEACE.saturating_sub(Duration::from_secs(5000)),
        ..Scenario::default()
    }
}

fn fate(dice: &mut Dice) -> Fate {
    match dice.below(12) {
        0 => Fate::Refused,
        1 => Fate::NotDone,
        2 => Fate::AnswerLost,
        3 => Fate::Late(Duration::from_secs(dice.below(90))),
        _ => Fate::Done,
    }
}

/// What is checked after every second.
#[derive(Default)]
struct Checker {
    deleted: VecDeque<(Timestamp, VmId)>,
    created: BTreeSet<String>,
    /// The sources that could not be heard a second ago.
    unheard: Vec<SourceName>,
}

impl Checker {
    fn check(&mut self, rehearsal: &mut Rehearsal<'_>) -> Result<(), String> {
        let facts = rehearsal.machines();
        let there = facts.iter().filter(|fact| fact.there).count();
        // I1: VMs in any status stay within the maximum and the surge.
        if there > MAX as usize + 1 {
            return Err(format!("I1: {there} VMs, {MAX} and a surge of 1 may be"));
        }
        for (at, action) in rehearsal.take_actions() {
            self.act(rehearsal, at, &action)?;
        }
        self.unheard = rehearsal.unheard();
        Ok(())
    }

    fn act(
        &mut self,
        rehearsal: &Rehearsal<'_>,
        at: Timestamp,
        action: &Action,
    ) -> Result<(), String> {
        let state = rehearsal.engine().state();
        let operation = state.operations.get(&action.key.operation);
        let forward = operation.is_some_and(|operation| {
            operation.phase == Phase::Doing && operation.old.is_some() && !operation.committed
        });
        // I12: nothing is taken away on a source that cannot be heard. Of one that ceased in this
        // very second the engine may have been told after it acted.
        let mut unheard = rehearsal.unheard();
        unheard.retain(|source| self.unheard.contains(source));
        if action.kind.destroys() && forward && !unheard.is_empty() {
            let what = action.kind.name();
            return Err(format!("I12: {what} while {unheard:?} cannot be heard"));
        }
        // I20: one intent for each call.
        let key = action.key.to_string();
        if !self.created.insert(key.clone()) {
            return Err(format!("I20: {key} was sent twice"));
        }
        if let ActionKind::DeleteServer { vm } = &action.kind {
            let of_old = operation
                .and_then(|operation| operation.old.as_ref()?.vm.clone())
                .is_some_and(|old| old == vm.id);
            if of_old && !self.deleted.iter().any(|(_, id)| *id == vm.id) {
                self.deleted.push_back((at, vm.id.clone()));
                let within = |length: u64| {
                    let length = Duration::from_secs(length);
                    let recent = self
                        .deleted
                        .iter()
                        .filter(|(then, _)| at.since(*then) < length);
                    recent.count()
                };
                // I4: one a minute and five in ten minutes.
                if within(60) > 1 || within(600) > 5 {
                    return Err(format!("I4: too many removals: {:?}", self.deleted));
                }
            }
            // I6: only what the journal knows as ours, or what an operation made.
            if of_old && !state.owned.contains_key(&vm.id) {
                return Err(format!("I6: {} is not ours", vm.id));
            }
        }
        Ok(())
    }
}

/// I36, I38: in the end everything that is there is wanted, serves and is known.
fn peace(rehearsal: &Rehearsal<'_>) -> Result<(), String> {
    let facts = rehearsal.machines();
    let state = rehearsal.engine().state();
    if !state.operations.is_empty() {
        return Err(format!("I23: still under way: {:?}", state.operations));
    }
    if !state.open.is_empty() {
        return Err(format!("I20: intents without an outcome: {:?}", state.open));
    }
    let ports = rehearsal.ports_left();
    if !ports.is_empty() {
        return Err(format!("I38: ports of nobody: {ports:?}"));
    }
    let mut marks = BTreeSet::new();
    let mut count = 0;
    for fact in &facts {
        if !fact.there || !fact.joined || fact.cordoned {
            return Err(format!("I38: left behind: {fact:?}"));
        }
        if !state.owned.contains_key(&fact.vm) {
            return Err(format!("I38: an orphan: {fact:?}"));
        }
        // I3: one for each operation.
        if !marks.insert(fact.operation.clone()) {
            return Err(format!("I3: a duplicate: {fact:?}"));
        }
        count += u32::from(fact.there);
    }
    if !(MIN..=MAX).contains(&count) {
        return Err(format!("I2: {count} machines, {MIN} to {MAX} may be"));
    }
    Ok(())
}

fn play(seed: u64) -> Result<(), String> {
    let mut dice = Dice(seed);
    let scenario = scenario(&mut dice);
    let policy = SourceFile {
        name: "sim.rhai".to_owned(),
        text: POLICY.to_owned(),
    };
    let mut rehearsal = Rehearsal::new(&scenario, &[policy]).unwrap();
    let mut checker = Checker::default();
    let mut second = 0;
    let mut fates = dice.clone();
    rehearsal.set_fates(move |_| fate(&mut fates));
    while rehearsal.second() {
        second += 1;
        if second == TROUBLE {
            rehearsal.set_fates(|_| Fate::Done);
        }
        if dice.one_in(1500) && second < TROUBLE {
            let journal = rehearsal.journal().to_vec();
            rehearsal.start_again(journal);
        }
        let when = format_duration(Duration::from_secs(second));
        checker
            .check(&mut rehearsal)
            .map_err(|why| format!("at {when}: {why}"))?;
    }
    peace(&rehearsal).map_err(|why| format!("at the end: {why}"))?;
    calm(&rehearsal)
}

/// I36: at an even load, after all trouble, nothing goes up and down.
fn calm(rehearsal: &Rehearsal<'_>) -> Result<(), String> {
    let times: Vec<_> = rehearsal
        .journal()
        .iter()
        .filter_map(|record| match record {
            Record::Decision { decision } => Some((decision.at, decision.what.clone())),
            _ => None,
        })
        .collect();
    let last = rehearsal
        .journal()
        .iter()
        .filter_map(|record| match record {
            Record::Epoch { at, .. } => Some(at.wall),
            _ => None,
        });
    let begin = last.min().unwrap_or_default();
    let quiet = begin.plus(Duration::from_secs(TROUBLE + 45 * 60));
    match times.iter().find(|(at, _)| *at > quiet) {
        Some((_, what)) => Err(format!("I36: no peace: {what}")),
        None => Ok(()),
    }
}

#[test]
fn whatever_happens_the_invariants_hold_and_peace_returns() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let seeds: Vec<_> = match number("RHIZOME_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("RHIZOME_SEEDS").unwrap_or(SEEDS)).collect(),
    };
    let failures: Vec<String> = on_engine_stack(move || {
        let failed = seeds.iter().filter_map(|seed| {
            let why = play(*seed).err()?;
            Some(format!("RHIZOME_SEED={seed}: {why}"))
        });
        failed.collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
