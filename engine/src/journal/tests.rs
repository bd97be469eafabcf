//! What records add up to, where counting them is delicate.

use std::time::Duration;

use super::{Record, State};
use crate::action::{Action, ActionKey, ActionKind, Failure, FailureKind, VmRef};
use crate::decision::{Evidence, Origin, Reason, Refusal};
use crate::names::{NodeName, OperationId, PoolName, VmId};
use crate::remediation::{
    Blind, Context, Ending, Machine, Moment, Operation, Order, Phase, Stopped,
};
use crate::settings::{Limits, PoolSettings};
use crate::time::{Monotonic, Now, Timestamp};

fn id() -> OperationId {
    OperationId {
        journal: 1,
        number: 7,
    }
}

fn operation(order: Order) -> Operation {
    let context = Context {
        cluster: "c",
        pool: &PoolSettings::default(),
        limits: &Limits::default(),
        epoch: 1,
        now: Now::default(),
        blind: Blind::default(),
    };
    Operation::begin(id(), PoolName::new("workers"), order, &context)
}

fn delete(sequence: u32) -> Record {
    Record::Intent {
        at: Now::default().plus(Duration::from_secs(u64::from(sequence))),
        action: Box::new(Action {
            key: ActionKey {
                operation: id(),
                sequence,
            },
            epoch: 1,
            pool: PoolName::new("workers"),
            expires: Timestamp::default(),
            timeout: Duration::from_secs(60),
            kind: ActionKind::DeleteServer {
                vm: VmRef {
                    id: VmId::new("a"),
                    created: Timestamp::default(),
                    operation: None,
                },
            },
        }),
    }
}

fn outcome(sequence: u32, kind: FailureKind) -> Record {
    Record::Outcome {
        at: Now::default(),
        key: ActionKey {
            operation: id(),
            sequence,
        },
        result: Err(Failure::new(kind, "no")),
    }
}

#[test]
fn a_delete_that_the_gate_holds_back_is_no_removal() {
    let mut state = State::default();
    let old = Machine::named(NodeName::new("w1"), id());
    state.apply(&Record::Operation {
        operation: Box::new(operation(Order::Remove { old })),
    });
    for sequence in 0..20 {
        state.apply(&delete(sequence));
        assert_eq!(state.removals.len(), 1, "it may have been sent");
        state.apply(&outcome(sequence, FailureKind::Gate));
        assert_eq!(state.removals.len(), 0, "it was not");
    }
    state.apply(&delete(20));
    state.apply(&outcome(20, FailureKind::Unknown));
    assert_eq!(state.removals.len(), 1);
    // Tried again it is the same removal, and a hold of the second try takes nothing back.
    state.apply(&delete(21));
    assert_eq!(state.removals.len(), 1);
    state.apply(&outcome(21, FailureKind::Gate));
    assert_eq!(state.removals.len(), 1);
}

#[test]
fn i4_each_vm_of_an_operation_counts() {
    let mut state = State::default();
    for (sequence, vm, removals) in [(0, "a", 1), (1, "b", 2), (2, "a", 2)] {
        let mut record = delete(sequence);
        if let Record::Intent { action, .. } = &mut record
            && let ActionKind::DeleteServer { vm: of } = &mut action.kind
        {
            of.id = VmId::new(vm);
        }
        state.apply(&record);
        assert_eq!(state.removals.len(), removals, "{sequence}");
    }
}

#[test]
fn removals_as_they_were_written_before_vms_counted_are_read() {
    let mut state = serde_json::to_value(State::default()).unwrap();
    let now = serde_json::to_value(Now::default()).unwrap();
    state["removals"] = serde_json::json!([["workers", now]]);
    let state: State = serde_json::from_value(state).unwrap();
    assert_eq!(state.removals[0].pool, PoolName::new("workers"));
    assert_eq!(state.removals[0].vm, None);
}

