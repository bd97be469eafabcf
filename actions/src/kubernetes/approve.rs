//! Lets in the one machine that a join token was made for.
//!
//! ```text
//!   look at the requests made with the token, and at the node of the name
//!     |- none ------------------------------> wait, and look again, until the time is up
//!     |- one, for this node and no other ---> approved; never a second one
//!     |- one that was approved already -----> done
//!     |- two, or for anything else ---------> Refused: nobody can tell which machine asks
//!     '- the name is another machine's -----> Refused
//! ```
//!
//! A bootstrap token can ask for the certificate of any node, one that exists too, and a
//! request that waits outlives its token. So the tokens' group has no approval of the
//! cluster's own: what is not approved here never becomes a node, be it a twin of the VM, a
//! thief of the token or another machine under a name that is taken.

use std::time::Duration;

use http::{Method, StatusCode};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest as Csr;
use k8s_openapi::api::core::v1::Node;
use rhizome_engine::action::{ActionResult, Done, Failure, FailureKind};
use rhizome_engine::names::{NodeName, VmId};
use rhizome_engine::time::format_duration;
use serde_json::{Value, json};

use super::client::Change;
use super::request::{Subject, subject};
use super::{Approval, Kubernetes, observe};
use crate::in_hand::InHand;
use crate::vault::JoinToken;

/// Where requests for certificates are.
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
/// The signer of kubelets' client certificates.
const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// The organization by which a certificate is a node's.
const NODES: &str = "system:nodes";
/// What a kubelet's client certificate is for; the last with an RSA key alone.
const USAGES: [&str; 3] = ["digital signature", "client auth", "key encipherment"];
/// How long to wait between two looks: a boot takes half a minute and more.
const LOOK_WAIT: Duration = Duration::from_secs(2);

/// Whose request is waited for.
struct Expected<'a> {
    /// The user that the token makes of its holder.
    user: String,
    node: &'a NodeName,
    vm: &'a VmId,
}

/// What is to be done about the requests that there are.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nobody has asked yet.
    Wait,
    /// The one of this name is to be approved.
    Approve(String),
    /// It is in, or was let in.
    Done,
    /// Nobody is let in, for this reason.
    Refuse(String),
}

impl Kubernetes {
    /// Waits for the machine's request and approves it.
    pub(super) async fn approve_join(
        &self,
        hand: &InHand<'_>,
        node: &NodeName,
        vm: &VmId,
    ) -> ActionResult {
        if self.options.approval == Approval::Cluster {
            return Ok(Done::Already);
        }
        let token = JoinToken::id_of(hand.action.key.operation);
        let expected = Expected {
            user: format!("system:bootstrap:{token}"),
            node,
            vm,
        };
        let deadline = self.clock.now().mono.plus(hand.action.timeout);
        loop {
            hand.goes_on()?;
            let (wait, unseen) = match self.look_at_requests(hand, &expected).await {
                Ok(Some(done)) => return Ok(done),
                Ok(None) => (LOOK_WAIT, None),
                Err(Failure {
                    kind: FailureKind::Retry { after },
                    message,
                }) => (after.unwrap_or(LOOK_WAIT).max(LOOK_WAIT), Some(message)),
                Err(failure) => return Err(failure),
            };
            if self.clock.now().mono.plus(wait) >= deadline {
                return Err(match unseen {
                    Some(message) => Failure::new(FailureKind::Retry { after: None }, message),
                    None => Failure::new(
                        FailureKind::TimedOut,
                        format!(
                            "the machine of node `{node}` has not asked for a certificate within {}: \
                             see its console, and whether it reaches the API server",
                            format_duration(hand.action.timeout)
                        ),
                    ),
                });
            }
            self.clock.sleep(wait).await;
        }
    }

