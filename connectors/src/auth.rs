//! Who may speak to us: bearer tokens and basic auth, from files or the environment.
//!
//! A forged event or alert could cost a machine, so whatever listens beyond loopback asks for
//! one of these (see [`crate::listen`]). Secrets are never logged and never compared in a
//! time that depends on them: what is compared are hashes, all of them each time.

use std::path::PathBuf;

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// Characters that a token or password has at least: 16 of base64 are 96 bits.
pub const MIN_SECRET_LEN: usize = 16;

/// Bytes of an `Authorization` header that are looked at.
const MAX_HEADER: usize = 4_096;

/// Where the secrets are. Never the secrets themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthOptions {
    /// Bearer tokens, any of which will do: two while one takes the other's place.
    pub bearer: Vec<BearerOptions>,
    /// Users with passwords, for senders that know only basic auth.
    pub basic: Vec<BasicOptions>,
}

/// A bearer token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BearerOptions {
    /// Who it is that has it, as the journal names them.
    pub who: String,
    /// Where the token is.
    pub secret: SecretSource,
    /// What it may do.
    pub may: Vec<Right>,
}

/// A user with a password.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicOptions {
    /// The user, as the journal names them.
    pub user: String,
    /// Where the password is.
    pub secret: SecretSource,
    /// What the user may do.
    pub may: Vec<Right>,
}

/// What a token or user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// Send events.
    Ingest,
    /// Send alerts. Not implied by [`Right::Ingest`]: an agent's events are one witness against a
    /// node and an alert is another, and whoever has one token must not be both.
    Alert,
    /// Read status, `why` and metrics.
    Read,
    /// Pause, scale, replace and the like; also read.
    Operate,
}

impl Right {
    /// Every right there is.
    pub const ALL: [Right; 4] = [Self::Ingest, Self::Alert, Self::Read, Self::Operate];
}

/// Where a secret is: `{ file: /run/secrets/token }` or `{ env: RHIZOME_TOKEN }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretSource {
    /// In this file; white space at its end is not part of it.
    File(PathBuf),
    /// In this variable of the environment.
    Env(String),
}

/// Why the secrets could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The file cannot be read.
    #[error("the secret of `{who}` cannot be read from `{}`", path.display())]
    File {
        /// Whose secret.
        who: String,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The variable is not set, or not UTF-8.
    #[error("the secret of `{who}` is not in the environment: set `{variable}`")]
    Env {
        /// Whose secret.
        who: String,
        /// The variable.
        variable: String,
    },
    /// The secret is too short to be one.
    #[error(
        "the secret of `{who}` has fewer than {MIN_SECRET_LEN} characters: make one with `openssl rand -base64 32`"
    )]
    Short {
        /// Whose secret.
        who: String,
    },
}

impl AuthOptions {
    /// Whether nobody is asked who they are.
    pub fn is_empty(&self) -> bool {
        self.bearer.is_empty() && self.basic.is_empty()
    }

    /// Reads the secrets.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError`] for the first that is missing or too short.
    pub fn load(&self) -> Result<Credentials, AuthError> {
        let mut known = Vec::new();
        for BearerOptions { who, secret, may } in &self.bearer {
            let secret = secret.load_long(who)?;
            known.push(Known {
                who: Who::new(who, may),
                hash: hash("bearer", secret.expose_secret()),
            });
        }
        for BasicOptions { user, secret, may } in &self.basic {
            let secret = secret.load_long(user)?;
            let pair = SecretString::from(format!("{user}:{}", secret.expose_secret()));
            known.push(Known {
                who: Who::new(user, may),
                hash: hash("basic", pair.expose_secret()),
            });
        }
        Ok(Credentials { known })
    }
}

impl SecretSource {
    /// Reads it; white space at its end is cut off. `who` is for the error.
    pub(crate) fn load(&self, who: &str) -> Result<SecretString, AuthError> {
        let who = who.to_owned();
        let secret = match self {
            Self::File(path) => {
                std::fs::read_to_string(path).map_err(|source| AuthError::File {
                    who: who.clone(),
                    path: path.clone(),
                    source,
                })?
            }
            Self::Env(variable) => std::env::var(variable).map_err(|_| AuthError::Env {
                who: who.clone(),
                variable: variable.clone(),
            })?,
        };
        Ok(SecretString::from(secret.trim_end().to_owned()))
    }

    /// The secret of somebody whom we are to believe: long enough that it cannot be guessed.
    fn load_long(&self, who: &str) -> Result<SecretString, AuthError> {
        let secret = self.load(who)?;
        if secret.expose_secret().chars().count() < MIN_SECRET_LEN {
            return Err(AuthError::Short {
                who: who.to_owned(),
            });
        }
        Ok(secret)
    }
}

/// Those who may speak, as hashes of what they would say.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    known: Vec<Known>,
}

#[derive(Debug, Clone)]
struct Known {
    who: Who,
    hash: [u8; 32],
}

