//! The settings of the Kafka connector, and what becomes of them in librdkafka.
//!
//! An operator names brokers, topics, group and credentials. Everything that decides whether
//! records are lost or read twice is set here and cannot be changed through the free
//! `librdkafka` map. Nothing here connects.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rdkafka::ClientConfig;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::settings::{OURS, SettingError, check_setting};
use crate::auth::{AuthError, SecretSource};

/// Which records to read, and how to reach them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaOptions {
    /// Brokers to begin with, as `host:port`; the others are learnt from them.
    pub brokers: Vec<String>,
    /// Topics, by their whole names.
    pub topics: Vec<String>,
    /// Consumer group. Two programs that share it share the partitions.
    #[serde(default = "default_group")]
    pub group: String,
    /// TLS to the brokers; without it the connection is plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// SASL credentials; without them there is no authentication but a client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSasl>,
    /// Largest answer of a broker in bytes, and so the largest record once it is unpacked.
    ///
    /// A compressed batch may unpack to much more than it was on the wire: one that passes
    /// this is passed over and counted. 16 MiB: a record of ours is under 1 KiB and a batch
    /// of an agent is some 100 KiB.
    #[serde(default = "default_receive_max")]
    pub receive_max_bytes: u32,
    /// Any other setting of librdkafka by its own name, such as `client.rack`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub librdkafka: BTreeMap<String, String>,
}

/// TLS to the brokers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaTls {
    /// Certificates to trust, PEM; without it those of the system.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Our certificate with its chain, PEM, if the brokers ask for one.
    #[serde(default)]
    pub cert: Option<PathBuf>,
    /// Its key, PEM.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// Where the password of the key is, if it is encrypted.
    #[serde(default)]
    pub key_password: Option<SecretSource>,
}

/// SASL credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSasl {
    /// The mechanism.
    pub mechanism: SaslMechanism,
    /// The user's name.
    pub user: String,
    /// Where the password is.
    pub password: SecretSource,
}

/// SASL mechanisms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SaslMechanism {
    /// The password as it is: only over TLS.
    #[serde(rename = "PLAIN")]
    Plain,
    /// A proof of the password by SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// A proof of the password by SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// What is wrong with the settings. The program should not start.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// A list that must not be empty is.
    #[error("`{0}` is empty: name at least one")]
    Empty(&'static str),
    /// A topic that is not a plain name.
    #[error(
        "`{0}` is not the name of a topic: letters, digits, `.`, `_` and `-`, at most 249 (patterns are not taken)"
    )]
    Topic(String),
    /// A setting of librdkafka that cannot be set.
    #[error("`librdkafka.{name}` {why}")]
    Setting {
        /// Its name.
        name: String,
        /// Why.
        why: SettingError,
    },
    /// A certificate without its key, or the other way round.
    #[error("`tls.cert` and `tls.key` belong together: name both or neither")]
    HalfCertificate,
    /// A password, and nothing that it opens.
    #[error("`tls.key_password` opens `tls.key`: name that too, or leave it out")]
    KeyPasswordAlone,
    /// The password would cross the network as it is.
    #[error("`PLAIN` sends the password as it is: add `tls`, or use `SCRAM-SHA-512`")]
    PlainWithoutTls,
    /// The password cannot be had.
    #[error(transparent)]
    Password(#[from] AuthError),
    /// A file that cannot be read.
    #[error("cannot read `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl KafkaOptions {
    /// Looks for everything that is wrong, without connecting anywhere.
    ///
    /// # Errors
    ///
    /// Returns the first setting that cannot be used, by its name.
    pub fn check(&self) -> Result<(), OptionsError> {
        self.client_config().map(drop)
    }

    /// The settings as librdkafka takes them, with the password read from its file.
    pub(super) fn client_config(&self) -> Result<ClientConfig, OptionsError> {
        self.check_names()?;
        let mut config = ClientConfig::new();
        for (name, value) in OURS {
            config.set(name, value);
        }
        config.set("bootstrap.servers", self.brokers.join(","));
        config.set("group.id", &self.group);
        config.set("client.id", "rhizome");
        self.set_sizes(&mut config);
        self.set_security(&mut config)?;
        for (name, value) in &self.librdkafka {
            check_setting(name, value).map_err(|why| OptionsError::Setting {
                name: name.clone(),
                why,
            })?;
            config.set(name, value);
        }
        Ok(config)
    }

    fn check_names(&self) -> Result<(), OptionsError> {
        if self.brokers.is_empty() {
            return Err(OptionsError::Empty("brokers"));
        }
        if self.topics.is_empty() {
            return Err(OptionsError::Empty("topics"));
        }
        if self.group.is_empty() {
            return Err(OptionsError::Empty("group"));
        }
        self.topics.iter().try_for_each(|topic| check_topic(topic))
    }

    /// librdkafka wants the answer to be larger than the fetch by at least 512 bytes.
    fn set_sizes(&self, config: &mut ClientConfig) {
        let receive = self.receive_max_bytes.max(RECEIVE_MIN);
        let fetch = receive - 1_024;
        config.set("receive.message.max.bytes", receive.to_string());
        config.set("fetch.max.bytes", fetch.to_string());
        config.set("message.max.bytes", fetch.min(1_000_000).to_string());
    }

    fn set_security(&self, config: &mut ClientConfig) -> Result<(), OptionsError> {
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            if tls.cert.is_some() != tls.key.is_some() {
                return Err(OptionsError::HalfCertificate);
            }
            for (name, path) in [
                ("ssl.ca.location", &tls.ca),
                ("ssl.certificate.location", &tls.cert),
                ("ssl.key.location", &tls.key),
            ] {
                if let Some(path) = path {
                    // librdkafka's own message for a missing file names neither file nor cause.
                    read(path)?;
                    config.set(name, path.to_string_lossy());
                }
            }
            if let Some(password) = &tls.key_password {
                if tls.key.is_none() {
                    return Err(OptionsError::KeyPasswordAlone);
                }
                let password = password.load("kafka.tls.key_password")?;
                config.set("ssl.key.password", password.expose_secret());
            }
        }
        if let Some(sasl) = &self.sasl {
            if sasl.mechanism == SaslMechanism::Plain && self.tls.is_none() {
                return Err(OptionsError::PlainWithoutTls);
            }
            let password = sasl.password.load(&sasl.user)?;
            config.set("sasl.mechanism", sasl.mechanism.as_str());
            config.set("sasl.username", &sasl.user);
            config.set("sasl.password", password.expose_secret());
        }
        Ok(())
    }
}

