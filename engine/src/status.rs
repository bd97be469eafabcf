//! What the engine shows of itself: `/v1/status` and `why`. Reads; never decides.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cluster::{Member, PoolSlot};
use crate::decision::{Decision, Evidence, Refusal};
use crate::engine::Engine;
use crate::event::{PauseSource, Ready, SourceReport, StandingPause, Target};
use crate::names::{NodeName, OperationId, PoolName, RuleId, VmId};
use crate::policy::Verdict;
use crate::remediation::OperationKind;
use crate::signals::{NodeReader, PoolReader, status_word};
use crate::sweep::Unclaimed;
use crate::time::{Now, Timestamp};
use crate::window::NodeSlot;

/// Decisions and refusals shown in a status.
const RECENT_SHOWN: usize = 20;

/// Everything at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The time of it.
    pub at: Timestamp,
    /// The cluster's name.
    pub cluster: String,
    /// How often the program has started on this journal.
    pub epoch: u64,
    /// When it started.
    pub started: Timestamp,
    /// Whether the journal can be written.
    pub journal_well: bool,
    /// The hash of the policies that run.
    pub policies: String,
    /// The pools.
    pub pools: Vec<PoolStatus>,
    /// The inputs.
    pub sources: Vec<SourceReport>,
    /// Brakes that hold: what, since when, why.
    pub brakes: Vec<BrakeStatus>,
    /// Pauses by a file or a ConfigMap.
    #[serde(default)]
    pub pauses: Vec<PauseStatus>,
    /// Operations under way.
    pub operations: Vec<OperationStatus>,
    /// What nobody claims: VMs that are not adopted, what is left over.
    #[serde(default)]
    pub unclaimed: Vec<Unclaimed>,
    /// The last decisions, newest first.
    pub decisions: Vec<Decision>,
    /// The last refusals, newest first.
    pub refusals: Vec<Refusal>,
    /// Records that named nothing in the inventory.
    pub unknown_records: u64,
    /// Some of those names.
    pub unknown_names: Vec<String>,
}

/// A pool at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Its name.
    pub name: PoolName,
    /// Nodes, in flight and silent ones counted.
    pub size: u32,
    /// Nodes that serve.
    pub ready: u32,
    /// The desired size, once known.
    pub desired: Option<u32>,
    /// Bounds.
    pub min: u32,
    /// Bounds.
    pub max: u32,
    /// Whether it, or everything, is paused.
    pub paused: bool,
    /// The end of its maintenance.
    pub maintenance: Option<Timestamp>,
    /// Its nodes.
    pub nodes: Vec<NodeStatus>,
}

/// A node at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: NodeName,
    /// Its VM.
    pub vm: Option<VmId>,
    /// Nova's status of it.
    pub vm_status: Option<String>,
    /// The condition `Ready`; nothing if it is no Kubernetes node (yet).
    pub ready: Option<Ready>,
    /// Whether it is cordoned.
    pub cordoned: bool,
    /// The event time of its agent's last record.
    pub heard: Option<Timestamp>,
    /// Whether it was made by us and may be touched.
    pub owned: bool,
    /// Whether its VM carries our marks: one that is not owned waits to be adopted.
    #[serde(default)]
    pub marked: bool,
    /// Whether it is protected.
    pub protected: bool,
}

/// A pause that stands in a file or a ConfigMap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PauseStatus {
    /// Where.
    pub source: PauseSource,
    /// Since when.
    pub since: Timestamp,
    /// What, by whom and why.
    #[serde(flatten)]
    pub pause: StandingPause,
}

/// A brake that holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BrakeStatus {
    /// Which.
    pub brake: String,
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub detail: String,
}

/// An operation under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationStatus {
    /// Its id.
    pub id: OperationId,
    /// What it is.
    pub kind: OperationKind,
    /// The pool.
    pub pool: PoolName,
    /// The node.
    pub node: Option<NodeName>,
    /// The step it stands at.
    pub step: String,
    /// When it began.
    pub began: Timestamp,
    /// When the step began.
    pub step_began: Timestamp,
    /// What it waits for, or what holds it back.
    #[serde(default)]
    pub waits: String,
}

