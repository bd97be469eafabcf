//! The operations against a tiny world: well, failed at each step, crashed at each record.

mod courses;
mod faults;
mod invariants;
mod table;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::action::{Action, ActionKind};
use crate::event::{NodeView, ServerStatus};
use crate::settings::{Limits, PoolSettings};
use world::{Fault, World};

/// The operation under test.
const ID: OperationId = OperationId {
    journal: 1,
    number: 42,
};

/// Longer than any operation may take against this world.
const PATIENCE: Duration = Duration::from_secs(12 * 3600);

/// How the world moves on between two looks.
const TICK: Duration = Duration::from_secs(2);

/// The orders that the tests try, each in a world of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Add,
    AddPlain,
    Remove,
    RemovePlain,
    Reboot,
    RebootPlain,
    RebootFenced,
    RebootFencedPlain,
    Rebuild,
    RebuildPlain,
    ReplaceFenced,
    ReplaceFencedPlain,
    ReplaceServing,
    ReplaceServingPlain,
    SweepVm,
    SweepVmPlain,
    SweepNode,
}

const CASES: &[Case] = &[
    Case::Add,
    Case::AddPlain,
    Case::Remove,
    Case::RemovePlain,
    Case::Reboot,
    Case::RebootPlain,
    Case::RebootFenced,
    Case::RebootFencedPlain,
    Case::Rebuild,
    Case::RebuildPlain,
    Case::ReplaceFenced,
    Case::ReplaceFencedPlain,
    Case::ReplaceServing,
    Case::ReplaceServingPlain,
    Case::SweepVm,
    Case::SweepVmPlain,
    Case::SweepNode,
];

/// When the program is killed, and what had become of the action under way.
#[derive(Debug, Clone, Copy)]
struct Crash {
    /// After this many records.
    record: usize,
    /// Of the action whose intent that record is.
    fault: Fault,
}

struct Run {
    case: Case,
    world: World,
    pool: PoolSettings,
    limits: Limits,
    epoch: u64,
    old: Option<Machine>,
    operation: Operation,
    records: usize,
    crashes: Vec<Crash>,
    cancel_at: Option<usize>,
    /// Whether the network service failed for so long that the ports are left to the sweep.
    gave_ports_up: bool,
    /// What was tried, for a failing test to say.
    trace: String,
}

impl Case {
    fn kubernetes(self) -> bool {
        !matches!(
            self,
            Self::AddPlain
                | Self::RemovePlain
                | Self::RebootPlain
                | Self::RebootFencedPlain
                | Self::RebuildPlain
                | Self::ReplaceFencedPlain
                | Self::ReplaceServingPlain
                | Self::SweepVmPlain
        )
    }

    /// Whether its old machine works.
    fn serves(self) -> bool {
        matches!(
            self,
            Self::Remove | Self::RemovePlain | Self::ReplaceServing | Self::ReplaceServingPlain
        )
    }
}

impl Run {
    fn new(case: Case) -> Self {
        let mut world = World::new(ID, case.kubernetes());
        let has_old = !matches!(case, Case::Add | Case::AddPlain);
        let old = has_old.then(|| world.member("w-1", case.serves()));
        if let Some(old) = &old {
            world.hand_over(old);
        }
        if case == Case::SweepNode {
            world.lose_vm(old.as_ref());
        }
        let pool = PoolSettings {
            kubernetes: case.kubernetes(),
            labels: BTreeMap::from([("pool".to_owned(), "workers".to_owned())]),
            ..PoolSettings::default()
        };
        let limits = Limits::default();
        let order = match (case, old.clone()) {
            (Case::Add | Case::AddPlain, _) | (_, None) => Order::Add { node: "w-9".into() },
            (Case::Remove | Case::RemovePlain, Some(old)) => Order::Remove { old },
            (Case::Reboot | Case::RebootPlain, Some(old)) => Order::Reboot {
                old,
                fenced_first: false,
            },
            (Case::RebootFenced | Case::RebootFencedPlain, Some(old)) => Order::Reboot {
                old,
                fenced_first: true,
            },
            (Case::Rebuild | Case::RebuildPlain, Some(old)) => Order::Rebuild { old },
            (Case::SweepVm | Case::SweepVmPlain, Some(old)) => Order::Sweep {
                old,
                swept: Swept::Vm,
            },
            (Case::SweepNode, Some(old)) => Order::Sweep {
                old,
                swept: Swept::Node,
            },
            (_, Some(old)) => Order::Replace {
                old,
                node: "w-9".into(),
                fenced_first: !case.serves(),
            },
        };
        let context = Context {
            cluster: "test",
            pool: &pool,
            limits: &limits,
            epoch: 1,
            now: world.now(),
            blind: Blind::default(),
        };
        let operation = Operation::begin(ID, "workers".into(), order, &context);
        Self {
            case,
            world,
            pool,
            limits,
            epoch: 1,
            old,
            operation,
            records: 0,
            crashes: Vec::new(),
            cancel_at: None,
            gave_ports_up: false,
            trace: String::new(),
        }
    }

