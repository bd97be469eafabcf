//! What could not be read, counted by reason and kept in a bounded file.
//!
//! Nothing here can hold up ingest: letters go through a bounded queue to a thread of their
//! own, and what does not fit is counted as lost. A disk that is full or gone costs letters
//! and nothing else; it is reported once when it begins and once when it ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rhizome_engine::event::SourceName;
use rhizome_engine::time::Timestamp;
use serde::Serialize;

use crate::decode::{BadReason, BadRecord};

/// Letters that may wait for the disk. More are counted as lost.
const QUEUE: usize = 1_024;

/// Bytes of a payload that are kept: enough to see what it was.
const MAX_PAYLOAD: usize = 4_096;

/// Where letters are kept, and how many bytes of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterOptions {
    /// The file; the one before it has `.1` at its end.
    pub path: PathBuf,
    /// Bytes of one file. Two are kept.
    pub max_bytes: u64,
}

/// A place in a topic, of a record that came by Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// Counts what was bad, and hands it to the file if there is one. Clones share both.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    queue: Option<SyncSender<Letter>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    by_reason: [AtomicU64; BadReason::ALL.len()],
    lost: AtomicU64,
}

/// As it goes through the queue.
#[derive(Debug)]
struct Letter {
    at: Timestamp,
    source: SourceName,
    origin: Option<Origin>,
    bad: BadRecord,
    payload: Vec<u8>,
    bytes: usize,
}

/// As it stands in the file: one JSON object a line.
#[derive(Serialize)]
struct Line<'a> {
    at: String,
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
    record: usize,
    reason: &'static str,
    detail: &'a str,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

impl DeadLetters {
    /// Counts only; nothing is kept.
    pub fn counting() -> Self {
        Self {
            queue: None,
            counts: Arc::default(),
        }
    }

    /// Counts and keeps. The thread ends, with all written, when the last clone is dropped.
    ///
    /// # Errors
    ///
    /// Returns the system's error if no thread can be had. A file that cannot be written is
    /// no error: it is tried again with each letter.
    pub fn start(options: DeadLetterOptions) -> io::Result<(Self, JoinHandle<()>)> {
        let (queue, letters) = sync_channel(QUEUE);
        let counts: Arc<Counts> = Arc::default();
        let writer = Writer {
            options,
            file: None,
            failing: false,
            counts: Arc::clone(&counts),
        };
        let thread = std::thread::Builder::new()
            .name("dead-letters".to_owned())
            .spawn(move || writer.run(&letters))?;
        let letters = Self {
            queue: Some(queue),
            counts,
        };
        Ok((letters, thread))
    }

    /// Counts one complaint about `payload`, and keeps it if there is room. Never waits.
    pub fn note(
        &self,
        at: Timestamp,
        source: SourceName,
        origin: Option<Origin>,
        bad: &BadRecord,
        payload: &[u8],
    ) {
        if let Some(count) = self.counts.by_reason.get(bad.reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let Some(queue) = &self.queue else {
            return;
        };
        let letter = Letter {
            at,
            source,
            origin,
            bad: bad.clone(),
            payload: payload.get(..MAX_PAYLOAD).unwrap_or(payload).to_vec(),
            bytes: payload.len(),
        };
        if queue.try_send(letter).is_err() {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How much was bad, by reason.
    pub fn counts(&self) -> impl Iterator<Item = (BadReason, u64)> + '_ {
        BadReason::ALL
            .iter()
            .zip(&self.counts.by_reason)
            .map(|(reason, count)| (*reason, count.load(Ordering::Relaxed)))
    }

    /// Letters that were counted but not kept: the queue was full or the disk refused.
    pub fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::Relaxed)
    }
}

/// The end of the queue.
struct Writer {
    options: DeadLetterOptions,
    file: Option<(File, u64)>,
    failing: bool,
    counts: Arc<Counts>,
}