/// Why a node or pool is treated as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// The node or pool.
    pub target: Target,
    /// The rules that look at it, and what each comes to now.
    pub rules: Vec<RuleStatus>,
    /// What happened to it lately, newest first.
    pub stories: Vec<StoryLine>,
}

/// What a rule comes to now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleStatus {
    /// The rule.
    pub rule: RuleId,
    /// `true`, `false` or `unknown`.
    pub verdict: String,
    /// How long it must hold before the rule acts.
    pub hold: Duration,
    /// For how long it has held.
    pub held: Option<Duration>,
    /// The values that it sees.
    pub evidence: Evidence,
}

/// A decision or refusal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoryLine {
    /// Granted.
    Decision(Decision),
    /// Not granted.
    Refusal(Refusal),
}

impl Engine {
    /// Everything at a glance.
    pub fn status(&self, now: Now) -> Status {
        let (unknown_records, unknown_names) = self.world.cluster.unknown();
        let decisions = self.recent.decisions().take(RECENT_SHOWN);
        let refusals = self.recent.refusals().take(RECENT_SHOWN);
        Status {
            at: now.wall,
            cluster: self.world.settings.cluster.clone(),
            epoch: self.state.epoch,
            started: self.state.started.wall,
            journal_well: self.world.brakes.journal_well,
            policies: self.state.policies.clone(),
            pools: self.pool_statuses(now),
            sources: self.world.brakes.heard(now, &self.world.settings),
            brakes: self.brake_statuses(),
            pauses: self.pause_statuses(),
            operations: self.operation_statuses(now),
            unclaimed: self.unclaimed(now),
            decisions: decisions.cloned().collect(),
            refusals: refusals.cloned().collect(),
            unknown_records,
            unknown_names: unknown_names.to_vec(),
        }
    }

    /// Why a node or pool is treated as it is; nothing if there is no such node or pool.
    pub fn why(&self, now: Now, target: &Target) -> Option<Why> {
        let rules = match target {
            Target::Node(name) => {
                let slot = self.world.cluster.slot(name.as_str())?;
                self.node_rules(now, slot)
            }
            Target::Pool(name) => {
                let slot = self.world.cluster.pool_slot(name)?;
                self.pool_rules(now, slot)
            }
        };
        let about = |pool: &PoolName, node: Option<&NodeName>| match target {
            Target::Node(name) => node == Some(name),
            Target::Pool(name) => pool == name,
        };
        let decisions = self.recent.decisions();
        let decisions = decisions.filter(|one| about(&one.pool, one.node.as_ref()));
        let refusals = self.recent.refusals();
        let refusals = refusals.filter(|one| about(&one.pool, one.node.as_ref()));
        let mut stories: Vec<_> = decisions
            .map(|one| (one.at, StoryLine::Decision(one.clone())))
            .chain(refusals.map(|one| (one.at, StoryLine::Refusal(one.clone()))))
            .collect();
        stories.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        Some(Why {
            target: target.clone(),
            rules,
            stories: stories.into_iter().map(|(_, line)| line).collect(),
        })
    }

    fn node_rules(&self, now: Now, slot: NodeSlot) -> Vec<RuleStatus> {
        let pool = self
            .world
            .cluster
            .member(slot)
            .and_then(|member| member.pool);
        let sight = self.world.sight(now);
        let policies = self.rules.policies();
        let places = pool.map_or(&[][..], |pool| self.rules.of_nodes(pool));
        places
            .iter()
            .filter_map(|place| {
                let rule = policies.rules().get(*place)?;
                let mut reader = NodeReader { sight, slot };
                let verdict = policies.verdict(*place, &mut reader);
                Some(RuleStatus {
                    rule: rule.id.clone(),
                    verdict: word(verdict).to_owned(),
                    hold: rule.hold,
                    held: self.rules.held_for(*place, slot.0 as usize, now.mono),
                    evidence: policies.evidence(*place, &mut reader),
                })
            })
            .collect()
    }

