//! The settings of librdkafka by its own names: which are Rhizome's, and which are left to an
//! operator's free `librdkafka` map.

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

/// Why a setting cannot be set through the free map. Its text follows the setting's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// Records hang on it.
    #[error(
        "cannot be set: Rhizome sets it itself, as what is read, lost or decided on twice depends on it"
    )]
    Ours,
    /// There is a key of ours for it.
    #[error("cannot be set: write {0} instead")]
    Keyed(&'static str),
    /// Certificates would be taken unchecked.
    #[error(
        "cannot be set: a broker's certificate is always checked; name who signs it as `kafka.tls.ca`"
    )]
    Unchecked,
    /// It is a secret, and there is no key of ours that names one like it.
    #[error(
        "cannot be set: a secret is not written here, and Rhizome signs in by `kafka.sasl` or by the certificate of `kafka.tls` alone"
    )]
    Secret,
    /// It has librdkafka load and run what somebody else wrote.
    #[error("cannot be set: Rhizome loads no libraries of others")]
    Foreign,
    /// librdkafka does not know or take it.
    #[error("cannot be set: {0}")]
    Refused(String),
}

/// Settings that decide what is read twice, lost, or trusted. Not to be changed from outside.
pub(super) const OURS: [(&str, &str); 19] = [
    // Stored only when what a record led to is journaled, and committed soon after.
    ("enable.auto.offset.store", "false"),
    ("enable.auto.commit", "true"),
    ("auto.commit.interval.ms", "1000"),
    // The only safe one: both others lose records silently or loop for ever after damage
    // (`partitions.rs` resumes by itself).
    ("auto.offset.reset", "error"),
    // A damaged record makes the position jump to a nonsense offset if checksums are checked;
    // without, it shows as a batch that cannot be unpacked, which is passed over.
    ("check.crcs", "false"),
    ("enable.partition.eof", "true"),
    ("isolation.level", "read_committed"),
    // Partitions that stay are not interrupted when a member comes or goes.
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("group.protocol", "classic"),
    // The default of 5 min would hide a new topic or partition for as long.
    ("topic.metadata.refresh.interval.ms", "5000"),
    // The default of 10 s was waited for after each outage.
    ("reconnect.backoff.max.ms", "1000"),
    // The default of 1 s halves the rate when catching up; 0 burns a core.
    ("fetch.queue.backoff.ms", "20"),
    // Requests wait behind a fetch on the same connection, so this bounds every look-up.
    ("fetch.wait.max.ms", "100"),
    // Memory for what is fetched ahead: 64 MiB, or 100,000 messages a partition.
    ("queued.max.messages.kbytes", "65536"),
    ("queued.min.messages", "100000"),
    // A member that died is missed after this long; nobody reads its partitions until then.
    ("session.timeout.ms", "10000"),
    ("heartbeat.interval.ms", "1000"),
    ("max.poll.interval.ms", "300000"),
    ("allow.auto.create.topics", "false"),
];

/// Those of [`OURS`] that trade speed for memory and may be set all the same.
const TUNABLE: [&str; 7] = [
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "reconnect.backoff.max.ms",
    "session.timeout.ms",
    "heartbeat.interval.ms",
];

/// Settings that keys of ours make, with those keys.
const KEYED: [(&str, &str); 18] = [
    ("bootstrap.servers", "`kafka.brokers`"),
    ("metadata.broker.list", "`kafka.brokers`"),
    ("group.id", "`kafka.group`"),
    ("security.protocol", "`kafka.tls` and `kafka.sasl`"),
    ("ssl.ca.location", "`kafka.tls.ca`"),
    ("ssl.ca.pem", "`kafka.tls.ca`"),
    ("ssl.certificate.location", "`kafka.tls.cert`"),
    ("ssl.certificate.pem", "`kafka.tls.cert`"),
    ("ssl.key.location", "`kafka.tls.key`"),
    ("ssl.key.pem", "`kafka.tls.key`"),
    ("ssl.key.password", "`kafka.tls.key_password`"),
    (
        "ssl.keystore.location",
        "`kafka.tls.cert` and `kafka.tls.key`",
    ),
    ("ssl.keystore.password", "`kafka.tls.key_password`"),
    ("sasl.mechanism", "`kafka.sasl.mechanism`"),
    ("sasl.mechanisms", "`kafka.sasl.mechanism`"),
    ("sasl.username", "`kafka.sasl.user`"),
    ("sasl.password", "`kafka.sasl.password`"),
    ("receive.message.max.bytes", "`kafka.receive_max_bytes`"),
];

/// Libraries that librdkafka opens and runs as soon as it is told their names.
const PLUGINS: &str = "plugin.library.paths";

/// Settings that say whether a broker is who it says it is.
const CHECKED: [&str; 2] = [
    "enable.ssl.certificate.verification",
    "ssl.endpoint.identification.algorithm",
];

