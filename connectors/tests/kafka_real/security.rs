//! TLS, SASL and access lists: what is refused is said in words that help.

use std::time::Duration;

use rhizome_connectors::auth::SecretSource;
use rhizome_connectors::kafka::{
    KafkaOptions, KafkaSasl, KafkaTls, SaslMechanism, Trouble, examine,
};

use crate::support::servers::{Kafka, kafka};
use crate::support::{Reader, again_until, options, producer, texts, write};

fn tls(kafka: &Kafka, ca: &str, certificate: bool) -> Option<KafkaTls> {
    Some(KafkaTls {
        ca: Some(kafka.get(ca).into()),
        cert: certificate.then(|| kafka.get("cert").into()),
        key: certificate.then(|| kafka.get("key").into()),
        key_password: None,
    })
}

fn sasl(kafka: &Kafka, user: &str, password: &str) -> Option<KafkaSasl> {
    Some(KafkaSasl {
        mechanism: SaslMechanism::ScramSha512,
        user: user.to_owned(),
        password: SecretSource::File(kafka.get(password).into()),
    })
}

/// Password and TLS as they should be.
fn secure(kafka: &Kafka, topic: &str) -> KafkaOptions {
    KafkaOptions {
        tls: tls(kafka, "ca", false),
        sasl: sasl(kafka, "engine", "password_file"),
        ..options(kafka.get("sasl"), &[topic], topic)
    }
}

#[test]
fn whatever_is_wrong_with_a_connection_is_reported_and_nothing_flows() {
    let Some((kafka, _calm)) = kafka() else {
        return;
    };
    let plain = |broker: &str| options(broker, &["secure"], "secure");
    let good = secure(kafka, "secure");
    let cases = [
        (
            "wrong password",
            KafkaOptions {
                sasl: sasl(kafka, "engine", "wrong_password_file"),
                ..good.clone()
            },
            "invalid credentials",
        ),
        (
            "unknown user",
            KafkaOptions {
                sasl: sasl(kafka, "nobody", "password_file"),
                ..good.clone()
            },
            "invalid credentials",
        ),
        (
            "mechanism not enabled",
            KafkaOptions {
                sasl: sasl(kafka, "engine", "password_file").map(|sasl| KafkaSasl {
                    mechanism: SaslMechanism::ScramSha256,
                    ..sasl
                }),
                ..good.clone()
            },
            "Unsupported SASL mechanism",
        ),
        (
            "wrong CA",
            KafkaOptions {
                tls: tls(kafka, "other_ca", false),
                ..good.clone()
            },
            "not signed by an authority in",
        ),
        (
            "no CA named",
            KafkaOptions {
                tls: Some(KafkaTls::default()),
                ..good.clone()
            },
            "verify that `kafka.tls.ca` is correctly configured",
        ),
        (
            "a password where the broker asks for none",
            KafkaOptions {
                tls: tls(kafka, "ca", true),
                sasl: sasl(kafka, "engine", "password_file"),
                ..plain(kafka.get("tls"))
            },
            "not valid in current SASL state",
        ),
        (
            "client certificate missing",
            KafkaOptions {
                tls: tls(kafka, "ca", false),
                ..plain(kafka.get("tls"))
            },
            "alert",
        ),
        (
            "plaintext client on a TLS port",
            plain(kafka.get("tls")),
            "brokers are down",
        ),
        (
            "TLS client on a plaintext port",
            KafkaOptions {
                tls: tls(kafka, "ca", false),
                ..plain(kafka.plain())
            },
            "PLAINTEXT broker listener",
        ),
        ("nobody listens", plain("127.0.0.1:1"), "Connection refused"),
        (
            "unknown host",
            plain("no-such-host.invalid:9092"),
            "Failed to resolve",
        ),
    ];
    for (case, options, words) in &cases {
        again_until(&format!("{case}: {words}"), || {
            let error = examine(options, Duration::from_secs(5)).unwrap_err();
            error.to_string().contains(words)
        });
    }
    let mut readers: Vec<_> = cases
        .into_iter()
        .map(|(case, options, words)| (case, Reader::start(options), words))
        .collect();
    for (case, reader, words) in &mut readers {
        reader.until(&format!("{case}: `{words}` is reported"), |reader| {
            let reports = &reader.reports;
            reports.iter().any(|report| report.trouble.contains(*words))
        });
        assert!(
            reader.reports.iter().all(|report| !report.flowing),
            "{case}"
        );
        assert!(!reader.connector.as_ref().unwrap().ended(), "{case}: fatal");
        assert!(!reader.figures().errors.is_empty(), "{case}: not counted");
    }
}

#[test]
fn rights_that_are_missing_are_reported_and_work_once_they_are_given() {
    let Some((kafka, _calm)) = kafka() else {
        return;
    };
    let topic = "guarded";
    kafka.create(topic, 1);
    let right = |change: &str, resource: &str| {
        let arguments = [
            change,
            "--force",
            "--allow-principal",
            "User:engine",
            "--operation",
            "Read",
            resource,
            topic,
        ];
        kafka.acls(&arguments);
    };
    let producer = producer(kafka.plain(), &[]);
    // Subscribe without group Read.
    let seen = |topic, group| {
        // A broker takes a moment to know of a right.
        again_until(&format!("{topic:?} {group:?}"), || {
            let examined = examine(&secure(kafka, "guarded"), Duration::from_secs(5));
            examined.is_ok_and(|seen| (&seen.topics[0].1, &seen.group) == (&topic, &group))
        });
    };
    seen(Err(Trouble::Forbidden), None);
    right("--add", "--topic");
    seen(Ok(1), Some(Err(Trouble::Forbidden)));
    let mut reader = Reader::start(secure(kafka, topic));
    reader.until_trouble("Group authorization failed");
    right("--add", "--group");
    reader.until_flowing();
    seen(Ok(1), Some(Ok(())));
    write(&producer, topic, 0, &texts("a", 5));
    reader.until_records(5);
    // The right to read is taken away while consuming, and given back.
    right("--remove", "--topic");
    write(&producer, topic, 0, &texts("b", 5));
    reader.until_trouble("authorization failed");
    reader.until("it does not flow", |reader| {
        !reader.reports.last().unwrap().flowing
    });
    right("--add", "--topic");
    reader.until_records(10);
    reader.until_flowing();
    assert_eq!(reader.records.len(), 10, "each once");
    reader.stop().unwrap();
}

#[test]
fn a_client_certificate_opens_the_tls_listener() {
    let Some((kafka, _calm)) = kafka() else {
        return;
    };
    let topic = "certified";
    kafka.create(topic, 1);
    kafka.acls(&[
        "--add",
        "--force",
        "--allow-principal",
        "User:CN=client",
        "--operation",
        "Read",
        "--topic",
        topic,
        "--group",
        topic,
    ]);
    let mut reader = Reader::start(KafkaOptions {
        tls: tls(kafka, "ca", true),
        ..options(kafka.get("tls"), &[topic], topic)
    });
    reader.until_flowing();
    write(&producer(kafka.plain(), &[]), topic, 0, &texts("a", 5));
    reader.until_records(5);
    reader.stop().unwrap();
}
