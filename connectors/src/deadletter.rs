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

use crate::decode::{BadReason, BadRecord, Decoder, Scope};

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
    counts: Arc<DeadLetterCounts>,
}

/// What was bad since the start. A hold on it keeps no file open.
#[derive(Debug, Default)]
pub struct DeadLetterCounts {
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
        let counts: Arc<DeadLetterCounts> = Arc::default();
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

    /// Counts everything that was wrong with the input that `decoder` read last, and keeps what
    /// it has the detail of, if there is room. Never waits.
    pub fn note(
        &self,
        at: Timestamp,
        source: SourceName,
        origin: Option<Origin>,
        decoder: &Decoder,
        payload: &[u8],
    ) {
        for (reason, count) in decoder.bad_by_reason() {
            self.counts.add(reason, count as u64);
        }
        for bad in decoder.bad() {
            self.keep(at, source, origin.clone(), bad.clone(), payload);
        }
    }

    /// Counts `count` records from `origin` on that nobody could unpack, and keeps one letter
    /// for all of them.
    pub fn note_unpackable(&self, at: Timestamp, source: SourceName, origin: Origin, count: u64) {
        self.counts.add(BadReason::Unpackable, count);
        let bad = BadRecord {
            index: 0,
            reason: BadReason::Unpackable,
            scope: Scope::Record,
            detail: format!("a batch of {count} offsets"),
        };
        self.keep(at, source, Some(origin), bad, &[]);
    }

    /// What was counted so far, to be looked at from elsewhere.
    pub fn counts(&self) -> Arc<DeadLetterCounts> {
        Arc::clone(&self.counts)
    }

    fn keep(
        &self,
        at: Timestamp,
        source: SourceName,
        origin: Option<Origin>,
        bad: BadRecord,
        payload: &[u8],
    ) {
        let Some(queue) = &self.queue else {
            return;
        };
        let letter = Letter {
            at,
            source,
            origin,
            bad,
            payload: payload.get(..MAX_PAYLOAD).unwrap_or(payload).to_vec(),
            bytes: payload.len(),
        };
        if queue.try_send(letter).is_err() {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl DeadLetterCounts {
    /// How much was bad, by reason.
    pub fn by_reason(&self) -> impl Iterator<Item = (BadReason, u64)> + '_ {
        BadReason::ALL
            .iter()
            .zip(&self.by_reason)
            .map(|(reason, count)| (*reason, count.load(Ordering::Relaxed)))
    }

    /// Letters that were to be kept and were not: the queue was full or the disk refused.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn add(&self, reason: BadReason, count: u64) {
        if let Some(counted) = self.by_reason.get(reason as usize) {
            counted.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// The end of the queue.
struct Writer {
    options: DeadLetterOptions,
    file: Option<(File, u64)>,
    failing: bool,
    counts: Arc<DeadLetterCounts>,
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
mod tests;
