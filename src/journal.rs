//! The journal's file: append and sync, read back, compact. One owner at a time.
//!
//! What a record means is the engine's (`rhizome_engine::journal`); what a line looks like is
//! `format.rs`; what the disk does is `storage.rs`. `run.rs` appends what `step` put out, and
//! acts only after [`Journal::append`] has returned: then the intents are on the disk.
//!
//! ```text
//!            append, sync                     compact
//!   healthy ------------> healthy    failed ----------> healthy
//!      |                                ^     (a new file, synced whole)
//!      +--- a write or sync failed -----+
//! ```
//!
//! INVARIANT: after a failed write or sync nothing is appended to that file again. The kernel
//! forgets the pages that it could not write, so a second sync that succeeds proves nothing.
//! The way back is a whole new file with a snapshot, and the same at each start, where the
//! page cache of the run before may hold what the disk does not.

pub mod format;
#[cfg(test)]
mod memory;
pub mod storage;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;

use rhizome_engine::journal::Record;
use rhizome_engine::time::Timestamp;

use format::{Chain, Damage, EncodeError};
use storage::{Appender, Disk, LockError, Storage};

/// The journal's file in the state folder.
pub const FILE: &str = "journal.log";

/// What the journal was before its last compaction: for `why`, never for recovery.
pub const PREVIOUS_FILE: &str = "journal.previous.log";

/// A new journal until it is whole. One that is found at a start is of no account.
const NEW_FILE: &str = "journal.new";

/// Records after the snapshot at which the journal asks to be compacted.
///
/// A journal of 100,000 records loads within two seconds; half of that leaves room for the
/// records that come before a compaction gets its turn.
pub const COMPACT_RECORDS: usize = 50_000;

/// Bytes after the snapshot at which the journal asks to be compacted: about the size of
/// [`COMPACT_RECORDS`] long records.
pub const COMPACT_BYTES: usize = 64 << 20;

/// An open journal.
pub struct Journal {
    storage: Box<dyn Storage>,
    /// `None` once a write or sync failed.
    file: Option<Box<dyn Appender>>,
    failure: String,
    chain: Chain,
    records: usize,
    bytes: usize,
}

/// A journal as it was found.
pub struct Opened {
    /// It, ready to be appended to; or failed, if the disk cannot be written just now.
    pub journal: Journal,
    /// What it holds.
    pub records: Vec<Record>,
    /// Bytes of a torn record that were cut off its end; 0 if there were none.
    pub torn: usize,
}