/// Parts of the names of secrets, and of no other setting of librdkafka (`_RK_SENSITIVE` in its
/// `rdkafka_conf.c`). By parts, so that the value of a misspelt one is not shown either.
const SECRETS: [&str; 8] = [
    "password",
    // Of Java's clients: what librdkafka does not know is no less a secret.
    "jaas",
    "keystore.key",
    "secret",
    "passphrase",
    "private.key",
    "ssl.key.pem",
    "sasl.oauthbearer.config",
];

/// Says whether an operator may set `name` to `value`. Connects nowhere and opens no file.
///
/// # Errors
///
/// Returns why not.
pub fn check_setting(name: &str, value: &str) -> Result<(), SettingError> {
    if let Some((_, keys)) = KEYED.iter().find(|(made, _)| *made == name) {
        return Err(SettingError::Keyed(keys));
    }
    if CHECKED.contains(&name) {
        return Err(SettingError::Unchecked);
    }
    if is_secret(name) {
        return Err(SettingError::Secret);
    }
    if OURS.iter().any(|(ours, _)| *ours == name) && !TUNABLE.contains(&name) {
        return Err(SettingError::Ours);
    }
    if name == PLUGINS {
        return Err(SettingError::Foreign);
    }
    let mut alone = ClientConfig::new();
    alone.set(name, value);
    match alone.create_native_config() {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientConfig(_, why, ..)) => Err(SettingError::Refused(why)),
        Err(error) => Err(SettingError::Refused(error.to_string())),
    }
}

/// Whether the value of the setting `name` is a secret, and must not be shown.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    SECRETS.iter().any(|part| name.contains(part))
}

/// What librdkafka says, with the names of its settings changed to those of the keys that an operator has
/// for them: it advises to look at `ssl.ca.location`, which nobody can set here.
pub(super) fn in_our_words(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let name = word.trim_matches(|letter: char| !letter.is_ascii_lowercase());
        let keyed = KEYED.iter().find(|(theirs, _)| *theirs == name);
        keyed.map_or_else(|| word.to_owned(), |(_, keys)| word.replace(name, keys))
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_librdkafka_advises_names_our_keys() {
        let theirs = "broker certificate could not be verified, verify that ssl.ca.location is \
                      correctly configured (sasl.mechanisms, sasl.mechanism)";
        let ours = "broker certificate could not be verified, verify that `kafka.tls.ca` is \
                    correctly configured (`kafka.sasl.mechanism`, `kafka.sasl.mechanism`)";
        assert_eq!(in_our_words(theirs), ours);
    }

    /// Each setting that librdkafka 2.12.1 itself keeps out of its logs.
    const SENSITIVE: [&str; 13] = [
        "ssl.key.location",
        "ssl.key.password",
        "ssl.key.pem",
        "ssl.ca.pem",
        "ssl.keystore.password",
        "sasl.username",
        "sasl.password",
        "sasl.oauthbearer.config",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.oauthbearer.assertion.private.key.file",
        "sasl.oauthbearer.assertion.private.key.passphrase",
        "sasl.oauthbearer.assertion.private.key.pem",
    ];

    #[test]
    fn what_java_calls_them_is_a_secret_too_and_no_library_is_loaded() {
        for name in ["sasl.jaas.config", "ssl.keystore.key", "SASL.PASSWORD"] {
            assert!(is_secret(name), "{name}");
            assert_eq!(
                check_setting(name, "x"),
                Err(SettingError::Secret),
                "{name}"
            );
        }
        assert_eq!(check_setting(PLUGINS, "/x.so"), Err(SettingError::Foreign));
    }

    #[test]
    fn no_secret_is_taken_and_none_is_shown() {
        for name in SENSITIVE {
            let why = check_setting(name, "hunter2").unwrap_err();
            let text = why.to_string();
            assert!(
                matches!(why, SettingError::Keyed(_) | SettingError::Secret),
                "{name} {text}"
            );
            assert!(!text.contains("hunter2"), "{name} {text}");
        }
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        let why = |name| check_setting(name, "x").unwrap_err().to_string();
        for (name, keys) in KEYED {
            assert!(why(name).contains(keys), "{name}");
        }
        assert!(why(CHECKED[0]).contains("`kafka.tls.ca`"));
        assert!(why("auto.offset.reset").contains("decided on twice"));
        assert!(why("sasl.oauthbearer.config").contains("`kafka.sasl`"));
    }

    #[test]
    fn what_librdkafka_does_not_take_is_told_in_its_words() {
        assert_eq!(check_setting("client.rack", "az-1"), Ok(()));
        for (name, value) in [("client.rak", "az-1"), ("fetch.wait.max.ms", "soon")] {
            let text = check_setting(name, value).unwrap_err().to_string();
            assert!(text.contains(name), "{text}");
        }
    }
}
