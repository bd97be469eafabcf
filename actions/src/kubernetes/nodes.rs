//! Cordon, label, out of service, delete: each on the node of one name and one uid.
//!
//! A second VM under the name of a Node takes its object over, so a name alone never says
//! which machine is meant. The uid is checked when the node is read, and again by the server
//! as a precondition of the change.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use k8s_openapi::api::core::v1::{Node, Taint};
use rhizome_engine::action::{ActionResult, Done, Failure, FailureKind, NodeRef, mark, taint};
use serde_json::{Value, json};

use super::Kubernetes;
use super::client::Change;
use super::errors::Answer;
use super::observe::is_control_plane;
use crate::in_hand::InHand;

/// How often a change is made anew on what the node has become meanwhile. The kubelet writes
/// its status every few seconds at most, so a second conflict in a row is rare already.
const ATTEMPTS: u32 = 4;

impl Kubernetes {
    /// Makes the node take no new pods, or take them again.
    pub(super) async fn cordon(
        &self,
        hand: &InHand<'_>,
        node: &NodeRef,
        unschedulable: bool,
    ) -> ActionResult {
        let call = if unschedulable { "cordon" } else { "uncordon" };
        self.patch(hand, node, call, |now| {
            let spec = now.spec.as_ref();
            let is = spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
            (is != unschedulable).then(|| {
                // Null takes the field away, as kubectl leaves it.
                let value = if unschedulable {
                    json!(true)
                } else {
                    Value::Null
                };
                json!({"spec": {"unschedulable": value}})
            })
        })
        .await
    }

    /// Puts labels on the node. A node may not give itself a role, so we do.
    pub(super) async fn label(
        &self,
        hand: &InHand<'_>,
        node: &NodeRef,
        labels: &BTreeMap<String, String>,
    ) -> ActionResult {
        self.patch(hand, node, "label_node", |now| {
            let has = now.metadata.labels.clone().unwrap_or_default();
            let missing = labels
                .iter()
                .any(|(key, value)| has.get(key) != Some(value));
            missing.then(|| json!({"metadata": {"labels": labels}}))
        })
        .await
    }

    /// Says that the node is out of service, or takes that back; other taints stay as they are.
    pub(super) async fn out_of_service(
        &self,
        hand: &InHand<'_>,
        node: &NodeRef,
        out: bool,
    ) -> ActionResult {
        let call = if out { "out_of_service" } else { "in_service" };
        self.patch(hand, node, call, |now| {
            let taints = now.spec.as_ref().and_then(|spec| spec.taints.as_ref());
            let all = taints.into_iter().flatten();
            let (ours, others): (Vec<_>, Vec<_>) = all.partition(|one| is_out_of_service(one));
            if ours.is_empty() != out {
                return None;
            }
            // A merge patch replaces the list; the version sees to it that nothing is lost by that.
            let mut wanted: Vec<Value> = others.into_iter().map(|one| json!(one)).collect();
            if out {
                wanted.push(json!({"key": taint::OUT_OF_SERVICE, "value": taint::VALUE,
                    "effect": taint::EFFECT}));
            }
            Some(json!({"spec": {"taints": wanted}}))
        })
        .await
    }

    /// Deletes the Node object.
    pub(super) async fn delete_node(&self, hand: &InHand<'_>, node: &NodeRef) -> ActionResult {
        if self.own(node).await?.is_none() {
            return Ok(Done::Already);
        }
        let change = Change {
            call: "delete_node",
            method: Method::DELETE,
            path: path(node),
            body: json!({
                "apiVersion": "v1",
                "kind": "DeleteOptions",
                "preconditions": {"uid": node.uid},
            }),
        };
        let answer = self.send(hand, &change).await?;
        match answer.status {
            StatusCode::NOT_FOUND if answer.as_status().is_some() => Ok(Done::Already),
            StatusCode::CONFLICT => Err(another(node)),
            _ if answer.is_success() => Ok(Done::Accepted),
            _ => Err(self.cluster.judge(&answer, change.call, true, &[]).await),
        }
    }

    /// Reads the node and makes sure that it is the one that was decided on and may be
    /// touched; none if there is no node of that name and uid any more.
    pub(super) async fn own(&self, node: &NodeRef) -> Result<Option<Node>, Failure> {
        let Some(now) = self.cluster.get::<Node>("get_node", &path(node)).await? else {
            return Ok(None);
        };
        if now.metadata.uid.as_deref() != Some(node.uid.as_str()) {
            return Err(another(node));
        }
        let labels = now.metadata.labels.clone().unwrap_or_default();
        let why = if labels.contains_key(mark::DO_NOT_TOUCH) {
            format!("it has the label `{}`", mark::DO_NOT_TOUCH)
        } else if is_control_plane(&labels) {
            "it is of the control plane".to_owned()
        } else {
            return Ok(Some(now));
        };
        Err(Failure::new(
            FailureKind::NotOwned,
            format!("node `{}` is left alone: {why}", node.name),
        ))
    }

    /// Asks the gate, and makes one mutating call.
    pub(super) async fn send(&self, hand: &InHand<'_>, change: &Change) -> Result<Answer, Failure> {
        let pass = hand.pass(change.call)?;
        let answer = self.cluster.change(pass, change).await;
        hand.answered();
        answer
    }

    /// Patches the node by what `wanted` makes of it as it is now; none is "it is so already".
    async fn patch(
        &self,
        hand: &InHand<'_>,
        node: &NodeRef,
        call: &'static str,
        wanted: impl Fn(&Node) -> Option<Value>,
    ) -> ActionResult {
        for _ in 0..ATTEMPTS {
            let Some(now) = self.own(node).await? else {
                return Err(Failure::new(
                    FailureKind::NotFound,
                    format!("there is no node `{}`", node.name),
                ));
            };
            let Some(mut patch) = wanted(&now) else {
                return Ok(Done::Already);
            };
            // The version makes the server refuse when anything changed since the look, and
            // the uid when the node is another by now.
            let guard = json!({
                "uid": node.uid,
                "resourceVersion": now.metadata.resource_version,
            });
            merge(&mut patch, guard);
            let change = Change {
                call,
                method: Method::PATCH,
                path: path(node),
                body: patch,
            };
            let answer = self.send(hand, &change).await?;
            match answer.status {
                StatusCode::CONFLICT => {}
                _ if answer.is_success() => return Ok(Done::Accepted),
                _ => return Err(self.cluster.judge(&answer, call, true, &[]).await),
            }
        }
        Err(Failure::new(
            FailureKind::Retry { after: None },
            format!(
                "{call}: node `{}` changes faster than we read it",
                node.name
            ),
        ))
    }
}

/// Adds `guard` to the metadata of `patch`.
fn merge(patch: &mut Value, guard: Value) {
    let metadata = patch
        .as_object_mut()
        .map(|object| object.entry("metadata").or_insert_with(|| json!({})));
    if let (Some(Value::Object(metadata)), Value::Object(guard)) = (metadata, guard) {
        metadata.extend(guard);
    }
}

fn is_out_of_service(one: &Taint) -> bool {
    one.key == taint::OUT_OF_SERVICE && one.effect == taint::EFFECT
}

fn path(node: &NodeRef) -> String {
    format!("/api/v1/nodes/{}", node.name)
}

fn another(node: &NodeRef) -> Failure {
    Failure::new(
        FailureKind::NotOwned,
        format!(
            "node `{}` is another by now: its uid is not {}",
            node.name, node.uid
        ),
    )
}
