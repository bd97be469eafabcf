//! What a doctor finds: by whose credentials we come, whether the API server answers, whether
//! the clocks agree, and which rights are lacking. Nothing is changed by it.

use http::StatusCode;
use kube::config::Kubeconfig;
use serde_json::{Value, json};

use super::{Access, Approval, Kubernetes};
use crate::Finding;
use crate::findings::clocks;

/// A right: verb, group, resource (with its part after a `/`), namespace and name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Right {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    namespace: &'static str,
    name: &'static str,
}

const fn everywhere(verb: &'static str, group: &'static str, resource: &'static str) -> Right {
    within("", verb, group, resource)
}

const fn within(
    namespace: &'static str,
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
) -> Right {
    Right {
        verb,
        group,
        resource,
        namespace,
        name: "",
    }
}

const CERTIFICATES: &str = "certificates.k8s.io";

/// What we need, as `deploy/rbac.yaml` gives it.
const RIGHTS: [Right; 13] = [
    everywhere("get", "", "nodes"),
    everywhere("list", "", "nodes"),
    everywhere("watch", "", "nodes"),
    everywhere("patch", "", "nodes"),
    everywhere("delete", "", "nodes"),
    everywhere("list", "", "pods"),
    everywhere("watch", "", "pods"),
    everywhere("create", "", "pods/eviction"),
    within("kube-node-lease", "list", "coordination.k8s.io", "leases"),
    within("kube-node-lease", "watch", "coordination.k8s.io", "leases"),
    within("kube-system", "create", "", "secrets"),
    within("kube-system", "patch", "", "secrets"),
    within("kube-system", "delete", "", "secrets"),
];

/// What we need on top of that to let machines in ourselves.
const RIGHTS_TO_APPROVE: [Right; 3] = [
    everywhere("list", CERTIFICATES, "certificatesigningrequests"),
    everywhere(
        "update",
        CERTIFICATES,
        "certificatesigningrequests/approval",
    ),
    Right {
        name: "kubernetes.io/kube-apiserver-client-kubelet",
        ..everywhere("approve", CERTIFICATES, "signers")
    },
];

impl Right {
    /// The body of a `SelfSubjectAccessReview`, which anybody may ask.
    pub(super) fn review(&self) -> Value {
        let (resource, sub) = self.resource.split_once('/').unwrap_or((self.resource, ""));
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"verb": self.verb, "group": self.group,
                "resource": resource, "subresource": sub, "namespace": self.namespace,
                "name": self.name}}})
    }
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        if !self.namespace.is_empty() {
            write!(f, " in {}", self.namespace)?;
        }
        Ok(())
    }
}

impl Kubernetes {
    /// Looks at everything that has to be right before Rhizome can work on the cluster.
    pub async fn examine(&self) -> Vec<Finding> {
        let mut found = vec![Finding::ok("credentials", describe(&self.options.access))];
        let answer = match self.cluster.version().await {
            Ok(answer) => answer,
            Err(failure) => {
                found.push(Finding::bad(
                    "API server",
                    failure.message,
                    "check the address, the way to it, and the CA",
                ));
                return found;
            }
        };
        if answer.status == StatusCode::UNAUTHORIZED {
            found.push(Finding::bad(
                "API server",
                "it does not accept our credentials".to_owned(),
                "get a new token or certificate: they expire",
            ));
            return found;
        }
        let version: Value = serde_json::from_str(&answer.text).unwrap_or_default();
        let version = version.get("gitVersion").and_then(Value::as_str);
        found.push(Finding::ok(
            "API server",
            format!("answers, {}", version.unwrap_or("of unknown version")),
        ));
        let date = answer.date.as_deref();
        found.extend(date.and_then(|date| clocks(self.clock.now().wall, date)));
        found.extend(self.rights().await);
        found.push(match self.look().await {
            Ok(seen) => Finding::ok(
                "inventory",
                format!("{} of nodes, leases and pods read", seen.len()),
            ),
            Err(failure) => Finding::bad("inventory", failure.message, "see the rights above"),
        });
        found
    }

    async fn rights(&self) -> Vec<Finding> {
        let approves = self.options.approval == Approval::Rhizome;
        let more = RIGHTS_TO_APPROVE.iter().filter(|_| approves);
        let (mut had, mut lacking) = (0, Vec::new());
        for right in RIGHTS.iter().chain(more) {
            match self.cluster.may(right).await {
                Ok(true) => had += 1,
                Ok(false) => lacking.push(right.to_string()),
                Err(failure) => {
                    return vec![Finding::bad(
                        "rights",
                        failure.message,
                        "ask again when the API server is ready",
                    )];
                }
            }
        }
        if lacking.is_empty() {
            return vec![Finding::ok("rights", format!("all {had} that are needed"))];
        }
        lacking
            .into_iter()
            .map(|right| {
                let advice = "kubectl apply -f deploy/rbac.yaml, or give this right to our account";
                Finding::bad("rights", format!("lacking: {right}"), advice)
            })
            .collect()
    }
}

/// Where the credentials come from. No part of any of them is told.
fn describe(access: &Access) -> String {
    match access {
        Access::InCluster => "the service account of this pod".to_owned(),
        Access::Url { url, token, .. } => {
            let by = token.as_ref().map_or("none", |_| "a token");
            format!("{by}, for {url}")
        }
        Access::Kubeconfig { path, context } => {
            let file = Kubeconfig::read_from(path).unwrap_or_default();
            let context = context.clone().or(file.current_context).unwrap_or_default();
            let user = file
                .contexts
                .iter()
                .find(|one| one.name == context)
                .and_then(|one| one.context.as_ref()?.user.clone())
                .unwrap_or_default();
            let auth = file
                .auth_infos
                .iter()
                .find(|one| one.name == user)
                .and_then(|one| one.auth_info.clone())
                .unwrap_or_default();
            let by = match auth {
                _ if auth.exec.is_some() => "an exec plugin",
                _ if auth.token.is_some() => "a token (****)",
                _ if auth.token_file.is_some() => "a token from a file",
                _ if auth.client_certificate.is_some()
                    || auth.client_certificate_data.is_some() =>
                {
                    "a client certificate"
                }
                _ => "no credentials",
            };
            format!(
                "{by} of user `{user}`, context `{context}`, from `{}`",
                path.display()
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_is_told_as_people_write_it() {
        let told: Vec<String> = RIGHTS_TO_APPROVE.iter().map(Right::to_string).collect();
        assert_eq!(
            told,
            [
                "list certificatesigningrequests.certificates.k8s.io",
                "update certificatesigningrequests/approval.certificates.k8s.io",
                "approve signers.certificates.k8s.io kubernetes.io/kube-apiserver-client-kubelet",
            ]
        );
        let attributes = &RIGHTS_TO_APPROVE[1].review()["spec"]["resourceAttributes"];
        assert_eq!(attributes["resource"], "certificatesigningrequests");
        assert_eq!(attributes["subresource"], "approval");
    }
}
