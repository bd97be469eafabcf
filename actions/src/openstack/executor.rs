//! Actions on servers: look, check that it is ours, pass the gate, call once.
//!
//! Nothing is changed that was not read by its id just before and found to be the very server
//! that was decided on: owner, cluster, pool, creation time and operation.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use rhizome_engine::action::{
    Action, ActionKind, ActionResult, Done, Failure, FailureKind, VmRef, mark,
};
use rhizome_engine::event::{Observation, ServerStatus};
use rhizome_engine::names::NodeName;
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::client::{Answer, Change, ChangeError, Trace};
use super::protocol::{self, ServerBody};
use super::{Machine, Openstack};
use crate::in_hand::InHand;
use crate::user_data::Facts;
use crate::{Executor, Gate, Seen};

#[async_trait]
impl Executor for Openstack {
    async fn execute(&self, action: &Action, gate: Arc<dyn Gate>) -> ActionResult {
        let trace = Trace::new();
        tracing::info!(
            action = action.kind.name(),
            key = %action.key,
            global_request_id = trace.id(),
            "acting on openstack"
        );
        let hand = InHand::new(action, gate.as_ref());
        let result = hand
            .within(self.clock.as_ref(), self.act(&hand, &trace))
            .await;
        self.nudge.notify_one();
        result
    }

    async fn observe(&self) -> Result<Vec<Observation>, Failure> {
        Ok(vec![self.listing(&Trace::new()).await?.0])
    }

    async fn watch(&self, out: mpsc::Sender<Seen>, stop: CancellationToken) {
        // Dropped wherever it stands, so that a hanging answer does not hold up the end.
        tokio::select! {
            () = self.poll(out) => {}
            () = stop.cancelled() => {}
        }
    }
}

impl Openstack {
    async fn act(&self, hand: &InHand<'_>, trace: &Trace) -> ActionResult {
        match &hand.action.kind {
            ActionKind::CreateServer { node, metadata } => {
                self.create(hand, node, metadata, trace).await
            }
            ActionKind::FindServer => self.find(hand.action, trace).await,
            ActionKind::RebootServer { vm, hard } => self.reboot(hand, vm, *hard, trace).await,
            ActionKind::StopServer { vm } => self.stop(hand, vm, trace).await,
            ActionKind::StartServer { vm } => self.start(hand, vm, trace).await,
            ActionKind::RebuildServer { vm, node, metadata } => {
                self.rebuild(hand, vm, node, metadata, trace).await
            }
            ActionKind::DeleteServer { vm } => self.delete(hand, vm, trace).await,
            ActionKind::ReleasePorts { operation } => self.release(hand, *operation, trace).await,
            other => Err(Failure::new(
                FailureKind::Refused,
                format!("`{}` is not openstack's to carry out", other.name()),
            )),
        }
    }

    /// Looks for servers with this operation's mark, over all statuses, by our own filter.
    pub(super) async fn find(&self, action: &Action, trace: &Trace) -> ActionResult {
        let marked = |server: ServerBody| {
            (server.ours(&self.options.cluster)
                && server.operation() == Some(action.key.operation)
                && server.status() != ServerStatus::Deleted)
                .then(|| (server.id.as_str().into(), server.created()))
        };
        let listing = self.nova.servers(trace, marked).await?;
        Ok(Done::Found {
            complete: listing.complete(),
            servers: listing.servers,
        })
    }

    async fn reboot(
        &self,
        hand: &InHand<'_>,
        vm: &VmRef,
        hard: bool,
        trace: &Trace,
    ) -> ActionResult {
        self.own(hand.action, vm, trace).await?;
        self.change(hand, &Change::reboot(&vm.id, hard)?, trace)
            .await?;
        Ok(Done::Accepted)
    }

    async fn stop(&self, hand: &InHand<'_>, vm: &VmRef, trace: &Trace) -> ActionResult {
        if self.own(hand.action, vm, trace).await?.status() == ServerStatus::Shutoff {
            return Ok(Done::Already);
        }
        self.change(hand, &Change::stop(&vm.id)?, trace).await?;
        Ok(Done::Accepted)
    }

    /// One that runs is left alone. One that Nova has at work on is asked for all the same: its
    /// refusal says to wait.
    async fn start(&self, hand: &InHand<'_>, vm: &VmRef, trace: &Trace) -> ActionResult {
        let server = self.own(hand.action, vm, trace).await?;
        if server.status() == ServerStatus::Active && server.idle() {
            return Ok(Done::Already);
        }
        self.change(hand, &Change::start(&vm.id)?, trace).await?;
        Ok(Done::Accepted)
    }

    async fn rebuild(
        &self,
        hand: &InHand<'_>,
        vm: &VmRef,
        node: &NodeName,
        marks: &BTreeMap<String, String>,
        trace: &Trace,
    ) -> ActionResult {
        let server = self.there(vm, trace).await?;
        // Already this operation's, and not yet when it was decided on: this very action was
        // carried out before, and its answer was lost. Once more would undo the join, and so
        // would another token: the look comes first.
        let rebuilt = VmRef {
            operation: Some(hand.action.key.operation),
            ..vm.clone()
        };
        if *vm != rebuilt && self.not_the_one(&server, hand.action, &rebuilt).is_none() {
            return Ok(Done::Already);
        }
        let server = self.owned(server, hand.action, vm)?;
        let (machine, user_data) = self.machine(hand.action, node)?;
        // Nova puts this in the place of all metadata, so what others wrote there is sent back.
        let mut metadata = server.metadata.unwrap_or_default();
        metadata.extend(marks.clone());
        let body = protocol::rebuild(machine, &metadata, user_data.as_ref());
        self.change(hand, &Change::rebuild(&vm.id, &body, user_data)?, trace)
            .await?;
        Ok(Done::Accepted)
    }

