//! `/metrics` of the real binary: what the inputs count can be seen.

use crate::harness::{Setup, Site};

/// Complaints about one input that are kept with their detail are 100: more are counted all the
/// same.
const BAD: usize = 250;

#[test]
fn what_the_inputs_count_is_shown_every_bad_record_by_its_reason() {
    let mut site = Site::new(Setup::default());
    let configuration = std::fs::read_to_string(site.path("rhizome.yaml")).unwrap();
    // Nobody listens there: librdkafka has an error to be counted.
    let kafka = "kafka: { brokers: [\"127.0.0.1:1\"], topics: [metrics] }\n";
    site.put("rhizome.yaml", &format!("{configuration}{kafka}"));
    site.start(&[]);
    let (code, _) = site.post("/v1/events", &"{}\n".repeat(BAD), None);
    assert_eq!(code, 400);
    let (code, _) = site.post("/v1/alerts", "nonsense", None);
    assert_eq!(code, 400);
    let text = site.wait("librdkafka's error to be counted", |site| {
        let (_, text) = site.get("/metrics", None);
        text.contains("rhizome_kafka_errors_total{code=")
            .then_some(text)
    });
    for line in [
        &format!("rhizome_bad_records_total{{reason=\"unknown_format\"}} {BAD}"),
        "rhizome_bad_records_total{reason=\"no_node\"} 0",
        &format!("rhizome_collector_bad_records_total {BAD}"),
        "rhizome_kafka_bad_records_total 0",
        "rhizome_dead_letters_lost_total 0",
        "rhizome_alerts_total{outcome=\"rejected\"} 1",
        "rhizome_posts_pushed_back_total{source=\"collector\"} 0",
        "rhizome_kafka_records_total 0",
        "rhizome_kafka_lost_offsets_total 0",
        "rhizome_kafka_poisoned_offsets_total 0",
        "rhizome_kafka_partitions 0",
    ] {
        assert!(text.lines().any(|one| one == line), "{line}:\n{text}");
    }
    assert_eq!(site.terminate(), 0);
}
