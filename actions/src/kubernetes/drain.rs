//! Empties a node by the Eviction API, pod by pod, within the action's time.
//!
//! ```text
//!   look at the node and its pods --- one may not go ---------> Blocked, naming it
//!        |        ^                   none is left -----------> Drained
//!        v        | wait              time is up -------------> TimedOut, naming what was left
//!   evict each pod that is not yet going, one pass each
//! ```
//!
//! The gate is asked at each look too, so that a drain that is called off ends there, whatever it
//! waits for.
//!
//! Nothing is forced: pods keep their own grace, and budgets are honoured. An eviction whose
//! answer was lost may be asked for again, because it names the pod by its uid.

use std::time::Duration;

use http::Method;
use k8s_openapi::api::core::v1::Pod;
use rhizome_engine::action::{ActionResult, Done, Failure, FailureKind, NodeRef};
use rhizome_engine::time::show_duration;
use serde_json::json;

use super::Kubernetes;
use super::client::Change;
use super::errors::Eviction;
use super::pods::{self, Plan};
use crate::in_hand::InHand;

/// How long to wait before a budget is asked again, if it does not say (kubectl waits as long).
const BUDGET_WAIT: Duration = Duration::from_secs(5);
/// How long to wait when the API server has too much to do, if it does not say.
const LOAD_WAIT: Duration = Duration::from_secs(2);
/// How long to wait between two looks at pods that are on their way out.
const LOOK_WAIT: Duration = Duration::from_secs(2);
/// How many names of pods a message holds.
const MAX_NAMED: usize = 5;

/// What came of asking for one eviction.
enum Asked {
    /// It goes, or is gone.
    Goes { counted: bool },
    /// Not now: wait this long, for this reason.
    NotNow(Duration, String),
    /// The API server has too much to do: ask for no more in this round.
    Busy(Duration),
}

impl Kubernetes {
    /// Drains the node.
    pub(super) async fn drain(&self, hand: &InHand<'_>, node: &NodeRef) -> ActionResult {
        let deadline = self.clock.now().mono.plus(hand.action.timeout);
        let mut evicted = 0;
        let mut obstacle = String::new();
        loop {
            hand.goes_on()?;
            let left = match self.left_on(node).await {
                Ok(left) => left,
                // A look that failed says nothing about the pods; the next one may.
                Err(Failure {
                    kind: FailureKind::Retry { after },
                    message,
                }) => {
                    let wait = after.unwrap_or(LOAD_WAIT);
                    obstacle = message;
                    if self.clock.now().mono.plus(wait) >= deadline {
                        return Err(timed_out(hand, node, &[], &obstacle));
                    }
                    self.clock.sleep(wait).await;
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            if left.is_empty() {
                return Ok(Done::Drained { evicted });
            }
            let mut wait = LOOK_WAIT;
            obstacle.clear();
            for pod in &left {
                if pods::plan(pod, &self.options) != Plan::Evict {
                    continue;
                }
                if self.clock.now().mono >= deadline {
                    break;
                }
                match self.evict(hand, pod).await? {
                    Asked::Goes { counted } => evicted += u32::from(counted),
                    Asked::NotNow(longer, why) => {
                        wait = wait.max(longer);
                        obstacle = why;
                    }
                    Asked::Busy(longer) => {
                        wait = wait.max(longer);
                        break;
                    }
                }
            }
            if self.clock.now().mono.plus(wait) >= deadline {
                return Err(timed_out(hand, node, &left, &obstacle));
            }
            self.clock.sleep(wait).await;
        }
    }

    /// The pods that must still go; a failure if the node is not the one that was decided on,
    /// or if a pod may not go at all.
    async fn left_on(&self, node: &NodeRef) -> Result<Vec<Pod>, Failure> {
        if self.own(node).await?.is_none() {
            // Its pods go with it.
            return Ok(Vec::new());
        }
        let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", node.name);
        let mut left = Vec::new();
        for pod in self.cluster.list::<Pod>("list_pods", &path).await? {
            match pods::plan(&pod, &self.options) {
                Plan::Leave => {}
                Plan::Wait | Plan::Evict => left.push(pod),
                Plan::Blocks(why) => {
                    return Err(blocked(&format!(
                        "pod `{}` may not be evicted: {why}",
                        pods::name(&pod)
                    )));
                }
            }
        }
        Ok(left)
    }

    /// Asks for the eviction of one pod, by its uid.
    async fn evict(&self, hand: &InHand<'_>, pod: &Pod) -> Result<Asked, Failure> {
        let name = pods::name(pod);
        let (namespace, bare) = name.split_once('/').unwrap_or(("default", &name));
        let change = Change {
            call: "evict",
            method: Method::POST,
            path: format!("/api/v1/namespaces/{namespace}/pods/{bare}/eviction"),
            // No grace period is said: the pod's own holds.
            body: json!({
                "apiVersion": "policy/v1",
                "kind": "Eviction",
                "metadata": {"name": bare, "namespace": namespace},
                "deleteOptions": {"preconditions": {"uid": pod.metadata.uid}},
            }),
        };
        let answer = match self.send(hand, &change).await {
            Ok(answer) => answer,
            Err(failure) if matches!(failure.kind, FailureKind::Gate) => return Err(failure),
            // Lost: the next look shows whether the pod goes.
            Err(failure) => return Ok(Asked::NotNow(LOAD_WAIT, failure.message)),
        };
        Ok(match answer.eviction() {
            Eviction::Accepted => {
                tracing::info!(pod = name, "pod evicted");
                Asked::Goes { counted: true }
            }
            Eviction::Gone => Asked::Goes { counted: false },
            Eviction::Budget(budget, wait) => {
                tracing::debug!(pod = name, %budget, "eviction waits for a disruption budget");
                let why = format!("pod `{name}` waits for its disruption budget: {budget}");
                Asked::NotNow(wait.unwrap_or(BUDGET_WAIT), why)
            }
            Eviction::Load(wait) => Asked::Busy(wait.unwrap_or(LOAD_WAIT)),
            Eviction::NamespaceEnds => Asked::NotNow(
                BUDGET_WAIT,
                format!("the namespace of pod `{name}` is being deleted"),
            ),
            Eviction::TwoBudgets => {
                return Err(blocked(&format!(
                    "pod `{name}` has more than one disruption budget, so the API evicts it \
                     never: leave it one"
                )));
            }
            Eviction::Other => {
                let failure = self.cluster.judge(&answer, "evict", true, &[]).await;
                match failure.kind {
                    FailureKind::Refused => return Err(failure),
                    _ => Asked::NotNow(BUDGET_WAIT, failure.message),
                }
            }
        })
    }
}

fn blocked(why: &str) -> Failure {
    Failure::new(FailureKind::Blocked, why)
}

fn timed_out(hand: &InHand<'_>, node: &NodeRef, left: &[Pod], obstacle: &str) -> Failure {
    let names: Vec<String> = left.iter().take(MAX_NAMED).map(pods::name).collect();
    let why = if obstacle.is_empty() {
        "the pods take long to end"
    } else {
        obstacle
    };
    Failure::new(
        FailureKind::TimedOut,
        format!(
            "node `{}` is not empty after {}: {} pods are left ({}); {why}",
            node.name,
            show_duration(hand.action.timeout),
            left.len(),
            names.join(", ")
        ),
    )
}
