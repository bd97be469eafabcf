//! Operations at work: what is granted begins here, and each step is taken when it may be.
//!
//! `remediation` says what comes next; this file asks it, journals what it says and puts the
//! action out. It also holds back: while paused, while the journal fails, and before anything
//! destructive while we cannot see.

use crate::action::{Action, ActionKey, ActionResult};
use crate::cluster::{Member, Node, PoolSlot, Server};
use crate::decision::{Decision, Origin, Proposal, Rung};
use crate::engine::{Answer, Engine};
use crate::event::Observation;
use crate::journal::Record;
use crate::names::{NodeName, OperationId, PoolName, VmId};
use crate::notice::NoticeKind;
use crate::remediation::{
    self, Blind, Context, Ending, Machine, Next, Operation, OperationKind, Order, Phase, Seen,
    Sight,
};
use crate::settings::PoolSettings;
use crate::time::{Now, format_duration};

/// Moves of one operation within one step. A course has some twenty; more is a loop.
const MOVES_AT_ONCE: usize = 64;

/// Letters of a node's name after the pool's: 32^8 names, drawn by hash.
const NAME_LETTERS: usize = 8;

impl Engine {
    pub(crate) fn begin_add(&mut self, now: Now, pool: &PoolName, proposal: &Proposal, size: u32) {
        let id = self.next_id();
        let node = self.draw_name(pool, id);
        let what = format!("add {node} ({size} to {})", size.saturating_add(1));
        self.begin(
            now,
            id,
            pool,
            Some(&node),
            Order::Add { node: node.clone() },
            what,
            proposal,
        );
    }

    pub(crate) fn begin_remove(
        &mut self,
        now: Now,
        pool: &PoolName,
        member: &Member,
        proposal: &Proposal,
    ) {
        let id = self.next_id();
        let old = machine(member);
        let what = format!("remove {}", member.name);
        let name = member.name.clone();
        self.begin(
            now,
            id,
            pool,
            Some(&name),
            Order::Remove { old },
            what,
            proposal,
        );
    }

