//! An operation is over: what it leads to, and what the others count meanwhile.

use crate::cluster::PoolSlot;
use crate::decision::Origin;
use crate::engine::Engine;
use crate::event::Observation;
use crate::journal::Record;
use crate::names::{PoolName, VmId};
use crate::notice::NoticeKind;
use crate::remediation::{Ending, Operation, OperationKind, Phase};
use crate::signals::InFlight;
use crate::time::{Now, show_duration};

impl Engine {
    pub(super) fn end(&mut self, now: Now, over: Operation, ending: &Ending) {
        let pool = over.pool.clone();
        let kind = over.kind;
        let creates = over.creates_vm();
        let name = over.node().map(ToString::to_string).unwrap_or_default();
        let id = over.id;
        let gone = over.committed || matches!(kind, OperationKind::Sweep(_));
        if gone && *ending == Ending::Done {
            self.forget(now, &over);
        }
        for machine in over.machines() {
            if let Some(slot) = self.world.cluster.slot(machine.node.as_str()) {
                self.rules.treated(slot);
            }
        }
        self.emit(Record::Operation {
            operation: Box::new(over),
        });
        let failures = self
            .state
            .circuits
            .get(&pool)
            .map_or(0, |(count, _)| *count);
        match ending {
            Ending::Done if creates && failures > 0 => self.emit(Record::Circuit {
                pool: pool.clone(),
                failures: 0,
                at: now,
            }),
            Ending::Failed(_) if creates => {
                self.emit(Record::Circuit {
                    pool: pool.clone(),
                    failures: failures.saturating_add(1),
                    at: now,
                });
            }
            _ => {}
        }
        if let Ending::Failed(why) | Ending::Cancelled(why) = ending {
            let text = format!("{id} ({name}) ended: {why}");
            self.notice(
                now,
                NoticeKind::OperationEnded,
                true,
                Some(pool.clone()),
                text,
            );
        }
        if *ending != Ending::Done {
            // The same is not begun again at once: the world has to look different first.
            let until = now.mono.plus(self.world.settings.limits.decision_expiry);
            self.quiet.insert(pool.clone(), until);
            let of_operator = |(_, origin): &(u32, Origin)| matches!(origin, Origin::Operator(_));
            let told = self.state.desired.get(&pool).is_some_and(of_operator);
            // What an operator was told stands: another node goes, or this one later.
            if kind == OperationKind::Remove && !told {
                self.keep_size(now, &pool);
            }
        }
        self.count_in_flight();
        self.replan();
    }

    /// The machine is gone from both sides, whatever the last listing still shows.
    fn forget(&mut self, now: Now, over: &Operation) {
        let Some(old) = &over.old else { return };
        let rebuilt = over.new.as_ref().is_some_and(|new| new.vm == old.vm);
        if rebuilt {
            return;
        }
        if let Some(vm) = old.vm.clone() {
            self.see(now, Observation::ServerGone(vm));
        }
        if let Some(uid) = old.uid.clone() {
            let name = old.node.clone();
            self.see(now, Observation::NodeGone { name, uid });
        }
    }

    /// A removal that is not carried out: the pool is to keep the size that it has without it, which
    /// is given if it is another than before.
    pub(super) fn keep_size(&mut self, now: Now, pool: &PoolName) -> Option<u32> {
        let slot = self.world.cluster.pool_slot(pool)?;
        let going = self.removing(pool);
        let size = self.world.sight(now).size(slot).saturating_sub(going);
        let desired = self.state.desired.get(pool).map(|(size, _)| *size);
        if desired.is_none_or(|desired| desired >= size) {
            return None;
        }
        self.emit(Record::Desired {
            pool: pool.clone(),
            size,
            origin: Origin::Bounds,
            at: now,
        });
        Some(size)
    }

    /// VMs that operations have deleted or are deleting: a listing may lack them.
    pub(crate) fn leaving(&self) -> std::collections::BTreeSet<VmId> {
        let going = |operation: &Operation| {
            let swept = matches!(operation.kind, OperationKind::Sweep(_));
            let old = operation
                .old
                .as_ref()
                .filter(|_| operation.committed || swept);
            let undoing = operation.phase != Phase::Doing && operation.creates_vm();
            let new = operation.new.as_ref().filter(|_| undoing);
            let machines = old.into_iter().chain(new);
            let vms: Vec<_> = machines.filter_map(|machine| machine.vm.clone()).collect();
            let twins = operation.twins.iter().map(|twin| twin.id.clone());
            let twins: Vec<_> = twins.chain(operation.dropped.iter().cloned()).collect();
            vms.into_iter().chain(twins)
        };
        self.state.operations.values().flat_map(going).collect()
    }

    /// What is being made, by pool: what makes no VM changes no count.
    pub(crate) fn count_in_flight(&mut self) {
        let mut counts = vec![InFlight::default(); self.world.in_flight.len()];
        let making = self.state.operations.values();
        for operation in making.filter(|operation| operation.creates_vm()) {
            let Some(PoolSlot(pool)) = self.world.cluster.pool_slot(&operation.pool) else {
                continue;
            };
            // A node that has joined while its VM is not listed yet is in no pool: it is counted
            // here until it is.
            let new = operation.new.as_ref();
            let member = new.and_then(|new| self.world.cluster.find(new.node.as_str()));
            let listed = member.is_some_and(|member| member.pool == Some(PoolSlot(pool)));
            let kubernetes = self.world.settings.pools.get(&operation.pool);
            let kubernetes = kubernetes.is_none_or(|settings| settings.kubernetes);
            let serves = member.is_some_and(|member| member.serves(kubernetes));
            // A replacement takes the pods of the old one: it gives no room.
            let adds = operation.kind == OperationKind::Add && operation.phase == Phase::Doing;
            let old = operation.old.as_ref();
            let old = old.and_then(|old| self.world.cluster.find(old.node.as_str()));
            let replaced = old.is_some_and(|old| old.pool == Some(PoolSlot(pool)));
            if let Some(count) = counts.get_mut(usize::from(pool)) {
                count.replaced += u32::from(replaced);
                count.unlisted += u32::from(!listed);
                count.coming += u32::from(adds && !serves);
            }
        }
        self.world.in_flight = counts;
    }

    /// Whether a pool is left alone for now, after something there was not carried out.
    pub(crate) fn is_quiet(&self, now: Now, pool: &PoolName) -> Option<String> {
        let until = self.quiet.get(pool).filter(|until| **until > now.mono)?;
        Some(format!(
            "something failed in {pool} just now: next try in {}",
            show_duration(until.since(now.mono))
        ))
    }
}
