//! The secret halves of join tokens, in memory only.
//!
//! Kubernetes' side puts them in, OpenStack's side takes them into the user data. They are
//! never written anywhere: after a restart the vault is empty, and the step that makes the
//! token is done again ([`FailureKind::NeedsToken`](rhizome_engine::action::FailureKind)).

use std::fmt;

use dashmap::DashMap;
use rand::Rng;
use rhizome_engine::names::OperationId;
use rhizome_engine::time::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// The characters of a bootstrap token (kubernetes/cluster-bootstrap, `token/api/types.go`).
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
/// Length of a token's public half.
const ID_LENGTH: usize = 6;
/// Length of a token's secret half.
const SECRET_LENGTH: usize = 16;

/// A bootstrap token by which one machine may join.
#[derive(Clone)]
pub struct JoinToken {
    id: String,
    secret: SecretString,
    expires: Timestamp,
}

impl JoinToken {
    /// A token for `operation` with a new secret.
    ///
    /// The id follows from the operation, so that it can be found and deleted after a restart
    /// although nothing of the token is written down.
    pub fn new(operation: OperationId, expires: Timestamp) -> Self {
        let mut rng = rand::rng();
        let secret: String = (0..SECRET_LENGTH)
            .map(|_| letter(rng.random_range(0..ALPHABET.len())))
            .collect();
        Self {
            id: Self::id_of(operation),
            secret: secret.into(),
            expires,
        }
    }

    /// The public half of the token that belongs to `operation`.
    pub fn id_of(operation: OperationId) -> String {
        Sha256::digest(operation.to_string())
            .iter()
            .take(ID_LENGTH)
            .map(|byte| letter(usize::from(*byte) % ALPHABET.len()))
            .collect()
    }

    /// The public half.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The secret half.
    pub fn secret(&self) -> &SecretString {
        &self.secret
    }

    /// When the cluster stops accepting it (wall clock).
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// Both halves, as `kubeadm join` wants them.
    pub fn text(&self) -> SecretString {
        format!("{}.{}", self.id, self.secret.expose_secret()).into()
    }
}

fn letter(place: usize) -> char {
    char::from(ALPHABET.get(place).copied().unwrap_or(b'a'))
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("id", &self.id)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// The tokens of the operations under way.
#[derive(Debug, Default)]
pub struct TokenVault {
    tokens: DashMap<OperationId, JoinToken>,
}

impl TokenVault {
    /// An empty vault.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps the token of an operation, in place of one kept before.
    pub fn put(&self, operation: OperationId, token: JoinToken) {
        self.tokens.insert(operation, token);
    }

    /// The token of an operation, unless it has expired by `now`.
    pub fn get(&self, operation: OperationId, now: Timestamp) -> Option<JoinToken> {
        self.tokens
            .get(&operation)
            .filter(|token| token.expires > now)
            .map(|token| token.clone())
    }

    /// The token of an operation lives until `expires`, if it is kept here.
    pub fn extend(&self, operation: OperationId, expires: Timestamp) {
        if let Some(mut token) = self.tokens.get_mut(&operation) {
            token.expires = expires;
        }
    }

    /// Forgets the token of an operation, and every token that has expired by `now`: an
    /// operation that was given up must not leave its secret behind for ever.
    pub fn forget(&self, operation: OperationId, now: Timestamp) {
        self.tokens
            .retain(|owner, token| *owner != operation && token.expires > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATION: OperationId = OperationId {
        journal: 1,
        number: 2,
    };

    #[test]
    fn a_token_has_the_form_that_kubernetes_accepts_and_a_secret_of_its_own() {
        let first = JoinToken::new(OPERATION, Timestamp(10));
        let second = JoinToken::new(OPERATION, Timestamp(10));
        let text = first.text().expose_secret().to_owned();
        let (id, secret) = text.split_once('.').unwrap();
        assert_eq!((id.len(), secret.len()), (6, 16));
        assert!(
            text.chars()
                .all(|c| c == '.' || c.is_ascii_lowercase() || c.is_ascii_digit())
        );
        assert_eq!(first.id(), second.id());
        assert_ne!(first.text().expose_secret(), second.text().expose_secret());
    }

    #[test]
    fn an_expired_token_is_not_handed_out_and_debug_shows_no_secret() {
        let vault = TokenVault::new();
        let token = JoinToken::new(OPERATION, Timestamp(10));
        let secret = token.secret().expose_secret().to_owned();
        vault.put(OPERATION, token);
        assert!(vault.get(OPERATION, Timestamp(9)).is_some());
        assert!(vault.get(OPERATION, Timestamp(10)).is_none());
        vault.extend(OPERATION, Timestamp(20));
        let longer = vault.get(OPERATION, Timestamp(19)).unwrap();
        assert_eq!(longer.secret().expose_secret(), secret);
        assert!(vault.get(OPERATION, Timestamp(20)).is_none());
        assert!(!format!("{vault:?}").contains(&secret));
        vault.forget(OPERATION, Timestamp(0));
        assert!(vault.get(OPERATION, Timestamp(0)).is_none());
    }
}