#[test]
fn a_new_machine_that_stays_after_a_failure_stays_ours() {
    // Rows: creations that were not undone, whether the VM is ours afterwards.
    for (creates, ours) in [(1, true), (0, false)] {
        let mut state = State::default();
        let mut operation = operation(Order::Add {
            node: NodeName::new("w9"),
        });
        let made = VmId::new("made");
        if let Some(new) = &mut operation.new {
            new.vm = Some(made.clone());
        }
        operation.creates = creates;
        operation.phase = Phase::Over {
            ending: Ending::Failed("the labels were refused".to_owned()),
        };
        state.apply(&Record::Operation {
            operation: Box::new(operation),
        });
        assert_eq!(state.owned.contains_key(&made), ours);
    }
}

#[test]
fn refusals_of_ever_new_nodes_are_bounded() {
    let mut state = State::default();
    for number in 0..66_000 {
        state.apply(&Record::Refusal {
            refusal: Refusal {
                at: Timestamp(number),
                pool: PoolName::new("workers"),
                node: Some(NodeName::new(format!("w{number}"))),
                what: String::new(),
                origin: Origin::Bounds,
                reason: Reason::NotOwned,
                detail: String::new(),
                evidence: Evidence::default(),
            },
        });
    }
    assert_eq!(state.refused.len(), 66_000 - 65_536 / 4);
    // The oldest went, and not the last.
    let is_there = |number: i64| {
        let json = serde_json::to_string(&state.refused).unwrap();
        json.contains(&format!("\"w{number}\""))
    };
    assert_eq!(
        [0, 16_383, 16_384, 65_999].map(is_there),
        [false, false, true, true]
    );
}

#[test]
fn rungs_of_nodes_that_are_gone_are_forgotten_after_a_day() {
    let hour = |hour: u64| Now::default().plus(Duration::from_secs(3600 * hour));
    let mut state = State::default();
    let rung = |node: u64, at| Record::Rung {
        node: NodeName::new(format!("w{node}")),
        rung: crate::decision::Rung::Reboot,
        at,
    };
    for node in 0..100 {
        state.apply(&rung(node, hour(node)));
    }
    assert_eq!(state.rungs.len(), 24, "those of the last day");
    state.apply(&Record::Epoch {
        epoch: 2,
        journal: 1,
        at: hour(110),
        version: String::new(),
    });
    assert_eq!(state.rungs.len(), 13, "a start looks, too");
}

#[test]
fn a_grant_takes_back_what_was_refused_of_the_pool_and_of_its_node() {
    let rule = |line: u32| Origin::Rule(crate::names::RuleId::new(format!("test.rhai:{line}")));
    let nodes = [None, Some("w1"), Some("w2")];
    let nodes = nodes.map(|node| node.map(NodeName::new));
    let mut all = Vec::new();
    for pool in ["a", "b"] {
        for node in &nodes {
            for origin in [rule(1), rule(12), Origin::Bounds] {
                for what in ["heal w1 (reboot)", "scale a to 3"] {
                    all.push(Refusal {
                        at: Timestamp::default(),
                        pool: PoolName::new(pool),
                        node: node.clone(),
                        what: what.to_owned(),
                        origin: origin.clone(),
                        reason: Reason::NotOwned,
                        detail: String::new(),
                        evidence: Evidence::default(),
                    });
                }
            }
        }
    }
    let told = |that: &dyn Fn(&Refusal) -> bool| {
        let mut state = State::default();
        for refusal in all.iter().filter(|refusal| that(refusal)).cloned() {
            state.apply(&Record::Refusal { refusal });
        }
        state
    };
    for node in nodes.clone() {
        let mut state = told(&|_| true);
        assert_eq!(state.refused.len(), all.len());
        state.apply(&Record::Decision {
            decision: crate::decision::Decision {
                at: Timestamp::default(),
                operation: None,
                pool: PoolName::new("a"),
                node: node.clone(),
                what: String::new(),
                origin: rule(1),
                why: String::new(),
                evidence: Evidence::default(),
            },
        });
        let left = told(&|refusal| {
            let granted = refusal.node.is_none() || refusal.node == node;
            refusal.pool.as_str() != "a" || refusal.origin != rule(1) || !granted
        });
        assert_eq!(state.refused, left.refused, "{node:?}");
        let kept: crate::journal::Refused =
            serde_json::from_value(serde_json::to_value(&state.refused).unwrap()).unwrap();
        assert_eq!(kept, state.refused, "as a snapshot keeps it");
    }
}

