//! Requests for certificates: who asks, who approves, and what is issued.
//!
//! ```text
//!   asked ── by a token of kubeadm's group ──▶ approved ──▶ issued
//!     └──── by any other ──▶ waits, until somebody approves or denies it
//! ```
//!
//! Nothing speaks TLS here, so what is issued is a text that nobody else has. Who shows it in the
//! header `client-cert`, as a proxy that ends TLS does (RFC 9440), is taken for the node.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rhizome_engine::time::Timestamp;
use serde_json::{Value, json};

use super::auth::{self, User};
use super::kinds::Kind;
use super::pods::condition;
use crate::json::{set, text, text_or_empty};
use crate::world::{World, seconds};

/// The signer of kubelets' client certificates.
const KUBELET_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";

/// How the subject of a kubelet's certificate begins.
const NODE_USER: &[u8] = b"system:node:";

/// How a joining kubelet stands with its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its token is not accepted.
    Refused,
    /// Nobody has approved it yet.
    Waits,
    /// It has its certificate.
    Issued,
    /// Somebody has denied it.
    Denied,
}

/// What the server adds to a new request.
pub(super) fn prepare(now: Timestamp, user: &User, object: &mut Value) {
    set(object, "/spec/username", user.name());
    set(object, "/spec/groups", user.groups());
    set(object, "/status", json!({}));
    let signer = text_or_empty(object, "/spec/signerName").to_owned();
    // As kubeadm binds it: whoever holds a token of its group gets a kubelet's client
    // certificate at once; nothing else is ever approved by itself.
    let by_itself = matches!(user, User::Bootstrap(bearer) if bearer.is_approved_by_itself());
    if by_itself && signer == KUBELET_SIGNER {
        let now = seconds(now);
        set(
            object,
            "/status/conditions",
            json!([{"type": "Approved", "status": "True", "reason": "AutoApproved",
                "message": "Auto approving kubelet client certificate after SubjectAccessReview.",
                "lastUpdateTime": now, "lastTransitionTime": now}]),
        );
    }
}

/// Dates what an approver has said without a time.
pub(super) fn date_conditions(now: Timestamp, request: &mut Value) {
    if request.pointer("/status/conditions").is_none() {
        return;
    }
    for condition in crate::json::array(request, "/status/conditions") {
        for field in ["/lastUpdateTime", "/lastTransitionTime"] {
            if text(condition, field).is_none() {
                set(condition, field, seconds(now));
            }
        }
    }
}

impl World {
    /// Issues what was approved, as the controller manager does.
    pub(super) fn issue_certificates(&mut self) {
        for key in self.cluster.store.keys(Kind::Csr) {
            let Some(request) = self.cluster.store.get(Kind::Csr, &key.0, &key.1) else {
                continue;
            };
            let signed = text_or_empty(request, "/spec/signerName") == KUBELET_SIGNER;
            if !signed
                || condition(request, "Approved") != Some("True")
                || text(request, "/status/certificate").is_some()
            {
                continue;
            }
            let node = node_of(text_or_empty(request, "/spec/request"));
            let body = STANDARD.encode(format!(
                "stand-in {}",
                text_or_empty(request, "/metadata/uid")
            ));
            let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
            self.cluster.store.update(Kind::Csr, &key, |request| {
                set(request, "/status/certificate", STANDARD.encode(&pem));
            });
            if let Some(node) = node {
                self.cluster.certificates.insert(body, node);
            }
        }
    }

    /// One turn of a kubelet that asks with `token` for the certificate of `node`, under the
    /// name `name`, which follows from its key.
    pub(crate) fn ask_for_certificate(&mut self, token: &str, node: &str, name: &str) -> Standing {
        if let Some(request) = self.cluster.store.get(Kind::Csr, "", name) {
            // A watch that is open outlives the token.
            return if condition(request, "Denied") == Some("True") {
                Standing::Denied
            } else if text(request, "/status/certificate").is_some() {
                Standing::Issued
            } else {
                Standing::Waits
            };
        }
        let Some(bearer) = auth::bearer_of(self, token) else {
            return Standing::Refused;
        };
        let mut request = json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": name},
            "spec": {"request": STANDARD.encode(request_for(node)), "signerName": KUBELET_SIGNER,
                "usages": ["digital signature", "client auth"]},
        });
        prepare(self.now, &User::Bootstrap(bearer), &mut request);
        self.put_object(Kind::Csr, request);
        Standing::Waits
    }
}

/// The node that a request (PEM, in base64) asks to be, by its subject: the name's length
/// stands before it.
fn node_of(request: &str) -> Option<String> {
    let pem = String::from_utf8(STANDARD.decode(request).ok()?).ok()?;
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(body).ok()?;
    let at = der
        .windows(NODE_USER.len())
        .position(|part| part == NODE_USER)?;
    let length = usize::from(*der.get(at.checked_sub(1)?)?);
    let name = der.get(at + NODE_USER.len()..at + length)?;
    String::from_utf8(name.to_vec()).ok()
}

/// A request in PEM (PKCS #10) for the certificate of a node. Key and signature are zeros: only
/// the subject is ever read here.
fn request_for(node: &str) -> String {
    const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
    const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
    const EC_KEY_ON_P256: [&[u8]; 2] = [
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01],
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
    ];
    const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    let name = |kind: &[u8], value: &str| {
        let pair = [der(0x06, kind), der(0x13, value.as_bytes())].concat();
        der(0x31, &der(0x30, &pair))
    };
    let common_name = format!("system:node:{node}");
    let subject = der(
        0x30,
        &[
            name(ORGANIZATION, "system:nodes"),
            name(COMMON_NAME, &common_name),
        ]
        .concat(),
    );
    let algorithm = der(0x30, &EC_KEY_ON_P256.map(|oid| der(0x06, oid)).concat());
    let key = der(0x30, &[algorithm, der(0x03, &[0; 66])].concat());
    let version = der(0x02, &[0]);
    let info = der(0x30, &[version, subject, key, der(0xa0, &[])].concat());
    let signature = [
        der(0x30, &der(0x06, ECDSA_WITH_SHA256)),
        der(0x03, &[0; 65]),
    ];
    let whole = der(0x30, &[info, signature.concat()].concat());
    format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        STANDARD.encode(whole)
    )
}

/// One value in DER: its tag, its length, its content (shorter than 64 KiB).
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let [.., high, low] = content.len().to_be_bytes();
    let length: &[u8] = match (high, low) {
        (0, low @ 0..=0x7f) => &[low],
        (0, low) => &[0x81, low],
        (high, low) => &[0x82, high, low],
    };
    [&[tag], length, content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_is_read_from_the_subject() {
        for name in ["w1", "workers-ubtcrbhq.example.org"] {
            let request = STANDARD.encode(request_for(name));
            assert_eq!(node_of(&request).as_deref(), Some(name));
        }
        assert_eq!(node_of("bm9uc2Vuc2U="), None);
    }
}
