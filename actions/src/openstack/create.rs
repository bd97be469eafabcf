//! The create: exactly one server for an operation, with what is made beside it.
//!
//! ```text
//!   there already? ─▶ quotas ─▶ ports ─▶ POST /servers ──▶ the next flavor or zone, if there is no room
//! ```
//!
//! What was made before a lost answer or a crash is found again by the operation's mark. If the
//! create comes to nothing, the ports go by an action of their own (`ReleasePorts`), which is
//! asked for as often as it takes, after a crash as well.

use std::collections::BTreeMap;

use rhizome_engine::action::{ActionResult, Done, Failure, FailureKind};
use rhizome_engine::names::NodeName;
use secrecy::SecretString;

use super::candidates::Candidate;
use super::client::{Change, Trace};
use super::protocol::{self, Making};
use super::{Machine, Openstack};
use crate::in_hand::InHand;

/// Words of a refusal that another flavor or zone may not meet with.
const ANOTHER_MAY_DO: [&str; 2] = ["flavor ", "availability zone"];

/// What is to be created.
struct Wanted<'a> {
    machine: &'a Machine,
    node: &'a NodeName,
    metadata: &'a BTreeMap<String, String>,
    ports: Option<&'a [String]>,
    user_data: Option<SecretString>,
}

impl Openstack {
    /// Creates the operation's server, unless it is there already: then this very action was
    /// carried out before, and its answer was lost.
    pub(super) async fn create(
        &self,
        hand: &InHand<'_>,
        node: &NodeName,
        marks: &BTreeMap<String, String>,
        trace: &Trace,
    ) -> ActionResult {
        let (machine, user_data) = self.machine(hand.action, node)?;
        if let Some(done) = self.there_already(hand, trace).await? {
            return Ok(done);
        }
        let candidates = self.with_room(hand, machine, trace).await?;
        let ports = self.own_ports(hand, machine, node, trace).await?;
        let operation = hand.action.key.operation;
        let wanted = Wanted {
            machine,
            node,
            metadata: &metadata(machine, marks),
            ports: ports.as_deref(),
            user_data,
        };
        let mut last = None;
        for candidate in candidates {
            match self.create_as(hand, &wanted, candidate, trace).await {
                Err(failure) if another_may_do(&failure) => {
                    let (flavor, zone) = (candidate.flavor, candidate.zone);
                    tracing::warn!(flavor, zone, error = %failure, "no machine can be had like this");
                    let now = self.clock.now().mono;
                    self.candidates.failed(&hand.action.pool, candidate, now);
                    last = Some(failure);
                }
                Err(failure) => return Err(failure),
                Ok(done) => {
                    self.candidates
                        .taken(operation, &hand.action.pool, candidate);
                    return Ok(done);
                }
            }
        }
        let none = || Failure::new(FailureKind::Refused, "the pool names no flavor");
        Err(last.unwrap_or_else(none))
    }

    /// The server of this operation, if a whole list shows it.
    async fn there_already(
        &self,
        hand: &InHand<'_>,
        trace: &Trace,
    ) -> Result<Option<Done>, Failure> {
        let Done::Found { servers, complete } = self.find(hand.action, trace).await? else {
            return Ok(None);
        };
        match servers.as_slice() {
            [] if complete => Ok(None),
            [] => Err(Failure::new(
                FailureKind::Retry { after: None },
                "the list of servers is incomplete: whether this one is there already cannot \
                 be seen, so it is not created",
            )),
            [(vm, _)] => Ok(Some(Done::Created { vm: vm.clone() })),
            several => Err(Failure::new(
                FailureKind::Unknown,
                format!(
                    "{} servers carry the mark of {}",
                    several.len(),
                    hand.action.key.operation
                ),
            )),
        }
    }

    /// The flavors and zones to try for which the quotas are seen to leave room.
    async fn with_room<'a>(
        &self,
        hand: &InHand<'_>,
        machine: &'a Machine,
        trace: &Trace,
    ) -> Result<Vec<Candidate<'a>>, Failure> {
        let now = self.clock.now().mono;
        let mut fitting = Vec::new();
        let mut known: BTreeMap<&str, Option<Failure>> = BTreeMap::new();
        for candidate in self.candidates.order(&hand.action.pool, machine, now) {
            let flavor = candidate.flavor;
            if !known.contains_key(flavor) {
                let room = self.room_for(machine, flavor, trace).await;
                known.insert(flavor, room.err());
            }
            if matches!(known.get(flavor), Some(None)) {
                fitting.push(candidate);
            }
        }
        match known.into_values().flatten().next_back() {
            Some(full) if fitting.is_empty() => Err(full),
            _ => Ok(fitting),
        }
    }

    async fn create_as(
        &self,
        hand: &InHand<'_>,
        wanted: &Wanted<'_>,
        candidate: Candidate<'_>,
        trace: &Trace,
    ) -> ActionResult {
        let making = Making {
            node: wanted.node,
            flavor: candidate.flavor,
            zone: candidate.zone,
            metadata: wanted.metadata,
            tags: vec![hand.action.key.operation.to_string()],
            ports: wanted.ports,
            user_data: wanted.user_data.as_ref(),
        };
        let body = protocol::new_server(wanted.machine, &making);
        let change = Change::create(body, wanted.user_data.clone());
        let answer = self.change(hand, &change, trace).await?;
        // Accepted, but not told which: only a look by the operation's mark can say.
        protocol::created_id(&answer.text)
            .map(|vm| Done::Created { vm })
            .ok_or_else(|| {
                Failure::new(
                    FailureKind::Unknown,
                    "nova accepted the create, but its answer cannot be read",
                )
            })
    }
}

/// The operator's metadata, and our marks over it.
fn metadata(machine: &Machine, marks: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut metadata = machine.metadata.clone();
    metadata.extend(marks.clone());
    metadata
}

/// Whether another flavor or zone may have more luck: nothing happened, and it is about them.
fn another_may_do(failure: &Failure) -> bool {
    let about_it = || {
        let message = failure.message.to_lowercase();
        ANOTHER_MAY_DO.iter().any(|words| message.contains(words))
    };
    match failure.kind {
        FailureKind::NoCapacity => true,
        FailureKind::Refused => about_it(),
        _ => false,
    }
}