impl Writer {
    fn run(mut self, letters: &Receiver<Letter>) {
        while let Ok(letter) = letters.recv() {
            match self.write(&letter) {
                Ok(()) if self.failing => {
                    self.failing = false;
                    tracing::info!("dead letters are kept again");
                }
                Ok(()) => {}
                Err(error) => {
                    self.file = None;
                    self.counts.lost.fetch_add(1, Ordering::Relaxed);
                    if !self.failing {
                        self.failing = true;
                        let path = self.options.path.display();
                        tracing::warn!(%error, %path, "dead letters cannot be kept");
                    }
                }
            }
        }
    }

    fn write(&mut self, letter: &Letter) -> io::Result<()> {
        let mut line = letter.line()?;
        line.push(b'\n');
        let full = |size: u64| size > 0 && size + line.len() as u64 > self.options.max_bytes;
        let (mut file, mut size) = match self.file.take() {
            Some(open) => open,
            None => open(&self.options.path)?,
        };
        if full(size) {
            drop(file);
            std::fs::rename(&self.options.path, older(&self.options.path))?;
            (file, size) = open(&self.options.path)?;
        }
        if let Err(error) = file.write_all(&line) {
            // Half a line would spoil the next one too.
            let _ = file.set_len(size);
            return Err(error);
        }
        self.file = Some((file, size + line.len() as u64));
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let size = file.seek(SeekFrom::End(0))?;
    Ok((file, size))
}

fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

impl Letter {
    fn line(&self) -> io::Result<Vec<u8>> {
        // A cut may fall into the middle of a character: what is whole before it is text.
        let text = match std::str::from_utf8(&self.payload) {
            Ok(text) => Some(text),
            Err(error) if error.error_len().is_none() && self.bytes > self.payload.len() => self
                .payload
                .get(..error.valid_up_to())
                .and_then(|whole| std::str::from_utf8(whole).ok()),
            Err(_) => None,
        };
        let origin = self.origin.as_ref();
        let line = Line {
            at: self.at.to_string(),
            source: self.source.as_str(),
            topic: origin.map(|origin| &*origin.topic),
            partition: origin.map(|origin| origin.partition),
            offset: origin.map(|origin| origin.offset),
            record: self.bad.index,
            reason: self.bad.reason.as_str(),
            detail: &self.bad.detail,
            bytes: self.bytes,
            payload: text,
            payload_base64: text.is_none().then(|| STANDARD.encode(&self.payload)),
        };
        Ok(serde_json::to_vec(&line)?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::decode::Scope;

    fn bad(reason: BadReason) -> BadRecord {
        BadRecord {
            index: 3,
            reason,
            scope: Scope::Record,
            detail: "why".to_owned(),
        }
    }

    fn write(options: DeadLetterOptions, payloads: &[&[u8]]) -> DeadLetters {
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
                &bad(BadReason::Syntax),
                payload,
            );
        }
        let counting = DeadLetters {
            queue: None,
            counts: Arc::clone(&letters.counts),
        };
        drop(letters);
        thread.join().unwrap();
        counting
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
        let letters = write(options, &[b"{broken", b"\xff\x00", uneven.as_bytes()]);
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
            letters.counts().find(|(_, count)| *count > 0),
            Some((BadReason::Syntax, 3))
        );
        assert_eq!(letters.lost(), 0);
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
        let letters = write(
            DeadLetterOptions {
                path: "/dev/full".into(),
                max_bytes: 1 << 20,
            },
            &[b"a", b"b"],
        );
        assert_eq!(letters.lost(), 2);
        assert_eq!(letters.counts().map(|(_, count)| count).sum::<u64>(), 2);
    }

    #[test]
    fn a_queue_that_is_full_is_never_waited_for() {
        let (queue, letters) = sync_channel(1);
        let dead = DeadLetters {
            queue: Some(queue),
            counts: Arc::default(),
        };
        for _ in 0..3 {
            let bad = bad(BadReason::NoNode);
            dead.note(Timestamp(0), SourceName::Collector, None, &bad, b"{}");
        }
        assert_eq!(dead.lost(), 2);
        assert_eq!(letters.try_iter().count(), 1);
    }

    #[test]
    fn the_reasons_are_counted_each_in_its_own_place() {
        for (place, reason) in BadReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place, "{reason}");
        }
    }
}