    fn context(&self) -> Context<'_> {
        Context {
            cluster: "test",
            pool: &self.pool,
            limits: &self.limits,
            epoch: self.epoch,
            now: self.world.now(),
            blind: Blind::default(),
        }
    }

    /// Writes a record: what is read back is what goes on.
    fn record(&mut self, operation: Operation) {
        let line = serde_json::to_string(&operation).unwrap();
        self.operation = serde_json::from_str(&line).unwrap();
        assert_eq!(self.operation, operation, "not the same when read back");
        self.records += 1;
        if self.cancel_at == Some(self.records)
            && let Ok(cancelled) = cancel(&self.operation, "the operator says so")
        {
            self.operation = cancelled;
        }
    }

    /// Kills the program and starts it again, if this is the record to do it after.
    fn crash(&mut self, action: Option<&Action>) -> bool {
        let Some(crash) = self.crashes.first().copied() else {
            return false;
        };
        if crash.record != self.records {
            return false;
        }
        self.crashes.remove(0);
        if let Some(action) = action {
            let _ = self.world.call(action, crash.fault);
        }
        self.world.tick(Duration::from_secs(7));
        self.world.restart();
        self.epoch += 1;
        let resumed = resume(
            &self.operation,
            action.map(|action| action.key),
            &self.context(),
        );
        let again = resume(&resumed, None, &self.context());
        assert_eq!(resumed, again, "taken up twice is not the same as once");
        self.record(resumed);
        true
    }

    /// Runs to the end; `fault` says what is wrong with each action, by its number.
    fn run(&mut self, mut fault: impl FnMut(usize, &Action) -> Fault) -> Ending {
        let started = self.world.clock;
        let mut number = 0;
        let mut moves = 0;
        while self.world.clock.since(started) < PATIENCE {
            let next = advance(&self.operation, &self.world, &self.context());
            let again = advance(&self.operation, &self.world, &self.context());
            assert_eq!(next, again, "asked twice, it answers otherwise");
            match next {
                Next::End(operation, ending) => {
                    self.record(*operation);
                    return ending;
                }
                Next::Move(operation) => {
                    moves += 1;
                    assert!(moves < 50, "it moves without end: {operation:?}");
                    self.record(*operation);
                    self.crash(None);
                }
                Next::Wait { until, .. } => {
                    moves = 0;
                    assert!(until > self.world.now().mono, "a wait that is over");
                    self.world.tick(TICK);
                }
                Next::Act { kind, timeout } => {
                    moves = 0;
                    let action = self.action(kind, timeout);
                    let mut started = self.operation.clone();
                    started.started(action.key);
                    self.record(started);
                    if self.crash(Some(&action)) {
                        continue;
                    }
                    let result = self.world.call(&action, fault(number, &action));
                    number += 1;
                    self.world.tick(TICK);
                    let operation = outcome(
                        &self.operation,
                        action.key,
                        &result,
                        &self.world,
                        &self.context(),
                    );
                    self.record(operation);
                    self.crash(None);
                }
            }
        }
        panic!("{:?} does not end: {:#?}", self.case, self.operation);
    }

    fn action(&self, kind: ActionKind, timeout: Duration) -> Action {
        Action {
            key: self.operation.next_key(),
            epoch: self.epoch,
            pool: self.operation.pool.clone(),
            expires: self.world.now().wall.plus(self.limits.decision_expiry),
            timeout,
            kind,
        }
    }

    /// Exactly the machines wanted, and nothing left over.
    fn assert_clean(&mut self, ending: &Ending) {
        for _ in 0..200 {
            self.world.tick(TICK);
        }
        assert!(
            self.world.settled(),
            "{:?} {}: not at rest",
            self.case,
            self.trace
        );
        assert!(
            !self.world.has_token(),
            "{:?} {}: a token is left",
            self.case,
            self.trace
        );
        if !self.gave_ports_up {
            assert!(
                !self.world.has_ports_left() || self.has_lost_old(),
                "{:?} {}: a port is left",
                self.case,
                self.trace
            );
        }
        let made = self.world.made_vms();
        let done = *ending == Ending::Done;
        if !done && made.is_empty() {
            self.assert_on(ending);
        }
        match self.operation.kind {
            OperationKind::Add => self.assert_new(&made, done, ending),
            OperationKind::Remove | OperationKind::Sweep(_) => self.assert_old(!done, ending),
            OperationKind::Heal(Rung::Reboot) => self.assert_old(true, ending),
            OperationKind::Heal(Rung::Rebuild) => {
                let old = self.old.clone().unwrap();
                let vm = old.vm.unwrap();
                assert!(self.world.has_vm(&vm) || self.world.lost.contains(&vm));
                if done && self.case.kubernetes() {
                    let node = &self.world.nodes[&old.node];
                    assert_ne!(Some(&node.uid), old.uid.as_ref());
                    assert_eq!(node.ready, crate::event::Ready::True);
                }
            }
            OperationKind::Heal(Rung::Replace) => {
                self.assert_new(&made, done, ending);
                self.assert_old(!done, ending);
            }
        }
    }

    /// Whether somebody else took the old VM: its ports are not ours to judge then.
    fn has_lost_old(&self) -> bool {
        let vm = self.old.as_ref().and_then(|old| old.vm.as_ref());
        vm.is_some_and(|vm| self.world.lost.contains(vm))
    }

    /// Whether the node runs on a VM that is somebody else's, or was taken over: it is theirs as well.
    fn is_anothers(&self, node: &NodeView) -> bool {
        if node.vm == Some(VmId::new(world::SOMEBODY_ELSES)) {
            return true;
        }
        let vm = node.vm.as_ref().filter(|vm| self.world.lost.contains(*vm));
        vm.is_some_and(|vm| self.world.has_vm(vm))
    }

    fn assert_new(&self, made: &[VmId], done: bool, ending: &Ending) {
        let node = self.world.nodes.get(&NodeName::new("w-9"));
        if done {
            assert_eq!(made.len(), 1, "{:?}", self.case);
        }
        match made {
            [] => assert!(
                node.is_none_or(|node| self.is_anothers(node)),
                "{:?}: a Node is left ({ending:?})",
                self.case
            ),
            [one] if self.case.kubernetes() => {
                // Whether done or given up late: it serves, so it stays.
                let node = node.expect("a VM without a Node is left");
                assert_eq!(node.vm.as_ref(), Some(one));
                assert_eq!(node.ready, crate::event::Ready::True);
                if done {
                    assert_eq!(node.labels.get("pool"), Some("workers"));
                }
            }
            [one] => {
                // Called off as late as when it serves, it stays.
                let serves = self.world.status_of(one) == Some((ServerStatus::Active, true));
                let late = self.case == Case::AddPlain && serves;
                assert!(
                    done || late
                        || self.case == Case::ReplaceServingPlain
                        || self.case == Case::ReplaceFencedPlain,
                    "{:?}: a VM is left ({ending:?})",
                    self.case
                );
            }
            _ => panic!("{:?}: too many VMs: {made:?} ({ending:?})", self.case),
        }
    }

    /// What was on before it, and was not made anew, is on after it.
    fn assert_on(&self, ending: &Ending) {
        let vm = self.old.as_ref().and_then(|old| old.vm.as_ref());
        let Some(vm) = vm.filter(|vm| !self.world.lost.contains(*vm)) else {
            return;
        };
        if let Some((status, false)) = self.world.status_of(vm) {
            let what = format!("{:?} ({ending:?}) {}", self.case, self.trace);
            assert_ne!(status, ServerStatus::Shutoff, "left off: {what}");
        }
    }

    fn assert_old(&self, stays: bool, ending: &Ending) {
        let what = format!("{:?} ({ending:?}) {}", self.case, self.trace);
        let old = self.old.as_ref().unwrap();
        let vm = old.vm.as_ref().unwrap();
        if !self.world.lost.contains(vm) {
            assert_eq!(self.world.has_vm(vm), stays, "the old VM: {what}");
        }
        let node = self.world.nodes.get(&old.node);
        // A sweep that is called off after a call whose answer was lost does not know what came of
        // it, and may not insist: the Node may live again.
        let asked = self.world.calls.iter().any(|call| call == "delete_node");
        let unknown = stays && self.case == Case::SweepNode && asked;
        if !unknown && !self.world.lost_nodes.contains(&old.node) {
            let node_stays = stays && self.case.kubernetes();
            assert_eq!(node.is_some(), node_stays, "the old Node: {what}");
        }
        let cordoned = node.is_some_and(|node| node.unschedulable);
        assert!(!cordoned, "a cordon is left: {what}");
        let tainted = node.is_some_and(|node| !node.taints.is_empty());
        assert!(!tainted, "it is still out of service: {what}");
    }
}
