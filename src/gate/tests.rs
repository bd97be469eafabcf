use rhizome_engine::action::{ActionKey, NodeRef, VmRef};
use rhizome_engine::names::{NodeName, OperationId, VmId};
use rhizome_engine::remediation::{Blind, Context, Ending, Machine, Order, Phase};
use rhizome_engine::settings::PoolSettings;
use rhizome_engine::time::{BoxFuture, Now, Timestamp};

use super::*;

/// A clock that is set by hand, in seconds.
#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Now {
        let second = self.0.load(Ordering::SeqCst);
        Now {
            wall: Timestamp(i64::try_from(second * 1000).unwrap()),
            mono: Monotonic(second * 1000),
        }
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

fn gate(dry: bool) -> (Arc<ProgramGate>, Arc<Hand>) {
    let clock = Arc::new(Hand::default());
    let gate = ProgramGate::new(clock.clone(), &Limits::default(), dry);
    gate.set_journal_well(true);
    (gate, clock)
}

fn action(pool: &str, operation: u64, kind: ActionKind) -> Action {
    Action {
        key: ActionKey {
            operation: OperationId {
                journal: 1,
                number: operation,
            },
            sequence: 0,
        },
        epoch: 1,
        pool: PoolName::new(pool),
        expires: Timestamp(120_000),
        timeout: Duration::from_secs(60),
        kind,
    }
}

fn cordon(pool: &str) -> Action {
    let node = NodeRef {
        name: NodeName::new("w-1"),
        uid: "u".to_owned(),
    };
    action(pool, 1, ActionKind::Cordon { node })
}

fn drain(pool: &str) -> Action {
    let node = NodeRef {
        name: NodeName::new("w-1"),
        uid: "u".to_owned(),
    };
    action(pool, 1, ActionKind::Drain { node })
}

/// A removal that has just begun, whose actions are those of operation 1.
fn removal() -> Operation {
    let limits = Limits::default();
    let context = Context {
        cluster: "c",
        pool: &PoolSettings::default(),
        limits: &limits,
        epoch: 1,
        now: Now::default(),
        blind: Blind::default(),
    };
    let id = cordon("workers").key.operation;
    let old = Machine::named(NodeName::new("w-1"), id);
    Operation::begin(
        id,
        PoolName::new("workers"),
        Order::Remove { old },
        &context,
    )
}

fn delete(pool: &str, operation: u64) -> Action {
    let vm = VmRef {
        id: VmId::new(format!("vm-{operation}")),
        created: Timestamp(0),
        operation: None,
    };
    let mut action = action(pool, operation, ActionKind::DeleteServer { vm });
    action.expires = Timestamp(i64::MAX);
    action
}

fn held(gate: &Arc<ProgramGate>, action: &Action) -> Option<String> {
    let failure = gate.for_action().pass(action, "call").err()?;
    assert_eq!(failure.kind, FailureKind::Gate);
    Some(failure.message)
}

fn standing() -> StandingPause {
    StandingPause {
        pools: [PoolName::new("workers")].into(),
        who: "ann".to_owned(),
        why: "upgrade".to_owned(),
    }
}

#[test]
fn each_hold_holds_and_says_why() {
    type Set = fn(&ProgramGate, &Hand);
    let cases: [(&str, Set); 7] = [
        ("the journal cannot be written", |gate, _| {
            gate.set_journal_well(false);
        }),
        ("the program is stopping", |gate, _| gate.stop()),
        ("everything is paused by an operator", |gate, _| {
            gate.set_paused(None, true);
        }),
        ("the pool is paused by an operator", |gate, _| {
            gate.set_paused(Some(&PoolName::new("workers")), true);
        }),
        ("a file or a ConfigMap pauses it", |gate, _| {
            gate.set_standing(PauseSource::File, Some(standing()));
        }),
        ("its decision is too old", |_, clock| {
            clock.0.store(121, Ordering::SeqCst);
        }),
        ("", |gate, _| {
            gate.set_paused(Some(&PoolName::new("others")), true);
        }),
    ];
    for (why, set) in cases {
        let (gate, clock) = gate(false);
        set(&gate, &clock);
        let expected = (!why.is_empty()).then(|| format!("`call` was not sent: {why}"));
        assert_eq!(held(&gate, &cordon("workers")), expected);
        assert_eq!(gate.held(), u64::from(!why.is_empty()));
    }
    let (gate, _) = gate(true);
    assert!(held(&gate, &cordon("workers")).is_some(), "a dry run");
}

#[test]
fn a_gate_begins_closed_until_the_journal_is_known_to_be_well() {
    let clock = Arc::new(Hand::default());
    let gate = ProgramGate::new(clock, &Limits::default(), false);
    assert!(held(&gate, &cordon("workers")).is_some());
}

