//! The windows on disk: what a restart need not read again.
//!
//! A checked file with the positions of the input that it holds. It is a help and never the
//! truth: a file that is missing, damaged or too old costs a longer refill and nothing else.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Its name in the state folder.
pub const FILE: &str = "windows.snapshot";

/// The first bytes of the file: what it is, and its version.
const MAGIC: &[u8; 8] = b"rhzwin1\n";

/// Positions by topic and partition: what is to be read next.
pub type Positions = BTreeMap<(String, i32), i64>;

/// Positions as the engine's thread keeps them.
pub type Held = BTreeMap<(Arc<str>, i32), i64>;

/// Writes the file on a thread of its own: at 100,000 nodes the hash and the sync of it take
/// longer than any decision may wait. One is written at a time and none waits.
pub struct Keeper {
    file: WindowsFile,
    queue: Option<SyncSender<(Vec<u8>, Held)>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Begins to wait for windows.
    ///
    /// # Errors
    ///
    /// Returns why the system gives no thread.
    pub fn start(file: WindowsFile) -> io::Result<Self> {
        // Without room: it takes one only when it has written the one before.
        let (queue, waiting) = sync_channel::<(Vec<u8>, Held)>(0);
        let kept = file.clone();
        let work = move || {
            while let Ok((windows, positions)) = waiting.recv() {
                if let Err(error) = kept.write(&windows, &positions) {
                    tracing::warn!(%error, "the windows could not be kept: a restart reads them again");
                }
            }
        };
        let thread = std::thread::Builder::new().name("windows".to_owned());
        Ok(Self {
            file,
            queue: Some(queue),
            thread: Some(thread.spawn(work)?),
        })
    }

    /// Hands windows over, or gives up on them if those before are still being written.
    pub fn keep(&self, windows: Vec<u8>, positions: Held) {
        let Some(queue) = &self.queue else { return };
        match queue.try_send((windows, positions)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                tracing::warn!(
                    "the windows from before are still being written: these are not kept"
                );
            }
            Err(TrySendError::Disconnected(_)) => {
                tracing::warn!("nobody writes the windows any more: a restart reads them again");
            }
        }
    }

    /// Waits for those under way, then writes the last ones.
    ///
    /// # Errors
    ///
    /// As [`WindowsFile::write`].
    pub fn last(mut self, windows: &[u8], positions: &Held) -> io::Result<()> {
        self.queue = None;
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::warn!("the thread that kept the windows had panicked");
        }
        self.file.write(windows, positions)
    }
}

/// The file.
#[derive(Debug, Clone)]
pub struct WindowsFile {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Header {
    positions: Vec<(String, i32, i64)>,
    windows: usize,
}

impl WindowsFile {
    /// The file in this folder.
    pub fn new(folder: &Path) -> Self {
        Self {
            path: folder.join(FILE),
        }
    }

    /// Writes a whole new file and puts it in the old one's place.
    ///
    /// # Errors
    ///
    /// Returns why the disk did not take it; the old file is then still there.
    pub fn write(&self, windows: &[u8], positions: &Held) -> io::Result<()> {
        let header = Header {
            positions: positions
                .iter()
                .map(|((topic, partition), next)| (topic.to_string(), *partition, *next))
                .collect(),
            windows: windows.len(),
        };
        let header = serde_json::to_vec(&header)?;
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        let length = u32::try_from(header.len()).map_err(io::Error::other)?;
        let mut digest = Sha256::new();
        for part in [&length.to_le_bytes()[..], &header, windows] {
            digest.update(part);
        }
        file.write_all(MAGIC)?;
        file.write_all(&digest.finalize())?;
        for part in [&length.to_le_bytes()[..], &header, windows] {
            file.write_all(part)?;
        }
        file.sync_data()?;
        fs::rename(&new, &self.path)
    }

    /// Reads the windows and their positions; nothing if there is no whole file.
    pub fn read(&self) -> Option<(Vec<u8>, Positions)> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, "the kept windows cannot be read: they are filled anew");
                return None;
            }
        };
        let read = unpack(&bytes);
        if read.is_none() {
            tracing::warn!("the kept windows are damaged: they are filled anew");
        }
        read
    }
}

fn unpack(bytes: &[u8]) -> Option<(Vec<u8>, Positions)> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (digest, body) = rest.split_at_checked(32)?;
    if Sha256::digest(body).as_slice() != digest {
        return None;
    }
    let (length, rest) = body.split_first_chunk::<4>()?;
    let (header, windows) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let header: Header = serde_json::from_slice(header).ok()?;
    if header.windows != windows.len() {
        return None;
    }
    let positions = header
        .positions
        .into_iter()
        .map(|(topic, partition, next)| ((topic, partition), next))
        .collect();
    Some((windows.to_vec(), positions))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_any_changed_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = WindowsFile::new(folder.path());
        assert!(file.read().is_none(), "no file yet");
        let positions = BTreeMap::from([((Arc::from("metrics"), 3), 42)]);
        file.write(b"windows", &positions).unwrap();
        let (windows, read) = file.read().unwrap();
        assert_eq!(windows, b"windows");
        assert_eq!(read, BTreeMap::from([(("metrics".to_owned(), 3), 42)]));
        let whole = fs::read(&file.path).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&file.path, &changed).unwrap();
            assert!(file.read().is_none(), "byte {at}");
        }
        for length in 0..whole.len() {
            fs::write(&file.path, &whole[..length]).unwrap();
            assert!(file.read().is_none(), "cut at {length}");
        }
    }

    #[test]
    fn a_keeper_writes_what_it_takes_and_the_last_ones_last() {
        let folder = tempfile::tempdir().unwrap();
        let file = WindowsFile::new(folder.path());
        let keeper = Keeper::start(file.clone()).unwrap();
        let positions = BTreeMap::from([((Arc::from("metrics"), 3), 42)]);
        while file.read().is_none() {
            // It may not wait yet, and then it takes none.
            keeper.keep(b"windows".to_vec(), positions.clone());
            std::thread::yield_now();
        }
        assert_eq!(file.read().unwrap().0, b"windows");
        keeper.keep(b"more".to_vec(), positions.clone());
        keeper.last(b"the last", &positions).unwrap();
        assert_eq!(file.read().unwrap().0, b"the last");
    }
}
