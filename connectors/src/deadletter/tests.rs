//! What is counted and what is kept, on real files.

use rhizome_engine::event::Batch;
use serde_json::Value;

use super::*;
use crate::decode::DecodeOptions;

/// A decoder that has just found nothing good in `payload`.
fn failed(payload: &[u8]) -> Decoder {
    let mut decoder = Decoder::new(DecodeOptions::default());
    let mut batch = Batch::new(SourceName::Kafka, Timestamp(0));
    assert_eq!(decoder.decode(payload, &mut batch), 0);
    decoder
}

fn write(options: DeadLetterOptions, payloads: &[&[u8]]) -> Arc<DeadLetterCounts> {
    let (letters, thread) = DeadLetters::start(options).unwrap();
    for payload in payloads {
        let origin = Some(Origin {
            topic: "metrics".into(),
            partition: 2,
            offset: 17,
        });
        letters.note(
            Timestamp(0),
            SourceName::Kafka,
            origin,
            &failed(payload),
            payload,
        );
    }
    let counts = letters.counts();
    drop(letters);
    thread.join().unwrap();
    counts
}

/// The reasons that anything was counted by.
fn counted(counts: &DeadLetterCounts) -> Vec<(BadReason, u64)> {
    counts.by_reason().filter(|(_, count)| *count > 0).collect()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_letter_says_where_it_came_from_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.jsonl");
    let options = DeadLetterOptions {
        path: path.clone(),
        max_bytes: 1 << 20,
    };
    let long = "ä".repeat(MAX_PAYLOAD);
    let uneven = format!("x{long}");
    let counts = write(options, &[b"{broken", b"\xff\x00", uneven.as_bytes()]);
    let lines = lines(&path);
    assert_eq!(lines[0]["topic"], "metrics");
    assert_eq!(
        (&lines[0]["partition"], &lines[0]["offset"]),
        (&2.into(), &17.into())
    );
    assert_eq!(
        (&lines[0]["reason"], &lines[0]["payload"]),
        (&"syntax".into(), &"{broken".into())
    );
    assert_eq!(lines[1]["payload_base64"], "/wA=");
    let kept = lines[2]["payload"].as_str().unwrap().len();
    assert_eq!(
        (kept, &lines[2]["bytes"]),
        (MAX_PAYLOAD - 1, &uneven.len().into())
    );
    assert_eq!(
        counted(&counts),
        [(BadReason::NotUtf8, 1), (BadReason::Syntax, 2)]
    );
    assert_eq!(counts.lost(), 0);
}

#[test]
fn every_complaint_is_counted_and_the_first_of_an_input_are_kept() {
    let (queue, letters) = sync_channel(QUEUE);
    let dead = DeadLetters {
        queue: Some(queue),
        counts: Arc::default(),
    };
    let many = format!("{}[{{}}]", "{}\n".repeat(2 * BadRecord::MAX_KEPT));
    let decoder = failed(many.as_bytes());
    dead.note(
        Timestamp(0),
        SourceName::Collector,
        None,
        &decoder,
        many.as_bytes(),
    );
    let origin = Origin {
        topic: "metrics".into(),
        partition: 0,
        offset: 5,
    };
    dead.note_unpackable(Timestamp(0), SourceName::Kafka, origin, 40);
    let of_records = decoder.bad_total() as u64;
    assert!(of_records > 2 * BadRecord::MAX_KEPT as u64, "{of_records}");
    assert_eq!(
        counted(&dead.counts()),
        [
            (BadReason::UnknownFormat, of_records),
            (BadReason::Unpackable, 40)
        ]
    );
    assert_eq!(letters.try_iter().count(), BadRecord::MAX_KEPT + 1);
    assert_eq!(dead.counts().lost(), 0);
}

#[test]
fn the_files_never_grow_past_their_bound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.jsonl");
    let max_bytes = 2_000;
    let payloads = vec![&b"some payload or other"[..]; 100];
    write(
        DeadLetterOptions {
            path: path.clone(),
            max_bytes,
        },
        &payloads,
    );
    for file in [&path, &older(&path)] {
        assert!(std::fs::metadata(file).unwrap().len() <= max_bytes);
        assert!(!lines(file).is_empty());
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_full_disk_loses_letters_and_counts_them() {
    // Every write to it fails with "no space left on device".
    let counts = write(
        DeadLetterOptions {
            path: "/dev/full".into(),
            max_bytes: 1 << 20,
        },
        &[b"a", b"b"],
    );
    assert_eq!(counts.lost(), 2);
    assert_eq!(counted(&counts), [(BadReason::Syntax, 2)]);
}

#[test]
fn a_queue_that_is_full_is_never_waited_for() {
    let (queue, letters) = sync_channel(1);
    let dead = DeadLetters {
        queue: Some(queue),
        counts: Arc::default(),
    };
    for _ in 0..3 {
        let decoder = failed(b"{}");
        dead.note(Timestamp(0), SourceName::Collector, None, &decoder, b"{}");
    }
    assert_eq!(dead.counts().lost(), 2);
    assert_eq!(letters.try_iter().count(), 1);
}

#[test]
fn the_reasons_are_counted_each_in_its_own_place() {
    for (place, reason) in BadReason::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, place, "{reason}");
    }
}
