//! Kafka as `rhizome doctor` looks at it: the ports, the sign-in, the topics, the group.

use std::time::Duration;

use rhizome_actions::Finding;
use rhizome_connectors::kafka::{self, ExamineError, Examined, Trouble};
use tokio::net::TcpStream;

use super::chain;
use crate::config::Loaded;
use crate::run::inputs;

/// How long a broker's port may take to open.
const CONNECT: Duration = Duration::from_secs(5);

/// How long the brokers may take for an answer. librdkafka tries again after a refusal, twice
/// within this, so that its reason has come by then.
const ANSWER: Duration = Duration::from_secs(5);

pub(super) async fn examine(loaded: &Loaded) -> Vec<Finding> {
    let Some(config) = &loaded.config.kafka else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut reached = false;
    for broker in &config.brokers {
        let port = port(broker).await;
        reached |= port.is_ok();
        found.push(match port {
            Ok(()) => Finding::ok("broker", format!("{broker} takes connections")),
            Err(why) => Finding::bad(
                "broker",
                format!("{broker}: {why}"),
                "check the address and the way to it",
            ),
        });
    }
    if !reached {
        return found;
    }
    // The run's own group, not a dry run's: its rights are those that are needed in the end.
    let options = inputs::kafka_options(config, loaded, false);
    match tokio::task::spawn_blocking(move || kafka::examine(&options, ANSWER)).await {
        Ok(Ok(examined)) => found.extend(told(examined, &config.group)),
        Ok(Err(error)) => found.push(not_asked(&error)),
        Err(panicked) => found.push(Finding::bad(
            "sign-in",
            panicked.to_string(),
            "this is a defect: report it",
        )),
    }
    found
}

/// Whether a broker's port opens.
async fn port(broker: &str) -> Result<(), String> {
    match tokio::time::timeout(CONNECT, TcpStream::connect(broker)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no connection within {} s", CONNECT.as_secs())),
    }
}

fn not_asked(error: &ExamineError) -> Finding {
    let advice = match error {
        ExamineError::Start(_) => "mend `kafka` in the configuration, or the file that it names",
        ExamineError::Refused(_) => {
            "check `kafka.tls` (the CA; whether this port speaks TLS at all) and `kafka.sasl` (mechanism, user, password)"
        }
    };
    Finding::bad("sign-in", chain(error), advice)
}

fn told(examined: Examined, group: &str) -> Vec<Finding> {
    let mut found = vec![Finding::ok("sign-in", "the brokers answer us".to_owned())];
    for (topic, state) in examined.topics {
        found.push(match state {
            Ok(partitions) => {
                Finding::ok("topic", format!("`{topic}`: {partitions} partitions"))
            }
            Err(trouble) => Finding::bad(
                "topic",
                format!("`{topic}`: {trouble}"),
                match trouble {
                    Trouble::Unknown => {
                        "create it, or mend its name in `kafka.topics`; if it is there, let our user read it"
                    }
                    Trouble::Forbidden => "let our user read it (`Read` on the topic)",
                    Trouble::Other(_) => "look at the brokers' own logs",
                },
            ),
        });
    }
    match examined.group {
        None => {}
        Some(Ok(())) => found.push(Finding::ok("group", format!("`{group}` can be looked at"))),
        // A cluster that has had no group yet makes its own topic for their offsets first.
        Some(Err(Trouble::Other(why))) => found.push(Finding::warning(
            "group",
            format!("`{group}`: {why}"),
            "ask again in a moment; if it stays, look at the brokers' own logs",
        )),
        Some(Err(trouble)) => found.push(Finding::bad(
            "group",
            format!("`{group}`: {trouble}"),
            "let our user read it (`Read` on the group)",
        )),
    }
    found
}