fn epoch(epoch: u64, seconds: u64) -> Record {
    Record::Epoch {
        epoch,
        journal: 1,
        at: at(seconds),
        version: String::new(),
    }
}

fn at(seconds: u64) -> Now {
    let begin = Now {
        wall: Timestamp(1_767_225_600_000),
        mono: Monotonic::BEGIN,
    };
    begin.plus(Duration::from_secs(seconds))
}

fn moment(epoch: u64, seconds: u64) -> Moment {
    Moment {
        epoch,
        at: at(seconds),
    }
}

/// A state with a removal whose step began with epoch 1.
fn under_way() -> State {
    let mut state = State::default();
    state.apply(&epoch(1, 0));
    let old = Machine::named(NodeName::new("w1"), id());
    let mut operation = operation(Order::Remove { old });
    operation.step_began = moment(1, 0);
    state.apply(&Record::Operation {
        operation: Box::new(operation),
    });
    state
}

/// The operation is let go on, and its step began then.
fn let_go_on(state: &mut State, here: Moment) -> Moment {
    let operation = crate::remediation::unpark(&state.operations[&id()], here);
    let began = operation.step_began;
    state.apply(&Record::Operation {
        operation: Box::new(operation),
    });
    began
}

#[test]
fn a_step_has_no_more_than_its_whole_time_after_a_second_restart() {
    let mut state = under_way();
    // The last that is heard of the first run.
    state.last = at(10);
    state.apply(&epoch(2, 600));
    assert_eq!(let_go_on(&mut state, moment(2, 900)), moment(2, 890));
    // Of the second run no later record tells the time.
    state.apply(&epoch(3, 1_000));
    assert_eq!(let_go_on(&mut state, moment(3, 1_100)), moment(3, 1_100));
}

#[test]
fn operations_as_they_were_written_before_restarts_were_counted_have_their_time() {
    let mut state = under_way();
    state.apply(&epoch(2, 600));
    state.operations.values_mut().for_each(|operation| {
        operation.parked = None;
        operation.restarts = 0;
    });
    let mut written = serde_json::to_value(&state).unwrap();
    for later in ["last", "late_stops"] {
        written.as_object_mut().unwrap().remove(later).unwrap();
    }
    assert!(!written.to_string().contains("\"restarts\""));
    let mut state: State = serde_json::from_value(written).unwrap();
    state.apply(&epoch(3, 1_200));
    assert_eq!(
        let_go_on(&mut state, moment(3, 1_300)),
        moment(3, 1_300),
        "its whole time"
    );
}

#[test]
fn a_stop_that_is_forgotten_brings_no_machine_back() {
    let mut state = State::default();
    let old = Machine::named(NodeName::new("w1"), id());
    let mut operation = operation(Order::Replace {
        old,
        node: NodeName::new("w9"),
        fenced_first: true,
    });
    let made = VmId::new("made");
    if let Some(new) = &mut operation.new {
        new.vm = Some(made.clone());
    }
    let mut put = |operation: &Operation| {
        state.apply(&Record::Operation {
            operation: Box::new(operation.clone()),
        });
        state.clone()
    };
    assert!(put(&operation).owned.contains_key(&made));
    operation.stopped = Some(Stopped::Late);
    operation.phase = Phase::Over {
        ending: Ending::Cancelled("called off".to_owned()),
    };
    let over = put(&operation);
    assert!(!over.owned.contains_key(&made), "it was undone");
    assert_eq!(over.late_stops.len(), 1);
    let forgotten = put(&crate::remediation::forget_stop(&operation));
    assert!(forgotten.late_stops.is_empty());
    assert!(!forgotten.owned.contains_key(&made));
}
