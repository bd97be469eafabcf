//! What is granted begins: the decision and its operation are journaled, and the first step is
//! taken. How it goes on is `drive.rs`'s.

use crate::cluster::Member;
use crate::decision::{Decision, Proposal, Rung};
use crate::engine::Engine;
use crate::event::ServerStatus;
use crate::guard::domains_of;
use crate::journal::Record;
use crate::names::{NodeName, OperationId, PoolName};
use crate::remediation::{Blind, Context, Machine, Operation, Order, Stopped, Swept};
use crate::time::Now;

/// Letters of a node's name after the pool's: 32^8 names, drawn by hash.
const NAME_LETTERS: usize = 8;

impl Engine {
    /// Begins an addition and says what: one answer is owed for all of a proposal.
    pub(crate) fn begin_add(
        &mut self,
        now: Now,
        pool: &PoolName,
        proposal: &Proposal,
        size: u32,
    ) -> Option<String> {
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
        )
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
        let begun = self.begin(
            now,
            id,
            pool,
            Some(&name),
            Order::Remove { old },
            what,
            proposal,
        );
        self.answer_begun(proposal, begun);
    }

    pub(crate) fn begin_sweep(
        &mut self,
        now: Now,
        pool: &PoolName,
        old: Machine,
        swept: Swept,
        proposal: &Proposal,
    ) {
        let id = self.next_id();
        let name = old.node.clone();
        let what = crate::story::asked(&proposal.ask);
        let order = Order::Sweep { old, swept };
        self.begin(now, id, pool, Some(&name), order, what, proposal);
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
        let fenced_first = self.guard(now).fences_first(member, rung);
        let order = match rung {
            Rung::Reboot => Order::Reboot { old, fenced_first },
            Rung::Rebuild => Order::Rebuild { old },
            Rung::Replace => Order::Replace {
                old,
                node: self.draw_name(pool, id),
                fenced_first,
            },
        };
        let what = format!("{} {}", rung.as_str(), member.name);
        let name = member.name.clone();
        let begun = self.begin(now, id, pool, Some(&name), order, what, proposal);
        self.answer_begun(proposal, begun);
        self.rules.answered(proposal);
    }

    /// Says what has begun, in words; nothing if the pool is not in the configuration.
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
    ) -> Option<String> {
        let settings = self.world.settings.pools.get(pool).cloned()?;
        let begun = format!("{id}: {what}");
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
        let mut operation = Operation::begin(id, pool.clone(), order, &context);
        let vm = operation.old.as_ref().and_then(|old| old.vm.as_ref());
        if vm.is_some_and(|vm| self.state.has_late_stop(vm)) {
            // INVARIANT (I16): it is this one that starts the VM again, or keeps it off.
            operation.stopped = Some(Stopped::Asked);
        }
        // INVARIANT: a crash may fall between any two of these records. A cooldown without its
        // act only waits; an act without its cooldown would come twice.
        self.begin_cooldown(now, &proposal.origin, pool);
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
        if self.state.pools.get(pool) != Some(&settings) {
            self.emit(Record::Pool {
                pool: pool.clone(),
                settings: Box::new(settings),
                at: now,
            });
        }
        self.emit(Record::Operation {
            operation: Box::new(operation),
        });
        self.count_in_flight();
        self.drive_one(now, id);
        Some(begun)
    }

    fn answer_begun(&mut self, proposal: &Proposal, begun: Option<String>) {
        if let Some(begun) = begun {
            self.answer_granted(proposal, &begun);
        }
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
}

fn machine(member: &Member) -> Machine {
    let server = member.server.as_ref();
    Machine {
        node: member.name.clone(),
        uid: member.node.as_ref().map(|node| node.uid.to_string()),
        vm: server.map(|server| server.id.clone()),
        created: server.map(|server| server.created),
        operation: server.and_then(|server| server.operation),
        network: server.and_then(|server| server.network),
        off: server.is_some_and(|server| server.status == ServerStatus::Shutoff),
        stands_on: server.map(domains_of).unwrap_or_default(),
    }
}
