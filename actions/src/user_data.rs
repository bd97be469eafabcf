//! What a new machine is told at its first boot: a template filled in, encoded and measured.
//!
//! The delimiters are `<{ }>`, `<% %>` and `<# #>`, so that cloud-init's own `{{ }}` reaches
//! the machine as it is. The result holds a join token and is a secret from here on.

use std::io::Write;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, Value, context};
use rhizome_engine::action::{Failure, FailureKind};
use rhizome_engine::names::{NodeName, OperationId, PoolName};
use secrecy::{ExposeSecret, SecretString};

use crate::vault::JoinToken;

/// The longest user data that Nova takes, in encoded characters (`nova/api/openstack/compute/
/// schemas/servers.py`; one more is a 400).
pub const MAX_ENCODED: usize = 65_535;

/// The template that is shipped: `kubeadm join` with the machine's own token.
pub const KUBEADM_JOIN: &str = include_str!("../templates/kubeadm-join.yaml");

const NAME: &str = "user-data";

/// Where and how new machines join.
#[derive(Debug, Clone, Default)]
pub struct JoinOptions {
    /// The API server as the machines reach it: `host:port`.
    pub endpoint: String,
    /// Pins of the cluster's CA: `sha256:` and the hash of its public key.
    pub ca_cert_hashes: Vec<String>,
    /// Taints that a node has from its first moment: before a pod could be put on it.
    pub taints: Vec<Taint>,
}

/// A taint of a node, written as kubectl does: `key=value:Effect`, or `key:Effect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value; empty if it has none.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

impl Taint {
    fn to_value(&self) -> Value {
        context! {
            key => self.key.as_str(),
            value => self.value.as_str(),
            effect => self.effect.as_str(),
        }
    }
}

impl FromStr for Taint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no taint: write it as `key=value:NoSchedule` or `key:NoExecute`, as kubectl does"
            )
        };
        let (name, effect) = text.rsplit_once(':').ok_or_else(wrong)?;
        let (key, value) = name.split_once('=').unwrap_or((name, ""));
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        // What Kubernetes takes in keys and values; so nothing of it needs quotes in YAML.
        let allowed = |text: &str, more: &str| {
            text.len() <= 253
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c) || more.contains(c))
        };
        if key.is_empty() || !allowed(key, "/") || !allowed(value, "") || !effects.contains(&effect)
        {
            return Err(wrong());
        }
        Ok(Self {
            key: key.to_owned(),
            value: value.to_owned(),
            effect: effect.to_owned(),
        })
    }
}

/// What a template is filled in with.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The machine's name, and its node's.
    pub node: &'a NodeName,
    /// Its pool.
    pub pool: &'a PoolName,
    /// The operation that makes it.
    pub operation: OperationId,
    /// Its token; none for machines that are no Kubernetes nodes.
    pub token: Option<&'a JoinToken>,
}

/// Why a template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It does not parse, or asks for what there is not.
    #[error(
        "the user-data template is wrong at line {line}: {what}; it may use `node`, `pool`, \
         `operation`, `endpoint`, `ca_cert_hashes`, `taints` and (in Kubernetes pools) `token`"
    )]
    Wrong {
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// It is too long.
    #[error(
        "the user data would be {encoded} characters when packed and encoded, and Nova takes at most \
         {MAX_ENCODED}: shorten the template, or let the machine fetch the rest"
    )]
    TooLong {
        /// Its length.
        encoded: usize,
    },
}

/// A template of user data, checked when it was loaded.
pub struct UserData {
    environment: Environment<'static>,
    join: JoinOptions,
    kubernetes: bool,
}

