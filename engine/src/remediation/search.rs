//! The search for the VMs of an operation: what is found by its mark, and what that leads to.
//!
//! The cloud knows no idempotency. So a creation of unknown outcome is given time, and is made
//! again only when two whole listings in a row show nothing of it; of several VMs one is kept
//! and the others are deleted by id; and an undo looks until there is none.

use std::time::Duration;

use super::table::Step;
use super::turn::Turn;
use super::{Operation, Sight};
use crate::action::VmRef;
use crate::event::ServerStatus;
use crate::names::VmId;
use crate::time::Timestamp;

/// How often a VM may be asked for by one operation: each time but the last came to nothing.
const CREATES_MAX: u32 = 3;

impl Turn<'_> {
    /// What a search for VMs with the operation's mark leads to.
    pub(super) fn found(
        &self,
        mut operation: Operation,
        servers: &[(VmId, Timestamp)],
        complete: bool,
    ) -> Operation {
        let keep = match operation.step {
            Step::UndoServer => None,
            Step::Tally => operation.new.as_ref().and_then(|new| new.vm.clone()),
            _ => self.first_of(&operation, servers),
        };
        let kept = servers.iter().find(|(id, _)| Some(id) == keep.as_ref());
        if let (Some((id, created)), Some(new)) = (kept, &mut operation.new) {
            new.vm = Some(id.clone());
            new.created = Some(*created);
        }
        operation.search = Some(operation.step);
        operation.twins = servers
            .iter()
            .filter(|(id, _)| Some(id) != keep.as_ref())
            .map(|(id, created)| VmRef {
                id: id.clone(),
                created: *created,
                operation: Some(operation.id),
            })
            .collect();
        if !operation.twins.is_empty() {
            let tries = operation.tries;
            let operation = self.enter(operation, Step::DropTwin);
            return Operation { tries, ..operation };
        }
        if kept.is_some() {
            return self.one_found(operation, servers.len(), complete);
        }
        if !complete || self.still_shown(&operation) {
            operation.none_found = None;
            return self.again_without_end(operation, None);
        }
        self.none_found(operation)
    }

    /// The VM to keep: the one that has joined, else the one that is known, else the oldest.
    fn first_of(&self, operation: &Operation, servers: &[(VmId, Timestamp)]) -> Option<VmId> {
        let new = operation.new.as_ref()?;
        let joined = match self.seen.node(&new.node) {
            Sight::There(node) => node.vm,
            Sight::Unknown | Sight::Gone { .. } => None,
        };
        [joined.as_ref(), new.vm.as_ref()]
            .into_iter()
            .flatten()
            .find_map(|id| servers.iter().find(|(found, _)| found == id))
            .or_else(|| {
                servers
                    .iter()
                    .min_by_key(|(id, created)| (*created, id.clone()))
            })
            .map(|(id, _)| id.clone())
    }

    /// Just the one to keep was found.
    fn one_found(&self, mut operation: Operation, count: usize, complete: bool) -> Operation {
        if complete && count >= operation.creates as usize {
            // Every VM that was asked for is accounted for.
            operation.doubt = None;
        }
        match operation.step {
            Step::Search => self.enter(operation, Step::WaitActive),
            _ if complete => self.pass(operation),
            _ => self.again_without_end(operation, None),
        }
    }

    /// A whole listing shows none. After a doubtful creation it takes two of them, after the
    /// time to settle, to believe it.
    fn none_found(&self, mut operation: Operation) -> Operation {
        let here = self.context.here();
        let limits = self.context.limits;
        let settles = operation
            .doubt
            .map(|since| limits.settle.saturating_sub(since.until(here)))
            .unwrap_or_default();
        if !settles.is_zero() {
            operation.none_found = None;
            return self.paused(operation, settles);
        }
        let waits = match operation.none_found {
            _ if operation.doubt.is_none() => Duration::ZERO,
            Some(first) => limits.settle_again.saturating_sub(first.until(here)),
            None => {
                operation.none_found = Some(here);
                limits.settle_again
            }
        };
        if !waits.is_zero() {
            return self.paused(operation, waits);
        }
        match operation.step {
            Step::Search if operation.creates >= CREATES_MAX => self.give_up(
                operation,
                "the VM never appeared, however often it was asked for",
            ),
            // With a new token: were the lost VM still to come, it could not join.
            Step::Search => self.enter(operation, Step::CreateToken),
            Step::Tally if !self.is_bound(&operation) => self.give_up(operation, "the VM is gone"),
            _ => {
                operation.creates = 0;
                self.pass(operation)
            }
        }
    }

    /// Whether the poll still shows the VM that the search did not find.
    fn still_shown(&self, operation: &Operation) -> bool {
        let vm = operation.new.as_ref().and_then(|new| new.vm.as_ref());
        matches!(
            vm.map(|vm| self.seen.server(vm)),
            Some(Sight::There(server)) if server.status != ServerStatus::Deleted
                && server.operation == Some(operation.id)
        )
    }

    /// One twin is deleted: on to the next, or back to the search that looks whether it is
    /// gone.
    pub(super) fn dropped(&self, mut operation: Operation) -> Operation {
        if !operation.twins.is_empty() {
            let twin = operation.twins.remove(0);
            if !operation.dropped.contains(&twin.id) {
                operation.dropped.push(twin.id);
            }
        }
        let step = match operation.search {
            Some(search) if operation.twins.is_empty() => search,
            _ => Step::DropTwin,
        };
        let tries = operation.tries;
        let operation = self.enter(operation, step);
        self.again_without_end(Operation { tries, ..operation }, None)
    }
}
