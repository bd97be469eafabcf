//! R: the batch read of the same records, serde_json into typed structs, dropped.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rhizome_connectors::kafka::{BareConsumer, KafkaOptions};
use serde::Deserialize;

/// How long one read waits for the first record, as the program's does.
const WAIT: Duration = Duration::from_millis(50);

/// The record, field by field and borrowed: the least that reading it can cost by serde_json.
#[derive(Deserialize)]
#[expect(dead_code, reason = "read and dropped: that is what R is")]
struct Typed<'a> {
    node: &'a str,
    time: i64,
    cpu: f64,
    memory: f64,
    metrics: Metrics,
    #[serde(borrow)]
    labels: Labels<'a>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "read and dropped: that is what R is")]
struct Metrics {
    load1: f64,
    #[serde(rename = "disk.used")]
    disk_used: f64,
    #[serde(rename = "net.rx")]
    net_rx: u64,
    #[serde(rename = "net.tx")]
    net_tx: u64,
    uptime: u64,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "read and dropped: that is what R is")]
struct Labels<'a> {
    zone: &'a str,
    agent: &'a str,
}

/// A thread that does nothing else.
pub(crate) struct Reference {
    records: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reference {
    /// Begins to read, each partition from its offset on.
    pub(crate) fn start(options: KafkaOptions, from: Vec<(i32, i64)>) -> Self {
        let records = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (counted, stopped) = (Arc::clone(&records), Arc::clone(&stop));
        let work = move || {
            let mut consumer = BareConsumer::start(&options, &from).expect("the consumer starts");
            while !stopped.load(Ordering::Acquire) {
                let count = consumer.read(WAIT, |payload| {
                    let typed: Result<Typed<'_>, _> = serde_json::from_slice(payload);
                    assert!(black_box(typed).is_ok(), "the records are whole");
                });
                counted.fetch_add(count, Ordering::Release);
            }
        };
        let thread = std::thread::Builder::new().name("reference".to_owned());
        let thread = thread.spawn(work).expect("a thread is to be had");
        Self {
            records,
            stop,
            thread: Some(thread),
        }
    }

    /// How many records it has read.
    pub(crate) fn records(&self) -> u64 {
        self.records.load(Ordering::Acquire)
    }

    /// Ends it.
    pub(crate) fn stop(mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it had no trouble");
        }
    }
}