    async fn delete(&self, hand: &InHand<'_>, vm: &VmRef, trace: &Trace) -> ActionResult {
        // An absence in a list proves nothing: the poll asks for this one by its id.
        self.touched.insert(vm.id.clone(), ());
        match self.own(hand.action, vm, trace).await {
            Err(failure) if failure.kind == FailureKind::NotFound => return Ok(Done::Already),
            owned => owned?,
        };
        match self.change(hand, &Change::delete(&vm.id)?, trace).await {
            Err(failure) if failure.kind == FailureKind::NotFound => Ok(Done::Already),
            Err(failure) => Err(failure),
            Ok(_) => Ok(Done::Accepted),
        }
    }

    /// What the pool's machines are made of, and the user data of this one.
    pub(super) fn machine(
        &self,
        action: &Action,
        node: &NodeName,
    ) -> Result<(&Machine, Option<SecretString>), Failure> {
        let machine = self.options.machines.get(&action.pool).ok_or_else(|| {
            Failure::new(
                FailureKind::Refused,
                format!(
                    "the configuration does not say what the machines of pool `{}` are made of",
                    action.pool
                ),
            )
        })?;
        let operation = action.key.operation;
        let token = self.vault.get(operation, self.clock.now().wall);
        let user_data = machine
            .user_data
            .as_ref()
            .map(|template| {
                template.render(&Facts {
                    node,
                    pool: &action.pool,
                    operation,
                    token: token.as_ref().filter(|_| template.kubernetes()),
                })
            })
            .transpose()?;
        Ok((machine, user_data))
    }

    /// Reads the server by its id and makes sure that it is the one that was decided on.
    async fn own(&self, action: &Action, vm: &VmRef, trace: &Trace) -> Result<ServerBody, Failure> {
        let server = self.there(vm, trace).await?;
        self.owned(server, action, vm)
    }

    /// Reads the server by its id.
    async fn there(&self, vm: &VmRef, trace: &Trace) -> Result<ServerBody, Failure> {
        let server = self.nova.server(&vm.id, trace).await?;
        if server.unknown() {
            return Err(Failure::new(
                FailureKind::Retry { after: None },
                format!(
                    "the cell of server {} is down: its marks cannot be read",
                    vm.id
                ),
            ));
        }
        if server.status() == ServerStatus::Deleted {
            return Err(Failure::new(
                FailureKind::NotFound,
                format!("server {} is deleted", vm.id),
            ));
        }
        Ok(server)
    }

    /// Makes sure that the server is the one that was decided on.
    fn owned(
        &self,
        server: ServerBody,
        action: &Action,
        vm: &VmRef,
    ) -> Result<ServerBody, Failure> {
        match self.not_the_one(&server, action, vm) {
            None => Ok(server),
            Some(why) => Err(Failure::new(
                FailureKind::NotOwned,
                format!("server {} is left alone: {why}", vm.id),
            )),
        }
    }

    /// Why `server` may not be touched for `action`; none if it may.
    fn not_the_one(&self, server: &ServerBody, action: &Action, vm: &VmRef) -> Option<String> {
        if server.mark(mark::DO_NOT_TOUCH).is_some() {
            return Some(format!("it is marked `{}`", mark::DO_NOT_TOUCH));
        }
        for (name, wanted) in [
            (mark::OWNER, mark::OWNER_VALUE),
            (mark::CLUSTER, self.options.cluster.as_str()),
            (mark::POOL, action.pool.as_str()),
        ] {
            if server.mark(name) != Some(wanted) {
                return Some(format!("its mark `{name}` is not `{wanted}`"));
            }
        }
        if server.created() != vm.created {
            return Some(format!(
                "it was created at {} and not at {}",
                server.created(),
                vm.created
            ));
        }
        // Compared as text, so that a mark that cannot be read is not taken for none.
        let operation = vm.operation.map(|operation| operation.to_string());
        (server.mark(mark::OPERATION) != operation.as_deref())
            .then(|| "it carries the mark of another operation".to_owned())
    }

    /// Makes one mutating call: token, gate, call. A refused token is renewed once, and the
    /// gate asked anew, because a renewal takes time in which a pause may come.
    pub(super) async fn change(
        &self,
        hand: &InHand<'_>,
        change: &Change,
        trace: &Trace,
    ) -> Result<Answer, Failure> {
        let mut renewed = false;
        loop {
            let token = self.nova.ready().await?;
            let pass = hand.pass(change.call)?;
            let sent = self.nova.change(pass, &token, change, trace).await;
            hand.answered();
            match sent {
                Ok(answer) => {
                    hand.accepted();
                    return Ok(answer);
                }
                Err(ChangeError::Unauthorized(_)) if !renewed => {
                    renewed = true;
                    self.nova.forget(&token).await;
                }
                Err(ChangeError::Unauthorized(failure) | ChangeError::Failed(failure)) => {
                    return Err(failure);
                }
            }
        }
    }
}
