//! The section `kafka` held against what the connector and librdkafka take.

use rhizome_connectors::kafka::{check_setting, check_topic, is_secret};

use super::sections::{KafkaConfig, Mechanism};
use super::tree::{Node, Value};

/// Everything that is wrong with it, told by path and message. Connects nowhere, opens no file.
pub(super) fn check(kafka: &KafkaConfig, found: &mut impl FnMut(&[&str], String)) {
    for (key, list) in [("brokers", &kafka.brokers), ("topics", &kafka.topics)] {
        if list.is_empty() {
            found(&["kafka", key], "is empty: name at least one".to_owned());
        }
    }
    for (place, broker) in kafka.brokers.iter().enumerate() {
        if !is_host_and_port(broker) {
            let message =
                format!("`{broker}` is no broker: write it as `host:port`, as in `kafka-1:9092`");
            found(&["kafka", "brokers", &place.to_string()], message);
        }
    }
    for (place, topic) in kafka.topics.iter().enumerate() {
        if let Err(error) = check_topic(topic) {
            found(&["kafka", "topics", &place.to_string()], error.to_string());
        }
    }
    if kafka.group.is_empty() {
        found(&["kafka", "group"], "is empty: name one".to_owned());
    }
    for (name, value) in &kafka.librdkafka {
        if let Err(error) = check_setting(name, value) {
            found(&["kafka", "librdkafka", name], error.to_string());
        }
    }
    if let Some(tls) = &kafka.tls
        && tls.cert.is_some() != tls.key.is_some()
    {
        found(
            &["kafka", "tls"],
            "`cert` and `key` belong together: name both or neither".to_owned(),
        );
    }
    if let Some(tls) = &kafka.tls
        && tls.key_password.is_some()
        && tls.key.is_none()
    {
        found(
            &["kafka", "tls", "key_password"],
            "it opens `key`: name that too, or leave it out".to_owned(),
        );
    }
    if let Some(sasl) = &kafka.sasl
        && kafka.tls.is_none()
        && sasl.mechanism == Mechanism::Plain
    {
        found(
            &["kafka", "sasl", "mechanism"],
            "`PLAIN` sends the password as it is: add `kafka.tls`, or use `SCRAM-SHA-512`"
                .to_owned(),
        );
    }
}

/// The secrets that stand under `librdkafka` although they must not, so that they are not shown
/// with its lines.
pub(super) fn secrets(tree: &Node) -> Vec<String> {
    let settings = tree.get("kafka").and_then(|kafka| kafka.get("librdkafka"));
    let Some(Value::Map(settings)) = settings.map(|settings| &settings.value) else {
        return Vec::new();
    };
    let secret = settings.iter().filter(|(name, _, _)| is_secret(name));
    secret
        .flat_map(|(_, _, value)| value.texts())
        // Each line by itself: in the file those of a block are indented.
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}