#[test]
fn an_action_that_began_in_time_goes_on_after_its_expiry_but_not_after_a_pause() {
    let (gate, clock) = gate(false);
    let drain = gate.for_action();
    assert!(drain.pass(&cordon("workers"), "evict").is_ok());
    clock.0.store(500, Ordering::SeqCst);
    assert!(drain.pass(&cordon("workers"), "evict").is_ok());
    gate.set_paused(None, true);
    assert!(drain.pass(&cordon("workers"), "evict").is_err());
}

#[test]
fn pauses_follow_the_journal_and_outlive_a_restart() {
    let wish = |wish| Record::Wish {
        at: Now::default(),
        key: "k".to_owned(),
        who: "w".to_owned(),
        why: "y".to_owned(),
        wish,
    };
    let (gate, _) = gate(false);
    gate.follow(&wish(Wish::Pause { pool: None }));
    gate.follow(&wish(Wish::Pause {
        pool: Some(PoolName::new("workers")),
    }));
    assert!(held(&gate, &cordon("workers")).is_some());
    gate.follow(&wish(Wish::Resume { pool: None }));
    assert_eq!(held(&gate, &cordon("workers")), None);
    let mut state = State::default();
    state.paused.insert(Some(PoolName::new("workers")));
    let restored = |restore: &dyn Fn(&ProgramGate)| {
        gate.set_paused(None, false);
        restore(&gate);
        held(&gate, &cordon("workers")).is_some()
    };
    assert!(restored(&|gate| gate.follow(&Record::Snapshot {
        state: Box::new(state.clone()),
    })));
    assert!(restored(&|gate| gate.restore(&state)));
    let mut state = State::default();
    let at = Timestamp(0);
    state
        .standing
        .insert(PauseSource::ConfigMap, (at, standing()));
    assert!(restored(&|gate| gate.restore(&state)), "by a ConfigMap");
    gate.follow(&Record::Pause {
        source: PauseSource::ConfigMap,
        pause: None,
        at: Now::default(),
    });
    assert!(!restored(&|_| ()));
    assert_eq!(held(&gate, &cordon("others")), None);
}

#[test]
fn removals_are_counted_per_pool_and_minute_and_over_all_in_ten_minutes() {
    let (gate, clock) = gate(false);
    assert_eq!(held(&gate, &delete("a", 1)), None);
    assert_eq!(
        held(&gate, &delete("a", 1)),
        None,
        "tried again: one removal"
    );
    assert!(
        held(&gate, &delete("a", 2))
            .unwrap()
            .contains("this minute")
    );
    assert_eq!(held(&gate, &delete("b", 3)), None, "another pool");
    for (second, operation) in [(60, 4), (120, 5), (180, 6)] {
        clock.0.store(second, Ordering::SeqCst);
        assert_eq!(held(&gate, &delete("a", operation)), None, "{second}");
    }
    clock.0.store(240, Ordering::SeqCst);
    let sixth = held(&gate, &delete("a", 7)).unwrap();
    assert!(sixth.contains("ten minutes"), "{sixth}");
    clock.0.store(600, Ordering::SeqCst);
    assert_eq!(held(&gate, &delete("a", 8)), None);
}

#[test]
fn i4_twins_of_one_operation_are_two_removals() {
    let (gate, clock) = gate(false);
    let mut twin = delete("a", 1);
    if let ActionKind::DeleteServer { vm } = &mut twin.kind {
        vm.id = VmId::new("its twin");
    }
    assert_eq!(held(&gate, &delete("a", 1)), None);
    assert!(held(&gate, &twin).unwrap().contains("this minute"));
    clock.0.store(60, Ordering::SeqCst);
    assert_eq!(held(&gate, &twin), None);
}

#[test]
fn removals_of_the_run_before_count() {
    let (gate, _) = gate(false);
    let mut state = State::default();
    for _ in 0..5 {
        state.removals.push_back(rhizome_engine::journal::Removal {
            pool: PoolName::new("b"),
            at: Now::default(),
            vm: None,
            key: None,
        });
    }
    gate.restore(&state);
    assert!(
        held(&gate, &delete("a", 1))
            .unwrap()
            .contains("ten minutes")
    );
}

