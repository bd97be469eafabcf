//! `rhizome doctor`: what is well, what is not, and that no secret is told.

use std::process::{Command, Output};

use rdkafka::mocking::MockCluster;
use rdkafka::types::RDKafkaRespErr;
use serde_json::Value;

use crate::harness::{Setup, Site};

fn doctor(site: &Site, more: &[&str]) -> (i32, String) {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_rhizome"))
        .args(["doctor", "--config"])
        .arg(site.path("rhizome.yaml"))
        .args(more)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    for secret in [
        &site.standin.credentials().password,
        &site.standin.credentials().kubernetes_token,
    ] {
        // The stand-in's password is two letters; what would show it is `password: pw`.
        assert!(
            secret.len() < 8 || !said.contains(secret.as_str()),
            "{said}"
        );
    }
    (output.status.code().unwrap(), said)
}

/// The findings that are of no use to anybody but him who has to mend them.
fn bad(said: &str) -> Vec<(String, String)> {
    let report: Value = serde_json::from_str(said).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    findings
        .iter()
        .filter(|finding| finding["health"] == "bad")
        .map(|finding| (text(finding, "said"), text(finding, "advice")))
        .collect()
}

#[test]
fn what_is_well_and_what_is_not_is_told_with_what_to_do() {
    let site = Site::new(Setup::default());
    let (code, said) = doctor(&site, &["--output", "json"]);
    assert_eq!((code, bad(&said)), (0, Vec::new()), "{said}");
    assert!(said.contains("user `test`"), "{said}");
    let (code, table) = doctor(&site, &[]);
    assert_eq!(code, 0, "{table}");
    assert!(table.contains("all 16 that are needed"), "{table}");

    site.standin
        .world(|world| world.cluster.set_right("delete", "nodes", false));
    let (code, said) = doctor(&site, &["--output", "json"]);
    assert_eq!(code, 1, "{said}");
    let found = bad(&said);
    assert_eq!(found.len(), 1, "{said}");
    assert_eq!(found[0].0, "lacking: delete nodes");
    assert!(found[0].1.contains("deploy/rbac.yaml"), "{said}");

    std::fs::write(site.path("openstack-password"), "another").unwrap();
    let (code, table) = doctor(&site, &[]);
    assert_eq!(code, 1, "{table}");
    assert!(table.contains("check `openstack`"), "{table}");
}

#[test]
fn where_we_come_from_and_what_the_quotas_leave_is_told() {
    let site = Site::new(Setup::default());
    let (code, table) = doctor(&site, &[]);
    assert_eq!(code, 0, "{table}");
    for told in [
        "the secret from the file `openstack-password`",
        "(****)",
        "instances: 0 of 50 used, 0 of them by others; the pools may come to 4",
        "ports: ",
        "in this project we are: ",
    ] {
        assert!(table.contains(told), "{told}: {table}");
    }
    let clocks = table.lines().filter(|line| line.contains("clocks"));
    assert_eq!(clocks.count(), 2, "Nova's and the API server's: {table}");
    assert!(!table.contains("too many"), "{table}");

    let config = std::fs::read_to_string(site.path("rhizome.yaml")).unwrap();
    site.put("rhizome.yaml", &config.replace("max: 3", "max: 300"));
    let (code, table) = doctor(&site, &[]);
    assert_eq!(code, 0, "a warning is no failure: {table}");
    assert!(
        table.contains("the pools may come to 301: 251 too many"),
        "{table}"
    );
    assert!(table.contains("ask the cloud's operators"), "{table}");

    let flavor = config.replace("flavor: \"3\"", "flavor: m9");
    site.put("rhizome.yaml", &flavor);
    let (code, table) = doctor(&site, &[]);
    assert_eq!(code, 1, "{table}");
    assert!(table.contains("there is no flavor `m9`"), "{table}");
}

#[test]
fn a_topic_that_is_not_there_is_found_at_brokers_that_take_connections() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("metrics", 2, 1).unwrap();
    // The mock makes a topic as soon as it is asked for, so it is told to say no.
    let unknown = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    cluster.topic_error("metrcis", unknown).unwrap();
    let site = Site::new(Setup::default());
    let config = std::fs::read_to_string(site.path("rhizome.yaml")).unwrap();
    let brokers = cluster.bootstrap_servers();
    let reading = |topic: &str, more: &str| {
        let kafka = format!("kafka: {{ brokers: [\"{brokers}\"], topics: [{topic}]{more} }}\n");
        site.put("rhizome.yaml", &format!("{config}{kafka}"));
        // A busy machine's broker may take longer than the doctor waits.
        site.wait("a broker that answers in time", |site| {
            let (code, said) = doctor(site, &["--output", "json"]);
            let of_a_topic = |(said, _): &(String, String)| said.starts_with('`');
            let late = more.is_empty() && !bad(&said).iter().all(of_a_topic);
            (!late).then_some((code, said))
        })
    };
    let (code, said) = reading("metrics", "");
    assert_eq!((code, bad(&said)), (0, Vec::new()), "{said}");
    assert!(said.contains("`metrics`: 2 partitions"), "{said}");

    let (code, said) = reading("metrcis", "");
    assert_eq!(code, 1, "{said}");
    let found = bad(&said);
    assert_eq!(found.len(), 1, "{said}");
    assert!(found[0].0.starts_with("`metrcis`: "), "{said}");
    assert!(found[0].1.contains("`kafka.topics`"), "{said}");

    let (code, said) = reading("metrics", ", tls: {}");
    assert_eq!(code, 1, "{said}");
    let found = bad(&said);
    assert_eq!(found.len(), 1, "{said}");
    assert!(found[0].1.contains("`kafka.tls`"), "{said}");
}
