//! `rhizome run --dry-run`: everything is decided and journaled, and nothing is asked for.

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rhizome_engine::journal::Record;
use rhizome_engine::remediation::{Ending, Phase};

use crate::harness::{PATIENCE, Setup, Site, verify};

#[test]
fn a_dry_run_decides_and_journals_and_asks_for_no_change() {
    let mut site = Site::new(Setup {
        min: 2,
        ..Setup::default()
    });
    site.start(&["--dry-run"]);
    site.wait("both additions to be decided and ended dry", |site| {
        let records = site.records_in("state/dry-run");
        let decided = records
            .iter()
            .filter(|record| matches!(record, Record::Decision { .. }));
        let dry = records.iter().filter(|record| {
            matches!(record, Record::Operation { operation }
                if operation.phase == Phase::Over { ending: Ending::Dry })
        });
        (decided.count() >= 1 && dry.count() >= 1).then_some(())
    });
    let status = site.status();
    assert!(status.dry_run);
    assert!(!status.engine.decisions.is_empty());
    let said = site.order(&["status"]);
    assert!(said.contains("dry"), "{said}");

    assert_eq!(site.terminate(), 0, "SIGTERM is a clean end");
    let ledger = site.standin.ledger();
    let changes: Vec<_> = ledger
        .mutations()
        .map(|entry| format!("{} {}", entry.method, entry.path))
        .collect();
    assert!(changes.is_empty(), "{changes:?}");
    assert!(
        ledger
            .requests
            .iter()
            .any(|entry| entry.path.starts_with("/compute/")),
        "it did look"
    );
    let (code, text) = verify(&site.path("state/dry-run"));
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("whole"), "{text}");
    assert_eq!(site.records(), [], "the real run begins without its past");
}

/// What a group has committed of the one partition of `metrics`.
fn committed(brokers: &str, group: &str) -> Offset {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .create()
        .unwrap();
    let mut asked = TopicPartitionList::new();
    asked.add_partition("metrics", 0);
    let answer = consumer.committed_offsets(asked, PATIENCE).unwrap();
    answer.elements()[0].offset()
}

#[test]
fn a_dry_run_commits_nothing_for_the_real_run() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("metrics", 1, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .create()
        .unwrap();
    let record = BaseRecord::<(), str>::to("metrics").payload("{}");
    producer.send(record).unwrap();
    producer.flush(PATIENCE).unwrap();

    let mut site = Site::new(Setup::default());
    let configuration = std::fs::read_to_string(site.path("rhizome.yaml")).unwrap();
    let kafka = format!("kafka: {{ brokers: [\"{brokers}\"], topics: [metrics], group: real }}\n");
    site.put("rhizome.yaml", &format!("{configuration}{kafka}"));
    site.start(&["--dry-run"]);
    site.wait("what was read to be committed", |_| {
        let groups = ["real", "real-dry-run"].map(|group| committed(&brokers, group));
        groups.contains(&Offset::Offset(1)).then_some(())
    });
    assert_eq!(committed(&brokers, "real"), Offset::Invalid);
    assert_eq!(site.terminate(), 0);
}