/// Says whether `topic` is the whole name of one topic.
///
/// # Errors
///
/// Returns [`OptionsError::Topic`] if it is not.
pub fn check_topic(topic: &str) -> Result<(), OptionsError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if topic.is_empty() || topic.len() > 249 || !topic.chars().all(legal) {
        return Err(OptionsError::Topic(topic.to_owned()));
    }
    Ok(())
}

impl SaslMechanism {
    fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// The least that librdkafka works with.
const RECEIVE_MIN: u32 = 65_536;

fn default_group() -> String {
    "rhizome".to_owned()
}

fn default_receive_max() -> u32 {
    16 * 1024 * 1024
}

fn read(path: &Path) -> Result<String, OptionsError> {
    std::fs::read_to_string(path).map_err(|source| OptionsError::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> KafkaOptions {
        serde_json::from_str(r#"{"brokers": ["b:9092"], "topics": ["metrics"]}"#).unwrap()
    }

    #[test]
    fn the_least_that_can_be_written_is_enough() {
        let config = options().client_config().unwrap();
        assert_eq!(config.get("group.id"), Some("rhizome"));
        assert_eq!(config.get("security.protocol"), Some("plaintext"));
        config.create_native_config().unwrap();
    }

    #[test]
    fn the_settings_that_hurt_are_set() {
        for (name, value) in OURS {
            assert_eq!(options().client_config().unwrap().get(name), Some(value));
        }
    }

    #[test]
    fn other_settings_pass_through_and_unknown_ones_are_refused_by_name() {
        let mut good = options();
        good.librdkafka.insert("client.rack".into(), "a".into());
        good.librdkafka
            .insert("fetch.wait.max.ms".into(), "10".into());
        let config = good.client_config().unwrap();
        assert_eq!(config.get("client.rack"), Some("a"));
        assert_eq!(config.get("fetch.wait.max.ms"), Some("10"));
        for name in ["client.rak", "auto.offset.reset", "ssl.key.password"] {
            let mut bad = options();
            bad.librdkafka.insert(name.into(), "earliest".into());
            let text = bad.check().unwrap_err().to_string();
            assert!(text.starts_with(&format!("`librdkafka.{name}` ")), "{text}");
        }
    }

    #[test]
    fn every_bad_setting_is_named() {
        type Spoil = fn(&mut KafkaOptions);
        let cases: [(Spoil, &str); 8] = [
            (|o| o.brokers.clear(), "`brokers` is empty"),
            (|o| o.topics.clear(), "`topics` is empty"),
            (|o| o.group.clear(), "`group` is empty"),
            (|o| o.topics.push("^all".into()), "`^all`"),
            (
                |o| {
                    o.tls = Some(KafkaTls {
                        cert: Some("c.pem".into()),
                        ..KafkaTls::default()
                    });
                },
                "`tls.cert` and `tls.key`",
            ),
            (
                |o| {
                    o.tls = Some(KafkaTls {
                        key_password: Some(SecretSource::Env("UNSET".into())),
                        ..KafkaTls::default()
                    });
                },
                "`tls.key_password` opens `tls.key`",
            ),
            (
                |o| {
                    o.tls = Some(KafkaTls {
                        ca: Some("/nowhere/ca.pem".into()),
                        ..KafkaTls::default()
                    });
                },
                "`/nowhere/ca.pem`",
            ),
            (
                |o| {
                    o.sasl = Some(KafkaSasl {
                        mechanism: SaslMechanism::Plain,
                        user: "u".into(),
                        password: SecretSource::File("/nowhere/password".into()),
                    });
                },
                "`PLAIN`",
            ),
        ];
        for (spoil, expected) in cases {
            let mut options = options();
            spoil(&mut options);
            let text = options.check().unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        let text = r#"{"brokers": ["b"], "topics": ["t"], "topic": "t"}"#;
        assert!(serde_json::from_str::<KafkaOptions>(text).is_err());
    }

    #[test]
    fn the_password_of_the_key_comes_from_its_file_too() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "open sesame\n").unwrap();
        let mut options = options();
        options.tls = Some(KafkaTls {
            cert: Some(file.clone()),
            key: Some(file.clone()),
            key_password: Some(SecretSource::File(file)),
            ca: None,
        });
        let config = options.client_config().unwrap();
        assert_eq!(config.get("ssl.key.password"), Some("open sesame"));
        assert!(!format!("{options:?}").contains("open sesame"));
    }

    #[test]
    fn the_password_comes_from_its_file_without_the_newline() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "pa ss\n").unwrap();
        let mut options = options();
        options.sasl = Some(KafkaSasl {
            mechanism: SaslMechanism::ScramSha512,
            user: "engine".into(),
            password: SecretSource::File(file),
        });
        let config = options.client_config().unwrap();
        assert_eq!(config.get("sasl.password"), Some("pa ss"));
        assert_eq!(config.get("security.protocol"), Some("sasl_plaintext"));
        assert!(!format!("{options:?}").contains("pa ss"));
    }
}