impl UserData {
    /// Loads `template` and fills it in once on trial, so that a bad one is found at the start
    /// and not when a machine is needed.
    ///
    /// `kubernetes` says whether the machines join a cluster, and so have a token.
    ///
    /// # Errors
    ///
    /// Returns [`TemplateError`] with the line.
    pub fn new(
        template: impl Into<String>,
        join: JoinOptions,
        kubernetes: bool,
    ) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        // Its debug output prints the values, the token among them.
        environment.set_debug(false);
        let syntax = SyntaxConfig::builder()
            .block_delimiters("<%", "%>")
            .variable_delimiters("<{", "}>")
            .comment_delimiters("<#", "#>")
            .keep_trailing_newline(true)
            .build()
            .map_err(|error| wrong(&error))?;
        environment.set_syntax(syntax);
        environment
            .add_template_owned(NAME, template.into())
            .map_err(|error| wrong(&error))?;
        let loaded = Self {
            environment,
            join,
            kubernetes,
        };
        let operation = OperationId {
            journal: u32::MAX,
            number: u64::MAX,
        };
        let token = JoinToken::new(operation, rhizome_engine::time::Timestamp::default());
        loaded.fill(&Facts {
            node: &NodeName::new("a-name-of-the-greatest-length-that-a-node-may-have".repeat(5)),
            pool: &PoolName::new("pool"),
            operation,
            token: kubernetes.then_some(&token),
        })?;
        Ok(loaded)
    }

    /// Whether the machines join a cluster.
    pub fn kubernetes(&self) -> bool {
        self.kubernetes
    }

    /// The user data of one machine, in base64 as Nova wants it.
    ///
    /// # Errors
    ///
    /// `NeedsToken` if the machine has to join and its token is not at hand; `Refused` if the
    /// template cannot be filled in.
    pub fn render(&self, facts: &Facts<'_>) -> Result<SecretString, Failure> {
        if self.kubernetes && facts.token.is_none() {
            return Err(Failure::new(
                FailureKind::NeedsToken,
                format!(
                    "the join token of {} is not at hand: it is made again",
                    facts.operation
                ),
            ));
        }
        self.fill(facts)
            .map_err(|error| Failure::new(FailureKind::Refused, error.to_string()))
    }

    fn fill(&self, facts: &Facts<'_>) -> Result<SecretString, TemplateError> {
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|error| wrong(&error))?;
        let common = context! {
            node => facts.node.as_str(),
            pool => facts.pool.as_str(),
            operation => facts.operation.to_string(),
            endpoint => self.join.endpoint.as_str(),
            ca_cert_hashes => self.join.ca_cert_hashes.clone(),
            taints => self.join.taints.iter().map(Taint::to_value).collect::<Vec<_>>(),
        };
        let text = match facts.token {
            Some(token) => template.render(context! {
                token => token.text().expose_secret(),
                ..common
            }),
            None => template.render(common),
        };
        let text = text.map_err(|error| wrong(&error))?;
        let plain = STANDARD.encode(&text);
        if plain.len() <= MAX_ENCODED {
            return Ok(plain.into());
        }
        // cloud-init unpacks it by its first bytes. Only where it must be: what is sent as it
        // is can be read by whoever looks for a fault.
        let encoded = STANDARD.encode(packed(&text));
        if encoded.len() > MAX_ENCODED {
            return Err(TemplateError::TooLong {
                encoded: encoded.len(),
            });
        }
        Ok(encoded.into())
    }
}

fn packed(text: &str) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory does not fail.
    let _ = packer.write_all(text.as_bytes());
    packer.finish().unwrap_or_default()
}

/// Only kind and line: the detail of an error may quote a value.
fn wrong(error: &minijinja::Error) -> TemplateError {
    TemplateError::Wrong {
        line: error.line().unwrap_or(1),
        what: error.kind().to_string(),
    }
}