/// Why the journal cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Somebody else has it, or the folder cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The disk cannot be read.
    #[error("the journal cannot be read")]
    Read(#[source] io::Error),
    /// The file is not what was written.
    #[error(
        "the journal is damaged: {0}. Nothing was changed and nothing will be acted on. \
         `rhizome journal verify` shows the place; put the file back from a backup, or move it \
         away to begin an empty journal, and look at what runs in the cloud first"
    )]
    Damaged(#[from] Damage),
    /// A write or sync failed now.
    #[error(
        "the journal cannot be written: make room on its disk or mend it; until then nothing is acted on"
    )]
    Write(#[source] io::Error),
    /// A write or sync failed before.
    #[error("the journal failed before and was not compacted since: {0}")]
    Failed(String),
    /// A record cannot be written down.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl Journal {
    /// Opens the journal in `folder`, or begins one, and takes the folder's lock.
    ///
    /// # Errors
    ///
    /// Returns who holds it, where it is damaged, or that it cannot be read. A disk that
    /// cannot be *written* is no error here: the journal is then failed from the beginning.
    pub fn open(folder: &Path, now: Timestamp) -> Result<Opened, JournalError> {
        Self::open_in(Box::new(Disk::lock(folder, now)?))
    }

    /// The same in any storage.
    ///
    /// # Errors
    ///
    /// As [`Journal::open`].
    pub fn open_in(storage: Box<dyn Storage>) -> Result<Opened, JournalError> {
        let mut bytes = storage
            .read(FILE)
            .map_err(JournalError::Read)?
            .unwrap_or_default();
        let contents = format::read(&bytes)?;
        bytes.truncate(contents.whole);
        if contents.unended {
            bytes.push(b'\n');
        }
        let mut chain = contents.chain;
        if bytes.is_empty() {
            let (header, first) = format::header(Chain::default());
            bytes.extend_from_slice(header.as_bytes());
            chain = first;
        }
        let mut journal = Self {
            storage,
            file: None,
            failure: String::new(),
            chain,
            records: contents.records.len(),
            bytes: bytes.len(),
        };
        // Written anew at each start: what was read may be in the page cache alone.
        match journal.replace(&bytes) {
            Ok(file) => journal.file = Some(file),
            Err(error) => journal.failure = error.to_string(),
        }
        Ok(Opened {
            journal,
            records: contents.records,
            torn: contents.torn,
        })
    }

    /// Appends the records and syncs them, in one write and one sync.
    ///
    /// # Errors
    ///
    /// Returns why they are not durable: then none of them may be acted on, and the journal
    /// is failed until it is compacted.
    pub fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        if records.is_empty() {
            return self.health();
        }
        let file = self
            .file
            .as_mut()
            .ok_or_else(|| JournalError::Failed(self.failure.clone()))?;
        let mut lines = Vec::new();
        let mut chain = self.chain;
        for record in records {
            chain = format::encode(record, chain, &mut lines)?;
        }
        if let Err(error) = write_all(file.as_mut(), &lines).and_then(|()| file.sync()) {
            self.file = None;
            self.failure = error.to_string();
            return Err(JournalError::Write(error));
        }
        self.chain = chain;
        self.records += records.len();
        self.bytes += lines.len();
        Ok(())
    }

    /// Puts a new file that begins with `snapshot` in the old one's place, and mends a
    /// failed journal by it.
    ///
    /// # Errors
    ///
    /// Returns why not. A healthy journal then stays as it was, unless it is unknown which
    /// of the two files the disk now has: then it is failed.
    pub fn compact(&mut self, snapshot: &Record) -> Result<(), JournalError> {
        let (header, first) = format::header(self.chain);
        let mut bytes = header.into_bytes();
        let chain = format::encode(snapshot, first, &mut bytes)?;
        if let Err(error) = self.storage.link(FILE, PREVIOUS_FILE) {
            tracing::warn!(%error, "the journal before this compaction could not be kept: `why` begins anew");
        }
        match self.replace(&bytes) {
            Ok(file) => {
                self.file = Some(file);
                self.failure.clear();
                self.chain = chain;
                self.records = 0;
                self.bytes = 0;
                Ok(())
            }
            Err(error) => {
                self.failure = error.to_string();
                Err(JournalError::Write(error))
            }
        }
    }

    /// Whether records can be appended.
    ///
    /// # Errors
    ///
    /// Returns why not.
    pub fn health(&self) -> Result<(), JournalError> {
        match &self.file {
            Some(_) => Ok(()),
            None => Err(JournalError::Failed(self.failure.clone())),
        }
    }

    /// Whether it has grown enough to be compacted, or has failed and needs it.
    pub fn wants_compaction(&self) -> bool {
        self.file.is_none() || self.records >= COMPACT_RECORDS || self.bytes >= COMPACT_BYTES
    }

    /// Writes a whole new file and gives it the journal's name.
    fn replace(&mut self, bytes: &[u8]) -> io::Result<Box<dyn Appender>> {
        let mut file = self.storage.create(NEW_FILE)?;
        write_all(file.as_mut(), bytes)?;
        file.sync()?;
        let renamed = self
            .storage
            .rename(NEW_FILE, FILE)
            .and_then(|()| self.storage.sync_folder());
        if renamed.is_err() {
            // Which file a crash would leave is unknown, so neither may be appended to.
            self.file = None;
        }
        renamed.map(|()| file)
    }
}

/// Writes all of `bytes`, however few the disk takes at once.
fn write_all(file: &mut dyn Appender, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// For the fuzzer: reading any bytes ends, accounts for each of them, and what was read is
/// written and read again.
pub fn fuzz_read(bytes: &[u8]) {
    let Ok(contents) = format::read(bytes) else {
        return;
    };
    assert_eq!(
        contents.whole + contents.torn,
        bytes.len(),
        "every byte is accounted for"
    );
    let (header, mut chain) = format::header(Chain::default());
    let mut again = header.into_bytes();
    for record in &contents.records {
        match format::encode(record, chain, &mut again) {
            Ok(next) => chain = next,
            Err(error) => unreachable!("a record that was read cannot be written: {error}"),
        }
    }
    let read = format::read(&again).map(|contents| contents.records.len());
    assert_eq!(read, Ok(contents.records.len()), "written and read again");
}