    pub(crate) fn begin_heal(
        &mut self,
        now: Now,
        pool: &PoolName,
        member: &Member,
        rung: Rung,
        proposal: &Proposal,
    ) {
        let id = self.next_id();
        let old = machine(member);
        let order = match rung {
            Rung::Reboot => Order::Reboot { old },
            Rung::Rebuild => Order::Rebuild { old },
            Rung::Replace => {
                let kubernetes = self
                    .world
                    .settings
                    .pools
                    .get(pool)
                    .is_none_or(|p| p.kubernetes);
                let slot = self.world.cluster.slot(member.name.as_str());
                let suspect = slot.is_some_and(|slot| {
                    self.world.cluster.pool_slot(pool).is_some_and(|pool| {
                        let settings = self.pool_of(pool).map(|(_, settings)| settings);
                        settings.is_some_and(|settings| {
                            self.guard(now).ill(pool, &settings).contains(&slot)
                        })
                    })
                });
                Order::Replace {
                    old,
                    node: self.draw_name(pool, id),
                    // A node that still serves stays until its replacement is Ready (I5).
                    fenced_first: suspect || !member.serves(kubernetes),
                }
            }
        };
        let what = format!("{} {}", rung.as_str(), member.name);
        let name = member.name.clone();
        self.begin(now, id, pool, Some(&name), order, what, proposal);
        self.rules.answered(proposal);
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each is a part of the one decision"
    )]
    fn begin(
        &mut self,
        now: Now,
        id: OperationId,
        pool: &PoolName,
        node: Option<&NodeName>,
        order: Order,
        what: String,
        proposal: &Proposal,
    ) {
        let Some(settings) = self.world.settings.pools.get(pool).cloned() else {
            return;
        };
        let limits = self.world.settings.limits.clone();
        let cluster = self.world.settings.cluster.clone();
        let context = Context {
            cluster: &cluster,
            pool: &settings,
            limits: &limits,
            epoch: self.state.epoch,
            now,
            blind: Blind::default(),
        };
        let operation = Operation::begin(id, pool.clone(), order, &context);
        let rung = match operation.kind {
            OperationKind::Heal(rung) => node.cloned().map(|node| (node, rung)),
            OperationKind::Add | OperationKind::Remove => None,
        };
        // INVARIANT: a crash may fall between any two of these records. A cooldown without its
        // act only waits; an act without its cooldown would come twice. A rung without its
        // operation would be skipped; one too few is only tried once more.
        self.begin_cooldown(now, &proposal.origin, pool);
        self.answer_granted(proposal, &format!("{id}: {what}"));
        self.emit(Record::Decision {
            decision: Decision {
                at: now.wall,
                operation: Some(id),
                pool: pool.clone(),
                node: node.cloned(),
                what,
                origin: proposal.origin.clone(),
                why: proposal.why.clone(),
                evidence: proposal.evidence.clone(),
            },
        });
        self.emit(Record::Operation {
            operation: Box::new(operation),
        });
        if let Some((node, rung)) = rung {
            let at = now;
            self.emit(Record::Rung { node, rung, at });
        }
        self.count_in_flight();
        self.drive_one(now, id);
    }

    fn next_id(&self) -> OperationId {
        OperationId {
            journal: self.state.journal,
            number: self.state.next_operation.max(1),
        }
    }

    /// A name that was never used: drawn from the operation's id, which never comes twice.
    fn draw_name(&self, pool: &PoolName, id: OperationId) -> NodeName {
        use sha2::{Digest, Sha256};
        const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let hash = Sha256::digest(format!("{}/{id}", self.world.settings.cluster));
        let tail: String = hash
            .iter()
            .take(NAME_LETTERS)
            .filter_map(|byte| LETTERS.get(usize::from(*byte) % LETTERS.len()))
            .map(|letter| char::from(*letter))
            .collect();
        NodeName::new(format!("{pool}-{tail}"))
    }

    /// Takes every operation as far as it may go now.
    pub(crate) fn drive(&mut self, now: Now) {
        let ids: Vec<_> = self.state.operations.keys().copied().collect();
        for id in ids {
            self.drive_one(now, id);
        }
    }

    fn drive_one(&mut self, now: Now, id: OperationId) {
        for _ in 0..MOVES_AT_ONCE {
            let Some(operation) = self.state.operations.get(&id) else {
                return;
            };
            let Some(next) = self.next_of(now, operation) else {
                return;
            };
            match next {
                Next::Wait { .. } => return,
                Next::Move(moved) => self.put(now, *moved),
                Next::End(over, ending) => {
                    self.end(now, *over, &ending);
                    return;
                }
                Next::Act { kind, timeout } => {
                    let operation = operation.clone();
                    if let Some(why) = self.forbidden(now, &operation) {
                        self.call_off(now, &operation, &why);
                        continue;
                    }
                    if self.is_too_old(now, &operation) {
                        self.call_off(now, &operation, "not begun before the decision expired");
                        continue;
                    }
                    if kind.mutates() && !self.may_act(now, &operation, kind.destroys()) {
                        return;
                    }
                    let action = Action {
                        key: operation.next_key(),
                        epoch: self.state.epoch,
                        pool: operation.pool.clone(),
                        expires: now.wall.plus(self.world.settings.limits.decision_expiry),
                        timeout,
                        kind,
                    };
                    self.emit(Record::Intent {
                        at: now,
                        action: Box::new(action.clone()),
                    });
                    self.out.actions.push(action);
                    return;
                }
            }
        }
    }

    fn next_of(&self, now: Now, operation: &Operation) -> Option<Next> {
        let settings = self.world.settings.pools.get(&operation.pool)?;
        let eyes = Eyes { engine: self };
        Some(remediation::advance(
            operation,
            &eyes,
            &self.context(now, settings),
        ))
    }

    fn context<'a>(&'a self, now: Now, pool: &'a PoolSettings) -> Context<'a> {
        Context {
            cluster: &self.world.settings.cluster,
            pool,
            limits: &self.world.settings.limits,
            epoch: self.state.epoch,
            now,
            blind: self.guard(now).blind(pool),
        }
    }

    /// I32: a decision that nothing was done for in its time is not carried out any more.
    fn is_too_old(&self, now: Now, operation: &Operation) -> bool {
        let here = remediation::Moment {
            epoch: self.state.epoch,
            at: now,
        };
        !operation.sent
            && operation.sequence == 0
            && operation.phase == Phase::Doing
            && operation.began.until(here) > self.world.settings.limits.decision_expiry
    }

    /// Whether an operation may make its next call now. If not, it stands where it is.
    fn may_act(&self, now: Now, operation: &Operation, destroys: bool) -> bool {
        let paused = &self.state.paused;
        if paused.contains(&None) || paused.contains(&Some(operation.pool.clone())) {
            return false;
        }
        if !self.world.brakes.journal_well {
            return false;
        }
        // What undoes our own half-made machine takes nothing from the workload.
        let forward = operation.phase == Phase::Doing && operation.old.is_some();
        if !destroys || !forward || operation.committed {
            return true;
        }
        let Some(settings) = self.world.settings.pools.get(&operation.pool) else {
            return false;
        };
        self.guard(now).sight_of(settings).is_ok()
    }

    /// A word that came after the decision: a node that an operator protects or takes into
    /// maintenance meanwhile is let go, as long as its VM still is there.
    fn forbidden(&self, now: Now, operation: &Operation) -> Option<String> {
        let old = operation.old.as_ref()?;
        if operation.phase != Phase::Doing || operation.committed {
            return None;
        }
        let node = &old.node;
        if self.guard(now).is_protected(node) {
            return Some(format!("{node} is protected meanwhile"));
        }
        let target = crate::event::Target::Node(node.clone());
        let end = self.state.maintenance.get(&target)?;
        (*end > now.wall).then(|| format!("{node} is in maintenance meanwhile"))
    }

    fn call_off(&mut self, now: Now, operation: &Operation, why: &str) {
        if let Ok(cancelled) = remediation::cancel(operation, why) {
            self.put(now, cancelled);
        }
    }

    /// Takes in how an action ended.
    pub(crate) fn outcome(&mut self, now: Now, key: ActionKey, result: ActionResult) {
        let Some(operation) = self.state.operations.get(&key.operation) else {
            return;
        };
        // An outcome that was taken in before, or of an action given up for lost at a restart.
        if operation.in_flight != Some(key.sequence) {
            return;
        }
        let Some(settings) = self.world.settings.pools.get(&operation.pool) else {
            return;
        };
        let context = self.context(now, settings);
        let moved = remediation::outcome(operation, key, &result, &Eyes { engine: self }, &context);
        self.emit(Record::Outcome {
            at: now,
            key,
            result,
        });
        self.put(now, moved);
        self.drive_one(now, key.operation);
    }

    /// After a start: what was in flight at a crash is taken up again.
    pub(crate) fn resume(&mut self, now: Now) {
        let operations: Vec<_> = self.state.operations.values().cloned().collect();
        for operation in operations {
            let Some(settings) = self.world.settings.pools.get(&operation.pool) else {
                continue;
            };
            let open = self.state.open.keys().copied();
            let open = open.filter(|key| key.operation == operation.id).max();
            let resumed = remediation::resume(&operation, open, &self.context(now, settings));
            if resumed != operation {
                self.put(now, resumed);
            }
        }
    }

    pub(crate) fn cancel(&mut self, now: Now, id: OperationId, who: &str) -> Answer {
        let unknown = (
            crate::decision::Reason::Unknown,
            format!("no operation {id} is under way"),
        );
        let Some(operation) = self.state.operations.get(&id).cloned() else {
            return Answer::Refused(unknown.0, unknown.1);
        };
        match remediation::cancel(&operation, &format!("cancelled by {who}")) {
            Ok(cancelled) => {
                self.put(now, cancelled);
                self.drive_one(now, id);
                Answer::Granted(format!("{id} is called off; what it did is being undone"))
            }
            Err(too_late) => {
                Answer::Refused(crate::decision::Reason::Conflict, too_late.to_string())
            }
        }
    }

    /// Journals an operation as it stands now, and what its end leads to if it is over.
    fn put(&mut self, now: Now, operation: Operation) {
        match operation.phase.clone() {
            Phase::Over { ending } => self.end(now, operation, &ending),
            Phase::Doing | Phase::Undoing { .. } => self.emit(Record::Operation {
                operation: Box::new(operation),
            }),
        }
    }

    fn end(&mut self, now: Now, over: Operation, ending: &Ending) {
        let pool = over.pool.clone();
        let kind = over.kind;
        let creates = over.creates_vm();
        let name = over.node().map(ToString::to_string).unwrap_or_default();
        let id = over.id;
        if over.committed && *ending == Ending::Done {
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
                let failures = failures.saturating_add(1);
                self.emit(Record::Circuit {
                    pool: pool.clone(),
                    failures,
                    at: now,
                });
                if failures >= self.world.settings.limits.circuit_failures {
                    let text =
                        format!("{failures} failures in a row in {pool}: the circuit is open");
                    self.notice(now, NoticeKind::Circuit, true, Some(pool.clone()), text);
                }
            }
            _ => {}
        }
        if let Ending::Failed(why) | Ending::Cancelled(why) = ending {
            let text = format!("{id} ({name}) ended: {why}");
            self.notice(now, NoticeKind::Operation, true, Some(pool.clone()), text);
        }
        if *ending != Ending::Done {
            // The same is not begun again at once: the world has to look different first.
            let until = now.mono.plus(self.world.settings.limits.decision_expiry);
            self.quiet.insert(pool.clone(), until);
            if kind == OperationKind::Remove {
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

    /// A removal that was not carried out: the pool is to keep the size it has.
    fn keep_size(&mut self, now: Now, pool: &PoolName) {
        let Some(slot) = self.world.cluster.pool_slot(pool) else {
            return;
        };
        let size = self.world.sight(now).size(slot);
        let desired = self.state.desired.get(pool).map(|(size, _)| *size);
        if desired.is_some_and(|desired| desired < size) {
            self.emit(Record::Desired {
                pool: pool.clone(),
                size,
                origin: Origin::Bounds,
                at: now,
            });
        }
    }

    /// VMs that operations have deleted or are deleting: a listing may lack them.
    pub(crate) fn leaving(&self) -> std::collections::BTreeSet<VmId> {
        let going = |operation: &Operation| {
            let old = operation.old.as_ref().filter(|_| operation.committed);
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

    /// VMs that are being made and are not listed yet, by pool.
    pub(crate) fn count_in_flight(&mut self) {
        let mut counts = vec![0u32; self.world.in_flight.len()];
        for operation in self.state.operations.values() {
            let Some(PoolSlot(pool)) = self.world.cluster.pool_slot(&operation.pool) else {
                continue;
            };
            // A node that has joined while its VM is not listed yet is in no pool: it is counted
            // here until it is.
            let listed = operation.new.as_ref().is_some_and(|new| {
                let member = self.world.cluster.find(new.node.as_str());
                member.is_some_and(|member| member.pool == Some(PoolSlot(pool)))
            });
            if operation.creates_vm()
                && !listed
                && let Some(count) = counts.get_mut(usize::from(pool))
            {
                *count = count.saturating_add(1);
            }
        }
        self.world.in_flight = counts;
    }

    /// Whether a pool is left alone for now, after something there was not carried out.
    pub(crate) fn is_quiet(&self, now: Now, pool: &PoolName) -> Option<String> {
        let until = self.quiet.get(pool).filter(|until| **until > now.mono)?;
        Some(format!(
            "something failed in {pool} just now: next try in {}",
            format_duration(until.since(now.mono))
        ))
    }
}

fn machine(member: &Member) -> Machine {
    let server = member.server.as_ref();
    Machine {
        node: member.name.clone(),
        uid: member.node.as_ref().map(|node| node.uid.to_string()),
        vm: server.map(|server| server.id.clone()),
        created: server.map(|server| server.created),
        operation: server.and_then(|server| server.operation),
    }
}

/// What operations see of their machines.
struct Eyes<'a> {
    engine: &'a Engine,
}

impl Seen for Eyes<'_> {
    fn server(&self, id: &VmId) -> Sight<Server> {
        let cluster = &self.engine.world.cluster;
        match cluster.server(id) {
            Some(server) => Sight::There(server.clone()),
            None => gone(cluster.servers().read()),
        }
    }

    fn node(&self, name: &NodeName) -> Sight<Node> {
        let cluster = &self.engine.world.cluster;
        match cluster
            .find(name.as_str())
            .and_then(|member| member.node.as_ref())
        {
            Some(node) => Sight::There(node.clone()),
            None => gone(cluster.nodes().read()),
        }
    }

    fn heard(&self, node: &NodeName) -> Option<Now> {
        let slot = self.engine.world.cluster.slot(node.as_str())?;
        let wall = self.engine.world.windows.last_heard(slot)?;
        Some(self.engine.on_this_clock(wall))
    }

    fn lease(&self, node: &NodeName) -> Option<Now> {
        let member = self.engine.world.cluster.find(node.as_str())?;
        let wall = member.node.as_ref()?.renewed?;
        Some(self.engine.on_this_clock(wall))
    }
}

fn gone<T>(read: Option<Now>) -> Sight<T> {
    match read {
        Some(asked) => Sight::Gone { asked },
        None => Sight::Unknown,
    }
}