    /// One look, and the approval if it is time for it. None: nobody has asked yet.
    async fn look_at_requests(
        &self,
        hand: &InHand<'_>,
        expected: &Expected<'_>,
    ) -> Result<Option<Done>, Failure> {
        let path = format!("{REQUESTS}?fieldSelector=spec.signerName%3D{SIGNER}");
        let requests: Vec<Value> = self.cluster.list("list_requests", &path).await?;
        let path = format!("/api/v1/nodes/{}", expected.node);
        let node: Option<Node> = self.cluster.get("get_node", &path).await?;
        let read: Vec<Csr> = requests
            .iter()
            .filter_map(|request| serde_json::from_value(request.clone()).ok())
            .collect();
        let name = match judge(&read, node.as_ref(), expected) {
            Verdict::Wait => return Ok(None),
            Verdict::Done => return Ok(Some(Done::Already)),
            Verdict::Refuse(why) => return Err(Failure::new(FailureKind::Refused, why)),
            Verdict::Approve(name) => name,
        };
        let request = requests.into_iter().find(|request| {
            request.pointer("/metadata/name").and_then(Value::as_str) == Some(&name)
        });
        let Some(body) = request.map(|request| approved(request, hand, expected)) else {
            return Ok(None);
        };
        let change = Change {
            call: "approve_join",
            method: Method::PUT,
            path: format!("{REQUESTS}/{name}/approval"),
            body,
        };
        let answer = self.send(hand, &change).await?;
        match answer.status {
            // It changed since the look, or is gone: the next look tells.
            StatusCode::CONFLICT | StatusCode::NOT_FOUND => Ok(None),
            _ if answer.is_success() => {
                tracing::info!(request = name, node = %expected.node, vm = %expected.vm, "join approved");
                Ok(Some(Done::Accepted))
            }
            _ => Err(self.cluster.judge(&answer, change.call, true, &[]).await),
        }
    }
}

/// The request with our approval. Its version is kept, so that it is refused if it changed.
fn approved(mut request: Value, hand: &InHand<'_>, expected: &Expected<'_>) -> Value {
    if let Some(object) = request.as_object_mut() {
        object.insert("apiVersion".to_owned(), json!("certificates.k8s.io/v1"));
        object.insert("kind".to_owned(), json!("CertificateSigningRequest"));
        let why = format!(
            "{}: node {} on VM {}",
            hand.action.key.operation, expected.node, expected.vm
        );
        let condition = json!({"type": "Approved", "status": "True",
            "reason": "RhizomeApproved", "message": why});
        object.insert("status".to_owned(), json!({"conditions": [condition]}));
    }
    request
}

fn judge(requests: &[Csr], node: Option<&Node>, expected: &Expected<'_>) -> Verdict {
    let on = node.map(observe::vm_of_node);
    if on
        .as_ref()
        .is_some_and(|on| on.as_ref() == Some(expected.vm))
    {
        return Verdict::Done;
    }
    let ours: Vec<&Csr> = requests
        .iter()
        .filter(|request| request.spec.username.as_deref() == Some(expected.user.as_str()))
        .collect();
    if ours.iter().any(|request| is(request, "Approved")) {
        return Verdict::Done;
    }
    if let Some(on) = on {
        let whose = match on {
            Some(vm) => format!("runs on the VM `{vm}`"),
            None => "says of no VM that it runs on it".to_owned(),
        };
        return Verdict::Refuse(format!(
            "the name `{}` is taken: the node of that name {whose}",
            expected.node
        ));
    }
    match ours.as_slice() {
        [] => Verdict::Wait,
        [request] if is(request, "Denied") => Verdict::Refuse(format!(
            "the certificate of node `{}` was denied by somebody",
            expected.node
        )),
        [request] => match wrong(request, expected.node) {
            Some(what) => Verdict::Refuse(format!(
                "the join token of node `{}` was used for something else: {what}",
                expected.node
            )),
            None => request
                .metadata
                .name
                .clone()
                .map_or(Verdict::Wait, Verdict::Approve),
        },
        several => Verdict::Refuse(format!(
            "{} machines ask for a certificate with the join token of node `{}`: nobody can \
             tell which is the VM `{}`",
            several.len(),
            expected.node,
            expected.vm
        )),
    }
}

fn is(request: &Csr, condition: &str) -> bool {
    request
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|one| one.type_ == condition && one.status == "True")
}

/// What is wrong with a request that the kubelet of `node` should have made.
fn wrong(request: &Csr, node: &NodeName) -> Option<String> {
    if request.spec.signer_name != SIGNER {
        return Some(format!("its signer is `{}`", request.spec.signer_name));
    }
    let usages = request.spec.usages.as_deref().unwrap_or_default();
    if let Some(usage) = usages
        .iter()
        .find(|usage| !USAGES.contains(&usage.as_str()))
    {
        return Some(format!("its usage is `{usage}`"));
    }
    match subject(&request.spec.request.0) {
        Some(Subject {
            organization,
            common_name,
        }) if organization == NODES && common_name == format!("system:node:{node}") => None,
        Some(Subject {
            organization,
            common_name,
        }) => Some(format!("it asks for `{common_name}` of `{organization}`")),
        None => Some("what it asks for is not of a kubelet's form".to_owned()),
    }
}

#[cfg(test)]
mod tests;