/// Who sent a request, and what they may do. In the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// Their name, for the journal.
    pub name: String,
    may: Vec<Right>,
}

impl Who {
    /// Somebody by this name with these rights.
    pub fn new(name: &str, may: &[Right]) -> Self {
        Self {
            name: name.to_owned(),
            may: may.to_vec(),
        }
    }

    /// Whoever there is, where nobody is asked.
    pub fn anybody() -> Self {
        Self::new("anybody", &Right::ALL)
    }

    /// Whether they may.
    pub fn may(&self, right: Right) -> bool {
        self.may.contains(&right) || (right == Right::Read && self.may.contains(&Right::Operate))
    }
}

impl Credentials {
    /// Whether nobody is asked who they are.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Who sent this `Authorization` header, if they are known.
    pub fn check(&self, header: Option<&HeaderValue>) -> Option<Who> {
        let said = said(header?)?;
        let mut found: Option<&Known> = None;
        // All of them each time: how long this takes says nothing about which came close.
        for known in &self.known {
            let equal: Choice = known.hash.ct_eq(&said);
            if equal.into() {
                found = Some(known);
            }
        }
        found.map(|known| known.who.clone())
    }
}

/// The hash of what a header says.
fn said(header: &HeaderValue) -> Option<[u8; 32]> {
    let text = header
        .to_str()
        .ok()
        .filter(|text| text.len() <= MAX_HEADER)?;
    let (scheme, rest) = text.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        Some(hash("bearer", rest))
    } else if scheme.eq_ignore_ascii_case("basic") {
        let pair = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
        Some(hash("basic", &pair))
    } else {
        None
    }
}

fn hash(scheme: &str, secret: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(scheme);
    hash.update([0]);
    hash.update(secret);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn options(token: &std::path::Path, password: &std::path::Path) -> AuthOptions {
        AuthOptions {
            bearer: vec![BearerOptions {
                who: "agents".into(),
                secret: SecretSource::File(token.into()),
                may: vec![Right::Ingest],
            }],
            basic: vec![BasicOptions {
                user: "alertmanager".into(),
                secret: SecretSource::File(password.into()),
                may: vec![Right::Operate],
            }],
        }
    }

    #[test]
    fn only_what_is_known_is_let_in() {
        let token = file("0123456789abcdef\n");
        let password = file("pass:word of sixteen");
        let known = options(token.path(), password.path()).load().unwrap();
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        let who = |header: &str| known.check(Some(&HeaderValue::from_str(header).unwrap()));
        assert_eq!(
            who("Bearer 0123456789abcdef"),
            Some(Who::new("agents", &[Right::Ingest]))
        );
        assert_eq!(
            who("bearer  0123456789abcdef"),
            Some(Who::new("agents", &[Right::Ingest]))
        );
        assert_eq!(
            who(&basic("alertmanager:pass:word of sixteen")),
            Some(Who::new("alertmanager", &[Right::Operate]))
        );
        for header in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcdeF",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdef0",
            "0123456789abcdef",
            "Bearer alertmanager:pass:word of sixteen",
            "Basic !!!",
            &basic("alertmanager:"),
            &basic("0123456789abcdef"),
            &basic("agents:0123456789abcdef"),
        ] {
            assert_eq!(who(header), None, "{header}");
        }
        assert_eq!(known.check(None), None);
    }

    #[test]
    fn a_secret_that_is_missing_or_short_is_said_by_name_and_not_shown() {
        let short = file("hunter2\n");
        let error = options(short.path(), short.path()).load().unwrap_err();
        assert!(matches!(&error, AuthError::Short { who } if who == "agents"));
        assert!(!error.to_string().contains("hunter2"));
        let missing = options(std::path::Path::new("/nonexistent"), short.path());
        assert!(matches!(
            missing.load().unwrap_err(),
            AuthError::File { .. }
        ));
        let source = SecretSource::Env("RHIZOME_TEST_UNSET".into());
        assert!(matches!(
            source.load("x").unwrap_err(),
            AuthError::Env { .. }
        ));
    }

    #[test]
    fn who_may_operate_may_read_and_nothing_follows_from_the_rest() {
        let rights = |may: &[Right]| Right::ALL.map(|right| Who::new("a", may).may(right));
        assert_eq!(rights(&[]), [false, false, false, false]);
        assert_eq!(rights(&[Right::Ingest]), [true, false, false, false]);
        assert_eq!(rights(&[Right::Alert]), [false, true, false, false]);
        assert_eq!(rights(&[Right::Read]), [false, false, true, false]);
        assert_eq!(rights(&[Right::Operate]), [false, false, true, true]);
    }

    #[test]
    fn nothing_shown_holds_the_secret() {
        let token = file("0123456789abcdef");
        let known = options(token.path(), token.path()).load().unwrap();
        assert!(!format!("{known:?}").contains("0123456789abcdef"));
    }
}
