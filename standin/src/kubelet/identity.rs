//! A key, a request for its certificate by the bootstrap token, and the certificate.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Api, JoinError, refused};
use crate::json::{items, text};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
/// How often it is looked whether the certificate is there.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Obtains the certificate of `node`, with its key.
pub(super) async fn obtain(api: &Api, node: &str) -> Result<reqwest::Identity, JoinError> {
    let (certificate, key) = ask(api, node).await?;
    let pem = format!("{certificate}{}", key.serialize_pem());
    Ok(reqwest::Identity::from_pem(pem.as_bytes())?)
}

/// Asks for the certificate of `node`, and waits until it is issued: in PEM, and its key.
pub(super) async fn ask(api: &Api, node: &str) -> Result<(String, KeyPair), JoinError> {
    let unusable = |error: rcgen::Error| JoinError::Unusable(format!("no key: {error}"));
    // kubeadm's own check, which keeps a second machine from taking a node over.
    let (status, there) = api
        .ask(Method::GET, &format!("/api/v1/nodes/{node}"), &Value::Null)
        .await?;
    match status {
        StatusCode::OK if is_ready(&there) => return Err(JoinError::NameTaken(node.to_owned())),
        StatusCode::OK | StatusCode::NOT_FOUND => {}
        _ => return Err(refused("the node of its name", status, &there)),
    }
    let key = KeyPair::generate().map_err(unusable)?;
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters
        .distinguished_name
        .push(DnType::OrganizationName, "system:nodes");
    parameters
        .distinguished_name
        .push(DnType::CommonName, format!("system:node:{node}"));
    let request = parameters
        .serialize_request(&key)
        .and_then(|request| request.pem())
        .map_err(unusable)?;
    let hash = Sha256::digest(&request);
    let end: String = hash
        .iter()
        .take(10)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let name = format!("node-csr-{end}");
    let body = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {"request": STANDARD.encode(&request), "usages": ["digital signature", "client auth"],
            "signerName": "kubernetes.io/kube-apiserver-client-kubelet"}});
    api.insist("a certificate", Method::POST, REQUESTS, &body)
        .await?;
    let path = format!("{REQUESTS}/{name}");
    loop {
        let now = api
            .insist("its certificate", Method::GET, &path, &Value::Null)
            .await?;
        if items(&now, "/status/conditions").any(|one| text(one, "/type") == Some("Denied")) {
            return Err(JoinError::Denied);
        }
        if let Some(encoded) = text(&now, "/status/certificate") {
            let pem = STANDARD
                .decode(encoded)
                .ok()
                .and_then(|pem| String::from_utf8(pem).ok())
                .ok_or_else(|| JoinError::Unusable("no certificate in PEM".to_owned()))?;
            return Ok((pem, key));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn is_ready(node: &Value) -> bool {
    items(node, "/status/conditions")
        .any(|one| text(one, "/type") == Some("Ready") && text(one, "/status") == Some("True"))
}