#[test]
fn what_is_called_off_makes_no_further_call_until_it_turns_round() {
    let begun = removal();
    let recalled = |operation: &Operation| {
        let why = "cancelled by ann";
        rhizome_engine::remediation::cancel(operation, why).unwrap()
    };
    let follow = |gate: &ProgramGate, operation: Operation| {
        gate.follow(&Record::Operation {
            operation: Box::new(operation),
        });
    };
    let (gate, _) = gate(false);
    let drain = drain("workers");
    let under_way = gate.for_action();
    assert!(under_way.pass(&drain, "evict").is_ok());
    assert!(under_way.goes_on(&drain).is_ok());
    follow(&gate, recalled(&begun));
    let held_back = under_way.pass(&drain, "evict").err().unwrap();
    assert!(held_back.message.contains("called off"), "{held_back}");
    assert_eq!(
        under_way.goes_on(&drain).unwrap_err().kind,
        FailureKind::Gate
    );
    assert_eq!(held(&gate, &action("workers", 2, drain.kind.clone())), None);

    // It has turned round: what undoes it is sent.
    let mut turned = recalled(&begun);
    turned.phase = Phase::Undoing {
        rest: Vec::new(),
        ending: Ending::Cancelled("cancelled by ann".to_owned()),
    };
    follow(&gate, turned);
    assert_eq!(held(&gate, &cordon("workers")), None);

    // Past the point of no return it can only go on.
    let mut committed = recalled(&begun);
    committed.committed = true;
    follow(&gate, committed);
    assert_eq!(held(&gate, &delete("workers", 1)), None);

    // What a run before called off is held back as well.
    let mut state = State::default();
    state.operations.insert(recalled(&begun));
    gate.restore(&state);
    assert!(held(&gate, &cordon("workers")).is_some());
}

#[test]
fn an_action_of_several_calls_in_a_row_is_not_cut_in_two() {
    let (gate, _) = gate(false);
    let create = action(
        "workers",
        1,
        ActionKind::CreateServer {
            node: NodeName::new("w-9"),
            metadata: std::collections::BTreeMap::new(),
        },
    );
    let under_way = gate.for_action();
    assert!(under_way.pass(&create, "create_port").is_ok());
    let recalled = rhizome_engine::remediation::cancel(&removal(), "why").unwrap();
    gate.follow(&Record::Operation {
        operation: Box::new(recalled),
    });
    assert!(under_way.pass(&create, "create_server").is_ok());
    assert!(held(&gate, &create).is_some(), "one that has not begun");
}

#[test]
fn a_storm_stops_a_drain_and_nothing_else() {
    let brake = |on| Record::Brake {
        brake: Brake::Storm(PoolName::new("workers")),
        on,
        at: Now::default(),
        detail: "3 of 6 are silent".to_owned(),
    };
    let (gate, _) = gate(false);
    gate.follow(&brake(true));
    assert!(
        held(&gate, &drain("workers"))
            .unwrap()
            .contains("silent or ill")
    );
    assert_eq!(held(&gate, &drain("others")), None);
    assert_eq!(held(&gate, &cordon("workers")), None);
    gate.follow(&brake(false));
    assert_eq!(held(&gate, &drain("workers")), None);
}

#[test]
fn a_storm_of_a_zone_or_hypervisor_stops_a_drain_in_it_and_no_other() {
    let zone = |name: &str| Domain::Zone(name.to_owned());
    let host = |name: &str| Domain::Hypervisor(name.to_owned());
    for domain in [zone("az-1"), host("h-7")] {
        let brake = |domain: &Domain, on| Record::Brake {
            brake: Brake::Domain(domain.clone()),
            on,
            at: Now::default(),
            detail: "2 of 3 are silent".to_owned(),
        };
        let begun = |operation: Operation| Record::Operation {
            operation: Box::new(operation),
        };
        let mut operation = removal();
        operation.old.as_mut().unwrap().stands_on = vec![zone("az-1"), host("h-7")];
        let (gate, _) = gate(false);
        gate.follow(&begun(operation.clone()));
        let under_way = gate.for_action();
        assert!(under_way.pass(&drain("workers"), "evict").is_ok());

        gate.follow(&brake(&zone("az-2"), true));
        assert!(under_way.goes_on(&drain("workers")).is_ok(), "elsewhere");
        gate.follow(&brake(&domain, true));
        assert!(under_way.goes_on(&drain("workers")).is_err());
        let why = under_way.pass(&drain("workers"), "evict").err().unwrap();
        assert!(why.message.contains("hypervisor"), "{}", why.message);
        assert_eq!(held(&gate, &cordon("workers")), None);

        let mut state = State::default();
        state.apply(&brake(&domain, true));
        state.apply(&begun(operation.clone()));
        let (restarted, _) = self::gate(false);
        restarted.restore(&state);
        assert!(held(&restarted, &drain("workers")).is_some(), "journaled");

        gate.follow(&brake(&domain, false));
        assert_eq!(held(&gate, &drain("workers")), None);
        operation.phase = Phase::Over {
            ending: Ending::Done,
        };
        gate.follow(&begun(operation));
        assert!(gate.stand_on.is_empty(), "what is over is forgotten");
    }
}