impl std::fmt::Debug for UserData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserData")
            .field("join", &self.join)
            .field("kubernetes", &self.kubernetes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rhizome_engine::time::Timestamp;
    use sha2::Digest;

    use super::*;

    const OPERATION: OperationId = OperationId {
        journal: 1,
        number: 2,
    };

    fn join() -> JoinOptions {
        JoinOptions {
            endpoint: "10.0.0.10:6443".to_owned(),
            ca_cert_hashes: vec!["sha256:ab".to_owned()],
            taints: Vec::new(),
        }
    }

    #[test]
    fn taints_stand_in_the_nodes_registration() {
        let taints = ["example.org/gpu=yes:NoSchedule", "batch:NoExecute"];
        let join = JoinOptions {
            taints: taints.map(|taint| taint.parse().unwrap()).into(),
            ..join()
        };
        let token = JoinToken::new(OPERATION, Timestamp(10));
        let facts = Facts {
            node: &"w-1".into(),
            pool: &"workers".into(),
            operation: OPERATION,
            token: Some(&token),
        };
        let user_data = UserData::new(KUBEADM_JOIN, join, true).unwrap();
        let text = plain(&user_data.render(&facts).unwrap());
        let expected = "      name: \"w-1\"\n      taints:\n      \
            - { key: \"example.org/gpu\", value: \"yes\", effect: \"NoSchedule\" }\n      \
            - { key: \"batch\", value: \"\", effect: \"NoExecute\" }\n      kubeletExtraArgs:\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn what_is_no_taint_is_told_so() {
        for wrong in [
            "",
            "gpu",
            "gpu=yes",
            "=yes:NoSchedule",
            "gpu:Never",
            "g\"u:NoExecute",
        ] {
            assert!(wrong.parse::<Taint>().is_err(), "{wrong}");
        }
    }

    fn plain(encoded: &SecretString) -> String {
        String::from_utf8(STANDARD.decode(encoded.expose_secret()).unwrap()).unwrap()
    }

    #[test]
    fn the_shipped_template_joins_with_the_token_and_leaves_cloud_inits_brackets_alone() {
        let user_data = UserData::new(KUBEADM_JOIN, join(), true).unwrap();
        let token = JoinToken::new(OPERATION, Timestamp(10));
        let text = plain(
            &user_data
                .render(&Facts {
                    node: &"w-1".into(),
                    pool: &"workers".into(),
                    operation: OPERATION,
                    token: Some(&token),
                })
                .unwrap(),
        );
        assert!(text.starts_with("## template: jinja\n#cloud-config\n"));
        assert!(text.contains(r#"value: "openstack:///{{ v1.instance_id }}""#));
        assert!(text.contains(r#"name: "w-1""#));
        assert!(text.contains("        caCertHashes:\n        - \"sha256:ab\"\n    nodeReg"));
        assert!(text.contains(&format!("token: \"{}\"", token.text().expose_secret())));
        assert!(!text.contains("<{ node"));
    }

    #[test]
    fn without_its_token_a_machine_of_the_cluster_gets_none_of_it() {
        let user_data = UserData::new(KUBEADM_JOIN, join(), true).unwrap();
        let failure = user_data
            .render(&Facts {
                node: &"w-1".into(),
                pool: &"workers".into(),
                operation: OPERATION,
                token: None,
            })
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::NeedsToken);
    }

    #[test]
    fn a_bad_template_is_found_when_it_is_loaded() {
        for (template, kubernetes, line) in [
            ("a\n<{ nodee }>", true, 2),
            ("<% if %>", true, 1),
            // A machine outside Kubernetes has no token.
            ("a\nb\n<{ token }>", false, 3),
        ] {
            let error = UserData::new(template, join(), kubernetes).unwrap_err();
            assert!(
                matches!(error, TemplateError::Wrong { line: at, .. } if at == line),
                "{template}: {error}"
            );
        }
    }

    #[test]
    fn what_is_too_long_is_packed_and_what_is_so_even_then_is_refused() {
        let render = |text: &str| {
            UserData::new(text, join(), false).map(|user_data| {
                let facts = Facts {
                    node: &"w-1".into(),
                    pool: &"workers".into(),
                    operation: OPERATION,
                    token: None,
                };
                user_data.render(&facts).unwrap().expose_secret().to_owned()
            })
        };
        // The longest that goes as it is, and one more.
        let (fits, packed) = ("x".repeat(49_149), "x".repeat(49_150));
        assert_eq!(render(&fits).unwrap(), STANDARD.encode(&fits));
        let bytes = STANDARD.decode(render(&packed).unwrap()).unwrap();
        assert_eq!(&bytes[..2], &[0x1f, 0x8b]);
        let mut text = String::new();
        let mut unpacker = flate2::read::GzDecoder::new(bytes.as_slice());
        std::io::Read::read_to_string(&mut unpacker, &mut text).unwrap();
        assert_eq!(text, packed);
        // Digests do not pack: 96 KB of their base64 become some 72 KB.
        let digests: String = (0..3_000_u32)
            .map(|number| STANDARD.encode(sha2::Sha256::digest(number.to_le_bytes())))
            .collect();
        assert!(matches!(
            render(&digests),
            Err(TemplateError::TooLong { encoded }) if encoded > MAX_ENCODED
        ));
    }
}