    fn pool_rules(&self, now: Now, pool: PoolSlot) -> Vec<RuleStatus> {
        let sight = self.world.sight(now);
        let policies = self.rules.policies();
        self.rules
            .of_pool(pool)
            .iter()
            .filter_map(|place| {
                let rule = policies.rules().get(*place)?;
                let mut reader = PoolReader { sight, pool };
                let verdict = policies.verdict(*place, &mut reader);
                Some(RuleStatus {
                    rule: rule.id.clone(),
                    verdict: word(verdict).to_owned(),
                    hold: rule.hold,
                    held: self.rules.held_for(*place, usize::from(pool.0), now.mono),
                    evidence: policies.evidence(*place, &mut reader),
                })
            })
            .collect()
    }

    fn pool_statuses(&self, now: Now) -> Vec<PoolStatus> {
        let sight = self.world.sight(now);
        let status = |(slot, name): (PoolSlot, &PoolName)| {
            let settings = self.world.settings.pools.get(name)?;
            let nodes = self.world.cluster.in_pool(slot);
            Some(PoolStatus {
                name: name.clone(),
                size: sight.size(slot),
                ready: sight.ready(slot),
                desired: self.state.desired.get(name).map(|(size, _)| *size),
                min: settings.min,
                max: settings.max,
                paused: self.state.pause_of(name).is_some(),
                maintenance: self
                    .state
                    .maintenance
                    .get(&Target::Pool(name.clone()))
                    .filter(|end| **end > now.wall)
                    .copied(),
                nodes: nodes
                    .iter()
                    .filter_map(|slot| {
                        Some(self.node_status(*slot, self.world.cluster.member(*slot)?))
                    })
                    .collect(),
            })
        };
        self.world.cluster.pools().filter_map(status).collect()
    }

    fn node_status(&self, slot: NodeSlot, member: &Member) -> NodeStatus {
        let server = member.server.as_ref();
        NodeStatus {
            name: member.name.clone(),
            vm: server.map(|server| server.id.clone()),
            vm_status: server.map(|server| status_word(&server.status).to_owned()),
            ready: member.node.as_ref().map(|node| node.ready),
            cordoned: member.node.as_ref().is_some_and(|node| node.cordoned),
            heard: self.world.windows.last_heard(slot),
            marked: server.is_some_and(|server| server.marked),
            owned: server
                .is_some_and(|server| server.marked && self.state.owned.contains_key(&server.id)),
            protected: self.state.protected.contains(&member.name)
                || server.is_some_and(|server| server.protected)
                || member.node.as_ref().is_some_and(|node| node.protected),
        }
    }

    fn brake_statuses(&self) -> Vec<BrakeStatus> {
        let name = |brake: &crate::journal::Brake| match brake {
            crate::journal::Brake::Storm(pool) => format!("storm {pool}"),
            crate::journal::Brake::Domain(domain) => format!("storm {domain}"),
            crate::journal::Brake::Blind(source) => format!("blind {}", source.as_str()),
            crate::journal::Brake::Inventory(source) => format!("inventory {}", source.as_str()),
            crate::journal::Brake::Clock => "clock".to_owned(),
            crate::journal::Brake::Pause(source) => format!("pause {}", source.as_str()),
        };
        self.state
            .brakes
            .iter()
            .map(|(brake, (since, detail))| BrakeStatus {
                brake: name(brake),
                since: since.wall,
                detail: detail.clone(),
            })
            .collect()
    }

    fn pause_statuses(&self) -> Vec<PauseStatus> {
        let standing = self.state.standing.iter();
        standing
            .map(|(source, (since, pause))| PauseStatus {
                source: *source,
                since: *since,
                pause: pause.clone(),
            })
            .collect()
    }

    fn operation_statuses(&self, now: Now) -> Vec<OperationStatus> {
        self.state
            .operations
            .values()
            .map(|operation| OperationStatus {
                id: operation.id,
                kind: operation.kind,
                pool: operation.pool.clone(),
                node: operation.node().cloned(),
                step: operation.step.as_str().to_owned(),
                began: operation.began.at.wall,
                step_began: operation.step_began.at.wall,
                waits: self.waits_for(now, operation),
            })
            .collect()
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::True => "true",
        Verdict::False => "false",
        Verdict::Unknown => "unknown",
    }
}
