//! The bootstrap token of one operation: by it, and until it expires, one machine may join.
//!
//! Its id follows from the operation, so a token that was left behind is found again; its
//! secret is drawn anew each time and kept in the vault alone.

use std::time::Duration;

use http::{Method, StatusCode};
use rhizome_engine::action::{ActionResult, Done, Failure, FailureKind};
use rhizome_engine::time::Timestamp;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::client::Change;
use super::{Approval, Kubernetes};
use crate::in_hand::InHand;
use crate::vault::JoinToken;

/// Where bootstrap tokens live.
const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";
/// The group of `deploy/rbac.yaml`: it may ask for a certificate and read what kubeadm needs.
const GROUP: &str = "system:bootstrappers:rhizome";
/// The group of kubeadm's own tokens, whose requests the cluster approves by itself.
const KUBEADM_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";

impl Kubernetes {
    /// Makes the operation's token, in place of one that is there already: its secret is not
    /// known to us any more.
    pub(super) async fn create_token(&self, hand: &InHand<'_>, ttl: Duration) -> ActionResult {
        let operation = hand.action.key.operation;
        let expires = self.clock.now().wall.plus(ttl);
        let token = JoinToken::new(operation, expires);
        let change = Change {
            call: "create_secret",
            method: Method::POST,
            path: SECRETS.to_owned(),
            body: secret(
                &token,
                &operation.to_string(),
                hand.action.pool.as_str(),
                self.options.approval,
            )?,
        };
        let mut answer = self.send(hand, &change).await?;
        if answer.status == StatusCode::CONFLICT {
            self.remove(hand, token.id()).await?;
            answer = self.send(hand, &change).await?;
        }
        if !answer.is_success() {
            let known = [token.secret()];
            return Err(self.cluster.judge(&answer, change.call, true, &known).await);
        }
        self.vault.put(operation, token);
        Ok(Done::Accepted)
    }

    /// Lets the operation's token live longer. Its secret is neither sent nor needed, so this goes
    /// on after a restart; one that is gone is not made again, for its VM holds the old secret.
    pub(super) async fn extend_token(&self, hand: &InHand<'_>, ttl: Duration) -> ActionResult {
        let operation = hand.action.key.operation;
        let now = self.clock.now().wall;
        let expires = now.plus(ttl);
        let change = Change {
            call: "patch_secret",
            method: Method::PATCH,
            path: format!("{SECRETS}/bootstrap-token-{}", JoinToken::id_of(operation)),
            body: json!({"stringData": {"expiration": expiration(expires)?}}),
        };
        let answer = self.send(hand, &change).await?;
        if !answer.is_success() {
            let token = self.vault.get(operation, now);
            let known: Vec<_> = token.iter().map(JoinToken::secret).collect();
            return Err(self.cluster.judge(&answer, change.call, true, &known).await);
        }
        self.vault.extend(operation, expires);
        Ok(Done::Accepted)
    }

    /// Deletes the operation's token. The cluster accepts it for ten seconds more, because it
    /// remembers who it has let in.
    pub(super) async fn delete_token(&self, hand: &InHand<'_>) -> ActionResult {
        let operation = hand.action.key.operation;
        let done = self.remove(hand, &JoinToken::id_of(operation)).await?;
        self.vault.forget(operation, self.clock.now().wall);
        Ok(done)
    }

    async fn remove(&self, hand: &InHand<'_>, id: &str) -> ActionResult {
        let change = Change {
            call: "delete_secret",
            method: Method::DELETE,
            path: format!("{SECRETS}/bootstrap-token-{id}"),
            body: Value::Null,
        };
        let answer = self.send(hand, &change).await?;
        if answer.status == StatusCode::NOT_FOUND && answer.as_status().is_some() {
            return Ok(Done::Already);
        }
        if answer.is_success() {
            return Ok(Done::Accepted);
        }
        Err(self.cluster.judge(&answer, change.call, true, &[]).await)
    }
}

/// The Secret of a token. The API checks nothing of it: a mistake here shows only as a 401 of
/// the machine that joins.
fn secret(
    token: &JoinToken,
    operation: &str,
    pool: &str,
    approval: Approval,
) -> Result<Value, Failure> {
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": format!("bootstrap-token-{}", token.id()),
            "namespace": "kube-system",
            "annotations": {"rhizome-operation": operation, "rhizome-pool": pool},
        },
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": token.id(),
            "token-secret": token.secret().expose_secret(),
            "expiration": expiration(token.expires())?,
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": match approval {
                Approval::Rhizome => GROUP,
                Approval::Cluster => KUBEADM_GROUP,
            },
            "description": format!("join token of {operation} (rhizome)"),
        },
    }))
}

/// The time as a token's Secret tells it, in whole seconds.
fn expiration(expires: Timestamp) -> Result<String, Failure> {
    match jiff::Timestamp::from_second(expires.millis().div_euclid(1000)) {
        Ok(time) => Ok(time.to_string()),
        Err(error) => Err(Failure::new(
            FailureKind::Refused,
            format!("a token cannot live until {expires}: {error}"),
        )),
    }
}
